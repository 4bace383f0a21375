"""Checks the claims of tokens (iss, aud, exp, nbf, iat, sub, cnf), and reads scopes. Pure.

RFC 7519 §4.1; RFC 9068 §2.2 and §4; RFC 8725 §3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ._json import (
    TooDense,
    check_quick,
    decode_base64url,
    is_absent,
    is_array,
    is_object,
    parse_json_object,
)
from ._settings import check_kind, check_names, check_scopes, check_seconds
from ._urls import resource_spellings
from .errors import ConfigurationError, InvalidToken
from .headers import MAX_TOKEN_BYTES
from .tokens import VerifiedToken
from .types import JSONObject

ANY_AUDIENCE: Final = "*any audience*"
"""Switches the audience check off: the issuer's tokens for other services are valid, too."""

MIN_TOLERANCE_SECONDS = 60
MAX_LEEWAY_SECONDS = 300
MAX_EXPIRY = 253_402_300_799  # the end of the year 9999, the last date that can be formatted

UNKNOWN_CLIENT: Final = "unknown"
"""The client of a token that names neither its client nor its user."""

_CLIENT_CLAIMS = ("client_id", "azp", "appid", "cid")
_SCOPE_CLAIMS = ("scope", "scp")
_HASH_CLAIMS = ("at_hash", "c_hash", "s_hash")
_ID_TOKEN_CLAIMS = frozenset((*_HASH_CLAIMS, "nonce", "token_use", "typ"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """Where to find scopes and client, and which tokens to refuse.

    Args:
        require_at_jwt: accept only RFC 9068 tokens: ``typ`` ``at+jwt`` and a ``sub``.
        scope_claim: a claim with the scopes, a string or a list, read before ``scope`` and
            ``scp``.
        client_id_claim: the claim with the client id, which a token then needs. By default the
            first of ``client_id``, ``azp``, ``appid``, ``cid`` and ``sub``, or else ``"unknown"``.
        map_scopes: called with the claims of a verified token; returns scopes to add, from roles or
            groups for example. It runs on the event loop, once per token, and must not block or
            have side effects.
        scope_hierarchy: the scopes that a scope implies, ``{"mcp:admin": ["mcp:read",
            "mcp:write"]}``; applied transitively.
        max_lifetime_seconds: refuse tokens with a longer lifetime, from ``iat`` (or from now,
            without one) to ``exp``.

    Raises:
        ConfigurationError: a value has the wrong type.
    """

    require_at_jwt: bool = False
    scope_claim: str | None = None
    client_id_claim: str | None = None
    map_scopes: Callable[[JSONObject], Iterable[str]] | None = None
    scope_hierarchy: Mapping[str, Sequence[str]] | None = None
    max_lifetime_seconds: int | None = None

    def __post_init__(self) -> None:
        check_kind("require_at_jwt", self.require_at_jwt, bool)
        for setting in ("scope_claim", "client_id_claim"):
            name = getattr(self, setting)
            if name is not None and check_names(setting, name) != (name,):
                raise ConfigurationError(f"{setting}={name!r} must be the name of one claim")
        if self.max_lifetime_seconds is not None:
            check_seconds("max_lifetime_seconds", self.max_lifetime_seconds, minimum=1)
        if self.map_scopes is not None and not callable(self.map_scopes):
            raise ConfigurationError("map_scopes must be a function from claims to scopes")
        check_kind("scope_hierarchy", self.scope_hierarchy, Mapping)
        for name, implied in (self.scope_hierarchy or {}).items():
            check_scopes("scope_hierarchy", (name,))
            check_scopes("scope_hierarchy", implied)


def expand_hierarchy(hierarchy: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    """Return for every scope all others that it implies, transitively."""
    expanded: dict[str, tuple[str, ...]] = {}
    for name in hierarchy or {}:
        found: dict[str, None] = {}
        queue = [name]
        while queue:
            for implied in (hierarchy or {}).get(queue.pop(), ()):
                if implied not in found and implied != name:
                    found[implied] = None
                    queue.append(implied)
        expanded[name] = tuple(found)
    return expanded


class ClaimChecks:
    """The claim checks of one verifier, prepared once for all tokens.

    Args:
        issuers: accepted ``iss`` values; if there are none, ``iss`` is not checked.
        audience: accepted ``aud`` values; ``None`` waits for ``bind_audience``.
        leeway_seconds: how long after ``exp`` a token is still accepted, at most 300.
        rules: how to read scopes and client.
        subject_claims: the claims that may name the user, or dotted paths to them.

    Raises:
        ConfigurationError: the audience or the leeway is invalid.
    """

    def __init__(
        self,
        *,
        issuers: Sequence[str],
        audience: str | Sequence[str] | None,
        leeway_seconds: float,
        rules: ClaimRules,
        subject_claims: Sequence[str] = ("sub",),
    ) -> None:
        self.subject_claims = tuple(subject_claims)
        self.issuers = frozenset(issuers)
        self._audiences = _explicit_audiences(audience)
        self._bound: str | None = None
        self.leeway = check_seconds("leeway_seconds", leeway_seconds, maximum=MAX_LEEWAY_SECONDS)
        self.tolerance = max(self.leeway, MIN_TOLERANCE_SECONDS)
        self.rules = rules
        self.client_claims = (rules.client_id_claim,) if rules.client_id_claim else _CLIENT_CLAIMS
        self.scope_claims = (
            (rules.scope_claim, *_SCOPE_CLAIMS) if rules.scope_claim else _SCOPE_CLAIMS
        )
        self.implied = expand_hierarchy(rules.scope_hierarchy)

    def bind_audience(self, resource: str | None) -> None:
        """Accept tokens for the resource URL, unless ``audience`` was configured.

        Args:
            resource: ``None`` only checks that there is an audience.

        Raises:
            ConfigurationError: there is none, or another resource was bound before.
        """
        if self._audiences is not None and self._bound is None:
            return
        if resource is None:
            raise _unknown_audience()
        if self._bound not in (None, resource):
            raise ConfigurationError(
                f"one verifier cannot protect two resources, {self._bound!r} and {resource!r}:"
                " create a verifier for each, or list both in audience=[…]"
            )
        self._bound = resource
        self._audiences = dict.fromkeys(resource_spellings(resource), resource)

    def is_id_token(self, claims: JSONObject) -> bool:
        """Return whether a JWT without a telling ``typ`` is an ID token, judged by its claims.

        Keycloak before 25 and Azure AD B2C put ``nonce`` and ``azp`` into access tokens, too, which
        unlike ID tokens have scopes.

        OpenID Connect Core §2 and §3.3.2.11; RFC 8725 §3.12; RFC 9068 §5.
        """
        if _ID_TOKEN_CLAIMS.isdisjoint(claims):
            return False
        if claims.get("typ") == "ID" or claims.get("token_use") == "id":  # Keycloak; Cognito
            return True
        return any(map(claims.get, _HASH_CLAIMS)) or bool(
            claims.get("nonce")
            and (claims.get("auth_time") or claims.get("azp"))
            and not any(_scope_list(claims.get(name)) for name in self.scope_claims)
        )

    def read_jwt(self, claims: JSONObject, payload: bytes, now: float) -> tuple[VerifiedToken, int]:
        """Return the content of a JWT whose signature has been verified, and its ``exp``.

        Args:
            claims: the parsed payload.
            payload: the same as bytes.
            now: epoch seconds.

        Raises:
            InvalidToken: a check failed.
        """
        if is_absent(claims.get("exp")):
            raise InvalidToken("missing_exp")
        if self.issuers and is_absent(claims.get("iss")):
            raise InvalidToken("missing_iss")
        if self.rules.require_at_jwt and is_absent(claims.get("sub")):
            raise InvalidToken("subject")  # RFC 9068 §2.2
        verified = self.read(claims, payload, now)
        return verified, int(claims["exp"])

    def read(self, claims: JSONObject, payload: bytes, now: float) -> VerifiedToken:
        """Return the content of a token, JWT or introspected. What is null or empty is left out.

        Raises:
            InvalidToken: a check failed.
        """
        expires_at = self._check_times(claims, now)
        if self.issuers:
            issuer = claims.get("iss")
            if not is_absent(issuer) and (type(issuer) is not str or issuer not in self.issuers):
                raise InvalidToken("issuer")
        if not is_absent(claims.get("cnf")):
            # A sender-constrained token used as Bearer was stolen or downgraded (RFC 9449 §7.2,
            # RFC 8705 §3). What cannot be read here is a way to bind it, too.
            raise InvalidToken("bound")
        resource = self._resource(claims)
        subject = self._subject(claims)
        client_id = self._client_id(claims, subject)
        # Last, so that map_scopes sees only the claims of valid tokens.
        scopes = self._scopes(claims)
        return VerifiedToken(client_id, scopes, expires_at, resource, subject, payload)

    def _check_times(self, claims: JSONObject, now: float) -> int | None:
        expires_at = None
        exp: Any = claims.get("exp")
        nbf: Any = claims.get("nbf")
        iat: Any = claims.get("iat")
        if not is_absent(exp):
            # type(), not isinstance(): True is an int, and a string of digits is not a NumericDate
            # (RFC 7519 §2).
            if type(exp) not in _NUMERIC or exp > MAX_EXPIRY:
                raise InvalidToken("invalid_exp")
            if now >= exp + self.leeway:
                raise InvalidToken("expired")
            expires_at = int(exp)
            longest = self.rules.max_lifetime_seconds
            issued_at = iat if type(iat) in _NUMERIC else now
            if longest is not None and exp - issued_at > longest:
                raise InvalidToken("lifetime")
        if not is_absent(nbf):
            if type(nbf) not in _NUMERIC:
                raise InvalidToken("invalid_nbf")
            if nbf > now + self.tolerance:
                raise InvalidToken("not_yet_valid")
        if type(iat) in _NUMERIC and iat > now + self.tolerance:
            raise InvalidToken("issued_in_future")
        return expires_at

    def _resource(self, claims: JSONObject) -> str | None:
        audiences = self._audiences
        if audiences is None:
            raise _unknown_audience()
        if ANY_AUDIENCE in audiences:
            return None
        aud: Any = claims.get("aud")
        if is_absent(aud):
            raise InvalidToken("missing_aud")
        if type(aud) is str:
            if aud in audiences:
                return audiences[aud]
        elif is_array(aud):
            for member in aud:
                if type(member) is str and member in audiences:
                    return audiences[member]
        raise InvalidToken("audience")

    def _subject(self, claims: JSONObject) -> str | None:
        for name in self.subject_claims:
            value = member_at(claims, name)
            if not is_absent(value):
                subject = name_of(value)
                if subject is None:
                    raise InvalidToken("subject")  # left out, it would make several users one
                return subject
        return None

    def _client_id(self, claims: JSONObject, subject: str | None) -> str:
        for name in self.client_claims:
            value = claims.get(name)
            client_id = name_of(value)
            if client_id is not None:
                return client_id
            if type(value) is str and value:
                raise InvalidToken("client_id")
        if self.rules.client_id_claim:
            raise InvalidToken("client_id")
        return subject or UNKNOWN_CLIENT

    def _scopes(self, claims: JSONObject) -> tuple[str, ...]:
        found: tuple[str, ...] = ()
        for name in self.scope_claims:
            value = claims.get(name)
            # An empty list is a statement: no scopes.
            if value is not None:
                found = tuple(_scope_list(value))
                break
        if self.rules.map_scopes is not None:
            found += check_scopes("The result of map_scopes", self.rules.map_scopes(claims))
        if self.implied:
            for name in found:
                found += self.implied.get(name, ())
        return found if len(found) < 2 else tuple(dict.fromkeys(found))


_NUMERIC = frozenset((int, float))


def _unknown_audience() -> ConfigurationError:
    return ConfigurationError(
        "the audience is not known: give the provider or verifier a base_url (the resource URL then"
        " is the audience), or write audience='…' exactly as in the issuer's aud, or switch the"
        " check off with audience=ANY_AUDIENCE"
    )


def _explicit_audiences(audience: str | Sequence[str] | None) -> Mapping[str, str] | None:
    if audience is None:
        return None
    names = check_names("audience", audience)
    if any("*" in name for name in names if name != ANY_AUDIENCE):
        raise ConfigurationError(
            f"audience={audience!r} has a wildcard, but aud is compared exactly: list each one"
        )
    if ANY_AUDIENCE in names and len(names) > 1:
        raise ConfigurationError(
            f"audience={audience!r} both lists audiences and switches the check off: keep one"
        )
    return {name: name for name in names}


def name_of(value: object) -> str | None:
    """Return the name of a user or client: printable text, or a whole number as text."""
    if type(value) is str:
        return value if value and value.isprintable() else None
    return str(value) if type(value) is int else None


def member_at(document: JSONObject, name: str) -> Any:
    """Return the member ``name``, or the one at that dotted path (``data.id``, ``data.0.id``).

    The member goes first: names of claims may be URLs.
    """
    found: Any = document.get(name)
    if "." in name and is_absent(found):
        found = document
        for part in name.split("."):
            if is_object(found):
                found = found.get(part)
            elif is_array(found) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            else:
                return None
    return found


def _scope_list(value: Any) -> list[str]:
    if type(value) is str:
        return list(filter(None, value.split(" ")))  # U+0020 only (RFC 6749 §3.3)
    # What is no text grants nothing.
    return [each for each in value if type(each) is str] if is_array(value) else []


def peek_issuer(token: str) -> str | None:
    """Return the unverified ``iss`` of a JWT; ``None`` for other tokens, or without one.

    Raises:
        InvalidToken: reading it would take too long, for what anyone can send.
    """
    if len(token) > MAX_TOKEN_BYTES or token.count(".") != 2:
        return None
    try:
        payload = decode_base64url(token.split(".")[1].encode("ascii"))
        issuer = parse_json_object(check_quick(payload)).get("iss")
    except TooDense:
        raise InvalidToken("payload") from None
    except ValueError:
        return None
    return issuer if type(issuer) is str else None
