"""Deprecated: the pages' values are names of ``asgi_mcp_auth.server``."""

from __future__ import annotations

import warnings

from .pages import models
from .pages.models import *  # noqa: F403  # the names that this module had

warnings.warn(
    "asgi_mcp_auth.server.page_values is deprecated: import its names from asgi_mcp_auth.server",
    DeprecationWarning,
    stacklevel=2,
)

ErrorPage = models.MessagePage  # its name at the time
