"""The identity provider's tokens, kept for as long as a grant needs them: refreshed when due, by one worker at a time.

An upstream refresh token is good once, as a rule. Whoever wants to use it takes the lease first, by one swap.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidGrant, ServerUnavailable, SignInFailed
from ..server.models import Stored, hash_of, new_secret
from ..stores import Store
from ..types import Clock
from .client import TIMEOUT_SECONDS, TokenAnswer, UpstreamClient
from .identity import Identifier
from .options import UpstreamIdentity

logger = logging.getLogger(__name__)

TOKENS = "upstream"
LEASE_SECONDS = 2 * TIMEOUT_SECONDS  # longer than one refresh takes
COOLDOWN_SECONDS = 1.0
MARGIN_SECONDS = 60.0  # a token that is given out shall still be good for a while
POLL_SECONDS = 0.05
LOOKS = int(1.2 * LEASE_SECONDS / POLL_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTokens(Stored):
    """What the provider has given for one sign-in.

    Attributes:
        issuer: the provider.
        subject: whose they are there.
        access_token: for its APIs.
        refresh_token: for the next one.
        expires_at: epoch seconds of the access token, ``None`` for never.
        lifetime: seconds that it was given for.
        ends_at: epoch seconds until which this record is needed.
        id_token: came with refreshed tokens.
        is_checked: whether it is known that refreshed tokens are still this person's.
        leased_until: epoch seconds until which somebody is refreshing them.
        settled_until: epoch seconds before which nobody tries again, as long as the access token is good.
    """

    issuer: str
    subject: str
    access_token: str
    refresh_token: str | None
    expires_at: float | None
    lifetime: float
    ends_at: float
    id_token: str | None = None
    is_checked: bool = True
    leased_until: float = 0
    settled_until: float = 0

    def is_due(self, now: float) -> bool:
        """Return whether the access token has expired, or will shortly."""
        return self.expires_at is not None and now >= self.expires_at - min(MARGIN_SECONDS, self.lifetime / 5)

    def seconds_left(self, now: float) -> float:
        """Return for how long the record is needed."""
        return max(1, self.ends_at - now)

    def is_good(self, now: float) -> bool:
        """Return whether the access token has not expired."""
        return self.expires_at is None or now < self.expires_at

    def with_answer(self, answer: TokenAnswer, asked_at: float) -> KeptTokens:
        """Return them as a refresh has left them; who keeps its refresh token does not send it again."""
        return replace(
            self,
            access_token=answer.access_token,
            refresh_token=answer.refresh_token or self.refresh_token,
            expires_at=None if answer.expires_in is None else asked_at + answer.expires_in,
            lifetime=answer.expires_in or 0,
            id_token=answer.id_token,
            is_checked=False,
            leased_until=0,
            settled_until=0,
        )


class UpstreamTokens:
    """Keeps the tokens of sign-ins, each under a reference that the person's grant carries.

    Every method but ``drop`` raises ``InvalidGrant`` when the sign-in has ended, ``ServerUnavailable`` when provider or
    store do not answer.

    Args:
        store: keeps them, encrypted.
        clock: decides what is due.
        client: refreshes them.
        identifier: tells whose refreshed tokens are.
    """

    def __init__(self, store: Store, clock: Clock, client: UpstreamClient, identifier: Identifier) -> None:
        self._store = store
        self._clock = clock
        self._client = client
        self._identifier = identifier
        self._under_way: set[asyncio.Task[None]] = set()

    async def keep(self, identity: UpstreamIdentity, answer: TokenAnswer, asked_at: float, seconds: float) -> str:
        """Keep the tokens of a new sign-in so long; return their reference."""
        reference, now = new_secret(), self._clock.time()
        tokens = KeptTokens(
            issuer=identity.issuer,
            subject=identity.subject,
            access_token=answer.access_token,
            refresh_token=answer.refresh_token,
            expires_at=None if answer.expires_in is None else asked_at + answer.expires_in,
            lifetime=answer.expires_in or 0,
            ends_at=now + seconds,
        )
        await self._store.put(TOKENS, hash_of(reference), tokens.dump(), ttl=seconds)
        return reference

    async def extend(self, reference: str, seconds: float) -> None:
        """Keep live tokens at least so much longer."""
        await self.live(reference)
        ends_at = self._clock.time() + seconds
        await self._change(hash_of(reference), lambda known: replace(known, ends_at=max(known.ends_at, ends_at)))

    async def live(self, reference: str) -> str:
        """Return an access token that is good for a while."""
        key, refreshed = hash_of(reference), False
        for _ in range(LOOKS):
            record = await self._store.get(TOKENS, key)
            if record is None:
                raise InvalidGrant(reason="sign_in_ended")
            tokens, now = KeptTokens.load(record.value), self._clock.time()
            is_settled = now < tokens.settled_until or tokens.refresh_token is None
            if refreshed or not tokens.is_due(now) or (is_settled and tokens.is_good(now)):
                return await self._checked(key, tokens)
            if tokens.refresh_token is None:
                raise await self._end(key)
            if is_settled:
                raise ServerUnavailable(COOLDOWN_SECONDS)  # do not make every caller wait for the same time-out
            if now < tokens.leased_until:
                await asyncio.sleep(POLL_SECONDS)
                continue
            await self._client.endpoints()  # found before the lease begins, which shall outlast the refresh
            leased = replace(tokens, leased_until=now + LEASE_SECONDS)
            if await self._store.swap(TOKENS, key, record.etag, leased.dump(), ttl=tokens.seconds_left(now)):
                await self._in_peace(self._refresh(key, tokens, tokens.refresh_token))
                refreshed = True
        raise ServerUnavailable

    async def drop(self, reference: str) -> KeptTokens | None:
        """Forget the tokens; return them to whoever gives them back to the provider."""
        data = await self._store.take(TOKENS, hash_of(reference))
        return None if data is None else KeptTokens.load(data)

    async def settle(self) -> None:
        """Wait for refreshes under way: their answers must not be lost."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _in_peace(self, refresh: Coroutine[Any, Any, None]) -> None:
        # A task of its own: whoever waits may be cancelled, when the provider has already taken the old refresh token.
        task = asyncio.create_task(refresh)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.shield(task)

    async def _refresh(self, key: str, tokens: KeptTokens, refresh_token: str) -> None:
        asked_at = self._clock.time()
        try:
            answer = await self._client.refresh(refresh_token)
        except InvalidGrant:
            raise await self._end(key) from None
        except (ServerUnavailable, SignInFailed) as error:  # of what was meant by nonsense, too, nothing is known
            now = self._clock.time()
            await self._change(key, lambda known: replace(known, leased_until=0, settled_until=now + COOLDOWN_SECONDS))
            if tokens.is_good(now):
                return
            raise (error if isinstance(error, ServerUnavailable) else ServerUnavailable(COOLDOWN_SECONDS)) from None
        if await self._change(key, lambda known: known.with_answer(answer, asked_at)) is None:
            # Ended meanwhile: what nobody will use is given back.
            await self._client.revoke(answer.refresh_token or refresh_token, answer.access_token)

    async def _checked(self, key: str, tokens: KeptTokens) -> str:
        """Return the access token, once it is known whose it is (OpenID Connect Core §12.2)."""
        if tokens.is_checked:
            return tokens.access_token
        answer = TokenAnswer(tokens.access_token, id_token=tokens.id_token)
        try:
            identity = await self._identifier.identify(answer, None)
        except SignInFailed:
            raise await self._end(key) from None
        if identity is not None and (identity.issuer, identity.subject) != (tokens.issuer, tokens.subject):
            logger.warning("Refreshed tokens of the identity provider are somebody else's: the sign-in ends")
            raise await self._end(key)

        def change(known: KeptTokens) -> KeptTokens:
            is_same = known.access_token == tokens.access_token  # not refreshed again meanwhile
            return replace(known, is_checked=True, id_token=None) if is_same else known

        await self._change(key, change)
        return tokens.access_token

    async def _end(self, key: str) -> InvalidGrant:
        await self._store.delete(TOKENS, key)
        return InvalidGrant(reason="sign_in_ended")

    async def _change(self, key: str, change: Callable[[KeptTokens], KeptTokens]) -> KeptTokens | None:
        """Write a change down, whatever others write at the same time; ``None`` when there is nothing any more."""
        for _ in range(LOOKS):
            record = await self._store.get(TOKENS, key)
            if record is None:
                return None
            known = KeptTokens.load(record.value)
            changed = change(known)
            left = changed.seconds_left(self._clock.time())
            if changed == known or await self._store.swap(TOKENS, key, record.etag, changed.dump(), ttl=left):
                return changed
        raise ServerUnavailable
