"""``/par``: keeps an authorization request that the client sends before its user's browser comes
(RFC 9126).
"""

from __future__ import annotations

from ...errors import MalformedRequest
from ..clients.requests import ClientRequest
from ..interaction.authorization_request import parse_authorization_request, resolve_destination
from ..parts import Server
from ..records import hash_of, new_secret
from ..web import Response, json_response

PUSHED_REQUESTS = "pushed"
REQUEST_URI_PREFIX = "urn:ietf:params:oauth:request_uri:"


async def push(server: Server, request: ClientRequest) -> Response:
    """Validate an authorization request and keep it for its client.

    Raises:
        OAuthError: ``/authorize`` would refuse it, or this network has pushed too many.
        ServerUnavailable: all networks together have pushed too many.
    """
    if request.parameters.get("request_uri") is not None:
        raise MalformedRequest("A pushed request cannot have a request_uri")
    destination = await resolve_destination(server, request, request.client)
    authorization = parse_authorization_request(
        server, destination, request.parameters, is_pushed=True
    )
    request_id = new_secret()
    seconds = server.lifetimes.pushed_request_seconds
    value = authorization.dump()
    server.limits.keep(request.source, value, seconds)
    await server.store.put(PUSHED_REQUESTS, hash_of(request_id), value, ttl=seconds)
    return json_response(
        {"request_uri": REQUEST_URI_PREFIX + request_id, "expires_in": int(seconds)}, 201
    )
