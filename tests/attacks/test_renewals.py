"""Access is decided at each renewal, by the provider's latest answer and the current settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asgi_mcp_auth import InvalidToken, ServerUnavailable
from asgi_mcp_auth.errors import AccessDenied
from asgi_mcp_auth.proxy import Person, UpstreamIdentity, UpstreamRules
from asgi_mcp_auth.server import Client, Registration
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from asgi_mcp_auth.tokens import SCOPE_KEY
from tests.support.authorization_server import (
    CONFIDENTIAL,
    KEY,
    ClientOf,
    Server,
    Trusting,
    deploy,
    memory_store,
)
from tests.support.failing import FailingStore
from tests.support.proxy import KINDS, code_of, deploy_proxy, tokens_for, upstream_token
from tests.support.upstream import Upstream

pytestmark = pytest.mark.asyncio

STAFF = {"groups": ["staff"], "email": "alice@example.com", "email_verified": True}
OUTSIDE = [
    pytest.param({"groups": ["visitors"]}, id="another group"),
    pytest.param({"groups": []}, id="no group"),
    pytest.param({"email": "alice@elsewhere.example"}, id="another domain"),
    pytest.param({"email_verified": False}, id="an address that is not verified any more"),
]
RULES: dict[str, Any] = {
    "allowed_domains": ["example.com"],
    "allowed_claims": {"groups": ["staff"]},
}
UPSTREAM_SECONDS = 3600


@pytest.fixture
def staffed() -> Iterator[Upstream]:
    """A provider at which Alice is of the staff; its clock stands still."""
    with Upstream(clock=FrozenClock()) as upstream:
        upstream.people["alice"] = dict(STAFF)
        yield upstream


def deny(identity: UpstreamIdentity) -> Person:
    """Refuse every person, as a custom login step does."""
    raise AccessDenied


async def is_out(
    server: Server, client: ClientOf, tokens: dict[str, Any], reason: str = "not_allowed"
) -> None:
    """Check that a refresh ends the grant, for this reason, with all its tokens."""
    server.events.clear()
    response = await client.refresh(tokens["refresh_token"])
    assert (response.status, response.json()["error"]) == (400, "invalid_grant")
    assert [each.reason for each in server.events if each.action == "grant_revoked"] == [reason]
    assert server.reasons() == [reason]
    assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401
    assert [each async for each in server.provider.admin.grants()] == []
    assert await server.provider.store.scan("upstream") == []


def there(server: Server, client: ClientOf) -> ClientOf:
    """Return the client as it talks to a server that has been restarted."""
    return ClientOf(server, client.information, client.verifier)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", OUTSIDE)
async def test_who_may_not_come_in_any_more_is_out_when_the_provider_says_so(
    staffed: Upstream, kind: str, change: dict[str, Any]
) -> None:
    async with deploy_proxy(staffed, kind, upstream=UpstreamRules(**RULES)) as server:
        client = await server.register()
        tokens = await tokens_for(staffed, client)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        staffed.people["alice"] |= change
        server.clock.advance(UPSTREAM_SECONDS - 10)
        await is_out(server, client, tokens)


async def test_a_claim_that_refreshed_tokens_leave_out_is_gone(staffed: Upstream) -> None:
    """Who is in no group any more has no such claim at many a provider."""
    async with deploy_proxy(staffed, upstream=UpstreamRules(**RULES)) as server:
        client = await server.register()
        tokens = await tokens_for(staffed, client)
        del staffed.people["alice"]["groups"]
        server.clock.advance(UPSTREAM_SECONDS - 10)
        await is_out(server, client, tokens)


async def test_what_only_the_userinfo_endpoint_says_is_as_old_as_the_sign_in(
    staffed: Upstream,
) -> None:
    """It is not asked again: refreshed ID tokens that leave out the groups end nothing there."""
    staffed.id_token = {"groups": None, "email": None, "email_verified": None}
    async with deploy_proxy(
        staffed, upstream=UpstreamRules(**RULES, userinfo=True, claims=["groups"])
    ) as server:
        client = await server.register()
        tokens = await tokens_for(staffed, client)
        server.clock.advance(UPSTREAM_SECONDS - 10)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        assert await claims_of(server, tokens, "groups") == ["staff"]
        staffed.id_token = {"groups": ["visitors"], "email": None, "email_verified": None}
        server.clock.advance(UPSTREAM_SECONDS - 10)
        await is_out(server, client, tokens)


async def test_a_new_address_is_not_verified_by_userinfo_about_another(
    staffed: Upstream,
) -> None:
    rules = UpstreamRules(allowed_domains=["board.example"], userinfo=True)
    staffed.people["alice"]["email"] = "alice@board.example"
    staffed.id_token = {"email": None, "email_verified": None}
    async with deploy_proxy(staffed, upstream=rules) as server:
        client = await server.register()
        tokens = await tokens_for(staffed, client)
        staffed.id_token = {"email": "mallory@board.example", "email_verified": None}
        server.clock.advance(UPSTREAM_SECONDS - 10)
        await client.refresh(tokens["refresh_token"])
        ((_, record),) = await server.provider.store.scan("upstream")
        kept = json.loads(record.value)["identity"]["claims"]
        assert (kept["email"], kept["email_verified"]) == ("alice@board.example", True)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_tools_token_is_not_refreshed_for_a_person_who_is_no_longer_allowed(
    staffed: Upstream, kind: str
) -> None:
    async with deploy_proxy(staffed, kind, upstream=UpstreamRules(**RULES)) as server:
        client = await server.register()
        tokens = await tokens_for(staffed, client)
        staffed.people["alice"] |= {"groups": []}
        server.clock.advance(UPSTREAM_SECONDS - 10)
        with pytest.raises(InvalidToken):
            await upstream_token(server, tokens["access_token"])
        assert [each.reason for each in server.events if each.action == "grant_revoked"] == [
            "not_allowed"
        ]
        assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("keep_tokens", [True, False])
@pytest.mark.parametrize(
    "narrower",
    [
        {"allowed_domains": ["other.example"]},
        {"allowed_claims": {"groups": ["board"]}},
        {"person": lambda identity: None},
        {"person": lambda identity: "no Person"},
        {"person": deny},
        {"claims": ["much"]},
    ],
)
async def test_after_a_restart_the_settings_of_that_day_decide_about_what_is_known(
    staffed: Upstream, narrower: dict[str, Any], keep_tokens: bool
) -> None:
    """The provider is not asked, and has nothing to say."""
    staffed.people["alice"] |= {"much": "x" * 5000}
    store = memory_store(staffed.clock)
    async with deploy_proxy(
        staffed, store=store, upstream=UpstreamRules(keep_tokens=keep_tokens)
    ) as before:
        client = await before.register()
        tokens = await tokens_for(staffed, client)
    asked = len(staffed.requests)
    rules = UpstreamRules(keep_tokens=keep_tokens, **narrower)
    async with deploy_proxy(staffed, store=store, upstream=rules) as after:
        await is_out(after, there(after, client), tokens)
        assert len(staffed.requests) == asked


async def test_a_code_of_a_person_who_is_no_longer_allowed_begins_no_grant(
    staffed: Upstream,
) -> None:
    turned_away: list[str] = []

    async def person(identity: UpstreamIdentity) -> Person | None:
        return None if turned_away else Person(subject="employee-17")

    async with deploy_proxy(staffed, upstream=UpstreamRules(person=person)) as server:
        client = await server.register()
        code = await code_of(staffed, client)
        turned_away.append("alice")
        assert (await client.redeem(code)).json()["error"] == "invalid_grant"
        assert server.reasons() == ["not_allowed"]
        assert await server.provider.store.scan("upstream") == []


async def claims_of(server: Server, tokens: dict[str, Any], name: str) -> Any:
    """Return a claim of an access token, as the app sees it."""
    assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
    return server.spy.scopes[-1][SCOPE_KEY].claims.get(name)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_next_token_says_what_the_provider_says_now(staffed: Upstream, kind: str) -> None:
    rules = UpstreamRules(claims=["groups", "email"])
    async with deploy_proxy(staffed, kind, upstream=rules) as server:
        client = await server.register()
        tokens = await tokens_for(staffed, client)
        assert await claims_of(server, tokens, "groups") == ["staff"]
        staffed.people["alice"]["groups"] = ["staff", "board"]
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        assert await claims_of(server, tokens, "groups") == ["staff"]
        server.clock.advance(UPSTREAM_SECONDS - 10)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        assert await claims_of(server, tokens, "groups") == ["staff", "board"]
        ((_, grant),) = [each async for each in server.provider.admin.grants()]
        assert grant.person is not None
        assert grant.person.claims["groups"] == ["staff", "board"]
        # And after the next one, which asks the provider nothing.
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        assert await claims_of(server, tokens, "groups") == ["staff", "board"]
        del staffed.people["alice"]["groups"]
        server.clock.advance(UPSTREAM_SECONDS - 10)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        assert await claims_of(server, tokens, "groups") is None


async def test_a_claim_that_is_copied_from_today_on_is_in_the_next_token(staffed: Upstream) -> None:
    store = memory_store(staffed.clock)
    async with deploy_proxy(staffed, store=store) as before:
        client = await before.register()
        tokens = await tokens_for(staffed, client)
    async with deploy_proxy(
        staffed, store=store, upstream=UpstreamRules(claims=["email"])
    ) as after:
        tokens = (await there(after, client).refresh(tokens["refresh_token"])).json()
        assert await claims_of(after, tokens, "email") == "alice@example.com"


@pytest.mark.case("P15")
async def test_a_person_whose_identity_has_changed_is_signed_out(staffed: Upstream) -> None:
    """Their grant never becomes another person's."""
    number = 17

    async def person(identity: UpstreamIdentity) -> Person:
        return Person(subject=f"employee-{number}")

    async with deploy_proxy(staffed, upstream=UpstreamRules(person=person)) as server:
        client = await server.register()
        tokens = await tokens_for(staffed, client)
        number = 18
        await is_out(server, client, tokens, "sign_in_ended")


@pytest.mark.case("P15")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_tool_gets_no_token_of_a_person_whose_identity_has_changed(
    staffed: Upstream, kind: str
) -> None:
    number = 17

    async def person(identity: UpstreamIdentity) -> Person:
        return Person(subject=f"employee-{number}")

    async with deploy_proxy(staffed, kind, upstream=UpstreamRules(person=person)) as server:
        client = await server.register()
        tokens = await tokens_for(staffed, client)
        number = 18
        server.clock.advance(UPSTREAM_SECONDS - 10)
        with pytest.raises(InvalidToken):
            await upstream_token(server, tokens["access_token"])
        assert [each.reason for each in server.events if each.action == "grant_revoked"] == [
            "sign_in_ended"
        ]


class DirectoryDown(Exception):
    """An exception of the application's own code."""


@pytest.mark.parametrize(
    "error", [DirectoryDown, KeyError, TimeoutError, lambda: ServerUnavailable(7)]
)
async def test_a_hook_that_raises_decides_nothing(
    staffed: Upstream, error: Callable[[], Exception]
) -> None:
    """503, and the same refresh token works when the directory is back; a tool gets the same
    answer.
    """
    is_down = False

    async def person(identity: UpstreamIdentity) -> Person:
        if is_down:
            raise error()
        return Person(subject=identity.subject)

    async with deploy_proxy(staffed, upstream=UpstreamRules(person=person)) as server:
        client = await server.register()
        tokens = await tokens_for(staffed, client)
        is_down = True
        for seconds in (0, UPSTREAM_SECONDS - 10):
            server.clock.advance(seconds)
            assert (await client.refresh(tokens["refresh_token"])).status == 503
        # what was refreshed meanwhile is not given out before a decision either
        for _ in range(2):
            with pytest.raises(ServerUnavailable):
                await upstream_token(server, tokens["access_token"])
        is_down = False
        assert await upstream_token(server, tokens["access_token"]) in staffed.access
        assert (await client.refresh(tokens["refresh_token"])).status == 200
        assert staffed.reused == []


async def test_without_kept_tokens_nothing_of_the_provider_s_is_kept_but_who_it_was(
    staffed: Upstream,
) -> None:
    async with deploy_proxy(staffed, upstream=UpstreamRules(keep_tokens=False)) as server:
        await tokens_for(staffed, await server.register())
        ((_, record),) = await server.provider.store.scan("upstream")
        kept = json.loads(record.value)
        assert (kept["access_token"], kept["refresh_token"], kept["id_token"]) == ("", None, None)
        assert kept["identity"]["claims"]["email"] == "alice@example.com"
        assert not [
            token
            for token in (*staffed.access, *staffed._sessions)
            if token.encode() in record.value
        ]


async def test_a_usual_refresh_asks_the_store_no_more_than_before_and_the_provider_nothing(
    staffed: Upstream,
) -> None:
    store = FailingStore(MemoryStore(clock=staffed.clock))
    async with deploy_proxy(
        staffed, store=EncryptedStore(store, [KEY]), upstream=UpstreamRules(**RULES)
    ) as server:
        client = await server.register()
        tokens = await tokens_for(staffed, client)
        server.clock.advance(20)
        store.calls.clear()
        asked = len(staffed.requests)
        assert (await client.refresh(tokens["refresh_token"])).status == 200
        assert len(staffed.requests) == asked
        assert [(verb, ns.partition("@")[0]) for verb, ns, *_ in store.calls] == [
            ("get", "client"),
            ("get", "grant"),
            ("get", "upstream"),
            ("get", "upstream"),
            ("swap", "upstream"),
            ("swap", "grant"),
        ]


# ----------------------------------------------------------------------------- scopes, other logins


@pytest.mark.case("Z80")
@pytest.mark.parametrize("rotates", [True, False])
async def test_a_scope_that_was_taken_away_is_gone_from_the_next_token(rotates: bool) -> None:
    """Also for a client that asks for the same scopes each time, as mcp-remote does: it gets what
    is left.
    """
    may = {"mcp:read", "mcp:write"}
    asked: list[list[str]] = []

    async def grant_scopes(person: Person, client: Client, scopes: list[str]) -> list[str]:
        asked.append(scopes)
        return [each for each in scopes if each in may]

    options = {"grant_scopes": grant_scopes, "rotate_confidential": rotates}
    async with deploy(options=options, registration=Registration(clients=[CONFIDENTIAL])) as server:
        client = server.known(CONFIDENTIAL)
        tokens = await client.sign_in(scope="mcp:read mcp:write")
        may.remove("mcp:write")
        for scope in (None, "mcp:read mcp:write"):
            response = await client.refresh(tokens["refresh_token"], scope=scope)
            assert (response.status, response.json()["scope"]) == (200, "mcp:read")
            tokens = response.json()
        assert asked[-1] == ["mcp:read", "mcp:write"]
        response = await client.refresh(tokens["refresh_token"], scope="mcp:write")
        assert response.json()["error"] == "invalid_scope"
        may.add("mcp:write")  # the person has granted it, and may again
        assert (await client.refresh(tokens["refresh_token"])).json()[
            "scope"
        ] == "mcp:read mcp:write"


@pytest.mark.case("Z80")
@pytest.mark.parametrize("answer", [[], AccessDenied])
async def test_who_may_grant_nothing_any_more_has_no_grant(answer: Any) -> None:
    is_over = False

    async def grant_scopes(person: Person, client: Client, scopes: list[str]) -> list[str]:
        if is_over and answer == AccessDenied:
            raise AccessDenied
        return [] if is_over else scopes

    async with deploy(options={"grant_scopes": grant_scopes}) as server:
        client = await server.register()
        tokens = await client.sign_in()
        is_over = True
        await is_out(server, client, tokens, "nothing_left")


async def test_a_scope_that_another_one_includes_stays_with_it() -> None:
    async def grant_scopes(person: Person, client: Client, scopes: list[str]) -> list[str]:
        return scopes

    options = {"grant_scopes": grant_scopes, "scope_hierarchy": {"mcp:write": ["mcp:read"]}}
    async with deploy(options=options) as server:
        client = await server.register()
        tokens = await client.sign_in(scope="mcp:write")
        assert (await client.refresh(tokens["refresh_token"], scope="mcp:read")).json()[
            "scope"
        ] == "mcp:read"


async def test_a_scope_hook_that_raises_decides_nothing() -> None:
    is_down = False

    def grant_scopes(person: Person, client: Client, scopes: list[str]) -> list[str]:
        if is_down:
            raise DirectoryDown
        return scopes

    async with deploy(options={"grant_scopes": grant_scopes}) as server:
        client = await server.register()
        tokens = await client.sign_in()
        is_down = True
        assert (await client.refresh(tokens["refresh_token"])).status == 503
        is_down = False
        assert (await client.refresh(tokens["refresh_token"])).status == 200


class Directory(Trusting):
    """A custom login step, which identifies the person again at each renewal."""

    def __init__(self) -> None:
        super().__init__()
        self.now: Person | None = None
        self.asked: list[Person] = []

    async def reauthorize(self, person: Person, seconds: float) -> Person | None:
        self.asked.append(person)
        return self.now


@pytest.mark.parametrize("rotates", [True, False])
async def test_a_login_step_of_ones_own_changes_what_tokens_say_and_never_whose_they_are(
    rotates: bool,
) -> None:
    login = Directory()
    options = {"rotate_confidential": rotates}
    async with deploy(
        login=login, options=options, registration=Registration(clients=[CONFIDENTIAL])
    ) as server:
        client = server.known(CONFIDENTIAL)
        tokens = await client.sign_in()
        assert await claims_of(server, tokens, "role") is None
        login.now = Person(subject="alice", claims={"role": "author"})
        again = [(await client.refresh(tokens["refresh_token"])).json() for _ in range(2)]
        assert [await claims_of(server, each, "role") for each in again] == ["author", "author"]
        assert again[0]["refresh_token"] == again[1]["refresh_token"]
        await client.refresh(again[0]["refresh_token"])
        assert login.asked[-1] == login.now
        login.now = Person(subject="mallory")
        await is_out(server, client, again[0], "sign_in_ended")


async def test_what_a_login_step_says_at_the_redemption_is_in_the_first_token() -> None:
    login = Directory()
    login.now = Person(subject="alice", claims={"role": "author"})
    async with deploy(login=login) as server:
        tokens = await (await server.register()).sign_in()
        assert await claims_of(server, tokens, "role") == "author"


# --------------------------------------------------------------------- sign-ins of the first builds


async def as_the_first_builds_kept_it(server: Server) -> None:
    """Write the tokens of the one sign-in down as the builds did that did not keep what the
    provider had said.
    """
    ((key, record),) = await server.provider.store.scan("upstream")
    members = json.loads(record.value)
    identity = members.pop("identity")
    for name in ("answered_at", "is_claimed", "unknown_since", "turn"):
        del members[name]
    before = {
        "issuer": identity["issuer"],
        "subject": identity["subject"],
        **members,
        "leased_until": 0,
        "settled_until": 0,
    }
    await server.provider.store.put("upstream", key, json.dumps(before).encode())


@pytest.mark.parametrize("kind", KINDS)
async def test_sign_ins_of_the_first_builds_last_until_the_provider_reports_on_them(
    staffed: Upstream, kind: str
) -> None:
    rules = UpstreamRules(**RULES, claims=["groups"])
    async with deploy_proxy(staffed, kind, upstream=rules) as server:
        client = await server.register()
        tokens = await tokens_for(staffed, client)
        await as_the_first_builds_kept_it(server)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        assert await claims_of(server, tokens, "groups") == ["staff"]
        assert await upstream_token(server, tokens["access_token"])
        staffed.people["alice"]["groups"] = ["staff", "board"]
        server.clock.advance(UPSTREAM_SECONDS - 10)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        assert await claims_of(server, tokens, "groups") == ["staff", "board"]
        staffed.people["alice"]["groups"] = ["visitors"]
        server.clock.advance(UPSTREAM_SECONDS - 10)
        await is_out(server, client, tokens)


async def test_a_sign_in_of_the_first_builds_of_which_nothing_new_is_said_is_not_judged(
    staffed: Upstream,
) -> None:
    """The provider's earlier answer is unknown; taking it as empty would refuse every person."""
    async with deploy_proxy(staffed, upstream=UpstreamRules(**RULES)) as server:
        client = await server.register()
        tokens = await tokens_for(staffed, client)
        await as_the_first_builds_kept_it(server)
        staffed.refreshes_id_tokens = False
        for _ in range(2):
            server.clock.advance(UPSTREAM_SECONDS - 10)
            tokens = (await client.refresh(tokens["refresh_token"])).json()
            assert "access_token" in tokens


async def test_a_sign_in_of_the_first_builds_is_not_judged_by_half_of_what_was_said(
    staffed: Upstream,
) -> None:
    """The other half was at the userinfo endpoint, which is not asked again."""
    staffed.id_token = {"groups": None, "email": None, "email_verified": None}
    async with deploy_proxy(staffed, upstream=UpstreamRules(**RULES, userinfo=True)) as server:
        client = await server.register()
        tokens = await tokens_for(staffed, client)
        await as_the_first_builds_kept_it(server)
        server.clock.advance(UPSTREAM_SECONDS - 10)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        server.clock.advance(UPSTREAM_SECONDS - 10)
        assert (await client.refresh(tokens["refresh_token"])).status == 200
