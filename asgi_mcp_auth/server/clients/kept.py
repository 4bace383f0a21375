"""The last good metadata documents of clients that users have approved (RFC 9111 §4.2.4).

Kept in the store, for when their hosts are away. Only a sign-in gets one there, as with a
registration that stays (ADR 0016).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ...stores import Store
from ...types import Clock
from ..options import DAY, Lifetimes
from ..records import Stored, hash_of
from ..table import Kind, Outcome, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDocument(Stored):
    """A document as its host sent it, so that later rules are applied to all of it.

    Attributes:
        text: the document.
        expires_at: epoch seconds at which the last grant that a user may have given ends.
    """

    text: str
    expires_at: int


DOCUMENTS: Final = Kind(
    "client_document",
    KeptDocument,
    key="SHA-256 of the client id",
    lifetime="`refresh_token_seconds` after the last sign-in, and up to a day longer",
)


class KeptDocuments:
    """Keeps documents for as long as their clients can have grants.

    Every method raises ``ServerUnavailable`` while the store is not responding.

    Args:
        store: where they are.
        clock: decides what has expired.
        lifetimes: of grants.
    """

    def __init__(self, store: Store, clock: Clock, lifetimes: Lifetimes) -> None:
        self._clock = clock
        self._grant_seconds = lifetimes.refresh_token_seconds + lifetimes.code_seconds
        self._table = Table(store, DOCUMENTS, lambda kept: max(1.0, kept.expires_at - clock.time()))

    async def get(self, client_id: str) -> str | None:
        """Return the document of a client, ``None`` if none is kept."""
        kept = await self._table.get(hash_of(client_id))
        return None if kept is None or self._has_ended(kept) else kept.text

    async def keep(self, client_id: str, text: str) -> None:
        """Keep a document, because a user has approved its client."""
        needed_until = int(self._clock.time() + self._grant_seconds)

        async def step(known: KeptDocument | None) -> Outcome[KeptDocument, None]:
            if known is not None and known.text == text and known.expires_at >= needed_until:
                return Outcome(None, None)
            # A day longer than needed, so that not every sign-in needs a write.
            return Outcome(KeptDocument(text=text, expires_at=needed_until + DAY), None)

        await self._table.retry(hash_of(client_id), step)

    async def renew(self, client_id: str, text: str) -> None:
        """Replace a document that is kept by a newer one."""
        await self._table.update(
            hash_of(client_id),
            lambda kept: None if self._has_ended(kept) else replace(kept, text=text),
        )

    async def drop(self, client_id: str) -> None:
        """Stop keeping a document."""
        await self._table.delete(hash_of(client_id))

    def _has_ended(self, kept: KeptDocument) -> bool:
        return self._clock.time() >= kept.expires_at
