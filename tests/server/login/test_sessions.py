"""Sessions and cookies: how long they last, what they prove, and the ``prompt`` parameter."""

from __future__ import annotations

import re
import secrets

import pytest

from asgi_mcp_auth import ConfigurationError, DevLogin, OAuthProvider
from asgi_mcp_auth.server import Lifetimes
from tests.support.authorization_server import (
    BASE_URL,
    Browser,
    ClientOf,
    Server,
    answer_of,
    deploy,
    memory_store,
)
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio


async def is_signed_in(browser: Browser, client: ClientOf, **parameters: str | None) -> bool:
    """Return whether this request needs no sign-in."""
    page = await browser.open(client.authorization_url(**parameters))
    assert page.url.startswith((f"{BASE_URL}/consent", f"{BASE_URL}/login")), page.url
    return page.url.startswith(f"{BASE_URL}/consent")


async def signed_in(server: Server, client: ClientOf, user: str = "alice") -> Browser:
    """Return a browser with a signed-in person."""
    browser = server.browser()
    await browser.sign_in(await browser.open(client.authorization_url()), username=user)
    return browser


# ------------------------------------------------------------------------------------------ cookies


@pytest.mark.case("Z42")
@pytest.mark.rule("AS-74")
@pytest.mark.parametrize(
    "base_url", [BASE_URL, "https://mcp.example.com", "https://mcp.example.com/tenant"]
)
async def test_cookies_are_for_this_host_and_no_script(base_url: str) -> None:
    """On an http loopback URL clients drop Secure cookies."""
    is_https = base_url.startswith("https:")
    async with deploy(base_url=base_url) as server:
        client, browser = await server.register(), server.browser()
        first = await browser.send("GET", client.authorization_url())
        page = await browser.open(client.authorization_url())
        second = await browser.send("POST", page.forms[0][0], {**page.hidden, "username": "alice"})
        one_of_several = "_[A-Za-z0-9_-]{8}"
        for response, kind, end, seconds in (
            (first, "browser", one_of_several, 600),
            (second, "session", "", 43_200),
        ):
            (line,) = response.all("set-cookie")
            secure, prefix = ("; Secure", "__Host-") if is_https else ("", "")
            value = r"[A-Za-z0-9_-]{43}"
            pattern = (
                rf"{prefix}mcp_{kind}_[0-9a-f]{{8}}{end}={value}; Max-Age={seconds}; Path=/;"
                rf" HttpOnly; SameSite=Lax{secure}"
            )
            assert re.fullmatch(pattern, line), line


async def test_two_deployments_on_one_host_have_cookies_of_their_own() -> None:
    """Cookies know no ports."""
    names = set()
    for base_url in (
        "http://localhost:8000",
        "http://localhost:9000",
        "http://localhost:8000/tenant",
    ):
        async with deploy(base_url=base_url) as server:
            browser = server.browser()
            await browser.open((await server.register()).authorization_url())
            names |= browser.cookies.keys()
    assert len(names) == 3


BAD_COOKIES = [
    "",
    "x",
    "é" * 43,
    "a" * 42,
    "a" * 44,
    "a" * 5000,
    '"' + "a" * 43 + '"',
    '"a\\012Set-Cookie: x=y"',
    "a" * 42 + "\n",
    "a" * 42 + "=",
    "a" * 21 + " " + "a" * 21,
]


@rows("value", BAD_COOKIES)
async def test_what_is_no_cookie_of_ours_is_replaced(value: str) -> None:
    """Nothing of it comes back in a header."""
    async with deploy() as server:
        client = await server.register()
        browser = await signed_in(server, client)
        name = next(name for name in browser.cookies if "browser" in name)
        session = next(name for name in browser.cookies if "session" in name)
        sent = f"{name}={value}; {session}={value}"
        path = client.authorization_url().removeprefix(BASE_URL)
        response = await server.call("GET", path, headers=[("Cookie", sent)])
        assert response.status == 303
        assert "/login?" in (response.header("location") or "")
        (line,) = response.all("set-cookie")
        assert re.match(rf"{name[:-8]}[A-Za-z0-9_-]{{8}}=[A-Za-z0-9_-]{{43}};", line)
        assert not value or f"={value};" not in line


async def test_cookies_of_other_applications_do_no_harm() -> None:
    async with deploy() as server:
        client = await server.register()
        browser = await signed_in(server, client)
        ours = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        path = client.authorization_url().removeprefix(BASE_URL)
        for other in (
            'prefs={"a": "b, c"}',
            "=x",
            "path=/",
            "expires",
            "a=b=c",
            ";;;",
            'x="a;b"',
            "é=ü",
        ):
            for header in (f"{other}; {ours}", f"{ours}; {other}"):
                response = await server.call(
                    "GET", path, headers=[("Cookie", header.encode().decode("latin-1"))]
                )
                assert "/consent?" in (response.header("location") or ""), header
        # RFC 9113 §8.2.3
        split = [("Cookie", f"{name}={value}") for name, value in browser.cookies.items()]
        response = await server.call("GET", path, headers=split)
        assert "/consent?" in (response.header("location") or "")


async def test_a_browser_keeps_its_cookie_while_several_tabs_are_open() -> None:
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        await browser.open(client.authorization_url())
        before = dict(browser.cookies)
        await browser.open(client.authorization_url())
        assert browser.cookies == before


# ---------------------------------------------------------------------------------------- lifetimes


@pytest.mark.parametrize(("idle", "stays"), [(3599, True), (3600, False)])
async def test_who_does_nothing_for_an_hour_is_signed_out(idle: int, stays: bool) -> None:
    async with deploy() as server:
        client = await server.register()
        browser = await signed_in(server, client)
        server.clock.advance(idle)
        assert await is_signed_in(browser, client) is stays


@pytest.mark.parametrize(("age", "stays"), [(43_199, True), (43_200, False)])
async def test_who_does_something_is_signed_out_after_twelve_hours(age: int, stays: bool) -> None:
    async with deploy() as server:
        client = await server.register()
        browser, passed = await signed_in(server, client), 0
        while passed + 1800 < age:
            server.clock.advance(1800)
            passed += 1800
            assert await is_signed_in(browser, client)
        server.clock.advance(age - passed)
        assert await is_signed_in(browser, client) is stays


async def test_lifetimes_are_the_operators() -> None:
    async with deploy(lifetimes=Lifetimes(session_seconds=100, session_idle_seconds=50)) as server:
        client = await server.register()
        browser = await signed_in(server, client)
        server.clock.advance(49)
        assert await is_signed_in(browser, client)
        server.clock.advance(50)
        assert not await is_signed_in(browser, client)


async def test_the_last_use_is_written_down_once_a_minute() -> None:
    async with deploy() as server:
        client = await server.register()
        browser = await signed_in(server, client)
        store = server.provider.store

        async def etag() -> int:
            ((_, record),) = await store.scan("session")
            return record.etag

        before = await etag()
        for _ in range(3):
            server.clock.advance(19)
            await browser.send("GET", "/applications")
        assert await etag() == before
        server.clock.advance(3)
        await browser.send("GET", "/applications")
        assert await etag() != before


# ---------------------------------------------------------------------------------- another session


async def test_every_sign_in_makes_a_new_session_and_ends_the_one_before() -> None:
    """Session fixation: what stood in the cookie before is worth nothing afterwards."""
    async with deploy() as server:
        client, planted = await server.register(), secrets.token_urlsafe(32)
        browser = await signed_in(server, client)
        name = next(name for name in browser.cookies if "session" in name)
        for before in (browser.cookies[name], planted):
            browser.cookies[name] = before
            page = await browser.open(client.authorization_url(prompt="login"))
            await browser.submit(page, username="alice")
            assert browser.cookies[name] != before
            old = Browser(server, {**browser.cookies, name: before})
            assert not await is_signed_in(old, client)


async def test_signing_out_ends_the_session_itself() -> None:
    async with deploy() as server:
        client = await server.register()
        browser = await signed_in(server, client)
        copy = Browser(server, dict(browser.cookies))
        page = await browser.open(f"{BASE_URL}/applications")
        page = await browser.submit(page, number=-1)
        assert "You are signed out" in page.text
        assert not await is_signed_in(copy, client)
        assert [event.action for event in server.events][-1] == "signed_out"


async def test_the_operator_signs_a_person_out_everywhere() -> None:
    async with deploy() as server:
        client = await server.register()
        browsers = [await signed_in(server, client) for _ in range(3)]
        bob = await signed_in(server, client, "bob")
        await server.provider.admin.revoke_person("alice")
        assert [await is_signed_in(browser, client) for browser in (*browsers, bob)] == [
            False,
            False,
            False,
            True,
        ]


# ------------------------------------------------------------------------------------------ prompts


@pytest.mark.rule("AS-28")
@rows(
    ("parameters", "stays"),
    [
        ({}, True),
        ({"prompt": "consent"}, True),
        ({"prompt": "create unknown"}, True),
        ({"prompt": "login"}, False),
        ({"prompt": "select_account"}, False),
        ({"prompt": "consent login"}, False),
        ({"max_age": "0"}, False),
        ({"max_age": "99"}, False),
        ({"max_age": "100"}, True),
        ({"max_age": "999999999"}, True),
        ({"login_hint": "bob"}, True),
    ],
)
async def test_a_client_may_ask_for_a_fresh_sign_in(
    parameters: dict[str, str], stays: bool
) -> None:
    """OpenID Connect Core §3.1.2.1."""
    async with deploy() as server:
        client = await server.register()
        browser = await signed_in(server, client)
        server.clock.advance(100)
        assert await is_signed_in(browser, client, **parameters) is stays
        server.clock.advance(1)
        page = await browser.open(client.authorization_url(**parameters))
        page = await browser.sign_in(page, username="alice")
        server.clock.advance(5)
        answer = answer_of((await browser.submit(page, action="approve")).url)
        assert "code" in answer


async def test_a_fresh_sign_in_cannot_be_stepped_over() -> None:
    async with deploy() as server:
        client = await server.register()
        browser = await signed_in(server, client)
        for parameters in ({"prompt": "login"}, {"max_age": "0"}):
            page = await browser.open(client.authorization_url(**parameters))
            response = await browser.send("GET", page.url.replace("/login", "/consent"))
            assert (response.header("location") or "").startswith(f"{BASE_URL}/login?")
            form = {
                "transaction": page.hidden["transaction"],
                "csrf": page.hidden["csrf"],
                "action": "approve",
            }
            response = await browser.send("POST", "/consent", form)
            assert (response.header("location") or "").startswith(f"{BASE_URL}/login?")


async def test_who_signed_in_in_another_tab_goes_on() -> None:
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        first, second = [await browser.open(client.authorization_url()) for _ in range(2)]
        await browser.submit(first, username="alice")
        page = await browser.open(second.url)
        assert page.url.startswith(f"{BASE_URL}/consent")


@pytest.mark.case("Z37")
async def test_a_sign_in_form_is_good_in_each_tab() -> None:
    """Its token belongs to the tab's transaction, not to a session that came later."""
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        pages = [await browser.open(client.authorization_url()) for _ in range(3)]
        for page in pages:
            assert (await browser.submit(page, username="alice")).url.startswith(
                f"{BASE_URL}/consent"
            )


@pytest.mark.parametrize("csrf", [None, "", "x"])
async def test_a_form_without_its_token_signs_no_person_in(csrf: str | None) -> None:
    """Login CSRF."""
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        form = {
            "transaction": page.hidden["transaction"],
            "username": "mallory",
            **({} if csrf is None else {"csrf": csrf}),
        }
        response = await browser.send("POST", "/login", form)
        assert (response.status, server.reasons()) == (403, ["csrf"])


async def test_another_persons_form_signs_no_person_in() -> None:
    """Login CSRF: the attacker's own page, whole, in the victim's browser."""
    async with deploy() as server:
        client = await server.register()
        attackers, victims = server.browser(), server.browser()
        page = await attackers.open(client.authorization_url())
        await victims.open(client.authorization_url())
        for victim in (victims, server.browser()):
            response = await victim.send("POST", "/login", {**page.hidden, "username": "mallory"})
            assert (response.status, server.reasons()) == (403, ["other_browser"])
            assert not any("session" in name for name in victim.cookies)


# ----------------------------------------------------------------------------------------- DevLogin


@pytest.mark.case("Z125")
@rows(
    "base_url",
    [
        "https://mcp.example.com",
        "https://10.0.0.1",
        "https://localhost.example.com",
        "https://127.0.0.1.nip.io",
    ],
)
async def test_a_login_without_passwords_is_for_loopback(base_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"DevLogin lets anyone in.*PasswordLogin"):
        OAuthProvider(base_url=base_url, login=DevLogin(), store=memory_store())


@rows(
    "base_url",
    ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1", "https://localhost:1"],
)
async def test_on_loopback_one_click_is_enough(base_url: str) -> None:
    login = DevLogin("dev-user")
    async with deploy(base_url=base_url, login=login) as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        page = await browser.submit(page)
        assert "dev-user" in page.text


@rows(
    ("host", "is_good"),
    [
        ("localhost:8000", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("app.localhost", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("localhost.evil.example:8000", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example#localhost", False),
        ("localhost@evil.example", False),
        ("", False),
        ("[::1", False),
        ("é", False),
    ],
)
async def test_pages_on_loopback_are_opened_under_names_of_this_machine(
    host: str, is_good: bool
) -> None:
    """DNS rebinding: under a name of its own, a hostile page would be of the same origin as
    ours.
    """
    async with deploy() as server:
        path = (await server.register()).authorization_url().removeprefix(BASE_URL)
        for target in (path, "/login?transaction=x", "/consent?transaction=x", "/applications"):
            response = await server.call("GET", target, headers=[("Host", host)])
            assert (response.status != 403) is is_good
        assert ("host" in server.reasons()) is not is_good


async def test_elsewhere_the_host_is_the_proxys_matter() -> None:
    async with deploy(base_url="https://mcp.example.com") as server:
        path = (await server.register()).authorization_url().removeprefix("https://mcp.example.com")
        assert (await server.call("GET", path, headers=[("Host", "10.1.2.3:8000")])).status == 303


@rows("name", ["x" * 256, "a\nb", "\u202ex", "nul\x00"])
async def test_a_name_that_no_token_can_carry_is_unknown(name: str) -> None:
    async with deploy() as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        page = await browser.submit(page, username=name)
        assert page.response.status == 401
        assert "This user name is not valid." in page.text
