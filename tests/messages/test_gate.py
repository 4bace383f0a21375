"""What callers get for a message, and what the app gets of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

import asgi_mcp_auth.gate
from asgi_mcp_auth import (
    ConfigurationError,
    DevLogin,
    MCPAuthMiddleware,
    Method,
    OAuthProvider,
    Prompt,
    Refusal,
    Resource,
    Rule,
    Tool,
    get_access_token,
)
from tests.support.asgi import Message, call, handshake, make_scope
from tests.support.authorization_server import memory_store
from tests.support.messages import (
    READER,
    WRITER,
    Echo,
    guard,
    message,
    post,
    provider,
    tool,
)

pytestmark = pytest.mark.asyncio

RULES = [
    Rule("/admin", scopes=["admin"]),
    Tool("delete_*", scopes=["write", "delete"]),
    Tool("edit", scopes=["write"]),
    Tool("search", public=True),
    Resource("notes://private/{id}", scopes=["write"]),
    Prompt("*", scopes=["prompts"]),
    Method("tools/list", public=True),
    Method("DELETE", scopes=["write"]),
]
INVALID = {"authorization": "Bearer stranger"}


def asked(response: Any) -> str | None:
    """Return the scopes of the challenge."""
    header = response.header("www-authenticate") or ""
    return header.partition('scope="')[2].partition('"')[0] or None


# the message, then what a stranger, a bad token, a reader and a writer get; the scopes asked for
ANSWERS: list[tuple[Any, tuple[int, int, int, int], str]] = [
    (tool("search"), (200, 401, 200, 200), ""),
    (tool("other"), (401, 401, 200, 200), "read"),
    (tool("edit"), (401, 401, 403, 200), "read write"),
    (tool("delete_note"), (401, 401, 403, 403), "read write delete"),
    (message("resources/read", uri="notes://private/1"), (401, 401, 403, 200), "read write"),
    (message("prompts/get", name="x"), (401, 401, 403, 403), "read prompts"),
    (message("tools/list"), (200, 401, 200, 200), ""),
    (message("initialize"), (200, 401, 200, 200), ""),
    ([tool("search"), message("ping")], (200, 401, 200, 200), ""),
    ([tool("edit"), tool("delete_x")], (401, 401, 403, 403), "read write delete"),
    ({"jsonrpc": "2.0", "id": 1, "result": {}}, (401, 401, 200, 200), "read"),
]


@pytest.mark.rule("RS-90")
async def test_an_operation_is_decided_before_the_app_is_called() -> None:
    echo = Echo()
    app = guard(echo, RULES)
    for content, statuses, scopes in ANSWERS:
        for headers, status in zip(({}, INVALID, READER, WRITER), statuses, strict=True):
            echo.bodies.clear()
            answer = await post(app, content, headers)
            assert answer.status == status, (content, headers)
            assert len(echo.bodies) == (status == 200)
            if status == 403 or (status == 401 and headers == {}):
                assert asked(answer) == scopes, content


@pytest.mark.rule("RS-90")
async def test_a_token_without_the_scopes_that_all_need_gets_every_scope_in_one_challenge() -> None:
    answer = await post(guard(Echo(), RULES), tool("edit"), {"authorization": "Bearer other"})
    assert (answer.status, asked(answer)) == (403, "read write")


@pytest.mark.rule("RS-91")
async def test_a_public_operation_tells_who_calls_if_they_say_so() -> None:
    seen: list[tuple[bool, str | None]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        token = get_access_token()
        seen.append((scope["user"].is_authenticated, token and token.client_id))
        await Echo()(scope, receive, send)

    for headers in ({}, READER):
        assert (await post(guard(app, RULES), tool("search"), headers)).status == 200
    assert seen == [(False, None), (True, "reader")]


@pytest.mark.rule("RS-90")
async def test_requests_without_a_message_go_by_their_method() -> None:
    app = guard(Echo(), RULES)
    table = [
        ("GET", {}, 401),
        ("GET", READER, 200),
        ("DELETE", READER, 403),
        ("DELETE", WRITER, 200),
        ("OPTIONS", READER, 200),
        ("HEAD", READER, 200),
        ("PUT", WRITER, 405),
        ("PATCH", WRITER, 405),
        ("post", WRITER, 405),
    ]
    for method, headers, status in table:
        assert (await call(app, method, "/mcp", headers)).status == status, method
    opened = guard(Echo(), [Method("GET", public=True)])
    assert (await call(opened, "GET", "/mcp")).status == 200


@pytest.mark.rule("RS-90")
async def test_a_websocket_at_the_path_of_messages_is_refused() -> None:
    echo = Echo()
    answer = await handshake(guard(echo, RULES), "/mcp", WRITER)
    assert answer.denial is not None
    assert answer.denial.status == 405
    assert echo.scopes == []


@pytest.mark.rule("RS-90")
async def test_rules_for_paths_and_for_messages_add_up() -> None:
    app = guard(Echo(), [Rule("/mcp", scopes=["deep"]), Tool("edit", scopes=["write"])])
    assert asked(await post(app, tool("edit"), READER)) == "read deep write"
    assert asked(await post(app, tool("x"), READER)) == "read deep"


@pytest.mark.rule("RS-90")
async def test_other_paths_are_not_read() -> None:
    echo = Echo()
    app = guard(echo, RULES)
    assert (await post(app, b"no message", READER, "/upload")).status == 200
    assert asked(await post(app, b"no message", READER, "/admin")) == "read admin"
    assert echo.bodies == [b"no message"]


@pytest.mark.rule("RS-90")
async def test_the_scopes_of_rules_count_as_supported() -> None:
    server = OAuthProvider(base_url="http://localhost:8000", login=DevLogin(), store=memory_store())
    guard(Echo(), RULES, provider=server)
    assert {"write", "delete", "prompts", "admin"} <= {*server.scopes_supported}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"rules": [Tool("x")], "mcp_path": None}, "write mcp_path='/mcp'"),
    ({"challenge": "result", "mcp_path": None}, "challenge is 'result', but there is no mcp_path"),
    ({"challenge": "results"}, "challenge='results' must be 'http' or 'result'"),
    ({"max_message_bytes": "4 MiB"}, "max_message_bytes='4 MiB' must be a whole number"),
    ({"rules": [Tool("x"), Tool("x")]}, "which are for the same: keep one"),
    ({"rules": [Tool("x"), "y"]}, "or Tool('name', scopes=[…]) for a tool"),
    ({"rules": Tool("x")}, "must be a list: write [Rule('/path', scopes=[…])], or [Tool("),
    ({"public_paths": [Tool("x")]}, "like '/health'; rules belong in rules=[…]"),
    ({"public_paths": ["/mcp"]}, "write rules=[Tool('name', public=True)]"),
]


@pytest.mark.rule("RS-90")
async def test_a_wrong_setting_says_what_to_write() -> None:
    for settings, text in WRONG:
        with pytest.raises(ConfigurationError) as caught:
            guard(Echo(), **{"rules": [], **settings})
        assert text in str(caught.value), settings


# ------------------------------------------------------------------------------------------- bodies


BIG = tool("other", text="x" * 3000)


@pytest.mark.rule("RS-92")
async def test_the_app_gets_the_bytes_that_were_judged() -> None:
    text = b' {"jsonrpc" : "2.0", "id":7,\n"method":"tools\\u002fcall", "params":{"name":"n"}}\n'
    bodies = [text, json.dumps(BIG).encode()]
    for body in bodies:
        for chunks in (
            (body,),
            (body, b""),
            (b"", body),
            tuple(body[i : i + 1] for i in range(len(body))),
        ):
            echo = Echo()
            assert (await post(guard(echo, RULES), chunks, READER)).status == 200
            assert echo.bodies == [body]


@pytest.mark.rule("RS-92")
async def test_a_body_of_four_mebibytes_is_read_and_one_byte_more_is_not() -> None:
    start, end = b'{"method":"tools/call","params":{"name":"n","arguments":{"a":"', b'"}}}'
    body = start + b"x" * (4 * 1024 * 1024 - len(start) - len(end)) + end
    echo = Echo()
    app = guard(echo, RULES)
    half = len(body) // 2
    for chunks in ((body,), (body[:half], body[half:])):
        assert (await post(app, chunks, READER)).status == 200
    assert echo.bodies == [body, body]
    for chunks in ((body + b" ",), (body, b" ")):
        answer = await post(app, chunks, READER)
        assert answer.status == 413
        assert answer.json()["error"]["message"] == "The body is longer than 4194304 bytes"
    assert len(echo.bodies) == 2


# headers; the status
ODD: list[tuple[dict[str, str], int]] = [
    ({"content-length": "5000"}, 413),
    ({"content-length": "9" * 30}, 413),
    ({"content-length": "x"}, 413),
    ({"content-length": "-1"}, 413),
    ({"content-length": "100"}, 200),
    ({"content-encoding": "gzip"}, 415),
    ({"content-encoding": "br"}, 415),
    ({"content-encoding": ""}, 415),
    ({"content-encoding": "identity"}, 200),
    ({"content-type": "application/json; charset=utf-16"}, 415),
    ({"content-type": "application/json; charset=latin-1"}, 415),
    ({"content-type": 'application/json; CHARSET="UTF-16LE"'}, 415),
    ({"content-type": "application/json; charset=utf-8"}, 200),
    ({"content-type": 'application/json; charset="UTF-8"'}, 200),
    ({"content-type": "text/plain"}, 200),
    ({"mcp-method": "tools/list"}, 400),
    ({"mcp-method": "tools/call", "mcp-name": "search"}, 400),
    ({"mcp-method": "tools/call", "mcp-name": "n"}, 200),
]


@pytest.mark.rule("RS-92")
async def test_headers_that_say_something_else_of_the_body_are_refused() -> None:
    events: list[Refusal] = []
    app = guard(Echo(), RULES, max_message_bytes=4000, on_event=events.append)
    for headers, status in ODD:
        answer = await post(app, tool("n"), {**headers, **READER})
        assert answer.status == status, headers
        if status != 200:
            body = answer.json()
            assert set(body) == {"jsonrpc", "id", "error"}
            assert events[-1].reason == "message"
            assert (body["error"]["code"] == -32020) is (status == 400)
            assert body["id"] == (7 if status == 400 else None)
            assert answer.header("www-authenticate") is None


class Line:
    """A ``receive`` that counts, and gives these messages."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)
        self.count = 0

    async def __call__(self) -> Message:
        self.count += 1
        return self.messages.pop(0)


async def run(app: Any, line: Any, headers: dict[str, str], **members: Any) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app(
        make_scope("http", "POST", members.pop("path", "/mcp"), headers, **members), line, send
    )
    return sent


@pytest.mark.rule("RS-92")
async def test_a_body_is_read_only_when_the_token_is_good_or_not_needed() -> None:
    whole = {"type": "http.request", "body": json.dumps(tool("search")).encode()}
    closed = [Tool("edit", scopes=["write"])]
    table: list[tuple[Any, dict[str, str], int]] = [
        (RULES, INVALID, 0),
        (RULES, {}, 1),
        (RULES, READER, 1),
        (closed, {}, 0),
        (closed, {"authorization": "Basic eDp5"}, 0),
        (closed, {**READER, "content-length": "99999999"}, 0),
        (closed, {**READER, "origin": "https://evil.example"}, 0),
    ]
    for rules, headers, count in table:
        line = Line(whole)

        async def silent(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

        await run(guard(silent, rules), line, headers)
        assert line.count == count, (rules, headers)


@pytest.mark.rule("RS-92")
async def test_without_rules_for_messages_the_app_reads_its_body_itself() -> None:
    line = Line()

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        assert receive is line
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    await run(guard(silent, [Rule("/x", scopes=["x"])]), line, READER)
    await run(guard(silent, RULES), line, READER, path="/upload")
    assert line.count == 0


@pytest.mark.rule("RS-92")
async def test_a_client_that_leaves_in_the_middle_gets_nothing_and_calls_nothing() -> None:
    part = {"type": "http.request", "body": b'{"method":', "more_body": True}
    gone = {"type": "http.disconnect"}
    events: list[Refusal] = []
    for messages in ((gone,), (part, gone), (part, part, gone)):
        for headers in ({}, READER):
            echo = Echo()
            app = guard(echo, RULES, on_event=events.append)
            assert await run(app, Line(*messages), headers) == []
            assert (echo.scopes, events) == ([], [])


@pytest.mark.rule("RS-92")
async def test_the_app_is_told_when_a_client_leaves_after_its_body() -> None:
    heard: list[Message] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.extend([await receive(), await receive()])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    body = json.dumps(tool("n")).encode()
    gone = {"type": "http.disconnect"}
    await run(guard(app, RULES), Line({"type": "http.request", "body": body}, gone), READER)
    assert heard == [{"type": "http.request", "body": body, "more_body": False}, gone]


@pytest.mark.rule("RS-92")
async def test_a_body_that_stops_arriving_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_mcp_auth.gate, "BODY_SECONDS", 0.0)
    part = {"type": "http.request", "body": b'{"method":', "more_body": True}
    for headers in ({}, READER):
        sent = await run(guard(Echo(), RULES), Stalled(part), headers)
        assert sent[0]["status"] == 408
        assert b"did not arrive in time" in sent[1]["body"]


class Stalled(Line):
    """A ``receive`` that never answers again."""

    async def __call__(self) -> Message:
        import asyncio

        if self.messages:
            return await super().__call__()
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.rule("RS-92")
async def test_a_long_message_needs_a_token() -> None:
    """What is read before anything is known of the caller has to be short."""
    events: list[Refusal] = []
    app = guard(Echo(), RULES, on_event=events.append)
    for padding, status in ((60 * 1024, 200), (64 * 1024, 401)):
        body = json.dumps(tool("search", q="x" * padding)).encode()
        length = {"content-length": str(len(body))}
        assert (await post(app, body)).status == status
        assert (await post(app, body, length)).status == status
        assert (await post(app, (body[:9], body[9:]))).status == status
        assert (await post(app, body, READER)).status == 200
    assert [event.reason for event in events] == ["missing_token"] * 3


@pytest.mark.rule("RS-92")
async def test_streams_trailers_and_extensions_pass_through() -> None:
    answer: list[Message] = [
        {"type": "http.response.debug", "info": {}},
        {"type": "http.response.start", "status": 200, "headers": [], "trailers": True},
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"b"},
        {"type": "http.response.trailers", "headers": [(b"x", b"y")]},
    ]
    body = json.dumps(tool("n")).encode()
    sent = await run(
        guard(Echo(*answer), RULES), Line({"type": "http.request", "body": body}), READER
    )
    assert sent == answer


@pytest.mark.rule("RS-93")
async def test_the_record_names_the_operation_and_never_arguments() -> None:
    table: list[tuple[Any, str]] = [
        (tool("edit", secret="hunter2"), "tools/call edit"),
        (tool("delete_\n\x1b[31m\u202e"), "tools/call delete_\\n\\x1b[31m\\u202e"),
        (tool("delete_" + "x" * 500), ("tools/call delete_" + "x" * 500)[:200]),
        ([tool("edit"), message("prompts/get", name="p")], "tools/call edit, prompts/get p"),
        (message("resources/read", uri="notes://private/1"), "resources/read notes://private/1"),
    ]
    for content, operation in table:
        events: list[Refusal] = []
        await post(guard(Echo(), RULES, on_event=events.append), content, READER)
        (event,) = events
        assert (event.reason, event.operation) == ("insufficient_scope", operation)
        assert "hunter2" not in repr(event)


# -------------------------------------------------------------------------------------- challenges


@pytest.mark.rule("RS-94")
async def test_a_challenge_may_stand_in_the_result_of_the_tool() -> None:
    app = guard(Echo(), RULES, challenge="result")
    for headers, error in (({}, "insufficient_scope"), (READER, "insufficient_scope")):
        answer = await post(app, tool("edit"), headers)
        assert (answer.status, answer.header("www-authenticate")) == (200, None)
        body = answer.json()
        assert (body["id"], body["result"]["isError"]) == (7, True)
        (challenge,) = body["result"]["_meta"]["mcp/www_authenticate"]
        assert f'error="{error}"' in challenge
        assert 'error_description="' in challenge
        assert 'scope="read write"' in challenge
        assert 'resource_metadata="https://mcp.example/.well-known/' in challenge


@pytest.mark.rule("RS-94")
async def test_only_the_call_of_one_tool_has_a_result_to_put_it_in() -> None:
    app = guard(Echo(), RULES, challenge="result")
    table: list[tuple[Any, dict[str, str], int]] = [
        (message("prompts/get", name="x"), READER, 403),
        ([tool("edit"), tool("edit")], READER, 403),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, {}, 401),
        (tool("edit"), INVALID, 401),
        (b"no message", READER, 400),
    ]
    for content, headers, status in table:
        assert (await post(app, content, headers)).status == status, content


@pytest.mark.rule("RS-94")
async def test_a_function_decides_for_each_request() -> None:
    def form(scope: Any) -> str:
        agents = [value for name, value in scope["headers"] if name == b"user-agent"]
        return {b"chatgpt": "result", b"other": "http"}[agents[0]]

    app = guard(Echo(), RULES, challenge=form)
    for agent, status in (("chatgpt", 200), ("other", 403)):
        headers = {**READER, "user-agent": agent}
        assert (await post(app, tool("edit"), headers)).status == status
    wrong = guard(Echo(), RULES, challenge=lambda scope: "results")
    with pytest.raises(ConfigurationError, match="must be 'http' or 'result'"):
        await post(wrong, tool("edit"), READER)


async def test_a_middleware_without_a_path_judges_every_path() -> None:
    app = MCPAuthMiddleware(Echo(), provider(), mcp_path="/", rules=RULES)
    for path in ("/", "/x", "/mcp"):
        assert (await post(app, tool("edit"), READER, path)).status == 403
