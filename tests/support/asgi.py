"""Call an ASGI app in this process, or serve it with a real server. No mocks, nothing of the
package under test.

app = Spy() response = await call(MCPAuthMiddleware(app, provider), "GET", "/mcp", {"Authorization":
f"Bearer {token}"}) assert response.status == 401 and response.header("www-authenticate") == ... and
app.scopes == []

with serve(app, "uvicorn-h11", prefix="/api") as base_url:
    httpx.get(f"{base_url}/mcp")
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
HeaderInput = Mapping[str, str] | Iterable[tuple[str, str] | tuple[bytes, bytes]]

SERVERS = ("uvicorn-h11", "uvicorn-httptools", "hypercorn", "granian")
"""What ``serve`` knows; made for ``@pytest.mark.parametrize("server", SERVERS)``."""


@dataclass(frozen=True, slots=True)
class Response:
    """What an app answered: its messages, read."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    messages: list[Message]

    def header(self, name: str) -> str | None:
        """Return the header's only value, or ``None``.

        Raises:
            AssertionError: the header is there more than once; ``all`` is for those.
        """
        values = self.all(name)
        assert len(values) <= 1, f"{name} was sent {len(values)} times: {values}"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """Return the values of each header field with this name."""
        return [value for key, value in self.headers if key == name.lower()]

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


class Spy:
    """An app that remembers its scopes: 200 ``hello`` for HTTP, an accepted and then closed
    WebSocket, a full lifespan.

    Attributes:
        scopes: of the HTTP and WebSocket calls, in order. Empty: nothing came through.
        lifespan: the lifespan messages received, in order.
    """

    def __init__(self, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.headers = [(b"content-type", b"text/plain"), *headers]
        self.scopes: list[Scope] = []
        self.lifespan: list[str] = []

    @property
    def scope(self) -> Scope:
        """The scope of the one call that came through.

        Raises:
            AssertionError: there were none, or several.
        """
        assert len(self.scopes) == 1, f"{len(self.scopes)} calls reached the app"
        return self.scopes[0]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                self.lifespan.append((await receive())["type"])
                await send({"type": f"lifespan.{phase}.complete"})
            return
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"hello"})


def make_scope(
    type: str,
    method: str,
    target: str,
    headers: HeaderInput = (),
    **members: Any,
) -> Scope:
    """Return the scope that a server builds for a request line and its headers.

    Args:
        type: ``http`` or ``websocket``.
        method: the HTTP method; not in a WebSocket's scope.
        target: as on the request line: percent-encoded, with the query if there is one.
        headers: names in any case; a ``Host`` is added where there is none. Byte pairs go out as
            they are.
        members: replace or add members, such as ``root_path="/api"``; ``None`` removes one.
    """
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    raw = [
        (name, value)
        if isinstance(name, bytes) and isinstance(value, bytes)
        else (str(name).lower().encode("latin-1"), str(value).encode("latin-1"))
        for name, value in pairs
    ]
    if not any(name == b"host" for name, _ in raw):
        raw.insert(0, (b"host", b"testserver"))
    path, _, query = target.partition("?")
    scope: Scope = {
        "type": type,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http" if type == "http" else "ws",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": raw,
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
    }
    if type == "websocket":
        del scope["method"]
        scope["subprotocols"] = []
    scope |= members
    return {name: value for name, value in scope.items() if value is not None}


async def call(
    app: App,
    method: str = "GET",
    target: str = "/",
    headers: HeaderInput = (),
    *,
    body: bytes | Iterable[bytes] = b"",
    **members: Any,
) -> Response:
    """Run one HTTP request through the app; after its body the client waits, and leaves when the
    answer is complete.

    The answer is held to the ASGI specification on the way. What the app raises comes out here.

    Args:
        app: any ASGI 3 app.
        method: the HTTP method.
        target: as for ``make_scope``, like ``headers`` and ``members``.
        headers: see there.
        body: bytes, or several chunks.
        members: see there.
    """
    exchange = _Exchange([body] if isinstance(body, bytes) else list(body))
    await app(
        make_scope("http", method, target, headers, **members), exchange.receive, exchange.send
    )
    return exchange.response("http.response")


@dataclass(frozen=True, slots=True)
class Handshake:
    """How an app answered a WebSocket handshake: exactly one of these is set."""

    accepted: bool = False
    close_code: int | None = None
    denial: Response | None = None


async def handshake(
    app: App, target: str = "/", headers: HeaderInput = (), *, denial: bool = True, **members: Any
) -> Handshake:
    """Run a WebSocket handshake through the app and say how it ended; an accepted connection is
    closed again.

    Args:
        app: any ASGI 3 app.
        target: as for ``make_scope``, like ``headers`` and ``members``.
        headers: see there.
        denial: whether the server offers the ``websocket.http.response`` extension.
        members: see there.
    """
    extensions: dict[str, dict[str, Any]] = {"websocket.http.response": {}} if denial else {}
    scope = make_scope("websocket", "GET", target, headers, **{"extensions": extensions, **members})
    exchange = _Exchange(
        [], first={"type": "websocket.connect"}, last={"type": "websocket.disconnect", "code": 1000}
    )
    await app(scope, exchange.receive, exchange.send)
    first = exchange.sent[0]
    if first["type"] == "websocket.accept":
        return Handshake(accepted=True)
    if first["type"] == "websocket.close":
        return Handshake(close_code=first.get("code", 1000))
    assert denial, "a denial response was sent to a server that does not offer it"
    return Handshake(denial=exchange.response("websocket.http.response"))


@dataclass(slots=True)
class _Exchange:
    """The server's half of one connection."""

    chunks: list[bytes]
    first: Message | None = None
    last: Message = field(default_factory=lambda: {"type": "http.disconnect"})
    sent: list[Message] = field(default_factory=list)
    ended: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> Message:
        if self.first is not None:
            message, self.first = self.first, None
            return message
        if self.chunks:
            chunk = self.chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self.chunks)}
        await self.gone.wait()
        return self.last

    async def send(self, message: Message) -> None:
        assert not self.ended, f"{message['type']} after the end of the answer"
        self.sent.append(message)
        kind = message["type"]
        if kind == "websocket.close" or (
            kind.endswith(".response.body") and not message.get("more_body", False)
        ):
            self.ended = True
        # accepted is enough to know: the client goes at once
        if self.ended or kind == "websocket.accept":
            self.gone.set()

    def response(self, prefix: str) -> Response:
        assert self.sent, "the app answered nothing"
        start, *rest = self.sent
        assert start["type"] == f"{prefix}.start", f"the first message was {start['type']}"
        assert all(message["type"] == f"{prefix}.body" for message in rest), [
            message["type"] for message in rest
        ]
        assert self.ended, "the answer has no end"
        headers: list[tuple[str, str]] = []
        for name, value in start.get("headers", []):
            assert (type(name), type(value)) == (bytes, bytes), (
                f"{name!r}: {value!r} is not a pair of bytes"
            )
            assert name == name.lower(), f"{name!r} is not in lower case"
            assert not set(value) & set(b"\r\n\0"), f"{name!r}: {value!r} would split the response"
            headers.append((name.decode("latin-1"), value.decode("latin-1")))
        body = b"".join(message.get("body", b"") for message in rest)
        return Response(start["status"], headers, body, self.sent)


def mounted(app: App, prefix: str) -> App:
    """Return an app that serves another one under a prefix, as Starlette's ``Mount`` does, and 404
    elsewhere.
    """

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
        elif scope["path"].startswith(f"{prefix}/"):
            await app({**scope, "root_path": scope.get("root_path", "") + prefix}, receive, send)
        else:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"outside the mount"})

    return outer


@contextmanager
def serve(
    app: App,
    server: str = "uvicorn-h11",
    prefix: str = "",
    *,
    listener: socket.socket | None = None,
    certificate: tuple[str, str] | None = None,
) -> Iterator[str]:
    """Run the app with a real server on a free loopback port, in a thread with a loop of its own.

    Args:
        app: any ASGI 3 app; started with its lifespan, where it has one.
        server: one of ``SERVERS``.
        prefix: serve it below this path, with ``root_path`` set; it is part of the URL given back.
        listener: where; for an app that has to know its port before.
        certificate: paths of a certificate and its key, to serve https (uvicorn only).

    Yields:
        The base URL without a trailing slash.

    Raises:
        RuntimeError: the server does not start, does not stop, or died.
    """
    target = mounted(app, prefix) if prefix else app
    listener = listener or socket.create_server(("127.0.0.1", 0), backlog=128)
    port: int = listener.getsockname()[1]
    runner = {"hypercorn": _run_hypercorn, "granian": _run_granian}.get(server, _run_uvicorn)
    running = _Running(certificate)

    def run() -> None:
        try:
            asyncio.run(runner(target, server, listener, running))
        except BaseException as error:  # noqa: BLE001 (handed to the test's thread, not swallowed)
            running.error = error
        finally:
            running.ready.set()

    thread = threading.Thread(target=run, name=f"{server}:{port}", daemon=True)
    thread.start()
    try:
        if not running.ready.wait(20) or not thread.is_alive():
            raise RuntimeError(f"{server} did not start") from running.error
        yield f"http{'s' if certificate else ''}://127.0.0.1:{port}{prefix}"
    finally:
        running.stop()
        thread.join(20)
        with suppress(OSError):
            listener.close()
        if thread.is_alive():
            raise RuntimeError(f"{server} did not stop")
    if running.error is not None:
        raise RuntimeError(f"{server} died") from running.error


class _Running:
    """What the test's thread and the server's thread tell each other."""

    def __init__(self, certificate: tuple[str, str] | None) -> None:
        self.certificate = certificate
        self.ready = threading.Event()
        self.error: BaseException | None = None
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def started(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ready.set()

    def stop(self) -> None:
        if self._loop is not None:
            # the loop is closed: the server died before, and error says why
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def stopping(self) -> None:
        await self._stopping.wait()


async def _run_uvicorn(app: App, server: str, listener: socket.socket, running: _Running) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        http={"uvicorn-h11": "h11", "uvicorn-httptools": "httptools"}[server],
        ws="websockets-sansio",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        ssl_certfile=running.certificate[0] if running.certificate else None,
        ssl_keyfile=running.certificate[1] if running.certificate else None,
    )
    instance = uvicorn.Server(config)
    serving = asyncio.create_task(instance.serve([listener]))
    while not instance.started and not serving.done():  # noqa: ASYNC110 (uvicorn has a flag, no event)
        await asyncio.sleep(0.005)
    if not serving.done():
        running.started()
        await running.stopping()
        instance.should_exit = True
    await serving


async def _run_hypercorn(app: App, server: str, listener: socket.socket, running: _Running) -> None:
    import hypercorn.asyncio
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = 0.5
    config.errorlog = config.accesslog = None
    # The socket listens already: what comes before the lifespan's startup is done waits in its
    # backlog.
    running.started()
    await hypercorn.asyncio.serve(app, config, shutdown_trigger=running.stopping, mode="asgi")  # type: ignore[arg-type]


async def _run_granian(app: App, server: str, listener: socket.socket, running: _Running) -> None:
    from granian.constants import Interfaces
    from granian.server.embed import Server

    port: int = listener.getsockname()[1]
    listener.close()  # granian opens its own
    instance = Server(
        app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False
    )
    serving = asyncio.create_task(instance.serve())
    deadline = time.monotonic() + 15
    while not serving.done() and time.monotonic() < deadline:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            running.started()
            break
        await asyncio.sleep(0.02)
    if running.ready.is_set():
        await running.stopping()
    instance.stop()
    await serving
