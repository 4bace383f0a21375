"""The app of several uvicorn processes that are one proxy, with a tool behind that calls the
identity provider.

The tool answers with who the identity provider says its caller is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from asgi_mcp_auth import OAuthProvider, get_upstream_token
from asgi_mcp_auth.server import Lifetimes
from asgi_mcp_auth.stores import store_from_url
from tests.proxy.upstreams.proxies import proxy_with
from tests.support.asgi import App, Receive, Scope, Send
from tests.support.workers import WorkersApp

APP = f"{__name__}:app"
STALE = 424
"""The tool's answer if the identity provider refused the token; the next call cures that."""


class Tool:
    """Calls the identity provider for its caller: 200 and their profile, or the error.

    Args:
        userinfo_url: of the identity provider.
    """

    def __init__(self, userinfo_url: str) -> None:
        self._userinfo_url = userinfo_url
        self._http = httpx.AsyncClient(trust_env=False, timeout=10)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = await get_upstream_token(scope)  # what it raises is the middleware's to answer
        response = await self._http.get(
            self._userinfo_url, headers={"Authorization": f"Bearer {token}"}
        )
        # Another worker may have refreshed meanwhile; with some providers a token ends when it has
        # a successor.
        status = STALE if response.status_code == 401 else response.status_code
        headers = [(b"content-type", b"application/json"), (b"retry-after", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": response.content})


def _build(
    base_url: str, url: str, keys: Sequence[str], *, upstream: dict[str, Any], access_seconds: int
) -> tuple[OAuthProvider, App]:
    kind, settings = proxy_with(**upstream)
    provider: OAuthProvider = kind(
        base_url=base_url,
        store=store_from_url(url, encryption_keys=keys),
        required_scopes=["mcp:read"],
        scopes_supported=["mcp:read", "mcp:write"],
        lifetimes=Lifetimes(access_token_seconds=access_seconds),
        rate_limits=None,
        **settings,
    )
    return provider, Tool(upstream["userinfo_endpoint"])


app = WorkersApp.of(_build, __name__)
