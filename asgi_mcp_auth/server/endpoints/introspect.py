"""``/introspect``: a resource server asks whether a token is good, and for what (RFC 7662)."""

from __future__ import annotations

from ...errors import InvalidClient, InvalidToken, MalformedRequest
from ...types import JSONObject
from ..clients.requests import ClientRequest
from ..grants.refresh_token import find_by_refresh_token
from ..parties import Client
from ..parts import Server
from ..tokens.access import grant_of
from ..web import Response, json_response

_INACTIVE: JSONObject = {"active": False}


async def introspect(server: Server, request: ClientRequest) -> Response:
    """Say what a token is: to the operator's own clients about every token, to others about theirs.

    Raises:
        InvalidClient: the client cannot prove who it is.
        MalformedRequest: no token.
    """
    if request.client.is_public:
        raise InvalidClient(reason="auth_method")
    token = request.parameters.get("token")
    if token is None:
        raise MalformedRequest("The token is missing")
    about = await _refresh_token(server, token) or await _access_token(server, token)
    return json_response(
        about if about is not None and _may_see(request.client, about) else _INACTIVE
    )


async def _access_token(server: Server, token: str) -> JSONObject | None:
    try:
        access = await server.verifier.verify(token)
    except InvalidToken:
        return None
    if await server.grants.ledger.find(grant_of(access), server.resource.identifier) is None:
        # ended by another process, no longer ago than the revocation lag: who asks wants to know it
        # now
        return None
    return {**access.claims, "active": True, "token_type": "Bearer"}


async def _refresh_token(server: Server, token: str) -> JSONObject | None:
    found = await find_by_refresh_token(server.grants, token, server.resource.identifier)
    if found is None:
        return None
    grant, ends_at = found
    return {
        "active": True,
        "client_id": grant.client_id,
        "sub": grant.subject,
        "scope": " ".join(grant.scopes),
        "iss": server.issuer,
        "aud": server.issuer,  # it is good here only
        "iat": grant.created_at,
        "exp": ends_at,
    }


def _may_see(client: Client, about: JSONObject) -> bool:
    return client.origin == "configured" or about["client_id"] == client.client_id
