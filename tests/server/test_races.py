"""Races of two processes with 20 contenders each: one set of tokens, one successor."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.support.authorization_server import ClientOf, deploy
from tests.support.engines import SHARED_ENGINES, Place, fresh
from tests.support.token_endpoint import is_alive, tokens_of
from tests.support.token_processes import CONTENDERS, Contender, contenders, race

pytestmark = pytest.mark.asyncio


@pytest.fixture
def place(engine: str) -> Iterator[Place]:
    with fresh(engine) as place:
        yield place


def redemption(client: ClientOf, code: str) -> dict[str, Any]:
    form = {"grant_type": "authorization_code", "client_id": client.client_id}
    return {"path": "/token", "form": {**form, "code": code, "code_verifier": client.verifier}}


def refreshing(client: ClientOf, token: str) -> dict[str, Any]:
    form = {"grant_type": "refresh_token", "client_id": client.client_id, "refresh_token": token}
    return {"path": "/token", "form": form}


def revoking(client: ClientOf, token: str) -> dict[str, Any]:
    return {"path": "/revoke", "form": {"client_id": client.client_id, "token": token}}


@pytest.fixture(scope="module")
def racers() -> Iterator[Sequence[Contender]]:
    with contenders(2) as racers:
        yield racers


async def races(place: Place, racers: Sequence[Contender], rounds: int) -> None:
    async with deploy(store=place.store(), clock=time) as server:  # type: ignore[arg-type]  # the real clock
        client = await server.register()
        for _ in range(rounds):
            answers = race(racers, place, *[redemption(client, await client.code())] * CONTENDERS)
            (tokens,) = [document for status, document in answers if status == 200]
            refused = [(status, document["error"]) for status, document in answers if status != 200]
            assert refused == [(400, "invalid_grant")] * (2 * CONTENDERS - 1)

            answers = race(
                racers, place, *[refreshing(client, tokens["refresh_token"])] * CONTENDERS
            )
            assert [status for status, _ in answers] == [200] * 2 * CONTENDERS
            (successor,) = {document["refresh_token"] for _, document in answers}
            assert successor != tokens["refresh_token"]
            for _, document in answers[::CONTENDERS]:
                assert await is_alive(server, document["access_token"])
            tokens = tokens_of(await client.refresh(successor))
            assert await is_alive(server, tokens["access_token"])

            requests = [refreshing(client, tokens["refresh_token"])] * (CONTENDERS - 1)
            answers = race(
                racers, place, *requests, revoking(client, tokens["access_token"]), *requests
            )
            assert answers.count((200, {})) == 2
            issued = [document for status, document in answers if status == 200 and document]
            for document in (tokens, *issued[:2], *issued[-2:]):
                assert (await client.refresh(document["refresh_token"])).status == 400
            # these were not asked for, so no process remembers them as live
            for document in issued[-2:]:
                assert not await is_alive(server, document["access_token"])


@pytest.mark.case("Z47", "Z73", "Z86")
@pytest.mark.rule("AS-74")
@pytest.mark.parametrize("engine", SHARED_ENGINES)
async def test_two_processes_race_and_one_of_40_wins(
    place: Place, racers: Sequence[Contender]
) -> None:
    await races(place, racers, 4)


@pytest.mark.case("Z47", "Z73", "Z86")
@pytest.mark.soak
@pytest.mark.parametrize("engine", SHARED_ENGINES)
async def test_two_processes_race_a_thousand_times_and_one_of_40_wins(
    place: Place, racers: Sequence[Contender]
) -> None:
    await races(place, racers, 1000)
