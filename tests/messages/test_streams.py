"""The stream that older clients open right after the handshake, where rules are public."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth import Method, Tool
from tests.support.asgi import call
from tests.support.protection import ALICE, STRANGER, challenge_of, protect
from tests.support.rows import rows

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-35")]

STREAM = {"Accept": "text/event-stream"}
LOOK = [Method("tools/list", public=True)]


@rows("accept", ["text/event-stream", "application/json, text/event-stream"])
async def test_a_stream_without_a_token_is_not_there_so_that_clients_do_not_sign_in_for_it(
    accept: str,
) -> None:
    guard = protect(rules=LOOK)
    response = await call(guard.app, "GET", "/mcp", {"Accept": accept})
    assert response.header("www-authenticate") is None
    assert response.header("allow") == "POST"
    guard.assert_refused(response, 405, "message")


@rows(
    ("method", "headers", "rules"),
    [
        ("GET", {}, LOOK),
        ("GET", {"Accept": "text/html"}, LOOK),
        ("HEAD", STREAM, LOOK),
        ("DELETE", STREAM, LOOK),
        ("GET", STREAM | STRANGER, LOOK),
        ("GET", STREAM, [Tool("delete", scopes=["mcp:write"])]),
        ("GET", STREAM, [*LOOK, Method("GET", scopes=["mcp:read"])]),
        ("GET", STREAM, [*LOOK, Method("GET")]),
    ],
)
async def test_everything_else_without_a_good_token_is_a_reason_to_sign_in(
    method: str, headers: dict[str, str], rules: list[Any]
) -> None:
    guard = protect(rules=rules)
    response = await call(guard.app, method, "/mcp", headers)
    assert "resource_metadata" in challenge_of(response)
    reason = "unknown_token" if "Authorization" in headers else "missing_token"
    guard.assert_refused(response, 401, reason)


@rows(
    ("headers", "rules", "subject"),
    [
        (STREAM | ALICE, LOOK, "alice"),
        (STREAM, [*LOOK, Method("GET", public=True)], None),
        (STREAM | ALICE, [*LOOK, Method("GET", public=True)], "alice"),
    ],
)
async def test_a_stream_is_opened_for_a_token_or_by_a_rule(
    headers: dict[str, str], rules: list[Any], subject: str | None
) -> None:
    guard = protect(rules=rules)
    guard.assert_entered(await call(guard.app, "GET", "/mcp", headers), subject)
