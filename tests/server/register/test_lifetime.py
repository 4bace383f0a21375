"""The lifetime of a registration: a day unused, and longer than anything granted to it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from asgi_mcp_auth.server import Lifetimes, Registration
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import REDIRECT_URI, ClientOf, Server, deploy
from tests.support.engines import fresh
from tests.support.products import STORIES
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

DAY = 86_400


async def is_known(server: Server, client: ClientOf) -> bool:
    return await server.provider.admin.get_client(client.client_id) is not None


@pytest.mark.case("Z96")
@rows(("passed", "known"), [(0, True), (DAY - 1, True), (DAY, False), (DAY + 1, False)])
async def test_an_unused_registration_ends_after_a_day(passed: float, known: bool) -> None:
    async with deploy() as server:
        client = await server.register()
        server.clock.advance(passed)
        assert await is_known(server, client) == known
        assert (await server.browser().send("GET", client.authorization_url())).status == (
            303 if known else 400
        )
        response = await server.token(
            client_id=client.client_id, grant_type="authorization_code", code="x"
        )
        assert response.json()["error"] == ("invalid_grant" if known else "invalid_client")


async def test_looking_and_asking_do_not_make_it_last_longer() -> None:
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        page = await browser.sign_in(await browser.open(client.authorization_url()))
        await browser.submit(page, action="deny")
        await server.token(client_id=client.client_id, grant_type="authorization_code", code="x")
        server.clock.advance(DAY)
        assert not await is_known(server, client)


@pytest.mark.parametrize(
    ("passed", "known"), [(90 * DAY, True), (91 * DAY - 1, True), (91 * DAY, False)]
)
async def test_an_approved_one_lasts_for_months(passed: float, known: bool) -> None:
    async with deploy() as server:
        client = await server.register()
        await client.code()
        server.clock.advance(passed)
        assert await is_known(server, client) == known


async def test_each_sign_in_restarts_its_lifetime() -> None:
    async with deploy() as server:
        client = await server.register()
        for _ in range(5):
            await client.code()
            server.clock.advance(89 * DAY)
        assert await is_known(server, client)


async def test_it_is_not_written_again_for_each_sign_in() -> None:
    async with deploy() as server:
        client, known = await server.register(), []
        for _ in range(3):
            await client.code()
            known.append(await server.provider.admin.get_client(client.client_id))
            server.clock.advance(DAY / 4)
        assert known[0] == known[1] == known[2]


@pytest.mark.parametrize(
    ("client_seconds", "refresh_token_seconds"),
    [(3600, 30 * DAY), (40 * DAY, 30 * DAY), (90 * DAY, 365 * DAY)],
)
async def test_a_registration_outlives_the_grants_of_its_client(
    client_seconds: float, refresh_token_seconds: float
) -> None:
    """Otherwise a client that refreshes hears invalid_client, and throws away a token that is
    good.
    """
    lifetimes = Lifetimes(
        refresh_token_seconds=refresh_token_seconds, refresh_idle_seconds=refresh_token_seconds
    )
    registration = Registration(client_seconds=client_seconds)
    async with deploy(lifetimes=lifetimes, registration=registration) as server:
        client = await server.register()
        await client.sign_in()
        server.clock.advance(DAY / 2)
        tokens = await client.sign_in()  # so soon that the registration is not written again
        server.clock.advance(refresh_token_seconds - 1)
        assert (await client.refresh(tokens["refresh_token"])).status == 200


async def test_a_registration_that_was_deleted_is_not_revived_by_a_sign_in_under_way() -> None:
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        page = await browser.sign_in(await browser.open(client.authorization_url()))
        await server.provider.admin.delete_client(client.client_id)
        page = await browser.submit(page, action="approve")
        assert page.response.status == 400
        assert not await is_known(server, client)


@pytest.mark.parametrize("engine", STORIES)
async def test_registrations_leave_the_engine_too(engine: str) -> None:
    with fresh(engine) as place:
        clock = FrozenClock(time.time())
        settings: dict[str, Any] = {"registration": Registration(unused_seconds=60), "clock": clock}
        async with deploy(store=place.store(clock=clock), **settings) as server:
            for _ in range(3):
                await server.call("POST", "/register", document={"redirect_uris": [REDIRECT_URI]})
            clients = [each async for each in server.provider.admin.clients()]
            clock.advance(60)
            assert [await server.provider.admin.get_client(each.client_id) for each in clients] == [
                None
            ] * 3
            if engine in ("memory", "sqlite"):  # the others go by clocks of their own
                clock.advance(30)
                assert await server.provider.admin.sweep() == 3
