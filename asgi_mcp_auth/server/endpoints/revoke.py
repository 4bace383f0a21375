"""``/revoke``: revokes a token for its client, and with it the grant and all its tokens (RFC
7009).
"""

from __future__ import annotations

from ...errors import InvalidToken, MalformedRequest
from ..clients.requests import ClientRequest
from ..grants.refresh_token import grant_of_refresh_token
from ..parts import Server
from ..web import NO_STORE, Response


async def revoke(server: Server, request: ClientRequest) -> Response:
    """Revoke the grant of a token if it is this client's. The response is always the same (RFC 7009
    §2.2).

    Raises:
        MalformedRequest: the token is missing.
    """
    token = request.parameters.get("token")
    if token is None:
        raise MalformedRequest("The token is missing")
    grant_id = await grant_id_of(server, token)
    client_id, resource = request.client.client_id, server.resource.identifier
    if grant_id is not None and await server.grants.ledger.belongs_to(
        grant_id, client_id, resource
    ):
        await server.grants.revocation.revoke(grant_id, "by_client")
    return Response(200, NO_STORE)


async def grant_id_of(server: Server, token: str) -> str | None:
    """Return the grant of an access token or refresh token, ``None`` if it is neither.

    ``token_type_hint`` is ignored: the form of the token tells.

    Raises:
        ServerUnavailable: the signing keys or the store cannot be read.
    """
    grant_id = grant_of_refresh_token(server.grants, token)
    if grant_id is not None:
        return grant_id
    try:
        return await server.verifier.grant_id_of(token)
    except InvalidToken:
        return None
