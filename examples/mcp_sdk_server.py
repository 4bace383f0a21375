"""An MCP server made with the MCP SDK, wrapped from outside. Its tools ask who is calling.

ISSUER=https://your-issuer.example.com python -m examples.mcp_sdk_server
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings

from asgi_mcp_auth import JWTVerifier, MCPAuthMiddleware, RemoteAuthProvider, get_access_token

ISSUER = os.environ.get("ISSUER", "https://idp.example.com")
PORT = int(os.environ.get("PORT", "8000"))
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")

server: MCPServer[Any] = MCPServer("notes")


@server.tool()
def whoami() -> str:
    """Say who is calling."""
    token = get_access_token()
    return f"{token.subject}, through {token.client_id}" if token else "nobody"


@server.tool()
def delete_note(number: int) -> str:
    """Delete a note, if the token allows it."""
    token = get_access_token()
    if token is None or not token.has_scopes("notes:write"):
        # The SDK answers for its tools, so InsufficientScope would not become a 403 in here. Say it
        # in words.
        raise ToolError("This needs the scope notes:write.")
    return f"Note {number} is gone."


provider = RemoteAuthProvider(
    JWTVerifier(issuer=ISSUER, required_scopes=["notes:read"]),
    authorization_servers=[ISSUER],
    base_url=BASE_URL,
)
# The SDK answers only to host names that it knows (by default to those of this machine).
hosts = TransportSecuritySettings(
    allowed_hosts=[urlsplit(BASE_URL).netloc], allowed_origins=[BASE_URL]
)
app = MCPAuthMiddleware(
    server.streamable_http_app(transport_security=hosts), provider, mcp_path="/mcp"
)

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
