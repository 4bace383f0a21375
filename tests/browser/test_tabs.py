"""Several tabs, double clicks, the back button, and pages left open."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.stage import stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

BACK_AT_CLIENT = "Back at the client"


@pytest.mark.case("Z37")
async def test_two_tabs_for_two_clients_do_not_disturb_each_other(chromium: Browser) -> None:
    async with stage(chromium) as scene:
        clients = [
            await scene.client(client_name="First"),
            await scene.client(client_name="Second"),
        ]
        first, second = [await scene.open(client) for client in clients]
        await scene.sign_in(first)
        await scene.sign_in(second)  # its form is older than the session
        await expect(first.get_by_role("heading", name="First")).to_be_visible()
        await second.get_by_role("button", name="Allow").click()
        await expect(second.get_by_role("heading", name=BACK_AT_CLIENT)).to_be_visible()
        code_of_second = scene.answer()["code"]
        await first.get_by_role("button", name="Allow").click()  # of the session before
        await expect(first.get_by_role("heading", name=BACK_AT_CLIENT)).to_be_visible()
        for client, code in zip(clients, (scene.answer()["code"], code_of_second), strict=True):
            assert (await client.redeem(code)).status == 200


async def test_a_tab_whose_user_signed_in_in_another_one_goes_on_without_asking(
    chromium: Browser,
) -> None:
    async with stage(chromium) as scene:
        client = await scene.client()
        first, second = await scene.open(client), await scene.open(client)
        await scene.sign_in(first)
        await second.reload()
        await expect(second.get_by_role("button", name="Allow")).to_be_visible()


@pytest.mark.case("Z43")
async def test_a_page_of_alices_does_not_approve_for_bob(chromium: Browser) -> None:
    """Bob signed in in another tab, after the page was shown."""
    async with stage(chromium) as scene:
        client = await scene.client()
        first, second = await scene.open(client), await scene.open(client)
        await scene.sign_in(first, "alice")
        await scene.sign_in(second, "bob")
        await first.get_by_role("button", name="Allow").click()
        await expect(first.get_by_role("heading", name="Something went wrong")).to_be_visible()
        assert scene.client_app.visits == []
        assert scene.server.reasons() == ["csrf"]
        await first.go_back()
        await expect(first.get_by_text("bob", exact=True)).to_be_visible()


@pytest.mark.case("Z38")
@pytest.mark.parametrize(("button", "answer"), [("Allow", "code"), ("Deny", "error")])
async def test_a_double_click_is_a_click(chromium: Browser, button: str, answer: str) -> None:
    """The browser sends the form twice and shows the second answer only."""
    async with stage(chromium) as scene:
        client = await scene.client()
        page = await scene.open(client)
        await scene.sign_in(page)
        await _slow_down(page)
        await page.get_by_role("button", name=button).dblclick(delay=30)
        await expect(page.get_by_role("heading", name=BACK_AT_CLIENT)).to_be_visible()
        assert [each.url for each in scene.sent if each.method == "POST"][-2:] == [
            f"{scene.base_url}/consent"
        ] * 2
        assert answer in scene.answer()


async def test_a_double_click_on_sign_in_is_a_click(chromium: Browser) -> None:
    async with stage(chromium) as scene:
        page = await scene.open(await scene.client())
        await page.get_by_label("User name").fill("alice")
        await page.get_by_label("Password").fill("correct horse battery staple")
        await _slow_down(page)
        await page.get_by_role("button", name="Sign in").dblclick(delay=30)
        await expect(page.get_by_role("button", name="Allow")).to_be_visible()


@pytest.mark.case("Z12")
async def test_the_back_button_after_approval_leads_to_a_page_that_has_expired(
    chromium: Browser,
) -> None:
    async with stage(chromium) as scene:
        client = await scene.client()
        page = await scene.open(client)
        await scene.sign_in(page)
        await page.get_by_role("button", name="Allow").click()
        await expect(page.get_by_role("heading", name=BACK_AT_CLIENT)).to_be_visible()
        assert (await client.redeem(scene.answer()["code"])).status == 200
        await page.go_back()
        await expect(page.get_by_text("This page has expired, or was used before.")).to_be_visible()
        await scene.check(page, "expired")
        assert scene.client_app.visits == []


@pytest.mark.case("Z13")
async def test_a_page_left_open_for_too_long_has_expired(chromium: Browser) -> None:
    async with stage(chromium) as scene:
        page = await scene.open(await scene.client())
        await scene.sign_in(page)
        scene.server.clock.advance(600)
        await page.get_by_role("button", name="Allow").click()
        await expect(page.get_by_text("This page has expired, or was used before.")).to_be_visible()
        assert scene.server.reasons() == ["expired_form"]


@pytest.mark.case("Z36")
async def test_another_browser_cannot_go_on_with_what_one_has_begun(chromium: Browser) -> None:
    async with stage(chromium) as scene:
        page = await scene.open(await scene.client())
        other = await chromium.new_context()
        stranger = await other.new_page()
        await stranger.goto(page.url)
        await expect(stranger.get_by_role("heading", name="Something went wrong")).to_be_visible()
        await other.close()
        assert scene.server.reasons() == ["other_browser"]
        await scene.sign_in(page)
        await expect(page.get_by_role("button", name="Allow")).to_be_visible()


async def _slow_down(page: Page) -> None:
    session = await page.context.new_cdp_session(page)
    conditions = {
        "offline": False,
        "latency": 400,
        "downloadThroughput": -1,
        "uploadThroughput": -1,
    }
    await session.send("Network.emulateNetworkConditions", conditions)
