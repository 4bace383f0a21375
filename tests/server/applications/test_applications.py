"""The page of a person's applications: what they have allowed, revoking it, signing out."""

from __future__ import annotations

import pytest

from asgi_mcp_auth.server import Lifetimes, Pages
from tests.support.authorization_server import (
    BASE_URL,
    REDIRECT_URI,
    WEB_REDIRECT_URI,
    Browser,
    Page,
    Server,
    deploy,
)
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio


async def applications(browser: Browser, user: str = "alice") -> Page:
    """Return the page, signed in."""
    page = await browser.sign_in(await browser.open(f"{BASE_URL}/applications"), username=user)
    assert page.url == f"{BASE_URL}/applications", page.url
    return page


def names_on(page: Page) -> list[str]:
    """Return the applications that can be revoked."""
    return [
        action
        for action, inputs in page.forms
        if "client_id" in inputs
        for action in [inputs["client_id"]]
    ]


async def is_alive(server: Server, token: str) -> bool:
    """Return whether an access token is accepted."""
    return (await server.call("POST", "/mcp", bearer=token)).status == 200


async def test_a_person_who_is_not_signed_in_signs_in_first() -> None:
    async with deploy() as server:
        browser = server.browser()
        page = await browser.open(f"{BASE_URL}/applications")
        assert page.url.startswith(f"{BASE_URL}/login?transaction=")
        assert "is requesting access" not in page.text
        page = await browser.submit(page, username="alice")
        assert page.url == f"{BASE_URL}/applications"
        assert "alice" in page.text
        assert "No application can act on behalf of <strong>alice</strong>." in page.text


async def test_the_page_shows_name_address_date_and_scopes_in_words() -> None:
    pages = Pages(scope_descriptions={"mcp:read": "Read your notes"})
    async with deploy(pages=pages) as server:
        client = await server.register(client_name="Notes <b>", redirect_uris=[WEB_REDIRECT_URI])
        browser = server.browser()
        await client.code(browser=browser, scope="mcp:read mcp:write")
        page = await applications(browser)
        for words in (
            "Notes &lt;b&gt;",
            "app.example.com",
            "2027-01-15",
            "Read your notes",
            "mcp:write",
        ):
            assert words in page.text


async def test_revoking_ends_every_grant_of_that_application_and_no_other() -> None:
    async with deploy() as server:
        browser, one, other = server.browser(), await server.register(), await server.register()
        tokens = [(await one.redeem(await one.code(browser=browser))).json() for _ in range(2)]
        others = (await other.redeem(await other.code(browser=browser))).json()
        bobs = (await one.redeem(await one.code("bob"))).json()
        page = await applications(browser)
        assert sorted(names_on(page)) == sorted([one.client_id, other.client_id])
        number = names_on(page).index(one.client_id)
        page = await browser.submit(page, number=number)
        assert (page.response.status, names_on(page)) == (200, [other.client_id])
        alive = [await is_alive(server, each["access_token"]) for each in (*tokens, others, bobs)]
        assert alive == [False, False, True, True]
        response = await one.refresh(tokens[0]["refresh_token"])
        assert response.json()["error"] == "invalid_grant"
        ended = [event for event in server.events if event.action == "grant_revoked"]
        assert [(event.reason, event.client_id) for event in ended] == [
            ("by_user", one.client_id)
        ] * 2


async def test_revoking_takes_back_what_was_remembered() -> None:
    async with deploy() as server:
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI])
        browser = Browser(server, headers={"Sec-Fetch-Site": "same-origin"})
        await client.code(browser=browser)
        assert (await browser.open(client.authorization_url())).url.startswith(WEB_REDIRECT_URI)
        await browser.submit(await applications(browser))
        assert (await browser.open(client.authorization_url())).url.startswith(
            f"{BASE_URL}/consent"
        )


async def test_the_page_shows_what_older_grants_may_still_do() -> None:
    """The last approval was for less; the token of the first is alive."""
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        await client.redeem(await client.code(browser=browser, scope="mcp:read mcp:write"))
        await client.redeem(await client.code(browser=browser, scope="mcp:read"))
        assert "mcp:write" in (await applications(browser)).text


async def test_an_application_is_shown_for_as_long_as_it_can_have_tokens() -> None:
    """Its last grant may have begun without a question, when the consent was almost over."""
    lifetimes = Lifetimes(
        consent_seconds=1000, refresh_token_seconds=2000, refresh_idle_seconds=2000
    )
    async with deploy(lifetimes=lifetimes) as server:
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI])
        browser = Browser(server, headers={"Sec-Fetch-Site": "same-origin"})
        await client.code(browser=browser)
        server.clock.advance(999)
        tokens = (await client.redeem(await client.code(browser=browser))).json()
        server.clock.advance(1999)
        assert names_on(await applications(browser)) == [client.client_id]
        await browser.submit(await applications(browser))
        assert not await is_alive(server, tokens["access_token"])


async def test_a_form_without_its_token_or_from_elsewhere_revokes_nothing() -> None:
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        tokens = (await client.redeem(await client.code(browser=browser))).json()
        page = await applications(browser)
        good = page.forms[0][1]
        logout_token = page.forms[-1][1]["csrf"]
        for csrf in ("", "x", logout_token):
            response = await browser.send("POST", "/applications", {**good, "csrf": csrf})
            assert response.status == 403
        bobs = server.browser()
        await applications(bobs, "bob")
        assert (await bobs.send("POST", "/applications", good)).status == 403
        assert (
            await browser.send("POST", "/applications", good, {"Sec-Fetch-Site": "cross-site"})
        ).status == 403
        assert server.reasons() == ["csrf"] * 4 + ["cross_site"]
        response = await server.browser().send("POST", "/applications", good)
        assert (response.header("location") or "").startswith(f"{BASE_URL}/login")
        assert await is_alive(server, tokens["access_token"])


async def test_the_page_of_a_session_before_is_of_no_use() -> None:
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        await client.code(browser=browser)
        page = await applications(browser)
        await browser.submit(page, number=-1)
        await applications(browser)
        assert (await browser.submit(page)).response.status == 403


@rows("client_id", ["nobody", "x" * 5000, "é", "<svg>"])
async def test_revoking_what_is_not_there_is_no_error(client_id: str) -> None:
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        await client.code(browser=browser)
        page = await applications(browser)
        page = await browser.submit(page, client_id=client_id)
        assert names_on(page) == [client.client_id]
        response = await browser.send("POST", "/applications", {"csrf": page.forms[0][1]["csrf"]})
        assert (response.status, server.reasons()) == (400, ["invalid_request"])


async def test_many_applications_are_all_shown() -> None:
    async with deploy() as server:
        browser = server.browser()
        for number in range(120):
            client = await server.register(
                client_name=f"Client {number:03}", redirect_uris=[REDIRECT_URI]
            )
            await client.code(browser=browser)
        assert len(names_on(await applications(browser))) == 120


async def test_signing_out_needs_the_forms_token() -> None:
    async with deploy() as server:
        browser = server.browser()
        page = await applications(browser)
        assert (await browser.send("PUT", "/logout")).status == 405
        assert (await browser.send("POST", "/logout", {})).status == 403
        assert (
            await browser.send("POST", "/logout", {"csrf": page.forms[0][1]["csrf"] + "x"})
        ).status == 403
        assert (await browser.send("GET", "/applications")).status == 200
        page = await browser.submit(page, number=-1)
        assert "You are signed out" in page.text
        assert not any("session" in name for name in browser.cookies)


async def test_signing_out_twice_is_signing_out() -> None:
    async with deploy() as server:
        browser = server.browser()
        page = await applications(browser)
        for _ in range(2):
            assert "You are signed out" in (await browser.submit(page, number=-1)).text
        assert [event.action for event in server.events].count("signed_out") == 1


@pytest.mark.rule("AS-08")
async def test_where_there_is_no_such_page_nothing_leads_to_it() -> None:
    async with deploy(options={"disabled": ["applications"]}) as server:
        client, browser = await server.register(), server.browser()
        assert (await browser.send("GET", "/applications")).status == 404
        page = await browser.sign_in(
            await browser.open(client.authorization_url()), username="alice"
        )
        assert "applications" not in page.text


@pytest.mark.rule("AS-90")
async def test_a_link_to_logout_is_a_page_that_asks_and_does_nothing() -> None:
    """Any site can link to it. Its button signs out."""
    async with deploy() as server:
        browser = server.browser()
        signed_out = await browser.open("/logout")
        assert "You are signed out in this browser" in signed_out.response.body.decode()
        assert signed_out.forms == []
        await (await server.register()).code(browser=browser)
        server.events.clear()
        for _ in range(2):
            page = await browser.open("/logout")
            assert page.response.status == 200
        assert server.events == []
        ((action, hidden),) = page.forms
        assert action.endswith("/logout")
        assert (await browser.send("POST", "/logout", {"csrf": "x"})).status == 403
        assert (await browser.send("POST", "/logout", {"csrf": hidden["csrf"]})).status == 200
        assert (await browser.open("/logout")).forms == []
