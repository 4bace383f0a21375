"""A server that fetches client metadata documents from this machine, and clients that have one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgi_mcp_auth.server import Registration
from tests.support.asgi import Response
from tests.support.authorization_server import ClientOf, Server, deploy
from tests.support.tls import Authority

REDIRECT_URI = "http://127.0.0.1/callback"


@asynccontextmanager
async def developing(
    authority: Authority, *, registration: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Server]:
    """Run a server that fetches documents from this machine."""
    usual = {"development_documents": True, "development_ca_file": authority.ca_file}
    async with deploy(
        registration=Registration(**{**usual, **(registration or {})}), **settings
    ) as server:
        yield server


def client_of(server: Server, url: str, redirect_uri: str = REDIRECT_URI) -> ClientOf:
    """Return the client whose document is at ``url``."""
    return ClientOf(server, {"client_id": url, "redirect_uris": [redirect_uri]})


async def ask(server: Server, url: str, **parameters: str) -> Response:
    """Send an authorization request of the client ``url``."""
    return await server.browser().send(
        "GET", client_of(server, url).authorization_url(**parameters)
    )


async def ask_token(server: Server, url: str) -> Response:
    """Ask the token endpoint as the client ``url``; one that is known hears that its code is not
    good.
    """
    return await server.token(
        client_id=url, grant_type="authorization_code", code="x", code_verifier="v" * 43
    )
