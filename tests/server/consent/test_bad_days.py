"""Consent on bad days: failing stores, races, slow clients, and the log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asgi_mcp_auth import AppLogin, PasswordLogin
from asgi_mcp_auth.server import Person
from asgi_mcp_auth.server.web import BODY_SECONDS
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import handshake
from tests.support.authorization_server import (
    BASE_URL,
    KEY,
    WEB_REDIRECT_URI,
    Browser,
    answer_of,
    deploy,
)
from tests.support.engines import fresh
from tests.support.failing import FailingStore
from tests.support.products import STORIES
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio


@pytest.mark.case("Z38")
@pytest.mark.parametrize("engine", STORIES)
async def test_of_many_clicks_at_once_there_is_one_code_on_every_engine(engine: str) -> None:
    with fresh(engine) as place:
        async with deploy(store=place.store()) as server:
            browser, client = server.browser(), await server.register()
            page = await browser.sign_in(
                await browser.open(client.authorization_url()), username="alice"
            )
            pages = await asyncio.gather(
                *(browser.submit(page, action="approve") for _ in range(20))
            )
            assert len({each.url for each in pages}) == 1
            code = answer_of(pages[0].url)["code"]
            assert len(await server.provider.store.scan("code")) == 1
            assert (await client.redeem(code)).status == 200
            assert code.encode() not in place.dump()
            assert page.hidden["transaction"].encode() not in place.dump()
            assert all(value.encode() not in place.dump() for value in browser.cookies.values())


@pytest.mark.parametrize("engine", STORIES)
async def test_of_yes_and_no_at_once_one_counts_on_every_engine(engine: str) -> None:
    with fresh(engine) as place:
        async with deploy(store=place.store()) as server:
            browser, client = server.browser(), await server.register()
            page = await browser.sign_in(
                await browser.open(client.authorization_url()), username="alice"
            )
            pages = await asyncio.gather(
                *(browser.submit(page, action=each) for each in ["approve", "deny"] * 10)
            )
            answers = {
                tuple(sorted(answer_of(each.url))) for each in pages if each.response.status == 303
            }
            assert len(answers) == 1


@pytest.mark.case("S25")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_store_that_fails_at_any_call_means_503_and_the_next_try_succeeds(
    when: Any,
) -> None:
    """Whichever step was cut short, the person clicks again, and there is one code."""
    clock = FrozenClock()
    for number in range(1, 40):
        failing = FailingStore(MemoryStore(clock=clock), when=when)
        async with deploy(store=EncryptedStore(failing, [KEY]), clock=clock) as server:
            browser, client = (
                server.browser(),
                await server.register(redirect_uris=[WEB_REDIRECT_URI]),
            )
            page = await browser.sign_in(
                await browser.open(client.authorization_url()), username="alice"
            )
            failing.fail_at = len(failing.calls) + number
            first = await browser.submit(page, action="approve")
            is_last, failing.fail_at = failing.fail_at > len(failing.calls), 0
            assert first.response.status in (303, 503)
            if first.response.status == 503:
                assert first.response.header("retry-after") == "1"
                assert "Please go back and try again in a moment." in first.text
            second = await browser.submit(page, action="approve")
            assert (await client.redeem(answer_of(second.url)["code"])).status == 200
            assert len(await server.provider.store.scan("code")) == 1
            if is_last:
                break
    else:
        raise AssertionError("there were more calls than this test tries")
    assert number > 5


@pytest.mark.case("S25")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_signing_in_survives_a_store_that_fails_at_any_call(when: Any) -> None:
    clock = FrozenClock()
    for number in range(1, 40):
        failing = FailingStore(MemoryStore(clock=clock), when=when)
        async with deploy(store=EncryptedStore(failing, [KEY]), clock=clock) as server:
            browser, client = server.browser(), await server.register()
            page = await browser.open(client.authorization_url(prompt="login"))
            failing.fail_at = len(failing.calls) + number
            first = await browser.submit(page, username="alice")
            is_last, failing.fail_at = failing.fail_at > len(failing.calls), 0
            assert first.response.status in (200, 503)
            again = await browser.submit(page, username="alice")
            assert again.url.startswith(f"{BASE_URL}/consent")
            assert "code" in answer_of((await browser.submit(again, action="approve")).url)
            if is_last:
                break
    else:
        raise AssertionError("there were more calls than this test tries")


@pytest.mark.case("Z123")
@rows("path", ["/authorize", "/login", "/consent", "/applications", "/logout", "/par"])
async def test_a_form_that_does_not_arrive_is_given_up(path: str) -> None:
    """After ten seconds; here the client leaves before."""
    assert BODY_SECONDS == 10
    async with deploy() as server:
        sent: list[Any] = []
        messages = [
            {"type": "http.request", "body": b"a=", "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/x-www-form-urlencoded")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "client": ("127.0.0.1", 1),
        }
        await server.app(scope, receive, send)
        assert sent[0]["status"] == 400


@rows("path", ["/authorize", "/login", "/consent", "/applications", "/logout"])
async def test_pages_are_no_websockets(path: str) -> None:
    async with deploy() as server:
        result = await handshake(server.app, path)
        assert result.denial is not None
        assert result.denial.status == 404
        assert (await handshake(server.app, path, denial=False)).close_code == 1008


@pytest.mark.case("Z51")
async def test_no_secret_of_a_browser_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Not the password, nor cookies, nor forms' tokens, nor transactions, nor codes; whatever the
    level.
    """
    caplog.set_level(logging.DEBUG)
    secrets: list[str] = ["the-password", "wrong-password"]
    async with deploy(login=PasswordLogin({"alice": "the-password"})) as server:
        client, browser = await server.register(redirect_uris=[WEB_REDIRECT_URI]), server.browser()
        page = await browser.open(client.authorization_url(state="secret-state"))
        secrets += [*page.hidden.values(), *browser.cookies.values()]
        page = await browser.submit(page, username="alice", password="wrong-password")
        page = await browser.submit(page, username="alice", password="the-password")
        secrets += [*page.hidden.values(), *browser.cookies.values()]
        await browser.submit(page, action="approve", csrf="wrong")
        url = (await browser.submit(page, action="approve")).url
        secrets += [answer_of(url)["code"], "secret-state"]
        await browser.open(page.url)
        await Browser(server).open(page.url)
        await browser.open(f"{BASE_URL}/applications")
        await server.call("GET", f"/authorize?client_id={secrets[-2]}")
    login = AppLogin("https://app.example.com/sign-in")
    async with deploy(login=login) as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        transaction = page.url.rpartition("=")[2]
        url = await login.complete(transaction, Person(subject="alice"))
        secrets += [transaction, url.rpartition("=")[2]]
        await browser.open(url)
        await browser.open(url)
    assert len(caplog.records) > 5
    secrets = [each for each in secrets if len(each) >= 10]
    for record in caplog.records:
        text = f"{record.getMessage()} {record.__dict__}"
        assert not any(secret in text for secret in secrets), text
