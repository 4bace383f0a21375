"""`make demo PROXY=1`: a real MCP client meets a server that is a proxy to an identity provider, on
this machine only.

The identity provider is node-oidc-provider, which knows one client, our server, and lets nobody
register. Its pages and settings are those of the project's tests: tests/interop/idp/upstream.mjs.
The rest is as in demo.py.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer

from asgi_mcp_auth import OAuthProvider, OIDCProxy, get_access_token, get_upstream_token
from examples.demo import (
    Alice,
    Conversation,
    Deployment,
    NotAsExpected,
    Screen,
    in_time,
    must_equal,
    run,
    serving,
)

FOLDER = Path(__file__).parents[1] / "tests" / "interop" / "idp"
NODE = (20, 0)
SECRET = "upstream-secret-of-the-demo-0123456789"
# ours; the provider's are good for a minute longer, and refreshed a minute before their end
TOKEN_SECONDS = 240
NEEDS_NODE = (
    f"This demo needs Node.js {NODE[0]} or newer with npm, for its identity provider: install it"
    " from your system's packages or from https://nodejs.org, and run make demo PROXY=1 again."
)


# ---------------------------------------------------------------------------- the identity provider


class IdentityProvider:
    """A running identity provider.

    Attributes:
        issuer: its issuer URL.
    """

    def __init__(self, issuer: str, control: str) -> None:
        self.issuer = issuer
        self._control = control

    async def grants(self) -> list[str]:
        """Return what our server has shown at the token endpoint so far: the grant types, in
        order.
        """
        return [each["grant_type"] for each in (await self._seen())["tokenRequests"]]

    async def revocations(self) -> int:
        """Return how many tokens our server has given back."""
        return int((await self._seen())["hits"].get("/token/revocation", 0))

    async def _seen(self) -> dict[str, Any]:
        async with httpx2.AsyncClient() as http:
            seen: dict[str, Any] = (await http.get(f"{self._control}/seen")).json()
        return seen


def find_node(folder: Path) -> str:
    """Return the path of node, with the packages of the folder installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None or _version(node) < NODE:
        raise NotAsExpected(NEEDS_NODE)
    if not (folder / "node_modules").is_dir():
        print(
            f"\n  Installing node-oidc-provider with npm into {folder}/node_modules, once ...",
            flush=True,
        )
        installed = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True
        )
        if installed.returncode != 0:
            raise NotAsExpected(f"npm ci in {folder} failed:\n{installed.stderr}")
    return node


def _version(node: str) -> tuple[int, ...]:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in said.strip().removeprefix("v").split(".")[:2])


@contextmanager
def identity_provider(node: str, folder: Path, callback: str) -> Iterator[IdentityProvider]:
    """Run the identity provider; it knows our server by this callback URL."""
    options = json.dumps(
        {"callback": callback, "secret": SECRET, "accessSeconds": TOKEN_SECONDS + 60}
    )
    process = subprocess.Popen(
        [node, "upstream.mjs", options],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it warns about http URLs
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        line = process.stdout.readline()
        if not line:
            raise NotAsExpected("the identity provider did not start")
        try:
            yield IdentityProvider(**json.loads(line))
        finally:
            process.stdin.close()  # it stops by itself then


# --------------------------------------------------------------------------------------- the server


class Proxy(Deployment):
    """A protected MCP server whose people sign in at an identity provider."""

    token_seconds = TOKEN_SECONDS

    def __init__(self, base_url: str, folder: Path, behind: IdentityProvider) -> None:
        self.behind = behind
        super().__init__(base_url, folder)

    def new_provider(self, **settings: Any) -> OAuthProvider:
        """Return what signs people in."""
        scopes = ["openid", "email"]
        return OIDCProxy(
            issuer=self.behind.issuer,
            client_id="proxy-basic",
            client_secret=SECRET,
            upstream_scopes=scopes,
            **settings,
        )

    def add_tool(self, server: MCPServer[Any]) -> None:
        """Give the server something to do, with the identity provider's help."""

        @server.tool()
        async def whoami() -> str:
            headers = {"Authorization": f"Bearer {await get_upstream_token()}"}
            async with httpx2.AsyncClient(timeout=10) as http:
                profile = (
                    (await http.get(f"{self.behind.issuer}/me", headers=headers))
                    .raise_for_status()
                    .json()
                )
            token = get_access_token()
            return f"{profile['email']}, who is {token.subject if token else 'nobody'} here"


# ----------------------------------------------------------------------------------------- the tour


async def tell_departure(screen: Screen, talk: Conversation, alice: Alice, proxy: Proxy) -> None:
    """Tell how the client finds the server, and what Alice sees before anything goes to the
    provider.
    """
    screen.step("The client greets the server, and reads where to get a token")
    screen.status(await talk.answer("/mcp", 401))
    response = await talk.answer("/.well-known/oauth-protected-resource/mcp", 200)
    must_equal("authorization_servers", response.json()["authorization_servers"], [proxy.base_url])
    screen.facts({"authorization_servers": response.json()["authorization_servers"]})
    response = await talk.answer("/.well-known/oauth-authorization-server", 200)
    must_equal("issuer", response.json()["issuer"], proxy.base_url)
    screen.say("At this very server: the client will never hear of the identity provider.")

    screen.step("The client registers with the server; the identity provider would not let it")
    response = await talk.answer("/register", 201)
    screen.status(response)
    screen.facts(
        {name: response.json()[name] for name in ("client_id", "client_name", "redirect_uris")}
    )

    screen.step("The client opens a browser, and Alice is asked whether it may act on her behalf")
    page = await alice.open(
        await in_time(talk.opened.get()), "Allow “Demo client” to act on your behalf?"
    )
    screen.status(page.response)
    seen = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    screen.facts({**seen, "It will be able to": ", ".join(page.texts["li"])})
    screen.say(
        "Nothing has gone to the identity provider so far: it could not tell this client from any"
        " other."
    )
    screen.say(f"She presses “{alice.button}”.")
    action = {"Allow": "approve", "Deny": "deny"}[alice.button]
    alice.visited.clear()
    page = await alice.submit(page, "Sign in at Upstream", action=action)

    screen.step("The server sends her browser to the identity provider")
    (asked,) = [each.request.url for each in alice.visited if each.request.url.path == "/auth"]
    sent = dict(parse_qsl(urlsplit(str(asked)).query))
    must_equal("redirect_uri", sent["redirect_uri"], f"{proxy.base_url}/auth/callback")
    facts = {
        name: sent[name] for name in ("client_id", "redirect_uri", "scope", "code_challenge_method")
    }
    random = {name: f"{sent[name][:16]}…" for name in ("state", "nonce")}
    screen.facts({"asked at": f"{proxy.behind.issuer}/auth", **facts, **random})
    screen.say(
        "The one client that it knows is the server; state and nonce are for this sign-in in this"
        " browser only."
    )

    screen.step("Alice signs in there, and says there what our server may know of her")
    screen.status(page.response)
    page = await alice.submit(
        page, "Upstream: share your data?", username="alice", action="approve"
    )
    (asks,) = page.texts["p"]
    screen.say(f"The provider asks: “{asks}” She presses “Authorize”.")
    alice.visited.clear()
    back = await alice.send(page, action="approve")
    brought = dict(parse_qsl(urlsplit(back.headers["location"]).query))
    must_equal("what the browser brings back", sorted(brought), ["code", "iss", "state"])
    talk.brought_back.put_nowait(brought)


async def tell_arrival(screen: Screen, talk: Conversation, alice: Alice, proxy: Proxy) -> None:
    """Tell what becomes of the provider's code, and of ours."""
    screen.step(
        "Her browser comes back to the server with the provider's code, and leaves with one of ours"
    )
    (came,) = [each for each in alice.visited if each.request.url.path == "/auth/callback"]
    screen.status(came)
    must_equal("what the server showed there", await proxy.behind.grants(), ["authorization_code"])
    screen.facts(
        {
            "at the provider": "the server has exchanged the code; it keeps the tokens, encrypted",
            "on the server, on_event got": ", ".join(
                f"action={each.action!r}"
                for each in proxy.events
                if each.action in ("signed_in", "approved")
            ),
        }
    )

    screen.step("The client trades our code for tokens of ours")
    response = await talk.answer("/token", 200)
    screen.status(response)
    tokens = response.json()
    screen.facts(
        {
            "access_token": (
                f"{tokens['access_token'][:16]}…, good for {TOKEN_SECONDS // 60} minutes, here only"
            ),
            "scope": f"{tokens['scope']}, what it allows here",
            "refresh_token": f"{tokens['refresh_token'][:16]}…, good for the next pair, once",
        }
    )


async def tell_the_rest(
    screen: Screen,
    talk: Conversation,
    alice: Alice,
    proxy: Proxy,
    client: Client,
    oauth: OAuthClientProvider,
) -> None:
    """Tell what the tokens are good for, and for how long."""
    expected = f"alice@example.com, who is {proxy.behind.issuer}|id-of-alice here"

    async def ask() -> str:
        return str(getattr((await client.call_tool("whoami")).content[0], "text", None))

    screen.step(
        "The client calls a tool, which asks the provider who Alice is, with get_upstream_token()"
    )
    must_equal("the answer", await in_time(ask()), expected)
    screen.say(f"The tool answers: “{expected}”.")
    screen.say(
        "The e-mail address is from the provider's userinfo endpoint, which knows its own access"
        " tokens only."
    )

    screen.step(
        "Four minutes later both tokens are due: the client refreshes ours, the server the"
        " provider's"
    )
    proxy.clock.advance(TOKEN_SECONDS + 1)
    oauth.context.token_expiry_time = time.time()  # the client's watch goes forward, too
    must_equal("the answer", await in_time(ask()), expected)
    screen.status(await talk.answer("/token", 200))
    must_equal(
        "what the server showed",
        await proxy.behind.grants(),
        ["authorization_code", "refresh_token"],
    )
    screen.facts(
        {"at the provider": "POST /token with its refresh token, once; the next one is kept"}
    )
    screen.say(
        "The tool answers again. Had the provider refused, the client would have to sign in again."
    )

    screen.step("Alice looks at what she has allowed, and takes it back")
    page = await alice.open(f"{proxy.base_url}/applications", "Your applications")
    screen.status(page.response)
    screen.say("She finds “Demo client”, and presses “Revoke”.")
    page = await alice.submit(page, "Your applications")
    must_equal("applications on the page", page.texts["article"], [])
    event = proxy.events[-1]
    must_equal("the event", (event.action, event.reason), ("grant_revoked", "by_user"))
    must_equal("tokens that the provider got back", await proxy.behind.revocations(), 1)
    screen.facts(
        {
            "on the server, on_event got": f"action={event.action!r}, reason={event.reason!r}",
            "at the provider": (
                "POST /token/revocation: its tokens are worth nothing any more either"
            ),
        }
    )

    screen.step("The next call is refused, although the token has not expired")
    call = asyncio.ensure_future(ask())
    response = await talk.answer("/mcp", 401)
    screen.status(response)
    screen.facts({"on the server, on_event got": f"reason={proxy.refusals[-1].reason!r}"})
    must_equal("the reason", proxy.refusals[-1].reason, "revoked")
    await in_time(talk.opened.get())
    call.cancel()
    screen.say("The client opens the browser again: without Alice, it cannot go on.")


async def tour(screen: Screen, proxy: Proxy, alice: Alice) -> None:
    """Go through the steps."""
    url, talk = f"{proxy.base_url}/mcp", Conversation()
    oauth = talk.oauth(url)

    async def tell_sign_in() -> None:
        await tell_departure(screen, talk, alice, proxy)
        await tell_arrival(screen, talk, alice, proxy)

    async with asyncio.TaskGroup() as tasks, httpx2.AsyncClient(timeout=10) as browser:
        alice.browser = browser
        signed_in = tasks.create_task(tell_sign_in())
        async with (
            httpx2.AsyncClient(
                auth=oauth, event_hooks={"response": [talk.heard]}, timeout=10
            ) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            await signed_in
            await tell_the_rest(screen, talk, alice, proxy, client, oauth)


def main(button: str = "Allow", folder: Path = FOLDER) -> int:
    """Show a proxy; return the exit code."""
    try:
        node = find_node(folder)
    except NotAsExpected as error:
        print(error)
        return 1

    def show(screen: Screen) -> None:
        with ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))

            def deploy(base_url: str) -> Proxy:
                behind = stack.enter_context(
                    identity_provider(node, folder, f"{base_url}/auth/callback")
                )
                return Proxy(base_url, home, behind)

            with serving(deploy) as proxy:
                screen.facts(
                    {
                        "MCP server": (
                            f"{proxy.base_url}/mcp  (MCP SDK, MCPAuthMiddleware, OIDCProxy, on"
                            " uvicorn)"
                        ),
                        "identity provider": (
                            f"{proxy.behind.issuer}  (node-oidc-provider; nobody can register)"
                        ),
                        "MCP client": "MCP SDK; it knows the server's URL, and nothing else",
                        "store": f"SQLite, {home}/auth.db",
                        "person": "Alice, a script that fills in the HTML forms of both",
                    }
                )
                asyncio.run(tour(screen, proxy, Alice("", button)))

    code = run(
        "asgi-mcp-auth: a real MCP client meets a server that is a proxy to an identity provider",
        show,
    )
    if code == 0:
        print(
            "  Next: docs/identity-provider-proxy.md, and examples/oidc_proxy.py with a provider of"
            " your own.\n"
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
