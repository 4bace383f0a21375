"""The server of the mixed flood: an ``OAuthProvider`` with default settings, in a process that can
report its state.

``python flood_server.py PORT FOLDER``. Beside the protected app it answers ``/_state``, and
``/_later`` lets a day pass.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from asgi_mcp_auth import MCPAuthMiddleware, OAuthProvider, PasswordLogin
from asgi_mcp_auth.server import ServerOptions, hash_password

BASE_URL = "https://mcp.example.com"
PERSON, PASSWORD = "alice", "correct horse battery staple"
TICK_SECONDS = 0.005
DEAD_ZONE_SECONDS = 10.0  # what a resolver waits for name servers that do not answer
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class LaterClock:
    """The machine's clocks, some time later."""

    def __init__(self) -> None:
        self.later = 0.0

    def time(self) -> float:
        return time.time() + self.later

    def monotonic(self) -> float:
        return time.monotonic() + self.later


def dead_zones(look_up: Callable[..., Any]) -> Callable[..., Any]:
    """Stand in for the machine's name server: names of the flood lie in zones whose servers do not
    respond. So nothing of it leaves this machine.
    """

    def getaddrinfo(host: str, *more: Any, **options: Any) -> Any:
        if not str(host).endswith(".invalid"):
            return look_up(host, *more, **options)
        time.sleep(DEAD_ZONE_SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    return getaddrinfo


class Loop:
    """Notes the longest time that the event loop did nothing else, on the clock and of the CPU."""

    def __init__(self) -> None:
        self.stall = self.stall_cpu = 0.0

    async def watch(self) -> None:
        """Note it until cancelled."""
        while True:
            clock, cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(TICK_SECONDS)
            self.stall = max(self.stall, time.perf_counter() - clock - TICK_SECONDS)
            self.stall_cpu = max(self.stall_cpu, time.thread_time() - cpu)


def resident_bytes() -> int:
    """Return the memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def stored_bytes(folder: Path) -> int:
    """Return the size of the database, its journal included."""
    return sum(each.stat().st_size for each in folder.glob("auth.db*"))


async def protected(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer 200."""
    assert scope["type"] == "http"  # it knows no lifespan
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


def application(folder: Path) -> Any:
    """Return the app."""
    clock, loop = LaterClock(), Loop()
    provider = OAuthProvider(
        base_url=BASE_URL,
        login=PasswordLogin({PERSON: hash_password(PASSWORD)}),
        store=f"sqlite:///{folder}/auth.db",
        required_scopes=["notes:read"],
        options=ServerOptions(clock=clock),
    )
    guarded = MCPAuthMiddleware(protected, provider, mcp_path="/mcp")

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            watcher = asyncio.ensure_future(loop.watch())
            try:
                await guarded(scope, receive, send)
            finally:
                watcher.cancel()
        elif scope["path"] == "/_later":
            clock.later += 26 * 3600
            await protected(scope, receive, send)
        elif scope["path"] == "/_state":
            state = {
                "stall": loop.stall,
                "stall_cpu": loop.stall_cpu,
                "resident": resident_bytes(),
                "database": stored_bytes(folder),
                "threads": threading.active_count(),
                "cpu": time.process_time(),
                "loop_cpu": time.thread_time(),
            }
            loop.stall = loop.stall_cpu = 0.0
            body = json.dumps(state).encode()
            head = [(b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": body})
        else:
            await guarded(scope, receive, send)

    return app


def main() -> None:
    """Serve until a signal comes."""
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    app = application(folder)
    socket.getaddrinfo = dead_zones(socket.getaddrinfo)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical", access_log=False)


if __name__ == "__main__":
    main()
