"""Clients in the store: their records, and the index of the unused ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self

from ...stores import Store
from ...types import Clock
from ..parties import Client
from ..records import Stored
from ..table import Kind, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusedIndex(Stored):
    """The unused registrations of some networks.

    Attributes:
        entries: packed by ``unused``. There may be hundreds, and most attempts only append some.
    """

    entries: bytes = field(repr=False)

    def dump(self) -> bytes:
        """Return the record as the store keeps it."""
        return self.entries

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Return the record that ``dump`` wrote."""
        return cls(entries=data)


CLIENTS: Final = Kind(
    "client",
    Client,
    key="SHA-256 of the client id",
    lifetime="until it expires; for ever if an operator created it",
)
UNUSED: Final = Kind(
    "unused_clients",
    UnusedIndex,
    key="one of a few numbers, over which networks are distributed",
    lifetime="`unused_seconds`",
)


def client_table(store: Store, clock: Clock) -> Table[Client]:
    """Return the table of the clients that are in the store, by the hash of their ids."""

    def ttl(client: Client) -> float | None:
        expires_at = client.expires_at
        return None if expires_at is None else max(1.0, expires_at - clock.time())

    return Table(store, CLIENTS, ttl)
