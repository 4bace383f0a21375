"""What a message asks for is read once, strictly, and only as far as it decides."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asgi_mcp_auth.operations import (
    HEADER_MISMATCH,
    INVALID_REQUEST,
    PARSE_ERROR,
    InvalidMessage,
    check_headers,
    parse_message,
)

pytestmark = pytest.mark.rule("RS-35")

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search"}}'


def message(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).encode()


OPERATIONS = {
    message("tools/call", name="search", arguments={"q": "x"}): [("tool", "search")],
    message("prompts/get", name="greet"): [("prompt", "greet")],
    message("resources/read", uri="notes://1"): [("resource", "notes://1")],
    message("resources/subscribe", uri="notes://1"): [("resource", "notes://1")],
    message("resources/unsubscribe", uri="notes://1"): [("resource", "notes://1")],
    message("completion/complete", ref={"type": "ref/prompt", "name": "greet"}): [
        ("prompt", "greet")
    ],
    message("completion/complete", ref={"type": "ref/resource", "uri": "notes://{id}"}): [
        ("resource", "notes://{id}")
    ],
    message("subscriptions/listen", notifications={"resourceSubscriptions": ["a://1", "a://2"]}): [
        (None, ""),
        ("resource", "a://1"),
        ("resource", "a://2"),
    ],
    message("subscriptions/listen", notifications={"toolsListChanged": True}): [(None, "")],
    message("subscriptions/listen"): [(None, "")],
    message("tools/list"): [(None, "")],
    b'{"method":"ping"}': [(None, "")],
    b'{"method":"ping","params":null}': [(None, "")],
    b'{"id":1,"result":{}}': [(None, "")],
    b'{"id":1,"error":{"code":1}}': [(None, "")],
    b" [" + CALL + b' , {"method":"ping"} ] ': [("tool", "search"), (None, "")],
    message("tools/call", name="Zürich \u2603"): [("tool", "Zürich \u2603")],
    b'{"method":"tools/call","params":{"name":"se\\u0061rch"}}': [("tool", "search")],
}


def test_a_message_names_what_it_asks_for() -> None:
    for body, expected in OPERATIONS.items():
        found = [(each.subject, each.name) for each in parse_message(body).operations]
        assert found == expected, body


@pytest.mark.parametrize("rows", [1, 40], ids=["few objects", "many objects"])
def test_what_does_not_decide_is_left_to_the_app(rows: int) -> None:
    """Both ways of reading: all of a small message at once, a large one member by member."""
    arguments = [{"name": "x", "name2": 1e400, "params": {"name": "y"}}] * rows
    twice = json.dumps(arguments)[:-1] + ',{"a":1,"a":2}]'
    body = f'{{"method":"tools/call","params":{{"name":"n","arguments":{{"r":{twice}}}}}}}'
    (operation,) = parse_message(body.replace("Infinity", "1").encode()).operations
    assert operation.name == "n"
    assert len(operation.params["arguments"]["r"]) == rows + 1


UNREADABLE = {
    PARSE_ERROR: [
        b"",
        b" ",
        b"ping",
        b"null",
        b'"ping"',
        b"7",
        CALL + b"x",
        CALL + CALL,
        CALL[:-1],
        CALL[:-1] + b",}",
        b"\xef\xbb\xbf" + CALL,
        CALL.decode().encode("utf-16"),
        CALL.decode().encode("utf-16-le"),
        CALL.decode().encode("utf-32"),
        CALL.replace(b"search", b"\xff"),
        CALL.replace(b"search", b"a\nb"),
        CALL.replace(b"7", b"NaN"),
        CALL.replace(b"7", b"9" * 5000),
        CALL.replace(b'"search"', b'"search","name":"delete"'),
        CALL.replace(b'"search"', b'"search","n\\u0061me":"delete"'),
        CALL.replace(b'"tools/call"', b'"tools/call","method":"ping"'),
        CALL.replace(b'"params"', b'"params":{},"params"'),
        b'{"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"a","name":"b"}}}',
        b'{"method":"x","params":{"a":' + b"[" * 100_000,
        b"[" * 100_000,
        b"[" + CALL + b",]",
        b"[" + CALL,
        b"[" + CALL + b" " + CALL + b"]",
        CALL.replace(b'"method":', b'"method"='),
        CALL.replace(b'"id"', b"id"),
    ],
    INVALID_REQUEST: [
        b"{}",
        b"[]",
        b"[1]",
        b'{"id":1}',
        b'{"method":""}',
        b'{"method":null}',
        b'{"method":["ping"]}',
        b'{"method":"ping","result":{}}',
        b'{"method":"ping","error":{}}',
        b'{"method":"ping","params":[]}',
        b'{"method":"ping","params":"x"}',
        b'{"method":"\\ud800"}',
        message("tools/call"),
        message("tools/call", name=None),
        message("tools/call", name=["search"]),
        message("tools/call", name=1),
        b'{"method":"tools/call","params":{"name":"\\udfff"}}',
        message("resources/read", name="notes://1"),
        message("completion/complete"),
        message("completion/complete", ref="ref/prompt"),
        message("completion/complete", ref={"type": "ref/tool", "name": "x"}),
        message("completion/complete", ref={"type": ["ref/prompt"], "name": "x"}),
        message("completion/complete", ref={"type": "ref/prompt", "uri": "x"}),
        message("subscriptions/listen", notifications={"resourceSubscriptions": "a://1"}),
        message("subscriptions/listen", notifications={"resourceSubscriptions": [1]}),
        b"[" + CALL + b',{"id":1}]',
    ],
}


def test_what_could_be_read_in_two_ways_is_refused() -> None:
    for code, bodies in UNREADABLE.items():
        for body in bodies:
            with pytest.raises(InvalidMessage) as caught:
                parse_message(body)
            assert caught.value.code == code, body[:80]


def test_duplicates_are_found_in_large_messages_too() -> None:
    """They are read member by member, not at once."""
    padding = b'"_meta":{"a":"' + b"x" * 20_000 + b'"},'
    large = CALL.replace(b'"name"', padding + b'"name"')
    assert parse_message(large).operations[0].name == "search"
    with pytest.raises(InvalidMessage, match="twice"):
        parse_message(large.replace(b'"search"', b'"search" , "name":"delete"'))


def test_the_id_is_told_as_far_as_it_was_read() -> None:
    with pytest.raises(InvalidMessage) as caught:
        parse_message(message("tools/call"))
    assert caught.value.id == 7
    assert parse_message(CALL).id == 7
    assert parse_message(b'{"id":7,"result":{}}').id is None


NAMED = parse_message(message("tools/call", name="café"))
AGREEING: list[tuple[bytes, list[tuple[bytes, bytes]]]] = [
    (CALL, []),
    (CALL, [(b"mcp-method", b"tools/call"), (b"mcp-name", b"search")]),
    (CALL, [(b"mcp-method", b" tools/call\t"), (b"mcp-name", b" search ")]),
    (CALL, [(b"mcp-name", b"=?base64?c2VhcmNo?=")]),
    (message("tools/call", name="café"), [(b"mcp-name", b"=?base64?Y2Fmw6k=?=")]),
    (message("tools/list"), [(b"mcp-method", b"tools/list"), (b"mcp-name", b"whatever")]),
    (message("resources/read", uri="a://1"), [(b"mcp-name", b"a://1")]),
    (
        message("subscriptions/listen", notifications={"resourceSubscriptions": ["a://1"]}),
        [(b"mcp-method", b"subscriptions/listen")],
    ),
    (CALL, [(b"content-type", b"application/json")]),
    (b"[" + CALL + b"," + CALL + b"]", [(b"mcp-method", b"tools/call"), (b"mcp-name", b"search")]),
]
DIFFERING: list[tuple[bytes, list[tuple[bytes, bytes]]]] = [
    (CALL, [(b"mcp-method", b"tools/list")]),
    (CALL, [(b"mcp-method", b"TOOLS/CALL")]),
    (CALL, [(b"mcp-method", b"")]),
    (CALL, [(b"mcp-method", b"tools/call"), (b"mcp-method", b"ping")]),
    (CALL, [(b"mcp-name", b"Search")]),
    (CALL, [(b"mcp-name", b"")]),
    (CALL, [(b"mcp-name", b"search"), (b"mcp-name", b"delete")]),
    (CALL, [(b"mcp-name", b"=?base64?c2VhcmNo")]),
    (CALL, [(b"mcp-name", b"=?base64?c2VhcmN?=")]),
    (CALL, [(b"mcp-name", b"=?base64?/w==?=")]),
    (message("tools/call", name="café"), [(b"mcp-name", "café".encode("latin-1"))]),
    (message("tools/call", name="café"), [(b"mcp-name", "café".encode())]),
    (b"[" + CALL + b"," + message("ping") + b"]", [(b"mcp-method", b"tools/call")]),
    (b"[" + message("ping") + b"," + CALL + b"]", [(b"mcp-name", b"delete")]),
]


def test_headers_say_what_the_body_says_or_the_message_is_refused() -> None:
    for body, headers in AGREEING:
        check_headers(headers, parse_message(body))
    for body, headers in DIFFERING:
        with pytest.raises(InvalidMessage, match="Header mismatch") as caught:
            check_headers(headers, parse_message(body))
        assert caught.value.code == HEADER_MISMATCH, (body, headers)
