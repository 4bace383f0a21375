"""Invalid claims in correctly signed tokens."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    ClaimRules,
    ConfigurationError,
    JWTVerifier,
    MCPAuthMiddleware,
    MultiAuth,
    RemoteAuthProvider,
)
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.support.asgi import Spy, call
from tests.support.gate import (
    ABSENT,
    AUDIENCE,
    BASE_URL,
    ISSUER,
    NOW,
    Gate,
    signing_key,
    usual_claims,
)
from tests.support.rows import rows
from tests.tables.json_texts import broken

pytestmark = pytest.mark.asyncio


def raw_claims(name: str, value: str) -> bytes:
    """The usual claims, with one of them spelled by hand."""
    members = {key: json.dumps(each) for key, each in usual_claims().items()}
    members[name] = value
    return (
        "{" + ",".join(f"{json.dumps(key)}:{each}" for key, each in members.items()) + "}"
    ).encode()


@pytest.mark.case("V46")
@rows("depth", [33, 100, 990, 5_000])
@rows(("opening", "closing"), ["[]", ('{"a":', "}")])
async def test_deeply_nested_claims_are_refused(depth: int, opening: str, closing: str) -> None:
    depth = min(depth, 9_000 // len(opening + closing))
    gate = Gate()
    await gate.refuses(
        gate.forge(claims=raw_claims("deep", opening * depth + "1" + closing * depth)), "payload"
    )


@pytest.mark.case("V46")
async def test_claims_nested_31_deep_are_read() -> None:
    gate = Gate()
    access = await gate.accepts(gate.forge(claims=raw_claims("deep", "[" * 31 + "]" * 31)))
    assert str(access.claims["deep"]) == "[" * 31 + "]" * 31


@pytest.mark.case("V47")
@rows("digits", [21, 400, 4_000, 5_000])
@rows("name", ["exp", "iat", "custom", "sub"])
async def test_enormous_integers_are_refused(digits: int, name: str) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims=raw_claims(name, "9" * digits)), "payload")
    await gate.refuses(gate.forge(header=b'{"alg":"ES256","x":' + b"9" * digits + b"}"), "header")
    await gate.refuses(gate.forge(claims=raw_claims(name, "-" + "9" * digits)), "payload")


@pytest.mark.case("V47")
async def test_integers_of_sensible_size_are_read() -> None:
    gate = Gate()
    access = await gate.accepts(gate.forge(claims=raw_claims("big", str(2**64 - 1))))
    assert access.claims["big"] == 2**64 - 1


@pytest.mark.case("V46")
@rows("name", ["exp", "iss", "sub", "scope"])
async def test_a_claim_given_twice_is_refused(name: str) -> None:
    gate = Gate()
    claims = json.dumps(usual_claims())[:-1] + f', "{name}": {json.dumps(usual_claims()[name])}}}'
    await gate.refuses(gate.forge(claims=claims.encode()), "payload")


@pytest.mark.case("V46")
@rows("payload", broken(json.dumps(usual_claims()).encode()))
async def test_a_payload_that_is_no_json_object_is_refused(payload: bytes) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims=payload), "payload")


@pytest.mark.case("V48")
async def test_a_token_that_never_expires_is_refused() -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims={"exp": ABSENT}), "missing_exp")
    await gate.refuses(gate.forge(claims=b"{}"), "missing_exp")
    lax = Gate(audience=ANY_AUDIENCE, issuer=None, leeway_seconds=300)
    await lax.refuses(lax.forge(claims={"exp": ABSENT}), "missing_exp")


@pytest.mark.case("V49")
@rows("exp", [None, [], [NOW + 300], {}, {"exp": NOW + 300}, ""], ids=repr)
async def test_an_expiry_that_is_no_number_is_refused(exp: Any) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims={"exp": exp}), "invalid_exp" if exp else "missing_exp")


@pytest.mark.case("V50")
@rows(
    "exp",
    [
        "9999999999",
        " 9999999999 ",
        "9_999_999_999",
        "٩٩٩٩٩٩٩٩٩٩",
        "+9999999999",
        "never",
        True,
        False,
    ],
    ids=repr,
)
async def test_an_expiry_spelled_as_text_or_truth_is_refused(exp: Any) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims={"exp": exp}), "invalid_exp")


@pytest.mark.case("V51")
@rows(
    "exp", ["1e999", "-1e999", "Infinity", "-Infinity", "NaN", "1e400", "0x7fffffff", "+9999999999"]
)
async def test_an_expiry_beyond_all_numbers_is_refused(exp: str) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims=raw_claims("exp", exp)), "payload")


@pytest.mark.case("V52")
@rows(
    ("exp", "reason"),
    [
        ("1e300", "invalid_exp"),
        ("253402300800", "invalid_exp"),
        ("9999999999999999999", "invalid_exp"),
        ("99999999999999999999", "invalid_exp"),
        ("-1", "expired"),
        ("-1e300", "expired"),
        ("-99999999999999", "expired"),
        ("0", "expired"),
        ("0.0", "expired"),
        ("-0", "expired"),
    ],
)
async def test_an_expiry_beyond_the_calendar_is_refused(exp: str, reason: str) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims=raw_claims("exp", exp)), reason)


@pytest.mark.case("V52")
async def test_the_last_second_of_the_year_9999_is_an_expiry() -> None:
    gate = Gate()
    access = await gate.accepts(gate.forge(claims={"exp": 253_402_300_799}))
    assert access.expires_at == 253_402_300_799


@pytest.mark.case("V52")
@rows(
    ("claims", "reason"),
    [
        ({"iat": NOW, "exp": NOW + 3600}, None),
        ({"iat": NOW, "exp": NOW + 3601}, "lifetime"),
        ({"iat": NOW - 3600, "exp": NOW + 1}, "lifetime"),
        ({"iat": ABSENT, "exp": NOW + 3600}, None),
        ({"iat": ABSENT, "exp": NOW + 3601}, "lifetime"),
        ({"iat": -99_999_999_999, "exp": NOW + 1}, "lifetime"),
        ({"iat": "x", "exp": NOW + 3600}, None),
        ({"iat": "x", "exp": NOW + 3601}, "lifetime"),
        ({"iat": None, "exp": NOW + 3601}, "lifetime"),
    ],
    ids=str,
)
async def test_a_longest_lifetime_may_be_set(claims: dict[str, Any], reason: str | None) -> None:
    gate = Gate(claims=ClaimRules(max_lifetime_seconds=3600))
    if reason is None:
        await gate.accepts(gate.forge(claims=claims))
    else:
        await gate.refuses(gate.forge(claims=claims), reason)


@pytest.mark.case("V53")
@rows(
    ("exp", "leeway_seconds", "accepted"),
    [
        (NOW - 1, 0, False),
        (NOW, 0, False),
        (NOW + 1, 0, True),
        (NOW + 0.5, 0, True),
        (NOW - 0.5, 0, False),
        (NOW - 29, 30, True),
        (NOW - 30, 30, False),
        (NOW - 31, 30, False),
        (NOW - 299, 300, True),
        (NOW - 300, 300, False),
    ],
)
async def test_a_token_is_dead_from_the_second_that_exp_names(
    exp: float, leeway_seconds: int, accepted: bool
) -> None:
    gate = Gate(leeway_seconds=leeway_seconds)
    token = gate.forge(claims={"exp": exp})
    if accepted:
        assert (await gate.accepts(token)).expires_at == int(exp)
    else:
        await gate.refuses(token, "expired")


@pytest.mark.case("V55")
@rows(
    ("nbf", "reason"),
    [
        (NOW + 3600, "not_yet_valid"),
        (NOW + 61, "not_yet_valid"),
        (NOW + 60.5, "not_yet_valid"),
        (1e300, "not_yet_valid"),
        ("x", "invalid_nbf"),
        (str(NOW), "invalid_nbf"),
        (True, "invalid_nbf"),
        ([NOW], "invalid_nbf"),
        ({"nbf": NOW}, "invalid_nbf"),
    ],
    ids=repr,
)
async def test_a_token_for_later_is_refused(nbf: Any, reason: str) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims={"nbf": nbf}), reason)


@pytest.mark.case("V55")
async def test_a_beginning_beyond_all_numbers_is_refused() -> None:
    gate = Gate()
    for name in ("nbf", "iat"):
        for value in ("1e999", "NaN", "-Infinity"):
            await gate.refuses(gate.forge(claims=raw_claims(name, value)), "payload")


@pytest.mark.case("V56")
@rows(
    ("iat", "reason"),
    [
        (NOW + 86_400, "issued_in_future"),
        (NOW + 61, "issued_in_future"),
        (NOW + 60.5, "issued_in_future"),
    ],
    ids=repr,
)
async def test_a_token_issued_in_the_future_is_refused(iat: Any, reason: str) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims={"iat": iat}), reason)


@pytest.mark.case("V56")
@rows("name", ["nbf", "iat"])
@rows(
    ("leeway_seconds", "ahead", "accepted"),
    [
        (0, 59, True),
        (0, 60, True),
        (0, 61, False),
        (30, 60, True),
        (30, 61, False),
        (90, 90, True),
        (90, 91, False),
    ],
)
async def test_clocks_may_differ_by_a_minute_or_by_the_leeway_if_that_is_more(
    name: str, leeway_seconds: int, ahead: int, accepted: bool
) -> None:
    gate = Gate(leeway_seconds=leeway_seconds)
    token = gate.forge(claims={name: NOW + ahead})
    if accepted:
        await gate.accepts(token)
    else:
        await gate.refuses(token, "not_yet_valid" if name == "nbf" else "issued_in_future")


@pytest.mark.case("V56")
@rows("name", ["nbf", "iat"])
@rows("value", [ABSENT, None, "", [], {}, 0, -1, NOW, NOW - 10**9, -1e300, NOW + 0.5], ids=repr)
async def test_a_token_from_any_past_or_of_no_date_is_fine(name: str, value: Any) -> None:
    gate = Gate()
    await gate.accepts(gate.forge(claims={name: value}))


@pytest.mark.case("V57")
@pytest.mark.parametrize(
    "leeway",
    [
        "60",
        None,
        float("nan"),
        float("inf"),
        float("-inf"),
        -1,
        -0.001,
        300.001,
        301,
        3600,
        pytest.param(10**400, id="10**400"),
        timedelta(milliseconds=5),
        timedelta(seconds=60),
        Decimal(60),
        True,
        [60],
    ],
    ids=repr,
)
async def test_a_leeway_that_is_no_small_number_is_a_configuration_error(leeway: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^leeway_seconds=.*between 0 and 300"):
        Gate(leeway_seconds=leeway)


@pytest.mark.case("V57")
@rows("leeway", [0, 0.5, 60, 300])
async def test_a_leeway_of_up_to_five_minutes_is_fine(leeway: float) -> None:
    gate = Gate(leeway_seconds=leeway)
    await gate.accepts(gate.good())


@pytest.mark.case("V59")
async def test_a_token_without_an_audience_is_refused() -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims={"aud": ABSENT}), "missing_aud")


@pytest.mark.case("V60")
@rows(
    "aud",
    [None, "", [], {}, 5, True, [None], [5], [[AUDIENCE]], {"aud": AUDIENCE}, {AUDIENCE: 1}, [""]],
    ids=repr,
)
async def test_an_audience_that_names_us_in_no_string_is_refused(aud: Any) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims={"aud": aud}), "audience" if aud else "missing_aud")


@pytest.mark.case("V61")
@rows(
    "aud",
    [
        "https://MCP.example.com/mcp",
        "HTTPS://mcp.example.com/mcp",
        "https://mcp.example.com/MCP",
        "https://mcp.example.com/mcp//",
        "https://mcp.example.com/mcp/x",
        "https://mcp.example.com/mc",
        "https://mcp.example.com/mcpx",
        "https://mcp.example.com/",
        "https://mcp.example.com",
        "https://mcp.example.com:443/mcp",
        "https://mcp.example.com/%6dcp",
        "https://mcp.example.com/./mcp",
        "https://mcp.example.com//mcp",
        "https://mcp.example.com/mcp?",
        "https://mcp.example.com/mcp#",
        "http://mcp.example.com/mcp",
        "https://mcp.example.com.evil/mcp",
        "https://user@mcp.example.com/mcp",
        " https://mcp.example.com/mcp",
        "https://mcp.example.com/mcp\n",
        "mcp.example.com/mcp",
        "*",
        ANY_AUDIENCE,
    ],
)
async def test_an_audience_that_is_only_similar_is_refused(aud: str) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims={"aud": aud}), "audience")
    await gate.refuses(gate.forge(claims={"aud": [aud]}), "audience")


@pytest.mark.case("V61")
async def test_the_configured_url_and_the_same_one_as_browsers_write_it_are_both_ours() -> None:
    key = signing_key().public_jwk()
    verifier = JWTVerifier(
        public_key=key, issuer=ISSUER, token_cache_size=0, clock=FrozenClock(NOW)
    )
    provider = RemoteAuthProvider(verifier, [ISSUER], "https://MCP.Example.com:443")
    provider.set_mcp_path(None)
    gate = Gate()
    for aud in ("https://MCP.Example.com:443", "https://mcp.example.com/"):
        access = await verifier.verify(gate.forge(claims={"aud": aud}))
        assert access.resource == "https://MCP.Example.com:443"
    for aud in (
        "https://mcp.example.com",
        "https://mcp.example.com:443",
        "https://mcp.example.com:443/",
    ):
        assert await verifier.verify_token(gate.forge(claims={"aud": aud})) is None


@pytest.mark.case("V62")
@rows(
    "aud",
    [
        AUDIENCE,
        [AUDIENCE],
        [AUDIENCE, "other"],
        ["other", AUDIENCE],
        [AUDIENCE, AUDIENCE],
        [None, 5, {}, [AUDIENCE], AUDIENCE],
    ],
)
async def test_our_audience_among_others_is_enough(aud: Any) -> None:
    gate = Gate()
    access = await gate.accepts(gate.forge(claims={"aud": aud}))
    assert access.resource == AUDIENCE


@pytest.mark.case("V64")
@rows("others", [63, 64, 1_000])
async def test_a_list_of_audiences_may_be_long_and_has_to_have_ours(others: int) -> None:
    gate = Gate()
    names = [*map(str, range(others))]
    await gate.accepts(gate.forge(claims={"aud": [*names, AUDIENCE]}))
    await gate.refuses(gate.forge(claims={"aud": names}), "audience")


@pytest.mark.case("V65")
@rows(
    "audience",
    [
        "",
        [],
        (),
        [""],
        [AUDIENCE, ""],
        "*",
        "https://*.example.com",
        [AUDIENCE, "https://mcp.example.com/*"],
        5,
        b"x",
    ],
    ids=repr,
)
async def test_an_audience_that_matches_nothing_or_anything_is_a_configuration_error(
    audience: Any,
) -> None:
    with pytest.raises(ConfigurationError, match=r"^audience="):
        Gate(audience=audience)


@pytest.mark.case("V65")
async def test_the_audience_check_is_switched_off_only_in_writing() -> None:
    gate = Gate(audience=ANY_AUDIENCE)
    for aud in (ABSENT, None, 5, "https://somebody.else", []):
        assert (await gate.accepts(gate.forge(claims={"aud": aud}))).resource is None
    with pytest.raises(
        ConfigurationError, match="both lists audiences and switches the check off: keep one"
    ):
        Gate(audience=[ANY_AUDIENCE, AUDIENCE])


@pytest.mark.case("V65")
async def test_a_verifier_that_does_not_know_its_audience_accepts_nothing() -> None:
    verifier = JWTVerifier(
        public_key=signing_key().public_jwk(), issuer=ISSUER, clock=FrozenClock(NOW)
    )
    with pytest.raises(ConfigurationError, match="the audience is not known"):
        await verifier.verify_token(Gate().good())
    with pytest.raises(ConfigurationError, match="the audience is not known"):
        MCPAuthMiddleware(Spy(), verifier)


@pytest.mark.case("V65")
async def test_an_audience_of_its_own_stands_whatever_the_provider_says() -> None:
    gate = Gate(
        audience=["api://mine", "api://ours"], good=lambda: gate.forge(claims={"aud": "api://ours"})
    )
    assert (await gate.accepts(gate.good())).resource == "api://ours"
    await gate.refuses(gate.forge(), "audience")


@pytest.mark.case("V66")
@rows(
    ("iss", "reason"),
    [
        (ABSENT, "missing_iss"),
        (None, "missing_iss"),
        ([], "missing_iss"),
        ([ISSUER], "issuer"),
        ({}, "missing_iss"),
        (5, "issuer"),
        (True, "issuer"),
        ("", "missing_iss"),
        (ISSUER + "/", "issuer"),
        (ISSUER[:-1], "issuer"),
        (ISSUER[1:], "issuer"),
        ("https", "issuer"),
        ("https://IDP.example.com", "issuer"),
        ("http://idp.example.com", "issuer"),
        ("https://idp.example.com:443", "issuer"),
        ("https://idp.example.com.evil", "issuer"),
        (ISSUER + " ", "issuer"),
        (ISSUER + "\n", "issuer"),
        (ISSUER + "#", "issuer"),
    ],
    ids=repr,
)
@rows("configured", [ISSUER, [ISSUER, "https://other.example"]], ids=["one", "two"])
async def test_an_issuer_that_is_only_similar_is_refused(
    iss: Any, reason: str, configured: Any
) -> None:
    gate = Gate(issuer=configured)
    await gate.refuses(gate.forge(claims={"iss": iss}), reason)


@pytest.mark.case("V66")
async def test_without_a_configured_issuer_the_key_alone_decides() -> None:
    gate = Gate(issuer=None)
    await gate.accepts(gate.forge(claims={"iss": "https://anybody.example"}))
    await gate.accepts(gate.forge(claims={"iss": ABSENT}))


@pytest.mark.case("V67")
async def test_a_token_of_one_issuer_signed_by_another_is_refused() -> None:
    with Issuer(algorithms=("ES256",)) as a, Issuer(algorithms=("ES256",)) as b:
        together = JWTVerifier(issuer=[a.issuer, b.issuer], token_cache_size=0)
        apart = MultiAuth(
            verifiers=[JWTVerifier(issuer=each.issuer, token_cache_size=0) for each in (a, b)],
            base_url=BASE_URL,
        )
        for verifier in (together, apart):
            gate = Gate(verifier, good=lambda: a.mint(aud=AUDIENCE))
            await gate.accepts(b.mint(aud=AUDIENCE))
            await gate.refuses(b.mint(aud=AUDIENCE, iss=a.issuer), "unknown_key")
            kid = a.keys["ES256"].key_id
            await gate.refuses(b.mint(aud=AUDIENCE, iss=a.issuer, header={"kid": kid}), "signature")
            await gate.refuses(
                a.mint(aud=AUDIENCE, iss=b.issuer, header={"kid": None}), "signature"
            )


@pytest.mark.case("V67")
async def test_a_token_of_no_configured_issuer_costs_no_fetch() -> None:
    with (
        Issuer(algorithms=("ES256",)) as a,
        Issuer(algorithms=("ES256",)) as b,
        Issuer(algorithms=("ES256",)) as c,
    ):
        together = JWTVerifier(issuer=[a.issuer, b.issuer])
        apart = MultiAuth(
            verifiers=[JWTVerifier(issuer=each.issuer) for each in (a, b)], base_url=BASE_URL
        )
        for verifier in (together, apart):
            gate = Gate(verifier)
            await gate.only_refuses(c.mint(aud=AUDIENCE), "issuer")
            await gate.only_refuses(c.mint(aud=AUDIENCE, iss=None), "issuer", "missing_iss")
            await gate.only_refuses(c.mint(aud=AUDIENCE, iss=5), "issuer", "missing_iss")
        assert not a.hits
        assert not b.hits


@pytest.mark.case("V68")
async def test_two_issuers_may_use_the_same_key_id() -> None:
    with Issuer(algorithms=("ES256",)) as a, Issuer(algorithms=("ES256",)) as b:
        for idp, name in ((a, "a"), (b, "b")):
            key = signing_key("ES256", name)
            key_of_the_same_name = {**key.public_jwk(), "kid": "shared"}
            idp.keys, idp.jwks = {"ES256": key}, {"keys": [key_of_the_same_name]}
        verifier = JWTVerifier(issuer=[a.issuer, b.issuer], token_cache_size=0)
        gate = Gate(verifier, good=lambda: a.mint(aud=AUDIENCE, header={"kid": "shared"}))
        await gate.accepts(b.mint(aud=AUDIENCE, header={"kid": "shared"}))
        await gate.refuses(
            b.mint(aud=AUDIENCE, iss=a.issuer, header={"kid": "shared"}), "signature"
        )


@pytest.mark.case("V69")
@rows(
    "sub",
    [1.5, True, False, ["alice"], {"id": 5}, "a\0b", "a\r\nb", "a\x7f", "a\u2028b", "\u202ea"],
)
async def test_a_subject_that_is_no_printable_name_is_refused(sub: Any) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims={"sub": sub}), "subject")


@pytest.mark.case("V69")
async def test_a_lone_surrogate_never_gets_as_far_as_the_subject() -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims={"sub": "\ud800"}), "payload")


@pytest.mark.case("V69")
async def test_a_token_may_have_no_subject_unless_at_jwt_is_required() -> None:
    gate, strict = Gate(), Gate(claims=ClaimRules(require_at_jwt=True))
    assert (await gate.accepts(gate.forge(claims={"sub": ABSENT}))).subject is None
    assert (await gate.accepts(gate.forge(claims={"sub": "Ünïcode 名"}))).subject == "Ünïcode 名"
    await strict.refuses(strict.forge(claims={"sub": ABSENT}), "subject")


@pytest.mark.case("V70")
@rows("jti", [ABSENT, None, 5, 1.5, True, [], ["a"], {}], ids=repr)
async def test_a_token_id_is_not_read_and_may_be_anything(jti: Any) -> None:
    gate = Gate()
    await gate.accepts(gate.forge(claims={"jti": jti}))


@pytest.mark.case("V71")
@rows("scope", [ABSENT, "", "other", "mcp:readx", "MCP:READ", "mcp", "mcp:write mcp:readonly"])
async def test_a_valid_token_without_the_scope_is_asked_for_more(scope: Any) -> None:
    gate = Gate(required_scopes=["mcp:read", "mcp:write"])
    enough = gate.forge(claims={"scope": "mcp:write mcp:read"})
    await gate.accepts(enough)
    gate.app.scopes.clear()
    response = await gate.call(gate.forge(claims={"scope": scope}))
    assert (response.status, response.json()["error"]) == (403, "insufficient_scope")
    challenge = response.header("www-authenticate") or ""
    assert challenge.startswith('Bearer error="insufficient_scope", ')
    assert 'scope="mcp:read mcp:write"' in challenge
    assert gate.app.scopes == []
    assert [event.reason for event in gate.events] == ["insufficient_scope"]
    await gate.accepts(enough)


@pytest.mark.case("V72")
@rows(
    "scope",
    [
        "mcp:readwrite",
        "mcp:read\tmcp:write",
        "x\tmcp:read",
        "mcp:read\n",
        "\nmcp:read",
        "x\u00a0mcp:read",
        "x\u3000mcp:read",
        "mcp:read,mcp:write",
        '"mcp:read"',
        ["mcp:read mcp:write"],
        ["mcp:read "],
        [],
    ],
    ids=repr,
)
async def test_scopes_are_split_at_spaces_and_nowhere_else(scope: Any) -> None:
    gate = Gate(required_scopes=["mcp:read"], good=lambda: gate.forge(claims={"scope": "mcp:read"}))
    await gate.accepts(gate.good())
    gate.app.scopes.clear()
    for name in ("scope", "scp"):
        response = await gate.call(gate.forge(claims={"scope": ABSENT, name: scope}))
        assert (response.status, gate.app.scopes) == (403, [])
    await gate.accepts(gate.good())


@pytest.mark.case("V72")
@rows(
    ("scope", "granted"),
    [
        (None, []),
        (5, []),
        (True, []),
        ({}, []),
        ({"mcp:read": True}, []),
        ([["mcp:read"]], []),
        ([{"mcp:read": True}, 5], []),
        (["mcp:read", None], ["mcp:read"]),
    ],
    ids=repr,
)
@rows("name", ["scope", "scp"])
async def test_scopes_of_another_kind_grant_nothing(
    scope: Any, granted: list[str], name: str
) -> None:
    gate = Gate()
    token = gate.forge(claims={"scope": ABSENT, name: scope})
    assert (await gate.accepts(token)).scopes == granted


@pytest.mark.case("V72")
@rows("name", ["scope", "scp"])
@rows(
    ("value", "scopes"),
    [
        ("a b", ["a", "b"]),
        (" a  b ", ["a", "b"]),
        ("a a b", ["a", "b"]),
        ("", []),
        (" ", []),
        (["a", "b"], ["a", "b"]),
        (["a", "a"], ["a"]),
        ([], []),
    ],
    ids=repr,
)
async def test_scopes_are_a_string_or_a_list(name: str, value: Any, scopes: list[str]) -> None:
    gate = Gate()
    assert (await gate.accepts(gate.forge(claims={"scope": ABSENT, name: value}))).scopes == scopes


@pytest.mark.case("V73")
async def test_scope_wins_over_scp_and_a_configured_claim_over_both() -> None:
    both = {"scope": "from-scope", "scp": ["from-scp"]}
    gate, own = Gate(), Gate(claims=ClaimRules(scope_claim="permissions"))
    assert (await gate.accepts(gate.forge(claims=both))).scopes == ["from-scope"]
    assert (await gate.accepts(gate.forge(claims={**both, "scope": ""}))).scopes == []
    assert (
        await gate.accepts(gate.forge(claims={"scope": ABSENT, "scp": ["from-scp"]}))
    ).scopes == ["from-scp"]
    assert (await own.accepts(own.forge(claims={**both, "permissions": ["own"]}))).scopes == ["own"]
    assert (await own.accepts(own.forge(claims={**both, "permissions": []}))).scopes == []
    assert (await own.accepts(own.forge(claims=both))).scopes == ["from-scope"]
    assert (await own.accepts(own.forge(claims={**both, "permissions": 5}))).scopes == []
    assert (await gate.accepts(gate.forge(claims={**both, "scope": None}))).scopes == ["from-scp"]


@pytest.mark.case("V74")
@rows(
    "cnf",
    [{"jkt": "abc"}, {"x5t#S256": "abc"}, {"jwk": {}}, {"kid": "x"}, {"jkt": None}, "x", [0], 0],
    ids=repr,
)
async def test_a_token_bound_to_a_key_is_refused_as_a_bearer_token(cnf: Any) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims={"cnf": cnf}), "bound")


@pytest.mark.case("V77")
@rows(
    ("token", "reason"),
    [
        ("rt_8xLOxBtZp8", "malformed"),  # a refresh token or an authorization code: opaque
        ({"aud": "https://api.upstream.example"}, "audience"),
        ({"iss": "https://login.upstream.example"}, "issuer"),
        ({"typ": "Refresh", "aud": ISSUER}, "audience"),
    ],
    ids=str,
)
async def test_a_token_of_another_kind_or_from_upstream_is_refused(token: Any, reason: str) -> None:
    gate = Gate()
    await gate.refuses(token if isinstance(token, str) else gate.forge(claims=token), reason)


@pytest.mark.case("V78")
async def test_a_token_for_one_app_does_not_open_the_other_on_the_same_host() -> None:
    key, clock = signing_key().public_jwk(), FrozenClock(NOW)
    gate = Gate()
    apps = {}
    for path in ("/a", "/b"):
        verifier = JWTVerifier(public_key=key, issuer=ISSUER, clock=clock)
        apps[path] = MCPAuthMiddleware(
            Spy(), RemoteAuthProvider(verifier, [ISSUER], BASE_URL), mcp_path=path
        )
    for own in apps:
        authorization = {"Authorization": f"Bearer {gate.forge(claims={'aud': BASE_URL + own})}"}
        for path, app in apps.items():
            response = await call(app, "POST", path, authorization)
            assert response.status == (200 if path == own else 401)


@pytest.mark.case("V78")
async def test_one_verifier_cannot_stand_for_two_resources() -> None:
    verifier = JWTVerifier(public_key=signing_key().public_jwk(), issuer=ISSUER)
    MCPAuthMiddleware(Spy(), RemoteAuthProvider(verifier, [ISSUER], BASE_URL), mcp_path="/a")
    with pytest.raises(ConfigurationError, match="one verifier cannot protect two resources"):
        MCPAuthMiddleware(Spy(), RemoteAuthProvider(verifier, [ISSUER], BASE_URL), mcp_path="/b")
    MCPAuthMiddleware(Spy(), RemoteAuthProvider(verifier, [ISSUER], BASE_URL), mcp_path="/a")
