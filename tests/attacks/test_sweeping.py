"""Sweeping frees expired records and their space, and survives a clock that jumps."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from asgi_mcp_auth.stores import _sqlite_file
from asgi_mcp_auth.stores._sweeping import JUMP_SECONDS, SETTLED_SECONDS, Horizon
from asgi_mcp_auth.stores.sqlite import SQLiteStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.engines import Place, fresh, shared_postgresql
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "auth.db")


# ------------------------------------------------------------------------------------------- clocks


@pytest.mark.case("S19")
@rows("engine", ["memory", "sqlite"])
@rows("jump", [3_600, 86_400])
async def test_a_jump_of_the_wall_clock_removes_nothing_for_good(engine: str, jump: int) -> None:
    clock = FrozenClock()
    with fresh(engine) as place:
        store = place.store(clock=clock)
        await store.put("grant", "k", b"1", ttl=jump - 600, group="alice")
        clock.jump(jump)
        assert await store.get("grant", "k") is None
        for _ in range(10):
            assert await store.sweep() == 0
            clock.advance(60)
        clock.jump(-jump)
        assert await store.get("grant", "k") is not None
        assert await store.sweep() == 0
        await store.aclose()


@pytest.mark.case("S19")
async def test_a_jump_of_postgresqls_clock_removes_no_record_that_is_live_here() -> None:
    with fresh("postgresql") as place:
        store = place.store()
        await store.put("grant", "k", b"1", ttl=3_600)
        # What its now() says cannot be changed, so the function gets another definition in front of
        # it.
        schema = place.name
        shared_postgresql().query(
            f"CREATE FUNCTION {schema}.now() RETURNS timestamptz LANGUAGE sql AS "
            "$$SELECT pg_catalog.now() + interval '1 day'$$"
        )
        jumped = Place("postgresql", f"{place.url}&search_path={schema},pg_catalog", name=schema)
        jumped.keys = place.keys
        other = jumped.store()
        assert await other.get("grant", "k") is None, "its clock has jumped"
        assert await other.sweep() == 0
        assert await store.get("grant", "k") is not None


@pytest.mark.case("S19")
@rows(
    ("jump", "passed", "removes"),
    [
        (0, 0, True),
        (JUMP_SECONDS, 0, True),
        (JUMP_SECONDS + 1, 0, False),
        (JUMP_SECONDS + 1, SETTLED_SECONDS - 1, False),
        (JUMP_SECONDS + 1, SETTLED_SECONDS, True),
        (-86_400, 0, True),
    ],
)
async def test_after_a_jump_forward_nothing_is_removed_for_an_hour(
    jump: float, passed: float, removes: bool
) -> None:
    clock = FrozenClock()
    horizon = Horizon(clock)
    clock.advance(1_000_000)
    assert horizon.now() == clock.time() - JUMP_SECONDS
    clock.jump(jump)
    horizon.now()
    clock.advance(passed)
    assert (horizon.now() == clock.time() - JUMP_SECONDS) is removes


async def test_what_has_only_just_expired_stays_for_as_long_as_a_clock_may_err(path: str) -> None:
    clock = FrozenClock()
    store = SQLiteStore(path, clock=clock)
    await store.put("ns", "k", b"1", ttl=10)
    clock.advance(10 + JUMP_SECONDS - 1)
    assert await store.sweep() == 0
    clock.advance(1)
    assert await store.sweep() == 1
    await store.aclose()


# -------------------------------------------------------------------------------------------- space


async def flood(store: SQLiteStore, clock: FrozenClock, records: int = 8_000) -> None:
    for start in range(0, records, 500):  # a call may take five seconds, the wait for others too
        numbers = range(start, start + 500)
        await asyncio.gather(
            *(store.put("transaction", f"{each}", bytes(1_000), ttl=600) for each in numbers)
        )
    await store.put("grant", "stays", b"1")
    clock.advance(700)


@pytest.mark.slow
async def test_sqlite_gives_the_space_of_a_flood_back(path: str) -> None:
    clock = FrozenClock()
    store = SQLiteStore(path, clock=clock)
    await flood(store, clock)
    sweeps = 0
    while await store.sweep():
        sweeps += 1
    assert sweeps == 16
    for _ in range(8):
        await store.sweep()  # nothing has expired any more, and space is still given back
    await store.aclose()  # which brings what is in the log to the file
    assert size_of(path) <= (_sqlite_file.SPARE_PAGES + 64) * 4096
    assert await store.get("grant", "stays") is not None
    await store.aclose()


@pytest.mark.slow
@pytest.mark.case("S20")
async def test_one_sweep_gives_back_no_more_than_takes_some_milliseconds(path: str) -> None:
    clock = FrozenClock()
    store = SQLiteStore(path, clock=clock)
    await flood(store, clock)
    await store.sweep(100_000)
    pages = pages_of(path)
    await store.sweep()
    # SQLite keeps one page in a thousand for what it knows of the others.
    assert _sqlite_file.GIVEN_PAGES <= pages - pages_of(path) <= _sqlite_file.GIVEN_PAGES + 2
    await store.aclose()


@pytest.mark.slow
async def test_the_log_of_a_flood_does_not_stay_on_the_disk(path: str) -> None:
    clock = FrozenClock()
    store = SQLiteStore(path, clock=clock)
    reader = sqlite3.connect(path)
    await store.put("ns", "k", b"1")
    reader.execute("BEGIN")
    # who reads keeps the log from being used again
    reader.execute("SELECT count(*) FROM records").fetchone()
    await flood(store, clock)
    assert size_of(f"{path}-wal") > 2 * _sqlite_file.LOG_BYTES
    reader.rollback()
    for number in range(3):
        await store.put("ns", f"{number}", b"1")
    assert size_of(f"{path}-wal") <= _sqlite_file.LOG_BYTES
    reader.close()
    await store.aclose()


async def test_a_small_file_of_an_earlier_version_learns_to_shrink_and_loses_nothing(
    path: str,
) -> None:
    write_as_before(path, 100)
    store = SQLiteStore(path)
    assert await store.get("ns", "99") is not None
    await store.aclose()
    assert auto_vacuum_of(path) == 2
    assert os.stat(path).st_mode & 0o077 == 0


async def test_a_large_file_of_an_earlier_version_stays_and_the_log_says_how_to_shrink_it(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_as_before(path, _sqlite_file.CONVERTED_BYTES // 10_000 + 100)
    store = SQLiteStore(path)
    with caplog.at_level("INFO"):
        assert await store.get("ns", "99") is not None
    assert await store.sweep() == 0
    await store.aclose()
    assert auto_vacuum_of(path) == 0
    assert "VACUUM" in caplog.text


async def test_a_file_that_another_process_is_busy_with_is_used_as_it_is(path: str) -> None:
    write_as_before(path, 100)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM records").fetchone()
    store = SQLiteStore(path)
    assert await store.get("ns", "99") is not None
    other.rollback()
    other.close()
    await store.aclose()


def write_as_before(path: str, records: int) -> None:
    """Make a file as the first versions made it."""
    os.close(os.open(path, os.O_CREAT, 0o600))
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    for statement in filter(str.strip, _sqlite_file.MIGRATIONS[0].split(";")):
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {_sqlite_file.APPLICATION_ID}")
    database.execute("PRAGMA user_version = 1")
    database.executemany(
        "INSERT INTO records VALUES ('ns', ?, ?, 1, NULL, NULL)",
        ((f"{number}".encode(), bytes(10_000)) for number in range(records)),
    )
    database.close()


def size_of(path: str) -> int:
    return os.path.getsize(path)


def pages_of(path: str) -> int:
    return int(asked(path, "PRAGMA page_count"))


def auto_vacuum_of(path: str) -> int:
    return int(asked(path, "PRAGMA auto_vacuum"))


def asked(path: str, question: str) -> int:
    database = sqlite3.connect(path)
    (answer,) = database.execute(question).fetchone()
    database.close()
    return int(answer)
