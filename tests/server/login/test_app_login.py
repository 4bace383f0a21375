"""``AppLogin``: the host application signs people in on its own page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from asgi_mcp_auth import AppLogin, ConfigurationError, MCPAuthMiddleware, OAuthProvider
from asgi_mcp_auth.server import Person, ServerOptions
from tests.support.authorization_server import (
    BASE_URL,
    WEB_REDIRECT_URI,
    Browser,
    Server,
    answer_of,
    deploy,
    memory_store,
)
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

ELSEWHERE = "https://app.example.com/sign-in?from=mcp"
ALICE, BOB = Person(subject="user-1", name="Alice"), Person(subject="user-2", name="Bob")


@asynccontextmanager
async def hosted() -> AsyncIterator[tuple[Server, AppLogin]]:
    """Run a Starlette application with a sign-in page of its own; a browser with its cookie is
    signed in there.
    """
    login = AppLogin(f"{BASE_URL}/account/sign-in")

    async def account(request: Request) -> Response:
        user = request.cookies.get("app_user")
        if request.method == "POST":
            form = await request.form()
            transaction, user = str(form["transaction"]), str(form["user"])
        elif user is None or request.query_params.get("prompt") == "login":
            transaction = request.query_params["transaction"]
            return HTMLResponse(
                '<form method="post" action="http://localhost:8000/account/sign-in">'
                f'<input type="hidden" name="transaction" value="{transaction}">'
                '<input type="text" name="user" value=""></form>'
            )
        else:
            transaction = request.query_params["transaction"]
        url = await login.complete(transaction, Person(subject=f"app|{user}", name=user))
        response = RedirectResponse(url, 303)
        response.set_cookie("app_user", user)
        return response

    async with deploy(login=login) as server:
        app = Starlette(routes=[Route("/account/sign-in", account, methods=["GET", "POST"])])
        server.app = MCPAuthMiddleware(
            app, server.provider, mcp_path="/mcp", public_paths=["/account/"]
        )
        yield server, login


@asynccontextmanager
async def elsewhere(**settings: Any) -> AsyncIterator[tuple[Server, AppLogin]]:
    """Run a server whose people sign in at another host."""
    login = AppLogin(ELSEWHERE)
    async with deploy(login=login, **settings) as server:
        yield server, login


async def sent_to_app(browser: Browser, url: str) -> str:
    """Open a URL of ours; return the transaction with which the application's page is opened."""
    page = await browser.open(url)
    assert page.url.startswith("https://app.example.com/sign-in?from=mcp&transaction="), page.url
    return parse_qs(urlsplit(page.url).query)["transaction"][0]


# ----------------------------------------------------------------------------------------- it works


async def test_the_application_signs_people_in_behind_the_same_middleware() -> None:
    async with hosted() as (server, _):
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        assert page.url.startswith(f"{BASE_URL}/account/sign-in?transaction=")
        page = await browser.submit(page, user="alice")
        assert page.url.startswith(f"{BASE_URL}/consent?transaction=")
        code = answer_of((await browser.submit(page, action="approve")).url)["code"]
        assert (await client.redeem(code)).status == 200
        assert [event.subject for event in server.events if event.action == "token_issued"] == [
            "app|alice"
        ]
        # known there
        assert (await browser.open(client.authorization_url())).url.startswith(
            f"{BASE_URL}/consent"
        )


async def test_the_application_signs_people_in_on_another_host() -> None:
    async with elsewhere() as (server, login):
        client, browser = await server.register(), server.browser()
        transaction = await sent_to_app(browser, client.authorization_url())
        url = await login.complete(transaction, ALICE)
        assert url.startswith(f"{BASE_URL}/login?transaction={transaction}&handover=")
        page = await browser.open(url)
        assert "Alice" in page.text
        assert "handover" not in page.url
        assert "code" in answer_of((await browser.submit(page, action="approve")).url)


async def test_who_is_signed_in_is_the_applications_word_each_time() -> None:
    """On a shared computer, Bob signed in at the application after Alice, and this server was not
    told.
    """
    async with hosted() as (server, _):
        client, browser = await server.register(), server.browser()
        page = await browser.submit(await browser.open(client.authorization_url()), user="alice")
        await browser.submit(page, action="approve")
        browser.cookies["app_user"] = "bob"
        page = await browser.open(client.authorization_url())
        assert "bob" in page.text
        assert "alice" not in page.text


async def test_another_account_is_asked_for_at_the_application() -> None:
    async with hosted() as (server, _):
        client, browser = await server.register(), server.browser()
        page = await browser.submit(await browser.open(client.authorization_url()), user="alice")
        page = await browser.submit(page, action="switch")
        assert page.url.endswith("&prompt=login")
        page = await browser.submit(page, user="bob")
        assert "bob" in page.text
        code = answer_of((await browser.submit(page, action="approve")).url)["code"]
        await client.redeem(code)
        assert [event.subject for event in server.events if event.action == "token_issued"] == [
            "app|bob"
        ]


@pytest.mark.parametrize(
    "parameters", [{"prompt": "login"}, {"prompt": "select_account"}, {"max_age": "0"}]
)
async def test_a_fresh_sign_in_happens_at_the_application_and_once(
    parameters: dict[str, str],
) -> None:
    async with hosted() as (server, _):
        client, browser = await server.register(), server.browser()
        browser.cookies["app_user"] = "alice"
        page = await browser.open(client.authorization_url(**parameters))
        assert page.url.endswith("&prompt=login")
        page = await browser.submit(page, user="alice")
        server.clock.advance(5)
        assert "code" in answer_of((await browser.submit(page, action="approve")).url)


@pytest.mark.case("Z37")
async def test_two_tabs_do_not_disturb_each_other() -> None:
    async with elsewhere() as (server, login):
        client, browser = await server.register(), server.browser()
        transactions = [await sent_to_app(browser, client.authorization_url()) for _ in range(2)]
        pages = [await browser.open(await login.complete(each, ALICE)) for each in transactions]
        for page in pages:
            assert "code" in answer_of((await browser.submit(page, action="approve")).url)


async def test_a_person_who_cancels_the_sign_in_returns_to_the_client() -> None:
    async with elsewhere() as (server, login):
        client, browser = await server.register(redirect_uris=[WEB_REDIRECT_URI]), server.browser()
        transaction = await sent_to_app(browser, client.authorization_url())
        url = (await browser.open(await login.complete(transaction, None))).url
        answer = answer_of(url)
        assert (answer["error"], answer["state"]) == ("access_denied", "the-state")
        assert (await browser.send("GET", f"/login?transaction={transaction}")).status == 400


async def test_the_applications_are_shown_to_whom_the_application_knows() -> None:
    async with elsewhere() as (server, login):
        browser = server.browser()
        transaction = await sent_to_app(browser, f"{BASE_URL}/applications")
        page = await browser.open(await login.complete(transaction, ALICE))
        assert page.url == f"{BASE_URL}/applications"
        assert "Alice" in page.text
        assert (await browser.send("GET", "/applications")).status == 200


# ------------------------------------------------------------------------------------------ attacks


async def test_a_victim_who_finishes_an_attackers_sign_in_gives_nothing_away() -> None:
    """Login CSRF: the attacker begins, the victim follows the link to the application, which knows
    them.
    """
    async with elsewhere() as (server, login):
        client = await server.register()
        attacker, victim = server.browser(), server.browser()
        transaction = await sent_to_app(attacker, client.authorization_url())
        url = await login.complete(transaction, ALICE)  # in the victim's browser
        assert (await victim.send("GET", url)).status == 403
        await victim.open(client.authorization_url())
        assert (await victim.send("GET", url)).status == 403  # with a cookie of their own, too
        assert server.reasons() == ["other_browser", "other_browser"]
        response = await attacker.send("GET", f"/login?transaction={transaction}")
        assert (response.header("location") or "").startswith("https://app.example.com/")
        response = await attacker.send("GET", f"/consent?transaction={transaction}")
        assert "/login" in (response.header("location") or "")


async def test_an_attackers_account_does_not_get_into_a_victims_sign_in() -> None:
    async with elsewhere() as (server, login):
        client = await server.register()
        attacker, victim = server.browser(), server.browser()
        theirs = await sent_to_app(attacker, client.authorization_url())
        url = await login.complete(theirs, BOB)
        victims = await sent_to_app(victim, client.authorization_url())
        assert (await victim.send("GET", url)).status == 403
        assert (await victim.send("GET", url.replace(theirs, victims))).status == 400
        assert server.reasons() == ["other_browser", "expired_form"]


async def test_a_handover_is_good_once() -> None:
    async with elsewhere() as (server, login):
        client, browser = await server.register(), server.browser()
        transaction = await sent_to_app(browser, client.authorization_url())
        url = await login.complete(transaction, ALICE)
        responses = await asyncio.gather(*(browser.send("GET", url) for _ in range(10)))
        assert sorted(response.status for response in responses) == [303] + [400] * 9
        assert (await browser.send("GET", url)).status == 400


@pytest.mark.parametrize(("age", "status"), [(59, 303), (60, 400)])
async def test_a_handover_is_good_for_a_minute(age: int, status: int) -> None:
    async with elsewhere() as (server, login):
        client, browser = await server.register(), server.browser()
        url = await login.complete(await sent_to_app(browser, client.authorization_url()), ALICE)
        server.clock.advance(age)
        assert (await browser.send("GET", url)).status == status


async def test_a_handover_is_for_one_transaction() -> None:
    async with elsewhere() as (server, login):
        client, browser = await server.register(), server.browser()
        one, other = [await sent_to_app(browser, client.authorization_url()) for _ in range(2)]
        url = await login.complete(one, ALICE)
        assert (await browser.send("GET", url.replace(one, other))).status == 400
        assert server.reasons() == ["expired_form"]


@rows("handover", ["", "x", "a" * 43, "é", "\x00"])
async def test_a_made_up_handover_is_none(handover: str) -> None:
    async with elsewhere() as (server, _):
        client, browser = await server.register(), server.browser()
        transaction = await sent_to_app(browser, client.authorization_url())
        response = await browser.send(
            "GET", f"/login?transaction={transaction}&handover={quote(handover)}"
        )
        assert response.status == 400
        assert not any("session" in line for line in response.all("set-cookie"))


@rows("transaction", ["x&handover=y", "x#y", "é", "", "a\r\nb"])
async def test_what_the_application_was_given_is_no_way_to_break_the_url(transaction: str) -> None:
    async with elsewhere() as (_, login):
        url = await login.complete(transaction, ALICE)
        query = parse_qs(urlsplit(url).query, keep_blank_values=True)
        assert (query["transaction"], len(query["handover"])) == ([transaction], 1)
        assert url.startswith(f"{BASE_URL}/login?")


# ----------------------------------------------------------------------------------------- settings


@rows(
    ("login_url", "words"),
    [
        (None, "login_url must be given"),
        ("/sign-in", "not an absolute"),
        ("http://app.example.com/sign-in", "not encrypted"),
        ("https://app.example.com/sign-in#x", "fragment"),
        ("https://user@app.example.com/sign-in", "user name"),
        ("javascript:alert(1)", "not an absolute"),
    ],
)
async def test_the_page_of_the_application_is_an_https_url(login_url: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        AppLogin(login_url)


@pytest.mark.parametrize(
    "login_url", ["https://mcp.example.com/login", "https://mcp.example.com/login?x=1"]
)
async def test_the_page_of_the_application_is_not_ours(login_url: str) -> None:
    """Browsers would go round and round."""
    with pytest.raises(ConfigurationError, match=r"own sign-in page.*path_prefix"):
        OAuthProvider(
            base_url="https://mcp.example.com", login=AppLogin(login_url), store=memory_store()
        )
    options = ServerOptions(path_prefix="/oauth")
    OAuthProvider(
        base_url="https://mcp.example.com",
        login=AppLogin(login_url),
        store=memory_store(),
        options=options,
    )


async def test_before_there_is_a_server_no_person_can_be_signed_in() -> None:
    with pytest.raises(ConfigurationError, match=r"not in use yet: pass it to OAuthProvider"):
        await AppLogin(ELSEWHERE).complete("x", ALICE)


@rows("person", ["alice", Person(subject=""), Person(subject="a\nb"), Person(subject="x" * 256)])
async def test_a_person_has_a_subject(person: Any) -> None:
    async with elsewhere() as (_, login):
        with pytest.raises(ConfigurationError):
            await login.complete("x", person)
