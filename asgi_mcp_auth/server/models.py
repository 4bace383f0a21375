"""What the authorization server remembers: records, and their form in the store. Pure.

No record holds a secret: codes, tokens and cookies are known by their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

from .._json import encode_base64url, parse_json_object
from ..errors import ConfigurationError
from ..types import JSONObject

ClientOrigin: TypeAlias = Literal["configured", "registered", "document"]
GrantType: TypeAlias = Literal["authorization_code", "refresh_token", "client_credentials"]
Decision: TypeAlias = Literal["approve", "deny"]

OFFLINE_ACCESS = "offline_access"


def new_secret() -> str:
    """Return 256 random bits as text of ``[A-Za-z0-9_-]``, which every client can send in every
    place.
    """
    return secrets.token_urlsafe(32)


def hash_of(secret: str) -> str:
    """Return the name under which a secret is remembered: its SHA-256. Of 256 random bits no slower
    hash is needed.
    """
    return encode_base64url(hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest())


class Stored:
    """A record that goes into the store as JSON; its slots are its fields."""

    __slots__: tuple[str, ...] = ()

    def dump(self) -> bytes:
        """Return the record as the store keeps it."""
        return _encode(self).encode()

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Return the record that ``dump`` wrote; members of another version are left out."""
        return cls.of(_decode(data.decode()))

    @classmethod
    def of(cls, members: JSONObject) -> Self:
        """Return the record with these members."""
        return cls(**{name: members[name] for name in cls.__slots__ if name in members})


def _members(record: Stored) -> JSONObject:
    return {name: getattr(record, name) for name in record.__slots__}


_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_members).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Person(Stored):
    """Who signed in, as a login step says it.

    Args:
        subject: identifies the person here, for ever: it becomes the ``sub`` of their tokens.
        name: what the pages call them; the subject where it is left out.
        claims: what else their tokens shall say; registered claims cannot be replaced.
        reference: what the login step itself knows this sign-in by. It stays with the grants, and
            no token shows it.
    """

    subject: str
    name: str | None = None
    claims: JSONObject = field(default_factory=dict[str, Any], repr=False)
    reference: str | None = field(default=None, repr=False)

    @property
    def display_name(self) -> str:
        """What the pages call this person."""
        return self.name or self.subject


# What a token says itself (RFC 7519 §4.1, RFC 9068 §2.2), or what would change what it is.
RESERVED_CLAIMS = frozenset(
    (
        "iss",
        "sub",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "client_id",
        "scope",
        "scp",
        "cnf",
        "act",
        "auth_time",
        "grant_id",
    )
)
MAX_SUBJECT_CHARS = 255  # OpenID Connect Core §2
MAX_CLAIMS_BYTES = 4096  # of a token that every request carries


def is_subject(value: object) -> bool:
    """Return whether ``value`` can be the subject of tokens."""
    return isinstance(value, str) and 0 < len(value) <= MAX_SUBJECT_CHARS and value.isprintable()


def check_person(person: object) -> Person:
    """Return what a login step says of a person, if tokens can say it.

    Raises:
        ConfigurationError: it is no ``Person``, has no plain subject, or has claims that JSON
            cannot hold or that tokens have already.
    """
    if not isinstance(person, Person):
        raise ConfigurationError(
            f"the login step must return a Person, not {type(person).__name__}"
        )
    name = person.name
    if not is_subject(person.subject):
        raise ConfigurationError("Person.subject must be plain text of 1 to 255 characters")
    for label, text in (("name", name), ("reference", person.reference)):
        if text is not None and not isinstance(text, str):
            raise ConfigurationError(f"Person.{label} must be a string")
    if not isinstance(person.claims, Mapping) or not RESERVED_CLAIMS.isdisjoint(person.claims):
        raise ConfigurationError(
            f"Person.claims must be a dict without any of {', '.join(sorted(RESERVED_CLAIMS))}"
        )
    try:
        # As strictly as the tokens will be read again: no NaN, nothing nested too deeply.
        claims = json.dumps(person.claims, allow_nan=False, ensure_ascii=False).encode()
        parse_json_object(claims, max_bytes=MAX_CLAIMS_BYTES)
        (person.name or "").encode()
    except (TypeError, ValueError, RecursionError):
        raise ConfigurationError(
            "Person.name and Person.claims must be plain: what JSON can say, in at most"
            f" {MAX_CLAIMS_BYTES} bytes"
        ) from None
    return person


@dataclass(frozen=True, slots=True, kw_only=True)
class Client(Stored):
    """An application that may ask for tokens.

    Attributes:
        client_id: its identifier.
        metadata: what it registered, defaults filled in, with the names of RFC 7591 §2.
        origin: whether the operator wrote it down, it registered itself, or it has a metadata
            document.
        issued_at: epoch seconds of the registration.
        secret_hash: of its secret, ``None`` for a public client.
        secret_expires_at: epoch seconds, 0 for never.
        registration_token_hash: of what it manages its registration with (RFC 7592).
        expires_at: epoch seconds at which an unused registration ends.
        used: whether somebody has approved of a registration.
        subjects: who has, where it is a registration; ``None`` when they are too many to tell, or
            nobody has counted.
    """

    client_id: str
    metadata: JSONObject
    origin: ClientOrigin
    issued_at: int = 0
    secret_hash: str | None = field(default=None, repr=False)
    secret_expires_at: int = 0
    registration_token_hash: str | None = field(default=None, repr=False)
    expires_at: int | None = None
    used: bool = False
    subjects: list[str] | None = None

    @property
    def name(self) -> str:
        """What it calls itself; nobody has checked it."""
        return self.metadata.get("client_name") or self.client_id

    @property
    def redirect_uris(self) -> list[str]:
        """Where authorization responses may go."""
        uris: list[str] = self.metadata.get("redirect_uris", [])
        return uris

    @property
    def grant_types(self) -> list[str]:
        """How it may get tokens."""
        names: list[str] = self.metadata["grant_types"]
        return names

    @property
    def auth_methods(self) -> list[str]:
        """How it proves who it is at the token endpoint; several where its document leaves us the
        choice.
        """
        names: list[str] = self.metadata.get(
            "token_endpoint_auth_methods", [self.metadata["token_endpoint_auth_method"]]
        )
        return names

    @property
    def is_public(self) -> bool:
        """Whether it may prove nothing (RFC 6749 §2.1)."""
        return "none" in self.auth_methods

    @property
    def scopes(self) -> list[str] | None:
        """The most that it may ask for, ``None`` when the operator has set no limit.

        What a client registers by itself is no limit, but what its first challenge named: it could
            never step up.
        """
        text: str | None = self.metadata.get("scope")
        return None if text is None or self.origin != "configured" else text.split()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest(Stored):
    """A valid authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2)."""

    client_id: str
    redirect_uri: str
    scopes: list[str]
    code_challenge: str = field(repr=False)
    state: str | None = field(default=None, repr=False)
    prompt: list[str] = field(default_factory=list[str])
    max_age: int | None = None
    login_hint: str | None = None


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

    client_id: str
    redirect_uri: str
    code_challenge: str = field(repr=False)
    resource: str
    person: Person
    scopes: list[str]
    signed_in_at: int
    expires_at: int
    used_at: float | None = None

    @classmethod
    def of(cls, members: JSONObject) -> Self:
        """Return the record with these members."""
        return super(Code, cls).of({**members, "person": Person.of(members["person"])})


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

    @classmethod
    def of(cls, members: JSONObject) -> Self:
        """Return the record with these members."""
        person = members["person"]
        return super(Grant, cls).of(
            {**members, "person": None if person is None else Person.of(person)}
        )

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
