"""The identity provider's tokens: kept as long as a grant needs them, refreshed when necessary.

Theory of operation. A sign-in has one record in the store (``KeptTokens``). Three rules:

1. A refresh token is used by one worker at a time: providers that rotate refresh tokens treat a
   second use as theft. The worker takes the lease of the record's turn before it sends anything,
   and every attempt ends the turn, whatever came of it.
2. The provider's answer is never lost: it may be the only copy of the next refresh token.
3. An outage is not a verdict. Only the provider's refusal, or another user's tokens, end a sign-in.

What the caller of ``_current`` gets, who needs an access token:

    access token      | refresh token | lease      | caller gets         | written
    (no record)       |               |            | InvalidGrant        |
    fresh             | any           | any        | the access token    |
    due, still valid  | none          |            | the access token    |
    expired           | none          |            | InvalidGrant        | record deleted
    due or expired    | yes           | free       | see the next table  | the lease
    due or expired    | yes           | refreshing | waits, looks again  |
    due, still valid  | yes           | failed     | the access token    |
    expired           | yes           | failed     | ServerUnavailable   |

What the worker with the lease makes of the provider's answer (``Refresher``). "Old token" means:
while it has not expired, and ``ServerUnavailable`` afterwards:

    answer            | record meanwhile | caller gets         | written
    new tokens        | unchanged        | the new token       | new tokens, unchecked; next turn
    new tokens        | refreshed        | the record's token  |
    new tokens        | gone             | InvalidGrant        | new tokens are revoked
    invalid_grant     | unchanged        | InvalidGrant        | record deleted
    invalid_grant     | refreshed        | the record's token  |
    in other words    | any              | the old token       | next turn, its lease failed
    the same, expired | any              | as invalid_grant    | as invalid_grant
    unusable, or none | any              | the old token       | next turn, its lease failed
    (no metadata yet) | any              | the old token       |

What becomes of refreshed tokens before they are handed out for the first time (``_decide``). When
the grant itself is refreshed, what is known of the user is decided on again in any case:

    they belong to               | caller gets         | written
    the same user, admitted      | the access token    | checked, with the new claims
    (they do not say)            | the access token    | checked, with the old claims
    the same user, not admitted  | InvalidGrant        | tokens are revoked, record deleted
    another user, or are invalid | InvalidGrant        | tokens are revoked, record deleted
    (invalid during a refresh)   | ServerUnavailable   |
    unknown: key not published   | ServerUnavailable   | expired now; next turn, its lease failed
    the same, for five minutes   | InvalidGrant        | tokens are revoked, record deleted
    unknown: an outage           | ServerUnavailable   |
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

from ..errors import InvalidGrant, ServerUnavailable, SignInFailed
from ..server.parties import Person
from ..server.records import hash_of, new_secret
from ..stores import Store
from ..types import Clock, JSONObject
from .answers import TokenAnswer
from .client import UpstreamClient
from .identity import Identifier, merged
from .kept import KeptTokens, SignIns
from .options import UpstreamIdentity
from .refresh import COOLDOWN_SECONDS, LEASE_SECONDS, Leases, Refresher, Sleep
from .returns import Return, Returns

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05
LOOKS = int(1.2 * LEASE_SECONDS / POLL_SECONDS)
SLACK_SECONDS = 60.0  # for the clocks of several hosts
KEY_COOLDOWN_SECONDS = 5.0  # a key set is not fetched again sooner
# How long a provider may sign with a key that it does not publish.
KEY_SECONDS = 300.0

# Decides whether a user may still use the service, and as whom. Raises InvalidGrant or
# ServerUnavailable.
Admit: TypeAlias = Callable[[UpstreamIdentity], Awaitable[Person]]


class UpstreamTokens:
    """Keeps the tokens of sign-ins, each under a reference that the person's grant carries.

    Every method but ``end`` and ``settle`` raises ``InvalidGrant`` when the sign-in has ended, and
    ``ServerUnavailable`` while the provider or the store is not responding.

    Args:
        store: keeps the tokens, encrypted.
        clock: decides what has expired.
        client: talks to the provider.
        identifier: finds out whose refreshed tokens are.
        returns: revokes tokens that are no longer needed.
        merges_claims: whether refreshed tokens bring only a part of the user's claims, so that the
            others are kept.
        sleep: waits for some seconds.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        client: UpstreamClient,
        identifier: Identifier,
        returns: Returns,
        *,
        merges_claims: bool = False,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._identifier = identifier
        self._returns = returns
        self._merges_claims = merges_claims
        self._sleep = sleep
        self._leases = Leases(store)
        self._sign_ins = SignIns(store, clock, returns)
        self._refresher = Refresher(self._sign_ins, self._leases, clock, client, returns, sleep)

    async def keep(
        self, identity: UpstreamIdentity, answer: TokenAnswer, asked_at: float, seconds: float
    ) -> str:
        """Keep the tokens and claims of a new sign-in, and return their reference.

        The tokens are revoked unless a grant starts within ``seconds``.
        """
        reference, now = new_secret(), self._clock.time()
        if answer.access_token:
            back = Return(
                access_token=answer.access_token,
                refresh_token=answer.refresh_token,
                due_at=now + seconds + SLACK_SECONDS,
            )
            await self._returns.schedule(hash_of(reference), back)
        tokens = KeptTokens(
            identity=_storable(identity),
            access_token=answer.access_token,
            refresh_token=answer.refresh_token,
            expires_at=None if answer.expires_in is None else asked_at + answer.expires_in,
            lifetime=answer.expires_in or 0,
            ends_at=now + seconds,
        )
        await self._sign_ins.put(hash_of(reference), tokens)
        return reference

    async def extend(self, reference: str, seconds: float, admit: Admit) -> Person | None:
        """Decide again about a user, and keep their tokens for at least ``seconds`` more.

        Returns:
            The person, or ``None`` if there are no claims to decide by.
        """
        key = hash_of(reference)
        tokens = await self._current(key)
        person = await self._decide(key, tokens, admit)
        if not tokens.is_claimed:
            # Before the claim is recorded: a crash in between must not leave a scheduled return.
            await self._returns.cancel(key)
        ends_at = self._clock.time() + seconds
        await self._sign_ins.update(
            key, lambda known: replace(known, ends_at=max(known.ends_at, ends_at), is_claimed=True)
        )
        return person

    async def fresh_access_token(self, reference: str, admit: Admit) -> str:
        """Return an access token that stays valid for a while.

        Decides again about the user if the tokens had to be refreshed.
        """
        key = hash_of(reference)
        tokens = await self._current(key)
        if not tokens.is_checked:
            await self._decide(key, tokens, admit)
        return tokens.access_token

    async def end(self, reference: str) -> None:
        """Delete the tokens, and have them revoked.

        Raises:
            ServerUnavailable: the store is not responding.
        """
        key = hash_of(reference)
        with suppress(InvalidGrant):  # it has ended already
            await self._sign_ins.end(key, revoke=await self._sign_ins.find(key))

    async def settle(self) -> None:
        """Wait for refreshes under way: their answers must not be lost."""
        await self._refresher.settle()

    async def _current(self, key: str) -> KeptTokens:
        """Return the tokens of a sign-in, refreshed if necessary and possible (first table)."""
        is_refreshed = False
        for _ in range(LOOKS):
            tokens, now = await self._sign_ins.find(key), self._clock.time()
            if is_refreshed or not tokens.needs_refresh(now):
                return tokens
            if tokens.refresh_token is None:
                if tokens.is_valid(now):
                    return tokens
                await self._sign_ins.end(key)
                raise InvalidGrant(reason="sign_in_ended")
            lease = await self._leases.state(key, tokens.turn)
            if lease == "free":
                is_refreshed = await self._refresher.refresh(key, tokens, tokens.refresh_token)
            elif lease == "refreshing":
                await self._sleep(POLL_SECONDS)
            elif tokens.is_valid(now):
                return tokens
            else:
                # Not every caller has to wait for the same time-out.
                raise ServerUnavailable(COOLDOWN_SECONDS)
        raise ServerUnavailable

    async def _decide(self, key: str, tokens: KeptTokens, admit: Admit) -> Person | None:
        """Check whose the tokens are and whether that user is still admitted (third table)."""
        identity = tokens.identity
        told = None if tokens.is_checked else await self._identify(key, tokens)
        person = None
        # Records of the first builds have no claims. Then a refreshed ID token decides, unless it
        # brings only a part of them.
        if identity.claims or (told is not None and not self._merges_claims):
            identity = identity if told is None else _storable(told)
            try:
                person = await admit(identity)
            except InvalidGrant as error:
                await self._sign_ins.end(key, revoke=tokens)
                raise InvalidGrant(reason=error.reason) from None

        def change(known: KeptTokens) -> KeptTokens | None:
            if known.access_token != tokens.access_token:
                return None  # refreshed again meanwhile
            return replace(
                known, is_checked=True, id_token=None, unknown_since=None, identity=identity
            )

        if not tokens.is_checked:
            await self._sign_ins.update(key, change)
        return person

    async def _identify(self, key: str, tokens: KeptTokens) -> UpstreamIdentity | None:
        """Return what refreshed tokens say of the user, ``None`` if they say nothing.

        OpenID Connect Core §12.2.
        """
        known, answer = tokens.identity, TokenAnswer(tokens.access_token, id_token=tokens.id_token)
        try:
            identity = await self._identifier.identify_refreshed(answer, tokens.answered_at)
        except SignInFailed as error:
            is_replaced = (await self._sign_ins.find(key)).access_token != tokens.access_token
            if is_replaced or await self._leases.state(key, tokens.turn) == "refreshing":
                # A refresh during this check may have invalidated these tokens.
                raise ServerUnavailable(COOLDOWN_SECONDS) from None
            if error.reason == "unknown_signer":
                await self._wait_for_key(key, tokens)
            await self._sign_ins.end(key, revoke=tokens)
            raise InvalidGrant(reason="sign_in_ended") from None
        if identity is None:
            return None
        if (identity.issuer, identity.subject) != (known.issuer, known.subject):
            logger.warning(
                "Refreshed tokens of the identity provider belong to another user: the sign-in ends"
            )
            await self._sign_ins.end(key, revoke=tokens)
            raise InvalidGrant(reason="sign_in_ended")
        if self._merges_claims:
            return replace(identity, claims=merged(identity.claims, known.claims))
        return identity

    async def _wait_for_key(self, key: str, tokens: KeptTokens) -> None:
        """Postpone the check of tokens that are signed with an unknown key, for five minutes.

        The key may be too new, or by now too old, to be published. The next refresh brings tokens
        that a key of that moment has signed.

        Raises:
            ServerUnavailable: try again.
        """
        now = self._clock.time()
        since = now if tokens.unknown_since is None else tokens.unknown_since
        if now < since + KEY_SECONDS:
            await self._refresher.end_turn(
                key, tokens, KEY_COOLDOWN_SECONDS, expires_at=now, unknown_since=since
            )
            raise ServerUnavailable(KEY_COOLDOWN_SECONDS)


def _storable(identity: UpstreamIdentity) -> UpstreamIdentity:
    """Return an identity with those claims that JSON can hold: a custom verifier may add others."""
    claims: JSONObject = {}
    for name, value in identity.claims.items():
        with suppress(TypeError, ValueError, RecursionError):
            json.dumps({name: value}, ensure_ascii=False).encode()
            claims[name] = value
    # Without any claim it would look like a record of the first builds.
    return replace(identity, claims=claims or {"sub": identity.subject})
