"""Client credentials: a client gets a token for itself, without a person (RFC 6749 §4.4)."""

from __future__ import annotations

from ..records import new_secret
from .grant_type import Granted, Grants, GrantType, TokenRequest
from .records import Grant


async def issue(grants: Grants, request: TokenRequest) -> Granted:
    """Start a grant for the client itself; it gets no refresh token (RFC 6749 §4.4.3).

    Raises:
        InvalidScope: the client asks for more than it may have.
    """
    scopes = grants.scopes.parse_requested(request.parameters.get("scope"), request.client)
    now = int(grants.clock.time())
    grant = Grant(
        client_id=request.client.client_id,
        resource=request.resource,
        person=None,
        scopes=scopes,
        created_at=now,
        expires_at=now + int(grants.lifetimes.access_token_seconds),
    )
    grant_id = new_secret()[:22]
    await grants.ledger.add(grant_id, grant)
    return Granted(grant_id, grant, scopes)


GRANT = GrantType(
    name="client_credentials",
    needs_authentication=True,
    acts_for_itself=True,
    self_registration=False,
    use=issue,
    switch="client_credentials",
)
