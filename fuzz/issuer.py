"""An authorization server for fuzz targets: the same at every start and before every input, so that
findings replay.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import hashlib
import json
import re
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from asgi_mcp_auth import DevLogin, MCPAuthMiddleware, OAuthProvider
from asgi_mcp_auth._cache import LRUCache
from asgi_mcp_auth.server import Registration, ServerOptions
from asgi_mcp_auth.server.grants.ledger import KNOWN_GRANTS
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from fuzz.inprocess import RESPONSE_START, Answer, App
from fuzz.keys import SIGNERS

T = TypeVar("T")

BASE_URL = "http://localhost:8000"
RESOURCE = f"{BASE_URL}/mcp"
NOW = 1_800_000_000
VERIFIER = "a-code-verifier-of-at-least-forty-three-characters"
LOOPBACK, WEB = "http://127.0.0.1:8123/callback", "https://app.example.com/callback?tenant=1"

PUBLIC = {
    "client_id": "public",
    "redirect_uris": [LOOPBACK, WEB],
    "client_name": "A program",
}
SERVICE = {
    "client_id": "service:1%2+ü",  # what has to be encoded in a Basic header
    "client_secret": "a secret: with 100% of + and ü, and more of it",
    "redirect_uris": [WEB],
    "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
}
POSTING = {
    **SERVICE,
    "client_id": "posting",
    "token_endpoint_auth_method": "client_secret_post",
}
SIGNING = {
    "client_id": "signing",
    "jwks": {"keys": [SIGNERS["ES256"].public_jwk(), SIGNERS["EdDSA"].public_jwk()]},
    "grant_types": ["client_credentials"],
}
# RFC 6749 §5.2: %x20-21 / %x23-5B / %x5D-7E
_DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")
_loop = asyncio.new_event_loop()
atexit.register(_loop.close)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine, on an event loop that all inputs share."""
    return _loop.run_until_complete(coroutine)


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a PKCE verifier."""
    return (
        base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    )


class Issuer:
    """The server, somebody who is signed in, and what their client has got.

    Attributes:
        code: of ``PUBLIC``, not redeemed; its verifier is ``VERIFIER``.
        refresh_token: of another grant of ``PUBLIC``.
        cookies: of the browser that is signed in.
    """

    def __init__(self) -> None:
        self.app = App()
        self.clock = FrozenClock(float(NOW))
        self._memory = MemoryStore(clock=self.clock)
        key = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
        self.provider = OAuthProvider(
            base_url=BASE_URL,
            login=DevLogin(),
            store=EncryptedStore(self._memory, [key]),
            required_scopes=["mcp:read"],
            scopes_supported=["mcp:read", "mcp:write"],
            allowed_redirect_schemes=["cursor"],
            registration=Registration(
                clients=[PUBLIC, SERVICE, POSTING, SIGNING], metadata_documents=False
            ),
            options=ServerOptions(clock=self.clock, signing_keys=[SIGNERS["ES256"].pem()]),
        )
        self._protected = MCPAuthMiddleware(self.app, self.provider, mcp_path="/mcp")
        self.cookies: dict[str, str] = {}
        run(self.provider.__aenter__())
        self.refresh_token = str(self.redeem(self.authorize("public"))["refresh_token"])
        self.code = self.authorize("public")
        self._kept = {kind: dict(entries) for kind, entries in self._memory._entries.items()}

    def reset(self) -> None:
        """Forget everything that an input has left behind."""
        self._memory._entries = {kind: dict(entries) for kind, entries in self._kept.items()}
        # which remembers what has ended, whatever the store says
        ledger = self.provider._server.grants.ledger
        ledger._alive = LRUCache(KNOWN_GRANTS)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: bytes = b"",
        body: bytes = b"",
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> Answer:
        """Send a request and hold the answer to what every answer owes the protocol."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "server": ("localhost", 8000),
            "client": ("127.0.0.1", 50_000),
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "root_path": "",
            "headers": [(b"host", b"localhost:8000"), *headers],
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        run(self._protected(scope, receive, send))
        first, second = sent
        assert first["type"] in RESPONSE_START
        for name, value in first["headers"]:
            assert name == name.lower()
            assert not set(value) & set(b"\r\n\0"), f"{name!r}: {value!r} splits the answer"
        assert first["status"] < 500, f"{method} {path}: {first['status']}"
        return Answer(first["status"], first["headers"], second["body"])

    def form(
        self,
        path: str,
        pairs: Mapping[str, str] | bytes,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> Answer:
        """Send a form."""
        body = pairs if isinstance(pairs, bytes) else urlencode(pairs).encode()
        return self.send(
            "POST",
            path,
            body=body,
            headers=[(b"content-type", b"application/x-www-form-urlencoded"), *headers],
        )

    def document(self, answer: Answer, statuses: Iterable[int]) -> dict[str, Any]:
        """Return the document of an answer to a client, after a look at its form (RFC 6749 §5.1 and
        §5.2).
        """
        assert answer.status in statuses, answer
        assert answer.all(b"content-type") == [b"application/json"], answer
        assert answer.all(b"cache-control") == [b"no-store"], answer
        document: dict[str, Any] = json.loads(answer.body)
        if answer.status >= 400:
            assert document.keys() == {"error", "error_description"}, document
            assert _DESCRIPTION.fullmatch(document["error_description"]), document
        return document

    def open(
        self, target: str, form: Mapping[str, str] | None = None, *, anonymous: bool = False
    ) -> Answer:
        """Open a page in the browser, or send a form of one."""
        path, _, query = target.partition("?")
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items()).encode()
        headers = [(b"cookie", cookies)] if cookies and not anonymous else []
        answer = (
            self.send("GET", path, query=query.encode(), headers=headers)
            if form is None
            else self.form(path, form, headers)
        )
        for line in answer.all(b"set-cookie"):
            name, _, value = line.decode().partition(";")[0].partition("=")
            if not anonymous:
                self.cookies[name] = value
        return answer

    def authorization_path(self, client_id: str, redirect_uri: str | None = None) -> str:
        """Return where a client sends its user."""
        parameters = {
            "client_id": client_id,
            "response_type": "code",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            "redirect_uri": redirect_uri or LOOPBACK,
        }
        return f"/authorize?{urlencode(parameters)}"

    def authorize(self, client_id: str) -> str:
        """Sign in, approve, and return the code."""
        target = self.follow(self.open(self.authorization_path(client_id)))
        while target.startswith("/"):
            page = self.open(target).body.decode()
            hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
            choice = {"username": "alice"} if target.startswith("/login") else {"action": "approve"}
            target = self.follow(self.open(target.partition("?")[0], {**hidden, **choice}))
        return dict(parse_qsl(urlsplit(target).query))["code"]

    def follow(self, answer: Answer) -> str:
        """Return where an answer leads to: a path on this server, or a URL elsewhere."""
        (location,) = answer.all(b"location")
        assert answer.status == 303
        return location.decode().removeprefix(BASE_URL)

    def redeem(self, code: str) -> dict[str, Any]:
        """Return the token response for a code of ``PUBLIC``."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": VERIFIER,
            "client_id": "public",
        }
        return self.document(self.form("/token", form), {200})
