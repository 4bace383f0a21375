"""A WebSocket, checked at the handshake: no token, no connection. Needs `pip install websockets`.

ISSUER=https://your-issuer.example.com python -m examples.websocket
"""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from asgi_mcp_auth import JWTVerifier, MCPAuthMiddleware, RemoteAuthProvider, Rule, get_access_token

ISSUER = os.environ.get("ISSUER", "https://idp.example.com")
PORT = int(os.environ.get("PORT", "8000"))
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")


async def live(websocket: WebSocket) -> None:
    """Greet, then echo until the other side hangs up. Whoever gets here has a token with the
    scope.
    """
    token = get_access_token(websocket)
    await websocket.accept()
    await websocket.send_text(f"hello {token.subject if token else 'nobody'}")
    async for text in websocket.iter_text():
        await websocket.send_text(text)


provider = RemoteAuthProvider(
    JWTVerifier(issuer=ISSUER),
    authorization_servers=[ISSUER],
    base_url=BASE_URL,
    scopes_supported=["notes:live"],
)
app = MCPAuthMiddleware(
    Starlette(routes=[WebSocketRoute("/live", live)]),
    provider,
    rules=[Rule("/live", scopes=["notes:live"])],
)

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
