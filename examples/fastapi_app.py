"""FastAPI: a dependency gives handlers the token, checks scopes, and shows in the OpenAPI document
at /docs.

ISSUER=https://your-issuer.example.com python -m examples.fastapi_app
"""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import FastAPI, Request, Security
from fastapi.security import HTTPBearer, SecurityScopes

from asgi_mcp_auth import (
    AccessToken,
    InsufficientScope,
    JWTVerifier,
    MCPAuthMiddleware,
    RemoteAuthProvider,
    get_access_token,
)

ISSUER = os.environ.get("ISSUER", "https://idp.example.com")
PORT = int(os.environ.get("PORT", "8000"))
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")

provider = RemoteAuthProvider(
    JWTVerifier(issuer=ISSUER),
    authorization_servers=[ISSUER],
    base_url=BASE_URL,
    scopes_supported=["notes:read", "notes:write"],
)
bearer = HTTPBearer(bearerFormat="JWT", auto_error=False)  # for the document only
open_paths = ["/docs", "/openapi.json"]


def caller(
    request: Request, needed: SecurityScopes, _: Annotated[object, Security(bearer)]
) -> AccessToken:
    token = get_access_token(request)
    if token is None or not token.has_scopes(*needed.scopes):
        # 403; 401 where nobody is logged in, on a public path
        raise InsufficientScope(*needed.scopes)
    return token


app = FastAPI(title="Notes")
app.add_middleware(MCPAuthMiddleware, provider=provider, mcp_path="/notes", public_paths=open_paths)


@app.get("/notes")
async def read_notes(
    token: Annotated[AccessToken, Security(caller, scopes=["notes:read"])],
) -> dict[str, str]:
    return {"reader": token.subject or token.client_id}


@app.delete("/notes")
async def delete_notes(
    token: Annotated[AccessToken, Security(caller, scopes=["notes:write"])],
) -> dict[str, str]:
    return {"writer": token.subject or token.client_id}


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
