"""Lists leave out what a caller may not use, and nothing else is changed or held back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError, Method, Prompt, Resource, Tool
from tests.support.asgi import Message, Response, call
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

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-95")]

RULES = [
    Tool("delete_*", scopes=["write"], hidden=True),
    Tool("edit", scopes=["write"]),
    Prompt("secret", scopes=["write"], hidden=True),
    Resource("notes://private/{id}", scopes=["write"], hidden=True),
    Method("tools/list", public=True),
]
TOOLS = {"tools": [{"name": name} for name in ("search", "delete_x", "edit")], "nextCursor": "c"}
# the method, the answer, and what a reader sees of it
LISTS: list[tuple[str, str, str, list[str], list[str]]] = [
    ("tools/list", "tools", "name", ["search", "delete_x", "edit"], ["search", "edit"]),
    ("prompts/list", "prompts", "name", ["secret", "Secret", "x"], ["Secret", "x"]),
    (
        "resources/list",
        "resources",
        "uri",
        ["notes://1", "notes://private/1", "NOTES://private/1", "a://%"],
        ["notes://1", "a://%"],
    ),
    (
        "resources/templates/list",
        "resourceTemplates",
        "uriTemplate",
        ["notes://{id}", "notes://private/{id}", "notes://private/{other}"],
        ["notes://{id}"],
    ),
]


def names(response: Response, member: str, name: str) -> list[str]:
    return [each[name] for each in response.json()["result"][member]]


async def test_a_list_leaves_out_what_the_caller_may_not_use() -> None:
    for method, member, name, everything, visible in LISTS:
        things = [{name: each, "title": each} for each in everything]
        app = guard(Echo(*json_answer({member: things, "nextCursor": "c"})), RULES)
        for headers, expected in ((READER, visible), (WRITER, everything)):
            answer = await post(app, message(method), headers)
            assert names(answer, member, name) == expected, (method, headers)
            assert answer.json()["result"]["nextCursor"] == "c"
            assert answer.header("content-length") == str(len(answer.body))


async def test_callers_without_a_token_see_what_they_can_step_up_to() -> None:
    app = guard(Echo(*json_answer(TOOLS)), RULES)
    assert names(await post(app, message("tools/list")), "tools", "name") == ["search", "edit"]


async def test_a_rule_for_a_method_hides_what_has_no_rule_of_its_own() -> None:
    rules = [Method("tools/call", scopes=["write"], hidden=True), Tool("search")]
    app = guard(Echo(*json_answer(TOOLS)), rules)
    answer = await post(app, message("tools/list"), READER)
    assert names(answer, "tools", "name") == ["search"]


EVENT = b'data: {"jsonrpc":"2.0","id":7,"result":' + json.dumps(TOOLS).encode() + b"}"


def tools_in(body: bytes) -> list[str]:
    found: list[str] = []
    for line in body.decode().splitlines():
        if line.startswith("data:"):
            result = json.loads(line[5:]).get("result", {})
            found += [each["name"] for each in result.get("tools", ())]
    return found


async def test_a_list_in_a_stream_is_filtered_however_its_events_arrive() -> None:
    note = b'data: {"jsonrpc":"2.0","method":"notifications/progress"}'
    for end in (b"\n", b"\r\n", b"\r"):
        stream = b": hello" + end + end + b"id: 1" + end + note + end + end
        stream += b"event: message" + end + b"id: 2" + end + EVENT + end + end
        cuts = [
            (stream,),
            (stream[:-1], stream[-1:]),
            tuple(stream[i : i + 1] for i in range(len(stream))),
        ]
        cuts += [(stream[:at], stream[at:]) for at in range(0, len(stream), 17)]
        for chunks in cuts:
            answer = await post(
                guard(Echo(*sse_answer(*chunks)), RULES), message("tools/list"), READER
            )
            assert tools_in(answer.body) == ["search", "edit"]
            for kept in (b": hello", note, b"id: 1", b"id: 2", b"event: message", b"nextCursor"):
                assert answer.body.count(kept) == 1, (kept, end)


async def test_unusual_events_are_filtered_too() -> None:
    split = EVENT.replace(b'"result":', b'"result":\ndata:')
    events = [
        split,
        EVENT.replace(b"data: ", b"data:"),
        b"\xef\xbb\xbf" + EVENT,
        b"retry: 5\n" + EVENT,
        EVENT + b"\n\r",  # two different line endings
        EVENT + b"\r\n\n",
        EVENT + b"\n\r\n",
    ]
    for event in events:
        stream = event if event[-1:] in b"\r\n" else event + b"\n\n"
        answer = await post(
            guard(Echo(*sse_answer(stream, b": end\n\n")), RULES), message("tools/list"), READER
        )
        assert b"delete_x" not in answer.body, event
        assert b"edit" in answer.body


async def test_an_event_at_the_end_needs_no_blank_line() -> None:
    answer = await post(guard(Echo(*sse_answer(EVENT)), RULES), message("tools/list"), READER)
    assert tools_in(answer.body) == ["search", "edit"]


async def test_an_event_leaves_as_soon_as_it_is_complete() -> None:
    sent: list[Message] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        start, first, last = sse_answer(b": a\n\n" + EVENT[:20], EVENT[20:] + b"\n\n")
        for each, count in ((start, 1), (first, 2), (last, 3)):
            await send(each)
            sent.append(each)
            assert len(seen) == count

    seen: list[Message] = []
    inner = guard(app, RULES)

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        async def watched(message: Any) -> None:
            seen.append(message)
            await send(message)

        await inner(scope, receive, watched)

    await post(outer, message("tools/list"), READER)
    assert len(sent) == 3
    assert seen[1]["body"] == b": a\n\n"


async def test_the_stream_of_a_get_is_filtered_because_it_repeats_answers() -> None:
    app = guard(Echo(*sse_answer(EVENT + b"\n\n")), RULES)
    assert tools_in((await call(app, "GET", "/mcp", READER)).body) == ["search", "edit"]
    assert tools_in((await call(app, "GET", "/mcp", WRITER)).body) == ["search", "delete_x", "edit"]


async def test_other_answers_are_passed_on_as_they_are() -> None:
    spaced = b'{ "jsonrpc":"2.0", "id":7, "result": {"tools": [ {"name":"search"} ] } }'
    start = json_answer({})[0]
    cases: list[tuple[Any, ...]] = [
        json_answer(TOOLS, status=500),
        json_answer({"content": []}),
        (start, {"type": "http.response.body", "body": spaced}),
        (start, {"type": "http.response.body", "body": b"no JSON"}),
        (start, {"type": "http.response.body", "body": b'["tools"]'}),
        (
            {"type": "http.response.start", "status": 202, "headers": []},
            {"type": "http.response.body"},
        ),
        (
            {"type": "http.response.start", "status": 204, "headers": []},
            {"type": "http.response.body"},
        ),
    ]
    for case in cases:
        plain = await post(Echo(*case), message("tools/list"))
        ruled = await post(guard(Echo(*case), RULES), message("tools/list"), READER)
        assert (ruled.status, ruled.body) == (plain.status, plain.body)
        assert [each for each in ruled.headers if each[0] != "vary"] == [
            (name, value) for name, value in plain.headers
        ] or ruled.header("content-length") == plain.header("content-length")


async def test_nothing_is_touched_where_nothing_is_hidden() -> None:
    shown = [rule for rule in RULES if not rule.hidden]
    for rules, method in ((shown, "tools/list"), (RULES, "ping")):
        echo = Echo(*json_answer(TOOLS))
        headers = {**READER, "accept-encoding": "gzip"}
        answer = await post(guard(echo, rules), message(method), headers)
        assert answer.messages == list(echo.answer)
        assert (b"accept-encoding", b"gzip") in echo.scopes[0]["headers"]


async def test_an_app_is_not_asked_to_compress_a_list_and_must_not() -> None:
    echo = Echo(*json_answer(TOOLS))
    await post(guard(echo, RULES), message("tools/list"), {**READER, "accept-encoding": "gzip"})
    assert all(name != b"accept-encoding" for name, _ in echo.scopes[0]["headers"])
    gzip = [(b"content-encoding", b"gzip")]
    for answer in (json_answer(TOOLS, headers=gzip), json_answer(TOOLS, headers=[*gzip])):
        with pytest.raises(ConfigurationError, match="compress outside of MCPAuthMiddleware"):
            await post(guard(Echo(*answer), RULES), message("tools/list"), READER)
    start, body = sse_answer(EVENT)
    start["headers"].append((b"content-encoding", b"gzip"))
    with pytest.raises(ConfigurationError, match="compress outside of MCPAuthMiddleware"):
        await post(guard(Echo(start, body), RULES), message("tools/list"), READER)


async def test_text_of_any_kind_survives() -> None:
    odd = {"tools": [{"name": "delete_x"}, {"name": "Zürich \ud800 \u2028", "n": 1e300}]}
    answer = await post(guard(Echo(*json_answer(odd)), RULES), message("tools/list"), READER)
    assert answer.json()["result"]["tools"] == odd["tools"][1:]


@pytest.mark.rule("RS-94")
async def test_with_challenges_in_results_tools_say_what_they_need() -> None:
    rules = [Tool("search", public=True), Tool("edit", scopes=["write"])]
    own = {"name": "own", "securitySchemes": [{"type": "noauth"}], "_meta": {"a": 1}}
    tools = {"tools": [{"name": "search"}, {"name": "edit"}, {"name": "x"}, own]}
    app = guard(Echo(*json_answer(tools)), rules, challenge="result")
    answer = await post(app, message("tools/list"), READER)
    search, edit, other, kept = answer.json()["result"]["tools"]
    for found, schemes in (
        (search, [{"type": "noauth"}]),
        (edit, [{"type": "oauth2", "scopes": ["read", "write"]}]),
        (other, [{"type": "oauth2", "scopes": ["read"]}]),
    ):
        assert found["securitySchemes"] == found["_meta"]["securitySchemes"] == schemes
    assert kept["securitySchemes"] == [{"type": "noauth"}]
    assert kept["_meta"]["a"] == 1
