"""An identity provider in this process; the package talks to it through httpx."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

from asgi_mcp_auth.testing import FrozenClock

from .reports import Reports
from .signing import public_jwk, sign

IDP = "https://idp.example"
CLIENT_ID = "the-proxy"
CLIENT_SECRET = "the secret of the proxy"


class Upstream:
    """Answers metadata, keys, tokens, introspection, userinfo and revocation, each as ``answers``
    says.

    Attributes:
        answers: by path: a document, a status, or an exception.
        id_token: claims to put in place of the usual ones.
        known: what introspection and userinfo say of a token.
    """

    def __init__(self, clock: FrozenClock, reports: Reports) -> None:
        self.id_token: dict[str, Any] = {}
        self.signer = "issuer"
        self.known: dict[str, dict[str, Any]] = {}
        self._clock = clock
        self._reports = reports
        self._nonce = ""
        self._number = 0
        self.answers: dict[str, Any] = {
            "/.well-known/openid-configuration": {
                "issuer": IDP,
                "authorization_endpoint": f"{IDP}/authorize",
                "token_endpoint": f"{IDP}/token",
                "revocation_endpoint": f"{IDP}/revoke",
                "userinfo_endpoint": f"{IDP}/userinfo",
                "jwks_uri": f"{IDP}/jwks",
            },
            "/jwks": {"keys": [public_jwk("issuer")]},
            "/revoke": {},
        }

    def client(self) -> httpx.AsyncClient:
        """Return what the package asks with."""
        return httpx.AsyncClient(transport=httpx.MockTransport(self._respond))

    def approve(self, location: str, **answer: str | None) -> str:
        """Sign in at the provider as the person who was sent to ``location``; return where that
        leads.
        """
        asked = dict(parse_qsl(urlsplit(location).query))
        self._nonce = asked.get("nonce", "")
        usual = {"code": "upstream-code", "state": asked["state"], "iss": IDP}
        sent = {name: value for name, value in {**usual, **answer}.items() if value is not None}
        return f"{asked['redirect_uri']}?{urlencode(sent)}"

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self._reports.note(f"asked {request.method} {request.url}", _facts(request))
        path = request.url.path
        answer = self.answers.get(path)
        if answer is None and path == "/token":
            answer = self._tokens()
        elif answer is None and path in ("/introspect", "/userinfo"):
            answer = self._about(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return _response(answer, {"error": "injected"})
        return _response(404 if answer is None else 200, answer or {})

    def _tokens(self) -> dict[str, Any]:
        self._number += 1
        now = int(self._clock.time())
        claims = {"iss": IDP, "sub": "alice", "aud": CLIENT_ID, "iat": now, "exp": now + 300}
        claims |= {
            "nonce": self._nonce,
            "name": "Alice",
            "email": "alice@example.com",
            "email_verified": True,
        }
        return {
            "access_token": f"upstream-access-{self._number}",
            "refresh_token": f"upstream-refresh-{self._number}",
            "token_type": "Bearer",
            "expires_in": 3600,
            "id_token": sign(self.signer, {**claims, **self.id_token}, typ="JWT"),
        }

    def _about(self, request: httpx.Request) -> Any:
        token = dict(parse_qsl(request.content.decode())).get("token")
        token = token or request.headers.get("authorization", "").removeprefix("Bearer ")
        if request.url.path == "/userinfo":
            return self.known.get(token, 401)
        return {"active": True, **self.known[token]} if token in self.known else {"active": False}


def _response(status: int, document: Any) -> httpx.Response:
    # As a stream, which is how answers come from a network.
    stream = httpx.ByteStream(json.dumps(document).encode())
    return httpx.Response(status, headers={"content-type": "application/json"}, stream=stream)


def _facts(request: httpx.Request) -> dict[str, Any]:
    names = ("authorization", "content-type", "accept")
    headers = {name: request.headers[name] for name in names if name in request.headers}
    return {**headers, "body": request.content.decode()} if request.content else headers


def issued(clock: FrozenClock, **claims: Any) -> dict[str, Any]:
    """Return the claims of an access token for the resource; ``None`` leaves one out when it is
    signed.
    """
    now = int(clock.time())
    usual = {
        "iss": IDP,
        "sub": "alice",
        "aud": "https://mcp.example/mcp",
        "client_id": "test",
        "iat": now,
    }
    return {**usual, "exp": now + 300, "jti": "1", "scope": "mcp:read", **claims}
