"""Refresh tokens: a new access token for a grant that has started (RFC 6749 §6).

Theory of operation
-------------------
A grant has one refresh token at a time, that of its current generation. Tokens are not stored,
because any worker can compute one from the grant id and a generation. *Rotation* is one write that
counts the generation up. Of several requests with the same token one wins, and the others read what
it wrote.

The token before the current one comes from a client that never got its answer, or whose windows
share one token, or from a thief, or from the client after a thief. A thief has no reason to come
within minutes of the client, so the leeway decides.

    token's generation   client rotates   last rotation   answer                  written
    -------------------  ---------------  --------------  ----------------------  ------------------
    current              yes              any             the next token          generation, time
    current              no               just now        the same token          the person and the
                                                                                  time, if changed
    current              no               earlier         the same token          the time, against
                                                                                  the idle timeout
    the one before       any              in the leeway   the current token,      nothing
                                                          for the lost answer
    any other            any              any             ``refresh_replayed``    the revocation

Public clients always rotate (RFC 9700 §4.14.2), confidential ones unless ``rotate_confidential`` is
off. Before any row but the last, the login step is asked about the sign-in, and the operator's
``grant_scopes`` about the scopes. If either leaves nothing, the grant is revoked.
"""

from __future__ import annotations

from dataclasses import replace

from ...errors import InvalidGrant
from ..parties import Client
from ..table import Outcome
from .grant_type import Granted, Grants, GrantType, TokenRequest, is_recent
from .records import Grant

BURST_SECONDS = 10.0  # many requests at once write the time of the last one only once


async def refresh(grants: Grants, request: TokenRequest) -> Granted:
    """Use a refresh token.

    Raises:
        MalformedRequest: there is no refresh token.
        InvalidGrant: it is not a refresh token of this client, its grant is revoked or over, or
            the client may no longer have any of the scopes. A replay revokes the grant.
        InvalidScope: the client asks for more than was granted.

    RFC 6749 §6; RFC 9700 §4.14.2.
    """
    client = request.client
    scope = request.parameters.get("scope")
    grant_id, generation = grants.refresh_tokens.parse(request.required("refresh_token"))
    began = grants.clock.time()
    leeway = grants.lifetimes.refresh_leeway_seconds

    async def step(known: Grant | None) -> Outcome[Grant, Granted]:
        grant = _check_refreshable(grants, grant_id, known)
        if grant.client_id != client.client_id:
            raise InvalidGrant(reason="refresh_client")
        if grant.resource != request.resource:
            raise InvalidGrant(reason="other_resource")
        is_current = generation == grant.generation
        is_retry = generation == grant.generation - 1 and is_recent(grant.rotated_at, began, leeway)
        if not (is_current or is_retry):
            await grants.revocation.revoke(grant_id, "refresh_replayed")
            raise InvalidGrant(reason="refresh_replayed")
        renewed, scopes = await _renew(grants, grant_id, grant, client, scope)
        if is_retry:
            token = grants.refresh_tokens.make(grant_id, grant.generation)
            return Outcome(None, Granted(grant_id, renewed, scopes, token))
        if client.is_public or grants.rotate_confidential:
            renewed = replace(renewed, generation=generation + 1, rotated_at=grants.clock.time())
        elif renewed != grant or not is_recent(grant.rotated_at, began, BURST_SECONDS):
            renewed = replace(renewed, rotated_at=grants.clock.time())
        token = grants.refresh_tokens.make(grant_id, renewed.generation)
        return Outcome(renewed, Granted(grant_id, renewed, scopes, token))

    return await grants.ledger.retry(grant_id, step)


async def _renew(
    grants: Grants, grant_id: str, grant: Grant, client: Client, scope: str | None
) -> tuple[Grant, list[str]]:
    """Return the grant with the person as the login step describes them now, and the scopes of the
    new access token.

    Raises:
        InvalidGrant: the sign-in has ended, or the person may grant none of the scopes any more,
            and the grant is revoked; or the limit of the client excludes all of them, and it is
            not.
        InvalidScope: the client asks for more than was granted.
    """
    scopes = grants.scopes.narrow(scope, grant.scopes, client)
    try:
        renewed = await grants.with_current_person(grant)
        if renewed.person is not None:
            scopes = await grants.scopes.filter_still_grantable(
                renewed.person, client, renewed.scopes, scopes
            )
    except InvalidGrant as error:
        await grants.revocation.revoke(grant_id, error.reason)
        raise
    return renewed, scopes


async def find_by_refresh_token(
    grants: Grants, token: str, resource: str
) -> tuple[Grant, int] | None:
    """Return the grant whose current refresh token this is, and when the token expires, in epoch
    seconds.
    """
    try:
        grant_id, generation = grants.refresh_tokens.parse(token)
        grant = _check_refreshable(grants, grant_id, await grants.ledger.get(grant_id))
    except InvalidGrant:
        return None
    if generation != grant.generation or grant.resource != resource:
        return None
    return grant, int(grants.ledger.refresh_ends_at(grant))


def grant_of_refresh_token(grants: Grants, token: str) -> str | None:
    """Return the id of the grant that a refresh token belongs to, even if the token is no longer
    valid; ``None`` if it is not a refresh token of this server.
    """
    try:
        return grants.refresh_tokens.parse(token)[0]
    except InvalidGrant:
        return None


def _check_refreshable(grants: Grants, grant_id: str, grant: Grant | None) -> Grant:
    if grant is None:
        raise InvalidGrant(reason="unknown_refresh_token")
    if grants.ledger.is_revoked(grant_id, grant):
        raise InvalidGrant(reason="grant_revoked")
    if grants.clock.time() >= grants.ledger.refresh_ends_at(grant):
        raise InvalidGrant(reason="refresh_expired")
    return grant


GRANT = GrantType(
    name="refresh_token",
    starts=False,
    is_default=True,
    use=refresh,
    event="token_refreshed",
)
