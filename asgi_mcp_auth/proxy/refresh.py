"""Refreshes kept tokens: one worker at a time, and never losing the provider's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self, TypeAlias

from ..errors import InvalidGrant, ServerUnavailable, SignInFailed
from ..server.records import Stored, hash_of
from ..server.table import Kind, Table
from ..stores import Store
from ..types import Clock
from .answers import TokenAnswer
from .client import TIMEOUT_SECONDS, UpstreamClient
from .kept import KeptTokens, SignIns
from .returns import Returns

LEASE_SECONDS = 2 * TIMEOUT_SECONDS  # longer than one refresh takes
COOLDOWN_SECONDS = 1.0
SAVE_ATTEMPTS = 5
SAVE_RETRY_SECONDS = 0.5

LeaseState: TypeAlias = Literal["free", "refreshing", "failed"]
Sleep: TypeAlias = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease(Stored):
    """What happens in one turn of kept tokens."""

    state: str

    def dump(self) -> bytes:
        """Return the record as the store keeps it."""
        return self.state.encode()

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Return the record that ``dump`` wrote."""
        return cls(state=data.decode())


LEASES: Final = Kind(
    "upstream_lease",
    Lease,
    key="the key of the tokens and their turn",
    lifetime="10 seconds while a worker refreshes, 1 to 5 after a failure",
)


class Leases:
    """Decides which worker refreshes: at most one for each turn of a record.

    A lease is a store entry that only one worker can add. It expires by the store's own clock, so
    workers whose clocks disagree still take turns.

    Args:
        store: shared by all workers.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def state(self, key: str, turn: int) -> LeaseState:
        """Return what happens in this turn; ``failed`` is a cooldown after a failed turn."""
        lease = await self._table(LEASE_SECONDS).get(f"{key}.{turn}")
        if lease is None:
            return "free"
        return "failed" if lease.state == "failed" else "refreshing"

    async def take(self, key: str, turn: int) -> bool:
        """Take the lease of this turn; return whether no other worker has it."""
        return await self._table(LEASE_SECONDS).add(f"{key}.{turn}", Lease(state="refreshing"))

    async def block(self, key: str, turn: int, seconds: float) -> None:
        """Keep every worker from taking the lease of this turn for some seconds."""
        await self._table(seconds).put(f"{key}.{turn}", Lease(state="failed"))

    def _table(self, seconds: float) -> Table[Lease]:
        return Table(self._store, LEASES, lambda _: seconds)


class Refresher:
    """Uses refresh tokens; the second table in ``tokens`` describes it.

    Args:
        sign_ins: where the tokens are kept.
        leases: decides who refreshes.
        clock: decides what has expired.
        client: talks to the provider.
        returns: revokes new tokens of a sign-in that has ended meanwhile.
        sleep: waits for some seconds.
    """

    def __init__(
        self,
        sign_ins: SignIns,
        leases: Leases,
        clock: Clock,
        client: UpstreamClient,
        returns: Returns,
        sleep: Sleep,
    ) -> None:
        self._sign_ins = sign_ins
        self._leases = leases
        self._clock = clock
        self._client = client
        self._returns = returns
        self._sleep = sleep
        self._running: set[asyncio.Task[bool]] = set()

    async def refresh(self, key: str, tokens: KeptTokens, refresh_token: str) -> bool:
        """Refresh the tokens of a sign-in unless another worker does.

        Returns:
            ``True`` if the record is now as good as it gets, ``False`` to look at it again.

        Raises:
            InvalidGrant: the sign-in has ended.
            ServerUnavailable: the access token has expired and cannot be refreshed now.
        """
        try:
            # Before the lease, which must outlast the refresh: discovery may be slow.
            await self._client.endpoints()
        except ServerUnavailable:
            if tokens.is_valid(self._clock.time()):
                return True
            raise
        # A task of its own: when the caller is cancelled, the provider may already have consumed
        # the old refresh token.
        task = asyncio.create_task(self._take_turn(key, tokens, refresh_token))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def end_turn(self, key: str, tokens: KeptTokens, seconds: float, **changes: Any) -> None:
        """End a turn without new tokens; the next one cannot start for some seconds."""
        await self._leases.block(key, tokens.turn + 1, seconds)

        def change(known: KeptTokens) -> KeptTokens | None:
            if known.turn != tokens.turn:
                return None
            return replace(known, turn=known.turn + 1, **changes)

        await self._sign_ins.update(key, change)

    async def settle(self) -> None:
        """Wait for refreshes under way: their answers must not be lost."""
        if self._running:
            await asyncio.wait(self._running)

    async def _take_turn(self, key: str, tokens: KeptTokens, refresh_token: str) -> bool:
        if not await self._leases.take(key, tokens.turn):
            return False
        if (await self._sign_ins.find(key)).turn != tokens.turn:
            # The turn ended before this lease began: the refresh token has been used already.
            return False
        await self._use(key, tokens, refresh_token)
        return True

    async def _use(self, key: str, tokens: KeptTokens, refresh_token: str) -> None:
        asked_at = self._clock.time()
        try:
            answer = await self._client.refresh(refresh_token)
        except InvalidGrant:
            await self._end(key, tokens)
            return
        except (ServerUnavailable, SignInFailed) as error:
            if not tokens.is_valid(self._clock.time()) and error.reason == "sign_in_ended":
                await self._end(key, tokens)
                return
            await self.end_turn(key, tokens, COOLDOWN_SECONDS)
            if tokens.is_valid(self._clock.time()):
                return
            if isinstance(error, ServerUnavailable):
                raise
            # An unparsable answer tells us nothing either: treat it as an outage.
            raise ServerUnavailable(COOLDOWN_SECONDS) from None
        if await self._save(key, tokens, answer, asked_at) is None:
            # The sign-in has ended meanwhile, so nothing will use the new tokens.
            await self._returns.give_back(
                hash_of(answer.access_token),
                answer.access_token,
                answer.refresh_token or refresh_token,
            )

    async def _end(self, key: str, tokens: KeptTokens) -> None:
        if (await self._sign_ins.find(key)).access_token == tokens.access_token:
            await self._sign_ins.end(key)
            raise InvalidGrant(reason="sign_in_ended")
        # The answer came after the lease had expired, and another worker has refreshed.

    async def _save(
        self, key: str, tokens: KeptTokens, answer: TokenAnswer, asked_at: float
    ) -> KeptTokens | None:
        """Keep an answer; return ``None`` if the sign-in has ended.

        The old refresh token is used up, so a short outage of the store must not lose the new one.
        """
        answered_at = self._clock.time()

        def change(known: KeptTokens) -> KeptTokens:
            if known.access_token != tokens.access_token:
                return known  # saved before, or replaced
            return known.refreshed(answer, asked_at, answered_at)

        for _ in range(SAVE_ATTEMPTS - 1):
            try:
                return await self._sign_ins.update(key, change)
            except ServerUnavailable:
                await self._sleep(SAVE_RETRY_SECONDS)
        return await self._sign_ins.update(key, change)
