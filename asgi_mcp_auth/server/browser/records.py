"""Records of browsers: sessions and transactions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

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
    """Somebody who is signed in at this server, in one browser.

    Attributes:
        person: who.
        signed_in_at: epoch seconds of the sign-in.
        seen_at: epoch seconds of about the last use.
    """

    nested: ClassVar[Mapping[str, type[Stored]]] = {"person": Person}

    person: Person
    signed_in_at: int
    seen_at: int
