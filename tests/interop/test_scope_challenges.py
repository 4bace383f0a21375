"""The scope-challenge contract of the official conformance suite, played step by step.

A draft of that suite (modelcontextprotocol/conformance, issue 480 and pull request 481) gives
servers one thing of each kind, two opaque tokens, and two scopes for each thing. No published
version has the scenario yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import httpx
import pytest
from fastmcp import FastMCP
from mcp.server.mcpserver import MCPServer

from asgi_mcp_auth import (
    AccessToken,
    MCPAuthMiddleware,
    Prompt,
    Refusal,
    RemoteAuthProvider,
    Resource,
    StaticTokenVerifier,
    Tool,
)
from tests.interop.servers import GREETING, MCP_HEADERS
from tests.support.asgi import App, serve
from tests.support.protection import BASE_URL, METADATA_URL

SCOPES = "mcp:conformance"
LOW, FULL = "mcp-conformance-scope-low", "mcp-conformance-scope-full"


class Step(NamedTuple):
    """What is asked for, the two scopes that it needs, and a part of what comes back then."""

    method: str
    params: dict[str, Any]
    scopes: tuple[str, str]
    result: str


STEPS = {
    "tool": Step(
        "tools/call",
        {"name": "test_simple_text"},
        (f"{SCOPES}:tools:call", f"{SCOPES}:tools:test_simple_text"),
        "text from the tool",
    ),
    "static resource": Step(
        "resources/read",
        {"uri": "test://static-text"},
        (f"{SCOPES}:resources:read", f"{SCOPES}:resources:static"),
        "text from the resource",
    ),
    "template resource": Step(
        "resources/read",
        {"uri": "test://template/123/data"},
        (f"{SCOPES}:resources:read", f"{SCOPES}:resources:template:123"),
        "data of 123",
    ),
    "prompt": Step(
        "prompts/get",
        {"name": "test_simple_prompt"},
        (f"{SCOPES}:prompts:get", f"{SCOPES}:prompts:test_simple_prompt"),
        "text from the prompt",
    ),
}


def of_template(variables: Mapping[str, Any], token: AccessToken) -> list[str]:
    """Return what reading one resource of the template needs."""
    return [f"{SCOPES}:resources:read", f"{SCOPES}:resources:template:{variables['id']}"]


RULES = [
    Tool("test_simple_text", scopes=STEPS["tool"].scopes),
    Resource("test://static-text", scopes=STEPS["static resource"].scopes),
    Resource("test://template/{id}/data", scopes=of_template),
    Prompt("test_simple_prompt", scopes=STEPS["prompt"].scopes),
]


def fixture_of(server: Any, used: list[str]) -> Any:
    """Give a server of either library what the contract asks of it."""

    def use(text: str) -> str:
        used.append(text)
        return text

    @server.tool()
    def test_simple_text() -> str:
        return use(STEPS["tool"].result)

    @server.resource("test://static-text")
    def static_text() -> str:
        return use(STEPS["static resource"].result)

    @server.resource("test://template/{id}/data")
    def data(id: str) -> str:
        return use(f"data of {id}")

    @server.prompt()
    def test_simple_prompt() -> str:
        return use(STEPS["prompt"].result)

    return server


LIBRARIES = {
    "mcp-sdk": lambda used: fixture_of(
        MCPServer("contract", log_level="ERROR"), used
    ).streamable_http_app(),
    "fastmcp": lambda used: fixture_of(FastMCP("contract"), used).http_app(),
}


def protected(app: App, events: list[Refusal]) -> App:
    """Put the middleware with the rules of the contract in front of a server."""
    every = {scope for step in STEPS.values() for scope in step.scopes}
    verifier = StaticTokenVerifier(
        {
            LOW: {"client_id": "suite", "scopes": [f"{SCOPES}:baseline"]},
            FULL: {"client_id": "suite", "scopes": sorted(every)},
        }
    )
    provider = RemoteAuthProvider(
        verifier, authorization_servers=["https://issuer.example"], base_url=BASE_URL
    )
    return MCPAuthMiddleware(app, provider, mcp_path="/mcp", rules=RULES, on_event=events.append)


class Played(NamedTuple):
    """A protected server, what was used behind the middleware, and what was refused."""

    http: httpx.Client
    used: list[str]
    events: list[Refusal]

    def session(self, token: str) -> dict[str, str]:
        """Begin a session of MCP 2025-11-25, and return its header."""
        greeted = self.send(GREETING, token)
        headers = {"Mcp-Session-Id": greeted.headers["mcp-session-id"]}
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert self.send(ready, token, headers).status_code == 202
        return headers

    def send(
        self, message: dict[str, Any], token: str, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        known = {**MCP_HEADERS, "Authorization": f"Bearer {token}", **(headers or {})}
        return self.http.post("/mcp", json=message, headers=known)


def asked(step: Step, version: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the message of a step and its headers, in the form of a version of MCP."""
    message = {"jsonrpc": "2.0", "id": 7, "method": step.method, "params": step.params}
    headers = {"MCP-Protocol-Version": version}
    if version == "2025-11-25":
        return message, headers
    about = {"protocolVersion": version, "clientInfo": GREETING["params"]["clientInfo"]}
    meta = {f"io.modelcontextprotocol/{name}": value for name, value in about.items()}
    meta["io.modelcontextprotocol/clientCapabilities"] = {}
    name = step.params.get("name") or step.params["uri"]
    headers |= {"Mcp-Method": step.method, "Mcp-Name": name}
    return {**message, "params": {**step.params, "_meta": meta}}, headers


# Each library and each server once; with HTTP/2, where the server speaks it in the clear.
PLACES = {
    "mcp-sdk on uvicorn": ("mcp-sdk", "uvicorn-h11", "HTTP/1.1"),
    "fastmcp on uvicorn": ("fastmcp", "uvicorn-httptools", "HTTP/1.1"),
    "mcp-sdk on hypercorn": ("mcp-sdk", "hypercorn", "HTTP/2"),
    "mcp-sdk on granian": ("mcp-sdk", "granian", "HTTP/2"),
}


@pytest.fixture(scope="module", params=PLACES)
def played(request: pytest.FixtureRequest) -> Iterator[Played]:
    """Each place in turn."""
    library, server, version = PLACES[request.param]
    used: list[str] = []
    events: list[Refusal] = []
    is_second = version == "HTTP/2"
    with (
        serve(protected(LIBRARIES[library](used), events), server) as url,
        httpx.Client(base_url=url, http1=not is_second, http2=is_second, timeout=10) as http,
    ):
        played = Played(http, used, events)
        assert played.send(GREETING, LOW).http_version == version
        yield played


@pytest.mark.rule("RS-35")
@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_each_thing_is_refused_with_all_its_scopes_at_once_and_given_when_they_are_there(
    played: Played, version: str
) -> None:
    session = played.session(LOW) if version == "2025-11-25" else {}
    for step in STEPS.values():
        played.used.clear()
        played.events.clear()
        message, headers = asked(step, version)
        refused = played.send(message, LOW, {**session, **headers})
        assert refused.status_code == 403
        (challenge,) = refused.headers.get_list("www-authenticate")
        assert challenge.startswith('Bearer error="insufficient_scope", ')
        said = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        assert said["resource_metadata"] == METADATA_URL
        assert said["scope"].split() == [*step.scopes]
        assert [event.reason for event in played.events] == ["insufficient_scope"]
        assert played.used == [], "the server behind was asked"

        given = played.send(message, FULL, {**session, **headers})
        assert (given.status_code, played.used) == (200, [step.result])
        answer = _answer(given)
        assert (answer["id"], step.result in json.dumps(answer["result"])) == (7, True)


def _answer(response: httpx.Response) -> Any:
    """Return the answer in a body, which may be a stream of one event."""
    text = response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        (text,) = re.findall(r"^data: (\{.*)$", text, re.MULTILINE)
    return json.loads(text)
