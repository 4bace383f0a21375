"""The cache of verified tokens: what it remembers, and for how long."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from typing import Any

import pytest

from asgi_mcp_auth import ClaimRules, InvalidToken, JWKSOptions, JWTVerifier
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.support.gate import AUDIENCE, NOW, Gate, segment, signing_key

pytestmark = pytest.mark.asyncio


async def reason_of(verifier: JWTVerifier, token: str) -> str | None:
    """Why the verifier refuses the token; ``None`` when it does not."""
    try:
        await verifier.verify(token)
    except InvalidToken as refusal:
        return refusal.reason
    return None


@pytest.mark.case("V58")
@pytest.mark.parametrize("cache_size", [0, 10_000])
async def test_expiry_follows_the_wall_clock_when_it_is_set(cache_size: int) -> None:
    gate = Gate(token_cache_size=cache_size)
    token = gate.forge(claims={"exp": NOW + 300, "iat": NOW - 3_700})
    verifier, clock = gate.verifier, gate.clock
    assert await reason_of(verifier, token) is None
    clock.jump(3_600)
    assert await reason_of(verifier, token) == "expired"
    clock.jump(-7_200)
    assert await reason_of(verifier, token) is None
    clock.jump(3_600)
    assert await reason_of(verifier, token) is None
    clock.jump(300)
    assert await reason_of(verifier, token) == "expired"


@pytest.mark.case("V58")
async def test_the_lifetime_of_keys_does_not() -> None:
    clock = FrozenClock(NOW)
    with Issuer(algorithms=("ES256",), clock=clock) as idp:
        verifier = JWTVerifier(
            issuer=idp.issuer, jwks_uri=idp.jwks_uri, audience=AUDIENCE, clock=clock
        )
        for _ in range(3):
            assert await reason_of(verifier, idp.mint(aud=AUDIENCE)) is None
            clock.jump(86_400)
            assert await reason_of(verifier, idp.mint(aud=AUDIENCE)) is None
            clock.jump(-2 * 86_400)
            assert await reason_of(verifier, idp.mint(aud=AUDIENCE)) is None
        assert idp.hits["/jwks"] == 1
        assert verifier.jwks[0].state.age_seconds == 0
        clock.advance(3_600)
        assert await reason_of(verifier, idp.mint(aud=AUDIENCE)) is None
        assert idp.hits["/jwks"] == 2


@pytest.mark.slow
@pytest.mark.case("V80")
async def test_forged_tokens_fill_no_cache() -> None:
    gate = Gate(token_cache_size=10_000)
    good = gate.good()
    payload, signature = good.split(".")[1:]

    async def flood(first: int) -> None:
        for number in range(first, first + 3_000):
            header = segment({"alg": "ES256", "kid": "key-1", "pad": "x" * 200, "n": number})
            assert await reason_of(gate.verifier, f"{header}.{payload}.{signature}") == "signature"

    await flood(0)  # the headers of this many tokens are remembered, and no more
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    await flood(3_000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 300 * 1024  # 3,000 headers alone would be 1.2 MB
    assert await reason_of(gate.verifier, good) is None


@pytest.mark.case("V80")
async def test_good_tokens_are_forgotten_when_there_are_too_many() -> None:
    gate = Gate(token_cache_size=4)
    tokens = [gate.good() for _ in range(20)]
    for token in tokens * 2:
        assert await reason_of(gate.verifier, token) is None
    gate.clock.advance(300)
    for token in tokens:
        assert await reason_of(gate.verifier, token) == "expired"


@pytest.mark.case("V81")
@pytest.mark.parametrize(("leeway", "second"), [(0, 300), (30, 330)])
async def test_a_remembered_token_dies_on_the_second(leeway: int, second: int) -> None:
    gate = Gate(token_cache_size=100, leeway_seconds=leeway)
    token = gate.good()
    assert await reason_of(gate.verifier, token) is None
    gate.clock.advance(second - 1)
    assert await reason_of(gate.verifier, token) is None
    gate.clock.advance(1)
    assert await reason_of(gate.verifier, token) == "expired"


@pytest.mark.case("V81")
async def test_a_remembered_token_dies_with_its_key() -> None:
    clock = FrozenClock(NOW)
    with Issuer(algorithms=("ES256",), clock=clock) as idp:
        verifier = JWTVerifier(
            issuer=idp.issuer,
            jwks_uri=idp.jwks_uri,
            audience=AUDIENCE,
            clock=clock,
            jwks=JWKSOptions(ttl_seconds=100),
        )
        token = idp.mint(aud=AUDIENCE)
        assert await reason_of(verifier, token) is None
        idp.rotate(drop=True)
        clock.advance(79)
        assert await reason_of(verifier, token) is None  # the key set was not looked at since
        assert idp.hits["/jwks"] == 1
        clock.advance(21)
        assert await reason_of(verifier, token) == "unknown_key"
        assert await reason_of(verifier, idp.mint(aud=AUDIENCE)) is None


@pytest.mark.case("V81")
async def test_a_remembered_token_dies_as_soon_as_a_new_key_set_is_there() -> None:
    clock = FrozenClock(NOW)
    with Issuer(algorithms=("ES256",), clock=clock) as idp:
        verifier = JWTVerifier(
            issuer=idp.issuer, jwks_uri=idp.jwks_uri, audience=AUDIENCE, clock=clock
        )
        token = idp.mint(aud=AUDIENCE)
        assert await reason_of(verifier, token) is None
        idp.rotate(drop=True)
        clock.advance(6)  # beyond the cooldown
        # an unknown key id fetches the set
        assert await reason_of(verifier, idp.mint(aud=AUDIENCE)) is None
        assert await reason_of(verifier, token) == "unknown_key"


@pytest.mark.case("V81")
async def test_settings_belong_to_one_verifier() -> None:
    clock, key = FrozenClock(NOW), signing_key().public_jwk()
    wide, narrow = (
        JWTVerifier(public_key=key, issuer=issuer, audience=AUDIENCE, clock=clock)
        for issuer in (["https://idp.example.com", "https://new.example"], "https://new.example")
    )
    token = Gate().good()
    assert await reason_of(wide, token) is None
    assert await reason_of(narrow, token) == "issuer"
    assert await reason_of(wide, token) is None


@pytest.mark.case("V82")
async def test_tokens_that_begin_alike_do_not_stand_for_each_other() -> None:
    gate = Gate(token_cache_size=100)
    claims = [{"jti": "same", "z": name * 20} for name in "ab"]
    tokens = [gate.forge(claims=each) for each in claims]
    common = next(at for at, (one, other) in enumerate(zip(*tokens, strict=False)) if one != other)
    assert common > 64
    for _ in range(2):
        for token, each in zip(tokens, claims, strict=True):
            assert (await gate.verifier.verify(token)).claims["z"] == each["z"]
    assert await reason_of(gate.verifier, tokens[0][:-4] + tokens[1][-4:]) in (
        "signature",
        "malformed",
    )


@pytest.mark.case("V82")
async def test_what_one_request_does_to_its_token_no_other_sees() -> None:
    gate = Gate(token_cache_size=100)
    token = gate.forge(claims={"roles": {"list": ["user"]}})
    first = await gate.verifier.verify(token)
    first.scopes.append("admin")
    first.claims["roles"]["list"].append("admin")
    first.claims["sub"] = "root"
    second = await gate.verifier.verify(token)
    assert second.scopes == ["mcp:read"]
    assert second.claims["roles"] == {"list": ["user"]}
    assert second.claims["sub"] == second.subject == "alice"


@pytest.mark.case("V82")
async def test_map_scopes_cannot_change_the_claims() -> None:

    def meddle(claims: dict[str, Any]) -> list[str]:
        claims.update(sub="root", aud="elsewhere", exp=0)
        return ["mapped"]

    gate = Gate(token_cache_size=100, claims=ClaimRules(map_scopes=meddle))
    for _ in range(2):
        access = await gate.accepts(gate.good())
        assert (access.subject, access.claims["sub"], access.scopes) == (
            "alice",
            "alice",
            ["mcp:read", "mapped"],
        )


@pytest.mark.case("V82")
async def test_map_scopes_never_sees_the_claims_of_a_token_that_is_refused() -> None:

    seen: list[Any] = []

    def look(claims: dict[str, Any]) -> list[str]:
        seen.append(claims["sub"])
        return []

    gate = Gate(claims=ClaimRules(map_scopes=look))
    for change in (
        {"aud": "x"},
        {"exp": NOW},
        {"iss": "x"},
        {"cnf": {"jkt": "x"}},
        {"client_id": "a\nb"},
        {"nbf": "x"},
    ):
        await gate.only_refuses(
            gate.forge(claims={"sub": "mallory", **change}),
            "audience",
            "expired",
            "issuer",
            "bound",
            "client_id",
            "invalid_nbf",
        )
    await gate.only_refuses(gate.forge(claims={"sub": "\x00"}), "subject")
    await gate.only_refuses(
        gate.forge(claims={"sub": "mallory"}, key=signing_key("ES256", "attacker")), "unknown_key"
    )
    assert seen == []
    await gate.accepts(gate.good())
    assert set(seen) == {"alice"}


@pytest.mark.case("V85")
@pytest.mark.parametrize("remote", [False, True])
async def test_one_verifier_serves_several_threads_with_loops_of_their_own(
    remote: bool,
) -> None:
    with Issuer(algorithms=("ES256",)) as idp:
        keys: dict[str, Any] = (
            {"jwks_uri": idp.jwks_uri} if remote else {"public_key": idp.public_jwk()}
        )
        verifier = JWTVerifier(issuer=idp.issuer, audience=AUDIENCE, **keys)
        tokens = [idp.mint(aud=AUDIENCE) for _ in range(20)]
        bad = idp.mint(aud="elsewhere")
        failures: list[BaseException | str] = []
        barrier = threading.Barrier(4)

        async def use() -> None:
            async with verifier:  # its connections belong to this loop, and end with it
                results = await asyncio.gather(
                    *(verifier.verify_token(each) for each in [*tokens, bad, *tokens])
                )
            refused = [number for number, access in enumerate(results) if access is None]
            if refused != [20]:
                failures.append(f"refused: {refused}")

        def run() -> None:
            try:
                barrier.wait(10)
                for _ in range(3):
                    asyncio.run(use())
            except BaseException as error:  # noqa: BLE001  # handed to the test's thread
                failures.append(error)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join, 30)
        assert failures == []


@pytest.mark.case("V85")
async def test_requests_at_the_same_time_get_their_own_answers() -> None:
    gate = Gate(token_cache_size=8)
    names = [f"user-{number}" for number in range(50)]
    tokens = [gate.forge(claims={"sub": name}) for name in names]
    found = await asyncio.gather(*(gate.verifier.verify(token) for token in tokens * 4))
    assert [access.subject for access in found] == names * 4
