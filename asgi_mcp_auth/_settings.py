"""Checks settings: a wrong one raises a ``ConfigurationError`` that names the setting.

Three checks live with their subject instead: login steps, persons and redirect schemes.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ._urls import ORIGIN, URL_CHARACTERS, is_ambiguous_path, is_loopback_host, origin_of
from .errors import ConfigurationError
from .headers import is_scope_token


def check_kind(setting: str, value: object, kind: type) -> None:
    """Check that ``value`` is ``None`` or a ``kind``.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"{setting}={value!r} must be a {kind.__name__}")


def check_switch(setting: str, value: object) -> None:
    """Check that ``value`` is ``True`` or ``False``.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{setting}={value!r} must be True or False")


def check_hook(setting: str, value: object) -> None:
    """Check that ``value`` is ``None`` or can be called.

    Raises:
        ConfigurationError: it cannot.
    """
    if value is not None and not callable(value):
        raise ConfigurationError(f"{setting}={value!r} must be a function")


def check_list(setting: str, value: object, kind: type, example: str) -> None:
    """Check that ``value`` is a list or tuple of ``kind``. The message never repeats it.

    Raises:
        ConfigurationError: it is something else; an iterator, for example, can be read only once.
    """
    entries: Any = value
    if not isinstance(value, list | tuple) or not all(isinstance(each, kind) for each in entries):
        raise ConfigurationError(f"{setting} must be a list, like {example}")


def check_seconds(
    setting: str, value: Any, *, minimum: float = 0, maximum: float = math.inf
) -> float:
    """Return ``value`` when it is a plain number of seconds within the bounds.

    Raises:
        ConfigurationError: it has another type, is NaN or infinite, or is out of bounds.
    """
    if type(value) not in (int, float) or not minimum <= value <= min(maximum, sys.float_info.max):
        bounds = (
            f"between {minimum:g} and {maximum:g}"
            if maximum < math.inf
            else f"of at least {minimum:g}"
        )
        raise ConfigurationError(f"{setting}={value!r} must be a number of seconds {bounds}")
    return float(value)


def check_proxy(setting: str, value: object) -> None:
    """Check that ``value`` is ``None`` or the URL of an HTTP proxy. The message never repeats it,
    because it may have a password.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is None:
        return
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        is_origin = bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, is_origin = urlsplit(""), False
    if (
        not is_origin
        or parts.scheme not in ("http", "https")
        or parts._replace(scheme="", netloc="").geturl() not in ("", "/")
    ):
        raise ConfigurationError(
            f"{setting} must be the URL of an HTTP proxy: 'http://proxy.example.com:3128'"
        )


def check_count(setting: str, value: object) -> int:
    """Return ``value`` when it is a whole number, zero included.

    Raises:
        ConfigurationError: it has another type, or is negative.
    """
    if type(value) is not int or value < 0:
        raise ConfigurationError(f"{setting}={value!r} must be a whole number, 0 or more")
    return value


def check_names(setting: str, value: Any) -> tuple[str, ...]:
    """Return one string, or several, as a tuple.

    Raises:
        ConfigurationError: there is no string, a duplicate, an empty one, or one with control
            characters.
    """
    names: tuple[Any, ...] = (
        (value,) if isinstance(value, str) or not hasattr(value, "__iter__") else tuple(value)
    )
    if not all(isinstance(name, str) and name and name.isprintable() for name in names):
        raise ConfigurationError(
            f"{setting}={value!r} must be a string, or a list of strings, none of them empty"
        )
    if not names or len(set(names)) != len(names):
        raise ConfigurationError(f"{setting}={value!r} must have at least one, and no duplicates")
    return names


def check_scopes(setting: str, value: Any) -> tuple[str, ...]:
    """Return the scopes as a tuple.

    Raises:
        ConfigurationError: it is a single string, or a member is not a scope-token (RFC 6749 §3.3).
    """
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise ConfigurationError(f"{setting}={value!r} must be a list of scopes, like ['mcp:read']")
    scopes: tuple[Any, ...] = tuple(value)
    for scope in scopes:
        if not isinstance(scope, str) or not is_scope_token(scope):
            raise ConfigurationError(
                f"{setting} has {scope!r}, which is not one scope: write plain ASCII text without"
                " spaces, quotes and backslashes"
            )
    return scopes


def check_issuers(issuer: Any) -> tuple[str, ...]:
    """Return the configured issuers as a tuple.

    Raises:
        ConfigurationError: one is not a string, a duplicate, an http URL that is not loopback, or
            the URL of a metadata document.
    """
    issuers = () if issuer is None else check_names("issuer", issuer)
    for each in issuers:
        if "://" in each:
            check_url("issuer", each)
            alone, document, _ = each.partition("/.well-known/")
            if document:
                raise ConfigurationError(
                    f"issuer={each!r} is the URL of a metadata document: write the issuer that it"
                    f" names, probably {alone!r}"
                )
    return issuers


def check_url(setting: str, value: object, *, query: bool = False) -> str:
    """Return ``value`` unchanged when it is an absolute https URL, or http on loopback.

    Args:
        setting: its name, for the error message.
        value: its value.
        query: whether it may have a query.

    Raises:
        ConfigurationError: it is anything else.

    RFC 9728 §2 and RFC 8414 §2: https, no fragment.
    """
    if value is None:
        raise ConfigurationError(f"{setting} must be given: {_in_full(setting)}")
    if not isinstance(value, str):
        # pydantic's URL types change their content (a slash added, a port dropped), but identifiers
        # are compared exactly.
        raise ConfigurationError(
            f"{setting} must be a str, not {type(value).__name__}: write the URL in plain quotes"
        )
    parts = _split(setting, value)
    if parts.scheme == "http" and not is_loopback_host(parts.hostname):
        raise ConfigurationError(
            f"{setting}={value!r} is not encrypted: write https:// (http:// is for loopback only)"
        )
    if parts.fragment or "#" in value:
        raise ConfigurationError(f"{setting}={value!r} has a fragment: remove everything from # on")
    if not query and "?" in value:
        raise ConfigurationError(f"{setting}={value!r} has a query: remove everything from ? on")
    if any(segment in (".", "..") for segment in parts.path.split("/")):
        raise ConfigurationError(
            f"{setting}={value!r} has a dot segment in its path: write the resolved path"
        )
    return value


_EXAMPLES = {
    "base_url": "https://mcp.example.com",
    "resource_base_url": "https://mcp.example.com",
    "login_url": "https://app.example.com/login",
    "config_url": "https://idp.example.com/.well-known/openid-configuration",
    "jwks_uri": "https://idp.example.com/jwks.json",
    "introspection_url": "https://idp.example.com/introspect",
    "userinfo_url": "https://idp.example.com/userinfo",
    "userinfo_endpoint": "https://idp.example.com/userinfo",
    "authorization_endpoint": "https://idp.example.com/authorize",
    "token_endpoint": "https://idp.example.com/token",
    "revocation_endpoint": "https://idp.example.com/revoke",
}


def _in_full(setting: str) -> str:
    example = _EXAMPLES.get(setting.removeprefix("upstream_"), "https://idp.example.com")
    return f"write it in full, like {example!r}"


def _split(setting: str, value: str) -> SplitResult:
    example = _in_full(setting)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{setting}={value!r} is not a URL ({error}): {example}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigurationError(f"{setting}={value!r} is not an absolute http(s) URL: {example}")
    if not URL_CHARACTERS.fullmatch(parts.netloc):
        raise ConfigurationError(
            f"{setting}={value!r} has characters that a host cannot have: write an international"
            " name in ASCII, like 'xn--mnchen-3ya.example'"
        )
    if not URL_CHARACTERS.fullmatch(value):
        raise ConfigurationError(
            f"{setting}={value!r} has characters that a URL cannot have: percent-encode them"
        )
    if "@" in parts.netloc:
        raise ConfigurationError(
            f"{setting}={value!r} has a user name in it: remove everything before the host"
        )
    return parts


def check_path(setting: str, value: object, *, in_url: bool = False) -> str:
    """Return ``value`` unchanged when it is a plain absolute path such as ``/mcp``.

    Args:
        setting: its name, for the error message.
        value: its value.
        in_url: whether it becomes part of a URL, which allows fewer characters than a decoded
            path.

    Raises:
        ConfigurationError: no leading slash, a query or fragment, an empty or dot segment, an
            encoded character.
    """
    if not isinstance(value, str) or not value.startswith("/"):
        raise ConfigurationError(
            f"{setting}={value!r} must be a path that begins with a slash, like '/mcp'"
        )
    if is_ambiguous_path(value, b"") or re.search(r"[\s\"]", value):
        raise ConfigurationError(
            f"{setting}={value!r} must be a plain path like '/mcp': no //, no dot segments, no"
            " query, no % encoding"
        )
    if in_url and not URL_CHARACTERS.fullmatch(value):
        raise ConfigurationError(
            f"{setting}={value!r} has characters that a URL cannot have: ASCII only"
        )
    return value


def check_origin(setting: str, value: object) -> str:
    """Return ``value`` in lower case when it is a web origin as browsers send it.

    Safari writes the identifiers of its extensions in capitals.

    Raises:
        ConfigurationError: it has a path, a wildcard or a trailing slash, is spelled differently,
            or is not an origin.

    RFC 6454 §4 and §6.2.
    """
    lowered = value.lower() if isinstance(value, str) and value.isascii() else value
    try:
        is_origin = isinstance(lowered, str) and ORIGIN.fullmatch(lowered) is not None
        sent = origin_of(str(lowered)) if is_origin else None
    except ValueError:  # an invalid port or IPv6 address
        sent = None
    if sent is None:
        example = "write each one out like 'https://app.example.com', with no path and no wildcard"
        raise ConfigurationError(f"{setting} has {value!r}: {example}")
    if sent != lowered:
        raise ConfigurationError(
            f"{setting} has {value!r}, which browsers write as {sent!r}: write that"
        )
    return sent
