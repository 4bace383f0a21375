"""Claims at their edges: one second, one character, one type to each side."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest

from asgi_mcp_auth import ANY_AUDIENCE, ClaimRules, ConfigurationError, InvalidToken
from asgi_mcp_auth._json import encode_base64url
from asgi_mcp_auth._settings import (
    check_count,
    check_issuers,
    check_kind,
    check_names,
    check_scopes,
    check_seconds,
)
from asgi_mcp_auth.claims import ClaimChecks, expand_hierarchy, peek_issuer
from tests.support.absent import ABSENT
from tests.support.rows import rows

NOW = 1_800_000_000
ISSUER = "https://idp.example.com"
AUDIENCE = "https://mcp.example.com/mcp"
YEAR_9999 = 253_402_300_799


def checks(
    *, issuers: Any = (ISSUER,), audience: Any = AUDIENCE, leeway: Any = 0, **rules: Any
) -> ClaimChecks:
    return ClaimChecks(
        issuers=issuers, audience=audience, leeway_seconds=leeway, rules=ClaimRules(**rules)
    )


def claims(**changes: Any) -> dict[str, Any]:
    usual = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": NOW + 300,
        "client_id": "cli",
        "sub": "alice",
        **changes,
    }
    return {name: value for name, value in usual.items() if value is not ABSENT}


def read(own: ClaimChecks, now: float = NOW, **changes: Any) -> dict[str, Any]:
    facts, _ = own.read_jwt(claims(**changes), b"payload", now)
    return dict(
        zip(
            ("client_id", "scopes", "expires_at", "resource", "subject", "payload"),
            facts,
            strict=True,
        )
    )


def refusal(own: ClaimChecks, now: float = NOW, **changes: Any) -> str:
    with pytest.raises(InvalidToken) as caught:
        own.read_jwt(claims(**changes), b"payload", now)
    return caught.value.reason


def test_a_good_token_gives_these_facts() -> None:
    facts = read(checks(), scope="a b")
    assert facts["client_id"] == "cli"
    assert facts["scopes"] == ("a", "b")
    assert facts["resource"] == AUDIENCE
    assert facts["subject"] == "alice"
    assert facts["payload"] == b"payload"


def test_the_time_of_expiry_comes_back_beside_the_facts() -> None:
    for exp in (NOW + 1, NOW + 1.5):
        facts, expires_at = checks().read_jwt(claims(exp=exp), b"payload", NOW)
        assert facts[2] == expires_at == NOW + 1
        assert type(expires_at) is int


def test_an_introspected_token_may_leave_out_exp_iss_and_sub() -> None:
    members = claims(exp=ABSENT, iss=ABSENT, sub=ABSENT)
    assert checks().read(members, b"payload", NOW) == ("cli", (), None, AUDIENCE, None, b"payload")
    with pytest.raises(InvalidToken) as caught:
        checks().read(claims(exp=ABSENT, iss="x"), b"payload", NOW)
    assert caught.value.reason == "issuer"


@rows(
    ("members", "is_id_token"),
    [
        ({"typ": "ID"}, True),
        ({"token_use": "id"}, True),
        ({"typ": "Bearer", "token_use": "access"}, False),
        *(({name: "x"}, True) for name in ("at_hash", "c_hash", "s_hash")),
        *(({name: None}, False) for name in ("at_hash", "c_hash", "s_hash")),
    ],
)
def test_an_id_token_has_a_hash_or_the_mark_of_keycloak_or_cognito(
    members: dict[str, Any], is_id_token: bool
) -> None:
    assert checks().is_id_token(claims(**members)) is is_id_token


@rows("leeway", [0, 0.5, 60, 61, 300])
def test_a_token_ends_in_the_very_second_of_exp_plus_leeway(leeway: float) -> None:
    own = checks(leeway=leeway)
    assert refusal(own, exp=NOW - leeway - 1) == "expired"
    assert refusal(own, exp=NOW - leeway) == "expired"
    read(own, exp=NOW - leeway + 0.5)
    read(own, exp=NOW - leeway + 1)


@rows("value", ["1800000300", True, False, [NOW], {"a": 1}, YEAR_9999 + 1, YEAR_9999 + 1.0, 1e300])
def test_exp_is_a_number_no_later_than_the_year_9999(value: Any) -> None:
    assert refusal(checks(), exp=value) == "invalid_exp"
    read(checks(), exp=YEAR_9999)


@rows(
    ("claim", "unreadable", "early"),
    [("nbf", "invalid_nbf", "not_yet_valid"), ("iat", None, "issued_in_future")],
)
@rows(("leeway", "tolerance"), [(0, 60), (59, 60), (60, 60), (61, 61), (300, 300)])
def test_nbf_and_iat_tolerate_60_seconds_or_the_leeway(
    claim: str, unreadable: str | None, early: str, leeway: int, tolerance: int
) -> None:
    own = checks(leeway=leeway)
    for value in (NOW + tolerance, NOW, 0, -1, 0.5, None, "", [], {}):
        read(own, **{claim: value})
    assert refusal(own, **{claim: NOW + tolerance + 1}) == early
    assert refusal(own, **{claim: NOW + tolerance + 0.5}) == early
    for value in ("1", True, False, [1], {"a": 1}):
        if unreadable is None:
            read(own, **{claim: value})
        else:
            assert refusal(own, **{claim: value}) == unreadable


@pytest.mark.parametrize(
    ("member", "reason"), [("exp", "missing_exp"), ("iss", "missing_iss"), ("aud", "missing_aud")]
)
def test_a_member_that_has_to_be_there_is_missed(member: str, reason: str) -> None:
    for value in (ABSENT, None, "", [], {}):
        assert refusal(checks(), **{member: value}) == reason


def test_exp_is_missed_before_anything_else_and_iss_before_the_times() -> None:
    assert refusal(checks(), exp=ABSENT, iss=ABSENT) == "missing_exp"
    assert refusal(checks(), iss=ABSENT, exp=1) == "missing_iss"


def test_sub_has_to_be_there_only_where_rfc_9068_is_asked_for() -> None:
    read(checks(require_at_jwt=True))
    for value in (ABSENT, None, "", [], {}):
        assert refusal(checks(require_at_jwt=True), sub=value) == "subject"
        assert read(checks(), sub=value)["subject"] is None


@rows("value", [f"{ISSUER}/", ISSUER.upper(), " ", 0, False, 1, [ISSUER], {ISSUER: 1}, True])
def test_iss_is_compared_byte_for_byte(value: Any) -> None:
    assert refusal(checks(), iss=value) == "issuer"
    assert refusal(checks(issuers=(ISSUER, "b")), iss=value) == "issuer"


def test_without_issuers_iss_is_not_looked_at() -> None:
    for value in (ABSENT, "anyone", 1, None):
        read(checks(issuers=()), iss=value)


@pytest.mark.parametrize("value", [ISSUER, "b"])
def test_any_of_several_issuers_will_do(value: str) -> None:
    read(checks(issuers=(ISSUER, "b")), iss=value)


@rows("value", [{"jkt": "x"}, {"a": None}, [None], "x", 0, False, True])
def test_a_bound_token_is_refused(value: Any) -> None:
    assert refusal(checks(), cnf=value) == "bound"
    for nothing in (None, "", [], {}):
        read(checks(), cnf=nothing)


@rows("value", [1, None, [], {}, True, "", "x", ABSENT])
def test_jti_is_not_read(value: Any) -> None:
    read(checks(), jti=value)


@rows(
    ("value", "accepted"),
    [
        (AUDIENCE, True),
        ([AUDIENCE], True),
        (["x", AUDIENCE], True),
        ([AUDIENCE, "x"], True),
        ([AUDIENCE] + ["x"] * 63, True),
        (["x"] * 63 + [AUDIENCE], True),
        ([AUDIENCE] + ["x"] * 64, True),
        (["x"] * 1000 + [AUDIENCE], True),
        ([AUDIENCE, 1], True),
        ([1, None, {}, [], AUDIENCE], True),
        ([[AUDIENCE]], False),
        ([{AUDIENCE: 1}], False),
        (["x"], False),
        (AUDIENCE + "/", False),
        (AUDIENCE[:-1], False),
        (f"{AUDIENCE} x", False),
        (1, False),
        ({AUDIENCE: True}, False),
        (True, False),
    ],
)
def test_aud_names_us_alone_or_among_others(value: Any, accepted: bool) -> None:
    if accepted:
        assert read(checks(), aud=value)["resource"] == AUDIENCE
    else:
        assert refusal(checks(), aud=value) == "audience"


def test_the_resource_is_the_audience_that_matched() -> None:
    own = checks(audience=["a", "b"])
    assert [read(own, aud=each)["resource"] for each in ("a", "b", ["b", "a"], ["x", "a"])] == [
        "a",
        "b",
        "b",
        "a",
    ]


def test_any_audience_switches_the_check_off_and_names_no_resource() -> None:
    own = checks(audience=ANY_AUDIENCE)
    for value in (ABSENT, "x", 1, None, []):
        assert read(own, aud=value)["resource"] is None
    assert read(own, aud=ANY_AUDIENCE)["resource"] is None
    assert ANY_AUDIENCE == "*any audience*"


@rows(
    "audience",
    [
        [],
        "",
        [""],
        ["a", ""],
        ["a", "a"],
        "a*",
        ["a", "*"],
        ["*"],
        [ANY_AUDIENCE, "a"],
        ["a", ANY_AUDIENCE],
        [1],
        1,
        "a\n",
    ],
)
def test_an_audience_that_cannot_be_meant_is_a_wrong_setting(audience: Any) -> None:
    with pytest.raises(ConfigurationError, match="audience"):
        checks(audience=audience)


@rows("audience", ["a", ["a"], ("a", "b"), [ANY_AUDIENCE], ANY_AUDIENCE])
def test_an_audience_that_was_given_is_not_bound_again(audience: Any) -> None:
    own = checks(audience=audience)
    for resource in (None, "https://a.example", "https://b.example"):
        own.bind_audience(resource)
    assert refusal(own, aud="https://a.example") == "audience" if audience[0] == "a" else True


def test_an_audience_is_bound_to_one_resource_and_both_its_spellings() -> None:
    own = checks(audience=None)
    with pytest.raises(ConfigurationError, match="audience is not known"):
        read(own)
    with pytest.raises(ConfigurationError, match="audience is not known"):
        own.bind_audience(None)
    own.bind_audience("https://MCP.example.com:443")
    own.bind_audience("https://MCP.example.com:443")
    for value in ("https://MCP.example.com:443", "https://mcp.example.com/"):
        assert read(own, aud=value)["resource"] == "https://MCP.example.com:443"
    assert refusal(own, aud="https://mcp.example.com") == "audience"
    with pytest.raises(ConfigurationError, match="two resources"):
        own.bind_audience("https://mcp.example.com/")
    with pytest.raises(ConfigurationError, match="audience is not known"):
        own.bind_audience(None)


@rows(
    ("present", "client"),
    [
        (("client_id", "azp", "appid", "cid", "sub"), "client_id"),
        (("azp", "appid", "cid", "sub"), "azp"),
        (("appid", "cid", "sub"), "appid"),
        (("cid", "sub"), "cid"),
        (("sub",), "sub"),
    ],
)
def test_the_client_is_in_the_first_claim_that_names_one(
    present: tuple[str, ...], client: str
) -> None:
    members = {
        name: name if name in present else ABSENT
        for name in ("client_id", "azp", "appid", "cid", "sub")
    }
    assert read(checks(), **members)["client_id"] == client
    assert read(checks(), **{**members, client: 5})["client_id"] == "5"
    assert refusal(checks(), **{**members, client: "a\n"}) in ("client_id", "subject")
    following = [*present[1:], None][0]
    for nothing in ("", None, [], {}):
        found = read(checks(), **{**members, client: nothing})["client_id"]
        assert found == (following or "unknown")


def test_a_wrong_subject_is_told_from_a_wrong_client() -> None:
    assert refusal(checks(), sub="a\u2028") == "subject"
    for value in (True, False, 1.5, ["a"], {"a": 1}):
        assert refusal(checks(), sub=value) == "subject"
        assert read(checks(), client_id=value, azp="b")["client_id"] == "b"
    assert read(checks(), sub=0)["subject"] == "0"
    assert read(checks(), client_id=0)["client_id"] == "0"
    assert refusal(checks(), client_id="a\n") == "client_id"
    assert refusal(checks(), client_id=ABSENT, azp="a\n") == "client_id"
    assert read(checks(), client_id=ABSENT, sub=ABSENT)["client_id"] == "unknown"
    for value in (ABSENT, None, "", [], 1.5, "a\n"):
        assert refusal(checks(client_id_claim="app"), app=value) == "client_id"
    assert read(checks(client_id_claim="app"), app="x")["client_id"] == "x"


@rows(
    ("value", "scopes"),
    [
        ("", ()),
        (" ", ()),
        ("a", ("a",)),
        ("a b", ("a", "b")),
        ("  a   b ", ("a", "b")),
        ("a\tb", ("a\tb",)),
        ("a a b a", ("a", "b")),
        ([], ()),
        (["a", "b c"], ("a", "b c")),
        (["a", "a"], ("a",)),
    ],
)
def test_scopes_are_separated_by_spaces_or_listed_and_named_once(
    value: Any, scopes: tuple[str, ...]
) -> None:
    for claim in ("scope", "scp"):
        assert read(checks(), **{claim: value})["scopes"] == scopes


@rows(
    ("value", "scopes"),
    [
        *((each, ()) for each in (None, 1, 0, True, False, {}, {"a": 1}, [1], [["a"]])),
        (["a", None, 5], ("a",)),
    ],
)
def test_scopes_of_another_kind_grant_nothing(value: Any, scopes: tuple[str, ...]) -> None:
    for claim in ("scope", "scp"):
        assert read(checks(), **{claim: value})["scopes"] == scopes


def test_the_first_scope_claim_wins() -> None:
    assert read(checks(), scope="a", scp="b")["scopes"] == ("a",)
    for nothing in ("", [], {}, 0, 5):
        assert read(checks(), scope=nothing, scp="b")["scopes"] == ()
        assert read(checks(scope_claim="roles"), roles=nothing, scope="a")["scopes"] == ()
    assert read(checks(), scope=None, scp="b")["scopes"] == ("b",)
    assert read(checks(scope_claim="roles"), roles=["r"], scope="a")["scopes"] == ("r",)
    assert read(checks(scope_claim="roles"), scope="a")["scopes"] == ("a",)
    assert read(checks(scope_claim="roles"), scp="b")["scopes"] == ("b",)
    assert read(checks())["scopes"] == ()


def test_mapped_scopes_are_added_and_implied_ones_after_them() -> None:
    hook: Callable[[Any], list[str]] = lambda members: [f"of:{members['sub']}"]  # noqa: E731
    hierarchy = {"a": ["b"], "b": ["c"], "of:alice": ["z"]}
    assert read(checks(map_scopes=hook), scope="a")["scopes"] == ("a", "of:alice")
    assert read(checks(map_scopes=hook, scope_hierarchy=hierarchy), scope="a")["scopes"] == (
        "a",
        "of:alice",
        "b",
        "c",
        "z",
    )
    assert read(checks(scope_hierarchy=hierarchy), scope="b x")["scopes"] == ("b", "x", "c")
    with pytest.raises(ConfigurationError, match="The result of map_scopes"):
        read(checks(map_scopes=lambda _: "a b"))


@rows(
    ("hierarchy", "expanded"),
    [
        (None, {}),
        ({}, {}),
        ({"a": []}, {"a": ()}),
        ({"a": ["a"]}, {"a": ()}),
        ({"a": ["a", "b", "b"]}, {"a": ("b",)}),
        ({"a": ["b"], "b": ["c"]}, {"a": ("b", "c"), "b": ("c",)}),
        ({"a": ["b"], "b": ["a"]}, {"a": ("b",), "b": ("a",)}),
        (
            {"a": ["b"], "b": ["c", "a"], "c": ["a"]},
            {"a": ("b", "c"), "b": ("c", "a"), "c": ("a", "b")},
        ),
        ({"a": ["b", "c"], "b": ["c"], "c": ["b"]}, {"a": ("b", "c"), "b": ("c",), "c": ("b",)}),
    ],
)
def test_a_hierarchy_is_followed_to_its_end_and_around_its_circles(
    hierarchy: Any, expanded: Any
) -> None:
    assert expand_hierarchy(hierarchy) == expanded


@rows(
    ("exp", "iat", "accepted"),
    [
        (NOW + 100, NOW, True),
        (NOW + 101, NOW, False),
        (NOW + 100, ABSENT, True),
        (NOW + 101, ABSENT, False),
        (NOW + 50, NOW - 50, True),
        (NOW + 50, NOW - 51, False),
    ],
)
def test_a_token_lives_no_longer_than_it_may(exp: int, iat: Any, accepted: bool) -> None:
    own = checks(max_lifetime_seconds=100)
    if accepted:
        read(own, exp=exp, iat=iat)
    else:
        assert refusal(own, exp=exp, iat=iat) == "lifetime"
        read(checks(), exp=exp, iat=iat)
    for unreadable in (None, "", "x", True):
        read(own, exp=NOW + 100, iat=unreadable)
        assert refusal(own, exp=NOW + 101, iat=unreadable) == "lifetime"


@rows(
    "rules",
    [
        *({"require_at_jwt": value} for value in (1, "no", [])),
        *(
            {name: value}
            for name in ("scope_claim", "client_id_claim")
            for value in ("", 1, ["a"], ["a", "b"], "a\n")
        ),
        *({"max_lifetime_seconds": value} for value in (0, 0.5, -1, True, "1", math.nan, math.inf)),
        *({"map_scopes": value} for value in ("f", 1, [])),
        *(
            {"scope_hierarchy": value}
            for value in ([], "a", {"a b": []}, {"a": "b"}, {"a": ["b c"]}, {"a": [1]}, {"": []})
        ),
    ],
)
def test_rules_of_the_wrong_kind_are_wrong_settings(rules: dict[str, Any]) -> None:
    (name,) = rules
    with pytest.raises(ConfigurationError, match=name):
        ClaimRules(**rules)


def test_rules_at_the_edge_are_taken() -> None:
    ClaimRules(
        max_lifetime_seconds=1,
        scope_claim="a",
        client_id_claim="b",
        scope_hierarchy={},
        map_scopes=lambda _: [],
    )
    assert ClaimRules().require_at_jwt is False
    assert (ClaimRules().scope_claim, ClaimRules().max_lifetime_seconds) == (None, None)


@rows("leeway", [0, 0.0, 0.5, 300, 300.0])
def test_a_leeway_of_0_to_300_seconds_is_taken(leeway: float) -> None:
    assert checks(leeway=leeway).leeway == leeway


@rows("leeway", [-1, -0.001, 300.5, 301, math.nan, math.inf, -math.inf, True, "1", None])
def test_another_leeway_is_a_wrong_setting(leeway: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"leeway_seconds=.* between 0 and 300"):
        checks(leeway=leeway)


@rows(
    ("value", "valid"),
    [(0, True), (sys.float_info.max, True), (10**400, False), (-1, False), (5, True)],
)
def test_seconds_without_an_upper_bound_are_any_finite_number(value: Any, valid: bool) -> None:
    if valid:
        assert check_seconds("x", value) == value
        assert type(check_seconds("x", value)) is float
    else:
        with pytest.raises(ConfigurationError, match=r"x=.* of at least 0"):
            check_seconds("x", value)


@rows("value", [-1, 0.0, True, False, "1", None])
def test_a_count_is_a_whole_number(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="0 or more"):
        check_count("x", value)
    assert [check_count("x", number) for number in (0, 1, 2)] == [0, 1, 2]


def test_a_kind_is_checked_unless_there_is_nothing() -> None:
    check_kind("x", None, int)
    check_kind("x", 1, int)
    with pytest.raises(ConfigurationError, match="x='1' must be a int"):
        check_kind("x", "1", int)


@rows("value", ["", [], [""], ["a", ""], ["a", "a"], [1], 1, None, "a\n", ["a", 1]])
def test_names_are_one_text_or_several_each_once(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="x="):
        check_names("x", value)
    assert check_names("x", "a") == check_names("x", ["a"]) == ("a",)
    assert check_names("x", ("a", "b")) == ("a", "b")


@rows("value", ["a", "", 1, None, [1], [""], ["a b"], ["a", 'b"'], [b"a"], ["\\"], ["é"]])
def test_scopes_in_settings_are_a_list_of_scope_tokens(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="x"):
        check_scopes("x", value)
    assert check_scopes("x", ["a", "b:c"]) == ("a", "b:c")
    assert check_scopes("x", ()) == ()


@rows(
    "value",
    [
        "",
        [],
        [""],
        ["a", "a"],
        1,
        "http://idp.example.com",
        ["https://a", "http://b"],
        "https://a?x=1",
        "a://b",
    ],
)
def test_issuers_that_cannot_be_meant_are_wrong_settings(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="issuer"):
        check_issuers(value)


def test_issuers_are_none_one_or_several_and_need_not_be_urls() -> None:
    assert check_issuers(None) == ()
    assert check_issuers("accounts.example.com") == ("accounts.example.com",)
    assert check_issuers("a:/b") == ("a:/b",)
    assert check_issuers(["https://a", "http://127.0.0.1:1"]) == ("https://a", "http://127.0.0.1:1")


def jwt(payload: str) -> str:
    return f"x.{encode_base64url(payload.encode())}.y"


@rows(
    ("token", "issuer"),
    [
        (jwt('{"iss":"a"}'), "a"),
        (jwt('{"iss":""}'), ""),
        (jwt('{"iss":1}'), None),
        (jwt('{"iss":["a"]}'), None),
        (jwt("{}"), None),
        (jwt("[]"), None),
        (jwt("{"), None),
        (jwt('{"iss":"a"}') + ".z", None),
        ("x." + jwt('{"iss":"a"}'), None),
        ("opaque", None),
        ("a.b", None),
        ("..", None),
        ("x.é.y", None),
        ("x.****.y", None),
    ],
)
def test_the_issuer_of_an_unverified_token_is_peeked_at_without_a_crash(
    token: str, issuer: str | None
) -> None:
    assert peek_issuer(token) == issuer


@rows("pieces", [6000, 6001])
def test_a_payload_of_too_many_pieces_is_not_peeked_at(pieces: int) -> None:
    token = jwt('{"iss":"a","x":[' + "[],[" + "1," * (pieces - 6) + "1]]}")
    if pieces <= 6000:
        assert peek_issuer(token) == "a"
    else:
        with pytest.raises(InvalidToken) as caught:
            peek_issuer(token)
        assert caught.value.reason == "payload"


def test_a_token_of_64_kib_is_peeked_at_and_a_longer_one_is_not() -> None:
    token = jwt('{"iss":"a"}')
    assert peek_issuer("x" * (65536 - len(token)) + token) == "a"
    assert peek_issuer("x" * (65537 - len(token)) + token) is None
