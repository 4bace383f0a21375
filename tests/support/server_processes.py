"""Servers as people start them, from the command line; their app answers with what the server made
of the path.

with server_process("daphne", "/api") as base_url:
    assert ask(base_url, "/x") == {"path": "/x", "raw_path": "/x", "root_path": "/api"}
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from tests.support.asgi import Receive, Scope, Send
from tests.support.engines import free_port
from tests.support.sockets import request

ROOT = Path(__file__).parents[2]
_APP = "tests.support.server_processes:app"
_COMMANDS = {
    "uvicorn-h11": (
        "uvicorn",
        _APP,
        "--http",
        "h11",
        "--port",
        "{port}",
        "--root-path",
        "{root_path}",
    ),
    "uvicorn-httptools": (
        "uvicorn",
        _APP,
        "--http",
        "httptools",
        "--port",
        "{port}",
        "--root-path",
        "{root_path}",
    ),
    "hypercorn": ("hypercorn", _APP, "-b", "127.0.0.1:{port}", "--root-path", "{root_path}"),
    "granian": (
        "granian",
        _APP,
        "--interface",
        "asgi",
        "--port",
        "{port}",
        "--url-path-prefix",
        "{root_path}",
    ),
    "gunicorn": (
        "gunicorn",
        _APP,
        "-k",
        "asgi",
        "-b",
        "127.0.0.1:{port}",
        "--root-path",
        "{root_path}",
    ),
    "daphne": ("daphne", _APP, "-p", "{port}", "--root-path", "{root_path}"),
}
SERVER_PROCESSES = tuple(_COMMANDS)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path as the scope has it."""
    if scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        return
    seen = {
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "root_path": scope["root_path"],
    }
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": json.dumps(seen)})
        await send({"type": "websocket.close", "code": 1000})
        return
    body = json.dumps(seen).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})


@contextmanager
def server_process(server: str, root_path: str) -> Iterator[str]:
    """Run one of ``SERVER_PROCESSES`` and yield its base URL."""
    port = free_port()
    arguments = [argument.format(port=port, root_path=root_path) for argument in _COMMANDS[server]]
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.02)
        assert process.poll() is None, f"{server} ended with {process.returncode}"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def ask(base_url: str, target: str) -> dict[str, Any]:
    """Return what the app saw of a request with exactly this target."""
    status, _, body = request(
        base_url, f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
    )
    assert status == 200, (target, status)
    seen: dict[str, Any] = json.loads(body)
    return seen


def ask_websocket(base_url: str, target: str) -> dict[str, Any]:
    """Return what the app saw of a WebSocket."""
    with connect(f"ws{base_url.removeprefix('http')}{target}", proxy=None) as websocket:
        seen: dict[str, Any] = json.loads(websocket.recv())
    return seen
