"""`make demo`: a real MCP client meets a protected MCP server that signs people in itself, on this
machine only.

The server is the MCP SDK's behind MCPAuthMiddleware and OAuthProvider, on uvicorn, with a SQLite
file in a temporary folder. The client is the MCP SDK's; what it does is told as it does it. Alice
is a script that fills in the real HTML forms. A step that does not turn out as expected makes the
exit code 1.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx2
import uvicorn
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)

from asgi_mcp_auth import (
    MCPAuthMiddleware,
    OAuthProvider,
    PasswordLogin,
    Refusal,
    get_access_token,
)
from asgi_mcp_auth.server import AuditEvent, Lifetimes, Pages, ServerOptions
from asgi_mcp_auth.testing import FrozenClock

PASSWORD = "correct horse battery staple"
REDIRECT_URI = "http://127.0.0.1:33418/callback"
TOKEN_SECONDS = 300


class NotAsExpected(Exception):
    """A step of the demo went another way; the message says which."""


class Screen:
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
        colour, path = "32" if response.is_success else "33", response.request.url.path
        answer = self._paint(colour, f"→ {response.status_code} {response.reason_phrase}")
        print(f"     {response.request.method} {path}  {answer}")

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


# --------------------------------------------------------------------------------------- the server


class Deployment:
    """A protected MCP server, and what it reports."""

    token_seconds = TOKEN_SECONDS

    def __init__(self, base_url: str, folder: Path) -> None:
        self.base_url = base_url
        self.clock = FrozenClock(time.time())  # stands still, so that the demo can let time pass
        self.refusals: list[Refusal] = []
        self.events: list[AuditEvent] = []
        server: MCPServer[Any] = MCPServer("notes", log_level="CRITICAL")
        self.add_tool(server)
        provider = self.new_provider(
            base_url=base_url,
            store=f"sqlite:///{folder}/auth.db",
            required_scopes=["notes:read"],
            lifetimes=Lifetimes(access_token_seconds=self.token_seconds),
            pages=Pages(title="Notes", scope_descriptions={"notes:read": "Read your notes"}),
            options=ServerOptions(clock=self.clock, on_event=self.events.append),
        )
        inner = server.streamable_http_app()
        self.app = MCPAuthMiddleware(
            inner, provider, mcp_path="/mcp", on_event=self.refusals.append
        )

    def new_provider(self, **settings: Any) -> OAuthProvider:
        """Return what signs people in."""
        return OAuthProvider(login=PasswordLogin({"alice": PASSWORD}), **settings)

    def add_tool(self, server: MCPServer[Any]) -> None:
        """Give the server something to do."""

        @server.tool()
        def whoami() -> str:
            token = get_access_token()
            return f"You are {token.subject}." if token else "You are nobody."


AnyDeployment = TypeVar("AnyDeployment", bound=Deployment)


@contextmanager
def serving(deploy: Callable[[str], AnyDeployment]) -> Iterator[AnyDeployment]:
    """Run a server on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        deployment = deploy(f"http://127.0.0.1:{listener.getsockname()[1]}")
        server = uvicorn.Server(
            uvicorn.Config(deployment.app, log_config=None, timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise NotAsExpected("the server did not start")
                time.sleep(0.01)
            yield deployment
        finally:
            server.should_exit = True
            thread.join(10)


# -------------------------------------------------------------------------------------------- Alice


class Page(HTMLParser):
    """What a person sees of an HTML page: the texts of its elements, and its first form."""

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__()
        self.response = response
        self.action = ""
        self.fields: dict[str, str] = {}
        self._forms = 0
        self._into: list[str] | None = None
        self.texts: dict[str, list[str]] = {
            tag: [] for tag in ("h1", "dt", "dd", "li", "p", "article")
        }
        self.alert: list[str] = []
        self.feed(response.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self._forms += tag == "form"
        if tag == "form" and self._forms == 1:
            self.action = urljoin(str(self.response.url), named.get("action", ""))
        elif tag == "input" and self._forms == 1:
            self.fields[named["name"]] = named["value"]
        elif tag in self.texts:
            self._into = self.alert if named.get("role") == "alert" else self.texts[tag]
            self._into.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.texts:
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into:
            self._into[-1] += data


class Alice:
    """A person at a browser, as a script: follows redirects, keeps cookies, fills in forms.

    Args:
        password: what she types.
        button: what she presses when the client asks to act on her behalf.

    Attributes:
        browser: keeps her cookies.
        visited: the answers that her browser got, in order.
    """

    browser: httpx2.AsyncClient

    def __init__(self, password: str, button: str) -> None:
        self.password = password
        self.button = button
        self.visited: list[httpx2.Response] = []

    async def open(self, url: str, heading: str) -> Page:
        """Open a URL; a page with this heading must come up."""
        return self._seen(await self._follow(await self.browser.get(url)), heading)

    async def submit(self, page: Page, heading: str, **typed: str) -> Page:
        """Fill in the page's form and send it; a page with this heading must come up."""
        return self._seen(await self.send(page, **typed), heading)

    async def send(self, page: Page, **typed: str) -> httpx2.Response:
        """Fill in the page's form and send it; return what comes up, or the redirect that leads to
        the client.
        """
        return await self._follow(await self.browser.post(page.action, data=page.fields | typed))

    async def _follow(self, response: httpx2.Response) -> httpx2.Response:
        self.visited.append(response)
        while response.has_redirect_location and not response.headers["location"].startswith(
            REDIRECT_URI
        ):
            response = await self.browser.get(
                urljoin(str(response.url), response.headers["location"])
            )
            self.visited.append(response)
        return response

    def _seen(self, response: httpx2.Response, heading: str) -> Page:
        page = Page(response)
        if page.alert:
            raise NotAsExpected(f"the page says: {page.alert[0]}")
        must_equal("the heading of the page", page.texts["h1"], [heading])
        return page


# --------------------------------------------------------------------------------------- the client


class Conversation:
    """What passes between the client, the server and the browser, one thing at a time; it is also
    the client's memory.

    Attributes:
        opened: URLs that the client opens in a browser.
        brought_back: what the browser then brings to the client.
    """

    def __init__(self) -> None:
        self._answers: asyncio.Queue[httpx2.Response] = asyncio.Queue()
        self.opened: asyncio.Queue[str] = asyncio.Queue()
        self.brought_back: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.tokens = OAuthToken(access_token="")

    def oauth(self, url: str) -> OAuthClientProvider:
        """Return the MCP SDK's OAuth client; it gets the server's URL and nothing else."""
        metadata = OAuthClientMetadata(
            client_name="Demo client",
            redirect_uris=[REDIRECT_URI],
            grant_types=["authorization_code", "refresh_token"],
            token_endpoint_auth_method="none",
        )
        return OAuthClientProvider(url, metadata, self, self.opened.put, self._come_back)

    async def _come_back(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**await self.brought_back.get())

    async def get_tokens(self) -> OAuthToken | None:
        return None  # nothing from before

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        pass  # a real client would keep it, to register only once

    async def heard(self, response: httpx2.Response) -> None:
        """Keep an answer for the tour, but for those of the MCP server itself."""
        if response.request.url.path != "/mcp" or response.is_error:
            await response.aread()
            self._answers.put_nowait(response)

    async def answer(self, path: str, status: int) -> httpx2.Response:
        """Return the answer that the client gets next, which must be this one."""
        response = await in_time(self._answers.get())
        must_equal(
            "the next answer",
            f"{response.request.url.path} {response.status_code}",
            f"{path} {status}",
        )
        return response


async def in_time(awaitable: Awaitable[Any]) -> Any:
    """Wait, but not for ever."""
    try:
        return await asyncio.wait_for(awaitable, 10)
    except TimeoutError:
        raise NotAsExpected("nothing happened for ten seconds") from None


def must_equal(what: str, found: object, expected: object) -> None:
    """Stop the demo when something is not what it should be."""
    if found != expected:
        raise NotAsExpected(f"{what} should be {expected!r}, but is {found!r}")


# ----------------------------------------------------------------------------------------- the tour


async def tell_sign_in(screen: Screen, talk: Conversation, alice: Alice, base_url: str) -> None:
    """Tell how the client, which knows nothing but a URL, gets a token."""
    screen.step("The client greets the server, without a token")
    response = await talk.answer("/mcp", 401)
    screen.status(response)
    screen.challenge(response)
    screen.say(
        "Not an error yet: the answer says where to read how to get in, and which scope to ask for."
    )

    screen.step("The client reads that document, and what it points to")
    response = await talk.answer("/.well-known/oauth-protected-resource/mcp", 200)
    screen.status(response)
    must_equal("resource", response.json()["resource"], f"{base_url}/mcp")
    must_equal("authorization_servers", response.json()["authorization_servers"], [base_url])
    screen.facts({name: response.json()[name] for name in ("resource", "authorization_servers")})
    response = await talk.answer("/.well-known/oauth-authorization-server", 200)
    screen.status(response)
    must_equal("issuer", response.json()["issuer"], base_url)
    screen.facts(
        {
            name: response.json()[f"{name}_endpoint"]
            for name in ("registration", "authorization", "token")
        }
    )

    screen.step("The client registers: nobody has told the server about it before")
    response = await talk.answer("/register", 201)
    screen.status(response)
    screen.facts(
        {name: response.json()[name] for name in ("client_id", "client_name", "redirect_uris")}
    )

    screen.step("The client opens a browser, and Alice signs in")
    page = await alice.open(await in_time(talk.opened.get()), "Sign in")
    screen.status(page.response)
    screen.say(
        "She types her name and her password into the server's own page. The client sees neither."
    )
    page = await alice.submit(
        page,
        "Allow “Demo client” to act on your behalf?",
        username="alice",
        password=alice.password,
    )

    screen.step("Alice is asked whether the client may act on her behalf")
    screen.status(page.response)
    seen = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    screen.facts({**seen, "It will be able to": ", ".join(page.texts["li"])})
    screen.say(f"She presses “{alice.button}”.")
    back = await alice.send(page, action={"Allow": "approve", "Deny": "deny"}[alice.button])
    brought = dict(parse_qsl(urlsplit(back.headers["location"]).query))
    must_equal("what the browser brings back", sorted(brought), ["code", "iss", "state"])
    talk.brought_back.put_nowait(brought)

    screen.step("The browser brings a code to the client, which trades it for tokens")
    response = await talk.answer("/token", 200)
    screen.status(response)
    screen.facts(
        {
            "access_token": (
                f"{response.json()['access_token'][:16]}…, good for {TOKEN_SECONDS // 60} minutes"
            ),
            "scope": f"{response.json()['scope']}, what it allows",
            "refresh_token": (
                f"{response.json()['refresh_token'][:16]}…, good for the next pair, once"
            ),
        }
    )


async def tell_the_rest(
    screen: Screen,
    talk: Conversation,
    alice: Alice,
    deployment: Deployment,
    client: Client,
    oauth: OAuthClientProvider,
) -> None:
    """Tell what the token is good for, and for how long."""
    url = f"{deployment.base_url}/mcp"

    async def ask() -> str:
        return str(getattr((await client.call_tool("whoami")).content[0], "text", None))

    screen.step("The client calls the tool, with the token")
    must_equal("the answer", await in_time(ask()), "You are alice.")
    screen.say("The tool answers: “You are alice.”")

    screen.step("Six minutes later the token has expired, and is refused")
    deployment.clock.advance(TOKEN_SECONDS + 60)
    old = talk.tokens
    async with httpx2.AsyncClient() as http:
        refused = await http.post(url, headers={"Authorization": f"Bearer {old.access_token}"})
    must_equal("the status", refused.status_code, 401)
    screen.status(refused)
    screen.challenge(refused)
    screen.facts({"on the server, on_event got": f"reason={deployment.refusals[-1].reason!r}"})
    must_equal("the reason", deployment.refusals[-1].reason, "expired")
    screen.say(
        "Clients are told only to get a new token. Why, the operator reads in the log or in"
        " on_event."
    )

    screen.step("The client gets a new token by itself, and the tool answers again")
    oauth.context.token_expiry_time = time.time()  # its watch goes forward, too
    must_equal("the answer", await in_time(ask()), "You are alice.")
    screen.status(await talk.answer("/token", 200))
    must_equal(
        "whether the refresh token is new", talk.tokens.refresh_token != old.refresh_token, True
    )
    screen.say(
        "Alice has not noticed. The old refresh token is used up: a thief who shows it ends the"
        " whole grant."
    )

    screen.step("Alice looks at what she has allowed, and takes it back")
    page = await alice.open(f"{deployment.base_url}/applications", "Your applications")
    screen.status(page.response)
    (allowed,) = [text for text in page.texts["p"] if "allowed on" in text]
    screen.say(f"She finds “Demo client”, {allowed}, and presses “Revoke”.")
    page = await alice.submit(page, "Your applications")
    must_equal("applications on the page", page.texts["article"], [])
    event = deployment.events[-1]
    screen.facts(
        {"on the server, on_event got": f"action={event.action!r}, reason={event.reason!r}"}
    )
    must_equal("the event", (event.action, event.reason), ("grant_revoked", "by_user"))

    screen.step("The next call is refused, although the token has not expired")
    call = asyncio.ensure_future(ask())
    response = await talk.answer("/mcp", 401)
    screen.status(response)
    screen.facts({"on the server, on_event got": f"reason={deployment.refusals[-1].reason!r}"})
    must_equal("the reason", deployment.refusals[-1].reason, "revoked")
    await in_time(talk.opened.get())
    call.cancel()
    screen.say("The client opens the browser again: without Alice, it cannot go on.")


async def tour(screen: Screen, deployment: Deployment, alice: Alice) -> None:
    """Go through the steps."""
    url, talk = f"{deployment.base_url}/mcp", Conversation()
    oauth = talk.oauth(url)
    async with asyncio.TaskGroup() as tasks, httpx2.AsyncClient(timeout=10) as browser:
        alice.browser = browser
        signed_in = tasks.create_task(tell_sign_in(screen, talk, alice, deployment.base_url))
        async with (
            httpx2.AsyncClient(
                auth=oauth, event_hooks={"response": [talk.heard]}, timeout=10
            ) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            await signed_in
            await tell_the_rest(screen, talk, alice, deployment, client, oauth)


def problem_in(error: BaseException) -> NotAsExpected | None:
    """Return what did not turn out as expected, however deep the tasks have wrapped it."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(problem_in, error.exceptions)), None)
    return error if isinstance(error, NotAsExpected) else None


def run(title: str, show: Callable[[Screen], None]) -> int:
    """Show everything; return the exit code."""
    # the screen says what happens, so the libraries need not
    logging.getLogger().addHandler(logging.NullHandler())
    screen, began = Screen(), time.monotonic()
    screen.title(title)
    try:
        show(screen)
    except (NotAsExpected, BaseExceptionGroup) as error:
        problem = problem_in(error)
        if problem is None:
            raise
        screen.end("1;31", f"✗ Step {screen.steps} did not turn out as expected: {problem}")
        return 1
    screen.end(
        "1;32",
        f"✓ All {screen.steps} steps turned out as expected, in {time.monotonic() - began:.1f} s.",
    )
    return 0


def main(password: str = PASSWORD, button: str = "Allow") -> int:
    """Show a server that signs people in itself; return the exit code."""

    def show(screen: Screen) -> None:
        with (
            tempfile.TemporaryDirectory() as folder,
            serving(lambda base_url: Deployment(base_url, Path(folder))) as deployment,
        ):
            screen.facts(
                {
                    "MCP server": (
                        f"{deployment.base_url}/mcp  (MCP SDK, MCPAuthMiddleware, OAuthProvider, on"
                        " uvicorn)"
                    ),
                    "MCP client": "MCP SDK; it knows this URL, and nothing else",
                    "store": f"SQLite, {folder}/auth.db",
                    "person": "Alice, a script that fills in the server's HTML forms",
                }
            )
            asyncio.run(tour(screen, deployment, Alice(password, button)))

    code = run("asgi-mcp-auth: a real MCP client meets a server that signs people in itself", show)
    if code == 0:
        print(
            "  Next: the five-minute start in README.md, the small servers in examples/, and make"
            " demo PROXY=1.\n"
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
