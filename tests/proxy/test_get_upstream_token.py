"""get_upstream_token asks the proxy whose middleware serves the request, wherever it is called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import anyio.from_thread
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from asgi_mcp_auth import (
    ConfigurationError,
    MCPAuthMiddleware,
    MultiAuth,
    StaticTokenVerifier,
    get_upstream_token,
)
from tests.support.asgi import App, Receive, Scope, Send, call
from tests.support.authorization_server import BASE_URL, SCOPES, Server
from tests.support.proxy import deploy_proxy, tokens_for
from tests.support.upstream import Upstream

pytestmark = pytest.mark.asyncio


def tool(ask: Callable[[Scope], Awaitable[str]]) -> App:
    """Return an app that answers with an upstream token, or with why there is none."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            text = await ask(scope)
        except ConfigurationError as error:
            text = str(error)
        await PlainTextResponse(text)(scope, receive, send)

    return app


async def request(app: Any, access_token: str, path: str = "/mcp") -> str:
    """Return what the tool of an app says."""
    headers = {"Authorization": f"Bearer {access_token}", "Host": urlsplit(BASE_URL).netloc}
    return (await call(app, "POST", path, headers)).body.decode()


async def access_token_for(server: Server, upstream: Upstream, user: str) -> str:
    """Sign a person in; return the access token of their client."""
    tokens = await tokens_for(upstream, await server.register(), user)
    token: str = tokens["access_token"]
    return token


async def ask_with_scope(scope: Scope) -> str:
    return await get_upstream_token(scope)


async def ask_with_context(scope: Scope) -> str:
    return await get_upstream_token()


async def ask_from_thread(scope: Scope) -> str:
    return await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(get_upstream_token))


OTHERS = StaticTokenVerifier({"of-another-issuer": {"client_id": "other", "scopes": SCOPES}})
ASKS = pytest.mark.parametrize("ask", [ask_with_scope, ask_with_context, ask_from_thread])


@ASKS
async def test_two_proxies_at_one_url_each_know_their_own_tokens(
    upstream: Upstream, ask: Callable[[Scope], Awaitable[str]]
) -> None:
    """As after a reload, or in a test suite: the second does not take the place of the first."""
    async with deploy_proxy(upstream) as first, deploy_proxy(upstream) as second:
        for server, user in ((first, "alice"), (second, "bob")):
            server.app.app = tool(ask)
            token = await access_token_for(server, upstream, user)
            assert upstream.access[await request(server.app, token)] == user


@ASKS
async def test_a_proxy_among_several_sources_is_found(
    upstream: Upstream, ask: Callable[[Scope], Awaitable[str]]
) -> None:
    async with deploy_proxy(upstream) as server:
        both = MultiAuth(server=server.provider, verifiers=OTHERS)
        app = MCPAuthMiddleware(tool(ask), both, mcp_path="/mcp")
        token = await access_token_for(server, upstream, "alice")
        assert upstream.access[await request(app, token)] == "alice"


async def test_an_app_mounted_behind_the_middleware_finds_it(upstream: Upstream) -> None:
    async def endpoint(request: Request) -> PlainTextResponse:
        assert await get_upstream_token() == await get_upstream_token(request)
        return PlainTextResponse(await get_upstream_token(request))

    inner = Starlette(routes=[Route("/tool", endpoint, methods=["POST"])])
    async with deploy_proxy(upstream) as server:
        server.app.app = Starlette(routes=[Mount("/mcp", app=inner)])
        token = await access_token_for(server, upstream, "alice")
        assert upstream.access[await request(server.app, token, "/mcp/tool")] == "alice"


@ASKS
async def test_a_token_of_another_issuer_is_a_mistake_in_the_program(
    upstream: Upstream, ask: Callable[[Scope], Awaitable[str]]
) -> None:
    async with deploy_proxy(upstream) as server:
        for provider in (OTHERS, MultiAuth(server=server.provider, verifiers=OTHERS)):
            app = MCPAuthMiddleware(tool(ask), provider, mcp_path="/mcp")
            assert "no OAuthProxy or OIDCProxy" in await request(app, "of-another-issuer")
