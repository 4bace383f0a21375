"""The deployments that the scenes talk to; everything in memory, by a clock that stands still."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from asgi_mcp_auth import DevLogin, MCPAuthMiddleware, OAuthProvider, store_from_url
from asgi_mcp_auth.server import ServerOptions
from asgi_mcp_auth.testing import FrozenClock

from .browser import Browser
from .driver import Response
from .recorder import NOW, Place, Recorder
from .signing import challenge_of, private_pem

ISSUER = "http://localhost:8000"
LOCAL: dict[str, Any] = {"client": ("127.0.0.1", 50000)}
STORE_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
WEB_REDIRECT_URI = "https://app.example/callback"
LOOPBACK_REDIRECT_URI = "http://127.0.0.1:8123/callback"
VERIFIER = "a-pkce-verifier-of-more-than-forty-three-characters"
SERVICE = {
    "client_id": "service",
    "client_secret": "service-secret-of-at-least-32-characters",
    "redirect_uris": [WEB_REDIRECT_URI],
    "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
}
SECRET = ("service", "service-secret-of-at-least-32-characters")


class App:
    """The app behind the middleware; says who calls.

    Attributes:
        error: raised instead of an answer.
        tool: called with the scope; what it returns is the answer.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.tool: Callable[[Any], Awaitable[dict[str, Any]]] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or raise the error that was set."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return
        if self.error is not None:
            raise self.error
        body = json.dumps(_caller(scope) if self.tool is None else await self.tool(scope)).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _caller(scope: Any) -> dict[str, Any]:
    user, auth = scope["user"], scope["auth"]
    authorization = any(name == b"authorization" for name, _ in scope["headers"])
    return {
        "is_authenticated": user.is_authenticated,
        "identity": getattr(user, "identity", None),
        "scopes": list(auth.scopes),
        "authorization_header": authorization,
    }


def protect(recorder: Recorder, provider: Any, clock: FrozenClock, **settings: Any) -> Place:
    """Return the place of a protected app."""
    settings = {"mcp_path": "/mcp", "on_event": recorder.reports.on_event, **settings}
    middleware = MCPAuthMiddleware(App(), provider, **settings)
    return Place(recorder, middleware, provider.base_url or "https://mcp.example", clock)


@asynccontextmanager
async def deployment(
    recorder: Recorder,
    *,
    kind: Any = OAuthProvider,
    base_url: str = ISSUER,
    options: Mapping[str, Any] | None = None,
    mcp_path: str | None = "/mcp",
    clock: FrozenClock | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Place, Any]]:
    """Run an authorization server with a protected app; yields its place and the provider."""
    clock = clock or FrozenClock(NOW)
    own = {
        "clock": clock,
        "on_event": recorder.reports.on_event,
        "signing_keys": [private_pem("server_ed25519")],
        **(options or {}),
    }
    usual: dict[str, Any] = {
        "required_scopes": ["mcp:read"],
        "scopes_supported": ["mcp:read", "mcp:write"],
        "store": store_from_url("memory:", encryption_keys=[STORE_KEY], clock=clock),
    }
    if kind is OAuthProvider:
        usual["login"] = DevLogin(networks=["0.0.0.0/0"])
    provider = kind(base_url=base_url, options=ServerOptions(**own), **{**usual, **settings})
    place = protect(recorder, provider, clock, mcp_path=mcp_path)
    recorder.reports.take()
    async with provider:
        recorder.reports.take()
        yield place, provider
    recorder.reports.take()


async def register(place: Place, sentence: str | None = None, **metadata: Any) -> dict[str, Any]:
    """Register a public client unless ``metadata`` says otherwise; return its client
    information.
    """
    usual = {
        "redirect_uris": [LOOPBACK_REDIRECT_URI],
        "token_endpoint_auth_method": "none",
        "client_name": "Test client",
    }
    document = {name: value for name, value in {**usual, **metadata}.items() if value is not None}
    response = await place(sentence, "POST", "/register", document=document)
    information: dict[str, Any] = json.loads(response.body)
    return information


def authorization_url(client: Mapping[str, Any], **parameters: str | None) -> str:
    """Return the target of an authorization request; a parameter that is ``None`` is left out."""
    usual = {
        "client_id": client["client_id"],
        "redirect_uri": client["redirect_uris"][0],
        "response_type": "code",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
        "state": "the-state",
    }
    sent = {name: value for name, value in {**usual, **parameters}.items() if value is not None}
    return f"/authorize?{urlencode(sent)}"


async def code_for(
    place: Place,
    client: Mapping[str, Any],
    user: str = "alice",
    browser: Browser | None = None,
    **parameters: Any,
) -> str:
    """Have a person sign in and approve, which the scene of the pages records; return the code."""
    browser = browser or Browser(place)
    await browser.open(None, authorization_url(client, **parameters))
    while browser.page.status == 303 and browser.location.startswith(place.base_url):
        await browser.follow(None)
        if browser.page.status == 200 and "/login" in browser.form()[0]:
            await browser.submit(None, username=user)
    if browser.page.status == 200:
        await browser.submit(None, action="approve")
    return answer_of(browser.page)["code"]


def answer_of(response: Response) -> dict[str, str]:
    """Return the parameters of an authorization response."""
    return dict(parse_qsl(urlsplit(response.header("location")).query))


async def redeem(
    place: Place, client: Mapping[str, Any], code: str, sentence: str | None = None, **form: str
) -> dict[str, Any]:
    """Redeem a code as a public client; return the token response."""
    usual = {
        "grant_type": "authorization_code",
        "client_id": client["client_id"],
        "code": code,
        "code_verifier": VERIFIER,
    }
    response = await place(sentence, "POST", "/token", form={**usual, **form})
    document: dict[str, Any] = json.loads(response.body)
    return document


async def sign_in(
    place: Place, client: Mapping[str, Any], user: str = "alice", **parameters: Any
) -> dict[str, Any]:
    """Get tokens for a person, all the way; nothing is recorded."""
    return await redeem(place, client, await code_for(place, client, user, **parameters))
