"""`make demo`: a real MCP client meets a protected MCP server, step by step, on this machine only.

The identity provider is asgi_mcp_auth.testing.Issuer, the server is the MCP SDK's behind MCPAuthMiddleware on uvicorn,
the client is the MCP SDK's. A step that does not turn out as expected makes the exit code 1.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import uvicorn
from mcp import Client
from mcp.client.auth.utils import extract_resource_metadata_from_www_auth
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer

from asgi_mcp_auth import AuthEvent, JWTVerifier, MCPAuthMiddleware, RemoteAuthProvider, get_access_token
from asgi_mcp_auth.testing import Issuer


class NotAsExpected(Exception):
    """A step of the demo went another way; the message says which."""


class Page:
    """Prints calmly: numbered steps, facts below them, colour only on a terminal."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.steps = 0

    def title(self, text: str) -> None:
        print(f"\n  {self._paint('1', text)}\n")

    def step(self, text: str) -> None:
        self.steps += 1
        print(f"\n  {self._paint('1;36', str(self.steps))}  {self._paint('1', text)}")

    def say(self, text: str) -> None:
        print(textwrap.fill(text, 100, initial_indent="     ", subsequent_indent="     "))

    def status(self, response: httpx2.Response) -> None:
        colour = "32" if response.is_success else "33"
        print(f"     {self._paint(colour, f'→ {response.status_code} {response.reason_phrase}')}")

    def facts(self, facts: Mapping[str, Any]) -> None:
        width = max(map(len, facts))
        for name, value in facts.items():
            print(f"       {self._paint('2', name.ljust(width))}  {value}")

    def challenge(self, response: httpx2.Response) -> None:
        scheme, _, attributes = response.headers["www-authenticate"].partition(" ")
        print(f"       {self._paint('2', 'WWW-Authenticate:')} {scheme}")
        for attribute in attributes.split(", "):
            print(f"         {attribute}")

    def end(self, colour: str, text: str) -> None:
        print(f"\n  {self._paint(colour, text)}\n")

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def notes_server() -> MCPServer[Any]:
    """Return an MCP server with one tool. Nothing in it is about authorization but the question who calls."""
    server: MCPServer[Any] = MCPServer("notes", log_level="CRITICAL")

    @server.tool()
    def whoami() -> str:
        token = get_access_token()
        return f"You are {token.subject}, calling through {token.client_id}." if token else "You are nobody."

    return server


@contextmanager
def serving(idp: Issuer, events: list[AuthEvent]) -> Iterator[str]:
    """Run the protected server on a free port of this machine; yield its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        provider = RemoteAuthProvider(
            JWTVerifier(issuer=idp.issuer, required_scopes=["notes:read"]),
            authorization_servers=[idp.issuer],
            base_url=base_url,
        )
        app = MCPAuthMiddleware(notes_server().streamable_http_app(), provider, mcp_path="/mcp", on_event=events.append)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise NotAsExpected("the server did not start")
                time.sleep(0.01)
            yield base_url
        finally:
            server.should_exit = True
            thread.join(10)


@dataclass
class Attempt:
    """What became of one tool call of the MCP client: its answer, or the response that refused it."""

    answer: str | None = None
    refusal: httpx2.Response | None = None


async def call_whoami(url: str, token: str | None = None) -> Attempt:
    """Call the tool with the MCP SDK's client, as any MCP client would."""
    attempt = Attempt()

    async def watch(response: httpx2.Response) -> None:
        if response.status_code >= 400 and attempt.refusal is None:
            await response.aread()
            attempt.refusal = response

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with (
            httpx2.AsyncClient(headers=headers, event_hooks={"response": [watch]}, timeout=10) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            result = await client.call_tool("whoami")
            attempt.answer = getattr(result.content[0], "text", None)
    except Exception as error:  # the client raises what it likes; a response that made it do so says more
        if attempt.refusal is None:
            raise NotAsExpected(f"the client failed: {error!r}") from error
    return attempt


def refused(attempt: Attempt, status: int) -> httpx2.Response:
    """Return the response that refused the call; it must be a `status`."""
    if attempt.refusal is None:
        raise NotAsExpected(f"expected a {status}, but the tool answered: {attempt.answer}")
    if attempt.refusal.status_code != status:
        raise NotAsExpected(f"expected a {status}, but it was a {attempt.refusal.status_code}")
    return attempt.refusal


def must_equal(what: str, found: object, expected: object) -> None:
    """Stop the demo when something is not what it should be."""
    if found != expected:
        raise NotAsExpected(f"{what} should be {expected!r}, but is {found!r}")


async def tour(page: Page, idp: Issuer, base_url: str, events: list[AuthEvent]) -> None:
    """Go through the steps."""
    url = f"{base_url}/mcp"
    audience = url

    page.step("The client calls a tool without a token")
    refusal = refused(await call_whoami(url), 401)
    page.status(refusal)
    page.challenge(refusal)
    page.say("Not an error yet: the answer says where to read how to get in, and which scope to ask for.")
    metadata_url = extract_resource_metadata_from_www_auth(refusal)
    must_equal("resource_metadata", metadata_url, f"{base_url}/.well-known/oauth-protected-resource/mcp")

    page.step("The client reads that document, and finds the identity provider")
    async with httpx2.AsyncClient() as http:
        response = await http.get(str(metadata_url))
        page.status(response)
        document = response.json()
        page.facts({name: json.dumps(value) for name, value in document.items()})
        must_equal("resource", document["resource"], url)
        must_equal("authorization_servers", document["authorization_servers"], [idp.issuer])
        found = await http.get(f"{document['authorization_servers'][0]}/.well-known/oauth-authorization-server")
        must_equal("the provider's name in its own document", found.json()["issuer"], idp.issuer)
    page.say(f"The provider in turn says where people sign in: {found.json()['authorization_endpoint']}")

    page.step("The client gets a token")
    page.say("Usually a browser opens here and a person signs in. This provider hands one out at once, for Alice.")
    token = idp.mint(aud=audience, scope="notes:read", sub="alice", client_id="demo-client")
    page.facts(
        {
            "sub": "alice, the person",
            "client_id": "demo-client, the program that acts for her",
            "aud": f"{audience}, the only place where it is good",
            "scope": "notes:read, what it allows",
            "exp": "in five minutes",
        }
    )

    page.step("The client calls the tool again, with the token")
    attempt = await call_whoami(url, token)
    if attempt.refusal is not None:
        raise NotAsExpected(f"expected an answer, but it was a {attempt.refusal.status_code}")
    must_equal("the answer", attempt.answer, "You are alice, calling through demo-client.")
    page.say(f"The tool answers: “{attempt.answer}”")

    async def refusal_for(status: int, reason: str, **claims: Any) -> None:
        events.clear()
        response = refused(await call_whoami(url, idp.mint(**claims)), status)
        page.status(response)
        page.challenge(response)
        must_equal("the reason", events[0].reason, reason)
        page.facts({"on the server, on_event got": f"reason={reason!r}"})

    page.step("A token that has expired is refused")
    await refusal_for(401, "expired", aud=audience, scope="notes:read", exp=int(time.time()) - 1)
    page.say("The client is told only to get a new token. Why, the operator reads in the log or in on_event.")

    page.step("A good token that was made for another server is refused")
    await refusal_for(401, "audience", aud="https://calendar.example.com/mcp", scope="notes:read")
    page.say("Same provider, same person, valid signature. Without this check, the calendar could be Alice here.")

    page.step("A token that allows too little is refused, with what is missing")
    await refusal_for(403, "insufficient_scope", aud=audience, scope="profile")
    page.say("A 403, not a 401: the client knows who she is and asks for the scope that is missing.")


def main(idp: Issuer) -> int:
    """Show everything; return the exit code."""
    logging.getLogger().addHandler(logging.NullHandler())  # the page says what happens, so the libraries need not
    page, events, began = Page(), list[AuthEvent](), time.monotonic()
    page.title("asgi-mcp-auth: a real MCP client meets a protected MCP server")
    try:
        with serving(idp, events) as base_url:
            page.facts(
                {
                    "identity provider": f"{idp.issuer}  (asgi_mcp_auth.testing.Issuer)",
                    "MCP server": f"{base_url}/mcp  (MCP SDK, behind MCPAuthMiddleware, on uvicorn)",
                    "MCP client": "MCP SDK",
                }
            )
            asyncio.run(tour(page, idp, base_url, events))
    except NotAsExpected as problem:
        page.end("1;31", f"✗ Step {page.steps} did not turn out as expected: {problem}")
        return 1
    page.end("1;32", f"✓ All {page.steps} steps turned out as expected, in {time.monotonic() - began:.1f} s.")
    print("  Next: the five-minute start in README.md, and the small servers in examples/.\n")
    return 0


if __name__ == "__main__":
    with Issuer() as issuer:
        sys.exit(main(issuer))
