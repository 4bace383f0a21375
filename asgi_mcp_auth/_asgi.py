"""ASGI plumbing: routes, bounded bodies, small responses, the lifespan wrapper, the refusal of a
WebSocket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from .errors import BodyTooLarge, MalformedRequest
from .types import ASGIApp, Message, Receive, Scope, Send

HeaderList = Sequence[tuple[bytes, bytes]]


class Route(NamedTuple):
    """A path that is answered by ``app``, whatever the method."""

    path: str
    app: ASGIApp


def route_path(scope: Scope) -> str:
    """Return the decoded path below ``root_path``; servers differ in whether ``path`` includes
    it.
    """
    return read_path(scope)[0]


def read_path(scope: Scope) -> tuple[str, bool]:
    """Return the decoded path below ``root_path``, and whether every framework reads the same one.

    Some cut ``root_path`` off without a segment border, some wherever it stands first, some once
    more in a mounted part. A path that does not begin with it is the whole path to one, and
    nobody's to the next. One looks for it in the path as it came, where a character may be
    percent-encoded.
    """
    path: str = scope["path"]
    root_path: str | None = scope.get("root_path")
    if not root_path:
        return path, True
    prefix = root_path.rstrip("/")
    if not prefix:
        return path, root_path == "/"
    if path == prefix or path.startswith(prefix + "/"):
        raw_path: bytes = scope.get("raw_path") or b""
        hidden = b"%" in raw_path and not raw_path.startswith(
            prefix.encode("utf-8", "surrogatepass")
        )
        return path[len(prefix) :] or "/", prefix == root_path and prefix not in path[
            1:
        ] and not hidden
    return path, False


async def read_body(receive: Receive, *, max_bytes: int, timeout_seconds: float) -> bytes:
    """Return the whole body of a request.

    Raises:
        BodyTooLarge: it is longer than ``max_bytes``; the rest is not read.
        MalformedRequest: it did not arrive in time, or the client left.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise MalformedRequest("The client left before its request was complete")
                body += message.get("body", b"")
                if len(body) > max_bytes:
                    raise BodyTooLarge
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise MalformedRequest("The request body did not arrive in time") from None


async def send_response(
    scope: Scope, receive: Receive, send: Send, status: int, headers: HeaderList, body: bytes
) -> None:
    """Send one whole response, to an HTTP request or to a WebSocket handshake.

    A WebSocket gets it through the ``websocket.http.response`` extension; without that, close code
    1008 before accept, which servers turn into 403.
    """
    start, end = "http.response.start", "http.response.body"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        start, end = "websocket.http.response.start", "websocket.http.response.body"
    sent = list(headers)
    if status != 204:  # RFC 9110 §8.6: never with 204
        sent.append((b"content-length", b"%d" % len(body)))
    await send({"type": start, "status": status, "headers": sent})
    await send({"type": end, "body": b"" if scope.get("method") == "HEAD" else body})


class Lifespan:
    """Opens a resource before the app starts and closes it after the app has stopped, also for apps
    without lifespan.

    Args:
        app: the app behind.
        resource: entered before ``lifespan.startup`` reaches the app, left before the server hears
            that shutdown is complete.
    """

    def __init__(self, app: ASGIApp, resource: AbstractAsyncContextManager[Any]) -> None:
        self._app = app
        self._resource = resource

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the lifespan protocol."""
        startup = await receive()
        heard: list[Message] = []
        answered: list[str] = []
        closing: list[Message] = []

        async def app_receive() -> Message:
            heard.append(startup)
            return startup if len(heard) == 1 else await receive()

        async def app_send(message: Message) -> None:
            answered.append(message["type"])
            if message["type"].startswith("lifespan.shutdown"):
                closing.append(message)  # told to the server when the resource is closed, too
            else:
                await send(message)

        try:
            async with self._resource:
                try:
                    await self._app(scope, app_receive, app_send)
                # apps without lifespan support refuse the scope with whatever they like
                except Exception:
                    if heard:  # it listened, so it knows lifespan and has really failed
                        raise
                if not answered:
                    await send({"type": "lifespan.startup.complete"})
                # the app has left early
                if not closing and "lifespan.startup.failed" not in answered:
                    if len(heard) < 2:
                        await receive()  # lifespan.shutdown
                    closing.append({"type": "lifespan.shutdown.complete"})
        finally:
            for message in closing:
                await send(message)
