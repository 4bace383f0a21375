"""Floods of passwords, and the time that a check takes."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import pytest

from asgi_mcp_auth import PasswordLogin
from asgi_mcp_auth.errors import TooManyRequests
from asgi_mcp_auth.server import RateLimits, hash_password
from asgi_mcp_auth.server.login import LoginAttempt
from asgi_mcp_auth.server.login.hashing import DUMMY_HASH, padding, work_of
from asgi_mcp_auth.server.login.password import MAX_AT_ONCE, MAX_OF_A_NETWORK
from tests.support.asgi import Response
from tests.support.authorization_server import Server, deploy
from tests.support.passwords import cheap, looking_up
from tests.support.rows import rows

pytestmark = [pytest.mark.asyncio, pytest.mark.case("Z122")]

FLOOD, HONEST = "192.0.2.1", "198.51.100.7"


async def send(server: Server, address: str, name: str, password: str) -> Response:
    """Open the sign-in page and send its form."""
    browser = server.browser()
    page = await browser.open((await server.register()).authorization_url())
    cookies = "; ".join(f"{key}={value}" for key, value in browser.cookies.items())
    form = {**page.hidden, "username": name, "password": password}
    return await server.call(
        "POST", "/login", headers={"Cookie": cookies}, form=form, client=(address, 1)
    )


@pytest.mark.parametrize(
    "limits", [None, RateLimits(authorize=10_000, register=10_000)], ids=["loopback", "limits"]
)
async def test_a_flood_from_one_address_does_not_keep_others_from_signing_in(
    limits: RateLimits | None,
) -> None:
    """Forty guesses at once filled the line, and every other person was told to come back: now two
    of them are under way.
    """
    login = PasswordLogin({"alice": cheap("secret", 14)})
    async with deploy(login=login, rate_limits=limits) as server:
        flood = [
            asyncio.create_task(send(server, FLOOD, f"name-{number}", "x")) for number in range(40)
        ]
        honest = asyncio.create_task(send(server, HONEST, "alice", "secret"))
        statuses = [(await each).status for each in flood]
        assert (await honest).status == 303
        assert set(statuses) == {401, 429}


async def test_an_address_may_send_so_many_passwords_a_minute_whatever_the_account() -> None:
    """Each name has a counter of its own, so that names cost nothing; the address has one for all
    of them.
    """
    asked: list[str] = []

    def lookup(name: str) -> str:
        asked.append(name)
        return cheap("secret", 4)

    limits = RateLimits(authorize=10_000, register=10_000, passwords=5)
    async with deploy(login=looking_up(lookup), rate_limits=limits) as server:
        answers = [await send(server, FLOOD, f"name-{number}", "x") for number in range(20)]
        assert [each.status for each in answers] == [401] * 5 + [429] * 15
        assert {each.header("retry-after") for each in answers[5:]} == {"60"}
        assert len(asked) == 5, "the rest was turned away before it cost a look-up or a check"
        assert (await send(server, FLOOD, "alice", "secret")).status == 429
        assert (await send(server, HONEST, "alice", "secret")).status == 303
        server.clock.advance(60)
        assert (await send(server, FLOOD, "alice", "secret")).status == 303


async def test_an_office_behind_one_address_signs_in_within_a_minute() -> None:
    people = {f"person-{number}": cheap("secret", 4) for number in range(40)}
    limits = RateLimits(authorize=10_000, register=10_000)
    async with deploy(login=PasswordLogin(people), rate_limits=limits) as server:
        answers = [(await send(server, HONEST, name, "secret")).status for name in people]
        assert answers == [303] * 40


async def test_an_abandoned_check_keeps_its_place_until_its_thread_has_ended() -> None:
    """A client that hangs up at once could have queued any amount of work for threads."""
    asked, go_on = asyncio.Semaphore(0), threading.Event()

    class Slow(str):
        """A password whose check takes until it may go on."""

        def encode(self, *arguments: str) -> bytes:
            go_on.wait()
            return super().encode(*arguments)

    async def lookup(name: str) -> str:
        asked.release()
        return cheap("secret")

    login = looking_up(lookup)

    async def guess(password: str = "x") -> Any:
        parameters = {"username": "alice", "password": password}
        return await login.sign_in(
            LoginAttempt(
                method="POST", parameters=parameters, transaction="t", url="u", address=FLOOD
            )
        )

    begun = [asyncio.create_task(guess(Slow("x"))) for _ in range(MAX_AT_ONCE)]
    try:
        for _ in begun:
            await asked.acquire()
        await asyncio.sleep(0)
        for each in begun:
            each.cancel()
            with suppress(asyncio.CancelledError):
                await each
        waiting = [asyncio.create_task(guess()) for _ in range(MAX_OF_A_NETWORK - MAX_AT_ONCE)]
        for _ in waiting:
            await asked.acquire()
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests):
            await guess()
    finally:
        go_on.set()
    await asyncio.wrap_future(login._workers.submit(int))  # one of the threads has ended
    for each in waiting:
        await each
    assert (await guess()).error is not None


async def test_a_network_whose_people_sign_in_does_not_wait_behind_one_that_guesses() -> None:
    asked = asyncio.Semaphore(0)

    async def lookup(name: str) -> str:
        asked.release()
        return cheap("secret", 4)

    login = looking_up(lookup)

    async def attempt(address: str, password: str) -> Any:
        parameters = {"username": "alice", "password": password}
        return await login.sign_in(
            LoginAttempt(
                method="POST", parameters=parameters, transaction="t", url="u", address=address
            )
        )

    for _ in range(3):
        assert (await attempt(HONEST, "secret")).subject == "alice"
    assert (await attempt(FLOOD, "wrong")).error is not None
    busy = [await login._places.enter(f"203.0.113.{number}") for number in range(MAX_AT_ONCE)]
    line = []
    for address in (FLOOD, HONEST):
        line.append(asyncio.create_task(attempt(address, "secret")))
        await asked.acquire()
    for _ in range(4):
        await asked.acquire()  # those of before
    await asyncio.sleep(0)
    assert [each.network for each in login._places._line] == [HONEST, FLOOD]
    for place in busy:
        place.leave()
    await asyncio.gather(*line)


# ---------------------------------------------------------------------------------- what time tells


@contextmanager
def counted_work() -> Iterator[list[int]]:
    """Count the work (N r p) of every scrypt in new threads."""
    work = [0]

    def look(frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_call" and arg is hashlib.scrypt:
            work[0] += frame.f_locals["r"] * frame.f_locals["p"] << frame.f_locals["log_n"]

    threading.setprofile(look)
    try:
        yield work
    finally:
        threading.setprofile(None)


async def work_for(login: PasswordLogin, name: str, password: str = "wrong") -> int:
    """Return the work of one check; what is less than a thousandth of a millisecond is left out."""
    with counted_work() as work:
        attempt = LoginAttempt(
            method="POST",
            parameters={"username": name, "password": password},
            transaction="t",
            url="u",
            address="127.0.0.1",
        )
        await login.sign_in(attempt)
    return work[0] // 16


@pytest.mark.parametrize(
    "names", [("old", "new", "nobody"), ("nobody", "new", "old"), ("new", "old", "")]
)
async def test_unknown_names_and_hashes_of_any_cost_take_the_same_work(
    names: tuple[str, ...],
) -> None:
    """Of a mapping, the cost of the first entry was used for all unknown names."""
    users = {
        "old": cheap("secret", 5),
        "odd": cheap("secret", 6, p=3),
        "new": cheap("secret", 9, p=3),
    }
    found = [await work_for(PasswordLogin(users), name) for name in (*names, "odd")]
    assert found == [work_of(users["new"]) // 16] * 4
    assert await work_for(PasswordLogin(users), "old", "secret") == found[0]


@pytest.mark.slow
async def test_with_a_look_up_the_work_is_that_of_the_most_expensive_hash_so_far() -> None:
    users = {"old": cheap("secret", 5), "dear": cheap("secret", 15, p=4)}
    for name in ("old", "nobody"):
        assert await work_for(PasswordLogin(users.get), name) == work_of(DUMMY_HASH) // 16
    assert await work_for(PasswordLogin(users.get), "dear") == work_of(users["dear"]) // 16
    login = PasswordLogin(users.get)
    await work_for(login, "dear")
    assert work_of(login._hardest) == work_of(users["dear"]), "and from now on for everybody"


@rows(
    "work", [-5, 0, 1, 16, 100, work_of(DUMMY_HASH), work_of(DUMMY_HASH) - 128, (1 << 26) + 12345]
)
async def test_padding_is_as_much_work_as_was_asked_for(work: int) -> None:
    found = padding(work)
    done = sum(r * p << log_n for log_n, r, p in found)
    assert done <= max(0, work) < done + 16
    assert len(found) < 64
    for log_n, r, p in found:
        assert 128 * r * ((1 << log_n) + p) < 1 << 28, "more memory than a stored hash may take"


async def test_what_hash_password_returns_today_is_not_padded() -> None:
    assert work_of(hash_password("x")) == work_of(DUMMY_HASH)
