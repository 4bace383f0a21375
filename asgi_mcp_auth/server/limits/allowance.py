"""How many bytes strangers may have in the store: a share for each network, a ceiling for all."""

from __future__ import annotations

import heapq
from collections import Counter

from ...errors import ServerUnavailable, TooManyRequests
from ...types import Clock

RECORD_BYTES = 256
"""What a record takes beside its value: key, encryption, index."""

SHARE = 4
"""One network may have a quarter, as long as half of everything is free …"""

SMALL_SHARE = 128
"""… and this part of it afterwards, so that those who have little go first."""

FIRST_BYTES = 4096
"""The last quarter is for those who have next to nothing: one sign-in, and what is counted for it."""

RETRY_SECONDS = 60.0


class Allowance:
    """Counts what this process writes for people who have only begun, until it expires; several
    workers have one each.

    What is finished sooner counts all the same: nobody has to be told.

    Args:
        ceiling: bytes for all.
        clock: says what has expired.
    """

    def __init__(self, ceiling: int, clock: Clock) -> None:
        self._ceiling = ceiling
        self._clock = clock
        self._held: Counter[str] = Counter()
        self._total = 0
        self._ending: list[tuple[float, str, int]] = []

    def take(self, network: str, value_bytes: int, seconds: float) -> None:
        """Count a record before it is written.

        Raises:
            TooManyRequests: the network has its share.
            ServerUnavailable: there is nothing left for anybody.
        """
        now, size = self._clock.monotonic(), value_bytes + RECORD_BYTES
        while self._ending and self._ending[0][0] <= now:
            self._give_back(*heapq.heappop(self._ending)[1:])
        share = self._ceiling // (SHARE if self._total < self._ceiling // 2 else SMALL_SHARE)
        if self._total >= self._ceiling * 3 // 4:
            share = min(share, FIRST_BYTES)
        if self._held[network] + size > share:
            raise TooManyRequests(RETRY_SECONDS)
        if self._total + size > self._ceiling:
            raise ServerUnavailable(RETRY_SECONDS)
        self._held[network] += size
        self._total += size
        heapq.heappush(self._ending, (now + seconds, network, size))

    def _give_back(self, network: str, size: int) -> None:
        self._total -= size
        self._held[network] -= size
        if not self._held[network]:
            del self._held[network]
