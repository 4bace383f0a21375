"""``/par``: keeps an authorization request that the client sends before its user's browser comes
(RFC 9126).
"""

from __future__ import annotations

from typing import Final

from ...errors import MalformedRequest
from ..clients.requests import ClientRequest
from ..grants.records import AuthorizationRequest
from ..interaction.authorization_request import parse_authorization_request, resolve_destination
from ..parts import Server
from ..records import hash_of, new_secret
from ..table import Kind, Table
from ..web import Response, json_response

PUSHED_REQUESTS: Final = Kind(
    "pushed",
    AuthorizationRequest,
    key="SHA-256 of the secret in the `request_uri`",
    lifetime="`pushed_request_seconds`",
)
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
    server.limits.keep(request.source, authorization.dump(), seconds)
    await pushed_requests(server).put(hash_of(request_id), authorization)
    return json_response(
        {"request_uri": REQUEST_URI_PREFIX + request_id, "expires_in": int(seconds)}, 201
    )


def pushed_requests(server: Server) -> Table[AuthorizationRequest]:
    """Return the table of the pushed authorization requests, by the hash of their secret."""
    return Table(server.store, PUSHED_REQUESTS, lambda _: server.lifetimes.pushed_request_seconds)
