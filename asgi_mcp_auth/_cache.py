"""A bounded cache, and shared execution of slow work. The only module that imports cachetools."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import cachetools

T = TypeVar("T")


def token_digest(token: str) -> bytes:
    """Return the SHA-256 of a token: a cache key that is not a secret."""
    try:
        data = token.encode()
    except UnicodeEncodeError:  # a lone surrogate: invalid in a token, but not an error here
        data = token.encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).digest()


def token_id(token: str) -> str:
    """Return the name of a token in logs: the first 8 hex digits of its SHA-256."""
    return token_digest(token).hex()[:8]


class LRUCache(Generic[T]):
    """A bounded map that evicts the least recently used entries. Thread-safe.

    The reader checks the expiry of a value: caches with expiry stall when many entries expire at
    once.

    Args:
        maxsize: how many entries there may be.
        weigh: returns for how many entries a value counts; each is one by default.
    """

    __slots__ = ("_entries", "_lock", "_maxsize")

    def __init__(self, maxsize: int, weigh: Callable[[T], int] | None = None) -> None:
        self._maxsize = maxsize
        self._entries: cachetools.LRUCache[bytes, T] = cachetools.LRUCache(maxsize, weigh)
        self._lock = threading.Lock()

    def get(self, key: bytes) -> T | None:
        """Return the value, or ``None``."""
        try:
            return self._entries[key]
        except KeyError:  # also when another thread evicts the entry between look-up and touch
            return None

    def put(self, key: bytes, value: T) -> None:
        """Store ``value``, unless it outweighs the whole cache."""
        if self._maxsize:
            with self._lock:
                try:
                    self._entries[key] = value
                except ValueError:  # it outweighs all others together
                    self._entries.pop(key, None)

    def discard(self, key: bytes) -> None:
        """Remove a value, if it exists."""
        with self._lock:
            self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)


class SingleFlight(Generic[T]):
    """Runs some work at most once at a time per event loop; further callers wait for that run.

    The work is a task of its own, so that cancelling one caller does not affect the others.
    """

    __slots__ = ("_tasks", "_work")

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._tasks: dict[asyncio.AbstractEventLoop, asyncio.Task[T]] = {}

    @property
    def running(self) -> bool:
        """Whether the work is running on this event loop."""
        task = self._tasks.get(asyncio.get_running_loop())
        return task is not None and not task.done()

    def start(self) -> asyncio.Task[T]:
        """Start the work unless it is running, and return its task."""
        loop = asyncio.get_running_loop()
        task = self._tasks.get(loop)
        if task is None or task.done():
            task = self._tasks[loop] = loop.create_task(self._work())
            task.add_done_callback(lambda done: self._forget(loop, done))
        return task

    def _forget(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> None:
        if self._tasks.get(loop) is task:
            del self._tasks[loop]

    async def __call__(self) -> T:
        """Start the work unless it is running, and wait for its result."""
        return await asyncio.shield(self.start())

    async def aclose(self) -> None:
        """Cancel the work on this event loop and wait for its end."""
        if self.running:
            task = self.start()
            task.cancel()
            await asyncio.wait([task])
