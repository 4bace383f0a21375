"""Rate limits: requests per address, counted by all workers together."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from asgi_mcp_auth import OAuthProvider, PasswordLogin, ServerUnavailable
from asgi_mcp_auth._places import network_of
from asgi_mcp_auth.errors import TooManyRequests
from asgi_mcp_auth.server import RateLimits
from asgi_mcp_auth.server.limits import Limits
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import (
    KEY,
    REDIRECT_URI,
    Server,
    Trusting,
    deploy,
    memory_store,
)
from tests.support.engines import fresh
from tests.support.failing import FailingStore, HeldStore
from tests.support.passwords import cheap
from tests.support.products import STORIES
from tests.support.rows import rows

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("AS-44")]

# FrozenClock stands at the beginning of a minute, and of ten minutes.
REGISTRATION = {"redirect_uris": [REDIRECT_URI]}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "POST /register": ("register", {"document": REGISTRATION}),
    "GET /register": ("register", {}),
    "PUT /register": ("register", {"document": REGISTRATION}),
    "DELETE /register": ("register", {}),
    "GET /authorize": ("authorize", {}),
    "POST /authorize": ("authorize", {"form": {}}),
    "GET /login": ("authorize", {}),
    "POST /login": ("authorize", {"form": {}}),
    "GET /consent": ("authorize", {}),
    "POST /consent": ("authorize", {"form": {}}),
    "GET /applications": ("authorize", {}),
    "POST /applications": ("authorize", {"form": {}}),
    "POST /logout": ("authorize", {"form": {}}),
    "POST /token": ("token", {"form": {}}),
    "POST /revoke": ("token", {"form": {}}),
    "POST /introspect": ("token", {"form": {}}),
    "POST /par": ("token", {"form": {}}),
}


@pytest.mark.case("Z122")
@rows("request_line", REQUESTS)
async def test_every_endpoint_is_limited_whatever_it_would_have_answered(
    request_line: str,
) -> None:
    kind, body = REQUESTS[request_line]
    method, target = request_line.split()
    async with deploy(rate_limits=RateLimits(**{kind: 2})) as server:
        for _ in range(2):
            assert (await server.call(method, target, **body)).status != 429
        server.reasons()
        response = await server.call(method, target, **body)
        assert (response.status, response.header("retry-after"), server.reasons()) == (
            429,
            "60",
            ["rate_limit"],
        )
        if kind == "authorize":
            again = "go back and try again" if method == "POST" else "try again"
            assert f"Too many requests. Please {again} in a minute." in response.body.decode()
        else:
            assert response.json()["error"] == "temporarily_unavailable"
            assert response.header("cache-control") == "no-store"


async def test_endpoints_of_one_kind_are_counted_together_and_kinds_apart() -> None:
    async with deploy(rate_limits=RateLimits(token=2, authorize=2, register=2)) as server:
        statuses = [
            (await server.call("POST", path, form={})).status
            for path in ("/token", "/revoke", "/introspect")
        ]
        assert statuses[:2] != [429, 429]
        assert statuses[2] == 429
        assert (await server.call("GET", "/authorize")).status == 400
        assert (await server.call("POST", "/register", document=REGISTRATION)).status == 201


@rows(
    ("began", "passed", "status", "retry_after"),
    [
        (0, 0, 429, "60"),
        (0, 59, 429, "1"),
        (0, 59.5, 429, "1"),
        (0, 60, 201, None),
        (59, 0, 429, "1"),
        (59, 1, 201, None),
        (59, -59, 429, "60"),
        # the clock was set back into another window: that locks no client out
        (0, -1, 201, None),
    ],
)
async def test_a_window_is_a_minute_of_the_clock(
    began: float, passed: float, status: int, retry_after: str | None
) -> None:
    clock = FrozenClock()
    clock.advance(began)
    async with deploy(rate_limits=RateLimits(register=1), clock=clock) as server:
        assert (await server.call("POST", "/register", document=REGISTRATION)).status == 201
        clock.jump(passed)
        response = await server.call("POST", "/register", document=REGISTRATION)
        assert (response.status, response.header("retry-after")) == (status, retry_after)


async def test_who_is_refused_is_not_counted_and_gets_in_when_the_window_is_over() -> None:
    async with deploy(rate_limits=RateLimits(register=1)) as server:
        answers = [await server.call("POST", "/register", document=REGISTRATION) for _ in range(20)]
        assert [each.status for each in answers] == [201] + [429] * 19
        server.clock.advance(60)
        assert (await server.call("POST", "/register", document=REGISTRATION)).status == 201


async def registrations(server: Server, *clients: Any) -> list[int]:
    headers = {
        "X-Forwarded-For": "198.51.100.7",
        "Forwarded": "for=198.51.100.7",
        "X-Real-IP": "198.51.100.7",
    }
    return [
        (
            await server.call(
                "POST", "/register", headers=headers, document=REGISTRATION, client=client
            )
        ).status
        for client in clients
    ]


@rows(
    ("clients", "statuses"),
    [
        ([("192.0.2.1", 1), ("192.0.2.1", 2)], [201, 429]),
        ([("192.0.2.1", 1), ("192.0.2.2", 1)], [201, 201]),
        ([None, None], [201, 429]),
        ([("", 0), None], [201, 429]),
        ([("2001:db8::1", 1), ("2001:db8::ffff:1:2:3", 1)], [201, 429]),
        ([("2001:db8::1", 1), ("2001:DB8:0:0::1", 1)], [201, 429]),
        ([("2001:db8::1", 1), ("2001:db8:0:1::1", 1)], [201, 201]),
        ([("192.0.2.1", 1), ("::ffff:192.0.2.1", 1)], [201, 429]),
        ([("::ffff:192.0.2.1", 1), ("::ffff:192.0.2.2", 1)], [201, 201]),
        ([("testclient", 1), ("testclient", 2)], [201, 429]),
    ],
    ids=str,
)
async def test_the_address_is_what_the_server_says_and_of_ipv6_the_network(
    clients: list[Any], statuses: list[int]
) -> None:
    """Headers are not believed. A customer with IPv6 has 2^64 addresses to choose from."""
    async with deploy(login=Trusting(), rate_limits=RateLimits(register=1)) as server:
        assert await registrations(server, *clients) == statuses


async def test_an_address_with_a_zone_counts_without_it() -> None:
    assert network_of("fe80::1%eth0") == network_of("fe80::2%eth1") == "fe80::/64"


@pytest.mark.case("Z122")
@pytest.mark.parametrize("engine", STORIES)
async def test_workers_of_one_store_count_together(engine: str) -> None:
    with fresh(engine) as place:
        settings: dict[str, Any] = {"rate_limits": RateLimits(register=3)}
        async with (
            deploy(store=place.store(), **settings) as one,
            deploy(store=place.store(), **settings) as other,
        ):
            answers = [
                await server.call("POST", "/register", document=REGISTRATION)
                for server in (one, other, one, other)
            ]
        assert [each.status for each in answers] == [201, 201, 201, 429]


async def admitted(limits: list[Limits], number: int) -> list[bool]:
    """Let requests of one address come to several workers at once; return who got in."""

    async def ask(position: int) -> bool:
        try:
            await limits[position % len(limits)].count("token", "192.0.2.1")
        except TooManyRequests:
            return False
        return True

    return await asyncio.gather(*map(ask, range(number)))


@pytest.mark.case("Z122")
@rows("engine", STORIES)
@rows("limit", [60, 600])
async def test_of_many_at_once_as_many_get_in_as_may(engine: str, limit: int) -> None:
    """Honest bursts lose no request: neither does a counter stay behind, nor do requests give up
    because of each other.
    """
    with fresh(engine) as place:
        stores = [place.store() for _ in range(2)]
        for store in stores:
            await store.open()
        workers = [Limits(store, FrozenClock(), RateLimits(token=limit)) for store in stores]
        assert sum(await admitted(workers, 200)) == min(200, limit)
        assert sum(await admitted(workers, 200)) == min(200, limit - min(200, limit))
        for store in stores:
            await store.aclose()


async def test_many_at_once_cost_the_store_a_few_calls() -> None:
    store = HeldStore(MemoryStore())
    limits = Limits(EncryptedStore(store, [KEY]), FrozenClock(), RateLimits())
    store.hold = ("get", "limit")
    asking = asyncio.create_task(admitted([limits], 600))
    await store.arrived.wait()
    store.go.set()
    assert all(await asking)
    assert len(store.calls) <= 6
    assert limits._counters[asyncio.get_running_loop()] == {}


async def test_a_limit_is_counted_on_every_event_loop() -> None:
    limits = Limits(memory_store(), time, RateLimits(token=100))
    found = await admitted([limits], 50)
    found += await asyncio.to_thread(lambda: asyncio.run(admitted([limits], 60)))
    assert sum(found) == 100


async def test_a_request_that_leaves_while_it_is_counted_harms_no_other() -> None:
    store = HeldStore(MemoryStore())
    limits = Limits(EncryptedStore(store, [KEY]), FrozenClock(), RateLimits(token=2))
    store.hold = ("get", "limit")
    first, second = (asyncio.create_task(limits.count("token", "192.0.2.1")) for _ in range(2))
    await store.arrived.wait()
    first.cancel()
    await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await admitted([limits], 2) == [True, False]
    third = asyncio.create_task(limits.count("register", "192.0.2.1"))
    store.arrived.clear()
    store.go.clear()
    store.hold = ("get", "limit")
    await store.arrived.wait()
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
    assert limits._counters[asyncio.get_running_loop()] == {}


DOWN = {
    "POST /register": (503, {"document": REGISTRATION}),
    "GET /authorize": (400, {}),
    "POST /token": (401, {"form": {}}),
    "POST /revoke": (401, {"form": {}}),
}


@pytest.mark.case("Z122")
@pytest.mark.parametrize("request_line", DOWN)
async def test_while_nothing_can_be_counted_new_clients_are_refused_and_known_ones_served(
    request_line: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, body = DOWN[request_line]
    method, target = request_line.split()
    store = FailingStore(MemoryStore())
    caplog.set_level(logging.INFO, "asgi_mcp_auth")
    async with deploy(store=EncryptedStore(store, [KEY]), rate_limits=RateLimits()) as server:
        store.fail_at, store.for_good = len(store.calls) + 1, True
        response = await server.call(method, target, **body)
        assert response.status == status
        if status == 503:
            assert response.header("retry-after") == "1"
        else:
            assert "A request was not counted" in caplog.text


@pytest.mark.case("Z122")
async def test_passwords_are_not_tried_while_their_failures_cannot_be_counted() -> None:
    store = FailingStore(MemoryStore())
    limits = Limits(store, FrozenClock(), RateLimits())
    store.fail_at, store.for_good = 1, True
    with pytest.raises(ServerUnavailable):
        await limits.count("login_failures", "192.0.2.1", "alice")
    await limits.count("authorize", "192.0.2.1")
    await limits.count("token", "192.0.2.1")


async def test_what_is_taken_back_can_be_asked_for_again() -> None:
    limits = Limits(memory_store(), FrozenClock(), RateLimits(login_failures=2))
    for _ in range(5):
        await limits.count("login_failures", "192.0.2.1", "alice")
        await limits.count("login_failures", "192.0.2.1", "alice", add=-1)
    for _ in range(3):
        await limits.count("login_failures", "192.0.2.1", "alice", add=-1)  # never below nothing
    for _ in range(2):
        await limits.count("login_failures", "192.0.2.1", "alice")
    with pytest.raises(TooManyRequests) as refused:
        await limits.count("login_failures", "192.0.2.1", "alice")
    assert refused.value.retry_after_seconds == 600
    await limits.count("login_failures", "192.0.2.1", "bob")
    await limits.count("login_failures", "192.0.2.2", "alice")


async def test_those_who_were_refused_are_not_in_the_way_of_what_is_taken_back() -> None:
    store = HeldStore(MemoryStore())
    limits = Limits(EncryptedStore(store, [KEY]), FrozenClock(), RateLimits(token=2))
    store.hold = ("get", "limit")
    asking = asyncio.create_task(admitted([limits], 5))
    await store.arrived.wait()
    store.go.set()
    assert sum(await asking) == 2
    await limits.count("token", "192.0.2.1", add=-1)
    assert sum(await admitted([limits], 5)) == 1


async def test_a_refusal_writes_nothing() -> None:
    """A flood costs the store reads only."""
    store = FailingStore(MemoryStore())
    limits = Limits(store, FrozenClock(), RateLimits(token=1))
    await limits.count("token", "192.0.2.1")
    store.calls.clear()
    assert await admitted([limits], 3) == [False] * 3
    assert {call[0] for call in store.calls} == {"get"}


PASSWORDS = {"alice": cheap("correct horse battery staple")}


@rows(
    ("base_url", "settings", "limited"),
    [
        ("http://localhost:8000", {}, False),
        ("http://127.0.0.1", {}, False),
        ("https://[::1]:8000", {}, False),
        ("https://mcp.example.com", {}, True),
        ("https://mcp.example.com", {"rate_limits": None}, False),
        ("http://localhost:8000", {"rate_limits": RateLimits()}, True),
    ],
)
async def test_limits_are_on_unless_the_server_is_for_this_machine_only(
    base_url: str, settings: dict[str, Any], limited: bool
) -> None:
    async with deploy(base_url=base_url, login=PasswordLogin(PASSWORDS), **settings) as server:
        statuses = {
            (await server.call("POST", "/register", document=REGISTRATION)).status
            for _ in range(61)
        }
        assert statuses == ({201, 429} if limited else {201})


async def test_a_counter_is_gone_when_its_window_is_over() -> None:
    clock = FrozenClock()
    store = memory_store(clock)
    await Limits(store, clock, RateLimits()).count("token", "192.0.2.1")
    assert len(await store.scan("limit")) == 1
    clock.advance(120)
    assert await store.scan("limit") == []
    clock.advance(30)
    assert await store.sweep() == 1


class Contended(FailingStore):
    """A store where other workers are always faster."""

    async def add(self, *_: Any, **__: Any) -> bool:
        return False


async def test_a_counter_that_others_keep_changing_is_full_for_a_second() -> None:
    """A count that cannot be made is not a store that is down: nothing passes uncounted."""
    clock = FrozenClock()
    limits = Limits(Contended(MemoryStore(clock=clock)), clock, RateLimits())
    with pytest.raises(TooManyRequests) as refused:
        await limits.count("token", "192.0.2.1")
    assert refused.value.retry_after_seconds == 1


async def test_the_defaults_are_those_of_the_documentation() -> None:
    assert RateLimits() == RateLimits(
        register=60, authorize=300, token=600, passwords=60, login_failures=10
    )
    provider = OAuthProvider(
        base_url="https://mcp.example.com", login=PasswordLogin(PASSWORDS), store=memory_store()
    )
    assert provider._parts.limits._rates == RateLimits()
