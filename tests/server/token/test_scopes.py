"""The scope policy at its edges: servers without scopes, limits, hooks, ``offline_access``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError
from asgi_mcp_auth.errors import AccessDenied, InvalidGrant, InvalidScope, ServerUnavailable
from asgi_mcp_auth.server import Client, Person
from asgi_mcp_auth.server.grants.scopes import ScopePolicy
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

ALICE = Person(subject="alice")
HIERARCHY = {"admin": ["write"], "write": ["read"]}


def policy(
    required: Sequence[str] = ("read",),
    supported: Sequence[str] = ("read", "write", "admin"),
    **settings: Any,
) -> ScopePolicy:
    return ScopePolicy(required, supported, settings.get("hierarchy"), settings.get("hook"))


def client(scope: str | None = None, origin: Any = "configured") -> Client:
    metadata = {"grant_types": ["authorization_code"], "token_endpoint_auth_method": "none"}
    return Client(
        client_id="c",
        metadata=metadata if scope is None else {**metadata, "scope": scope},
        origin=origin,
    )


@rows(
    ("required", "supported", "asked", "found"),
    [
        (["read"], ["read", "write"], None, ["read"]),
        ([], ["read", "write"], None, ["read", "write"]),
        ([], [], None, []),
        ([], [], " ", []),
        (["read"], [], None, ["read"]),
        (["read"], [], "read", ["read"]),
        ([], ["read"], "read", ["read"]),
        ([], ["read"], "read read  read", ["read"]),
        ([], ["read"], "offline_access", ["offline_access"]),
        ([], [], "offline_access", ["offline_access"]),
        ([], ["read"], " ", ["read"]),
        (["read"], ["read", "write"], "", ["read"]),
        ([], ["read"], "write", None),
        ([], ["read"], "openid offline_access", None),
        ([], [], "write", []),
        ([], [], "openid offline_access", ["offline_access"]),
        ([], ["read"], "read write", ["read"]),
        ([], ["read"], "openid read email offline_access", ["read", "offline_access"]),
        ([], ["read"], "read\twrite", None),
        ([], ["read"], "read\u00a0write", None),
        ([], ["read"], '"read"', None),
        ([], ["read"], "Read", None),
    ],
)
async def test_what_a_request_gets(
    required: list[str], supported: list[str], asked: str | None, found: list[str] | None
) -> None:
    scopes = policy(required, supported)
    if found is None:
        with pytest.raises(InvalidScope):
            scopes.parse_requested(asked, client())
    else:
        assert scopes.parse_requested(asked, client()) == found


@pytest.mark.rule("AS-82")
@rows(
    ("limit", "text"),
    [
        (None, "Those that are: read, write, admin"),
        ("write", "Those that are: read, write"),
        ("other", "Those that are: none"),
    ],
)
async def test_a_refusal_lists_the_scopes_that_there_are(limit: str | None, text: str) -> None:
    with pytest.raises(InvalidScope) as caught:
        policy(hierarchy=HIERARCHY).parse_requested("openid", client(limit))
    begin = "None of the requested scopes is available to this client. "
    assert str(caught.value) == begin + text


async def test_a_refusal_lists_no_more_scopes_than_fit_into_a_url() -> None:
    with pytest.raises(InvalidScope) as caught:
        policy([], [f"scope-{n}" for n in range(1000)]).parse_requested("openid", client())
    assert 900 < len(str(caught.value)) <= 1000


@pytest.mark.rule("AS-84")
async def test_scopes_that_are_added_can_be_asked_for_and_do_not_come_without_asking() -> None:
    scopes = policy([], ["read"])
    names = scopes.names
    scopes.add(["read", "admin"])
    assert (scopes.supported, set(names)) == (("read", "admin"), {"read", "admin"})
    assert scopes.parse_requested(None, client()) == ["read"]
    assert scopes.parse_requested("admin", client()) == ["admin"]


async def test_the_supported_scopes_are_those_and_the_required_ones_each_once() -> None:
    assert policy(["read", "other"], ["write", "read"]).supported == ("write", "read", "other")


@rows(
    ("limit", "asked", "found"),
    [
        ("write", None, ["read"]),
        ("read", None, ["read"]),
        ("other", None, None),
        ("write", "write", ["write"]),
        ("write", "read write", ["read", "write"]),
        ("read", "write", None),
        ("read", "read write", ["read"]),
        ("admin", "read", ["read"]),
        ("read", "read offline_access", ["read", "offline_access"]),
        ("read", "offline_access", ["offline_access"]),
    ],
)
async def test_an_operator_s_limit_reaches_as_far_as_the_hierarchy(
    limit: str, asked: str | None, found: list[str] | None
) -> None:
    scopes = policy(hierarchy=HIERARCHY)
    if found is None:
        with pytest.raises(InvalidScope):
            scopes.parse_requested(asked, client(limit))
    else:
        assert scopes.parse_requested(asked, client(limit)) == found
    if asked is not None:
        assert scopes.parse_requested(asked, client(limit, "registered")) == asked.split()


async def test_a_hook_decides_what_a_person_may_grant() -> None:
    seen: list[Any] = []

    def hook(person: Person, client: Client, scopes: list[str]) -> list[str]:
        seen.append((person, client, list(scopes)))
        scopes.clear()  # its own copy
        return ["write", "read", "unasked"]

    asked = ["read", "admin", "write"]
    assert await policy(hook=hook).filter_grantable(ALICE, client(), asked) == ["read", "write"]
    assert seen == [(ALICE, client(), asked)]
    assert await policy().filter_grantable(ALICE, client(), asked) == asked


@pytest.mark.parametrize(
    ("asked", "answer"), [(["read"], []), (["read"], ["write"]), (["read", "write"], ["admin"])]
)
async def test_a_hook_that_leaves_nothing_denies_access(
    asked: list[str], answer: list[str]
) -> None:
    with pytest.raises(
        AccessDenied, match=r"^This account is not allowed to grant what the application asks for$"
    ):
        await policy(hook=lambda *_: answer).filter_grantable(ALICE, client(), asked)


async def test_a_hook_leaves_nothing_of_nothing() -> None:
    assert await policy([], [], hook=lambda *_: []).filter_grantable(ALICE, client(), []) == []


async def test_who_has_granted_nothing_may_still_grant_that() -> None:
    scopes = policy([], [], hook=lambda *_: [])
    assert await scopes.filter_still_grantable(ALICE, client(), [], []) == []


async def test_a_hook_that_raises_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ServerUnavailable):
        await policy(hook=lambda *_: 1 / 0).filter_grantable(ALICE, client(), ["read"])
    assert caplog.messages == [
        "grant_scopes raised ZeroDivisionError: no decision, the client may try again"
    ]


@rows("answer", [None, "read", [5], ["not one scope"], 5])
async def test_a_hook_that_returns_no_scopes_is_the_operator_s_mistake(answer: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^grant_scopes returned something that"):
        await policy(hook=lambda *_: answer).filter_grantable(ALICE, client(), ["read"])


@rows(
    ("granted", "asked", "limit", "found"),
    [
        (["read", "write"], None, None, ["read", "write"]),
        (["read", "write"], "write", None, ["write"]),
        (["read", "write"], "write read write", None, ["write", "read"]),
        (["admin"], "read", None, ["read"]),
        (["admin"], "read admin", None, ["read", "admin"]),
        (["read", "gone"], None, None, ["read"]),
        (["read", "admin"], None, "write", ["read"]),
        (["read", "offline_access"], None, "read", ["read", "offline_access"]),
        ([], None, None, []),
        ([], " ", None, []),
        ([], "unknown", None, []),
        (["read"], " ", None, ["read"]),
        (["read"], "read unknown", None, ["read"]),
        (["read"], "unknown", None, InvalidScope),
        (["read"], "read offline_access", None, InvalidScope),
        (["read"], "write", None, InvalidScope),
        (["read"], "read write", None, InvalidScope),
        (["read", "gone"], "gone", None, InvalidScope),
        ([], "read", None, InvalidScope),
        (["gone"], None, None, InvalidGrant),
        (["gone"], "gone", None, InvalidGrant),
        (["gone"], " ", None, InvalidGrant),
        (["read", "gone"], "read gone", None, ["read"]),
        (["admin"], None, "read", InvalidGrant),
    ],
)
async def test_what_a_token_of_a_grant_gets(
    granted: list[str], asked: str | None, limit: str | None, found: Any
) -> None:
    scopes = policy(hierarchy=HIERARCHY)
    if isinstance(found, list):
        assert scopes.narrow(asked, granted, client(limit)) == found
    else:
        with pytest.raises(found):
            scopes.narrow(asked, granted, client(limit))
