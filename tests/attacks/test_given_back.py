"""Upstream tokens that are no longer used are revoked in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from asgi_mcp_auth.proxy import Person, UpstreamIdentity, UpstreamRules, kept, returns
from asgi_mcp_auth.proxy.returns import AT_ONCE, KEPT_SECONDS
from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.server.browser.records import SESSIONS
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Response
from tests.support.authorization_server import (
    CONFIDENTIAL,
    KEY,
    WEB_REDIRECT_URI,
    ClientOf,
    Server,
    answer_of,
    memory_store,
)
from tests.support.failing import FailingStore, FullStore
from tests.support.proxy import code_of, come_back, depart, deploy_proxy, tokens_for, told
from tests.support.upstream import Upstream

pytestmark = [pytest.mark.asyncio, pytest.mark.case("P22"), pytest.mark.rule("PX-11")]

SWEEP_SECONDS = 61
TOKENS, RETURNS = kept.TOKENS.name, returns.RETURNS.name


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A provider whose clock stands still."""
    with Upstream(clock=FrozenClock()) as provider:
        yield provider


async def swept(server: Server, seconds: float = SWEEP_SECONDS) -> None:
    """Let time pass, then send a request, which triggers sweeping."""
    server.clock.advance(seconds)
    await server.call("GET", "/authorize")
    await told(server)


async def subject_of(server: Server) -> str:
    async for _, grant in server.provider.admin.grants():
        return grant.subject
    raise AssertionError("nobody is in")


async def by_client(server: Server, client: ClientOf, tokens: dict[str, Any]) -> None:
    form = {"client_id": client.client_id, "token": tokens["refresh_token"]}
    assert (await server.call("POST", "/revoke", form=form)).status == 200


async def by_operator(server: Server, client: ClientOf, tokens: dict[str, Any]) -> None:
    assert await server.provider.admin.revoke_person(await subject_of(server)) > 0


async def by_deletion(server: Server, client: ClientOf, tokens: dict[str, Any]) -> None:
    assert await server.provider.admin.delete_client(client.client_id)


async def by_person(server: Server, client: ClientOf, tokens: dict[str, Any]) -> None:
    assert await server.provider.admin.revoke_client(await subject_of(server), client.client_id) > 0


async def by_replay(server: Server, client: ClientOf, tokens: dict[str, Any]) -> None:
    refreshed = await client.refresh(tokens["refresh_token"])
    assert refreshed.status == 200
    server.clock.advance(301)
    assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"


ENDINGS: dict[str, Callable[[Server, ClientOf, dict[str, Any]], Awaitable[None]]] = {
    "the client": by_client,
    "the operator": by_operator,
    "the person": by_person,
    "the client that goes": by_deletion,
    "a replay": by_replay,
}


@pytest.mark.parametrize("who", ENDINGS)
async def test_ending_a_grant_does_not_wait_for_the_provider(upstream: Upstream, who: str) -> None:
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        tokens = await tokens_for(upstream, client)
        (refresh_token,) = upstream._sessions
        with upstream.holding("/revoke"):
            await ENDINGS[who](server, client, tokens)
            assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401
            assert upstream.revoked == []
        await told(server)
        assert upstream.revoked == [refresh_token]
        for kind in (TOKENS, RETURNS):
            assert await server.provider.store.scan(kind) == []


async def test_all_grants_end_before_the_provider_hears_of_any(upstream: Upstream) -> None:
    """It is told of all of them together."""
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        every = [await tokens_for(upstream, client) for _ in range(AT_ONCE + 4)]
        with upstream.holding("/revoke"):
            assert await server.provider.admin.revoke_person(await subject_of(server)) == len(every)
            for tokens in every:
                answer = await server.call("POST", "/mcp", bearer=tokens["access_token"])
                assert answer.status == 401
            assert upstream.revoked == []
        await told(server)
        assert len(upstream.revoked) == len(every)


@pytest.mark.parametrize("status", [500, 503, 429, 401, 403])
async def test_what_the_provider_could_not_be_told_it_is_told_later(
    upstream: Upstream, status: int
) -> None:
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        tokens = await tokens_for(upstream, client)
        upstream.fail("/revoke", status=status)
        await by_client(server, client, tokens)
        await told(server)
        for _ in range(2):
            await swept(server)
        assert (upstream.hits["/revoke"], len(await server.provider.store.scan(RETURNS))) == (
            3,
            1,
        )
        upstream.reset()
        await swept(server)
        assert len(upstream.revoked) == 1
        assert await server.provider.store.scan(RETURNS) == []
        await swept(server)
        assert len(upstream.revoked) == 1


async def test_what_the_provider_refuses_to_take_is_not_offered_again(upstream: Upstream) -> None:
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        tokens = await tokens_for(upstream, client)
        upstream.fail("/revoke", status=400)
        await by_client(server, client, tokens)
        await told(server)
        assert await server.provider.store.scan(RETURNS) == []


async def test_a_new_process_tells_what_the_old_one_could_not(upstream: Upstream) -> None:
    store = memory_store(upstream.clock)
    async with deploy_proxy(upstream, store=store) as before:
        client = await before.register()
        upstream.fail("/revoke")
        await by_client(before, client, await tokens_for(upstream, client))
    upstream.reset()
    assert upstream.revoked == []
    async with deploy_proxy(upstream, store=store) as after:
        await told(after)
        assert len(upstream.revoked) == 1


async def test_nothing_is_kept_for_more_than_a_day(upstream: Upstream) -> None:
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        upstream.fail("/revoke")
        await by_client(server, client, await tokens_for(upstream, client))
        await told(server)
        server.clock.advance(KEPT_SECONDS)
        assert await server.provider.store.scan(RETURNS) == []


@pytest.mark.slow
async def test_a_provider_that_is_down_is_not_asked_for_each_of_many(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does the log say so for each."""
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        every = [await tokens_for(upstream, client) for _ in range(2 * AT_ONCE)]
        upstream.fail("/revoke")
        await server.provider.admin.revoke_person(await subject_of(server))
        await told(server)
        assert upstream.hits["/revoke"] == AT_ONCE
        assert caplog.text.count("did not revoke a token") == 1
        upstream.reset()
        await swept(server)
        assert len(upstream.revoked) == len(every)


@pytest.mark.slow
async def test_one_token_that_the_provider_cannot_take_keeps_none_of_the_others_from_it(
    upstream: Upstream,
) -> None:
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        every = [await tokens_for(upstream, client) for _ in range(2 * AT_ONCE)]
        upstream.fail("/revoke", times=1)
        await server.provider.admin.revoke_person(await subject_of(server))
        await told(server)
        assert len(upstream.revoked) == len(every) - 1
        await swept(server)
        assert len(upstream.revoked) == len(every)


async def test_a_server_that_stops_tells_the_provider_what_it_has_begun_to_tell(
    upstream: Upstream,
) -> None:
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        tokens = await tokens_for(upstream, client)
        upstream.delay("/revoke", 0.3)
        await by_client(server, client, tokens)
    assert len(upstream.revoked) == 1


async def test_on_a_full_disk_the_provider_is_told_all_the_same(upstream: Upstream) -> None:
    store = FullStore(MemoryStore(clock=upstream.clock))
    async with deploy_proxy(upstream, store=EncryptedStore(store, [KEY])) as server:
        client = await server.register()
        tokens = await tokens_for(upstream, client)
        store.full = True
        await by_client(server, client, tokens)
        await told(server)
        assert len(upstream.revoked) == 1


# ------------------------------------------------------------------------------------ every way out


class Broken(Exception):
    """An exception of an application's hook."""


def raising(identity: UpstreamIdentity) -> Person:
    raise Broken


TURNED_AWAY: dict[str, UpstreamRules] = {
    "by a domain": UpstreamRules(allowed_domains=["example.com"]),
    "by a claim": UpstreamRules(allowed_claims={"groups": ["staff"]}),
    "by the hook": UpstreamRules(person=lambda identity: None),
    "by a hook that returns something else": UpstreamRules(person=lambda identity: "alice"),  # type: ignore[arg-type, return-value]  # on purpose
    "by a hook that raises": UpstreamRules(person=raising),
    "by too many claims": UpstreamRules(claims=["much"]),
    "by a subject that no token can have": UpstreamRules(
        person=lambda identity: Person(subject="")
    ),
    "by a client that is called so": UpstreamRules(
        person=lambda identity: Person(subject="service")
    ),
    "without kept tokens": UpstreamRules(keep_tokens=False, person=lambda identity: None),
}


async def arrive(server: Server, upstream: Upstream) -> Response:
    """Sign in at the provider; return the answer to the browser that comes back."""
    client, browser = await server.register(redirect_uris=[WEB_REDIRECT_URI]), server.browser()
    return await come_back(browser, upstream.approve(await depart(browser, client)))


@pytest.mark.parametrize("how", TURNED_AWAY)
async def test_the_tokens_of_who_is_turned_away_are_given_back(
    upstream: Upstream, how: str
) -> None:
    upstream.people["alice"] = {"much": "x" * 5000}
    registration = Registration(clients=[CONFIDENTIAL])
    async with deploy_proxy(
        upstream, upstream=TURNED_AWAY[how], registration=registration
    ) as server:
        response = await arrive(server, upstream)
        assert "code=" not in (response.header("location") or "")
        await told(server)
        assert len(upstream.revoked) == 1
        for kind in (TOKENS, RETURNS, SESSIONS.name):
            assert await server.provider.store.scan(kind) == []


@pytest.mark.parametrize("kind", [TOKENS, RETURNS, SESSIONS.name])
@pytest.mark.parametrize("cancels", [True, False])
async def test_the_tokens_of_who_meets_an_outage_or_leaves_are_given_back(
    upstream: Upstream, kind: str, cancels: bool
) -> None:
    class Failing(FailingStore):
        async def _call(self, work: Callable[[], Awaitable[Any]], *call: str) -> Any:
            if self.for_good and call[0] == "put" and call[1].partition("@")[0] == kind:
                self.for_good = False
                await self._fail()
            return await super()._call(work, *call)

    store = Failing(MemoryStore(clock=upstream.clock), cancels=cancels)
    async with deploy_proxy(upstream, store=EncryptedStore(store, [KEY])) as server:
        store.for_good = True
        arriving = asyncio.create_task(arrive(server, upstream))
        await asyncio.wait({arriving})
        assert arriving.cancelled() or arriving.result().status == 503
        await told(server)
        assert len(set(upstream.revoked)) == 1
        assert await server.provider.store.scan(TOKENS) == []


async def test_the_upstream_tokens_of_an_abandoned_sign_in_are_revoked_in_time(
    upstream: Upstream,
) -> None:
    """The code is not redeemed: the application has crashed, or the code was refused."""
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        await code_of(upstream, client)
        expired, wrong = await code_of(upstream, client), await code_of(upstream, client)
        assert (await client.redeem(wrong, code_verifier="w" * 43)).status == 400
        server.clock.advance(60)
        assert (await client.redeem(expired)).status == 400
        await swept(server)
        assert upstream.revoked == []
        await swept(server, 1000)
        assert len(upstream.revoked) == 3
        for kind in (TOKENS, RETURNS):
            assert await server.provider.store.scan(kind) == []


async def test_the_tokens_of_a_code_whose_person_may_not_come_in_any_more_are_given_back(
    upstream: Upstream,
) -> None:
    known = {"alice"}
    rules = UpstreamRules(person=lambda identity: Person(subject="employee-17") if known else None)
    async with deploy_proxy(upstream, upstream=rules) as server:
        client = await server.register()
        code = await code_of(upstream, client)
        known.clear()
        assert (await client.redeem(code)).status == 400
        await told(server)
        assert len(upstream.revoked) == 1


async def test_the_tokens_of_who_is_out_at_a_renewal_are_given_back(upstream: Upstream) -> None:
    upstream.people["alice"] = {"groups": ["staff"]}
    async with deploy_proxy(
        upstream, upstream=UpstreamRules(allowed_claims={"groups": ["staff"]})
    ) as server:
        client = await server.register()
        tokens = await tokens_for(upstream, client)
        upstream.people["alice"] = {}
        server.clock.advance(3590)
        assert (await client.refresh(tokens["refresh_token"])).status == 400
        await told(server)
        assert len(upstream.revoked) == 1
        assert upstream._sessions == {}


async def test_tokens_in_use_are_not_revoked(upstream: Upstream) -> None:
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        tokens = await tokens_for(upstream, client)
        assert await server.provider.store.scan(RETURNS) == []
        for _ in range(3):
            await swept(server, 1800)
            tokens = (await client.refresh(tokens["refresh_token"])).json()
        assert (upstream.revoked, upstream.reused) == ([], [])


async def test_a_failing_store_during_a_redemption_revokes_no_tokens_that_are_in_use(
    upstream: Upstream,
) -> None:
    for number in range(1, 30):
        store = FailingStore(MemoryStore(clock=upstream.clock))
        async with deploy_proxy(upstream, store=EncryptedStore(store, [KEY])) as server:
            client = await server.register()
            code = await code_of(upstream, client)
            store.calls.clear()
            store.fail_at = number
            response = await client.redeem(code)
            has_failed = len(store.calls) >= number
            store.fail_at = 0
            if response.status == 503:
                response = await client.redeem(code)
            if response.status == 200:
                await swept(server, 2000)
                assert upstream.revoked == []
                server.clock.advance(1600)
                assert (await client.refresh(response.json()["refresh_token"])).status == 200
        if not has_failed:
            return
    raise AssertionError("it never ended")


async def test_the_sign_in_answers_as_before(upstream: Upstream) -> None:
    """An outage of the provider and one of a hook look the same to the application."""
    async with deploy_proxy(upstream, upstream=UpstreamRules(person=raising)) as server:
        response = await arrive(server, upstream)
        assert answer_of(response.header("location") or "")["error"] == "temporarily_unavailable"
