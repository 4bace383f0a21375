"""Fetches documents from URLs that strangers name, once for all concurrent requests, and caches
them.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from typing import Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from ..._cache import LRUCache, SingleFlight
from ..._http import FetchFailed, PublicFetcher, Response, Unreachable, Unusable, cache_seconds
from ..._places import Place, network_of
from ...errors import ServerUnavailable, TooManyRequests
from ...types import Clock
from ..limits import Limits

logger = logging.getLogger(__name__)

USUAL_SECONDS, MIN_SECONDS, MAX_SECONDS = 3600, 300, 86_400
FAILURE_SECONDS = 30  # how long a failed fetch is not repeated
CACHE_SIZE = 1000
WARNED_SECONDS = 600  # between two warnings about one host
MAX_WARNED = 4  # hosts in that time, because strangers name them

# The host is not responding; it gives no document, or must not be asked; or its own word is that
# there is no usable one.
Failure: TypeAlias = Literal["unreachable", "refused", "unusable"]
_LATER: Final = frozenset((408, 425, 429))
_GONE: Final = frozenset((404, 410))

T = TypeVar("T")


class Fetched(NamedTuple, Generic[T]):
    """The result of a fetch.

    Attributes:
        value: the document, ``None`` if there is no valid one.
        failure: why the latest fetch brought none; ``value`` may be the one from before.
        fetched_at: when it was fetched (monotonic).
        until: until when this result is used.
        valid_until: until when the latest valid response was fresh.
    """

    value: T | None
    failure: Failure | None
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
        advice: what the operator of a server without a way to the internet can do; with it, hosts
            that are not responding are worth a warning.
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
        advice: str = "",
        stale_seconds: float = 0,
    ) -> None:
        self._label = label
        self._advice = f". {advice}" if advice else ""
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
        self._background: WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[bytes, asyncio.Task[None]]
        ] = WeakKeyDictionary()
        self._warned: dict[str | None, float] = {}

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

    def recall(self, url: str) -> Fetched[T] | None:
        """Return what ``find`` would return without a fetch."""
        return self._recall(_key_of(url), -math.inf)

    def find_later(self, url: str, address: str | None) -> None:
        """Fetch the document in the background, if there is a place for that."""

        async def work() -> None:
            with suppress(TooManyRequests, ServerUnavailable):  # next time
                await self.find(url, address)

        key = _key_of(url)
        tasks = self._background.setdefault(asyncio.get_running_loop(), {})
        if key not in tasks:
            tasks[key] = asyncio.create_task(work())
            tasks[key].add_done_callback(lambda _: tasks.pop(key))

    def _recall(self, key: bytes, since: float) -> Fetched[T] | None:
        cached = self._cache.get(key)
        if cached is None or self._clock.monotonic() >= cached.until:
            return None
        return (
            None
            if cached.fetched_at <= since and cached.value is not None and cached.failure is None
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
            value = await self._read_response(url, response)
        except FetchFailed as error:
            now, failure = self._clock.monotonic(), self._report(url, error)
            if (
                failure == "unreachable"
                and before is not None
                and now < before.valid_until + self._stale_seconds
            ):
                return before._replace(failure=failure, fetched_at=now, until=now + FAILURE_SECONDS)
            return Fetched(None, failure, now, now + FAILURE_SECONDS, -math.inf)
        now = self._clock.monotonic()
        until = now + cache_seconds(
            response.headers, usual=USUAL_SECONDS, minimum=MIN_SECONDS, maximum=MAX_SECONDS
        )
        return Fetched(value, None, now, until, until)

    async def _read_response(self, url: str, response: Response) -> T:
        status = response.status
        if status in _LATER or status >= 500:
            raise Unreachable(f"HTTP {status}")
        if status != 200:
            raise (Unusable if status in _GONE else FetchFailed)(f"HTTP {status}")
        try:
            return await self._read(url, response)
        except FetchFailed as error:
            raise Unusable(str(error)) from None

    def _report(self, url: str, error: FetchFailed) -> Failure:
        # Quoted, because strangers wrote the URL.
        if not isinstance(error, Unreachable):
            logger.info("%s %r cannot be used: %s", self._label, url, error)
            return "unusable" if isinstance(error, Unusable) else "refused"
        may_warn = self._advice and self._may_warn(urlsplit(url).hostname)
        level = logging.WARNING if may_warn else logging.INFO
        logger.log(level, "%s %r cannot be fetched: %s%s", self._label, url, error, self._advice)
        return "unreachable"

    def _may_warn(self, host: str | None) -> bool:
        """Return whether a warning may name a host: a few may, each once per cooldown."""
        now = self._clock.monotonic()
        self._warned = {each: until for each, until in self._warned.items() if now < until}
        if host in self._warned or len(self._warned) >= MAX_WARNED:
            return False
        self._warned[host] = now + WARNED_SECONDS
        return True


def _key_of(url: str) -> bytes:
    return sha256(url.encode("utf-8", "surrogatepass")).digest()
