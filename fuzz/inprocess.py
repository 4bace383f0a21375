"""What several targets share: finish a coroutine without an event loop, and talk to an ASGI app."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

RESPONSE_START = ("http.response.start", "websocket.http.response.start")
_loop = asyncio.new_event_loop()
atexit.register(_loop.close)


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that waits for nothing: an event loop would cost more than
    what is fuzzed. One that does not turn is there, for code that asks which one there is.
    """
    asyncio._set_running_loop(_loop)
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    finally:
        asyncio._set_running_loop(None)
    coroutine.close()
    raise AssertionError("it waited for something")


@dataclass
class App:
    """An ASGI app that answers 200 and counts its calls."""

    calls: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer."""
        self.calls += 1
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@dataclass
class Answer:
    """What came back: 101 stands for an accepted WebSocket."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def all(self, name: bytes) -> list[bytes]:
        """Return the values of one header."""
        return [value for key, value in self.headers if key == name]


def request(app: Any, headers: Iterable[tuple[bytes, bytes]], **members: Any) -> Answer:
    """Run one request and hold the answer to what every answer owes the protocol."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/mcp",
        "raw_path": b"/mcp",
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "extensions": {"websocket.http.response": {}},
    }
    scope |= members
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing here needs the body")

    async def send(message: Any) -> None:
        sent.append(message)

    finish(app({name: value for name, value in scope.items() if value is not None}, receive, send))
    first = sent[0]
    if first["type"] == "websocket.accept":
        assert len(sent) == 1
        return Answer(101, [], b"")
    assert first["type"] in RESPONSE_START, sent
    assert len(sent) == 2, sent
    for name, value in first["headers"]:
        assert name == name.lower()
        assert not set(value) & set(b"\r\n\0"), f"{name!r}: {value!r} splits the answer"
    return Answer(first["status"], first["headers"], sent[1]["body"])
