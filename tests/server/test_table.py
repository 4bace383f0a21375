"""Tables: typed records of one kind, and the one loop for concurrent changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from asgi_mcp_auth.errors import Contended, ServerUnavailable
from asgi_mcp_auth.server.records import Stored
from asgi_mcp_auth.server.table import ATTEMPTS, Kind, Outcome, Table
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.failing import FailingStore, HeldStore

pytestmark = pytest.mark.asyncio


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour(Stored):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Box(Stored):
    """A record with a nested one."""

    nested: ClassVar[Mapping[str, type[Stored]]] = {"colour": Colour}

    size: int
    colour: Colour | None = None
    seconds: float = 100


BOXES = Kind("box", Box, "its number", "as long as it says")


class Shelf:
    """A table of boxes, the store below it, and the clock of both."""

    def __init__(self, wrap: Callable[[MemoryStore], FailingStore] = FailingStore) -> None:
        self.clock = FrozenClock()
        self.engine = wrap(MemoryStore(clock=self.clock))
        self.boxes = Table(self.engine, BOXES, lambda box: box.seconds)

    async def group_of(self, key: str) -> str | None:
        found = await self.engine.get("box", key)
        assert found is not None
        return found.group

    async def stays_for(self, key: str, seconds: float) -> None:
        self.clock.advance(seconds - 0.1)
        assert await self.boxes.get(key) is not None
        self.clock.advance(0.1)
        assert await self.boxes.get(key) is None


@pytest.mark.parametrize("colour", [None, Colour(name="blue")])
async def test_a_record_comes_back_with_its_nested_ones(colour: Colour | None) -> None:
    box = Box(size=1, colour=colour)
    shelf = Shelf()
    await shelf.boxes.put("a", box)
    assert await shelf.boxes.get("a") == box
    assert Box.load(b'{"size":1,"weight":2}') == Box(size=1)


async def test_every_verb_reaches_its_own_kind_only() -> None:
    shelf = Shelf()
    await shelf.engine.put("crate", "a", b'{"size":9}')
    assert await shelf.boxes.get("a") is None
    assert await shelf.boxes.take("a") is None
    assert await shelf.boxes.delete("a") is False
    assert await shelf.boxes.update("a", lambda box: box) is None
    assert [each async for each in shelf.boxes.scan()] == []
    assert await shelf.boxes.add("a", Box(size=1)) is True
    assert await shelf.boxes.add("a", Box(size=2)) is False
    assert await shelf.boxes.take("a") == Box(size=1)
    await shelf.boxes.put("a", Box(size=3))
    await shelf.boxes.put("a", Box(size=4))
    assert await shelf.boxes.delete("a") is True
    assert await shelf.boxes.delete("a") is False
    assert await shelf.engine.delete("crate", "a") is True


async def test_a_scan_yields_the_records_of_a_group_or_all() -> None:
    shelf = Shelf()
    for number in range(150):
        group = "even" if number % 2 == 0 else None
        await shelf.boxes.put(f"{number:03}", Box(size=number), group=group)
    everything = [each async for each in shelf.boxes.scan()]
    assert everything == [(f"{number:03}", Box(size=number)) for number in range(150)]
    assert [each async for each in shelf.boxes.scan(group="even")] == everything[::2]


@pytest.mark.parametrize("verb", ["put", "add"])
async def test_a_record_lives_as_long_as_it_says(verb: str) -> None:
    shelf = Shelf()
    await getattr(shelf.boxes, verb)("a", Box(size=1, seconds=7))
    await shelf.stays_for("a", 7)


# ------------------------------------------------------------------------------------------- update


async def test_an_update_keeps_the_group_and_gives_the_new_version_its_own_lifetime() -> None:
    shelf = Shelf()
    await shelf.boxes.put("a", Box(size=1), group="mine")
    changed = await shelf.boxes.update("a", lambda box: replace(box, size=2, seconds=30))
    assert changed == await shelf.boxes.get("a") == Box(size=2, seconds=30)
    assert await shelf.group_of("a") == "mine"
    await shelf.stays_for("a", 30)


async def test_an_update_of_nothing_changes_nothing_and_makes_no_record() -> None:
    shelf = Shelf()
    seen: list[Box] = []
    assert await shelf.boxes.update("a", lambda box: seen.append(box) or box) is None
    assert seen == []
    assert await shelf.boxes.get("a") is None


async def test_a_change_that_changes_nothing_is_not_written() -> None:
    shelf = Shelf()
    await shelf.boxes.put("a", Box(size=1))
    assert await shelf.boxes.update("a", lambda box: replace(box, size=1)) == Box(size=1)
    assert await shelf.boxes.update("a", lambda _: None) is None
    assert [verb for verb, *_ in shelf.engine.calls] == ["put", "get", "get"]


async def test_an_update_sees_what_a_faster_one_has_written() -> None:
    shelf = Shelf(HeldStore)
    held = shelf.engine
    assert isinstance(held, HeldStore)
    await shelf.boxes.put("a", Box(size=1), group="mine")
    held.hold = ("swap", "box")
    slow = asyncio.create_task(shelf.boxes.update("a", lambda box: replace(box, size=box.size * 2)))
    await held.arrived.wait()
    await shelf.boxes.update("a", lambda box: replace(box, size=box.size + 10))
    held.go.set()
    assert await slow == await shelf.boxes.get("a") == Box(size=22)
    assert await shelf.group_of("a") == "mine"


async def test_every_one_of_a_crowd_is_counted_once() -> None:
    shelf = Shelf()
    await shelf.boxes.put("a", Box(size=0))
    crowd = [
        shelf.boxes.update("a", lambda box: replace(box, size=box.size + 1)) for _ in range(40)
    ]
    await asyncio.gather(*crowd)
    assert await shelf.boxes.get("a") == Box(size=40)


async def test_an_update_of_a_record_that_is_removed_meanwhile_ends_without_one() -> None:
    shelf = Shelf(HeldStore)
    held = shelf.engine
    assert isinstance(held, HeldStore)
    await shelf.boxes.put("a", Box(size=1))
    held.hold = ("swap", "box")
    slow = asyncio.create_task(shelf.boxes.update("a", lambda box: replace(box, size=2)))
    await held.arrived.wait()
    await shelf.boxes.delete("a")
    held.go.set()
    assert await slow is None
    assert await shelf.boxes.get("a") is None


class LosingStore(FailingStore):
    """A store where another worker is always faster."""

    async def swap(self, *_: object, **__: object) -> bool:
        self.calls.append(("swap",))
        return False


async def test_an_update_gives_up_after_so_many_attempts() -> None:
    shelf = Shelf(LosingStore)
    await shelf.boxes.put("a", Box(size=1))
    with pytest.raises(Contended):
        await shelf.boxes.update("a", lambda box: replace(box, size=2))
    assert shelf.engine.calls.count(("swap",)) == ATTEMPTS == 50


@pytest.mark.parametrize("verb", ["get", "swap"])
async def test_a_store_that_does_not_answer_is_not_asked_again(verb: str) -> None:
    shelf = Shelf()
    await shelf.boxes.put("a", Box(size=1))
    shelf.engine.fail_at = 2 if verb == "get" else 3
    with pytest.raises(ServerUnavailable):
        await shelf.boxes.update("a", lambda box: replace(box, size=2))
    assert shelf.engine.calls[-1] == (verb, "box", "a")
    assert await shelf.boxes.get("a") == Box(size=1)


# -------------------------------------------------------------------------------------------- retry


async def test_a_step_may_wait_create_the_record_and_return_something_else() -> None:
    shelf = Shelf()

    async def step(known: Box | None) -> Outcome[Box, str]:
        await asyncio.sleep(0)
        return Outcome(Box(size=1 if known is None else known.size + 1), f"after {known}")

    assert await shelf.boxes.retry("a", step) == "after None"
    assert await shelf.boxes.get("a") == Box(size=1)
    assert await shelf.boxes.retry("a", step) == f"after {Box(size=1)}"
    assert await shelf.boxes.get("a") == Box(size=2)


async def test_of_several_that_create_a_record_each_sees_the_one_before() -> None:
    shelf = Shelf()

    async def step(known: Box | None) -> Outcome[Box, int]:
        size = 1 if known is None else known.size + 1
        await asyncio.sleep(0)
        return Outcome(Box(size=size), size)

    assert sorted(await asyncio.gather(*(shelf.boxes.retry("a", step) for _ in range(9)))) == [
        *range(1, 10)
    ]


async def test_a_step_that_writes_nothing_still_has_a_result() -> None:
    shelf = Shelf()

    async def step(known: Box | None) -> Outcome[Box, str]:
        return Outcome(None, f"seen {known}")

    assert await shelf.boxes.retry("a", step) == "seen None"
    assert [verb for verb, *_ in shelf.engine.calls] == ["get"]
