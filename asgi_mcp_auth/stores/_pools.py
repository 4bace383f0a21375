"""A connection pool for each event loop, because a connection dies with its loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class Pools(Generic[T]):
    """The pools of the event loops that have opened a store, each with a fair queue.

    The drivers' own queues let a task that has just released a connection take it again before
    those that wait: under load some wait until they time out.

    Args:
        size: number of connections in each pool.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[T, asyncio.Semaphore]] = (
            WeakKeyDictionary()
        )

    def here(self) -> T | None:
        """Return the pool of the running event loop, or ``None``."""
        entry = self._pools.get(asyncio.get_running_loop())
        return None if entry is None else entry[0]

    def add(self, pool: T) -> None:
        """Set the pool of the running event loop."""
        self._pools[asyncio.get_running_loop()] = (pool, asyncio.Semaphore(self.size))

    def remove(self) -> T | None:
        """Remove the pool of the running event loop and return it."""
        entry = self._pools.pop(asyncio.get_running_loop(), None)
        return None if entry is None else entry[0]

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[T | None]:
        """Wait in turn until the pool has a free connection, and yield it, or ``None``."""
        entry = self._pools.get(asyncio.get_running_loop())
        if entry is None:
            yield None
            return
        pool, slots = entry
        async with slots:
            yield pool
