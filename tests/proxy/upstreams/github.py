"""An upstream that knows OAuth only, in the shape of GitHub: opaque tokens, errors with status 200,
no discovery.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
import secrets
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from urllib.parse import urlencode

from tests.proxy.upstreams.faults import FAULTS, GOOD, Answer, Fault, Request, misbehave
from tests.proxy.upstreams.upstream import TokenRequest, WatchedUpstream
from tests.support.asgi import App, Receive, Scope, Send, serve

CLIENT_ID = "Iv1.0123456789abcdef"
CLIENT_SECRET = "upstream-secret-0123456789-0123456789"

_AUTHORIZE, _TOKEN, _USER = "/login/oauth/authorize", "/login/oauth/access_token", "/user"
_REVOKE = "/login/oauth/revoke"  # RFC 7009, which GitHub has not
_ERROR_URI = "https://docs.example.com/troubleshooting"


@dataclass
class _Token:
    user: str
    scope: str
    kind: str
    expires_at: float | None
    family: str


@dataclass
class _Code:
    user: str
    scope: str
    redirect_uri: str
    challenge: str | None


class GitHubShaped(WatchedUpstream):
    """The upstream, its people and its knobs.

    Attributes:
        accounts: what ``/user`` says of each person; change it to change them.
        expires_in: the lifetime of access tokens, which then come with refresh tokens; ``None``:
            they have no end.
        queries: the parameters of the authorization requests, in order.
        hits: how many requests there were, by path.
        trapped: how many followed a redirect that must not be followed.
    """

    name: ClassVar[str] = "github"
    has_two_pages: ClassVar[bool] = False

    def __init__(self, callback: str, expires_in: float | None) -> None:
        self.issuer = None
        self.callback = callback
        self.client_id = CLIENT_ID
        self.client_secret = CLIENT_SECRET
        self.expires_in = expires_in
        self.accounts: dict[str, dict[str, Any]] = {
            "alice": {"id": 1001, "login": "alice", "name": "Alice", "email": "alice@example.com"},
            "bob": {"id": 1002, "login": "bob", "name": "Bob", "email": None},
        }
        self.queries: list[dict[str, str]] = []
        self.hits: Counter[str] = Counter()
        self.trapped = 0
        self._seen: list[TokenRequest] = []
        self._sessions: dict[str, str] = {}
        self._authorized: set[tuple[str, str]] = set()
        self._codes: dict[str, _Code] = {}
        self._tokens: dict[str, _Token] = {}
        self._faults: dict[str, tuple[Fault, float]] = {}
        self._refusal: dict[str, str] | None = None
        self._fail_every = 0
        self._refreshes = 0
        self._stack: ExitStack | None = None
        self._port = 0

    # ---------------------------------------------------------------------------------------- knobs

    async def requests(self) -> list[TokenRequest]:
        """Return the requests to the token endpoint so far, in order."""
        return list(self._seen)

    def fault(self, path: str, fault: Fault | str, times: float = float("inf")) -> None:
        """Answer the next requests for a path with a fault, one of ``FAULTS`` or another.

        Args:
            path: of the token endpoint, or of ``/user``; ``token`` and ``user`` are short for them.
            fault: what to answer.
            times: how often.
        """
        full = {"token": _TOKEN, "user": _USER, "authorize": _AUTHORIZE, "revoke": _REVOKE}.get(
            path, path
        )
        self._faults[full] = (FAULTS[fault] if isinstance(fault, str) else fault, times)

    async def refuse(self, **parameters: str) -> None:
        """Answer the next authorization request at once with these parameters, and ``state``."""
        self._refusal = parameters

    async def fail_one_refresh_in(self, every: int) -> None:
        """Answer one refresh in so many with 503, before anything is done."""
        self._fail_every = every

    async def revoke_user(self, user: str) -> None:
        """End everything that this person has granted."""
        self._tokens = {name: each for name, each in self._tokens.items() if each.user != user}
        self._authorized = {each for each in self._authorized if each[0] != user}

    def live_tokens(self, kind: str = "access") -> list[str]:
        """Return the tokens that are good now: ``access`` or ``refresh``."""
        return [
            name
            for name, each in self._tokens.items()
            if each.kind == kind and self._find(name, kind)
        ]

    def reset(self) -> None:
        """Forget faults and requests. What was issued stays."""
        self._faults.clear()
        self._seen.clear()
        self.queries.clear()
        self.hits.clear()
        self.trapped = self._fail_every = self._refreshes = 0
        self._refusal = None

    async def down(self) -> None:
        """Stop listening; issued tokens are not forgotten."""
        if self._stack is not None:
            await asyncio.to_thread(self._stack.close)
            self._stack = None

    async def up(self) -> None:
        """Listen again, where it did before."""
        listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._port = listener.getsockname()[1]
        self._stack = ExitStack()
        base_url = await asyncio.to_thread(
            self._stack.enter_context, serve(self._app(), listener=listener)
        )
        self.authorization_endpoint = f"{base_url}{_AUTHORIZE}"
        self.token_endpoint = f"{base_url}{_TOKEN}"
        self.userinfo_endpoint = f"{base_url}{_USER}"
        self.revocation_endpoint = f"{base_url}{_REVOKE}"

    # ---------------------------------------------------------------------------------------- pages

    def _app(self) -> App:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                for phase in ("startup", "shutdown"):
                    await receive()
                    await send({"type": f"lifespan.{phase}.complete"})
                return
            await self._answer(await Request.read(scope, receive), send)

        return app

    async def _answer(self, request: Request, send: Send) -> None:
        self.hits[request.path] += 1
        fault, left = self._faults.get(request.path, (None, 0.0))
        if fault is not None and left > 0:
            self._faults[request.path] = (fault, left - 1)
            if request.path == _TOKEN:
                self._note(request, fault.status, injected=not fault.after)
            if fault.after:
                self._route(request)
            await misbehave(fault, send)
            return
        answer = self._route(request)
        await answer.send(send)

    def _route(self, request: Request) -> Answer:
        routes = {
            _AUTHORIZE: self._authorize,
            _TOKEN: self._token,
            _USER: self._user,
            _REVOKE: self._revoke,
        }
        if request.path in routes:
            return routes[request.path](request)
        if request.path == f"/applications/{CLIENT_ID}/token" and request.method == "DELETE":
            return self._delete(request)
        if request.path == "/trap":
            self.trapped += 1
            return Answer(body=GOOD, content_type="application/json")
        return Answer(404, json.dumps({"message": "Not Found"}).encode(), "application/json")

    def _authorize(self, request: Request) -> Answer:
        query = request.query
        if request.method == "GET":
            self.queries.append(query)
        if query.get("client_id") != CLIENT_ID or query.get("redirect_uri") != self.callback:
            return _page(
                "Upstream: this cannot go on", "<p>The application is not known.</p>", status=404
            )
        if self._refusal is not None:
            refusal, self._refusal = self._refusal, None
            return self._back(query, refusal)
        user, scope = self._sessions.get(request.session), query.get("scope", "")
        if request.method == "POST":
            if request.form.get("action") == "deny":
                description = "The user has denied your application access."
                return self._back(
                    query, {"error": "access_denied", "error_description": description}
                )
            user = request.form.get("username") or user or "alice"
            self._authorized.add((user, scope))
        if user is None or (user, scope) not in self._authorized:
            return _consent(query, user)
        code, session = secrets.token_hex(10), secrets.token_hex(16)
        self._sessions[session] = user
        self._codes[code] = _Code(user, scope, query["redirect_uri"], query.get("code_challenge"))
        answer = self._back(query, {"code": code})
        return replace(
            answer,
            headers=(*answer.headers, ("set-cookie", f"user_session={session}; HttpOnly; Path=/")),
        )

    def _back(self, query: Mapping[str, str], parameters: Mapping[str, str]) -> Answer:
        state = {"state": query["state"]} if "state" in query else {}
        return Answer(
            302,
            headers=(
                ("location", f"{query['redirect_uri']}?{urlencode({**parameters, **state})}"),
            ),
        )

    # --------------------------------------------------------------------------------------- tokens

    def _note(self, request: Request, status: int, *, injected: bool) -> None:
        client_id, _, auth = request.client()
        found = hashlib.sha256(
            (request.form.get("refresh_token") or request.form.get("code") or "").encode()
        )
        noted = TokenRequest(
            request.form.get("grant_type", "authorization_code"),
            client_id,
            auth,
            found.hexdigest(),
            tuple(sorted(request.form)),
            status,
            injected,
        )
        self._seen.append(noted)

    def _token(self, request: Request) -> Answer:
        refreshing = request.form.get("grant_type") == "refresh_token"
        self._refreshes += refreshing
        if refreshing and self._fail_every and self._refreshes % self._fail_every == 0:
            self._note(request, 503, injected=True)
            return Answer(503, b"<h1>Unicorn!</h1>", "text/html")
        self._note(request, 200, injected=False)
        client_id, secret, _ = request.client()
        if (client_id, secret) != (CLIENT_ID, CLIENT_SECRET):
            error = (
                "incorrect_client_credentials",
                "The client_id and/or client_secret passed are incorrect.",
            )
            members = _error(*error)
        else:
            members = self._refresh(request.form) if refreshing else self._redeem(request.form)
        if "application/json" in request.headers.get("accept", ""):
            return Answer(
                body=json.dumps(members).encode(), content_type="application/json; charset=utf-8"
            )
        return Answer(
            body=urlencode(members).encode(),
            content_type="application/x-www-form-urlencoded; charset=utf-8",
        )

    def _redeem(self, form: Mapping[str, str]) -> dict[str, Any]:
        code = self._codes.pop(form.get("code", ""), None)
        if code is None:
            return _error("bad_verification_code", "The code passed is incorrect or expired.")
        if form.get("redirect_uri", code.redirect_uri) != code.redirect_uri:
            return _error(
                "redirect_uri_mismatch", "The redirect_uri MUST match the registered callback URL."
            )
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (
            code.challenge is not None
            and base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != code.challenge
        ):
            return _error("bad_verification_code", "The code verifier does not fit.")
        return self._issue(code.user, code.scope, secrets.token_hex(8))

    def _refresh(self, form: Mapping[str, str]) -> dict[str, Any]:
        name = form.get("refresh_token", "")
        token = self._find(name, "refresh")
        if token is None:
            return _error("bad_refresh_token", "The refresh token passed is incorrect or expired.")
        # GitHub: a refresh token is good once, and the access token that came with it ends too.
        self._tokens = {
            known: each for known, each in self._tokens.items() if each.family != token.family
        }
        return self._issue(token.user, token.scope, token.family)

    def _issue(self, user: str, scope: str, family: str) -> dict[str, Any]:
        access = f"gho_{secrets.token_urlsafe(27)}"
        expires_at = None if self.expires_in is None else time.time() + self.expires_in
        self._tokens[access] = _Token(user, scope, "access", expires_at, family)
        members: dict[str, Any] = {
            "access_token": access,
            "scope": scope.replace(" ", ","),
            "token_type": "bearer",
        }
        if self.expires_in is not None:
            refresh = f"ghr_{secrets.token_urlsafe(57)}"
            self._tokens[refresh] = _Token(user, scope, "refresh", time.time() + 15_897_600, family)
            members |= {"expires_in": int(self.expires_in), "refresh_token": refresh}
            members |= {"refresh_token_expires_in": 15_897_600}
        return members

    def _find(self, name: str, kind: str) -> _Token | None:
        token = self._tokens.get(name)
        if (
            token is None
            or token.kind != kind
            or (token.expires_at is not None and token.expires_at <= time.time())
        ):
            return None
        return token

    def _user(self, request: Request) -> Answer:
        if "user-agent" not in request.headers:
            return Answer(403, b"Request forbidden by administrative rules.", "text/plain")
        scheme, _, name = request.headers.get("authorization", "").partition(" ")
        token = self._find(name, "access") if scheme.lower() in ("bearer", "token") else None
        if token is None:
            return Answer(
                401, b'{"message": "Bad credentials", "status": "401"}', "application/json"
            )
        document = self.accounts.get(
            token.user, {"id": int.from_bytes(token.user.encode()) % 10**6 + 2000}
        )
        headers = (("x-oauth-scopes", token.scope.replace(" ", ", ")),)
        return Answer(
            200, json.dumps(document).encode(), "application/json; charset=utf-8", headers
        )

    def _revoke(self, request: Request) -> Answer:
        if request.client()[:2] != (CLIENT_ID, CLIENT_SECRET):
            return Answer(401, b'{"error": "invalid_client"}', "application/json")
        self._end(request.form.get("token", ""))
        return Answer(200)

    def _delete(self, request: Request) -> Answer:
        if request.client()[:2] != (CLIENT_ID, CLIENT_SECRET):
            return Answer(404, b'{"message": "Not Found"}', "application/json")
        self._end(json.loads(request.body)["access_token"])
        return Answer(204)

    def _end(self, name: str) -> None:
        token = self._tokens.get(name)
        if token is not None:
            self._tokens = {
                known: each for known, each in self._tokens.items() if each.family != token.family
            }


def _error(error: str, description: str) -> dict[str, Any]:
    return {"error": error, "error_description": description, "error_uri": f"{_ERROR_URI}#{error}"}


def _page(title: str, inner: str, status: int = 200) -> Answer:
    head = (
        '<meta charset="utf-8"><meta name="viewport"'
        f' content="width=device-width"><title>{title}</title>'
    )
    text = (
        "<!doctype html><html"
        f' lang="en"><head>{head}</head><body><main><h1>{title}</h1>{inner}</main></body></html>'
    )
    return Answer(status, text.encode(), "text/html; charset=utf-8")


def _consent(query: Mapping[str, str], user: str | None) -> Answer:
    name = '<label>Username <input name="username"></label> ' if user is None else ""
    buttons = (
        '<button name="action" value="approve">Authorize</button> <button name="action"'
        ' value="deny">Cancel</button>'
    )
    asked = f"<p>The MCP server wants: {html.escape(query.get('scope') or 'who you are')}</p>"
    return _page(
        "Upstream: authorize the MCP server?", f'{asked}<form method="post">{name}{buttons}</form>'
    )


@asynccontextmanager
async def github_upstream(
    *, callback: str, expires_in: float | None = None
) -> AsyncIterator[GitHubShaped]:
    """Serve it on a free port.

    Args:
        callback: the proxy's redirect URI.
        expires_in: the lifetime of access tokens, which then come with refresh tokens; ``None``:
            they have no end.
    """
    upstream = GitHubShaped(callback, expires_in)
    await upstream.up()
    try:
        yield upstream
    finally:
        await upstream.down()
