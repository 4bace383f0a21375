"""Shares of the work that strangers can cause: each network has its own, and a flood waits last."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from asgi_mcp_auth._places import Place, Places
from asgi_mcp_auth.errors import ServerUnavailable, TooManyRequests

pytestmark = [pytest.mark.asyncio, pytest.mark.case("Z122")]


def make(
    at_once: int = 1, each: int = 2, wait_seconds: float = 30, usual_seconds: float = 1
) -> Places:
    return Places(at_once, each=each, wait_seconds=wait_seconds, usual_seconds=usual_seconds)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_network_holds_no_more_than_its_share_working_and_waiting() -> None:
    places = make(at_once=1, each=2)
    held = await places.enter("a")
    waiting = asyncio.create_task(places.enter("a"))
    await settle()
    with pytest.raises(TooManyRequests):
        await places.enter("a")
    held.leave()
    (await waiting).leave()
    (await places.enter("a")).leave()


async def test_a_network_that_came_first_and_often_waits_behind_one_that_comes_first_now() -> None:
    places = make(at_once=1, each=9)
    held, order = await places.enter("flood"), []

    async def work(network: str) -> None:
        place = await places.enter(network)
        order.append(network)
        place.leave()

    flood = [asyncio.create_task(work("flood")) for _ in range(3)]
    await settle()
    honest = asyncio.create_task(work("honest"))
    await settle()
    held.leave()
    await asyncio.gather(honest, *flood)
    assert order == ["honest", "flood", "flood", "flood"]


async def test_places_that_are_forgiven_do_not_count_against_a_network() -> None:
    """Many people of one office sign in, one after the other; others guess passwords, no more
    often.
    """
    places = make(at_once=1, each=9)
    order: list[str] = []

    async def work(network: str) -> None:
        place = await places.enter(network)
        order.append(network)
        place.leave()

    for _ in range(3):
        await work("office")
        places.forgive("office")
        await work("guesser")
    held = await places.enter("another")
    guesser = asyncio.create_task(work("guesser"))
    await settle()
    office = asyncio.create_task(work("office"))
    await settle()
    held.leave()
    await asyncio.gather(office, guesser)
    assert order[-2:] == ["office", "guesser"]


async def test_the_line_is_as_long_as_the_wait_and_the_last_in_it_is_turned_away() -> None:
    # three of them wait three seconds at most
    places = make(at_once=2, each=9, wait_seconds=3, usual_seconds=2)
    held = [await places.enter("flood"), await places.enter("flood")]
    waiting = [asyncio.create_task(places.enter("flood")) for _ in range(3)]
    await settle()
    with pytest.raises(ServerUnavailable):
        await places.enter("flood")
    honest = asyncio.create_task(places.enter("honest"))
    await settle()
    assert [each.done() for each in waiting] == [False, False, True], (
        "the last of the flood made room"
    )
    with pytest.raises(ServerUnavailable):
        await waiting[2]
    held[0].leave()
    (await honest).leave()
    held[1].leave()
    for each in waiting[:2]:
        (await each).leave()


async def test_who_waits_too_long_is_turned_away_and_takes_no_place() -> None:
    places = make(at_once=1, wait_seconds=0.05, usual_seconds=0.01)
    held = await places.enter("a")
    with pytest.raises(ServerUnavailable):
        await places.enter("b")
    held.leave()
    (await places.enter("b")).leave()


async def test_who_stops_waiting_gives_the_place_on_even_one_that_was_just_given() -> None:
    places = make(at_once=1)
    held = await places.enter("a")
    first, second = asyncio.create_task(places.enter("b")), asyncio.create_task(places.enter("c"))
    await settle()
    held.leave()  # b is admitted, and cancelled before it hears of it
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    (await second).leave()
    (await places.enter("b")).leave()


async def test_a_place_lasts_until_its_thread_has_ended_and_is_left_once() -> None:
    places = make(at_once=1)
    held: Place = await places.enter("a")
    waiting = asyncio.create_task(places.enter("b"))
    await settle()
    assert not waiting.done()
    for _ in range(2):
        thread = threading.Thread(target=held.leave)
        thread.start()
        thread.join()
    second = await waiting
    third = asyncio.create_task(places.enter("c"))
    await settle()
    assert not third.done(), "leaving twice gave one place away twice"
    second.leave()
    (await third).leave()


async def test_a_place_is_not_given_to_who_waited_on_an_event_loop_that_is_closed() -> None:
    places = make(at_once=1)
    held = await places.enter("a")
    left = await asyncio.to_thread(waiting_on_a_loop_that_closes, places)
    held.leave()
    for _ in range(2):
        (await places.enter("b")).leave()
    del left


def waiting_on_a_loop_that_closes(places: Places) -> object:
    """Wait for a place, and close the event loop without telling the task; return what keeps it
    alive.
    """
    loop = asyncio.new_event_loop()
    waiting: Any = loop.create_task(places.enter("b"))
    loop.run_until_complete(settle())
    loop.close()
    waiting._log_destroy_pending = False
    return waiting


async def test_the_last_quarter_of_the_places_is_for_networks_without_work_under_way() -> None:
    """One network's work may hang for as long as it likes: that of another one begins at once."""
    places = make(at_once=8, each=99)
    held = [await places.enter("flood") for _ in range(6)]
    waiting = [asyncio.create_task(places.enter("flood")) for _ in range(3)]
    await settle()
    assert not any(each.done() for each in waiting)
    first = await asyncio.wait_for(places.enter("honest"), 5)
    second = asyncio.create_task(places.enter("honest"))
    await settle()
    assert not second.done(), "only the first piece of its work is entitled to a reserved place"
    held.pop().leave()  # seven are left, which is more than six
    await settle()
    assert not second.done()
    first.leave()
    held.pop().leave()
    held += [await asyncio.wait_for(second, 5)]
    for each in waiting:
        held.pop(0).leave()
        held += [await asyncio.wait_for(each, 5)]
    for place in held:
        place.leave()
    free = [await asyncio.wait_for(places.enter(str(number)), 5) for number in range(8)]
    for place in free:
        place.leave()
