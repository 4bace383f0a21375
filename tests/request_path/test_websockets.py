"""WebSockets are checked at the handshake."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.support.asgi import Spy, handshake, make_scope, serve
from tests.support.protection import (
    ALICE,
    BOB,
    METADATA_URL,
    challenge_of,
    parse_challenge,
    protect,
)
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

REFUSED = [
    ({}, 401, "missing_token"),
    ({"Authorization": "Bearer nobody-knows-this"}, 401, "unknown_token"),
    ({"Authorization": "Bearer "}, 400, "authorization_syntax"),
    (BOB, 403, "insufficient_scope"),
]


@pytest.mark.rule("RS-40")
@rows(("headers", "status", "reason"), REFUSED)
async def test_a_handshake_is_denied_with_the_whole_http_answer_where_the_server_can(
    headers: dict[str, str], status: int, reason: str
) -> None:
    guard = protect(required_scopes=["mcp:read"])
    denial = (await handshake(guard.app, "/mcp", headers)).denial
    assert denial is not None
    assert guard.events[0].method == "WEBSOCKET"
    guard.assert_refused(denial, status, reason)
    assert challenge_of(denial)["resource_metadata"] == METADATA_URL


@pytest.mark.rule("RS-40")
@rows(("headers", "status", "reason"), REFUSED)
@rows("members", [{}, {"extensions": None}])
async def test_a_handshake_is_closed_with_1008_before_accept_where_the_server_cannot(
    headers: dict[str, str], status: int, reason: str, members: dict[str, Any]
) -> None:
    guard = protect(required_scopes=["mcp:read"])
    answer = await handshake(guard.app, "/mcp", headers, denial=False, **members)
    assert (answer.close_code, guard.reasons, guard.spy.scopes) == (1008, [reason], [])
    assert guard.events[0].status == status


@pytest.mark.rule("RS-40")
async def test_a_valid_token_reaches_the_app() -> None:
    guard = protect()
    assert (await handshake(guard.app, "/mcp", ALICE)).accepted
    assert guard.spy.scope["access_token"].subject == "alice"


async def test_messages_of_an_accepted_connection_are_passed_on_untouched() -> None:
    received: list[Any] = []
    sent: list[Any] = []
    incoming = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "hi", "bytes": None},
        {"type": "websocket.disconnect", "code": 1001, "reason": "bye"},
    ]
    outgoing = [
        {"type": "websocket.accept", "subprotocol": "mcp", "headers": [(b"x-one", b"1")]},
        {"type": "websocket.send", "bytes": b"\x00"},
        {"type": "websocket.close", "code": 4000, "reason": "done"},
    ]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in outgoing:
            received.append(await receive())
            await send(message)

    messages = iter(incoming)

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    await protect(app).app(
        make_scope("websocket", "GET", "/mcp", {**ALICE, "Origin": "http://localhost"}),
        receive,
        send,
    )
    assert [id(each) for each in received] == [id(each) for each in incoming]
    assert [id(each) for each in sent] == [id(each) for each in outgoing]


async def test_an_unknown_scope_type_raises_and_does_not_reach_the_app() -> None:
    guard = protect(public_paths=["/open"])
    for kind in ("mcp", "http2.push", "HTTP", ""):
        with pytest.raises(RuntimeError, match="cannot protect the ASGI scope type"):
            await guard.app({**make_scope("http", "GET", "/open"), "type": kind}, None, None)  # type: ignore[arg-type]
    assert guard.spy.scopes == []


@pytest.mark.rule("RS-40")
@pytest.mark.parametrize("server", ["uvicorn-h11", "uvicorn-httptools"])
async def test_over_uvicorn_a_stranger_sees_the_challenge_and_a_caller_talks(
    server: str,
) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept"})
        text = (await receive())["text"]
        await send({"type": "websocket.send", "text": f"{scope['user'].identity}: {text}"})
        await send({"type": "websocket.close"})

    guard = protect(echo)
    with serve(guard.app, server) as base_url:
        url = base_url.replace("http", "ws", 1) + "/mcp"
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, proxy=None)
        response = refused.value.response
        assert response.status_code == 401
        assert parse_challenge(response.headers["www-authenticate"]) == {
            "resource_metadata": METADATA_URL
        }
        async with connect(url, additional_headers=ALICE, proxy=None) as connection:
            await connection.send("hello")
            assert await connection.recv() == "alice: hello"
    assert guard.reasons == ["missing_token"]


async def test_a_token_in_the_subprotocol_is_not_read() -> None:
    guard = protect(Spy())
    headers = {"Sec-WebSocket-Protocol": "bearer, alice-token"}
    denial = (
        await handshake(guard.app, "/mcp", headers, subprotocols=["bearer", "alice-token"])
    ).denial
    assert denial is not None
    guard.assert_refused(denial, 401, "missing_token")
