"""SQLiteStore: one file, no server, several processes of one host. The default.

One thread has the one connection. What is asked of it while a transaction is on its way to the disk
waits, and goes into the next transaction together: each verb is atomic in itself and acknowledged
after the commit that holds it.
"""

from __future__ import annotations

import asyncio
import math
import os
import queue
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import ConfigurationError
from ..types import Clock
from . import Record, group_of, new_etag
from ._outage import TIMEOUT_SECONDS, EngineOutage
from ._sqlite_file import check, connect, give_space_back
from ._sweeping import Horizon

T = TypeVar("T")

_BATCH = 128


class SQLiteStore:
    """Keeps records in a file, mode 0600. Every write is on the disk (``synchronous=FULL``) before
    it is acknowledged.

    Making the object opens nothing, and a process that forks goes on with a connection of its own.

    Args:
        path: of the database; its folder exists. Made when it is first used.
        clock: its wall clock decides what has expired.
    """

    _worker: _Worker | None

    def __init__(self, path: str, *, clock: Clock = time) -> None:
        self._path = os.path.abspath(path)  # daemons change their working directory
        self._clock = clock
        self._horizon = Horizon(clock)
        self._outage = EngineOutage(repr(self))
        self._opened = 0
        self._forget_worker()

    def __repr__(self) -> str:
        return f"SQLiteStore({self._path!r})"

    async def open(self) -> None:
        """Open the file, make or migrate its tables, and look for damage unless it is large.

        Raises:
            ConfigurationError: no folder, no permission, a damaged file, one of another program or
                a newer version.
        """
        self._opened += 1
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._submit(lambda db: check(db, self._path), writes=False)
        except (sqlite3.Error, OSError) as error:
            self._outage.failed(error)
        except ConfigurationError:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close the file, unless another event loop has it open."""
        self._opened = max(0, self._opened - 1)
        if self._opened:
            return
        with self._lock:
            worker = self._worker
            self._worker = None
        if worker is not None:
            await worker.aclose()

    async def get(self, ns: str, key: str) -> Record | None:
        """Return the record, ``None`` when there is none."""
        row = await self._call(
            lambda db: db.execute(
                "SELECT value, etag, grp FROM records WHERE ns = ? AND key = ? AND (exp IS NULL OR"
                " exp > ?)",
                (ns, _blob(key), self._clock.time()),
            ).fetchone(),
            writes=False,
        )
        return None if row is None else Record(row[0], row[1], group_of(row[2]))

    async def put(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> None:
        """Write the record, whether or not there was one."""
        await self._call(lambda db: self._write(db, ns, key, value, ttl, group, math.inf))

    async def add(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> bool:
        """Write the record if there is none; return whether this call wrote it."""
        return await self._call(
            lambda db: self._write(db, ns, key, value, ttl, group, self._clock.time())
        )

    async def swap(
        self, ns: str, key: str, known: Record, value: bytes, *, ttl: float | None = None
    ) -> bool:
        """Replace the version that was read; return whether it was still that one. The group
        stays.
        """

        def verb(db: sqlite3.Connection) -> bool:
            now = self._clock.time()
            return _changes(
                db,
                "UPDATE records SET value = ?, etag = ?, exp = ? "
                "WHERE ns = ? AND key = ? AND etag = ? AND (exp IS NULL OR exp > ?)",
                (
                    value,
                    new_etag(),
                    None if ttl is None else now + ttl,
                    ns,
                    _blob(key),
                    known.etag,
                    now,
                ),
            )

        return await self._call(verb)

    async def take(self, ns: str, key: str) -> bytes | None:
        """Remove the record and return its value; of several callers one gets it."""

        def verb(db: sqlite3.Connection) -> bytes | None:
            where = (ns, _blob(key))
            row = db.execute(
                "SELECT value, exp FROM records WHERE ns = ? AND key = ?", where
            ).fetchone()
            if row is None:
                return None
            db.execute("DELETE FROM records WHERE ns = ? AND key = ?", where)
            value: bytes = row[0]
            return value if row[1] is None or row[1] > self._clock.time() else None

        return await self._call(verb)

    async def delete(self, ns: str, key: str) -> bool:
        """Remove the record; return whether there was one."""
        return await self.take(ns, key) is not None

    async def sweep(self, limit: int = 500) -> int:
        """Remove expired records, at most ``limit``, and return how many. Gives space back to the
        disk.
        """
        statement = (
            "DELETE FROM records WHERE (ns, key) IN (SELECT ns, key FROM records WHERE exp <= ?"
            " LIMIT ?)"
        )
        values = (self._horizon.now(), limit)
        removed = await self._call(lambda db: db.execute(statement, values).rowcount)
        await self._call(give_space_back, writes=False)  # in no transaction but its own
        return removed

    async def scan(
        self, ns: str, *, group: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[tuple[str, Record]]:
        """Return up to ``limit`` records in the order of their keys, those of one group or all."""
        where, values = "ns = ? AND (exp IS NULL OR exp > ?)", [ns, self._clock.time()]
        if group is not None:
            where, values = f"{where} AND grp = ?", [*values, _blob(group)]
        if after is not None:
            where, values = f"{where} AND key > ?", [*values, _blob(after)]
        rows = await self._call(
            lambda db: db.execute(
                f"SELECT key, value, etag, grp FROM records WHERE {where} ORDER BY key LIMIT ?",  # noqa: S608 (only constants)
                (*values, limit),
            ).fetchall(),
            writes=False,
        )
        return [
            (key.decode("utf-8", "surrogatepass"), Record(value, etag, group_of(group)))
            for key, value, etag, group in rows
        ]

    def _write(
        self,
        db: sqlite3.Connection,
        ns: str,
        key: str,
        value: bytes,
        ttl: float | None,
        group: str | None,
        replace_until: float,
    ) -> bool:
        """Write the record unless there is one that expires later than ``replace_until``."""
        expires_at = None if ttl is None else self._clock.time() + ttl
        return _changes(
            db,
            "INSERT INTO records (ns, key, value, etag, exp, grp) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (ns, key) DO UPDATE SET "
            "value = excluded.value, etag = excluded.etag, exp = excluded.exp, grp = excluded.grp "
            "WHERE coalesce(records.exp, 9e999) <= ?",  # 9e999: infinity
            (
                ns,
                _blob(key),
                value,
                new_etag(),
                expires_at,
                None if group is None else _blob(group),
                replace_until,
            ),
        )

    async def _call(self, verb: Callable[[sqlite3.Connection], T], *, writes: bool = True) -> T:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                result = await self._submit(verb, writes=writes)
        except (sqlite3.Error, OSError, ConfigurationError) as error:
            raise self._outage.failed(error) from None
        self._outage.recovered()
        return result

    def _submit(
        self, verb: Callable[[sqlite3.Connection], T], *, writes: bool
    ) -> asyncio.Future[T]:
        if self._pid != os.getpid():
            self._forget_worker()
        with self._lock:
            if self._worker is None or not self._worker.is_alive():
                self._worker = _Worker(self._path)
                weakref.finalize(self, self._worker.stop)
            return self._worker.submit(verb, writes)

    def _forget_worker(self) -> None:
        # A fork has neither the parent's thread nor, perhaps, a free lock. The connection stays
        # where it is, in the frame of a thread that does not run here: closing it would end the
        # parent's file locks.
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._worker = None


@dataclass(slots=True)
class _Job:
    verb: Callable[[sqlite3.Connection], Any]
    writes: bool
    future: asyncio.Future[Any]
    result: Any = field(default=None, repr=False)
    error: Exception | None = None

    def run(self, db: sqlite3.Connection) -> None:
        """Run the verb: at most one statement in it changes anything, so it happens or it does
        not.
        """
        try:
            self.result = self.verb(db)
        # the caller's mistake, and nobody else's
        except (TypeError, ValueError, OverflowError) as error:
            self.error = error


class _Worker:
    """The thread, and the queue in front of it. Knows no store, so that one that is forgotten can
    stop it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # A daemon: what it has not acknowledged may be lost when the process ends, and nothing
        # else.
        self._thread = threading.Thread(target=self._run, name=f"SQLiteStore {path}", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, verb: Callable[[sqlite3.Connection], T], writes: bool) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(verb, writes, future))
        return future

    def stop(self) -> None:
        """Let the thread finish what it has got, close the file and end."""
        self._jobs.put(None)

    async def aclose(self) -> None:
        """Stop, and wait for the end."""
        self.stop()
        await asyncio.to_thread(self._thread.join, TIMEOUT_SECONDS)

    def _run(self) -> None:
        db: sqlite3.Connection | None = None
        going_on = True
        while going_on:
            jobs, going_on = self._wait()
            try:
                if db is None and jobs:
                    db = connect(self._path)
                if db is not None:
                    _execute(db, jobs)
            except (sqlite3.Error, OSError, ConfigurationError) as error:
                _deliver(jobs, error)
                # a connection that is opened anew knows nothing of what happened to this one
                if db is not None:
                    db.close()
                    db = None
            jobs.clear()  # they know their store, which may be forgotten while the thread waits
        if db is not None:
            db.close()

    def _wait(self) -> tuple[list[_Job], bool]:
        """Return what there is to do, in the order it came, and whether more may come."""
        jobs: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            if not job.future.cancelled():  # else nobody waits for it
                jobs.append(job)
            if len(jobs) == _BATCH:
                return jobs, True
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, True
        return jobs, False


def _execute(db: sqlite3.Connection, jobs: list[_Job]) -> None:
    """Run what reads, then what writes, in one transaction.

    Nothing of it has been acknowledged when it was asked for, so nobody can tell the order.
    """
    reading, writing = ([job for job in jobs if job.writes is writes] for writes in (False, True))
    for job in reading:
        job.run(db)
    _deliver(reading)  # all at once: waking the event loop costs more than most reads
    if writing:
        db.execute("BEGIN IMMEDIATE")
        for job in writing:
            job.run(db)
        db.execute("COMMIT")
        _deliver(writing)


def _deliver(jobs: list[_Job], error: Exception | None = None) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        job.error = error or job.error
        by_loop.setdefault(job.future.get_loop(), []).append(job)
    for loop, theirs in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_wake, theirs)


def _wake(jobs: list[_Job]) -> None:
    """Hand the results over, on the event loop of those who wait."""
    for job in jobs:
        if job.future.done():  # cancelled meanwhile, or read before the batch failed
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)


def _changes(db: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> bool:
    return db.execute(statement, values).rowcount > 0


def _blob(text: str) -> bytes:
    # Bytes, because SQLite's text ends at a NUL for some of its functions, and knows no lone
    # surrogates.
    return text.encode("utf-8", "surrogatepass")
