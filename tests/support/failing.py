"""Stores that fail or are slow when a test wants it: before a call reaches the engine, or after it
was carried out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from asgi_mcp_auth import ServerUnavailable
from asgi_mcp_auth.stores import Record, Store


class FailingStore:
    """Passes every verb on to a store, and raises ``ServerUnavailable`` at one of the calls, or
    from one on.

    Args:
        store: what does the work.
        fail_at: the number of the call, the first is 1; 0 for none.
        when: ``before`` nothing has happened, ``after`` everything has and only the answer is lost.
        for_good: whether the calls after it fail as well.
        cancels: whether the task that calls is cancelled instead, as a server does whose client has
            gone.

    Attributes:
        calls: the verbs that were called, with kind and key.
    """

    def __init__(
        self,
        store: Store,
        fail_at: int = 0,
        *,
        when: Literal["before", "after"] = "before",
        for_good: bool = False,
        cancels: bool = False,
    ) -> None:
        self.inner = store
        self.fail_at = fail_at
        self.when = when
        self.for_good = for_good
        self.cancels = cancels
        self.calls: list[tuple[str, ...]] = []

    async def open(self) -> None:
        await self.inner.open()

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def get(self, ns: str, key: str) -> Record | None:
        return await self._call(lambda: self.inner.get(ns, key), "get", ns, key)

    async def put(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> None:
        await self._call(
            lambda: self.inner.put(ns, key, value, ttl=ttl, group=group), "put", ns, key
        )

    async def add(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> bool:
        return await self._call(
            lambda: self.inner.add(ns, key, value, ttl=ttl, group=group), "add", ns, key
        )

    async def swap(
        self, ns: str, key: str, known: Record, value: bytes, *, ttl: float | None = None
    ) -> bool:
        return await self._call(
            lambda: self.inner.swap(ns, key, known, value, ttl=ttl), "swap", ns, key
        )

    async def take(self, ns: str, key: str) -> bytes | None:
        return await self._call(lambda: self.inner.take(ns, key), "take", ns, key)

    async def delete(self, ns: str, key: str) -> bool:
        return await self._call(lambda: self.inner.delete(ns, key), "delete", ns, key)

    async def sweep(self, limit: int = 500) -> int:
        return await self._call(lambda: self.inner.sweep(limit), "sweep")

    async def scan(
        self, ns: str, *, group: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[tuple[str, Record]]:
        return await self._call(
            lambda: self.inner.scan(ns, group=group, after=after, limit=limit), "scan", ns
        )

    async def _call(self, work: Callable[[], Awaitable[Any]], *call: str) -> Any:
        self.calls.append(call)
        number = len(self.calls)
        fails = self.fail_at and (
            number >= self.fail_at if self.for_good else number == self.fail_at
        )
        if fails and self.when == "before":
            await self._fail()
        result = await work()
        if fails:
            await self._fail()
        return result

    async def _fail(self) -> None:
        task = asyncio.current_task()
        if not self.cancels or task is None:
            raise ServerUnavailable
        task.cancel()
        await asyncio.sleep(0)


class FullStore(FailingStore):
    """Passes every verb on to a store, as long as it is not full: then it reads, and lets go, and
    takes nothing.

    Attributes:
        full: whether it is.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.full = False

    async def _call(self, work: Callable[[], Awaitable[Any]], *call: str) -> Any:
        if self.full and call[0] in ("put", "add", "swap"):
            raise ServerUnavailable
        return await super()._call(work, *call)


class HeldStore(FailingStore):
    """Passes every verb on to a store, and makes one call wait.

    Attributes:
        hold: which call, ``("get", "code")`` for example: the next such verb on such a kind.
            ``None`` for none.
        arrived: set when it is there.
        go: lets it go on.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.hold: tuple[str, str] | None = None
        self.arrived, self.go = asyncio.Event(), asyncio.Event()

    async def _call(self, work: Callable[[], Awaitable[Any]], *call: str) -> Any:
        if self.hold is not None and call[0] == self.hold[0] and call[1].startswith(self.hold[1]):
            self.hold = None
            self.arrived.set()
            await self.go.wait()
        return await super()._call(work, *call)
