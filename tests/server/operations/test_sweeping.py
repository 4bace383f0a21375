"""Sweeping: expired records are removed after answers, as fast as they accumulate."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Message, make_scope
from tests.support.authorization_server import KEY, Server, deploy
from tests.support.failing import FailingStore
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio


def swept(store: FailingStore) -> int:
    return len([call for call in store.calls if call[0] == "sweep"])


@rows(("passed", "sweeps"), [(0, 0), (59, 0), (60, 1), (3600, 1)])
async def test_it_is_swept_once_a_minute_at_most(passed: float, sweeps: int) -> None:
    clock = FrozenClock()
    store = FailingStore(MemoryStore(clock=clock))
    async with deploy(store=EncryptedStore(store, [KEY]), clock=clock) as server:
        clock.advance(passed)
        for _ in range(3):
            await server.call("POST", "/token", form={})
        assert swept(store) == sweeps


async def test_it_is_swept_when_the_answer_is_out() -> None:
    clock = FrozenClock()
    order: list[str] = []

    class Watched(MemoryStore):
        async def sweep(self, limit: int = 500) -> int:
            order.append("sweep")
            return await super().sweep(limit)

    async with deploy(store=EncryptedStore(Watched(clock=clock), [KEY]), clock=clock) as server:
        clock.advance(60)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            order.append(message["type"])

        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        await server.app(make_scope("http", "POST", "/token", headers), receive, send)
    assert order == ["http.response.start", "http.response.body", "sweep"]


async def test_a_store_that_fails_meanwhile_breaks_no_answer() -> None:
    clock = FrozenClock()
    store = FailingStore(MemoryStore(clock=clock))
    async with deploy(store=EncryptedStore(store, [KEY]), clock=clock) as server:
        clock.advance(60)
        store.fail_at = len(store.calls) + 1
        assert (await server.call("POST", "/token", form={})).status == 401
        assert (store.calls[-1][0], swept(store)) == ("sweep", 1)


async def records(server: Server) -> int:
    inner: Any = server.provider.store.inner
    return sum(len(kind) for kind in inner._entries.values())


async def test_everything_that_a_day_leaves_behind_is_gone_some_time_later() -> None:
    """Unused registrations, transactions, pushed requests, codes, sessions, counters, grants,
    consents.
    """
    async with deploy(
        store=EncryptedStore(MemoryStore(clock=(clock := FrozenClock())), [KEY]), clock=clock
    ) as server:
        for number in range(5):
            client = await server.register()
            await server.browser().open(client.authorization_url())
            await client.sign_in(f"user-{number}")
        before = await records(server)
        clock.advance(200 * 86_400)
        for _ in range(5):
            await server.call("POST", "/token", form={})
            clock.advance(60)
        assert before > 30
        assert await records(server) == 1  # the signing keys
