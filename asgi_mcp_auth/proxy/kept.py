"""The records of sign-ins at the identity provider: its tokens, and what it said of the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Self

from ..errors import InvalidGrant
from ..server.records import Stored
from ..server.table import Kind, Table
from ..stores import Store
from ..types import Clock, JSONObject
from .answers import TokenAnswer
from .options import UpstreamIdentity
from .returns import Returns

MARGIN_SECONDS = 60.0  # an access token that is handed out must stay valid for a while


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTokens(Stored):
    """The provider's tokens for one sign-in.

    Attributes:
        identity: whose they are, and the claims of the last ID token. Without claims in records
            that the first builds wrote.
        access_token: for the provider's APIs; empty if tokens are not kept.
        refresh_token: for the next refresh, if there is one.
        expires_at: epoch seconds when the access token expires, ``None`` for never.
        lifetime: seconds that it was issued for.
        ends_at: epoch seconds until which this record is needed.
        id_token: came with the last refresh, until it is checked.
        answered_at: epoch seconds of that refresh.
        is_claimed: whether a grant depends on the tokens.
        is_checked: whether refreshed tokens are known to belong to the same user.
        unknown_since: epoch seconds of the first token whose signing key the provider did not
            publish, ``None`` if the last one could be checked.
        turn: number of attempts to refresh the tokens that have ended, successful or not. Each has
            its own lease.
    """

    nested: ClassVar[Mapping[str, type[Stored]]] = {"identity": UpstreamIdentity}

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
        """Return the record with these members, including those that the first builds wrote."""
        if "identity" not in members:
            identity: JSONObject = {
                "issuer": members["issuer"],
                "subject": members["subject"],
                "claims": {},
            }
            members = {**members, "identity": identity}
        return super(KeptTokens, cls).of(members)

    def is_valid(self, now: float) -> bool:
        """Return whether the access token has not expired."""
        return self.expires_at is None or now < self.expires_at

    def needs_refresh(self, now: float) -> bool:
        """Return whether the access token has expired or soon will."""
        margin = min(MARGIN_SECONDS, self.lifetime / 5)
        return self.expires_at is not None and now >= self.expires_at - margin

    def refreshed(self, answer: TokenAnswer, asked_at: float, answered_at: float) -> KeptTokens:
        """Return the record after a refresh, which ends a turn.

        A provider that does not rotate its refresh token need not send it again (RFC 6749 §6).
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


TOKENS: Final = Kind(
    "upstream",
    KeptTokens,
    key="SHA-256 of the reference in the person's record",
    lifetime="as long as the grant",
)


class SignIns:
    """The kept tokens of all sign-ins.

    Args:
        store: keeps them, encrypted.
        clock: decides how long a record is needed.
        returns: revokes tokens of sign-ins that have ended.
    """

    def __init__(self, store: Store, clock: Clock, returns: Returns) -> None:
        self._returns = returns
        self._table = Table(store, TOKENS, lambda kept: max(1.0, kept.ends_at - clock.time()))

    async def find(self, key: str) -> KeptTokens:
        """Return the tokens of a sign-in.

        Raises:
            InvalidGrant: the sign-in has ended.
        """
        tokens = await self._table.get(key)
        if tokens is None:
            raise InvalidGrant(reason="sign_in_ended")
        return tokens

    async def put(self, key: str, tokens: KeptTokens) -> None:
        """Keep the tokens of a new sign-in."""
        await self._table.put(key, tokens)

    async def update(
        self, key: str, change: Callable[[KeptTokens], KeptTokens | None]
    ) -> KeptTokens | None:
        """Change a record as ``Table.update`` does."""
        return await self._table.update(key, change)

    async def end(self, key: str, revoke: KeptTokens | None = None) -> None:
        """Delete the record of a sign-in.

        Args:
            key: which one.
            revoke: its tokens, if the provider may still accept them.
        """
        if revoke is not None:  # first, so that a crash between the two loses nothing
            await self._returns.give_back(key, revoke.access_token, revoke.refresh_token)
        await self._table.delete(key)
