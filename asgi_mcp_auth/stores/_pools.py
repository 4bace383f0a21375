"""One pool of connections for each event loop, as a connection dies with its loop, and a fair queue
in front of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class Pools(Generic[T]):
    """The pools of the event loops that opened a store.

    The drivers' own queues let whoever has just given a connection back take it again before those
    who wait: under load some wait until they give up.

    Args:
        size: connections of each pool.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[T, asyncio.Semaphore]] = (
            WeakKeyDictionary()
        )

    def here(self) -> T | None:
        """Return the pool of the running event loop, ``None`` when it has none."""
        entry = self._pools.get(asyncio.get_running_loop())
        return None if entry is None else entry[0]

    def add(self, pool: T) -> None:
        """Remember the pool of the running event loop."""
        self._pools[asyncio.get_running_loop()] = (pool, asyncio.Semaphore(self.size))

    def remove(self) -> T | None:
        """Forget the pool of the running event loop and return it."""
        entry = self._pools.pop(asyncio.get_running_loop(), None)
        return None if entry is None else entry[0]

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[T | None]:
        """Wait, in turn, until the pool has a free connection, and yield it; ``None`` if there is
        no pool.
        """
        entry = self._pools.get(asyncio.get_running_loop())
        if entry is None:
            yield None
            return
        pool, places = entry
        async with places:
            yield pool
