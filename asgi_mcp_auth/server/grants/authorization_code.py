"""Authorization codes: issued after a sign-in, and redeemed once (RFC 6749 §4.1)."""

from __future__ import annotations

from dataclasses import replace

from ...errors import InvalidGrant
from ..parties import Person
from ..records import hash_of, new_secret
from ..table import Outcome
from . import refresh_token
from .codes import find_mismatch, grant_from, grant_of_code
from .grant_type import Granted, Grants, GrantType, TokenRequest, is_recent
from .records import AuthorizationRequest, Code, Grant


async def issue_code(
    grants: Grants,
    request: AuthorizationRequest,
    person: Person,
    scopes: list[str],
    signed_in_at: int,
    *,
    code: str | None = None,
) -> str | None:
    """Return a new authorization code (RFC 6749 §4.1.2).

    Args:
        grants: the parts of grant types.
        request: the authorization request.
        person: the person who approved it.
        scopes: the scopes that they granted.
        signed_in_at: epoch seconds of their sign-in.
        code: a secret that becomes the code. If it has become one before, for the same request, it
            is returned again until it is redeemed.

    Returns:
        The code; ``None`` if ``code`` has been redeemed, or was issued for another request.
    """
    record = Code(
        client_id=request.client_id,
        redirect_uri=request.redirect_uri,
        code_challenge=request.code_challenge,
        resource=request.resource,
        person=person,
        scopes=scopes,
        signed_in_at=signed_in_at,
        expires_at=int(grants.clock.time() + grants.lifetimes.code_seconds),
    )
    code = code or new_secret()
    key = hash_of(code)
    if await grants.codes.add(key, record, group=person.subject):
        return code
    before = await grants.codes.get(key)
    if before is None:
        return None
    same = replace(record, expires_at=before.expires_at, signed_in_at=before.signed_in_at)
    return code if before == same else None


async def redeem(grants: Grants, request: TokenRequest) -> Granted:
    """Redeem a code, once; it is not used up before everything has been checked.

    Raises:
        MalformedRequest: there is no code.
        InvalidGrant: the code is unknown, expired, redeemed, or was issued for another request; or
            the client may no longer have any of the scopes. A replay revokes the grant of the code.

    RFC 6749 §4.1.3; RFC 7636 §4.6; RFC 9700 §2.1.1 and §4.5.
    """
    key = hash_of(request.required("code"))
    redirect_uri = request.parameters.get("redirect_uri")
    verifier = request.parameters.get("code_verifier")
    client = request.client
    lifetimes = grants.lifetimes
    began = grants.clock.time()
    is_refreshable = refresh_token.GRANT.name in client.grant_types

    async def step(code: Code | None) -> Outcome[Code, tuple[Grant, list[str]]]:
        if code is None:
            raise InvalidGrant(reason="unknown_code")
        now = grants.clock.time()
        mismatch = find_mismatch(code, request.resource, client, redirect_uri, verifier)
        if code.used_at is not None:
            # Two requests of one client at once, or a retry by its HTTP library: that one fails,
            # and the grant stays.
            if mismatch is None and is_recent(code.used_at, began, lifetimes.code_leeway_seconds):
                raise InvalidGrant(reason="code_used")
            await grants.revocation.revoke_code(key, code, "code_replayed")
            raise InvalidGrant(reason="code_replayed")
        if mismatch is not None:
            raise InvalidGrant(reason=mismatch)
        if now >= code.expires_at:
            raise InvalidGrant(reason="code_expired")
        scopes = grants.scopes.narrow(None, code.scopes, client)
        seconds = (
            lifetimes.refresh_token_seconds if is_refreshable else lifetimes.access_token_seconds
        )
        grant = grant_from(code, int(grants.clock.time()), seconds)
        grant = await grants.with_current_person(grant)
        return Outcome(replace(code, used_at=now), (grant, scopes))

    grant, scopes = await grants.codes.retry(key, step)
    grant_id = grant_of_code(key)
    if not await grants.ledger.add(grant_id, grant):
        # Revoked between these two steps, by a replay of the code or by the person.
        raise InvalidGrant(reason="grant_revoked")
    if not is_refreshable:
        return Granted(grant_id, grant, scopes)
    return Granted(grant_id, grant, scopes, grants.refresh_tokens.make(grant_id, grant.generation))


GRANT = GrantType(
    name="authorization_code",
    response_type="code",
    is_default=True,
    use=redeem,
)
