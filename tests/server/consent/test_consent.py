"""The consent page: what it shows, and the one decision that it takes."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest

from asgi_mcp_auth.server import Client, Lifetimes, Pages, Person, Registration
from asgi_mcp_auth.server.clients.known import KNOWN_REDIRECT_URIS
from asgi_mcp_auth.server.clients.records import CLIENTS
from asgi_mcp_auth.server.records import hash_of
from tests.support.authorization_server import (
    BASE_URL,
    CONFIDENTIAL,
    REDIRECT_URI,
    RESOURCE,
    WEB_REDIRECT_URI,
    Browser,
    ClientOf,
    Page,
    Server,
    Trusting,
    answer_of,
    deploy,
    memory_store,
)
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

HERE = {"Sec-Fetch-Site": "same-origin"}  # a page of the same origin began the navigation


async def consent_page(
    browser: Browser, client: ClientOf, user: str = "alice", **parameters: str | None
) -> Page:
    """Return the page that asks ``user``."""
    page = await browser.sign_in(
        await browser.open(client.authorization_url(**parameters)), username=user
    )
    assert page.url.startswith(f"{BASE_URL}/consent?transaction="), page.url
    return page


async def is_asked(browser: Browser, client: ClientOf, **parameters: str | None) -> bool:
    """Return whether a person who is signed in has to consent; otherwise they are at the client
    with a code.
    """
    page = await browser.open(client.authorization_url(**parameters))
    if page.url.startswith(f"{BASE_URL}/consent"):
        return True
    assert "code" in answer_of(page.url)
    return False


def text_of(page: Page) -> str:
    """Return what a person reads."""
    body = page.text.split("<body>")[1]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


# ------------------------------------------------------------------------------------ what is shown


@pytest.mark.case("Z41")
@pytest.mark.rule("AS-25")
async def test_the_page_says_who_asks_for_what_for_whom_and_where_it_goes() -> None:
    pages = Pages(scope_descriptions={"mcp:read": "Read your notes"})
    async with deploy(pages=pages) as server:
        client = await server.register(
            client_name="Notes Assistant", redirect_uris=[WEB_REDIRECT_URI]
        )
        page = await consent_page(
            server.browser(), client, scope="mcp:read mcp:write offline_access"
        )
        text = text_of(page)
        for words in (
            "“Notes Assistant”",
            "The application chose this name. It has not been verified.",
            "Your account alice",
            f"Gets access to {RESOURCE}",
            "You will be sent to app.example.com",
            "Read your notes",
            "mcp:write",
            "Keep access while you are away",
        ):
            assert words in text
        assert "on this device" not in text


@pytest.mark.case("Z41")
@pytest.mark.rule("AS-25")
async def test_for_programs_on_the_persons_machine_there_is_a_warning() -> None:
    """RFC 8252 §8.6."""
    async with deploy(allowed_redirect_schemes=["cursor"]) as server:
        for redirect in (REDIRECT_URI, "cursor://callback", *KNOWN_REDIRECT_URIS):
            client = await server.register(redirect_uris=[redirect])
            text = text_of(await consent_page(server.browser(), client))
            assert "any other program on it can claim to be this application" in text
            assert "a program on this device (" in text


async def test_the_operators_own_clients_are_not_called_unchecked() -> None:
    async with deploy(
        registration=Registration(clients=[{**CONFIDENTIAL, "client_name": "Our app"}])
    ) as server:
        text = text_of(await consent_page(server.browser(), server.known(CONFIDENTIAL)))
        assert "“Our app”" in text
        assert "has not been verified" not in text


@pytest.mark.case("Z98")
async def test_a_client_with_the_name_of_a_known_one_is_still_called_unchecked() -> None:
    async with deploy(
        registration=Registration(clients=[{**CONFIDENTIAL, "client_name": "Our app"}])
    ) as server:
        client = await server.register(client_name="Our app")
        assert "has not been verified" in text_of(await consent_page(server.browser(), client))


async def test_a_host_is_never_cut_where_its_owner_stands() -> None:
    host = ".".join(["app.example.com", *["a" * 60] * 3, "evil.example"])
    async with deploy() as server:
        client = await server.register(redirect_uris=[f"https://{host}/callback"])
        assert f"You will be sent to {host}" in text_of(
            await consent_page(server.browser(), client)
        )
        long = "app.example.com." + "a." * 400 + "evil.example"
        client = await server.register(redirect_uris=[f"https://{long}/callback"])
        text = text_of(await consent_page(server.browser(), client))
        assert ".a.evil.example" in text
        assert "app.example.com" not in text


@pytest.mark.case("Z40")
@rows(
    ("name", "expected"),
    [
        ("<svg onload=alert(1)>", "“&lt;svg onload=alert(1)&gt;”"),
        ("Claude” by “Anthropic", "“Claude&#x27; by &#x27;Anthropic”"),
        ('Claude"', "“Claude&#x27;”"),
        ("N" + "\u0300" * 50 + "otes", "“\u01f8\u0300\u0300otes”"),
        ("N\u20dd\u0489otes", "“Notes”"),
        ("\u3164\u2800\u115f", "an unnamed application"),
        ("a" * 500, "“" + "a" * 63 + "…”"),
        ("a\u3000\u2003b", "“a b”"),
        ("אבג Notes", "“אבג Notes”"),
    ],
)
async def test_a_name_is_shown_as_a_name(name: str, expected: str) -> None:
    async with deploy() as server:
        page = await consent_page(server.browser(), await server.register(client_name=name))
        assert expected in page.text
        assert expected.startswith("an ") or f"<bdi>{expected}</bdi>" in page.text


@pytest.mark.case("Z40")
@rows("name", ["\u202egnp.exe", "a\u200bb", "a\u2066b", "a\x00b", "a\nb"])
async def test_what_cannot_be_seen_is_not_shown(name: str) -> None:
    """However it got into the store: registration refuses it."""
    metadata = {
        "client_name": name,
        "redirect_uris": [WEB_REDIRECT_URI],
        "grant_types": ["authorization_code"],
    }
    async with deploy() as server:
        known = Client(
            client_id="old",
            metadata={**metadata, "token_endpoint_auth_method": "none"},
            origin="registered",
        )
        await _keep(server, known)
        client = ClientOf(server, {"client_id": "old", "redirect_uris": [WEB_REDIRECT_URI]})
        page = await consent_page(server.browser(), client)
        assert name not in page.text
        shown = re.findall(r"<bdi>“(.*?)”</bdi>", page.text)
        assert all(each.isprintable() for each in shown)


async def _keep(server: Server, client: Client) -> None:
    await server.provider.store.put(CLIENTS.name, hash_of(client.client_id), client.dump())


@pytest.mark.case("Z40")
async def test_nothing_of_a_clients_is_loaded() -> None:
    async with deploy() as server:
        uris = {
            name: f"https://evil.example/{name}"
            for name in ("logo_uri", "client_uri", "tos_uri", "policy_uri")
        }
        page = await consent_page(server.browser(), await server.register(**uris))
        assert "evil.example" not in page.text


# ------------------------------------------------------------------------------- what is in the way


@pytest.mark.case("Z35")
@rows("csrf", [None, "", "x", "a" * 43, "é" * 20])
async def test_a_form_without_its_token_decides_nothing(csrf: str | None) -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        form = {**page.hidden, "action": "approve", "csrf": csrf}
        response = await browser.send(
            "POST", "/consent", {k: v for k, v in form.items() if v is not None}
        )
        assert (response.status, response.header("location")) == (403, None)
        assert server.reasons() == ["csrf"]
        assert "code" in answer_of((await browser.submit(page, action="approve")).url)


@pytest.mark.case("Z35")
async def test_the_token_of_another_transaction_page_or_person_does_not_fit() -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page, other = await consent_page(browser, client), await consent_page(browser, client)
        login = await browser.open(client.authorization_url(prompt="login"))
        for token in (other.hidden["csrf"], login.hidden["csrf"]):
            response = await browser.send(
                "POST", "/consent", {**page.hidden, "action": "approve", "csrf": token}
            )
            assert response.status == 403
        bob = await consent_page(browser, client, user="bob", prompt="login")
        response = await browser.send("POST", "/consent", {**page.hidden, "action": "approve"})
        assert response.status == 403
        assert server.reasons() == ["csrf"] * 3
        assert "bob" in bob.text


@pytest.mark.case("Z35")
async def test_a_visit_approves_nothing() -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        response = await browser.send(
            "GET", f"{page.url}&action=approve&csrf={page.hidden['csrf']}"
        )
        assert (response.status, b"Allow" in response.body) == (200, True)


@pytest.mark.case("Z35")
@rows("action", [None, "", "Approve", "allow", "approve deny"])
async def test_nothing_else_is_a_decision(action: str | None) -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        form = page.hidden if action is None else {**page.hidden, "action": action}
        assert (await browser.send("POST", "/consent", form)).status == 403
        assert "code" in answer_of((await browser.submit(page, action="approve")).url)


@pytest.mark.case("Z36")
@rows(
    ("headers", "allowed"),
    [
        ({"Sec-Fetch-Site": "same-origin", "Origin": BASE_URL}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": BASE_URL}, True),
        ({"Origin": "null"}, True),
        ({}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "SAME-ORIGIN"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": f"{BASE_URL}.evil.example"}, False),
        ({"Origin": "http://localhost:8001"}, False),
    ],
)
async def test_a_form_of_another_site_decides_nothing(
    headers: Mapping[str, str], allowed: bool
) -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        response = await browser.send(
            "POST", "/consent", {**page.hidden, "action": "approve"}, headers
        )
        assert response.status == (303 if allowed else 403)
        assert server.reasons() == ([] if allowed else ["cross_site"])


@pytest.mark.case("Z36")
async def test_a_form_from_another_browser_decides_nothing() -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        for cookies in (
            {},
            dict.fromkeys(browser.cookies, "x"),
            {n: secrets.token_urlsafe(32) for n in browser.cookies},
        ):
            stranger = Browser(server, cookies)
            response = await stranger.send("POST", "/consent", {**page.hidden, "action": "approve"})
            assert response.status == 403
            assert (await stranger.send("GET", page.url)).status == 403
        assert server.reasons() == ["other_browser"] * 6
        session_only = Browser(server, {n: v for n, v in browser.cookies.items() if "session" in n})
        assert (
            await session_only.send("POST", "/consent", {**page.hidden, "action": "approve"})
        ).status == 403


@pytest.mark.case("Z13")
@rows("transaction", [None, "", "x", "a" * 43, "é", "\x00", "x" * 5000])
@rows("path", ["/login", "/consent"])
async def test_an_unknown_transaction_is_a_page(path: str, transaction: str | None) -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        await consent_page(browser, client)
        form = {} if transaction is None else {"transaction": transaction}
        for method, target in (
            ("GET", path + "?" + "&".join(f"{k}={quote(v, safe='')}" for k, v in form.items())),
            ("POST", path),
        ):
            response = await browser.send(method, target, form if method == "POST" else None)
            assert (response.status, response.header("location")) == (400, None)
        assert server.reasons() == ["expired_form", "expired_form"]


@pytest.mark.case("Z13")
@pytest.mark.parametrize(("age", "is_good"), [(599, True), (600, False), (601, False)])
async def test_a_transaction_lives_for_ten_minutes(age: int, is_good: bool) -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        assert len(page.hidden["transaction"]) == 43  # 256 bits
        server.clock.advance(age)
        page_after = await browser.submit(page, action="approve")
        assert (page_after.response.status == 303) is is_good
        assert server.reasons() == ([] if is_good else ["expired_form"])


@pytest.mark.case("Z13")
async def test_a_transaction_outlives_a_restart_of_the_server() -> None:
    store = memory_store()
    async with deploy(store=store) as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
    async with deploy(store=store, clock=server.clock) as restarted:
        again = Browser(restarted, browser.cookies)
        assert "code" in answer_of((await again.submit(page, action="approve")).url)


@pytest.mark.case("Z44", "Z39")
@pytest.mark.rule("AS-24")
async def test_every_page_is_for_this_browser_alone() -> None:
    """No-store, no frames, no referrer, nothing from elsewhere."""
    async with deploy() as server:
        browser, client = server.browser(), await server.register(redirect_uris=[WEB_REDIRECT_URI])
        login = await browser.open(client.authorization_url())
        consent = await consent_page(browser, client)
        pages = [
            login.response,
            consent.response,
            await browser.send("GET", "/applications"),
            await browser.send("GET", "/authorize?client_id=nobody"),
            await browser.send("GET", "/consent"),
            await browser.send("PUT", "/login"),
            (await browser.open(client.authorization_url(scope="x"), None)).response,
        ]
        nonces = set()
        for response in pages[:-1]:
            policy = dict(
                part.strip().partition(" ")[::2]
                for part in (response.header("content-security-policy") or "").split(";")
            )
            assert policy["default-src"] == "'none'"
            assert (policy["frame-ancestors"], policy["base-uri"]) == ("'none'", "'none'")
            nonces.add(policy["style-src"])
            assert (
                policy["style-src"].removeprefix("'nonce-").removesuffix("'")
                in response.body.decode()
            )
            assert response.header("x-frame-options") == "DENY"
            assert response.header("x-content-type-options") == "nosniff"
            assert response.header("referrer-policy") == "no-referrer"
            assert response.header("cache-control") == "no-store"
            assert not re.search(rb"(?:src|href)=\"(?!data:|http://localhost:8000/)", response.body)
            assert b"<script" not in response.body
            assert b" style=" not in response.body
        assert len(nonces) == len(pages) - 1


# ------------------------------------------------------------------------------------- the decision


@pytest.mark.case("Z45")
@pytest.mark.rule("AS-15")
async def test_a_denial_is_told_and_leaves_nothing() -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        url = await browser.decide(client.authorization_url(), action="deny")
        answer = answer_of(url)
        assert answer.keys() == {"error", "error_description", "state", "iss"}
        assert answer["error"] == "access_denied"
        store = server.provider.store
        for kind in ("consent", "code", "grant"):
            assert await store.scan(kind) == []
        assert [event.action for event in server.events if event.subject == "alice"] == [
            "signed_in",
            "denied",
        ]


@pytest.mark.case("Z38")
async def test_the_same_form_again_brings_the_same_code_until_it_is_used() -> None:
    """One code for any number of clicks. Browsers show the answer to the last click only."""
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        urls = {(await browser.submit(page, action="approve")).url for _ in range(3)}
        assert len(urls) == 1
        assert len(await server.provider.store.scan("code")) == 1
        tokens = (await client.redeem(answer_of(urls.pop())["code"])).json()
        again = await browser.submit(page, action="approve")
        assert again.response.status == 400
        assert server.reasons() == ["expired_form"]
        # no replay of the code
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200


@pytest.mark.case("Z38")
async def test_of_twenty_clicks_at_once_there_is_one_code() -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        pages = await asyncio.gather(*(browser.submit(page, action="approve") for _ in range(20)))
        assert len({page.url for page in pages}) == 1
        assert len(await server.provider.store.scan("code")) == 1


@pytest.mark.case("Z38")
async def test_of_yes_and_no_at_once_one_counts() -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        actions = ["approve", "deny"] * 10
        pages = await asyncio.gather(*(browser.submit(page, action=action) for action in actions))
        answers = {
            tuple(sorted(answer_of(page.url))) for page in pages if page.response.status == 303
        }
        assert len(answers) == 1
        assert sum(page.response.status == 400 for page in pages) == 10


@pytest.mark.case("Z38")
@pytest.mark.parametrize(
    ("first", "second"), [("approve", "deny"), ("deny", "approve"), ("approve", "switch")]
)
async def test_what_is_decided_is_decided(first: str, second: str) -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        await browser.submit(page, action=first)
        assert (await browser.submit(page, action=second)).response.status == 400
        assert server.reasons()[-1] == "expired_form"


@pytest.mark.case("Z38")
@pytest.mark.parametrize(("age", "is_good"), [(59, True), (60, False)])
async def test_the_same_form_is_good_for_as_long_as_its_code(age: int, is_good: bool) -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        url = (await browser.submit(page, action="approve")).url
        server.clock.advance(age)
        again = await browser.submit(page, action="approve")
        assert (again.url == url and again.response.status == 303) is is_good


@pytest.mark.case("Z12")
async def test_a_request_from_the_browsers_history_asks_again() -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        await client.redeem(answer_of((await browser.submit(page, action="approve")).url)["code"])
        assert (await browser.send("GET", page.url)).status == 400
        again = await browser.open(client.authorization_url())
        assert again.url.startswith(f"{BASE_URL}/consent")
        assert again.hidden["transaction"] != page.hidden["transaction"]


@pytest.mark.case("Z37")
async def test_two_tabs_with_two_clients_do_not_disturb_each_other() -> None:
    async with deploy() as server:
        browser = server.browser()
        clients = [await server.register(client_name=name) for name in ("First", "Second")]
        logins = [
            await browser.open(client.authorization_url(state=client.client_id))
            for client in clients
        ]
        pages = [await browser.submit(login, username="alice") for login in logins]
        pages_again = [await browser.open(page.url) for page in pages]
        for client, page in reversed(list(zip(clients, pages, strict=True))):
            answer = answer_of((await browser.submit(page, action="approve")).url)
            assert answer["state"] == client.client_id
            assert (await client.redeem(answer["code"])).status == 200
        assert (await browser.submit(pages_again[0], action="approve")).response.status == 400


@pytest.mark.case("Z43")
async def test_what_alice_was_shown_is_not_approved_for_bob() -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        await consent_page(browser, client, user="bob", prompt="login")
        response = await browser.send("POST", "/consent", {**page.hidden, "action": "approve"})
        assert (response.status, server.reasons()) == (403, ["csrf"])
        shown = await browser.open(page.url)
        assert "bob" in shown.text
        assert "alice" not in shown.text


async def test_another_account_is_asked_for_consent_again() -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client)
        login = await browser.submit(page, action="switch")
        assert login.url.startswith(f"{BASE_URL}/login?transaction={page.hidden['transaction']}")
        assert not any("session" in name for name in browser.cookies)
        page = await browser.submit(login, username="bob")
        code = answer_of((await browser.submit(page, action="approve")).url)["code"]
        await client.redeem(code)
        assert [event.subject for event in server.events if event.action == "token_issued"] == [
            "bob"
        ]


async def test_what_is_approved_is_what_was_shown() -> None:
    """The operator's policy changed while the page was open."""
    allowed = ["mcp:read", "mcp:write"]
    options = {"grant_scopes": lambda person, client, scopes: list(allowed)}
    async with deploy(options=options) as server:
        browser, client = server.browser(), await server.register()
        page = await consent_page(browser, client, scope="mcp:read mcp:write")
        allowed.remove("mcp:write")
        assert (await browser.submit(page, action="approve")).response.status == 403
        page = await browser.open(page.url)
        assert "mcp:write" not in page.text
        code = answer_of((await browser.submit(page, action="approve")).url)["code"]
        assert (await client.redeem(code)).json()["scope"] == "mcp:read"


async def test_a_person_who_may_grant_nothing_is_told_and_so_is_the_client() -> None:
    async with deploy(options={"grant_scopes": lambda person, client, scopes: []}) as server:
        url = await server.browser().decide((await server.register()).authorization_url())
        assert answer_of(url)["error"] == "access_denied"


async def test_there_is_nothing_to_decide_on_the_way_to_the_applications() -> None:
    async with deploy() as server:
        browser = server.browser()
        page = await browser.open(f"{BASE_URL}/applications")
        response = await browser.send("GET", page.url.replace("/login", "/consent"))
        assert (response.status, server.reasons()) == (400, ["invalid_request"])


# ------------------------------------------------------------------------------- what is remembered

CASES: dict[str, tuple[dict[str, Any], dict[str, str | None], bool]] = {
    "the same again": ({}, {}, False),
    "fewer scopes": ({}, {"scope": "mcp:read"}, False),
    "prompt=consent": ({}, {"prompt": "consent"}, True),
    "loopback": ({"redirect_uris": [REDIRECT_URI]}, {}, True),
    "private scheme": ({"redirect_uris": ["cursor://callback"]}, {}, True),
}


@pytest.mark.case("Z34")
@pytest.mark.rule("AS-26")
@rows(("metadata", "parameters", "asked"), CASES.values(), ids=list(CASES))
async def test_an_application_on_the_web_is_asked_about_once(
    metadata: dict[str, Any], parameters: dict[str, str | None], asked: bool
) -> None:
    async with deploy(allowed_redirect_schemes=["cursor"]) as server:
        client = await server.register(**{"redirect_uris": [WEB_REDIRECT_URI], **metadata})
        browser = Browser(server, headers=dict(HERE))
        usual: dict[str, str | None] = {"scope": "mcp:read mcp:write"}
        assert "code" in answer_of(await browser.decide(client.authorization_url(**usual)))
        assert await is_asked(browser, client, **{**usual, **parameters}) is asked


@pytest.mark.case("Z34")
async def test_more_scopes_and_other_addresses_are_asked_about() -> None:
    async with deploy() as server:
        other = "https://app.example.com/other"
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI, other])
        browser = Browser(server, headers=dict(HERE))
        await browser.decide(client.authorization_url(scope="mcp:read"))
        assert not await is_asked(browser, client, scope="mcp:read")
        assert await is_asked(browser, client, scope="mcp:read mcp:write")
        assert await is_asked(browser, client, scope="mcp:read offline_access")
        assert await is_asked(browser, client, scope="mcp:read", redirect_uri=other)
        assert await is_asked(
            browser, await server.register(redirect_uris=[WEB_REDIRECT_URI]), scope="mcp:read"
        )


@pytest.mark.case("Z34")
async def test_a_consent_is_one_persons() -> None:
    async with deploy() as server:
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI])
        await Browser(server, headers=dict(HERE)).decide(client.authorization_url())
        bob = Browser(server, headers=dict(HERE))
        page = await bob.sign_in(await bob.open(client.authorization_url()), username="bob")
        assert page.url.startswith(f"{BASE_URL}/consent")


@pytest.mark.case("Z34")
async def test_a_consent_for_another_resource_does_not_count() -> None:
    store = memory_store()
    async with deploy(store=store) as server:
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI])
        browser = Browser(server, headers=dict(HERE))
        await browser.decide(client.authorization_url())
        assert not await is_asked(browser, client)
    async with deploy(
        store=store, clock=server.clock, options={"resource_base_url": "http://localhost:9"}
    ) as moved:
        other = Browser(moved, headers=dict(HERE))
        page = await other.open(ClientOf(moved, client.information).authorization_url())
        assert "/consent" in (await other.sign_in(page, username="alice")).url


@pytest.mark.case("Z34")
@pytest.mark.parametrize(("age", "asked"), [(99, False), (100, True)])
async def test_a_consent_is_remembered_for_so_long(age: int, asked: bool) -> None:
    async with deploy(lifetimes=Lifetimes(consent_seconds=100)) as server:
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI])
        browser = Browser(server, headers=dict(HERE))
        await browser.decide(client.authorization_url())
        server.clock.advance(age)
        assert await is_asked(browser, client) is asked


@pytest.mark.case("Z34")
async def test_a_denial_is_not_remembered_and_takes_nothing_back() -> None:
    async with deploy() as server:
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI])
        browser = Browser(server, headers=dict(HERE))
        await browser.decide(client.authorization_url(), action="deny")
        assert await is_asked(browser, client)


@pytest.mark.case("P03")
@rows("public", [True, False])
@rows(
    ("site", "asked"),
    [
        ("cross-site", True),
        ("same-site", True),
        (None, True),
        ("none", True),
        ("same-origin", False),
    ],
)
async def test_a_consent_counts_only_where_a_page_of_ours_began_the_navigation(
    site: str | None, public: bool, asked: bool
) -> None:
    """A hostile authorization server hands its users on with the id of a client that they know (RFC
    9700 §4.4).
    """
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        client = (
            await server.register(redirect_uris=[WEB_REDIRECT_URI])
            if public
            else server.known(CONFIDENTIAL)
        )
        browser = Browser(server)
        await browser.decide(client.authorization_url())
        browser.headers = {} if site is None else {"Sec-Fetch-Site": site}
        assert await is_asked(browser, client) is asked


async def test_a_silent_request_is_answered_where_a_consent_is_remembered() -> None:
    async with deploy() as server:
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI])
        browser = Browser(server, headers=dict(HERE))
        await browser.decide(client.authorization_url())
        assert not await is_asked(browser, client, prompt="none")
        browser.headers = {"Sec-Fetch-Site": "cross-site"}
        page = await browser.open(client.authorization_url(prompt="none"))
        assert answer_of(page.url)["error"] == "consent_required"


async def test_names_of_persons_are_shown_and_subjects_are_not() -> None:
    people = {"alice": Person(subject="user-1", name="Alice <b>")}
    async with deploy(login=Trusting(people)) as server:
        page = await consent_page(server.browser(), await server.register())
        assert "Alice &lt;b&gt;" in page.text
        assert "user-1" not in page.text
