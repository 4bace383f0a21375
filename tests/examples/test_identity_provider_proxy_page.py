"""docs/identity-provider-proxy.md: its code runs, and its proxies do what the page says."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from asgi_mcp_auth import MCPAuthMiddleware
from asgi_mcp_auth.proxy import OIDCProxy, UpstreamIdentity, UpstreamRules
from asgi_mcp_auth.server import ServerOptions
from asgi_mcp_auth.testing import FrozenClock
from tests.examples.at_the_provider import AtTheProvider
from tests.examples.pages import BASE_URL, ROOT, python_blocks, run_blocks, run_page, serving_blocks
from tests.interop.clients import python_sdk
from tests.support.asgi import Spy
from tests.support.authorization_server import Browser, ClientOf, Page, Server, answer_of
from tests.support.upstream import CLIENT_SECRET, Upstream

# as it is named in the list of pages: "docs/identity-provider-proxy.md"
PAGE = "docs/identity-provider-proxy.md"
TEN_LINES, OAUTH, WHO_MAY, PERSON_HOOK, CALL_APIS, TENANTS, BESIDE = python_blocks(PAGE)

pytestmark = pytest.mark.asyncio


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as provider:
        provider.people = {
            "alice": {
                "email": "alice@example.com",
                "email_verified": True,
                "groups": ["staff"],
                "name": "Alice",
            },
            "bob": {"email": "bob@example.com", "groups": ["staff"]},
            "carol": {"email": "carol@example.com", "email_verified": True, "groups": ["guests"]},
        }
        yield provider


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for the database, which is made in the working directory, and the setting that the
    page reads.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIENT_SECRET", CLIENT_SECRET)


@pytest.fixture
def page(upstream: Upstream) -> ModuleType:
    return run_page(PAGE, upstream.issuer)


@asynccontextmanager
async def opened(provider: Any, app: MCPAuthMiddleware | None = None) -> AsyncIterator[Server]:
    """Run a provider of the page, a spy behind it."""
    spy = Spy()
    app = app or MCPAuthMiddleware(spy, provider, mcp_path="/mcp")
    app.app = spy
    async with app.provider:
        yield Server(provider, app, spy, FrozenClock(), [])


async def depart(browser: Browser, client: ClientOf, **parameters: str) -> str:
    """Consent; return where the browser is sent upstream."""
    page = await browser.open(client.authorization_url(**parameters))
    return (await browser.submit(page, action="approve")).url


async def sign_in(upstream: Upstream, client: ClientOf, user: str = "alice") -> Page:
    """Sign in; return what comes up, which is the client's URL where all goes well."""
    browser = client.server.browser()
    return await browser.open(upstream.approve(await depart(browser, client), user))


async def tokens_for(upstream: Upstream, client: ClientOf, user: str = "alice") -> dict[str, Any]:
    response = await client.redeem(answer_of((await sign_in(upstream, client, user)).url)["code"])
    assert response.status == 200, response.body
    tokens: dict[str, Any] = response.json()
    return tokens


async def said_of(server: Server, access_token: str) -> Any:
    """Return what the app behind learns of a caller."""
    assert (await server.call("POST", "/mcp", bearer=access_token)).status == 200
    return server.spy.scopes[-1]["access_token"]


def new_proxy(upstream: Upstream, **rules: Any) -> OIDCProxy:
    """Return a proxy by the upstream's clock, with rules that the page only talks about."""
    return OIDCProxy(
        issuer=upstream.issuer,
        client_id="the-proxy",
        client_secret=CLIENT_SECRET,
        base_url=BASE_URL,
        upstream=UpstreamRules(**rules),
        options=ServerOptions(clock=upstream.clock),
    )


async def test_ten_lines_sign_people_in_at_the_provider(
    upstream: Upstream, page: ModuleType
) -> None:
    async with opened(page.provider) as server:
        client, browser = await server.register(), server.browser()
        asked = upstream.asked(await depart(browser, client))
        assert asked["redirect_uri"] == f"{BASE_URL}/auth/callback"
        assert asked["scope"] == "openid email offline_access"
        assert {"nonce", "code_challenge"} <= asked.keys()
        tokens = await tokens_for(upstream, client)
        access = await said_of(server, tokens["access_token"])
        assert (access.subject, access.scopes) == (f"{upstream.issuer}|alice", ["notes:read"])
        assert not any(token in str(tokens) for token in upstream.access)


async def test_left_out_the_provider_is_asked_for_openid_and_our_scopes(upstream: Upstream) -> None:
    code = TEN_LINES.replace('    upstream_scopes=["openid", "email", "offline_access"],\n', "")
    async with opened(run_blocks([code], upstream.issuer, page=PAGE).provider) as server:
        asked = upstream.asked(await depart(server.browser(), await server.register()))
    assert asked["scope"] == "openid notes:read"


async def test_without_openid_connect_the_profile_says_who_it_is(upstream: Upstream) -> None:
    code = TEN_LINES + OAUTH
    for theirs, ours in {
        "https://github.com/login/oauth/authorize": f"{upstream.issuer}/authorize",
        "https://github.com/login/oauth/access_token": f"{upstream.issuer}/token",
        "https://api.github.com/user": f"{upstream.issuer}/userinfo",
    }.items():
        assert theirs in code
        code = code.replace(theirs, ours)
    upstream.people["alice"]["id"] = 1001
    async with opened(run_blocks([code], upstream.issuer, page=PAGE).oauth_provider) as server:
        client = await server.register()
        assert upstream.asked(await depart(server.browser(), client))["scope"] == "read:user"
        access = await said_of(server, (await tokens_for(upstream, client))["access_token"])
        assert access.subject == f"{upstream.issuer}|1001"


@pytest.mark.parametrize(
    ("user", "may"),
    [("alice", True), ("bob", False), ("carol", False)],
    ids=["fits", "unverified", "another group"],
)
async def test_who_may_come_in(
    upstream: Upstream, page: ModuleType, user: str, *, may: bool
) -> None:
    async with opened(page.staff_only) as server:
        client = await server.register()
        seen = await sign_in(upstream, client, user)
        if may:
            tokens = (await client.redeem(answer_of(seen.url)["code"])).json()
            claims = (await said_of(server, tokens["access_token"])).claims
            assert (claims["email"], claims["groups"]) == ("alice@example.com", ["staff"])
        else:
            assert seen.response.status == 403
            assert "Ask the help desk: help@example.com." in seen.text
            assert "error=access_denied" in seen.text


async def test_an_organisation_s_account_at_google_counts_as_verified(
    upstream: Upstream, page: ModuleType
) -> None:
    upstream.people["dora"] = {"hd": "example.com", "groups": ["staff"]}
    async with opened(page.staff_only) as server:
        assert "code=" in (await sign_in(upstream, await server.register(), "dora")).url


async def test_a_function_finds_the_person_or_none(page: ModuleType) -> None:
    def identity(subject: str) -> UpstreamIdentity:
        return UpstreamIdentity(
            issuer="https://idp.example.com", subject=subject, claims={"name": "Alice"}
        )

    known = await page.find_person(identity("248289761001"))
    assert (known.subject, known.name) == ("employee-17", "Alice")
    assert await page.find_person(identity("alice")) is None


@pytest.mark.parametrize(("user", "status"), [("248289761001", 303), ("bob", 403)])
async def test_the_function_decides_after_the_lists(
    upstream: Upstream, page: ModuleType, user: str, status: int
) -> None:
    proxy = new_proxy(upstream, person=page.find_person)
    async with opened(proxy) as server:
        assert (await sign_in(upstream, await server.register(), user)).response.status == status


async def test_a_tool_calls_the_provider(upstream: Upstream) -> None:
    with serving_blocks([TEN_LINES, CALL_APIS], upstream.issuer, PAGE) as base:
        async with python_sdk(f"{base}/mcp", AtTheProvider(upstream)) as client:
            assert await client.call("whoami") == f"You are {upstream.issuer}|alice."
            assert await client.call("my_email") == "alice@example.com"


async def test_the_grant_ends_with_the_sign_in_upstream(
    upstream: Upstream, page: ModuleType
) -> None:
    upstream.expires_in = 0
    async with opened(page.provider) as server:
        client = await server.register()
        tokens = await tokens_for(upstream, client)
        upstream.end("alice")
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
        refused = await client.refresh(tokens["refresh_token"])
        assert (refused.status, refused.json()["error"]) == (400, "invalid_grant")
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401


async def test_a_grant_that_ends_here_is_given_back(upstream: Upstream, page: ModuleType) -> None:
    async with opened(page.provider) as server:
        await tokens_for(upstream, await server.register())
        await page.provider.admin.revoke_person(f"{upstream.issuer}|alice")
    assert len(upstream.revoked) == 1


async def test_a_tool_whose_sign_in_has_ended_leads_to_a_new_one(
    upstream: Upstream,
) -> None:
    upstream.expires_in = 0
    with serving_blocks([TEN_LINES, CALL_APIS], upstream.issuer, PAGE) as base:
        async with python_sdk(f"{base}/mcp", AtTheProvider(upstream)) as client:
            assert await client.call("my_email") == "alice@example.com"
            upstream.end("alice")
            assert await client.call("my_email") == "alice@example.com"
            assert client.sign_ins == 2


@pytest.mark.parametrize("keep", [True, False])
async def test_without_a_refresh_token_the_grant_ends_unless_nothing_is_kept(
    upstream: Upstream, *, keep: bool
) -> None:
    clock = FrozenClock()
    upstream.clock, upstream.refreshes = clock, False
    async with opened(new_proxy(upstream, keep_tokens=keep)) as server:
        client = await server.register()
        tokens = await tokens_for(upstream, client)
        clock.advance(3600)
        answer = await client.refresh(tokens["refresh_token"])
    assert answer.status == (400 if keep else 200), answer.body


@pytest.mark.parametrize(
    ("tenant", "may"), [("tenant-a", True), ("tenant-b", True), ("tenant-c", False)]
)
async def test_only_tenants_that_are_named_come_in(
    upstream: Upstream, page: ModuleType, tenant: str, *, may: bool
) -> None:
    issuer = f"{upstream.issuer}/{tenant}"
    upstream.id_token = {"iss": issuer}
    async with opened(page.tenants) as server:
        client, browser = await server.register(), server.browser()
        back = await browser.open(upstream.approve(await depart(browser, client), iss=None))
        answer = answer_of(back.url)
        assert ("code" in answer, answer.get("error")) == (may, None if may else "server_error")
        if may:
            tokens = (await client.redeem(answer["code"])).json()
            assert (await said_of(server, tokens["access_token"])).subject == f"{issuer}|alice"


async def test_tokens_of_the_provider_come_in_beside_if_they_are_made_for_this_server(
    upstream: Upstream, page: ModuleType
) -> None:
    async with opened(page.provider, page.beside) as server:
        client = await server.register()
        ours = await said_of(server, (await tokens_for(upstream, client))["access_token"])
        theirs = await said_of(
            server, upstream.mint(aud=f"{BASE_URL}/mcp", scope="notes:read", sub="a-machine")
        )
        assert (ours.claims["iss"], theirs.claims["iss"]) == (BASE_URL, upstream.issuer)
        assert theirs.subject == "a-machine"
        foreign = [
            upstream.mint(aud=aud, scope="notes:read")
            for aud in ("https://other.example.com", "the-proxy")
        ]
        for token in (*foreign, *upstream.access):
            assert (await server.call("POST", "/mcp", bearer=token)).status == 401
        document = (await server.call("GET", "/.well-known/oauth-protected-resource/mcp")).json()
        assert document["authorization_servers"] == [BASE_URL]


async def test_what_is_wrong_is_in_the_log_as_the_page_says(
    upstream: Upstream, page: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    text = (ROOT / PAGE).read_text()
    with caplog.at_level("INFO", "asgi_mcp_auth.proxy"):
        async with opened(page.provider) as server:
            client, browser = await server.register(), server.browser()
            await browser.open(upstream.refuse(await depart(browser, client), "invalid_scope"))
            upstream.id_token = {"iss": "https://other.example.com"}
            await sign_in(upstream, client)
        async with opened(
            page.OIDCProxy(issuer=upstream.issuer, client_id="other", base_url=BASE_URL)
        ) as server:
            await sign_in(upstream, await server.register())
    said = {
        record.levelname: record.getMessage()
        for record in caplog.records
        if "invalid_scope" in record.getMessage()
    }
    assert said == {"INFO": "The identity provider answered a sign-in with an error: invalid_scope"}
    for words in (
        "answered a sign-in with an error: invalid_scope",
        "the ID token is invalid (issuer)",
        "refuses the proxy: HTTP 401, invalid_client",
    ):
        assert f"`{words}` in the log" in text
        assert words in caplog.text


async def test_who_comes_back_twice_or_in_another_browser_sees_what_the_page_quotes(
    upstream: Upstream, page: ModuleType
) -> None:
    text = (ROOT / PAGE).read_text()
    async with opened(page.provider) as server:
        browser = server.browser()
        callback = upstream.approve(await depart(browser, await server.register()))
        elsewhere = await server.browser().open(callback)
        await browser.open(callback)
        again = await browser.open(callback)
    for seen in (elsewhere, again):
        quoted = re.findall(r"“([^”]*)”", text)
        assert any(words in seen.text for words in quoted), seen.text


async def test_a_person_with_too_many_groups_cannot_sign_in(upstream: Upstream) -> None:
    upstream.people["alice"]["groups"] = [f"group-{number:040}" for number in range(100)]
    async with opened(new_proxy(upstream, claims=["groups"])) as server:
        assert (
            answer_of((await sign_in(upstream, await server.register())).url)["error"]
            == "server_error"
        )
