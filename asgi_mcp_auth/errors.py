"""Every exception of this package, with its OAuth error code and HTTP status; and how a refusal is reported.

AuthError
├─ ConfigurationError (also a ValueError)     a setting is wrong; raised while the program starts
└─ RequestError                               .error .status; str() is what the client may see
   ├─ InvalidRequest        400 invalid_request
   ├─ MissingToken          401 (no error code)
   ├─ InvalidToken          401 invalid_token            .reason is for the log, never for the client
   ├─ InsufficientScope     403 insufficient_scope       .scopes
   ├─ ForbiddenOrigin       403 access_denied
   └─ ServerUnavailable     503 temporarily_unavailable  .retry_after_seconds
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

InvalidTokenReason: TypeAlias = Literal[
    "malformed",
    "too_long",
    "algorithm",
    "header",
    "critical_header",
    "type",
    "key_id",
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
    "invalid_iat",
    "issued_in_future",
    "missing_iss",
    "issuer",
    "missing_aud",
    "audience",
    "subject",
    "client_id",
    "jti",
    "scope",
    "bound",
    "inactive",
    "unknown_token",
    "rejected",
]
InvalidRequestReason: TypeAlias = Literal["authorization_syntax", "several_authorizations", "several_token_methods"]
Reason: TypeAlias = (
    InvalidTokenReason | InvalidRequestReason | Literal["missing_token", "insufficient_scope", "origin", "unavailable"]
)


class AuthError(Exception):
    """The root of the tree."""


class ConfigurationError(AuthError, ValueError):
    """A setting is wrong. The message names it and says what to write instead."""


class RequestError(AuthError):
    """A request was refused. ``str()`` of it is safe to send to the client."""

    error: ClassVar[str | None]
    status: ClassVar[int]
    reason: Reason


class InvalidRequest(RequestError):
    """The request carries credentials that cannot be read (RFC 6750 §3.1)."""

    error = "invalid_request"
    status = 400

    def __init__(self, reason: InvalidRequestReason) -> None:
        super().__init__("The Authorization header is malformed")
        self.reason: Reason = reason


class MissingToken(RequestError):
    """The request carries no Bearer credentials (RFC 6750 §3.1: no error code then)."""

    error = None
    status = 401

    def __init__(self) -> None:
        super().__init__("Authentication is required")
        self.reason: Reason = "missing_token"


class InvalidToken(RequestError):
    """The token is not valid here (RFC 6750 §3.1)."""

    error = "invalid_token"
    status = 401
    reason: InvalidTokenReason

    def __init__(self, reason: InvalidTokenReason) -> None:
        super().__init__("The access token is invalid or expired")
        self.reason = reason  # pyright: ignore[reportIncompatibleVariableOverride]  # narrower, assigned only here


class InsufficientScope(RequestError):
    """The token is valid but lacks scopes. Raise it in a handler to ask for more (RFC 6750 §3.1).

    Args:
        scopes: the scopes that this operation needs.
    """

    error = "insufficient_scope"
    status = 403

    def __init__(self, *scopes: str) -> None:
        super().__init__("The access token lacks a scope that this operation needs")
        self.reason: Reason = "insufficient_scope"
        self.scopes = scopes


class ForbiddenOrigin(RequestError):
    """A browser page of an origin that is not allowed sent the request."""

    error = "access_denied"
    status = 403

    def __init__(self) -> None:
        super().__init__("Requests from this origin are not allowed")
        self.reason: Reason = "origin"


class ServerUnavailable(RequestError):
    """Whether the token is valid cannot be found out now: a dependency is down.

    Args:
        retry_after_seconds: after how long a new attempt makes sense; at least 1 is sent.
    """

    error = "temporarily_unavailable"
    status = 503

    def __init__(self, retry_after_seconds: float = 1) -> None:
        super().__init__("The token cannot be checked at the moment")
        self.reason: Reason = "unavailable"
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthEvent:
    """One refusal, as ``on_event`` gets it and as the log record carries it in ``extra``.

    Attributes:
        status: the HTTP status of the answer (for a WebSocket, what it would be).
        reason: why; for operators, the client is not told.
        method: the HTTP method, or ``WEBSOCKET``.
        path: the decoded path below ``root_path``.
        client_id: the client of a token that is valid but lacks scopes.
        subject: the user of such a token.
        token_id: first 8 hex digits of the token's SHA-256.
    """

    status: int
    reason: Reason
    method: str
    path: str
    client_id: str | None = None
    subject: str | None = None
    token_id: str | None = None
