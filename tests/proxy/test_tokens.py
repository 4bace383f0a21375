"""Kept tokens at their edges: when they are due, how long they stay, who waits, failures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asgi_mcp_auth.errors import InvalidGrant, ServerUnavailable, SignInFailed
from asgi_mcp_auth.proxy.answers import TokenAnswer
from asgi_mcp_auth.proxy.client import UpstreamClient
from asgi_mcp_auth.proxy.kept import TOKENS as KIND
from asgi_mcp_auth.proxy.options import UpstreamIdentity, UpstreamRules
from asgi_mcp_auth.proxy.refresh import LEASE_SECONDS, LEASES
from asgi_mcp_auth.proxy.returns import Returns
from asgi_mcp_auth.proxy.tokens import UpstreamTokens
from asgi_mcp_auth.proxy.upstream import Endpoints
from asgi_mcp_auth.server.records import hash_of
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import KEY
from tests.support.proxy import welcome
from tests.support.upstream import CLIENT_ID, CLIENT_SECRET, SECONDS, Upstream

pytestmark = pytest.mark.asyncio

DAY = 86_400
TOKENS = "upstream"


class Says:
    """Tells who refreshed tokens belong to: the person in ``subject``, or the exception in it."""

    def __init__(self) -> None:
        self.subject: str | Exception = "alice"
        self.asked: list[TokenAnswer] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def identify(self, answer: TokenAnswer, nonce: str) -> UpstreamIdentity:
        raise AssertionError("these are refreshed tokens")

    async def identify_refreshed(
        self, answer: TokenAnswer, answered_at: float | None
    ) -> UpstreamIdentity:
        self.asked.append(answer)
        if isinstance(self.subject, Exception):
            raise self.subject
        return UpstreamIdentity(issuer="https://idp.example", subject=self.subject, claims={})


class Bench:
    """Kept tokens alone, before a real token endpoint."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.clock: Any = upstream.clock
        self.store = EncryptedStore(MemoryStore(clock=self.clock), [KEY])
        self.says = Says()
        endpoints = Endpoints(
            authorization=f"{upstream.issuer}/authorize",
            token=f"{upstream.issuer}/token",
            revocation=f"{upstream.issuer}/revoke",
        )

        async def find() -> Endpoints:
            return endpoints

        self.client = UpstreamClient(find, CLIENT_ID, CLIENT_SECRET, UpstreamRules(), "")
        self.returns = Returns(self.store, self.clock, self.client)
        self.tokens = self.worker()

    def worker(self, **settings: Any) -> UpstreamTokens:
        """Return what one process has of them."""
        return UpstreamTokens(
            self.store, self.clock, self.client, self.says, self.returns, **settings
        )

    async def keep(self, *, seconds: float = DAY, **answer: Any) -> str:
        """Keep tokens of a sign-in; return their reference. They last 100 s and have a refresh
        token by default.
        """
        usual: dict[str, Any] = {"access_token": "first", "refresh_token": "r1", "expires_in": 100}
        self.upstream._sessions["r1"] = {"user": "alice"}
        identity = UpstreamIdentity(issuer="https://idp.example", subject="alice", claims={})
        return await self.tokens.keep(
            identity, TokenAnswer(**{**usual, **answer}), self.clock.time(), seconds
        )

    @asynccontextmanager
    async def refreshing(self, reference: str) -> AsyncIterator[asyncio.Task[str]]:
        """Ask for a live token; the provider has the refresh token meanwhile, and has not
        answered.
        """
        with self.upstream.holding() as arrived:
            task = asyncio.create_task(self.tokens.fresh_access_token(reference, welcome))
            assert await asyncio.to_thread(arrived.wait, SECONDS)
            yield task

    async def record(self, reference: str) -> dict[str, Any] | None:
        """Return what is kept."""
        found = await self.store.get(TOKENS, hash_of(reference))
        return None if found is None else json.loads(found.value)

    async def lease(self, reference: str, seconds: float) -> None:
        """Let another worker hold the lease for so long, or end it."""
        found = await self.record(reference)
        assert found is not None
        key = f"{hash_of(reference)}.{found['turn']}"
        if seconds:
            await self.store.put(LEASES.name, key, b"refreshing", ttl=seconds)
        else:
            await self.store.delete(LEASES.name, key)

    @property
    def refreshes(self) -> int:
        """How many the token endpoint was asked for."""
        return len(self.upstream.requests)


@pytest.fixture
def bench(upstream: Upstream) -> Bench:
    upstream.expires_in = 100
    return Bench(upstream)


@pytest.mark.parametrize(
    ("expires_in", "good_for"),
    [(100, 80), (10, 8), (300, 240), (301, 241), (3600, 3540), (1, 0.8)],
)
async def test_a_token_is_due_a_fifth_of_its_life_and_at_most_a_minute_before_its_end(
    bench: Bench, expires_in: int, good_for: float
) -> None:
    reference = await bench.keep(expires_in=expires_in)
    bench.clock.advance(good_for - 0.01)
    assert (await bench.tokens.fresh_access_token(reference, welcome), bench.refreshes) == (
        "first",
        0,
    )
    bench.clock.advance(0.02)
    assert (
        await bench.tokens.fresh_access_token(reference, welcome) != "first",
        bench.refreshes,
    ) == (True, 1)


async def test_refreshed_tokens_have_a_life_of_their_own(bench: Bench) -> None:
    bench.upstream.expires_in = 10
    reference = await bench.keep()
    bench.clock.advance(81)
    second = await bench.tokens.fresh_access_token(reference, welcome)
    bench.clock.advance(7.9)
    assert await bench.tokens.fresh_access_token(reference, welcome) == second
    bench.clock.advance(0.2)
    assert await bench.tokens.fresh_access_token(reference, welcome) != second
    bench.upstream.expires_in = None
    bench.clock.advance(9)
    last = await bench.tokens.fresh_access_token(reference, welcome)
    record = await bench.record(reference)
    assert record is not None
    assert (record["expires_at"], record["lifetime"], record["turn"]) == (None, 0, 3)
    bench.clock.advance(DAY / 2)
    assert await bench.tokens.fresh_access_token(reference, welcome) == last


@pytest.mark.parametrize("expires_in", [0, None])
async def test_a_lifetime_that_is_nothing_or_not_known(
    bench: Bench, expires_in: int | None
) -> None:
    reference = await bench.keep(expires_in=expires_in)
    record = await bench.record(reference)
    assert record is not None
    assert (record["lifetime"], record["is_checked"], record["turn"]) == (0, True, 0)
    await bench.tokens.fresh_access_token(reference, welcome)
    assert bench.refreshes == (expires_in == 0)


async def test_a_record_stays_as_long_as_it_is_needed_whatever_is_written(bench: Bench) -> None:
    """The refresh and its check write; neither shortens nor lengthens what a grant needs."""
    reference = await bench.keep(seconds=1000)
    bench.clock.advance(90)
    await bench.tokens.fresh_access_token(reference, welcome)
    bench.clock.advance(909)
    assert await bench.record(reference) is not None
    bench.clock.advance(2)
    assert await bench.record(reference) is None
    with pytest.raises(InvalidGrant) as caught:
        await bench.tokens.fresh_access_token(reference, welcome)
    assert caught.value.reason == "sign_in_ended"


async def test_extending_never_shortens(bench: Bench) -> None:
    reference = await bench.keep(seconds=1000)
    await bench.tokens.extend(reference, 10, welcome)
    bench.clock.advance(999)
    assert await bench.record(reference) is not None
    await bench.tokens.extend(reference, 1000, welcome)
    bench.clock.advance(999)
    assert await bench.record(reference) is not None
    bench.clock.advance(2)
    assert await bench.record(reference) is None


async def test_at_the_very_end_of_its_time_a_record_is_still_written(bench: Bench) -> None:
    """A store takes no time to live of nothing."""
    reference = await bench.keep(seconds=90)
    bench.clock.advance(89.9)
    await bench.tokens.fresh_access_token(reference, welcome)
    bench.clock.advance(0.8)
    assert await bench.record(reference) is not None
    bench.clock.advance(0.5)
    assert await bench.record(reference) is None


async def test_while_one_request_refreshes_the_others_wait(bench: Bench) -> None:
    """The old token is still good, but with some providers it ends when it gets a successor."""
    reference = await bench.keep()
    await bench.lease(reference, 1000)
    bench.clock.advance(99)
    waiting = asyncio.create_task(bench.tokens.fresh_access_token(reference, welcome))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await bench.lease(reference, 0)
    assert await waiting in bench.upstream.access


async def test_a_lifetime_counts_from_when_it_was_asked_for(bench: Bench) -> None:
    """However long the answer took."""
    reference = await bench.keep()
    bench.clock.advance(100)
    asked_at = bench.clock.time()
    async with bench.refreshing(reference) as refreshing:
        bench.clock.advance(4)
    await refreshing
    record = await bench.record(reference)
    assert record is not None
    assert record["expires_at"] == asked_at + 100


async def test_a_lease_ends_when_it_says(bench: Bench) -> None:
    reference = await bench.keep()
    await bench.lease(reference, 101)
    bench.clock.advance(100.9)
    waiting = asyncio.create_task(bench.tokens.fresh_access_token(reference, welcome))
    await asyncio.sleep(0.1)
    assert (waiting.done(), bench.refreshes) == (False, 0)
    bench.clock.advance(0.1)
    assert await waiting in bench.upstream.access


async def test_the_lease_outlasts_a_refresh(bench: Bench) -> None:
    """The token endpoint has five seconds."""
    reference = await bench.keep()
    bench.clock.advance(100)
    async with bench.refreshing(reference) as refreshing:
        assert LEASE_SECONDS == 10
        bench.clock.advance(9.9)
        ((key, _),) = await bench.store.scan(LEASES.name)
        assert key == f"{hash_of(reference)}.0"
        bench.clock.advance(0.1)
        assert await bench.store.scan(LEASES.name) == []
    await refreshing


async def test_a_waiting_request_gives_up_after_about_the_time_of_a_lease(bench: Bench) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    reference = await bench.keep()
    await bench.lease(reference, 1000)
    bench.clock.advance(101)
    with pytest.raises(ServerUnavailable):
        await bench.worker(sleep=sleep).fresh_access_token(reference, welcome)
    assert sum(slept) == pytest.approx(12)
    assert max(slept) <= 0.1


@pytest.mark.parametrize("failure", ["down", "nonsense"])
async def test_after_a_failure_there_is_a_pause_of_a_second(bench: Bench, failure: str) -> None:
    reference = await bench.keep()
    bench.clock.advance(100)
    if failure == "down":
        bench.upstream.answer("/token", status=429, headers={"retry-after": "7"}, times=1)
    else:
        bench.upstream.answer("/token", b"<html>", times=1)
    for seconds in (7 if failure == "down" else 1, 1):
        with pytest.raises(ServerUnavailable) as caught:
            await bench.tokens.fresh_access_token(reference, welcome)
        assert caught.value.retry_after_seconds == seconds
    record = await bench.record(reference)
    assert record is not None
    assert (record["turn"], bench.refreshes) == (1, 1)
    bench.clock.advance(0.9)
    with pytest.raises(ServerUnavailable):
        await bench.tokens.fresh_access_token(reference, welcome)
    bench.clock.advance(0.1)
    assert await bench.tokens.fresh_access_token(reference, welcome) in bench.upstream.access
    record = await bench.record(reference)
    assert record is not None
    assert (record["turn"], bench.refreshes) == (2, 2)


async def test_after_a_failure_the_old_token_is_given_out_as_long_as_it_is_good(
    bench: Bench,
) -> None:
    bench.upstream.fail("/token")
    reference = await bench.keep()
    bench.clock.advance(98.5)
    for _ in range(3):
        assert await bench.tokens.fresh_access_token(reference, welcome) == "first"
    assert bench.refreshes == 1
    bench.clock.advance(1.2)
    assert await bench.tokens.fresh_access_token(reference, welcome) == "first"
    assert bench.refreshes == 2
    bench.clock.advance(0.3)
    with pytest.raises(ServerUnavailable):
        await bench.tokens.fresh_access_token(reference, welcome)


async def test_what_the_provider_has_ended_is_forgotten_at_once(bench: Bench) -> None:
    for refused in (b'{"error":"invalid_grant"}',):
        reference = await bench.keep()
        bench.upstream.answer("/token", refused, status=400, times=1)
        bench.clock.advance(100)
        with pytest.raises(InvalidGrant) as caught:
            await bench.tokens.fresh_access_token(reference, welcome)
        assert caught.value.reason == "sign_in_ended"
        assert await bench.record(reference) is None


@pytest.mark.parametrize("refresh_token", ["r1", None])
async def test_without_a_refresh_token_the_end_of_the_access_token_is_the_end(
    bench: Bench, refresh_token: str | None
) -> None:
    reference = await bench.keep(refresh_token=refresh_token)
    bench.clock.advance(99.9)
    if refresh_token is None:
        assert await bench.tokens.fresh_access_token(reference, welcome) == "first"
        bench.clock.advance(0.1)
        with pytest.raises(InvalidGrant):
            await bench.tokens.fresh_access_token(reference, welcome)
        assert await bench.record(reference) is None
    else:
        assert await bench.tokens.fresh_access_token(reference, welcome) != "first"


async def test_refreshed_tokens_are_looked_at_once(bench: Bench) -> None:
    """And what came with them goes then: it is of no more use."""
    bench.upstream.answer(
        "/token", b'{"access_token":"second","expires_in":100,"id_token":"a.b.c"}', times=1
    )
    reference = await bench.keep()
    bench.clock.advance(100)
    for _ in range(3):
        assert await bench.tokens.fresh_access_token(reference, welcome) == "second"
    assert bench.says.asked == [TokenAnswer("second", id_token="a.b.c")]
    record = await bench.record(reference)
    assert record is not None
    assert (record["is_checked"], record["id_token"], record["refresh_token"]) == (True, None, "r1")


async def test_a_check_says_nothing_of_tokens_that_came_later(bench: Bench) -> None:
    """Two workers: one checks what the other has refreshed again meanwhile."""
    reference = await bench.keep()
    bench.clock.advance(100)
    found: list[str] = []

    class Slow(Says):
        async def identify_refreshed(
            self, answer: TokenAnswer, answered_at: float | None
        ) -> UpstreamIdentity:
            record = await bench.record(reference)
            assert record is not None
            record |= {"access_token": "third", "id_token": "d.e.f"}
            found.append(answer.access_token)
            await bench.store.put(TOKENS, hash_of(reference), json.dumps(record).encode(), ttl=DAY)
            return await super().identify_refreshed(answer, answered_at)

    bench.tokens._identifier = Slow()
    assert [await bench.tokens.fresh_access_token(reference, welcome)] == found
    record = await bench.record(reference)
    assert record is not None
    assert (record["access_token"], record["is_checked"], record["id_token"]) == (
        "third",
        False,
        "d.e.f",
    )


async def test_tokens_that_were_replaced_during_their_check_end_nothing(bench: Bench) -> None:
    """With some providers a token ends when it has a successor, which has a check of its own."""
    reference = await bench.keep()
    bench.clock.advance(100)

    class Slow(Says):
        async def identify_refreshed(
            self, answer: TokenAnswer, answered_at: float | None
        ) -> UpstreamIdentity:
            if answer.access_token == "third":
                return await super().identify_refreshed(answer, answered_at)
            record = await bench.record(reference)
            assert record is not None
            record |= {"access_token": "third", "turn": 2}
            await bench.store.put(TOKENS, hash_of(reference), json.dumps(record).encode(), ttl=DAY)
            raise SignInFailed

    bench.tokens._identifier = Slow()
    with pytest.raises(ServerUnavailable):
        await bench.tokens.fresh_access_token(reference, welcome)
    assert await bench.tokens.fresh_access_token(reference, welcome) == "third"
    await bench.returns.settle()
    assert bench.upstream.revoked == []


async def test_tokens_that_are_being_replaced_during_their_check_end_nothing(bench: Bench) -> None:
    """The provider has ended them, and its answer with their successors is still on its way."""
    reference = await bench.keep()
    bench.clock.advance(100)

    class Slow(Says):
        async def identify_refreshed(
            self, answer: TokenAnswer, answered_at: float | None
        ) -> UpstreamIdentity:
            await bench.lease(reference, LEASE_SECONDS)
            raise SignInFailed

    bench.tokens._identifier = Slow()
    with pytest.raises(ServerUnavailable):
        await bench.tokens.fresh_access_token(reference, welcome)
    await bench.lease(reference, 0)
    bench.tokens._identifier = bench.says
    assert await bench.tokens.fresh_access_token(reference, welcome) in bench.upstream.access
    await bench.returns.settle()
    assert bench.upstream.revoked == []


@pytest.mark.parametrize("verdict", ["mallory", SignInFailed()])
async def test_tokens_of_another_person_are_never_given_out(
    bench: Bench, caplog: pytest.LogCaptureFixture, verdict: str | Exception
) -> None:
    bench.says.subject = verdict
    reference = await bench.keep()
    bench.clock.advance(100)
    with pytest.raises(InvalidGrant):
        await bench.tokens.fresh_access_token(reference, welcome)
    assert await bench.record(reference) is None
    said = "Refreshed tokens of the identity provider belong to another user: the sign-in ends"
    assert (said in caplog.messages) == (verdict == "mallory")


async def test_an_answer_for_a_sign_in_that_has_ended_meanwhile_is_given_back(bench: Bench) -> None:
    reference = await bench.keep()
    bench.clock.advance(100)
    async with bench.refreshing(reference) as refreshing:
        await bench.store.delete(TOKENS, hash_of(reference))
    with pytest.raises(InvalidGrant):
        await refreshing
    await bench.tokens.end(reference)
    await bench.returns.settle()
    assert len(bench.upstream.revoked) == 1
    assert bench.upstream.revoked != ["r1"]


async def test_who_is_cancelled_loses_no_tokens(bench: Bench) -> None:
    """An MCP client may cancel a call at any moment; the provider has taken the old refresh token
    by then.
    """
    reference = await bench.keep()
    bench.clock.advance(100)
    async with bench.refreshing(reference) as refreshing:
        refreshing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await refreshing
    await bench.tokens.settle()
    await bench.tokens.settle()  # nothing is left to wait for
    assert await bench.tokens.fresh_access_token(reference, welcome) in bench.upstream.access
    assert (bench.refreshes, bench.upstream.reused) == (1, [])


async def test_the_kind_of_record_stays_what_it_is(bench: Bench) -> None:
    """With another name, every person would have to sign in again after an upgrade."""
    await bench.keep()
    assert KIND.name == TOKENS == "upstream"
    assert len(await bench.store.scan("upstream")) == 1
    assert isinstance(bench.clock, FrozenClock)
