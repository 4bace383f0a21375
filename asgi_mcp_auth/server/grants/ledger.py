"""Grants as the store keeps them, how long they count, and what this process knows of them.

A grant is dead when its record says so, and when there is none.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import replace

from ..._cache import LRUCache
from ...errors import InvalidToken
from ...stores import Record, Store, scan_all
from ...types import Clock
from ..options import Lifetimes
from .records import Grant

GRANTS = "grant"
USED_CODE_SECONDS = 600  # how long a replay of a code shows
# how much longer a grant stays in the store than its tokens count; more than any leeway
MARGIN_SECONDS = 60
KNOWN_GRANTS = 10_000

_DEAD = -math.inf


class Ledger:
    """Keeps grants, and remembers which are alive.

    Args:
        store: keeps them.
        clock: decides what has expired.
        lifetimes: how long.
    """

    def __init__(self, store: Store, clock: Clock, lifetimes: Lifetimes) -> None:
        self._store = store
        self._clock = clock
        self._lifetimes = lifetimes
        # By grant id: until when (monotonic) it counts as alive without another look.
        self._alive: LRUCache[float] = LRUCache(KNOWN_GRANTS)

    # -------------------------------------------------------------------------------------- records

    async def add(self, grant_id: str, grant: Grant) -> bool:
        """Let a grant begin; return whether it does, and not when it has been ended before."""
        group = None if grant.person is None else grant.person.subject
        added = await self._store.add(
            GRANTS, grant_id, grant.dump(), ttl=self.ttl(grant), group=group
        )
        # ended meanwhile, when the store could not keep that
        if added and self._is_known_dead(grant_id):
            await self._store.delete(GRANTS, grant_id)
            return False
        return added

    async def get(self, grant_id: str) -> tuple[Record, Grant] | None:
        """Return a grant and its record, ``None`` when there is none; in one that has ended,
        ``revoked`` says so.
        """
        record = await self._store.get(GRANTS, grant_id)
        if record is None:
            return None
        grant = Grant.load(record.value)
        if grant.revoked is not None:
            # Not only by whoever revokes: the store may have lost its answer to that.
            self.mark_dead(grant_id)
        return record, grant

    async def swap(self, grant_id: str, record: Record, grant: Grant) -> bool:
        """Write a grant down, unless somebody else has done so meanwhile."""
        return await self._store.swap(GRANTS, grant_id, record, grant.dump(), ttl=self.ttl(grant))

    async def scan(self, *, subject: str | None = None) -> AsyncIterator[tuple[str, Grant]]:
        """Yield the grants that have not ended, of one person or of all."""
        async for grant_id, record in scan_all(self._store, GRANTS, group=subject):
            grant = Grant.load(record.value)
            if not self.is_over(grant):
                yield grant_id, grant

    async def end(self, grant_id: str, grant: Grant, reason: str) -> None:
        """Write down that a grant has ended, so that it can also not begin; what others have
        written is replaced.
        """
        ttl = self._lifetimes.access_token_seconds + MARGIN_SECONDS + USED_CODE_SECONDS
        await self._store.put(GRANTS, grant_id, replace(grant, revoked=reason).dump(), ttl=ttl)

    async def forget(self, grant_id: str) -> None:
        """Remove a grant, which ends it."""
        await self._store.delete(GRANTS, grant_id)

    # ---------------------------------------------------------------------------------- life, death

    def mark_dead(self, grant_id: str) -> None:
        """Let a grant count as ended in this process from now on."""
        self._alive.put(grant_id.encode(), _DEAD)

    def has_ended(self, grant_id: str, grant: Grant) -> bool:
        """Return whether a grant was ended: as its record says, or as this process knows before the
        store does.
        """
        return grant.revoked is not None or self._is_known_dead(grant_id)

    def is_known_alive(self, grant_id: str) -> bool:
        """Return whether the grant was alive when it was looked at, no longer ago than the
        revocation lag.
        """
        until = self._alive.get(grant_id.encode())
        return until is not None and self._clock.monotonic() < until

    async def check_alive(self, grant_id: str) -> None:
        """Check that the grant of an access token has not ended.

        Raises:
            InvalidToken: it has.
            ServerUnavailable: the store does not answer.
        """
        if self.is_known_alive(grant_id):
            return
        asked_at = self._clock.monotonic()
        if not self._is_known_dead(grant_id):
            found = await self.get(grant_id)
            # It may have been ended in this process while the store was asked: that counts at once.
            if found is not None and not self.has_ended(grant_id, found[1]):
                self._alive.put(
                    grant_id.encode(), asked_at + self._lifetimes.revocation_lag_seconds
                )
                return
        raise InvalidToken("revoked")

    def _is_known_dead(self, grant_id: str) -> bool:
        return self._alive.get(grant_id.encode()) == _DEAD

    # ---------------------------------------------------------------------------------------- times

    def refresh_ends_at(self, grant: Grant) -> float:
        """Return when the refresh token ends that nobody uses, in epoch seconds."""
        return min(grant.expires_at, _used_at(grant) + self._lifetimes.refresh_idle_seconds)

    def is_over(self, grant: Grant) -> bool:
        """Return whether no token of the grant can be good any more."""
        # An access token may outlive the refresh token that nobody uses.
        lifetimes = self._lifetimes
        longest = max(
            lifetimes.refresh_idle_seconds, lifetimes.access_token_seconds + MARGIN_SECONDS
        )
        ends_at = min(grant.expires_at, _used_at(grant) + longest)
        return grant.revoked is not None or self._clock.time() >= ends_at

    def ttl(self, grant: Grant) -> float:
        """Return for how many seconds from now the grant is needed."""
        left = min(grant.expires_at - self._clock.time(), self._lifetimes.refresh_idle_seconds)
        return max(left, self._lifetimes.access_token_seconds) + MARGIN_SECONDS


def _used_at(grant: Grant) -> float:
    return max(grant.created_at, grant.rotated_at)
