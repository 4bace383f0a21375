"""The whole way: register, sign in, consent, redeem, call, refresh, revoke."""

from __future__ import annotations

import pytest

from tests.support.authorization_server import REDIRECT_URI, RESOURCE, answer_of, deploy

pytestmark = pytest.mark.asyncio


async def test_a_client_that_nobody_knew_gets_a_token_for_its_user_and_calls_the_app() -> None:
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in("alice")
        assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == ("Bearer", 3600, "mcp:read")
        response = await server.call("POST", "/mcp", bearer=tokens["access_token"])
        assert response.status == 200
        access = server.spy.scope["access_token"]
        assert (access.subject, access.client_id, access.resource) == ("alice", client.client_id, RESOURCE)
        assert access.scopes == ["mcp:read"]


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
