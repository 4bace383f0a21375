"""Starlette: an open path, scopes for a path and for a mounted app, and one that a handler asks
for.

ISSUER=https://your-issuer.example.com python -m examples.starlette_app
"""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from asgi_mcp_auth import (
    InsufficientScope,
    JWTVerifier,
    MCPAuthMiddleware,
    RemoteAuthProvider,
    RequireScopes,
    Rule,
)

ISSUER = os.environ.get("ISSUER", "https://idp.example.com")
PORT = int(os.environ.get("PORT", "8000"))
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")

provider = RemoteAuthProvider(
    JWTVerifier(issuer=ISSUER),
    authorization_servers=[ISSUER],
    base_url=BASE_URL,
    scopes_supported=["notes:read", "notes:write", "notes:admin"],
)


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"signed_in": request.user.is_authenticated})


async def notes(request: Request) -> JSONResponse:
    if request.method == "DELETE" and "notes:write" not in request.auth.scopes:
        raise InsufficientScope("notes:read", "notes:write")
    return JSONResponse({"user": request.user.display_name, "scopes": request.auth.scopes})


admin = Starlette(routes=[Route("/", notes)])
app = Starlette(
    routes=[
        Route("/health", health),
        Route("/notes", notes, methods=["GET", "DELETE"]),
        Mount("/admin", RequireScopes(admin, ["notes:admin"])),
    ],
    middleware=[
        Middleware(
            MCPAuthMiddleware,
            provider=provider,
            mcp_path="/notes",
            public_paths=["/health"],
            rules=[Rule("/notes", scopes=["notes:read"])],
        )
    ],
)

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
