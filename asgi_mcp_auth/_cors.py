"""CORS for browser clients, as in the Fetch standard, never with credentials."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from ._asgi import HeaderList, send_response
from ._settings import check_origin
from ._urls import is_loopback_origin, origin_of
from .errors import ConfigurationError, ForbiddenOrigin
from .types import Message, Receive, Scope, Send

EXPOSED = b"WWW-Authenticate, DPoP-Nonce, Mcp-Session-Id, Mcp-Protocol-Version"
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_USUAL_HEADERS = (
    b"Authorization, Content-Type, Accept, Last-Event-ID, DPoP, "
    b"MCP-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name"
)
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~\-, ]{1,1024}")
_MAX_AGE = b"7200"


def is_preflight(scope: Scope) -> bool:
    """Return whether the request is a CORS preflight."""
    return scope.get("method") == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


def preflight_headers(scope: Scope, allow_origin: bytes, methods: bytes = _METHODS) -> HeaderList:
    """Return the headers of an answer to a preflight that allows the requested headers."""
    allowed = _USUAL_HEADERS
    for name, value in scope["headers"]:
        if name == b"access-control-request-headers":
            if _HEADER_NAMES.fullmatch(value):
                allowed = value
            break
    return [
        *origin_headers(allow_origin),
        (b"access-control-allow-methods", methods),
        (b"access-control-allow-headers", allowed),
        (b"access-control-max-age", _MAX_AGE),
    ]


def origin_headers(allow_origin: bytes) -> HeaderList:
    """Return the headers that let a page read the response."""
    headers = [
        (b"access-control-allow-origin", allow_origin),
        (b"access-control-expose-headers", EXPOSED),
    ]
    return headers if allow_origin == b"*" else [*headers, (b"vary", b"Origin")]


async def answer_preflight(
    scope: Scope, receive: Receive, send: Send, allow_origin: bytes, methods: bytes = _METHODS
) -> None:
    """Allow the request of a preflight."""
    headers = preflight_headers(scope, allow_origin, methods)
    await send_response(scope, receive, send, 204, headers, b"")


class AllowedOrigins:
    """Origins of the web pages that may call: a defence against DNS rebinding (MCP transport)."""

    def __init__(
        self, configured: Sequence[str] | Literal["*"] | None, base_url: str | None
    ) -> None:
        self._all = configured == "*"
        self._loopback = configured is None
        if not isinstance(configured, list | tuple | None) and not self._all:
            raise ConfigurationError(
                f"allowed_origins={configured!r} must be a list or '*': write [{configured!r}]"
            )
        names: set[str] = set()
        if configured is not None and not self._all:
            names.update(check_origin("allowed_origins", each) for each in configured)
        if base_url is not None:
            names.add(origin_of(base_url))
        self._origins = frozenset(names)

    def check(self, origin: bytes) -> bytes:
        """Return the value of ``Access-Control-Allow-Origin``.

        Raises:
            ForbiddenOrigin: pages of this origin may not call.
        """
        if self._all:
            return b"*"
        # RFC 6454 §4: neither scheme nor host have a case.
        name = origin.lower().decode("latin-1")
        if name in self._origins or (self._loopback and is_loopback_origin(name)):
            return origin
        raise ForbiddenOrigin(origin.decode("latin-1"))


class CORSSend:
    """A ``send`` that adds the missing CORS headers to an app's response, and nothing else."""

    __slots__ = ("_allow_origin", "_send")

    def __init__(self, send: Send, allow_origin: bytes) -> None:
        self._send = send
        self._allow_origin = allow_origin

    def __call__(self, message: Message) -> Awaitable[None]:
        """Send ``message``."""
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            if b"access-control-allow-origin" not in present:
                added = origin_headers(self._allow_origin)
                message = {
                    **message,
                    "headers": headers
                    + [each for each in added if each[0] not in present or each[0] == b"vary"],
                }
        return self._send(message)


class PublicDocument:
    """An ASGI app that serves a JSON document to all callers, including pages of any origin.

    Args:
        body: returns the document.
        status: 200, or 404 for the answer in place of a missing document.
        max_age_seconds: how long caches may keep it.
    """

    def __init__(
        self, body: Callable[[], bytes], *, status: int = 200, max_age_seconds: int = 300
    ) -> None:
        self._body = body
        self._status = status
        self._headers: HeaderList = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"public, max-age=%d" % max_age_seconds),
            *origin_headers(b"*"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer GET and HEAD, and the preflight of both."""
        if scope["type"] == "websocket":
            await send_response(scope, receive, send, 404, [], b"")
        elif scope["method"] in ("GET", "HEAD"):
            await send_response(scope, receive, send, self._status, self._headers, self._body())
        elif is_preflight(scope):
            await answer_preflight(scope, receive, send, b"*", b"GET, HEAD")
        else:
            allow = [(b"allow", b"GET, HEAD, OPTIONS"), *origin_headers(b"*")]
            await send_response(scope, receive, send, 405, allow, b"")
