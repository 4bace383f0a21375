"""``/authorize``: begins an authorization (RFC 6749 §4.1, RFC 9126 §4)."""

from __future__ import annotations

from dataclasses import replace

from ...errors import BodyTooLarge, InvalidRequestURI, MalformedRequest, OAuthError, UnknownClient
from ..browser.requests import PageRequest
from ..grants.records import AuthorizationRequest
from ..interaction.authorization_request import (
    parse_authorization_request,
    resolve_destination,
    restore_destination,
)
from ..interaction.flow import proceed, refuse
from ..parts import Server
from ..records import hash_of
from ..web import MAX_QUERY_BYTES, Response, redirect
from .par import REQUEST_URI_PREFIX, pushed_requests


async def authorize(server: Server, request: PageRequest) -> Response:
    """Send the user to the next page, or back to the client with a code or an error.

    Raises:
        UnknownClient: the client is unknown, so it cannot be told.
        UnregisteredRedirect: the redirect URI is unknown, so the client cannot be told.
        InvalidRequestURI: the pushed request has expired or belongs to another client.
        BodyTooLarge: the request is too long for a URL.
    """
    if request.method == "POST":
        # A form on the client's site is sent without our cookies (SameSite=Lax); the GET that
        # follows has them.
        query = request.parameters.encode()
        if len(query) > MAX_QUERY_BYTES:
            raise BodyTooLarge
        return redirect(f"{server.url('authorize')}?{query}")
    pushed = await _take_pushed(server, request)
    if pushed is None:
        destination = await resolve_destination(server, request)
    else:
        destination = await restore_destination(server, request, pushed)
    try:
        authorization = pushed or parse_authorization_request(
            server, destination, request.parameters
        )
        return await proceed(server, request, destination, _force_consent(request, authorization))
    except OAuthError as error:
        return await refuse(server, request, destination, error)


async def _take_pushed(server: Server, request: PageRequest) -> AuthorizationRequest | None:
    try:
        uri = request.parameters.get("request_uri")
        client_id = request.parameters.get("client_id")
    except MalformedRequest as error:
        if len(request.parameters.all("client_id")) == 1:
            return None  # the request_uri is repeated: an error that can be sent to the client
        raise UnknownClient(str(error)) from None
    if uri is None or not uri.startswith(REQUEST_URI_PREFIX) or not server.has("par"):
        return None
    key = hash_of(uri.removeprefix(REQUEST_URI_PREFIX))
    table = pushed_requests(server)
    known = await table.get(key)
    # Only its own client uses it up.
    if known is None or known.client_id != client_id:
        raise InvalidRequestURI
    taken = await table.take(key)
    if taken is None:
        raise InvalidRequestURI
    return taken


def _force_consent(
    request: PageRequest, authorization: AuthorizationRequest
) -> AuthorizationRequest:
    """Ignore any remembered consent unless a page of this server began the navigation.

    A malicious authorization server can send its own users on to this one, with a public client id
    and a PKCE challenge of its choice (RFC 9700 §4.4). A client that does not check ``iss`` then
    hands it our code. A client secret is no protection, because the attacker can have the client
    itself redeem the code. Nor is ``Sec-Fetch-Site: none``: browsers send it after another site's
    redirect, too, if the first address was typed or opened by a program.
    """
    if request.header(b"sec-fetch-site") == b"same-origin" or "consent" in authorization.prompt:
        return authorization
    return replace(authorization, prompt=[*authorization.prompt, "consent"])
