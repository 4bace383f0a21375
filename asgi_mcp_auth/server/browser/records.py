"""Records of browsers: sessions and transactions. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Self, TypeAlias

from ...types import JSONObject
from ..grants.records import AuthorizationRequest
from ..parties import Person
from ..records import Stored

Decision: TypeAlias = Literal["approve", "deny"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction(Stored):
    """A person on their way from ``/authorize`` to the client, or, without a request, to their
    applications.

    Attributes:
        browser: hash of the cookie of the browser that began.
        expires_at: epoch seconds.
        request: what they were asked for.
        signed_in: who signed in on the way, where that had to be.
        decision: what was decided, by whom (``None`` as long as nobody has signed in), and for
            which scopes.
    """

    browser: str = field(repr=False)
    expires_at: int
    request: AuthorizationRequest | None = None
    signed_in: Person | None = None
    decision: Decision | None = None
    decided_by: str | None = None
    scopes: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, members: JSONObject) -> Self:
        """Return the record with these members."""
        request, person = members.get("request"), members.get("signed_in")
        return super(Transaction, cls).of(
            {
                **members,
                "request": None if request is None else AuthorizationRequest.of(request),
                "signed_in": None if person is None else Person.of(person),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Stored):
    """Somebody who is signed in at this server, in one browser.

    Attributes:
        person: who.
        signed_in_at: epoch seconds of the sign-in.
        seen_at: epoch seconds of about the last use.
    """

    person: Person
    signed_in_at: int
    seen_at: int

    @classmethod
    def of(cls, members: JSONObject) -> Self:
        """Return the record with these members."""
        return super(Session, cls).of({**members, "person": Person.of(members["person"])})
