"""URLs as identifiers: checked once, compared byte for byte, never rewritten. Pure."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from .errors import ConfigurationError

WELL_KNOWN_RESOURCE = "/.well-known/oauth-protected-resource"
WELL_KNOWN_SERVER = "/.well-known/oauth-authorization-server"
WELL_KNOWN_OPENID = "/.well-known/openid-configuration"

# RFC 3986 characters, and nothing that could end a header's quoted string.
_URL_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&()*+,;=%']+")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[^/?#@\s:*\[\]]+)(:\d+)?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_loopback_host(host: str | None) -> bool:
    """Return whether ``host`` (no port, no brackets) can only be this machine."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_url(setting: str, value: object, *, query: bool = False) -> str:
    """Return ``value`` unchanged when it is an absolute https URL, or http on loopback.

    Args:
        setting: the name that the error message shall carry.
        value: what the user wrote.
        query: whether a query may be part of it.

    Raises:
        ConfigurationError: it is anything else.

    RFC 9728 §2 and RFC 8414 §2: https, no fragment.
    """
    if value is None:
        raise ConfigurationError(f"{setting} must be given: write it in full, like 'https://mcp.example.com'")
    if not isinstance(value, str):
        # pydantic's URL types rewrite what they hold (a slash added, a port dropped), and identifiers compare exactly.
        raise ConfigurationError(f"{setting} must be a str, not {type(value).__name__}: write the URL in plain quotes")
    parts = _split(setting, value)
    if parts.scheme == "http" and not is_loopback_host(parts.hostname):
        raise ConfigurationError(f"{setting}={value!r} is not encrypted: write https:// (http:// is for loopback only)")
    if parts.fragment or "#" in value:
        raise ConfigurationError(f"{setting}={value!r} has a fragment: remove everything from # on")
    if not query and "?" in value:
        raise ConfigurationError(f"{setting}={value!r} has a query: remove everything from ? on")
    if any(segment in (".", "..") for segment in parts.path.split("/")):
        raise ConfigurationError(
            f"{setting}={value!r} has a dot segment in its path: write the path that it stands for"
        )
    return value


def _split(setting: str, value: str) -> SplitResult:
    example = "write it in full, like 'https://mcp.example.com'"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{setting}={value!r} is not a URL ({error}): {example}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigurationError(f"{setting}={value!r} is not an absolute http(s) URL: {example}")
    if not _URL_CHARACTERS.fullmatch(value):
        raise ConfigurationError(f"{setting}={value!r} has characters that a URL cannot have: percent-encode them")
    if "@" in parts.netloc:
        raise ConfigurationError(f"{setting}={value!r} has a user name in it: remove everything before the host")
    return parts


def check_path(setting: str, value: object, *, in_url: bool = False) -> str:
    """Return ``value`` unchanged when it is a plain absolute path such as ``/mcp``.

    Args:
        setting: the name that the error message shall carry.
        value: what the user wrote.
        in_url: whether it becomes part of a URL, which cannot hold every character that a decoded path can.

    Raises:
        ConfigurationError: no leading slash, a query or fragment, an empty or dot segment, an encoded character.
    """
    if not isinstance(value, str) or not value.startswith("/"):
        raise ConfigurationError(f"{setting}={value!r} must be a path that begins with a slash, like '/mcp'")
    if is_ambiguous_path(value, b"") or re.search(r"[\s\"]", value):
        raise ConfigurationError(
            f"{setting}={value!r} must be a plain path like '/mcp': no //, no dot segments, no query, no % encoding"
        )
    if in_url and not _URL_CHARACTERS.fullmatch(value):
        raise ConfigurationError(f"{setting}={value!r} has characters that a URL cannot have: ASCII only")
    return value


def check_origin(setting: str, value: object) -> str:
    """Return ``value`` unchanged when it is a web origin as browsers send it.

    Raises:
        ConfigurationError: it has a path, a wildcard or a trailing slash, is spelled otherwise, or is no origin at all.

    RFC 6454 §6.2.
    """
    try:
        sent = origin_of(value) if isinstance(value, str) and _ORIGIN.fullmatch(value) else None
    except ValueError:  # a port or an IPv6 address that is none
        sent = None
    if sent is None:
        example = "write each one out like 'https://app.example.com', with no path and no wildcard"
        raise ConfigurationError(f"{setting} has {value!r}: {example}")
    if sent != value:
        raise ConfigurationError(f"{setting} has {value!r}, which browsers write as {sent!r}: write that")
    return sent


def is_ambiguous_path(path: str, raw_path: bytes) -> bool:
    r"""Return whether two parties may read the path differently: ``//``, ``/../``, ``\``, ``;``, encoded slashes.

    Some decode twice (``%``), some make a URL of it that ends at ``?`` or ``#``, and URL parsers drop line breaks.
    """
    if "//" in path or "\\" in path or ";" in path or "%" in path or "?" in path or "#" in path:
        return True
    if not path.startswith("/") or not path.isprintable():
        return True
    if "/." in path and any(segment in (".", "..") for segment in path.split("/")):
        return True
    return b"%" in raw_path and any(code in raw_path.lower() for code in (b"%2f", b"%5c", b"%25"))


def resource_url(base_url: str, mcp_path: str | None) -> str:
    """Return the resource identifier: base URL and path joined, otherwise as they were written (RFC 8707 §2)."""
    return base_url + (mcp_path or "")


def resource_spellings(resource: str) -> frozenset[str]:
    """Return the identifier as configured and as a WHATWG URL parser writes it.

    The second form is what JavaScript clients send: lower-case scheme and host, no default port, a slash after a bare
    host.
    """
    parts = urlsplit(resource)
    query = f"?{parts.query}" if parts.query else ""
    return frozenset((resource, f"{origin_of(resource)}{parts.path or '/'}{query}"))


def origin_of(url: str) -> str:
    """Return the web origin of ``url`` as browsers send it in ``Origin`` (RFC 6454 §6.2)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    port = "" if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def is_loopback_origin(origin: str) -> bool:
    """Return whether an ``Origin`` header names a page of this machine, on any port."""
    if not _ORIGIN.fullmatch(origin):  # urlsplit is lenient: it drops line breaks, and takes any port
        return False
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in _DEFAULT_PORTS and is_loopback_host(parts.hostname)


def url_path(url: str) -> str:
    """Return the path of an absolute URL, without the slash of a bare host."""
    path = urlsplit(url).path
    return "" if path == "/" else path


def host_root(url: str) -> str:
    """Return scheme and authority of ``url`` as they were written."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.split('/', 1)[0].split('?', 1)[0]}"


def well_known_path(name: str, url: str) -> str:
    """Return where the document ``name`` of ``url`` lies: inserted before the path (RFC 9728 §3.1, RFC 8414 §3.1)."""
    return name + url_path(url)


def well_known_url(name: str, url: str) -> str:
    """Return the absolute form of ``well_known_path``."""
    query = urlsplit(url).query
    return host_root(url) + well_known_path(name, url) + (f"?{query}" if query else "")
