"""Endpoints: the row that describes one, and the ASGI app that runs its checks and its handler.

Every error that a check or a handler raises becomes a response here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from math import ceil
from typing import TypeAlias

from ..._asgi import HeaderList, send_response
from ..._cors import is_preflight, origin_headers, preflight_headers
from ...errors import (
    InvalidClient,
    InvalidRegistration,
    MethodNotAllowed,
    OAuthError,
    ServerUnavailable,
    TooManyRequests,
)
from ...types import Receive, Scope, Send
from ..audit import AuditEvent
from ..pages.models import ErrorPage
from ..parties import Client
from ..parts import Server
from ..web import MAX_FORM_BYTES, NO_STORE, Answer, Request, json_answer

Check: TypeAlias = Callable[[Server, Request], Awaitable[None]]
Handler: TypeAlias = Callable[[Server, Request], Awaitable[Answer]]


class Answers(Enum):
    """How an endpoint answers, its errors above all."""

    PAGES = "HTML, for people"
    JSON = "JSON, for clients"
    JSON_FOR_ANY_ORIGIN = "JSON, also for pages of any origin, never with cookies"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the table.

    Attributes:
        name: the last part of its path, and its name in the audit record.
        handler: answers a request that has passed the checks.
        methods: the HTTP methods that it accepts.
        checks: run before the handler, in this order.
        answers: how.
        switch: the name under which it can be switched off; ``None`` if it cannot be.
        metadata_name: its member of the metadata document (RFC 8414 §2), if it has one.
        max_form_bytes: how long a form may be.
    """

    name: str
    handler: Handler
    methods: tuple[str, ...]
    checks: tuple[Check, ...]
    answers: Answers
    switch: str | None = None
    metadata_name: str | None = None
    max_form_bytes: int = MAX_FORM_BYTES


class EndpointApp:
    """Serves one endpoint as an ASGI app.

    Args:
        server: the parts that the endpoints share.
        endpoint: its row of the table.
    """

    def __init__(self, server: Server, endpoint: Endpoint) -> None:
        self._server = server
        self._endpoint = endpoint
        self._for_any_origin = endpoint.answers is Answers.JSON_FOR_ANY_ORIGIN

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        endpoint = self._endpoint
        if scope["type"] == "websocket":
            await send_response(scope, receive, send, 404, [], b"")
            return
        if self._for_any_origin and is_preflight(scope):
            methods = ", ".join(endpoint.methods).encode()
            await send_response(
                scope, receive, send, 204, preflight_headers(scope, b"*", methods), b""
            )
            return
        request = Request(endpoint.name, scope, receive, max_form_bytes=endpoint.max_form_bytes)
        answer = await self._answer(request)
        shared = origin_headers(b"*") if self._for_any_origin else ()
        await send_response(
            scope, receive, send, answer.status, [*answer.headers, *shared], answer.body
        )
        with suppress(ServerUnavailable):  # the response has been sent
            await self._server.sweep_if_due()

    async def _answer(self, request: Request) -> Answer:
        try:
            if request.method not in self._endpoint.methods:
                raise MethodNotAllowed(self._endpoint.methods)
            for check in self._endpoint.checks:
                await check(self._server, request)
            return await self._endpoint.handler(self._server, request)
        except OAuthError as error:
            self._report(request, error)
            return self._refusal(request, error, _headers(error, request))
        except ServerUnavailable as error:
            return self._refusal(
                request, error, [(b"retry-after", b"%d" % max(1, ceil(error.retry_after_seconds)))]
            )

    def _refusal(
        self, request: Request, error: OAuthError | ServerUnavailable, headers: HeaderList
    ) -> Answer:
        if self._endpoint.answers is not Answers.PAGES:
            document = {"error": error.error, "error_description": str(error)}
            return json_answer(document, error.status, headers)
        page = ErrorPage(heading="This cannot go on", text=f"{error}. {_advice(request, error)}")
        return self._server.pages.answer(page, error.status, headers)

    def _report(self, request: Request, error: OAuthError) -> None:
        client: Client | None = getattr(request, "client", None)
        event = AuditEvent(
            action="refused",
            client_id=None if client is None else client.client_id,
            error=error.error,
            reason=error.reason,
        )
        self._server.report(request, event)


class SwitchedOff:
    """Answers 404 in place of an endpoint; the middleware would ask for a token first."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = [(b"content-type", b"application/json"), *NO_STORE]
        await send_response(scope, receive, send, 404, headers, b'{"error":"not_found"}')


def _headers(error: OAuthError, request: Request) -> HeaderList:
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", ", ".join(error.allow).encode())]
    if isinstance(error, TooManyRequests):
        return [(b"retry-after", b"%d" % max(1, ceil(error.retry_after_seconds)))]
    if isinstance(error, InvalidRegistration):
        return [(b"www-authenticate", b'Bearer realm="register"')]
    if isinstance(error, InvalidClient) and any(
        name == b"authorization" for name, _ in request.scope["headers"]
    ):
        return [(b"www-authenticate", b'Basic realm="oauth"')]  # RFC 6749 §5.2
    return ()


def _advice(request: Request, error: OAuthError | ServerUnavailable) -> str:
    if isinstance(error, ServerUnavailable | TooManyRequests):
        # What they had filled in is still there behind them.
        again = "go back and try again" if request.method == "POST" else "try again"
        return f"Please {again} in {_duration(error.retry_after_seconds)}."
    if error.reason == "peer":
        return "Then start it again."
    if error.reason == "expired_form":
        return (
            "If you are done, you can close it. Otherwise please go back to the application and"
            " start again."
        )
    if error.reason in ("other_browser", "csrf", "cross_site", "host"):
        return (
            "Please go back to the application and start again. Cookies have to be allowed for this"
            " site."
        )
    if error.reason == "unknown_client":
        return (
            "If it was before, remove this server from the application and add it again: then it"
            " registers anew."
        )
    return "Please go back to the application. If it happens again, tell its developers."


def _duration(seconds: float) -> str:
    if seconds <= 10:
        return "a moment"
    return "a minute" if seconds <= 60 else f"{ceil(seconds / 60)} minutes"
