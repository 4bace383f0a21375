"""Rate limits that all workers of a store share: fixed windows, counted with the store's own
verbs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias
from weakref import WeakKeyDictionary

from ..._cache import LRUCache
from ..._places import network_of
from ...errors import Contended, ServerUnavailable, TooManyRequests
from ...stores import Store
from ...types import Clock
from ..options import RateLimits
from ..records import Stored, hash_of
from ..table import Kind, Outcome, Table
from ..web import BY_PAGES
from .allowance import Allowance

logger = logging.getLogger(__name__)

RateKind: TypeAlias = Literal["register", "authorize", "token", "passwords", "login_failures"]

FAILED: Final = "failed"  # tells those apart who prove nothing
WINDOW_SECONDS: Final[Mapping[RateKind, int]] = {
    "register": 60,
    "authorize": 60,
    "token": 60,
    "passwords": 60,
    "login_failures": 600,
}
# While nothing can be counted, those who only go on with what they have may do so; nobody new comes
# in.
_CLOSED_WITHOUT_COUNT = frozenset(("register", "passwords", "login_failures"))
# What people read; the rest is for clients.
_TOO_MANY = {
    "passwords": "Too many passwords were sent from this network",
    "login_failures": "Too many wrong passwords for this account",
}
# Of those some are taken back, by other processes, too: a full one may be so no longer.
_TAKEN_BACK = frozenset(("login_failures",))
_KNOWN_FULL = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Count(Stored):
    """How many requests there were in one window."""

    number: int

    def dump(self) -> bytes:
        """Return the record as the store keeps it."""
        return b"%d" % self.number

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Return the record that ``dump`` wrote."""
        return cls(number=int(data))


COUNTERS: Final = Kind(
    "limit",
    Count,
    key="SHA-256 of limit, window and network",
    lifetime="two windows: two minutes, or twenty for wrong passwords",
)


class _Batch:
    """Requests that are counted together.

    Attributes:
        size: how many they are.
        outcome: how many there were before them, or why that cannot be said; ``None`` as long as
            nobody has looked.
    """

    def __init__(self) -> None:
        self.size = 0
        self.outcome: int | ServerUnavailable | TooManyRequests | None = None


class _Counter:
    """The requests of this process, on one event loop, that wait to be counted under one key."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.next = _Batch()


class Limits:
    """Counts requests.

    While some are being counted, those that come meanwhile wait and are counted together:
    otherwise, of many at once, most would find that another one has changed the counter, and would
    have to look again. A counter that is full stays so until its window ends, so the rest of a
    flood costs no look at the store.

    Args:
        store: keeps the counters.
        clock: says which window it is.
        rates: how many in a window; ``None`` counts nothing.
    """

    def __init__(self, store: Store, clock: Clock, rates: RateLimits | None) -> None:
        self._tables = {kind: _counters(store, seconds) for kind, seconds in WINDOW_SECONDS.items()}
        self._clock = clock
        self._rates = rates
        # Two, so that sign-ins that nobody finishes keep nobody out who has a token, or a password.
        self._sign_ins, self._small = (
            None if rates is None else Allowance(rates.unfinished_bytes, clock) for _ in range(2)
        )
        self._counters: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Counter]] = (
            WeakKeyDictionary()
        )
        self._full: LRUCache[bool] = LRUCache(_KNOWN_FULL)  # each window has keys of its own

    async def count(self, kind: RateKind, address: str, *of: str, add: int = 1) -> None:
        """Count a request.

        Args:
            kind: which limit.
            address: where it comes from, ``Request.source``.
            of: what else is told apart.
            add: -1 takes one back.

        Raises:
            TooManyRequests: there were enough in this window.
            ServerUnavailable: the store does not answer, and without a count this kind stays
                closed.
        """
        if self._rates is None:
            return
        try:
            await self._count(kind, getattr(self._rates, kind), (network_of(address), *of), add)
        except ServerUnavailable:
            if kind in _CLOSED_WITHOUT_COUNT:
                raise
            logger.info("A request was not counted: the store does not answer")

    def check(self, kind: RateKind, address: str, *of: str) -> None:
        """Check, without a look at the store, that this process does not know the counter to be
        full.

        Raises:
            TooManyRequests: it is.
        """
        now, seconds = self._clock.time(), WINDOW_SECONDS[kind]
        if self._is_full(_key(kind, int(now // seconds), (network_of(address), *of))):
            raise TooManyRequests(seconds - now % seconds, _TOO_MANY.get(kind))

    def _is_full(self, key: str) -> bool:
        # Nearly always nothing is full: a miss in the cache costs as much as all the rest.
        return len(self._full) > 0 and self._full.get(key.encode()) is not None

    def keep(self, address: str, value: bytes, seconds: float, *, is_sign_in: bool = True) -> None:
        """Count what is about to be kept for somebody of whom nothing is known.

        Args:
            address: where the request comes from, ``Request.source``.
            value: of the record.
            seconds: how long it is kept.
            is_sign_in: whether it is for a sign-in that has begun.

        Raises:
            TooManyRequests: there is enough of their network.
            ServerUnavailable: there is enough of everybody.
        """
        network = network_of(address)
        if is_sign_in and network.endswith(BY_PAGES):
            # all together: a page can have visitors everywhere, and nobody needs what it begins
            network = BY_PAGES
        allowance = self._sign_ins if is_sign_in else self._small
        if allowance is not None:
            allowance.take(network, len(value), seconds)

    async def _count(self, kind: RateKind, limit: int, who: tuple[str, ...], add: int) -> None:
        now, seconds = self._clock.time(), WINDOW_SECONDS[kind]
        window = int(now // seconds)
        key = _key(kind, window, who)
        if add < 0:
            self._full.discard(key.encode())
            await self._change(kind, who[0], key, add, limit)
            return
        if self._is_full(key):
            raise TooManyRequests((window + 1) * seconds - now, _TOO_MANY.get(kind))
        counters = self._counters.setdefault(asyncio.get_running_loop(), {})
        counter = counters.setdefault(key, _Counter())
        batch = counter.next
        place = batch.size
        batch.size += 1
        async with counter.turn:
            if batch.outcome is None:  # the first of the batch counts them all
                counter.next = following = _Batch()  # for those who come while it does
                try:
                    batch.outcome = await self._change(kind, who[0], key, batch.size, limit)
                except (ServerUnavailable, TooManyRequests) as error:
                    batch.outcome = error
                finally:
                    if not following.size:
                        counters.pop(key, None)
        if not isinstance(batch.outcome, int):
            raise batch.outcome
        if batch.outcome + place >= limit:
            if kind not in _TAKEN_BACK:
                self._full.put(key.encode(), True)
            raise TooManyRequests((window + 1) * seconds - now, _TOO_MANY.get(kind))

    async def _change(self, kind: RateKind, network: str, key: str, number: int, limit: int) -> int:
        """Add to a counter, up to the limit; return its value before that."""

        async def step(known: Count | None) -> Outcome[Count, int]:
            before = 0 if known is None else known.number
            if before >= limit and number > 0:
                return Outcome(None, before)
            after = Count(number=min(limit, max(0, before + number)))
            if known is None:
                self.keep(network, after.dump(), 2 * WINDOW_SECONDS[kind], is_sign_in=False)
            return Outcome(after, before)

        try:
            return await self._tables[kind].retry(key, step)
        except Contended:
            # So many processes at once that they keep each other from counting.
            raise TooManyRequests(1) from None


def _counters(store: Store, window_seconds: int) -> Table[Count]:
    return Table(store, COUNTERS, lambda _: 2 * window_seconds)


def _key(kind: RateKind, window: int, who: tuple[str, ...]) -> str:
    # however the texts are made, no two tuples look alike
    return hash_of(repr((kind, window, *who)))
