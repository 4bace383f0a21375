"""Stores records in an SQLite file, for several processes on one host. The default.

One thread owns the one connection. Operations that arrive while a transaction is being written to
disk go into the next transaction together. Each is atomic and is acknowledged after its commit.
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
    """Stores records in a file with mode 0600.

    Every write is on the disk (``synchronous=FULL``) before it is acknowledged. The constructor
    opens nothing, and a forked process continues with its own connection.

    Args:
        path: path of the database, in an existing folder. It is created at its first use.
        clock: its wall clock decides which records have expired.
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
        """Open the file, create or migrate its tables, and check a file that is not large.

        Raises:
            ConfigurationError: no folder, no permission, a damaged file, or one of another program
                or a newer version.
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
        """Return the record, or ``None``."""
        row = await self._call(
            lambda db: db.execute(
                "SELECT value, etag, grp FROM records"
                " WHERE ns = ? AND key = ? AND (exp IS NULL OR exp > ?)",
                (ns, _blob(key), self._clock.time()),
            ).fetchone(),
            writes=False,
        )
        return None if row is None else Record(row[0], row[1], group_of(row[2]))

    async def put(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> None:
        """Write the record, replacing any other."""
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
        """Replace the record if it is still ``known``; return whether it was. The group stays."""

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
        """Remove the record and return its value, to one caller only."""

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
        """Remove up to ``limit`` expired records, and return how many. Frees disk space."""
        statement = (
            "DELETE FROM records WHERE (ns, key) IN (SELECT ns, key FROM records WHERE exp <= ?"
            " LIMIT ?)"
        )
        values = (self._horizon.now(), limit)
        removed = await self._call(lambda db: db.execute(statement, values).rowcount)
        await self._call(give_space_back, writes=False)  # needs a transaction of its own
        return removed

    async def scan(
        self, ns: str, *, group: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[tuple[str, Record]]:
        """Return up to ``limit`` records ordered by key, of one group or of all."""
        where = "ns = ? AND (exp IS NULL OR exp > ?)"
        values: list[Any] = [ns, self._clock.time()]
        if group is not None:
            where += " AND grp = ?"
            values.append(_blob(group))
        if after is not None:
            where += " AND key > ?"
            values.append(_blob(after))
        values.append(limit)
        statement = (
            f"SELECT key, value, etag, grp FROM records WHERE {where}"  # noqa: S608 (constants)
            " ORDER BY key LIMIT ?"
        )
        rows = await self._call(lambda db: db.execute(statement, values).fetchall(), writes=False)
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
        """Write the record unless one exists that expires after ``replace_until``."""
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
        # A fork has no thread, and the lock may be held. The connection stays in the frame of the
        # parent's thread: closing it here would release the parent's file locks.
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
        """Run the operation, in which at most one statement changes anything."""
        try:
            self.result = self.verb(db)
        # The caller's mistake, which must not fail the other jobs.
        except (TypeError, ValueError, OverflowError) as error:
            self.error = error


class _Worker:
    """A thread and its queue.

    It has no reference to the store, so that it ends when the store is garbage-collected.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # A daemon: only unacknowledged operations are lost when the process ends.
        self._thread = threading.Thread(target=self._run, name=f"SQLiteStore {path}", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, verb: Callable[[sqlite3.Connection], T], writes: bool) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(verb, writes, future))
        return future

    def stop(self) -> None:
        """Let the thread finish its jobs, close the file and end."""
        self._jobs.put(None)

    async def aclose(self) -> None:
        """Stop the thread and wait for its end."""
        self.stop()
        await asyncio.to_thread(self._thread.join, TIMEOUT_SECONDS)

    def _run(self) -> None:
        db: sqlite3.Connection | None = None
        is_running = True
        while is_running:
            jobs, is_running = self._wait()
            try:
                if db is None and jobs:
                    db = connect(self._path)
                if db is not None:
                    _execute(db, jobs)
            except (sqlite3.Error, OSError, ConfigurationError) as error:
                _deliver(jobs, error)
                # Start over with a new connection: the state of this one is unknown.
                if db is not None:
                    db.close()
                    db = None
            jobs.clear()  # they refer to the store, which may be collected while the thread waits
        if db is not None:
            db.close()

    def _wait(self) -> tuple[list[_Job], bool]:
        """Return the next jobs in order, and whether more may come."""
        jobs: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            if not job.future.cancelled():
                jobs.append(job)
            if len(jobs) == _BATCH:
                return jobs, True
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, True
        return jobs, False


def _execute(db: sqlite3.Connection, jobs: list[_Job]) -> None:
    """Run the jobs that read, then those that write, in one transaction.

    All of them are pending at the same time, so their order does not matter.
    """
    reading = [job for job in jobs if not job.writes]
    writing = [job for job in jobs if job.writes]
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
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_wake, theirs)


def _wake(jobs: list[_Job]) -> None:
    """Set the results, on the event loop of the callers."""
    for job in jobs:
        if job.future.done():  # cancelled, or read before the batch failed
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)


def _changes(db: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> bool:
    return db.execute(statement, values).rowcount > 0


def _blob(text: str) -> bytes:
    # Bytes: for some SQLite functions a text ends at a NUL, and text has no lone surrogates.
    return text.encode("utf-8", "surrogatepass")
