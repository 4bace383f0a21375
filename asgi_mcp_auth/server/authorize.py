"""``/authorize``: where a client sends its user's browser (RFC 6749 §4.1, RFC 9126 §4)."""

from __future__ import annotations

from ..errors import InvalidRequestURI, MalformedRequest, OAuthError, UnknownClient
from .authorization import destination_of, find_destination, parse_authorization_request, refuse
from .context import Server
from .flow import proceed
from .models import AuthorizationRequest, hash_of
from .par import PUSHED_REQUESTS, REQUEST_URI_PREFIX
from .requests import Answer, Request


async def authorize(server: Server, request: Request) -> Answer:
    """Send the person to the page that comes next, or back to the client with a code or an error.

    Raises:
        UnknownClient: there is nowhere to send them.
        UnregisteredRedirect: the same.
        InvalidRequestURI: the same.
    """
    pushed = await _take_pushed(server, request)
    if pushed is None:
        destination = await find_destination(server, request.parameters)
    else:
        destination = await destination_of(server, pushed)
    try:
        authorization = pushed or parse_authorization_request(server, destination, request.parameters)
        # Whoever is signed in now was so before this request: prompt=login asks for more.
        return await proceed(server, request, destination, authorization, since=server.clock.time() + 1)
    except OAuthError as error:
        return refuse(server, request, destination, error)


async def _take_pushed(server: Server, request: Request) -> AuthorizationRequest | None:
    try:
        uri, client_id = request.parameters.get("request_uri"), request.parameters.get("client_id")
    except MalformedRequest as error:
        raise UnknownClient(str(error)) from None
    if uri is None or not uri.startswith(REQUEST_URI_PREFIX) or not server.has("par"):
        return None
    data = await server.store.take(PUSHED_REQUESTS, hash_of(uri.removeprefix(REQUEST_URI_PREFIX)))
    pushed = None if data is None else AuthorizationRequest.load(data)
    if pushed is None or pushed.client_id != client_id:
        raise InvalidRequestURI
    return pushed
