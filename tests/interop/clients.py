"""Real MCP clients. Each gets a URL and nothing else, finds out where to sign in, and calls a tool."""

from __future__ import annotations

import asyncio
import json
import subprocess
import warnings
import webbrowser
from dataclasses import dataclass
from typing import Any, Literal

import httpx2
from fastmcp import Client as FastMCPClient
from fastmcp.client.auth import OAuth
from key_value.aio.stores.memory import MemoryStore
from mcp import Client
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from tests.interop.browser import Browser, sign_in
from tests.interop.identity_provider import FOLDER, REDIRECT_URI, node_with_packages

Era = Literal["legacy", "auto"]
"""How the Python SDK greets a server: ``initialize`` and a session, or ``server/discover`` and none (2026-07-28)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a tool call.

    Attributes:
        text: what the tool said.
        sign_ins: how often a person had to act.
        scopes: of the access token at the end.
    """

    text: str
    sign_ins: int
    scopes: set[str]

    def json(self) -> Any:
        """Return what the tool said, parsed."""
        return json.loads(self.text)


class _Memory(TokenStorage):
    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


async def python_sdk(url: str, tool: str, user: str = "alice", era: Era = "auto") -> Answer:
    """Call the tool with the MCP Python SDK and its OAuth client."""
    answers: list[dict[str, str]] = []
    memory = _Memory()

    async def to_browser(authorization_url: str) -> None:
        answers.append(await asyncio.to_thread(sign_in, authorization_url, REDIRECT_URI, user))

    async def from_browser() -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**answers[-1])

    oauth = OAuthClientProvider(
        server_url=url,
        client_metadata=OAuthClientMetadata(
            client_name="MCP Python SDK",
            redirect_uris=[REDIRECT_URI],
            grant_types=["authorization_code"],
            token_endpoint_auth_method="none",
        ),
        storage=memory,
        redirect_handler=to_browser,
        callback_handler=from_browser,
    )
    async with (
        httpx2.AsyncClient(auth=oauth, timeout=10) as http,
        Client(streamable_http_client(url, http_client=http), mode=era) as client,
    ):
        result = await client.call_tool(tool)
    assert not result.is_error, result
    assert memory.tokens is not None
    return Answer(result.content[0].text, len(answers), set((memory.tokens.scope or "").split()))


async def fastmcp(url: str, tool: str, user: str = "alice") -> Answer:
    """Call the tool with FastMCP's client as it is: it opens a browser, and listens for what comes back."""
    browser = Browser(user)
    webbrowser.register("tests", None, browser, preferred=True)
    with warnings.catch_warnings(action="ignore"):  # it would rather have the tokens on disk
        oauth = OAuth(url, token_storage=MemoryStore())
    async with FastMCPClient(url, auth=oauth) as client:
        result = await client.call_tool(tool)
    tokens = await oauth.token_storage_adapter.get_tokens()
    assert tokens is not None
    return Answer(result.content[0].text, len(browser.opened), set((tokens.scope or "").split()))


async def typescript(url: str, tool: str, user: str = "alice") -> Answer:
    """Call the tool with the TypeScript SDK, in a process of its own; see idp/clients/call_tool.mjs."""
    command = [node_with_packages(), "clients/call_tool.mjs", url, tool, user]
    options = {"cwd": FOLDER, "capture_output": True, "text": True, "timeout": 30, "check": False}
    process = await asyncio.to_thread(subprocess.run, command, **options)
    assert process.returncode == 0, process.stderr
    said = json.loads(process.stdout)
    return Answer(said["answer"], said["signIns"], set(said["scopes"].split()))
