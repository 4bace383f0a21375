"""The ledger of grants: keeps them in the store, and remembers which of them are alive.

A grant is dead if its record says so, or if it has no record.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from ..._cache import LRUCache
from ...errors import InvalidToken
from ...stores import Store
from ...types import Clock
from ..options import Lifetimes
from ..table import Outcome, Table
from .records import GRANTS, Grant

T = TypeVar("T")

USED_CODE_SECONDS = 600  # how long the replay of a code can be detected
# How much longer than its tokens a grant stays in the store. More than the leeway of any verifier.
MARGIN_SECONDS = 60
KNOWN_GRANTS = 10_000

_DEAD = -math.inf


class Ledger:
    """Keeps grants, and remembers which are alive.

    Args:
        store: where they are kept.
        clock: decides what has expired.
        lifetimes: of grants and their tokens.
    """

    def __init__(self, store: Store, clock: Clock, lifetimes: Lifetimes) -> None:
        self._table = Table(store, GRANTS, self.ttl)
        self._clock = clock
        self._lifetimes = lifetimes
        # By grant id: until when (monotonic) a grant counts as alive without asking the store.
        self._alive: LRUCache[float] = LRUCache(KNOWN_GRANTS)

    # -------------------------------------------------------------------------------------- records

    async def add(self, grant_id: str, grant: Grant) -> bool:
        """Start a grant; return ``False`` if it was revoked before it could start."""
        group = None if grant.person is None else grant.person.subject
        added = await self._table.add(grant_id, grant, group=group)
        # Revoked meanwhile, and the store could not record that.
        if added and self._is_known_dead(grant_id):
            await self._table.delete(grant_id)
            return False
        return added

    async def get(self, grant_id: str) -> Grant | None:
        """Return a grant, also a revoked one; ``None`` if there is no record of it."""
        grant = await self._table.get(grant_id)
        self._note(grant_id, grant)
        return grant

    async def find(self, grant_id: str, resource: str) -> Grant | None:
        """Return a grant for this resource if it may still have a valid token."""
        grant = await self.get(grant_id)
        if grant is None or self.is_revoked(grant_id, grant) or self.is_over(grant):
            return None
        return grant if grant.resource == resource else None

    async def belongs_to(self, grant_id: str, client_id: str, resource: str) -> bool:
        """Return whether a grant is this client's, for this resource, even if it is revoked.

        This process may know that it is revoked and have failed to record that: then a client that
        revokes it again makes us try again.
        """
        grant = await self.get(grant_id)
        return grant is not None and (grant.client_id, grant.resource) == (client_id, resource)

    async def retry(
        self, grant_id: str, step: Callable[[Grant | None], Awaitable[Outcome[Grant, T]]]
    ) -> T:
        """Change a grant, as ``Table.retry`` does."""

        async def noting(grant: Grant | None) -> Outcome[Grant, T]:
            self._note(grant_id, grant)
            return await step(grant)

        return await self._table.retry(grant_id, noting)

    async def scan(
        self, *, subject: str | None = None, client_id: str | None = None
    ) -> AsyncIterator[tuple[str, Grant]]:
        """Yield the grants that are not over, with their ids.

        Args:
            subject: of which person, ``None`` for everyone.
            client_id: of which client, ``None`` for all.
        """
        async for grant_id, grant in self._table.scan(group=subject):
            if not self.is_over(grant) and client_id in (None, grant.client_id):
                yield grant_id, grant

    async def end(self, grant_id: str, grant: Grant, reason: str) -> None:
        """Record that a grant is revoked, whatever its record says now, and even if it has not
        started yet.
        """
        await self._table.put(grant_id, replace(grant, revoked=reason))

    async def forget(self, grant_id: str) -> None:
        """Remove a grant, which revokes it."""
        await self._table.delete(grant_id)

    def _note(self, grant_id: str, grant: Grant | None) -> None:
        # Not only in the process that revokes a grant: even there, the answer of the store may have
        # been lost.
        if grant is not None and grant.revoked is not None:
            self.mark_dead(grant_id)

    # ---------------------------------------------------------------------------------- life, death

    def mark_dead(self, grant_id: str) -> None:
        """Treat a grant as revoked in this process from now on."""
        self._alive.put(grant_id.encode(), _DEAD)

    def is_revoked(self, grant_id: str, grant: Grant) -> bool:
        """Return whether a grant was revoked, according to its record or to this process, which may
        know it before the store does.
        """
        return grant.revoked is not None or self._is_known_dead(grant_id)

    def is_known_alive(self, grant_id: str) -> bool:
        """Return whether the grant was alive when the store was last asked, no longer ago than the
        revocation lag.
        """
        until = self._alive.get(grant_id.encode())
        return until is not None and self._clock.monotonic() < until

    async def check_alive(self, grant_id: str) -> None:
        """Check that the grant of an access token has not been revoked.

        Raises:
            InvalidToken: it has.
            ServerUnavailable: the store is not responding.
        """
        if self.is_known_alive(grant_id):
            return
        asked_at = self._clock.monotonic()
        if not self._is_known_dead(grant_id):
            grant = await self.get(grant_id)
            # It may have been revoked in this process while the store was asked: that counts.
            if grant is not None and not self.is_revoked(grant_id, grant):
                until = asked_at + self._lifetimes.revocation_lag_seconds
                self._alive.put(grant_id.encode(), until)
                return
        raise InvalidToken("revoked")

    def _is_known_dead(self, grant_id: str) -> bool:
        return self._alive.get(grant_id.encode()) == _DEAD

    # ---------------------------------------------------------------------------------------- times

    def refresh_ends_at(self, grant: Grant) -> float:
        """Return when the current refresh token expires if it stays unused, in epoch seconds."""
        return min(grant.expires_at, _used_at(grant) + self._lifetimes.refresh_idle_seconds)

    def is_over(self, grant: Grant) -> bool:
        """Return whether no token of the grant can be valid any more."""
        # An access token may outlive a refresh token that stays unused.
        lifetimes = self._lifetimes
        longest = max(lifetimes.refresh_idle_seconds, self._access_seconds(grant) + MARGIN_SECONDS)
        ends_at = min(grant.expires_at, _used_at(grant) + longest)
        return grant.revoked is not None or self._clock.time() >= ends_at

    def ttl(self, grant: Grant) -> float:
        """Return for how many seconds from now the record of the grant is needed."""
        lifetimes = self._lifetimes
        if grant.revoked is not None:
            # Until its last access token has expired, and its code can no longer be redeemed.
            return lifetimes.access_token_seconds + MARGIN_SECONDS + USED_CODE_SECONDS
        left = min(grant.expires_at - self._clock.time(), lifetimes.refresh_idle_seconds)
        return max(left, self._access_seconds(grant)) + MARGIN_SECONDS

    def _access_seconds(self, grant: Grant) -> float:
        """Return for how many seconds after the last write an access token may be valid: a retry
        gets one, and writes nothing.
        """
        lifetimes = self._lifetimes
        retry = lifetimes.refresh_leeway_seconds if grant.rotated_at else 0
        return lifetimes.access_token_seconds + retry


def _used_at(grant: Grant) -> float:
    return max(grant.created_at, grant.rotated_at)
