"""Access tokens of this server: made as RFC 9068 says, verified as any other issuer's, alive as
long as their grant.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from hashlib import sha256

from ..._cache import LRUCache
from ...claims import ClaimRules
from ...errors import InvalidToken
from ...jwt import JWTVerifier
from ...tokens import AccessToken, TokenCache, access_token
from ...types import Clock, JSONObject
from ..grants.ledger import KNOWN_GRANTS, Ledger
from ..grants.lifecycle import Granted
from .signing import Signer

GRANT_CLAIM = "grant_id"
ALGORITHMS = ("ES256", "RS256", "EdDSA")
_HEADER = {"typ": "at+jwt"}


class GrantVerifier(JWTVerifier):
    """Verifies this server's own access tokens.

    Args:
        issuer: this server.
        signer: its keys.
        ledger: says which grants are alive.
        required_scopes: scopes that every request needs.
        scope_hierarchy: scopes that a scope includes.
        clock: for tests.
    """

    def __init__(
        self,
        *,
        issuer: str,
        signer: Signer,
        ledger: Ledger,
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
        self._ledger = ledger
        # By the token's digest: parsing the claims for each request would take most of its time.
        self._grant_ids: LRUCache[str] = LRUCache(KNOWN_GRANTS)

    async def verify(self, token: str) -> AccessToken:
        """Return what ``token`` grants.

        Raises:
            InvalidToken: it is not valid, or its grant has ended.
            ServerUnavailable: the store does not answer.
            TypeError: not a ``str``.
        """
        access = await super().verify(token)
        await self._ledger.check_alive(grant_of(access))
        return access

    async def grant_id_of(self, token: str) -> str:
        """Return the grant that an access token belongs to, whether or not it has ended.

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
        return access if self._ledger.is_known_alive(grant_id) else None


def grant_of(access: AccessToken) -> str:
    """Return the id of the grant that an access token belongs to.

    Raises:
        InvalidToken: it names none, so it is not one of ours.
    """
    grant_id = access.claims.get(GRANT_CLAIM)
    if type(grant_id) is not str:
        raise InvalidToken("rejected")
    return grant_id


async def make_access_token(
    granted: Granted,
    *,
    issuer: str,
    resource: str,
    lifetime_seconds: float,
    signer: Signer,
    clock: Clock,
) -> tuple[str, int]:
    """Return a new access token for a grant, and for how many seconds it is good: no longer than
    the grant.

    RFC 9068 §2.
    """
    grant, now = granted.grant, int(clock.time())
    seconds = max(1, min(int(lifetime_seconds), grant.expires_at - now))
    claims: JSONObject = {
        **(grant.person.claims if grant.person else {}),
        "iss": issuer,
        "sub": grant.subject,
        "aud": resource,
        "client_id": grant.client_id,
        "iat": now,
        "exp": now + seconds,
        "jti": secrets.token_urlsafe(16),
        "scope": " ".join(granted.scopes),
        GRANT_CLAIM: granted.grant_id,
    }
    if grant.signed_in_at is not None:
        claims["auth_time"] = grant.signed_in_at
    return await signer.sign(_HEADER, claims), seconds
