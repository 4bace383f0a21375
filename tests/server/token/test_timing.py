"""Timing: a nearly right secret and an unknown client take as long as any wrong secret.

The statistics need many samples on a quiet machine, so these tests run with ``make soak`` only.
test_client_auth.py tests what is equal by construction.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Mapping

import pytest

from tests.support.authorization_server import Server, deploy

pytestmark = [pytest.mark.asyncio, pytest.mark.soak]

SAMPLES = 100_000


async def measure(
    server: Server, forms: Mapping[str, Mapping[str, str]], samples: int
) -> dict[str, list[int]]:
    """Return how many nanoseconds each of the requests takes, again and again, in random order."""
    found: dict[str, list[int]] = {name: [] for name in forms}
    names = list(forms)
    for name in names * 100:  # what is slow the first time is over
        await server.token(**forms[name])
    gc.disable()
    try:
        for number in range(samples):
            random.shuffle(names)
            for name in names:
                began = time.perf_counter_ns()
                await server.token(**forms[name])
                found[name].append(time.perf_counter_ns() - began)
            if number % 1000 == 0:
                server.events.clear()
                gc.collect()
    finally:
        gc.enable()
    return found


def differ(one: list[int], other: list[int]) -> tuple[float, float]:
    """Return by what share the medians differ, and Welch's t of the samples without their slowest
    tenth.
    """
    medians = statistics.median(one), statistics.median(other)
    kept = [sorted(each)[: len(each) * 9 // 10] for each in (one, other)]
    means = [statistics.fmean(each) for each in kept]
    errors = [statistics.variance(each) / len(each) for each in kept]
    return abs(medians[0] - medians[1]) / medians[0], abs(means[0] - means[1]) / sum(errors) ** 0.5


@pytest.mark.case("Z67")
async def test_a_secret_that_is_nearly_right_takes_as_long_as_any_wrong_one() -> None:
    async with deploy() as server:
        client = await server.register(token_endpoint_auth_method="client_secret_post")
        right: str = client.information["client_secret"]
        usual = {"grant_type": "x", "client_id": client.client_id}
        forms = {
            "nearly": {**usual, "client_secret": right[:-1] + ("A" if right[-1] != "A" else "B")},
            "wrong": {**usual, "client_secret": "x" * len(right)},
        }
        found = await measure(server, forms, SAMPLES)
        share, t = differ(found["nearly"], found["wrong"])
        assert share < 0.01
        assert t < 2.58, "p > 0.01"


@pytest.mark.case("Z68")
@pytest.mark.rule("AS-44")
async def test_an_unknown_client_takes_about_as_long_as_a_wrong_secret() -> None:
    async with deploy() as server:
        client = await server.register(token_endpoint_auth_method="client_secret_post")
        usual = {"grant_type": "x", "client_secret": "x" * 43}
        forms = {
            "known": {**usual, "client_id": client.client_id},
            "unknown": {**usual, "client_id": "f" * len(client.client_id)},
        }
        found = await measure(server, forms, SAMPLES // 5)
        share, _ = differ(found["known"], found["unknown"])
        assert share < 0.05, f"{share:.1%}"
