"""JWTVerifier: header → key → signature → claims → AccessToken.

RFC 7515, RFC 7519, RFC 8725, RFC 9068.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple, TypeAlias

from ._cache import LRUCache
from ._http import HTTPFetcher
from ._jose import (
    ASYMMETRIC,
    SYMMETRIC,
    UnusableKey,
    VerifyingKey,
    keys_from_jwk,
    keys_from_pem,
    keys_from_secret,
)
from ._json import check_quick, decode_base64url, is_array, is_object, parse_json_object
from ._settings import check_count, check_issuers, check_kind, check_names, check_url
from .auth import RefusingVerifier
from .claims import ClaimChecks, ClaimRules, peek_issuer
from .discovery import IssuerDocuments
from .errors import ConfigurationError, InvalidToken
from .headers import MAX_TOKEN_BYTES
from .jwks import JWKSOptions, RemoteJWKS
from .keys import KeySet, KeySource, StaticKeys
from .tokens import AccessToken, PackedToken, TokenCache, access_token, claims_weight
from .types import Clock

HEADER_CACHE_SIZE = 256  # an issuer's tokens share a handful of headers
MAX_CACHED_HEADER_BYTES = 4096  # with a chain of certificates

#: The values of ``typ`` of a JWT about which it says no more (RFC 7519 §5.1, RFC 7515 §4.1.9).
PLAIN_TYPES = frozenset(("jwt", "application/jwt", "jose", "application/jose"))
_AT_JWT_TYPES = frozenset(("at+jwt", "application/at+jwt"))
# Members that change the signed content, or mark something other than a plain JWS (RFC 7797). Those
# that bring a key along (jwk, jku, x5u, x5c) are hints, and never used (RFC 8725 §3.10).
_REFUSED_MEMBERS = frozenset(("b64", "zip", "enc"))


class _Header(NamedTuple):
    algorithm: str
    key_id: str | None
    is_access_token: bool  # according to typ, which most issuers do not set


# A verified token; its expiry (wall clock, leeway included); the position of the key source that
# verified it; the version of that source's key set at the time. A plain tuple, for the reason given
# at PackedToken.
_CacheEntry: TypeAlias = tuple[PackedToken, float, int, int]


class JWTVerifier(RefusingVerifier):
    """Verifies signed JWT access tokens, with keys from the configuration or from the issuer.

    Args:
        public_key: a PEM, a JWK, a JWK set, or a list of PEMs and JWKs; with an HS algorithm the
            shared secret; or a ``KeySource``.
        jwks_uri: URL of the issuer's key set. With neither of the two, it is discovered from
            ``issuer`` (RFC 8414, then OpenID).
        issuer: accepted ``iss``, compared byte for byte. Several share ``public_key`` or
            ``jwks_uri``, or are discovered separately.
        audience: accepted ``aud``, one or several. ``None`` is bound to the resource URL by the
            provider or middleware; ``ANY_AUDIENCE`` switches the check off.
        algorithm: one name or several; ``None`` allows every asymmetric one, each bound to the type
            of its key.
        required_scopes: scopes that every request needs; the middleware checks them.
        base_url: public URL of this server, if the verifier is used without a
            ``RemoteAuthProvider``.
        leeway_seconds: how long after ``exp`` a token is still valid, 0 to 300. For ``nbf`` and
            ``iat`` it is at least 60.
        clock: for tests.
        jwks: how key sets are fetched and cached.
        claims: how to read scopes, client and the rest.
        token_cache_size: how many verified tokens to cache, one more for each 4 KiB of claims; 0
            disables the cache.

    Raises:
        ConfigurationError: a setting is missing, wrong, or contradicts another.

    RFC 9068 §4; RFC 8725.
    """

    takes_opaque_tokens = False
    #: Accepted values of ``typ``, if there is one, in lower case (RFC 8725 §3.11).
    accepted_types: frozenset[str] = PLAIN_TYPES | _AT_JWT_TYPES
    #: Whether ID tokens are refused: they do not authorize anything.
    refuses_id_tokens: bool = True
    #: How many keys are tried for one token, where it does not say which.
    tries: int = 4

    def __init__(
        self,
        *,
        public_key: object = None,
        jwks_uri: str | None = None,
        issuer: str | Sequence[str] | None = None,
        audience: str | Sequence[str] | None = None,
        algorithm: str | Sequence[str] | None = None,
        required_scopes: Sequence[str] | None = None,
        base_url: str | None = None,
        leeway_seconds: float = 0,
        clock: Clock = time,
        jwks: JWKSOptions | None = None,
        claims: ClaimRules | None = None,
        token_cache_size: int = 10_000,
    ) -> None:
        super().__init__(base_url=base_url, required_scopes=required_scopes)
        self.issuers = check_issuers(issuer)
        check_kind("claims", claims, ClaimRules)
        check_kind("jwks", jwks, JWKSOptions)
        check_kind("clock", clock, Clock)
        self._clock = clock
        self._checks = ClaimChecks(
            issuers=self.issuers,
            audience=audience,
            leeway_seconds=leeway_seconds,
            rules=claims or ClaimRules(),
        )
        self._algorithms = _check_algorithms(algorithm)
        self._sources = self._key_sources(public_key, jwks_uri, jwks or JWKSOptions())
        self._source_list = list(dict.fromkeys(self._sources.values()))
        self._headers: LRUCache[_Header] = LRUCache(HEADER_CACHE_SIZE)
        self._tokens: LRUCache[_CacheEntry] = LRUCache(
            check_count("token_cache_size", token_cache_size), lambda entry: claims_weight(entry[0])
        )

    @property
    def jwks(self) -> tuple[RemoteJWKS, ...]:
        """The remote key sets; each has a ``state``."""
        return tuple(each for each in self._source_list if isinstance(each, RemoteJWKS))

    def bind_audience(self, resource: str | None) -> None:
        """Accept tokens for ``resource``, unless ``audience`` was given."""
        self._checks.bind_audience(resource)

    async def start(self) -> None:
        """Fetch all key sets at once."""
        await asyncio.gather(*(source.open() for source in self._source_list))

    async def stop(self) -> None:
        """Close the key sets."""
        await asyncio.gather(*(source.aclose() for source in self._source_list))

    async def verify(self, token: str) -> AccessToken:
        """Return the verified token.

        Args:
            token: a ``str``; anything else is a programming error.

        Raises:
            InvalidToken: the token is invalid, for its ``reason``.
            ServerUnavailable: the keys are not available.
            TypeError: not a ``str``.
        """
        if type(token) is not str:
            raise TypeError(f"token must be a str, not {type(token).__name__}")
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken("too_long")
        if token.count(".") != 2 or not token.isascii():
            raise InvalidToken("malformed")  # not a JWT: no need to hash it
        data = token.encode("ascii")
        digest = sha256(data).digest()
        verified = self._recall(digest)
        if verified is None:
            entry = await self._verify(token, data, self._clock.time())
            self._tokens.put(digest, entry)
            verified = entry[0]
        return access_token(token, verified)

    def token_cache(self) -> TokenCache | None:
        """Return the cache, unless a subclass overrides verification."""
        overridden = (
            type(self).verify is not JWTVerifier.verify
            or type(self).verify_token is not JWTVerifier.verify_token
        )
        return None if overridden else self._cached_token

    def _cached_token(self, token: bytes) -> AccessToken | None:
        verified = self._recall(sha256(token).digest())
        return None if verified is None else access_token(token.decode(), verified)

    def _recall(self, digest: bytes) -> PackedToken | None:
        entry = self._tokens.get(digest)
        if entry is not None:
            verified, valid_until, position, version = entry
            source, clock = self._source_list[position], self._clock
            if (
                clock.time() < valid_until
                and version == source.version
                and clock.monotonic() < source.fresh_until
            ):
                return verified
        return None

    async def _verify(self, token: str, data: bytes, now: float) -> _CacheEntry:
        try:
            signing_input, _, signature_segment = data.rpartition(b".")
            header_segment, _, payload_segment = signing_input.partition(b".")
            header = self._header(header_segment)
            signature = decode_base64url(signature_segment)
        except ValueError:
            raise InvalidToken("malformed") from None
        position = 0 if len(self._source_list) == 1 else self._position_of_source(token)
        source = self._source_list[position]
        keys = await source.keys_for(header.key_id, header.algorithm)
        if not _is_signed(keys[: self.tries], signing_input, signature):
            tried = keys
            if isinstance(source, RemoteJWKS):
                keys = await source.replacements_for(header.key_id, header.algorithm, tried)
            if keys is tried or not _is_signed(keys[: self.tries], signing_input, signature):
                raise InvalidToken("ambiguous_key" if len(tried) > self.tries else "signature")
        try:
            payload = decode_base64url(payload_segment)
            claims = parse_json_object(payload)
        except ValueError:
            raise InvalidToken("payload") from None
        if (
            self.refuses_id_tokens
            and not header.is_access_token
            and self._checks.is_id_token(claims)
        ):
            raise InvalidToken("type")
        verified, expires_at = self._checks.read_jwt(claims, payload, now)
        return verified.pack(), expires_at + self._checks.leeway, position, source.version

    def _header(self, segment: bytes) -> _Header:
        header = self._headers.get(segment)
        if header is None:
            header = self._parse_header(segment)
            if len(segment) <= MAX_CACHED_HEADER_BYTES:
                self._headers.put(segment, header)
        return header

    def _parse_header(self, segment: bytes) -> _Header:
        try:
            members = parse_json_object(check_quick(decode_base64url(segment)))
        except ValueError:
            raise InvalidToken("header") from None
        algorithm, key_id, typ = map(members.get, ("alg", "kid", "typ"))
        if type(algorithm) is not str or algorithm not in self._algorithms:
            raise InvalidToken("algorithm")
        if "crit" in members:
            raise InvalidToken("critical_header")  # no extension is supported (RFC 7515 §4.1.11)
        if not _REFUSED_MEMBERS.isdisjoint(members):
            raise InvalidToken("header")
        typ = typ.lower() if type(typ) is str else ""
        needs_typ = self._checks.rules.require_at_jwt
        if (typ or needs_typ) and typ not in (_AT_JWT_TYPES if needs_typ else self.accepted_types):
            raise InvalidToken("type")
        key_id = key_id if type(key_id) is str and key_id else None
        return _Header(algorithm, key_id, is_access_token=typ in _AT_JWT_TYPES)

    def _position_of_source(self, token: str) -> int:
        # Each issuer has its own keys, so the unverified issuer decides which are tried (RFC 8725
        # §3.8).
        issuer = peek_issuer(token)
        if issuer is None:
            raise InvalidToken("missing_iss")
        source = self._sources.get(issuer)
        if source is None:
            raise InvalidToken("issuer")
        return self._source_list.index(source)

    def _key_sources(
        self, public_key: object, jwks_uri: object, options: JWKSOptions
    ) -> dict[str, KeySource]:
        names = self.issuers or ("",)
        symmetric = not self._algorithms.isdisjoint(SYMMETRIC)
        if public_key is not None and jwks_uri is not None:
            raise ConfigurationError("public_key and jwks_uri are both set: remove one of them")
        if symmetric and public_key is None:
            raise ConfigurationError(
                "an HS* algorithm needs the shared secret: write public_key='…'"
            )
        if isinstance(public_key, KeySource):
            return dict.fromkeys(names, public_key)
        if public_key is not None:
            return dict.fromkeys(
                names, StaticKeys(_static_keys(public_key, sorted(self._algorithms)))
            )
        build = functools.partial(
            RemoteJWKS, algorithms=sorted(self._algorithms), options=options, clock=self._clock
        )
        if jwks_uri is not None:
            return dict.fromkeys(names, build(check_url("jwks_uri", jwks_uri, query=True)))
        if not self.issuers:
            raise ConfigurationError(
                "JWTVerifier has no keys: write issuer='https://…', or jwks_uri, or public_key"
            )
        self.issuer_documents = {
            check_url("issuer", issuer): IssuerDocuments(
                issuer,
                HTTPFetcher(timeout_seconds=options.timeout_seconds, client=options.http_client),
            )
            for issuer in self.issuers
        }
        return {
            issuer: build(documents.fetch_jwks_uri, fetcher=documents.fetcher)
            for issuer, documents in self.issuer_documents.items()
        }


def _is_signed(keys: Sequence[VerifyingKey], signing_input: bytes, signature: bytes) -> bool:
    for key in keys:  # noqa: SIM110 (any() needs a generator, a cost for each token)
        if key.verify(signing_input, signature):
            return True
    return False


def _check_algorithms(algorithm: Any) -> frozenset[str]:
    if algorithm is None:
        return frozenset(ASYMMETRIC)
    names = check_names("algorithm", algorithm)
    for name in names:
        if name not in ASYMMETRIC and name not in SYMMETRIC:
            raise ConfigurationError(
                f"algorithm={algorithm!r}: {name!r} is not one of"
                f" {', '.join(ASYMMETRIC + SYMMETRIC)}"
            )
    allowed = frozenset(names)
    if not allowed.isdisjoint(SYMMETRIC) and not allowed.isdisjoint(ASYMMETRIC):
        # Otherwise a public key could be used as a shared secret (RFC 8725 §2.1).
        raise ConfigurationError(
            f"algorithm={algorithm!r} mixes HS* with asymmetric ones: create two verifiers"
        )
    return allowed


def _static_keys(public_key: Any, algorithms: Sequence[str]) -> KeySet:
    entries = public_key["keys"] if is_object(public_key) and "keys" in public_key else public_key
    if not is_array(entries):
        entries = [public_key]
    keys: list[VerifyingKey] = []
    for entry in entries:
        try:
            keys += _static_key(entry, algorithms)
        except UnusableKey as error:
            raise ConfigurationError(f"public_key cannot be used: {error}") from None
    if not keys:
        raise ConfigurationError(f"public_key matches none of: {', '.join(algorithms)}")
    return KeySet(keys)


def _static_key(entry: Any, algorithms: Sequence[str]) -> list[VerifyingKey]:
    if not isinstance(entry, str | bytes):
        return keys_from_jwk(entry, algorithms)
    text = entry.encode() if isinstance(entry, str) else entry
    return (
        keys_from_secret(text, algorithms)
        if algorithms[0] in SYMMETRIC
        else keys_from_pem(text, algorithms)
    )
