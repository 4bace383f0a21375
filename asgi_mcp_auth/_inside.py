"""The request that the running task serves, as far as other modules have to know of it.

Among it: the refusals that its app has made. MCP libraries turn every exception of a tool into an
answer, so that none reaches the middleware.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

#: The request that the running task serves: its token, its provider, and the refusals of its app.
current_request: ContextVar[tuple[Any, object, list[Any]] | None] = ContextVar(
    "asgi_mcp_auth.request", default=None
)


def tell_request(error: Exception) -> None:
    """Add a refusal to those of the running request, if there is one."""
    request = current_request.get()
    if request is not None:
        request[2].append(error)
