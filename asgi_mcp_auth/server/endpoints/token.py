"""``/token``: a code, a refresh token or a client's own word for an access token (RFC 6749 §4 to
§6).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from ...errors import MalformedRequest, UnauthorizedClient, UnsupportedGrantType
from ...types import JSONObject
from ..audit import AuditAction, AuditEvent
from ..clients.requests import ClientRequest
from ..grants.lifecycle import Granted
from ..parts import Server
from ..tokens.access import make_access_token
from ..web import Response, json_response


async def token(server: Server, request: ClientRequest) -> Response:
    """Issue an access token.

    Raises:
        UnsupportedGrantType: nobody can use this grant here.
        UnauthorizedClient: this client cannot.
        InvalidGrant: the code or refresh token is not good.
        InvalidScope: the client asks for more than it may have.
        InvalidTarget: it asks for another resource.
    """
    grant_type = request.parameters.get("grant_type")
    if grant_type is None:
        raise MalformedRequest("The grant_type is missing")
    if grant_type not in server.grant_types:
        raise UnsupportedGrantType
    if grant_type not in request.client.grant_types:
        raise UnauthorizedClient
    server.check_resources(request.parameters)
    await server.signer.ready()  # while nothing has been used up
    action, use = _GRANTS[grant_type]
    granted = await use(server, request)
    response = await _response(server, granted)
    grant = granted.grant
    event = AuditEvent(
        action=action,
        client_id=grant.client_id,
        subject=grant.subject,
        grant_id=granted.grant_id,
        scopes=tuple(granted.scopes),
    )
    server.audit.report(event, request)
    return response


async def _use_code(server: Server, request: ClientRequest) -> Granted:
    code = request.parameters.get("code")
    if code is None:
        raise MalformedRequest("The code is missing")
    redirect_uri, verifier = (
        request.parameters.get("redirect_uri"),
        request.parameters.get("code_verifier"),
    )
    return await server.grants.redeem(code, request.client, redirect_uri, verifier)


async def _use_refresh_token(server: Server, request: ClientRequest) -> Granted:
    refresh_token = request.parameters.get("refresh_token")
    if refresh_token is None:
        raise MalformedRequest("The refresh_token is missing")
    return await server.grants.refresh(
        refresh_token, request.client, request.parameters.get("scope")
    )


async def _use_client(server: Server, request: ClientRequest) -> Granted:
    scopes = server.scopes.requested(request.parameters.get("scope"), request.client)
    return await server.grants.for_client(request.client, scopes)


async def _response(server: Server, granted: Granted) -> Response:
    access_token, seconds = await make_access_token(
        granted,
        issuer=server.issuer,
        resource=server.resource,
        lifetime_seconds=server.lifetimes.access_token_seconds,
        signer=server.signer,
        clock=server.clock,
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


_GRANTS: Mapping[str, tuple[AuditAction, Callable[[Server, ClientRequest], Awaitable[Granted]]]] = {
    "authorization_code": ("token_issued", _use_code),
    "refresh_token": ("token_refreshed", _use_refresh_token),
    "client_credentials": ("token_issued", _use_client),
}
