"""Bounds the bytes that unauthenticated clients may occupy in the store."""

from __future__ import annotations

import heapq
from collections import Counter

from ...errors import ServerUnavailable, TooManyRequests
from ...types import Clock

RECORD_BYTES = 256
"""Size of a record in addition to its value: key, encryption, index."""

SHARE = 4
"""While less than half of the ceiling is in use, one network may occupy a quarter of it."""

SMALL_SHARE = 128
"""After that, one network may occupy this fraction, so that networks with little in use pass."""

FIRST_BYTES = 4096
"""Share of a network in the last quarter: room for one sign-in and its counters."""

RETRY_SECONDS = 60.0


class Allowance:
    """Counts the bytes that this process stores for unauthenticated clients, until they expire.

    Each worker has an allowance of its own. A record that is deleted early counts until it would
    have expired, so deletions need not be reported.

    Args:
        ceiling: bytes for all networks together.
        clock: tells which records have expired.
    """

    def __init__(self, ceiling: int, clock: Clock) -> None:
        self._ceiling = ceiling
        self._clock = clock
        self._held: Counter[str] = Counter()
        self._total = 0
        self._expiring: list[tuple[float, str, int]] = []

    def take(self, network: str, value_bytes: int, seconds: float) -> None:
        """Count a record before it is written.

        Raises:
            TooManyRequests: the share of this network is used up.
            ServerUnavailable: the ceiling is reached.
        """
        now = self._clock.monotonic()
        size = value_bytes + RECORD_BYTES
        while self._expiring and self._expiring[0][0] <= now:
            self._release(*heapq.heappop(self._expiring)[1:])
        if self._held[network] + size > self._share():
            raise TooManyRequests(RETRY_SECONDS)
        if self._total + size > self._ceiling:
            raise ServerUnavailable(RETRY_SECONDS)
        self._held[network] += size
        self._total += size
        heapq.heappush(self._expiring, (now + seconds, network, size))

    def _share(self) -> int:
        if self._total < self._ceiling // 2:
            return self._ceiling // SHARE
        if self._total < self._ceiling * 3 // 4:
            return self._ceiling // SMALL_SHARE
        return min(self._ceiling // SMALL_SHARE, FIRST_BYTES)

    def _release(self, network: str, size: int) -> None:
        self._total -= size
        self._held[network] -= size
        if not self._held[network]:
            del self._held[network]
