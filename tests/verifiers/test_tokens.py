"""AccessToken: the value of one request, made by a verifier or by hand."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from asgi_mcp_auth import AccessToken, StaticTokenVerifier, get_access_token
from asgi_mcp_auth.tokens import (
    AnonymousCredentials,
    AnonymousUser,
    User,
    Verification,
    VerifiedToken,
    access_token,
    current_request,
    current_verification,
    get_provider,
)
from tests.support.rows import rows

VERIFIED = VerifiedToken(
    "client",
    ("a", "b"),
    1_800_000_300,
    "https://mcp.example.com/mcp",
    "alice",
    b'{"sub":"alice","n":{"x":[1]}}',
)


def verified() -> AccessToken:
    return access_token("secret-token", VERIFIED)


def by_hand() -> AccessToken:
    return AccessToken(
        token="secret-token",
        client_id="client",
        scopes=["a", "b"],
        expires_at=1_800_000_300,
        resource="https://mcp.example.com/mcp",
        subject="alice",
        claims={"sub": "alice", "n": {"x": [1]}},
    )


@pytest.mark.parametrize("make", [verified, by_hand])
def test_every_field_can_be_read_and_keeps_its_value(make: Any) -> None:
    token = make()
    for _ in range(2):
        assert token.token == "secret-token"
        assert (token.client_id, token.scopes, token.expires_at) == (
            "client",
            ["a", "b"],
            1_800_000_300,
        )
        assert (token.resource, token.subject) == ("https://mcp.example.com/mcp", "alice")
        assert token.claims == {"sub": "alice", "n": {"x": [1]}}
    assert token.scopes is token.scopes
    assert token.claims is token.claims


def test_how_it_was_made_does_not_show() -> None:
    assert verified() == by_hand()
    assert repr(verified()) == repr(by_hand())
    assert dataclasses.asdict(verified()) == dataclasses.asdict(by_hand())
    assert verified().model_dump() == by_hand().model_dump() == dataclasses.asdict(by_hand())
    assert verified() != access_token("another-token", VERIFIED)


@pytest.mark.parametrize("make", [verified, by_hand])
def test_neither_the_token_nor_its_claims_show_in_its_text(make: Any) -> None:
    for text in (repr(make()), str(make()), f"{make()}"):
        assert "secret-token" not in text
        assert "'n'" not in text
        assert "client_id='client'" in text


@pytest.mark.parametrize("make", [verified, by_hand])
def test_it_cannot_be_changed(make: Any) -> None:
    token = make()
    for name in ("token", "scopes", "claims", "made_up"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(token, name, "x")
    with pytest.raises(AttributeError, match="'AccessToken' object has no attribute 'made_up'"):
        _ = token.made_up


def test_two_requests_share_nothing_that_can_be_changed() -> None:
    one, other = verified(), verified()
    one.scopes.append("admin")
    one.claims["n"]["x"].append(2)
    assert other.scopes == ["a", "b"]
    assert other.claims["n"] == {"x": [1]}


@rows("make", [verified, by_hand])
@rows(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda token: pickle.loads(pickle.dumps(token))],  # noqa: S301
)
def test_it_can_be_copied_and_sent_to_another_process(make: Any, duplicate: Any) -> None:
    assert duplicate(make()) == by_hand()


@pytest.mark.parametrize("make", [verified, by_hand])
def test_a_model_copy_is_another_token(make: Any) -> None:
    token = make()
    changed = token.model_copy(update={"scopes": ["c"], "subject": None})
    assert (changed.scopes, changed.subject, changed.client_id) == (["c"], None, "client")
    shallow, deep = token.model_copy(), token.model_copy(deep=True)
    assert shallow == deep == token
    shallow.scopes.append("x")
    deep.claims["n"]["x"].append(2)
    assert token.scopes == ["a", "b"]
    assert token.claims["n"] == {"x": [1]}


@pytest.mark.parametrize("make", [verified, by_hand])
def test_scopes_are_all_there_or_they_are_not(make: Any) -> None:
    token = make()
    assert token.has_scopes()
    assert token.has_scopes("a")
    assert token.has_scopes("b", "a")
    assert not token.has_scopes("a", "c")
    assert not token.has_scopes("A")


def test_a_token_made_by_hand_needs_only_what_it_is_about() -> None:
    token = AccessToken(token="t", client_id="c", scopes=[])
    assert (token.expires_at, token.resource, token.subject, token.claims) == (None, None, None, {})
    assert token.claims is not AccessToken(token="t", client_id="c", scopes=[]).claims


def test_the_token_of_a_request_is_found_from_wherever_one_stands() -> None:
    token = by_hand()
    assert get_access_token({"access_token": token}) is token
    assert get_access_token(SimpleNamespace(scope={"access_token": token})) is token
    assert get_access_token() is None
    restore = current_request.set((token, None, []))
    try:
        assert get_access_token() is token
        assert get_access_token({}) is None
    finally:
        current_request.reset(restore)


def test_the_provider_of_a_request_is_found_in_the_same_places() -> None:
    provider = StaticTokenVerifier({"t": {"client_id": "c"}})
    assert get_provider({"asgi_mcp_auth.provider": provider}) is provider
    assert get_provider(SimpleNamespace(scope={"asgi_mcp_auth.provider": provider})) is provider
    assert get_provider() is None
    restore = current_request.set((None, provider, []))
    try:
        assert get_provider() is provider
        assert get_provider({}) is None
    finally:
        current_request.reset(restore)


@rows("value", [None, "secret-token", {"sub": "alice"}, Verification()])
def test_any_other_value_is_not_an_access_token(value: Any) -> None:
    assert get_access_token({"access_token": value}) is None
    restore = current_request.set((value, None, []))
    try:
        assert get_access_token() is None
    finally:
        current_request.reset(restore)


def test_a_verification_in_progress_says_nothing_about_the_caller() -> None:
    restore = current_verification.set(Verification("192.0.2.1"))
    try:
        assert get_access_token() is None
    finally:
        current_verification.reset(restore)


def test_a_packed_token_is_a_plain_tuple_that_the_garbage_collector_leaves_alone() -> None:
    packed = (VERIFIED.pack(), 1.5)
    assert type(packed[0]) is tuple
    assert VerifiedToken(*packed[0]) == VERIFIED
    assert access_token("t", packed[0]) == access_token("t", VERIFIED)
    for _ in range(3):  # one for each level of nesting
        gc.collect()
    assert not gc.is_tracked(packed)


def test_the_claims_are_parsed_when_they_are_first_read() -> None:
    broken = access_token("t", VERIFIED._replace(claims_json=b"{"))
    assert (broken.subject, broken.scopes) == ("alice", ["a", "b"])
    with pytest.raises(ValueError, match="Expecting property name"):
        _ = broken.claims


def test_a_user_is_the_subject_or_the_client_where_there_is_none() -> None:
    user = User(AccessToken(token="t", client_id="robot", scopes=[], subject="alice"))
    assert (user.is_authenticated, user.identity, user.display_name) == (True, "alice", "alice")
    machine = User(AccessToken(token="t", client_id="robot", scopes=[]))
    assert (machine.identity, machine.display_name) == ("robot", "robot")


@pytest.mark.parametrize("subject", ["alice", None])
def test_a_user_of_one_issuer_is_not_the_user_of_another_one_with_the_same_name(
    subject: str | None,
) -> None:
    users = [
        User(
            AccessToken(
                token="t", client_id="robot", scopes=[], subject=subject, claims={"iss": issuer}
            )
        )
        for issuer in ("https://a.example", "https://b.example")
    ]
    name = subject or "robot"
    assert [each.identity for each in users] == [
        f"https://a.example|{name}",
        f"https://b.example|{name}",
    ]
    assert [each.display_name for each in users] == [name, name]


@pytest.mark.parametrize("issuer", [None, 5, ["https://a.example"]])
def test_what_is_no_name_of_an_issuer_is_none(issuer: Any) -> None:
    user = User(
        AccessToken(
            token="t", client_id="robot", scopes=[], subject="alice", claims={"iss": issuer}
        )
    )
    assert user.identity == "alice"


def test_no_issuer_and_subject_look_like_another_issuers() -> None:
    pairs = [
        ("https://a.example/", "auth0|alice"),
        ("https://a.example/|auth0", "alice"),
        (None, "https://a.example/|auth0|alice"),
        ("", "https://a.example/|auth0|alice"),
        (None, "alice"),
    ]
    identities = [
        User(
            AccessToken(
                token="t", client_id="robot", scopes=[], subject=subject, claims={"iss": issuer}
            )
        ).identity
        for issuer, subject in pairs
    ]
    assert identities[0] == "https://a.example/|auth0|alice"
    assert identities[1] == "https://a.example/%7Cauth0|alice"
    # no issuer, and one without a name
    assert identities[2] == identities[3] == "|https://a.example/|auth0|alice"
    assert identities[4] == "alice"


def test_an_anonymous_user_has_no_name_and_no_permissions() -> None:
    user, credentials = AnonymousUser(), AnonymousCredentials()
    assert (user.is_authenticated, user.identity, user.display_name) == (False, "", "")
    credentials.scopes.append("admin")
    assert AnonymousCredentials().scopes == credentials.scopes == []
