"""Bridges to libraries that the application may use. They act only when the other library is
already imported.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from ._asgi import Route
from .tokens import AccessToken, User

_SDK_USER_MODULE = "mcp.server.auth.middleware.bearer_auth"


class MiddlewareEntry(NamedTuple):
    """What Starlette unpacks from an entry of ``middleware=``."""

    cls: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def as_middleware(cls: Any, **kwargs: Any) -> Any:
    """Return an entry for a Starlette middleware list, Starlette's own class where it is loaded."""
    if "starlette.middleware" in sys.modules:
        from starlette.middleware import Middleware

        return Middleware(cls, **kwargs)
    return MiddlewareEntry(cls, (), kwargs)


def as_routes(routes: Sequence[Route]) -> list[Any]:
    """Return the routes as Starlette's where it is loaded: FastMCP advertises metadata only for
    such.
    """
    if "starlette.routing" in sys.modules:
        from starlette.routing import Route as StarletteRoute

        return [StarletteRoute(route.path, endpoint=route.app) for route in routes]
    return list(routes)


def register_with_fastmcp(cls: Any) -> None:
    """Make ``isinstance(provider, fastmcp's AuthProvider)`` true: an add-on of FastMCP lets
    everybody in otherwise.
    """
    module = sys.modules.get("fastmcp.server.auth.auth")
    if module is not None:
        module.AuthProvider.register(cls)


def own_root_path(app: Any) -> str:
    """Return the prefix that an app sets itself, whatever the server says:
    ``FastAPI(root_path=…)``, Django's setting.

    It is found through other middlewares, which keep what they wrap in ``app``; not through a
    mount.
    """
    fastapi_app: Any = getattr(sys.modules.get("fastapi"), "FastAPI", ())
    django: Any = sys.modules.get("django.core.handlers.asgi")
    django_app: Any = getattr(django, "ASGIHandler", ())
    for _ in range(32):  # a chain that leads back to itself ends, too
        if isinstance(app, fastapi_app):
            return str(app.root_path or "")
        if isinstance(app, django_app):
            return str(django.settings.FORCE_SCRIPT_NAME or "")
        app = getattr(app, "app", None)
    return ""


class SDKBridge(NamedTuple):
    """How to make the MCP SDK's user from a token, and the context variable that its
    ``get_access_token`` reads.
    """

    user: Callable[[AccessToken], Any]
    variable: ContextVar[Any]


def sdk_bridge() -> SDKBridge | None:
    """Return the bridge to the MCP SDK, ``None`` while the SDK is not loaded.

    The SDK ties a session to its user only if ``scope["user"]`` is of its own class: with any other
    object, a second user was served on the first one's session.
    """
    if _SDK_USER_MODULE in sys.modules:
        return _sdk_bridge()
    return None


@functools.cache
def _sdk_bridge() -> SDKBridge:
    from mcp.server.auth.middleware.auth_context import auth_context_var
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser

    class SDKUser(User, AuthenticatedUser):  # type: ignore[misc]  # our AccessToken stands where the SDK's is declared
        """Our user and the SDK's in one; what the SDK reads comes from the token when it reads
        it.
        """

        def __init__(self, access_token: AccessToken) -> None:
            User.__init__(self, access_token)

        @property
        def username(self) -> str:  # type: ignore[override]  # set once in the SDK, computed here
            return self.access_token.client_id

        @property
        def scopes(self) -> list[str]:  # type: ignore[override]  # the same
            return self.access_token.scopes

    return SDKBridge(SDKUser, auth_context_var)
