"""Sends one request to an ASGI app in this process, as a server does; knows no package under
test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

CLIENT = ("203.0.113.7", 50000)

Pairs = Sequence[tuple[str, str]]


class Request(NamedTuple):
    """A request as it goes into an app."""

    method: str
    target: str
    headers: Pairs
    body: bytes = b""


class Response(NamedTuple):
    """An answer; ``outcome`` is a WebSocket's where there is no HTTP answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    outcome: str = ""

    def header(self, name: str) -> str:
        """Return the first value of a header, an empty string when it is absent."""
        return next((value for key, value in self.headers if key == name), "")


async def send(
    app: Any, request: Request, *, is_websocket: bool, scope: Mapping[str, Any]
) -> Response:
    """Run one HTTP request, or one WebSocket handshake, through ``app``."""
    messages: list[MutableMapping[str, Any]] = []
    pending = [{"type": "http.request", "body": request.body, "more_body": False}]
    if is_websocket:
        pending = [{"type": "websocket.connect"}]
    left = asyncio.Event()

    async def receive() -> MutableMapping[str, Any]:
        if pending:
            return pending.pop(0)
        await left.wait()
        return {"type": "websocket.disconnect" if is_websocket else "http.disconnect", "code": 1000}

    async def collect(message: MutableMapping[str, Any]) -> None:
        messages.append(message)
        if message["type"] in ("websocket.accept", "websocket.close") or not message.get(
            "more_body", True
        ):
            left.set()

    await app(make_scope(request, is_websocket) | dict(scope), receive, collect)
    await _settle()
    return _response(messages)


async def _settle() -> None:
    """Let the tasks end that the request has left behind; nothing here waits for the network."""
    for _ in range(1000):
        if len(asyncio.all_tasks()) == 1:
            return
        await asyncio.sleep(0)
    raise RuntimeError("a request has left a task behind that does not end")


def make_scope(request: Request, is_websocket: bool) -> dict[str, Any]:
    """Return the scope that a server builds from the request line and the headers."""
    path, _, query = request.target.partition("?")
    scope: dict[str, Any] = {
        "type": "websocket" if is_websocket else "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss" if is_websocket else "https",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in request.headers
        ],
        "client": CLIENT,
        "server": ("mcp.example", 443),
    }
    if is_websocket:
        return {**scope, "subprotocols": [], "extensions": {"websocket.http.response": {}}}
    return {**scope, "method": request.method}


def _response(messages: list[MutableMapping[str, Any]]) -> Response:
    first, *rest = messages
    if first["type"] == "websocket.accept":
        return Response(101, [], b"", "accepted")
    if first["type"] == "websocket.close":
        return Response(0, [], b"", f"closed with {first.get('code', 1000)}")
    headers = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in first["headers"]
    ]
    return Response(first["status"], headers, b"".join(each.get("body", b"") for each in rest))
