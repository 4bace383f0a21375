"""Reads the answers of an identity provider's token endpoint.

RFC 6749 §5.1 and §5.2, and what providers make of them.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple, TypeAlias

from .._http import FetchFailed
from .._json import is_object
from ..headers import MAX_TOKEN_BYTES
from ..types import JSONObject

# ``grant``: the code or refresh token is refused. ``sign_in``: the person has to sign in again.
# ``client``: our id or secret is wrong. ``proxy``: something else of ours. ``either``: the proxy or
# the refresh token. ``passing``: try again.
Matter: TypeAlias = Literal["grant", "sign_in", "client", "proxy", "either", "passing", "other"]

MAX_SECONDS = 10**11

# Words for a refusal, in lower case with underscores; all others are ``other``.
_MATTERS: dict[str, Matter] = {
    **dict.fromkeys(
        ("invalid_grant", "bad_verification_code", "bad_refresh_token", "invalid_refresh_token"),
        "grant",
    ),
    # OpenID Connect Core §3.1.2.6, which some answer at the token endpoint.
    **dict.fromkeys(
        (
            "account_selection_required",
            "consent_required",
            "interaction_required",
            "login_required",
            "mfa_required",
        ),
        "sign_in",
    ),
    **dict.fromkeys(
        (
            "bad_client_secret",
            "incorrect_client_credentials",
            "invalid_client",
            "invalid_client_credentials",
            "invalid_client_id",
            "invalid_client_secret",
        ),
        "client",
    ),
    **dict.fromkeys(
        (
            "application_suspended",
            "invalid_dpop_proof",
            "redirect_uri_mismatch",
            "unsupported_grant_type",
            "use_dpop_nonce",
        ),
        "proxy",
    ),
    # Of the application by RFC 6749 §5.2, but common for refresh tokens that are gone.
    **dict.fromkeys(("unauthorized_client", "unauthorized"), "either"),
    **dict.fromkeys(
        (
            "fatal_error",
            "internal_error",
            "internal_server_error",
            "over_capacity",
            "rate_limit",
            "rate_limit_exceeded",
            "rate_limited",
            "ratelimited",
            "request_timeout",
            "server_error",
            "service_unavailable",
            "slow_down",
            "temporarily_unavailable",
            "timeout",
            "too_many_requests",
        ),
        "passing",
    ),
}
# Other statuses are about the request or the URL. 200: some send errors with it.
_REFUSALS = frozenset((200, 400, 401, 403, 410, 422))
# Where an error that is an object has its word.
_MEMBERS = ("code", "error", "type", "status", "name")
# Tokens of these types cannot be used as Bearer tokens (RFC 9449, RFC 8693 §2.2.1).
_OTHER_TYPES = frozenset(("dpop", "mac", "pop", "n_a"))
_ERROR_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TOKEN = re.compile(r"[\x21-\x7e]+")


class TokenAnswer(NamedTuple):
    """A successful answer of the token endpoint.

    Attributes:
        access_token: for the provider's APIs.
        refresh_token: for the next refresh, if there is one.
        expires_in: lifetime of the access token in seconds; ``None`` if it does not expire.
        id_token: identifies the user (OpenID Connect).
    """

    access_token: str
    refresh_token: str | None = None
    expires_in: int | None = None
    id_token: str | None = None

    def __repr__(self) -> str:
        return f"TokenAnswer(expires_in={self.expires_in!r})"


class Refusal(NamedTuple):
    """What an endpoint answers instead of a success.

    Attributes:
        matter: what it is about.
        shown: the same for the log.
    """

    matter: Matter
    shown: str


def read_refusal(status: int, document: JSONObject) -> Refusal | None:
    """Return why an endpoint refuses a request, ``None`` for a success.

    The status alone does not decide: some providers send errors with a 200.
    """
    error: Any = document.get("error")
    if status == 200 and not error and document.get("ok") is not False:
        return None
    code = plain_code(error)
    shown = f"HTTP {status}, {code or 'no error code'}"
    words = [error.get(name) for name in _MEMBERS] if is_object(error) else [error]
    found: list[Matter] = [each for word in words if (each := _matter(word)) is not None]
    if found:
        return Refusal(found[0], shown)
    # Anything in ``error`` is a refusal of this very token: numbers, objects, words of their own.
    is_readable = status in _REFUSALS and bool(error)
    return Refusal("other" if is_readable else "proxy", shown)


def plain_code(error: object) -> str | None:
    """Return an error code that can be shown in the log, ``None`` for any other."""
    return error if isinstance(error, str) and _ERROR_CODE.fullmatch(error) else None


def read_answer(document: JSONObject) -> TokenAnswer:
    """Return the tokens in a successful answer.

    Optional members that cannot be used are as if left out.

    Raises:
        FetchFailed: there is no usable access token.
    """
    kind = document.get("token_type")
    if isinstance(kind, str) and kind.lower() in _OTHER_TYPES:
        raise FetchFailed("the token_type is not Bearer")
    access_token = _token(document, "access_token")
    if access_token is None:
        raise FetchFailed("the access_token is missing or not a token")
    return TokenAnswer(
        access_token,
        _token(document, "refresh_token"),
        _seconds(document.get("expires_in")),
        _token(document, "id_token"),
    )


def _matter(word: object) -> Matter | None:
    if isinstance(word, int):
        return "passing" if word == 429 or 500 <= word < 600 else None
    if not isinstance(word, str):
        return None
    return _MATTERS.get(re.sub(r"[ -]", "_", word.lower()))


def _seconds(value: Any) -> int | None:
    """Return a lifetime, ``None`` for what is none: ``-1`` and ``""`` stand for "never"."""
    if isinstance(value, bool):
        return None
    try:
        seconds = float(value)  # a string, against RFC 6749 §5.1, but common
    except (TypeError, ValueError, OverflowError):
        return None
    return int(seconds) if 0 <= seconds < MAX_SECONDS else None


def _token(document: JSONObject, name: str) -> str | None:
    value = document.get(name)
    if not isinstance(value, str) or len(value) > MAX_TOKEN_BYTES or not _TOKEN.fullmatch(value):
        return None
    return value
