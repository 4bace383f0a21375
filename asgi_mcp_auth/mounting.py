"""Where the provider's routes are served, and what ``root_path`` and mounts do to them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote

from ._urls import (
    WELL_KNOWN_OPENID,
    WELL_KNOWN_RESOURCE,
    WELL_KNOWN_SERVER,
    other_slash,
    url_path,
)
from .types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

CHALLENGES_BEFORE_WARNING = 3


def with_root_documents(table: Mapping[str, ASGIApp]) -> dict[str, ASGIApp]:
    """Return ``table`` with its documents also at the root of the host, if they are of one
    resource.

    That is the fallback of clients that do not find the path-inserted document, and the only place
    where those of MCP 2025-03-26 look. Below a mount, or a proxy that strips the path, it is also
    the URL of OpenID Connect Discovery §4.
    """
    found = dict(table)
    for name in (WELL_KNOWN_RESOURCE, WELL_KNOWN_SERVER, WELL_KNOWN_OPENID):
        paths = [path for path in table if path.startswith(name)]
        if len({path.removesuffix("/") for path in paths}) == 1:
            found.setdefault(name, table[paths[0]])
    return found


def route_table(routes: Iterable[Any], base_url: str | None) -> dict[str, ASGIApp]:
    """Return the provider's routes by path; for proxies that do not strip the path of
    ``base_url``, also below it.
    """
    table = with_root_documents({route.path: route.app for route in routes})
    prefix = unquote(url_path(base_url or ""))
    return {**{prefix + path: app for path, app in table.items()}, **table}


def resource_paths(base_url: str | None, mcp_path: str | None) -> frozenset[str]:
    """Return the decoded paths of the resource, as a proxy passes them on that strips the path of
    ``base_url``, or keeps it.
    """
    path = mcp_path or ""
    return frozenset(filter(None, (path, unquote(url_path(base_url or "")) + path)))


def other_paths(base_url: str | None, mcp_path: str | None) -> frozenset[str]:
    """Return the paths of the resource with the other ending, with a slash or without."""
    paths = resource_paths(base_url, mcp_path)
    return frozenset(other_slash(path) for path in paths) - paths


class Documents(Protocol):
    """The part of a provider that ``MountCheck`` needs."""

    mcp_path: str | None
    host_serves_documents: bool

    @property
    def resource_metadata_url(self) -> str | None: ...


class MountCheck:
    """Warns once of an app below a mount, where clients do not look for its documents.

    Args:
        provider: has the documents.
    """

    def __init__(self, provider: Documents) -> None:
        self._provider = provider
        self._challenges = 0
        self._is_done = provider.resource_metadata_url is None

    def watch(self, path: str, app: ASGIApp) -> ASGIApp:
        """Return ``app``, which from now on tells this check that a client has come for it."""
        if not path.startswith("/.well-known/"):
            return app

        async def document(scope: Scope, receive: Receive, send: Send) -> None:
            self._is_done = True
            await app(scope, receive, send)

        return document

    def challenged(self, scope: Scope) -> None:
        """Count a challenge; if no client has come for the document after several, warn."""
        if self._is_done:
            return
        root_path: str = scope.get("root_path") or ""
        self._challenges += 1
        if self._provider.host_serves_documents or not root_path.strip("/"):
            self._is_done = True
        elif self._challenges == CHALLENGES_BEFORE_WARNING:
            self._is_done = True
            logger.warning(
                "This app is served below %r, and no client has come for %s: unless a proxy passes"
                " that URL on to this app, add provider.get_well_known_routes(%r) to the routes of"
                " the host's root app",
                root_path,
                self._provider.resource_metadata_url,
                self._provider.mcp_path,
            )


class PathCheck:
    """Warns once of a path that frameworks read in different ways.

    Args:
        own_root_path: the root path that the app sets itself, if it does.
        is_needed: whether anything depends on the path.
    """

    def __init__(self, own_root_path: str, *, is_needed: bool) -> None:
        self._own_root_path = own_root_path
        self._is_done = not is_needed

    def warn(self, scope: Scope) -> None:
        """Warn of the path of this request, unless this was done before."""
        if self._is_done:
            return
        self._is_done = True
        own_root_path = self._own_root_path
        advice = "give --root-path to uvicorn instead of the app"
        logger.warning(
            "Frameworks differ in how they remove root_path=%r from the path %r. Such a path is"
            " never public, and needs the scopes of all rules. Either %s, or make sure that every"
            " path begins with it and does not repeat it, and that it has no slash at the end. This"
            " is logged once",
            own_root_path or scope["root_path"],
            scope["path"],
            advice if own_root_path else "leave root_path unset",
        )
