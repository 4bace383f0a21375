"""A Starlette app that has a sign-in page already, and an MCP server in it that uses that page.

python -m examples.app_login
"""

from __future__ import annotations

import os
from typing import Any

from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from asgi_mcp_auth import AppLogin, MCPAuthMiddleware, OAuthProvider, get_access_token
from asgi_mcp_auth.server import Person, ServerOptions

PORT = int(os.environ.get("PORT", "8000"))
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")
STORE = os.environ.get("STORE", "sqlite:///auth.db")
PEOPLE = {"alice": 17, "bob": 4}
FORM = (
    '<form method="post"><input name="username" aria-label="Name"><button>Sign in</button></form>'
)

login = AppLogin(f"{BASE_URL}/login")
server: MCPServer[Any] = MCPServer("notes")


@server.tool()
def whoami() -> str:
    """Say who is calling."""
    token = get_access_token()
    return token.subject or token.client_id if token else "nobody"


async def sign_in(request: Request) -> Response:
    """Find out who it is, in whatever way your app does it, and send the browser on to where it has
    to go.
    """
    if request.method == "GET":
        return HTMLResponse(FORM)
    name = str((await request.form())["username"])
    if name not in PEOPLE:  # and here goes the check of what proves it
        return HTMLResponse(FORM, status_code=401)
    person = Person(subject=f"user-{PEOPLE[name]}", name=name)
    return RedirectResponse(
        await login.complete(request.query_params["transaction"], person), status_code=303
    )


inner = server.streamable_http_app()
routes = [Route("/login", sign_in, methods=["GET", "POST"]), Mount("/", inner)]
options = ServerOptions(path_prefix="/oauth")  # because /login is taken
provider = OAuthProvider(
    base_url=BASE_URL, login=login, store=STORE, required_scopes=["notes:read"], options=options
)
host = Starlette(routes=routes, lifespan=inner.router.lifespan_context)
app = MCPAuthMiddleware(host, provider, mcp_path="/mcp", public_paths=["/login"])

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
