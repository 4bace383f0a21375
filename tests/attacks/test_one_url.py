"""Two authorization servers with one base_url and one store keep their sessions apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from asgi_mcp_auth import DevLogin
from asgi_mcp_auth.server import PasswordLogin, ServerOptions
from asgi_mcp_auth.server.records import hash_of
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import Server, deploy, memory_store

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def two_servers(
    one: dict[str, Any], other: dict[str, Any]
) -> AsyncIterator[tuple[Server, Server]]:
    clock = FrozenClock()
    shared: dict[str, Any] = {"store": memory_store(clock), "clock": clock}
    async with deploy(**shared, **one) as first, deploy(**shared, **other) as second:
        yield first, second


STRICT = {"login": PasswordLogin({"alice": "alice's own password"})}
PREFIXED = {"options": ServerOptions(path_prefix="/oauth")}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"login": DevLogin()}, STRICT),
        ({}, {"mcp_path": "/other"}),
    ],
    ids=["another login", "another resource"],
)
async def test_a_session_of_one_is_worth_nothing_at_the_other_under_whichever_name(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """A person who can call themselves Alice at the lax one would be Alice at the strict one."""
    async with two_servers(one, other) as (lax, strict):
        browser = lax.browser()
        await (await lax.register()).code(browser=browser)
        cookies = [server.provider._server.cookies for server in (lax, strict)]
        assert cookies[0].session != cookies[1].session
        thief = strict.browser()
        thief.cookies.update(browser.cookies)
        thief.cookies[cookies[1].session] = browser.cookies[cookies[0].session]
        page = await thief.open((await strict.register()).authorization_url())
        assert "/login" in page.url


async def test_a_page_that_was_begun_at_one_cannot_be_gone_on_with_at_the_other() -> None:
    async with two_servers({"login": DevLogin()}, STRICT) as (lax, strict):
        browser = lax.browser()
        page = await browser.open((await lax.register()).authorization_url())
        thief = strict.browser()
        (secret,) = browser.cookies.values()
        thief.cookies[strict.provider._server.cookies.browser(hash_of(secret))] = secret
        assert (await thief.open(page.url)).response.status == 400


async def test_workers_and_a_restart_share_unfinished_requests_and_sessions() -> None:
    async with two_servers({"login": DevLogin("alice")}, {"login": DevLogin("bob")}) as (
        first,
        second,
    ):
        browser = first.browser()
        client = await first.register()
        await client.code(browser=browser)
        other = second.browser()
        other.cookies.update(browser.cookies)
        page = await other.open(client.authorization_url())
        assert "/consent" in page.url


async def test_a_request_that_was_pushed_for_one_resource_cannot_be_used_at_another() -> None:
    async with two_servers({}, {"mcp_path": "/other"}) as (one, other):
        client = await one.register()
        form = dict(parse_qsl(urlsplit(client.authorization_url()).query))
        request_uri = (await one.call("POST", "/par", form=form)).json()["request_uri"]
        query = urlencode({"client_id": client.client_id, "request_uri": request_uri})
        response = await other.call("GET", f"/authorize?{query}")
        assert (response.status, response.header("location")) == (400, None)
        assert other.reasons() == ["expired_form"]
