"""Fetches documents from URLs that strangers name, once for all concurrent requests, and caches
them.
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
FAILURE_SECONDS = 30  # how long a failed fetch is not repeated
CACHE_SIZE = 1000

T = TypeVar("T")


class Fetched(NamedTuple, Generic[T]):
    """The result of a fetch.

    Attributes:
        value: the document, ``None`` if there is no valid one.
        unreachable: whether the host did not respond; ``value`` is then the one from before.
        fetched_at: when it was fetched (monotonic).
        until: until when this result is used.
        valid_until: until when the latest valid response was fresh.
    """

    value: T | None
    unreachable: bool
    fetched_at: float
    until: float
    valid_until: float


class FetchCache(Generic[T]):
    """Fetches and caches documents that strangers name.

    A fetch takes a place of the network that causes it. Requests that want the same document wait
    for the same fetch and take no place. A lack of places is not cached, because it says nothing
    about the document.

    Args:
        label: names the kind of document in the log.
        fetcher: fetches the documents.
        clock: for lifetimes.
        limits: bound how much an address may make us fetch.
        read: parses a response with status 200, or raises ``FetchFailed``.
        max_bytes: the maximum size of a document.
        stale_seconds: how long after its lifetime a document is used if its host is not responding.
    """

    def __init__(
        self,
        label: str,
        fetcher: PublicFetcher,
        clock: Clock,
        limits: Limits,
        read: Callable[[str, Response], Awaitable[T]],
        *,
        max_bytes: int,
        stale_seconds: float = 0,
    ) -> None:
        self._label = label
        self._fetcher = fetcher
        self._clock = clock
        self._limits = limits
        self._read = read
        self._max_bytes = max_bytes
        self._stale_seconds = stale_seconds
        self._cache: LRUCache[Fetched[T]] = LRUCache(CACHE_SIZE)
        self._flights: WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[bytes, SingleFlight[Fetched[T]]]
        ] = WeakKeyDictionary()

    async def find(self, url: str, address: str | None, *, since: float = -math.inf) -> Fetched[T]:
        """Return the document at ``url``, cached or fetched.

        Args:
            url: where it is.
            address: the address that makes us fetch it, ``None`` for the operator.
            since: ignore what was fetched before this time (monotonic), unless that failed.

        Raises:
            TooManyRequests: the address, or its network, has made us fetch too much.
            ServerUnavailable: too many fetches are under way, or the store is not responding.
        """
        key, flights = _key_of(url), self._flights.setdefault(asyncio.get_running_loop(), {})
        cached = self._recall(key, since)
        if cached is None and key not in flights:
            place = None
            if address is not None:
                await self._limits.count("register", address)
                place = await self._fetcher.enter(network_of(address))
                cached = self._recall(key, since)
            if cached is None and key not in flights:
                self._start(url, key, flights, place)
            elif place is not None:
                place.leave()  # another request was faster
        return cached or await flights[key]()

    def _recall(self, key: bytes, since: float) -> Fetched[T] | None:
        cached = self._cache.get(key)
        if cached is None or self._clock.monotonic() >= cached.until:
            return None
        return (
            None
            if cached.fetched_at <= since and cached.value is not None and not cached.unreachable
            else cached
        )

    def _start(
        self,
        url: str,
        key: bytes,
        flights: dict[bytes, SingleFlight[Fetched[T]]],
        place: Place | None,
    ) -> None:
        async def work() -> Fetched[T]:
            cached = await self._look(url, self._cache.get(key), place)
            self._cache.put(key, cached)
            return cached

        flights[key] = SingleFlight(work)
        flights[key].start().add_done_callback(lambda _: flights.pop(key))

    async def _look(self, url: str, before: Fetched[T] | None, place: Place | None) -> Fetched[T]:
        try:
            response = await self._fetcher.fetch(url, max_bytes=self._max_bytes, place=place)
            if response.status == 429 or response.status >= 500:
                raise Unreachable(f"HTTP {response.status}")
            if response.status != 200:
                raise FetchFailed(f"HTTP {response.status}")
            value = await self._read(url, response)
        except FetchFailed as error:
            # INFO: strangers cause it. Quoted, because they also wrote the URL.
            logger.info("%s %r cannot be used: %s", self._label, url, error)
            now, is_unreachable = self._clock.monotonic(), isinstance(error, Unreachable)
            if (
                is_unreachable
                and before is not None
                and now < before.valid_until + self._stale_seconds
            ):
                return before._replace(
                    unreachable=True, fetched_at=now, until=now + FAILURE_SECONDS
                )
            return Fetched(None, is_unreachable, now, now + FAILURE_SECONDS, -math.inf)
        now = self._clock.monotonic()
        until = now + cache_seconds(
            response.headers, usual=USUAL_SECONDS, minimum=MIN_SECONDS, maximum=MAX_SECONDS
        )
        return Fetched(value, False, now, until, until)


def _key_of(url: str) -> bytes:
    return sha256(url.encode("utf-8", "surrogatepass")).digest()
