"""An OAuth client and its user's browser, in the process of the server that they talk to.

What they do themselves is as little as possible, and none of it is counted.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from workload import BASE_URL, MCP_PATH, REQUIRED_SCOPES, RESOURCE, request

REDIRECT_URI = "https://app.example.com/callback"
SCOPE = " ".join(REQUIRED_SCOPES)
METADATA = {
    "client_name": "An application",
    "redirect_uris": [REDIRECT_URI],
    "token_endpoint_auth_method": "none",
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "scope": SCOPE,
}
HIDDEN = re.compile(rb'<input type="hidden" name="(\w+)" value="([^"]*)">')


class Response(NamedTuple):
    """What came back."""

    status: int
    location: str
    body: bytes


class Visitor:
    """A client and a browser; the browser keeps its cookies.

    Args:
        app: the server.
        address: where they are.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], address: str = "203.0.113.7") -> None:
        self.nanoseconds = 0  # of CPU time that the server has taken so far
        self._app = app
        self._address = address
        self._cookies: dict[bytes, bytes] = {}
        self._verifier = secrets.token_urlsafe(48)

    def at(self, address: str) -> Visitor:
        """Return the same visitor, moved to another address."""
        self._address = address
        return self

    async def register(self) -> str:
        """Register a client and return its id (RFC 7591)."""
        response = await self._send("POST", "/register", document=METADATA)
        assert response.status == 201, response
        client_id: str = json.loads(response.body)["client_id"]
        return client_id

    async def authorize(self, client_id: str) -> Response:
        """Open the authorization URL; where it asks for nothing, the answer leads back to the
        client.
        """
        parameters = {
            "client_id": client_id,
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "code_challenge": base64.urlsafe_b64encode(
                hashlib.sha256(self._verifier.encode()).digest()
            ).decode()[:43],
            "code_challenge_method": "S256",
            "state": "0123456789abcdef",
            "scope": SCOPE,
            "resource": RESOURCE,
        }
        return await self._send("GET", f"/authorize?{urlencode(parameters)}")

    async def answer_pages(self, response: Response, person: str = "alice") -> Response:
        """Sign in and approve, wherever a page asks for it."""
        while response.location.startswith(BASE_URL):
            target = response.location.removeprefix(BASE_URL)
            page = await self._send("GET", target)
            form = {name.decode(): value.decode() for name, value in HIDDEN.findall(page.body)}
            form |= {"username": person} if target.startswith("/login") else {"action": "approve"}
            response = await self._send("POST", target.partition("?")[0], form=form)
        return response

    async def redeem(self, client_id: str, response: Response) -> str:
        """Return the access token for the code that came back to the client."""
        assert response.location.startswith(REDIRECT_URI), response
        form = {
            "grant_type": "authorization_code",
            "code": dict(parse_qsl(urlsplit(response.location).query))["code"],
            "code_verifier": self._verifier,
            "client_id": client_id,
            "redirect_uri": REDIRECT_URI,
            "resource": RESOURCE,
        }
        return await self._token(form)

    async def token_for_client(self, client_id: str, secret: str) -> str:
        """Return an access token of a grant of its own (RFC 6749 §4.4)."""
        return await self._token(
            {
                "grant_type": "client_credentials",
                "client_id": client_id,
                "client_secret": secret,
                "scope": SCOPE,
            }
        )

    async def call(self, token: str) -> None:
        """Call the app behind the server."""
        response = await self._send("POST", MCP_PATH, token=token)
        assert response.status == 200, response

    async def sign_in(self) -> str:
        """Register, authorize with every page on the way, redeem and call; return the client's
        id.
        """
        client_id = await self.register()
        back = await self.answer_pages(await self.authorize(client_id))
        await self.call(await self.redeem(client_id, back))
        return client_id

    async def sign_in_without_pages(self, client_id: str | None = None) -> None:
        """Register, authorize, redeem and call.

        Args:
            client_id: which client authorizes, because one that has just registered would need a
                page; by default the new one.
        """
        new = await self.register()
        back = await self.authorize(client_id or new)
        await self.call(await self.redeem(client_id or new, back))

    async def _token(self, form: Mapping[str, str]) -> str:
        response = await self._send("POST", "/token", form=form)
        assert response.status == 200, response
        token: str = json.loads(response.body)["access_token"]
        return token

    async def _send(
        self,
        method: str,
        target: str,
        *,
        form: Mapping[str, str] | None = None,
        document: object = None,
        token: str | None = None,
    ) -> Response:
        scope, body = request(token), b""
        path, _, query = target.partition("?")
        scope |= {
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
        }
        scope["client"] = (self._address, 50_000)
        headers = [each for each in scope["headers"] if not each[0].startswith(b"content-")]
        if form is not None:
            headers.append((b"content-type", b"application/x-www-form-urlencoded"))
            body = urlencode(form).encode()
        elif document is not None:
            headers.append((b"content-type", b"application/json"))
            body = json.dumps(document).encode()
        if not target.startswith(("/register", "/token", MCP_PATH)):
            # What browsers say where a page of the same origin began it all: the shortest way.
            headers.append((b"sec-fetch-site", b"same-origin"))
        if self._cookies:
            headers.append(
                (b"cookie", b"; ".join(b"%b=%b" % pair for pair in self._cookies.items()))
            )
        scope["headers"] = [*headers, (b"content-length", b"%d" % len(body))]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        started = time.thread_time_ns()
        await self._app(scope, receive, send)
        self.nanoseconds += time.thread_time_ns() - started
        location = b""
        for name, value in sent[0]["headers"]:
            if name == b"location":
                location = value
            elif name == b"set-cookie":
                cookie, _, kept = value.partition(b";")[0].partition(b"=")
                self._cookies[cookie] = kept
        return Response(
            sent[0]["status"], location.decode(), b"".join(each["body"] for each in sent[1:])
        )
