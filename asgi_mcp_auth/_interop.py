"""Bridges to other libraries. They do nothing unless the library is already imported."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from ._asgi import Route
from .tokens import AccessToken, User

SDK_USER_MODULE = "mcp.server.auth.middleware.bearer_auth"


class MiddlewareEntry(NamedTuple):
    """An entry of ``middleware=``, which Starlette unpacks."""

    cls: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def as_middleware(cls: Any, **kwargs: Any) -> Any:
    """Return an entry for a Starlette middleware list, of Starlette's own class if it is loaded."""
    if "starlette.middleware" in sys.modules:
        from starlette.middleware import Middleware

        return Middleware(cls, **kwargs)
    return MiddlewareEntry(cls, (), kwargs)


def as_routes(routes: Sequence[Route]) -> list[Any]:
    """Return Starlette routes if Starlette is loaded: FastMCP ignores others."""
    if "starlette.routing" in sys.modules:
        from starlette.routing import Route as StarletteRoute

        return [StarletteRoute(route.path, endpoint=route.app) for route in routes]
    return list(routes)


def register_with_fastmcp(cls: Any) -> None:
    """Make the class pass for FastMCP's AuthProvider: one of its add-ons otherwise fails open."""
    module = sys.modules.get("fastmcp.server.auth.auth")
    if module is not None:
        module.AuthProvider.register(cls)


def own_root_path(app: Any) -> str:
    """Return the root path that an app sets itself, whatever the server's one is.

    It comes from ``FastAPI(root_path=…)`` or Django's ``FORCE_SCRIPT_NAME``. Other middlewares,
    which keep the wrapped app in ``app``, are looked through; mounts are not.
    """
    fastapi_app: Any = getattr(sys.modules.get("fastapi"), "FastAPI", ())
    django: Any = sys.modules.get("django.core.handlers.asgi")
    django_app: Any = getattr(django, "ASGIHandler", ())
    for _ in range(32):  # also ends a cycle
        if isinstance(app, fastapi_app):
            return str(app.root_path or "")
        if isinstance(app, django_app):
            return str(django.settings.FORCE_SCRIPT_NAME or "")
        app = getattr(app, "app", None)
    return ""


class SDKBridge(NamedTuple):
    """The MCP SDK's user class, and the context variable of its ``get_access_token``."""

    user: Callable[[AccessToken], Any]
    variable: ContextVar[Any]


@functools.cache
def sdk_bridge() -> SDKBridge:
    """Return the bridge to the MCP SDK, once ``SDK_USER_MODULE`` is loaded.

    The SDK binds a session to its user only if ``scope["user"]`` has its own class: with any other
    object, a second user could use the session of the first.
    """
    from mcp.server.auth.middleware.auth_context import auth_context_var
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser

    # Its access_token is ours, where the SDK declares its own.
    class SDKUser(User, AuthenticatedUser):  # type: ignore[misc]  # see above
        """Both our user and the SDK's; attributes are read from the token on demand."""

        def __init__(self, access_token: AccessToken) -> None:
            User.__init__(self, access_token)

        @property
        def username(self) -> str:  # type: ignore[override]  # set once in the SDK, computed here
            return self.access_token.client_id

        @property
        def scopes(self) -> list[str]:  # type: ignore[override]  # the same
            return self.access_token.scopes

    return SDKBridge(SDKUser, auth_context_var)
