"""What lies at URLs that strangers named: fetched once, whoever asks for it, and remembered for a
while.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from ..._cache import LRUCache, SingleFlight
from ..._http import FetchFailed, PublicFetcher, Response, Unreachable, cache_seconds
from ..._places import Place, network_of
from ...types import Clock
from ..limits import Limits

logger = logging.getLogger(__name__)

USUAL_SECONDS, MIN_SECONDS, MAX_SECONDS = 3600, 300, 86_400
FAILURE_SECONDS = 30  # how long what cannot be had or used is not asked for again
CACHE_SIZE = 1000

T = TypeVar("T")


class Known(NamedTuple, Generic[T]):
    """What is known of a URL.

    Attributes:
        value: what lies there, ``None`` when nothing that can be used does.
        unreachable: whether nobody has answered; ``value`` is what was there before, then.
        looked_at: when (monotonic).
        until: how long that counts.
        good_until: how long the latest good answer counted.
    """

    value: T | None
    unreachable: bool
    looked_at: float
    until: float
    good_until: float


class Fetched(Generic[T]):
    """Fetches what strangers name, and remembers it.

    A fetch takes a place of the network that causes it. Whoever asks for the same meanwhile waits
    for the same fetch, and takes none. That there was no place is remembered nowhere: it says
    nothing of what lies there.

    Args:
        what: it is, for the log.
        fetcher: the way to it.
        clock: for lifetimes.
        limits: how much an address may make us fetch.
        read: makes a value of an answer with status 200, or raises ``FetchFailed``.
        max_bytes: how large it may be.
        stale_seconds: how long after its lifetime a value is used while nobody answers.
    """

    def __init__(
        self,
        what: str,
        fetcher: PublicFetcher,
        clock: Clock,
        limits: Limits,
        read: Callable[[str, Response], Awaitable[T]],
        *,
        max_bytes: int,
        stale_seconds: float = 0,
    ) -> None:
        self._what = what
        self._fetcher = fetcher
        self._clock = clock
        self._limits = limits
        self._read = read
        self._max_bytes = max_bytes
        self._stale_seconds = stale_seconds
        self._known: LRUCache[Known[T]] = LRUCache(CACHE_SIZE)
        self._flights: WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[bytes, SingleFlight[Known[T]]]
        ] = WeakKeyDictionary()

    async def find(self, url: str, address: str | None, *, since: float = -math.inf) -> Known[T]:
        """Return what is known of ``url``, after fetching it if need be.

        Args:
            url: where it lies.
            address: who makes us fetch it, ``None`` for the operator.
            since: what was looked at no later (monotonic) does not count, unless that failed.

        Raises:
            TooManyRequests: the address, or its network, has made us fetch enough.
            ServerUnavailable: too much else is being fetched, or the store does not answer.
        """
        key, flights = _key_of(url), self._flights.setdefault(asyncio.get_running_loop(), {})
        known = self._recall(key, since)
        if known is None and key not in flights:
            place = None
            if address is not None:
                await self._limits.count("register", address)
                place = await self._fetcher.enter(network_of(address))
                known = self._recall(key, since)
            if known is None and key not in flights:
                self._start(url, key, flights, place)
            elif place is not None:
                place.leave()  # somebody was faster
        return known or await flights[key]()

    def _recall(self, key: bytes, since: float) -> Known[T] | None:
        known = self._known.get(key)
        if known is None or self._clock.monotonic() >= known.until:
            return None
        return (
            None
            if known.looked_at <= since and known.value is not None and not known.unreachable
            else known
        )

    def _start(
        self,
        url: str,
        key: bytes,
        flights: dict[bytes, SingleFlight[Known[T]]],
        place: Place | None,
    ) -> None:
        async def work() -> Known[T]:
            known = await self._look(url, self._known.get(key), place)
            self._known.put(key, known)
            return known

        flights[key] = SingleFlight(work)
        flights[key].start().add_done_callback(lambda _: flights.pop(key))

    async def _look(self, url: str, before: Known[T] | None, place: Place | None) -> Known[T]:
        try:
            response = await self._fetcher.fetch(url, max_bytes=self._max_bytes, place=place)
            if response.status == 429 or response.status >= 500:
                raise Unreachable(f"HTTP {response.status}")
            if response.status != 200:
                raise FetchFailed(f"HTTP {response.status}")
            value = await self._read(url, response)
        except FetchFailed as error:
            # INFO: strangers cause it. Quoted, because they also wrote the URL.
            logger.info("%s %r cannot be used: %s", self._what, url, error)
            now, is_unreachable = self._clock.monotonic(), isinstance(error, Unreachable)
            if (
                is_unreachable
                and before is not None
                and now < before.good_until + self._stale_seconds
            ):
                return before._replace(unreachable=True, looked_at=now, until=now + FAILURE_SECONDS)
            return Known(None, is_unreachable, now, now + FAILURE_SECONDS, -math.inf)
        now = self._clock.monotonic()
        until = now + cache_seconds(
            response.headers, usual=USUAL_SECONDS, minimum=MIN_SECONDS, maximum=MAX_SECONDS
        )
        return Known(value, False, now, until, until)


def _key_of(url: str) -> bytes:
    return sha256(url.encode("utf-8", "surrogatepass")).digest()
