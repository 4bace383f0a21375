"""Four uvicorn processes on one store behave as one server, on SQLite, Redis and PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.support.authorization_server import CONFIDENTIAL, Browser, ClientOf, answer_of, basic
from tests.support.engines import SHARED_ENGINES, fresh
from tests.support.token_endpoint import assert_refused, is_alive, tokens_of
from tests.support.workers import LAG_SECONDS, Worker, workers

pytestmark = pytest.mark.asyncio

Workers = Sequence[Worker]


@pytest.fixture(scope="module")
def deployments() -> Iterator[dict[str, Workers]]:
    with ExitStack() as stack:
        places = {engine: stack.enter_context(fresh(engine)) for engine in SHARED_ENGINES}
        yield stack.enter_context(workers(4, places))


@pytest.fixture(params=SHARED_ENGINES)
def four(request: pytest.FixtureRequest, deployments: dict[str, Workers]) -> Workers:
    return deployments[request.param]


def at(client: ClientOf, worker: Worker) -> ClientOf:
    """Return the same client as it talks to another worker."""
    return replace(client, server=worker)


class Wanderer(Browser):
    """A browser behind a load balancer: each request goes to the next worker."""

    def __init__(self, four: Workers) -> None:
        super().__init__(four[0])
        self._others = itertools.cycle(four)

    async def send(self, *arguments: object, **more: object) -> object:  # type: ignore[override]  # passed on as it is
        self.server = next(self._others)
        return await super().send(*arguments, **more)  # type: ignore[arg-type]


async def test_workers_that_start_at_once_on_a_new_store_sign_with_one_key(four: Workers) -> None:
    documents = [(await worker.call("GET", "/.well-known/jwks.json")).json() for worker in four]
    assert len(documents[0]["keys"]) == 1
    assert documents == [documents[0]] * 4


async def test_a_sign_in_may_be_served_by_all_of_them(four: Workers) -> None:
    client = await four[0].register()
    url = await Wanderer(four).decide(client.authorization_url())
    code = answer_of(url)["code"]
    tokens = tokens_of(await at(client, four[3]).redeem(code))
    for worker in four:
        assert await is_alive(worker, tokens["access_token"])
        tokens = tokens_of(await at(client, worker).refresh(tokens["refresh_token"]))
    for worker in four:
        assert_refused(await at(client, worker).redeem("unknown"), "invalid_grant")


async def test_a_code_that_one_has_redeemed_is_used_for_all(four: Workers) -> None:
    client = await four[1].register()
    code = await at(client, four[2]).code()
    tokens = tokens_of(await at(client, four[3]).redeem(code))
    assert_refused(await at(client, four[0]).redeem(code), "invalid_grant")
    assert await is_alive(four[1], tokens["access_token"])
    assert_refused(await at(client, four[1]).redeem(code, code_verifier="w" * 43), "invalid_grant")
    assert not await is_alive(four[1], tokens["access_token"])
    assert_refused(await at(client, four[2]).refresh(tokens["refresh_token"]), "invalid_grant")


@pytest.mark.case("Z47")
async def test_of_forty_requests_to_all_workers_one_redeems_the_code(
    four: Workers,
) -> None:
    client = await four[0].register()
    code = await client.code()
    answers = await asyncio.gather(
        *(at(client, worker).redeem(code) for _ in range(10) for worker in four)
    )
    (tokens,) = [tokens_of(answer) for answer in answers if answer.status == 200]
    assert {answer.status for answer in answers} == {200, 400}
    refresh = [
        at(client, worker).refresh(tokens["refresh_token"]) for _ in range(10) for worker in four
    ]
    successors = {tokens_of(answer)["refresh_token"] for answer in await asyncio.gather(*refresh)}
    assert len(successors) == 1
    for worker in four:
        assert await is_alive(worker, tokens["access_token"])


@pytest.mark.case("V75")
async def test_a_revocation_is_seen_here_at_once_and_elsewhere_within_the_lag(
    four: Workers,
) -> None:
    client = await four[0].register()
    tokens = await client.sign_in()
    assert (
        await asyncio.gather(*(is_alive(worker, tokens["access_token"]) for worker in four))
        == [True] * 4
    )
    form = {"token": tokens["refresh_token"], "client_id": client.client_id}
    assert (await four[2].call("POST", "/revoke", form=form)).status == 200
    revoked_at = time.monotonic()
    assert not await is_alive(four[2], tokens["access_token"])
    for worker in four:
        assert_refused(await at(client, worker).refresh(tokens["refresh_token"]), "invalid_grant")
    while any(await asyncio.gather(*(is_alive(worker, tokens["access_token"]) for worker in four))):
        assert time.monotonic() < revoked_at + LAG_SECONDS + 0.5
        await asyncio.sleep(0.05)


async def test_a_client_that_one_has_registered_is_known_to_all_until_one_deletes_it(
    four: Workers,
) -> None:
    client = await four[0].register()
    tokens = await at(client, four[1]).sign_in()
    uri = f"/register?client_id={client.client_id}"
    token = client.information["registration_access_token"]
    assert (await four[2].call("DELETE", uri, bearer=token)).status == 204
    for worker in four:
        assert_refused(
            await at(client, worker).refresh(tokens["refresh_token"]), "invalid_client", 401
        )


async def test_a_client_s_own_tokens_are_good_everywhere(four: Workers) -> None:
    headers = basic("service", CONFIDENTIAL["client_secret"])
    for issuing, asked in zip(four, [*four[1:], four[0]], strict=True):
        tokens = tokens_of(await issuing.token(headers=headers, grant_type="client_credentials"))
        assert await is_alive(asked, tokens["access_token"])
