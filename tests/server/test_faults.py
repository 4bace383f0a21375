"""A store that fails, or a client that leaves, at any moment of any request.

The answer is a good one, a refusal or a 503, never a 500. No token is issued twice, nothing that
ended is revived, and the next request works.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

from asgi_mcp_auth.server import RateLimits, Registration
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Response
from tests.support.assertions import Robot
from tests.support.authorization_server import (
    BASE_URL,
    CONFIDENTIAL,
    KEY,
    ClientOf,
    Page,
    Server,
    answer_of,
    deploy,
)
from tests.support.failing import FailingStore
from tests.support.products import STORIES
from tests.support.rows import rows
from tests.support.token_endpoint import assert_refused, deploy_on, is_alive, tokens_of

pytestmark = pytest.mark.asyncio

When = Literal["before", "after"]
FAULTS = [
    pytest.param(
        when,
        for_good,
        cancels,
        id=f"{'cancelled' if cancels else 'failing'} {when}{' for good' * for_good}",
    )
    for when in ("before", "after")
    for for_good, cancels in ((False, False), (True, False), (False, True))
]


class Deployment:
    """A server whose store can be told to fail."""

    def __init__(self, server: Server, store: FailingStore) -> None:
        self.server = server
        self.store = store

    async def attempt(self, work: Callable[[], Awaitable[Any]], number: int) -> tuple[Any, bool]:
        """Do the work while the store fails at one of its calls; return what came out, and whether
        it came to that.
        """
        self.store.calls.clear()
        self.store.fail_at = number
        task = asyncio.ensure_future(work())
        try:
            return await task, len(self.store.calls) >= number
        except asyncio.CancelledError:
            assert task.cancelled()
            return None, True
        finally:
            self.store.fail_at = 0

    async def alive(self) -> int:
        """Return how many grants are alive."""
        return len([grant async for grant in self.server.provider.admin.grants()])


@asynccontextmanager
async def faulty(
    when: When, for_good: bool, cancels: bool, **settings: Any
) -> AsyncIterator[Deployment]:
    clock = FrozenClock()
    store = FailingStore(MemoryStore(clock=clock), when=when, for_good=for_good, cancels=cancels)
    registration = Registration(clients=[CONFIDENTIAL, Robot(BASE_URL, clock).metadata])
    async with deploy(
        store=EncryptedStore(store, [KEY]), clock=clock, registration=registration, **settings
    ) as server:
        yield Deployment(server, store)


def status_of(response: Response | None, *good: int) -> int | None:
    """Return the status, which must be good or a 503 that says when to come back; ``None`` where
    the client has left.
    """
    if response is None:
        return None
    assert response.status in (*good, 503), response.body
    if response.status == 503:
        assert response.header("retry-after") == "1"
    return response.status


async def until_it_works(attempt: Callable[[int], Awaitable[bool]], *, at_least: int) -> None:
    """Try with the fault at each call in turn, until it comes after the last one."""
    number = 1
    while await attempt(number):
        number += 1
        assert number < 100
    assert number > at_least, "the fault came nowhere"


@pytest.mark.case("Z52", "Z53")
@rows(("when", "for_good", "cancels"), FAULTS)
async def test_redeeming_gives_one_family_or_none(
    when: When, for_good: bool, cancels: bool
) -> None:
    async with faulty(when, for_good, cancels) as deployment:
        server = deployment.server
        client = await server.register()

        async def attempt(number: int) -> bool:
            code, before = await client.code(), await deployment.alive()
            response, failed = await deployment.attempt(lambda: client.redeem(code), number)
            status_of(response, 200)
            again = await client.redeem(code)
            assert status_of(again, 200, 400) != 503
            good = [each for each in (response, again) if each is not None and each.status == 200]
            assert len(good) <= 1
            assert await deployment.alive() - before <= 1
            if good:
                tokens = tokens_of(good[0])
                assert await is_alive(server, tokens["access_token"])
                tokens_of(await client.refresh(tokens["refresh_token"]))
            else:
                assert_refused(again, "invalid_grant")
            server.clock.advance(3)
            assert_refused(await client.redeem(code), "invalid_grant")
            assert await deployment.alive() - before == 0, "a late replay ends whatever came of it"
            tokens_of(await client.redeem(await client.code()))
            return failed

        await until_it_works(attempt, at_least=4)


@pytest.mark.case("S24", "S25")
@rows(("when", "for_good", "cancels"), FAULTS)
async def test_refreshing_ends_no_session(when: When, for_good: bool, cancels: bool) -> None:
    """The client tries again with what it has."""
    async with faulty(when, for_good, cancels) as deployment:
        server = deployment.server
        client = await server.register()

        async def attempt(number: int) -> bool:
            token = (await client.sign_in())["refresh_token"]
            response, failed = await deployment.attempt(lambda: client.refresh(token), number)
            status = status_of(response, 200)
            server.clock.advance(5)
            again = tokens_of(await client.refresh(token))
            if status == 200:
                assert tokens_of(response)["refresh_token"] == again["refresh_token"]
            server.clock.advance(3600)
            tokens = tokens_of(await client.refresh(again["refresh_token"]))
            assert await is_alive(server, tokens["access_token"])
            server.clock.advance(301)
            assert_refused(await client.refresh(token), "invalid_grant")
            assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_grant")
            return failed

        await until_it_works(attempt, at_least=3)


@pytest.mark.case("S24", "S25")
@rows(("when", "for_good", "cancels"), FAULTS)
async def test_a_replay_is_never_good_and_ends_the_grant_in_the_end(
    when: When, for_good: bool, cancels: bool
) -> None:
    async with faulty(when, for_good, cancels) as deployment:
        server = deployment.server
        client = await server.register()

        async def attempt(number: int) -> bool:
            code = await client.code()
            tokens = tokens_of(await client.redeem(code))
            refreshed = tokens_of(await client.refresh(tokens["refresh_token"]))
            server.clock.advance(301)
            replay = number % 2
            work = (
                (lambda: client.redeem(code))
                if replay
                else (lambda: client.refresh(tokens["refresh_token"]))
            )
            response, failed = await deployment.attempt(work, number)
            status_of(response, 400)
            assert_refused(await work(), "invalid_grant")
            assert not await is_alive(server, refreshed["access_token"])
            assert_refused(await client.refresh(refreshed["refresh_token"]), "invalid_grant")
            return failed

        await until_it_works(attempt, at_least=4)


@pytest.mark.case("S24", "S25")
@rows("kind", ["access_token", "refresh_token"])
@rows(("when", "for_good", "cancels"), FAULTS)
async def test_what_was_acknowledged_as_revoked_is(
    when: When, for_good: bool, cancels: bool, kind: str
) -> None:
    async with faulty(when, for_good, cancels) as deployment:
        server = deployment.server
        client = await server.register()

        async def attempt(number: int) -> bool:
            tokens = await client.sign_in()
            form = {"token": tokens[kind], "client_id": client.client_id}
            work = lambda: server.call("POST", "/revoke", form=form)  # noqa: E731
            response, failed = await deployment.attempt(work, number)
            if status_of(response, 200) == 200:
                assert not await is_alive(server, tokens["access_token"])
                assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_grant")
            assert (await work()).status == 200
            assert not await is_alive(server, tokens["access_token"])
            assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_grant")
            return failed

        await until_it_works(attempt, at_least=3)


@pytest.mark.case("S24", "S25")
@rows("who", ["secret", "assertion"])
@rows(("when", "for_good", "cancels"), FAULTS)
async def test_clients_that_act_for_themselves(
    when: When, for_good: bool, cancels: bool, who: str
) -> None:
    async with faulty(when, for_good, cancels) as deployment:
        server = deployment.server
        service, robot = server.known(CONFIDENTIAL), Robot(BASE_URL, server.clock)

        def work() -> Awaitable[Response]:
            if who == "secret":
                return service.token(grant_type="client_credentials")
            return server.token(**robot.form())

        async def attempt(number: int) -> bool:
            response, failed = await deployment.attempt(work, number)
            status_of(response, 200)
            assert await is_alive(server, tokens_of(await work())["access_token"])
            return failed

        await until_it_works(attempt, at_least=1)


@pytest.mark.case("S25")
@rows(("when", "for_good", "cancels"), FAULTS)
async def test_an_assertion_that_met_a_fault_is_good_at_most_once(
    when: When, for_good: bool, cancels: bool
) -> None:
    async with faulty(when, for_good, cancels) as deployment:
        server, robot = deployment.server, Robot(BASE_URL, deployment.server.clock)

        async def attempt(number: int) -> bool:
            form = robot.form()
            response, failed = await deployment.attempt(lambda: server.token(**form), number)
            again = await server.token(**form)
            statuses = [status_of(each, 200, 401) for each in (response, again) if each is not None]
            assert statuses.count(200) <= 1
            assert_refused(await server.token(**form), "invalid_client", 401)
            return failed

        await until_it_works(attempt, at_least=2)


@pytest.mark.case("S24", "S25")
@pytest.mark.parametrize("limits", [None, RateLimits()], ids=["without limits", "with limits"])
@pytest.mark.parametrize(("when", "for_good", "cancels"), FAULTS)
async def test_the_whole_sign_in(
    when: When, for_good: bool, cancels: bool, limits: RateLimits | None
) -> None:
    """From ``/authorize`` to the app; after a fault on the way, the person reloads the page or
    begins again.
    """
    async with faulty(when, for_good, cancels, rate_limits=limits) as deployment:
        server = deployment.server
        client = await server.register(token_endpoint_auth_method="client_secret_basic")
        statuses: list[int] = []

        async def whole() -> Response | None:
            browser, page = server.browser(), None
            for step in range(3):
                if step == 0:
                    page = await browser.open(client.authorization_url())
                elif page is not None and page.forms:
                    values = {"username": "alice"} if step == 1 else {"action": "approve"}
                    page = await browser.submit(page, **values)
                assert isinstance(page, Page)
                statuses.append(page.response.status)
                if page.response.status >= 400:
                    return page.response
            assert page is not None
            return await client.redeem(answer_of(page.url)["code"])

        async def attempt(number: int) -> bool:
            before = await deployment.alive()
            response, failed = await deployment.attempt(whole, number)
            status_of(response, 200)
            assert await deployment.alive() - before <= 1
            tokens = await client.sign_in()
            assert await is_alive(server, tokens["access_token"])
            server.clock.advance(61)
            return failed

        await until_it_works(attempt, at_least=12)
        assert set(statuses) <= {200, 303, 503}


@pytest.mark.case("S24", "S25")
@pytest.mark.parametrize(("when", "for_good", "cancels"), FAULTS)
async def test_registering_and_going(when: When, for_good: bool, cancels: bool) -> None:
    async with faulty(when, for_good, cancels) as deployment:
        server = deployment.server

        async def attempt(number: int) -> bool:
            client = await server.register()
            tokens = await client.sign_in()
            uri = f"/register?client_id={client.client_id}"
            token = client.information["registration_access_token"]
            response, failed = await deployment.attempt(
                lambda: server.call("DELETE", uri, bearer=token), number
            )
            if status_of(response, 204) != 204:
                again = await server.call("DELETE", uri, bearer=token)
                assert again.status in (204, 401)
                # it is gone, and the answer was lost: the operator can still end what it had
                if again.status == 401:
                    await server.provider.admin.delete_client(client.client_id)
            assert not await is_alive(server, tokens["access_token"])
            assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_client", 401)
            return failed

        await until_it_works(attempt, at_least=3)


# ------------------------------------------------------------------------------------- real engines


@pytest.mark.case("Z53")
@pytest.mark.parametrize("engine", STORIES)
async def test_clients_that_leave_at_any_moment_leave_no_half_of_anything(engine: str) -> None:
    """Each is cancelled a little later than the one before, on engines whose calls really take
    time.
    """
    async with deploy_on(engine) as server:
        client = await server.register()
        for number in range(12):
            code = await client.code()
            task = asyncio.ensure_future(client.redeem(code))
            await asyncio.sleep(number * 0.0005)
            task.cancel()
            await asyncio.wait([task])
            again = await client.redeem(code)
            if again.status == 400:
                assert_refused(again, "invalid_grant")
                tokens = None if task.cancelled() else tokens_of(task.result())
            else:
                assert task.cancelled()
                tokens = tokens_of(again)
            tokens = tokens or await client.sign_in()
            task = asyncio.ensure_future(client.refresh(tokens["refresh_token"]))
            await asyncio.sleep(number * 0.0005)
            task.cancel()
            await asyncio.wait([task])
            refreshed = tokens_of(await client.refresh(tokens["refresh_token"]))
            if not task.cancelled():
                assert tokens_of(task.result())["refresh_token"] == refreshed["refresh_token"]
            assert await is_alive(server, refreshed["access_token"])


async def test_a_cold_worker_gets_its_keys_before_it_uses_anything_up() -> None:
    """It has started while the store was down, and the store fails again when the keys are
    wanted.
    """
    clock = FrozenClock()
    engine = MemoryStore(clock=clock)
    async with deploy(store=EncryptedStore(engine, [KEY]), clock=clock) as warm:
        client = await warm.register()
        code = await client.code()
        for number in range(1, 10):
            store = FailingStore(engine, 1, for_good=True)
            async with deploy(store=EncryptedStore(store, [KEY]), clock=clock) as cold:
                store.calls.clear()
                store.for_good, store.fail_at = False, number
                there = ClientOf(cold, client.information, client.verifier)
                response = await there.redeem(code)
                assert status_of(response, 200) == 503
                store.fail_at = 0
                if store.calls[-1][1].startswith("keys"):
                    assert number > 1
                    assert await is_alive(cold, tokens_of(await there.redeem(code))["access_token"])
                    return
    raise AssertionError("it never wanted its keys")
