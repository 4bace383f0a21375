"""A plain ASGI app, no framework: /health is open, everything else needs a token, DELETE needs one
scope more.

ISSUER=https://your-issuer.example.com python -m examples.plain_asgi
"""

from __future__ import annotations

import json
import os
from typing import Any

from asgi_mcp_auth import (
    InsufficientScope,
    JWTVerifier,
    MCPAuthMiddleware,
    RemoteAuthProvider,
    get_access_token,
)

ISSUER = os.environ.get("ISSUER", "https://idp.example.com")
PORT = int(os.environ.get("PORT", "8000"))
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")


async def notes(scope: Any, receive: Any, send: Any) -> None:
    """Answer with who is calling."""
    if scope["type"] == "lifespan":
        raise RuntimeError(
            "this app needs no lifespan; the middleware does its own part all the same"
        )
    token = get_access_token(scope)
    if token is None:
        answer: dict[str, Any] = {"health": "good"}  # only /health gets here without a token
    elif scope["method"] == "DELETE" and not token.has_scopes("notes:write"):
        raise InsufficientScope("notes:read", "notes:write")
    else:
        answer = {"subject": token.subject, "client_id": token.client_id, "scopes": token.scopes}
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


provider = RemoteAuthProvider(
    JWTVerifier(issuer=ISSUER, required_scopes=["notes:read"]),
    authorization_servers=[ISSUER],
    base_url=BASE_URL,
)
app = MCPAuthMiddleware(notes, provider, mcp_path="/notes", public_paths=["/health"])

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
