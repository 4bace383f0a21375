"""Links to /authorize made by a stranger, opened in the browser of a signed-in person."""

from __future__ import annotations

import pytest

from asgi_mcp_auth.server import Registration
from tests.support.authorization_server import (
    BASE_URL,
    CONFIDENTIAL,
    WEB_REDIRECT_URI,
    Browser,
    ClientOf,
    Server,
    answer_of,
    deploy,
)

pytestmark = pytest.mark.asyncio

EVIL = "https://evil.example/landing"
# the browser's first address was typed; other sites' redirects may have followed
TYPED = {"Sec-Fetch-Site": "none"}


async def signed_in(server: Server, client: ClientOf) -> Browser:
    """Return the browser of a person who has approved this client."""
    browser = server.browser()
    await browser.decide(client.authorization_url())
    return browser


@pytest.mark.case("P03")
@pytest.mark.rule("AS-26")
@pytest.mark.parametrize("public", [True, False], ids=["public", "confidential"])
async def test_a_redirect_to_authorize_from_another_site_gets_no_code_unasked(
    public: bool,
) -> None:
    """Browsers go on saying ``none`` behind a redirect. A secret is no help against a challenge of
    the attacker's.
    """
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        client = (
            await server.register(redirect_uris=[WEB_REDIRECT_URI])
            if public
            else server.known(CONFIDENTIAL)
        )
        browser = await signed_in(server, client)
        browser.headers = dict(TYPED)
        page = await browser.open(client.authorization_url())
        assert page.url.startswith(f"{BASE_URL}/consent?")


async def test_a_typed_address_stays_one_to_ask_about_behind_the_sign_in_page() -> None:
    """Signing in identifies a person; it is no approval."""
    async with deploy() as server:
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI])
        await signed_in(server, client)
        fresh = Browser(server, headers=dict(TYPED))
        page = await fresh.open(client.authorization_url())
        fresh.headers = {"Sec-Fetch-Site": "same-origin"}
        page = await fresh.sign_in(page, username="alice")
        assert page.url.startswith(f"{BASE_URL}/consent?")


@pytest.mark.rule("AS-16")
@pytest.mark.parametrize(
    "wrong", [{"prompt": "none"}, {"scope": "unknown"}, {"max_age": "x"}], ids=str
)
async def test_a_link_does_not_send_a_signed_in_person_to_a_strangers_address(
    wrong: dict[str, str],
) -> None:
    """RFC 9700 §4.11.2: a session is no say in where to go; prompt=none is no exception for who
    registered itself.
    """
    async with deploy() as server:
        browser = await signed_in(server, await server.register(redirect_uris=[WEB_REDIRECT_URI]))
        stranger = await server.register(redirect_uris=[EVIL])
        page = await browser.open(stranger.authorization_url(**wrong))
        assert (page.response.status, page.response.header("location")) == (400, None)
        assert "Go back to evil.example" in page.text


@pytest.mark.rule("AS-16")
async def test_an_application_that_the_person_has_approved_hears_of_errors_at_once() -> None:
    async with deploy() as server:
        other = "https://app.example.com/other"
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI, other])
        browser = await signed_in(server, client)
        location = (await browser.open(client.authorization_url(prompt="none"))).url
        assert answer_of(location)["error"] == "consent_required"
        page = await browser.open(client.authorization_url(prompt="none", redirect_uri=other))
        assert page.response.status == 400, "it was approved for another address"
