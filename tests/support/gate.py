"""Forge tokens that no issuer would make, and hold each of them against a verifier that is known to
work.

gate = Gate()
await gate.accepts(gate.forge())
await gate.refuses(gate.forge(header={"alg": "none"}), "algorithm")

``refuses`` is one experiment: the same verifier accepts a good token, refuses the bad one for
exactly the named reason, in Python and over HTTP, without a word of the token in the response or in
the log, and accepts a good token again.
"""

from __future__ import annotations

import base64
import functools
import json
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from asgi_mcp_auth import (
    AccessToken,
    AuthProvider,
    InvalidToken,
    JWTVerifier,
    MCPAuthMiddleware,
    Refusal,
    RemoteAuthProvider,
)
from asgi_mcp_auth._jose import SigningKey
from asgi_mcp_auth._json import encode_base64url
from asgi_mcp_auth.testing import FrozenClock
from tests.support.absent import ABSENT
from tests.support.asgi import Response, Spy, call

NOW = 1_800_000_000
ISSUER = "https://idp.example.com"
BASE_URL = "https://mcp.example.com"
AUDIENCE = "https://mcp.example.com/mcp"

_BEARER_TOKEN = re.compile(r"(?:(?![\"',])[!-~])+")


_new_key = functools.cache(SigningKey)  # RSA keys take long to make


def signing_key(algorithm: str = "ES256", key_id: str = "key-1") -> SigningKey:
    """Return a private key, the same one for the same arguments."""
    return _new_key(algorithm, key_id)


def usual_claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good token, with changes."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "client_id": "test-client",
        "iat": NOW - 10,
        "exp": NOW + 300,
        "jti": secrets.token_urlsafe(8),
        "scope": "mcp:read",
    }
    return _present({**claims, **changes})


def segment(value: Any) -> str:
    """Return one part of a compact JWS: bytes as they are, anything else as JSON."""
    return encode_base64url(value if isinstance(value, bytes) else json.dumps(value).encode())


def header_of(token: str) -> dict[str, Any]:
    """Return the header of a JWT, unverified."""
    return _parsed(token.split(".")[0])


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a JWT, unverified."""
    return _parsed(token.split(".")[1])


def _parsed(part: str) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return members


def compact(header: Any, payload: Any, sign: Callable[[bytes], bytes]) -> str:
    """Return a JWS of any header and payload, bytes or JSON, with whatever signature (RFC 7515
    §7.1).
    """
    signing_input = f"{segment(header)}.{segment(payload)}"
    return f"{signing_input}.{encode_base64url(sign(signing_input.encode()))}"


class Gate:
    """A verifier in Python and behind a middleware, with the means to make good and bad tokens for
    it.

    Args:
        verifier: built from ``settings`` when it is left out.
        algorithm: of the key that signs the good tokens.
        good: makes a good token; by default a fresh JWT.
        required_scopes: of the middleware.
        settings: for the ``JWTVerifier``. It remembers no tokens unless told to, so that each
            verdict is a new one.
    """

    def __init__(
        self,
        verifier: AuthProvider | None = None,
        *,
        algorithm: str = "ES256",
        good: Callable[[], str] | None = None,
        required_scopes: list[str] | None = None,
        **settings: Any,
    ) -> None:
        self.key = signing_key(algorithm)
        self.clock: FrozenClock = settings.setdefault("clock", FrozenClock(NOW))
        if verifier is None:
            settings = {"issuer": ISSUER, "token_cache_size": 0, **settings}
            if not {"public_key", "jwks_uri"} & settings.keys():
                settings["public_key"] = self.key.public_jwk()
            verifier = JWTVerifier(**settings)
        self.verifier: Any = verifier
        self.good = good or self.forge
        self.app = Spy()
        self.events: list[Refusal] = []
        self.middleware = MCPAuthMiddleware(
            self.app,
            RemoteAuthProvider(verifier, [ISSUER], BASE_URL),
            mcp_path="/mcp",
            required_scopes=required_scopes,
            on_event=self.events.append,
        )

    def forge(
        self,
        *,
        header: Mapping[str, Any] | bytes | None = None,
        claims: Mapping[str, Any] | bytes | None = None,
        key: SigningKey | None = None,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> str:
        """Return a token that is good but for the changes.

        Args:
            header: members to change, or all of it as bytes.
            claims: members to change, or all of it as bytes.
            key: signs instead of the trusted one, and names itself in the header.
            sign: makes the signature instead.
        """
        key = key or self.key
        usual = {"alg": key.algorithm, "kid": key.key_id, "typ": "at+jwt"}
        return compact(
            header if isinstance(header, bytes) else _present({**usual, **(header or {})}),
            claims if isinstance(claims, bytes) else usual_claims(**(claims or {})),
            sign or key.sign,
        )

    async def accepts(self, token: str) -> AccessToken:
        """Check that the token passes, in Python and over HTTP, and return what it grants."""
        access: AccessToken = await self.verifier.verify(token)
        self.app.scopes.clear()
        response = await self.call(token)
        assert response.status == 200, (response.status, self.events[-1:])
        assert self.app.scope["access_token"] == access
        return access

    async def refuses(self, token: str, *reasons: str, good: str | None = None) -> None:
        """Check that the token is refused for one of ``reasons``, and that a good one passes before
        and after.
        """
        await self.accepts(good or self.good())
        await self.only_refuses(token, *reasons)
        await self.accepts(good or self.good())

    async def only_refuses(self, token: str, *reasons: str) -> None:
        """Check that the token is refused, where no good one exists."""
        with _Records() as records:
            reason = await self._reason_of(token)
            assert reason in reasons, f"refused for {reason}, not for {' or '.join(reasons)}"
            assert await self.verifier.verify_token(token) is None
            assert [record.__dict__["reason"] for record in records.refusals()] == [reason]

            self.app.scopes.clear()
            self.events.clear()
            if not _BEARER_TOKEN.fullmatch(token):
                # not even a Bearer credential: what HTTP says to that is in tests/request_path
                return
            response = await self.call(token)
        assert self.app.scopes == []
        challenge = response.header("www-authenticate") or ""
        if reason == "too_long":
            assert (response.status, response.json()["error"]) == (431, "invalid_request")
            assert challenge == ""
        else:
            assert (response.status, response.json()["error"]) == (401, "invalid_token")
            assert challenge.startswith(
                'Bearer error="invalid_token", resource_metadata="https://mcp.example.com/'
            )
        assert [event.reason for event in self.events] == [reason]
        for text in (challenge, response.body.decode(), *map(str, records.messages())):
            _says_nothing(text, token)

    async def _reason_of(self, token: str) -> str:
        try:
            access = await self.verifier.verify(token)
        except InvalidToken as refusal:
            _says_nothing(str(refusal), token)
            return refusal.reason
        raise AssertionError(f"accepted: {access}")

    async def call(self, token: str) -> Response:
        """Send the token over HTTP."""
        return await call(self.middleware, "POST", "/mcp", {"Authorization": f"Bearer {token}"})


class _Records(logging.Handler):
    """Collects what the package logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.all: list[logging.LogRecord] = []

    def __enter__(self) -> _Records:
        self._logger = logging.getLogger("asgi_mcp_auth")
        self._level = self._logger.level
        self._logger.setLevel(logging.DEBUG)
        self._logger.addHandler(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(record)

    def refusals(self) -> list[logging.LogRecord]:
        return [record for record in self.all if hasattr(record, "reason")]

    def messages(self) -> list[str]:
        return [f"{record.getMessage()} {record.__dict__}" for record in self.all]


def _says_nothing(text: str, token: str) -> None:
    for part in (token, *token.split(".")):
        assert len(part) < 12 or part not in text, f"{part!r} of the token is in {text!r}"


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ABSENT}
