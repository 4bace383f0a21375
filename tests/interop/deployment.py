"""An MCP server behind an ``OAuthProvider``, on uvicorn, for real clients to find."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_mcp_auth import DevLogin, MCPAuthMiddleware, OAuthProvider, Refusal, Tool
from asgi_mcp_auth.server import AuditEvent, ServerOptions
from tests.interop.servers import fastmcp_server, serving
from tests.support.asgi import App


class Ahead:
    """A clock that can be put forward.

    Attributes:
        seconds: how far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self) -> float:
        return time.time() + self.seconds

    def monotonic(self) -> float:
        return time.monotonic() + self.seconds


@dataclass
class Deployment:
    """An MCP server that signs people in itself, at a port of its own.

    Attributes:
        url: of the MCP endpoint.
        provider: the authorization server, and what protects the MCP server.
        clock: the provider's.
        refusals: what the middleware refused.
        events: what the authorization server did.
    """

    url: str
    provider: OAuthProvider
    clock: Ahead
    refusals: list[Refusal]
    events: list[AuditEvent]

    def done(self) -> list[str]:
        """Return what the authorization server did, in order, and forget it; making keys is not
        worth telling.
        """
        found = [event.action for event in self.events if event.action != "key_created"]
        self.events.clear()
        return found

    def reasons(self) -> list[str]:
        """Return why the middleware refused requests, in order, and forget it."""
        found = [event.reason for event in self.refusals]
        self.refusals.clear()
        return found


@contextmanager
def deployed(
    app: App | None,
    *,
    mounted: bool = False,
    outside: Callable[[App], App] = lambda app: app,
    port: int = 0,
    kind: Callable[..., OAuthProvider] = OAuthProvider,
    rules: Sequence[Any] = (Tool("write_note", scopes=["mcp:write"]),),
    **settings: Any,
) -> Iterator[Deployment]:
    """Serve ``app`` below an ``OAuthProvider``; without one, a FastMCP server that has the provider
    as its own.

    Args:
        app: the MCP server.
        mounted: whether the FastMCP server is below ``/api``.
        outside: wraps what is served.
        port: where, if not on any free one.
        kind: what protects it, if not an ``OAuthProvider``.
        rules: of the middleware.
        settings: of the provider.
    """
    clock, events, refusals, made = (
        Ahead(),
        list[AuditEvent](),
        list[Refusal](),
        list[OAuthProvider](),
    )

    def build(base_url: str) -> App:
        usual: dict[str, Any] = {"login": DevLogin()} if kind is OAuthProvider else {}
        usual |= {
            "store": "memory:",
            "required_scopes": ["mcp:read"],
            "scopes_supported": ["mcp:read", "mcp:write"],
            "options": ServerOptions(clock=clock, on_event=events.append),
        }
        provider = kind(
            base_url=f"{base_url}/api" if mounted else base_url, **{**usual, **settings}
        )
        made.append(provider)
        if app is not None:
            return outside(
                MCPAuthMiddleware(
                    app, provider, mcp_path="/mcp", rules=rules, on_event=refusals.append
                )
            )
        own = fastmcp_server(auth=provider).http_app()
        if not mounted:
            return own
        routes = [*provider.get_well_known_routes("/mcp"), Mount("/api", own)]
        return Starlette(routes=routes, lifespan=own.lifespan)

    with serving(build, port) as base_url:
        url = f"{base_url}/api/mcp" if mounted else f"{base_url}/mcp"
        yield Deployment(url, made[0], clock, refusals, events)


def whoever(said: str) -> set[str | None]:
    """Return whom the libraries see behind the call, from the answer of ``whoami``."""
    return set(json.loads(said).values())
