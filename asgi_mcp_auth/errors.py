"""Every exception of this package, with its OAuth error code and HTTP status.

AuthError
├─ ConfigurationError (also a ValueError)  a setting is wrong; raised while the program starts
├─ ClientLeft                              a client has disconnected: there is no answer
├─ RequestError                            .error .status; str() is what the client may see
│  ├─ InvalidRequest          400 invalid_request
│  ├─ TokenTooLarge           431 invalid_request
│  ├─ MissingToken            401 (no error code)
│  ├─ InvalidToken            401 invalid_token           .reason is for the log only
│  ├─ InsufficientScope       403 insufficient_scope      .scopes
│  ├─ ForbiddenOrigin         403 access_denied
│  ├─ InvalidMessage          400 (a JSON-RPC error)      .code .id; also 405, 408, 413 and 415
│  └─ ServerUnavailable       503 temporarily_unavailable .retry_after_seconds
│     ├─ ClientUnreachable    503 temporarily_unavailable .cause .client_id .url
│     ├─ UnreadableRecord     503 temporarily_unavailable
│     ├─ Contended            503 temporarily_unavailable
│     └─ UpstreamFails        503 temporarily_unavailable
└─ OAuthError                400 by default              at the authorization server's endpoints;
   │                                                      .redirectable says whether by redirect
   ├─ MalformedRequest        400 invalid_request
   ├─ InvalidClient           401 invalid_client          .reason is for the audit record only
   ├─ InvalidGrant            400 invalid_grant           the same
   ├─ UnauthorizedClient      400 unauthorized_client
   ├─ UnsupportedGrantType    400 unsupported_grant_type
   ├─ UnsupportedResponseType 400 unsupported_response_type
   ├─ InvalidScope            400 invalid_scope
   ├─ InvalidTarget           400 invalid_target
   ├─ AccessDenied            400 access_denied
   ├─ LoginRequired           400 login_required
   ├─ ConsentRequired         400 consent_required
   ├─ SignInFailed            502 server_error            the upstream identity provider misbehaves
   ├─ SignInUnavailable       503 temporarily_unavailable it is not responding
   ├─ RequestNotSupported     400 request_not_supported
   ├─ RequestURINotSupported  400 request_uri_not_supported
   ├─ InvalidRequestURI       400 invalid_request_uri
   ├─ UnknownClient           400 invalid_request         not redirectable: no known redirect URI
   ├─ UnregisteredRedirect    400 invalid_request         the same
   ├─ InvalidRedirectURI      400 invalid_redirect_uri
   ├─ InvalidClientMetadata   400 invalid_client_metadata
   ├─ InvalidRegistration     401 invalid_token           at the registration endpoint
   ├─ ForbiddenForm           403 access_denied           a form from another site or browser
   ├─ ExpiredForm             400 invalid_request         a form sent twice or too late
   ├─ MethodNotAllowed        405 invalid_request         .allow
   ├─ BodyTooLarge            413 invalid_request
   └─ TooManyRequests         429 temporarily_unavailable .retry_after_seconds
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from ._inside import tell_request
from .types import InvalidRequestReason, InvalidTokenReason, OAuthReason, Reason


class AuthError(Exception):
    """The base class of every exception here."""


class ConfigurationError(AuthError, ValueError):
    """A setting is wrong. The message names it and says what to write instead."""


class ClientLeft(AuthError):
    """A client has disconnected before its request was complete, so nothing is answered."""


class RequestError(AuthError):
    """A request was refused. ``str()`` of it is safe to send to the client."""

    error: ClassVar[str | None]
    status: int
    reason: Reason


class InvalidRequest(RequestError):
    """The credentials of a request are malformed (RFC 6750 §3.1)."""

    error = "invalid_request"
    status = 400

    def __init__(self, reason: InvalidRequestReason) -> None:
        super().__init__("The Authorization header is malformed")
        self.reason: Reason = reason


class TokenTooLarge(RequestError):
    """The access token is larger than what is read (RFC 6585 §5). It may be a good one: a client
    that took this for an invalid token would sign in again and again.
    """

    error = "invalid_request"
    status = 431
    reason = "too_long"

    def __init__(self) -> None:
        super().__init__(
            "The access token is larger than 64 KiB. A new one will be, too: its issuer has to"
            " leave out groups, roles or other claims"
        )


class MissingToken(RequestError):
    """A request has no Bearer credentials, and so gets no error code (RFC 6750 §3.1)."""

    error = None
    status = 401
    reason = "missing_token"

    def __init__(self) -> None:
        super().__init__("Sign-in is needed: this MCP server takes OAuth access tokens")


class InvalidToken(RequestError):
    """The token is not valid for this resource (RFC 6750 §3.1)."""

    error = "invalid_token"
    status = 401
    reason: InvalidTokenReason

    def __init__(self, reason: InvalidTokenReason) -> None:
        super().__init__("The access token is invalid or expired: sign in again")
        # Narrower than in the base class, and assigned only here.
        self.reason = reason  # pyright: ignore[reportIncompatibleVariableOverride]  # see above
        tell_request(self)


class InsufficientScope(RequestError):
    """The token is valid but lacks scopes. Raise it in a handler to ask for more (RFC 6750 §3.1).

    Args:
        scopes: the scopes that this operation needs, one by one.

    Raises:
        ConfigurationError: one of them is no string, but a list for example.
    """

    error = "insufficient_scope"
    status = 403
    reason = "insufficient_scope"

    def __init__(self, *scopes: str) -> None:
        super().__init__("The access token lacks a scope that this operation needs")
        for scope in scopes:
            if not isinstance(scope, str):
                raise ConfigurationError(
                    f"InsufficientScope({scope!r}): write the scopes one by one, like"
                    " InsufficientScope('notes:read', 'notes:write')"
                )
        self.scopes = scopes
        tell_request(self)


class ForbiddenOrigin(RequestError):
    """A web page from an origin that is not allowed sent the request.

    Args:
        origin: which one, for the log.
    """

    error = "access_denied"
    status = 403
    reason = "origin"

    def __init__(self, origin: str | None = None) -> None:
        super().__init__("Requests from this origin are not allowed")
        self.origin = None if origin is None else origin[:256]


class InvalidMessage(RequestError):
    """An MCP message cannot be judged, so the app does not get it.

    Args:
        text: for the client's developer.
        status: the HTTP status.
        code: the code of the JSON-RPC error.
        id: the id of the JSON-RPC request, as far as it could be read.
    """

    error = None
    status = 400
    reason = "message"

    def __init__(
        self, text: str, *, status: int = 400, code: int = -32600, id: object = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.id = id


class ServerUnavailable(RequestError):
    """An issuer or a store that the answer depends on is down.

    Args:
        retry_after_seconds: when to try again; at least 1 is sent.
        description: for the client.
    """

    error = "temporarily_unavailable"
    status = 503
    reason = "unavailable"

    def __init__(
        self,
        retry_after_seconds: float = 1,
        description: str = "The server cannot answer at the moment",
    ) -> None:
        super().__init__(description)
        self.retry_after_seconds = retry_after_seconds


class ClientUnreachable(ServerUnavailable):
    """The host of a client's metadata document or key set is not responding. It may come back, so
    that is no reason to refuse the client.

    Args:
        cause: for the audit record.
        client_id: which client.
        url: what cannot be fetched.
    """

    _DESCRIPTIONS: ClassVar[Mapping[str, str]] = {
        "document_unreachable": (
            "The application is described in a document that this server cannot fetch"
        ),
        "client_keys_unreachable": (
            "The keys of the application are in a document that this server cannot fetch"
        ),
    }

    def __init__(
        self,
        cause: Literal["document_unreachable", "client_keys_unreachable"],
        client_id: str,
        url: str,
    ) -> None:
        super().__init__(description=self._DESCRIPTIONS[cause])
        self.cause = cause
        self.client_id = client_id
        self.url = url


class UnreadableRecord(ServerUnavailable):
    """A record in the store cannot be decrypted, so its content is unknown: an outage."""


class Contended(ServerUnavailable):
    """Other workers kept changing the same record, and a new attempt may succeed."""


class UpstreamFails(ServerUnavailable):
    """An issuer or identity provider answers, but with an error of its own, such as HTTP 500."""


class OAuthError(AuthError):
    """An endpoint of the authorization server refused a request. ``str()`` of it is safe to send.

    Subclasses set defaults for all of these.

    Args:
        description: for the client's developer; plain ASCII without quotes and backslashes (RFC
            6749 §5.2), and without any content of the request.
        reason: for the audit record.
    """

    error: ClassVar[str]
    status: ClassVar[int] = 400
    #: Whether ``/authorize`` may send it to the client's redirect URI.
    redirectable: ClassVar[bool] = False
    description: str
    default_reason: ClassVar[OAuthReason]
    reason: OAuthReason

    def __init__(
        self, description: str | None = None, *, reason: OAuthReason | None = None
    ) -> None:
        super().__init__(description or self.description)
        self.description = str(self)
        self.reason = reason or self.default_reason


class MalformedRequest(OAuthError):
    """A parameter is missing, repeated or unreadable (RFC 6749 §4.1.2.1 and §5.2)."""

    error = "invalid_request"
    redirectable = True
    description = "The request is malformed"
    default_reason = "invalid_request"


class InvalidClient(OAuthError):
    """The client could not be authenticated (RFC 6749 §5.2)."""

    error = "invalid_client"
    status = 401
    description = "Client authentication failed"
    default_reason = "unknown_client"


class InvalidGrant(OAuthError):
    """The code or refresh token is invalid, or belongs to another client (RFC 6749 §5.2)."""

    error = "invalid_grant"
    description = (
        "The code or refresh token is invalid, expired, used, or was issued to another client"
    )
    default_reason = "unknown_code"


class UnauthorizedClient(OAuthError):
    """The client is not registered for this grant type (RFC 7591 §2)."""

    error = "unauthorized_client"
    redirectable = True
    description = "The client is not registered for this grant type"
    default_reason = "unauthorized_client"


class UnsupportedGrantType(OAuthError):
    """This server does not support the grant type (RFC 6749 §5.2)."""

    error = "unsupported_grant_type"
    description = "The grant type is not supported"
    default_reason = "unsupported_grant_type"


class UnsupportedResponseType(OAuthError):
    """The response type is not ``code`` (RFC 6749 §4.1.2.1)."""

    error = "unsupported_response_type"
    redirectable = True
    description = "The response type must be code"
    default_reason = "unsupported_response_type"


class InvalidScope(OAuthError):
    """No requested scope is available to the client, or a refresh asks for more than was granted
    (RFC 6749 §4.1.2.1, §5.2).
    """

    error = "invalid_scope"
    redirectable = True
    description = "None of the requested scopes is available to this client"
    default_reason = "invalid_scope"


class InvalidTarget(OAuthError):
    """The resource is not the one that this server protects (RFC 8707 §2)."""

    error = "invalid_target"
    redirectable = True
    description = "The resource is unknown here, or is not the one that was authorized"
    default_reason = "invalid_target"


class AccessDenied(OAuthError):
    """The user or the operator's policy denied access (RFC 6749 §4.1.2.1)."""

    error = "access_denied"
    redirectable = True
    description = "Access was denied"
    default_reason = "access_denied"


class LoginRequired(OAuthError):
    """No user is signed in, and no page may be shown (OpenID Connect Core §3.1.2.6)."""

    error = "login_required"
    redirectable = True
    description = "Signing in is needed"
    default_reason = "login_required"


class ConsentRequired(OAuthError):
    """Consent is missing, and no page may be shown (OpenID Connect Core §3.1.2.6)."""

    error = "consent_required"
    redirectable = True
    description = "Consent is needed"
    default_reason = "consent_required"


class SignInFailed(OAuthError):
    """The upstream identity provider sent an unusable response (RFC 6749 §4.1.2.1).

    Args:
        description: as for every ``OAuthError``.
        reason: as for every ``OAuthError``.
        force_login: whether the next attempt in this browser has to ask the user to authenticate
            again: their session at the provider may be too old.
    """

    error = "server_error"
    status = 502
    redirectable = True
    description = "Signing in at the identity provider failed"
    default_reason = "sign_in_failed"

    def __init__(
        self,
        description: str | None = None,
        *,
        reason: OAuthReason | None = None,
        force_login: bool = False,
    ) -> None:
        super().__init__(description, reason=reason)
        self.force_login = force_login


class SignInUnavailable(OAuthError):
    """The upstream identity provider is not responding (RFC 6749 §4.1.2.1)."""

    error = "temporarily_unavailable"
    status = 503
    redirectable = True
    description = "The identity provider cannot be reached at the moment"
    default_reason = "sign_in_unavailable"


class RequestNotSupported(OAuthError):
    """Request objects are not supported (RFC 9101 §10.1)."""

    error = "request_not_supported"
    redirectable = True
    description = "Request objects are not supported"
    default_reason = "request_object"


class RequestURINotSupported(OAuthError):
    """Only request URIs from the PAR endpoint are supported (RFC 9101 §10.1)."""

    error = "request_uri_not_supported"
    redirectable = True
    description = "Only request URIs from the pushed authorization request endpoint are supported"
    default_reason = "request_uri"


class InvalidRequestURI(OAuthError):
    """A pushed request has expired, was used, or belongs to another client (RFC 9126 §4)."""

    error = "invalid_request_uri"
    redirectable = True
    description = "The request URI is unknown, expired or used"
    default_reason = "request_uri"


class UnknownClient(OAuthError):
    """An authorization request has no known client, so its redirect URI cannot be trusted (RFC
    6749 §4.1.2.1).
    """

    error = "invalid_request"
    description = "The application is not known here"
    default_reason = "unknown_client"


class UnregisteredRedirect(OAuthError):
    """The redirect URI is not one of the client's, so it is not used (RFC 6749 §4.1.2.1)."""

    error = "invalid_request"
    description = "The redirect URI is not registered for this application"
    default_reason = "redirect_uri"


class InvalidRedirectURI(OAuthError):
    """A redirect URI cannot be registered (RFC 7591 §3.2.2)."""

    error = "invalid_redirect_uri"
    description = "A redirect URI is not acceptable"
    default_reason = "redirect_uri"


class InvalidClientMetadata(OAuthError):
    """A member of the client's metadata cannot be registered (RFC 7591 §3.2.2)."""

    error = "invalid_client_metadata"
    description = "The client metadata is not acceptable"
    default_reason = "client_metadata"


class InvalidRegistration(OAuthError):
    """A request to the registration endpoint lacks a valid token (RFC 7591 §3, RFC 7592 §2)."""

    error = "invalid_token"
    status = 401
    description = "The registration endpoint needs a valid token"
    default_reason = "registration_token"


class ForbiddenForm(OAuthError):
    """A form came from another site or another browser, or without its CSRF token."""

    error = "access_denied"
    status = 403
    description = "This form was not sent from our own page in this browser"
    default_reason = "csrf"


class ExpiredForm(OAuthError):
    """A form was sent before, or after its transaction had expired."""

    error = "invalid_request"
    description = "This page has expired, or was used before"
    default_reason = "expired_form"


class MethodNotAllowed(OAuthError):
    """The endpoint supports only the methods in ``allow`` (RFC 9110 §15.5.6)."""

    error = "invalid_request"
    status = 405
    description = "The HTTP method is not allowed here"
    default_reason = "method"

    def __init__(self, allow: tuple[str, ...]) -> None:
        super().__init__()
        self.allow = allow


class BodyTooLarge(OAuthError):
    """The request body is larger than any legitimate one."""

    error = "invalid_request"
    status = 413
    description = "The request is too large"
    default_reason = "body_size"


class TooManyRequests(OAuthError):
    """A rate limit was reached (RFC 6585 §4); its window ends after ``retry_after_seconds``."""

    error = "temporarily_unavailable"
    status = 429
    description = "Too many requests"
    default_reason = "rate_limit"

    def __init__(self, retry_after_seconds: float, description: str | None = None) -> None:
        super().__init__(description)
        self.retry_after_seconds = retry_after_seconds
