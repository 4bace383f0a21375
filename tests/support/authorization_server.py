"""A whole authorization server in this process, a client that talks to it, and a person at a
browser.

async with deploy(required_scopes=["mcp:read"]) as server:
    client = await server.register()
    tokens = await client.sign_in("alice")
    response = await server.call("POST", "/mcp", bearer=tokens["access_token"])
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from asgi_mcp_auth import DevLogin, MCPAuthMiddleware, OAuthProvider
from asgi_mcp_auth.server import Person, ServerOptions
from asgi_mcp_auth.server.audit import AuditEvent
from asgi_mcp_auth.server.login import Login, LoginAttempt, LoginForm
from asgi_mcp_auth.server.pages.models import Field
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Response, Spy, call

BASE_URL = "http://localhost:8000"
RESOURCE = f"{BASE_URL}/mcp"
REDIRECT_URI = "http://127.0.0.1:8123/callback"
WEB_REDIRECT_URI = "https://app.example.com/callback"
SCOPES = ("mcp:read", "mcp:write")
EVERYWHERE = ("0.0.0.0/0", "::/0")  # of many tests' people, who are not on this machine
KEY = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
CONFIDENTIAL = {
    "client_id": "service",
    "client_secret": "service-secret-of-at-least-32-characters",
    "redirect_uris": [WEB_REDIRECT_URI],
    "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
}
"""A client of the operator's for ``Registration(clients=[…])``.

``server.known(CONFIDENTIAL)`` talks as it.
"""


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a PKCE verifier (RFC 7636 §4.2)."""
    return (
        base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    )


def basic(client_id: str, secret: str) -> dict[str, str]:
    """Return the Authorization header of client_secret_basic."""
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


def answer_of(url: str) -> dict[str, str]:
    """Return the parameters of an authorization response, each of which must be there once."""
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs), f"a parameter is repeated: {url}"
    return dict(pairs)


def memory_store(clock: FrozenClock | None = None) -> EncryptedStore:
    """Return a store in this process, with the key that every such store has here."""
    given = clock or time
    return EncryptedStore(MemoryStore(clock=given), [KEY], clock=given)


@dataclass
class Server:
    """A deployment: the provider, the middleware and a spy behind it.

    Attributes:
        events: what the audit hook was told.
        clock: stands still; the store of ``deploy`` goes by it too.
    """

    provider: OAuthProvider
    app: MCPAuthMiddleware
    spy: Spy
    clock: FrozenClock
    events: list[AuditEvent]

    async def call(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        form: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        document: Any = None,
        bearer: str | None = None,
        body: bytes = b"",
        **members: Any,
    ) -> Response:
        """Send one request: a form, a JSON document, or ``body`` as it is."""
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        if not any(name.lower() == "host" for name, _ in pairs):
            pairs.append(("Host", urlsplit(self.provider.base_url or "").netloc))
        if form is not None:
            pairs.append(("Content-Type", "application/x-www-form-urlencoded"))
            body = urlencode(form).encode()
        if document is not None:
            pairs.append(("Content-Type", "application/json"))
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
        if bearer is not None:
            pairs.append(("Authorization", f"Bearer {bearer}"))
        return await call(self.app, method, target, pairs, body=body, **members)

    async def token(
        self, *, headers: Mapping[str, str] | None = None, **form: str | None
    ) -> Response:
        """Ask the token endpoint."""
        sent = {name: value for name, value in form.items() if value is not None}
        return await self.call("POST", "/token", headers=headers or {}, form=sent)

    async def register(self, **metadata: Any) -> ClientOf:
        """Register a client: public, for loopback, unless ``metadata`` says otherwise; ``None``
        leaves a member out.
        """
        usual = {
            "redirect_uris": [REDIRECT_URI],
            "token_endpoint_auth_method": "none",
            "client_name": "Test client",
        }
        document = {
            name: value for name, value in {**usual, **metadata}.items() if value is not None
        }
        response = await self.call("POST", "/register", document=document)
        assert response.status == 201, response.body
        return ClientOf(self, response.json())

    def known(self, metadata: Mapping[str, Any]) -> ClientOf:
        """Return a client that the operator has configured."""
        return ClientOf(self, {"token_endpoint_auth_method": "client_secret_basic", **metadata})

    def browser(self) -> Browser:
        """Return a new browser without cookies."""
        return Browser(self)

    def reasons(self) -> list[str | None]:
        """Return why requests were refused, in order, and forget them."""
        found = [event.reason for event in self.events if event.action == "refused"]
        self.events[:] = [event for event in self.events if event.action != "refused"]
        return found


@dataclass
class Page:
    """What a browser shows."""

    url: str
    response: Response

    @property
    def text(self) -> str:
        """The HTML."""
        return self.response.body.decode()

    @property
    def hidden(self) -> dict[str, str]:
        """The hidden inputs of the page's first form."""
        return self.forms[0][1]

    @property
    def forms(self) -> list[tuple[str, dict[str, str]]]:
        """Each form: where it goes, and its inputs with their values."""
        found: list[tuple[str, dict[str, str]]] = []
        for action, inner in re.findall(
            r'<form method="post" action="([^"]*)">(.*?)</form>', self.text, re.DOTALL
        ):
            inputs = (
                dict(re.findall(r'(\w+)="([^"]*)"', tag))
                for tag in re.findall(r"<input ([^>]*)>", inner)
            )
            found.append(
                (
                    unescape(action),
                    {unescape(each["name"]): unescape(each["value"]) for each in inputs},
                )
            )
        return found


@dataclass
class Browser:
    """A person's browser: cookies, redirects within the server, forms.

    Attributes:
        headers: sent with every request.
    """

    server: Server
    cookies: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    async def send(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request and keep the cookies of the answer; redirects are not followed."""
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        sent = {**self.headers, **(headers or {})}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        response = await self.server.call(method, target, headers=sent, form=form)
        for line in response.all("set-cookie"):
            name, _, rest = line.partition("=")
            value, _, attributes = rest.partition(";")
            if "Max-Age=0" in attributes:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return response

    async def open(self, url: str, form: Mapping[str, str] | None = None) -> Page:
        """Open a URL, or send a form there; follow redirects until a page, or another party's URL,
        comes up.
        """
        response = await self.send("GET" if form is None else "POST", url, form)
        while response.status == 303:
            url = response.header("location") or ""
            if not url.startswith(self.server.provider.base_url or ""):
                break
            response = await self.send("GET", url)
        return Page(url, response)

    async def submit(self, page: Page, *, number: int = 0, **values: str) -> Page:
        """Fill in a form of the page and send it."""
        action, inputs = page.forms[number]
        return await self.open(action, {**inputs, **values})

    async def sign_in(self, page: Page, **values: str) -> Page:
        """Fill in the sign-in form, if the page is one."""
        return (
            await self.submit(page, **values)
            if urlsplit(page.url).path.endswith("/login")
            else page
        )

    async def decide(self, url: str, user: str = "alice", action: str = "approve") -> str:
        """Open an authorization URL, sign in, decide; return the URL that leads back to the
        client.
        """
        page = await self.sign_in(await self.open(url), username=user)
        if urlsplit(page.url).path.endswith("/consent"):
            page = await self.submit(page, action=action)
        assert page.response.status == 303, page.text
        return page.url


@dataclass
class ClientOf:
    """A client of a server.

    Attributes:
        information: its client information response.
        verifier: the PKCE verifier of all its requests.
    """

    server: Server
    information: dict[str, Any]
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    @property
    def client_id(self) -> str:
        """Its identifier."""
        client_id: str = self.information["client_id"]
        return client_id

    def authorization_url(self, **parameters: str | None) -> str:
        """Return an authorization URL; a parameter that is ``None`` is left out."""
        usual = {
            "client_id": self.client_id,
            "redirect_uri": self.information["redirect_uris"][0],
            "response_type": "code",
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
            "state": "the-state",
            "resource": self.server.provider.resource,
        }
        sent = {name: value for name, value in {**usual, **parameters}.items() if value is not None}
        return f"{self.server.provider.base_url}/authorize?{urlencode(sent)}"

    async def code(
        self, user: str = "alice", browser: Browser | None = None, **parameters: str | None
    ) -> str:
        """Have a person sign in and approve; return the code."""
        url = await (browser or self.server.browser()).decide(
            self.authorization_url(**parameters), user
        )
        answer = answer_of(url)
        assert "code" in answer, answer
        return answer["code"]

    async def token(self, **form: str | None) -> Response:
        """Ask the token endpoint, authenticated as this client."""
        if "client_secret" in self.information:
            headers = basic(self.client_id, self.information["client_secret"])
            return await self.server.token(headers=headers, **form)
        return await self.server.token(**{"client_id": self.client_id, **form})

    async def redeem(self, code: str, **form: str | None) -> Response:
        """Redeem a code."""
        sent = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": self.verifier,
            **form,
        }
        return await self.token(**sent)

    async def refresh(self, refresh_token: str, **form: str | None) -> Response:
        """Use a refresh token."""
        return await self.token(
            **{"grant_type": "refresh_token", "refresh_token": refresh_token, **form}
        )

    async def sign_in(self, user: str = "alice", **parameters: str | None) -> dict[str, Any]:
        """Get tokens for a person, all the way; return the token response."""
        response = await self.redeem(await self.code(user, **parameters))
        assert response.status == 200, response.body
        document: dict[str, Any] = response.json()
        return document


class Trusting(Login):
    """Believes any name, like ``DevLogin``, and not on loopback only.

    Attributes:
        people: who is more than a name.
    """

    def __init__(self, people: Mapping[str, Person] | None = None) -> None:
        self.people = people or {}

    async def sign_in(self, attempt: LoginAttempt) -> Person | LoginForm:
        name = attempt.parameters.get("username")
        if attempt.method != "POST" or not name:
            return LoginForm((Field(name="username", label="Name"),))
        return self.people.get(name) or Person(subject=name)


@asynccontextmanager
async def deploy(
    *,
    base_url: str = BASE_URL,
    login: Login | None = None,
    store: str | EncryptedStore | None = None,
    clock: FrozenClock | None = None,
    options: Mapping[str, Any] | None = None,
    mcp_path: str = "/mcp",
    spy: Spy | None = None,
    kind: Callable[..., OAuthProvider] = OAuthProvider,
    middleware: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Server]:
    """Run an authorization server with a protected spy behind it, its lifespan around the block.

    Args:
        base_url: where it is.
        login: how people sign in; one click by default, as ``username`` says.
        store: by default a new one in memory, by the same clock.
        clock: by default a new one that stands still.
        options: of ``ServerOptions``, beside the clock and the audit hook.
        mcp_path: where the resource is.
        spy: the app behind.
        kind: ``OAuthProvider``, or a proxy, which has a login step of its own.
        middleware: settings of the middleware.
        settings: of ``kind``.
    """
    clock, events = clock or FrozenClock(), list[AuditEvent]()
    usual: dict[str, Any] = {"required_scopes": ["mcp:read"], "scopes_supported": list(SCOPES)}
    if kind is OAuthProvider or login is not None:
        usual["login"] = login or (
            DevLogin(networks=EVERYWHERE) if "//localhost" in base_url else Trusting()
        )
    provider = kind(
        base_url=base_url,
        store=store or memory_store(clock),
        options=ServerOptions(**{"clock": clock, "on_event": events.append, **(options or {})}),
        **{**usual, **settings},
    )
    spy = spy or Spy()
    app = MCPAuthMiddleware(spy, provider, mcp_path=mcp_path, **(middleware or {}))
    async with provider:
        yield Server(provider, app, spy, clock, events)
