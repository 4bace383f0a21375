"""Records of grants: authorization requests, codes, grants and consents. Pure."""

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
    """An authorization code, named by its hash. It stays for a while after its redemption, so that
    a replay can be detected.

    Attributes:
        resource: the resource that it gives access to (RFC 8707 §2.2).
        person: the person who approved.
        scopes: the scopes that they approved.
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
    """The access that a person, or a client for itself, gives a client. Its tokens are valid only
    as long as it is.

    Attributes:
        client_id: the client.
        resource: the resource that it gives access to.
        person: the person who granted it; ``None`` if the client acts for itself.
        scopes: all scopes that were granted; a token may have fewer.
        created_at: epoch seconds.
        expires_at: epoch seconds; a refresh does not change it.
        signed_in_at: epoch seconds of the sign-in behind it.
        generation: of the current refresh token; each rotation counts it up.
        rotated_at: epoch seconds of the last rotation.
        revoked: the reason, if it is revoked.
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
    """A person's approval of a client: with this redirect URI, for these scopes of this
    resource.
    """

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
