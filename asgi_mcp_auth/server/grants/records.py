"""Records of grants: the request, the code, the grant, the consent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from ..parties import Person
from ..records import Stored
from ..table import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest(Stored):
    """A valid authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2)."""

    client_id: str
    redirect_uri: str
    scopes: list[str]
    code_challenge: str = field(repr=False)
    resource: str = ""
    state: str | None = field(default=None, repr=False)
    prompt: list[str] = field(default_factory=list[str])
    max_age: int | None = None
    login_hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Code(Stored):
    """An authorization code, known by its hash; it stays for a while after its use, so that a
    replay shows.

    Attributes:
        resource: what it is good for (RFC 8707 §2.2).
        person: who approved.
        scopes: what they approved.
        signed_in_at: epoch seconds of their sign-in.
        expires_at: epoch seconds.
        used_at: epoch seconds of the redemption.
    """

    nested: ClassVar[Mapping[str, type[Stored]]] = {"person": Person}

    client_id: str
    redirect_uri: str
    code_challenge: str = field(repr=False)
    resource: str
    person: Person
    scopes: list[str]
    signed_in_at: int
    expires_at: int
    used_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant(Stored):
    """What a person (or, without one, the client for itself) lets a client do. All its tokens live
    and die with it.

    Attributes:
        client_id: which client.
        resource: access to what.
        person: who granted; ``None`` for client_credentials.
        scopes: all that was granted; a token may have fewer.
        created_at: epoch seconds.
        expires_at: epoch seconds; refreshing does not move it.
        signed_in_at: epoch seconds of the sign-in behind it.
        generation: of the refresh token that is good now; counts up with each rotation.
        rotated_at: epoch seconds of the last rotation.
        revoked: why it has ended.
    """

    nested: ClassVar[Mapping[str, type[Stored]]] = {"person": Person}

    client_id: str
    resource: str
    person: Person | None
    scopes: list[str]
    created_at: int
    expires_at: int
    signed_in_at: int | None = None
    generation: int = 0
    rotated_at: float = 0
    revoked: str | None = None

    @property
    def subject(self) -> str:
        """The ``sub`` of its tokens."""
        return self.client_id if self.person is None else self.person.subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent(Stored):
    """What a person has approved for a client: this redirect URI, these scopes of this resource."""

    client_id: str
    client_name: str
    redirect_uri: str
    resource: str
    scopes: list[str]
    created_at: int


CODES: Final = Kind(
    "code",
    Code,
    key="SHA-256 of the code",
    lifetime="10 minutes, and 10 more once it is redeemed, to detect a replay",
)
GRANTS: Final = Kind(
    "grant",
    Grant,
    key="the id in its tokens",
    lifetime="until no token of it can be valid, and a minute",
)
