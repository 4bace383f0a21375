"""Limits the work that strangers can cause: a total, a share for each network, and a queue.

It is independent of the kind of work.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from bisect import insort
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Literal

from .errors import ServerUnavailable, TooManyRequests
from .types import Clock

RECENT_SECONDS = 60.0
MAX_NETWORKS = 10_000  # with a count of recent places
RETRY_SECONDS = 1.0
NEW_WEIGHT = 0.2  # of the latest duration in the moving average


@dataclass(order=True, slots=True)
class _Waiter:
    rank: int
    number: int
    network: str = field(compare=False)
    woken: asyncio.Future[None] = field(compare=False)
    state: Literal["waiting", "admitted", "rejected"] = field(default="waiting", compare=False)

    def wake(self) -> bool:
        """Wake the waiting task, from any thread; return whether its event loop is open."""
        try:
            self.woken.get_loop().call_soon_threadsafe(self._set)
        except RuntimeError:  # its event loop is closed
            return False
        return True

    def _set(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class Place:
    """A place that is held until ``leave`` is called, from any thread and any number of times."""

    __slots__ = ("_began", "_left", "_network", "_places")

    def __init__(self, places: Places, network: str, began: float) -> None:
        self._places = places
        self._network = network
        self._began = began
        self._left = False

    def leave(self, *_: object) -> None:
        """Release the place; accepts arguments to be usable as a future's callback."""
        if not self._left:
            self._left = True
            self._places.vacate(self._network, self._began)


class Places:
    """A number of places for work, and a queue for them.

    The network with the fewest places within the last minute or two goes first, so that a flood
    waits behind all others. The last quarter of the places is for networks that hold none. If the
    queue would take longer than ``wait_seconds``, its last waiter is rejected.

    Args:
        at_once: the number of places.
        each: how many places one network may hold or wait for.
        wait_seconds: the longest wait.
        usual_seconds: the expected duration of the work, until it has been measured.
        clock: measures the duration.
    """

    def __init__(
        self,
        at_once: int,
        *,
        each: int,
        wait_seconds: float,
        usual_seconds: float,
        clock: Clock = time,
    ) -> None:
        self._at_once = at_once
        self._each = each
        self._wait_seconds = wait_seconds
        self._mean_seconds = usual_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._working: Counter[str] = Counter()
        self._line: list[_Waiter] = []
        self._number = 0
        self._held: Counter[str] = Counter()
        self._recent: Counter[str] = Counter()
        self._earlier: Counter[str] = Counter()
        self._recent_since = clock.monotonic()

    async def enter(self, network: str) -> Place:
        """Wait for a place for ``network`` and return it.

        Raises:
            TooManyRequests: the network has used up its share.
            ServerUnavailable: no place becomes free within ``wait_seconds``.
        """
        with self._lock:
            if self._held[network] >= self._each:
                raise TooManyRequests(RETRY_SECONDS)
            self._held[network] += 1
            rank = self._count(network)
            if self._may_work(network):
                self._working[network] += 1
                return Place(self, network, self._clock.monotonic())
            self._number += 1
            waiter = _Waiter(
                rank, self._number, network, asyncio.get_running_loop().create_future()
            )
            insort(self._line, waiter)
            if len(self._line) * self._mean_seconds > self._wait_seconds * self._at_once:
                self._reject(self._line[-1])
        try:
            async with asyncio.timeout(self._wait_seconds):
                if waiter.state == "waiting":
                    await waiter.woken
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            self._give_up(waiter)
            raise
        if waiter.state != "admitted":
            self._give_up(waiter)
            raise ServerUnavailable(RETRY_SECONDS)
        return Place(self, network, self._clock.monotonic())

    def vacate(self, network: str, began: float | None = None) -> None:
        """Release a place, whose work began at ``began`` (monotonic), and admit the next waiter."""
        with self._lock:
            if began is not None:
                self._mean_seconds += NEW_WEIGHT * (
                    self._clock.monotonic() - began - self._mean_seconds
                )
            _remove(self._working, network)
            _remove(self._held, network)
            for following in [each for each in self._line if self._may_work(each.network)]:
                self._line.remove(following)
                following.state = "admitted"
                if following.wake():
                    self._working[following.network] += 1
                    return
                _remove(self._held, following.network)

    def forgive(self, network: str) -> None:
        """Do not count the latest place of ``network``, because its request was legitimate."""
        with self._lock:
            self._recent[network] = max(0, self._recent[network] - 1)

    def _may_work(self, network: str) -> bool:
        reserved = self._at_once // 4 if network in self._working else 0
        return self._working.total() < self._at_once - reserved

    def _give_up(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter.state == "waiting":
                self._reject(waiter)
                return
        if waiter.state == "admitted":
            self.vacate(waiter.network)

    def _reject(self, waiter: _Waiter) -> None:
        self._line.remove(waiter)
        _remove(self._held, waiter.network)
        waiter.state = "rejected"
        waiter.wake()

    def _count(self, network: str) -> int:
        """Count a place, and return how many the network had in this and the last minute."""
        now = self._clock.monotonic()
        if now >= self._recent_since + RECENT_SECONDS or len(self._recent) >= MAX_NETWORKS:
            self._earlier = self._recent
            self._recent = Counter()
            self._recent_since = now
        rank = self._recent[network] + self._earlier[network]
        self._recent[network] += 1
        return rank


def _remove(counter: Counter[str], network: str) -> None:
    counter[network] -= 1
    if not counter[network]:
        del counter[network]


@functools.lru_cache(1024)
def network_of(address: str) -> str:
    """Return the network that counts as one client: an IPv4 address, or an IPv6 /64.

    A single customer usually has a whole /64 and can choose addresses from it.
    """
    try:
        parsed = ip_address(address)
    except ValueError:  # a name, or empty: a socket on this machine
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or ip_network((int(parsed), 64), strict=False))
