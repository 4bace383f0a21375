"""The records of browsers in the store: sessions and transactions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, TypeAlias

from ..grants.records import AuthorizationRequest
from ..parties import Person
from ..records import Stored
from ..table import Kind

Decision: TypeAlias = Literal["approve", "deny"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction(Stored):
    """A user's way from ``/authorize`` to the client, or, without a request, to their applications.

    Attributes:
        browser: hash of the cookie of the browser that began it.
        expires_at: epoch seconds.
        request: the authorization request that the user is asked about.
        signed_in: the user who signed in within this transaction, if the request required that.
        decision: the user's decision.
        decided_by: their subject; ``None`` if they decided before they signed in.
        scopes: the scopes that they decided about.
    """

    nested: ClassVar[Mapping[str, type[Stored]]] = {
        "request": AuthorizationRequest,
        "signed_in": Person,
    }

    browser: str = field(repr=False)
    expires_at: int
    request: AuthorizationRequest | None = None
    signed_in: Person | None = None
    decision: Decision | None = None
    decided_by: str | None = None
    scopes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Stored):
    """A user who is signed in at this server, in one browser.

    Attributes:
        person: the user.
        signed_in_at: epoch seconds of the sign-in.
        seen_at: epoch seconds of the last use, within a minute.
    """

    nested: ClassVar[Mapping[str, type[Stored]]] = {"person": Person}

    person: Person
    signed_in_at: int
    seen_at: int


SESSIONS: Final = Kind(
    "session",
    Session,
    key="SHA-256 of the server's tag and the session cookie",
    lifetime="`session_seconds`",
)
TRANSACTIONS: Final = Kind(
    "transaction",
    Transaction,
    key="SHA-256 of the server's tag and the transaction id",
    lifetime="`transaction_seconds`; `code_seconds` once it is decided",
)
