"""P14: what rules for tools add to a request, and what filtering a list costs."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from report import Row, main, median_ratio, micros, note, spread
from workload import BASE_URL, MCP_PATH, REQUIRED_SCOPES, RESOURCE, application, mint

from asgi_mcp_auth import JWTVerifier, MCPAuthMiddleware, Method, Resource, Tool
from asgi_mcp_auth.testing import Issuer

RULES = [
    Tool("delete_*", scopes=["notes:write"]),
    Tool("search", public=True),
    Tool("admin_*", scopes=["notes:admin"], hidden=True),
    Resource("notes://private/{id}", scopes=["notes:private"]),
    Method("logging/setLevel", scopes=["notes:admin"]),
]
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "Example", "version": "1.0.0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
TOOLS = [
    {
        "name": f"{'admin' if number % 4 == 0 else 'notes'}_{number}",
        "description": "Does something with a note, in a sentence of the usual length.",
        "inputSchema": {
            "type": "object",
            "properties": {"id": {"type": "string"}, "text": {"type": "string"}},
            "required": ["id"],
        },
    }
    for number in range(200)
]
LIST = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": TOOLS}}).encode()

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


async def listing(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with a list of 200 tools."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(LIST))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": LIST})


def measure(quick: bool) -> Iterator[Row]:
    """Send the same message with rules and without, round after round."""
    note("P14")
    rounds = 5 if quick else 21
    with Issuer() as idp:
        verifier = JWTVerifier(
            jwks_uri=idp.jwks_uri,
            issuer=idp.issuer,
            audience=RESOURCE,
            required_scopes=REQUIRED_SCOPES,
            base_url=BASE_URL,
        )
        (token,) = mint(idp, 1)
        for size, name, count, goal in ((1_700, "2 KB", 2_000, 1.3), (1 << 20, "1 MiB", 20, 1.25)):
            body = _message("tools/call", {"name": "read", "arguments": {"text": "x" * size}})
            loads = functools.partial(json.loads, body)
            costs = asyncio.run(_costs(verifier, application, token, body, count, rounds, loads))
            yield _call_row(name, costs, goal, beside_warm=name == "2 KB")
        body = _message("tools/list", {})
        yield _list_row(
            asyncio.run(_costs(verifier, listing, token, body, 50, rounds, _parse_and_write))
        )


def _parse_and_write() -> bytes:
    return json.dumps(json.loads(LIST)).encode()


def _message(method: str, params: dict[str, Any]) -> bytes:
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": {**params, "_meta": META}}
    return json.dumps(message).encode()


async def _costs(
    verifier: JWTVerifier,
    app: App,
    token: str,
    body: bytes,
    count: int,
    rounds: int,
    beside: Callable[[], object],
) -> dict[str, list[float]]:
    """Measure one request with rules and without, and ``beside``, round after round."""
    ways = {
        "without": MCPAuthMiddleware(app, verifier, mcp_path=MCP_PATH),
        "with": MCPAuthMiddleware(app, verifier, mcp_path=MCP_PATH, rules=RULES),
    }
    costs: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, wrapped in ways.items():
            costs[name].append(await _timed(wrapped, token, body, count))
        start = time.thread_time_ns()
        for _ in range(count):
            beside()
        costs["beside"].append((time.thread_time_ns() - start) / count)
    return costs


async def _timed(app: App, token: str, body: bytes, count: int) -> float:
    """Return the nanoseconds of CPU time of one request."""
    headers = [
        (b"host", b"mcp.example.com"),
        (b"authorization", b"Bearer " + token.encode()),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"accept", b"application/json, text/event-stream"),
    ]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        """Send nothing anywhere."""

    start = time.thread_time_ns()
    for _ in range(count):
        scope = {
            "type": "http",
            "method": "POST",
            "path": MCP_PATH,
            "raw_path": MCP_PATH.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("192.0.2.1", 50_000),
        }
        await app(scope, receive, send)
    return (time.thread_time_ns() - start) / count


def _call_row(name: str, costs: dict[str, list[float]], goal: float, beside_warm: bool) -> Row:
    if beside_warm:
        above, below = costs["with"], _sum(costs["without"], costs["beside"])
        what = "a warm request without rules and one `json.loads` of the body"
    else:
        above, below = _difference(costs["with"], costs["without"]), costs["beside"]
        what = "one `json.loads` of the body, for what the rules add"
    return Row(
        "P14",
        f"`tools/call` of {name} with five rules, token seen before, all of the request",
        micros(costs["with"]),
        f"without rules {micros(costs['without'])}, `json.loads` {micros(costs['beside'])}",
        f"{spread(above, below)}× {what}",
        f"≤ {goal}×",
        median_ratio(above, below) <= goal,
    )


def _list_row(costs: dict[str, list[float]]) -> Row:
    above, below = _difference(costs["with"], costs["without"]), costs["beside"]
    return Row(
        "P14",
        "a list of 200 tools, of which 50 are hidden, filtered",
        micros(above),
        f"parsing and writing it {micros(below)}",
        f"{spread(above, below)}× parsing and writing it",
        "≤ 1.5×",
        median_ratio(above, below) <= 1.5,
    )


def _sum(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a + b for a, b in zip(one, other, strict=True)]


def _difference(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]


if __name__ == "__main__":
    main(measure)
