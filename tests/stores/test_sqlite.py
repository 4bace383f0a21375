"""SQLiteStore: damaged and read-only files, full disks, forks, threads."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from asgi_mcp_auth import ConfigurationError, ServerUnavailable
from asgi_mcp_auth.stores import Record
from asgi_mcp_auth.stores._sqlite_file import CHECKED_BYTES, MIGRATIONS, connect, version_of
from asgi_mcp_auth.stores.sqlite import SQLiteStore

pytestmark = pytest.mark.asyncio

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "auth.db")


def run(code: str, path: str, **settings: object) -> str:
    """Run code in a process of its own, with a ``store`` at ``path``, and return what it
    printed.
    """
    prelude = f"""
import asyncio, os, resource, sys
from asgi_mcp_auth import ServerUnavailable
from asgi_mcp_auth.stores.sqlite import SQLiteStore
store = SQLiteStore({path!r})
"""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", prelude + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        **settings,
    ).stdout


def content(path: str) -> bytes | None:
    file = Path(path)
    return file.read_bytes() if file.exists() else None


def overwrite(path: str, data: bytes, offset: int = 0, *, empty: bool = False) -> None:
    with open(path, "wb" if empty else "r+b") as file:
        file.seek(offset)
        file.write(data)


# -------------------------------------------------------------------------------------------- files


async def test_making_the_object_opens_nothing(path: str) -> None:
    SQLiteStore(path)
    assert content(path) is None


async def test_a_process_may_change_its_folder_before_the_file_is_opened(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("auth.db")
    monkeypatch.chdir("/")
    await store.put("ns", "key", b"1")
    assert await SQLiteStore(path).take("ns", "key") == b"1"


@pytest.mark.case("S05")
async def test_a_database_that_others_can_read_is_warned_about(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    os.close(os.open(path, os.O_CREAT, 0o644))
    store = SQLiteStore(path)
    await store.open()
    await store.aclose()
    assert f"chmod 600 {path}" in caplog.text


async def test_a_missing_folder_is_a_configuration_error_at_open_and_503_later(path: str) -> None:
    store = SQLiteStore(f"{path}/auth.db")
    with pytest.raises(ConfigurationError, match=r"the folder .* must exist"):
        await store.open()
    with pytest.raises(ServerUnavailable):
        await store.get("ns", "key")


async def test_the_database_of_another_program_is_left_alone(path: str) -> None:
    for statement in (
        "CREATE TABLE records (x)",
        "PRAGMA user_version = 1",
        "PRAGMA application_id = 5",
    ):
        overwrite(path, b"", empty=True)
        other = sqlite3.connect(path)
        other.execute(statement)
        other.commit()
        other.close()
        store = SQLiteStore(path)
        with pytest.raises(ConfigurationError, match="another program"):
            await store.open()
        with pytest.raises(ServerUnavailable):
            await store.put("ns", "key", b"1")


@pytest.mark.parametrize("statement", [1, 2, 3])
async def test_a_file_that_another_process_begins_while_it_is_looked_at_is_ours(
    path: str, statement: int
) -> None:
    """Twelve workers that start at once: each looks at the file in several statements."""
    begun: list[str] = []

    def begin(sql: str) -> None:
        begun.append(sql)
        if len(begun) == statement:
            connect(path).close()

    looking = sqlite3.connect(path, isolation_level=None)
    looking.set_trace_callback(begin)
    assert version_of(looking, path) in (0, len(MIGRATIONS))
    looking.set_trace_callback(None)
    assert version_of(looking, path) == len(MIGRATIONS)
    looking.close()
    assert len(begun) == 3


async def filled(path: str, size: int = 500) -> SQLiteStore:
    store = SQLiteStore(path)
    await store.open()
    await asyncio.gather(*(store.put("ns", f"{number:04}", b"x" * size) for number in range(500)))
    await store.aclose()
    return store


@pytest.mark.case("S04")
@pytest.mark.parametrize(("offset", "length"), [(0, 16), (0, 4096), (3 * 4096, 40 * 4096)])
async def test_a_damaged_file_is_a_configuration_error_at_open_and_503_later(
    path: str, offset: int, length: int
) -> None:
    store = await filled(path)
    overwrite(path, b"\xa5" * length, offset)
    with pytest.raises(ConfigurationError, match="damaged"):
        await store.open()
    outcomes: set[object] = set()
    for number in range(0, 500, 25):
        try:
            record = await store.get("ns", f"{number:04}")
            outcomes.add(record and record.value)
        except ServerUnavailable:
            outcomes.add("unavailable")
    assert "unavailable" in outcomes
    assert outcomes <= {"unavailable", b"x" * 500, None}


async def test_a_large_file_is_not_looked_through_at_each_start(path: str) -> None:
    store = await filled(path, 5_000)
    overwrite(path, b"\xa5" * 4096, 200 * 4096)
    with pytest.raises(ConfigurationError, match="damaged"):
        await store.open()
    os.truncate(path, CHECKED_BYTES + 4096)
    await store.open()
    await store.aclose()


async def test_a_folder_in_the_place_of_the_file_is_503(path: str) -> None:
    os.mkdir(path)
    store = SQLiteStore(path)
    await store.open()
    with pytest.raises(ServerUnavailable):
        await store.get("ns", "key")
    await store.aclose()


@pytest.mark.case("S04")
async def test_damage_while_the_file_is_open_is_unavailability_and_a_repair_is_noticed(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = await filled(path, 10_000)  # too much for SQLite's cache
    good = content(path)
    assert good is not None
    await store.open()
    overwrite(path, b"\xa5" * len(good))
    for _ in range(3):
        with pytest.raises(ServerUnavailable):
            await store.scan("ns", limit=1000)
    overwrite(path, good)
    assert len(await store.scan("ns", limit=1000)) == 500
    await store.aclose()
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.WARNING]
    assert "is unavailable" in caplog.messages[0]
    assert "is back" in caplog.messages[1]


@pytest.mark.case("S04")
async def test_a_full_disk_is_503_for_what_does_not_fit_and_half_of_nothing_is_kept(
    path: str,
) -> None:
    code = """
async def main():
    await store.open()
    await store.put("ns", "before", b"1")
    # this process's disk is full there
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    results = await asyncio.gather(
        *(store.put("ns", f"{number}", bytes(20_000)) for number in range(100)),
        return_exceptions=True,
    )
    assert {type(result) for result in results} <= {type(None), ServerUnavailable}, results
    refused = [number for number, result in enumerate(results) if result is not None]
    assert refused
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for number in range(100):
        assert (await store.get("ns", f"{number}") is None) == (number in refused), number
    assert (await store.get("ns", "before")).value == b"1"
    await store.put("ns", "after", b"1")
    await store.aclose()
    print("fine")
asyncio.run(main())
"""
    assert run(code, path) == "fine\n"


@pytest.mark.case("S04")
async def test_a_sweep_on_a_full_disk_gives_nothing_back_and_is_no_outage(path: str) -> None:
    code = """
async def main():
    await store.open()
    await asyncio.gather(*(store.put("ns", f"{number}", bytes(20_000)) for number in range(300)))
    await asyncio.gather(*(store.delete("ns", f"{number}") for number in range(300)))
    await store.put("ns", "stays", b"1")
    await store.aclose()
    await store.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))  # for the log, too
    for _ in range(3):
        assert await store.sweep() == 0
        assert (await store.get("ns", "stays")).value == b"1"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    size = os.path.getsize(store._path)
    await store.sweep()
    await store.aclose()
    print("smaller" if os.path.getsize(store._path) < size else "the same")
asyncio.run(main())
"""
    assert run(code, path) == "smaller\n"


@pytest.mark.case("S04")
@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
async def test_a_file_that_may_only_be_read_is_503_for_writes(tmp_path: Path) -> None:
    folder = tmp_path / "readable"
    folder.mkdir()
    await filled(str(folder / "auth.db"))
    for place in (tmp_path, *tmp_path.parents):
        if str(place).startswith("/tmp/"):  # noqa: S108 (where pytest keeps its folders, closed to others)
            place.chmod(0o755)
    (folder / "auth.db").chmod(0o644)
    code = """
os.setuid(65534)
async def main():
    await store.open()
    for call in (lambda: store.put("ns", "key", b"1"), lambda: store.take("ns", "0001")):
        try:
            await call()
        except ServerUnavailable:
            print("unavailable")
asyncio.run(main())
"""
    assert run(code, str(folder / "auth.db")) == "unavailable\nunavailable\n"
    again = SQLiteStore(str(folder / "auth.db"))
    assert await again.take("ns", "0001") == b"x" * 500


async def test_a_lock_that_is_held_for_a_while_is_waited_for(path: str) -> None:
    store = SQLiteStore(path)
    await store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.ensure_future(store.put("ns", "key", b"1"))
    await asyncio.sleep(0.3)
    assert not writing.done()
    other.execute("ROLLBACK")
    other.close()
    await writing
    await store.aclose()


# -------------------------------------------------------------------------------- threads and forks


async def test_a_fork_goes_on_with_a_connection_of_its_own(path: str) -> None:
    code = """
import warnings
# Python 3.12 and newer warn of forks beside threads
warnings.simplefilter("ignore", DeprecationWarning)
async def main(name):
    await store.open()
    await store.put("ns", name, b"1")
    await store.aclose()
async def leave_open(name):
    await store.open()
    await store.put("ns", name, b"1")
asyncio.run(leave_open("parent before"))
child = os.fork()
asyncio.run(main(f"{'parent' if child else 'child'} after"))
if child:
    assert os.waitpid(child, 0)[1] == 0
    print([key for key, _ in asyncio.run(store.scan("ns"))])
"""
    assert run(code, path) == "['child after', 'parent after', 'parent before']\n"


async def test_two_event_loops_share_a_store_and_closing_one_leaves_the_other_open(
    path: str,
) -> None:
    store = SQLiteStore(path)
    await store.open()

    async def elsewhere() -> None:
        await store.open()
        await asyncio.gather(*(store.put("ns", f"{number}", b"1") for number in range(50)))
        await store.aclose()

    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    await asyncio.gather(*(store.put("ns", f"{number}", b"2") for number in range(50, 100)))
    await asyncio.to_thread(thread.join)
    assert len(await store.scan("ns")) == 100
    await store.aclose()


async def test_an_event_loop_closed_during_its_request_disturbs_no_other(
    path: str,
) -> None:
    store = SQLiteStore(path)
    await store.open()

    async def leave() -> None:
        tasks = [asyncio.ensure_future(store.put("ns", f"{number}", b"1")) for number in range(100)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)

    thread = threading.Thread(target=lambda: asyncio.run(leave()))
    thread.start()
    thread.join()
    await store.put("ns", "key", b"1")
    assert await store.get("ns", "key") is not None
    await store.aclose()


async def test_a_store_that_is_forgotten_ends_its_thread(path: str) -> None:
    def running() -> int:
        return sum(thread.name == f"SQLiteStore {path}" for thread in threading.enumerate())

    store = SQLiteStore(path)
    await store.put("ns", "key", b"1")
    assert running() == 1
    del store
    gc.collect()
    deadline = time.monotonic() + 5
    while running():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# ------------------------------------------------------------------------------------- group commit


async def test_a_mistake_in_one_call_is_its_caller_s_alone(path: str) -> None:
    store = SQLiteStore(path)
    await store.open()
    results = await asyncio.gather(
        store.put("ns", "1", b"1"),
        store.swap("ns", "1", Record(b"", 2**70), b"2"),
        store.put("ns", "2", b"2"),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), OverflowError, type(None)]
    assert len(await store.scan("ns")) == 2
    await store.aclose()


async def test_calls_that_are_cancelled_while_they_wait_are_not_carried_out(path: str) -> None:
    store = SQLiteStore(path)
    await store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    first = asyncio.ensure_future(store.put("ns", "first", b"1"))
    await asyncio.sleep(0.05)
    waiting = [asyncio.ensure_future(store.put("ns", f"{number}", b"1")) for number in range(10)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    other.execute("ROLLBACK")
    other.close()
    await first
    assert [key for key, _ in await store.scan("ns")] == ["first"]
    await store.aclose()
