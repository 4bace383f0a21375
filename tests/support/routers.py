"""One site in the router of every framework, so that a gate can be compared with what an app makes
of a path.

app = framework_app("Litestar")
page = await served_page(app, scope)   # the page of SITE that answers, None where there is none

The site has a page of each kind: public by itself, by a prefix and by a rule, closed inside of what
is public, closed with scopes, nested, and pages with parameters that take what no other page does.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import types
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from asgi_mcp_auth import Rule
from tests.support.asgi import App, Message, Receive, Scope, Send
from tests.support.frameworks import django_at

Needs = frozenset[str] | None
"""The scopes of a page; ``None``: it is public."""

SITE: Mapping[str, Needs] = {
    "/": frozenset(),
    "/health": None,
    # public as "/docs/", which is this page to a router that does not care about the slash
    "/docs": None,
    "/docs/internal": frozenset({"internal"}),
    "/docs/internal/{two}": frozenset({"internal"}),
    "/docs/{one}": None,
    "/docs/{one}/{two}": None,
    "/open": None,
    "/open/closed": frozenset(),
    "/open/closed/{two}": frozenset(),
    "/open/{one}": None,
    "/open/{one}/{two}": None,
    "/admin": frozenset({"admin"}),
    "/admin/audit": frozenset({"audit"}),
    "/admin/audit/{two}": frozenset({"audit"}),
    "/admin/{one}": frozenset({"admin"}),
    "/admin/{one}/{two}": frozenset({"admin"}),
    "/skiß": frozenset({"ski"}),
    "/skiß/{one}": frozenset({"ski"}),
    "/skiß/{one}/{two}": frozenset({"ski"}),
    "/{one}": frozenset(),
    "/{one}/{two}": frozenset(),
    "/{one}/{two}/{three}": frozenset(),
}
SCOPES = frozenset().union(*(needs for needs in SITE.values() if needs))


def settings_below(prefix: str = "") -> dict[str, Any]:
    """Return the settings of a middleware that protects the site below a path."""
    return {
        "public_paths": [f"{prefix}/health", f"{prefix}/docs/"],
        "rules": [
            Rule(f"{prefix}/docs/internal", scopes=["internal"]),
            Rule(f"{prefix}/open", public=True),
            Rule(f"{prefix}/open/closed"),
            Rule(f"{prefix}/admin", scopes=["admin"]),
            Rule(f"{prefix}/admin/audit", scopes=["audit"]),
            Rule(f"{prefix}/skiß", scopes=["ski"]),
        ],
    }


# -------------------------------------------------------------------------------------- the servers

PREFIXING = ("uvicorn-h11", "uvicorn-httptools")
"""The servers that put root_path in front of the path. The others pass both on, side by side."""


def scope_members(target: str, root_path: str, *, in_front: bool) -> dict[str, Any]:
    """Return what a server makes of the path on a request line.

    Args:
        target: as on the request line, without a query.
        root_path: the server's setting.
        in_front: whether the server is one of ``PREFIXING``.
    """
    before = root_path if in_front else ""
    raw_path = (before + target).encode("ascii")
    return {"path": before + unquote(target), "raw_path": raw_path, "root_path": root_path}


# ----------------------------------------------------------------------------------- the frameworks


async def served_page(app: App, scope: Scope) -> str | None:
    """Return the page that answers, ``None`` where none does (not found, a redirect)."""
    sent: list[Message] = []
    waiting = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else await asyncio.Event().wait()  # the client stays

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if sent[0]["status"] != 200:
        return None
    page = b"".join(message.get("body", b"") for message in sent[1:]).decode()
    assert page in SITE, page
    return page


def starlette_app() -> App:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    def page(pattern: str) -> Any:
        return Route(pattern, lambda request: PlainTextResponse(pattern))

    return Starlette(routes=[page(pattern) for pattern in SITE])


def fastapi_app(**settings: Any) -> App:
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    with warnings.catch_warnings(action="ignore"):  # it would rather have root_path from the server
        app = FastAPI(openapi_url=None, **settings)

    def page(pattern: str) -> Callable[[], Any]:
        return lambda: pattern

    for pattern in SITE:
        app.add_api_route(pattern, page(pattern), response_class=PlainTextResponse)
    return app


def litestar_app() -> App:
    from litestar import Litestar, MediaType, get

    def page(pattern: str) -> Any:
        async def handler() -> str:
            return pattern

        return get(pattern.replace("}", ":str}"), media_type=MediaType.TEXT, name=pattern)(handler)

    return Litestar([*map(page, SITE)], openapi_config=None, logging_config=None)


def quart_app() -> App:
    from quart import Quart

    app = Quart("tests.support.routers")
    for pattern in SITE:

        async def handler(pattern: str = pattern, **_: str) -> str:
            return pattern

        app.add_url_rule(
            pattern.replace("{", "<").replace("}", ">"), pattern.replace(".", "_"), handler
        )
    return app


def django_app(kind: str = "path") -> App:
    """Return Django's app for the site; ``kind`` is ``path``, or ``re_path`` for routes that ignore
    case.
    """
    import re

    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse
    from django.urls import path, re_path

    def page(pattern: str) -> Any:
        async def view(request: Any, **_: str) -> Any:
            return HttpResponse(pattern)

        if kind == "path":
            return path(pattern[1:].replace("{", "<").replace("}", ">"), view)
        return re_path("(?i)^" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern[1:]) + "/?$", view)

    name = f"tests.support.routers_django_{kind}"
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].urlpatterns = list(map(page, SITE))  # type: ignore[attr-defined]
    return django_at(name, get_asgi_application())


def blacksheep_app() -> App:
    from blacksheep import Application, Response, Router, TextContent

    def page(pattern: str) -> Callable[[Any], Awaitable[Any]]:
        async def handler(request: Any) -> Any:
            return Response(200, content=TextContent(pattern))

        handler.__annotations__.clear()  # BlackSheep would ask them what to pass
        return handler

    app = Application(router=Router())
    for pattern in SITE:
        app.router.add_get(pattern, page(pattern))
    return started(app)


def started(app: Any) -> App:
    """Return an app that starts BlackSheep's on its first request: it takes no request before its
    lifespan.
    """
    from blacksheep import InvalidURL

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if not app.started:
            await app.start()
        try:
            await app(scope, receive, send)
        # it cuts /api off /apix as well, and then cannot say that x is not found
        except InvalidURL:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    return outer


FRAMEWORKS: Mapping[str, Callable[[], App]] = {
    "Starlette": starlette_app,
    "FastAPI": fastapi_app,
    "Litestar": litestar_app,
    "Quart": quart_app,
    "Django": django_app,
    "Django without case": functools.partial(django_app, "re_path"),
    "BlackSheep": blacksheep_app,
}

# ------------------------------------------------------------------------------------------- mounts


def in_starlette(app: App) -> App:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount("/sub", app)])


def in_fastapi(app: App) -> App:
    from fastapi import FastAPI

    host = FastAPI(openapi_url=None)
    host.mount("/sub", app)
    return host


def in_litestar(app: App) -> App:
    from litestar import Litestar, asgi

    return Litestar(
        [asgi("/sub", is_mount=True, copy_scope=True)(app)],
        openapi_config=None,
        logging_config=None,
    )


def in_blacksheep(app: App) -> App:
    from blacksheep import Application, Router

    host = Application(router=Router())
    host.mount("/sub", app)
    return started(host)


def in_dispatcher(app: App) -> App:
    from hypercorn.middleware import DispatcherMiddleware

    return DispatcherMiddleware({"/sub": app})


MOUNTS: Mapping[str, tuple[Callable[[App], App], Callable[[], App]]] = {
    **{f"{name} in Starlette": (in_starlette, make) for name, make in FRAMEWORKS.items()},
    "FastAPI in FastAPI": (in_fastapi, fastapi_app),
    "Litestar in Litestar": (in_litestar, litestar_app),
    "BlackSheep in BlackSheep": (in_blacksheep, blacksheep_app),
    "Quart in Hypercorn's dispatcher": (in_dispatcher, quart_app),
}
"""How to mount an app at /sub, and which app."""

BORDERLESS = ("Litestar in Litestar", "Quart in Hypercorn's dispatcher")
"""The mounts that answer for /subway, too: from in front of them, the page cannot be known."""
