"""Where an authorization server keeps what it has to remember: one protocol, four engines.

Every verb touches one key and is atomic, however many processes share the store. An expired record is no record, for
every verb. No verb knows what a value means.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple, Protocol, runtime_checkable


class Record(NamedTuple):
    """A value, and the tag that names this very version of it."""

    value: bytes
    etag: int


@runtime_checkable
class Store(Protocol):
    """What the authorization server needs of a store.

    Args of the verbs: ``ns`` is the kind of record, ``key`` names it within its kind, ``ttl`` is in seconds (``None``:
    for ever), ``group`` is what ``scan`` can ask for.

    Raises:
        ServerUnavailable: from every verb, when the store does not answer.
    """

    async def open(self) -> None:
        """Get ready on the running event loop; a store that does not answer now is no reason to fail.

        Raises:
            ConfigurationError: the store is there and cannot be used: another schema, a corrupt file, a wrong URL.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what ``open`` took on the running event loop."""
        ...

    async def get(self, ns: str, key: str) -> Record | None:
        """Return the record, ``None`` when there is none."""
        ...

    async def put(self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None) -> None:
        """Write the record, whether or not there was one."""
        ...

    async def add(self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None) -> bool:
        """Write the record if there is none; return whether this call wrote it."""
        ...

    async def swap(self, ns: str, key: str, etag: int, value: bytes, *, ttl: float | None = None) -> bool:
        """Replace the version that ``etag`` names; return whether it was still that one. The group stays."""
        ...

    async def take(self, ns: str, key: str) -> bytes | None:
        """Remove the record and return its value; of several callers one gets it."""
        ...

    async def delete(self, ns: str, key: str) -> bool:
        """Remove the record; return whether there was one."""
        ...

    async def sweep(self, limit: int = 500) -> int:
        """Remove expired records, at most ``limit``, and return how many; 0 where the engine does it by itself."""
        ...

    async def scan(
        self, ns: str, *, group: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[tuple[str, Record]]:
        """Return up to ``limit`` records in the order of their keys, those of one group or all.

        Args:
            ns: the kind of record.
            group: ``None`` for every group and for records without one.
            after: the last key of the page before.
            limit: how many at most.
        """
        ...


def new_etag() -> int:
    """Return a tag for a new version. Random: a key that is removed and written again never has an old tag."""
    return secrets.randbits(62)
