"""Rate limits that all workers of a store share: counters for fixed windows of time."""

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

FAILED: Final = "failed"  # a separate counter, for requests that failed to authenticate
WINDOW_SECONDS: Final[Mapping[RateKind, int]] = {
    "register": 60,
    "authorize": 60,
    "token": 60,
    "passwords": 60,
    "login_failures": 600,
}
# While the store is down, token requests of existing clients pass uncounted. Registrations and
# passwords are refused: unlimited guessing would be worse than no sign-in.
_CLOSED_WITHOUT_COUNT = frozenset(("register", "passwords", "login_failures"))
# Limits that users run into; the others are met by clients.
_DESCRIPTIONS = {
    "passwords": "Too many passwords from this network",
    "login_failures": "Too many wrong passwords for this account",
}
# Counters that can fall again, also by another process: a full one may not stay full.
_DECREASING = frozenset(("login_failures",))
_MAX_FULL_COUNTERS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Count(Stored):
    """The number of requests in one window."""

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
        size: the number of requests.
        outcome: the count before them, or the error that prevented counting; ``None`` until the
            first of them has tried.
    """

    def __init__(self) -> None:
        self.size = 0
        self.outcome: int | ServerUnavailable | TooManyRequests | None = None


class _Counter:
    """The requests of one event loop that wait to be counted by one counter.

    Attributes:
        turn: held while a batch is being counted.
        next: the batch that arriving requests join.
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.next = _Batch()


class Limits:
    """Counts requests, and refuses those above a limit.

    Requests that arrive while a counter is being changed wait, and are then counted together as one
    batch. Otherwise, most of many simultaneous requests would lose the race for the counter and
    have to read it again. A full counter is remembered until its window ends, so the rest of a
    flood does not reach the store.

    Args:
        store: keeps the counters.
        clock: tells the current window.
        rates: the limits for one window; with ``None``, nothing is counted.
    """

    def __init__(self, store: Store, clock: Clock, rates: RateLimits | None) -> None:
        self._tables = {kind: _counters(store, seconds) for kind, seconds in WINDOW_SECONDS.items()}
        self._clock = clock
        self._rates = rates
        # Separate allowances, so that a flood of unfinished sign-ins cannot use up the room that
        # the counters of tokens and passwords need.
        self._sign_ins: Allowance | None = None
        self._small: Allowance | None = None
        if rates is not None:
            self._sign_ins = Allowance(rates.unfinished_bytes, clock)
            self._small = Allowance(rates.unfinished_bytes, clock)
        self._counters: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Counter]] = (
            WeakKeyDictionary()
        )
        # By key; as each window has keys of its own, none has to be removed.
        self._full: LRUCache[bool] = LRUCache(_MAX_FULL_COUNTERS)

    async def count(self, kind: RateKind, address: str, *of: str, add: int = 1) -> None:
        """Count a request.

        Args:
            kind: which limit.
            address: the source of the request, ``Request.source``.
            of: further parts of the counter's key, such as an account name.
            add: -1 to take one back.

        Raises:
            TooManyRequests: the limit for this window is reached.
            ServerUnavailable: the store is not responding, and this kind is not allowed uncounted.
        """
        if self._rates is None:
            return
        try:
            await self._count(kind, getattr(self._rates, kind), (network_of(address), *of), add)
        except ServerUnavailable:
            if kind in _CLOSED_WITHOUT_COUNT:
                raise
            logger.info("A request was not counted: the store is not responding")

    def check(self, kind: RateKind, address: str, *of: str) -> None:
        """Check that the counter is not known to be full, without access to the store.

        Raises:
            TooManyRequests: it is full.
        """
        now = self._clock.time()
        window = int(now // WINDOW_SECONDS[kind])
        if self._is_full(_key(kind, window, (network_of(address), *of))):
            raise _too_many(kind, window, now)

    def _is_full(self, key: str) -> bool:
        # Usually no counter is full; a cache miss would cost as much as the rest of the check.
        return len(self._full) > 0 and self._full.get(key.encode()) is not None

    def keep(self, address: str, value: bytes, seconds: float, *, is_sign_in: bool = True) -> None:
        """Count the size of a record before it is stored for an unauthenticated client.

        Args:
            address: the source of the request, ``Request.source``.
            value: the record.
            seconds: how long it is kept.
            is_sign_in: whether it belongs to an unfinished sign-in.

        Raises:
            TooManyRequests: the share of this network is used up.
            ServerUnavailable: the allowance is used up.
        """
        network = network_of(address)
        if is_sign_in and network.endswith(BY_PAGES):
            # One share for all networks: a malicious page can have visitors anywhere, and no
            # legitimate client starts a sign-in this way.
            network = BY_PAGES
        allowance = self._sign_ins if is_sign_in else self._small
        if allowance is not None:
            allowance.take(network, len(value), seconds)

    async def _count(self, kind: RateKind, limit: int, who: tuple[str, ...], add: int) -> None:
        now = self._clock.time()
        window = int(now // WINDOW_SECONDS[kind])
        key = _key(kind, window, who)
        if add < 0:
            self._full.discard(key.encode())
            await self._change(kind, who[0], key, add, limit)
            return
        if self._is_full(key):
            raise _too_many(kind, window, now)
        position = await self._count_in_batch(kind, who[0], key, limit)
        if position >= limit:
            if kind not in _DECREASING:
                self._full.put(key.encode(), True)
            raise _too_many(kind, window, now)

    async def _count_in_batch(self, kind: RateKind, network: str, key: str, limit: int) -> int:
        """Count a request, and return the number of requests before it."""
        counters = self._counters.setdefault(asyncio.get_running_loop(), {})
        counter = counters.setdefault(key, _Counter())
        batch = counter.next
        position = batch.size
        batch.size += 1
        async with counter.turn:
            if batch.outcome is None:  # the first request counts the whole batch
                following = counter.next = _Batch()  # for requests that arrive meanwhile
                try:
                    batch.outcome = await self._change(kind, network, key, batch.size, limit)
                except (ServerUnavailable, TooManyRequests) as error:
                    batch.outcome = error
                finally:
                    if not following.size:
                        counters.pop(key, None)
        if not isinstance(batch.outcome, int):
            raise batch.outcome
        return batch.outcome + position

    async def _change(self, kind: RateKind, network: str, key: str, number: int, limit: int) -> int:
        """Add to a counter, up to the limit, and return its previous value."""

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
            # Other processes were faster every time: each has counted a request.
            raise TooManyRequests(1) from None


def _counters(store: Store, window_seconds: int) -> Table[Count]:
    return Table(store, COUNTERS, lambda _: 2 * window_seconds)


def _too_many(kind: RateKind, window: int, now: float) -> TooManyRequests:
    ends_at = (window + 1) * WINDOW_SECONDS[kind]
    return TooManyRequests(ends_at - now, _DESCRIPTIONS.get(kind))


def _key(kind: RateKind, window: int, who: tuple[str, ...]) -> str:
    # repr, because joined texts of two different tuples could be equal.
    return hash_of(repr((kind, window, *who)))
