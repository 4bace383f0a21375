"""Who may register: every client, those that the operator's function accepts, or none."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import pytest

from asgi_mcp_auth.server import Registration
from tests.support.authorization_server import CONFIDENTIAL, REDIRECT_URI, deploy
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

DOCUMENT = {"redirect_uris": [REDIRECT_URI], "client_name": "A name", "favourite_colour": "green"}


async def test_the_operators_function_gets_the_effective_metadata_and_decides() -> None:
    seen: list[dict[str, Any]] = []

    def approve(metadata: dict[str, Any]) -> bool:
        seen.append(metadata)
        return len(seen) > 1

    async with deploy(registration=Registration(approve=approve)) as server:
        response = await server.call("POST", "/register", document=DOCUMENT)
        assert (response.status, response.json()["error"]) == (400, "access_denied")
        assert (server.reasons(), [each async for each in server.provider.admin.clients()]) == (
            ["access_denied"],
            [],
        )
        assert (await server.call("POST", "/register", document=DOCUMENT)).status == 201
    assert seen[0] == {
        "redirect_uris": [REDIRECT_URI],
        "client_name": "A name",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_basic",
    }


async def test_it_may_take_its_time_and_changes_nothing() -> None:
    async def approve(metadata: dict[str, Any]) -> bool:
        await asyncio.sleep(0)
        metadata["client_name"] = "Another name"
        return True

    async with deploy(registration=Registration(approve=approve)) as server:
        response = await server.call("POST", "/register", document=DOCUMENT)
        assert response.json()["client_name"] == "A name"


async def test_it_is_asked_about_nothing_that_cannot_be_registered() -> None:
    def approve(metadata: dict[str, Any]) -> bool:
        raise AssertionError(metadata)

    async with deploy(registration=Registration(approve=approve)) as server:
        assert (await server.call("POST", "/register", document={})).status == 400


@rows("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
async def test_without_registration_there_is_no_such_endpoint(method: str) -> None:
    async with deploy(
        allow_dynamic_registration=False, registration=Registration(metadata_documents=False)
    ) as server:
        assert (await server.call(method, "/register", document=DOCUMENT)).status == 404


async def test_a_registration_that_was_made_before_lives_on_when_it_is_switched_off() -> None:
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in()
        closed = deploy(
            store=server.provider.store,
            clock=server.clock,
            allow_dynamic_registration=False,
            registration=Registration(metadata_documents=False),
        )
        async with closed as later:
            form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
            assert (await later.token(client_id=client.client_id, **form)).status == 200


@pytest.mark.case("Z98")
async def test_a_client_that_calls_itself_like_another_one_is_shown_as_unverified() -> None:
    known = {**CONFIDENTIAL, "client_name": "Example Notes"}
    async with deploy(registration=Registration(clients=[known])) as server:
        impostor = await server.register(
            client_name="Example Notes", redirect_uris=["https://evil.example/callback"]
        )
        browser = server.browser()
        page = await browser.sign_in(
            await browser.open(impostor.authorization_url()), username="alice"
        )
        warning = "has not been verified"
        assert warning in page.text
        assert "evil.example" in page.text
        page = await browser.open(server.known(known).authorization_url())
        assert warning not in page.text
        assert (
            await browser.send("GET", impostor.authorization_url(client_id="service"))
        ).status == 400
        assert server.reasons() == ["redirect_uri"]


async def test_ids_are_ours_to_choose_and_new_each_time() -> None:
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        document = {**DOCUMENT, "client_id": "service"}
        found = {
            (await server.call("POST", "/register", document=document)).json()["client_id"]
            for _ in range(3)
        }
        assert len(found) == 3
        assert "service" not in found
        assert (
            await server.known(CONFIDENTIAL).token(grant_type="client_credentials")
        ).status == 200


@pytest.mark.rule("AS-91")
async def test_an_endpoint_that_is_switched_off_says_so_to_any_client() -> None:
    off = {"disabled": ["revoke", "par"]}
    registration = Registration(metadata_documents=False)
    async with deploy(
        allow_dynamic_registration=False, registration=registration, options=off
    ) as server:
        for path, word in (("/register", "ask its operator"), ("/revoke", "off"), ("/par", "off")):
            response = await server.call("POST", path, document={"redirect_uris": []})
            assert (response.status, response.json()["error"]) == (404, "not_found")
            assert word in response.json()["error_description"]
        preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
        response = await server.call("OPTIONS", "/register", headers=preflight)
        assert (response.status, response.header("access-control-allow-origin")) == (204, "*")


@pytest.mark.rule("AS-92")
async def test_where_documents_are_off_a_client_with_one_is_told_so() -> None:
    registration = Registration(metadata_documents=False)
    client_id = "https://app.example/client.json"
    async with deploy(registration=registration) as server:
        query = urlencode({"client_id": client_id, "redirect_uri": "https://app.example/cb"})
        page = await server.browser().send("GET", f"/authorize?{query}")
        text = page.body.decode()
        assert page.status == 400
        assert "This server reads no client metadata documents" in text
        assert "ask the operator" in text
        assert "add it again" not in text
        response = await server.token(grant_type="refresh_token", client_id=client_id)
        assert (response.status, response.json()["error"]) == (401, "invalid_client")
        assert "metadata documents" in response.json()["error_description"]
        assert server.reasons() == ["documents_off", "documents_off"]
