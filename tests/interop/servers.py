"""MCP servers to protect, and a real uvicorn that serves an app at the very URL that the app names
in its documents.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import fastmcp.server.dependencies
import mcp.server.auth.middleware.auth_context
import uvicorn
from fastmcp import FastMCP
from mcp.server.mcpserver import MCPServer

from asgi_mcp_auth import InsufficientScope, get_access_token
from tests.support.asgi import App, Message

GREETING = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
"""The first message of a session, for tests that speak the protocol by hand."""

MCP_HEADERS = {
    # the MCP SDK refuses other hosts than loopback, against DNS rebinding
    "Host": "127.0.0.1:8000",
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
}


def call_message(tool: str) -> dict[str, Any]:
    """Return the message that calls a tool."""
    return {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {"name": tool, "arguments": {}},
    }


def answer_of(event_stream: str) -> str:
    """Return what the tool said, from the body of an answer to ``call_message``."""
    (data,) = [
        line.removeprefix("data: ")
        for line in event_stream.splitlines()
        if line.startswith("data: {")
    ]
    text: str = json.loads(data)["result"]["content"][0]["text"]
    return text


def mcp_sdk_server(**settings: Any) -> MCPServer[Any]:
    """Return a server made with the MCP SDK; its tool says whom we and whom the SDK see behind the
    call.
    """
    server: MCPServer[Any] = MCPServer("notes", log_level="ERROR", **settings)

    @server.tool()
    def whoami() -> str:
        return _who(sdk=mcp.server.auth.middleware.auth_context.get_access_token())

    @server.tool()
    def my_scopes() -> str:
        return _scopes()

    @server.tool()
    def write_note() -> str:
        return "written"

    @server.tool()
    def erase_note() -> str:
        return _erase()

    return server


def fastmcp_server(**settings: Any) -> FastMCP[Any]:
    """Return a server made with FastMCP; its tool says whom we, the MCP SDK and FastMCP see behind
    the call.
    """
    server: FastMCP[Any] = FastMCP("notes", **settings)

    @server.tool
    def whoami() -> str:
        return _who(
            sdk=mcp.server.auth.middleware.auth_context.get_access_token(),
            fastmcp=fastmcp.server.dependencies.get_access_token(),
        )

    @server.tool
    def my_scopes() -> str:
        return _scopes()

    @server.tool
    def write_note() -> str:
        return "written"

    @server.tool()
    def erase_note() -> str:
        return _erase()

    return server


def _who(**theirs: Any) -> str:
    seen = {"ours": get_access_token(), **theirs}
    return json.dumps(
        {name: None if token is None else token.subject for name, token in seen.items()}
    )


def _scopes() -> str:
    token = get_access_token()
    return " ".join(token.scopes) if token else ""


def _erase() -> str:
    token = get_access_token()
    if token is None or not token.has_scopes("mcp:write"):
        raise InsufficientScope("mcp:write")
    return "erased"


def mcp_sdk_app() -> App:
    """Return the app of ``mcp_sdk_server``; its endpoint is ``/mcp``."""
    return mcp_sdk_server().streamable_http_app()


def fastmcp_app() -> App:
    """Return the app of ``fastmcp_server``; its endpoint is ``/mcp``."""
    return fastmcp_server().http_app()


@asynccontextmanager
async def started(app: App) -> AsyncIterator[None]:
    """Run the app's lifespan around the block, in this loop, as a server does."""
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    lifespan = asyncio.ensure_future(
        app({"type": "lifespan", "asgi": {"version": "3.0"}}, inbox.get, outbox.put)
    )
    for phase in ("startup", "shutdown"):
        inbox.put_nowait({"type": f"lifespan.{phase}"})
        answer = await asyncio.wait_for(outbox.get(), timeout=10)
        assert answer["type"] == f"lifespan.{phase}.complete", answer
        if phase == "startup":
            yield
    await lifespan


@contextmanager
def serving(build: Callable[[str], App], port: int = 0) -> Iterator[str]:
    """Run the app that ``build`` returns for its own base URL; yield that URL, without a trailing
    slash.
    """
    with socket.create_server(("127.0.0.1", port)) as listener:
        # asyncio does this by itself, but not for a listener that it is given: each answer would
        # come 40 ms late.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(
            uvicorn.Config(build(base_url), log_config=None, timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "uvicorn did not start"
                time.sleep(0.01)
            yield base_url
        finally:
            server.should_exit = True
            thread.join(10)
