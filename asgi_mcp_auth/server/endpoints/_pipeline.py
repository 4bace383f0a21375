"""Endpoints: the row that describes one, and the ASGI app that runs its checks and its handler.

Every error that a check or a handler raises becomes a response here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar
from urllib.parse import urlsplit

from ..._asgi import HeaderList, send_response
from ..._cors import answer_preflight, is_preflight, origin_headers, preflight_headers
from ...errors import (
    ClientUnreachable,
    InvalidClient,
    InvalidRegistration,
    MethodNotAllowed,
    OAuthError,
    ServerUnavailable,
    TooManyRequests,
)
from ...types import Receive, Scope, Send
from ..audit import AuditEvent
from ..browser.requests import PageRequest
from ..clients.requests import ClientRequest
from ..pages.models import MessagePage
from ..parts import Server
from ..web import MAX_FORM_BYTES, EndpointRequest, Response, json_response

_NO_WAY_OUT = (
    "If that does not help, tell the operator of this server: where there is no way to the"
    " internet, Registration(metadata_documents=False) switches such documents off, so that"
    " applications register instead, and Registration(document_proxy=…) is for networks with an"
    " HTTP proxy."
)

Refusal: TypeAlias = OAuthError | ServerUnavailable
# Clients show it to people.
_SWITCHED_OFF = {
    "register": "This server registers no clients: ask its operator for a client_id",
}
R = TypeVar("R", bound=EndpointRequest)
Check: TypeAlias = Callable[[Server, R], Awaitable[None]]
Handler: TypeAlias = Callable[[Server, R], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint(ABC, Generic[R]):
    """One row of the table.

    Attributes:
        name: the last part of its path, and its name in the audit record.
        handler: answers a request that has passed the checks.
        methods: the HTTP methods that it accepts.
        checks: run before the handler, in this order.
        any_origin: whether scripts of any origin may call it (never with cookies).
        switch: the name under which it can be switched off; ``None`` if it cannot be.
        metadata_name: its member of the metadata document (RFC 8414 §2), if it has one.
        max_form_bytes: the size limit of a form.
    """

    request_type: ClassVar[type[EndpointRequest]]

    name: str
    handler: Handler[R]
    methods: tuple[str, ...]
    checks: tuple[Check[R], ...]
    any_origin: bool = False
    switch: str | None = None
    metadata_name: str | None = None
    max_form_bytes: int = MAX_FORM_BYTES

    @abstractmethod
    def refusal(self, server: Server, request: R, error: Refusal, headers: HeaderList) -> Response:
        """Return the response that reports an error."""


class ClientEndpoint(Endpoint[ClientRequest]):
    """An endpoint for clients: errors are JSON (RFC 6749 §5.2)."""

    __slots__ = ()
    request_type = ClientRequest

    def refusal(
        self, server: Server, request: ClientRequest, error: Refusal, headers: HeaderList
    ) -> Response:
        """Return the response that reports an error."""
        document = {"error": error.error, "error_description": str(error)}
        return json_response(document, error.status, headers)


class PageEndpoint(Endpoint[PageRequest]):
    """A page for people: errors are pages, too."""

    __slots__ = ()
    request_type = PageRequest

    def refusal(
        self, server: Server, request: PageRequest, error: Refusal, headers: HeaderList
    ) -> Response:
        """Return the response that reports an error."""
        page = MessagePage(
            heading="Something went wrong", text=f"{error}. {_advice(request, error)}"
        )
        return server.pages.response(page, error.status, headers)


class EndpointApp:
    """Serves one endpoint as an ASGI app.

    Args:
        server: the parts that the endpoints share.
        endpoint: its row of the table.
    """

    def __init__(self, server: Server, endpoint: Endpoint[Any]) -> None:
        self._server = server
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        endpoint = self._endpoint
        if scope["type"] == "websocket":
            await send_response(scope, receive, send, 404, [], b"")
            return
        if endpoint.any_origin and is_preflight(scope):
            methods = ", ".join(endpoint.methods).encode()
            await send_response(
                scope, receive, send, 204, preflight_headers(scope, b"*", methods), b""
            )
            return
        request = endpoint.request_type(
            endpoint.name, scope, receive, max_form_bytes=endpoint.max_form_bytes
        )
        response = await self._respond(request)
        if endpoint.any_origin:
            response = response.with_headers(*origin_headers(b"*"))
        await send_response(scope, receive, send, *response)
        with suppress(ServerUnavailable):  # the response has been sent
            await self._server.sweeper.sweep_if_due()

    async def _respond(self, request: EndpointRequest) -> Response:
        endpoint, server = self._endpoint, self._server
        try:
            if request.method not in endpoint.methods:
                raise MethodNotAllowed(endpoint.methods)
            for check in endpoint.checks:
                await check(server, request)
            response = await endpoint.handler(server, request)
        except OAuthError as error:
            event = AuditEvent(
                action="refused",
                client_id=request.client_id,
                error=error.error,
                reason=error.reason,
            )
            server.audit.report(event, request)
            refusal = endpoint.refusal(server, request, error, _headers(error, request))
            return refusal.with_headers(*request.cookies)
        except ServerUnavailable as error:
            if isinstance(error, ClientUnreachable):
                event = AuditEvent(
                    action="refused",
                    client_id=error.client_id,
                    error=error.error,
                    reason=error.cause,
                )
                server.audit.report(event, request)
            return endpoint.refusal(server, request, error, _retry_after(error.retry_after_seconds))
        return response.with_headers(*request.cookies)


class SwitchedOff:
    """Answers 404 in place of an endpoint; the middleware would ask for a token first.

    Args:
        endpoint: its row of the table.
    """

    def __init__(self, endpoint: Endpoint[Any]) -> None:
        text = _SWITCHED_OFF.get(endpoint.name, "This endpoint is switched off on this server")
        response = json_response({"error": "not_found", "error_description": text}, 404)
        self._any_origin = endpoint.any_origin
        self._response = response.with_headers(*(origin_headers(b"*") if self._any_origin else ()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._any_origin and is_preflight(scope):
            await answer_preflight(scope, receive, send, b"*")
        else:
            await send_response(scope, receive, send, *self._response)


def _headers(error: OAuthError, request: EndpointRequest) -> HeaderList:
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", ", ".join(error.allow).encode())]
    if isinstance(error, TooManyRequests):
        return _retry_after(error.retry_after_seconds)
    if isinstance(error, InvalidRegistration):
        return [(b"www-authenticate", b'Bearer realm="register"')]
    if isinstance(error, InvalidClient) and any(
        name == b"authorization" for name, _ in request.scope["headers"]
    ):
        return [(b"www-authenticate", b'Basic realm="oauth"')]  # RFC 6749 §5.2
    return ()


def _retry_after(seconds: float) -> HeaderList:
    return [(b"retry-after", b"%d" % max(1, ceil(seconds)))]


def _advice(request: PageRequest, error: Refusal) -> str:
    if isinstance(error, ServerUnavailable | TooManyRequests):
        # Going back keeps the form as they filled it in.
        again = "go back and try again" if request.method == "POST" else "try again"
        advice = f"Please {again} in {_duration(error.retry_after_seconds)}."
        if isinstance(error, ClientUnreachable):
            return f"It is at {urlsplit(error.url).netloc}. {advice} {_NO_WAY_OUT}"
        return advice
    if error.reason == "peer":
        return "Then restart the server."
    if error.reason == "expired_form":
        return (
            "If you are done, you can close this page. Otherwise, please go back to the application"
            " and start again."
        )
    if error.reason in ("other_browser", "csrf", "cross_site", "host"):
        return (
            "Please go back to the application and start again. Your browser must allow cookies for"
            " this site."
        )
    if error.reason == "documents_off":
        return "Please ask the operator of this server for a client_id for this application."
    if error.reason == "unknown_client":
        return (
            "If it worked before, remove this server from the application and add it again so that"
            " it can register again."
        )
    return "Please go back to the application. If this happens again, tell its developers."


def _duration(seconds: float) -> str:
    if seconds <= 10:
        return "a moment"
    if seconds <= 60:
        return "a minute"
    return f"{ceil(seconds / 60)} minutes"
