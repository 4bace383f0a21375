"""Which keys of a set are tried for a token, and how many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from asgi_mcp_auth import JWTVerifier
from asgi_mcp_auth._jose import SigningKey, UnusableKey, VerifyingKey
from asgi_mcp_auth.keys import KeySet, StaticKeys, key_set_from
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.support.gate import ABSENT, NOW, Gate, signing_key
from tests.support.rows import rows

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-60")]

RSA, RSA_2 = (signing_key("RS256", name) for name in ("k1", "k2"))
EC, EC_2 = (signing_key("ES256", name) for name in ("k1", "k2"))
STRANGERS = {name: SigningKey(name, "k1") for name in ("RS256", "ES256")}


@pytest.fixture
def idp() -> Iterator[Issuer]:
    with Issuer(algorithms=("ES256",), clock=FrozenClock(NOW)) as issuer:
        yield issuer


def jwk(key: SigningKey, **changes: Any) -> dict[str, Any]:
    members = {**key.public_jwk(), **changes}
    return {name: value for name, value in members.items() if value is not ABSENT}


SETS: dict[str, tuple[list[dict[str, Any]], SigningKey, Mapping[str, Any]]] = {
    "RSA beside EC, RS256": ([jwk(RSA), jwk(EC)], RSA, {}),
    "RSA beside EC, ES256": ([jwk(RSA), jwk(EC)], EC, {}),
    "the same without alg and use": (
        [jwk(RSA, alg=ABSENT, use=ABSENT), jwk(EC, alg=ABSENT, use=ABSENT)],
        EC,
        {},
    ),
    "one key for two algorithms": ([jwk(RSA, alg="RS512"), jwk(RSA)], RSA, {}),
    "once with a chain": ([jwk(RSA), jwk(RSA, x5c=["MIIB"], x5t="AA")], RSA, {}),
    "for two tenants": ([jwk(EC, issuer="a"), jwk(EC, issuer="b")], EC, {}),
    "once with alg": ([jwk(EC), jwk(EC, alg=ABSENT)], EC, {}),
    "one that encrypts": ([jwk(RSA_2, kid="k1", use="enc"), jwk(RSA)], RSA, {}),
    "one that only signs": ([jwk(EC_2, kid="k1", key_ops=["sign"]), jwk(EC)], EC, {}),
    "two of one type, the first": ([jwk(EC), jwk(EC_2, kid="k1")], EC, {}),
    "two of one type, the second": ([jwk(EC_2, kid="k1"), jwk(EC)], EC, {}),
    "none beside a name": ([jwk(EC_2), jwk(EC, kid=ABSENT)], EC, {}),
    "an empty kid in the set": ([jwk(EC, kid="")], EC, {}),
    "null for a kid in the set": ([jwk(EC, kid=None)], EC, {}),
    "a number for a kid in the set": ([jwk(EC, kid=7)], EC, {"kid": 7}),
    "no kid in the token": ([jwk(RSA), jwk(EC_2), jwk(EC)], EC, {"kid": ABSENT}),
    "an empty kid in the token": ([jwk(EC_2), jwk(EC)], EC, {"kid": ""}),
    "null for a kid in the token": ([jwk(EC_2), jwk(EC)], EC, {"kid": None}),
    "no kid anywhere": ([jwk(EC_2, kid=ABSENT), jwk(EC, kid=ABSENT)], EC, {"kid": ABSENT}),
}


@rows(("keys", "key", "header"), SETS.values(), ids=SETS)
@rows("is_fetched", [True, False], ids=["fetched", "configured"])
async def test_the_key_that_fits_is_found_and_a_strangers_is_refused(
    keys: list[dict[str, Any]],
    key: SigningKey,
    header: Mapping[str, Any],
    is_fetched: bool,
    idp: Issuer,
) -> None:
    idp.jwks = {"keys": keys}
    source = {"jwks_uri": idp.jwks_uri} if is_fetched else {}
    usable = [each for each in keys if each.get("use") != "enc" and "key_ops" not in each]
    source = source or {"public_key": {"keys": usable}}
    gate = Gate(issuer=idp.issuer, **source)
    claims = {"iss": idp.issuer}
    header = {"alg": key.algorithm, **header}
    await gate.accepts(gate.forge(key=key, header=header, claims=claims))
    forged = gate.forge(key=STRANGERS[key.algorithm], header=header, claims=claims)
    await gate.only_refuses(forged, "signature")


@rows("kid", [ABSENT, "shared"])
async def test_a_bad_token_costs_four_signature_checks_at_most(kid: Any) -> None:
    checks: list[int] = []

    def key(number: int, *, good: bool = False) -> VerifyingKey:
        def verify(data: bytes, signature: bytes) -> bool:
            checks.append(number)
            return good

        return VerifyingKey("shared", "ES256", verify, b"%d" % number)

    def gate(keys: list[VerifyingKey]) -> Gate:
        return Gate(public_key=StaticKeys(KeySet(keys)))

    token = Gate().forge(header={"kid": kid})
    for count, reason in ((1, "signature"), (4, "signature"), (5, "ambiguous_key")):
        tried = gate([key(number) for number in range(count)])
        with pytest.raises(Exception, match="invalid or expired") as caught:
            await tried.verifier.verify(token)
        assert getattr(caught.value, "reason", None) == reason
        assert checks == list(range(min(count, 4)))
        checks.clear()
    fourth = gate([key(number, good=number == 3) for number in range(9)])
    await fourth.verifier.verify(token)
    assert checks == [0, 1, 2, 3]


async def test_for_a_token_without_a_key_id_keys_without_one_are_tried_first() -> None:
    keys, _ = key_set_from({"keys": [jwk(EC), jwk(EC_2, kid=ABSENT)]}, ["ES256"])
    assert [key.key_id for key in keys.find(None, "ES256")] == [None, "k1"]


@rows(
    ("kids", "taken"),
    [
        (["k1", "k2"], True),
        ([ABSENT], True),
        (["k1", ABSENT], False),
        ([ABSENT, "k2"], False),
        ([ABSENT, ABSENT], False),
    ],
)
async def test_where_names_are_needed_several_keys_have_one_each(
    kids: list[Any], taken: bool
) -> None:
    keys = [jwk(key, kid=kid) for key, kid in zip((EC, EC_2), kids, strict=False)]
    if taken:
        found, _ = key_set_from({"keys": keys}, ["ES256"], named=True)
        assert len(found) == len(keys)
    else:
        with pytest.raises(UnusableKey, match="one of them has no kid"):
            key_set_from({"keys": keys}, ["ES256"], named=True)


async def test_a_key_that_is_listed_twice_is_tried_once() -> None:
    names = [f"tenant-{number}" for number in range(300)]
    keys, skipped = key_set_from({"keys": [jwk(EC, kid=name) for name in names]}, ["ES256"])
    assert (len(keys.find(None, "ES256")), skipped) == (1, [])
    assert [len(keys.find(name, "ES256")) for name in names] == [1] * 300
    assert keys.find("another", "ES256") == ()


@rows("name", ["k1", ABSENT], ids=["one kid", "no kid"])
@rows("algorithm", ["ES256", "RS256"], ids=["same type", "another type"])
async def test_a_key_that_is_replaced_is_found_at_once(
    name: Any, algorithm: str, idp: Issuer
) -> None:
    idp.hits.clear()
    old, new = EC, STRANGERS[algorithm]
    gate = Gate(issuer=idp.issuer, jwks_uri=idp.jwks_uri)
    for key in (old, new):
        idp.jwks = {"keys": [jwk(key, kid=name)]}
        token = gate.forge(
            key=key, header={"alg": key.algorithm, "kid": name}, claims={"iss": idp.issuer}
        )
        await gate.accepts(token)
    assert idp.hits["/jwks"] == 2


async def test_a_large_set_is_read_in_a_thread_and_warns_of_eight_keys(
    idp: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    idp.jwks = {"keys": [jwk(EC_2, kid=f"x{number}", use="enc") for number in range(200)]}
    idp.jwks["keys"].append(jwk(EC))
    verifier = JWTVerifier(issuer=idp.issuer, jwks_uri=idp.jwks_uri, clock=FrozenClock(NOW))
    gate = Gate(verifier)
    await gate.accepts(gate.forge(key=EC, claims={"iss": idp.issuer}))
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len(warnings) == 8
    idp.answer("/jwks", b'{"keys": [], "x": "' + b"x" * 20_000)
    await verifier.jwks[0]._refresh()
    assert "it is not JSON" in (verifier.jwks[0].state.last_error or "")
