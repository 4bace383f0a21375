"""An MCP server made with FastMCP, which takes the provider as its own `auth`.

ISSUER=https://your-issuer.example.com python -m examples.fastmcp_server
"""

from __future__ import annotations

import os
from typing import Any

from fastmcp import FastMCP

from asgi_mcp_auth import JWTVerifier, RemoteAuthProvider, get_access_token

ISSUER = os.environ.get("ISSUER", "https://idp.example.com")
PORT = int(os.environ.get("PORT", "8000"))
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")

provider = RemoteAuthProvider(
    JWTVerifier(issuer=ISSUER, required_scopes=["notes:read"]),
    authorization_servers=[ISSUER],
    base_url=BASE_URL,
)
server: FastMCP[Any] = FastMCP("notes", auth=provider)  # type: ignore[arg-type]  # FastMCP names its own class


@server.tool
def whoami() -> str:
    """Say who is calling."""
    token = get_access_token()  # fastmcp.server.dependencies.get_access_token() works as well
    return f"{token.subject}, through {token.client_id}" if token else "nobody"


app = server.http_app(path="/mcp")

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
