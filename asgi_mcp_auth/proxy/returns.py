"""Revokes upstream tokens in the background, and again after an outage.

Each return is a record in the store until the provider has been told, for a day at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from ..errors import ServerUnavailable
from ..server.records import Stored
from ..server.table import Kind, Table
from ..stores import Store
from ..types import Clock
from .client import UpstreamClient

KEPT_SECONDS = 86_400.0
AT_ONCE = 16  # requests to the provider, each of a few seconds at most
MAX_WAITING = 1000  # in memory; the others wait in the store
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Return(Stored):
    """Tokens to revoke.

    Attributes:
        access_token: to revoke if there is no refresh token.
        refresh_token: to revoke.
        due_at: epoch seconds until which they may still be needed.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    due_at: float = 0


RETURNS: Final = Kind(
    "upstream_return",
    Return,
    key="SHA-256 of the sign-in's reference, or of the access token",
    lifetime="until the provider has been told, a day at most",
)


class Returns:
    """Revokes tokens at the provider (RFC 7009).

    Args:
        store: keeps them, encrypted.
        clock: decides what is due.
        client: talks to the provider.
    """

    def __init__(self, store: Store, clock: Clock, client: UpstreamClient) -> None:
        self._clock = clock
        self._client = client
        self._waiting: dict[str, Return] = {}
        self._revoking: asyncio.Task[None] | None = None

        def ttl(back: Return) -> float:
            return max(0.0, back.due_at - clock.time()) + KEPT_SECONDS

        self._table = Table(store, RETURNS, ttl)

    async def give_back(self, key: str, access_token: str, refresh_token: str | None) -> None:
        """Revoke tokens soon; never raises.

        Args:
            key: identifies them.
            access_token: nothing happens if it is empty.
            refresh_token: is revoked instead if there is one.
        """
        if not access_token:
            return
        back = Return(access_token=access_token, refresh_token=refresh_token)
        with suppress(ServerUnavailable):  # then this attempt is the only one
            await self._table.put(key, back)
        self._revoke_soon({key: back})

    async def schedule(self, key: str, back: Return) -> None:
        """Revoke tokens when they are due, unless that is canceled before."""
        await self._table.put(key, back)

    async def cancel(self, key: str) -> None:
        """Do not revoke these tokens: they are in use."""
        await self._table.delete(key)

    async def revoke_due(self) -> None:
        """Revoke what is due, whichever worker has scheduled or failed to revoke it."""
        found = {
            key: back async for key, back in self._table.scan() if self._clock.time() >= back.due_at
        }
        self._revoke_soon(found)

    async def settle(self) -> None:
        """Wait some seconds for what is under way; the rest stays in the store."""
        task = self._revoking
        if task is not None and not _is_over(task):
            await asyncio.wait({task}, timeout=STOP_SECONDS)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _revoke_soon(self, more: Mapping[str, Return]) -> None:
        self._waiting |= islice(more.items(), MAX_WAITING - len(self._waiting))
        if self._waiting and (self._revoking is None or _is_over(self._revoking)):
            # One task of its own for all: no request waits for the provider.
            self._revoking = asyncio.create_task(self._revoke_waiting())

    async def _revoke_waiting(self) -> None:
        while self._waiting:
            batch = [*islice(self._waiting.items(), AT_ONCE)]
            told = await asyncio.gather(
                *(self._client.revoke(back.refresh_token, back.access_token) for _, back in batch)
            )
            for (key, _), is_told in zip(batch, told, strict=True):
                self._waiting.pop(key, None)
                if is_told:
                    with suppress(ServerUnavailable):  # then they are revoked twice
                        await self._table.delete(key)
            if not any(told):
                self._waiting.clear()  # the provider is down: do not ask it about each of them


def _is_over(task: asyncio.Task[None]) -> bool:
    return task.done() or task.get_loop() is not asyncio.get_running_loop()
