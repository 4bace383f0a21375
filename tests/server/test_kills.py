"""A worker is killed (SIGKILL) while it registers, redeems, refreshes and revokes.

What it acknowledged holds, what was used, replaced or revoked stays so, and the clients whose
requests were cut off can continue.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.authorization_server import ClientOf, Server, deploy
from tests.support.engines import SHARED_ENGINES, Place, fresh
from tests.support.products import some_of
from tests.support.token_endpoint import assert_refused, is_alive, tokens_of
from tests.support.token_processes import Contender

pytestmark = pytest.mark.asyncio

JOBS = 40


@pytest.fixture
def place(engine: str) -> Iterator[Place]:
    with fresh(engine) as place:
        yield place


async def check(server: Server, client: ClientOf, code: str, said: dict[str, Any]) -> None:
    """Compare what a killed worker had acknowledged about a code with what is so now."""
    if "registered" in said:
        assert await server.provider.admin.get_client(said["registered"]["client_id"]) is not None
    if "redeemed" not in said:
        again = await client.redeem(code)
        if again.status == 200:
            assert await is_alive(server, tokens_of(again)["access_token"])
        else:  # it was used, and the answer was lost
            assert_refused(again, "invalid_grant")
        return
    first = said["redeemed"]
    if "revoked" in said:
        assert said["revoked"] == 200
        for tokens in (first, said["refreshed"]):
            assert not await is_alive(server, tokens["access_token"])
            assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_grant")
    elif "refreshed" in said:  # the revocation may have come through
        second = said["refreshed"]
        again = await client.refresh(second["refresh_token"])
        assert await is_alive(server, second["access_token"]) is (again.status == 200)
        if again.status == 200:
            assert_refused(await client.refresh(first["refresh_token"]), "invalid_grant")
            assert_refused(await client.refresh(tokens_of(again)["refresh_token"]), "invalid_grant")
    else:  # the refresh may have come through: the client tries again with what it has, and goes on
        again = tokens_of(await client.refresh(first["refresh_token"]))
        assert await is_alive(server, again["access_token"])
        tokens_of(await client.refresh(again["refresh_token"]))
    assert_refused(await client.redeem(code), "invalid_grant")


async def kills(place: Place, times: int) -> None:
    stages: set[str] = set()
    async with deploy(store=place.store(), clock=time) as server:  # type: ignore[arg-type]  # the real clock
        client = await server.register()
        worker = Contender()
        try:
            for _ in range(times):
                codes = [await client.code() for _ in range(JOBS)]
                usual = {"client_id": client.client_id, "code_verifier": client.verifier}
                worker.work(place, [{**usual, "code": code} for code in codes])
                told: list[Any] = [worker.hear()]
                replacement = Contender()  # ahead of the time when it is wanted
                time.sleep(random.uniform(0, 0.05))  # noqa: ASYNC251 (nothing else is to happen meanwhile)
                worker.process.kill()
                told += worker.rest()
                worker.close()
                worker = replacement
                said: dict[str, dict[str, Any]] = {code: {} for code in codes}
                for code, stage, what in told:
                    said[code][stage] = what
                    stages.add(stage)
                for code in codes:
                    await check(server, client, code, said[code])
        finally:
            worker.close()
    if times > 1:  # a single worker may be killed before it has come that far
        assert {"registered", "redeemed"} <= stages


@pytest.mark.case("S01")
@pytest.mark.parametrize("engine", some_of(SHARED_ENGINES, "postgresql"))
async def test_a_worker_that_is_killed_has_lost_and_revived_nothing(place: Place) -> None:
    await kills(place, 1)


@pytest.mark.case("S01")
@pytest.mark.soak
@pytest.mark.parametrize("engine", SHARED_ENGINES)
async def test_workers_that_are_killed_two_hundred_times_have_lost_and_revived_nothing(
    place: Place,
) -> None:
    await kills(place, 200)
