"""Attacks by other sites and scripts on the browser of a signed-in person."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

from asgi_mcp_auth.server import DevLogin, Pages, RateLimits
from tests.browser.stage import Scene, stage

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def signed_in(scene: Scene, https_client: bool = True) -> Page:
    """Return a tab with a consent page."""
    redirect = scene.web_redirect if https_client else scene.local_redirect
    page = await scene.open(await scene.client(redirect_uris=[redirect]))
    await scene.sign_in(page)
    await expect(page.get_by_role("button", name="Allow")).to_be_visible()
    return page


@pytest.mark.case("Z42")
@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
async def test_cookies_are_for_this_host_and_no_script(chromium: Browser, https: bool) -> None:
    async with stage(chromium, https=https) as scene:
        page = await signed_in(scene)
        cookies = await scene.context.cookies(scene.base_url)
        assert len(cookies) == 2
        for cookie in cookies:
            assert cookie["name"].startswith("__Host-mcp_" if https else "mcp_")
            assert (cookie["path"], cookie["httpOnly"], cookie["sameSite"]) == ("/", True, "Lax")
            assert cookie["secure"] is https
            # no dot: not for others below it
            assert cookie["domain"] == ("mcp.example.com" if https else "localhost")
        assert await page.evaluate("document.cookie") == ""


@pytest.mark.case("Z39")
async def test_a_page_in_a_frame_stays_empty(chromium: Browser) -> None:
    async with stage(chromium, https=True) as scene:
        consent = await signed_in(scene)
        attacker = await scene.page()
        await attacker.goto(scene.web_redirect.replace("/callback", "/attack"))
        await attacker.evaluate(
            """url => new Promise(resolve => {
                const frame = document.createElement("iframe");
                frame.src = url; frame.onload = resolve; document.body.append(frame);
            })""",
            consent.url,
        )
        frame = attacker.frames[1]
        assert await frame.get_by_role("button").count() == 0
        assert frame.url.startswith("chrome-error:")
        assert any("frame-ancestors 'none'" in problem for problem in scene.problems), (
            scene.problems
        )
        scene.problems.clear()


@pytest.mark.case("Z36")
async def test_a_form_of_another_site_approves_nothing(chromium: Browser) -> None:
    """Even one that knows the token, which it cannot."""
    async with stage(chromium, https=True) as scene:
        consent = await signed_in(scene)
        inputs = await consent.eval_on_selector_all(
            "form input", "all => all.map(each => [each.name, each.value])"
        )
        attacker = await scene.page()
        await attacker.goto(scene.web_redirect.replace("/callback", "/attack"))
        await attacker.evaluate(
            """([url, inputs]) => {
                const form = document.createElement("form");
                form.method = "post"; form.action = url;
                for (const [name, value] of inputs) {
                    const input = document.createElement("input");
                    input.name = name; input.value = value; form.append(input);
                }
                document.body.append(form); form.submit();
            }""",
            [f"{scene.base_url}/consent", [*inputs, ["action", "approve"]]],
        )
        await expect(attacker.get_by_role("heading", name="Something went wrong")).to_be_visible()
        assert scene.server.reasons() == ["cross_site"]
        assert scene.client_app.visits == []


@pytest.mark.case("W22")
@pytest.mark.rule("AS-27")
async def test_another_sites_script_reads_no_page(chromium: Browser) -> None:
    """No CORS."""
    async with stage(chromium, https=True) as scene:
        consent = await signed_in(scene)
        attacker = await scene.page()
        await attacker.goto(scene.web_redirect.replace("/callback", "/attack"))
        for url in (consent.url, f"{scene.base_url}/applications", f"{scene.base_url}/authorize"):
            read = await attacker.evaluate(
                "url => fetch(url, {credentials: 'include'}).then(answer => answer.text(), () =>"
                " null)",
                url,
            )
            assert read is None
        assert all("CORS" in problem for problem in scene.problems), scene.problems
        scene.problems.clear()


async def test_a_name_that_is_turned_to_this_machine_for_a_moment_gets_no_page(
    chromium: Browser,
) -> None:
    """DNS rebinding: scripts of rebound.test are of the same origin as what answers there, and
    DevLogin asks for no password.
    """
    async with stage(chromium, login=DevLogin()) as scene:
        client = await scene.client()
        attacker = await scene.page()
        await attacker.goto(client.authorization_url().replace("//localhost:", "//rebound.test:"))
        await expect(attacker.get_by_role("heading", name="Something went wrong")).to_be_visible()
        assert scene.server.reasons() == ["host"]
        for path in ("login", "consent", "applications", "logout"):
            await attacker.goto(
                f"{scene.base_url.replace('localhost', 'rebound.test')}/{path}?transaction=x"
            )
        assert set(scene.server.reasons()) == {"host"}


@pytest.mark.case("Z121")
async def test_a_script_does_not_run_even_where_a_page_of_the_operators_has_one(
    chromium: Browser,
) -> None:
    """The page forgets to escape; the policy does not forget."""
    pages = Pages(
        render={
            "error": lambda page: (
                f"<!doctype html><title>x</title>{page.text}<script>alert(1)</script>"
            )
        }
    )
    async with stage(chromium, pages=pages) as scene:
        page = await scene.page()
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        await page.goto(f"{scene.base_url}/authorize?client_id=nobody")
        assert dialogs == []
        assert len(scene.problems) == 1
        assert "Content Security Policy" in scene.problems.pop()


@pytest.mark.case("Z51")
async def test_no_site_learns_where_the_browser_came_from(
    chromium: Browser,
) -> None:
    async with stage(chromium, https=True) as scene:
        page = await signed_in(scene)
        await page.get_by_role("button", name="Allow").click()
        await expect(page.get_by_role("heading", name="Back at the client")).to_be_visible()
        assert b"referer" not in scene.client_app.headers
        code = scene.answer()["code"]
        ours = [request.url for request in scene.sent if request.url.startswith(scene.base_url)]
        assert not any(code in url or "csrf" in url for url in ours), ours
        queries = {url.partition("?")[2].split("=")[0] for url in ours if "/authorize" not in url}
        assert queries == {"transaction", ""}


@pytest.mark.case("P03")
@pytest.mark.parametrize("hops", ["typed", "typed, then another site's redirect"])
async def test_a_typed_address_gets_no_code_without_a_question(
    chromium: Browser, hops: str
) -> None:
    """The browser says ``none`` in both cases: they cannot be told apart, so the person is asked in
    both.
    """
    async with stage(chromium, https=True) as scene:
        page = await signed_in(scene)
        await page.get_by_role("button", name="Allow").click()
        await expect(page.get_by_role("heading", name="Back at the client")).to_be_visible()
        scene.answer()
        again = await scene.page()
        url = next(each.url for each in scene.sent if "/authorize" in each.url)
        scene.client_app.sends_on_to = url
        await again.goto(
            url if hops == "typed" else scene.web_redirect.replace("/callback", "/elsewhere")
        )
        await expect(again.get_by_role("button", name="Allow")).to_be_visible()
        assert (await scene.sent[-1].all_headers())["sec-fetch-site"] == "none"
        assert scene.client_app.visits == []


async def test_a_page_cannot_use_up_the_limits_of_its_visitors(chromium: Browser) -> None:
    """Blind requests, requests that ask first (CORS), images and frames: none counts for the
    visitor's network.
    """
    async with stage(
        chromium, https=True, rate_limits=RateLimits(register=3, authorize=3, token=3)
    ) as scene:
        attacker = await scene.page()
        await attacker.goto(scene.web_redirect.replace("/callback", "/attack"))
        await attacker.evaluate(
            """async base => {
                const all = [];
                for (let number = 0; number < 5; number++) {
                    const body = JSON.stringify({redirect_uris: ["https://evil.example/"]});
                    const json = {"content-type": "application/json"};
                    all.push(fetch(base + "/register", {method: "POST", body, headers: json}));
                    all.push(fetch(base + "/register", {method: "POST", body, mode: "no-cors"}));
                    const form = new URLSearchParams({client_id: "x"});
                    all.push(fetch(base + "/token", {method: "POST", body: form, mode: "no-cors"}));
                    all.push(new Promise(resolve => {
                        const image = new Image();
                        image.onerror = resolve; image.src = base + "/authorize?" + number;
                    }));
                    all.push(new Promise(resolve => {
                        const frame = document.createElement("iframe");
                        frame.onload = resolve; frame.src = base + "/authorize?frame=" + number;
                        document.body.append(frame);
                    }));
                }
                await Promise.allSettled(all);
            }""",
            scene.base_url,
        )
        assert scene.server.reasons().count("rate_limit") >= 10
        scene.problems.clear()
        page = await scene.open(await scene.client())  # registers from the same address
        await expect(page.get_by_label("User name")).to_be_visible()
