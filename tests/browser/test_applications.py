"""The page of a person's applications: what they have allowed, revoking it, signing out."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from asgi_mcp_auth.server import Pages
from tests.browser.stage import SCOPES, stage

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_application_is_revoked_and_its_token_with_it(chromium: Browser) -> None:
    async with stage(
        chromium, pages=Pages(title="Example Notes", scope_descriptions=SCOPES)
    ) as scene:
        tokens = []
        page = await scene.page()
        for name in ("Notes Assistant", "Other Assistant"):
            client = await scene.client(client_name=name)
            await scene.open(client, page, scope="notes:read notes:write offline_access")
            if "/login" in page.url:
                await scene.sign_in(page)
            await page.get_by_role("button", name="Allow").click()
            await expect(page.get_by_role("heading", name="Back at the client")).to_be_visible()
            tokens.append((await client.redeem(scene.answer()["code"])).json()["access_token"])
        await page.goto(f"{scene.base_url}/applications")
        await scene.check(page, "applications")
        await page.get_by_role("button", name="Revoke Notes Assistant").click()
        await expect(page.get_by_role("heading", name="Notes Assistant")).to_have_count(0)
        await expect(page.get_by_role("heading", name="Other Assistant")).to_be_visible()
        statuses = [
            (await scene.server.call("POST", "/mcp", bearer=token)).status for token in tokens
        ]
        assert statuses == [401, 200]
        await page.get_by_role("button", name="Revoke Other Assistant").click()
        await expect(page.get_by_text("No application can act on behalf of alice.")).to_be_visible()
        await scene.check(page, "applications-none")


async def test_a_person_who_is_not_signed_in_signs_in_first_and_leaves_again(
    chromium: Browser,
) -> None:
    async with stage(chromium, https=True) as scene:
        page = await scene.page()
        await page.goto(f"{scene.base_url}/applications")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await scene.sign_in(page)
        await expect(page).to_have_url(f"{scene.base_url}/applications")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Signed out")).to_be_visible()
        await scene.check(page, "signed-out")
        assert [
            cookie["name"]
            for cookie in await scene.context.cookies()
            if "session" in cookie["name"]
        ] == []
        await page.goto(f"{scene.base_url}/applications")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_a_page_of_applications_is_of_no_use_after_signing_out_elsewhere(
    chromium: Browser,
) -> None:
    async with stage(chromium) as scene:
        first, second = await scene.page(), await scene.page()
        for page in (first, second):
            await page.goto(f"{scene.base_url}/applications")
            if "/login" in page.url:
                await scene.sign_in(page)
            await expect(page.get_by_role("heading", name="Your applications")).to_be_visible()
        for page in (first, second):
            await page.get_by_role("button", name="Sign out").click()
            await expect(page.get_by_role("heading", name="Signed out")).to_be_visible()
        assert scene.server.reasons() == []
