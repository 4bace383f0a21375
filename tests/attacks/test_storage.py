"""Attackers, clocks and accidents against a store, on every engine.

What one engine alone can suffer is tested in tests/stores, races and crashes of several processes
in tests/stores/test_processes.py, and the duties of every store in
asgi_mcp_auth/stores/contract.py.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from asgi_mcp_auth import ServerUnavailable
from asgi_mcp_auth.stores import Record, Store
from asgi_mcp_auth.stores.postgresql import PostgreSQLStore
from asgi_mcp_auth.stores.redis import RedisStore
from asgi_mcp_auth.stores.sqlite import SQLiteStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.engines import (
    ENGINES,
    SHARED_ENGINES,
    Place,
    PostgreSQLServer,
    RedisServer,
    fresh,
    shared_postgresql,
)
from tests.support.failing import FailingStore

pytestmark = pytest.mark.asyncio


@pytest.fixture
def place(engine: str) -> Iterator[Place]:
    with fresh(engine) as place:
        yield place


async def found(store: Store, ns: str, key: str) -> Record:
    record = await store.get(ns, key)
    assert record is not None
    return record


# ----------------------------------------------------------------------------------------- S06, S13


async def seconds_until_unavailable(call: Awaitable[object]) -> float:
    began = time.monotonic()
    with pytest.raises(ServerUnavailable):
        await call
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.case("S06", "S13")
async def test_engines_that_hang_are_503_within_five_seconds_and_fine_afterwards(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A stopped Redis, a PostgreSQL whose one connection waits for a lock, a stopped one, a locked
    SQLite file.
    """
    path = str(tmp_path_factory.mktemp("locked") / "auth.db")
    with RedisServer() as redis, PostgreSQLServer() as hanging, PostgreSQLServer() as locked:
        stores = [
            SQLiteStore(path),
            RedisStore(f"{redis.url}?max_connections=2"),
            PostgreSQLStore(hanging.url),
            PostgreSQLStore(f"{locked.url}?pool_size=1"),
        ]
        for store in stores:
            await store.open()
            await store.put("ns", "key", b"1")
        closing = PostgreSQLStore(hanging.url)
        await closing.open()
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        redis.signal(signal.SIGSTOP)
        hanging.stop_all()
        with locked.lock_rows("asgi_mcp_auth"):
            began = time.monotonic()
            *waits, _ = await asyncio.gather(
                *(
                    seconds_until_unavailable(store.put("ns", "key", b"2"))
                    for store in stores
                    for _ in range(100)
                ),
                closing.aclose(),
            )
            assert max(waits) < 15  # five, and what 400 of them on two busy cores take
            assert time.monotonic() - began < 20, "closing does not wait for a server that hangs"
        blocker.execute("ROLLBACK")
        blocker.close()
        redis.signal(signal.SIGCONT)
        hanging.continue_all()
        began = time.monotonic()
        for store in stores:
            await asyncio.gather(*(store.put("ns", "key", b"3") for _ in range(20)))
            assert (await found(store, "ns", "key")).value == b"3"
        assert time.monotonic() - began < 4.5
        for store in stores:
            await store.aclose()


@pytest.mark.case("S13")
@pytest.mark.parametrize("engine", ["redis", "postgresql"])
async def test_who_waits_for_a_connection_is_served_in_turn(place: Place) -> None:
    limits = {"redis": "&max_connections=2", "postgresql": "&pool_size=2"}
    store = Place(place.engine, place.url + limits[place.engine]).store().inner
    await store.open()
    done = [0] * 20

    async def work(number: int) -> None:
        while max(done) < 20:
            await store.get("ns", "key")
            done[number] += 1

    await asyncio.gather(*(store.get("ns", "key") for _ in range(20)))  # both connections are there
    await asyncio.gather(*map(work, range(20)))
    await store.aclose()
    assert min(done) >= 10, done


# ---------------------------------------------------------------------------------------------- S16


@pytest.mark.case("S16")
@pytest.mark.parametrize("engine", ENGINES)
async def test_a_dump_has_keys_and_groups_but_no_value(place: Place) -> None:
    store = place.store()
    values = [secrets.token_hex(16).encode() * size for size in (1, 40, 400)]
    for number, value in enumerate(values):
        await store.put("grant", f"key-{number}", value, group="alice")
        await store.put("grant", f"key-{number}", value, ttl=100, group="bob")
        assert await store.swap(
            "grant", f"key-{number}", await found(store, "grant", f"key-{number}"), value
        )
    await store.add("login", "taken", values[0])
    await store.take("login", "taken")
    dump = place.dump()
    assert b"key-0" in dump
    assert b"bob" in dump
    assert not any(value[:32] in dump for value in values)
    assert not any(key.encode() in dump for key in place.keys)
    await store.inner.put("grant", "clear", values[0])
    assert values[0] in place.dump(), "the dump shows what is there"


# ---------------------------------------------------------------------------------------------- S19


@pytest.mark.case("S19")
@pytest.mark.parametrize("engine", ["memory", "sqlite"])
@pytest.mark.parametrize("jump", [-3600, 3600, 1, -1])
async def test_a_clock_that_jumps_revives_nothing_that_was_used_or_removed(
    place: Place, jump: float
) -> None:
    clock = FrozenClock()
    store = place.store(clock=clock)
    for key in ("used", "taken", "deleted"):
        await store.put("code", key, b"pending", ttl=60)
    assert await store.swap("code", "used", await found(store, "code", "used"), b"used", ttl=60)
    await store.take("code", "taken")
    await store.delete("code", "deleted")
    clock.jump(jump)
    assert await store.get("code", "taken") is None
    assert await store.get("code", "deleted") is None
    used = await store.get("code", "used")
    assert (used and used.value) == (b"used" if jump < 60 else None)
    assert await store.add("code", "used", b"pending", ttl=60) is (used is None)
    clock.jump(-jump)
    for key in ("taken", "deleted"):
        assert await store.get("code", key) is None


@pytest.mark.case("S19")
@pytest.mark.parametrize("engine", ["memory", "sqlite"])
@pytest.mark.parametrize(("after", "there"), [(59.9, True), (60, False), (60.1, False)])
async def test_a_record_ends_at_the_second_that_it_was_given(
    place: Place, after: float, there: bool
) -> None:
    clock = FrozenClock()
    store = place.store(clock=clock)
    await store.put("code", "key", b"1", ttl=60)
    clock.advance(after)
    assert (await store.get("code", "key") is not None) is there
    assert (await store.take("code", "key") is not None) is there


# ----------------------------------------------------------------------------------------- S20, S21


async def seconds_of_a_look_up(store: Store, times: int) -> float:
    measured = []
    for number in range(times):
        began = time.perf_counter()
        assert await store.get("code", f"live-{number % 100}") is not None
        measured.append(time.perf_counter() - began)
    return statistics.median(measured)


def fill_with_expired(place: Place, count: int) -> None:
    """Put expired rows into the table, behind the store's back: a million calls take minutes."""
    if place.engine == "sqlite":
        database = sqlite3.connect(place.url.removeprefix("sqlite:///"))
        with database:
            database.executemany(
                "INSERT INTO records VALUES ('code', ?, ?, 1, ?, ?)",
                (
                    (b"dead-%d" % number, bytes(100), number / count, b"g")
                    for number in range(count)
                ),
            )
        database.close()
    else:
        shared_postgresql().query(
            f"INSERT INTO {place.name}.records "  # noqa: S608 (our own name)
            "SELECT 'code', ('dead-' || number)::bytea, decode(repeat('00', 100), "
            f"'hex'), 1, now() - interval '1 day', 'g' FROM generate_series(1, {count}) AS number"
        )


async def look_ups_beside_expired_rows(place: Place, count: int) -> tuple[float, float]:
    """Return what a look-up takes without and with expired rows, having swept some of them."""
    store = place.store()
    await store.open()
    for number in range(100):
        await store.put("code", f"live-{number}", b"1", ttl=3600, group="g")
    before = await seconds_of_a_look_up(store, 1000)
    fill_with_expired(place, count)
    after = await seconds_of_a_look_up(store, 1000)
    began = time.perf_counter()
    assert await store.sweep(500) == 500
    assert time.perf_counter() - began < 5, "a batch is small"
    swept = 500
    while removed := await store.sweep(5000):
        swept += removed
    assert swept == count
    assert len(await store.scan("code", group="g", limit=1000)) == 100
    await store.aclose()
    return before, after


@pytest.mark.case("S20")
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_expired_rows_are_removed_in_batches_and_live_ones_stay(place: Place) -> None:
    await look_ups_beside_expired_rows(place, 5_000)


@pytest.mark.case("S20")
@pytest.mark.soak
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_million_expired_rows_do_not_slow_look_ups_to_half(place: Place) -> None:
    before, after = await look_ups_beside_expired_rows(place, 1_000_000)
    assert after <= 2 * before, f"{before * 1e6:.0f} µs before, {after * 1e6:.0f} µs after"


async def seconds_to_redeem(store: Store, times: int) -> list[float]:
    measured = []
    for _ in range(times):
        key = secrets.token_hex(16)
        await store.put("code", key, bytes(300), ttl=60)
        began = time.perf_counter()
        assert await store.swap("code", key, await found(store, "code", key), bytes(300), ttl=60)
        measured.append(time.perf_counter() - began)
    return measured


@pytest.mark.case("S21")
@pytest.mark.soak
@pytest.mark.parametrize("engine", SHARED_ENGINES)
async def test_a_hundred_thousand_grants_do_not_slow_redeeming_to_half(engine: str) -> None:
    with fresh(engine) as empty_place, fresh(engine) as full_place:
        empty, full = empty_place.store(), full_place.store()
        await asyncio.gather(empty.open(), full.open())

        async def fill(part: int) -> None:
            for number in range(part, 100_000, 50):
                key, group = secrets.token_hex(16), f"user-{number % 10_000}"
                await full.put("grant", key, bytes(500), ttl=86_400, group=group)

        await asyncio.gather(*map(fill, range(50)))
        assert len(await full.scan("grant", group="user-5")) == 10
        measured: dict[Store, list[float]] = {empty: [], full: []}
        for _ in range(100):  # in turns: what else the machine does disturbs both
            for store in measured:
                measured[store] += await seconds_to_redeem(store, 50)
        await asyncio.gather(empty.aclose(), full.aclose())
    p99 = {store: statistics.quantiles(times, n=100)[98] * 1e6 for store, times in measured.items()}
    assert p99[full] <= 2 * p99[empty], f"{p99[empty]:.0f} µs empty, {p99[full]:.0f} µs full"


# ---------------------------------------------------------------------------------------------- S22


@pytest.mark.case("S22")
@pytest.mark.parametrize("engine", ENGINES)
async def test_a_key_of_a_mebibyte_is_a_key_or_503(place: Place) -> None:
    """Keys are hashes; forgetting to hash one leads to no other error."""
    store = place.store()
    key = secrets.token_hex(2**19)
    assert await store.get("client", key) is None
    try:
        await store.put("client", key, b"1", group=key)
    except ServerUnavailable:
        assert place.engine == "postgresql"
    else:
        assert (await found(store, "client", key)).value == b"1"
    await store.put("client", "other", b"1")
    assert await store.take("client", "other") == b"1"


# ---------------------------------------------------------------------------------------------- S23


@pytest.mark.case("S23")
@pytest.mark.parametrize("engine", ["redis", "postgresql"])
async def test_deployments_that_share_a_server_see_nothing_of_each_other(place: Place) -> None:
    own = place.store().inner
    others = []
    # the others keep for a while what has only just expired
    ttl = 0.01 if place.engine == "redis" else -100
    for suffix in ("1", "_", "r"):
        other = Place(place.engine, place.url + suffix).store().inner
        await other.put("ns", "key", suffix.encode(), ttl=ttl, group="g")
        await other.put("ns", "stays", suffix.encode(), group="g")
        others.append(other)
    assert await own.get("ns", "stays") is None
    assert await own.scan("ns") == []
    assert await own.scan("ns", group="g") == []
    assert await own.take("ns", "stays") is None
    assert await own.add("ns", "stays", b"own") is True
    await asyncio.sleep(0.02)
    assert await own.sweep() == 0
    for other, suffix in zip(others, ("1", "_", "r"), strict=True):
        assert (await found(other, "ns", "stays")).value == suffix.encode()
        assert await other.sweep() == 1


# ----------------------------------------------------------------------------------------- S24, S25


@pytest.mark.slow
@pytest.mark.case("S24")
@pytest.mark.parametrize("engine", ENGINES)
async def test_calls_cancelled_at_any_moment_leave_whole_records_and_no_connection_behind(
    place: Place,
) -> None:
    limits = {"redis": "&max_connections=2", "postgresql": "&pool_size=2"}
    store = Place(place.engine, place.url + limits.get(place.engine, "")).store().inner
    await store.open()
    generator = random.Random(24)
    calls: tuple[Callable[[str, Record], Awaitable[object]], ...] = (
        lambda key, known: store.get("ns", key),
        lambda key, known: store.put("ns", key, b"new", group="g"),
        lambda key, known: store.add("ns", f"{key} added", b"new", group="g"),
        lambda key, known: store.swap("ns", key, known, b"new"),
        lambda key, known: store.take("ns", key),
        lambda key, known: store.scan("ns", group="g"),
    )
    for number in range(150):
        key = f"{number}"
        await store.put("ns", key, b"old", group="g")
        known = await found(store, "ns", key)
        task = asyncio.ensure_future(calls[number % len(calls)](key, known))
        await asyncio.sleep(generator.uniform(0, 0.002))
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert not isinstance(result, ServerUnavailable), (
            "the connection of a cancelled call was used again"
        )
        record = await store.get("ns", key)
        assert record is None or record.value in (b"old", b"new")
        if record is None or isinstance(result, bytes):
            assert number % len(calls) == 4
        if record is not None and record.value == b"new":
            assert record.etag != known.etag
            assert await store.swap("ns", key, known, b"newer") is False
    assert all(record.value in (b"old", b"new") for _, record in await store.scan("ns", limit=1000))
    await store.aclose()


@pytest.mark.case("S25")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("engine", ["memory"])
async def test_the_failing_store_fails_where_it_is_told_to(place: Place, when: str) -> None:
    inner = place.store()
    store = FailingStore(inner, 2, when="after" if when == "after" else "before")
    assert isinstance(store, Store)
    await store.open()
    await store.put("ns", "key", b"1")
    with pytest.raises(ServerUnavailable):
        await store.take("ns", "key")
    assert (await inner.get("ns", "key") is None) is (when == "after")
    assert await store.add("ns", "other", b"1") is True
    assert store.calls == [("put", "ns", "key"), ("take", "ns", "key"), ("add", "ns", "other")]
    store.for_good = True
    for call in (
        store.get("ns", "x"),
        store.put("ns", "x", b""),
        store.swap("ns", "x", Record(b"", 1), b""),
        store.delete("ns", "x"),
        store.sweep(),
        store.scan("ns"),
    ):
        with pytest.raises(ServerUnavailable):
            await call
    await store.aclose()
