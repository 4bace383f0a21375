"""The pages on a phone, in dark mode, enlarged, with a logo and with hostile names."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from asgi_mcp_auth.server import Pages
from tests.browser.stage import SCOPES, Scene, stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE = {"viewport": {"width": 320, "height": 640}, "device_scale_factor": 2, "has_touch": True}
DARK = {"color_scheme": "dark"}
# a window of 1280 at 200 %
ENLARGED = {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2}
FORCED = {"forced_colors": "active"}
WINDOWS = {
    "phone": PHONE,
    "phone-dark": {**PHONE, **DARK},
    "dark": DARK,
    "enlarged": ENLARGED,
    "contrast": FORCED,
}
LOGO = (
    "data:image/svg+xml;base64,"
    + base64.b64encode(
        b'<svg xmlns="http://www.w3.org/2000/svg" width="120" height="32"><rect width="32"'
        b' height="32" rx="8" fill="#0f766e"/><circle cx="16" cy="16" r="7" fill="#fff"/></svg>'
    ).decode()
)


@pytest.mark.parametrize("window", WINDOWS)
async def test_every_page_can_be_read_and_used(chromium: Browser, window: str) -> None:
    pages = Pages(title="Example Notes", logo=LOGO, color="#0f766e", scope_descriptions=SCOPES)
    async with stage(
        chromium, window=WINDOWS[window], pages=pages, allowed_redirect_schemes=["notes"]
    ) as scene:
        client = await scene.client(
            redirect_uris=[scene.local_redirect, "notes://callback", scene.web_redirect]
        )
        page = await scene.open(client, scope="notes:read notes:write offline_access")
        await scene.check(page, f"{window}-sign-in")
        await scene.sign_in(page, password="wrong")
        await expect(page.get_by_role("alert")).to_be_visible()
        await scene.check(page, f"{window}-wrong-password")
        await scene.sign_in(page)
        await expect(page.get_by_role("button", name="Allow")).to_be_visible()
        await scene.check(page, f"{window}-consent")
        await page.get_by_role("button", name="Allow").click()
        await expect(page.get_by_role("heading", name="Back at the client")).to_be_visible()
        await scene.open(client, page, redirect_uri="notes://callback")
        await expect(page.get_by_text("a program on this device (notes:)")).to_be_visible()
        await page.goto(f"{scene.base_url}/applications")
        await scene.check(page, f"{window}-applications")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Signed out")).to_be_visible()
        await scene.open(client, page, redirect_uri=scene.web_redirect, scope="unknown")
        await expect(page.get_by_role("link", name="Go back to app.example.com")).to_be_visible()
        await scene.check(page, f"{window}-error")


@pytest.mark.parametrize("color", ["#ffd400", "#777777", "#000000"])
async def test_buttons_can_be_read_in_any_color(chromium: Browser, color: str) -> None:
    async with stage(chromium, pages=Pages(color=color)) as scene:
        page = await scene.open(await scene.client())
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            await scene.check(page, f"color-{color[1:]}-{scheme}")


NAMES = {
    "markup": "<svg onload=alert(1)><b>Bold</b>",
    "right-to-left": "אבג Notes אבג",
    "stacked": "N" + "\u0300\u0489\u0359\u0353" * 60 + "otes",
    "long": "Very" * 128,
    "blank": "\u3164\u2800",
    "quotes": "Claude” to read the weather forecast. This name was checked by “Example",
}


@pytest.mark.case("Z40")
@pytest.mark.parametrize("name", NAMES)
async def test_a_name_stays_a_name(chromium: Browser, name: str) -> None:
    async with stage(chromium, window=PHONE) as scene:
        page = await scene.open(await _named(scene, NAMES[name]))
        await scene.sign_in(page)
        await expect(page.get_by_role("button", name="Allow")).to_be_visible()
        await scene.check(page, f"name-{name}")
        await page.get_by_role("button", name="Allow").click()
        await expect(page.get_by_role("heading", name="Back at the client")).to_be_visible()
        await page.goto(f"{scene.base_url}/applications")
        await scene.check(page, f"name-{name}-applications")


async def _named(scene: Scene, name: str) -> Any:
    return await scene.client(client_name=name)
