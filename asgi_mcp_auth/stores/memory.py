"""Stores records in this process, for tests and for a single process whose data may be lost."""

from __future__ import annotations

import math
import threading
import time
from itertools import islice
from typing import NamedTuple

from ..types import Clock
from . import Record, new_etag
from ._sweeping import Horizon


class _Entry(NamedTuple):
    record: Record
    expires_at: float


class MemoryStore:
    """Stores records in a dictionary. Thread-safe.

    Args:
        clock: its wall clock decides which records have expired.
    """

    def __init__(self, *, clock: Clock = time) -> None:
        self._clock = clock
        self._horizon = Horizon(clock)
        self._entries: dict[str, dict[str, _Entry]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "MemoryStore()"

    async def open(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing: the records stay, for other event loops."""

    async def get(self, ns: str, key: str) -> Record | None:
        """Return the record, or ``None``."""
        entry = self._live(ns, key)
        return None if entry is None else entry.record

    async def put(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> None:
        """Write the record, replacing any other."""
        with self._lock:
            self._write(ns, key, value, ttl, group)

    async def add(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> bool:
        """Write the record if there is none; return whether this call wrote it."""
        with self._lock:
            if self._live(ns, key) is not None:
                return False
            self._write(ns, key, value, ttl, group)
            return True

    async def swap(
        self, ns: str, key: str, known: Record, value: bytes, *, ttl: float | None = None
    ) -> bool:
        """Replace the record if it is still ``known``; return whether it was. The group stays."""
        with self._lock:
            entry = self._live(ns, key)
            if entry is None or entry.record.etag != known.etag:
                return False
            self._write(ns, key, value, ttl, entry.record.group)
            return True

    async def take(self, ns: str, key: str) -> bytes | None:
        """Remove the record and return its value, to one caller only."""
        with self._lock:
            entry = self._live(ns, key)
            self._entries.get(ns, {}).pop(key, None)
            return None if entry is None else entry.record.value

    async def delete(self, ns: str, key: str) -> bool:
        """Remove the record; return whether there was one."""
        return await self.take(ns, key) is not None

    async def sweep(self, limit: int = 500) -> int:
        """Remove up to ``limit`` expired records, and return how many."""
        horizon = self._horizon.now()
        with self._lock:
            expired = (
                (ns, key)
                for ns, entries in self._entries.items()
                for key, entry in entries.items()
                if entry.expires_at <= horizon
            )
            removed = list(islice(expired, limit))
            for ns, key in removed:
                del self._entries[ns][key]
        return len(removed)

    async def scan(
        self, ns: str, *, group: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[tuple[str, Record]]:
        """Return up to ``limit`` records ordered by key, of one group or of all."""
        now = self._clock.time()
        with self._lock:
            found = [
                (key, entry.record)
                for key, entry in sorted(self._entries.get(ns, {}).items())
                if entry.expires_at > now
                and (group is None or entry.record.group == group)
                and (after is None or key > after)
            ]
        return found[:limit]

    def _live(self, ns: str, key: str) -> _Entry | None:
        entry = self._entries.get(ns, {}).get(key)
        return entry if entry is not None and entry.expires_at > self._clock.time() else None

    def _write(self, ns: str, key: str, value: bytes, ttl: float | None, group: str | None) -> None:
        expires_at = math.inf if ttl is None else self._clock.time() + ttl
        self._entries.setdefault(ns, {})[key] = _Entry(Record(value, new_etag(), group), expires_at)
