"""The middleware and the router read one path: no page is served that was not guarded.

A request is put to the real router of each framework and to a middleware in front of nothing. The
middleware may ask for more than the page served by the router needs, never for less.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from django.core.asgi import get_asgi_application
from django.test.utils import override_settings

from asgi_mcp_auth import MCPAuthMiddleware, RequireScopes, Rule
from tests.support.asgi import App, Receive, Scope, Send, call, make_scope
from tests.support.protection import BOB, challenge_of, make_provider, protect
from tests.support.routers import (
    BORDERLESS,
    FRAMEWORKS,
    MOUNTS,
    PREFIXING,
    SITE,
    Needs,
    django_app,
    fastapi_app,
    scope_members,
    served_page,
    settings_below,
)
from tests.support.rows import rows
from tests.support.server_processes import SERVER_PROCESSES, ask, ask_websocket, server_process

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-43")]

COUNT = 100
"""Paths for each framework and kind of server. ``make soak`` asks about a hundred times as many."""

SHAPES = [
    pytest.param("", True, id="no root_path"),
    pytest.param("/api", True, id="root_path in front"),
    pytest.param("/api", False, id="root_path beside"),
]
PAGES = (
    *(
        "/",
        "/health",
        "/docs",
        "/docs/x",
        "/docs/internal",
        "/open",
        "/open/x",
        "/open/closed",
        "/open/closed/x",
    ),
    *(
        "/admin",
        "/admin/x",
        "/admin/audit",
        "/skiß",
        "/skiß/x",
        "/else",
        "/else/x",
        "/api/x",
        "/sub/x",
    ),
)
BEFORE = (
    "",
    "",
    "",
    "/api",
    "/api",
    "/api/api",
    "/API",
    "/%61pi",
    "/x/api",
    "/apix",
    "/sub",
    "/sub/sub",
    "/SUB",
)
AFTER = (
    "",
    "",
    "",
    "",
    "/",
    "/",
    "//",
    "/.",
    "/..",
    ";x",
    "%2F",
    "%20",
    "/api",
    "/api/x",
    "/x",
    "x",
    "%0A",
    "%3F",
)
# What equals an ASCII letter, or two of them, to those who ignore case.
SIMILAR = {"s": "%C5%BF", "k": "%E2%84%AA", "i": "%C4%B1", "ß": "SS"}


def spelled(page: str, chosen: random.Random) -> str:
    """Return a page's path as a request line may spell it."""
    letter, at = chosen.choice(tuple(SIMILAR)), chosen.randrange(len(page))
    encoded = "".join(f"%{byte:02x}" for byte in page[at].encode())
    written = chosen.choice(
        (
            page,
            page,
            page.upper().replace("SS", "ß"),
            page.title(),
            page.replace(letter, SIMILAR[letter], 1),
            page[:at] + encoded + page[at + 1 :],
            page.replace("/", "//", 1),
            page.replace("/", "/x/../"),
            page.removeprefix("/"),
        )
    )
    return written.replace("ß", "%C3%9F")


def targets(seed: str, count: int, before: str = "") -> Iterator[str]:
    """Yield request targets, the same ones for the same seed; most of them below ``before``."""
    chosen = random.Random(seed)
    for _ in range(count):
        start = chosen.choice(BEFORE)
        start = chosen.choice((start + before, start + before, before + start, before, start))
        yield f"/{start}{spelled(chosen.choice(PAGES), chosen)}{chosen.choice(AFTER)}".replace(
            "//", "/", 1
        )


class Comparison:
    """A gate and an app that are asked about the same requests.

    Attributes:
        served: how many of them the app has answered with a page.
        looser: what the gate would have let through to a page that needs more: path, page, what the
            gate asked for.
    """

    def __init__(self, app: App, prefix: str = "") -> None:
        self.app = app
        self.guard = protect(**settings_below(prefix))
        self.served = 0
        self.looser: list[tuple[str, str, Needs]] = []

    async def ask(self, app: App, scope: Scope) -> None:
        """Ask the app and the gate about one request, each with a scope of its own."""
        page = await served_page(app, dict(scope))
        if page is None:
            return
        self.served += 1
        asked, needs = await self._asked_for(scope), SITE[page]
        if needs is not None and (asked is None or not needs <= asked):
            self.looser.append((scope["path"], page, asked))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stand where the app is mounted, and compare there."""
        await self.ask(self.app, scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def _asked_for(self, scope: Scope) -> Needs:
        self.guard.spy.scopes.clear()
        members = {name: scope.get(name) for name in ("path", "raw_path", "root_path")}
        response = await call(self.guard.app, "GET", "/", BOB, **members)
        if self.guard.spy.scopes:
            return None if self.guard.spy.scope["access_token"] is None else frozenset()
        return frozenset(challenge_of(response)["scope"].split())


async def compare(
    comparison: Comparison, seed: str, count: int, root_path: str, in_front: bool
) -> None:
    for target in targets(f"{seed}{root_path}{in_front}", count):
        scope = make_scope(
            "http", "GET", "/", **scope_members(target, root_path, in_front=in_front)
        )
        await comparison.ask(comparison.app, scope)
    assert comparison.looser == []
    assert comparison.served > count / 20


async def compare_mounted(
    mount: str, inside: bool, count: int, root_path: str, in_front: bool
) -> None:
    host, make = MOUNTS[mount]
    comparison = Comparison(make(), "" if inside else "/sub")
    app = host(comparison if inside else comparison.app)
    for target in targets(f"{mount}{inside}{root_path}{in_front}", count, "/sub"):
        scope = make_scope(
            "http", "GET", "/", **scope_members(target, root_path, in_front=in_front)
        )
        await (served_page(app, scope) if inside else comparison.ask(app, scope))
    assert comparison.looser == []
    # not every mount finds its way below a root_path
    assert comparison.served > count / 50 or root_path


@pytest.mark.parametrize("server", SERVER_PROCESSES)
async def test_servers_make_of_a_path_what_is_compared_here(server: str) -> None:
    in_front = server in PREFIXING
    with server_process(server, "/api") as base_url:
        for target in targets(server, 25):
            members = scope_members(target, "/api", in_front=in_front)
            assert ask(base_url, target) == {**members, "raw_path": members["raw_path"].decode()}, (
                target
            )
        members = scope_members("/x/caf%C3%A9", "/api", in_front=in_front)
        assert ask_websocket(base_url, "/x/caf%C3%A9") == {
            **members,
            "raw_path": members["raw_path"].decode(),
        }


PLACES = [
    *((mount, True) for mount in MOUNTS),
    *((mount, False) for mount in MOUNTS if mount not in BORDERLESS),
]
"""Which mounts, and whether the gate stands inside of them."""


@pytest.mark.parametrize(("root_path", "in_front"), SHAPES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_no_page_is_served_that_the_gate_did_not_guard(
    framework: str, root_path: str, in_front: bool
) -> None:
    await compare(Comparison(FRAMEWORKS[framework]()), framework, COUNT, root_path, in_front)


@rows("framework", FRAMEWORKS)
@rows(("root_path", "start"), [("/zz", "/z%7a"), ("/\u00e9", "/%C3%A9")])
async def test_a_root_path_that_is_percent_encoded_opens_nothing(
    framework: str, root_path: str, start: str
) -> None:
    comparison = Comparison(FRAMEWORKS[framework]())
    for page in PAGES:
        scope = make_scope(
            "http", "GET", f"{start}{page}".replace("ß", "%C3%9F"), root_path=root_path
        )
        await comparison.ask(comparison.app, scope)
    assert comparison.looser == []


@pytest.mark.parametrize(("root_path", "in_front"), SHAPES)
@pytest.mark.parametrize(("mount", "inside"), PLACES)
async def test_no_page_of_a_mounted_app_is_served_that_the_gate_did_not_guard(
    mount: str, inside: bool, root_path: str, in_front: bool
) -> None:
    await compare_mounted(mount, inside, COUNT // 2, root_path, in_front)


ODD = [
    pytest.param(root, front)
    for root in ("/", "//", "/api/", "/api//", "api")
    for front in (True, False)
]


@pytest.mark.soak
@pytest.mark.parametrize(("root_path", "in_front"), [*SHAPES, *ODD])
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_ten_thousand_spellings_find_no_page_without_a_guard(
    framework: str, root_path: str, in_front: bool
) -> None:
    await compare(
        Comparison(FRAMEWORKS[framework]()), f"soak {framework}", 10_000, root_path, in_front
    )


@pytest.mark.soak
@pytest.mark.parametrize(("root_path", "in_front"), SHAPES)
@pytest.mark.parametrize(("mount", "inside"), PLACES)
async def test_two_thousand_spellings_find_no_mounted_page_without_a_guard(
    mount: str, inside: bool, root_path: str, in_front: bool
) -> None:
    await compare_mounted(mount, inside, 2_000, root_path, in_front)


async def test_a_long_path_of_combining_marks_is_not_normalised_whole() -> None:
    """Normalising takes the square of their number; this many would take minutes."""
    guard = protect(**settings_below())
    marks = "\u0315\u0300\u031b" * 200_000
    guard.assert_entered(
        await call(guard.app, "GET", "/", BOB, path=f"/{marks}", raw_path=None), "bob"
    )
    response = await call(guard.app, "GET", "/", BOB, path=f"/ADMIN/{marks}", raw_path=None)
    guard.assert_refused(response, 403, "insufficient_scope")


# ------------------------------------------------------------------------ prefixes of the app's own


class Kept:
    """A middleware that keeps what it wraps in ``app``, and never gets there."""

    def __init__(self, app: App, answer: App) -> None:
        self.app = app
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.answer(scope, receive, send)


def with_a_prefix_of_its_own(kind: str, prefix: str) -> tuple[App, App]:
    """Return an app that takes a prefix off itself, and what the middleware wraps."""
    if kind == "FastAPI":
        app = fastapi_app(root_path=prefix)
        return app, app
    return django_app(), get_asgi_application()


@pytest.mark.parametrize(("root_path", "in_front"), SHAPES)
@pytest.mark.parametrize("kind", ["FastAPI", "Django"])
async def test_a_prefix_that_the_app_takes_off_itself_hides_no_page(
    kind: str, root_path: str, in_front: bool
) -> None:
    with override_settings(FORCE_SCRIPT_NAME="/api" if kind == "Django" else None):
        app, wrapped = with_a_prefix_of_its_own(kind, "/api")
        comparison = Comparison(app)
        spy = comparison.guard.spy
        kept = Kept(Kept(wrapped, spy), spy)
        comparison.guard.app = MCPAuthMiddleware(
            kept, make_provider(), mcp_path="/mcp", **settings_below()
        )
        await compare(comparison, f"own prefix {kind}", COUNT, root_path, in_front)


async def test_a_public_path_below_a_prefix_of_the_apps_own_is_public() -> None:
    gate = MCPAuthMiddleware(
        fastapi_app(root_path="/api"), make_provider(), mcp_path="/mcp", **settings_below()
    )
    assert (await call(gate, "GET", "/api/health")).body == b"/health"
    assert (await call(gate, "GET", "/health")).status == 401
    assert (await call(gate, "GET", "/api/admin", BOB)).status == 403


# ------------------------------------------------------ mounts that are opaque from in front


@pytest.mark.parametrize("mount", BORDERLESS)
async def test_a_mount_without_a_border_is_guarded_from_inside(mount: str) -> None:
    """Rule("/sub") is not asked at /subadmin, which such a mount serves as the page /admin of the
    part.
    """
    host, make = MOUNTS[mount]
    rules = [Rule("/sub", scopes=["sub"])]
    open_part = MCPAuthMiddleware(host(make()), make_provider(), mcp_path="/mcp", rules=rules)
    assert (await call(open_part, "GET", "/sub/admin/x", BOB)).status == 403
    assert (await call(open_part, "GET", "/subadmin/x", BOB)).status == 200, (
        "rules can be relied on: the docs may say so"
    )

    part = MCPAuthMiddleware(
        host(RequireScopes(make(), ["sub"])), make_provider(), mcp_path="/mcp", rules=rules
    )
    for target in targets(mount, COUNT, "/sub"):
        response = await call(part, "GET", "/", BOB, **scope_members(target, "", in_front=True))
        assert response.status != 200, target
