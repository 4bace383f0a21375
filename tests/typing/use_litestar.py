"""Litestar: wrapped from outside; handlers read the token from their request or its scope."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Request, get

from asgi_mcp_auth import AccessToken, MCPAuthMiddleware, StaticTokenVerifier, get_access_token


@get("/notes")
async def notes(request: Request[Any, Any, Any]) -> dict[str, str]:
    token: AccessToken | None = get_access_token(request)
    return {"client": token.client_id if token else "nobody"}


app = MCPAuthMiddleware(
    Litestar(route_handlers=[notes]),
    StaticTokenVerifier(tokens={"dev-token": {"client_id": "me", "scopes": ["notes:read"]}}),
    required_scopes=["notes:read"],
)
