"""Clients that sign what they say (RFC 7523): their keys, and assertions that are right but for
what a test changes.
"""

from __future__ import annotations

import functools
import itertools
import secrets
from collections.abc import Mapping
from typing import Any

from asgi_mcp_auth._jose import ASYMMETRIC, SigningKey, sign_jwt
from asgi_mcp_auth.types import Clock
from tests.support.absent import ABSENT

ALGORITHMS = ASYMMETRIC
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@functools.cache
def key_of(algorithm: str, name: str = "key") -> SigningKey:
    """Return a key, the same one each time: making an RSA key takes long."""
    return SigningKey(algorithm, f"{name}-{algorithm}")


def key_set(*keys: SigningKey) -> dict[str, Any]:
    """Return the public halves as a JWK set."""
    return {"keys": [key.public_jwk() for key in keys]}


class Robot:
    """A client that authenticates with private_key_jwt.

    Args:
        issuer: of the authorization server.
        clock: its own.
        algorithm: of its key.
        client_id: its identifier.

    Attributes:
        metadata: for ``Registration(clients=[…])``.
    """

    def __init__(
        self, issuer: str, clock: Clock, *, algorithm: str = "ES256", client_id: str = "robot"
    ) -> None:
        self.client_id = client_id
        self.issuer = issuer
        self.clock = clock
        self.key = key_of(algorithm)
        self._numbers = itertools.count()
        self.metadata: dict[str, Any] = {
            "client_id": client_id,
            "grant_types": ["client_credentials"],
            "jwks": key_set(self.key),
        }

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Return the claims of an assertion; ``ABSENT`` leaves one out."""
        now = int(self.clock.time())
        usual = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.issuer,
            "iat": now,
            "exp": now + 60,
            "jti": f"{next(self._numbers)}-{secrets.token_hex(8)}",
        }
        return {name: value for name, value in {**usual, **changed}.items() if value is not ABSENT}

    def assertion(
        self,
        *,
        header: Mapping[str, Any] | None = None,
        key: SigningKey | None = None,
        **changed: Any,
    ) -> str:
        """Return an assertion."""
        key = key or self.key
        members = {"alg": key.algorithm, "kid": key.key_id, "typ": "JWT", **(header or {})}
        return sign_jwt(
            key,
            {name: value for name, value in members.items() if value is not ABSENT},
            self.claims(**changed),
        )

    def form(self, assertion: str | None = None, **more: str | None) -> dict[str, str | None]:
        """Return the parameters of a token request."""
        return {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion or self.assertion(),
            **more,
        }
