"""Messages are judged at every path where a router finds the MCP endpoint.

A caller who may not use a tool sends its call to every spelling of the path, through a middleware
outside of real routers, and inside of mounts. The endpoint is never reached.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from asgi_mcp_auth import Tool
from tests.support.asgi import App, Receive, Scope, Send, call
from tests.support.messages import READER, Echo, guard, post, provider, tool
from tests.support.routers import scope_members

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-98")]

RULES = [Tool("danger", scopes=["write"]), Tool("open", public=True)]
COUNT = 12
Host = Callable[[Echo], App]


class Endpoint(Echo):
    """The MCP endpoint, as an instance that Starlette takes for an app."""


def starlette_route(echo: Echo) -> App:
    return Starlette(routes=[Route("/mcp", echo, methods=["POST"])])


def starlette_mount(echo: Echo) -> App:
    return Starlette(routes=[Mount("/mcp", echo)])


def starlette_mount_twice(echo: Echo) -> App:
    return Starlette(routes=[Mount("/api", Starlette(routes=[Mount("/mcp", echo)]))])


def fastapi_route(echo: Echo) -> App:
    app = FastAPI(openapi_url=None)

    @app.post("/mcp", response_class=PlainTextResponse)
    def endpoint() -> str:
        echo.bodies.append(b"")
        return "served"

    return app


def careless(echo: Echo) -> App:
    """A router that takes much for the same: case, slashes, dots, encodings."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = unquote(unquote(scope["path"])).casefold().removeprefix("/api")
        parts: list[str] = []
        for part in path.replace("\\", "/").partition(";")[0].split("/"):
            if part == "..":
                del parts[-1:]
            elif part not in ("", "."):
                parts.append(part)
        if parts[:1] == ["mcp"]:
            await echo(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body"})

    return app


ROUTERS: dict[str, Host] = {
    "Starlette": starlette_route,
    "Starlette mount": starlette_mount,
    "Starlette mounts": starlette_mount_twice,
    "FastAPI": fastapi_route,
    "careless": careless,
}
BELOW_API = ("Starlette mounts", "careless")
PATHS = ("/mcp", "/mcp/", "/mcp/x", "/MCP", "/Mcp/", "//mcp", "/mcp//", "/x/../mcp", "/./mcp")
PATHS += ("/%6dcp", "/%6Dcp", "/mc%70", "/mcp%2f", "/mcp%2Fx", "/%2e/mcp", "/mcp;x", "/mcp%3bx")
PATHS += ("/mcp%20", "/%256dcp", "/mcp%00", "\\mcp".replace("\\", "/%5c"), "/mcp/%2e%2e/mcp", "/x")
BEFORE = ("", "", "/api", "/api", "/api/api", "/API", "/%61pi", "/api/", "/apix")


def targets(seed: str) -> Iterator[str]:
    chosen = random.Random(seed)
    for path in PATHS:
        yield path
        yield f"/api{path}"
    for _ in range(COUNT):
        after = chosen.choice(("", "/", "/x", "%0a"))
        yield f"{chosen.choice(BEFORE)}{chosen.choice(PATHS)}{after}"


SHAPES = [("", True), ("/api", True), ("/api", False), ("/", True), ("/api/", True)]


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("inside", [False, True])
async def test_no_spelling_of_the_path_leads_past_the_rules(name: str, inside: bool) -> None:
    served = 0
    for base_url in ("https://mcp.example", "https://mcp.example/api"):
        if name in BELOW_API and not base_url.endswith("/api"):
            continue  # the endpoint is elsewhere than the settings say
        echo = Endpoint()
        gate: Any = guard(ROUTERS[name](echo), RULES, provider=provider(base_url))
        if inside:
            gate = Starlette(routes=[Mount("/api", gate), Mount("/", gate)])
        for root_path, in_front in SHAPES:
            spelled = targets(f"{name}{root_path}{in_front}")
            for headers, target in zip(cycle((READER, READER, {})), spelled, strict=False):
                members = scope_members(target, root_path, in_front=in_front)
                await post(gate, tool("danger"), headers, **members)
                assert echo.bodies == [], (base_url, target, root_path, in_front)
                if headers:
                    await post(gate, tool("safe"), headers, **members)
                    served += len(echo.bodies)
                    echo.bodies.clear()
    assert served


async def test_a_path_that_is_read_in_two_ways_is_never_public() -> None:
    app = guard(Echo(), RULES)
    for path in ("/mcp", "/mcp/", "/MCP", "/mcp/x"):
        assert (await post(app, tool("open"), {}, path)).status == 200
    for path in ("/%6dcp", "//mcp", "/mcp/../mcp", "/mcp;x", "/x"):
        assert (await post(app, tool("open"), {}, path)).status == 401
        assert (await call(app, "GET", path)).status == 401
