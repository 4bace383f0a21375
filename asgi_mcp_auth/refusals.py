"""Turns a refusal into a response for the client, and a log record and event for the operator."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil
from typing import TypeAlias

from ._asgi import HeaderList, route_path, send_response
from ._cache import token_id
from .answers import format_refusal
from .errors import (
    ConfigurationError,
    ForbiddenOrigin,
    InsufficientScope,
    InvalidMessage,
    InvalidRequest,
    InvalidToken,
    MissingToken,
    RequestError,
    ServerUnavailable,
    TokenTooLarge,
)
from .headers import format_challenge, is_scope_token, prefers_page
from .operations import MESSAGE_KEY, RESULT_KEY, MCPMessage
from .tokens import AccessToken
from .types import Reason, Receive, Scope, Send

logger = logging.getLogger(__name__)

CHALLENGER_KEY = "asgi_mcp_auth.challenger"
_OPENING = ("GET", "HEAD")  # what a browser sends when a person opens an address
_PAGE: HeaderList = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"vary", b"Accept"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
MAX_LOGGED = 200
_JSON: HeaderList = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One refusal, as passed to ``on_event`` and in ``extra`` of the log record.

    Attributes:
        status: the HTTP status of the response (for a WebSocket, of the equivalent one).
        reason: for operators; it is not sent to the client.
        method: the HTTP method, or ``WEBSOCKET``.
        path: the decoded path below ``root_path``.
        client_id: the client of a token that is valid but lacks scopes.
        subject: the user of such a token.
        token_id: first 8 hex digits of the token's SHA-256.
        origin: the web origin that is not allowed, up to 256 characters, if that is the reason.
        operation: of an MCP message, such as ``tools/call delete_note``, where rules
            have read it; cut after 200 characters.
    """

    status: int
    reason: Reason
    method: str
    path: str
    client_id: str | None = None
    subject: str | None = None
    token_id: str | None = None
    origin: str | None = None
    operation: str | None = None


RefusalHook: TypeAlias = Callable[[Refusal], None]


class Challenger:
    """Sends the response to refused requests under one rule, and reports them.

    Args:
        required_scopes: the scopes that the rule needs.
        challenge_scopes_for: returns the scopes of a challenge for required ones.
        resource_metadata: absolute URL of the metadata document, if there is one.
        on_event: called with every refusal.
        resource: the address that people give to their clients, if it is known.
    """

    def __init__(
        self,
        required_scopes: Iterable[str],
        challenge_scopes_for: Callable[[Sequence[str]], list[str]],
        resource_metadata: str | None,
        on_event: RefusalHook | None,
        *,
        resource: str | None = None,
    ) -> None:
        self._challenge_scopes_for = challenge_scopes_for
        self._resource_metadata = resource_metadata
        self._on_event = on_event
        self.scopes = tuple(required_scopes)
        self.required_scopes = frozenset(self.scopes)
        common = (
            MissingToken(),
            InvalidToken("rejected"),
            InvalidRequest("authorization_syntax"),
            InsufficientScope(),
        )
        self._answers: dict[type[RequestError], tuple[HeaderList, bytes]] = {
            type(error): self._answer(error) for error in common
        }
        self._page = ([*_PAGE, *self._headers(common[0], ())], _page(resource))

    async def refuse(
        self,
        error: RequestError,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        token: str | None = None,
        access: AccessToken | None = None,
    ) -> None:
        """Send the response for ``error``, log it and call the hook."""
        asked = error
        extra: tuple[str, ...] = ()
        if isinstance(error, InsufficientScope):
            extra = _scopes_in(error)
            if access is None:
                # An app on a public path wants a token after all: 403 is for callers with a token.
                error = MissingToken()
            else:
                token = access.token
        if self._on_event is not None or logger.isEnabledFor(logging.INFO):
            self.report(error, scope, token, access)
        if RESULT_KEY in scope:
            # ChatGPT starts a sign-in for challenges with an error code, without a token, too.
            body = format_refusal(scope[MESSAGE_KEY].id, str(error), self._challenge(asked, extra))
            await send_response(scope, receive, send, 200, _JSON, body)
            return
        answer = None if extra else self._answers.get(type(error))
        if error.error is None and scope.get("method") in _OPENING and _opens_page(scope):
            answer = self._page
        headers, body = answer or self._answer(error, extra)
        await send_response(scope, receive, send, error.status, headers, body)

    def challenge(self, error: RequestError) -> bytes:
        """Return the challenge for ``error``."""
        return self._challenge(error, _scopes_in(error))

    def report(
        self, error: RequestError, scope: Scope, token: str | None, access: AccessToken | None
    ) -> None:
        """Log a refusal and call the hook."""
        event = Refusal(
            status=error.status,
            reason=error.reason,
            method=scope.get("method", "WEBSOCKET"),
            path=route_path(scope),
            client_id=None if access is None else access.client_id,
            subject=None if access is None else access.subject,
            token_id=token_id(token) if token else None,
            origin=error.origin if isinstance(error, ForbiddenOrigin) else None,
            operation=_operation(scope.get(MESSAGE_KEY)),
        )
        shown: str = event.reason
        if event.origin is not None:
            shown = f"{event.reason} {event.origin!r}"
        elif event.operation is not None:
            shown = f"{event.reason} ({event.operation})"
        logger.info(
            "%r %r refused with %d: %s",
            event.method,
            event.path,
            event.status,
            shown,
            extra={name: getattr(event, name) for name in Refusal.__slots__},
        )
        if self._on_event is not None:
            self._on_event(event)

    def _answer(self, error: RequestError, extra: Sequence[str] = ()) -> tuple[HeaderList, bytes]:
        if isinstance(error, InvalidMessage):
            # RFC 9110 §15.5.6
            allow = [(b"allow", b"POST")] if error.status == 405 else []
            return [*_JSON, *allow], _json_rpc(error)
        code = "" if error.error is None else f'"error":"{error.error}",'
        body = f'{{{code}"error_description":"{error}"}}'
        return [*_JSON, *self._headers(error, extra)], body.encode()

    def _headers(self, error: RequestError, extra: Sequence[str]) -> HeaderList:
        if isinstance(error, ServerUnavailable):
            return [(b"retry-after", b"%d" % max(1, ceil(error.retry_after_seconds)))]
        if isinstance(error, ForbiddenOrigin | TokenTooLarge):
            return []  # a challenge would make clients sign in again, for nothing
        return [(b"www-authenticate", self._challenge(error, extra))]

    def _challenge(self, error: RequestError, extra: Sequence[str]) -> bytes:
        return format_challenge(
            error,
            scopes=self._challenge_scopes_for(tuple(dict.fromkeys((*self.scopes, *extra)))),
            resource_metadata=self._resource_metadata,
            realm="mcp" if self._resource_metadata is None else None,
        )


def _scopes_in(error: RequestError) -> tuple[str, ...]:
    """Return the scopes that an error asks for. An app may have put parts of a request into it."""
    return tuple(filter(is_scope_token, getattr(error, "scopes", ())))


def _operation(message: MCPMessage | None) -> str | None:
    """Return the operations of a message for a log record: cut, and without control characters."""
    if message is None:
        return None
    names = [f"{each.method} {each.name}".strip() for each in message.operations[:4]]
    return ascii(", ".join(names)[:MAX_LOGGED])[1:-1][:MAX_LOGGED]


def _opens_page(scope: Scope) -> bool:
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept").lower()
    return b"text/html" in accept and prefers_page(accept)


def _page(resource: str | None) -> bytes:
    """Return the page for people who open the address of the server in a browser."""
    address = "" if resource is None else f"<p><code>{escape(resource)}</code></p>\n"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>MCP server</title></head>
<body><h1>This is an MCP server</h1>
<p>It is for MCP clients. Add its address to yours, which will then ask you to sign in.</p>
{address}</body></html>
""".encode()


def _json_rpc(error: InvalidMessage) -> bytes:
    """Return the body that refuses a message (JSON-RPC 2.0 §5)."""
    answer = {"code": error.code, "message": str(error)}
    return json.dumps({"jsonrpc": "2.0", "id": error.id, "error": answer}).encode()


def challenger_of(scope: Scope) -> Challenger:
    """Return the challenger of a request.

    Raises:
        ConfigurationError: the request did not come through an ``MCPAuthMiddleware``.
    """
    challenger = scope.get(CHALLENGER_KEY)
    if not isinstance(challenger, Challenger):
        raise ConfigurationError(
            "no MCPAuthMiddleware around this app: wrap it, or add it to the middleware list"
        )
    return challenger
