"""Starlette: in its middleware list, wrapped from outside, with routes mounted by hand."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_mcp_auth import (
    InsufficientScope,
    MCPAuthMiddleware,
    Refusal,
    RequireScopes,
    get_access_token,
    insufficient_scope_response,
)
from asgi_mcp_auth.testing import Issuer
from tests.interop.protection import (
    BASE_URL,
    CHALLENGE,
    METADATA_PATH,
    METADATA_URL,
    RESOURCE,
    as_user,
    provider_for,
)
from tests.support.asgi import App, call, handshake

pytestmark = pytest.mark.asyncio

STEP_UP = (
    f'Bearer error="insufficient_scope", resource_metadata="{METADATA_URL}", scope="mcp:read'
    ' notes:write", error_description="The access token lacks a scope that this operation needs"'
)


async def who(request: Request) -> Response:
    seen = {
        "authenticated": request.user.is_authenticated,
        "identity": request.user.identity,
        "display_name": request.user.display_name,
        "scopes": request.auth.scopes,
        "from_request": getattr(get_access_token(request), "subject", None),
        "from_task": getattr(get_access_token(), "subject", None),
    }
    return JSONResponse(seen)


def who_in_a_thread(request: Request) -> Response:
    token = get_access_token()
    return PlainTextResponse(token.subject if token else "nobody")


@requires("notes:write")
async def write(request: Request) -> Response:
    return PlainTextResponse("written")


async def step_up(request: Request) -> Response:
    raise InsufficientScope("notes:write")


async def websocket(connection: WebSocket) -> None:
    await connection.accept()
    await connection.send_text(connection.user.display_name)
    await connection.close()


def routes() -> list[Any]:
    return [
        Route("/who", who),
        Route("/health", who),
        Route("/thread", who_in_a_thread),
        Route("/write", write),
        Route("/step-up", step_up),
        WebSocketRoute("/websocket", websocket),
        Mount("/admin", RequireScopes(PlainTextResponse("admin"), ["admin"])),
    ]


def listed(issuer: Issuer, **settings: Any) -> App:
    """Return an app with the middleware in its list."""
    settings = {
        "provider": provider_for(issuer),
        "mcp_path": "/mcp",
        "public_paths": ["/health"],
        **settings,
    }
    return Starlette(routes=routes(), middleware=[Middleware(MCPAuthMiddleware, **settings)])


def wrapped(issuer: Issuer, **settings: Any) -> App:
    """Return an app with the middleware around it."""
    app = Starlette(routes=routes())
    app.add_exception_handler(InsufficientScope, insufficient_scope_response)
    return MCPAuthMiddleware(
        app, provider_for(issuer), mcp_path="/mcp", public_paths=["/health"], **settings
    )


both_ways = pytest.mark.parametrize("build", [listed, wrapped])


@both_ways
async def test_the_handler_sees_the_caller_where_starlette_s_users_look(
    issuer: Issuer, build: Any
) -> None:
    response = await call(
        build(issuer), "GET", "/who", as_user(issuer, "bob", "mcp:read notes:write")
    )
    assert response.json() == {
        "authenticated": True,
        "identity": f"{issuer.issuer}|bob",
        "display_name": "bob",
        "scopes": ["mcp:read", "notes:write"],
        "from_request": "bob",
        "from_task": "bob",
    }


@both_ways
async def test_on_a_public_path_the_caller_is_anonymous_even_with_a_token(
    issuer: Issuer, build: Any
) -> None:
    for headers in ({}, as_user(issuer)):
        seen = (await call(build(issuer), "GET", "/health", headers)).json()
        assert (seen["authenticated"], seen["identity"], seen["scopes"]) == (False, "", [])
        assert (seen["from_request"], seen["from_task"]) == (None, None)


@both_ways
async def test_a_handler_that_runs_in_a_thread_knows_the_caller_too(
    issuer: Issuer, build: Any
) -> None:
    assert (await call(build(issuer), "GET", "/thread", as_user(issuer, "bob"))).body == b"bob"


@both_ways
async def test_without_a_token_the_challenge_leads_to_the_metadata(
    issuer: Issuer, build: Any
) -> None:
    app = build(issuer)
    refused = await call(app, "GET", "/who")
    assert (refused.status, refused.header("www-authenticate")) == (401, CHALLENGE)
    document = await call(app, "GET", METADATA_PATH)
    assert document.status == 200
    assert document.json() == {
        "resource": RESOURCE,
        "authorization_servers": [issuer.issuer],
        "scopes_supported": ["mcp:read"],
        "bearer_methods_supported": ["header"],
    }


@both_ways
async def test_starlette_s_requires_reads_the_scopes_of_the_token(
    issuer: Issuer, build: Any
) -> None:
    app = build(issuer)
    assert (await call(app, "GET", "/write", as_user(issuer))).status == 403
    assert (
        await call(app, "GET", "/write", as_user(issuer, scope="mcp:read notes:write"))
    ).body == b"written"


@both_ways
async def test_a_handler_asks_for_more_by_raising_insufficient_scope(
    issuer: Issuer, build: Any
) -> None:
    events: list[Refusal] = []
    response = await call(
        build(issuer, on_event=events.append), "GET", "/step-up", as_user(issuer, "bob")
    )
    assert (response.status, response.header("www-authenticate")) == (403, STEP_UP)
    assert [(event.reason, event.subject, event.path) for event in events] == [
        ("insufficient_scope", "bob", "/step-up")
    ]


async def test_wrapped_from_outside_without_the_handler_starlette_answers_500_first(
    issuer: Issuer,
) -> None:
    app = MCPAuthMiddleware(Starlette(routes=routes()), provider_for(issuer), mcp_path="/mcp")

    async def server(scope: Any, receive: Any, send: Any) -> None:
        # it is not sent a second answer, and servers log what comes out here
        with pytest.raises(InsufficientScope):
            await app(scope, receive, send)

    assert (await call(server, "GET", "/step-up", as_user(issuer))).status == 500


@both_ways
async def test_a_mounted_app_that_needs_more_gives_the_same_challenge(
    issuer: Issuer, build: Any
) -> None:
    app = build(issuer)
    refused = await call(app, "GET", "/admin/", as_user(issuer))
    assert refused.status == 403
    assert 'scope="mcp:read admin"' in (refused.header("www-authenticate") or "")
    assert (
        await call(app, "GET", "/admin/", as_user(issuer, scope="mcp:read admin"))
    ).body == b"admin"


@both_ways
async def test_a_websocket_is_let_in_with_a_token_only(issuer: Issuer, build: Any) -> None:
    app = build(issuer)
    denied = (await handshake(app, "/websocket")).denial
    assert denied is not None
    assert (denied.status, denied.header("www-authenticate")) == (401, CHALLENGE)
    assert (await handshake(app, "/websocket", denial=False)).close_code == 1008
    assert (await handshake(app, "/websocket", as_user(issuer))).accepted


async def test_get_middleware_is_an_entry_of_the_list(issuer: Issuer) -> None:
    app = Starlette(routes=routes(), middleware=provider_for(issuer).get_middleware())
    headers = as_user(issuer, aud=BASE_URL)
    assert (await call(app, "GET", "/who", headers)).json()["display_name"] == "alice"
    assert (await call(app, "GET", "/who", as_user(issuer))).status == 401, (
        "here the resource is the base URL"
    )


async def test_the_provider_s_routes_are_starlette_routes_as_they_are(issuer: Issuer) -> None:
    app = Starlette(routes=provider_for(issuer).get_routes("/mcp"))
    document = await call(app, "GET", METADATA_PATH, {"Origin": "https://inspector.example"})
    assert (document.status, document.header("content-type")) == (200, "application/json")
    assert document.header("access-control-allow-origin") == "*"
    assert document.json()["resource"] == RESOURCE
    head = await call(app, "HEAD", METADATA_PATH)
    assert (head.status, head.body) == (200, b"")
    assert head.header("content-length") == str(len(document.body))
    preflight = {"Origin": "https://inspector.example", "Access-Control-Request-Method": "GET"}
    assert (await call(app, "OPTIONS", METADATA_PATH, preflight)).status == 204
    posted = await call(app, "POST", METADATA_PATH)
    assert (posted.status, posted.header("allow")) == (405, "GET, HEAD, OPTIONS")
    assert (await call(app, "GET", f"{METADATA_PATH}x")).status == 404
