"""Records changed by a person who can write to the database, or read with a wrong key."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from asgi_mcp_auth import ServerUnavailable
from asgi_mcp_auth.errors import UnreadableRecord
from asgi_mcp_auth.stores import Record, Store
from asgi_mcp_auth.stores.encrypted import CLOCK_SECONDS, EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import KEY, deploy
from tests.support.engines import Place, fresh

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    with fresh("sqlite") as place:
        yield place


def change(place: Place, statement: str, *values: object) -> None:
    """Change the rows of an SQLite store behind its back."""
    database = sqlite3.connect(Path(place.url.removeprefix("sqlite:///")))
    with database:
        database.execute(statement, values)
    database.close()


# --------------------------------------------------------------------------------- expiry and group


async def test_a_record_whose_expiry_was_moved_in_the_database_lives_no_longer(
    place: Place,
) -> None:
    clock = FrozenClock()
    store = place.store(clock=clock)
    for key in ("got", "taken"):
        await store.put("pushed", key, b"1", ttl=60)
    change(place, "UPDATE records SET exp = exp + 1000000")
    clock.advance(60 + CLOCK_SECONDS - 1)
    assert await store.get("pushed", "got") is not None
    clock.advance(1)
    assert await store.get("pushed", "got") is None
    assert await store.take("pushed", "taken") is None
    assert await store.scan("pushed") == []
    assert not store.unreadable


async def test_a_swap_writes_the_new_expiry_down_as_well(place: Place) -> None:
    clock = FrozenClock()
    store = place.store(clock=clock)
    await store.put("session", "k", b"1", ttl=10_000, group="alice")
    assert await store.swap("session", "k", await found(store, "session", "k"), b"2", ttl=60)
    change(place, "UPDATE records SET exp = NULL")
    clock.advance(60 + CLOCK_SECONDS)
    assert await store.get("session", "k") is None


@pytest.mark.case("S18")
@pytest.mark.parametrize("group", ["bob", "", None])
async def test_a_record_moved_to_another_group_is_unreadable_and_in_no_list(
    place: Place, group: str | None
) -> None:
    """Otherwise revoking what Alice has granted would miss a grant that goes on working, or end one
    of Bob's.
    """
    store = place.store()
    await store.put("grant", "k", b"Alice's", group="alice")
    await store.put("grant", "swapped", b"1", group="alice")
    assert await store.swap("grant", "swapped", await found(store, "grant", "swapped"), b"2")
    change(place, "UPDATE records SET grp = ?", None if group is None else group.encode())
    for key in ("k", "swapped"):
        with pytest.raises(UnreadableRecord):
            await store.get("grant", key)
    assert await store.scan("grant") == []
    assert await store.scan("grant", group="bob") == []
    assert store.unreadable["tampered"] >= 4


@pytest.mark.case("S10")
async def test_a_record_with_a_group_that_is_not_text_is_unreadable(place: Place) -> None:
    store = place.store()
    await store.put("grant", "k", b"Alice's", group="alice")
    change(place, "UPDATE records SET grp = ?", b"\xff")
    with pytest.raises(UnreadableRecord):
        await store.get("grant", "k")


@pytest.mark.case("S18")
async def test_a_record_without_group_cannot_be_moved_into_one(place: Place) -> None:
    store = place.store()
    await store.put("client", "k", b"1")
    change(place, "UPDATE records SET grp = ?", b"alice")
    assert await store.scan("client", group="alice") == []


async def test_records_of_the_first_versions_are_read_and_completed_when_written_again() -> None:
    engine = MemoryStore()
    store = EncryptedStore(engine, [KEY])
    # As EncryptedStore wrote it before expiry and group were in the value: KEY, kind "grant", key
    # "k", b"1".
    old = bytes.fromhex(
        "026ef6b37458d5d99a17063710fa876417a267f5400789ed98c032cf440a8b49398e811db4"
    )
    await engine.put("grant", "k", old, group="alice")
    record = await found(store, "grant", "k")
    assert (record.value, record.group) == (b"1", "alice")
    assert await store.swap("grant", "k", record, b"2")
    assert (await found(store, "grant", "k")).value == b"2"
    assert (await found(engine, "grant", "k")).value[:8] != old[:8]
    await engine.put("grant", "other", old)
    with pytest.raises(UnreadableRecord):
        await store.get("grant", "other")


async def found(store: Store, ns: str, key: str) -> Record:
    record = await store.get(ns, key)
    assert record is not None
    return record


# --------------------------------------------------------------------------------- a key is missing


@pytest.mark.case("S17")
async def test_with_a_wrong_key_clients_people_and_tokens_get_503() -> None:
    """Told "unknown client", clients throw their registration away; told invalid_grant, their
    tokens.
    """
    clock = FrozenClock()
    engine = MemoryStore(clock=clock)
    async with deploy(store=EncryptedStore(engine, [KEY], clock=clock), clock=clock) as server:
        client, browser = await server.register(), server.browser()
        tokens = (await client.redeem(await client.code(browser=browser))).json()
        url = client.authorization_url()
    wrong = EncryptedStore(engine, [secrets.token_urlsafe(32)], clock=clock)
    async with deploy(store=wrong, clock=clock) as server:
        refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        assert (await server.token(client_id=client.client_id, **refresh)).status == 503
        page = await server.browser().open(url)
        assert page.response.status == 503
        signed_in = server.browser()
        signed_in.cookies.update(browser.cookies)
        assert (
            await signed_in.open(f"{server.provider.base_url}/applications")
        ).response.status == 503
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 503
        with pytest.raises(ServerUnavailable):
            await server.provider.admin.get_client(client.client_id)
        assert server.reasons() == []
    async with deploy(store=EncryptedStore(engine, [KEY], clock=clock), clock=clock) as server:
        # the key is back
        assert (await server.token(client_id=client.client_id, **refresh)).status == 200


@pytest.mark.case("S17")
async def test_an_operator_whose_key_is_lost_can_start_over_in_the_same_place() -> None:
    clock = FrozenClock()
    engine = MemoryStore(clock=clock)
    async with deploy(store=EncryptedStore(engine, [KEY], clock=clock), clock=clock) as server:
        client, browser = await server.register(), server.browser()
        await client.redeem(await client.code(browser=browser))
    anew = EncryptedStore(engine, [secrets.token_urlsafe(32)], clock=clock)
    async with deploy(store=anew, clock=clock) as server:
        admin = server.provider.admin
        assert await admin.drop_unreadable() == 4  # a client, a consent, a grant, a session
        assert await admin.drop_unreadable() == 0
        await admin.rotate_keys(retire=True)
        page = await server.browser().open(client.authorization_url())
        assert (page.response.status, server.reasons()) == (400, ["unknown_client"])
        returning = server.browser()
        returning.cookies.update(browser.cookies)
        assert await (await server.register()).code(browser=returning)
