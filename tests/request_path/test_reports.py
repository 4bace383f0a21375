"""Each refusal leaves one INFO record and one event with the reason."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError, InsufficientScope, MCPAuthMiddleware, Refusal
from tests.support.asgi import Spy, call, handshake
from tests.support.protection import ALICE, BOB, STRANGER, make_provider, protect

pytestmark = pytest.mark.asyncio

LOGGER = "asgi_mcp_auth.refusals"


def name_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:8]


REFUSALS: list[tuple[str, dict[str, str], Refusal]] = [
    ("/mcp", {}, Refusal(status=401, reason="missing_token", method="POST", path="/mcp")),
    (
        "/mcp",
        STRANGER,
        Refusal(
            status=401,
            reason="unknown_token",
            method="POST",
            path="/mcp",
            token_id=name_of("nobody-knows-this"),
        ),
    ),
    (
        "/a%20b",
        {"Authorization": "Bearer "},
        Refusal(status=400, reason="authorization_syntax", method="POST", path="/a b"),
    ),
    (
        "/mcp?access_token=x",
        ALICE,
        Refusal(status=400, reason="several_token_methods", method="POST", path="/mcp"),
    ),
    (
        "/mcp",
        BOB,
        Refusal(
            status=403,
            reason="insufficient_scope",
            method="POST",
            path="/mcp",
            client_id="client-b",
            subject="bob",
            token_id=name_of("bob-token"),
        ),
    ),
    (
        "/mcp",
        {"Origin": "https://evil.example"},
        Refusal(
            status=403, reason="origin", method="POST", path="/mcp", origin="https://evil.example"
        ),
    ),
]


@pytest.mark.parametrize(
    ("target", "headers", "event"), REFUSALS, ids=[each[2].reason for each in REFUSALS]
)
async def test_a_refusal_is_one_event_and_one_info_record_with_the_same_facts(
    target: str, headers: dict[str, str], event: Refusal, caplog: pytest.LogCaptureFixture
) -> None:
    guard = protect(required_scopes=["mcp:read"])
    with caplog.at_level(logging.DEBUG):
        await call(guard.app, "POST", target, headers)
    assert guard.events == [event]
    (record,) = caplog.records
    assert (record.name, record.levelname) == (LOGGER, "INFO")
    assert {each.name: record.__dict__[each.name] for each in fields(Refusal)} == {
        each.name: getattr(event, each.name) for each in fields(Refusal)
    }
    shown = event.reason if event.origin is None else f"{event.reason} {event.origin!r}"
    assert record.getMessage() == f"'POST' {event.path!r} refused with {event.status}: {shown}"


async def test_a_step_up_from_the_app_is_reported_like_any_other_refusal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise InsufficientScope("mcp:admin")

    guard = protect(app)
    with caplog.at_level(logging.INFO, LOGGER):
        await call(guard.app, "POST", "/mcp", ALICE)
    (event,) = guard.events
    assert (event.reason, event.client_id, event.token_id) == (
        "insufficient_scope",
        "client-a",
        name_of("alice-token"),
    )
    assert [record.__dict__["reason"] for record in caplog.records] == ["insufficient_scope"]


async def test_a_refused_handshake_is_reported_as_a_websocket() -> None:
    guard = protect()
    await handshake(guard.app, "/mcp")
    assert guard.events == [
        Refusal(status=401, reason="missing_token", method="WEBSOCKET", path="/mcp")
    ]


async def test_a_path_with_line_breaks_stays_on_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, LOGGER):
        await call(protect().app, "GET", "/a%0Aroot%20logged%20in%1b[31m")
    (record,) = caplog.records
    assert record.getMessage().isprintable()


async def test_what_is_let_through_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    guard = protect(public_paths=["/open"])
    with caplog.at_level(logging.DEBUG):
        await call(guard.app, "POST", "/mcp", ALICE)
        await call(guard.app, "GET", "/open")
        await call(guard.app, "GET", "/.well-known/oauth-protected-resource/mcp")
    assert guard.events == []
    assert caplog.records == []


@pytest.mark.parametrize(("level", "records"), [(logging.INFO, 1), (logging.WARNING, 0)])
async def test_without_a_hook_and_with_the_log_switched_off_the_answer_is_the_same(
    level: int, records: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = MCPAuthMiddleware(Spy(), make_provider())
    with caplog.at_level(level, LOGGER):
        assert (await call(app, "POST", "/mcp")).status == 401
    assert len(caplog.records) == records


@pytest.mark.parametrize("hook", ["print", 1])
async def test_a_hook_that_cannot_be_called_is_refused_at_construction(hook: object) -> None:
    with pytest.raises(ConfigurationError, match="on_event"):
        MCPAuthMiddleware(Spy(), make_provider(), on_event=hook)  # type: ignore[arg-type]


async def test_a_hook_that_raises_refuses_the_sign_in() -> None:
    def broken(event: Refusal) -> None:
        raise RuntimeError("the audit log is full")

    spy = Spy()
    with pytest.raises(RuntimeError, match="audit log is full"):
        await call(MCPAuthMiddleware(spy, make_provider(), on_event=broken), "POST", "/mcp")
    assert spy.scopes == []


async def test_an_event_cannot_be_changed() -> None:
    event = REFUSALS[0][2]
    with pytest.raises(FrozenInstanceError):
        event.status = 200  # type: ignore[misc]
