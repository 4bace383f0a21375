"""Real MCP clients sign in through a proxy, and tools call the identity provider's API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from asgi_mcp_auth import get_upstream_token
from asgi_mcp_auth.server import Lifetimes
from tests.interop.browser import Person
from tests.interop.clients import CLIENTS, Connection, Refused, python_sdk
from tests.interop.deployment import Deployment, deployed, whoever
from tests.interop.servers import mcp_sdk_server
from tests.proxy.upstreams.proxies import UPSTREAMS, proxy_for, subject_of
from tests.proxy.upstreams.upstream import Upstream, ask, bearer
from tests.support.asgi import App
from tests.support.engines import free_port
from tests.support.products import once_each

pytestmark = pytest.mark.asyncio

PROGRAMS = ["fastmcp", "python-sdk", "python-sdk-with-session", "typescript-sdk"]
WITH_FORMS = ["certified", "github"]
"""Those whose pages a person without JavaScript can use."""

NEW_CLIENT = ["client_registered", "signed_in", "approved", "token_issued"]
SIGN_IN = ["signed_in", "approved", "token_issued"]


def app_for(upstream: Upstream) -> App:
    """Return an MCP server with a tool that asks the upstream who its caller is."""
    server = mcp_sdk_server()

    @server.tool()
    async def upstream_profile() -> str:
        response = await ask(
            upstream.userinfo_endpoint, "GET", headers=bearer(await get_upstream_token())
        )
        return response.raise_for_status().text

    return server.streamable_http_app()


@asynccontextmanager
async def before(
    name: str, *, upstream_seconds: int = 3600, **settings: Any
) -> AsyncIterator[tuple[Deployment, Any]]:
    """Serve an MCP server that is protected by a proxy to an upstream.

    Args:
        name: of the upstream.
        upstream_seconds: the lifetime of the upstream's.
        settings: of the proxy.
    """
    port = free_port()
    lifetime = (
        {"expires_in": upstream_seconds}
        if name == "github"
        else {"access_seconds": upstream_seconds}
    )
    async with UPSTREAMS[name](
        callback=f"http://127.0.0.1:{port}/auth/callback", **lifetime
    ) as upstream:
        kind, known = proxy_for(upstream)
        lifetimes = Lifetimes(access_token_seconds=3600, revocation_lag_seconds=0)
        with deployed(
            app_for(upstream), port=port, kind=kind, lifetimes=lifetimes, **known, **settings
        ) as deployment:
            yield deployment, upstream


def expire(deployment: Deployment, connection: Connection) -> None:
    """Let the tokens of both legs expire, by the clocks of the proxy and of the client."""
    deployment.clock.seconds += 3601
    connection.wait_for_expiry()


def named(profile: str) -> str:
    """Return who a profile is of."""
    document = json.loads(profile)
    found: str = document.get("login") or document["sub"].removeprefix("id-of-")
    return found


@pytest.mark.parametrize(("client", "name"), once_each(PROGRAMS, WITH_FORMS))
async def test_a_client_that_knows_only_the_url_gets_in_and_its_tool_knows_the_person(
    client: str, name: str
) -> None:
    async with (
        before(name) as (deployment, upstream),
        CLIENTS[client](deployment.url, "alice") as connection,
    ):
        assert whoever(await connection.call("whoami")) == {subject_of(upstream)}
        assert deployment.done() == NEW_CLIENT
        assert named(await connection.call("upstream_profile")) == "alice"
        assert connection.sign_ins == 1
        assert [each.grant_type for each in await upstream.requests()] == ["authorization_code"]


@pytest.mark.rule("PX-11")
@pytest.mark.parametrize(
    ("client", "name"), once_each(["python-sdk", "typescript-sdk"], WITH_FORMS)
)
async def test_a_client_stays_in_while_the_tokens_of_both_legs_expire(
    client: str, name: str
) -> None:
    async with (
        before(name) as (deployment, upstream),
        CLIENTS[client](deployment.url) as connection,
    ):
        for _ in range(3):
            assert named(await connection.call("upstream_profile")) == "alice"
            expire(deployment, connection)
        assert named(await connection.call("upstream_profile")) == "alice"
        assert connection.sign_ins == 1
        assert {*deployment.done()[len(NEW_CLIENT) :]} == {"token_refreshed"}
        assert len(await upstream.refreshes()) == 3
        assert await upstream.reused() == set()


@pytest.mark.rule("PX-06")
@pytest.mark.parametrize("name", WITH_FORMS)
async def test_a_sign_in_that_ended_upstream_leads_to_a_new_one(
    name: str,
) -> None:
    async with (
        before(name, upstream_seconds=600) as (deployment, upstream),
        python_sdk(deployment.url) as connection,
    ):
        assert named(await connection.call("upstream_profile")) == "alice"
        await upstream.revoke_user("alice")
        deployment.clock.seconds += 601
        # the tool fails, and its answer becomes a 401
        assert named(await connection.call("upstream_profile")) == "alice"
        assert [each for each in deployment.done() if each == "grant_revoked"] == ["grant_revoked"]
        assert connection.sign_ins == 2


@pytest.mark.rule("PX-06")
@pytest.mark.parametrize("client", ["python-sdk", "typescript-sdk"])
async def test_a_refresh_after_the_sign_in_ended_upstream_leads_to_a_new_sign_in(
    client: str,
) -> None:
    async with (
        before("certified") as (deployment, upstream),
        CLIENTS[client](deployment.url) as connection,
    ):
        assert named(await connection.call("upstream_profile")) == "alice"
        await upstream.revoke_user("alice")
        expire(deployment, connection)
        assert named(await connection.call("upstream_profile")) == "alice"
        assert connection.sign_ins == 2
        assert "grant_revoked" in deployment.done()


async def test_a_client_whose_user_says_no_upstream_is_told_and_gets_nothing() -> None:
    class SaysNoUpstream(Person):
        """Consents on our page, which comes first, and thinks better of it on the next one."""

        def _fill_in(self, http: httpx.Client, page: httpx.Response) -> httpx.Response:
            self.decision = "approve" if "/consent" in str(page.url) else "deny"
            return super()._fill_in(http, page)

    async with before("certified") as (deployment, upstream):
        with pytest.RaisesGroup(
            pytest.RaisesExc(Refused, match="access_denied"), flatten_subgroups=True
        ):
            async with python_sdk(deployment.url, SaysNoUpstream()):
                pass
        assert await upstream.requests() == []
        assert "token_issued" not in deployment.done()


@pytest.mark.case("P13")
async def test_a_tool_that_many_call_at_once_costs_one_refresh_upstream() -> None:
    async with (
        before("certified", upstream_seconds=600) as (deployment, upstream),
        python_sdk(deployment.url) as connection,
    ):
        await connection.call("whoami")
        deployment.clock.seconds += 590
        said = await connection.call_at_once("upstream_profile", 20)
        assert {named(each) for each in said} == {"alice"}
        assert len(await upstream.refreshes()) == 1
