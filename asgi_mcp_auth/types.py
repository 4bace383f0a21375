"""Types shared between modules: ASGI, JSON, the clock, and reasons of refusals. No behaviour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

# As Starlette has them: frameworks that call us do not accept asgiref's TypedDicts.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
# Any, to accept apps annotated with the narrower types of Litestar or asgiref.
ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

JSONObject: TypeAlias = dict[str, Any]


@runtime_checkable
class Clock(Protocol):
    """Wall clock and monotonic clock; the standard library's ``time`` module is one."""

    def time(self) -> float:
        """Return epoch seconds, as in ``exp``, ``nbf`` and ``iat``."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards, for cache lifetimes."""
        ...


InvalidTokenReason: TypeAlias = Literal[
    "malformed",
    "too_long",
    "algorithm",
    "header",
    "critical_header",
    "type",
    "unknown_key",
    "ambiguous_key",
    "signature",
    "payload",
    "missing_exp",
    "invalid_exp",
    "expired",
    "lifetime",
    "invalid_nbf",
    "not_yet_valid",
    "issued_in_future",
    "missing_iss",
    "issuer",
    "missing_aud",
    "audience",
    "subject",
    "client_id",
    "bound",
    "inactive",
    "unknown_token",
    "revoked",
    "rejected",
]
InvalidRequestReason: TypeAlias = Literal[
    "authorization_syntax", "several_authorizations", "several_token_methods"
]
Reason: TypeAlias = (
    InvalidTokenReason
    | InvalidRequestReason
    | Literal["missing_token", "insufficient_scope", "origin", "message", "unavailable"]
)

OAuthReason: TypeAlias = Literal[
    "invalid_request",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_response_type",
    "invalid_scope",
    "invalid_target",
    "access_denied",
    "login_required",
    "consent_required",
    "sign_in_failed",
    "unknown_signer",
    "sign_in_unavailable",
    "not_allowed",
    "request_object",
    "request_uri",
    "unknown_client",
    "redirect_uri",
    "client_metadata",
    "registration_token",
    "cross_site",
    "host",
    "peer",
    "csrf",
    "expired_form",
    "other_browser",
    "method",
    "body_size",
    "rate_limit",
    # of InvalidClient
    "no_credentials",
    "auth_method",
    "secret",
    "secret_expired",
    "assertion",
    "assertion_replayed",
    "client_keys",
    "document",
    "documents_off",
    # of InvalidGrant
    "unknown_code",
    "code_expired",
    "code_used",
    "code_replayed",
    "code_client",
    "code_redirect_uri",
    "code_verifier",
    "unknown_refresh_token",
    "refresh_expired",
    "refresh_replayed",
    "refresh_client",
    "grant_revoked",
    "sign_in_ended",
    "other_resource",
    "nothing_left",
]
