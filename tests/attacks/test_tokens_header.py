"""Hostile JWS headers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asgi_mcp_auth import ClaimRules, JWTVerifier
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.support.gate import (
    ABSENT,
    AUDIENCE,
    NOW,
    Gate,
    compact,
    segment,
    signing_key,
    usual_claims,
)
from tests.support.rows import rows
from tests.tables.json_texts import broken

pytestmark = pytest.mark.asyncio


def nothing(_: bytes) -> bytes:
    """An empty signature."""
    return b""


@pytest.mark.case("V01")
@rows("spelling", ["none", "None", "NONE", "nOnE"])
async def test_a_token_that_says_it_is_unsigned_is_refused(spelling: str) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(header={"alg": spelling}, sign=nothing), "algorithm")
    await gate.refuses(gate.forge(header={"alg": spelling}), "algorithm")


@pytest.mark.case("V02")
@rows("alg", [ABSENT, "", None, 0, False, [], ["ES256"], {}, {"ES256": 1}, "A" * 10_240, 1.5])
async def test_an_algorithm_that_is_no_name_is_refused(alg: Any) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(header={"alg": alg}), "algorithm")


@pytest.mark.case("V03")
@rows(
    "alg",
    ["es256", "ES256 ", " ES256", "ES256\0", "ES", "2", "ES25", "ES2566", "256", "\uff25\uff33256"],
)
async def test_an_algorithm_must_be_spelled_exactly(alg: str) -> None:
    gate = Gate(algorithm="ES256")
    await gate.refuses(gate.forge(header={"alg": alg}), "algorithm")
    await Gate(algorithm="ES256").refuses(gate.forge(header={"alg": alg}), "algorithm")


@pytest.mark.case("V29")
@rows(
    "header",
    [
        {"crit": ["urn:example:unknown"], "urn:example:unknown": True},
        {"crit": ["exp"], "exp": NOW + 300},
        {"crit": ["exp"]},
        {"crit": ["absent"]},
        {"crit": []},
        {"crit": None},
        {"crit": "exp"},
        {"crit": ["alg"]},
        {"crit": ["b64"], "b64": True},
    ],
    ids=json.dumps,
)
async def test_critical_headers_are_refused_because_no_extension_is_understood(
    header: dict[str, Any],
) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(header=header), "critical_header")


@pytest.mark.case("V31")
async def test_an_unencoded_payload_is_refused() -> None:
    gate = Gate()
    await gate.refuses(gate.forge(header={"b64": False}), "header")
    await gate.refuses(gate.forge(header={"b64": True}), "header")
    await gate.refuses(gate.forge(header={"b64": False, "crit": ["b64"]}), "critical_header")
    # RFC 7797 §5.2: the payload stands in the token as it is. Its dots and quotes are not what a
    # token is made of.
    header = segment({"alg": "ES256", "kid": gate.key.key_id, "b64": False})
    raw = f"{header}.{json.dumps(usual_claims())}"
    signature = segment(gate.key.sign(raw.encode()))
    await gate.refuses(f"{raw}.{signature}", "malformed")
    raw = f"{header}.plain"
    await gate.refuses(f"{raw}.{segment(gate.key.sign(raw.encode()))}", "header")


@pytest.mark.case("V32")
@rows(
    "typ",
    [
        "dpop+jwt",
        "logout+jwt",
        "oauth-authz-req+jwt",
        "token-introspection+jwt",
        "client-authentication+jwt",
        "id+jwt",
        "JWT ",
        "at+jwt;v=1",
        "application/id+jwt",
        "JWE",
        "JOSE+JSON",
    ],
    ids=repr,
)
async def test_a_token_of_another_type_is_refused(typ: Any) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(header={"typ": typ}), "type")


@pytest.mark.case("V32")
@rows(
    "typ",
    [
        *(ABSENT, None, "", [], {}, 5, True, ["at+jwt"], {"typ": "at+jwt"}),
        *("JWT", "jwt", "application/jwt", "Application/JWT", "JOSE", "jose", "application/jose"),
        *("at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"),
    ],
    ids=repr,
)
async def test_the_usual_types_are_accepted_and_only_at_jwt_when_it_is_required(
    typ: Any,
) -> None:
    gate, strict = Gate(), Gate(claims=ClaimRules(require_at_jwt=True))
    await gate.accepts(gate.forge(header={"typ": typ}))
    if isinstance(typ, str) and "at+" in typ.lower():
        await strict.accepts(strict.forge(header={"typ": typ}))
    else:
        await strict.refuses(strict.forge(header={"typ": typ}), "type")


@pytest.mark.case("V33")
async def test_an_id_token_is_refused_and_at_hash_harms_no_declared_access_token() -> None:
    gate = Gate()
    id_token = {
        "aud": "the-client",
        "nonce": "n",
        "azp": "the-client",
        "client_id": ABSENT,
        "scope": ABSENT,
    }
    await gate.refuses(
        gate.forge(header={"typ": "JWT"}, claims={**id_token, "at_hash": "abc"}), "type"
    )
    await gate.refuses(
        gate.forge(header={"typ": "JWT"}, claims={**id_token, "nonce": ABSENT}), "audience"
    )
    access = await gate.accepts(gate.forge(claims={"at_hash": "abc", "nonce": "n"}))
    assert access.claims["at_hash"] == "abc"


@pytest.mark.case("V34")
@rows("name", ["zip", "enc"])
@rows("value", ["DEF", "A256GCM", None])
async def test_compression_and_encryption_are_refused(name: str, value: Any) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(header={name: value}), "header")


@pytest.mark.case("V34")
async def test_a_nested_token_is_refused() -> None:
    gate = Gate()
    nested = compact(
        {"alg": "ES256", "kid": gate.key.key_id, "cty": "JWT"}, gate.good().encode(), gate.key.sign
    )
    await gate.refuses(nested, "payload")


@pytest.mark.case("V35")
async def test_a_key_that_the_token_brings_along_is_not_used() -> None:
    gate, attacker = Gate(), signing_key("ES256", "attacker")
    for header in (
        {"jwk": attacker.public_jwk()},
        {"jwk": attacker.public_jwk(), "kid": gate.key.key_id},
    ):
        # An honest key id does not help, and without one a key of ours is tried, too.
        await gate.refuses(gate.forge(header=header, key=attacker), "signature", "unknown_key")
        await gate.refuses(gate.forge(header={**header, "kid": ABSENT}, key=attacker), "signature")
        await gate.accepts(gate.forge(header=header))


@pytest.mark.case("V36")
@rows("header", [{"jku": "{url}"}, {"x5u": "{url}"}, {"x5c": ["{url}"]}, {"kid": "{url}"}], ids=str)
async def test_no_url_in_a_token_is_ever_fetched(header: dict[str, Any]) -> None:
    with Issuer(algorithms=("ES256",)) as trap:
        url = f"{trap.issuer}/trap"
        filled = json.loads(json.dumps(header).replace("{url}", url))
        gate = Gate()
        await gate.refuses(
            gate.forge(header=filled, key=signing_key("ES256", "attacker")), "unknown_key"
        )
        with Issuer(algorithms=("ES256",), clock=gate.clock) as idp:
            remote = JWTVerifier(
                issuer=idp.issuer, jwks_uri=idp.jwks_uri, clock=gate.clock, token_cache_size=0
            )
            fetching = Gate(remote, good=lambda: idp.mint(aud=AUDIENCE), clock=gate.clock)
            # A key id that looks like a URL is an unknown key id: one look at the configured key
            # set, no more.
            token = idp.mint(aud=AUDIENCE, header=filled)
            if "kid" in header:
                await fetching.refuses(token, "unknown_key")
            else:
                await fetching.accepts(token)
            assert set(idp.hits) == {"/jwks"}
        assert not trap.hits


@pytest.mark.case("V37")
@rows("name", ["crit", "b64", "zip", "enc"])
@rows("value", [None, "", {}, []], ids=repr)
async def test_members_that_change_the_meaning_are_refused_despite_a_valid_signature(
    name: str, value: Any
) -> None:
    gate = Gate()
    await gate.refuses(
        gate.forge(header={name: value}), "critical_header" if name == "crit" else "header"
    )


@pytest.mark.case("V37")
@rows(
    "header",
    [
        *({"x5t": "abc"}, {"x5t#S256": "abc"}, {"nonce": "1"}, {"made-up": {"a": [1]}}),
        *({name: each} for name in ("jwk", "jku", "x5u", "x5c") for each in (None, "", "x", [5])),
    ],
    ids=str,
)
async def test_unknown_members_and_key_hints_are_ignored(header: dict[str, Any]) -> None:
    gate = Gate()
    await gate.accepts(gate.forge(header=header))


@pytest.mark.case("V38")
async def test_without_a_key_id_the_only_key_that_fits_is_used() -> None:
    es256, rs256 = signing_key("ES256"), signing_key("RS256", "key-2")
    key_set = {"keys": [es256.public_jwk(), rs256.public_jwk()]}
    with Issuer(algorithms=("ES256", "RS256")) as idp:
        idp.keys, idp.jwks = {"ES256": es256, "RS256": rs256}, key_set
        verifier = JWTVerifier(issuer=idp.issuer, jwks_uri=idp.jwks_uri, token_cache_size=0)
        gate = Gate(verifier, good=lambda: idp.mint(aud=AUDIENCE))
        await gate.accepts(idp.mint(aud=AUDIENCE, header={"kid": None}))
        await gate.accepts(idp.mint(aud=AUDIENCE, algorithm="RS256", header={"kid": None}))
        assert idp.hits["/jwks"] == 1


@pytest.mark.case("V38")
async def test_without_a_key_id_a_stranger_causes_no_more_fetches_than_with_one() -> None:
    with Issuer(algorithms=("ES256",)) as idp:
        idp.rotate()
        verifier = JWTVerifier(
            issuer=idp.issuer,
            jwks_uri=idp.jwks_uri,
            algorithm=["ES256", "RS256"],
            clock=FrozenClock(NOW),
        )
        gate = Gate(verifier, good=lambda: idp.mint(aud=AUDIENCE, iat=NOW, exp=NOW + 300))
        for algorithm, reason in (("ES256", "signature"), ("RS256", "unknown_key")) * 3:
            forged = Gate().forge(
                header={"kid": ABSENT},
                claims={"iss": idp.issuer},
                key=signing_key(algorithm, "attacker"),
            )
            await gate.refuses(forged, reason)
        assert idp.hits["/jwks"] == 3, "the first one, and two searches"


@pytest.mark.case("V38")
async def test_several_fixed_keys_without_key_ids_are_all_tried() -> None:
    keys = [signing_key("ES256", name) for name in ("key-1", "key-2")]
    gate = Gate(public_key=[_without_kid(key.public_jwk()) for key in keys])
    for key in keys:
        await gate.accepts(gate.forge(key=key))
        await gate.accepts(gate.forge(key=key, header={"kid": ABSENT}))
    await gate.refuses(gate.forge(key=signing_key("ES256", "attacker")), "signature")


@pytest.mark.case("V39")
@rows("kid", [[], ["key-1"], {}, {"a": 1}, 1, 0, True, False, None, 1.5, ""], ids=repr)
async def test_a_key_id_that_is_no_string_counts_as_none(kid: Any) -> None:
    with Issuer(algorithms=("ES256",)) as idp:
        verifier = JWTVerifier(issuer=idp.issuer, jwks_uri=idp.jwks_uri, token_cache_size=0)
        gate = Gate(verifier, good=lambda: idp.mint(aud=AUDIENCE))
        key = next(iter(idp.keys.values()))
        claims = {"iss": idp.issuer, "aud": AUDIENCE}
        good = {**usual_claims(), **claims, "exp": idp.clock.time() + 60, "iat": ABSENT}
        del good["iat"]
        await gate.accepts(compact({"alg": "ES256", "kid": kid}, good, key.sign))
        assert idp.hits["/jwks"] == 1
        other = signing_key("ES256", "attacker")
        await gate.refuses(compact({"alg": "ES256", "kid": kid}, good, other.sign), "signature")


@pytest.mark.case("V40")
@rows(
    ("kid", "reason"),
    [
        ("../../etc/passwd", "unknown_key"),
        ("key-1' OR '1'='1", "unknown_key"),
        ("key-1\r\nX-Injected: yes", "unknown_key"),
        ("key-1\0", "unknown_key"),
        ("KEY-1", "unknown_key"),
        ("k" * 256, "unknown_key"),
        ("\N{SNOWMAN}" * 86, "unknown_key"),
        ("k" * 40_000, "unknown_key"),
        ("k" * 60_000, "too_long"),
        ("\ud800", "header"),
    ],
    ids=lambda value: value[:12].encode("ascii", "backslashreplace").decode(),
)
async def test_a_hostile_key_id_finds_nothing_and_is_not_repeated(kid: str, reason: str) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(header={"kid": kid}), reason)


@pytest.mark.case("V41")
async def test_a_key_id_that_two_keys_claim_belongs_to_both_and_to_no_third() -> None:
    with Issuer(algorithms=("ES256",)) as idp:
        first, second, other = (signing_key("ES256", name) for name in ("key-1", "key-2", "key-3"))
        twins = [first.public_jwk(), {**second.public_jwk(), "kid": "key-1"}]
        idp.keys, idp.jwks = {"ES256": other}, {"keys": [*twins, other.public_jwk()]}
        verifier = JWTVerifier(issuer=idp.issuer, jwks_uri=idp.jwks_uri, token_cache_size=0)
        gate = Gate(verifier, good=lambda: idp.mint(aud=AUDIENCE))
        for key in (first, second):
            claims = {"iss": idp.issuer, "exp": 2 * NOW, "iat": ABSENT}
            await gate.accepts(Gate().forge(key=key, header={"kid": "key-1"}, claims=claims))
        for key in (other, signing_key("ES256", "attacker")):
            forged = Gate().forge(key=key, header={"kid": "key-1"}, claims=claims)
            await gate.refuses(forged, "signature")
        # twice the same key is one key
        idp.jwks = {"keys": [twins[0], twins[0], other.public_jwk()]}
        again = JWTVerifier(issuer=idp.issuer, jwks_uri=idp.jwks_uri, token_cache_size=0)
        gate = Gate(again, good=lambda: idp.mint(aud=AUDIENCE))
        await gate.accepts(Gate().forge(key=first, claims={"iss": idp.issuer, "iat": ABSENT}))


@pytest.mark.case("V42")
@rows("name", ["alg", "kid", "crit", "typ", "made-up"])
async def test_a_header_member_given_twice_is_refused(name: str) -> None:
    gate = Gate()
    members = {"alg": "ES256", "kid": gate.key.key_id, "typ": "JWT", "crit": [], "made-up": 1}
    once = {key: value for key, value in members.items() if key != "crit" or name == "crit"}
    header = json.dumps(once)[:-1] + f", {json.dumps(name)}: {json.dumps(members[name])}}}"
    await gate.refuses(gate.forge(header=header.encode()), "header")
    # the same name, spelled otherwise
    escaped = json.dumps(name).replace(name[0], f"\\u{ord(name[0]):04x}", 1)
    header = json.dumps(once)[:-1] + f", {escaped}: {json.dumps(members[name])}}}"
    await gate.refuses(gate.forge(header=header.encode()), "header")


_HEADER = b'{"alg":"ES256","kid":"key-1"}'


@pytest.mark.case("V44")
@rows("header", broken(_HEADER), ids=repr)
async def test_a_header_that_is_no_plain_json_object_is_refused(header: bytes) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(header=header), "header")


@pytest.mark.case("V44")
async def test_white_space_around_a_header_is_json() -> None:
    gate = Gate()
    await gate.accepts(gate.forge(header=b"\r\n\t " + _HEADER + b" \n"))


@pytest.mark.case("V45")
@rows(
    ("depth", "reason"),
    [(100, "header"), (990, "header"), (40_000, "header"), (100_000, "too_long")],
)
@rows(("opening", "closing"), ["[]", ("[", ""), ('{"a":', "}"), ('{"a":[', "]}")])
async def test_a_deeply_nested_header_is_refused(
    depth: int, reason: str, opening: str, closing: str
) -> None:
    depth = min(depth, 100_000 if reason == "too_long" else 40_000 // len(opening + closing))
    header = (
        b'{"alg":"ES256","x":' + opening.encode() * depth + b"1" + closing.encode() * depth + b"}"
    )
    gate = Gate()
    await gate.refuses(gate.forge(header=header, sign=nothing), reason)


@pytest.mark.case("V45")
@pytest.mark.parametrize(("depth", "accepted"), [(31, True), (32, False)])
async def test_nesting_ends_at_32_levels_and_brackets_in_strings_do_not_nest(
    depth: int, accepted: bool
) -> None:
    gate = Gate()
    header = (
        b'{"alg":"ES256","kid":"key-1","s":"[[[{\\"['
        + b"[" * 40
        + b'","x":'
        + b"[" * depth
        + b"]" * depth
        + b"}"
    )
    token = gate.forge(header=header)
    if accepted:
        await gate.accepts(token)
    else:
        await gate.refuses(token, "header")


def _without_kid(jwk: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in jwk.items() if name != "kid"}
