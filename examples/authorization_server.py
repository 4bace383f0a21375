"""An MCP server that signs people in itself: no identity provider, no configuration, one click and
no password.

python -m examples.authorization_server        then give http://127.0.0.1:8000/mcp to any MCP client
"""

from __future__ import annotations

import os
from typing import Any

from mcp.server.mcpserver import MCPServer

from asgi_mcp_auth import DevLogin, MCPAuthMiddleware, OAuthProvider, get_access_token

PORT = int(os.environ.get("PORT", "8000"))
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")
# so that nobody has to sign in again after a restart
STORE = os.environ.get("STORE", "sqlite:///auth.db")

server: MCPServer[Any] = MCPServer("notes")


@server.tool()
def whoami() -> str:
    """Say who is calling."""
    token = get_access_token()
    return f"{token.subject}, who allowed {' '.join(token.scopes)}" if token else "nobody"


provider = OAuthProvider(
    base_url=BASE_URL,
    # on this machine only; password_login.py and app_login.py show what comes next
    login=DevLogin(),
    store=STORE,
    required_scopes=["notes:read"],
)
app = MCPAuthMiddleware(server.streamable_http_app(), provider, mcp_path="/mcp")

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
