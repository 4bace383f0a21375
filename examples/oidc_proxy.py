"""An MCP server whose people sign in at an identity provider that lets no MCP client register:
Keycloak, for example.

Register one confidential client there, with the redirect URI http://127.0.0.1:8000/auth/callback,
and say who it is:

ISSUER=https://keycloak.example.com/realms/notes CLIENT_ID=… CLIENT_SECRET=… python -m
examples.oidc_proxy
"""

from __future__ import annotations

import os
from typing import Any

import httpx
from mcp.server.mcpserver import MCPServer

from asgi_mcp_auth import MCPAuthMiddleware, OIDCProxy, get_access_token, get_upstream_token
from asgi_mcp_auth.proxy import UpstreamRules

PORT = int(os.environ.get("PORT", "8000"))
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")
STORE = os.environ.get("STORE", "sqlite:///auth.db")
ISSUER = os.environ.get("ISSUER", "http://127.0.0.1:8080/realms/notes")  # as its metadata spells it
# where Keycloak has it
USERINFO = os.environ.get("USERINFO", f"{ISSUER}/protocol/openid-connect/userinfo")

server: MCPServer[Any] = MCPServer("notes")


@server.tool()
def whoami() -> str:
    """Say who is calling."""
    token = get_access_token()
    return (
        f"{token.claims.get('email')}, who allowed {' '.join(token.scopes)}" if token else "nobody"
    )


@server.tool()
async def profile() -> str:
    """Say what the identity provider knows of the caller, by asking it on their behalf."""
    headers = {"Authorization": f"Bearer {await get_upstream_token()}"}
    async with httpx.AsyncClient(headers=headers) as http:
        return (await http.get(USERINFO)).raise_for_status().text


provider = OIDCProxy(
    issuer=ISSUER,
    client_id=os.environ.get("CLIENT_ID", "mcp-server"),
    client_secret=os.environ.get("CLIENT_SECRET", "the-secret-that-the-provider-gave-you"),
    base_url=BASE_URL,
    store=STORE,
    required_scopes=["notes:read"],  # ours
    upstream_scopes=["openid", "email", "offline_access"],  # the provider's
    upstream=UpstreamRules(claims=["email"], allowed_domains=os.environ.get("DOMAINS", "").split()),
)
app = MCPAuthMiddleware(server.streamable_http_app(), provider, mcp_path="/mcp")

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
