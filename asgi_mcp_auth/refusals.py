"""Turns a refusal into a response for the client, and a log record and event for the operator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeAlias

from ._asgi import HeaderList, route_path, send_response
from ._cache import token_id
from .errors import (
    ConfigurationError,
    ForbiddenOrigin,
    InsufficientScope,
    InvalidRequest,
    InvalidToken,
    MissingToken,
    RequestError,
    ServerUnavailable,
)
from .headers import format_challenge, is_scope_token
from .tokens import AccessToken
from .types import Reason, Receive, Scope, Send

logger = logging.getLogger(__name__)

CHALLENGER_KEY = "asgi_mcp_auth.challenger"
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
    """

    status: int
    reason: Reason
    method: str
    path: str
    client_id: str | None = None
    subject: str | None = None
    token_id: str | None = None


RefusalHook: TypeAlias = Callable[[Refusal], None]


class Challenger:
    """Sends the response to refused requests under one rule, and reports them.

    Args:
        required_scopes: the scopes that the rule needs.
        challenge_scopes_for: returns the scopes of a challenge for required ones.
        resource_metadata: absolute URL of the metadata document, if there is one.
        on_event: called with every refusal.
    """

    def __init__(
        self,
        required_scopes: Iterable[str],
        challenge_scopes_for: Callable[[Sequence[str]], list[str]],
        resource_metadata: str | None,
        on_event: RefusalHook | None,
    ) -> None:
        self._challenge_scopes_for = challenge_scopes_for
        self._resource_metadata = resource_metadata
        self._on_event = on_event
        self._scopes = tuple(required_scopes)
        self.required_scopes = frozenset(self._scopes)
        common = (
            MissingToken(),
            InvalidToken("rejected"),
            InvalidRequest("authorization_syntax"),
            InsufficientScope(),
        )
        self._answers: dict[type[RequestError], tuple[HeaderList, bytes]] = {
            type(error): self._answer(error) for error in common
        }

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
        extra: tuple[str, ...] = ()
        if isinstance(error, InsufficientScope):
            # An app may have put parts of a request into it.
            extra = tuple(filter(is_scope_token, error.scopes))
            if access is None:
                # An app on a public path wants a token after all: 403 is for callers with a token.
                error = MissingToken()
            else:
                token = access.token
        if self._on_event is not None or logger.isEnabledFor(logging.INFO):
            self._report(error, scope, token, access)
        answer = None if extra else self._answers.get(type(error))
        headers, body = answer or self._answer(error, extra)
        await send_response(scope, receive, send, error.status, headers, body)

    def _report(
        self, error: RequestError, scope: Scope, token: str | None, access: AccessToken | None
    ) -> None:
        event = Refusal(
            status=error.status,
            reason=error.reason,
            method=scope.get("method", "WEBSOCKET"),
            path=route_path(scope),
            client_id=None if access is None else access.client_id,
            subject=None if access is None else access.subject,
            token_id=token_id(token) if token else None,
        )
        logger.info(
            "%r %r refused with %d: %s",
            event.method,
            event.path,
            event.status,
            event.reason,
            extra={name: getattr(event, name) for name in Refusal.__slots__},
        )
        if self._on_event is not None:
            self._on_event(event)

    def _answer(self, error: RequestError, extra: Sequence[str] = ()) -> tuple[HeaderList, bytes]:
        description = (
            "" if error.error is None else f'"error":"{error.error}","error_description":"{error}"'
        )
        return [*_JSON, *self._headers(error, extra)], f"{{{description}}}".encode()

    def _headers(self, error: RequestError, extra: Sequence[str]) -> HeaderList:
        if isinstance(error, ServerUnavailable):
            return [(b"retry-after", b"%d" % max(1, ceil(error.retry_after_seconds)))]
        if isinstance(error, ForbiddenOrigin):
            return []
        challenge = format_challenge(
            error,
            scopes=self._challenge_scopes_for(tuple(dict.fromkeys((*self._scopes, *extra)))),
            resource_metadata=self._resource_metadata,
            realm="mcp" if self._resource_metadata is None else None,
        )
        return [(b"www-authenticate", challenge)]


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
