"""A server for a machine that you know: it gets its token with a secret, and no person signs in.

python -m examples.pre_registered_client
    python -m examples.machine_client             in a second terminal
"""

from __future__ import annotations

import os
from typing import Any

from mcp.server.extension import Extension
from mcp.server.mcpserver import MCPServer

from asgi_mcp_auth import MCPAuthMiddleware, OAuthProvider, PasswordLogin, get_access_token
from asgi_mcp_auth.server import Registration

PORT = int(os.environ.get("PORT", "8000"))
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")
STORE = os.environ.get("STORE", "sqlite:///auth.db")
SECRET = os.environ.get("SECRET", "replace-me-with-32-random-characters-or-more")
MACHINE = {
    "client_id": "nightly-report",
    "client_secret": SECRET,
    "grant_types": ["client_credentials"],
}


class ClientCredentials(Extension):  # tells clients that this server takes machines
    identifier = "io.modelcontextprotocol/oauth-client-credentials"


server: MCPServer[Any] = MCPServer("notes", extensions=[ClientCredentials()])


@server.tool()
def whoami() -> str:
    """Say who is calling."""
    token = get_access_token()
    return f"{token.client_id}, for itself" if token else "nobody"


provider = OAuthProvider(
    base_url=BASE_URL,
    login=PasswordLogin(lambda name: None),  # there is nobody
    store=STORE,
    required_scopes=["notes:read"],
    allow_dynamic_registration=False,
    registration=Registration(clients=[MACHINE], metadata_documents=False),
)
app = MCPAuthMiddleware(server.streamable_http_app(), provider, mcp_path="/mcp")

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
