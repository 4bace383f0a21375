"""MCP messages, an app that answers them, and a middleware with rules in front of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from asgi_mcp_auth import MCPAuthMiddleware, RemoteAuthProvider, StaticTokenVerifier
from tests.support.asgi import App, Message, Receive, Response, Scope, Send, call

BASE_URL = "https://mcp.example"
READER = {"authorization": "Bearer reader"}
WRITER = {"authorization": "Bearer writer"}


def provider(base_url: str = BASE_URL, **settings: Any) -> RemoteAuthProvider:
    """Return a provider that knows a reader and a writer, both with the scope that all need."""
    tokens = {
        "reader": {"client_id": "reader", "scopes": ["read"]},
        "writer": {"client_id": "writer", "scopes": ["read", "write"]},
        "other": {"client_id": "other", "scopes": ["else"]},
    }
    verifier = StaticTokenVerifier(tokens, required_scopes=["read"])
    return RemoteAuthProvider(
        verifier, authorization_servers=["https://as.example"], base_url=base_url, **settings
    )


def guard(app: App, rules: Iterable[Any], **settings: Any) -> MCPAuthMiddleware:
    """Return a middleware in front of an app."""
    settings = {"mcp_path": "/mcp", "provider": provider(), **settings}
    return MCPAuthMiddleware(app, settings.pop("provider"), rules=rules, **settings)


def message(method: str, /, **params: Any) -> dict[str, Any]:
    """Return a request."""
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


def tool(name: str, **arguments: Any) -> dict[str, Any]:
    """Return the call of a tool."""
    return message("tools/call", name=name, arguments=arguments)


async def post(
    app: Any, content: Any, headers: dict[str, str] | None = None, path: str = "/mcp", **more: Any
) -> Response:
    """Send a message: bytes, chunks of bytes, or a value to be written as JSON."""
    is_body = isinstance(content, bytes | tuple)
    body = content if is_body else json.dumps(content).encode()
    return await call(app, "POST", path, headers or {}, body=body, **more)


class Echo:
    """An app that reads everything, remembers it, and answers.

    Attributes:
        scopes: of the calls.
        bodies: that it has read.
        answer: the messages that it sends.
    """

    def __init__(self, *answer: Message) -> None:
        self.scopes: list[Scope] = []
        self.bodies: list[bytes] = []
        self.answer = answer or json_answer({})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        body, more = b"", scope["type"] == "http"
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        for answer in self.answer:
            await send(dict(answer))


def json_answer(
    result: Any, *, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
) -> tuple[Message, ...]:
    """Return the messages of a JSON answer."""
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "result": result}).encode()
    sent = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *headers,
    ]
    return (
        {"type": "http.response.start", "status": status, "headers": sent},
        {"type": "http.response.body", "body": body},
    )


def sse_answer(*chunks: bytes) -> tuple[Message, ...]:
    """Return the messages of a stream of events."""
    headers = [(b"content-type", b"text/event-stream")]
    last = len(chunks) - 1
    return (
        {"type": "http.response.start", "status": 200, "headers": headers},
        *(
            {"type": "http.response.body", "body": chunk, "more_body": index < last}
            for index, chunk in enumerate(chunks)
        ),
    )
