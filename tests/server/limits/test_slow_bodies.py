"""Slow bodies: a deadline of ten seconds, during which other requests are served."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from asgi_mcp_auth import DevLogin, MCPAuthMiddleware, OAuthProvider
from asgi_mcp_auth._asgi import read_body
from asgi_mcp_auth.errors import BodyTooLarge, MalformedRequest
from asgi_mcp_auth.server.web import BODY_SECONDS
from tests.support.asgi import Message, Spy, make_scope, serve
from tests.support.authorization_server import deploy, memory_store
from tests.support.rows import rows
from tests.support.sockets import connect, read_response, request

HEAD = (
    "POST /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length:"
    " 1000\r\n\r\n"
)
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
ENDPOINTS = {
    "token": FORM,
    "revoke": FORM,
    "introspect": FORM,
    "par": FORM,
    "register": JSON,
    "authorize": FORM,
}


@pytest.fixture
def base_url() -> Iterator[str]:
    provider = OAuthProvider(
        base_url="http://localhost:8000", login=DevLogin(), store=memory_store()
    )
    with serve(MCPAuthMiddleware(Spy(), provider, mcp_path="/mcp"), "uvicorn-h11") as url:
        yield url


def begin(base_url: str, path: str) -> socket.socket:
    """Send the head of a request and the first byte of its body."""
    connection = connect(base_url)
    connection.sendall(HEAD.format(path=path, kind=ENDPOINTS[path]).encode() + b"x")
    return connection


@pytest.mark.case("Z123")
def test_a_slow_sender_keeps_no_other_request_waiting(base_url: str) -> None:
    waiting = [begin(base_url, path) for path in ENDPOINTS for _ in range(20)]
    began = time.monotonic()
    for path in ENDPOINTS:
        status, _, _ = request(
            base_url,
            f"GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(),
        )
        assert status in (400, 401, 405)
    assert time.monotonic() - began < BODY_SECONDS
    for connection in waiting:
        connection.close()
    status, _, _ = request(
        base_url,
        b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    assert status == 200


@pytest.mark.case("Z123")
@pytest.mark.soak
def test_a_body_that_does_not_arrive_in_ten_seconds_is_refused(base_url: str) -> None:
    with ExitStack() as stack:
        began = time.monotonic()
        waiting = {path: stack.enter_context(begin(base_url, path)) for path in ENDPOINTS}
        for connection in waiting.values():
            connection.settimeout(20)
        for dripped in range(8):
            time.sleep(1)
            for connection in waiting.values():
                connection.sendall(b"x")
            assert dripped < BODY_SECONDS
        for path, connection in waiting.items():
            status, headers, body = read_response(connection)
            assert (status, b"did not arrive in time" in body) == (400, True), path
            assert headers["content-length"] == str(len(body))
            assert connection.recv(1) == b"", "the rest would be taken for the next request"
        # uvicorn waits some more before it hangs up
        assert BODY_SECONDS - 0.5 < time.monotonic() - began < BODY_SECONDS + 10


async def receive_of(messages: list[Message], pause: float) -> Any:
    """Return a ``receive`` that gives a message after each pause, and then waits for ever."""

    async def receive() -> Message:
        await asyncio.sleep(pause)
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    return receive


def chunk(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.asyncio
async def test_the_deadline_is_for_the_whole_body() -> None:
    receive = await receive_of([chunk(b"x") for _ in range(1000)], 0.02)
    began = time.monotonic()
    with pytest.raises(MalformedRequest, match="did not arrive in time"):
        await read_body(receive, max_bytes=1000, timeout_seconds=0.2)
    assert 0.15 < time.monotonic() - began < 15


@pytest.mark.asyncio
@rows(
    ("messages", "outcome"),
    [
        ([chunk(b"a"), chunk(b"b", more=False)], b"ab"),
        ([chunk(b""), chunk(b""), chunk(b"a", more=False)], b"a"),
        ([{"type": "http.request"}], b""),
        ([chunk(b"x" * 10, more=False)], b"x" * 10),
        ([chunk(b"x" * 11, more=False)], BodyTooLarge),
        ([chunk(b"x" * 6), chunk(b"x" * 5), chunk(b"x", more=False)], BodyTooLarge),
        ([chunk(b"x"), {"type": "http.disconnect"}], MalformedRequest),
        ([{"type": "http.disconnect"}], MalformedRequest),
    ],
    ids=str,
)
async def test_a_body_is_read_to_its_end_or_not_at_all(
    messages: list[Message], outcome: Any
) -> None:
    receive = await receive_of([*messages], 0)
    if isinstance(outcome, bytes):
        assert await read_body(receive, max_bytes=10, timeout_seconds=5) == outcome
    else:
        with pytest.raises(outcome):
            await read_body(receive, max_bytes=10, timeout_seconds=5)


@pytest.mark.asyncio
async def test_a_client_that_leaves_in_the_middle_is_one_refusal() -> None:
    async with deploy() as server:
        answers: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            answers.append(message)

        await server.app(
            make_scope("http", "POST", "/token", {"Content-Type": FORM}), receive, send
        )
        assert answers[0]["status"] == 400
        assert server.reasons() == ["invalid_request"]
