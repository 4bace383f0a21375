"""One contract for every engine, encrypted and not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from asgi_mcp_auth.stores import Record, Store
from asgi_mcp_auth.stores.contract import StoreContract
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.engines import ENGINES, fresh

pytestmark = pytest.mark.case("S26")


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "encrypted"])
class TestContract(StoreContract):
    @pytest_asyncio.fixture
    async def store(self, engine: str, encrypted: bool) -> AsyncIterator[Store]:
        # the others have a clock of their own
        self.clock = FrozenClock() if engine in ("memory", "sqlite") else None
        with fresh(engine) as place:
            given = place.store(clock=self.clock or time)
            store: Store = given if encrypted else given.inner
            await store.open()
            yield store
            await store.aclose()

    async def elapse(self, seconds: float) -> None:
        if self.clock is None:
            await super().elapse(seconds)
        else:
            self.clock.advance(seconds)


class Forgets(MemoryStore):
    async def put(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> None:
        pass


class AddsTwice(MemoryStore):
    async def add(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> bool:
        await self.put(ns, key, value, ttl=ttl, group=group)
        return True


class IgnoresEtags(MemoryStore):
    async def swap(
        self, ns: str, key: str, known: Record, value: bytes, *, ttl: float | None = None
    ) -> bool:
        record = await self.get(ns, key)
        return record is not None and await super().swap(ns, key, record, value, ttl=ttl)


class TakesInTwoSteps(MemoryStore):
    async def take(self, ns: str, key: str) -> bytes | None:
        record = await self.get(ns, key)
        await asyncio.sleep(0)
        await self.delete(ns, key)
        return None if record is None else record.value

    async def delete(self, ns: str, key: str) -> bool:
        return await super().take(ns, key) is not None


class NeverExpires(MemoryStore):
    async def put(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> None:
        await super().put(ns, key, value, group=group)


class ListsEveryGroup(MemoryStore):
    async def scan(
        self, ns: str, *, group: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[tuple[str, Record]]:
        return await super().scan(ns, after=after, limit=limit)


@pytest.mark.case("S26")
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Forgets, "test_what_is_written_is_read"),
        (AddsTwice, "test_add_writes_only_where_nothing_is"),
        (IgnoresEtags, "test_swap_replaces_the_version_that_the_etag_names_and_no_other"),
        (IgnoresEtags, "test_a_key_that_is_written_again_does_not_know_its_old_etag"),
        (TakesInTwoSteps, "test_of_many_that_add_swap_or_take_at_once_one_succeeds"),
        (NeverExpires, "test_an_expired_record_is_no_record_for_any_verb"),
        (ListsEveryGroup, "test_put_replaces"),
    ],
)
async def test_the_contract_finds_out_a_store_that_breaks_it(
    kind: type[MemoryStore], test: str
) -> None:
    with pytest.raises(AssertionError):
        await getattr(StoreContract(), test)(kind())
