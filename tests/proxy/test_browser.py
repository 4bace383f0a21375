"""People in a real browser sign in through the proxy at the identity provider, or are refused."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from asgi_mcp_auth.proxy import UpstreamRules
from tests.browser.stage import Scene, stage
from tests.proxy.upstreams.proxies import SCOPES, UPSTREAMS, proxy_for, subject_of
from tests.proxy.upstreams.upstream import Upstream
from tests.support.engines import free_port
from tests.support.products import once_each, some_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

WITH_A_NO = ["certified", "github"]
"""Those at which people can say no."""

ERRORS = {
    "server_error": "server_error",
    "temporarily_unavailable": "temporarily_unavailable",
    "invalid_scope": "server_error",
    "<script>alert(1)</script>": "server_error",
}
"""What an upstream may answer, and what the client hears."""


@asynccontextmanager
async def before(
    name: str, chromium: Browser, *, https: bool = False, **settings: Any
) -> AsyncIterator[tuple[Scene, Any]]:
    """Set up a stage whose people sign in at an upstream.

    Args:
        name: of the upstream.
        chromium: the browser.
        https: whether the proxy is https://mcp.example.com; otherwise http://localhost. Upstreams
            are 127.0.0.1, which is another site in both cases.
        settings: of the proxy.
    """
    port = free_port()
    base_url = f"https://mcp.example.com:{port}" if https else f"http://localhost:{port}"
    async with UPSTREAMS[name](callback=f"{base_url}/auth/callback") as upstream:
        kind, known = proxy_for(upstream)
        settings = {**known, "options": {"clock": time}, **settings}
        async with stage(chromium, https=https, kind=kind, port=port, **settings) as scene:
            yield scene, upstream


async def allow(page: Page) -> None:
    await page.get_by_role("button", name="Allow").click()


async def back_at_client(page: Page) -> None:
    await expect(page.get_by_role("heading", name="Back at the client")).to_be_visible()


def sent_to(scene: Scene, upstream: Upstream) -> list[str]:
    """Return the pages of the upstream that the browser was sent to so far."""
    return [each.url for each in scene.sent if each.url.startswith(upstream.origin)]


# ---------------------------------------------------------------------------------------- both hops


@pytest.mark.rule("PX-01")
@pytest.mark.parametrize(("name", "https"), once_each(UPSTREAMS, [False, True]))
async def test_a_person_consents_here_then_signs_in_upstream_and_gets_back_to_the_client(
    chromium: Browser, name: str, https: bool
) -> None:
    async with before(name, chromium, https=https) as (scene, upstream):
        client = await scene.client()
        page = await scene.open(client)
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Notes Assistant")
        # PX-02: what the provider will be asked for, and where the tokens go.
        for text in (", ".join(SCOPES[name]), "a program on this device (127.0.0.1:"):
            await expect(page.get_by_text(text)).to_be_visible()
        await scene.check(page, f"proxy-consent-{name}-{'https' if https else 'http'}")
        assert sent_to(scene, upstream) == []
        cookies = {each["name"] for each in await scene.context.cookies()}
        await allow(page)
        await page.wait_for_url(f"{upstream.origin}**")
        tied = [
            each
            for each in await scene.context.cookies(scene.base_url)
            if each["name"] not in cookies
        ]
        await upstream.use_pages(page)
        await back_at_client(page)
        response = await client.redeem(scene.answer()["code"])
        assert response.status == 200, response.body
        assert (
            await scene.server.call("POST", "/mcp", bearer=response.json()["access_token"])
        ).status == 200
        subject = scene.server.spy.scope["access_token"].subject
        assert (
            subject == subject_of(upstream)
            if name != "glewlwyd"
            else subject.startswith(f"{upstream.issuer}|")
        )
        # PX-03, PX-04: what ties the way back to this browser came only with the approval.
        assert tied
        assert all(
            each["httpOnly"] and each["sameSite"] == "Lax" and each["secure"] is https
            for each in tied
        )
        assert all(each["name"].startswith("__Host-") for each in tied if https)


@pytest.mark.case("P01")
@pytest.mark.parametrize("name", some_of(UPSTREAMS, "certified"))
async def test_who_is_signed_in_upstream_is_asked_here_all_the_same(
    chromium: Browser, name: str
) -> None:
    async with before(name, chromium) as (scene, upstream):
        page = await scene.open(await scene.client())
        await allow(page)
        await upstream.use_pages(page)
        await back_at_client(page)
        scene.answer()
        for _ in range(2):  # an unknown client, and the same one again
            scene.sent.clear()
            other = await scene.client(client_name="Stranger")
            await scene.open(other, page)
            await expect(page.get_by_role("heading", level=1)).to_contain_text("Stranger")
            assert sent_to(scene, upstream) == []
            assert scene.client_app.visits == []
        await allow(page)
        if name == "glewlwyd":
            # it asks who it is, every time
            await page.get_by_role("button", name="Continue").click()
        await back_at_client(page)
        assert "code" in scene.answer()


@pytest.mark.case("P03")
async def test_another_site_cannot_send_a_browser_through_both_hops(chromium: Browser) -> None:
    """With a client that was approved before, and a session upstream."""
    async with before("certified", chromium, https=True) as (scene, upstream):
        client = await scene.client(redirect_uris=[scene.web_redirect])
        page = await scene.open(client)
        await allow(page)
        await upstream.use_pages(page)
        await back_at_client(page)
        scene.answer()
        scene.sent.clear()
        await page.evaluate("url => { location.href = url; }", client.authorization_url())
        await expect(page.get_by_role("button", name="Allow")).to_be_visible()
        assert sent_to(scene, upstream) == []
        assert scene.client_app.visits == []


# ----------------------------------------------------------------------------------------------- no


@pytest.mark.rule("PX-01")
@pytest.mark.parametrize("name", some_of(UPSTREAMS, "certified"))
async def test_who_denies_here_is_not_sent_upstream(chromium: Browser, name: str) -> None:
    async with before(name, chromium) as (scene, upstream):
        page = await scene.open(await scene.client())
        await page.get_by_role("button", name="Deny").click()
        await back_at_client(page)
        answer = scene.answer()
        assert (answer["error"], answer["state"], answer["iss"]) == (
            "access_denied",
            "the-state",
            scene.base_url,
        )
        assert sent_to(scene, upstream) == []


@pytest.mark.rule("PX-09")
@pytest.mark.parametrize(
    ("name", "decision"), [("certified", "deny"), ("certified", "deny later"), ("github", "deny")]
)
async def test_who_denies_upstream_gets_back_to_the_client_with_an_error(
    chromium: Browser, name: str, decision: str
) -> None:
    async with before(name, chromium) as (scene, upstream):
        page = await scene.open(await scene.client())
        await allow(page)
        await upstream.use_pages(page, decision=decision)
        await back_at_client(page)
        answer = scene.answer()
        assert (answer["error"], answer["state"], answer["iss"]) == (
            "access_denied",
            "the-state",
            scene.base_url,
        )
        assert await upstream.requests() == []


@pytest.mark.case("P07")
@pytest.mark.parametrize(("error", "name"), once_each(ERRORS, WITH_A_NO))
async def test_an_error_of_the_upstream_is_an_error_for_the_client(
    chromium: Browser, error: str, name: str
) -> None:
    async with before(name, chromium) as (scene, upstream):
        await upstream.refuse(error=error, error_description="<img src=x onerror=alert(1)>")
        page = await scene.open(await scene.client())
        await allow(page)
        await back_at_client(page)
        answer = scene.answer()
        assert (answer["error"], answer["state"], answer["iss"]) == (
            ERRORS[error],
            "the-state",
            scene.base_url,
        )
        assert not set("<>") & set("".join(answer.values()))
        assert await upstream.requests() == []


@pytest.mark.case("P06")
async def test_an_answer_of_another_provider_is_refused(chromium: Browser) -> None:
    """The one that was asked promises to name itself (RFC 9207)."""
    async with before("certified", chromium) as (scene, upstream):
        await upstream.refuse(code="somebody-else-s", iss="https://other.example.com")
        page = await scene.open(await scene.client())
        await allow(page)
        await back_at_client(page)
        assert scene.answer()["error"] == "server_error"
        assert await upstream.requests() == []


async def test_who_may_not_come_in_reads_why_and_whom_to_ask(chromium: Browser) -> None:
    rules = UpstreamRules(allowed_domains=["example.org"], contact="Ask notes-admins@example.com.")
    async with before("certified", chromium, upstream=rules) as (scene, upstream):
        page = await scene.open(await scene.client())
        await allow(page)
        await upstream.use_pages(page, "alice")
        await expect(page.get_by_text("Ask notes-admins@example.com.")).to_be_visible()
        await scene.check(page, "proxy-not-allowed")
        assert scene.client_app.visits == []
        await page.get_by_role("link", name="Go back to").click()
        await back_at_client(page)
        assert scene.answer()["error"] == "access_denied"


# ------------------------------------------------------------------------------ unplanned behaviour


async def test_two_tabs_for_two_clients_go_through_both_hops_side_by_side(
    chromium: Browser,
) -> None:
    async with before("certified", chromium) as (scene, upstream):
        clients = [
            await scene.client(client_name="First"),
            await scene.client(client_name="Second"),
        ]
        first, second = [await scene.open(client) for client in clients]
        await allow(first)
        await expect(first.get_by_label("Account")).to_be_visible()
        await allow(second)
        await upstream.use_pages(second)
        await back_at_client(second)
        code_of_second = scene.answer()["code"]
        await upstream.use_pages(first)
        await back_at_client(first)
        for client, code in zip(clients, (scene.answer()["code"], code_of_second), strict=True):
            assert (await client.redeem(code)).status == 200
        subjects = {
            event.subject for event in scene.server.events if event.action == "token_issued"
        }
        assert subjects == {subject_of(upstream)}


@pytest.mark.case("Z43")
async def test_two_people_in_two_tabs_each_get_their_own(chromium: Browser) -> None:
    """Across both hops. The person who signed in in the first tab gave that tab's consent."""
    async with before("github", chromium) as (scene, upstream):
        clients = [
            await scene.client(client_name="First"),
            await scene.client(client_name="Second"),
        ]
        pages = [await scene.open(client) for client in clients]
        for page in pages:
            await allow(page)
            await expect(page.get_by_label("Username")).to_be_visible()
        for page, client, user in zip(pages, clients, ("alice", "bob"), strict=True):
            await upstream.use_pages(page, user)
            await back_at_client(page)
            tokens = (await client.redeem(scene.answer()["code"])).json()
            scene.server.spy.scopes.clear()
            await scene.server.call("POST", "/mcp", bearer=tokens["access_token"])
            assert scene.server.spy.scope["access_token"].subject == subject_of(upstream, user)


@pytest.mark.parametrize("name", some_of(WITH_A_NO, "certified"))
async def test_back_from_the_upstream_one_may_go_forward_again(
    chromium: Browser, name: str
) -> None:
    async with before(name, chromium) as (scene, upstream):
        client = await scene.client()
        page = await scene.open(client)
        await allow(page)
        await expect(page.get_by_role("textbox")).to_be_visible()
        await page.go_back()
        await expect(page).not_to_have_url(upstream.authorization_endpoint + "**")
        if not await page.get_by_role("textbox").count():
            await allow(page)
        await upstream.use_pages(page)
        await back_at_client(page)
        assert (await client.redeem(scene.answer()["code"])).status == 200


@pytest.mark.case("Z12", "P04")
@pytest.mark.parametrize("name", some_of(WITH_A_NO, "certified"))
async def test_the_back_button_after_both_hops_gives_no_second_code(
    chromium: Browser, name: str
) -> None:
    """The browser would show the consent page, the upstream's, or the callback again."""
    async with before(name, chromium) as (scene, upstream):
        client = await scene.client()
        page = await scene.open(client)
        await allow(page)
        await upstream.use_pages(page)
        await back_at_client(page)
        assert (await client.redeem(scene.answer()["code"])).status == 200
        callback = next(each.url for each in scene.sent if "/auth/callback" in each.url)
        consent = next(each.url for each in scene.sent if "/consent" in each.url)
        before_that = len(await upstream.requests())
        for url in (callback, consent):
            await page.goto(url)
            await expect(
                page.get_by_text("This page has expired, or was used before.")
            ).to_be_visible()
        await scene.check(page, f"proxy-expired-{name}")
        await page.go_back()
        await expect(page.get_by_role("button", name="Allow")).to_have_count(0)
        assert scene.client_app.visits == []
        assert len(await upstream.requests()) == before_that


@pytest.mark.case("P02")
@pytest.mark.parametrize("name", some_of(UPSTREAMS, "certified"))
async def test_another_browser_at_the_callback_gets_no_code(chromium: Browser, name: str) -> None:
    """Consent in one browser, the upstream's URL opened in another: login CSRF, were it to work."""
    async with before(name, chromium) as (scene, upstream):
        page = await scene.open(await scene.client())
        await allow(page)
        await page.wait_for_url(f"{upstream.origin}**")
        other = await chromium.new_context()
        other.set_default_timeout(10_000)
        stranger = await other.new_page()
        answers: list[Any] = []
        stranger.on(
            "response", lambda each: answers.append(each) if "/auth/callback" in each.url else None
        )
        await stranger.goto(next(url for url in sent_to(scene, upstream)))
        await upstream.use_pages(stranger, "bob")
        await expect(stranger.get_by_role("heading", name="Something went wrong")).to_be_visible()
        assert [each.status for each in answers] == [403]
        assert scene.client_app.visits == []
        assert scene.server.reasons() == ["other_browser"]
        if name != "glewlwyd":
            assert await upstream.requests() == []
        await other.close()
        # Whose sign-in it is can still finish it.
        await upstream.use_pages(page)
        await back_at_client(page)
        assert "code" in scene.answer()


@pytest.mark.case("P04")
async def test_a_callback_is_good_once(chromium: Browser) -> None:
    async with before("certified", chromium) as (scene, upstream):
        page = await scene.open(await scene.client())
        await allow(page)
        await upstream.use_pages(page)
        await back_at_client(page)
        scene.answer()
        callback = next(each.url for each in scene.sent if "/auth/callback" in each.url)
        known = len(await upstream.requests())
        for url in (
            callback,
            f"{scene.base_url}/auth/callback",
            f"{scene.base_url}/auth/callback?state=x&code=y",
        ):
            await page.goto(url)
            await expect(
                page.get_by_text("This page has expired, or was used before.")
            ).to_be_visible()
        assert len(await upstream.requests()) == known
        assert scene.client_app.visits == []
