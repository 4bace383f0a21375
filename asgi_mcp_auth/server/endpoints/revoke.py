"""``/revoke``: a client gives a token back (RFC 7009). Any token of a grant ends the grant, with
all its tokens.
"""

from __future__ import annotations

from ...errors import InvalidToken, MalformedRequest
from ..clients.requests import ClientRequest
from ..grants.refresh_token import grant_of_refresh_token
from ..parts import Server
from ..web import NO_STORE, Response


async def revoke(server: Server, request: ClientRequest) -> Response:
    """End the grant of a token, if it is this client's; say the same in any case (RFC 7009 §2.2).

    Raises:
        MalformedRequest: no token.
    """
    token = request.parameters.get("token")
    if token is None:
        raise MalformedRequest("The token is missing")
    grant_id = await grant_id_of(server, token)
    if grant_id is not None and await server.grants.ledger.belongs_to(
        grant_id, request.client.client_id, server.resource.identifier
    ):
        await server.grants.revocation.revoke(grant_id, "by_client")
    return Response(200, NO_STORE)


async def grant_id_of(server: Server, token: str) -> str | None:
    """Return the grant that a token of any kind belongs to, whatever ``token_type_hint`` says;
    ``None`` for no token.

    Raises:
        ServerUnavailable: that cannot be found out now.
    """
    grant_id = grant_of_refresh_token(server.grants, token)
    if grant_id is not None:
        return grant_id
    try:
        return await server.verifier.grant_id_of(token)
    except InvalidToken:
        return None
