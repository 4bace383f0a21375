"""Several uvicorn processes with one configuration, as a deployment has them: workers of one
authorization server.

with workers(4, {"sqlite": place, "redis": other}) as deployments:
    await deployments["sqlite"][2].call("GET", "/.well-known/jwks.json")

This module is also the app that they serve: an ``OAuthProvider`` for each place, below a path of
its name. Another app makes its providers itself: ``app = WorkersApp.of(build, __name__)`` in a
module that ``workers`` is told of.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from asgi_mcp_auth import MCPAuthMiddleware, OAuthProvider
from asgi_mcp_auth.server import Lifetimes, Registration
from asgi_mcp_auth.stores import store_from_url
from tests.support.asgi import App, Receive, Response, Scope, Send, Spy
from tests.support.assertions import Robot
from tests.support.authorization_server import CONFIDENTIAL, SCOPES, Server, Trusting
from tests.support.engines import Place, free_port

ROOT = Path(__file__).parents[2]
LAG_SECONDS = 1.0
_SETTINGS = "WORKER_SETTINGS"
_NO_TLS = ssl.SSLContext(
    ssl.PROTOCOL_TLS_CLIENT
)  # loading certificates for each connection would take most of the time


class Worker(Server):
    """One of the processes, seen from outside; it is used as the ``Server`` of ``deploy`` is."""

    def __init__(self, base_url: str, port: int, process: subprocess.Popen[bytes]) -> None:
        provider: Any = SimpleNamespace(base_url=base_url, resource=f"{base_url}/mcp")
        super().__init__(provider, None, Spy(), time, [])  # type: ignore[arg-type]  # they are in the other process
        self.process = process
        self._origin = f"http://127.0.0.1:{port}"
        self._prefix = httpx.URL(base_url).path
        self._host = httpx.URL(base_url).netloc.decode()

    async def call(
        self, method: str, target: str, *, headers: Any = (), form: Any = None, **more: Any
    ) -> Response:
        """Send one request."""
        document, bearer = more.get("document"), more.get("bearer")
        sent = [
            *(headers.items() if isinstance(headers, Mapping) else headers),
            ("Host", self._host),
        ]
        if bearer is not None:
            sent.append(("Authorization", f"Bearer {bearer}"))
        path = target if target.startswith(self._prefix) else self._prefix + target
        async with httpx.AsyncClient(verify=_NO_TLS, trust_env=False, timeout=30) as client:
            answer = await client.request(
                method,
                self._origin + path,
                headers=sent,
                data=None if form is None else dict(form),
                json=document,
            )
        return Response(answer.status_code, list(answer.headers.multi_items()), answer.content, [])


@contextmanager
def workers(
    count: int,
    places: Mapping[str, Place],
    *,
    app: str = "tests.support.workers:app",
    port: int | None = None,
    more: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Sequence[Worker]]]:
    """Start the processes all at once, on stores that were not opened before; wait for them; end
    them afterwards.

    Args:
        count: how many.
        places: the stores, by the path below which each has its provider.
        app: what they serve.
        port: of the first one, which is also that of the URLs; any free one by default.
        more: what ``app`` wants to know besides, as JSON can say it.
    """
    ports = [port or free_port(), *(free_port() for _ in range(count - 1))]
    base_urls = {name: f"http://127.0.0.1:{ports[0]}/{name}" for name in places}
    settings = {
        name: [base_urls[name], place.url, place.keys, more or {}] for name, place in places.items()
    }
    command = [sys.executable, "-m", "uvicorn", app, "--log-level", "warning", "--port"]
    environment = {**os.environ, _SETTINGS: json.dumps({"app": app, "places": settings})}
    started = [subprocess.Popen([*command, str(port)], cwd=ROOT, env=environment) for port in ports]
    try:
        for port in ports:
            _wait_for(port)
        pairs = list(zip(ports, started, strict=True))
        yield {
            name: [Worker(base_urls[name], port, process) for port, process in pairs]
            for name in places
        }
    finally:
        for each in started:
            each.terminate()
        for each in started:
            assert each.wait(20) is not None


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"no worker listens on port {port}")


Build = Callable[..., tuple[OAuthProvider, App]]


class WorkersApp:
    """The app of one process: for each place what ``build`` returns, a provider and what is
    protected.
    """

    def __init__(self, settings: Mapping[str, Sequence[Any]], build: Build) -> None:
        built = {
            name: build(base_url, url, keys, **more)
            for name, (base_url, url, keys, more) in settings.items()
        }
        self.providers = [provider for provider, _ in built.values()]
        self.apps: dict[str, App] = {
            name: MCPAuthMiddleware(app, provider, mcp_path="/mcp")
            for name, (provider, app) in built.items()
        }

    @classmethod
    def of(cls, build: Build, module: str) -> WorkersApp | None:
        """Return the app, in a process that ``workers`` has started to serve that of this
        module.
        """
        served = json.loads(os.environ.get(_SETTINGS, "{}"))
        return cls(served["places"], build) if served.get("app") == f"{module}:app" else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            async with AsyncExitStack() as stack:
                for provider in self.providers:
                    await stack.enter_async_context(provider)
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await self.apps.get(scope["path"].split("/")[1], Spy())(scope, receive, send)


def _build(base_url: str, url: str, keys: Sequence[str]) -> tuple[OAuthProvider, App]:
    provider = OAuthProvider(
        base_url=base_url,
        login=Trusting(),
        store=store_from_url(url, encryption_keys=keys),
        required_scopes=["mcp:read"],
        scopes_supported=list(SCOPES),
        lifetimes=Lifetimes(revocation_lag_seconds=LAG_SECONDS),
        registration=Registration(clients=[CONFIDENTIAL, Robot(base_url, time).metadata]),
    )
    return provider, Spy()


app = WorkersApp.of(_build, __name__)
