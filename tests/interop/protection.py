"""What the tests of frameworks and servers have in common: a local issuer, a provider for it,
tokens from it.
"""

from __future__ import annotations

from typing import Any

from asgi_mcp_auth import JWTVerifier, RemoteAuthProvider
from asgi_mcp_auth.testing import Issuer
from tests.support.protection import BASE_URL, METADATA_PATH, METADATA_URL, RESOURCE

__all__ = [
    "BASE_URL",
    "CHALLENGE",
    "METADATA_PATH",
    "METADATA_URL",
    "RESOURCE",
    "as_user",
    "bearer",
    "provider_for",
]

CHALLENGE = f'Bearer resource_metadata="{METADATA_URL}", scope="mcp:read"'


def provider_for(issuer: Issuer, base_url: str = BASE_URL) -> RemoteAuthProvider:
    """Return a provider that takes the issuer's tokens and asks for ``mcp:read``."""
    verifier = JWTVerifier(issuer=issuer.issuer, required_scopes=["mcp:read"])
    return RemoteAuthProvider(verifier, authorization_servers=[issuer.issuer], base_url=base_url)


def bearer(token: str) -> dict[str, str]:
    """Return the header that presents a token."""
    return {"Authorization": f"Bearer {token}"}


def as_user(
    issuer: Issuer, sub: str = "alice", scope: str = "mcp:read", **claims: Any
) -> dict[str, str]:
    """Return the header of a user with a new token."""
    return bearer(issuer.mint(**{"aud": RESOURCE, "sub": sub, "scope": scope, **claims}))
