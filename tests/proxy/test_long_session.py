"""Four workers as one proxy: long sessions, short lifetimes, an unreliable upstream."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from tests.proxy.proxy_workers import APP, STALE
from tests.proxy.upstreams.proxies import UPSTREAMS, known_of
from tests.proxy.upstreams.upstream import Upstream
from tests.support.asgi import Response
from tests.support.authorization_server import Browser, ClientOf, answer_of
from tests.support.engines import free_port, fresh
from tests.support.products import some_of
from tests.support.workers import Worker, workers

pytestmark = pytest.mark.asyncio

Four = Sequence[Worker]
UPSTREAM_SECONDS = 1
ROUND_SECONDS = 0.9  # an upstream token is due after 0.8 of them


@asynccontextmanager
async def four_workers(engine: str, name: str) -> AsyncIterator[tuple[Four, Any]]:
    """Start an upstream, and four processes that are the proxy before it."""
    port = free_port()
    lifetime = (
        {"expires_in": UPSTREAM_SECONDS}
        if name == "github"
        else {"access_seconds": UPSTREAM_SECONDS}
    )
    callback = f"http://127.0.0.1:{port}/{engine}/auth/callback"
    async with UPSTREAMS[name](callback=callback, **lifetime) as upstream:
        with ExitStack() as stack:
            place = stack.enter_context(fresh(engine))
            more = {"upstream": known_of(upstream), "access_seconds": 2}
            started = stack.enter_context(
                workers(4, {engine: place}, app=APP, port=port, more=more)
            )
            yield started[engine], upstream


@dataclass
class Session:
    """A client of a signed-in person; each request goes to another worker.

    Attributes:
        told_to_wait: how often it was told to try again.
        refreshing: held by the call that refreshes, as clients do that use each refresh token
            once.
    """

    client: ClientOf
    four: Four
    tokens: dict[str, Any]
    told_to_wait: int = 0
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def begin(cls, four: Four, upstream: Upstream) -> Session:
        """Sign a person in, through both hops."""
        client = await four[0].register()
        browser = Browser(four[1])
        page = await browser.open(client.authorization_url(scope="mcp:read offline_access"))
        page = await browser.submit(page, action="approve")
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            callback = await upstream.sign_in(http, page.url)
        browser.server = four[2]
        code = answer_of((await browser.open(callback)).url)["code"]
        response = await replace(client, server=four[3]).redeem(code)
        assert response.status == 200, response.body
        return cls(client, four, response.json())

    async def refresh(self, worker: Worker) -> None:
        """Get new tokens; an answer that says so is asked for again, everything else is the end of
        the session.
        """
        client = replace(self.client, server=worker)
        response = await self._again(lambda: client.refresh(self.tokens["refresh_token"]))
        assert response.status == 200, response.body
        self.tokens = response.json()

    async def call(self, worker: Worker) -> str:
        """Call the tool; return who the upstream says that it was called by."""

        def ask() -> Awaitable[Response]:
            return worker.call("POST", "/mcp", bearer=self.tokens["access_token"])

        tokens = self.tokens
        response = await self._again(ask)
        # our own has expired while the upstream's was asked for again and again
        if response.status == 401:
            async with self.refreshing:
                if self.tokens is tokens:  # no other call has refreshed meanwhile
                    await self.refresh(worker)
            response = await self._again(ask)
        assert response.status == 200, (response.status, response.body)
        document = response.json()
        return str(document.get("login") or document["sub"])

    async def _again(self, ask: Callable[[], Awaitable[Response]]) -> Response:
        for _ in range(20):
            response = await ask()
            if response.status not in (503, STALE):
                break
            self.told_to_wait += 1
            assert response.header("retry-after") is not None
            await asyncio.sleep(0.1)
        return response


async def live(session: Session, rounds: int, user: str) -> None:
    """Refresh so often, and call the tool at all workers at once each time, when the upstream's
    token is due.
    """
    turns = itertools.cycle(session.four)
    for _ in range(rounds):
        await asyncio.gather(asyncio.sleep(ROUND_SECONDS), session.refresh(next(turns)))
        assert (
            await asyncio.gather(*(session.call(worker) for worker in session.four)) == [user] * 4
        )


async def stay_in(engine: str, name: str, rounds: int, clients: int) -> None:
    async with four_workers(engine, name) as (four, upstream):
        sessions = await asyncio.gather(*(Session.begin(four, upstream) for _ in range(clients)))
        await upstream.fail_one_refresh_in(10)
        user = "alice" if name == "github" else "id-of-alice"
        await asyncio.gather(*(live(each, rounds, user) for each in sessions))
        requests = await upstream.requests()
        refreshes = await upstream.refreshes()
        assert await upstream.reused() == set()
        assert len(requests) - len(refreshes) == clients, "somebody had to sign in again"
        assert len(refreshes) >= clients * rounds
        assert sum(each.injected for each in refreshes) == len(refreshes) // 10
        assert {each.status for each in requests if not each.injected} == {200}


@pytest.mark.case("P12", "P13")
@pytest.mark.rule("PX-11")
@pytest.mark.parametrize("engine", some_of(["postgresql", "redis"], "postgresql"))
async def test_a_few_refreshes_on_both_legs_end_no_session(engine: str) -> None:
    await stay_in(engine, "certified", rounds=4, clients=4)


@pytest.mark.case("P12", "P13")
@pytest.mark.rule("PX-11")
@pytest.mark.soak
@pytest.mark.parametrize("name", ["certified", "github"])
@pytest.mark.parametrize("engine", ["postgresql", "redis"])
async def test_fifty_refreshes_on_both_legs_end_no_session(engine: str, name: str) -> None:
    await stay_in(engine, name, rounds=50, clients=6)
