"""The event loop is one of asyncio's, or the message says so."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError, MCPAuthMiddleware, StaticTokenVerifier
from tests.support.asgi import Spy, make_scope
from tests.support.protection import ALICE, BASE_URL, TOKENS


@pytest.mark.rule("RS-80")
@pytest.mark.parametrize("kind", ["lifespan", "http"])
def test_another_event_loop_than_asyncio_is_named(kind: str) -> None:
    """Driven by hand: such a loop is none of asyncio's, either."""

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        assert message["type"] == "lifespan.startup.failed"

    app = MCPAuthMiddleware(Spy(), StaticTokenVerifier(TOKENS, base_url=BASE_URL))
    scope = {"type": "lifespan"} if kind == "lifespan" else make_scope("http", "GET", "/mcp", ALICE)
    with pytest.raises(ConfigurationError, match=r"needs asyncio.*asyncio worker"):
        app(scope, receive, send).send(None)
