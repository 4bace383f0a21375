"""Bounds the storage that unused registrations take up: a share per network, a ceiling for all (ADR
0016).

The store keeps an index of them in a few records, each for some of the networks. A process adds
many registrations to it at once; those that are used by then never get there.
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from hashlib import sha256
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from ..._cache import LRUCache
from ..._places import network_of
from ...errors import UnreadableRecord
from ...stores import Store
from ...types import Clock
from ..options import Registration
from ..parties import Client
from ..records import hash_of
from ..table import Outcome, Table
from .records import UNUSED, UnusedIndex, client_table

logger = logging.getLogger(__name__)

BATCH = 16  # registrations that a process may keep out of the index
MIN_BYTES = 1024  # counted for each at least, so that their number is bounded as well
# Registrations in the index that are used or deleted, and leave it when it is written next.
MAX_FORGOTTEN = 10_000

_ENTRY = struct.Struct(">16s8sII")
# Replaces a registration for the moment until it is deleted.
_GONE = Client(client_id="", metadata={}, origin="registered", expires_at=0)


# Client id, network, size, and epoch seconds of the registration. A plain tuple, because there may
# be hundreds of them, and usually only their age matters.
_Entry: TypeAlias = tuple[bytes, bytes, int, int]


class UnusedRegistrations:
    """Bounds the storage of unused registrations.

    Args:
        store: where the clients and the index are kept.
        clock: decides what has expired.
        registration: has the bounds.
    """

    def __init__(self, store: Store, clock: Clock, registration: Registration) -> None:
        self._clock = clock
        self._seconds = registration.unused_seconds
        self._clients = client_table(store, clock)
        self._index = Table(store, UNUSED, lambda _: self._seconds)
        # The share of a network is the size of the index record that it belongs to.
        self._limit = registration.unused_bytes_each
        self._pending: list[dict[bytes, _Entry]] = [
            {} for _ in range(registration.unused_bytes // self._limit)
        ]
        self._forgotten: LRUCache[bool] = LRUCache(MAX_FORGOTTEN)

    def add(self, client_id: str, size: int, address: str) -> None:
        """Count a registration that is about to be written or changed.

        Before it is written: counting it too early does no harm, never counting it would.
        """
        network = sha256(network_of(address).encode("utf-8", "surrogatepass")).digest()[:8]
        key = bytes.fromhex(client_id)
        pending = self._pending[network[0] % len(self._pending)]
        pending[key] = key, network, max(MIN_BYTES, size), int(self._clock.time())

    def forget(self, client_id: str) -> None:
        """Stop counting a registration that has been used or deleted."""
        key = bytes.fromhex(client_id)
        for pending in self._pending:
            if pending.pop(key, None) is not None:
                return
        self._forgotten.put(key, True)

    async def make_room(self, *, at_once: bool = False) -> None:
        """Add new registrations to the index, and delete the oldest ones of the busiest network if
        there are too many.

        Args:
            at_once: whether to do that without waiting for a whole batch.

        Raises:
            ServerUnavailable: the store is not responding.
        """
        for number, pending in enumerate(self._pending):
            if len(pending) >= (1 if at_once else BATCH):
                self._pending[number] = {}
                try:
                    await self._write(str(number), pending)
                except BaseException:
                    self._pending[number] = pending | self._pending[number]
                    raise

    async def _write(self, key: str, new: dict[bytes, _Entry]) -> None:
        """Add new registrations to an index, and delete the surplus ones."""

        async def step(known: UnusedIndex | None) -> Outcome[UnusedIndex, None]:
            ended_at = self._clock.time() - self._seconds
            packed = b"" if known is None else known.entries
            unpacked: Iterator[_Entry] = _ENTRY.iter_unpack(packed)
            old = self._counted(
                each for each in unpacked if each[3] > ended_at and each[0] not in new
            )
            latest = self._counted(new.values())
            # The latest stay for now: some of them are still waiting for their response.
            surplus = _surplus(old, self._limit - sum(size for _, _, size, _ in latest))
            for each in surplus:
                await self._delete(hash_of(each[0].hex()))
            if surplus or len(old) * _ENTRY.size < len(packed):
                packed = b"".join(_ENTRY.pack(*each) for each in old if each not in surplus)
            packed += b"".join(_ENTRY.pack(*each) for each in latest)
            return Outcome(UnusedIndex(entries=packed), None)

        await self._index.retry(key, step)

    def _counted(self, entries: Iterable[_Entry]) -> list[_Entry]:
        if not len(self._forgotten):
            return list(entries)
        return [each for each in entries if not self._forgotten.get(each[0])]

    async def _delete(self, key: str) -> None:
        """Delete a registration, unless it is in use by now or cannot be read."""
        try:
            gone = await self._clients.update(key, lambda known: None if known.used else _GONE)
        except UnreadableRecord:
            return
        # In two steps: a request that reads the client in between finds one that has expired, and
        # cannot start using it.
        if gone is not None:
            await self._clients.delete(key)
            logger.info("An unused registration was deleted to make room for others")


def _surplus(entries: list[_Entry], limit: int) -> set[_Entry]:
    """Return the entries to delete: repeatedly the oldest one of the network that takes up most."""
    surplus, sizes = set[_Entry](), [size for _, _, size, _ in entries]
    excess = sum(sizes) - limit
    if excess <= 0:
        return surplus
    queues = dict[bytes, deque[int]]()
    for position, (_, network, _, _) in enumerate(entries):
        queues.setdefault(network, deque()).append(position)
    heap = [
        (-sum(sizes[each] for each in queue), queue[0], network)
        for network, queue in queues.items()
    ]
    heapify(heap)
    while excess > 0 and heap:
        size, position, network = heappop(heap)
        surplus.add(entries[position])
        excess -= sizes[position]
        queues[network].popleft()
        if queues[network]:
            heappush(heap, (size + sizes[position], queues[network][0], network))
    return surplus
