"""A FastMCP server whose people sign in with a password, on pages with its own name and color.

python -m examples.password_login
"""

from __future__ import annotations

import os
from typing import Any

from fastmcp import FastMCP

from asgi_mcp_auth import OAuthProvider, PasswordLogin, get_access_token
from asgi_mcp_auth.server import Pages, Person

PORT = int(os.environ.get("PORT", "8000"))
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")
STORE = os.environ.get("STORE", "sqlite:///auth.db")
# What hash_password() returns. Plain passwords, as these ones, are taken on loopback only.
ALICE = os.environ.get("ALICE", "open sesame")
BOB = os.environ.get("BOB", "swordfish")


provider = OAuthProvider(
    base_url=BASE_URL,
    login=PasswordLogin(
        {"alice": ALICE, "bob": BOB}, person=lambda name: Person(subject=name, name=name.title())
    ),
    store=STORE,
    required_scopes=["notes:read"],
    pages=Pages(
        title="Our notes", color="#0f766e", scope_descriptions={"notes:read": "Read your notes"}
    ),
)
server: FastMCP[Any] = FastMCP("notes", auth=provider)  # type: ignore[arg-type]  # FastMCP names its own class


@server.tool
def whoami() -> str:
    """Say who is calling."""
    token = get_access_token()
    return f"{token.subject}, who allowed {' '.join(token.scopes)}" if token else "nobody"


app = server.http_app(path="/mcp")

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
