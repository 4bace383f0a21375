"""The whole sequence: register, sign in, consent, redeem, call, refresh, revoke."""

from __future__ import annotations

import pytest

from asgi_mcp_auth import ConfigurationError, DevLogin, MCPAuthMiddleware, OAuthProvider
from asgi_mcp_auth.server import Registration
from tests.support.asgi import Spy
from tests.support.authorization_server import (
    BASE_URL,
    CONFIDENTIAL,
    REDIRECT_URI,
    RESOURCE,
    answer_of,
    deploy,
    memory_store,
)


@pytest.mark.asyncio
async def test_an_unknown_client_gets_a_token_for_its_user_and_calls_the_app() -> None:
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in("alice")
        assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == (
            "Bearer",
            3600,
            "mcp:read",
        )
        response = await server.call("POST", "/mcp", bearer=tokens["access_token"])
        assert response.status == 200
        access = server.spy.scope["access_token"]
        assert (access.subject, access.client_id, access.resource) == (
            "alice",
            client.client_id,
            RESOURCE,
        )
        assert access.scopes == ["mcp:read"]


@pytest.mark.asyncio
async def test_the_answer_to_the_client_has_its_state_and_our_issuer() -> None:
    async with deploy() as server:
        client = await server.register()
        url = await server.browser().decide(client.authorization_url(state="a b&c"))
        assert url.startswith(f"{REDIRECT_URI}?")
        answer = answer_of(url)
        assert (answer["state"], answer["iss"], set(answer)) == (
            "a b&c",
            "http://localhost:8000",
            {"code", "state", "iss"},
        )


@pytest.mark.asyncio
async def test_a_refresh_token_brings_a_new_pair_and_revoking_one_ends_all() -> None:
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in()
        refreshed = (await client.refresh(tokens["refresh_token"])).json()
        assert refreshed["refresh_token"] != tokens["refresh_token"]
        for token in (tokens["access_token"], refreshed["access_token"]):
            assert (await server.call("POST", "/mcp", bearer=token)).status == 200
        form = {"token": refreshed["refresh_token"], "client_id": client.client_id}
        assert (await server.call("POST", "/revoke", form=form)).status == 200
        for token in (tokens["access_token"], refreshed["access_token"]):
            assert (await server.call("POST", "/mcp", bearer=token)).status == 401
        response = await client.refresh(refreshed["refresh_token"])
        assert (response.status, response.json()["error"]) == (400, "invalid_grant")
        assert server.reasons() == ["grant_revoked"]


@pytest.mark.asyncio
async def test_a_client_registered_with_the_scopes_of_its_first_challenge_may_ask_for_more() -> (
    None
):
    """Step-up: TypeScript clients register with the ``scope`` of the first 401; the person decides
    about the rest.
    """
    async with deploy() as server:
        client = await server.register(scope="mcp:read")
        assert client.information["scope"] == "mcp:read"
        assert (await client.sign_in(scope="mcp:read mcp:write"))["scope"] == "mcp:read mcp:write"


@pytest.mark.asyncio
async def test_a_client_of_the_operator_s_is_held_to_the_scope_that_the_operator_wrote() -> None:
    registration = Registration(clients=[{**CONFIDENTIAL, "scope": "mcp:read"}])
    async with deploy(registration=registration) as server:
        client = server.known(CONFIDENTIAL)
        assert (await client.sign_in(scope="mcp:read mcp:write"))["scope"] == "mcp:read"
        url = await server.browser().decide(client.authorization_url(scope="mcp:write"))
        assert answer_of(url)["error"] == "invalid_scope"


def test_a_missing_login_is_an_error_that_names_the_choices() -> None:
    with pytest.raises(ConfigurationError, match=r"PasswordLogin.*AppLogin.*DevLogin"):
        OAuthProvider(base_url="https://mcp.example.com", store="memory:")


def test_an_endpoint_cannot_be_the_resource() -> None:
    provider = OAuthProvider(base_url=BASE_URL, login=DevLogin(), store=memory_store())
    with pytest.raises(ConfigurationError, match=r"mcp_path='/login' is an endpoint .*path_prefix"):
        MCPAuthMiddleware(Spy(), provider, mcp_path="/login")


@pytest.mark.asyncio
async def test_what_has_expired_goes_by_the_way_however_much_it_is() -> None:
    async with deploy() as server:
        for number in range(1200):
            await server.provider.store.put("old", str(number), b"", ttl=1)
        server.clock.advance(61)
        for _ in range(4):
            await server.call("GET", "/authorize")
        assert await server.provider.store.sweep() == 0
