"""An MCP server that people can look at before they sign in, and whose tools need different scopes.

python -m examples.tool_rules
An MCP client lists the tools and searches without a sign-in, and opens a browser for the others.
"""

from __future__ import annotations

import os
from typing import Any

from mcp.server.mcpserver import MCPServer

from asgi_mcp_auth import (
    DevLogin,
    MCPAuthMiddleware,
    Method,
    OAuthProvider,
    Tool,
    get_access_token,
)

PORT = int(os.environ.get("PORT", "8000"))
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")

server: MCPServer[Any] = MCPServer("notes")
notes = {1: "Buy milk", 2: "Call Alice"}


@server.tool()
def search(words: str) -> str:
    """Find notes: open to all."""
    found = [text for text in notes.values() if words.lower() in text.lower()]
    token = get_access_token()
    return f"{', '.join(found) or 'nothing'} (for {token.subject if token else 'a guest'})"


@server.tool()
def read_note(number: int) -> str:
    """Read a note: for those who are signed in."""
    return notes[number]


@server.tool()
def delete_note(number: int) -> str:
    """Delete a note: before this code runs, its rule has asked for notes:write."""
    return f"{notes.pop(number, 'Nothing')} is gone."


provider = OAuthProvider(
    base_url=BASE_URL,
    login=DevLogin(),
    required_scopes=["notes:read"],
    store=os.environ.get("STORE", "sqlite:///auth.db"),
)
rules = [
    Method("tools/list", public=True),
    Tool("search", public=True),
    Tool("delete_*", scopes=["notes:write"]),
]
# Without sessions: one that has begun without a token would end with the sign-in.
mcp_app = server.streamable_http_app(stateless_http=True)
app = MCPAuthMiddleware(mcp_app, provider, mcp_path="/mcp", rules=rules)

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
