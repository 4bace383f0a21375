"""Parses Authorization and formats WWW-Authenticate. Pure: bytes and strings, no scope, no I/O.

RFC 6749 Appendix A.12; RFC 6750 §2.1 and §3; RFC 9110 §11.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .errors import InvalidRequest, MissingToken, RequestError, TokenTooLarge

MAX_TOKEN_BYTES = 64 * 1024  # as much as servers read of all headers together
MAX_BEARER_BYTES = MAX_TOKEN_BYTES + len("Bearer ")

# Of a media type in Accept, and the types that compete with HTML (RFC 9110 §12.4.2, §12.5.1).
MAX_ACCEPT_BYTES = 512  # those of browsers have less than 200
_WEIGHT = re.compile(rb"[01](?:\.[0-9]*)?|\.[0-9]+")
_API_TYPES = frozenset((b"application/json", b"text/event-stream", b"application/*", b"*/*"))

# Departs from RFC 6750 §2.1 because issuers do: their access tokens are any visible ASCII (RFC 6749
# Appendix A.12), such as the colons of Cloudflare's. The bytes to delete: any others that remain
# are invalid.
_VISIBLE = bytes(range(0x21, 0x7F))
# A quote or a comma is a mistake in the header, or a second value.
_IN_HEADER = _VISIBLE.translate(None, b"\"',")


def parse_credentials(authorization: bytes, fields: int, query_string: bytes) -> str:
    """Return the Bearer token of a request.

    Args:
        authorization: the value of the Authorization header; another scheme (Basic, Digest) counts
            as none.
        fields: the number of such headers, at least one.
        query_string: a token in it is not used, but counts as a second method.

    Raises:
        MissingToken: the header has another scheme.
        InvalidRequest: two Authorization headers or methods, or characters that no token has.
        TokenTooLarge: the token is too long.

    RFC 6750 §2 and §3.1; RFC 9110 §11.6.2.
    """
    if fields > 1:
        raise InvalidRequest("several_authorizations")
    token = parse_bearer(authorization)
    if token is None:
        raise MissingToken
    if query_string and has_query_token(query_string):
        raise InvalidRequest("several_token_methods")
    return token


def parse_bearer(value: bytes) -> str | None:
    """Return the token in an Authorization header, or ``None`` for another scheme.

    Raises:
        InvalidRequest: the scheme is Bearer, but not followed by one token.
        TokenTooLarge: the token is too long.
    """
    if value[:7].lower() != b"bearer ":
        # "Bearer" alone, or followed by anything but a space, is malformed; "BearerX" is another
        # scheme.
        if value[:6].lower() == b"bearer" and not value[6:7].isalnum():
            raise InvalidRequest("authorization_syntax")
        return None
    if len(value) > MAX_BEARER_BYTES:
        raise TokenTooLarge
    # Only the space is left when the valid bytes are deleted. This is three times faster than a
    # regular expression, and on the path of every request.
    token = value[7:].lstrip(b" ")  # 1*SP
    if not token or token.translate(None, _IN_HEADER):
        raise InvalidRequest("authorization_syntax")
    return token.decode("ascii")


def is_visible_ascii(text: str) -> bool:
    """Return whether ``text`` can be an access token (RFC 6749 Appendix A.12, without spaces)."""
    return text.isascii() and bool(text) and not text.encode("ascii").translate(None, _VISIBLE)


def is_bearer_token(text: str) -> bool:
    """Return whether ``text`` can be sent as Bearer credentials here."""
    return text.isascii() and bool(text) and not text.encode("ascii").translate(None, _IN_HEADER)


def has_query_token(query_string: bytes) -> bool:
    """Return whether the query has ``access_token``, which RFC 6750 §2 forbids beside a header."""
    return b"access_token=" in query_string and any(
        pair.startswith(b"access_token=") for pair in query_string.split(b"&")
    )


def is_scope_token(text: str) -> bool:
    """Return whether ``text`` is a ``scope-token`` (RFC 6749 §3.3), safe in a quoted string."""
    return bool(text) and all("!" <= char <= "~" and char not in '"\\' for char in text)


def prefers_page(accept: bytes) -> bool:
    """Return whether an ``Accept`` header in lower case asks for HTML rather than for anything that
    an API sends, as those of browsers do (RFC 9110 §12.5.1).
    """
    html = other = 0.0
    if len(accept) > MAX_ACCEPT_BYTES:
        return False
    for each in accept.split(b","):
        kind, *parameters = (part.strip() for part in each.split(b";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith(b"q="):
                weight = float(parameter[2:]) if _WEIGHT.fullmatch(parameter[2:]) else 0.0
        if kind == b"text/html":
            html = weight
        elif kind in _API_TYPES:
            other = max(other, weight)
    return html > other


def format_challenge(
    error: RequestError,
    *,
    scopes: Iterable[str] = (),
    resource_metadata: str | None = None,
    realm: str | None = None,
) -> bytes:
    """Return the value of ``WWW-Authenticate`` for a refusal.

    Free text comes last and has no ``=``: clients search for ``scope=`` and ``error=`` with
    unanchored expressions.

    Args:
        error: provides ``error`` and ``error_description``, both left out without an OAuth code.
        scopes: the scopes to request; left out if empty.
        resource_metadata: absolute URL of the metadata document (RFC 9728 §5.1).
        realm: for use without a metadata document, because the header needs an attribute.

    RFC 6750 §3.
    """
    scope = " ".join(scopes)
    attributes = (
        ("realm", realm),
        ("error", error.error),
        ("resource_metadata", resource_metadata),
        ("scope", scope or None),
        ("error_description", str(error) if error.error else None),
    )
    return (
        "Bearer " + ", ".join(f'{name}="{value}"' for name, value in attributes if value)
    ).encode("ascii")
