"""Grant types are values: one module and one row make a new one, and all else follows from it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from asgi_mcp_auth.errors import ConfigurationError, InvalidGrant
from asgi_mcp_auth.server import DevLogin, OAuthProvider, Person, Registration
from asgi_mcp_auth.server.grants import GRANT_TYPES
from asgi_mcp_auth.server.grants.grant_type import Granted, Grants, GrantType, TokenRequest
from asgi_mcp_auth.server.grants.records import Grant
from asgi_mcp_auth.server.records import hash_of
from tests.support.authorization_server import (
    CONFIDENTIAL,
    EVERYWHERE,
    SCOPES,
    Server,
    basic,
    deploy,
)

pytestmark = pytest.mark.asyncio

INVITATION = "urn:example:invitation"

# ------------------------------------------------------ what a new module in grants/ would contain


async def accept(grants: Grants, request: TokenRequest) -> Granted:
    """Exchange an invitation for a grant of the person who sent it."""
    if request.required("invitation") != "welcome":
        raise InvalidGrant(reason="unknown_code")
    scopes = grants.scopes.parse_requested(request.parameters.get("scope"), request.client)
    now = int(grants.clock.time())
    grant = Grant(
        client_id=request.client.client_id,
        resource=request.resource,
        person=Person(subject="host", claims={"invited": True}),
        scopes=scopes,
        created_at=now,
        expires_at=now + 600,
    )
    grant_id = hash_of("welcome")[:22]
    await grants.ledger.add(grant_id, grant)
    return Granted(grant_id, grant, scopes)


GRANT = GrantType(
    name=INVITATION,
    use=accept,
    switch="invitations",
    repeatable=frozenset(("resource", "guest")),
)


class Inviting(OAuthProvider):
    _grant_types = (*GRANT_TYPES, GRANT)  # the row


def deploy_inviting(**settings: Any) -> AbstractAsyncContextManager[Server]:
    login = DevLogin(networks=EVERYWHERE)
    return deploy(kind=Inviting, login=login, scopes_supported=SCOPES, **settings)


# ----------------------------------------------------------------------------- what follows from it


async def test_the_token_endpoint_takes_the_new_grant_type() -> None:
    async with deploy_inviting() as server:
        client = await server.register(grant_types=[INVITATION], redirect_uris=None)
        response = await client.token(grant_type=INVITATION, invitation="welcome")
        assert (response.status, response.json()["expires_in"]) == (200, 600)
        assert "refresh_token" not in response.json()
        token = response.json()["access_token"]
        assert (await server.call("POST", "/mcp", bearer=token)).status == 200
        event = server.events[-1]
        assert (event.action, event.subject, event.scopes) == (
            "token_issued",
            "host",
            ("mcp:read",),
        )
        access = await server.provider.verify_token(token)
        assert access is not None
        assert (access.subject, access.claims["invited"]) == ("host", True)
        assert await server.provider.admin.revoke_grant(event.grant_id or "")
        assert (await server.call("POST", "/mcp", bearer=token)).status == 401


async def test_what_it_refuses_is_refused_as_by_any_grant_type() -> None:
    async with deploy_inviting() as server:
        client = await server.register(grant_types=[INVITATION], redirect_uris=None)
        missing = await client.token(grant_type=INVITATION)
        assert missing.json()["error_description"] == "The invitation is missing"
        wrong = await client.token(grant_type=INVITATION, invitation="go away")
        assert (wrong.status, wrong.json()["error"]) == (400, "invalid_grant")
        assert server.reasons() == ["invalid_request", "unknown_code"]
        other = await server.register()
        refused = await other.token(grant_type=INVITATION, invitation="welcome")
        assert refused.json()["error"] == "unauthorized_client"


async def test_the_metadata_names_it() -> None:
    async with deploy_inviting() as server:
        document = await server.call("GET", "/.well-known/oauth-authorization-server")
        assert document.json()["grant_types_supported"] == [
            "authorization_code",
            "refresh_token",
            "client_credentials",
            INVITATION,
        ]


async def test_the_rules_of_registration_follow_from_it() -> None:
    """A client that starts with it needs no redirect URI and no response type."""
    async with deploy_inviting() as server:
        client = await server.register(grant_types=[INVITATION], redirect_uris=None)
        assert client.information["grant_types"] == [INVITATION]
        assert client.information["response_types"] == []
        usual = await server.register()
        assert usual.information["grant_types"] == ["authorization_code", "refresh_token"]


async def test_it_can_be_switched_off() -> None:
    async with deploy_inviting(options={"disabled": ["invitations"]}) as server:
        document = await server.call("GET", "/.well-known/oauth-authorization-server")
        assert INVITATION not in document.json()["grant_types_supported"]
        client = await server.register(grant_types=["authorization_code", INVITATION])
        assert client.information["grant_types"] == ["authorization_code"]
        response = await client.token(grant_type=INVITATION, invitation="welcome")
        assert response.json()["error"] == "unsupported_grant_type"


async def test_the_switch_is_known_where_the_grant_type_is() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^disabled has 'invitations', which cannot be switched off: revoke,",
    ):
        async with deploy(options={"disabled": ["invitations"]}):
            pass
    with pytest.raises(ConfigurationError, match=r"client_credentials, invitations can be$"):
        async with deploy_inviting(options={"disabled": ["token"]}):
            pass


async def test_only_what_it_names_may_be_repeated() -> None:
    registration = Registration(
        clients=[{**CONFIDENTIAL, "grant_types": [INVITATION, "client_credentials"]}]
    )
    async with deploy_inviting(registration=registration) as server:
        headers = basic(CONFIDENTIAL["client_id"], CONFIDENTIAL["client_secret"])

        async def send(grant_type: str, *repeated: str, path: str = "/token") -> int:
            form = [("grant_type", grant_type), ("invitation", "welcome"), ("token", "t")]
            form += [(name, "x") for name in repeated for _ in range(2)]
            return (await server.call("POST", path, headers=headers, form=form)).status

        assert await send(INVITATION, "guest") == 200
        assert await send(INVITATION, "scope") == 400
        assert await send(INVITATION, "grant_type") == 400
        assert await send("client_credentials") == 200
        assert await send("client_credentials", "guest") == 400
        assert await send(INVITATION, "guest", path="/revoke") == 400
        assert server.reasons() == ["invalid_request"] * 4
