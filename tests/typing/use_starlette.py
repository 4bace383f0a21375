"""Starlette: the middleware list, wrapping from outside, routes by hand, a mounted sub-app,
step-up.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.websockets import WebSocket

from asgi_mcp_auth import (
    InsufficientScope,
    JWTVerifier,
    MCPAuthMiddleware,
    RemoteAuthProvider,
    RequireScopes,
    get_access_token,
    insufficient_scope_response,
)

provider = RemoteAuthProvider(
    JWTVerifier(issuer="https://idp.example"),
    authorization_servers=["https://idp.example"],
    base_url="https://mcp.example.com",
)


@requires("notes:read")
async def notes(request: Request) -> JSONResponse:
    token = get_access_token(request)
    if token is None or not token.has_scopes("notes:write"):
        raise InsufficientScope("notes:write")
    return JSONResponse({"client": token.client_id, "scopes": token.scopes})


async def live(websocket: WebSocket) -> None:
    token = get_access_token(websocket)
    await websocket.accept()
    await websocket.send_text(token.client_id if token else "nobody")


admin = Starlette(routes=[Route("/", notes)])
routes = [Route("/notes", notes), Mount("/admin", app=RequireScopes(admin, ["admin"]))]
inside = Starlette(
    routes=routes,
    middleware=[
        Middleware(MCPAuthMiddleware, provider=provider, mcp_path="/mcp", public_paths=["/health"])
    ],
)
outside = Starlette(routes=routes)
outside.add_exception_handler(InsufficientScope, insufficient_scope_response)
wrapped = MCPAuthMiddleware(outside, provider, mcp_path="/mcp")
by_hand = Starlette(
    routes=[*provider.get_routes("/mcp"), *routes], middleware=provider.get_middleware()
)
