"""``/par``: an authorization request that the client hands over itself, before its user's browser
comes (RFC 9126).
"""

from __future__ import annotations

from ...errors import MalformedRequest
from ..interaction.authorization_request import find_destination, parse_authorization_request
from ..parts import Server
from ..records import hash_of, new_secret
from ..web import Answer, Request, json_answer

PUSHED_REQUESTS = "pushed"
REQUEST_URI_PREFIX = "urn:ietf:params:oauth:request_uri:"


async def push(server: Server, request: Request) -> Answer:
    """Check an authorization request and keep it for its client.

    Raises:
        OAuthError: it could not be answered at ``/authorize`` either, or too many have been pushed.
        ServerUnavailable: too many have been pushed by all.
    """
    if request.parameters.get("request_uri") is not None:
        raise MalformedRequest("A pushed request cannot have a request_uri")
    destination = await find_destination(server, request, request.client)
    authorization = parse_authorization_request(
        server, destination, request.parameters, is_pushed=True
    )
    request_id, seconds = new_secret(), server.lifetimes.pushed_request_seconds
    value = authorization.dump()
    server.limits.keep(request.source, value, seconds)
    await server.store.put(PUSHED_REQUESTS, hash_of(request_id), value, ttl=seconds)
    return json_answer(
        {"request_uri": REQUEST_URI_PREFIX + request_id, "expires_in": int(seconds)}, 201
    )
