"""What a request knows about its caller: the access token, the user, and their anonymous
counterparts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from .types import InvalidTokenReason, Scope

SCOPE_KEY = "access_token"


Facts: TypeAlias = tuple[str, tuple[str, ...], int | None, str | None, str | None, bytes]
"""What verification found out: client_id, scopes, expires_at, resource, subject, and the claims as JSON.

Caches share it between requests, so nothing in it can be changed. It is a plain tuple of atoms: the garbage
collector stops visiting those. The claims are bytes because parsed ones cost four times the memory.
"""

_POSITIONS = {
    "client_id": 0,
    "scopes": 1,
    "expires_at": 2,
    "resource": 3,
    "subject": 4,
    "claims": 5,
}


class _Lazy:
    __slots__ = ("_source",)

    if TYPE_CHECKING:
        _source: tuple[str, Facts, Sequence[str]]
    else:

        def __getattr__(self, name: str) -> Any:
            # Reached once for each field that is read: a slot still empty is filled from the shared
            # facts.
            if name not in _FIELD_NAMES:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            token, facts, _ = self._source
            value: Any = token if name == "token" else facts[_POSITIONS[name]]
            if name == "claims":
                value = json.loads(value)
            elif name == "scopes":
                value = list(value)
                # whoever verifies may take scopes away from the list
                _set_source(self, (token, facts, value))
            object.__setattr__(self, name, value)
            return value


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken(_Lazy):
    """A verified access token. Two requests never share one, nor anything inside it.

    Attributes:
        token: the token itself; it does not show in ``repr``.
        client_id: the OAuth client that the token was issued to.
        scopes: what it allows, implied scopes included.
        expires_at: epoch seconds; ``None`` when an introspection endpoint gave none.
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
        """Return the fields as a dict, as FastMCP asks of a token."""
        return {name: getattr(self, name) for name in _FIELD_NAMES}

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> AccessToken:
        """Return a copy with some fields replaced, as FastMCP asks of a token."""
        copy = replace(
            self,
            scopes=list(self.scopes),
            claims=json.loads(json.dumps(self.claims)) if deep else self.claims,
        )
        return replace(copy, **update) if update else copy


_FIELD_NAMES = tuple(each.name for each in fields(AccessToken))
_new = object.__new__
_slot: Any = vars(_Lazy)["_source"]
_set_source = _slot.__set__  # a frozen class has no other way in


def access_token(token: str, facts: Facts) -> AccessToken:
    """Return this request's own AccessToken; its fields are filled when they are first read."""
    instance = _new(AccessToken)
    _set_source(instance, (token, facts, facts[1]))
    return instance


def grants(access: AccessToken, needed: frozenset[str]) -> bool:
    """Return whether a token has all of ``needed``, without giving it a list of its scopes just for
    that.
    """
    try:
        return needed.issubset(access._source[2])  # pyright: ignore[reportPrivateUsage]  # same module
    except AttributeError:  # made by hand, in somebody's own verifier
        return needed.issubset(access.scopes)


class Attempt:
    """A verification under way: where a verifier leaves the reason of its refusal for the
    middleware.

    Args:
        address: where the request comes from; empty where that is not known.
    """

    __slots__ = ("address", "reason")

    def __init__(self, address: str = "") -> None:
        self.address = address
        self.reason: InvalidTokenReason | None = None


current: ContextVar[AccessToken | Attempt | None] = ContextVar("asgi_mcp_auth", default=None)


class HasScope(Protocol):
    """A request object: Starlette's, FastAPI's, Litestar's and others carry their ASGI scope."""

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
        token: object = current.get()
    else:
        scope: Mapping[str, Any] = source if isinstance(source, Mapping) else source.scope
        token = scope.get(SCOPE_KEY)
    return token if isinstance(token, AccessToken) else None


class User:
    """``scope["user"]`` in Starlette's convention, for a verified token."""

    __slots__ = ("access_token",)

    is_authenticated = True

    def __init__(self, access_token: AccessToken) -> None:
        self.access_token = access_token

    @property
    def identity(self) -> str:
        """Issuer and subject, ``https://idp.example|alice``: two issuers may each have an Alice.

        Without a subject the client stands in its place. Where the token names no issuer, there is
        only this second part. What stands before the first bar is the issuer: subjects have bars of
        their own (``auth0|alice``).
        """
        issuer, name = self.access_token.claims.get("iss"), self.display_name
        if isinstance(issuer, str):
            return f"{issuer.replace('|', '%7C')}|{name}"
        return f"|{name}" if "|" in name else name

    @property
    def display_name(self) -> str:
        """The subject of the token; the client where there is no subject."""
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
        """No scopes; a new list each time, so that nobody can grant some to everybody."""
        return []


Credentials: TypeAlias = AccessToken | AnonymousCredentials
