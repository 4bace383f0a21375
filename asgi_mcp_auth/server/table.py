"""Tables over the store: the records of one kind, typed, with one loop for concurrent changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from ..errors import Contended
from ..stores import Store, scan_all
from .records import Stored

R = TypeVar("R", bound=Stored)
T = TypeVar("T")

# One attempt is enough without contention. Each further one means that another request has just
# changed the same record, so even a crowd makes progress.
ATTEMPTS: Final = 50


@dataclass(frozen=True, slots=True)
class Kind(Generic[R]):
    """One kind of record: a line of the schema in docs/stores.md.

    Args:
        name: the kind's name in the store. An upgrade that changes it loses every such record.
        record: the class of the records.
        key: how a record is identified, for the schema.
        lifetime: how long a record is kept, for the schema.
    """

    name: str
    record: type[R]
    key: str
    lifetime: str


class Outcome(NamedTuple, Generic[R, T]):
    """The result of one step of ``Table.retry``.

    Attributes:
        record: the record to write. Nothing is written if it is ``None`` or equals the stored one.
        result: what ``retry`` returns once the record has been written.
    """

    record: R | None
    result: T

    def __repr__(self) -> str:
        return "Outcome()"  # the result may be a secret


class Table(Generic[R]):
    """The records of one kind.

    Every method raises ``ServerUnavailable`` while the store is not responding, and
    ``UnreadableRecord`` for a record that cannot be decrypted.

    Args:
        store: where the records are kept.
        kind: which records.
        ttl: returns for how many seconds from now a record is needed, ``None`` for ever.
    """

    def __init__(self, store: Store, kind: Kind[R], ttl: Callable[[R], float | None]) -> None:
        self._store = store
        self._name = kind.name
        self._load: Callable[[bytes], R] = kind.record.load
        self._ttl = ttl

    async def get(self, key: str) -> R | None:
        """Return the record, or ``None`` if there is none."""
        found = await self._store.get(self._name, key)
        return None if found is None else self._load(found.value)

    async def put(self, key: str, record: R, *, group: str | None = None) -> None:
        """Write the record, replacing any other."""
        value = record.dump()
        await self._store.put(self._name, key, value, ttl=self._ttl(record), group=group)

    async def add(self, key: str, record: R, *, group: str | None = None) -> bool:
        """Write the record unless there already is one; return whether it was written."""
        value = record.dump()
        return await self._store.add(self._name, key, value, ttl=self._ttl(record), group=group)

    async def take(self, key: str) -> R | None:
        """Remove the record and return it. Of several callers, one gets it."""
        value = await self._store.take(self._name, key)
        return None if value is None else self._load(value)

    async def delete(self, key: str) -> bool:
        """Remove the record; return whether there was one."""
        return await self._store.delete(self._name, key)

    async def scan(self, *, group: str | None = None) -> AsyncIterator[tuple[str, R]]:
        """Yield the records with their keys, those of one group or all of them."""
        async for key, found in scan_all(self._store, self._name, group=group):
            yield key, self._load(found.value)

    async def update(self, key: str, change: Callable[[R], R | None]) -> R | None:
        """Change the newest version of a record, and return the result.

        The record keeps its group. A change that leaves it as it is writes nothing.

        Args:
            key: which record.
            change: a pure function, called again if another worker was faster. If it returns
                ``None``, the record stays as it is.

        Returns:
            The changed record; ``None`` if there is no record, or ``change`` returned ``None``.

        Raises:
            Contended: other workers were faster every time.
        """

        async def step(known: R | None) -> Outcome[R, R | None]:
            changed = None if known is None else change(known)
            return Outcome(changed, changed)

        return await self.retry(key, step)

    async def retry(self, key: str, step: Callable[[R | None], Awaitable[Outcome[R, T]]]) -> T:
        """Run ``step`` on the newest version of a record until its result has been written.

        For changes that must wait for something, that create the record where there is none, or
        that return something else than the record. The record keeps its group; a new one has none.

        Args:
            key: which record.
            step: gets the record, or ``None`` if there is none.

        Raises:
            Contended: other workers were faster every time.
        """
        for _ in range(ATTEMPTS):
            found = await self._store.get(self._name, key)
            known = None if found is None else self._load(found.value)
            changed, result = await step(known)
            if changed is None or changed == known:
                return result
            value, ttl = changed.dump(), self._ttl(changed)
            if found is None:
                written = await self._store.add(self._name, key, value, ttl=ttl)
            else:
                written = await self._store.swap(self._name, key, found, value, ttl=ttl)
            if written:
                return result
        raise Contended
