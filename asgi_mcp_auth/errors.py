"""Every exception of this package, with its OAuth error code and HTTP status.

AuthError
├─ ConfigurationError (also a ValueError)     a setting is wrong; raised while the program starts
├─ RequestError                               .error .status; str() is what the client may see
│  ├─ InvalidRequest          400 invalid_request
│  ├─ MissingToken            401 (no error code)
│  ├─ InvalidToken            401 invalid_token           .reason is for the log, never for the client
│  ├─ InsufficientScope       403 insufficient_scope      .scopes
│  ├─ ForbiddenOrigin         403 access_denied
│  └─ ServerUnavailable       503 temporarily_unavailable .retry_after_seconds
│     └─ UnreadableRecord     503 temporarily_unavailable
└─ OAuthError                                 at the authorization server's endpoints; .redirectable: may /authorize
   │                                          send it to the client's redirect URI?
   ├─ MalformedRequest        400 invalid_request
   ├─ InvalidClient           401 invalid_client          .reason is for the audit record, never for the client
   ├─ InvalidGrant            400 invalid_grant           the same
   ├─ UnauthorizedClient      400 unauthorized_client
   ├─ UnsupportedGrantType    400 unsupported_grant_type
   ├─ UnsupportedResponseType 400 unsupported_response_type
   ├─ InvalidScope            400 invalid_scope
   ├─ InvalidTarget           400 invalid_target
   ├─ AccessDenied            400 access_denied
   ├─ LoginRequired           400 login_required
   ├─ ConsentRequired         400 consent_required
   ├─ SignInFailed            502 server_error            the identity provider behind this server answers nonsense
   ├─ SignInUnavailable       503 temporarily_unavailable it does not answer, or not now
   ├─ RequestNotSupported     400 request_not_supported
   ├─ RequestURINotSupported  400 request_uri_not_supported
   ├─ InvalidRequestURI       400 invalid_request_uri
   ├─ UnknownClient           400 invalid_request         not redirectable: there is nowhere to go
   ├─ UnregisteredRedirect    400 invalid_request         the same
   ├─ InvalidRedirectURI      400 invalid_redirect_uri
   ├─ InvalidClientMetadata   400 invalid_client_metadata
   ├─ InvalidRegistration     401 invalid_token           no or a wrong token at the registration endpoint
   ├─ ForbiddenForm           403 access_denied           a page's form came from somewhere else
   ├─ ExpiredForm             400 invalid_request         a page was left open too long, or its form was sent before
   ├─ MethodNotAllowed        405 invalid_request         .allow
   ├─ BodyTooLarge            413 invalid_request
   └─ TooManyRequests         429 temporarily_unavailable .retry_after_seconds
"""

from __future__ import annotations

from typing import ClassVar

from .types import InvalidRequestReason, InvalidTokenReason, OAuthReason, Reason


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
    """Something that the answer depends on is down: an issuer, or the store.

    Args:
        retry_after_seconds: after how long a new attempt makes sense; at least 1 is sent.
    """

    error = "temporarily_unavailable"
    status = 503

    def __init__(self, retry_after_seconds: float = 1) -> None:
        super().__init__("The server cannot answer at the moment")
        self.reason: Reason = "unavailable"
        self.retry_after_seconds = retry_after_seconds


class UnreadableRecord(ServerUnavailable):
    """A record in the store cannot be decrypted. Nobody knows what it says: an outage, not an
    answer.
    """


class OAuthError(AuthError):
    """A request to an endpoint of the authorization server was refused. ``str()`` of it is safe to
    send.

    Args:
        description: for the client's developer; plain ASCII without quotes and backslashes (RFC
            6749 §5.2), and nothing of what the request said.
        reason: for the audit record.
    """

    error: ClassVar[str]
    status: ClassVar[int]
    reason: OAuthReason
    redirectable: ClassVar[bool] = False
    usual: ClassVar[tuple[str, OAuthReason]]

    def __init__(
        self, description: str | None = None, *, reason: OAuthReason | None = None
    ) -> None:
        super().__init__(description or self.usual[0])
        self.reason = reason or self.usual[1]


class MalformedRequest(OAuthError):
    """A parameter is missing, repeated or unreadable (RFC 6749 §4.1.2.1 and §5.2)."""

    error = "invalid_request"
    status = 400
    redirectable = True
    usual = ("The request is malformed", "invalid_request")


class InvalidClient(OAuthError):
    """The client could not be authenticated (RFC 6749 §5.2)."""

    error = "invalid_client"
    status = 401
    usual = ("Client authentication failed", "unknown_client")


class InvalidGrant(OAuthError):
    """The code or refresh token is not good, or not for this client (RFC 6749 §5.2)."""

    error = "invalid_grant"
    status = 400
    usual = (
        "The code or refresh token is invalid, expired, used, or was issued to another client",
        "unknown_code",
    )


class UnauthorizedClient(OAuthError):
    """The client has not registered for what it asks (RFC 7591 §2)."""

    error = "unauthorized_client"
    status = 400
    redirectable = True
    usual = ("The client is not registered for this grant type", "unauthorized_client")


class UnsupportedGrantType(OAuthError):
    """Nobody can use this grant type here (RFC 6749 §5.2)."""

    error = "unsupported_grant_type"
    status = 400
    usual = ("The grant type is not supported", "unsupported_grant_type")


class UnsupportedResponseType(OAuthError):
    """Something else than a code was asked for (RFC 6749 §4.1.2.1)."""

    error = "unsupported_response_type"
    status = 400
    redirectable = True
    usual = ("The response type must be code", "unsupported_response_type")


class InvalidScope(OAuthError):
    """A scope is unknown, malformed, or more than the client may have (RFC 6749 §4.1.2.1 and
    §5.2).
    """

    error = "invalid_scope"
    status = 400
    redirectable = True
    usual = ("A scope is unknown, or is not available to this client", "invalid_scope")


class InvalidTarget(OAuthError):
    """The resource is not protected here (RFC 8707 §2)."""

    error = "invalid_target"
    status = 400
    redirectable = True
    usual = (
        "The resource is unknown here, or is not the one that was authorized",
        "invalid_target",
    )


class AccessDenied(OAuthError):
    """The person, or the operator's policy, said no (RFC 6749 §4.1.2.1)."""

    error = "access_denied"
    status = 400
    redirectable = True
    usual = ("Access was denied", "access_denied")


class LoginRequired(OAuthError):
    """Nobody is signed in, and no page may be shown (OpenID Connect Core §3.1.2.6)."""

    error = "login_required"
    status = 400
    redirectable = True
    usual = ("Signing in is needed", "login_required")


class ConsentRequired(OAuthError):
    """Nobody has consented, and no page may be shown (OpenID Connect Core §3.1.2.6)."""

    error = "consent_required"
    status = 400
    redirectable = True
    usual = ("Consent is needed", "consent_required")


class SignInFailed(OAuthError):
    """The identity provider at which people sign in answers what nobody can use (RFC 6749
    §4.1.2.1).
    """

    error = "server_error"
    status = 502
    redirectable = True
    usual = ("Signing in at the identity provider failed", "sign_in_failed")


class SignInUnavailable(OAuthError):
    """The identity provider at which people sign in does not answer (RFC 6749 §4.1.2.1)."""

    error = "temporarily_unavailable"
    status = 503
    redirectable = True
    usual = ("The identity provider cannot be reached at the moment", "sign_in_unavailable")


class RequestNotSupported(OAuthError):
    """Request objects are not supported (RFC 9101 §10.1)."""

    error = "request_not_supported"
    status = 400
    redirectable = True
    usual = ("Request objects are not supported", "request_object")


class RequestURINotSupported(OAuthError):
    """Only request URIs that were pushed here are supported (RFC 9101 §10.1)."""

    error = "request_uri_not_supported"
    status = 400
    redirectable = True
    usual = (
        "Only request URIs from the pushed authorization request endpoint are supported",
        "request_uri",
    )


class InvalidRequestURI(OAuthError):
    """A pushed request has expired, was used, or is another client's (RFC 9126 §4)."""

    error = "invalid_request_uri"
    status = 400
    redirectable = True
    usual = ("The request URI is unknown, expired or used", "request_uri")


class UnknownClient(OAuthError):
    """The authorization request names no client, so there is nowhere to redirect to (RFC 6749
    §4.1.2.1).
    """

    error = "invalid_request"
    status = 400
    usual = ("The application is not known here", "unknown_client")


class UnregisteredRedirect(OAuthError):
    """The redirect URI is not the client's, so nobody is sent there (RFC 6749 §4.1.2.1)."""

    error = "invalid_request"
    status = 400
    usual = ("The redirect URI is not registered for this application", "redirect_uri")


class InvalidRedirectURI(OAuthError):
    """A redirect URI cannot be registered (RFC 7591 §3.2.2)."""

    error = "invalid_redirect_uri"
    status = 400
    usual = ("A redirect URI is not acceptable", "redirect_uri")


class InvalidClientMetadata(OAuthError):
    """A member of the client's metadata cannot be registered (RFC 7591 §3.2.2)."""

    error = "invalid_client_metadata"
    status = 400
    usual = ("The client metadata is not acceptable", "client_metadata")


class InvalidRegistration(OAuthError):
    """The registration endpoint was asked without the token that it wants (RFC 7591 §3, RFC 7592
    §2).
    """

    error = "invalid_token"
    status = 401
    usual = ("The registration endpoint needs a valid token", "registration_token")


class ForbiddenForm(OAuthError):
    """A page's form was sent by another site, by another browser, or without its token."""

    error = "access_denied"
    status = 403
    usual = ("This form was not sent from our own page in this browser", "csrf")


class ExpiredForm(OAuthError):
    """What a page belongs to is over: it was finished before, or nobody acted in time."""

    error = "invalid_request"
    status = 400
    usual = ("This page has expired, or was used before", "expired_form")


class MethodNotAllowed(OAuthError):
    """The endpoint knows only the methods ``allow`` (RFC 9110 §15.5.6)."""

    error = "invalid_request"
    status = 405
    usual = ("The HTTP method is not allowed here", "method")

    def __init__(self, allow: tuple[str, ...]) -> None:
        super().__init__()
        self.allow = allow


class BodyTooLarge(OAuthError):
    """The request is larger than any honest one."""

    error = "invalid_request"
    status = 413
    usual = ("The request is too large", "body_size")


class TooManyRequests(OAuthError):
    """A rate limit was reached (RFC 6585 §4); ``retry_after_seconds`` says when its window ends."""

    error = "temporarily_unavailable"
    status = 429
    usual = ("Too many requests", "rate_limit")

    def __init__(self, retry_after_seconds: float, description: str | None = None) -> None:
        super().__init__(description)
        self.retry_after_seconds = retry_after_seconds
