"""A stage for a real browser: an authorization server on a socket, clients that wait for their
users, and the browser.

async with stage() as scene:
    page = await scene.open(scene.client())
    await page.get_by_label("User name").fill("alice")
    ...
    assert scene.visit()["code"]
"""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request

from asgi_mcp_auth import MCPAuthMiddleware, OAuthProvider, PasswordLogin
from asgi_mcp_auth.server import ServerOptions
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import App, Receive, Scope, Send, Spy, serve
from tests.support.authorization_server import ClientOf, Server, answer_of, memory_store
from tests.support.passwords import cheap

SCREENSHOTS = Path(__file__).parent / "screenshots"
AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
PASSWORD = "correct horse battery staple"
SCOPES = {"notes:read": "Read your notes", "notes:write": "Write and delete your notes"}


@functools.cache
def certificate() -> tuple[str, str, str]:
    """Return the paths of a certificate for example.com and its key, and the hash by which Chromium
    trusts it.
    """
    folder = Path(tempfile.mkdtemp(prefix="asgi-mcp-auth-"))
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.com")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("*.example.com")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    spki = base64.b64encode(hashlib.sha256(public).digest()).decode()
    return str(folder / "cert.pem"), str(folder / "key.pem"), spki


def chromium_arguments() -> list[str]:
    """Return how Chromium is started: nothing of its own goes out, and example.com is this
    machine.
    """
    return [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP *.example.com 127.0.0.1, MAP rebound.test 127.0.0.1, "
        "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
        f"--ignore-certificate-errors-spki-list={certificate()[2]}",
    ]


class ClientApp:
    """The end of a client that waits for its user's browser.

    Attributes:
        visits: the URLs that browsers came with.
        sends_on_to: where ``/elsewhere`` redirects to.
    """

    def __init__(self) -> None:
        self.visits: list[str] = []
        self.sends_on_to = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/callback":
            self.visits.append(f"{scope['path']}?{scope['query_string'].decode()}")
            self.headers = dict(scope["headers"])
        if scope["path"] == "/elsewhere":
            moved = [(b"location", self.sends_on_to.encode()), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 302, "headers": moved})
            await send({"type": "http.response.body", "body": b""})
            return
        body = b"<!doctype html><title>The client</title><h1>Back at the client</h1>"
        headers = [(b"content-type", b"text/html"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@dataclass
class Scene:
    """What a test sees.

    Attributes:
        server: the deployment; its ``register`` and ``call`` work in this process, beside the
            sockets.
        local_redirect: of clients on this machine.
        web_redirect: of clients on the web.
        context: one person's browser.
        problems: what the browser complained about.
        sent: its requests for pages, in order.
    """

    server: Server
    local_redirect: str
    web_redirect: str
    client_app: ClientApp
    browser: Browser
    context: BrowserContext
    problems: list[str] = field(default_factory=list)
    sent: list[Request] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        """Where the server is."""
        return self.server.provider.base_url or ""

    async def client(self, **metadata: Any) -> ClientOf:
        """Register a client; on this machine, unless ``metadata`` says otherwise."""
        usual = {"redirect_uris": [self.local_redirect], "client_name": "Notes Assistant"}
        return await self.server.register(**{**usual, **metadata})

    async def open(
        self, client: ClientOf, page: Page | None = None, **parameters: str | None
    ) -> Page:
        """Open a client's authorization URL."""
        page = page or await self.page()
        await page.goto(client.authorization_url(**parameters))
        return page

    async def page(self) -> Page:
        """Open a tab."""
        return await self.context.new_page()

    async def sign_in(self, page: Page, user: str = "alice", password: str = PASSWORD) -> None:
        """Fill in the sign-in form and send it."""
        await page.get_by_label("User name").fill(user)
        await page.get_by_label("Password").fill(password)
        await page.get_by_role("button", name="Sign in").click()

    def answer(self) -> dict[str, str]:
        """Return what the browser brought to the client; it must have come once since the last
        time.
        """
        assert len(self.client_app.visits) == 1, self.client_app.visits
        return answer_of(self.client_app.visits.pop())

    async def check(self, page: Page, name: str) -> None:
        """Let axe look for what people with disabilities could not use. Keep a picture of the page
        where ``SCREENSHOTS=1``.
        """
        if os.environ.get("SCREENSHOTS") == "1":
            SCREENSHOTS.mkdir(exist_ok=True)
            await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
        await page.evaluate(AXE.read_text(encoding="utf-8"))
        options = {"resultTypes": ["violations"], "runOnly": AXE_RULES}
        found = await page.evaluate("options => axe.run(document, options)", options)
        violations = [
            (each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]
        ]
        assert violations == [], json.dumps(violations, indent=1)
        width = await page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert width[0] <= width[1], f"the page is wider than the window: {width}"


AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def _listener(port: int) -> tuple[socket.socket, int]:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    port = listener.getsockname()[1]
    return listener, port


_clients: list[tuple[ClientApp, str, str]] = []


@contextmanager
def client_servers() -> Iterator[None]:
    """Serve the ends of all clients, for every test."""
    app = ClientApp()
    with serve(app) as local, serve(app, certificate=certificate()[:2]) as web:
        _clients.append(
            (app, f"{local}/callback", f"https://app.example.com:{urlsplit(web).port}/callback")
        )
        yield
        _clients.clear()


@asynccontextmanager
async def stage(
    browser: Browser,
    *,
    https: bool = False,
    app: App | None = None,
    window: dict[str, Any] | None = None,
    kind: Callable[..., OAuthProvider] = OAuthProvider,
    port: int = 0,
    **settings: Any,
) -> AsyncIterator[Scene]:
    """Set up everything for one test.

    Args:
        browser: Chromium.
        https: whether the server is https://mcp.example.com, with a port; otherwise
            http://localhost.
        app: behind the server; a spy by default.
        window: of the browser's context, like ``viewport`` or ``color_scheme``.
        kind: what is made, if not an ``OAuthProvider``.
        port: where, if not on any free one.
        settings: of ``kind``; ``options`` are those of ``ServerOptions``.
    """
    listener, port = _listener(port)
    base_url = f"https://mcp.example.com:{port}" if https else f"http://localhost:{port}"
    clock, events = FrozenClock(), list[Any]()
    usual: dict[str, Any] = {"required_scopes": ["notes:read"], "scopes_supported": list(SCOPES)}
    if kind is OAuthProvider:
        usual["login"] = PasswordLogin({"alice": cheap(PASSWORD), "bob": cheap(PASSWORD)})
    options = ServerOptions(
        **{"clock": clock, "on_event": events.append, **settings.pop("options", {})}
    )
    provider = kind(
        base_url=base_url, store=memory_store(clock), options=options, **{**usual, **settings}
    )
    spy = Spy()
    protected = MCPAuthMiddleware(app or spy, provider, mcp_path="/mcp", public_paths=["/account/"])
    with ExitStack() as stack:
        stack.enter_context(
            serve(protected, listener=listener, certificate=certificate()[:2] if https else None)
        )
        client_app, local, web = _clients[0]
        client_app.visits.clear()
        context = await browser.new_context(
            **{"viewport": {"width": 1000, "height": 800}, **(window or {})}
        )
        context.set_default_timeout(10_000)
        scene = Scene(
            Server(provider, protected, spy, clock, events),
            local,
            web,
            client_app,
            browser,
            context,
        )
        context.on("console", functools.partial(_console, scene.problems))
        context.on("weberror", lambda error: scene.problems.append(str(error.error)))
        context.on("request", functools.partial(_request, scene.sent))
        try:
            yield scene
        finally:
            await context.close()
    assert scene.problems == []


def _console(problems: list[str], message: ConsoleMessage) -> None:
    # That our own error pages are no successes is no problem.
    if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
        problems.append(message.text)


def _request(sent: list[Request], request: Request) -> None:
    if request.is_navigation_request():
        sent.append(request)
