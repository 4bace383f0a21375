"""What a token or an introspection answer need not say: null and empty count as left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    ClaimRules,
    ConfigurationError,
    IntrospectionTokenVerifier,
    InvalidToken,
    ServerUnavailable,
    UserinfoTokenVerifier,
)
from asgi_mcp_auth._json import is_absent
from asgi_mcp_auth.claims import member_at, name_of
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.support.gate import ABSENT, AUDIENCE, NOW, Gate
from tests.support.profiles import serving_profiles
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

NOTHING: list[Any] = [None, "", [], {}]


@pytest.fixture
def idp() -> Iterator[Issuer]:
    with Issuer(algorithms=("ES256",), clock=FrozenClock(NOW)) as issuer:
        yield issuer


async def test_null_and_empty_are_absent_and_nothing_else_is() -> None:
    assert all(map(is_absent, NOTHING))
    assert not any(map(is_absent, (0, False, 0.0, True, " ", [None], {"a": None}, "null")))


@pytest.mark.rule("RS-61")
@rows("nothing", [ABSENT, *NOTHING], ids=repr)
@rows(
    ("names", "who"),
    [
        (("sub",), (None, "test-client")),
        (("client_id",), ("alice", "alice")),
        (("sub", "client_id"), (None, "unknown")),
        (("sub", "client_id", "azp", "appid", "cid"), (None, "unknown")),
        (("nbf", "iat", "jti", "cnf", "azp", "email"), ("alice", "test-client")),
    ],
    ids=str,
)
async def test_an_optional_claim_of_a_jwt_may_be_null_or_empty(
    names: tuple[str, ...], who: tuple[str | None, str], nothing: Any
) -> None:
    gate = Gate()
    access = await gate.accepts(gate.forge(claims=dict.fromkeys(names, nothing)))
    assert (access.subject, access.client_id) == who
    assert access.scopes == ["mcp:read"]


@pytest.mark.rule("RS-61")
@rows("nothing", NOTHING, ids=repr)
@rows("name", ["exp", "aud", "iss"])
async def test_a_claim_that_a_jwt_needs_may_not(name: str, nothing: Any) -> None:
    gate = Gate()
    await gate.refuses(gate.forge(claims={name: nothing}), f"missing_{name}")


BASE = {"active": True, "aud": AUDIENCE, "scope": "a", "exp": NOW + 300}
FULL = {**BASE, "client_id": "c", "sub": "s", "username": "u", "token_type": "Bearer"}


def introspection(idp: Issuer, answer: dict[str, Any], **settings: Any) -> Any:
    idp.answer("/introspect", json.dumps(answer).encode())
    usual = {"introspection_url": idp.introspection_url, "client_id": "rs", "client_secret": "x"}
    return IntrospectionTokenVerifier(
        **{**usual, "audience": AUDIENCE, "clock": idp.clock, **settings}
    )


@pytest.mark.rule("RS-62")
@rows(
    ("changes", "who"),
    [
        ({}, ("s", "c")),
        ({"client_id": None}, ("s", "s")),
        ({"sub": None}, ("u", "c")),
        ({"sub": "", "client_id": ""}, ("u", "u")),
        ({"sub": None, "username": None}, (None, "c")),
        ({"sub": None, "username": None, "client_id": None}, (None, "unknown")),
        ({"sub": 7, "client_id": 8}, ("7", "8")),
        ({"username": ["x"]}, ("s", "c")),
        (dict.fromkeys(("nbf", "iat", "token_type", "cnf", "jti", "iss")), ("s", "c")),
        (dict.fromkeys(("nbf", "iat", "token_type", "cnf", "jti", "iss"), ""), ("s", "c")),
        ({"token_type": 5}, ("s", "c")),
    ],
    ids=str,
)
async def test_an_introspection_answer_needs_little_and_says_who(
    idp: Issuer, changes: dict[str, Any], who: tuple[str | None, str]
) -> None:
    for answer in (
        {**FULL, **changes},
        {name: value for name, value in {**FULL, **changes}.items() if value not in (None, "")},
    ):
        for issuer in (None, idp.issuer):
            access = await introspection(idp, answer, issuer=issuer).verify("token")
            assert (access.subject, access.client_id) == who
            assert access.claims["iss"]


@pytest.mark.rule("RS-62")
@rows("exp", [*NOTHING, 0, 0.0])
async def test_an_active_token_without_an_end_may_say_so_by_null_or_zero(
    idp: Issuer, exp: Any
) -> None:
    access = await introspection(idp, {**FULL, "exp": exp}).verify("token")
    assert access.expires_at is None
    gate = Gate()
    await gate.refuses(gate.forge(claims={"exp": exp}), "missing_exp", "expired")


@pytest.mark.rule("RS-62")
@rows(
    ("changes", "reason"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": -1}, "expired"),
        ({"exp": "0"}, "invalid_exp"),
        ({"aud": None}, "missing_aud"),
        ({"aud": "other", "client_id": "a\nb"}, "audience"),
        ({"cnf": 0}, "bound"),
        ({"username": "a\nb", "sub": None}, "subject"),
        ({"sub": {"id": 1}}, "subject"),
        ({"active": "true"}, "inactive"),
        ({"active": None}, "inactive"),
    ],
    ids=str,
)
async def test_what_an_answer_does_say_is_heeded(
    idp: Issuer, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidToken) as caught:
        await introspection(idp, {**FULL, **changes}).verify("token")
    assert caught.value.reason == reason


PATHS: list[tuple[str, dict[str, Any], str | None]] = [
    ("username", {"username": "u"}, "u"),
    ("data.id", {"data": {"id": 5}}, "5"),
    ("data.id", {"data.id": "literal", "data": {"id": "path"}}, "literal"),
    ("data.id", {"data.id": None, "data": {"id": "path"}}, "path"),
    ("data.0.id", {"data": [{"id": "twitch"}]}, "twitch"),
    ("data.1.id", {"data": [{"id": "one"}]}, None),
    ("data.x.id", {"data": [{"id": "one"}]}, None),
    ("a.b.c", {"a": {"b": {"c": "deep"}}}, "deep"),
    ("a.b", {"a": "text"}, None),
    ("a.b", {}, None),
    ("a.0", {"a": "text"}, None),
    ("a.0", {"a": 5}, None),
    ("https://x.example/id", {"https://x.example/id": "url"}, "url"),
    ("id", {"id": None}, None),
    ("id", {"id": ""}, None),
]


@pytest.mark.rule("RS-63")
@rows(("path", "members", "subject"), PATHS, ids=str)
async def test_a_setting_says_which_member_is_the_subject(
    idp: Issuer, path: str, members: dict[str, Any], subject: str | None
) -> None:
    access = await introspection(idp, {**BASE, **members}, subject_claim=path).verify("token")
    assert (access.subject, access.client_id) == (subject, subject or "unknown")
    with serving_profiles() as profiles:
        profiles.profiles["a:b"] = members
        verifier = UserinfoTokenVerifier(
            userinfo_url=profiles.userinfo_url, audience=ANY_AUDIENCE, subject_claim=path
        )
        if subject is None:
            with pytest.raises(ServerUnavailable):
                await verifier.verify("a:b")
        else:
            assert (await verifier.verify("a:b")).subject == subject


@pytest.mark.rule("RS-63")
async def test_a_subject_that_was_asked_for_is_never_another_member(idp: Issuer) -> None:
    access = await introspection(idp, FULL, subject_claim="uid").verify("token")
    assert (access.subject, access.client_id) == (None, "c")
    for wrong in ("", 5, ["a", "b"]):
        with pytest.raises(ConfigurationError, match=r"^subject_claim="):
            introspection(idp, FULL, subject_claim=wrong)


@pytest.mark.rule("RS-61")
async def test_a_claim_that_was_asked_for_has_to_name_the_client(idp: Issuer) -> None:
    rules = ClaimRules(client_id_claim="app")
    for nothing in (*NOTHING, ["x"], True):
        with pytest.raises(InvalidToken) as caught:
            await introspection(idp, {**FULL, "app": nothing}, claims=rules).verify("token")
        assert caught.value.reason == "client_id"
    access = await introspection(idp, {**FULL, "app": 5}, claims=rules).verify("token")
    assert access.client_id == "5"


@rows(("path", "members", "name"), PATHS, ids=str)
async def test_a_name_is_in_the_member_of_that_name_or_else_at_the_path(
    path: str, members: dict[str, Any], name: str | None
) -> None:
    assert name_of(member_at(members, path)) == name


async def test_a_name_is_text_that_can_be_printed_or_a_whole_number() -> None:
    assert [name_of(each) for each in ("a", "Ü 名", 0, -5)] == ["a", "Ü 名", "0", "-5"]
    assert {name_of(each) for each in ("", "a\n", "\u2028", None, True, 1.0, [], {})} == {None}
    assert member_at({"a": [[7]]}, "a.0.0") == 7
