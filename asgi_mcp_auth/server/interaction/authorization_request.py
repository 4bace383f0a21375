"""Parses and validates authorization requests, and decides where their responses may be sent.

RFC 6749 §4.1, OAuth 2.1 §4.1, RFC 7636, RFC 8707, RFC 9207.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..._urls import (
    check_redirect_uri,
    is_loopback_redirect,
    redirect_host,
    redirect_uri_matches,
    with_parameters,
)
from ...errors import (
    ExpiredForm,
    InvalidClient,
    InvalidRedirectURI,
    MalformedRequest,
    OAuthError,
    RequestNotSupported,
    RequestURINotSupported,
    UnauthorizedClient,
    UnknownClient,
    UnregisteredRedirect,
    UnsupportedResponseType,
)
from ..grants import authorization_code
from ..grants.records import AuthorizationRequest
from ..parties import Client
from ..parts import Server
from ..web import EndpointRequest, Parameters, Response, redirect

MAX_AGE_DIGITS = 9
MAX_STATE_BYTES = 4096
"""Of ``state`` in UTF-8. It is kept while the user signs in; real clients send less than 1 KiB."""

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the response to an authorization request goes: a redirect URI that has been checked.

    Only ``resolve_destination`` and ``restore_destination`` make one.

    Attributes:
        client: the client that asks.
        redirect_uri: one of its own.
        state: to return with the response.
        issuer: this server.
    """

    client: Client
    redirect_uri: str
    state: str | None = field(repr=False)
    issuer: str

    @property
    def is_trusted(self) -> bool:
        """Whether users may be sent there without having had a say: the client is the operator's
        own, or a program on the user's machine.
        """
        return self.client.origin == "configured" or is_loopback_redirect(self.redirect_uri)

    def deliver(self, code: str) -> Response:
        """Return the response that brings the client an authorization code (RFC 6749 §4.1.2)."""
        return redirect(self._url(code=code))

    def refuse(self, error: OAuthError) -> Response:
        """Return the response that tells the client of an error (RFC 6749 §4.1.2.1)."""
        return redirect(self._error_url(error))

    def link(self, error: OAuthError) -> tuple[str, str]:
        """Return a link, with its label, that takes the user back and tells the client of an
        error.
        """
        return self._error_url(error), f"Go back to {redirect_host(self.redirect_uri)}"

    def _error_url(self, error: OAuthError) -> str:
        return self._url(error=error.error, error_description=str(error))

    def _url(self, **parameters: str) -> str:
        state = {} if self.state is None else {"state": self.state}
        # RFC 9207 §2
        return with_parameters(self.redirect_uri, {**parameters, **state, "iss": self.issuer})


async def resolve_destination(
    server: Server, request: EndpointRequest, client: Client | None = None
) -> Destination:
    """Return the destination that a new authorization request names.

    Args:
        server: the authorization server.
        request: the authorization request.
        client: its client, if it has authenticated.

    Raises:
        UnknownClient: it names no client, or more than one.
        UnregisteredRedirect: its redirect URI is not registered, or missing although the client has
            several.
    """
    parameters = request.parameters
    try:
        client = client or await find_client(server, parameters.get("client_id"), request.source)
        uri = parameters.get("redirect_uri")
        state = parameters.get("state")
    except MalformedRequest as error:
        if (
            len(parameters.all("client_id")) != 1
            or len(parameters.all("redirect_uri")) > 1
            or client is None
        ):
            raise UnknownClient(str(error)) from None
        # The state is repeated: an error that can be sent to the client.
        uri = parameters.get("redirect_uri")
        state = None
    if uri is None and len(client.redirect_uris) == 1:
        uri = client.redirect_uris[0]
    if uri is None or not redirect_uri_matches(uri, client.redirect_uris):
        raise UnregisteredRedirect(_why_unregistered(server, uri))
    return Destination(client, uri, state, server.issuer)


def _why_unregistered(server: Server, uri: str | None) -> str | None:
    """Return why a redirect URI cannot have been registered, ``None`` if it could have been.

    A registration takes the URIs that it can, so this is the first time that anyone sees it.
    """
    policy = server.clients.policy
    try:
        if uri is not None:
            check_redirect_uri(uri, policy.redirect_schemes, policy.redirect_uris)
    except InvalidRedirectURI as error:
        return str(error)
    return None


async def restore_destination(
    server: Server, request: EndpointRequest, authorization: AuthorizationRequest
) -> Destination:
    """Return the destination of an earlier authorization request.

    Args:
        server: the authorization server.
        request: the current request of the user; looking up the client may be counted for it.
        authorization: the earlier request.

    Raises:
        ExpiredForm: the request is about another resource, or an earlier build accepted it.
        UnknownClient: the client no longer exists.
        UnregisteredRedirect: the redirect URI is no longer registered.
    """
    if authorization.resource != server.resource.identifier:
        raise ExpiredForm
    client = await find_client(server, authorization.client_id, request.source)
    if not redirect_uri_matches(authorization.redirect_uri, client.redirect_uris):
        raise UnregisteredRedirect
    return Destination(client, authorization.redirect_uri, authorization.state, server.issuer)


async def find_client(server: Server, client_id: str | None, address: str | None = None) -> Client:
    """Return the client of an authorization request.

    Raises:
        UnknownClient: there is none with this id.
    """
    if client_id is None:
        raise UnknownClient
    try:
        client = await server.clients.find(client_id, address=address)
    except InvalidClient as error:
        raise UnknownClient(str(error), reason=error.reason) from None
    if client is None:
        raise UnknownClient
    return client


def parse_authorization_request(
    server: Server, destination: Destination, parameters: Parameters, *, is_pushed: bool = False
) -> AuthorizationRequest:
    """Return the authorization request in the parameters.

    Raises:
        OAuthError: it is invalid; the client may be told at its redirect URI.
    """
    client = destination.client
    parameters.check_single()
    if parameters.get("request") is not None:
        raise RequestNotSupported
    if parameters.get("request_uri") is not None:
        raise RequestURINotSupported
    if not is_pushed and (
        server.settings.options.require_pushed_requests
        or client.metadata.get("require_pushed_authorization_requests")
    ):
        raise MalformedRequest("This client must use pushed authorization requests (RFC 9126)")
    if parameters.get("response_mode") not in (None, "query"):
        raise MalformedRequest("The response_mode must be query")
    response_type = parameters.get("response_type")
    if response_type is None:
        raise MalformedRequest("The response_type is missing")
    if response_type != "code":
        raise UnsupportedResponseType
    if authorization_code.GRANT.name not in client.grant_types:
        raise UnauthorizedClient
    challenge = _parse_challenge(parameters)
    if len((destination.state or "").encode()) > MAX_STATE_BYTES:
        raise MalformedRequest(f"The state is longer than {MAX_STATE_BYTES} bytes")
    resource = server.check_resources(parameters)
    return AuthorizationRequest(
        client_id=client.client_id,
        redirect_uri=destination.redirect_uri,
        resource=resource.identifier,
        scopes=server.scopes.parse_requested(parameters.get("scope"), client),
        code_challenge=challenge,
        state=destination.state,
        prompt=_parse_prompt(parameters.get("prompt")),
        max_age=_parse_max_age(parameters.get("max_age")),
        login_hint=(parameters.get("login_hint") or "")[:256] or None,
    )


def _parse_challenge(parameters: Parameters) -> str:
    challenge = parameters.get("code_challenge") or ""
    # Without a method, plain would be meant (RFC 7636 §4.3), which is no protection against those
    # who can see the request.
    is_s256 = parameters.get("code_challenge_method") == "S256"
    if not is_s256 or not _CHALLENGE.fullmatch(challenge):
        raise MalformedRequest("PKCE is required: a code_challenge with code_challenge_method=S256")
    return challenge


def _parse_prompt(prompt: str | None) -> list[str]:
    values = (prompt or "").split()
    if "none" in values and len(values) > 1:
        # OpenID Connect Core §3.1.2.1
        raise MalformedRequest("prompt=none excludes every other prompt")
    return [
        value
        for value in dict.fromkeys(values)
        if value in ("none", "login", "consent", "select_account")
    ]


def _parse_max_age(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_AGE_DIGITS):
        raise MalformedRequest("max_age must be a whole number of seconds")
    return int(text)
