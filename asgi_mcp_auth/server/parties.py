"""The two parties to a grant: the person who gives it and the client that gets it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .._json import parse_json_object
from ..errors import ConfigurationError
from ..types import JSONObject
from .records import Stored

ClientOrigin: TypeAlias = Literal["configured", "registered", "document"]
OFFLINE_ACCESS = "offline_access"


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
