"""``/introspect``: tells resource servers whether a token is active (RFC 7662)."""

from __future__ import annotations

from ...errors import InvalidClient, InvalidToken, MalformedRequest
from ...types import JSONObject
from ..clients.requests import ClientRequest
from ..grants.refresh_token import find_by_refresh_token
from ..parties import Client
from ..parts import Server
from ..tokens.access import grant_of
from ..web import Response, json_response


async def introspect(server: Server, request: ClientRequest) -> Response:
    """Describe a token: any token to the operator's own clients, their own tokens to all others.

    Raises:
        InvalidClient: the client is one that cannot authenticate.
        MalformedRequest: the token is missing.
    """
    if request.client.is_public:
        raise InvalidClient(reason="auth_method")
    token = request.parameters.get("token")
    if token is None:
        raise MalformedRequest("The token is missing")
    found = await _refresh_token(server, token) or await _access_token(server, token)
    if found is None or not _may_see(request.client, found):
        return json_response({"active": False})
    return json_response(found)


async def _access_token(server: Server, token: str) -> JSONObject | None:
    try:
        access = await server.verifier.verify(token)
    except InvalidToken:
        return None
    if await server.grants.ledger.find(grant_of(access), server.resource.identifier) is None:
        # Another process has revoked it, within the revocation lag: introspection reports that at
        # once.
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
        "aud": server.issuer,  # the only party that accepts it
        "iat": grant.created_at,
        "exp": ends_at,
    }


def _may_see(client: Client, token: JSONObject) -> bool:
    return client.origin == "configured" or token["client_id"] == client.client_id
