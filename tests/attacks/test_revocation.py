"""Revocation takes effect at once, even on a full disk or with a failing store, and is final."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from asgi_mcp_auth.errors import ServerUnavailable
from asgi_mcp_auth.server.browser.records import SESSIONS
from asgi_mcp_auth.server.browser.sessions import SEEN_SECONDS
from asgi_mcp_auth.server.grants.records import GRANTS
from asgi_mcp_auth.stores import store_from_url
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import KEY, WEB_REDIRECT_URI, ClientOf, Server, deploy
from tests.support.failing import FailingStore, FullStore, HeldStore
from tests.support.rows import rows
from tests.support.token_endpoint import assert_refused, is_alive

pytestmark = [pytest.mark.asyncio, pytest.mark.case("V75")]

Ending = Callable[[Server, ClientOf, dict[str, Any]], Awaitable[Any]]


async def by_client(server: Server, client: ClientOf, tokens: dict[str, Any]) -> None:
    form = {"client_id": client.client_id, "token": tokens["refresh_token"]}
    response = await server.call("POST", "/revoke", form=form)
    if response.status != 200:
        raise ServerUnavailable


async def by_person(server: Server, client: ClientOf, tokens: dict[str, Any]) -> None:
    """Alice's browser has been signed in for a while: that she was seen again wants to be written
    down.
    """
    browser = server.browser()
    page = await browser.sign_in(
        await browser.open(f"{server.provider.base_url}/applications"), username="alice"
    )
    server.clock.advance(SEEN_SECONDS)
    engine: Any = server.provider.store.inner
    engine.full = True
    page = await browser.open(page.url)
    assert page.response.status == 200, page.text
    (number,) = [
        number
        for number, (_, inputs) in enumerate(page.forms)
        if inputs.get("client_id") == client.client_id
    ]
    await browser.submit(page, number=number)


ENDINGS: dict[str, Ending] = {
    "the client": by_client,
    "the person": by_person,
    "the operator": lambda server, client, tokens: server.provider.admin.revoke_person("alice"),
    "the operator, for one client": lambda server, client, tokens: (
        server.provider.admin.revoke_client("alice", client.client_id)
    ),
    "the client that goes": lambda server, client, tokens: server.provider.admin.delete_client(
        client.client_id
    ),
}


@asynccontextmanager
async def full() -> AsyncIterator[tuple[Server, FullStore]]:
    """Run a server on a store that can be full."""
    clock = FrozenClock()
    store = FullStore(MemoryStore(clock=clock))
    async with deploy(store=EncryptedStore(store, [KEY]), clock=clock) as server:
        yield server, store


@rows("who", ENDINGS)
async def test_what_is_revoked_on_a_full_disk_is_dead_in_every_process_and_after_a_restart(
    who: str,
) -> None:
    async with full() as (server, store):
        client = await server.register()
        tokens = await client.sign_in()
        if who != "the person":
            store.full = True
        await ENDINGS[who](server, client, tokens)
        assert not await is_alive(server, tokens["access_token"])
        assert "grant_revoked" in {event.action for event in server.events}
        store.full = False
        async with deploy(store=EncryptedStore(store.inner, [KEY]), clock=server.clock) as other:
            assert not await is_alive(other, tokens["access_token"])
            there = ClientOf(other, client.information, client.verifier)
            refused = await there.refresh(tokens["refresh_token"])
            assert refused.json()["error"] in ("invalid_grant", "invalid_client")


async def test_a_code_on_its_way_is_worth_nothing_once_its_person_is_out_on_a_full_disk() -> None:
    """Nothing says that its grant has ended, so the code itself goes."""
    async with full() as (server, store):
        client = await server.register()
        code = await client.code()
        store.full = True
        await server.provider.admin.revoke_person("alice")
        store.full = False
        assert_refused(await client.redeem(code), "invalid_grant")


async def test_a_grant_that_begins_while_it_is_revoked_on_a_full_disk_does_not_begin() -> None:
    """Its code is used, the grant is not there yet, and there is room again when it wants to be."""
    clock = FrozenClock()
    held = HeldStore(MemoryStore(clock=clock))
    store = FullStore(held)
    async with deploy(store=EncryptedStore(store, [KEY]), clock=clock) as server:
        client = await server.register()
        code = await client.code()
        held.hold = ("add", GRANTS.name)
        redeeming = asyncio.create_task(client.redeem(code))
        await held.arrived.wait()
        store.full = True
        await server.provider.admin.revoke_person("alice")
        store.full = False
        held.go.set()
        assert_refused(await redeeming, "invalid_grant")
        assert await server.provider.store.scan(GRANTS.name) == []


async def test_a_replay_on_a_full_disk_ends_the_grant() -> None:
    async with full() as (server, store):
        client = await server.register()
        code = await client.code()
        tokens = (await client.redeem(code)).json()
        server.clock.advance(30)
        store.full = True
        assert_refused(await client.redeem(code), "invalid_grant")
        assert not await is_alive(server, tokens["access_token"])
        store.full = False
        assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_grant")


async def test_a_revocation_during_an_outage_holds_here_and_has_to_be_repeated() -> None:
    clock = FrozenClock()
    store = FailingStore(MemoryStore(clock=clock), for_good=True)
    async with deploy(store=EncryptedStore(store, [KEY]), clock=clock) as server:
        client = await server.register()
        tokens = await client.sign_in()
        ((grant_id, _),) = [each async for each in server.provider.admin.grants()]
        assert await is_alive(server, tokens["access_token"])
        store.fail_at = len(store.calls) + 1
        with pytest.raises(ServerUnavailable):
            await server.provider.admin.revoke_grant(grant_id)
        store.fail_at = 0
        assert not await is_alive(server, tokens["access_token"])
        assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_grant")
        assert await server.provider.admin.revoke_grant(grant_id)


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_a_failed_revocation_does_not_report_success_when_repeated(
    kind: str,
) -> None:
    """In this process the grant is dead already; everywhere else it is alive until the store has
    been told.
    """

    class Broken(FailingStore):
        down = False

        async def _call(self, work: Callable[[], Awaitable[Any]], *call: str) -> Any:
            if self.down and call[0] != "get" and call[1].startswith(GRANTS.name):
                raise ServerUnavailable
            return await super()._call(work, *call)

    clock = FrozenClock()
    store = Broken(MemoryStore(clock=clock))
    async with deploy(store=EncryptedStore(store, [KEY]), clock=clock) as server:
        client = await server.register()
        tokens = await client.sign_in()
        form = {"client_id": client.client_id, "token": tokens[kind]}
        store.down = True
        for _ in range(2):
            assert (await server.call("POST", "/revoke", form=form)).status == 503
        store.down = False
        assert (await server.call("POST", "/revoke", form=form)).status == 200
        async with deploy(store=EncryptedStore(store.inner, [KEY]), clock=clock) as other:
            assert not await is_alive(other, tokens["access_token"])
        revoked = [each for each in server.events if each.action == "grant_revoked"]
        assert len(revoked) == 1
        assert (await server.call("POST", "/revoke", form=form)).status == 200
        assert revoked == [each for each in server.events if each.action == "grant_revoked"]


@pytest.mark.parametrize("verb", ["delete", "scan"])
async def test_a_person_s_grants_end_before_anything_else_of_theirs_is_touched(verb: str) -> None:
    """Sessions and consents come afterwards: what goes wrong with them leaves no grant alive."""

    class Broken(FailingStore):
        async def _call(self, work: Callable[[], Awaitable[Any]], *call: str) -> Any:
            if self.for_good and call[0] == verb and call[1].startswith((SESSIONS.name, "consent")):
                raise ServerUnavailable
            return await super()._call(work, *call)

    clock = FrozenClock()
    store = Broken(MemoryStore(clock=clock))
    async with deploy(store=EncryptedStore(store, [KEY]), clock=clock) as server:
        for end in (server.provider.admin.revoke_person, server.provider.admin.revoke_client):
            client = await server.register()
            tokens = await client.sign_in()
            store.for_good = True
            arguments = (
                ("alice",)
                if end == server.provider.admin.revoke_person
                else ("alice", client.client_id)
            )
            try:
                await end(*arguments)
            except ServerUnavailable:
                pass
            else:
                assert verb != "scan" or len(arguments) == 2
            store.for_good = False
            assert not await is_alive(server, tokens["access_token"])


async def test_what_begins_while_a_person_is_thrown_out_ends_as_well() -> None:
    """They are still signed in in a browser when their grants end, and let an application in at
    that moment.
    """
    clock = FrozenClock()
    held = HeldStore(MemoryStore(clock=clock))
    async with deploy(store=EncryptedStore(held, [KEY]), clock=clock) as server:
        client, browser = await server.register(redirect_uris=[WEB_REDIRECT_URI]), server.browser()
        await client.redeem(await client.code(browser=browser))
        held.hold = ("scan", SESSIONS.name)
        leaving = asyncio.create_task(server.provider.admin.revoke_person("alice"))
        await held.arrived.wait()
        tokens = (await client.redeem(await client.code(browser=browser))).json()
        held.go.set()
        assert await leaving == 2
        assert not await is_alive(server, tokens["access_token"])


async def test_what_begins_while_a_person_takes_an_application_back_ends_as_well() -> None:
    """Their consent is still there when the grants end, and lets the application in at that
    moment.
    """
    clock = FrozenClock()
    held = HeldStore(MemoryStore(clock=clock))
    async with deploy(store=EncryptedStore(held, [KEY]), clock=clock) as server:
        client, browser = await server.register(redirect_uris=[WEB_REDIRECT_URI]), server.browser()
        await client.redeem(await client.code(browser=browser))
        held.hold = ("delete", "consent")
        leaving = asyncio.create_task(
            server.provider.admin.revoke_client("alice", client.client_id)
        )
        await held.arrived.wait()
        tokens = (await client.redeem(await client.code(browser=browser))).json()
        held.go.set()
        assert await leaving == 2
        assert not await is_alive(server, tokens["access_token"])


async def test_a_database_that_may_not_grow_lets_grants_end(tmp_path: Path) -> None:
    """SQLite at its limit of pages, which is where a quota of its own would stop it."""
    clock = FrozenClock()
    store = store_from_url(f"sqlite:///{tmp_path}/auth.db", clock=clock)
    async with deploy(store=store, clock=clock) as server:
        client = await server.register()
        tokens = [await client.sign_in() for _ in range(3)]
        engine: Any = server.provider.store.inner
        await engine._submit(
            lambda db: db.execute("PRAGMA max_page_count = 1").fetchall(), writes=False
        )
        with suppress(ServerUnavailable):
            for number in range(1000):
                await store.put("filler", str(number), b"x" * 1000)
        assert await store.get("filler", "999") is None
        # The connection is reopened after a failure, and the limit is the connection's.
        await engine._submit(
            lambda db: db.execute("PRAGMA max_page_count = 1").fetchall(), writes=False
        )
        await by_client(server, client, tokens[0])
        assert not await is_alive(server, tokens[0]["access_token"])
        assert await server.provider.admin.revoke_person("alice") == 2
        for each in tokens:
            assert not await is_alive(server, each["access_token"])
