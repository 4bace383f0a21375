"""``/token``: issues access tokens, with any grant type (RFC 6749 §3.2)."""

from __future__ import annotations

from ...errors import MalformedRequest, UnauthorizedClient, UnsupportedGrantType
from ...types import JSONObject
from ..audit import AuditEvent
from ..clients.requests import ClientRequest
from ..grants.grant_type import Granted, TokenRequest
from ..parts import Server
from ..tokens.access import make_access_token
from ..web import Response, json_response


async def token(server: Server, request: ClientRequest) -> Response:
    """Issue an access token.

    Raises:
        UnsupportedGrantType: this server does not support the grant type.
        UnauthorizedClient: the client has not registered for it.
        InvalidGrant: the code or refresh token is not valid.
        InvalidScope: the client asks for more than it may have.
        InvalidTarget: it asks for another resource.
    """
    name = request.parameters.get("grant_type")
    if name is None:
        raise MalformedRequest("The grant_type is missing")
    grant_type = server.grant_types.get(name)
    if grant_type is None:
        raise UnsupportedGrantType
    client = request.client
    if name not in client.grant_types:
        raise UnauthorizedClient
    resource = server.check_resources(request.parameters)
    await server.signer.ready()  # before a code or a refresh token is used up
    granted = await grant_type.use(
        server.grants, TokenRequest(client, request.parameters, resource.identifier)
    )
    response = await _response(server, granted)
    event = AuditEvent(
        action=grant_type.event,
        client_id=granted.grant.client_id,
        subject=granted.grant.subject,
        grant_id=granted.grant_id,
        scopes=tuple(granted.scopes),
    )
    server.audit.report(event, request)
    return response


async def _response(server: Server, granted: Granted) -> Response:
    grant = granted.grant
    now = int(server.clock.time())
    # The token does not outlive its grant.
    seconds = max(1, min(int(server.lifetimes.access_token_seconds), grant.expires_at - now))
    access_token = await make_access_token(
        server.signer,
        issuer=server.issuer,
        audience=grant.resource,
        subject=grant.subject,
        client_id=grant.client_id,
        scopes=granted.scopes,
        grant_id=granted.grant_id,
        issued_at=now,
        expires_at=now + seconds,
        signed_in_at=grant.signed_in_at,
        claims={} if grant.person is None else grant.person.claims,
    )
    document: JSONObject = {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": seconds,
        "scope": " ".join(granted.scopes),
    }
    if granted.refresh_token is not None:
        document["refresh_token"] = granted.refresh_token
    return json_response(document)
