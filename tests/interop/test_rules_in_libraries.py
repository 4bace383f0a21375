"""Rules in front of the MCP SDK and FastMCP, and refusals that their tools make themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastmcp import FastMCP
from fastmcp.server.auth import require_scopes
from fastmcp.server.dependencies import CurrentAccessToken, TokenClaim

from asgi_mcp_auth import (
    InsufficientScope,
    InvalidToken,
    Method,
    Prompt,
    Refusal,
    Resource,
    Tool,
)
from asgi_mcp_auth.testing import Issuer
from tests.interop.protection import as_user, provider_for
from tests.interop.servers import (
    GREETING,
    MCP_HEADERS,
    call_message,
    fastmcp_server,
    mcp_sdk_server,
    started,
)
from tests.support.asgi import App, Response
from tests.support.messages import (
    READER,
    WRITER,
    Echo,
    guard,
    json_answer,
    message,
    post,
    sse_answer,
)

pytestmark = pytest.mark.asyncio

MODES = [
    {"json_response": is_json, "stateless_http": is_stateless}
    for is_json in (False, True)
    for is_stateless in (False, True)
]
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
CURRENT_TOKEN, SUBJECT = CurrentAccessToken(), TokenClaim("sub")
Build = Callable[..., App]


def need() -> str:
    raise InsufficientScope("write", "share")


def ended() -> str:
    raise InvalidToken("revoked")


def brave() -> str:
    try:
        raise InsufficientScope("write")
    except InsufficientScope:
        return "done without"


async def late() -> str:
    await asyncio.sleep(0)
    raise InsufficientScope("late")


def boom() -> str:
    raise RuntimeError("boom")


TOOLS = (need, ended, brave, late, boom)


def add_things(server: Any) -> None:
    """Add resources and prompts, in the same way for both libraries."""

    def one() -> str:
        return "x"

    def several(id: str) -> str:
        return id

    server.resource("notes://private/1", name="one")(one)
    server.resource("notes://open/{id}", name="open")(several)
    server.resource("notes://private/{id}", name="private")(several)
    server.prompt(name="secret")(one)
    server.prompt(name="open")(one)


def sdk(**mode: bool) -> App:
    server = mcp_sdk_server()
    for each in TOOLS:
        server.tool()(each)
    add_things(server)
    return server.streamable_http_app(**mode)


def fastmcp(**mode: bool) -> App:
    server = fastmcp_server()
    for each in TOOLS:
        server.tool(each)
    add_things(server)
    return server.http_app(**mode)


async def session(app: Any, headers: dict[str, str]) -> dict[str, str]:
    """Return the headers of a new session of an older client."""
    sent = {**MCP_HEADERS, **headers}
    greeted = await post(app, GREETING, sent)
    sent["mcp-protocol-version"] = "2025-11-25"
    if (session_id := greeted.header("mcp-session-id")) is not None:
        sent["mcp-session-id"] = session_id
    await post(app, {"jsonrpc": "2.0", "method": "notifications/initialized"}, sent)
    return sent


async def modern_call(app: Any, name: str) -> Response:
    content = call_message(name)
    content["params"]["_meta"] = MODERN
    headers = {
        **MCP_HEADERS,
        **READER,
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": name,
    }
    return await post(app, content, headers)


def result_of(answer: Response) -> dict[str, Any]:
    """Return the result in a JSON or an SSE answer."""
    text = answer.body.decode()
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: {")] or [text]
    result: dict[str, Any] = json.loads(lines[-1])["result"]
    return result


def asks_for(answer: Response) -> str:
    """Return how an answer asks for scopes, and for which."""
    challenge = answer.header("www-authenticate")
    form = str(answer.status)
    if challenge is None:
        (challenge,) = result_of(answer).get("_meta", {}).get("mcp/www_authenticate", [""])
        form = "result"
    scopes = challenge.partition('scope="')[2].partition('"')[0]
    return f"{form} {scopes}".strip()


@pytest.mark.rule("RS-96")
@pytest.mark.parametrize("build", [sdk, fastmcp])
async def test_a_refusal_inside_a_tool_reaches_the_client_in_each_mode(build: Build) -> None:
    for mode in MODES:
        form = "403" if mode["json_response"] else "result"
        for challenge in ("http", "result"):
            events: list[Refusal] = []
            app = guard(build(**mode), [], challenge=challenge, on_event=events.append)
            form = "403" if challenge == "http" and mode["json_response"] else "result"
            async with started(app):
                headers = await session(app, READER)
                for name, scopes in (("need", "read write share"), ("late", "read late")):
                    answer = await post(app, call_message(name), headers)
                    assert asks_for(answer) == f"{form} {scopes}", (mode, challenge, name)
                ended = asks_for(await post(app, call_message("ended"), headers))
                assert ended == f"{'401' if form == '403' else form} read"
                assert [each.reason for each in events] == [*["insufficient_scope"] * 2, "revoked"]
                newer = "403" if challenge == "http" else "result"
                assert asks_for(await modern_call(app, "need")) == f"{newer} read write share"


@pytest.mark.rule("RS-96")
@pytest.mark.parametrize("build", [sdk, fastmcp])
async def test_a_tool_that_succeeds_or_fails_otherwise_is_left_alone(build: Build) -> None:
    for mode in MODES:
        app = guard(build(**mode), [])
        async with started(app):
            headers = await session(app, READER)
            brave = await post(app, call_message("brave"), headers)
            assert result_of(brave)["content"][0]["text"] == "done without"
            boom = result_of(await post(app, call_message("boom"), headers))
            assert boom["isError"] is True
            assert "mcp/www_authenticate" not in boom.get("_meta", {})


@pytest.mark.rule("RS-96")
@pytest.mark.parametrize("build", [sdk, fastmcp])
async def test_requests_in_one_session_do_not_mix(build: Build) -> None:
    app = guard(build(json_response=True), [])
    async with started(app):
        headers = await session(app, READER)
        names = ["late", "brave", "need", "whoami"] * 3
        calls = [{**call_message(name), "id": number} for number, name in enumerate(names, 10)]
        answers = await asyncio.gather(*(post(app, each, headers) for each in calls))
    for name, answer in zip(names, answers, strict=True):
        expected = {"late": "403 read late", "need": "403 read write share"}.get(name, "result")
        assert asks_for(answer) == expected, name


@pytest.mark.rule("RS-96")
async def test_what_is_no_refusal_of_a_tool_is_left_alone() -> None:
    failed = {"isError": True, "content": []}
    table = [
        (json_answer(failed, status=500), "as it is"),
        (json_answer({"content": []}), "as it is"),
        (json_answer(failed, headers=[(b"content-encoding", b"br")]), "as it is"),
        (json_answer(failed), "403"),
        (
            sse_answer(b": hi\n\n", b"data: {}\n\n", b'data: {"jsonrpc":"2.0","error":{}}\n\n'),
            "as it is",
        ),
        (sse_answer(b'data: {"jsonrpc":"2.0",', b'"id":1,"error":{}}\n\n'), "403"),
        # begun, and no result that a challenge could stand in
        (sse_answer(b": hi\n\n", b'data: {"jsonrpc":"2.0","error":{}}\n\n'), "as it is"),
    ]
    for error in (b'{"error":"x"}', b'{"error":"insufficient_scope"}', b"[]", b'"error"', b"error"):
        answer = (json_answer({})[0], {"type": "http.response.body", "body": error})
        table.append((answer, "as it is"))
    for messages, expected in table:
        echo = Echo(*messages)

        async def app(scope: Any, receive: Any, send: Any, echo: Echo = echo) -> None:
            InsufficientScope("write")  # raised, and caught, somewhere inside
            await echo(scope, receive, send)

        answer = await post(guard(app, []), message("tools/call", name="x"), READER)
        if expected == "403":
            assert answer.status == 403
        else:
            plain = await post(echo, b"")
            assert (answer.status, answer.body) == (plain.status, plain.body)


HIDDEN = [
    Tool("write_*", scopes=["write"], hidden=True),
    Prompt("secret", scopes=["write"], hidden=True),
    Resource("notes://private/{id}", scopes=["write"], hidden=True),
    Method("tools/list", public=True),
]


@pytest.mark.rule("RS-95")
@pytest.mark.parametrize("build", [sdk, fastmcp])
async def test_two_callers_of_one_server_see_their_own_lists(build: Build) -> None:
    lists = [
        ("tools/list", "tools", "name", "write_note"),
        ("prompts/list", "prompts", "name", "secret"),
        ("resources/list", "resources", "uri", "notes://private/1"),
        ("resources/templates/list", "resourceTemplates", "uriTemplate", "notes://private/{id}"),
    ]
    for mode in MODES[:3]:
        app = guard(build(**mode), HIDDEN)
        async with started(app):
            for caller in (READER, WRITER, READER):
                headers = await session(app, caller)
                for method, member, name, hidden in lists:
                    result = result_of(await post(app, message(method), headers))
                    found = [each[name] for each in result[member]]
                    assert (hidden in found) is (caller is WRITER), (mode, method)
                    assert found or method == "resources/list"


@pytest.mark.rule("RS-90")
@pytest.mark.parametrize("build", [sdk, fastmcp])
async def test_one_tool_asks_for_a_token_or_a_scope_before_it_runs(build: Build) -> None:
    rules = [Tool("write_note", scopes=["write"]), Tool("my_scopes", public=True)]
    app = guard(build(stateless_http=True, json_response=True), rules)
    table = [
        ("my_scopes", {}, "result"),
        ("my_scopes", READER, "result"),
        ("write_note", {}, "401 read write"),
        ("write_note", READER, "403 read write"),
        ("write_note", WRITER, "result"),
    ]
    async with started(app):
        for name, caller, expected in table:
            answer = await post(app, call_message(name), {**MCP_HEADERS, **caller})
            assert asks_for(answer) == expected, (name, caller)


async def test_the_functions_of_fastmcp_work_behind_our_providers() -> None:
    """``require_scopes``, ``CurrentAccessToken`` and ``TokenClaim``."""
    server: FastMCP[Any] = FastMCP("notes")

    @server.tool(auth=require_scopes("mcp:write"))
    def write() -> str:
        return "written"

    @server.tool
    def whoami(token: Any = CURRENT_TOKEN, subject: str = SUBJECT) -> str:
        return f"{subject} {token.client_id} {' '.join(token.scopes)}"

    with Issuer() as issuer:
        app = guard(
            server.http_app(stateless_http=True, json_response=True),
            [],
            provider=provider_for(issuer),
        )
        async with started(app):
            for scope, allowed in (("mcp:read", False), ("mcp:read mcp:write", True)):
                headers = {**MCP_HEADERS, **as_user(issuer, "alice", scope=scope)}
                said = result_of(await post(app, call_message("whoami"), headers))
                assert said["content"][0]["text"] == f"alice test-client {scope}"
                listed = result_of(await post(app, message("tools/list"), headers))
                assert ("write" in [each["name"] for each in listed["tools"]]) is allowed
                result = result_of(await post(app, call_message("write"), headers))
                assert result.get("isError", False) is not allowed
