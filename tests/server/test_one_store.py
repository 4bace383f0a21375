"""Several authorization servers on one store: none sees the records of another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import (
    CONFIDENTIAL,
    Server,
    answer_of,
    basic,
    deploy,
    memory_store,
)
from tests.support.engines import ENGINES, fresh
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

OURS, THEIRS = "http://localhost:8000", "http://localhost:8001"


@asynccontextmanager
async def two_servers() -> AsyncIterator[tuple[Server, Server]]:
    """Run two servers on one store; both know the client ``CONFIDENTIAL``, and one of them has no
    registration.
    """
    clock, registration = (
        FrozenClock(),
        Registration(clients=[CONFIDENTIAL], metadata_documents=False),
    )
    settings: dict[str, Any] = {
        "store": memory_store(clock),
        "clock": clock,
        "registration": registration,
    }
    closed = deploy(base_url=THEIRS, allow_dynamic_registration=False, **settings)
    async with deploy(base_url=OURS, **settings) as ours, closed as theirs:
        yield ours, theirs


async def test_a_client_of_one_server_is_unknown_at_another() -> None:
    async with two_servers() as (ours, theirs):
        client = replace(await ours.register(), server=theirs)
        page = await theirs.browser().open(client.authorization_url())
        assert (page.response.status, theirs.reasons()) == (400, ["unknown_client"])
        for server, known in ((ours, {"service", client.client_id}), (theirs, {"service"})):
            assert {each.client_id async for each in server.provider.admin.clients()} == known


async def test_a_code_a_refresh_token_and_an_access_token_are_good_where_they_were_issued() -> None:
    """A person who allowed a client one thing has not allowed it another, though both servers know
    the client.
    """
    async with two_servers() as (ours, theirs):
        client = ours.known(CONFIDENTIAL)
        elsewhere = replace(client, server=theirs)
        code = await client.code()
        assert (await elsewhere.redeem(code)).json()["error"] == "invalid_grant"
        tokens = (await client.redeem(code)).json()
        assert (await elsewhere.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
        assert theirs.reasons() == ["unknown_code", "unknown_refresh_token"]
        assert (await theirs.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401
        assert [grant async for grant in theirs.provider.admin.grants()] == []
        assert (await client.refresh(tokens["refresh_token"])).status == 200
        key_sets = [
            (await each.call("GET", "/.well-known/jwks.json")).json() for each in (ours, theirs)
        ]
        assert key_sets[0] != key_sets[1]


async def test_a_session_and_a_consent_count_at_one_server_only() -> None:
    async with two_servers() as (ours, theirs):
        client, browser = ours.known(CONFIDENTIAL), ours.browser()
        await client.code(browser=browser)
        # a page of ours led there: a consent may be remembered
        browser.headers["Sec-Fetch-Site"] = "same-origin"
        # not asked again
        assert "code" in answer_of((await browser.open(client.authorization_url())).url)
        stranger = theirs.browser()
        stranger.headers |= browser.headers
        tags = [server._server.cookies.session for server in (ours.provider, theirs.provider)]
        stranger.cookies[tags[1]] = browser.cookies[tags[0]]
        page = await stranger.open(replace(client, server=theirs).authorization_url())
        assert page.url.startswith(f"{THEIRS}/login")
        page = await stranger.sign_in(page, username="alice")
        assert page.url.startswith(f"{THEIRS}/consent")


async def test_what_was_pushed_to_one_server_is_unknown_at_another() -> None:
    async with two_servers() as (ours, theirs):
        client = ours.known(CONFIDENTIAL)
        form = dict(parse_qsl(urlsplit(client.authorization_url()).query))
        headers = basic(client.client_id, str(CONFIDENTIAL["client_secret"]))
        uri = (await ours.call("POST", "/par", headers=headers, form=form)).json()["request_uri"]
        query = urlencode({"client_id": client.client_id, "request_uri": uri})
        assert (await theirs.browser().send("GET", f"{THEIRS}/authorize?{query}")).status == 400
        assert theirs.reasons() == ["request_uri"]
        assert (await ours.browser().send("GET", f"{OURS}/authorize?{query}")).status == 303


@rows("engine", ENGINES)
async def test_the_defaults_of_two_servers_share_an_engine_and_nothing_else(engine: str) -> None:
    with fresh(engine) as place:
        async with (
            deploy(base_url=OURS, store=place.store()) as ours,
            deploy(base_url=THEIRS, store=place.store()) as b,
        ):
            client = await ours.register()
            tokens = await client.sign_in()
            assert [each async for each in b.provider.admin.clients()] == []
            assert [each async for each in b.provider.admin.grants()] == []
            assert await b.provider.admin.revoke_person("alice") == 0
            assert (await client.refresh(tokens["refresh_token"])).status == 200


async def test_two_workers_of_one_server_are_one() -> None:
    clock = FrozenClock()
    store = memory_store(clock)
    async with deploy(store=store, clock=clock) as one, deploy(store=store, clock=clock) as other:
        client = await one.register()
        tokens = await client.sign_in()
        assert (await replace(client, server=other).refresh(tokens["refresh_token"])).status == 200
        assert (await other.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
