"""Several processes on one store: one succeeds, and acknowledged writes are kept."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import time
from collections.abc import Iterator

import pytest

from asgi_mcp_auth import ConfigurationError, ServerUnavailable
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from tests.support.engines import (
    SHARED_ENGINES,
    Place,
    PostgreSQLServer,
    RedisServer,
    Server,
    fresh,
    shared_postgresql,
)
from tests.support.store_processes import Child, check, children

pytestmark = pytest.mark.asyncio


@pytest.fixture
def place(engine: str) -> Iterator[Place]:
    with fresh(engine) as place:
        yield place


# -------------------------------------------------------------------------------------------- races


async def races(place: Place, rounds: int) -> None:
    """Let two processes with 20 tasks each try the same, again and again."""
    store = place.store()
    await store.open()
    with children(2, place, "contend") as racers:

        def winners(line: str) -> int:
            for racer in racers:
                racer.tell(line)
            return sum(int(racer.hear()) for racer in racers)

        for number in range(rounds):
            assert winners(f"add {number}") == 1
            record = await store.get("race", f"{number}")
            assert record is not None
            assert winners(f"swap {number} {record.etag}") == 1
            assert winners(f"take {number}") == 1
            assert winners(f"take {number}") == 0
    await store.aclose()


@pytest.mark.case("S14")
@pytest.mark.parametrize("engine", SHARED_ENGINES)
async def test_of_two_processes_with_20_contenders_each_one_call_succeeds(place: Place) -> None:
    await races(place, 30)


@pytest.mark.case("S14")
@pytest.mark.soak
@pytest.mark.parametrize("engine", SHARED_ENGINES)
async def test_of_two_processes_with_20_contenders_each_one_call_succeeds_a_thousand_times(
    place: Place,
) -> None:
    await races(place, 1000)


@pytest.mark.case("S03")
@pytest.mark.parametrize("engine", SHARED_ENGINES)
async def test_two_processes_with_eight_writers_each_lose_no_increment(place: Place) -> None:
    store = place.store()
    await store.open()
    await store.put("count", "er", b"0")
    with children(2, place, "increment", 8, 10) as writers:
        for writer in writers:
            writer.tell("go")
        assert [writer.hear() for writer in writers] == ["done", "done"]
    record = await store.get("count", "er")
    await store.aclose()
    assert record is not None
    assert int(record.value) == 2 * 8 * 10


# -------------------------------------------------------------------------------------- first start


@pytest.mark.case("S15")
@pytest.mark.parametrize("engine", SHARED_ENGINES)
async def test_twelve_processes_that_open_a_new_store_at_once_all_succeed(place: Place) -> None:
    child = Child(place, "open", 12)
    try:
        assert json.loads(child.hear()) == [0] * 12
        assert child.process.wait(30) == 0
    finally:
        child.close()
    store = place.store()
    assert len(await store.scan("opened")) == 12


@pytest.mark.case("S15")
@pytest.mark.parametrize("engine", SHARED_ENGINES)
async def test_opening_again_changes_nothing(place: Place) -> None:
    store = place.store()
    for _ in range(2):
        await store.open()
        await store.add("ns", "key", b"1")
        await store.aclose()
    again = place.store()
    await again.open()
    assert await again.take("ns", "key") == b"1"
    await again.aclose()


# ------------------------------------------------------------------------------------------ crashes


async def worker_killed(store: EncryptedStore, place: Place, name: str) -> int:
    """Kill a process in the middle of its work, and check that the store has what it was told."""
    with children(1, place, "work", name) as (child,):
        await asyncio.sleep(random.uniform(0.02, 0.2))
        child.kill()
        return await check(store, child.rest())


async def workers_killed(place: Place, times: int) -> None:
    checked = 0
    for number in range(times):
        store = place.store()
        await store.open()
        checked += await worker_killed(store, place, f"w{number}")
        await store.aclose()
    assert checked > times


@pytest.mark.case("S01")
@pytest.mark.parametrize("engine", SHARED_ENGINES)
async def test_a_killed_worker_loses_nothing_that_was_acknowledged(place: Place) -> None:
    await workers_killed(place, 2)


@pytest.mark.case("S01")
@pytest.mark.soak
@pytest.mark.parametrize("engine", SHARED_ENGINES)
async def test_200_killed_workers_lose_nothing_that_was_acknowledged(place: Place) -> None:
    await workers_killed(place, 200)


async def engine_killed(server: Server, times: int) -> None:
    """Kill an engine in the middle of its work, start it again, and check that it has what it
    acknowledged.
    """
    place = Place("redis" if isinstance(server, RedisServer) else "postgresql", server.url)
    store = place.store()
    await store.open()
    lines: list[str] = []
    with children(1, place, "work", "w") as (child,):
        for _ in range(times):
            await asyncio.sleep(random.uniform(0.05, 0.3))
            server.kill()
            await asyncio.to_thread(server.start)
            back = time.monotonic()
            while await unavailable(store):
                assert time.monotonic() < back + 2, "the store did not come back within two seconds"
        child.kill()
        lines = child.rest()
    assert await check(store, lines) > times
    await store.aclose()


async def unavailable(store: EncryptedStore) -> bool:
    try:
        await store.get("ns", "key")
    except ServerUnavailable:
        await asyncio.sleep(0.02)
        return True
    return False


@pytest.mark.case("S01")
async def test_a_killed_redis_loses_nothing_that_it_acknowledged() -> None:
    with RedisServer(durable=True) as server:
        await engine_killed(server, 3)


@pytest.mark.case("S01", "S12")
async def test_a_killed_postgresql_loses_nothing_that_it_acknowledged() -> None:
    with PostgreSQLServer() as server:
        await engine_killed(server, 2)


@pytest.mark.case("S01")
@pytest.mark.soak
async def test_a_redis_killed_200_times_loses_nothing_that_it_acknowledged() -> None:
    with RedisServer(durable=True) as server:
        await engine_killed(server, 200)


@pytest.mark.case("S01")
@pytest.mark.soak
async def test_a_postgresql_killed_200_times_loses_nothing_that_it_acknowledged() -> None:
    with PostgreSQLServer() as server:
        await engine_killed(server, 200)


@pytest.mark.case("S02")
@pytest.mark.parametrize("engine", ["sqlite"])
async def test_sqlite_recovers_from_its_log_without_the_shared_memory_file(
    place: Place,
) -> None:
    with children(1, place, "work", "w") as (child,):
        await asyncio.sleep(0.3)
        child.kill()
        lines = child.rest()
    path = place.url.removeprefix("sqlite:///")
    assert os.stat(f"{path}-wal").st_size > 0
    os.unlink(f"{path}-shm")
    store = place.store()
    await store.open()
    assert await check(store, lines) > 0
    await store.aclose()


# ------------------------------------------------------------------------------------- newer schema


@pytest.mark.case("S15")
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_store_that_a_newer_version_made_is_refused(place: Place) -> None:
    store = place.store()
    await store.put("ns", "key", b"1")
    await store.open()
    await store.aclose()
    if place.engine == "sqlite":
        database = sqlite3.connect(place.url.removeprefix("sqlite:///"))
        database.execute("PRAGMA user_version = 99")
        database.close()
    else:
        shared_postgresql().query(f"UPDATE {place.name}.version SET number = 99")  # noqa: S608 (our own name)
    with pytest.raises(ConfigurationError, match="newer version of asgi-mcp-auth"):
        await place.store().open()
