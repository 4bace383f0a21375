"""Lets a request know which refusals its app has made.

MCP libraries turn every exception of a tool into an answer, so that none reaches the middleware.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

#: The refusals inside the app of the request that the running task serves.
refusals_inside: ContextVar[list[Any] | None] = ContextVar("asgi_mcp_auth.refusals", default=None)


def tell_request(error: Exception) -> None:
    """Add a refusal to those of the running request, if there is one."""
    refusals = refusals_inside.get()
    if refusals is not None:
        refusals.append(error)
