"""A sign-in ends where its destination says, which need not be a redirect."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth.errors import AccessDenied, OAuthError
from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.server.browser.records import Session
from asgi_mcp_auth.server.browser.requests import PageRequest
from asgi_mcp_auth.server.grants.records import AuthorizationRequest, Consent
from asgi_mcp_auth.server.interaction import consents
from asgi_mcp_auth.server.interaction.authorization_request import Destination
from asgi_mcp_auth.server.interaction.flow import proceed, refuse
from asgi_mcp_auth.server.parties import Person
from asgi_mcp_auth.server.web import Response
from tests.support.authorization_server import (
    CONFIDENTIAL,
    RESOURCE,
    WEB_REDIRECT_URI,
    Server,
    deploy,
)

pytestmark = pytest.mark.asyncio

AUTHORIZATION = AuthorizationRequest(
    client_id="service",
    redirect_uri=WEB_REDIRECT_URI,
    resource=RESOURCE,
    scopes=["mcp:read"],
    code_challenge="c" * 43,
)


class Screen(Destination):
    """Ends on a page of the server's own, as a sign-in for another device would."""

    def deliver(self, code: str) -> Response:
        return Response(200, [], f"Enter {code} on your device".encode())

    def refuse(self, error: OAuthError) -> Response:
        return Response(200, [], f"Refused: {error.error}".encode())


async def screen_of(server: Server) -> Screen:
    client = await server.provider.admin.get_client("service")
    assert client is not None
    return Screen(client, WEB_REDIRECT_URI, None, server.provider._server.issuer)


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def request_of_alice(server: Server) -> PageRequest:
    """Return a request of a user who is signed in and has consented before."""
    scope = {"type": "http", "method": "GET", "headers": [], "client": ("127.0.0.1", 1)}
    request = PageRequest("authorize", scope, receive)
    now = int(server.clock.time())
    request.session = Session(person=Person(subject="alice"), signed_in_at=now, seen_at=now)
    consent = Consent(
        client_id="service",
        client_name="Service",
        redirect_uri=WEB_REDIRECT_URI,
        resource=RESOURCE,
        scopes=["mcp:read"],
        created_at=now,
    )
    await consents.remember(server.provider._server, "alice", consent)
    return request


async def test_a_code_is_delivered_by_the_destination() -> None:
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        screen, request = await screen_of(server), await request_of_alice(server)
        response = await proceed(server.provider._server, request, screen, AUTHORIZATION)
        assert (response.status, list(response.headers)) == (200, [])
        assert response.body.startswith(b"Enter ")
        assert server.events[-1].action == "approved"


async def test_an_error_is_delivered_by_the_destination() -> None:
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        screen, request = await screen_of(server), await request_of_alice(server)
        response = await refuse(server.provider._server, request, screen, AccessDenied())
        assert response.body == b"Refused: access_denied"
        assert server.reasons() == ["access_denied"]
