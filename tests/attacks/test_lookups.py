"""Tokens that the issuer is asked about: unknown ones do not delay or evict the good ones."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    AccessToken,
    IntrospectionTokenVerifier,
    InvalidToken,
    JWTVerifier,
    MCPAuthMiddleware,
    MultiAuth,
    RemoteAuthProvider,
    ServerUnavailable,
    TokenVerifier,
    UserinfoTokenVerifier,
)
from asgi_mcp_auth.lookups import (
    COOLDOWN_SECONDS,
    MAX_CACHE_SIZE,
    MAX_REFUSALS,
    STRANGERS_AT_ONCE,
    STRANGERS_OF_ONE_NETWORK,
    LookupVerifier,
)
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT, FrozenClock, Issuer
from asgi_mcp_auth.tokens import Verification, current_verification
from tests.support.asgi import Spy, call
from tests.support.gate import AUDIENCE, BASE_URL, ISSUER, NOW

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-31")]

OF_ONE_NETWORK_AT_ONCE = STRANGERS_AT_ONCE - STRANGERS_AT_ONCE // 4


class Endpoint:
    """An ASGI app that is asked about tokens, and answers, fails or hangs as the token's name says.

    Attributes:
        asked: how often, by token.
        under_way: how many questions are being answered.
        most: the largest number of them.
        status: an HTTP status for every token, while it is not 200.
        revoked: tokens that are good no more.
        gate: what every answer waits for.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.under_way = 0
        self.most = 0
        self.status = 200
        self.revoked: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one question, in both forms."""
        headers = dict(scope["headers"])
        form = parse_qs((await receive())["body"].decode())
        token = (
            form["token"][0]
            if "token" in form
            else headers[b"authorization"].decode().removeprefix("Bearer ")
        )
        self.asked[token] += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if token.startswith("hangs"):
                await asyncio.Event().wait()
            await self.gate.wait()
        finally:
            self.under_way -= 1
        status = 500 if token.startswith("breaks") else self.status
        known = token.startswith("good") and token not in self.revoked
        if not known and status == 200 and not form:
            status = 401
        body = {
            "active": known,
            "sub": token,
            "client_id": "c",
            "aud": AUDIENCE,
            "exp": NOW + 10**6,
        }
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(NOW)


def introspection(
    endpoint: Endpoint, clock: FrozenClock, **settings: Any
) -> IntrospectionTokenVerifier:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(endpoint))
    usual = {
        "introspection_url": "https://idp.example/introspect",
        "client_id": "rs",
        "client_secret": "secret",
    }
    return IntrospectionTokenVerifier(
        **{**usual, "audience": AUDIENCE, "clock": clock, "http_client": client, **settings}
    )


def userinfo(endpoint: Endpoint, clock: FrozenClock, **settings: Any) -> UserinfoTokenVerifier:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(endpoint))
    usual = {"userinfo_url": "https://idp.example/user", "audience": ANY_AUDIENCE}
    return UserinfoTokenVerifier(**{**usual, "clock": clock, "http_client": client, **settings})


@pytest.fixture(params=[introspection, userinfo], ids=["introspection", "userinfo"])
def verifier(
    request: pytest.FixtureRequest, endpoint: Endpoint, clock: FrozenClock
) -> LookupVerifier:
    made = request.param(endpoint, clock)
    assert isinstance(made, LookupVerifier)
    return made


async def verdict(verifier: TokenVerifier | LookupVerifier | MultiAuth, token: str) -> str:
    try:
        found = (
            await verifier.verify(token)
            if hasattr(verifier, "verify")
            else await verifier.verify_token(token)
        )
    except InvalidToken as refusal:
        return refusal.reason
    except ServerUnavailable:
        return "unavailable"
    return "good" if found else "rejected"


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until it is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what is watched has no event
            await asyncio.sleep(0)


async def until_asked(endpoint: Endpoint, number: int) -> None:
    """Let the loop run until so many questions are under way, and then a while, so that there could
    be more.
    """
    await until(lambda: endpoint.under_way >= number)
    for _ in range(50):
        await asyncio.sleep(0)


# ----------------------------------------------------------------------------- one flight per token


async def test_many_first_uses_of_one_token_at_once_are_one_question(
    endpoint: Endpoint, verifier: LookupVerifier
) -> None:
    endpoint.gate.clear()
    callers = [asyncio.create_task(verdict(verifier, "good-1")) for _ in range(50)]
    await until_asked(endpoint, 1)
    endpoint.gate.set()
    assert set(await asyncio.gather(*callers)) == {"good"}
    assert endpoint.asked == {"good-1": 1}


async def test_many_uses_of_one_piece_of_garbage_at_once_are_one_question(
    endpoint: Endpoint, verifier: LookupVerifier
) -> None:
    assert set(await asyncio.gather(*[verdict(verifier, "garbage") for _ in range(50)])) == {
        "inactive"
    }
    assert endpoint.asked == {"garbage": 1}


async def test_a_caller_that_is_cancelled_takes_none_of_the_others_down(
    endpoint: Endpoint, verifier: LookupVerifier
) -> None:
    endpoint.gate.clear()
    first = asyncio.create_task(verdict(verifier, "good-1"))
    await until_asked(endpoint, 1)
    others = [asyncio.create_task(verdict(verifier, "good-1")) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    endpoint.gate.set()
    assert await asyncio.gather(*others) == ["good"] * 3
    assert endpoint.asked == {"good-1": 1}


async def test_when_all_callers_are_cancelled_the_answer_is_remembered_and_nothing_is_left(
    endpoint: Endpoint, verifier: LookupVerifier
) -> None:
    endpoint.gate.clear()
    callers = [asyncio.create_task(verdict(verifier, "good-1")) for _ in range(3)]
    await until_asked(endpoint, 1)
    for each in callers:
        each.cancel()
    await asyncio.wait(callers)
    endpoint.gate.set()
    assert await verdict(verifier, "good-1") == "good"
    assert endpoint.asked == {"good-1": 1}
    assert not verifier._flights


async def test_stopping_ends_the_questions_under_way(
    endpoint: Endpoint, verifier: LookupVerifier
) -> None:
    async with verifier:
        caller = asyncio.create_task(verdict(verifier, "hangs"))
        await until_asked(endpoint, 1)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not endpoint.under_way
    assert not verifier._flights


async def test_each_event_loop_asks_for_itself_and_all_share_what_is_remembered() -> None:
    client_id, secret = INTROSPECTION_CLIENT
    with Issuer(algorithms=("ES256",)) as idp:
        verifier = IntrospectionTokenVerifier(
            introspection_url=idp.introspection_url,
            client_id=client_id,
            client_secret=secret,
            audience=AUDIENCE,
        )
        token = idp.mint_opaque(aud=AUDIENCE)

        async def many() -> set[str]:
            async with verifier:
                return set(await asyncio.gather(*[verdict(verifier, token) for _ in range(20)]))

        found = await asyncio.gather(*[asyncio.to_thread(asyncio.run, many()) for _ in range(3)])
        assert found == [{"good"}] * 3
        assert 1 <= idp.hits["/introspect"] <= 3
        assert await many() == {"good"}
        assert idp.hits["/introspect"] <= 3


# ------------------------------------------------------------------------ garbage and what is known


async def test_garbage_never_evicts_what_is_known_of_good_tokens(
    endpoint: Endpoint, clock: FrozenClock
) -> None:
    verifier = introspection(endpoint, clock)
    assert await verdict(verifier, "good-1") == "good"
    for number in range(MAX_CACHE_SIZE + 1):
        verifier._refusals.put(b"%032d" % number, (clock.monotonic() + 5, "inactive"))
    for number in range(20):
        assert await verdict(verifier, f"garbage-{number}") == "inactive"
    assert len(verifier._answers) == 1
    assert len(verifier._refusals) <= MAX_REFUSALS
    assert await verdict(verifier, "good-1") == "good"
    assert endpoint.asked["good-1"] == 1


async def test_a_token_that_is_not_good_any_more_is_a_stranger_again(
    endpoint: Endpoint, clock: FrozenClock, verifier: LookupVerifier
) -> None:
    assert await verdict(verifier, "good-1") == "good"
    clock.advance(60)
    endpoint.revoked.add("good-1")
    assert await verdict(verifier, "good-1") == "inactive"
    assert len(verifier._answers) == 0


# --------------------------------------------------------------------- whose door is closed by whom


async def test_one_odd_token_cannot_block_other_tokens(
    endpoint: Endpoint, clock: FrozenClock, verifier: LookupVerifier
) -> None:
    assert await verdict(verifier, "good-1") == "good"
    clock.advance(60)  # what is known has run out, so it is asked about again
    for number in range(10):
        assert await verdict(verifier, f"breaks-{number}") == "unavailable"
    assert await verdict(verifier, "good-1") == "good"
    assert await verdict(verifier, "good-2") == "good", "nor for tokens that nobody has seen yet"
    assert await verdict(verifier, "breaks-0") == "unavailable"
    assert endpoint.asked["breaks-0"] == 1, "that token has to wait"


async def test_tokens_that_hang_hold_their_share_and_good_ones_pass(
    endpoint: Endpoint, clock: FrozenClock, verifier: LookupVerifier
) -> None:
    assert await verdict(verifier, "good-1") == "good"
    clock.advance(60)
    flood = [
        asyncio.create_task(verdict(verifier, f"hangs-{number}"))
        for number in range(3 * STRANGERS_AT_ONCE)
    ]
    await until_asked(endpoint, OF_ONE_NETWORK_AT_ONCE)
    assert endpoint.under_way == OF_ONE_NETWORK_AT_ONCE
    assert await verdict(verifier, "good-1") == "good"
    for each in flood:
        each.cancel()
    await asyncio.wait(flood)
    await verifier.stop()


async def test_a_flood_of_garbage_is_asked_about_a_few_at_a_time(
    endpoint: Endpoint, verifier: LookupVerifier
) -> None:
    endpoint.gate.clear()
    flood = [asyncio.create_task(verdict(verifier, f"garbage-{number}")) for number in range(100)]
    await until_asked(endpoint, OF_ONE_NETWORK_AT_ONCE)
    endpoint.gate.set()
    assert set(await asyncio.gather(*flood)) == {"inactive"}
    assert endpoint.most == OF_ONE_NETWORK_AT_ONCE


@pytest.mark.slow
async def test_a_thousand_people_who_come_at_once_after_a_restart_are_all_asked_about(
    endpoint: Endpoint, clock: FrozenClock
) -> None:
    verifier = introspection(endpoint, clock)
    for number in range(30):  # each takes the issuer 100 ms
        endpoint.gate.clear()
        before = asyncio.create_task(verdict(verifier, f"good-before-{number}"))
        await until(lambda: endpoint.under_way == 1)
        clock.advance(0.1)
        endpoint.gate.set()
        assert await before == "good"
    endpoint.gate.clear()
    people = [
        asyncio.create_task(verdict_from(f"10.0.{number // 250}.{number % 250}", verifier, number))
        for number in range(1_000)
    ]
    await until_asked(endpoint, STRANGERS_AT_ONCE)
    endpoint.gate.set()
    assert Counter(await asyncio.gather(*people)) == {"good": 1_000}


async def verdict_from(address: str, verifier: LookupVerifier, number: int) -> str:
    restore = current_verification.set(Verification(address))
    try:
        return await verdict(verifier, f"good-{number}")
    finally:
        current_verification.reset(restore)


@pytest.mark.slow
async def test_one_network_waits_for_no_more_than_its_share(
    endpoint: Endpoint, verifier: LookupVerifier
) -> None:
    endpoint.gate.clear()
    flood = [
        asyncio.create_task(verdict(verifier, f"garbage-{number}"))
        for number in range(STRANGERS_OF_ONE_NETWORK + 9)
    ]
    await until_asked(endpoint, OF_ONE_NETWORK_AT_ONCE)
    endpoint.gate.set()
    found = Counter(await asyncio.gather(*flood))
    assert found == {"inactive": STRANGERS_OF_ONE_NETWORK, "unavailable": 9}


async def test_a_new_good_token_does_not_wait_for_another_networks_flood(
    endpoint: Endpoint, clock: FrozenClock
) -> None:
    app = MCPAuthMiddleware(
        Spy(),
        RemoteAuthProvider(introspection(endpoint, clock), [ISSUER], BASE_URL),
        mcp_path="/mcp",
    )

    async def send(address: str, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return (await call(app, "POST", "/mcp", headers, client=(address, 5))).status

    endpoint.gate.clear()
    flood = [
        asyncio.create_task(send("203.0.113.9", f"garbage-{number}"))
        for number in range(3 * STRANGERS_AT_ONCE)
    ]
    await until_asked(endpoint, OF_ONE_NETWORK_AT_ONCE)
    honest = asyncio.create_task(send("198.51.100.7", "good-new"))
    await until(lambda: "good-new" in endpoint.asked)
    assert endpoint.under_way == OF_ONE_NETWORK_AT_ONCE + 1, "nothing of the flood has ended yet"
    endpoint.gate.set()
    assert await honest == 200
    assert set(await asyncio.gather(*flood)) == {401}


# --------------------------------------------------------------------------- when it is really down


async def test_during_an_outage_good_tokens_ask_once_per_cooldown_and_do_not_wait(
    endpoint: Endpoint, clock: FrozenClock, verifier: LookupVerifier
) -> None:
    tokens = [f"good-{number}" for number in range(20)]
    for token in tokens:
        assert await verdict(verifier, token) == "good"
    clock.advance(60)
    endpoint.status = 503
    endpoint.asked.clear()
    for round_ in range(1, 4):
        for token in tokens:
            assert await verdict(verifier, token) == "unavailable"
        assert endpoint.asked.total() == round_
        clock.advance(COOLDOWN_SECONDS)
    endpoint.status = 200
    for token in tokens:
        assert await verdict(verifier, token) == "good"


async def test_after_the_cooldown_one_tries_for_all_and_the_others_do_not_wait_for_it(
    endpoint: Endpoint, clock: FrozenClock, verifier: LookupVerifier
) -> None:
    tokens = [f"good-{number}" for number in range(20)]
    for token in tokens:
        assert await verdict(verifier, token) == "good"
    clock.advance(60)
    endpoint.status = 503
    assert await verdict(verifier, "good-0") == "unavailable"
    clock.advance(COOLDOWN_SECONDS)
    endpoint.gate.clear()
    first = asyncio.create_task(verdict(verifier, "good-0"))
    await until_asked(endpoint, 1)
    for token in tokens[1:]:
        assert await verdict(verifier, token) == "unavailable"
    assert endpoint.under_way == 1
    endpoint.status = 200
    endpoint.gate.set()
    assert await first == "good"
    assert await verdict(verifier, "good-1") == "good"


async def test_any_answer_opens_the_door_again(
    endpoint: Endpoint, clock: FrozenClock, verifier: LookupVerifier
) -> None:
    for token in ("good-1", "good-2"):
        assert await verdict(verifier, token) == "good"
    clock.advance(60)
    endpoint.status = 503
    assert await verdict(verifier, "good-1") == "unavailable"
    endpoint.status = 200
    assert await verdict(verifier, "good-2") == "unavailable"
    assert await verdict(verifier, "garbage") == "inactive"
    assert await verdict(verifier, "good-2") == "good"


async def test_one_try_that_never_comes_back_does_not_close_the_door_for_ever(
    endpoint: Endpoint, clock: FrozenClock, verifier: LookupVerifier
) -> None:
    for token in ("good-1", "good-2"):
        assert await verdict(verifier, token) == "good"
    clock.advance(60)
    endpoint.status = 503
    assert await verdict(verifier, "good-1") == "unavailable"
    clock.advance(COOLDOWN_SECONDS)
    endpoint.gate.clear()
    trying = asyncio.create_task(verdict(verifier, "good-1"))
    await until_asked(endpoint, 1)
    await verifier.stop()
    await asyncio.wait([trying])
    endpoint.status = 200
    endpoint.gate.set()
    clock.advance(6)
    assert await verdict(verifier, "good-2") == "good"


async def test_strangers_cannot_fill_the_log(
    endpoint: Endpoint,
    clock: FrozenClock,
    verifier: LookupVerifier,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    for number in range(30):
        assert await verdict(verifier, f"breaks-{number}") == "unavailable"
        assert await verdict(verifier, f"garbage-{number}") == "inactive"
        clock.advance(1)
    levels = [record.levelname for record in caplog.records if record.name.endswith("lookups")]
    assert levels == ["WARNING", "INFO"]


# ----------------------------------------------------------------------------------------- siblings


async def test_a_source_that_hangs_does_not_keep_the_tokens_of_another_one_waiting(
    clock: FrozenClock,
) -> None:
    """MultiAuth asks first who has accepted the token before; a new one has to wait for its
    turn.
    """
    slow, quick = Endpoint(), Endpoint()
    multi = MultiAuth(
        verifiers=[
            introspection(slow, clock, issuer="https://slow.example"),
            userinfo(quick, clock),
        ],
        base_url=BASE_URL,
    )
    slow.status = 503
    assert await verdict(multi, "good-1") == "good"
    assert slow.asked == {"good-1": 1}
    slow.gate.clear()
    for _ in range(3):
        clock.advance(60)  # nothing that was remembered counts any more
        assert await verdict(multi, "good-1") == "good"
    assert slow.asked == {"good-1": 1}


async def test_a_token_that_its_source_does_not_accept_any_more_is_shown_to_the_others(
    clock: FrozenClock,
) -> None:
    class Fickle(TokenVerifier):
        accepts = True

        async def verify_token(self, token: str) -> AccessToken | None:
            return AccessToken(token=token, client_id="fickle", scopes=[]) if self.accepts else None

    class Steady(TokenVerifier):
        async def verify_token(self, token: str) -> AccessToken | None:
            return AccessToken(token=token, client_id="steady", scopes=[])

    fickle, steady = Fickle(), Steady()
    multi = MultiAuth(verifiers=[fickle, steady], base_url=BASE_URL)
    assert (await multi.verify("token")).client_id == "fickle"
    fickle.accepts = False
    assert (await multi.verify("token")).client_id == "steady"
    fickle.accepts = True
    assert (await multi.verify("token")).client_id == "steady", (
        "who has accepted it last is asked first"
    )


async def test_a_flood_of_unknown_keys_during_an_outage_does_not_delay_a_good_jwt() -> None:
    clock = FrozenClock(NOW)
    with Issuer(algorithms=("ES256",), clock=clock) as idp:
        verifier = JWTVerifier(
            jwks_uri=idp.jwks_uri, issuer=idp.issuer, audience=AUDIENCE, clock=clock
        )
        token, fresh = idp.mint(aud=AUDIENCE), idp.mint(aud=AUDIENCE)
        await verifier.verify(token)
        clock.advance(10)
        idp.delay("/jwks", 30)
        forged = [
            idp.mint(aud=AUDIENCE, header={"kid": f"made-up-{number}"}) for number in range(20)
        ]
        flood = [asyncio.create_task(verdict(verifier, each)) for each in forged]
        await until(lambda: verifier.jwks[0].state.fetches == 2)
        assert await verdict(verifier, token) == "good"
        assert await verdict(verifier, fresh) == "good"
        assert not any(each.done() for each in flood)
        assert verifier.jwks[0].state.fetches == 2, "one fetch for all of them"
        for each in flood:
            each.cancel()
        await asyncio.wait(flood)
        await verifier.stop()
