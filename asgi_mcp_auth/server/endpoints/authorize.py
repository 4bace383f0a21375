"""``/authorize``: where a client sends its user's browser (RFC 6749 §4.1, RFC 9126 §4)."""

from __future__ import annotations

from dataclasses import replace

from ...errors import BodyTooLarge, InvalidRequestURI, MalformedRequest, OAuthError, UnknownClient
from ..grants.records import AuthorizationRequest
from ..interaction.authorization_request import (
    destination_of,
    find_destination,
    parse_authorization_request,
)
from ..interaction.flow import proceed, refuse
from ..parts import Server
from ..records import hash_of
from ..web import MAX_QUERY_BYTES, Answer, Request, redirect
from .par import PUSHED_REQUESTS, REQUEST_URI_PREFIX


async def authorize(server: Server, request: Request) -> Answer:
    """Send the person to the page that comes next, or back to the client with a code or an error.

    Raises:
        UnknownClient: there is nowhere to send them.
        UnregisteredRedirect: the same.
        InvalidRequestURI: the same.
        BodyTooLarge: the request would be too long for a URL.
    """
    if request.method == "POST":
        # With a form of the client's site come no cookies of ours (SameSite=Lax): with the GET that
        # follows they do.
        query = request.parameters.encode()
        if len(query) > MAX_QUERY_BYTES:
            raise BodyTooLarge
        return redirect(f"{server.url('authorize')}?{query}")
    pushed = await _take_pushed(server, request)
    if pushed is None:
        destination = await find_destination(server, request)
    else:
        destination = await destination_of(server, request, pushed)
    try:
        authorization = pushed or parse_authorization_request(
            server, destination, request.parameters
        )
        return await proceed(server, request, destination, _with_care(request, authorization))
    except OAuthError as error:
        return await refuse(server, request, destination, error)


async def _take_pushed(server: Server, request: Request) -> AuthorizationRequest | None:
    try:
        uri, client_id = request.parameters.get("request_uri"), request.parameters.get("client_id")
    except MalformedRequest as error:
        if len(request.parameters.all("client_id")) == 1:
            return None  # the request URI is repeated, which is told to the client
        raise UnknownClient(str(error)) from None
    if uri is None or not uri.startswith(REQUEST_URI_PREFIX) or not server.has("par"):
        return None
    key = hash_of(uri.removeprefix(REQUEST_URI_PREFIX))
    record = await server.store.get(PUSHED_REQUESTS, key)
    # Only its own client uses it up.
    if record is None or AuthorizationRequest.load(record.value).client_id != client_id:
        raise InvalidRequestURI
    data = await server.store.take(PUSHED_REQUESTS, key)
    if data is None:
        raise InvalidRequestURI
    return AuthorizationRequest.load(data)


def _with_care(request: Request, authorization: AuthorizationRequest) -> AuthorizationRequest:
    """Have the person asked, whatever they have approved before, unless a page of ours began the
    navigation.

    A malicious authorization server that a client talks to can send its users on to here, with a
    client id that everybody knows and a PKCE challenge of its own choice (RFC 9700 §4.4). A client
    that does not look at ``iss`` then hands it our code; a secret of the client is no help, because
    the attacker can have the client itself redeem it. Browsers say ``none`` also behind another
    site's redirect, when the first address was typed or opened by a program.
    """
    if request.header(b"sec-fetch-site") == b"same-origin" or "consent" in authorization.prompt:
        return authorization
    return replace(authorization, prompt=[*authorization.prompt, "consent"])
