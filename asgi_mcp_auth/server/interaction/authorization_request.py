"""Authorization requests: is this one that a person may be asked about, and where may its answer
go?

RFC 6749 §4.1, OAuth 2.1 §4.1, RFC 7636, RFC 8707, RFC 9207.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..._urls import redirect_uri_matches, with_parameters
from ...errors import (
    InvalidClient,
    MalformedRequest,
    RequestNotSupported,
    RequestURINotSupported,
    UnauthorizedClient,
    UnknownClient,
    UnregisteredRedirect,
    UnsupportedResponseType,
)
from ..grants.records import AuthorizationRequest
from ..parties import Client
from ..parts import Server
from ..web import Parameters, Request

MAX_AGE_DIGITS = 9
MAX_STATE_BYTES = 4096
"""Of ``state`` in UTF-8. It is kept while the person signs in; the clients that there are send less than 1 KiB."""

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Destination:
    """A client's redirect URI that has been checked; only ``find_destination`` and
    ``destination_of`` make one.
    """

    client: Client
    redirect_uri: str
    state: str | None = field(repr=False)

    def url(self, issuer: str, **parameters: str) -> str:
        """Return the URL of an authorization response (RFC 6749 §4.1.2, RFC 9207 §2)."""
        state = {} if self.state is None else {"state": self.state}
        return with_parameters(self.redirect_uri, {**parameters, **state, "iss": issuer})


async def find_destination(
    server: Server, request: Request, client: Client | None = None
) -> Destination:
    """Return where a request's responses go.

    Args:
        server: knows the clients.
        request: the authorization request.
        client: who sends it, if that is known already.

    Raises:
        UnknownClient: it names no client, or several.
        UnregisteredRedirect: its redirect URI is not one of the client's, or it names none of
            several.
    """
    parameters = request.parameters
    try:
        client = client or await find_client(server, parameters.get("client_id"), request.source)
        uri, state = parameters.get("redirect_uri"), parameters.get("state")
    except MalformedRequest as error:
        if (
            len(parameters.all("client_id")) != 1
            or len(parameters.all("redirect_uri")) > 1
            or client is None
        ):
            raise UnknownClient(str(error)) from None
        # the state is repeated, which is told to the client
        uri, state = parameters.get("redirect_uri"), None
    if uri is None and len(client.redirect_uris) == 1:
        uri = client.redirect_uris[0]
    if uri is None or not redirect_uri_matches(uri, client.redirect_uris):
        raise UnregisteredRedirect
    return Destination(client, uri, state)


async def destination_of(
    server: Server, request: Request, authorization: AuthorizationRequest
) -> Destination:
    """Return where the responses to an earlier request go, if its client and redirect URI are still
    registered.

    Args:
        server: knows the clients.
        request: of the person who is on the way; finding the client may cost something.
        authorization: the earlier request.

    Raises:
        UnknownClient: the client is gone.
        UnregisteredRedirect: the redirect URI is.
    """
    client = await find_client(server, authorization.client_id, request.source)
    if not redirect_uri_matches(authorization.redirect_uri, client.redirect_uris):
        raise UnregisteredRedirect
    return Destination(client, authorization.redirect_uri, authorization.state)


async def find_client(server: Server, client_id: str | None, address: str | None = None) -> Client:
    """Return the client of an authorization request.

    Raises:
        UnknownClient: there is none with this id.
    """
    try:
        client = (
            None if client_id is None else await server.clients.find(client_id, address=address)
        )
    except InvalidClient as error:
        raise UnknownClient(str(error), reason=error.reason) from None
    if client is None:
        raise UnknownClient
    return client


def parse_authorization_request(
    server: Server, destination: Destination, parameters: Parameters, *, is_pushed: bool = False
) -> AuthorizationRequest:
    """Return the request that the parameters make.

    Raises:
        OAuthError: one that the client may be told at its redirect URI.
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
        raise MalformedRequest("The request has to be pushed before")
    if parameters.get("response_mode") not in (None, "query"):
        raise MalformedRequest("The response_mode must be query")
    response_type = parameters.get("response_type")
    if response_type != "code":
        raise (
            MalformedRequest("The response_type is missing")
            if response_type is None
            else UnsupportedResponseType()
        )
    if "authorization_code" not in client.grant_types:
        raise UnauthorizedClient
    challenge = parameters.get("code_challenge")
    # A method that is left out means plain (RFC 7636 §4.3), which whoever sees the request can use.
    if (
        challenge is None
        or parameters.get("code_challenge_method") != "S256"
        or not _CHALLENGE.fullmatch(challenge)
    ):
        raise MalformedRequest(
            "PKCE is needed: a code_challenge, with the code_challenge_method S256"
        )
    if len((destination.state or "").encode()) > MAX_STATE_BYTES:
        raise MalformedRequest(f"The state is longer than {MAX_STATE_BYTES} bytes")
    server.check_resources(parameters)
    return AuthorizationRequest(
        client_id=client.client_id,
        redirect_uri=destination.redirect_uri,
        scopes=server.scopes.requested(parameters.get("scope"), client),
        code_challenge=challenge,
        state=destination.state,
        prompt=_parse_prompt(parameters.get("prompt")),
        max_age=_parse_max_age(parameters.get("max_age")),
        login_hint=(parameters.get("login_hint") or "")[:256] or None,
    )


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
