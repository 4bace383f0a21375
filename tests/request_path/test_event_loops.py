"""The event loop is one of asyncio's, or the message says so."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError, MCPAuthMiddleware, StaticTokenVerifier
from tests.support.asgi import Spy, make_scope
from tests.support.protection import ALICE, BASE_URL, TOKENS


class OtherLoop:
    """Runs an app by hand: such a loop is none of asyncio's, either."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        return {"type": "lifespan.startup"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def run(self, app: Any, scope: Any) -> None:
        with pytest.raises(StopIteration):
            app(scope, self.receive, self.send).send(None)


@pytest.mark.rule("RS-80")
def test_another_event_loop_than_asyncio_stops_the_start() -> None:
    loop = OtherLoop()
    with pytest.raises(ConfigurationError, match=r"needs asyncio.*asyncio worker"):
        loop.run(guarded(), {"type": "lifespan"})
    assert [message["type"] for message in loop.sent] == ["lifespan.startup.failed"]


@pytest.mark.rule("RS-80")
def test_without_a_lifespan_each_request_is_a_503_and_one_warning_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = guarded()
    for _ in range(3):
        loop = OtherLoop()
        loop.run(app, make_scope("http", "GET", "/mcp", ALICE))
        assert loop.sent[0]["status"] == 503
    warnings = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert [text for text in warnings if "needs asyncio" in text] == warnings[-1:]


def guarded() -> MCPAuthMiddleware:
    return MCPAuthMiddleware(Spy(), StaticTokenVerifier(TOKENS, base_url=BASE_URL))
