"""The two parties to a grant: the person who gives it, and the client that gets it. Pure."""

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
    """A person who has signed in, as identified by a login step.

    Args:
        subject: identifies the person, permanently: it becomes the ``sub`` of their tokens.
        name: the name on the pages; defaults to the subject.
        claims: additional claims of their tokens; registered claims cannot be replaced.
        reference: the login step's own identifier of this sign-in. It is kept with the grants and
            does not appear in tokens.
    """

    subject: str
    name: str | None = None
    claims: JSONObject = field(default_factory=dict[str, Any], repr=False)
    reference: str | None = field(default=None, repr=False)

    @property
    def display_name(self) -> str:
        """The name on the pages."""
        return self.name or self.subject


# The claims that this server sets itself (RFC 7519 §4.1, RFC 9068 §2.2), and those that would
# change what a token means.
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
MAX_CLAIMS_BYTES = 4096  # every request carries them


def is_subject(value: object) -> bool:
    """Return whether ``value`` is valid as the subject of tokens."""
    return isinstance(value, str) and 0 < len(value) <= MAX_SUBJECT_CHARS and value.isprintable()


def check_person(person: object) -> Person:
    """Return the person that a login step has returned, validated.

    Raises:
        ConfigurationError: it is not a ``Person``, its subject is invalid, or its claims are not
            JSON or are reserved.
    """
    if not isinstance(person, Person):
        raise ConfigurationError(
            f"the login step must return a Person, not {type(person).__name__}"
        )
    name = person.name
    if not is_subject(person.subject):
        raise ConfigurationError("Person.subject must be 1 to 255 printable characters")
    for label, text in (("name", name), ("reference", person.reference)):
        if text is not None and not isinstance(text, str):
            raise ConfigurationError(f"Person.{label} must be a string")
    if not isinstance(person.claims, Mapping) or not RESERVED_CLAIMS.isdisjoint(person.claims):
        raise ConfigurationError(
            f"Person.claims must be a dict without any of {', '.join(sorted(RESERVED_CLAIMS))}"
        )
    try:
        # As strict as the parser of tokens: no NaN, no deep nesting.
        claims = json.dumps(person.claims, allow_nan=False, ensure_ascii=False).encode()
        parse_json_object(claims, max_bytes=MAX_CLAIMS_BYTES)
        (person.name or "").encode()
    except (TypeError, ValueError, RecursionError):
        raise ConfigurationError(
            "Person.name must be valid Unicode, and Person.claims must be JSON of at most"
            f" {MAX_CLAIMS_BYTES} bytes"
        ) from None
    return person


@dataclass(frozen=True, slots=True, kw_only=True)
class Client(Stored):
    """An application that may request tokens.

    Attributes:
        client_id: its identifier.
        metadata: its registered metadata with defaults filled in, by the names of RFC 7591 §2.
        origin: whether the operator configured it, it registered itself, or it has a metadata
            document.
        issued_at: epoch seconds of the registration.
        secret_hash: of its secret, ``None`` for a public client.
        secret_expires_at: epoch seconds, 0 for never.
        registration_token_hash: of the token that manages its registration (RFC 7592).
        expires_at: epoch seconds at which a registration expires.
        used: whether a user has approved a registered client.
        subjects: the users who have approved a registered client; ``None`` if there are too many,
            or they were not recorded.
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
        """The name that it gives itself, unverified."""
        return self.metadata.get("client_name") or self.client_id

    @property
    def redirect_uris(self) -> list[str]:
        """The URIs that authorization responses may be sent to."""
        uris: list[str] = self.metadata.get("redirect_uris", [])
        return uris

    @property
    def grant_types(self) -> list[str]:
        """The grant types that it may use."""
        names: list[str] = self.metadata["grant_types"]
        return names

    @property
    def auth_methods(self) -> list[str]:
        """The authentication methods that it may use; several if its document lets us choose."""
        names: list[str] = self.metadata.get(
            "token_endpoint_auth_methods", [self.metadata["token_endpoint_auth_method"]]
        )
        return names

    @property
    def is_public(self) -> bool:
        """Whether it may use the token endpoint without authentication (RFC 6749 §2.1)."""
        return "none" in self.auth_methods

    @property
    def scopes(self) -> list[str] | None:
        """The limit that the operator has set on its scopes, ``None`` for no limit.

        The scopes that a client registers itself are no limit. They are those of the first
        challenge that it got, and as a limit they would keep it from ever getting more.
        """
        text: str | None = self.metadata.get("scope")
        return None if text is None or self.origin != "configured" else text.split()
