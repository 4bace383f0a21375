"""Rate limits that all workers of a store share: fixed windows, counted with the store's own verbs."""

from __future__ import annotations

import logging
from typing import Final, Literal, TypeAlias

from ..errors import ServerUnavailable, TooManyRequests
from ..stores import Store
from ..types import Clock
from .models import hash_of
from .options import RateLimits

logger = logging.getLogger(__name__)

RateKind: TypeAlias = Literal["register", "authorize", "token", "login_failures"]

COUNTERS = "limit"
WINDOW_SECONDS: Final = {"register": 60, "authorize": 60, "token": 60, "login_failures": 600}
# While nothing can be counted, those who only go on with what they have may do so; nobody new comes in.
_CLOSED_WITHOUT_COUNT = frozenset(("register", "login_failures"))
_ATTEMPTS = 50


class Limits:
    """Counts requests.

    Args:
        store: keeps the counters.
        clock: says which window it is.
        rates: how many in a window; ``None`` counts nothing.
    """

    def __init__(self, store: Store, clock: Clock, rates: RateLimits | None) -> None:
        self._store = store
        self._clock = clock
        self._rates = rates

    async def count(self, kind: RateKind, *who: str, add: int = 1) -> None:
        """Count a request of ``who``.

        Args:
            kind: which limit.
            who: whose requests are counted together.
            add: -1 takes one back.

        Raises:
            TooManyRequests: there were enough in this window.
            ServerUnavailable: the store does not answer, and without a count this kind stays closed.
        """
        if self._rates is None:
            return
        try:
            await self._count(kind, getattr(self._rates, kind), who, add)
        except ServerUnavailable:
            if kind in _CLOSED_WITHOUT_COUNT:
                raise
            logger.info("A request was not counted: the store does not answer")

    async def _count(self, kind: RateKind, limit: int, who: tuple[str, ...], add: int) -> None:
        now, seconds = self._clock.time(), WINDOW_SECONDS[kind]
        window = int(now // seconds)
        key = hash_of("".join(map(hash_of, (kind, str(window), *who))))
        for _ in range(_ATTEMPTS):
            record = await self._store.get(COUNTERS, key)
            count = 0 if record is None else int(record.value)
            if count >= limit and add > 0:
                raise TooManyRequests((window + 1) * seconds - now)
            value = b"%d" % max(0, count + add)
            if record is None:
                counted = await self._store.add(COUNTERS, key, value, ttl=2 * seconds)
            else:
                counted = await self._store.swap(COUNTERS, key, record.etag, value, ttl=2 * seconds)
            if counted:
                return
        raise TooManyRequests(1)  # so many at once that they keep each other from being counted
