"""RemoteJWKS and discovery: the number of fetches, and how outages are survived."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from asgi_mcp_auth import (
    ConfigurationError,
    InvalidToken,
    JWKSOptions,
    JWKSState,
    JWTVerifier,
    RemoteJWKS,
    ServerUnavailable,
)
from asgi_mcp_auth._http import FetchFailed, HTTPFetcher
from asgi_mcp_auth._jose import SigningKey
from asgi_mcp_auth.discovery import IssuerDocuments, fetch_metadata, metadata_urls
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.support.rows import rows
from tests.support.sockets import HostileServer, answering, read_head
from tests.tables.cache_control import LIFETIMES, within
from tests.tables.json_texts import broken_answers
from tests.tables.metadata_paths import ISSUERS

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-30")]

AUDIENCE = "https://mcp.example.com/mcp"
NAMES = ("ES256", "RS256")


def issuer(*, algorithms: Sequence[str] = ("ES256",), path: str = "") -> Issuer:
    # at the time of the tests' own clocks
    return Issuer(algorithms=algorithms, path=path, clock=FrozenClock())


def key_set(idp: Issuer, clock: FrozenClock | None = None, **options: Any) -> RemoteJWKS:
    return RemoteJWKS(
        idp.jwks_uri, algorithms=NAMES, clock=clock or FrozenClock(), options=JWKSOptions(**options)
    )


def kid(idp: Issuer) -> str:
    return idp.keys["ES256"].key_id


async def settle(condition: Callable[[], bool]) -> None:
    """Wait for what another task or thread is about to do."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (it may come true on another thread)
            await asyncio.sleep(0.002)


class Patience:
    """Gives an issuer's answer free when the test says so: no sleeping, no guessing how long a
    fetch takes.
    """

    def __init__(self, body: bytes) -> None:
        self.asked = 0
        self.free = threading.Event()
        self.body = body

    def __call__(self, connection: Any) -> None:
        read_head(connection)
        self.asked += 1
        self.free.wait(10)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.body) + self.body
        )


# ---------------------------------------------------------------------------------- how few fetches


async def test_a_key_set_is_fetched_when_it_is_first_needed_and_then_remembered() -> None:
    with issuer() as idp:
        jwks = key_set(idp)
        assert idp.hits["/jwks"] == 0
        for _ in range(5):
            (key,) = await jwks.keys_for(kid(idp), "ES256")
            assert (key.key_id, key.algorithm) == (kid(idp), "ES256")
        assert idp.hits["/jwks"] == 1


async def test_requests_during_a_fetch_share_it() -> None:
    with issuer() as idp:
        idp.delay("/jwks", 0.1)
        jwks = key_set(idp)
        found = await asyncio.gather(*(jwks.keys_for(kid(idp), "ES256") for _ in range(100)))
        assert len({keys[0].key_id for keys in found}) == 1
        assert idp.hits["/jwks"] == 1


async def test_the_cancellation_of_the_first_caller_cancels_no_other() -> None:
    with issuer() as idp:
        patience = Patience(json.dumps(idp.jwks).encode())
        with HostileServer(patience) as server:
            jwks = RemoteJWKS(server.url, algorithms=NAMES, clock=FrozenClock())
            first = asyncio.create_task(jwks.keys_for(kid(idp), "ES256"))
            await settle(lambda: patience.asked == 1)
            others = [asyncio.create_task(jwks.keys_for(kid(idp), "ES256")) for _ in range(3)]
            await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            patience.free.set()
            assert [len(keys) for keys in await asyncio.gather(*others)] == [1, 1, 1]
            assert (patience.asked, jwks.state.fetches) == (1, 1)


@rows(("cache_control", "asked"), LIFETIMES)
async def test_cache_control_is_honoured_within_bounds(
    cache_control: str | None, asked: int | None
) -> None:
    """A minute to a day."""
    lifetime = within(asked, minimum=60, maximum=86_400, usual=3600)
    clock = FrozenClock()
    with issuer() as idp:
        idp.jwks_headers = {} if cache_control is None else {"cache-control": cache_control}
        jwks = key_set(idp, clock)
        await jwks.keys_for(kid(idp), "ES256")
        clock.advance(lifetime * 0.8 - 0.01)
        await jwks.keys_for(kid(idp), "ES256")
        assert idp.hits["/jwks"] == 1
        clock.advance(lifetime * 0.2 + 0.01)
        await jwks.keys_for(kid(idp), "ES256")
        assert idp.hits["/jwks"] == 2


async def test_the_bounds_of_a_lifetime_are_options() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        jwks = key_set(idp, clock, ttl_seconds=100, min_ttl_seconds=50, max_ttl_seconds=200)
        for header, lifetime in (("", 100), ("max-age=1", 50), ("max-age=1000", 200)):
            idp.jwks_headers = {"cache-control": header}
            clock.advance(1000)
            await jwks.keys_for(kid(idp), "ES256")
            before = idp.hits["/jwks"]
            clock.advance(lifetime * 0.8 - 0.1)
            await jwks.keys_for(kid(idp), "ES256")
            assert idp.hits["/jwks"] == before
            clock.advance(lifetime * 0.2 + 0.1)
            await jwks.keys_for(kid(idp), "ES256")
            assert idp.hits["/jwks"] == before + 1


async def test_from_four_fifths_of_the_lifetime_on_a_request_refreshes_without_waiting() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        patience = Patience(json.dumps(idp.jwks).encode())
        patience.free.set()
        with HostileServer(patience) as server:
            jwks = RemoteJWKS(server.url, algorithms=NAMES, clock=clock)
            await jwks.keys_for(kid(idp), "ES256")
            patience.free.clear()
            clock.advance(3600 * 0.8)
            for _ in range(3):  # answered although the provider has not answered yet
                await jwks.keys_for(kid(idp), "ES256")
            await settle(lambda: patience.asked == 2)
            await jwks.keys_for(kid(idp), "ES256")
            assert jwks.state.age_seconds == 3600 * 0.8
            patience.free.set()
            await settle(lambda: jwks.state.age_seconds == 0)
            assert patience.asked == 2


async def test_after_its_lifetime_a_key_set_is_fetched_before_it_is_used() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        jwks = key_set(idp, clock)
        old = kid(idp)
        await jwks.keys_for(old, "ES256")
        idp.rotate(drop=True)
        clock.advance(3600)
        with pytest.raises(InvalidToken) as refused:
            await jwks.keys_for(old, "ES256")
        assert refused.value.reason == "unknown_key"


async def test_a_jump_of_the_wall_clock_changes_nothing() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        jwks = key_set(idp, clock)
        for seconds in (0, 86_400, -172_800):
            clock.jump(seconds)
            await jwks.keys_for(kid(idp), "ES256")
        assert (idp.hits["/jwks"], jwks.state.age_seconds) == (1, 0)


async def test_304_renews_the_lifetime_of_the_keys_at_hand() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        idp.jwks_headers = {"etag": '"v1"'}
        jwks = key_set(idp, clock)
        await jwks.keys_for(kid(idp), "ES256")
        version = jwks.version
        idp.answer("/jwks", status=304, headers={"cache-control": "max-age=120"})
        clock.advance(3600)
        await jwks.keys_for(kid(idp), "ES256")
        assert (jwks.state.last_error, jwks.state.age_seconds, jwks.version) == (None, 0, version)
        clock.advance(96)
        await jwks.keys_for(kid(idp), "ES256")
        await settle(lambda: idp.hits["/jwks"] == 3)


async def test_the_etag_is_sent_back_only_where_there_are_keys_to_keep() -> None:
    clock = FrozenClock()
    seen: list[bool] = []
    with issuer() as idp:
        good = json.dumps(idp.jwks).encode()
        answers = iter([(b"not json", '"a"'), (good, '"b"'), (good, None), (good, None)])

        def behave(connection: Any) -> None:
            seen.append(b"if-none-match" in read_head(connection).lower())
            body, etag = next(answers)
            line = f"ETag: {etag}\r\n" if etag else ""
            connection.sendall(
                f"HTTP/1.1 200 OK\r\n{line}Content-Length: {len(body)}\r\n\r\n".encode() + body
            )

        with HostileServer(behave) as server:
            jwks = RemoteJWKS(server.url, algorithms=NAMES, clock=clock)
            with pytest.raises(ServerUnavailable):
                await jwks.keys_for("x", "ES256")
            for _ in range(3):
                clock.advance(3600)
                await jwks.keys_for(kid(idp), "ES256")
    assert seen == [False, False, True, False]


async def test_304_without_keys_to_keep_is_a_failure() -> None:
    with HostileServer(answering(b"HTTP/1.1 304 Not Modified\r\n\r\n")) as server:
        jwks = RemoteJWKS(server.url, algorithms=NAMES, clock=FrozenClock())
        with pytest.raises(ServerUnavailable):
            await jwks.keys_for("x", "ES256")
        assert jwks.state.last_error == "HTTP 304"


# ---------------------------------------------------------------------------------------- which key


async def test_a_key_id_that_two_different_keys_claim_belongs_to_both(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with issuer() as idp:
        twin = {**SigningKey("ES256", "other").public_jwk(), "kid": kid(idp)}
        third = SigningKey("ES256", "third").public_jwk()
        idp.jwks = {"keys": [*idp.jwks["keys"], twin, third]}
        jwks = key_set(idp)
        assert [key.key_id for key in await jwks.keys_for("third", "ES256")] == ["third"]
        assert len(await jwks.keys_for(kid(idp), "ES256")) == 2
        assert jwks.state.keys == 3
    assert caplog.records == []


async def test_a_key_that_is_listed_twice_is_one_key(caplog: pytest.LogCaptureFixture) -> None:
    with issuer() as idp:
        idp.jwks = {"keys": idp.jwks["keys"] * 2}
        jwks = key_set(idp)
        assert len(await jwks.keys_for(kid(idp), "ES256")) == 1
        assert jwks.state.keys == 1
    assert caplog.records == []


async def test_without_a_key_id_every_fitting_key_is_meant_those_without_one_first() -> None:
    with issuer() as idp:
        idp.rotate()
        unnamed = {
            name: value
            for name, value in SigningKey("ES256", "x").public_jwk().items()
            if name != "kid"
        }
        idp.jwks = {"keys": [*idp.jwks["keys"], unnamed]}
        jwks = key_set(idp)
        found = await jwks.keys_for(None, "ES256")
        assert [key.key_id is None for key in found] == [True, False, False]
        assert [key.key_id for key in await jwks.keys_for("any", "ES256")] == [None]


async def test_configured_keys_without_a_key_id_are_meant_by_every_token() -> None:
    one, two = SigningKey("ES256", "one"), SigningKey("ES256", "two")
    unnamed = {name: value for name, value in two.public_jwk().items() if name != "kid"}
    with issuer() as idp:
        verifier = JWTVerifier(
            public_key=[one.public_jwk(), unnamed], audience=AUDIENCE, clock=FrozenClock()
        )
        for key, name in ((one, "one"), (two, "any"), (two, None)):
            idp.keys = {"ES256": key}
            assert (
                await verifier.verify(idp.mint(aud=AUDIENCE, header={"kid": name}))
            ).subject == "alice"
        named = JWTVerifier(public_key=[one.public_jwk()], audience=AUDIENCE, clock=FrozenClock())
        with pytest.raises(InvalidToken) as refused:
            await named.verify(idp.mint(aud=AUDIENCE, header={"kid": "any"}))
        assert refused.value.reason == "unknown_key"


# ----------------------------------------------------------------------------------------- cooldown


async def rejects_unknown(jwks: RemoteJWKS, *, count: int = 20) -> None:
    for number in range(count):
        with pytest.raises(InvalidToken) as refused:
            await jwks.keys_for(f"unknown-{number}", "ES256")
        assert refused.value.reason == "unknown_key"


async def test_unknown_key_ids_trigger_two_fetches_and_then_one_per_cooldown() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        jwks = key_set(idp, clock)
        await jwks.keys_for(kid(idp), "ES256")
        for expected in (3, 4, 5):
            await rejects_unknown(jwks)
            assert idp.hits["/jwks"] == expected
            await jwks.keys_for(kid(idp), "ES256")
            clock.advance(4.99)
            await rejects_unknown(jwks)
            assert idp.hits["/jwks"] == expected
            clock.advance(0.01)


@rows(("pause", "fetches"), [(0, 0), (4.99, 0), (5, 1), (9.99, 1), (10, 2), (3000, 2)])
async def test_a_pause_of_one_cooldown_earns_a_fetch_and_two_are_saved_at_most(
    pause: float, fetches: int
) -> None:
    clock = FrozenClock()
    with issuer() as idp:
        idp.jwks_headers = {"cache-control": "max-age=86400"}
        jwks = key_set(idp, clock)
        await rejects_unknown(jwks)
        clock.advance(pause)
        before = idp.hits["/jwks"]
        await rejects_unknown(jwks)
        assert idp.hits["/jwks"] == before + fetches


async def test_a_request_whose_renewal_has_just_fetched_does_not_fetch_again() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        jwks = key_set(idp, clock)
        for expected in (1, 2):
            await rejects_unknown(jwks, count=1)
            assert idp.hits["/jwks"] == expected
            clock.advance(3600)


async def test_a_fetch_on_its_way_may_be_older_than_the_key() -> None:
    with issuer() as idp:
        old = json.dumps(idp.jwks).encode()
        patience = Patience(old)
        patience.free.set()
        with HostileServer(patience) as server:
            jwks = RemoteJWKS(server.url, algorithms=NAMES, clock=FrozenClock())
            await jwks.keys_for(kid(idp), "ES256")
            patience.free.clear()
            stranger = asyncio.create_task(rejects_unknown(jwks, count=1))
            await settle(lambda: patience.asked == 2)
            idp.rotate()
            owner = [asyncio.create_task(jwks.keys_for(kid(idp), "ES256")) for _ in range(9)]
            await asyncio.sleep(0)
            patience.free.set()
            await stranger
            patience.body = json.dumps(idp.jwks).encode()
            assert [len(keys) for keys in await asyncio.gather(*owner)] == [1] * 9
            assert patience.asked == 3


async def test_a_fetch_on_its_way_may_be_older_than_a_key_replaced_under_its_own_name() -> None:
    with issuer() as idp:
        patience = Patience(json.dumps(idp.jwks).encode())
        patience.free.set()
        with HostileServer(patience) as server:
            jwks = RemoteJWKS(server.url, algorithms=NAMES, clock=FrozenClock())
            verifier = JWTVerifier(public_key=jwks, audience=AUDIENCE, clock=FrozenClock())
            await verifier.verify(idp.mint(aud=AUDIENCE))
            patience.free.clear()
            stranger = asyncio.create_task(rejects_unknown(jwks, count=1))
            await settle(lambda: patience.asked == 2)
            key = SigningKey("ES256", kid(idp))
            idp.keys = {"ES256": key}
            owner = asyncio.create_task(verifier.verify(idp.mint(aud=AUDIENCE)))
            await asyncio.sleep(0)
            patience.free.set()
            await stranger
            patience.body = json.dumps({"keys": [key.public_jwk()]}).encode()
            assert (await owner).resource is not None
            assert patience.asked == 3


async def test_a_failed_fetch_counts_for_the_cooldown() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        jwks = key_set(idp, clock)
        await jwks.keys_for(kid(idp), "ES256")
        idp.fail()
        clock.advance(5)
        for expected in (2, 3):
            for _ in range(5):
                with pytest.raises(ServerUnavailable):  # the key may be a new one
                    await jwks.keys_for("unknown", "ES256")
            assert idp.hits["/jwks"] == expected
            clock.advance(5)


@rows("age", [0, 1, 4, 5, 600])
async def test_a_key_published_now_is_usable_now(age: int) -> None:
    clock = FrozenClock()
    with issuer() as idp:
        jwks = key_set(idp, clock)
        old = kid(idp)
        await jwks.keys_for(old, "ES256")
        clock.advance(age)
        idp.rotate()
        assert len(await jwks.keys_for(kid(idp), "ES256")) == 1
        assert len(await jwks.keys_for(old, "ES256")) == 1
        assert idp.hits["/jwks"] == 2


@pytest.mark.parametrize("named", [True, False])
async def test_a_key_replaced_under_its_own_name_is_usable_now(named: bool) -> None:
    with issuer() as idp:
        verifier = JWTVerifier(issuer=idp.issuer, audience=AUDIENCE, clock=FrozenClock())
        name = kid(idp) if named else None

        def publish(key: SigningKey) -> None:
            idp.keys = {"ES256": key}
            jwk = key.public_jwk()
            idp.jwks = {"keys": [jwk if named else {**jwk, "kid": None}]}

        publish(idp.keys["ES256"])
        old = idp.mint(aud=AUDIENCE, header={"kid": name})
        await verifier.verify(old)
        publish(SigningKey("ES256", kid(idp)))
        assert (await verifier.verify(idp.mint(aud=AUDIENCE, header={"kid": name}))).subject
        assert idp.hits["/jwks"] == 2
        with pytest.raises(InvalidToken) as refused:
            await verifier.verify(old)
        assert (refused.value.reason, idp.hits["/jwks"]) == ("signature", 3)


async def test_a_signature_that_fails_while_the_issuer_is_down_is_invalid() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        verifier = JWTVerifier(issuer=idp.issuer, audience=AUDIENCE, clock=clock)
        await verifier.verify(idp.mint(aud=AUDIENCE))
        idp.fail()
        idp.keys = {"ES256": SigningKey("ES256", kid(idp))}
        for expected in (2, 2, 2):
            with pytest.raises(InvalidToken) as refused:
                await verifier.verify(idp.mint(aud=AUDIENCE))
            assert (refused.value.reason, idp.hits["/jwks"]) == ("signature", expected)


async def test_a_token_that_no_key_fits_triggers_a_search_also_without_a_key_id() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        jwks = key_set(idp, clock)
        assert len(await jwks.keys_for(None, "ES256")) == 1
        for hits in (2, 3, 3):
            with pytest.raises(InvalidToken) as refused:
                await jwks.keys_for(None, "RS256")
            assert (refused.value.reason, idp.hits["/jwks"]) == ("unknown_key", hits)
        unnamed = SigningKey("RS256", "x").public_jwk()
        idp.jwks = {"keys": [{**unnamed, "kid": None}]}
        clock.advance(5)
        assert len(await jwks.keys_for(None, "RS256")) == 1
        assert len(await jwks.keys_for("any", "RS256")) == 1


async def test_without_keys_the_cooldown_is_one_second() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        idp.fail()
        jwks = key_set(idp, clock)
        for expected in (1, 2):
            for _ in range(3):
                with pytest.raises(ServerUnavailable) as refused:
                    await jwks.keys_for(kid(idp), "ES256")
                assert refused.value.retry_after_seconds == 1
            assert idp.hits["/jwks"] == expected
            clock.advance(1)
        idp.reset()
        assert len(await jwks.keys_for(kid(idp), "ES256")) == 1


# ------------------------------------------------------------------------------------------ outages


async def test_old_keys_are_used_through_an_outage_until_they_are_too_old() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        jwks = key_set(idp, clock)
        await jwks.keys_for(kid(idp), "ES256")
        idp.fail()
        clock.advance(3600)
        assert len(await jwks.keys_for(kid(idp), "ES256")) == 1
        clock.advance(86_399)
        assert len(await jwks.keys_for(kid(idp), "ES256")) == 1
        assert jwks.state.last_error == "HTTP 503"
        clock.advance(1)
        with pytest.raises(ServerUnavailable):
            await jwks.keys_for(kid(idp), "ES256")
        idp.reset()
        clock.advance(5)
        assert len(await jwks.keys_for(kid(idp), "ES256")) == 1
        assert jwks.state.last_error is None


async def test_during_an_outage_no_request_waits_for_the_provider() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        jwks = key_set(idp, clock, timeout_seconds=0.2)
        await jwks.keys_for(kid(idp), "ES256")
        idp.fail()
        clock.advance(3600)
        await jwks.keys_for(kid(idp), "ES256")  # the first one waits, and finds out
        idp.reset()
        patience = idp.hits["/jwks"]
        idp.delay("/jwks", 0.05)
        clock.advance(5)
        began = time.monotonic()
        for _ in range(10):
            await jwks.keys_for(kid(idp), "ES256")
        assert jwks.state.last_error == "HTTP 503"  # the answer is still on its way
        assert time.monotonic() - began < 5
        await settle(lambda: jwks.state.last_error is None)
        assert idp.hits["/jwks"] == patience + 1


async def test_an_outage_is_two_lines_in_the_log_one_for_each_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FrozenClock()
    with issuer() as idp, caplog.at_level(logging.DEBUG, "asgi_mcp_auth.jwks"):
        jwks = key_set(idp, clock)
        await jwks.keys_for(kid(idp), "ES256")
        idp.fail()
        for _ in range(5):
            clock.advance(3600)
            await jwks.keys_for(kid(idp), "ES256")
            await settle(lambda: not jwks._refresh.running)
        idp.reset()
        clock.advance(5)
        await jwks.keys_for(kid(idp), "ES256")
        await settle(lambda: jwks.state.last_error is None)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in lines] == ["WARNING", "INFO"]
    assert "HTTP 503" in lines[0][1]
    assert "stay in use" in lines[0][1]
    assert "is back" in lines[1][1]


async def test_an_outage_at_the_start_is_503_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with issuer() as idp:
        idp.fail()
        verifier = JWTVerifier(issuer=idp.issuer, audience=AUDIENCE, clock=FrozenClock())
        async with verifier:  # it starts all the same
            with pytest.raises(ServerUnavailable):
                await verifier.verify(idp.mint(aud=AUDIENCE))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "Requests with tokens get 503" in record.getMessage()


async def test_an_answer_that_is_no_key_set_leaves_the_old_one_in_use() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        jwks = key_set(idp, clock, stale_seconds=10**9)
        await jwks.keys_for(kid(idp), "ES256")
        bodies = [
            *((body, "not JSON") for body in broken_answers(json.dumps(idp.jwks).encode())),
            (b'{"keys": 1}', "no list named keys"),
            (b"{}", "no list named keys"),
            (b'{"keys": []}', "no key that can verify"),
            (b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', "no key that can verify"),
            (b'{"keys": [' + b",".join([b"null"] * 65) + b"]}", "no key that can verify"),
        ]
        for fetches, (body, why) in enumerate(bodies, start=2):
            idp.answer("/jwks", body)
            clock.advance(3600)
            assert len(await jwks.keys_for(kid(idp), "ES256")) == 1
            await settle(lambda: not jwks._refresh.running)
            assert why in (jwks.state.last_error or ""), body
            assert idp.hits["/jwks"] == fetches


async def test_a_skipped_key_is_warned_of_once_and_again_when_it_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FrozenClock()
    with issuer() as idp:
        good = idp.jwks["keys"]
        jwks = key_set(idp, clock)
        for junk in ([None], [None], [None, {"kty": "EC", "crv": "P-999"}], []):
            idp.jwks = {"keys": [*good, *junk]}
            clock.advance(3600)
            await jwks.keys_for(kid(idp), "ES256")
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert "number 2 is skipped: not an object" in messages[0]
    assert "number 3 is skipped: its kty or crv" in messages[2]


# -------------------------------------------------------------------------------------------- state


async def test_the_state_can_be_observed() -> None:
    clock = FrozenClock()
    with issuer(algorithms=["ES256", "RS256"]) as idp:
        verifier = JWTVerifier(issuer=idp.issuer, audience=AUDIENCE, clock=clock)
        (jwks,) = verifier.jwks
        assert jwks.state == JWKSState(
            jwks_uri=None, keys=0, fetches=0, age_seconds=None, last_error=None
        )
        await verifier.verify(idp.mint(aud=AUDIENCE))
        clock.advance(7)
        keys = jwks.state.keys
        assert jwks.state == JWKSState(
            jwks_uri=idp.jwks_uri, keys=keys, fetches=1, age_seconds=7, last_error=None
        )
        assert keys >= 2


async def test_a_verifier_with_keys_of_its_own_has_no_key_sets_to_observe() -> None:
    with issuer() as idp:
        verifier = JWTVerifier(public_key=idp.public_jwk(), audience=AUDIENCE, clock=FrozenClock())
        assert verifier.jwks == ()
        async with verifier:
            assert (await verifier.verify(idp.mint(aud=AUDIENCE))).subject == "alice"


# ---------------------------------------------------------------------------- loops, start and stop


async def test_opening_warms_up_and_pools_and_closing_leaves_nothing_behind() -> None:
    with issuer() as idp:
        verifier = JWTVerifier(issuer=idp.issuer, audience=AUDIENCE, clock=FrozenClock())
        async with verifier:
            assert idp.hits["/jwks"] == 1
            await verifier.verify(idp.mint(aud=AUDIENCE))
        await verifier.verify(idp.mint(aud=AUDIENCE))
        assert idp.hits["/jwks"] == 1


async def test_closing_during_a_fetch_ends_it() -> None:
    patience = Patience(b"{}")
    with HostileServer(patience) as server:
        jwks = RemoteJWKS(server.url, algorithms=NAMES, clock=FrozenClock())
        opening = asyncio.create_task(jwks.open())
        await settle(lambda: patience.asked == 1)
        await jwks.aclose()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        patience.free.set()


async def test_closing_twice_or_unopened_is_harmless() -> None:
    jwks = RemoteJWKS("https://idp.example/jwks", algorithms=NAMES)
    await jwks.aclose()
    await jwks.aclose()


def run_elsewhere(work: Callable[[], Any]) -> Any:
    return asyncio.run(work())


async def test_two_event_loops_can_share_one_key_set() -> None:
    clock = FrozenClock()
    with issuer() as idp:
        jwks = key_set(idp, clock)
        ids = [kid(idp)] * 20

        async def find() -> int:
            return sum(
                len(each)
                for each in await asyncio.gather(*(jwks.keys_for(one, "ES256") for one in ids))
            )

        idp.delay("/jwks", 0.05)
        here, there = await asyncio.gather(find(), asyncio.to_thread(run_elsewhere, find))
        assert (here, there) == (20, 20)
        assert 1 <= idp.hits["/jwks"] <= 2
        clock.advance(3600)
        assert await asyncio.to_thread(run_elsewhere, find) == 20
        assert await find() == 20


async def test_a_loop_that_closes_during_a_fetch_does_not_block_the_next_one(
    recwarn: pytest.WarningsRecorder,
) -> None:
    with issuer() as idp:
        patience = Patience(json.dumps(idp.jwks).encode())
        with HostileServer(patience) as server:
            jwks = RemoteJWKS(server.url, algorithms=NAMES, clock=FrozenClock())

            async def give_up() -> None:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await jwks.keys_for(kid(idp), "ES256")

            await asyncio.to_thread(run_elsewhere, give_up)
            patience.free.set()
            assert len(await jwks.keys_for(kid(idp), "ES256")) == 1
        gc.collect()
    assert [str(each.message) for each in recwarn] == []


async def test_one_slow_issuer_does_not_delay_another() -> None:
    with issuer() as slow, issuer() as quick:
        patience = Patience(json.dumps(slow.jwks).encode())
        with HostileServer(patience) as server:
            slow.answer(
                "/.well-known/oauth-authorization-server",
                json.dumps({"issuer": slow.issuer, "jwks_uri": server.url}).encode(),
            )
            verifier = JWTVerifier(
                issuer=[slow.issuer, quick.issuer], audience=AUDIENCE, clock=FrozenClock()
            )
            waiting = asyncio.create_task(verifier.verify(slow.mint(aud=AUDIENCE)))
            await settle(lambda: patience.asked == 1)
            assert (await verifier.verify(quick.mint(aud=AUDIENCE))).claims["iss"] == quick.issuer
            assert not waiting.done()
            patience.free.set()
            assert (await waiting).claims["iss"] == slow.issuer


# ---------------------------------------------------------------------------------------- discovery


@rows(("path", "targets"), ISSUERS)
@rows("root", ["https://idp.example", "https://idp.example:8443"])
async def test_metadata_is_looked_for_where_the_two_standards_put_it(
    root: str, path: str, targets: list[str]
) -> None:
    assert metadata_urls(root + path) == tuple(root + target for target in targets)


@pytest.mark.parametrize("path", ["", "/tenant"])
async def test_the_jwks_uri_is_discovered_once(path: str) -> None:
    with issuer(path=path) as idp:
        verifier = JWTVerifier(issuer=idp.issuer, audience=AUDIENCE, clock=FrozenClock())
        for _ in range(3):
            await verifier.verify(idp.mint(aud=AUDIENCE))
        assert sum(idp.hits.values()) == 2


async def test_after_a_failure_the_jwks_uri_is_discovered_again() -> None:
    clock = FrozenClock()
    with issuer() as idp, issuer() as moved:
        verifier = JWTVerifier(issuer=idp.issuer, audience=AUDIENCE, clock=clock)
        await verifier.verify(idp.mint(aud=AUDIENCE))
        idp.fail("/jwks", status=404)
        moved.jwks = idp.jwks
        document = {**idp.metadata(), "jwks_uri": moved.jwks_uri}
        idp.answer("/.well-known/oauth-authorization-server", json.dumps(document).encode())
        for _ in range(2):  # the first refresh finds out that the old place is gone
            clock.advance(3600)
            await verifier.verify(idp.mint(aud=AUDIENCE, exp=int(clock.time()) + 60, iat=None))
            await settle(lambda: not verifier.jwks[0]._refresh.running)
        assert verifier.jwks[0].state.jwks_uri == moved.jwks_uri
        assert (verifier.jwks[0].state.last_error, moved.hits["/jwks"]) == (None, 1)


def fetcher() -> HTTPFetcher:
    return HTTPFetcher(timeout_seconds=5)


async def test_a_place_without_a_document_is_passed_over() -> None:
    with issuer(path="/tenant") as idp:
        html = {"headers": {"content-type": "text/html"}}
        idp.fail("/.well-known/oauth-authorization-server/tenant", status=404)
        idp.answer("/.well-known/openid-configuration/tenant", b"<html>sign in</html>", **html)
        assert await IssuerDocuments(idp.issuer, fetcher()).fetch_jwks_uri() == idp.jwks_uri
        assert sum(idp.hits.values()) == 3


async def test_discovery_gives_up_after_three_places_and_says_what_each_held() -> None:
    with issuer(path="/tenant") as idp:
        idp.fail("/.well-known/oauth-authorization-server/tenant", status=500)
        idp.answer("/.well-known/openid-configuration/tenant", b"<html>")
        idp.answer(
            "/.well-known/openid-configuration", json.dumps({"issuer": f"{idp.issuer}/"}).encode()
        )
        with pytest.raises(FetchFailed) as failed:
            await IssuerDocuments(idp.issuer, fetcher()).fetch_jwks_uri()
        assert sum(idp.hits.values()) == 3
    text = str(failed.value)
    assert "HTTP 500" in text
    assert "must match exactly" in text
    assert text.count(idp.issuer.removesuffix("/tenant")) >= 3


@rows(
    "jwks_uri",
    [
        None,
        1,
        "",
        "/jwks",
        "//x",
        "http://idp.example/",
        "file:///etc/passwd",
        "https://u:p@idp.example/",
    ],
)
async def test_a_jwks_uri_that_is_not_https_is_refused(jwks_uri: Any) -> None:
    with issuer() as idp:
        document = {**idp.metadata(), "jwks_uri": jwks_uri}
        idp.answer("/.well-known/oauth-authorization-server", json.dumps(document).encode())
        # The other document has a good one.
        assert await IssuerDocuments(idp.issuer, fetcher()).fetch_jwks_uri() == idp.jwks_uri
        idp.answer("/.well-known/openid-configuration", json.dumps(document).encode())
        with pytest.raises(FetchFailed, match=r"metadata of .* jwks_uri"):
            await IssuerDocuments(idp.issuer, fetcher()).fetch_jwks_uri()


@pytest.mark.rule("RS-76")
async def test_an_issuer_that_names_no_keys_has_opaque_tokens() -> None:
    with issuer() as idp:
        document = {**idp.metadata(), "jwks_uri": None}
        idp.answer("/.well-known/oauth-authorization-server", json.dumps(document).encode())
        idp.fail("/.well-known/openid-configuration", status=404)
        with pytest.raises(FetchFailed, match=r"publishes no keys.*IntrospectionTokenVerifier"):
            await IssuerDocuments(idp.issuer, fetcher()).fetch_jwks_uri()


@pytest.mark.rule("RS-84")
@rows("path", ["/.well-known/oauth-authorization-server", "/jwks"])
async def test_a_member_that_a_document_has_twice_is_named(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    with issuer() as idp:
        idp.fail("/.well-known/openid-configuration", status=404)
        idp.answer(path, b'{"issuer": "%b", "x": 1, "x": 2}' % idp.issuer.encode())
        async with JWTVerifier(issuer=idp.issuer, audience=AUDIENCE):
            pass
    (line,) = [record.getMessage() for record in caplog.records]
    assert "duplicate member 'x'" in line


FIRST, SECOND = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
# What one of the two places does that does not have what is needed.
ELSEWHERE: dict[str, Any] = {
    "not found": {"status": 404},
    "a web page": {"body": b"<html>Sign in</html>"},
    "down": {"status": 503},
    "to a sign-in page": {"status": 302, "headers": {"location": "https://login.example/"}},
    "another issuer": {"body": b'{"issuer": "https://other.example", "jwks_uri": "https://x/y"}'},
    "no issuer": {"body": b'{"jwks_uri": "https://x/y"}'},
    "no JSON": {"body": b'{"issuer": '},
    "a list": {"body": b"[]"},
}


@pytest.mark.rule("RS-76")
@rows("place", [FIRST, SECOND])
@rows("case", ELSEWHERE)
async def test_what_one_place_lacks_is_taken_from_the_other(case: str, place: str) -> None:
    with issuer() as idp:
        idp.answer(place, **ELSEWHERE[case])
        assert await IssuerDocuments(idp.issuer, fetcher()).fetch_jwks_uri() == idp.jwks_uri


@pytest.mark.rule("RS-76")
@rows("case", ELSEWHERE)
async def test_what_both_places_lack_is_not_made_up(case: str) -> None:
    with issuer() as idp:
        idp.answer(FIRST, json.dumps({"issuer": idp.issuer}).encode())
        idp.answer(SECOND, **ELSEWHERE[case])
        with pytest.raises(FetchFailed, match="has no jwks_uri"):
            await IssuerDocuments(idp.issuer, fetcher()).fetch_jwks_uri()


@pytest.mark.rule("RS-76")
async def test_of_two_documents_the_first_one_decides() -> None:
    with issuer() as idp:
        document = {**idp.metadata(), "jwks_uri": f"{idp.issuer}/other"}
        idp.answer(SECOND, json.dumps(document).encode())
        for is_openid, expected in ((False, idp.jwks_uri), (True, f"{idp.issuer}/other")):
            idp.hits.clear()
            needed = ("jwks_uri",)
            found = await fetch_metadata(idp.issuer, fetcher(), needed=needed, is_openid=is_openid)
            assert found.members["jwks_uri"] == expected
            assert sum(idp.hits.values()) == 1


@pytest.mark.rule("RS-76")
async def test_a_place_that_hangs_does_not_keep_the_next_one_from_being_asked() -> None:
    release = threading.Event()

    def behave(connection: Any) -> None:
        head = read_head(connection)
        if FIRST.encode() in head:
            release.wait(10)
            return
        document = json.dumps({"issuer": server.url, "jwks_uri": f"{server.url}/jwks"}).encode()
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(document), document)
        )

    with HostileServer(behave) as server:
        try:
            # Long enough for a slow machine: the first place gets 0.4 s of it.
            found = await IssuerDocuments(
                server.url, HTTPFetcher(timeout_seconds=1)
            ).fetch_jwks_uri()
        finally:
            release.set()
    assert found == f"{server.url}/jwks"


async def test_discovery_and_keys_share_one_deadline() -> None:
    with issuer(path="/tenant") as idp:
        for path in (FIRST, SECOND):
            idp.delay(f"{path}/tenant", 0.4)
            idp.delay(path, 0.4)
        jwks = JWTVerifier(
            issuer=idp.issuer,
            audience=AUDIENCE,
            clock=FrozenClock(),
            jwks=JWKSOptions(timeout_seconds=0.3),
        ).jwks[0]
        began = time.monotonic()
        with pytest.raises(ServerUnavailable):
            await jwks.keys_for(kid(idp), "ES256")
        assert time.monotonic() - began < 5
        assert jwks.state.last_error == "no complete answer within 0.3 s"


# ------------------------------------------------------------------------------------------ options


@rows(
    ("options", "told"),
    [
        ({"ttl_seconds": 59}, "ttl_seconds=59"),
        ({"ttl_seconds": 86_401}, "ttl_seconds=86401"),
        ({"min_ttl_seconds": 0}, "min_ttl_seconds=0"),
        ({"max_ttl_seconds": 59}, "max_ttl_seconds=59"),
        ({"cooldown_seconds": 0}, "cooldown_seconds=0"),
        ({"cooldown_seconds": 301}, "cooldown_seconds=301"),
        ({"stale_seconds": -1}, "stale_seconds=-1"),
        ({"stale_seconds": float("nan")}, "stale_seconds=nan"),
        ({"stale_seconds": float("inf")}, "stale_seconds=inf"),
        ({"timeout_seconds": True}, "timeout_seconds=True"),
        ({"timeout_seconds": "5"}, "timeout_seconds='5'"),
        ({"timeout_seconds": 61}, "timeout_seconds=61"),
    ],
)
async def test_an_option_out_of_bounds_is_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        JWKSOptions(**options)
