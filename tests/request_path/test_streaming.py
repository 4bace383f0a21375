"""Nothing is buffered, nothing is changed."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from tests.support.asgi import make_scope, serve
from tests.support.protection import ALICE, BASE_URL, protect
from tests.support.sockets import connect

pytestmark = pytest.mark.asyncio

SERVERS = ("uvicorn-h11", "uvicorn-httptools")


@pytest.mark.rule("RS-41")
@pytest.mark.parametrize("headers", [ALICE, {**ALICE, "Origin": BASE_URL}])
async def test_messages_pass_through_untouched_in_both_directions(
    headers: dict[str, str],
) -> None:
    """Whatever an extension calls them: trailers, pathsend, zerocopysend, early hints, push."""
    outgoing: list[dict[str, Any]] = [
        {"type": "http.response.early_hint", "links": []},
        {"type": "http.response.debug", "info": {}},
        {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True},
        {"type": "http.response.pathsend", "path": "/srv/file"},
        {"type": "http.response.zerocopysend", "file": 3},
        {"type": "http.response.push", "path": "/x", "headers": []},
        {"type": "http.response.body", "more_body": False},
        {
            "type": "http.response.trailers",
            "headers": [(b"x-checksum", b"1")],
            "more_trailers": False,
        },
    ]
    incoming = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.disconnect"},
    ]
    received: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        received.extend([await receive(), await receive()])
        for message in outgoing:
            await send(message)

    messages = iter(incoming)

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    await protect(app).app(make_scope("http", "POST", "/mcp", headers), receive, send)
    assert [id(each) for each in received] == [id(each) for each in incoming]
    assert [id(each) for each in sent] == [id(each) for each in outgoing]


@pytest.mark.rule("RS-41")
async def test_the_start_of_a_response_keeps_its_members_and_its_headers() -> None:
    start = {
        "type": "http.response.start",
        "status": 206,
        "headers": [
            (b"x-accel-buffering", b"no"),
            (b"set-cookie", b"a"),
            (b"set-cookie", b"b"),
            (b"X-Odd", b"\xff"),
        ],
        "trailers": True,
    }
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start)

    async def send(message: Any) -> None:
        sent.append(message)

    await protect(app).app(make_scope("http", "GET", "/mcp", ALICE), None, send)  # type: ignore[arg-type]
    await protect(app).app(
        make_scope("http", "GET", "/mcp", {**ALICE, "Origin": BASE_URL}), None, send
    )  # type: ignore[arg-type]
    assert sent[0] is start
    assert {**sent[1], "headers": None} == {**start, "headers": None}
    assert sent[1]["headers"][:4] == start["headers"]
    assert len(start["headers"]) == 4


@pytest.mark.rule("RS-33")
async def test_a_refused_request_is_answered_before_its_body_is_read() -> None:
    guard = protect()
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was asked for")

    async def send(message: Any) -> None:
        sent.append(message)

    for headers in (
        {},
        {"Authorization": "Bearer nobody-knows-this"},
        {"Origin": "https://evil.example"},
    ):
        await guard.app(make_scope("http", "POST", "/mcp", headers), receive, send)
    assert [message["status"] for message in sent if "status" in message] == [401, 401, 403]
    assert guard.spy.scopes == []


async def test_backpressure_reaches_the_app() -> None:
    release = asyncio.Event()
    progress: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            progress.append(number)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await release.wait()

    task = asyncio.create_task(
        protect(app).app(make_scope("http", "GET", "/mcp", ALICE), None, send)
    )  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    assert progress == []
    release.set()
    await task
    assert progress == [0, 1, 2]


async def test_a_cancelled_request_cancels_the_app_and_leaves_no_identity_behind() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    guard = protect(app)
    task = asyncio.create_task(guard.app(make_scope("http", "GET", "/mcp", ALICE), None, None))  # type: ignore[arg-type]
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()
    assert guard.reasons == []


@pytest.mark.rule("RS-41")
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("origin", [b"", b"Origin: http://localhost:6274\r\n"])
async def test_over_uvicorn_events_arrive_one_by_one_and_a_disconnect_reaches_the_app(
    server: str, origin: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    seen_by_client = threading.Event()
    app_saw: list[str] = []
    done = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        await receive()
        headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: one\n\n", "more_body": True})
        # The second event exists only because the first one has arrived.
        assert await asyncio.to_thread(seen_by_client.wait, 10)
        await send({"type": "http.response.body", "body": b"data: two\n\n", "more_body": True})
        app_saw.append((await receive())["type"])
        done.set()

    def read_until(connection: Any, text: bytes) -> bytes:
        data = b""
        while text not in data:
            more = connection.recv(4096)
            assert more, "the server hung up"
            data += more
        return data

    with caplog.at_level(logging.INFO), serve(protect(app).app, server) as base_url:
        with connect(base_url) as connection:
            connection.sendall(
                b"GET /mcp HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer alice-token\r\n"
                + origin
                + b"\r\n"
            )
            head = read_until(connection, b"data: one\n\n")
            assert b"x-accel-buffering: no" in head.lower()
            seen_by_client.set()
            read_until(connection, b"data: two\n\n")
        assert done.wait(10)
    assert app_saw == ["http.disconnect"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
