"""Tokens on their way back to the provider: nobody waits for that, and what it cannot be told now
it is told later.

Each is a record in the store until the provider has been told, for a day at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from ..errors import ServerUnavailable
from ..server.records import Stored
from ..stores import Store, scan_all
from ..types import Clock
from .client import UpstreamClient

RETURNS = "upstream_return"
KEPT_SECONDS = 86_400.0
AT_ONCE = 16  # questions to the provider, each of a few seconds at most
MOST_WAITING = 1000  # in memory; what does not fit waits in the store
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Return(Stored):
    """Tokens that nobody uses.

    Attributes:
        access_token: what to give back where there is nothing else.
        refresh_token: what to give back.
        due_at: epoch seconds before which somebody may still want them.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    due_at: float = 0


class Returns:
    """Gives tokens back to the provider (RFC 7009).

    Args:
        store: keeps them, encrypted.
        clock: decides what is due.
        client: tells the provider.
    """

    def __init__(self, store: Store, clock: Clock, client: UpstreamClient) -> None:
        self._store = store
        self._clock = clock
        self._client = client
        self._waiting: dict[str, Return] = {}
        self._telling: asyncio.Task[None] | None = None

    async def give_back(self, key: str, access_token: str, refresh_token: str | None) -> None:
        """Have the provider told, soon; never raise.

        Args:
            key: names them.
            access_token: nothing is given back where it is empty.
            refresh_token: what it is told where there is one.
        """
        if not access_token:
            return
        back = Return(access_token=access_token, refresh_token=refresh_token)
        with suppress(ServerUnavailable):  # then it is told this once
            await self._store.put(RETURNS, key, back.dump(), ttl=KEPT_SECONDS)
        self._tell_soon({key: back})

    async def plan(self, key: str, back: Return) -> None:
        """Have the provider told when the tokens are due, unless somebody wants them before."""
        ttl = back.due_at - self._clock.time() + KEPT_SECONDS
        await self._store.put(RETURNS, key, back.dump(), ttl=ttl)

    async def withdraw(self, key: str) -> None:
        """Keep the tokens: somebody wants them."""
        await self._store.delete(RETURNS, key)

    async def catch_up(self) -> None:
        """Have the provider told what is due and it was not told before, here or elsewhere."""
        found: dict[str, Return] = {}
        async for key, record in scan_all(self._store, RETURNS):
            back = Return.load(record.value)
            if self._clock.time() >= back.due_at:
                found[key] = back
        self._tell_soon(found)

    async def settle(self) -> None:
        """Wait for what is under way, for some seconds; the rest is kept."""
        task = self._telling
        if task is not None and not self._is_idle(task):
            await asyncio.wait({task}, timeout=STOP_SECONDS)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _tell_soon(self, more: Mapping[str, Return]) -> None:
        self._waiting |= islice(more.items(), MOST_WAITING - len(self._waiting))
        if self._waiting and (self._telling is None or self._is_idle(self._telling)):
            # A task of its own, and one for all: whoever ends a grant does not wait for the
            # provider.
            self._telling = asyncio.create_task(self._tell())

    @staticmethod
    def _is_idle(task: asyncio.Task[None]) -> bool:
        return task.done() or task.get_loop() is not asyncio.get_running_loop()

    async def _tell(self) -> None:
        while self._waiting:
            some = [*islice(self._waiting.items(), AT_ONCE)]
            told = await asyncio.gather(
                *(self._client.revoke(back.refresh_token, back.access_token) for _, back in some)
            )
            for (key, _), is_told in zip(some, told, strict=True):
                self._waiting.pop(key, None)
                if is_told:
                    with suppress(ServerUnavailable):  # then it is told twice
                        await self._store.delete(RETURNS, key)
            if not any(told):
                self._waiting.clear()  # a provider that is down is not asked for each of them
