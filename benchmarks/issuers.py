"""The contestants that issue tokens themselves: an authorization server and the application that it
protects.

As in stacks.py, nothing of a contestant is imported before it is built.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from workload import BASE_URL, MCP_PATH, REQUIRED_SCOPES, application

SCOPES = ["mcp:read", "mcp:write"]
SERVICE = {"client_id": "service", "client_secret": "a-secret-of-at-least-thirty-two-characters"}


def provider(store: str = "memory:", **settings: Any) -> Any:
    """Return our authorization server, where people sign in by saying their name: no password is
    hashed.
    """
    from asgi_mcp_auth import OAuthProvider
    from asgi_mcp_auth.server import Login, Person, Registration
    from asgi_mcp_auth.server.login import LoginAttempt, LoginForm
    from asgi_mcp_auth.server.pages.models import Field

    class SayYourName(Login):
        async def sign_in(self, attempt: LoginAttempt) -> Person | LoginForm:
            if attempt.method == "POST":
                return Person(subject=attempt.parameters["username"])
            return LoginForm((Field(name="username", label="Your name"),))

    service = {
        **SERVICE,
        "token_endpoint_auth_method": "client_secret_post",
        "grant_types": ["client_credentials"],
    }
    return OAuthProvider(
        base_url=BASE_URL,
        login=SayYourName(),
        store=store,
        required_scopes=REQUIRED_SCOPES,
        scopes_supported=SCOPES,
        registration=Registration(clients=[service]),
        **settings,
    )


@asynccontextmanager
async def ours(store: str = "memory:", **settings: Any) -> AsyncIterator[Any]:
    """Run asgi_mcp_auth as its documentation shows it; the settings go to ``OAuthProvider``."""
    from asgi_mcp_auth import MCPAuthMiddleware

    server = provider(store, **settings)
    async with server:
        yield MCPAuthMiddleware(application, server, mcp_path=MCP_PATH)


@asynccontextmanager
async def ours_without_limits() -> AsyncIterator[Any]:
    """Run the same without rate limits, which the others do not have."""
    async with ours(rate_limits=None) as app:
        yield app


@asynccontextmanager
async def fastmcp() -> AsyncIterator[Any]:
    """Run FastMCP's in-memory provider with the routes and layers of
    ``create_streamable_http_app``.
    """
    from fastmcp.server.auth.auth import ClientRegistrationOptions
    from fastmcp.server.auth.middleware import RequireAuthMiddleware
    from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
    from pydantic import AnyHttpUrl
    from starlette.applications import Starlette
    from starlette.routing import Route

    server = InMemoryOAuthProvider(
        base_url=BASE_URL,
        required_scopes=REQUIRED_SCOPES,
        client_registration_options=ClientRegistrationOptions(enabled=True, valid_scopes=SCOPES),
    )
    routes: list[Any] = server.get_routes(MCP_PATH)
    metadata_url = AnyHttpUrl(f"{BASE_URL}/.well-known/oauth-protected-resource{MCP_PATH}")
    protected = RequireAuthMiddleware(
        application, server.required_scopes, metadata_url, server.challenge_scopes
    )
    routes.append(Route(MCP_PATH, endpoint=protected, methods=["GET", "POST", "DELETE"]))
    yield Starlette(routes=routes, middleware=server.get_middleware())


ISSUERS: dict[str, Callable[[], AbstractAsyncContextManager[Any]]] = {
    "ours": ours_without_limits,
    "FastMCP": fastmcp,
}
