"""FastAPI: its middleware list, a dependency that gives handlers the token, the exception
handler.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.security import HTTPBearer

from asgi_mcp_auth import (
    AccessToken,
    InsufficientScope,
    JWTVerifier,
    MCPAuthMiddleware,
    MissingToken,
    RemoteAuthProvider,
    get_access_token,
    insufficient_scope_response,
)

provider = RemoteAuthProvider(
    JWTVerifier(issuer="https://idp.example"),
    authorization_servers=["https://idp.example"],
    base_url="https://mcp.example.com",
)


def current_token(request: Request) -> AccessToken:
    token = get_access_token(request)
    if token is None:
        raise MissingToken
    return token


Caller = Annotated[AccessToken, Depends(current_token)]

api = FastAPI(dependencies=[Depends(HTTPBearer(auto_error=False))])
api.add_middleware(
    MCPAuthMiddleware, provider=provider, mcp_path="/mcp", required_scopes=["notes:read"]
)
api.add_exception_handler(InsufficientScope, insufficient_scope_response)


@api.get("/notes")
async def notes(caller: Caller) -> dict[str, str]:
    if not caller.has_scopes("notes:write"):
        raise InsufficientScope("notes:write")
    return {"client": caller.client_id}


wrapped = MCPAuthMiddleware(api, provider, mcp_path="/mcp")
