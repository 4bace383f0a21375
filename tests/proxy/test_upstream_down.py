"""The identity provider is down or hangs: sign-ins get an error, sessions go on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect

from asgi_mcp_auth import get_upstream_token
from tests.browser.stage import stage
from tests.interop.deployment import Ahead
from tests.proxy.upstreams.proxies import UPSTREAMS, proxy_for
from tests.proxy.upstreams.upstream import ask, bearer
from tests.support.asgi import Receive, Response, Scope, Send, Spy
from tests.support.authorization_server import (
    BASE_URL,
    Browser,
    ClientOf,
    Server,
    answer_of,
    deploy,
)
from tests.support.engines import free_port

pytestmark = pytest.mark.asyncio

UPSTREAM_SECONDS = 300
"""How long the access tokens of the upstream live."""


class Tool(Spy):
    """Asks the identity provider who its caller is."""

    def __init__(self) -> None:
        super().__init__()
        self.userinfo_url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        response = await ask(
            self.userinfo_url, "GET", headers=bearer(await get_upstream_token(scope))
        )
        await send({"type": "http.response.start", "status": response.status_code, "headers": []})
        await send({"type": "http.response.body", "body": response.content})


@dataclass
class World:
    """A proxy and its upstream.

    Attributes:
        server: the proxy.
        upstream: on the real clock.
        clock: the proxy's, which can be put forward.
    """

    server: Server
    upstream: Any
    clock: Ahead

    async def consented(self, client: ClientOf) -> tuple[Browser, str]:
        """Consent; return the browser, and where it is sent then."""
        browser = self.server.browser()
        page = await browser.open(client.authorization_url())
        assert page.url.startswith(f"{BASE_URL}/consent?"), page.url
        return browser, (await browser.submit(page, action="approve")).url

    async def sign_in(self, client: ClientOf) -> dict[str, Any]:
        """Sign alice in; return the token response."""
        browser, url = await self.consented(client)
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            callback = await self.upstream.sign_in(http, url)
        response = await client.redeem(answer_of((await browser.open(callback)).url)["code"])
        assert response.status == 200, response.body
        tokens: dict[str, Any] = response.json()
        return tokens

    async def call(self, tokens: dict[str, Any]) -> Response:
        """Call the tool."""
        return await self.server.call("POST", "/mcp", bearer=tokens["access_token"])


@asynccontextmanager
async def world(name: str, *, tool: bool = True) -> AsyncIterator[World]:
    lifetime = {"expires_in" if name == "github" else "access_seconds": UPSTREAM_SECONDS}
    async with UPSTREAMS[name](callback=f"{BASE_URL}/auth/callback", **lifetime) as upstream:
        kind, settings = proxy_for(upstream)
        spy = Tool() if tool else Spy()
        if isinstance(spy, Tool):
            spy.userinfo_url = upstream.userinfo_endpoint
        clock: Any = Ahead()
        async with deploy(kind=kind, spy=spy, clock=clock, **settings) as server:
            yield World(server, upstream, clock)


def is_alice(response: Response) -> bool:
    assert response.status == 200, (response.status, response.body)
    document = json.loads(response.body)
    return "alice" in (document.get("login"), document.get("email", "").partition("@")[0])


# --------------------------------------------------------------------------------------- signing in


@pytest.mark.rule("PX-09")
@pytest.mark.parametrize("name", ["certified", "glewlwyd"])
async def test_who_signs_in_while_nothing_is_known_of_an_upstream_that_is_down_is_told_so(
    name: str,
) -> None:
    async with world(name) as here:
        client = await here.server.register()
        await here.upstream.down()
        _, url = await here.consented(client)
        answer = answer_of(url)
        assert (answer["error"], answer["state"], answer["iss"]) == (
            "temporarily_unavailable",
            "the-state",
            BASE_URL,
        )
        await here.upstream.up()
        here.clock.seconds += 1.1  # it does not look again at once
        assert is_alice(await here.call(await here.sign_in(client)))


@pytest.mark.rule("PX-09")
@pytest.mark.parametrize("name", UPSTREAMS)
async def test_who_comes_back_from_an_upstream_that_is_down_by_then_is_told_so(
    name: str,
) -> None:
    async with world(name) as here:
        client = await here.server.register()
        browser, url = await here.consented(client)
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            callback = await here.upstream.sign_in(http, url)
        await here.upstream.down()
        answer = answer_of((await browser.open(callback)).url)
        assert (answer["error"], answer["state"], answer["iss"]) == (
            "temporarily_unavailable",
            "the-state",
            BASE_URL,
        )
        await here.upstream.up()
        assert is_alice(await here.call(await here.sign_in(client)))


@pytest.mark.asyncio(loop_scope="session")
async def test_a_person_whose_application_shows_nothing_finds_out_at_the_proxy_itself(
    chromium: Chromium,
) -> None:
    """Who only wants to see their applications is sent to the identity provider too, and there is
    no client to tell.
    """
    port = free_port()
    async with UPSTREAMS["certified"](
        callback=f"http://localhost:{port}/auth/callback"
    ) as upstream:
        kind, settings = proxy_for(upstream)
        await upstream.down()  # before the proxy has seen any metadata
        async with stage(
            chromium, kind=kind, port=port, options={"clock": time}, **settings
        ) as scene:
            page = await scene.page()
            await page.goto(f"{scene.base_url}/applications")
            await expect(
                page.get_by_text("The identity provider cannot be reached at the moment")
            ).to_be_visible()
            await scene.check(page, "proxy-upstream-down")


# --------------------------------------------------------------------------------- those who are in


@pytest.mark.parametrize("name", UPSTREAMS)
async def test_requests_with_live_tokens_go_on_while_the_upstream_is_down(name: str) -> None:
    async with world(name, tool=False) as here:
        client = await here.server.register()
        tokens = await here.sign_in(client)
        await here.upstream.down()
        assert (await here.call(tokens)).status == 200
        # So does a refresh, as long as the upstream's token lives: the upstream does not need to be
        # asked.
        refreshed = await client.refresh(tokens["refresh_token"])
        assert refreshed.status == 200, refreshed.body
        assert (await here.call(refreshed.json())).status == 200


@pytest.mark.case("P12")
@pytest.mark.parametrize("name", UPSTREAMS)
async def test_a_refresh_that_needs_a_dead_upstream_is_postponed_and_no_session_ends(
    name: str,
) -> None:
    async with world(name) as here:
        client = await here.server.register()
        tokens = await here.sign_in(client)
        await here.upstream.down()
        here.clock.seconds += UPSTREAM_SECONDS
        for _ in range(3):
            refused = await client.refresh(tokens["refresh_token"])
            assert (refused.status, refused.json()["error"]) == (503, "temporarily_unavailable")
            assert refused.header("retry-after") is not None
            refused = await here.call(tokens)
            assert (refused.status, refused.json()["error"]) == (503, "temporarily_unavailable")
        await here.upstream.up()
        here.clock.seconds += int(refused.header("retry-after") or "")
        refreshed = await client.refresh(tokens["refresh_token"])
        assert refreshed.status == 200, refreshed.body
        assert is_alice(await here.call(refreshed.json()))
        actions = [event.action for event in here.server.events]
        assert (actions.count("signed_in"), actions.count("grant_revoked")) == (1, 0)


@pytest.mark.case("P22")
@pytest.mark.parametrize("name", ["certified", "github"])
async def test_who_signs_out_while_the_upstream_is_down_is_signed_out(name: str) -> None:
    async with world(name, tool=False) as here:
        client = await here.server.register()
        tokens = await here.sign_in(client)
        await here.upstream.down()
        form = {"token": tokens["refresh_token"], "client_id": client.client_id}
        assert (await here.server.call("POST", "/revoke", form=form)).status == 200
        assert (await here.call(tokens)).status == 401
        assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"


# --------------------------------------------------------------------------------- one that is slow


@pytest.mark.rule("PX-11")
async def test_a_tool_call_abandoned_during_a_slow_refresh_ends_no_session() -> None:
    """MCP clients cancel calls. The refresh token has been used by then, and what came for it may
    not get lost.
    """
    async with world("certified") as here:
        client = await here.server.register()
        tokens = await here.sign_in(client)
        here.clock.seconds += UPSTREAM_SECONDS
        await here.upstream.delay("/token", 0.5)
        call = asyncio.ensure_future(here.call(tokens))
        while not await here.upstream.refreshes():  # noqa: ASYNC110 (in another process)
            await asyncio.sleep(0.02)
        call.cancel()
        await asyncio.wait([call])
        await asyncio.sleep(0.5)
        await here.upstream.delay("/token", 0)
        answers = [await here.call(tokens) for _ in range(3)]
        assert await here.upstream.reused() == set()
        assert all(is_alice(answer) for answer in answers)


@pytest.mark.case("P14")
async def test_a_hanging_upstream_holds_a_tool_no_longer_than_a_few_seconds() -> None:
    async with world("certified") as here:
        client = await here.server.register()
        tokens = await here.sign_in(client)
        here.clock.seconds += UPSTREAM_SECONDS
        await here.upstream.delay("/token", 20)
        began = time.monotonic()
        assert (await here.call(tokens)).status == 503
        assert time.monotonic() - began < 15
