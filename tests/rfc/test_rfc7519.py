"""JSON Web Token (RFC 7519): the registered claims, and Best Current Practices (RFC 8725)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asgi_mcp_auth import JWTVerifier
from asgi_mcp_auth.testing import FrozenClock
from tests.support.gate import ABSENT, AUDIENCE, ISSUER, NOW, Gate, signing_key
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio


@rows("value", [NOW + 300, float(NOW + 300), NOW + 300.5, 1.8e9 + 300], ids=repr)
async def test_a_numeric_date_may_have_a_fraction(value: float) -> None:
    """§2: NumericDate is a JSON numeric value; non-integer values can be represented."""
    gate = Gate()
    assert (await gate.accepts(gate.forge(claims={"exp": value}))).expires_at == NOW + 300
    await gate.accepts(gate.forge(claims={"nbf": value - 300, "iat": value - 300}))


async def test_a_numeric_date_is_no_string() -> None:
    """§2: a number, not a text that looks like one."""
    gate = Gate()
    for name, reason in (("exp", "invalid_exp"), ("nbf", "invalid_nbf")):
        await gate.refuses(gate.forge(claims={name: str(NOW)}), reason)
    # An iat refuses nobody by itself, so one that cannot be read counts as left out.
    await gate.accepts(gate.forge(claims={"iat": str(NOW + 3600)}))


@pytest.mark.case("V46")
async def test_claim_names_are_unique() -> None:
    """§4: duplicates have to be refused, or the last one taken. We refuse."""
    gate = Gate()
    claims = json.dumps({"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 300, "client_id": "c"})
    await gate.accepts(gate.forge(claims=claims.encode()))
    await gate.refuses(gate.forge(claims=(claims[:-1] + ', "aud": "x"}').encode()), "payload")


async def test_unknown_claims_are_kept_and_otherwise_ignored() -> None:
    """§4: claims that are not understood MUST be ignored."""
    gate = Gate()
    extra = {"http://example.com/is_root": True, "roles": ["a"], "nested": {"a": [1, None, 2.5]}}
    access = await gate.accepts(gate.forge(claims=extra))
    assert extra.items() <= access.claims.items()


@pytest.mark.case("V66")
@pytest.mark.rule("RS-29")
async def test_the_issuer_is_compared_exactly() -> None:
    """§4.1.1: a case-sensitive string."""
    gate = Gate()
    await gate.refuses(gate.forge(claims={"iss": ISSUER.upper()}), "issuer")


async def test_an_issuer_need_not_be_a_url() -> None:
    """§4.1.1: a StringOrURI."""
    gate = Gate(
        issuer="accounts.example.com",
        good=lambda: gate.forge(claims={"iss": "accounts.example.com"}),
    )
    await gate.refuses(gate.forge(), "issuer")


@pytest.mark.case("V62")
@pytest.mark.rule("RS-27")
@rows(
    ("aud", "accepted"),
    [
        (AUDIENCE, True),
        ([AUDIENCE], True),
        (["x", AUDIENCE], True),
        (["x"], False),
        ("x", False),
        ([5], False),
    ],
)
async def test_the_audience_is_one_string_or_an_array_of_which_one_must_be_us(
    aud: Any, accepted: bool
) -> None:
    """§4.1.3: a principal that does not identify itself with a value in aud MUST reject the
    token.
    """
    gate = Gate()
    token = gate.forge(claims={"aud": aud})
    if accepted:
        await gate.accepts(token)
    else:
        await gate.refuses(token, "audience")


@pytest.mark.case("V53")
@pytest.mark.parametrize(("exp", "accepted"), [(NOW + 1, True), (NOW, False), (NOW - 1, False)])
async def test_a_token_must_not_be_accepted_on_or_after_its_expiry(
    exp: int, accepted: bool
) -> None:
    """§4.1.4: "on or after which"."""
    gate = Gate()
    token = gate.forge(claims={"exp": exp})
    if accepted:
        await gate.accepts(token)
    else:
        await gate.refuses(token, "expired")


@pytest.mark.case("V55")
@pytest.mark.parametrize(("nbf", "accepted"), [(NOW, True), (NOW + 60, True), (NOW + 61, False)])
async def test_a_token_must_not_be_accepted_before_nbf_but_clocks_differ(
    nbf: int, accepted: bool
) -> None:
    """§4.1.5: "some small leeway, usually no more than a few minutes, to account for clock
    skew".
    """
    gate = Gate()
    token = gate.forge(claims={"nbf": nbf})
    if accepted:
        await gate.accepts(token)
    else:
        await gate.refuses(token, "not_yet_valid")


@pytest.mark.case("V70")
async def test_the_token_id_is_optional_and_not_used() -> None:
    """§4.1.7: a string; as it is not used, another type is as good as none."""
    gate = Gate()
    await gate.accepts(gate.forge(claims={"jti": 7}))


@pytest.mark.parametrize("typ", ["JWT", "jwt", ABSENT])
async def test_typ_is_optional_and_not_case_sensitive(typ: Any) -> None:
    """§5.1: optional; "JWT" in upper case is only recommended."""
    gate = Gate()
    await gate.accepts(gate.forge(header={"typ": typ}))


async def test_replicated_claims_in_the_header_are_ignored() -> None:
    """§5.3: they are for encrypted JWTs; what counts is what stands in the payload."""
    gate = Gate()
    await gate.accepts(gate.forge(header={"iss": "https://evil.example", "aud": "x", "exp": 0}))


@pytest.mark.case("V01")
async def test_an_unsecured_jwt_is_refused() -> None:
    """§6."""
    gate = Gate()
    await gate.refuses(gate.forge(header={"alg": "none"}, sign=lambda _: b""), "algorithm")


@pytest.mark.rule("RS-29")
@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_only_the_algorithms_that_were_asked_for_are_used(algorithm: str) -> None:
    """RFC 8725 §3.1: the caller says which algorithms, and each key is used with exactly one."""
    other = {"RS256": "ES256", "ES256": "RS256"}[algorithm]
    keys = [signing_key(algorithm).public_jwk(), signing_key(other).public_jwk()]
    verifier = JWTVerifier(
        public_key=keys,
        algorithm=algorithm,
        issuer=ISSUER,
        token_cache_size=0,
        clock=FrozenClock(NOW),
    )
    gate = Gate(verifier, algorithm=algorithm)
    await gate.refuses(gate.forge(key=signing_key(other)), "algorithm")


@pytest.mark.case("V32")
@pytest.mark.rule("RS-29")
async def test_a_jwt_for_another_purpose_is_told_apart_by_its_type() -> None:
    """RFC 8725 §3.11 and §3.12."""
    gate = Gate()
    for typ in ("secevent+jwt", "dpop+jwt", "logout+jwt"):
        await gate.refuses(gate.forge(header={"typ": typ}), "type")
