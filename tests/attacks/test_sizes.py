"""Limits on what strangers can store: a size, a share for each network, a ceiling."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl, urlsplit

import pytest
import pytest_asyncio

from asgi_mcp_auth.errors import ServerUnavailable, TooManyRequests
from asgi_mcp_auth.server import RateLimits, Registration
from asgi_mcp_auth.server.interaction.authorization_request import MAX_STATE_BYTES
from asgi_mcp_auth.server.limits import Limits
from asgi_mcp_auth.server.limits.allowance import (
    FIRST_BYTES,
    RECORD_BYTES,
    SHARE,
    SMALL_SHARE,
    Allowance,
)
from asgi_mcp_auth.server.web import MAX_FORM_BYTES
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.assertions import ASSERTION_TYPE, Robot
from tests.support.authorization_server import (
    BASE_URL,
    REDIRECT_URI,
    ClientOf,
    Server,
    answer_of,
    deploy,
    memory_store,
)
from tests.support.proxy import deploy_proxy
from tests.support.upstream import Upstream

pytestmark = pytest.mark.asyncio

KIB = 1024
SMALL = 16 * KIB
PAGE = {
    "client_id": "page",
    "redirect_uris": [REDIRECT_URI],
    "token_endpoint_auth_method": "none",
}


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store(clock: FrozenClock) -> EncryptedStore:
    return memory_store(clock)


@pytest_asyncio.fixture
async def server(store: EncryptedStore, clock: FrozenClock) -> AsyncIterator[Server]:
    async with deploy(store=store, clock=clock) as server:
        yield server


async def kept(server: Server, kind: str) -> list[bytes]:
    """What the store holds of a kind."""
    return [record.value for _, record in await server.provider.store.scan(kind, limit=1000)]


def form_of(client: ClientOf, **more: str) -> dict[str, str]:
    return {**dict(parse_qsl(urlsplit(client.authorization_url()).query)), **more}


# -------------------------------------------------------------------------------------------- sizes


@pytest.mark.case("Z07")
@pytest.mark.rule("AS-19")
@pytest.mark.parametrize("letter", ["s", "ä", "%"])
async def test_a_state_of_4_kib_comes_back_as_it_was(server: Server, letter: str) -> None:
    client, state = await server.register(), letter * (MAX_STATE_BYTES // len(letter.encode()))
    page = await server.browser().decide(client.authorization_url(state=state))
    assert answer_of(page)["state"] == state


@pytest.mark.parametrize("letter", ["s", "ä"])
async def test_a_longer_state_is_told_to_the_client_and_not_kept(
    server: Server, letter: str
) -> None:
    client, state = await server.register(), letter * (MAX_STATE_BYTES // len(letter.encode()) + 1)
    response = await server.browser().send("GET", client.authorization_url(state=state))
    answer = answer_of(response.header("location") or "")
    assert (answer["error"], answer["error_description"]) == (
        "invalid_request",
        "The state is longer than 4096 bytes",
    )
    assert answer["state"] == state, "without it the client could not tell whose answer this is"
    pushed = await server.call("POST", "/par", form=form_of(client, state=state))
    assert (pushed.status, pushed.json()["error_description"]) == (
        400,
        "The state is longer than 4096 bytes",
    )
    assert await kept(server, "transaction") == await kept(server, "pushed") == []


async def test_whatever_else_a_request_says_little_of_it_is_kept(server: Server) -> None:
    client = await server.register()
    long = {
        "login_hint": "x" * 9_000,
        "nonce": "n" * 1_000,
        "ui_locales": "l" * 1_000,
        "claims": "c" * 1_000,
    }
    form = form_of(client, prompt="login consent " * 100, scope="mcp:read " * 100, **long)
    form.pop("state", None)
    assert (await server.call("POST", "/par", form=form)).status == 201
    (pushed,) = await kept(server, "pushed")
    assert len(pushed) < KIB
    members = json.loads(pushed)
    assert members["prompt"] == ["login", "consent"]
    assert members["scopes"] == ["mcp:read"]
    assert len(members["login_hint"]) == 256


@pytest.mark.parametrize(
    "path", ["/authorize", "/par", "/login", "/consent", "/applications", "/logout"]
)
@pytest.mark.parametrize(
    ("size", "too_large"), [(MAX_FORM_BYTES, False), (MAX_FORM_BYTES + 1, True)]
)
async def test_forms_of_pages_authorize_and_par_have_16_kib(
    server: Server, path: str, size: int, too_large: bool
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = await server.call("POST", path, headers=headers, body=b"x=" + b"y" * (size - 2))
    assert (response.status == 413) is too_large


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect"])
async def test_forms_with_tokens_of_other_makers_may_be_longer(server: Server, path: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for size, too_large in ((64 * KIB, False), (64 * KIB + 1, True)):
        response = await server.call("POST", path, headers=headers, body=b"x=" + b"y" * (size - 2))
        assert (response.status == 413) is too_large


# --------------------------------------------------------------------------------- shares, ceilings


async def test_400_greedy_networks_leave_room_for_a_new_one() -> None:
    clock = FrozenClock()
    allowance = Allowance(RateLimits().unfinished_bytes, clock)
    for number in range(400):
        with contextlib.suppress(TooManyRequests):
            for _ in range(1000):
                allowance.take(f"flood {number}", FIRST_BYTES - RECORD_BYTES, 600)
    for number in range(50):
        allowance.take(f"honest {number}", 2000, 600)


async def test_one_network_has_a_quarter_and_what_expires_is_given_back(clock: FrozenClock) -> None:
    allowance = Allowance(100 * KIB, clock)
    for _ in range(100 // SHARE):
        allowance.take("a", KIB - RECORD_BYTES, 600)
    with pytest.raises(TooManyRequests):
        allowance.take("a", KIB - RECORD_BYTES, 600)
    allowance.take("b", KIB - RECORD_BYTES, 60)
    clock.advance(599)
    with pytest.raises(TooManyRequests):
        allowance.take("a", 1, 600)
    clock.advance(1)
    allowance.take("a", 100 * KIB // SHARE - RECORD_BYTES, 600)


async def test_when_half_is_used_networks_with_little_go_first(
    clock: FrozenClock,
) -> None:
    ceiling = SMALL_SHARE * FIRST_BYTES
    allowance = Allowance(ceiling, clock)
    for network in ("a", "b"):
        allowance.take(network, ceiling // SHARE - RECORD_BYTES, 600)
    for network in ("a", "b"):
        with pytest.raises(TooManyRequests):
            allowance.take(network, 1, 600)
    small = ceiling // SMALL_SHARE
    for number in range(SMALL_SHARE // 2):
        allowance.take(f"honest {number}", small - RECORD_BYTES, 600)
        with pytest.raises(TooManyRequests):
            allowance.take(f"honest {number}", 1, 600)
    with pytest.raises(ServerUnavailable):
        allowance.take("one more", 1, 600)
    clock.advance(600)
    allowance.take("one more", 1, 600)


async def test_what_strangers_begin_at_the_pages_is_bounded_for_one_network_and_for_all(
    store: EncryptedStore, clock: FrozenClock
) -> None:
    limits = RateLimits(unfinished_bytes=64 * KIB)
    async with deploy(store=store, clock=clock, rate_limits=limits) as server:
        client = await server.register()
        query = urlsplit(client.authorization_url(state="s" * 4000)).query

        async def begin(address: str) -> int:
            return (await server.call("GET", f"/authorize?{query}", client=(address, 1))).status

        statuses = [await begin("192.0.2.1") for _ in range(20)]
        assert set(statuses) == {303, 429}
        await begin("192.0.2.2")
        assert sum(map(len, await kept(server, "transaction"))) <= 64 * KIB // SHARE + 6_000
        for number in range(40):
            await begin(f"198.51.100.{number}")
        assert sum(map(len, await kept(server, "transaction"))) <= 64 * KIB
        clock.advance(600)
        assert await begin("192.0.2.1") == 303


@pytest.mark.rule("AS-66")
async def test_what_clients_push_is_bounded_too(store: EncryptedStore, clock: FrozenClock) -> None:
    limits = RateLimits(unfinished_bytes=64 * KIB)
    async with deploy(store=store, clock=clock, rate_limits=limits) as server:
        client = await server.register()
        form = form_of(client, state="s" * 4000)
        statuses = [(await server.call("POST", "/par", form=form)).status for _ in range(20)]
        assert set(statuses) == {201, 429}
        assert sum(map(len, await kept(server, "pushed"))) <= 64 * KIB // SHARE


async def test_what_is_kept_for_the_way_to_an_identity_provider_is_bounded_too() -> None:
    with Upstream(clock=FrozenClock()) as upstream:
        async with deploy_proxy(
            upstream, "oidc", rate_limits=RateLimits(unfinished_bytes=64 * KIB)
        ) as server:
            client, browser = await server.register(), server.browser()
            page = await browser.open(client.authorization_url())
            login = (
                await browser.send("POST", page.url, {**page.hidden, "action": "approve"})
            ).header("location") or ""
            statuses = [(await browser.send("GET", login)).status for _ in range(60)]
            assert set(statuses) == {303, 429}
            assert sum(map(len, await kept(server, "upstream_state"))) <= 64 * KIB // SHARE


async def test_counters_of_many_networks_have_a_ceiling_that_refuses_no_request(
    store: EncryptedStore, clock: FrozenClock
) -> None:
    limits = Limits(store, clock, RateLimits(unfinished_bytes=64 * KIB))
    for number in range(1_000):
        await limits.count("token", f"192.0.{number // 256}.{number % 256}")
    assert len(await store.scan("limit", limit=2_000)) <= 64 * KIB // RECORD_BYTES
    with pytest.raises(ServerUnavailable):
        await limits.count("register", "198.51.100.1")


@pytest.mark.parametrize("known", [False, True], ids=["a stranger's", "the operator's"])
async def test_used_assertions_are_bounded_for_strangers_clients_and_not_for_the_operators(
    store: EncryptedStore, clock: FrozenClock, known: bool
) -> None:
    robot = Robot(BASE_URL, clock)
    registration, limits = (
        Registration(clients=[robot.metadata, PAGE]),
        RateLimits(unfinished_bytes=SMALL),
    )
    async with deploy(
        store=store, clock=clock, registration=registration, rate_limits=limits
    ) as server:
        if not known:
            keys = {"token_endpoint_auth_method": "private_key_jwt", "jwks": robot.metadata["jwks"]}
            robot.client_id = (await server.register(**keys)).client_id
        # Sign-ins have room of their own; when it is full, assertions are accepted all the same.
        query = urlsplit(server.known(PAGE).authorization_url()).query
        sign_ins = [(await server.call("GET", f"/authorize?{query}")).status for _ in range(9)]
        assert sign_ins[-1] == 429
        statuses: list[int] = []
        for _ in range(30):
            form = {
                "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": robot.assertion(),
                "token": "t",
            }
            statuses.append((await server.call("POST", "/introspect", form=form)).status)
        assert set(statuses) == ({200} if known else {200, 429})
        assert len(await kept(server, "jti")) == (30 if known else statuses.count(200))
        assert statuses.count(200) > SMALL // SHARE // RECORD_BYTES // 2
