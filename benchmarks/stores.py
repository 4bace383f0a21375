"""What each store does in a second, encrypted, as the authorization server uses it. P13 needs about
3,000 writes.

The servers are started for it, as the tests do; an engine that is not installed is left out with a
note.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from report import Row, main, note

sys.path.insert(0, str(Path(__file__).parent.parent))

import pytest

from asgi_mcp_auth.stores import Store
from tests.support.engines import ENGINES, fresh

COROUTINES = 16
VALUE = bytes(400)  # about a grant


async def operations_a_second(call: Callable[[int], Awaitable[object]], count: int) -> float:
    """Return how often a call is done in a second, with ever new numbers, by several coroutines."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await call(number)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(COROUTINES)))
    return count / (time.perf_counter() - began)


async def rates(store: Store, count: int) -> list[float]:
    """Return the rates of put, get, get and swap, take."""

    async def get_and_swap(number: int) -> None:
        record = await store.get("code", f"{number}")
        assert record is not None
        assert await store.swap("code", f"{number}", record, VALUE, ttl=3600)

    await store.open()
    measured = [
        await operations_a_second(
            lambda number: store.put("code", f"{number}", VALUE, ttl=3600), count
        ),
        await operations_a_second(lambda number: store.get("code", f"{number}"), count),
        await operations_a_second(get_and_swap, count),
        await operations_a_second(lambda number: store.take("code", f"{number}"), count),
    ]
    await store.aclose()
    return measured


def measure(quick: bool) -> Iterator[Row]:
    """Measure one engine after the other."""
    for engine in ENGINES:
        note(f"stores: {engine}")
        try:
            with fresh(engine) as place:
                measured = asyncio.run(rates(place.store(), 2_000 if quick else 20_000))
        except pytest.skip.Exception as missing:
            note(f"stores: {engine} is left out, it {missing}")
            continue
        yield Row(
            "stores",
            f"{engine}: put / get / get and swap / take in a second, {COROUTINES} coroutines,"
            " values encrypted",
            " / ".join(f"{round(rate, -2):,.0f}" for rate in measured),
            "",
            "–",
            "–",
            None,
        )


if __name__ == "__main__":
    main(measure)
