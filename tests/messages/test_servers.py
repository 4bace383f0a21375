"""Rules for messages behind real servers: bodies in any pieces, and every refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from asgi_mcp_auth import Tool
from tests.support.asgi import SERVERS, serve
from tests.support.messages import READER, WRITER, guard, tool

pytestmark = [pytest.mark.rule("RS-92"), pytest.mark.rule("RS-90")]

RULES = [Tool("edit", scopes=["write"]), Tool("open", public=True)]


async def length(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body."""
    if scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        return
    count, more = 0, True
    while more:
        message = await receive()
        count += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(count).encode()})


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_passes_the_judged_body_on_and_every_refusal_out(server: str) -> None:
    safe, edit = json.dumps(tool("other")).encode(), json.dumps(tool("edit")).encode()
    large = json.dumps(tool("other", text="x" * 300_000)).encode()
    table: list[tuple[Any, dict[str, str], int]] = [
        (safe, READER, 200),
        (list(pieces(safe, 1)), READER, 200),
        (large, READER, 200),
        (list(pieces(large, 5000)), READER, 200),
        (edit, READER, 403),
        (list(pieces(edit, 7)), READER, 403),
        (list(pieces(edit, 7)), WRITER, 200),
        (safe, {}, 401),
        (json.dumps(tool("open")).encode(), {}, 200),
        (list(pieces(json.dumps(tool("open")).encode(), 1)), {}, 200),
        (b"x" * 500_000, READER, 413),
        (list(pieces(b"x" * 500_000, 9000)), READER, 413),
        (b"", READER, 400),
        (safe + safe, READER, 400),
        (safe, {**READER, "content-encoding": "gzip"}, 415),
    ]
    app = guard(length, RULES, max_message_bytes=400_000)
    # servers close a connection with a body that they have not read
    once = httpx.Limits(max_keepalive_connections=0)
    with serve(app, server) as base_url, httpx.Client(limits=once, base_url=base_url) as client:
        for content, headers, status in table:
            sent = iter(content) if isinstance(content, list) else content
            answer = client.post("/mcp", content=sent, headers=headers)
            assert answer.status_code == status, (content[:9], headers)
            if status == 200:
                whole = b"".join(content) if isinstance(content, list) else content
                assert answer.text == str(len(whole))
