"""The identity provider's tokens, kept for as long as a grant needs them: refreshed when due, by
one worker at a time.

An upstream refresh token is good once, as a rule. Whoever wants to use it takes the lease first: a
record that one of them adds, and that ends by the store's own clock, whatever the clocks of the
workers say.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias

from ..errors import InvalidGrant, ServerUnavailable, SignInFailed
from ..server.parties import Person
from ..server.records import Stored, hash_of, new_secret
from ..stores import Store
from ..types import Clock, JSONObject, OAuthReason
from .client import TIMEOUT_SECONDS, TokenAnswer, UpstreamClient
from .identity import Identifier, merged
from .options import UpstreamIdentity
from .returns import Return, Returns

logger = logging.getLogger(__name__)

TOKENS = "upstream"
LEASES = "upstream_lease"
LEASE_SECONDS = 2 * TIMEOUT_SECONDS  # longer than one refresh takes
COOLDOWN_SECONDS = 1.0
KEY_COOLDOWN_SECONDS = 5.0  # a key set is not fetched again sooner
# a provider that signs with a key for so long and does not publish it, or not the right one
KEY_SECONDS = 300.0
MARGIN_SECONDS = 60.0  # a token that is given out shall still be good for a while
SLACK_SECONDS = 60.0  # for the clocks of several hosts
POLL_SECONDS = 0.05
ATTEMPTS = 5  # to write down what the provider will not say twice
ATTEMPT_SECONDS = 0.5
LOOKS = int(1.2 * LEASE_SECONDS / POLL_SECONDS)

_REFRESHING, _FAILED = b"refreshing", b"failed"

# Whether somebody may still come in, and who they are here: raises InvalidGrant, or
# ServerUnavailable.
Judge: TypeAlias = Callable[[UpstreamIdentity], Awaitable[Person]]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTokens(Stored):
    """What the provider has given for one sign-in.

    Attributes:
        identity: whose they are there, and what the provider said of them last; the first builds
            kept no claims.
        access_token: for its APIs; empty where it is not kept.
        refresh_token: for the next one.
        expires_at: epoch seconds of the access token, ``None`` for never.
        lifetime: seconds that it was given for.
        ends_at: epoch seconds until which this record is needed.
        id_token: came with refreshed tokens.
        answered_at: epoch seconds when they came.
        is_claimed: whether a grant has begun that needs them.
        is_checked: whether it is known that refreshed tokens are still this person's.
        unknown_since: epoch seconds since when the provider signs with a key that it does not
            publish; ``None`` where that is not known.
        turn: how many attempts to refresh them have ended, in whatever way; each has a lease of its
            own.
    """

    identity: UpstreamIdentity
    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: float | None
    lifetime: float
    ends_at: float
    id_token: str | None = field(default=None, repr=False)
    answered_at: float | None = None
    is_claimed: bool = False
    is_checked: bool = True
    unknown_since: float | None = None
    turn: int = 0

    @classmethod
    def of(cls, members: JSONObject) -> Self:
        """Return the record with these members, also as the first builds wrote it."""
        if "identity" not in members:
            members = {
                **members,
                "identity": {name: members[name] for name in ("issuer", "subject")}
                | {"claims": {}},
            }
        return super(KeptTokens, cls).of(
            {**members, "identity": UpstreamIdentity(**members["identity"])}
        )

    def is_due(self, now: float) -> bool:
        """Return whether the access token has expired, or will shortly."""
        return self.expires_at is not None and now >= self.expires_at - min(
            MARGIN_SECONDS, self.lifetime / 5
        )

    def seconds_left(self, now: float) -> float:
        """Return for how long the record is needed."""
        return max(1, self.ends_at - now)

    def is_good(self, now: float) -> bool:
        """Return whether the access token has not expired."""
        return self.expires_at is None or now < self.expires_at

    def with_answer(self, answer: TokenAnswer, asked_at: float, answered_at: float) -> KeptTokens:
        """Return them as a refresh has left them; who keeps its refresh token does not send it
        again.
        """
        return replace(
            self,
            access_token=answer.access_token,
            refresh_token=answer.refresh_token or self.refresh_token,
            expires_at=None if answer.expires_in is None else asked_at + answer.expires_in,
            lifetime=answer.expires_in or 0,
            id_token=answer.id_token,
            answered_at=answered_at,
            is_checked=False,
            turn=self.turn + 1,
        )


class UpstreamTokens:
    """Keeps the tokens of sign-ins, each under a reference that the person's grant carries.

    Every method but ``end`` raises ``InvalidGrant`` when the sign-in has ended,
    ``ServerUnavailable`` when provider or store do not answer.

    Args:
        store: keeps them, encrypted.
        clock: decides what is due.
        client: refreshes them.
        identifier: tells whose refreshed tokens are.
        returns: takes what nobody uses any more.
        adds_up: whether refreshed tokens say only a part of what is known of somebody.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        client: UpstreamClient,
        identifier: Identifier,
        returns: Returns,
        *,
        adds_up: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._clock = clock
        self._client = client
        self._identifier = identifier
        self._returns = returns
        self._adds_up = adds_up
        self._sleep = sleep
        self._under_way: set[asyncio.Task[bool]] = set()

    async def keep(
        self, identity: UpstreamIdentity, answer: TokenAnswer, asked_at: float, seconds: float
    ) -> str:
        """Keep the tokens of a new sign-in, and what is known of the person; return their
        reference.

        Where no grant begins within so many seconds, they are given back.
        """
        reference, now = new_secret(), self._clock.time()
        if answer.access_token:
            back = Return(
                access_token=answer.access_token,
                refresh_token=answer.refresh_token,
                due_at=now + seconds + SLACK_SECONDS,
            )
            await self._returns.plan(hash_of(reference), back)
        tokens = KeptTokens(
            identity=_plain(identity),
            access_token=answer.access_token,
            refresh_token=answer.refresh_token,
            expires_at=None if answer.expires_in is None else asked_at + answer.expires_in,
            lifetime=answer.expires_in or 0,
            ends_at=now + seconds,
        )
        await self._store.put(TOKENS, hash_of(reference), tokens.dump(), ttl=seconds)
        return reference

    async def extend(self, reference: str, seconds: float, judge: Judge) -> Person | None:
        """Decide anew about somebody, and keep their live tokens at least so much longer; return
        who they are.
        """
        key = hash_of(reference)
        tokens, person = await self._find(reference, judge, anew=True)
        if not tokens.is_claimed:
            await self._returns.withdraw(key)  # before it is written down that this has been done
        ends_at = self._clock.time() + seconds
        await self._change(
            key, lambda known: replace(known, ends_at=max(known.ends_at, ends_at), is_claimed=True)
        )
        return person

    async def live(self, reference: str, judge: Judge) -> str:
        """Return an access token that is good for a while; decide about the person where refreshed
        tokens say more.
        """
        tokens, _ = await self._find(reference, judge, anew=False)
        return tokens.access_token

    async def _find(
        self, reference: str, judge: Judge, *, anew: bool
    ) -> tuple[KeptTokens, Person | None]:
        key, refreshed = hash_of(reference), False
        for _ in range(LOOKS):
            tokens, now = await self._read(key), self._clock.time()
            if (
                refreshed
                or not tokens.is_due(now)
                or (tokens.refresh_token is None and tokens.is_good(now))
            ):
                return await self._checked(key, tokens, judge, anew=anew)
            if tokens.refresh_token is None:
                raise await self._end(key)
            lease = await self._store.get(LEASES, _lease_of(key, tokens.turn))
            if lease is None:
                refreshed = await self._try_refresh(key, tokens, tokens.refresh_token)
            elif lease.value != _FAILED:
                await self._sleep(POLL_SECONDS)
            elif tokens.is_good(now):
                return await self._checked(key, tokens, judge, anew=anew)
            else:
                # do not make every caller wait for the same time-out
                raise ServerUnavailable(COOLDOWN_SECONDS)
        raise ServerUnavailable

    async def end(self, reference: str) -> None:
        """Forget the tokens, and have them given back."""
        key = hash_of(reference)
        record = await self._store.get(TOKENS, key)
        if record is not None:
            await self._end(key, tokens=KeptTokens.load(record.value))

    async def settle(self) -> None:
        """Wait for refreshes under way: their answers must not be lost."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _read(self, key: str) -> KeptTokens:
        record = await self._store.get(TOKENS, key)
        if record is None:
            raise InvalidGrant(reason="sign_in_ended")
        return KeptTokens.load(record.value)

    async def _try_refresh(self, key: str, tokens: KeptTokens, refresh_token: str) -> bool:
        """Refresh the tokens unless somebody else does; return whether there is nothing left to
        wait for.
        """
        try:
            # found before the lease begins, which shall outlast the refresh
            await self._client.endpoints()
        except ServerUnavailable:
            if tokens.is_good(self._clock.time()):
                return True
            raise
        return await self._in_peace(self._take_turn(key, tokens, refresh_token))

    async def _in_peace(self, refresh: Coroutine[Any, Any, bool]) -> bool:
        # A task of its own: whoever waits may be cancelled, when the provider has already taken the
        # old refresh token.
        task = asyncio.create_task(refresh)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _take_turn(self, key: str, tokens: KeptTokens, refresh_token: str) -> bool:
        if not await self._store.add(
            LEASES, _lease_of(key, tokens.turn), _REFRESHING, ttl=LEASE_SECONDS
        ):
            return False
        if (await self._read(key)).turn != tokens.turn:
            # this turn had ended before the lease began: the refresh token has been used
            return False
        await self._refresh(key, tokens, refresh_token)
        return True

    async def _refresh(self, key: str, tokens: KeptTokens, refresh_token: str) -> None:
        asked_at = self._clock.time()
        try:
            answer = await self._client.refresh(refresh_token)
        except InvalidGrant:
            if (await self._read(key)).access_token != tokens.access_token:
                # this came late: somebody has taken over when the lease ended, and has got new ones
                return
            raise await self._end(key) from None
        # of what was meant by nonsense, too, nothing is known
        except (ServerUnavailable, SignInFailed) as error:
            await self._rest(key, tokens, COOLDOWN_SECONDS, lambda known: known)
            if tokens.is_good(self._clock.time()):
                return
            raise (
                error
                if isinstance(error, ServerUnavailable)
                else ServerUnavailable(COOLDOWN_SECONDS)
            ) from None
        if await self._write_down(key, tokens, answer, asked_at) is None:
            # Ended meanwhile: what nobody will use is given back.
            key = hash_of(answer.access_token)
            await self._returns.give_back(
                key, answer.access_token, answer.refresh_token or refresh_token
            )

    async def _write_down(
        self, key: str, tokens: KeptTokens, answer: TokenAnswer, asked_at: float
    ) -> KeptTokens | None:
        """Keep an answer. The old refresh token is used up: a store that is away for a moment shall
        not lose it.
        """
        answered_at = self._clock.time()

        def change(known: KeptTokens) -> KeptTokens:
            is_same = known.access_token == tokens.access_token  # not written down before
            return known.with_answer(answer, asked_at, answered_at) if is_same else known

        for _ in range(ATTEMPTS - 1):
            try:
                return await self._change(key, change)
            except ServerUnavailable:
                await self._sleep(ATTEMPT_SECONDS)
        return await self._change(key, change)

    async def _rest(
        self,
        key: str,
        tokens: KeptTokens,
        seconds: float,
        change: Callable[[KeptTokens], KeptTokens],
    ) -> None:
        """End this turn without a result, and let nobody begin the next one for some seconds."""
        await self._store.put(LEASES, _lease_of(key, tokens.turn + 1), _FAILED, ttl=seconds)

        def end_turn(known: KeptTokens) -> KeptTokens:
            return (
                replace(change(known), turn=known.turn + 1) if known.turn == tokens.turn else known
            )

        await self._change(key, end_turn)

    async def _checked(
        self, key: str, tokens: KeptTokens, judge: Judge, *, anew: bool
    ) -> tuple[KeptTokens, Person | None]:
        """Return the tokens, once it is known whose they are, and the person, if there was
        something to decide.
        """
        if tokens.is_checked and not anew:
            return tokens, None
        identity = tokens.identity if tokens.is_checked else await self._identity_of(key, tokens)
        # Nothing is decided by claims that were not kept, or by the half of them that refreshed
        # tokens say.
        is_told = bool(tokens.identity.claims) or not (identity is tokens.identity or self._adds_up)
        if identity is not tokens.identity:
            identity = _plain(identity) if is_told else tokens.identity
        try:
            person = await judge(identity) if is_told else None
        except InvalidGrant as error:
            raise await self._end(key, error.reason, tokens=tokens) from None

        def change(known: KeptTokens) -> KeptTokens:
            is_same = known.access_token == tokens.access_token  # not refreshed again meanwhile
            checked = replace(
                known, is_checked=True, id_token=None, unknown_since=None, identity=identity
            )
            return checked if is_same else known

        if not tokens.is_checked:
            await self._change(key, change)
        return tokens, person

    async def _identity_of(self, key: str, tokens: KeptTokens) -> UpstreamIdentity:
        """Return what is known of the person, as refreshed tokens say it (OpenID Connect Core
        §12.2).
        """
        known, answer = tokens.identity, TokenAnswer(tokens.access_token, id_token=tokens.id_token)
        try:
            identity = await self._identifier.identify(answer, None, tokens.answered_at)
        except SignInFailed as error:
            is_unknown = error.reason == "unknown_signer"
            raise await (
                self._unknown(key, tokens) if is_unknown else self._end(key, tokens=tokens)
            ) from None
        if identity is None:
            return known
        if (identity.issuer, identity.subject) != (known.issuer, known.subject):
            logger.warning(
                "Refreshed tokens of the identity provider are somebody else's: the sign-in ends"
            )
            raise await self._end(key, tokens=tokens)
        return (
            replace(identity, claims=merged(identity.claims, known.claims))
            if self._adds_up
            else identity
        )

    async def _unknown(self, key: str, tokens: KeptTokens) -> InvalidGrant | ServerUnavailable:
        """Put off what is signed with a key that is not known: it may be too new, or by now too
        old, to be published.

        The next refresh brings tokens that the keys of that moment have signed.
        """
        now = self._clock.time()
        since = now if tokens.unknown_since is None else tokens.unknown_since
        if now >= since + KEY_SECONDS:
            return await self._end(key, tokens=tokens)
        await self._rest(
            key,
            tokens,
            KEY_COOLDOWN_SECONDS,
            lambda known: replace(known, expires_at=now, unknown_since=since),
        )
        return ServerUnavailable(KEY_COOLDOWN_SECONDS)

    async def _end(
        self, key: str, reason: OAuthReason = "sign_in_ended", *, tokens: KeptTokens | None = None
    ) -> InvalidGrant:
        """Forget tokens; those that are named here may still be good, and are given back."""
        if tokens is not None:  # first, so that nothing is lost between the two
            await self._returns.give_back(key, tokens.access_token, tokens.refresh_token)
        await self._store.delete(TOKENS, key)
        return InvalidGrant(reason=reason)

    async def _change(
        self, key: str, change: Callable[[KeptTokens], KeptTokens]
    ) -> KeptTokens | None:
        """Write a change down, whatever others write at the same time; ``None`` when there is
        nothing any more.
        """
        for _ in range(LOOKS):
            record = await self._store.get(TOKENS, key)
            if record is None:
                return None
            known = KeptTokens.load(record.value)
            changed = change(known)
            left = changed.seconds_left(self._clock.time())
            if changed == known or await self._store.swap(
                TOKENS, key, record, changed.dump(), ttl=left
            ):
                return changed
        raise ServerUnavailable


def _plain(identity: UpstreamIdentity) -> UpstreamIdentity:
    """Return an identity with those claims that JSON can say: a verifier of one's own may find
    anything.
    """
    claims: JSONObject = {}
    for name, value in identity.claims.items():
        with suppress(TypeError, ValueError, RecursionError):
            json.dumps({name: value}, ensure_ascii=False).encode()
            claims[name] = value
    return replace(
        identity, claims=claims or {"sub": identity.subject}
    )  # without any it would be as of the first builds


def _lease_of(key: str, turn: int) -> str:
    return f"{key}.{turn}"
