"""ASGI helpers: routes, paths, bounded bodies, whole responses, and a lifespan wrapper."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, NamedTuple

from .errors import BodyTooLarge, ConfigurationError, MalformedRequest
from .types import ASGIApp, Message, Receive, Scope, Send

HeaderList = Sequence[tuple[bytes, bytes]]


class Route(NamedTuple):
    """A path and the app that handles all its methods."""

    path: str
    app: ASGIApp


def route_path(scope: Scope) -> str:
    """Return the decoded path below ``root_path``, which some servers include in ``path``."""
    return read_path(scope)[0]


def read_path(scope: Scope) -> tuple[str, bool]:
    """Return the decoded path below ``root_path``, and whether every framework reads the same one.

    Some frameworks remove ``root_path`` inside a segment, some at its first occurrence, some once
    more in a mounted app. A path that does not begin with it is a whole path for some, and not
    found for others. One searches the raw path, where characters may be percent-encoded.
    """
    path: str = scope["path"]
    root_path: str | None = scope.get("root_path")
    if not root_path:
        return path, True
    end = len(root_path)
    if root_path[-1] == "/" == path[end : end + 1] and path.startswith(root_path):
        # uvicorn puts it before the path as it is, and Starlette takes that away again.
        return path[end:], False
    prefix = root_path.rstrip("/")
    if not prefix:
        return path, root_path == "/"
    if path == prefix or path.startswith(prefix + "/"):
        raw_path: bytes = scope.get("raw_path") or b""
        raw_prefix = prefix.encode("utf-8", "surrogatepass")
        is_hidden = b"%" in raw_path and not raw_path.startswith(raw_prefix)
        is_sure = prefix == root_path and prefix not in path[1:] and not is_hidden
        return path[len(prefix) :] or "/", is_sure
    return path, False


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that runs this task.

    Raises:
        ConfigurationError: it is none of asyncio's.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "asgi_mcp_auth needs asyncio, and this server runs another event loop, such as trio:"
            " start it with its asyncio worker"
        ) from None


async def read_body(receive: Receive, *, max_bytes: int, timeout_seconds: float) -> bytes:
    """Return the whole body of a request.

    Raises:
        BodyTooLarge: the body is longer than ``max_bytes``; the rest is not read.
        MalformedRequest: the body did not arrive in time, or the client disconnected.
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
    """Send a whole response to an HTTP request or a WebSocket handshake.

    For a WebSocket this needs the ``websocket.http.response`` extension. Without it, the handshake
    is closed with code 1008, which servers turn into 403.
    """
    start = "http.response.start"
    end = "http.response.body"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        start = "websocket.http.response.start"
        end = "websocket.http.response.body"
    sent = list(headers)
    if status != 204:  # RFC 9110 §8.6: never with 204
        sent.append((b"content-length", b"%d" % len(body)))
    await send({"type": start, "status": status, "headers": sent})
    await send({"type": end, "body": b"" if scope.get("method") == "HEAD" else body})


class Lifespan:
    """Opens a resource before the app starts and closes it after the app has stopped.

    Also works for apps without lifespan support.

    Args:
        app: the app.
        resource: entered before ``lifespan.startup`` reaches the app, and left before the shutdown
            is reported as complete.
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
                closing.append(message)  # sent once the resource is closed, too
            else:
                await send(message)

        try:
            async with AsyncExitStack() as stack:
                try:
                    await stack.enter_async_context(self._resource)
                except ConfigurationError as error:
                    # An exception alone looks like an app without lifespan, and servers go on.
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    raise
                try:
                    await self._app(scope, app_receive, app_send)
                # Apps without lifespan support refuse the scope with any exception.
                except Exception:
                    if heard:  # the app supports lifespan, so this is a real failure
                        raise
                if not answered:
                    await send({"type": "lifespan.startup.complete"})
                # The app has returned early.
                if not closing and "lifespan.startup.failed" not in answered:
                    if len(heard) < 2:
                        await receive()  # lifespan.shutdown
                    closing.append({"type": "lifespan.shutdown.complete"})
        finally:
            for message in closing:
                await send(message)
