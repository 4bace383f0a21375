"""The caller of a request: its access token and user, and their anonymous counterparts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from ._inside import current_request
from .types import InvalidTokenReason, Scope

SCOPE_KEY = "access_token"
PROVIDER_KEY = "asgi_mcp_auth.provider"

TokenCache: TypeAlias = "Callable[[bytes], AccessToken | None]"

PackedToken: TypeAlias = tuple[str, tuple[str, ...], int | None, str | None, str | None, bytes]
"""A ``VerifiedToken`` as caches keep it: the garbage collector stops visiting plain tuples of
atoms, and no others.
"""


CLAIMS_UNIT_BYTES = 4096


def claims_weight(packed: PackedToken) -> int:
    """Return for how many tokens this one counts in a cache, which so has a bound in bytes."""
    return 1 + len(packed[5]) // CLAIMS_UNIT_BYTES


class VerifiedToken(NamedTuple):
    """The result of a verification, shared between requests and therefore immutable.

    Attributes:
        client_id: the OAuth client that the token was issued to.
        scopes: including implied ones.
        expires_at: epoch seconds, if it expires.
        resource: the resource identifier it was issued for (RFC 8707).
        subject: the user, if there is one.
        claims_json: JSON, because parsed claims take four times the memory.
    """

    client_id: str
    scopes: tuple[str, ...]
    expires_at: int | None
    resource: str | None
    subject: str | None
    claims_json: bytes

    def pack(self) -> PackedToken:
        """Return the plain tuple for a cache; ``VerifiedToken(*packed)`` is the way back."""
        return self[:]


class _LazyClaims:
    """Parses the claims of a verified token when they are first read: most apps never do."""

    __slots__ = ("_claims_json",)

    if TYPE_CHECKING:
        _claims_json: bytes
    else:

        def __getattr__(self, name: str) -> Any:
            # Called only for a slot that is empty, or for a name that does not exist.
            if name != "claims":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            claims = json.loads(self._claims_json)
            object.__setattr__(self, "claims", claims)
            return claims


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken(_LazyClaims):
    """A verified access token. Requests never share one, or anything inside it.

    Attributes:
        token: the token itself; it does not show in ``repr``.
        client_id: the OAuth client that the token was issued to.
        scopes: including implied ones.
        expires_at: epoch seconds; ``None`` if an introspection response had none.
        resource: the resource identifier it was issued for (RFC 8707).
        subject: the user, or ``None``; unique per issuer only.
        claims: every claim of the JWT, or every member of the introspection response.
    """

    token: str = field(repr=False)
    client_id: str
    scopes: list[str]
    expires_at: int | None = None
    resource: str | None = None
    subject: str | None = None
    claims: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def has_scopes(self, *scopes: str) -> bool:
        """Return whether the token has every one of ``scopes``."""
        return set(scopes) <= set(self.scopes)

    def model_dump(self, **_: object) -> dict[str, Any]:
        """Return the fields as a dict; FastMCP needs this."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> AccessToken:
        """Return a copy with some fields replaced; FastMCP needs this."""
        copy = replace(
            self,
            scopes=list(self.scopes),
            claims=json.loads(json.dumps(self.claims)) if deep else self.claims,
        )
        return replace(copy, **update) if update else copy


# A frozen class can be filled in two ways; this one is twice as fast as object.__setattr__.
_slots: Any = vars(AccessToken)
_new = object.__new__
_set_token = _slots["token"].__set__
_set_client_id = _slots["client_id"].__set__
_set_scopes = _slots["scopes"].__set__
_set_expires_at = _slots["expires_at"].__set__
_set_resource = _slots["resource"].__set__
_set_subject = _slots["subject"].__set__
_set_claims_json: Any = vars(_LazyClaims)["_claims_json"].__set__


def access_token(token: str, verified: PackedToken) -> AccessToken:
    """Return a request's own AccessToken."""
    instance = _new(AccessToken)
    client_id, scopes, expires_at, resource, subject, claims_json = verified
    _set_token(instance, token)
    _set_client_id(instance, client_id)
    _set_scopes(instance, [*scopes])
    _set_expires_at(instance, expires_at)
    _set_resource(instance, resource)
    _set_subject(instance, subject)
    _set_claims_json(instance, claims_json)
    return instance


class Verification:
    """A verification in progress, shared by the middleware and its verifiers.

    Args:
        address: the client's IP address; empty if unknown.
    """

    __slots__ = ("address", "reason")

    def __init__(self, address: str = "") -> None:
        self.address = address
        #: Why the verifier refuses the token.
        self.reason: InvalidTokenReason | None = None


#: The verification that the running task is part of.
current_verification: ContextVar[Verification | None] = ContextVar(
    "asgi_mcp_auth.verification", default=None
)


class HasScope(Protocol):
    """A request object that has its ASGI scope, as in Starlette, FastAPI and Litestar."""

    @property
    def scope(self) -> Any:
        """The ASGI connection scope."""
        ...


def get_access_token(source: Scope | HasScope | None = None) -> AccessToken | None:
    """Return the access token of a request, ``None`` for an anonymous one.

    Args:
        source: an ASGI scope, or a request object with a ``scope``; without it, the request that
            the running task serves.
    """
    if source is None:
        request = current_request.get()
        token: object = None if request is None else request[0]
    else:
        token = _scope_of(source).get(SCOPE_KEY)
    return token if isinstance(token, AccessToken) else None


def get_provider(source: Scope | HasScope | None = None) -> object:
    """Return the provider of the middleware in front of a request, ``None`` without one.

    Args:
        source: as for ``get_access_token``.
    """
    if source is not None:
        return _scope_of(source).get(PROVIDER_KEY)
    request = current_request.get()
    return None if request is None else request[1]


def _scope_of(source: Scope | HasScope) -> Mapping[str, Any]:
    return source if isinstance(source, Mapping) else source.scope


class User:
    """``scope["user"]`` in Starlette's convention, for a verified token."""

    __slots__ = ("access_token",)

    is_authenticated = True

    def __init__(self, access_token: AccessToken) -> None:
        self.access_token = access_token

    @property
    def identity(self) -> str:
        """Issuer and subject, ``https://idp.example|alice``: two issuers may each have an Alice.

        A token without a subject has its client there, and one without an issuer only this second
        part. The issuer ends at the first bar: subjects can contain bars, too (``auth0|alice``).
        """
        issuer, name = self.access_token.claims.get("iss"), self.display_name
        if isinstance(issuer, str):
            return f"{issuer.replace('|', '%7C')}|{name}"
        return f"|{name}" if "|" in name else name

    @property
    def display_name(self) -> str:
        """The subject of the token, or its client if it has none."""
        return self.access_token.subject or self.access_token.client_id


class AnonymousUser:
    """``scope["user"]`` on public paths."""

    __slots__ = ()

    is_authenticated = False
    identity = ""
    display_name = ""


class AnonymousCredentials:
    """``scope["auth"]`` on public paths."""

    __slots__ = ()

    @property
    def scopes(self) -> list[str]:
        """No scopes; a new list each time, so that adding to it does not affect other requests."""
        return []
