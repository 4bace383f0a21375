"""An endpoint as an ASGI app: its checks in order, then its work; whatever goes wrong becomes an
answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import ceil
from typing import NamedTuple, TypeAlias

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
from ..web import MAX_FORM_BYTES, Answer, Request, json_answer

Check: TypeAlias = Callable[[Server, Request], Awaitable[None]]
Work: TypeAlias = Callable[[Server, Request], Awaitable[Answer]]


class Kind(NamedTuple):
    """What sort of endpoint it is.

    Attributes:
        methods: that it knows.
        for_people: whether errors are pages; they are JSON otherwise.
        cross_origin: whether pages of any origin may call it (never with cookies).
        max_form_bytes: how long a form may be.
    """

    methods: tuple[str, ...]
    for_people: bool = False
    cross_origin: bool = False
    max_form_bytes: int = MAX_FORM_BYTES


class Endpoint:
    """One endpoint.

    Args:
        server: what the endpoints share.
        name: in the audit record.
        kind: what sort it is.
        checks: what has to hold before the work begins, in order.
        work: what it does.
    """

    def __init__(
        self, server: Server, name: str, kind: Kind, checks: Sequence[Check], work: Work
    ) -> None:
        self._server = server
        self._name = name
        self._kind = kind
        self._checks = checks
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        kind = self._kind
        if scope["type"] == "websocket":
            await send_response(scope, receive, send, 404, [], b"")
            return
        if kind.cross_origin and is_preflight(scope):
            methods = ", ".join(kind.methods).encode()
            await send_response(
                scope, receive, send, 204, preflight_headers(scope, b"*", methods), b""
            )
            return
        answer = await self._answer(
            Request(self._name, scope, receive, max_form_bytes=kind.max_form_bytes)
        )
        shared = origin_headers(b"*") if kind.cross_origin else ()
        await send_response(
            scope, receive, send, answer.status, [*answer.headers, *shared], answer.body
        )
        with suppress(ServerUnavailable):  # nobody is waiting for this any more
            await self._server.sweep_if_due()

    async def _answer(self, request: Request) -> Answer:
        try:
            if request.method not in self._kind.methods:
                raise MethodNotAllowed(self._kind.methods)
            for check in self._checks:
                await check(self._server, request)
            return await self._work(self._server, request)
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
        if not self._kind.for_people:
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
