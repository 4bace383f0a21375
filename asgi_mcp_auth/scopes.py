"""Requires more scopes inside an app that an ``MCPAuthMiddleware`` protects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._settings import check_scopes
from .errors import InsufficientScope, RequestError
from .refusals import challenger_of
from .tokens import HasScope, get_access_token
from .types import ASGIApp, Receive, Scope, Send


class RequireScopes:
    """Requires more scopes for one sub-app: ``Mount("/admin", RequireScopes(admin, ["admin"]))``.

    Args:
        app: the sub-app.
        scopes: all of them are needed.

    Raises:
        ConfigurationError: a scope is malformed; or, on a request, there is no
            ``MCPAuthMiddleware`` around the app.
    """

    def __init__(self, app: ASGIApp, scopes: Sequence[str]) -> None:
        self.app = app
        self.scopes = check_scopes("scopes", scopes)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] != "lifespan":
            challenger = challenger_of(scope)
            access = get_access_token(scope)
            if access is None or not access.has_scopes(*self.scopes):
                await challenger.refuse(
                    InsufficientScope(*self.scopes), scope, receive, send, access=access
                )
                return
        await self.app(scope, receive, send)


async def insufficient_scope_response(request: HasScope, exc: Exception) -> Any:
    """Return the response for ``InsufficientScope``, or another ``RequestError``.

    ``app.add_exception_handler(RequestError, insufficient_scope_response)``: needed if the
    middleware is outside a Starlette or FastAPI app, whose error middleware would answer first.

    Raises:
        ConfigurationError: the request did not come through an ``MCPAuthMiddleware``.
    """
    if not isinstance(exc, RequestError):
        raise exc
    challenger, access = challenger_of(request.scope), get_access_token(request)

    async def response(scope: Scope, receive: Receive, send: Send) -> None:
        await challenger.refuse(exc, scope, receive, send, access=access)

    return response
