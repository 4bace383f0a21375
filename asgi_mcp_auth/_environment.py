"""The variables of the environment that outbound requests heed.

httpx fails late for a wrong one, and does not name it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import ssl
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from .errors import ConfigurationError

_PROXIES = ("http", "https", "all")
_SCHEMES = ("http", "https", "socks5", "socks5h")


def check_environment() -> None:
    """Check proxies and certificate authorities.

    Raises:
        ConfigurationError: one of them cannot be used; the message names the variable, and repeats
            no password.
    """
    proxies = getproxies_environment()
    for kind in _PROXIES:
        if proxies.get(kind):
            _check_proxy(variable_name(kind), proxies[kind])
    # httpx reads the second one where there is no first one.
    if file := os.environ.get("SSL_CERT_FILE"):
        try:
            _load(file)
        except OSError as error:  # SSLError is one
            raise ConfigurationError(
                f"the environment variable SSL_CERT_FILE={file!r} cannot be used ({error}): name a"
                " PEM file of certificate authorities, or unset it"
            ) from None
        return
    folders = os.environ.get("SSL_CERT_DIR")
    if folders and not any(os.path.isdir(each) for each in folders.split(os.pathsep)):
        raise ConfigurationError(
            f"the environment variable SSL_CERT_DIR={folders!r} is not a folder: name one with"
            " certificate authorities, or unset it"
        )


@functools.cache
def _load(file: str) -> None:
    ssl.create_default_context(cafile=file)


def variable_name(kind: str) -> str:
    """Return the spelling of ``http_proxy``, ``no_proxy`` and so on that is in use."""
    name = f"{kind}_proxy"
    return name if name in os.environ else name.upper()


def _check_proxy(name: str, value: str) -> None:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        scheme = parts.scheme if parts.hostname and parts.port != 0 else ""
    except ValueError:
        scheme = ""
    if scheme not in _SCHEMES:
        raise ConfigurationError(
            f"the environment variable {name} is no URL of a proxy: write http://host:port, or"
            " https, socks5 or socks5h in place of http; or unset it"
        )
    if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ConfigurationError(
            f"the environment variable {name} names a SOCKS proxy, which needs a package that is"
            " not installed: pip install 'httpx[socks]', or unset it"
        )
