"""No message makes the MCP SDK or FastMCP do what the rules did not judge.

Each body is sent to the real servers behind rules, by a caller who may use ``safe`` and nothing
else, and once more without rules, to see what the servers make of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastmcp import FastMCP
from mcp.server.mcpserver import MCPServer

from asgi_mcp_auth import Prompt, Resource, Tool
from tests.interop.servers import MCP_HEADERS, started
from tests.support.asgi import App
from tests.support.messages import READER, guard, message, post, tool

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("RS-97")]

RULES = [
    Tool("danger*", scopes=["write"]),
    Prompt("danger", scopes=["write"]),
    Resource("notes://danger/{id}", scopes=["write"]),
]
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def sdk(done: list[str]) -> App:
    server: MCPServer[Any] = MCPServer("notes", log_level="CRITICAL")
    server.tool()(_tool(done, "safe"))
    server.tool()(_tool(done, "danger"))
    server.tool(name="danger ")(_tool(done, "danger"))
    server.prompt()(_tool(done, "danger"))
    server.resource("notes://safe/{id}")(_reader(done, "safe"))
    server.resource("notes://danger/{id}")(_reader(done, "danger"))
    return server.streamable_http_app(json_response=True, stateless_http=True)


def fastmcp(done: list[str]) -> App:
    server: FastMCP[Any] = FastMCP("notes")
    server.tool(_tool(done, "safe"))
    server.tool(_tool(done, "danger"))
    server.prompt(_tool(done, "danger"))
    server.resource("notes://safe/{id}")(_reader(done, "safe"))
    server.resource("notes://danger/{id}")(_reader(done, "danger"))
    return server.http_app(json_response=True, stateless_http=True)


def _tool(done: list[str], name: str) -> Callable[[], str]:
    def run() -> str:
        done.append(name)
        return name

    run.__name__ = name
    return run


def _reader(done: list[str], name: str) -> Callable[[str], str]:
    def read(id: str) -> str:
        done.append(name)
        return name

    read.__name__ = f"read_{name}"
    return read


SAFE = json.dumps(tool("safe"))
DANGER = json.dumps(tool("danger"))


def bodies() -> Iterator[bytes]:
    """Yield bodies that parsers, or a policy and a server, may read differently."""
    texts = [
        SAFE,
        DANGER,
        # members that are there twice
        SAFE.replace('"safe"', '"safe", "name": "danger"'),
        SAFE.replace('"safe"', '"danger", "name": "safe"'),
        SAFE.replace('"safe"', '"safe", "n\\u0061me": "danger"'),
        SAFE.replace('"safe"', '"safe", "Name": "danger"'),
        SAFE.replace('"safe"', '"safe", "NAME": "danger"'),
        SAFE.replace('"params"', '"params": {"name": "danger"}, "params"'),
        SAFE[:-1] + ', "params": {"name": "danger", "arguments": {}}}',
        SAFE[:-1] + ', "p\\u0061rams": {"name": "danger", "arguments": {}}}',
        SAFE[:-1] + ', "method": "tools/call"}',
        json.dumps(message("ping"))[:-1] + f', "method": "tools/call", {DANGER[1:-1]}}}',
        SAFE.replace('"arguments": {}', '"arguments": {"a": 1, "a": 2}'),
        # escapes
        DANGER.replace('"danger"', '"d\\u0061nger"'),
        DANGER.replace('"danger"', '"\\u0064\\u0061\\u006e\\u0067\\u0065\\u0072"'),
        DANGER.replace("tools/call", "tools\\/call"),
        DANGER.replace('"name"', '"\\u006eame"'),
        DANGER.replace('"method"', '"meth\\u006fd"'),
        # other names
        *(
            DANGER.replace('"danger"', name)
            for name in (
                '"danger "',
                '" danger"',
                '"danger\\u0000"',
                '"DANGER"',
                '"danger\\n"',
                '"danger\\ufeff"',
                '"\\ufeffdanger"',
                '"d\\u00e0nger"',
                '"danger\\ud800"',
                '"\uff44anger"',
                '["danger"]',
                '{"danger": 1}',
                "null",
                "1",
                "true",
                '"danger/../safe"',
            )
        ),
        # batches
        f"[{SAFE}]",
        f"[{DANGER}]",
        f"[{SAFE}, {DANGER}]",
        f"[[{DANGER}]]",
        f"[{SAFE}, [{DANGER}]]",
        "[]",
        # other values
        f"{SAFE}{DANGER}",
        f"{SAFE}\n{DANGER}",
        f"{DANGER},",
        f"{DANGER}\0",
        f"\x0c{DANGER}",
        f"/**/{DANGER}",
        DANGER.replace('"id": 7', '"id": null'),
        DANGER.replace('"id": 7', '"id": 7.0'),
        DANGER.replace('"id": 7', '"id": ' + "9" * 400),
        DANGER.replace('"id": 7', '"id": ' + "9" * 5000),
        DANGER.replace('"id": 7', '"id": 1e400'),
        DANGER.replace('"id": 7', '"id": NaN'),
        DANGER.replace('"id": 7', '"id": -0'),
        DANGER.replace('"id": 7', '"id": "7"'),
        DANGER.replace('"id": 7', '"id": {"name": "safe"}'),
        DANGER.replace('"id": 7, ', ""),
        DANGER.replace('"2.0"', '"1.0"'),
        DANGER.replace('"jsonrpc": "2.0", ', ""),
        DANGER[:-1] + ', "result": {}}',
        DANGER[:-1] + ', "error": null}',
        DANGER[:-1] + ', "result": null}',
        DANGER.replace('"arguments": {}', '"arguments": null'),
        DANGER.replace('"arguments": {}', '"arguments": ' + "[" * 50 + "]" * 50),
        DANGER.replace('"arguments": {}', '"arguments": ' + "[" * 5000 + "]" * 5000),
        DANGER.replace('"arguments": {}', '"arguments": {}, "_meta": null'),
        DANGER.replace('"arguments": {}', '"arguments": {}, "uri": "notes://safe/1"'),
        DANGER.replace("tools/call", "Tools/Call"),
        DANGER.replace("tools/call", "tools/call "),
        DANGER.replace("tools/call", "prompts/get"),
        DANGER.replace(" ", ""),
        DANGER.replace(" ", "\r\n\t"),
    ]
    for text in texts:
        yield text.encode("utf-8", "surrogatepass")
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7"):
        yield DANGER.encode(encoding)
    yield DANGER.replace("danger", "dangér").encode("latin-1")
    yield DANGER.encode().replace(b"danger", b"d\xc1\xa1nger")  # an overlong a
    for uri in (
        "notes://danger/1",
        "NOTES://danger/1",
        "notes://DANGER/1",
        "notes://danger/1/",
        "notes://%64anger/1",
        "notes://danger/%31",
        "notes://safe/../danger/1",
        "notes://safe/..%2fdanger/1",
        "notes://safe/%2e%2e/danger/1",
        "notes:\\\\danger\\1",
        " notes://danger/1",
        "notes://danger/1 ",
        "notes://danger/1#safe",
        "notes://danger/1?safe",
        "notes://da\tnger/1",
        "notes://danger:80/1",
        "notes://x@danger/1",
        "notes:danger/1",
    ):
        yield json.dumps(message("resources/read", uri=uri)).encode()


# names of MCP headers, and values; for a body that is safe and one that is not
HEADERS: list[dict[str, str]] = [
    {},
    {"mcp-method": "tools/call", "mcp-name": "safe"},
    {"mcp-method": "tools/call", "mcp-name": "danger"},
    {"mcp-method": "tools/call", "mcp-name": "=?base64?ZGFuZ2Vy?="},
    {"mcp-method": "tools/call", "mcp-name": "=?base64?c2FmZQ==?="},
    {"mcp-method": "tools/list"},
    {"mcp-name": "danger"},
]


def modern(content: dict[str, Any]) -> bytes:
    return json.dumps({**content, "params": {**content["params"], "_meta": MODERN}}).encode()


def requests() -> Iterator[tuple[bytes, dict[str, str]]]:
    for body in bodies():
        yield body, {"mcp-protocol-version": "2025-11-25"}
    for name in ("safe", "danger"):
        for headers in HEADERS:
            yield modern(tool(name)), {"mcp-protocol-version": "2026-07-28", **headers}
    yield DANGER.encode(), {"content-type": "application/json; charset=utf-16"}
    yield DANGER.encode(), {"content-type": "application/json; charset=latin-1"}


async def executed(app: Any, done: list[str], body: bytes, headers: dict[str, str]) -> list[str]:
    done.clear()
    await post(app, body, {**MCP_HEADERS, **READER, **headers})
    return [*done]


@pytest.mark.parametrize("make", [sdk, fastmcp])
async def test_no_body_makes_a_server_do_what_the_caller_may_not(
    make: Callable[[list[str]], App],
) -> None:
    done: list[str] = []
    ruled, free = guard(make(done), RULES), guard(make(done), [])
    reached = 0
    async with started(ruled), started(free):
        sent = [*requests()]
        for body, headers in sent:
            assert "danger" not in await executed(ruled, done, body, headers), (body, headers)
            without = await executed(free, done, body, headers)
            reached += "danger" in without
        assert len(sent) >= 60
        assert reached >= 15  # bodies that are dangerous without rules
        assert await executed(ruled, done, SAFE.encode(), {}) == ["safe"]
