"""Two identity providers for one server: JWTs of your staff's, opaque tokens of your partners'.

ISSUER=https://staff.example.com PARTNERS=https://partners.example.com PARTNERS_INTROSPECTION=…
PARTNERS_SECRET=… \
    python -m examples.several_issuers
"""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_mcp_auth import (
    IntrospectionTokenVerifier,
    JWTVerifier,
    MCPAuthMiddleware,
    MultiAuth,
    RemoteAuthProvider,
)

ISSUER = os.environ.get("ISSUER", "https://staff.example.com")
PARTNERS = os.environ.get("PARTNERS", "https://partners.example.com")
PORT = int(os.environ.get("PORT", "8000"))
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")

staff = JWTVerifier(issuer=ISSUER)
partners = IntrospectionTokenVerifier(
    introspection_url=os.environ.get("PARTNERS_INTROSPECTION", f"{PARTNERS}/introspect"),
    client_id=os.environ.get("PARTNERS_CLIENT", "notes-server"),
    client_secret=os.environ.get("PARTNERS_SECRET", "change-me"),
    issuer=PARTNERS,
)


async def whoami(request: Request) -> JSONResponse:
    """Name the caller. A subject is unique only together with its issuer."""
    return JSONResponse({"issuer": request.auth.claims.get("iss"), "subject": request.auth.subject})


provider = RemoteAuthProvider(
    MultiAuth(verifiers=[staff, partners], required_scopes=["notes:read"]),
    authorization_servers=[ISSUER, PARTNERS],
    base_url=BASE_URL,
)
app = MCPAuthMiddleware(Starlette(routes=[Route("/notes", whoami)]), provider, mcp_path="/notes")

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
