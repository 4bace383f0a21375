"""A proxy in this process, before an upstream identity provider on a real socket.

async with deploy_proxy(upstream) as server:
    client, browser = await server.register(), server.browser()
    callback = upstream.approve(await depart(browser, client))
    answer = await come_back(browser, callback)
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

from asgi_mcp_auth import IntrospectionTokenVerifier, OAuthProxy, OIDCProxy, get_upstream_token
from asgi_mcp_auth.claims import ANY_AUDIENCE
from asgi_mcp_auth.errors import AuthError
from asgi_mcp_auth.proxy import UpstreamIdentity
from asgi_mcp_auth.server import Person
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT
from tests.support.asgi import Response, call
from tests.support.authorization_server import (
    Browser,
    ClientOf,
    Server,
    answer_of,
    deploy,
)
from tests.support.upstream import CLIENT_ID, CLIENT_SECRET, Upstream

KINDS = ("oidc", "oauth")


def deploy_proxy(
    upstream: Upstream, which: str = "oidc", /, **settings: Any
) -> AbstractAsyncContextManager[Server]:
    """Run a proxy of one of ``KINDS``, as ``deploy`` does; its clock is the upstream's."""
    usual: dict[str, Any] = {"clock": upstream.clock}
    if which == "oidc":
        usual |= {
            "kind": OIDCProxy,
            "issuer": upstream.issuer,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
        }
    else:
        usual |= {
            "kind": OAuthProxy,
            "upstream_authorization_endpoint": f"{upstream.issuer}/authorize",
            "upstream_token_endpoint": f"{upstream.issuer}/token",
            "upstream_revocation_endpoint": f"{upstream.issuer}/revoke",
            "upstream_client_id": CLIENT_ID,
            "upstream_client_secret": CLIENT_SECRET,
            "token_verifier": IntrospectionTokenVerifier(
                introspection_url=upstream.introspection_url,
                client_id=INTROSPECTION_CLIENT[0],
                client_secret=INTROSPECTION_CLIENT[1],
                issuer=upstream.issuer,
                audience=ANY_AUDIENCE,
                cache_ttl_seconds=0,
                clock=upstream.clock,
            ),
        }
    return deploy(**{**usual, **settings})


async def welcome(identity: UpstreamIdentity) -> Person:
    """Admit every person."""
    return Person(subject=identity.subject)


async def told(server: Server) -> None:
    """Wait until the identity provider has been told which tokens are no longer used, or has not
    answered.
    """
    provider: Any = server.provider
    await provider._login._returns.settle()


async def depart(browser: Browser, client: ClientOf, **parameters: str | None) -> str:
    """Consent; return where the browser is sent upstream."""
    page = await browser.open(client.authorization_url(**parameters))
    assert page.url.startswith(f"{browser.server.provider.base_url}/consent?"), page.url
    return (await browser.submit(page, action="approve")).url


async def come_back(browser: Browser, callback: str) -> Response:
    """Return from the identity provider."""
    return await browser.send("GET", callback)


async def code_of(
    upstream: Upstream, client: ClientOf, user: str = "alice", browser: Browser | None = None
) -> str:
    """Sign in all the way; return the code for the client."""
    browser = browser or client.server.browser()
    response = await come_back(browser, upstream.approve(await depart(browser, client), user))
    answer = answer_of(response.header("location") or "")
    assert "code" in answer, answer
    return answer["code"]


async def tokens_for(upstream: Upstream, client: ClientOf, user: str = "alice") -> dict[str, Any]:
    """Sign in all the way; return the token response."""
    response = await client.redeem(await code_of(upstream, client, user))
    assert response.status == 200, response.body
    document: dict[str, Any] = response.json()
    return document


async def upstream_token(server: Server, access_token: str) -> str:
    """Return what a tool gets that asks for the upstream token during a request with this access
    token.
    """
    found: list[Any] = []

    async def tool(scope: Any, receive: Any, send: Any) -> None:
        try:
            found.append(await get_upstream_token(scope))
        except AuthError as error:
            found.append(error)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app, server.app.app = server.app.app, tool
    host = urlsplit(server.provider.base_url or "").netloc
    try:
        headers = [("Authorization", f"Bearer {access_token}"), ("Host", host)]
        await call(server.app, "POST", "/mcp", headers)
    finally:
        server.app.app = app
    (result,) = found
    if isinstance(result, Exception):
        raise result
    token: str = result
    return token


async def attempt_error(server: Server, upstream: Upstream) -> str:
    """Sign in with a new client; return the error that it is told."""
    client, browser = await server.register(), server.browser()
    response = await come_back(browser, upstream.approve(await depart(browser, client)))
    return answer_of(response.header("location") or "")["error"]
