"""The MCP SDK and FastMCP: our verifier and provider handed to their servers, their apps behind our
middleware.

Both name concrete classes where a protocol would do, so handing them ours takes a type-ignore:
these two, no more.
"""

from __future__ import annotations

from fastmcp import FastMCP
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from pydantic import AnyHttpUrl

from asgi_mcp_auth import (
    AccessToken,
    JWTVerifier,
    MCPAuthMiddleware,
    RemoteAuthProvider,
    get_access_token,
)

verifier = JWTVerifier(issuer="https://idp.example", audience="https://mcp.example.com/mcp")
provider = RemoteAuthProvider(
    verifier,
    authorization_servers=["https://idp.example"],
    base_url="https://mcp.example.com",
)

sdk = MCPServer(
    "notes",
    token_verifier=verifier,  # type: ignore[arg-type]  # names the SDK's own pydantic AccessToken; ours has what it reads
    auth=AuthSettings(
        issuer_url=AnyHttpUrl("https://idp.example"),
        resource_server_url=AnyHttpUrl("https://mcp.example.com/mcp"),
    ),
)
open_server = MCPServer("open")
fast = FastMCP("notes", auth=provider)  # type: ignore[arg-type]  # names FastMCP's own class; ours has its methods
open_fast = FastMCP("open")


@open_server.tool()
def whoami() -> str:
    token: AccessToken | None = get_access_token()
    return token.client_id if token else "nobody"


sdk_app = MCPAuthMiddleware(open_server.streamable_http_app(), provider, mcp_path="/mcp")
fast_app = MCPAuthMiddleware(open_fast.http_app(), provider, mcp_path="/mcp")
