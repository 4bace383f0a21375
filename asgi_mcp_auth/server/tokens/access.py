"""Access tokens of this server: made and verified as JWTs (RFC 9068), and valid only as long as
their grant is alive.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Protocol

from ..._cache import LRUCache
from ...claims import ClaimRules
from ...errors import InvalidToken
from ...jwt import JWTVerifier
from ...tokens import AccessToken, TokenCache, access_token
from ...types import Clock, JSONObject
from .signing import Signer

GRANT_CLAIM = "grant_id"
ALGORITHMS = ("ES256", "RS256", "EdDSA")
_HEADER = {"typ": "at+jwt"}
_CACHE_SIZE = 10_000


class LiveGrants(Protocol):
    """Knows which grants are alive."""

    def is_known_alive(self, grant_id: str) -> bool:
        """Return whether a grant was found alive a moment ago."""
        ...

    async def check_alive(self, grant_id: str) -> None:
        """Check that a grant has not been revoked.

        Raises:
            InvalidToken: it has.
            ServerUnavailable: the store is not responding.
        """
        ...


class GrantVerifier(JWTVerifier):
    """Verifies this server's own access tokens.

    Args:
        issuer: this server.
        signer: has its keys.
        grants: knows which grants are alive.
        required_scopes: the scopes that every request needs.
        scope_hierarchy: the scopes that a scope includes.
        clock: for tests.
    """

    def __init__(
        self,
        *,
        issuer: str,
        signer: Signer,
        grants: LiveGrants,
        required_scopes: Sequence[str] | None,
        scope_hierarchy: Mapping[str, Sequence[str]] | None,
        clock: Clock,
    ) -> None:
        super().__init__(
            public_key=signer,
            issuer=issuer,
            algorithm=ALGORITHMS,
            required_scopes=required_scopes,
            claims=ClaimRules(require_at_jwt=True, scope_hierarchy=scope_hierarchy),
            clock=clock,
        )
        self._grants = grants
        # By the token's digest: parsing the claims for each request would take most of its time.
        self._grant_ids: LRUCache[str] = LRUCache(_CACHE_SIZE)

    async def verify(self, token: str) -> AccessToken:
        """Return the access token, verified.

        Raises:
            InvalidToken: it is not valid, or its grant has been revoked.
            ServerUnavailable: the store is not responding.
            TypeError: not a ``str``.
        """
        access = await super().verify(token)
        await self._grants.check_alive(grant_of(access))
        return access

    async def grant_id_of(self, token: str) -> str:
        """Return the id of the grant that an access token belongs to, even if the grant has been
        revoked.

        Raises:
            InvalidToken, ServerUnavailable, TypeError: as ``verify``.
        """
        return grant_of(await super().verify(token))

    def token_cache(self) -> TokenCache | None:
        """Return the cache, unless a subclass has a verdict of its own."""
        overridden = (
            type(self).verify is not GrantVerifier.verify
            or type(self).verify_token is not GrantVerifier.verify_token
        )
        return None if overridden else self._cached_token

    def _cached_token(self, token: bytes) -> AccessToken | None:
        digest = sha256(token).digest()
        verified = self._recall(digest)
        if verified is None:
            return None
        access = access_token(token.decode("ascii"), verified)
        grant_id = self._grant_ids.get(digest)
        if grant_id is None:
            try:
                grant_id = grant_of(access)
            except InvalidToken:
                return None
            self._grant_ids.put(digest, grant_id)
        return access if self._grants.is_known_alive(grant_id) else None


def grant_of(access: AccessToken) -> str:
    """Return the id of the grant that an access token belongs to.

    Raises:
        InvalidToken: it names none, so this server did not issue it.
    """
    grant_id = access.claims.get(GRANT_CLAIM)
    if type(grant_id) is not str:
        raise InvalidToken("rejected")
    return grant_id


async def make_access_token(
    signer: Signer,
    *,
    issuer: str,
    audience: str,
    subject: str,
    client_id: str,
    scopes: Sequence[str],
    grant_id: str,
    issued_at: int,
    expires_at: int,
    signed_in_at: int | None = None,
    claims: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Return a new access token (RFC 9068 §2).

    Args:
        signer: signs it.
        issuer: this server.
        audience: the resource.
        subject: the person, or the client that acts for itself.
        client_id: the client.
        scopes: the scopes of this token.
        grant_id: the grant that the token lives and dies with.
        issued_at: epoch seconds.
        expires_at: epoch seconds.
        signed_in_at: epoch seconds of the person's sign-in, ``None`` if there was none.
        claims: further claims; they cannot replace those above.
    """
    content: JSONObject = {
        **claims,
        "iss": issuer,
        "sub": subject,
        "aud": audience,
        "client_id": client_id,
        "iat": issued_at,
        "exp": expires_at,
        "jti": secrets.token_urlsafe(16),
        "scope": " ".join(scopes),
        GRANT_CLAIM: grant_id,
    }
    if signed_in_at is not None:
        content["auth_time"] = signed_in_at
    return await signer.sign(_HEADER, content)
