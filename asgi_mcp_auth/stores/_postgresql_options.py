"""Options of libpq in PostgreSQLStore's URL that its driver does not know, or knows otherwise."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ..errors import ConfigurationError

# Left out. They tune what has a bound of its own here, or what the driver does not do anyway.
_NEEDLESS = frozenset(
    (
        "connect_timeout",
        "fallback_application_name",
        "gssdelegation",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    )
)
# Left out where the value asks for nothing.
_HARMLESS = {
    "channel_binding": ("disable", "prefer"),
    "client_encoding": ("auto", "utf8", "UTF8", "utf-8", "UTF-8"),
    "gssencmode": ("disable", "prefer"),
    "sslcertmode": ("allow",),
}
# Options that other clients have, and options of libpq that promise something.
_REMEDIES = {
    "channel_binding": "its driver has none. Remove it, and write sslmode=verify-full",
    "client_encoding": "it is always UTF-8: remove it",
    "connection_limit": "write pool_size instead",
    "gssencmode": "its driver does not encrypt by GSSAPI. Write sslmode=verify-full instead",
    "hostaddr": "write the address in place of the host",
    "pgbouncer": "write statement_cache_size=0 instead",
    "pool_timeout": "remove it: without a free connection in five seconds there is a 503",
    "prepared_statement_cache_size": "write statement_cache_size instead",
    "require_auth": "its driver cannot insist on it: remove it",
    "requirepeer": "its driver cannot check it: remove it",
    "requiressl": "write sslmode=require instead",
    "ssl": "write sslmode instead: require, verify-ca or verify-full",
    "sslaccept": "write sslmode instead: require, verify-ca or verify-full",
    "sslcertmode": "its driver cannot insist on it: remove it",
}
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TARGETS = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")


def _load_authorities(path: str) -> None:
    ssl.create_default_context(cafile=path)


def _open(path: str) -> None:
    with open(path, "rb"):
        pass


_FILES: dict[str, Callable[[str], None]] = {
    "sslrootcert": _load_authorities,
    "sslcert": _open,
    "sslkey": _open,
    "sslcrl": _open,
}


def driver_url(url: str) -> str:
    """Return a URL of libpq as the driver takes it.

    Raises:
        ConfigurationError: an option is unknown to the driver, or has a value that cannot be right.
            The message never repeats a password.
    """
    parts = urlsplit(url)
    kept: list[tuple[str, str]] = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _NEEDLESS or value in _HARMLESS.get(name, ()):
            continue
        if name in _REMEDIES:
            raise _wrong(name, f"cannot be used: {_REMEDIES[name]}")
        if not value:
            raise _wrong(name, "has no value: remove it, or write one")
        _check_choice(name, value)
        if name in _FILES:
            _check_file(name, value)
        if name == "port" and not all(each.isdigit() for each in value.split(",")):
            raise _wrong(name, "is no number: write port=5432")
        kept.append((name, value))
    return urlunsplit(parts._replace(query=urlencode(kept)))


def _check_choice(name: str, value: str) -> None:
    choices = {"sslmode": _MODES, "target_session_attrs": _TARGETS}.get(name)
    if choices is not None and value not in choices:
        raise _wrong(name, f"must be one of {', '.join(choices)}")


def _check_file(name: str, path: str) -> None:
    try:
        _FILES[name](path)
    except OSError as error:  # SSLError is one
        hint = "; write the path of a file in place of 'system'" if path == "system" else ""
        raise _wrong(name, f"names a file that cannot be read ({error}){hint}") from None


def _wrong(name: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"store: the option {name} of the URL {problem}")
