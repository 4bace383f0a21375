"""A person in a real browser signs in, decides, and returns to the client."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.async_api import Browser, expect

from asgi_mcp_auth.server import DevLogin
from tests.browser.stage import PASSWORD, stage

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.rule("AS-24")
@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("web", [False, True], ids=["loopback client", "https client"])
async def test_signing_in_and_allowing_leads_back_to_the_client(
    chromium: Browser, https: bool, web: bool
) -> None:
    """No form-action stands in the way of the redirect after the form."""
    async with stage(chromium, https=https) as scene:
        client = await scene.client(
            redirect_uris=[scene.web_redirect if web else scene.local_redirect]
        )
        page = await scene.open(client)
        await scene.check(page, f"sign-in-{'https' if https else 'http'}")
        await scene.sign_in(page)
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Notes Assistant")
        await scene.check(page, f"consent-{'https' if web else 'loopback'}-client")
        await page.get_by_role("button", name="Allow").click()
        await expect(page.get_by_role("heading", name="Back at the client")).to_be_visible()
        response = await client.redeem(scene.answer()["code"])
        assert response.status == 200


async def test_denying_leads_back_to_the_client_with_an_error(chromium: Browser) -> None:
    async with stage(chromium) as scene:
        page = await scene.open(await scene.client())
        await scene.sign_in(page)
        await page.get_by_role("button", name="Deny").click()
        await expect(page.get_by_role("heading", name="Back at the client")).to_be_visible()
        answer = scene.answer()
        assert (answer["error"], answer["state"], answer["iss"]) == (
            "access_denied",
            "the-state",
            scene.base_url,
        )


async def test_a_wrong_password_is_said_aloud_and_the_cursor_stands_in_the_password(
    chromium: Browser,
) -> None:
    async with stage(chromium) as scene:
        page = await scene.open(await scene.client())
        await expect(page.get_by_label("User name")).to_be_focused()
        await scene.sign_in(page, password="wrong")
        await expect(page.get_by_role("alert")).to_have_text(
            "The user name or password is incorrect."
        )
        await expect(page).to_have_title(
            "Error: Sign in – " + scene.base_url.removeprefix("http://")
        )
        await expect(page.get_by_label("User name")).to_have_value("alice")
        password = page.get_by_label("Password")
        await expect(password).to_have_value("")
        await expect(password).to_be_focused()
        await expect(password).to_have_accessible_description(
            "The user name or password is incorrect."
        )
        await scene.check(page, "wrong-password")
        await scene.sign_in(page)
        await expect(page.get_by_role("button", name="Allow")).to_be_visible()


async def test_the_keyboard_is_enough(chromium: Browser) -> None:
    async with stage(chromium) as scene:
        page = await scene.open(await scene.client())
        # a person waits for the cursor, too
        await expect(page.get_by_label("User name")).to_be_focused()
        await page.keyboard.type("alice")
        await expect(page.get_by_label("User name")).to_have_value("alice")
        await page.keyboard.press("Tab")
        await expect(page.get_by_label("Password")).to_be_focused()
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        allow = page.get_by_role("button", name="Allow")
        await expect(allow).to_be_visible()
        await page.keyboard.press("Tab")
        await expect(allow).to_be_focused()
        await scene.check(page, "keyboard-consent")
        for name in ("Deny", "Use another account"):
            await page.keyboard.press("Tab")
            await expect(page.get_by_role("button", name=name)).to_be_focused()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="your applications")).to_be_focused()
        for _ in range(3):
            await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Back at the client")).to_be_visible()
        assert "code" in scene.answer()


async def test_another_account_may_be_used_instead(chromium: Browser) -> None:
    async with stage(chromium) as scene:
        client = await scene.client()
        page = await scene.open(client)
        await scene.sign_in(page, "alice")
        await page.get_by_role("button", name="Use another account").click()
        await scene.sign_in(page, "bob")
        await expect(page.get_by_text("bob", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Allow").click()
        await expect(page.get_by_role("heading", name="Back at the client")).to_be_visible()
        await client.redeem(scene.answer()["code"])
        assert [
            event.subject for event in scene.server.events if event.action == "token_issued"
        ] == ["bob"]


async def test_for_development_one_click_is_enough(chromium: Browser) -> None:
    async with stage(chromium, login=DevLogin()) as scene:
        page = await scene.open(await scene.client())
        await scene.check(page, "development-sign-in")
        await page.get_by_role("button", name="Continue").click()
        await page.get_by_role("button", name="Allow").click()
        await expect(page.get_by_role("heading", name="Back at the client")).to_be_visible()
        assert "code" in scene.answer()


@pytest.mark.case("Z10")
async def test_a_form_of_the_clients_site_opens_the_same_sign_in(chromium: Browser) -> None:
    """No cookie comes with such a form; neither a session nor what another tab is doing may suffer
    from that.
    """
    async with stage(chromium, https=True) as scene:
        client = await scene.client(redirect_uris=[scene.web_redirect])
        first = await scene.open(client)
        second = await scene.page()
        await second.goto(scene.web_redirect.replace("/callback", "/page"))
        await second.evaluate(
            """([url, inputs]) => {
                const form = document.createElement("form");
                form.method = "post"; form.action = url;
                for (const [name, value] of inputs) {
                    const input = document.createElement("input");
                    input.name = name; input.value = value; form.append(input);
                }
                document.body.append(form); form.submit();
            }""",
            [f"{scene.base_url}/authorize", parse_qsl(urlsplit(client.authorization_url()).query)],
        )
        await scene.sign_in(second)
        await expect(second.get_by_role("button", name="Allow")).to_be_visible()
        await scene.sign_in(first)
        await expect(first.get_by_role("button", name="Allow")).to_be_visible()


@pytest.mark.case("P03")
@pytest.mark.rule("AS-26")
async def test_a_consent_is_remembered_for_navigations_from_the_same_origin(
    chromium: Browser,
) -> None:
    """The browser says who began it, also after a redirect by another site in between."""
    async with stage(chromium, https=True) as scene:
        client = await scene.client(redirect_uris=[scene.web_redirect])
        page = await scene.open(client)
        await scene.sign_in(page)
        await page.get_by_role("button", name="Allow").click()
        await expect(page.get_by_role("heading", name="Back at the client")).to_be_visible()
        first = scene.answer()["code"]
        await page.goto(f"{scene.base_url}/applications")
        await page.evaluate("url => { location.href = url; }", client.authorization_url())
        await expect(page.get_by_role("heading", name="Back at the client")).to_be_visible()
        assert scene.answer()["code"] != first
        # from the client's site
        await page.evaluate("url => { location.href = url; }", client.authorization_url())
        await expect(page.get_by_role("button", name="Allow")).to_be_visible()
        assert scene.client_app.visits == []
