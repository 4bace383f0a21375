"""Real MCP clients. Each gets a URL and nothing else, finds out where to sign in, and calls tools.

async with CLIENTS["python-sdk"](url, "alice") as client:
    said = await client.call("whoami")
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
import webbrowser
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from fastmcp import Client as FastMCPClient
from fastmcp.client.auth import OAuth
from key_value.aio.stores.memory import MemoryStore
from mcp import Client, StdioServerParameters
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)

from tests.interop.browser import Browser, Person, browser_command
from tests.interop.identity_provider import FOLDER, REDIRECT_URI, node_with_packages
from tests.support.services import need_node, need_node_modules

Era = Literal["legacy", "auto"]
"""How the Python SDK greets a server: with ``initialize`` and a session, or, from 2026-07-28 on,
with ``server/discover`` and none.
"""

NPM = Path(__file__).parent / "npm"
SECONDS = 30


class Connection(ABC):
    """A client that knows a server's URL."""

    @property
    @abstractmethod
    def opened(self) -> list[str]:
        """The URLs that were opened in a browser so far."""

    @property
    def sign_ins(self) -> int:
        """How often a person had to act so far."""
        return len(self.opened)

    @property
    def asked(self) -> set[str]:
        """The scopes that were asked for the last time."""
        return {*dict(parse_qsl(urlsplit(self.opened[-1]).query))["scope"].split()}

    @abstractmethod
    async def call(self, tool: str) -> str:
        """Call a tool and return what it said.

        Raises:
            Exception: whatever the client raises.
        """

    @abstractmethod
    async def tools(self) -> set[str]:
        """Return the names of the tools that the server lists."""

    async def call_at_once(self, tool: str, times: int) -> list[str]:
        """Call a tool several times at once."""
        return await asyncio.gather(*(self.call(tool) for _ in range(times)))

    def wait_for_expiry(self) -> None:  # noqa: B027  # optional
        """Let the client's own clock reach the end of its access token, if it looks at one."""


class Refused(Exception):
    """A client in a process of its own did not get an answer; the message is its own."""


# ------------------------------------------------------------------------------------------- Python


class Memory(TokenStorage):
    """Where a Python client keeps what it gets."""

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


class _InProcess(Connection):
    def __init__(self, client: Any, oauth: OAuthClientProvider, visits: Sequence[str]) -> None:
        self._client = client
        self._oauth = oauth
        self._visits = visits

    @property
    def opened(self) -> list[str]:
        return [*self._visits]

    async def call(self, tool: str) -> str:
        result = await asyncio.wait_for(self._client.call_tool(tool), SECONDS)
        text: str = result.content[0].text
        return text

    async def tools(self) -> set[str]:
        return await _names(self._client)

    def wait_for_expiry(self) -> None:
        self._oauth.context.token_expiry_time = time.time() - 1


async def _names(client: Any) -> set[str]:
    listed = await asyncio.wait_for(client.list_tools(), SECONDS)
    return {tool.name for tool in getattr(listed, "tools", listed)}


@asynccontextmanager
async def python_sdk(
    url: str, person: Person | str = "alice", *, era: Era = "auto", document: str | None = None
) -> AsyncIterator[Connection]:
    """The MCP Python SDK and its OAuth client."""
    person = Person(person) if isinstance(person, str) else person
    visits: list[str] = []
    answers: list[dict[str, str]] = []

    async def to_browser(authorization_url: str) -> None:
        visits.append(authorization_url)
        answers.append(await asyncio.to_thread(person.visit, authorization_url, REDIRECT_URI))

    async def from_browser() -> AuthorizationCodeResult:
        answer = answers[-1]
        if "error" in answer:
            raise Refused(answer["error"])
        return AuthorizationCodeResult(**answer)

    oauth = OAuthClientProvider(
        server_url=url,
        client_metadata=OAuthClientMetadata(
            client_name="MCP Python SDK",
            redirect_uris=[REDIRECT_URI],
            grant_types=["authorization_code", "refresh_token"],
            token_endpoint_auth_method="none",
        ),
        storage=Memory(),
        redirect_handler=to_browser,
        callback_handler=from_browser,
        client_metadata_url=document,
    )
    async with python_sdk_with(url, oauth, era) as client:
        yield _InProcess(client, oauth, visits)


@asynccontextmanager
async def python_sdk_with(url: str, oauth: Any, era: Era = "auto") -> AsyncIterator[Client]:
    """The MCP Python SDK with an OAuth client of the caller's."""
    async with (
        httpx2.AsyncClient(auth=oauth, timeout=10) as http,
        Client(streamable_http_client(url, http_client=http), mode=era) as client,
    ):
        yield client


@asynccontextmanager
async def fastmcp(
    url: str, person: Person | str = "alice", *, document: str | None = None
) -> AsyncIterator[Connection]:
    """FastMCP's client as it is: it opens a browser, and listens for what comes back."""
    browser = Browser(Person(person) if isinstance(person, str) else person)
    webbrowser.register("tests", None, browser, preferred=True)
    with warnings.catch_warnings(action="ignore"):  # it would rather have the tokens on disk
        oauth = OAuth(url, token_storage=MemoryStore(), client_metadata_url=document)
    async with FastMCPClient(url, auth=oauth) as client:
        yield _InProcess(client, oauth, browser.opened)


# --------------------------------------------------------------------- programs that open a browser


class _Desk:
    """A home folder with a browser in it, for a program that is started there."""

    def __init__(self, folder: Path, user: str) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "BROWSER": str(browser_command(folder)),
            "BROWSER_USER": user,
        }

    @property
    def opened(self) -> list[str]:
        opened = self.folder / "opened"
        return opened.read_text().splitlines() if opened.exists() else []

    def trouble(self) -> str:
        trouble = self.folder / "trouble"
        return trouble.read_text() if trouble.exists() else ""


@contextmanager
def _desk(user: str) -> Any:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield _Desk(Path(folder), user)


class _Program(Connection):
    def __init__(self, desk: _Desk) -> None:
        self._desk = desk

    @property
    def opened(self) -> list[str]:
        return self._desk.opened


class _TypeScript(_Program):
    def __init__(self, desk: _Desk, process: subprocess.Popen[str]) -> None:
        super().__init__(desk)
        self._process = process

    async def call(self, tool: str) -> str:
        return (await self.call_at_once(tool, 1))[0]

    async def call_at_once(self, tool: str, times: int) -> list[str]:
        said = json.loads(
            await asyncio.wait_for(asyncio.to_thread(self._ask, [tool] * times), SECONDS)
        )
        if "error" in said:
            raise Refused(f"{said['error']}\n{self._desk.trouble()}")
        answers: list[str] = said["answers"]
        return answers

    async def tools(self) -> set[str]:
        return {*(await self.call("?")).split()}

    def _ask(self, tools: Sequence[str]) -> str:
        stdin, stdout = _pipes(self._process)
        stdin.write(f"{' '.join(tools)}\n")
        stdin.flush()
        return stdout.readline()


@asynccontextmanager
async def typescript(
    url: str,
    user: str = "alice",
    *,
    packages: Path = FOLDER,
    document: str | None = None,
    credentials: Mapping[str, str] | None = None,
) -> AsyncIterator[Connection]:
    """The TypeScript SDK, in a process of its own; see idp/clients/session.mjs.

    Args:
        url: of the server.
        user: who signs in.
        packages: the folder whose packages include the SDK.
        document: the URL of the client's metadata document, if it has one.
        credentials: of a client that acts for itself.
    """
    known = credentials if document is None else {"clientMetadataUrl": document}
    node = node_with_packages() if packages == FOLDER else need_node_modules(packages)
    command = [node, "clients/session.mjs", str(packages), url]
    command += [] if known is None else [json.dumps(known)]
    with _desk(user) as desk, _started(command, desk) as process:
        try:
            yield _TypeScript(desk, process)
        finally:
            _pipes(process)[0].close()
            try:
                await asyncio.to_thread(process.wait, 10)
            finally:
                process.kill()


def _started(command: Sequence[str], desk: _Desk) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, cwd=FOLDER, env=desk.environment, text=True, **pipes)


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


class _Remote(_Program):
    def __init__(self, desk: _Desk, client: Client) -> None:
        super().__init__(desk)
        self._client = client

    async def tools(self) -> set[str]:
        return await _names(self._client)

    async def call(self, tool: str) -> str:
        result = await asyncio.wait_for(self._client.call_tool(tool), SECONDS)
        text: str = result.content[0].text
        return text


@asynccontextmanager
async def mcp_remote(
    url: str, user: str = "alice", *, document: str | None = None
) -> AsyncIterator[Connection]:
    """``mcp-remote``, behind a client that knows only local servers: here the Python SDK over
    stdio.
    """
    _need_xdg_open()
    node, program = need_node_modules(NPM), [str(NPM / "node_modules/mcp-remote/dist/proxy.js")]
    with _desk(user) as desk, (desk.folder / "log").open("w+") as log:
        server = StdioServerParameters(
            command=node,
            args=[*program, url, *(["--client-metadata-url", document] if document else [])],
            env=desk.environment,
        )
        try:
            async with (
                asyncio.timeout(2 * SECONDS),
                Client(stdio_client(server, errlog=log), mode="legacy") as client,
            ):
                yield _Remote(desk, client)
        except Exception as error:
            log.seek(0)
            error.add_note(log.read() + desk.trouble())
            raise


class _Inspector(_Program):
    def __init__(self, desk: _Desk, node: str, url: str, options: Mapping[str, str]) -> None:
        super().__init__(desk)
        launcher = str(
            NPM / "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
        )
        options = {"--callback-url": "http://127.0.0.1:0/oauth/callback", **options}
        self._command = [
            node,
            launcher,
            "--cli",
            url,
            *(part for option in options.items() for part in option),
        ]
        # It opens a browser only where there is a terminal, or where it is told so; secrets go to a
        # keychain or here.
        self._environment = {
            **desk.environment,
            "MCP_AUTO_OPEN_ENABLED": "true",
            "MCP_INSPECTOR_SECRET_STORE": "file",
        }

    async def call(self, tool: str) -> str:
        result = await self._run("tools/call", "--tool-name", tool)
        text: str = result["content"][0]["text"]
        return text

    async def tools(self) -> set[str]:
        return {tool["name"] for tool in (await self._run("tools/list"))["tools"]}

    async def _run(self, method: str, *more: str) -> Any:
        command = [*self._command, "--method", method, *more]
        options = {
            "env": self._environment,
            "capture_output": True,
            "text": True,
            "timeout": SECONDS,
            "check": False,
        }
        process = await asyncio.to_thread(
            subprocess.run, command, stdin=subprocess.DEVNULL, **options
        )
        if process.returncode != 0:
            raise Refused(process.stderr + self._desk.trouble())
        return json.loads(process.stdout)


@asynccontextmanager
async def inspector(
    url: str, user: str = "alice", *, document: str | None = None, **options: str
) -> AsyncIterator[Connection]:
    """The Inspector's command line: a process for each call, and a file in which the next one finds
    its tokens.

    Args:
        url: of the server.
        user: who signs in.
        document: the URL of its metadata document.
        options: more of its options, ``client_id`` for example.
    """
    if document is not None:
        options["client_metadata_url"] = document
    _need_xdg_open()
    node = need_node((22, 19), NPM)
    with _desk(user) as desk:
        yield _Inspector(
            desk, node, url, {f"--{name.replace('_', '-')}": each for name, each in options.items()}
        )


def _need_xdg_open() -> None:
    if sys.platform != "linux":
        pytest.skip("on this system the program would open your own browser")


CLIENTS: dict[str, Callable[..., AbstractAsyncContextManager[Connection]]] = {
    "python-sdk": python_sdk,
    "python-sdk-with-session": functools.partial(python_sdk, era="legacy"),
    "typescript-sdk": typescript,
    "typescript-sdk-2": functools.partial(typescript, packages=NPM),
    "fastmcp": fastmcp,
    "mcp-remote": mcp_remote,
    "inspector": inspector,
}
