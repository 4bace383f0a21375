"""Litestar, Quart and Django: the middleware around the app, get_access_token() inside."""

from __future__ import annotations

import sys
from typing import Any

import litestar
import pytest
import quart
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, JsonResponse
from django.urls import path

from asgi_mcp_auth import InsufficientScope, MCPAuthMiddleware, get_access_token
from asgi_mcp_auth.testing import Issuer
from tests.interop.protection import CHALLENGE, METADATA_PATH, RESOURCE, as_user, provider_for
from tests.support.asgi import App, call, handshake
from tests.support.frameworks import django_at

pytestmark = pytest.mark.asyncio


def seen_by(source: Any) -> dict[str, Any]:
    """Return whom the two ways of asking name; ``source`` is what the framework calls the
    request.
    """
    from_task, from_request = get_access_token(), get_access_token(source)
    return {
        "from_task": from_task.subject if from_task else None,
        "from_request": from_request.subject if from_request else None,
    }


# ----------------------------------------------------------------------------------------- Litestar


def litestar_app() -> App:
    @litestar.get("/who")
    async def who(request: litestar.Request[Any, Any, Any]) -> dict[str, Any]:
        return seen_by(request)

    @litestar.get("/users-way")
    async def users_way(request: litestar.Request[Any, Any, Any]) -> dict[str, Any]:
        return {"user": request.user.display_name, "scopes": request.auth.scopes}

    @litestar.get("/thread", sync_to_thread=True)
    def thread() -> str | None:
        token = get_access_token()
        return token.subject if token else None

    @litestar.get("/health")
    async def health(request: litestar.Request[Any, Any, Any]) -> dict[str, Any]:
        return seen_by(request)

    @litestar.websocket("/websocket")
    async def websocket(socket: litestar.WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.close()

    return litestar.Litestar(
        [who, users_way, thread, health, websocket], openapi_config=None, logging_config=None
    )


# -------------------------------------------------------------------------------------------- Quart


def quart_app() -> App:
    app = quart.Quart(__name__)

    @app.get("/who")
    @app.get("/health")
    async def who() -> dict[str, Any]:
        return seen_by(quart.request)

    @app.get("/thread")
    def thread() -> str:
        token = get_access_token()
        return token.subject or "" if token else ""

    @app.websocket("/websocket")
    async def websocket() -> None:
        await quart.websocket.accept()

    return app


# ------------------------------------------------------------------------------------------- Django


async def who(request: ASGIRequest) -> JsonResponse:
    return JsonResponse(seen_by(request))


def thread(request: HttpRequest) -> JsonResponse:
    token = get_access_token()
    return JsonResponse(token.subject if token else None, safe=False)


urlpatterns = [path("who", who), path("health", who), path("thread", thread)]


def django_app() -> App:
    return django_at(sys.modules[__name__], get_asgi_application())


FRAMEWORKS = {"litestar": litestar_app, "quart": quart_app, "django": django_app}


@pytest.fixture(params=sorted(FRAMEWORKS))
def app(request: pytest.FixtureRequest, issuer: Issuer) -> App:
    """Each framework's app behind the middleware."""
    inner = FRAMEWORKS[request.param]()
    return MCPAuthMiddleware(inner, provider_for(issuer), mcp_path="/mcp", public_paths=["/health"])


async def test_the_handler_knows_the_caller(issuer: Issuer, app: App) -> None:
    response = await call(app, "GET", "/who", as_user(issuer, "bob"))
    assert (response.status, response.json()) == (200, {"from_task": "bob", "from_request": "bob"})


async def test_a_handler_that_runs_in_a_thread_knows_the_caller_too(
    issuer: Issuer, app: App
) -> None:
    response = await call(app, "GET", "/thread", as_user(issuer, "bob"))
    assert response.body.strip(b'"') == b"bob"


async def test_on_a_public_path_the_caller_is_anonymous_even_with_a_token(
    issuer: Issuer, app: App
) -> None:
    for headers in ({}, as_user(issuer)):
        assert (await call(app, "GET", "/health", headers)).json() == {
            "from_task": None,
            "from_request": None,
        }


async def test_without_a_token_the_challenge_leads_to_the_metadata(app: App) -> None:
    refused = await call(app, "GET", "/who")
    assert (refused.status, refused.header("www-authenticate")) == (401, CHALLENGE)
    assert (await call(app, "GET", METADATA_PATH)).json()["resource"] == RESOURCE


@pytest.mark.parametrize("framework", ["litestar", "quart"])
async def test_a_websocket_is_let_in_with_a_token_only(issuer: Issuer, framework: str) -> None:
    app = MCPAuthMiddleware(FRAMEWORKS[framework](), provider_for(issuer), mcp_path="/mcp")
    denied = (await handshake(app, "/websocket")).denial
    assert denied is not None
    assert (denied.status, denied.header("www-authenticate")) == (401, CHALLENGE)
    assert (await handshake(app, "/websocket", as_user(issuer))).accepted


async def test_litestar_s_request_user_and_auth_are_the_caller_s(issuer: Issuer) -> None:
    app = MCPAuthMiddleware(litestar_app(), provider_for(issuer), mcp_path="/mcp")
    response = await call(app, "GET", "/users-way", as_user(issuer, "bob", "mcp:read x"))
    assert response.json() == {"user": "bob", "scopes": ["mcp:read", "x"]}


async def test_a_quart_app_is_wrapped_where_its_documentation_says(issuer: Issuer) -> None:
    app = quart.Quart(__name__)

    @app.get("/write")
    async def write() -> str:
        raise InsufficientScope("notes:write")

    app.config["PROPAGATE_EXCEPTIONS"] = True  # else it turns every exception into a 500 itself
    app.asgi_app = MCPAuthMiddleware(app.asgi_app, provider_for(issuer), mcp_path="/mcp")  # type: ignore[method-assign]
    assert (await call(app, "GET", "/write")).status == 401
    refused = await call(app, "GET", "/write", as_user(issuer))
    assert refused.status == 403
    assert 'scope="mcp:read notes:write"' in (refused.header("www-authenticate") or "")
