"""Tests that every store must pass: those of this package, and yours.

    @pytest.mark.asyncio
    class TestMyStore(StoreContract):
        @pytest_asyncio.fixture
        async def store(self):
            store = MyStore(...)
            await store.open()
            yield store
            await store.aclose()

The store may contain other records: the tests use random kinds. If your store has a clock of its
own, override ``elapse`` to move it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable

from . import Record, Store

TTL = 0.5
CONTENDERS = 20
ODD_KEYS = (
    "",
    "*",
    "a:b",
    "a:",
    "{a}b",
    "{}",
    "a\0b",
    "a\0",
    "%",
    "_",
    "'; DROP TABLE records; --",
    '"',
    "\\",
    "a b\r\n",
    "ä",
    "a\u0308",
    "\U0001f511",
    "\ud800",
    "KEYS[1]",
    "../x",
    "k" * 1000,
)


class _Records:
    """Reading, writing and removing one record."""

    async def elapse(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    async def test_what_is_written_is_read(self, store: Store) -> None:
        ns = _kind()
        for value in (b"", b"x", bytes(range(256)), b"\0" * 1000, secrets.token_bytes(1_000_000)):
            await store.put(ns, "key", value)
            _equal((await _found(store, ns, "key")).value, value)

    async def test_nothing_is_found_where_nothing_was_written(self, store: Store) -> None:
        ns = _kind()
        await store.put(ns, "other", b"x")
        await store.put(_kind(), "key", b"x")
        _equal(await store.get(ns, "key"), None)
        _equal(await store.take(ns, "key"), None)
        _equal(await store.delete(ns, "key"), False)
        _equal(await store.swap(ns, "key", Record(b"x", 0), b"x"), False)
        _equal(await store.get(ns, "key"), None)

    async def test_put_replaces(self, store: Store) -> None:
        ns = _kind()
        await store.put(ns, "key", b"1", ttl=TTL, group="one")
        before = await _found(store, ns, "key")
        await store.put(ns, "key", b"2", group="two")
        after = await _found(store, ns, "key")
        _equal(after.value, b"2")
        _true(after.etag != before.etag, "a write makes a new etag")
        _equal(await _keys(store, ns, "one"), [])
        _equal(await _keys(store, ns, "two"), ["key"])
        await self.elapse(TTL * 1.2)
        _equal(await store.get(ns, "key"), after)

    async def test_add_writes_only_where_nothing_is(self, store: Store) -> None:
        ns = _kind()
        _equal(await store.add(ns, "key", b"1", group="g"), True)
        before = await _found(store, ns, "key")
        _equal(await store.add(ns, "key", b"2", group="h"), False)
        _equal(await store.get(ns, "key"), before)
        _equal(await _keys(store, ns, "g"), ["key"])
        _equal(await _keys(store, ns, "h"), [])
        await store.delete(ns, "key")
        _equal(await store.add(ns, "key", b"3"), True)
        _equal((await _found(store, ns, "key")).value, b"3")

    async def test_swap_replaces_the_version_that_the_etag_names_and_no_other(
        self, store: Store
    ) -> None:
        ns = _kind()
        await store.put(ns, "key", b"1", group="g")
        first = await _found(store, ns, "key")
        _equal(await store.swap(ns, "key", first._replace(etag=first.etag + 1), b"x"), False)
        _equal(await store.swap(ns, "key", first, b"2"), True)
        second = await _found(store, ns, "key")
        _equal((second.value, second.group), (b"2", "g"))
        _true(second.etag != first.etag, "a write makes a new etag")
        _equal(await store.swap(ns, "key", first, b"x"), False)
        _equal(await store.get(ns, "key"), second)
        _equal(await _keys(store, ns, "g"), ["key"])

    async def test_a_key_that_is_written_again_does_not_know_its_old_etag(
        self, store: Store
    ) -> None:
        ns = _kind()
        await store.put(ns, "key", b"1")
        old = await _found(store, ns, "key")
        await store.delete(ns, "key")
        await store.add(ns, "key", b"1")
        _equal(await store.swap(ns, "key", old, b"2"), False)

    async def test_take_and_delete_remove(self, store: Store) -> None:
        ns = _kind()
        await store.put(ns, "key", b"1", group="g")
        _equal(await store.take(ns, "key"), b"1")
        _equal(await store.take(ns, "key"), None)
        await store.put(ns, "key", b"2", group="g")
        _equal(await store.delete(ns, "key"), True)
        _equal(await store.delete(ns, "key"), False)
        _equal(await store.get(ns, "key"), None)
        _equal(await _keys(store, ns), [])
        _equal(await _keys(store, ns, "g"), [])

    async def test_odd_keys_and_groups_stay_apart(self, store: Store) -> None:
        ns = _kind()
        for key in ODD_KEYS:
            await store.put(ns, key, b"v" + key.encode("utf-8", "surrogatepass"), group=key)
        for key in ODD_KEYS:
            record = await _found(store, ns, key)
            _equal((record.value, record.group), (b"v" + key.encode("utf-8", "surrogatepass"), key))
            _equal(await _keys(store, ns, key), [key])
            _equal(await store.add(ns, key, b""), False)
            _equal(await store.swap(ns, key, record, b"swapped"), True)
        _equal(await _keys(store, ns), sorted(ODD_KEYS))
        for key in ODD_KEYS:
            _equal(await store.take(ns, key), b"swapped")

    async def test_kind_and_key_are_never_read_as_one(self, store: Store) -> None:
        ns = _kind()
        await store.put(ns, "a:b", b"1", group="c:d")
        for kind, key, group in (
            (f"{ns}:a", "b", "c:d"),
            (ns + "a", ":b", "d"),
            (f"{ns}:a:b", "", "c"),
        ):
            _equal(await store.get(kind, key), None)
            _equal(await _keys(store, kind), [])
            _equal(await _keys(store, ns, group if group != "c:d" else "c"), [])


class _Expiry(_Records):
    """Lifetimes of records, and sweeping."""

    async def test_an_expired_record_is_no_record_for_any_verb(self, store: Store) -> None:
        ns = _kind()
        for key in ("get", "add", "swap", "take", "delete", "scan"):
            await store.put(ns, key, b"1", ttl=TTL, group="g")
        await store.put(ns, "stays", b"1", ttl=1000, group="g")
        known = await _found(store, ns, "swap")
        await self.elapse(TTL * 1.2)
        _equal(await store.get(ns, "get"), None)
        _equal(await store.swap(ns, "swap", known, b"2"), False)
        _equal(await store.take(ns, "take"), None)
        _equal(await store.delete(ns, "delete"), False)
        _equal(await _keys(store, ns), ["stays"])
        _equal(await _keys(store, ns, "g"), ["stays"])
        _equal(await store.add(ns, "add", b"2"), True)
        _equal((await _found(store, ns, "add")).value, b"2")

    async def test_swap_sets_a_new_lifetime(self, store: Store) -> None:
        ns = _kind()
        for key, before, after in (
            ("longer", TTL, 1000),
            ("shorter", 1000, TTL),
            ("for ever", TTL, None),
        ):
            await store.put(ns, key, b"1", ttl=before, group="g")
            _equal(await store.swap(ns, key, await _found(store, ns, key), b"2", ttl=after), True)
        await self.elapse(TTL * 1.2)
        await self._sweep_all(store)
        _equal(await _keys(store, ns, "g"), ["for ever", "longer"])
        _equal(await store.get(ns, "shorter"), None)

    async def test_no_lifetime_is_too_short_or_too_long(self, store: Store) -> None:
        ns = _kind()
        for number, ttl in enumerate((-1.0, 0.0, 1e-9)):
            await store.put(ns, f"short {number}", b"1", ttl=ttl)
        for number, ttl in enumerate((1e7, 1e10, 1e15)):
            await store.put(ns, f"long {number}", b"1", ttl=ttl)
        await self.elapse(0.01)
        _equal(await _keys(store, ns), ["long 0", "long 1", "long 2"])

    async def test_sweep_removes_what_is_expired_and_nothing_else(self, store: Store) -> None:
        ns = _kind()
        for number in range(10):
            await store.put(ns, f"old {number}", b"1", ttl=TTL, group="g")
            await store.put(ns, f"new {number}", b"1", ttl=1000, group="g")
        await store.put(ns, "for ever", b"1")
        await self.elapse(TTL * 1.2)
        _true(await store.sweep(3) <= 3, "sweep removes no more than its limit")
        await self._sweep_all(store)
        _equal(await _keys(store, ns), ["for ever", *(f"new {number}" for number in range(10))])

    async def _sweep_all(self, store: Store) -> None:
        while await store.sweep():
            pass


class _Concurrency(_Records):
    """Many calls at once, and cancelled ones."""

    async def test_of_many_that_add_swap_or_take_at_once_one_succeeds(self, store: Store) -> None:
        ns = _kind()
        for number in range(5):
            key = f"{number}"
            added = await _at_once(store.add(ns, key, b"%d" % each) for each in range(CONTENDERS))
            _equal(added.count(True), 1)
            record = await _found(store, ns, key)
            _equal(record.value, b"%d" % added.index(True))
            swapped = await _at_once(
                store.swap(ns, key, record, b"%d" % each) for each in range(CONTENDERS)
            )
            _equal(swapped.count(True), 1)
            value = b"%d" % swapped.index(True)
            taken = await _at_once(store.take(ns, key) for _ in range(CONTENDERS))
            _equal([each for each in taken if each is not None], [value])

    async def test_no_increment_is_lost(self, store: Store) -> None:
        ns = _kind()
        await store.put(ns, "counter", b"0")

        async def increment() -> None:
            while True:
                record = await _found(store, ns, "counter")
                if await store.swap(ns, "counter", record, b"%d" % (int(record.value) + 1)):
                    return

        await _at_once(increment() for _ in range(CONTENDERS))
        _equal((await _found(store, ns, "counter")).value, b"%d" % CONTENDERS)

    async def test_a_cancelled_call_is_done_or_not_done_and_disturbs_no_other_call(
        self, store: Store
    ) -> None:
        ns = _kind()
        calls: tuple[Callable[[str], Awaitable[object]], ...] = (
            lambda key: store.get(ns, key),
            lambda key: store.put(ns, key, b"new", group="g"),
            lambda key: store.add(ns, key, b"new"),
            lambda key: store.take(ns, key),
            lambda key: store.delete(ns, key),
            lambda key: store.scan(ns, group="g"),
            lambda key: store.sweep(),
        )
        for steps in range(12):
            for call in calls:
                await store.put(ns, "key", b"old", group="g")
                task = asyncio.ensure_future(call("key"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                record = await store.get(ns, "key")
                _true(
                    record is None or record.value in (b"old", b"new"), f"{record} is half a record"
                )
        known = await _put_and_get(store, ns, "key", b"old")
        task = asyncio.ensure_future(store.swap(ns, "key", known, b"new"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        record = await _found(store, ns, "key")
        _equal(record.value, b"old" if record.etag == known.etag else b"new")


class StoreContract(_Expiry, _Concurrency):
    """The tests.

    A subclass has a fixture ``store``, which is open, and a marker that runs coroutines.
    """

    async def test_scan_pages_in_the_order_of_keys(self, store: Store) -> None:
        ns = _kind()
        keys = [f"{number:02}" for number in range(25)] + ["Z", "a", "ä", "€", "\U0001f511"]
        for key in sorted(keys, key=lambda _: secrets.randbits(32)):
            await store.put(
                ns, key, key.encode(), group="even" if len(key.encode()) % 2 == 0 else None
            )
        found: list[str] = []
        after: str | None = None
        while page := await store.scan(ns, after=after, limit=7):
            _true(len(page) <= 7, "a page has no more than limit")
            for key, record in page:
                _equal(record, await store.get(ns, key))
            found += [key for key, _ in page]
            after = found[-1]
        _equal(found, sorted(keys))
        grouped = [key for key in sorted(keys) if len(key.encode()) % 2 == 0]
        _equal(await _keys(store, ns, "even"), grouped)
        _equal(
            [key for key, _ in await store.scan(ns, group="even", after=grouped[1], limit=2)],
            grouped[2:4],
        )
        _equal(await store.scan(ns, after="\U0010ffff"), [])

    async def test_scan_knows_no_group_from_an_empty_one(self, store: Store) -> None:
        ns = _kind()
        await store.put(ns, "none", b"1")
        await store.put(ns, "empty", b"1", group="")
        _equal(await _keys(store, ns), ["empty", "none"])
        _equal(await _keys(store, ns, ""), ["empty"])

    async def test_verbs_work_before_open_and_after_aclose(self, store: Store) -> None:
        ns = _kind()
        await store.aclose()
        await store.put(ns, "key", b"1", group="g")
        _equal((await _found(store, ns, "key")).value, b"1")
        _equal(await _keys(store, ns, "g"), ["key"])
        await store.open()
        _equal(await store.take(ns, "key"), b"1")


def _kind() -> str:
    return f"contract-{secrets.token_hex(6)}"


async def _at_once(calls: Iterable[Awaitable[object]]) -> list[object]:
    return list(await asyncio.gather(*calls))


async def _found(store: Store, ns: str, key: str) -> Record:
    record = await store.get(ns, key)
    if record is None:
        raise AssertionError(f"{key!r} is missing")
    return record


async def _put_and_get(store: Store, ns: str, key: str, value: bytes) -> Record:
    await store.put(ns, key, value)
    return await _found(store, ns, key)


async def _keys(store: Store, ns: str, group: str | None = None) -> list[str]:
    return [key for key, _ in await store.scan(ns, group=group, limit=1000)]


def _equal(got: object, wanted: object) -> None:
    _true(got == wanted, f"{got!r} is not {wanted!r}")


def _true(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)
