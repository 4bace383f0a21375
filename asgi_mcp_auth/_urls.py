"""URLs as identifiers: checked once, compared byte for byte, never rewritten. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import TypeGuard
from urllib.parse import quote, unquote_plus, urlsplit

from .errors import ConfigurationError, InvalidRedirectURI

WELL_KNOWN_RESOURCE = "/.well-known/oauth-protected-resource"
WELL_KNOWN_SERVER = "/.well-known/oauth-authorization-server"
WELL_KNOWN_OPENID = "/.well-known/openid-configuration"

# RFC 3986 characters, and nothing that could end a header's quoted string.
URL_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&()*+,;=%']+")
# In lower case. The second form has no host: an app's own scheme, or file://.
ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[^/?#@\s:*\[\]]+)(:\d+)?"
    r"|(?!https?:)[a-z][a-z0-9+.-]*://"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Scheme, host, port, path, and the rest. No user name; ASCII only, which lower() keeps as it is.
_RESOURCE = re.compile(
    r"([Hh][Tt][Tt][Pp][Ss]?)://([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]*))?"
    r"((?:/[^?#]*)?)((?s:.*))",
    re.ASCII,
)

MAX_REDIRECT_URI_CHARS = 2048
MAX_DESCRIPTION_CHARS = 1000  # of an error with lists in it, which may go into a URL
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")  # of any length (RFC 3986 §3.1)
_MAX_SHOWN_SCHEME_CHARS = 64
_LOOPBACK_REDIRECT = re.compile(
    r"http://(127\.0\.0\.1|\[::1\]|localhost)(?::[0-9]{1,5})?((?:[/?].*)?)"
)
# Schemes that browsers handle themselves, or that belong to the web.
_NEVER_PRIVATE = frozenset(
    (
        "http",
        "https",
        "javascript",
        "data",
        "vbscript",
        "file",
        "filesystem",
        "blob",
        "about",
        "view-source",
    )
) | frozenset(("ws", "wss", "ftp", "mailto", "tel", "sms", "intent"))


def is_loopback_host(host: str | None) -> bool:
    """Return whether ``host`` (without port or brackets) can only be this machine."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
# Networks that are missing, or treated differently, in the tables of some Python versions.
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",  # IETF protocol assignments
            "192.88.99.0/24",  # 6to4 relays
            "168.63.129.16/32",  # the host of every virtual machine of Azure
            "2001::/23",  # Teredo and other protocol assignments
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "3fff::/20",  # documentation
        ),
    )
)


def is_public_address(address: str) -> bool:
    """Return whether an IP address belongs to the public internet.

    Translated and tunnelled addresses (IPv4-mapped and -compatible, NAT64, 6to4, Teredo) do not:
    they can stand for a private one.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if (
        not parsed.is_global
        or parsed.is_multicast
        or (parsed.version == 6 and parsed not in _GLOBAL_IPV6)
    ):
        return False
    return not any(
        parsed.version == network.version and parsed in network for network in _NOT_PUBLIC
    )


def is_public_web_url(value: object) -> TypeGuard[str]:
    """Return whether ``value`` is an http(s) URL whose host is a name or a public address."""
    if type(value) is not str or not URL_CHARACTERS.fullmatch(value):
        return False
    try:
        parts = urlsplit(value)
        host = parts.hostname
        _ = parts.port  # raises for an invalid one
    except ValueError:
        return False
    if parts.scheme not in _DEFAULT_PORTS or not host or is_loopback_host(host.rstrip(".")):
        return False
    if not set("@%").isdisjoint(parts.netloc):  # browsers decode a host
        return False
    # A host that ends in a number is an address: 127.1, 0x7f000001, 2130706433 (WHATWG URL §3.5).
    last = host.rstrip(".").rpartition(".")[2]
    is_number = last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last) is not None
    return is_public_address(host) if ":" in host or is_number else True


def is_ambiguous_path(path: str, raw_path: bytes) -> bool:
    r"""Return whether two parties may read the path differently: ``//``, ``/../``, ``\``, ``;``,
    encoded slashes.

    Some parties decode twice (``%``), some parse it as a URL that ends at ``?`` or ``#``, and URL
    parsers drop line breaks.
    """
    if "//" in path or "\\" in path or ";" in path or "%" in path or "?" in path or "#" in path:
        return True
    if not path.startswith("/") or not path.isprintable():
        return True
    if "/." in path and any(segment in (".", "..") for segment in path.split("/")):
        return True
    return b"%" in raw_path and any(code in raw_path.lower() for code in (b"%2f", b"%5c", b"%25"))


def resource_url(base_url: str, mcp_path: str | None) -> str:
    """Return the resource identifier: base URL and path, unchanged (RFC 8707 §2)."""
    return base_url + (mcp_path or "")


def resource_spellings(resource: str) -> frozenset[str]:
    """Return the identifier as configured and as a WHATWG URL parser writes it, each also with the
    other ending of its path.

    The second form is what JavaScript clients send: lower-case scheme and host, no default port, a
    slash after a bare host.
    """
    parts = urlsplit(resource)
    parsed = origin_of(resource) + (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return frozenset(map(other_slash, (resource, parsed))) | {resource, parsed}


def other_slash(url: str) -> str:
    """Return ``url`` with a slash at the end, or without the one that it has. A bare host, which is
    the same with and without one, is returned unchanged.
    """
    if not url_path(url) or "?" in url:
        return url
    return url.removesuffix("/") if url.endswith("/") else f"{url}/"


def is_same_resource(one: str, other: str) -> bool:
    """Return whether two identifiers differ in nothing but the case of scheme and host, the default
    port, and one slash at the end of the path.

    Departs from RFC 8707 §2 (RFC 3986 §6.2.1), which compares characters, because people type these
    URLs and clients rewrite them. Everything else is compared exactly.
    """
    return _normalized(one) == _normalized(other)


def _normalized(resource: str) -> str:
    match = _RESOURCE.fullmatch(resource)
    if match is None:
        return resource
    scheme, host, port, path, rest = match.groups()
    scheme = scheme.lower()
    is_default = port in ("", str(_DEFAULT_PORTS[scheme]))
    authority = host.lower() if port is None or is_default else f"{host.lower()}:{port}"
    return f"{scheme}://{authority}{path.removesuffix('/')}{rest}"


def origin_of(url: str) -> str:
    """Return the web origin of ``url`` as browsers send it in ``Origin`` (RFC 6454 §6.2)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    port = "" if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def is_loopback_origin(origin: str) -> bool:
    """Return whether an ``Origin`` header names this machine, on any port."""
    # urlsplit is lenient: it drops line breaks and accepts any port.
    if not ORIGIN.fullmatch(origin):
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
    """Return the scheme and authority of ``url``, unchanged."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.split('/', 1)[0].split('?', 1)[0]}"


def well_known_path(name: str, url: str) -> str:
    """Return the path of the document ``name`` of ``url``, which goes before the path of ``url``.

    RFC 9728 §3.1; RFC 8414 §3.1.
    """
    return name + url_path(url)


def well_known_url(name: str, url: str) -> str:
    """Return the absolute form of ``well_known_path``."""
    query = urlsplit(url).query
    return host_root(url) + well_known_path(name, url) + (f"?{query}" if query else "")


def check_redirect_schemes(setting: str, value: Collection[str]) -> frozenset[str]:
    """Return the private-use schemes that redirect URIs may have.

    Raises:
        ConfigurationError: not a list of scheme names, or one that a browser handles itself.
    """
    schemes: object = value
    if not isinstance(schemes, list | tuple | set | frozenset) or not all(
        isinstance(each, str) and _SCHEME.fullmatch(each) for each in value
    ):
        raise ConfigurationError(
            f"{setting}={value!r} must be a list of lower-case schemes without ://, like ['cursor']"
        )
    if not _NEVER_PRIVATE.isdisjoint(value):
        raise ConfigurationError(
            f"{setting}={value!r} has a scheme that is no application's own: remove it"
        )
    return frozenset(value)


def check_redirect_uri(
    uri: object, private_schemes: Collection[str] = (), known: Collection[str] = ()
) -> str:
    """Return ``uri`` unchanged if a client may register it.

    It may be https, http on loopback, have an allowed private scheme, or be a known URI.

    Raises:
        InvalidRedirectURI: it is anything else; the message gives the reason.

    RFC 8252 §7; RFC 9700 §2.1; MCP 2026-07-28, Authorization.
    """
    if type(uri) is not str or not 0 < len(uri) <= MAX_REDIRECT_URI_CHARS:
        raise InvalidRedirectURI("A redirect URI must be a string of 1 to 2048 characters")
    if uri in known:
        return uri
    if not URL_CHARACTERS.fullmatch(uri):
        raise InvalidRedirectURI("A redirect URI has characters that a URI cannot have")
    if "#" in uri:
        raise InvalidRedirectURI("A redirect URI has a fragment")
    scheme, colon, rest = uri.partition(":")
    if not colon or not _SCHEME.fullmatch(scheme):
        raise InvalidRedirectURI("A redirect URI must be absolute, with its scheme in lower case")
    if scheme in private_schemes:
        if not rest.strip("/"):
            raise InvalidRedirectURI("A redirect URI has nothing after its scheme")
        return uri
    if scheme not in _DEFAULT_PORTS:
        if scheme in _NEVER_PRIVATE:
            raise InvalidRedirectURI("A redirect URI has a scheme that is never allowed")
        raise InvalidRedirectURI(
            f"The redirect URI scheme {scheme[:_MAX_SHOWN_SCHEME_CHARS]} is not allowed here; the"
            " operator can add it to allowed_redirect_schemes"
        )
    try:
        parts = urlsplit(uri)
        # Browsers decode percent signs in a host, which makes it another host.
        fine = bool(parts.hostname) and set("*@%").isdisjoint(parts.netloc) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or not rest.startswith("//"):
        raise InvalidRedirectURI(
            "A redirect URI needs a plain host: no user name, wildcard or % encoding, a valid port"
        )
    if scheme == "http" and not is_loopback_redirect(uri):
        raise InvalidRedirectURI(
            "A redirect URI must be https; http is for 127.0.0.1, [::1] and localhost only"
        )
    return uri


def is_loopback_redirect(uri: str) -> bool:
    """Return whether ``uri`` leads to a program on the user's own machine."""
    return _LOOPBACK_REDIRECT.fullmatch(uri) is not None


def redirect_uri_matches(uri: str, registered: Collection[str]) -> bool:
    """Return whether ``uri`` is exactly one of the registered ones; on loopback, with any port.

    RFC 9700 §4.1.3; RFC 8252 §7.3. Departs from RFC 8252 §8.3 because clients register
    ``localhost`` without a port.
    """
    if uri in registered:
        return True
    requested = _LOOPBACK_REDIRECT.fullmatch(uri)
    if requested is None:
        return False
    matches = (_LOOPBACK_REDIRECT.fullmatch(each) for each in registered)
    return any(match is not None and match.groups() == requested.groups() for match in matches)


def redirect_host(uri: str) -> str:
    """Return the part of a redirect URI to show to users: its host, or a private scheme."""
    parts = urlsplit(uri)
    return parts.netloc if parts.scheme in _DEFAULT_PORTS else f"{parts.scheme}:"


def with_parameters(uri: str, parameters: Mapping[str, str]) -> str:
    """Return ``uri`` with the parameters in its query, replacing those of the same names."""
    base, _, query = uri.partition("?")
    kept = [
        pair
        for pair in query.split("&")
        if pair and unquote_plus(pair.partition("=")[0]) not in parameters
    ]
    added = [f"{name}={quote(value, safe='')}" for name, value in parameters.items()]
    return f"{base}?{'&'.join((*kept, *added))}"
