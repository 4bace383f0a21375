"""An outage at the identity provider ends no sign-in, and its earlier answers still count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asgi_mcp_auth import ServerUnavailable
from asgi_mcp_auth.errors import InvalidGrant
from asgi_mcp_auth.proxy.answers import TokenAnswer
from asgi_mcp_auth.proxy.client import UpstreamClient
from asgi_mcp_auth.proxy.options import UpstreamIdentity, UpstreamRules
from asgi_mcp_auth.proxy.refresh import LEASE_SECONDS, LEASES
from asgi_mcp_auth.proxy.returns import Returns
from asgi_mcp_auth.proxy.tokens import UpstreamTokens
from asgi_mcp_auth.proxy.upstream import Endpoints
from asgi_mcp_auth.server.records import hash_of
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from asgi_mcp_auth.types import Clock
from tests.support.authorization_server import KEY, ClientOf, Server, answer_of
from tests.support.engines import fresh
from tests.support.failing import FailingStore, HeldStore
from tests.support.proxy import (
    KINDS,
    come_back,
    depart,
    deploy_proxy,
    tokens_for,
    upstream_token,
    welcome,
)
from tests.support.upstream import CLIENT_ID, CLIENT_SECRET, Upstream

TOKENS = "upstream"
pytestmark = [pytest.mark.asyncio, pytest.mark.case("P12")]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """An identity provider whose clock stands still."""
    with Upstream(clock=FrozenClock()) as provider:
        yield provider


@asynccontextmanager
async def a_new_worker_after_a_sign_in(
    upstream: Upstream, kind: str = "oidc", **settings: Any
) -> AsyncIterator[tuple[Server, ClientOf, dict[str, Any]]]:
    """Sign a person in at one worker; give out another one, which has fetched nothing yet, with
    their client.
    """
    clock: Any = upstream.clock
    store = EncryptedStore(MemoryStore(clock=clock), [KEY])
    async with deploy_proxy(upstream, kind, store=store, **settings) as first:
        client = await first.register()
        tokens = await tokens_for(upstream, client)
    async with deploy_proxy(upstream, kind, store=store, **settings) as second:
        client.server = second
        yield second, client, tokens


async def refreshed(client: ClientOf, tokens: dict[str, Any]) -> tuple[int, str | None]:
    """Refresh; return the status and the error. A success replaces the tokens."""
    response = await client.refresh(tokens["refresh_token"])
    document = response.json()
    if response.status == 200:
        tokens.update(document)
    return response.status, document.get("error")


REFUSED = (503, "temporarily_unavailable")


# ------------------------------------------------------------------------- the keys of the ID token


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, b""), (500, b"<html>"), (429, b""), (404, b""), (200, b"<html>"), (200, b'{"keys":[]}')],
)
async def test_a_refreshed_id_token_that_expires_while_its_keys_cannot_be_had_ends_nothing(
    upstream: Upstream, status: int, body: bytes
) -> None:
    """It was good when it came: `exp` is asked of that moment (OpenID Connect Core §12.2)."""
    async with a_new_worker_after_a_sign_in(upstream) as (server, client, tokens):
        upstream.answer("/jwks", body, status=status)
        server.clock.advance(3590)
        assert await refreshed(client, tokens) == REFUSED
        server.clock.advance(1000)  # the ID token has expired, the access token has not
        assert await refreshed(client, tokens) == REFUSED
        upstream.reset()
        server.clock.advance(2)
        assert await refreshed(client, tokens) == (200, None)
        assert await upstream_token(server, tokens["access_token"]) in upstream.access
        assert (len(upstream.requests), upstream.reused) == (2, [])


@pytest.mark.parametrize(
    ("issued", "good_for", "status"), [(0, 1, 200), (0, 0, 400), (60, 300, 200), (62, 300, 400)]
)
async def test_a_refreshed_id_token_is_judged_by_the_second_it_came(
    upstream: Upstream, issued: int, good_for: int, status: int
) -> None:
    """What had expired by then, or was of a later time, ends the sign-in as it always did, however
    late that shows.
    """
    async with a_new_worker_after_a_sign_in(upstream) as (server, client, tokens):
        upstream.fail("/jwks")
        server.clock.advance(3590)
        now = int(server.clock.time())
        upstream.id_token = {"iat": now + issued, "exp": now + good_for}
        assert await refreshed(client, tokens) == REFUSED
        upstream.reset()
        server.clock.advance(1000)
        assert (await refreshed(client, tokens))[0] == status


@pytest.mark.parametrize("minutes", [5, 90])
async def test_keys_that_were_replaced_while_they_could_not_be_had_end_nothing(
    upstream: Upstream, minutes: int
) -> None:
    """The kept ID token can no longer be checked, so the provider is asked for another one."""
    async with a_new_worker_after_a_sign_in(upstream) as (server, client, tokens):
        upstream.fail("/jwks")
        server.clock.advance(3590)
        assert await refreshed(client, tokens) == REFUSED
        upstream.reset()
        upstream.rotate(drop=True)
        for _ in range(4):
            server.clock.advance(minutes * 60 / 4)
            result = await refreshed(client, tokens)
            if result[0] == 200:
                break
            assert result == REFUSED
        assert result == (200, None)
        assert upstream.reused == []


async def test_a_key_that_is_newer_than_the_key_set_at_hand_is_waited_for(
    upstream: Upstream,
) -> None:
    """Unknown keys cause two fetches at once, and then one in five seconds."""
    async with a_new_worker_after_a_sign_in(upstream) as (server, client, tokens):
        other = await server.register()
        server.clock.advance(3590)
        for _ in range(3):  # the first one fetches the keys in any case
            await tokens_for(upstream, other, "bob")
            upstream.rotate(drop=True)
        assert await refreshed(client, tokens) == REFUSED
        assert await refreshed(client, tokens) == REFUSED  # and the provider is not asked each time
        assert [each["grant_type"] for each in upstream.requests].count("refresh_token") == 1
        server.clock.advance(5)
        assert await refreshed(client, tokens) == (200, None)
        assert upstream.reused == []


@pytest.mark.slow
async def test_a_key_that_the_provider_does_not_publish_ends_a_sign_in_within_minutes(
    upstream: Upstream,
) -> None:
    """Tokens signed with it are never given out, and the person is asked to sign in again."""
    async with a_new_worker_after_a_sign_in(upstream) as (server, client, tokens):
        server.clock.advance(3590)
        published = upstream.jwks
        upstream.rotate()
        upstream.jwks = published
        seen: list[tuple[int, str | None]] = []
        for _ in range(60):
            seen.append(await refreshed(client, tokens))
            if seen[-1] != REFUSED:
                break
            server.clock.advance(10)
        assert seen[-1] == (400, "invalid_grant")
        assert 25 <= len(seen) <= 35
        assert await server.provider.store.scan(TOKENS) == []


async def test_a_new_worker_that_cannot_find_the_provider_gives_out_what_is_still_good(
    upstream: Upstream,
) -> None:
    """The token is due, its refresh can wait."""
    async with a_new_worker_after_a_sign_in(upstream) as (server, client, tokens):
        for path in (
            "/.well-known/oauth-authorization-server",
            "/.well-known/openid-configuration",
        ):
            upstream.fail(path)
        server.clock.advance(3590)
        assert await upstream_token(server, tokens["access_token"]) in upstream.access
        assert await refreshed(client, tokens) == (200, None)
        server.clock.advance(10)
        assert await refreshed(client, tokens) == REFUSED
        upstream.reset()
        server.clock.advance(2)
        assert await refreshed(client, tokens) == (200, None)


# ----------------------------------------------------------------------------- every other endpoint

OUTAGES = [(500, b""), (502, b"<html>"), (503, b""), (504, b""), (429, b"")]
UNREADABLE = [(200, b"<html>"), (200, b""), (200, b"[]"), (410, b"<html>"), (403, b"")]


@pytest.mark.parametrize(("status", "body"), [*OUTAGES, *UNREADABLE, (200, b"{}")])
@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_the_token_endpoint_answers_beside_a_refusal_ends_nothing(
    upstream: Upstream, kind: str, status: int, body: bytes
) -> None:
    async with a_new_worker_after_a_sign_in(upstream, kind) as (server, client, tokens):
        upstream.answer("/token", body, status=status)
        server.clock.advance(3600)
        assert await refreshed(client, tokens) == REFUSED
        upstream.reset()
        server.clock.advance(61)
        assert await refreshed(client, tokens) == (200, None)
        assert upstream.reused == []


@pytest.mark.parametrize(("status", "body"), OUTAGES + UNREADABLE)
async def test_introspection_that_is_down_ends_nothing(
    upstream: Upstream, status: int, body: bytes
) -> None:
    """Whose the refreshed access token is shows later."""
    async with a_new_worker_after_a_sign_in(upstream, "oauth") as (server, client, tokens):
        upstream.answer("/introspect", body, status=status)
        server.clock.advance(3600)
        assert await refreshed(client, tokens) == REFUSED
        upstream.reset()
        server.clock.advance(61)
        assert await refreshed(client, tokens) == (200, None)
        assert upstream.reused == []


@pytest.mark.parametrize(("status", "body"), OUTAGES)
@pytest.mark.parametrize("path", ["/token", "/jwks", "/userinfo"])
async def test_who_signs_in_during_an_outage_is_told_so(
    upstream: Upstream, path: str, status: int, body: bytes
) -> None:
    """Nothing was said of them, so they are not turned away: the client may try again."""
    async with deploy_proxy(upstream, upstream=UpstreamRules(userinfo=True)) as server:
        client, browser = await server.register(), server.browser()
        callback = upstream.approve(await depart(browser, client))
        upstream.answer(path, body, status=status)
        answer = answer_of((await come_back(browser, callback)).header("location") or "")
        assert answer["error"] == "temporarily_unavailable"
        assert server.reasons() == ["sign_in_unavailable"]


@pytest.mark.parametrize("status", [200, 400, 503])
async def test_a_token_endpoint_that_says_that_it_is_not_there_is_believed(
    upstream: Upstream, status: int
) -> None:
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        callback = upstream.approve(await depart(browser, client))
        upstream.answer("/token", b'{"error":"temporarily_unavailable"}', status=status)
        answer = answer_of((await come_back(browser, callback)).header("location") or "")
        assert answer["error"] == "temporarily_unavailable"


# --------------------------------------------------------------------- one refresh, whatever clocks


class Anybody:
    """Says that all tokens are alice's."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def identify(self, answer: TokenAnswer, nonce: str) -> UpstreamIdentity:
        return UpstreamIdentity(issuer="https://idp.example", subject="alice", claims={})

    async def identify_refreshed(
        self, answer: TokenAnswer, answered_at: float | None
    ) -> UpstreamIdentity:
        return await self.identify(answer, "")


def worker(upstream: Upstream, store: Any, clock: Clock) -> UpstreamTokens:
    """Return the kept tokens as a worker with this clock has them."""
    endpoints = Endpoints(
        authorization=f"{upstream.issuer}/authorize", token=f"{upstream.issuer}/token"
    )

    async def find() -> Endpoints:
        return endpoints

    client = UpstreamClient(find, CLIENT_ID, CLIENT_SECRET, UpstreamRules(), "")
    return UpstreamTokens(store, clock, client, Anybody(), Returns(store, clock, client))


async def sign_in(upstream: Upstream, tokens: UpstreamTokens, now: float) -> str:
    """Keep tokens that are good for a hundred seconds; return their reference."""
    upstream._sessions["r1"] = {"user": "alice"}
    identity = UpstreamIdentity(issuer="https://idp.example", subject="alice", claims={})
    return await tokens.keep(identity, TokenAnswer("first", "r1", 100), now, 86_400)


@pytest.mark.parametrize("engine", ["memory", "redis", "postgresql"])
@pytest.mark.parametrize("apart", [15.0, -15.0])
async def test_hosts_whose_clocks_are_apart_use_a_refresh_token_once(
    upstream: Upstream, apart: float, engine: str
) -> None:
    """The store's clock decides how long a refresh may take, not that of the waiting worker."""
    here, there = FrozenClock(), FrozenClock()
    there.advance(apart)
    with fresh(engine) as place:
        stores = place.store(clock=FrozenClock()), place.store()
        for each in stores:
            await each.open()
        first, second = worker(upstream, stores[0], here), worker(upstream, stores[1], there)
        reference = await sign_in(upstream, first, here.time())
        here.advance(120)
        there.advance(120)
        with upstream.holding() as arrived:
            tasks = [asyncio.create_task(first.fresh_access_token(reference, welcome))]
            await asyncio.to_thread(arrived.wait)
            tasks += [
                asyncio.create_task(second.fresh_access_token(reference, welcome)) for _ in range(2)
            ]
            await asyncio.sleep(0.05)  # they find out that they have to wait
        assert len(set(await asyncio.gather(*tasks))) == 1
        assert (len(upstream.requests), upstream.reused) == (1, [])
        for each in stores:
            await each.aclose()


async def test_a_worker_that_died_is_waited_for_by_the_stores_clock_alone(
    upstream: Upstream,
) -> None:
    clock, of_store = FrozenClock(), FrozenClock()
    store = EncryptedStore(MemoryStore(clock=of_store), [KEY])
    tokens = worker(upstream, store, clock)
    reference = await sign_in(upstream, tokens, clock.time())
    clock.advance(101)
    # and no more of it is heard
    await store.add(LEASES.name, f"{hash_of(reference)}.0", b"refreshing", ttl=LEASE_SECONDS)
    waiting = asyncio.create_task(tokens.fresh_access_token(reference, welcome))
    clock.jump(1000)
    await asyncio.sleep(0.2)
    assert (waiting.done(), upstream.requests) == (False, [])
    of_store.advance(LEASE_SECONDS)
    assert await waiting in upstream.access
    assert (len(upstream.requests), upstream.reused) == (1, [])


async def test_a_worker_that_was_held_up_does_not_use_a_refresh_token_again(
    upstream: Upstream,
) -> None:
    """It looked before another one refreshed, and gets the lease after that one's has ended."""
    clock = FrozenClock()
    memory = MemoryStore(clock=clock)
    held = HeldStore(EncryptedStore(memory, [KEY]))
    slow, quick = (
        worker(upstream, held, clock),
        worker(upstream, EncryptedStore(memory, [KEY]), clock),
    )
    reference = await sign_in(upstream, slow, clock.time())
    clock.advance(101)
    held.hold = ("add", LEASES.name)
    waiting = asyncio.create_task(slow.fresh_access_token(reference, welcome))
    await held.arrived.wait()
    token = await quick.fresh_access_token(reference, welcome)
    clock.advance(LEASE_SECONDS + 1)
    held.go.set()
    assert await waiting == token
    assert (len(upstream.requests), upstream.reused) == (1, [])


async def test_a_late_refusal_does_not_end_a_grant_refreshed_meanwhile(
    upstream: Upstream,
) -> None:
    """A worker that was stopped in the middle, longer than its lease: its refresh token has been
    used since.
    """
    clock = FrozenClock()
    store = EncryptedStore(MemoryStore(clock=clock), [KEY])
    slow, quick = worker(upstream, store, clock), worker(upstream, store, clock)
    reference = await sign_in(upstream, slow, clock.time())
    clock.advance(101)
    with upstream.holding(first=True) as arrived:
        waiting = asyncio.create_task(slow.fresh_access_token(reference, welcome))
        await asyncio.to_thread(arrived.wait)
        clock.advance(LEASE_SECONDS + 1)
        token = await quick.fresh_access_token(reference, welcome)
        upstream.answer("/token", b'{"error":"invalid_grant"}', status=400, times=1)
    assert await waiting == token
    assert await quick.fresh_access_token(reference, welcome) == token


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_answer_outlives_a_store_that_is_away_for_a_moment(
    upstream: Upstream, when: Any
) -> None:
    """The provider has used the old refresh token up, and says the new one once."""
    clock = FrozenClock()
    store = FailingStore(EncryptedStore(MemoryStore(clock=clock), [KEY]), when=when)
    tokens = worker(upstream, store, clock)
    reference = await sign_in(upstream, tokens, clock.time())
    clock.advance(101)
    with upstream.holding() as arrived:
        waiting = asyncio.create_task(tokens.fresh_access_token(reference, welcome))
        await asyncio.to_thread(arrived.wait)
        store.fail_at = len(store.calls) + 2  # the first swap of the record; what reads it passes
    token = await waiting
    assert store.calls[store.fail_at - 1][:2] == ("swap", TOKENS)
    clock.advance(3600)
    assert await tokens.fresh_access_token(reference, welcome) not in ("first", token)
    assert (len(upstream.requests), upstream.reused) == (2, [])


async def test_a_provider_that_fails_is_left_alone_for_a_second_of_the_stores_clock(
    upstream: Upstream,
) -> None:
    """Not for a second of the waiting worker's clock: one that is behind would be kept waiting by
    the difference.
    """
    here, there, of_store = FrozenClock(), FrozenClock(), FrozenClock()
    here.advance(15)
    store = EncryptedStore(MemoryStore(clock=of_store), [KEY])
    first, second = worker(upstream, store, here), worker(upstream, store, there)
    reference = await sign_in(upstream, first, here.time())
    for clock in (here, there):
        clock.advance(120)
    upstream.fail("/token")
    with pytest.raises(ServerUnavailable):
        await first.fresh_access_token(reference, welcome)
    with pytest.raises(ServerUnavailable):
        await second.fresh_access_token(reference, welcome)
    assert len(upstream.requests) == 1
    upstream.reset()
    of_store.advance(1)
    assert await second.fresh_access_token(reference, welcome) in upstream.access


async def test_a_sign_in_that_ends_while_the_lease_is_taken_has_ended(
    upstream: Upstream,
) -> None:
    clock = FrozenClock()
    held = HeldStore(EncryptedStore(MemoryStore(clock=clock), [KEY]))
    tokens = worker(upstream, held, clock)
    reference = await sign_in(upstream, tokens, clock.time())
    clock.advance(101)
    held.hold = ("add", LEASES.name)
    waiting = asyncio.create_task(tokens.fresh_access_token(reference, welcome))
    await held.arrived.wait()
    await tokens.end(reference)
    held.go.set()
    with pytest.raises(InvalidGrant):
        await waiting
    assert upstream.requests == []


async def test_a_caller_that_leaves_with_the_lease_blocks_no_other(
    upstream: Upstream,
) -> None:
    clock = FrozenClock()
    held = HeldStore(EncryptedStore(MemoryStore(clock=clock), [KEY]))
    tokens = worker(upstream, held, clock)
    reference = await sign_in(upstream, tokens, clock.time())
    clock.advance(101)
    held.hold = ("add", LEASES.name)
    leaving = asyncio.create_task(tokens.fresh_access_token(reference, welcome))
    await held.arrived.wait()
    held.arrived.clear()
    held.hold = ("get", TOKENS)
    held.go.set()
    held.go.clear()
    await held.arrived.wait()  # it has the lease
    leaving.cancel()
    await asyncio.wait([leaving])
    held.go.set()
    assert await tokens.fresh_access_token(reference, welcome) in upstream.access
    assert (len(upstream.requests), upstream.reused) == (1, [])
