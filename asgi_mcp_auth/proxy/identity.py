"""Finds out who signed in at the provider, from its ID token or access token.

OpenID Connect Core §3.1.3.7.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from .._jose import ASYMMETRIC, SYMMETRIC, problem_of_secret
from .._json import decode_base64url, encode_base64url, is_absent, parse_json_object
from .._settings import check_list
from .._urls import origin_of
from ..auth import AuthProvider, RefusingVerifier
from ..claims import ClaimChecks, ClaimRules, name_of
from ..errors import ConfigurationError, InvalidToken, SignInFailed
from ..jwks import JWKSOptions
from ..jwt import PLAIN_TYPES, JWTVerifier
from ..lookups import LookupVerifier
from ..multi import MultiAuth
from ..tokens import AccessToken, VerifiedToken, access_token
from ..types import Clock, JSONObject
from .answers import TokenAnswer
from .client import UpstreamClient
from .options import UpstreamIdentity, UpstreamRules
from .upstream import Endpoints

logger = logging.getLogger(__name__)

_HASHES = {"256": "sha256", "384": "sha384", "512": "sha512", "EdDSA": "sha512"}
_EMAIL = ("email", "email_verified")
# No known key has signed the token: the key set may be older than the token, or newer.
_UNKNOWN_SIGNER = frozenset(("unknown_key", "ambiguous_key", "signature"))


class Identifier(Protocol):
    """Finds out whose the provider's tokens are."""

    async def start(self) -> None:
        """Prepare, on the running event loop."""
        ...

    async def stop(self) -> None:
        """Release what ``start`` acquired."""
        ...

    async def identify(self, answer: TokenAnswer, nonce: str) -> UpstreamIdentity:
        """Return who has signed in.

        Args:
            answer: the answer of the token endpoint.
            nonce: the nonce of the sign-in.

        Raises:
            SignInFailed: the tokens are invalid.
            ServerUnavailable: they cannot be checked now.
        """
        ...

    async def identify_refreshed(
        self, answer: TokenAnswer, answered_at: float | None
    ) -> UpstreamIdentity | None:
        """Return whose refreshed tokens are, ``None`` if they do not say.

        Args:
            answer: the answer of the token endpoint.
            answered_at: epoch seconds of the answer, ``None`` for now. Tokens that have expired
                since then are accepted.

        Raises:
            SignInFailed: the tokens are invalid; the reason is ``unknown_signer`` if that may
                change.
            ServerUnavailable: they cannot be checked now.
        """
        ...


class AccessTokenIdentifier:
    """Verifies the provider's access token.

    Args:
        verifier: verifies the provider's tokens, with the audience that they have.
        authorization_endpoint: stands for the provider if the verifier knows no issuer.

    Raises:
        ConfigurationError: the verifier is invalid, or has no audience of its own.
    """

    def __init__(self, verifier: AuthProvider, authorization_endpoint: str) -> None:
        if not isinstance(verifier, AuthProvider):
            raise ConfigurationError(
                f"token_verifier={verifier!r} must verify the identity provider's tokens, as"
                " JWTVerifier(…) does"
            )
        try:
            # Tokens without an audience are acceptable here: they come from the provider itself.
            if verifier.has_audience:
                verifier.bind_audience(None)
        except ConfigurationError:
            raise ConfigurationError(
                "token_verifier needs an audience of its own: that of the identity provider's"
                " access tokens, which are not made for this server"
            ) from None
        self.verifier = verifier
        self._default_issuer = (
            verifier.issuers[0] if len(verifier.issuers) == 1 else origin_of(authorization_endpoint)
        )
        for each in verifier.sources if isinstance(verifier, MultiAuth) else (verifier,):
            if isinstance(each, LookupVerifier) and not each.issuers:
                each.default_issuer = self._default_issuer

    async def start(self) -> None:
        """Open the verifier."""
        await self.verifier.__aenter__()

    async def stop(self) -> None:
        """Close it."""
        await self.verifier.__aexit__(None, None, None)

    async def identify(self, answer: TokenAnswer, nonce: str) -> UpstreamIdentity:
        """Return whose the access token is; there is no nonce in it."""
        return await self.identify_refreshed(answer, None)

    async def identify_refreshed(
        self, answer: TokenAnswer, answered_at: float | None
    ) -> UpstreamIdentity:
        """Return whose the access token is; an expired one is never asked about."""
        access = await self._verify(answer.access_token)
        issuer = access.claims.get("iss") or self._default_issuer
        if not isinstance(issuer, str) or not access.subject:
            raise _unusable("the access token has no usable subject")
        return UpstreamIdentity(issuer=issuer, subject=access.subject, claims=access.claims)

    async def _verify(self, token: str) -> AccessToken:
        if isinstance(self.verifier, RefusingVerifier):
            try:
                return await self.verifier.verify(token)
            except InvalidToken as error:
                raise _invalid("the access token", error) from None
        access = await self.verifier.verify_token(token)
        if access is None:
            raise _unusable("the access token is invalid")
        return access


class _Checks(ClaimChecks):
    def read_jwt(self, claims: JSONObject, payload: bytes, now: float) -> tuple[VerifiedToken, int]:
        # Answers of the userinfo endpoint do not expire (OpenID Connect Core §5.3.2).
        return super().read_jwt({"exp": int(now) + 1, **claims}, payload, now)


class _ProviderVerifier(JWTVerifier):
    """Verifies what the provider signs about users: ID tokens and answers about them.

    Args:
        client_id: of the proxy, which has to be in ``aud``.
        endpoints: who the provider is.
        settings: of the base class, with the keys.
    """

    accepted_types = PLAIN_TYPES  # no access token (RFC 9068 §5)
    refuses_id_tokens = False

    def __init__(self, client_id: str, endpoints: Endpoints, **settings: Any) -> None:
        rules = ClaimRules(client_id_claim="sub")
        super().__init__(
            issuer=endpoints.issuers,
            audience=client_id,
            claims=rules,
            token_cache_size=0,
            **settings,
        )
        self._checks = _Checks(
            issuers=endpoints.issuers, audience=client_id, leeway_seconds=0, rules=rules
        )

    async def verify_as_of(self, token: str, at: float) -> JSONObject:
        """Return the claims that were valid at that time, with the present keys."""
        verified, *_ = await self._verify(token, token.encode("ascii"), at)
        return access_token(token, verified).claims


class IDTokenIdentifier:
    """Verifies ID tokens, and asks the userinfo endpoint if the rules say so.

    Args:
        client: the proxy, as the provider's client.
        rules: whether to ask the userinfo endpoint.
        clock: decides what has expired.
        algorithms: accepted ones; by default those with public keys, and those with the client
            secret (``HS256``) that the provider's metadata lists.

    Raises:
        ConfigurationError: the client secret cannot be used with ``id_token_algorithms``.
    """

    def __init__(
        self,
        client: UpstreamClient,
        rules: UpstreamRules,
        clock: Clock,
        algorithms: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._rules = rules
        self._clock = clock
        check_list("id_token_algorithms", algorithms, str, "['HS256']")
        for name in algorithms:
            if name not in ASYMMETRIC + SYMMETRIC:
                raise ConfigurationError(
                    f"id_token_algorithms has {name!r}, which is not one of"
                    f" {', '.join(ASYMMETRIC + SYMMETRIC)}"
                )
            problem = problem_of_secret(client.client_secret, name) if name in SYMMETRIC else None
            if problem is not None:
                raise ConfigurationError(
                    f"id_token_algorithms has {name!r}, which signs with client_secret: {problem}"
                )
        self._algorithms = tuple(algorithms)
        self._asymmetric = [each for each in ASYMMETRIC if each in (algorithms or ASYMMETRIC)]
        self._verifiers: dict[bool, _ProviderVerifier] = {}  # with a secret; with public keys
        self._verifiers_of: tuple[str | None, tuple[str, ...]] | None = None

    async def start(self) -> None:
        """Do nothing: the keys are fetched when they are needed."""

    async def stop(self) -> None:
        """Do nothing: nothing is open."""

    async def identify(self, answer: TokenAnswer, nonce: str) -> UpstreamIdentity:
        """Return whose the ID token is."""
        if answer.id_token is None:
            raise _unusable("there is no ID token: is openid among upstream_scopes?")
        identity = await self._verify(answer, answer.id_token, self._clock.time())
        received = str(identity.claims.get("nonce")).encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(received, nonce.encode()):
            raise _unusable("the ID token belongs to another sign-in (nonce)")
        if not self._rules.userinfo:
            return identity
        more = await self._userinfo(answer.access_token, identity.subject)
        return replace(identity, claims=merged(identity.claims, more))

    async def identify_refreshed(
        self, answer: TokenAnswer, answered_at: float | None
    ) -> UpstreamIdentity | None:
        """Return whose the ID token is; a refresh need not bring one.

        OpenID Connect Core §12.2.
        """
        if answer.id_token is None:
            return None
        at = self._clock.time() if answered_at is None else answered_at
        return await self._verify(answer, answer.id_token, at)

    async def _verify(self, answer: TokenAnswer, id_token: str, at: float) -> UpstreamIdentity:
        claims = await self._claims_of(id_token, at, "the ID token")
        if "exp" not in claims:
            raise _invalid("the ID token", InvalidToken("missing_exp"))
        subject = name_of(claims.get("sub"))
        if subject is None:
            raise _unusable("the ID token has no usable sub")
        _check_access_token(claims, answer.access_token, id_token)
        return UpstreamIdentity(issuer=claims["iss"], subject=subject, claims=claims)

    async def _claims_of(self, token: str, at: float, what: str) -> JSONObject:
        """Return the claims of a JWT that the provider has signed for the proxy.

        Raises:
            SignInFailed: it is invalid, or for another client.
            ServerUnavailable: its keys are not available.
        """
        if token.count(".") == 4:
            raise _unusable(
                f"{what} is encrypted, which is not supported: switch encryption off for this"
                " application at the identity provider"
            )
        endpoints = await self._client.endpoints()
        try:
            algorithm = _algorithm_of(token)
            is_symmetric = algorithm in SYMMETRIC
            if is_symmetric:
                self._check_secret(algorithm, endpoints, what)
            elif endpoints.jwks_uri is None or algorithm not in self._asymmetric:
                raise InvalidToken("algorithm")
            claims = await self._verifier(endpoints, is_symmetric).verify_as_of(token, at)
        except InvalidToken as error:
            raise _invalid(what, error) from None
        # With several audiences, azp is optional (OpenID Connect Core §3.1.3.7 since errata 2).
        azp = claims.get("azp")
        if not is_absent(azp) and azp != self._client.client_id:
            raise _unusable(f"{what} was issued to another client (azp)")
        return claims

    def _check_secret(self, algorithm: str, endpoints: Endpoints, what: str) -> None:
        """Check that the client secret may verify signatures (OpenID Connect Core §10.1).

        Raises:
            SignInFailed: it may not, and the log says why.
        """
        accepted = self._algorithms or endpoints.signing_algorithms
        signed = f"{what} is signed with {algorithm}, the client secret"
        if algorithm not in accepted:
            raise _unusable(
                f"{signed}, although the metadata does not list that: choose a signing key at the"
                f" identity provider, or write OIDCProxy(id_token_algorithms=[{algorithm!r}])"
            )
        problem = problem_of_secret(self._client.client_secret, algorithm)
        if problem is not None:
            raise _unusable(f"{signed}: {problem}")

    def _verifier(self, endpoints: Endpoints, is_symmetric: bool) -> _ProviderVerifier:
        """Return the verifier with the client secret, or the one with the provider's public keys.

        Neither ever sees the other's keys, so no public key is used as a secret (RFC 8725 §2.1).
        """
        if self._verifiers_of != (endpoints.jwks_uri, endpoints.issuers):
            self._verifiers_of = endpoints.jwks_uri, endpoints.issuers
            self._verifiers.clear()
        if is_symmetric not in self._verifiers:
            keys: JSONObject = {
                "jwks_uri": endpoints.jwks_uri,
                "algorithm": self._asymmetric,
                "jwks": JWKSOptions(http_client=self._rules.http_client),
            }
            if is_symmetric:
                keys = {"public_key": self._client.client_secret, "algorithm": SYMMETRIC}
            self._verifiers[is_symmetric] = _ProviderVerifier(
                self._client.client_id, endpoints, clock=self._clock, **keys
            )
        return self._verifiers[is_symmetric]

    async def _userinfo(self, access_token: str, subject: str) -> JSONObject:
        answer = await self._client.userinfo(access_token)
        if isinstance(answer, str):
            what = "the answer of the userinfo endpoint"
            answer = await self._claims_of(answer, self._clock.time(), what)
        if name_of(answer.get("sub")) != subject:  # OpenID Connect Core §5.3.2
            raise _unusable("the userinfo endpoint answered for another user (sub)")
        return answer


def _algorithm_of(token: str) -> str:
    try:
        header = parse_json_object(decode_base64url(token.split(".")[0].encode("ascii")))
    except ValueError:
        raise InvalidToken("malformed") from None
    return str(header.get("alg"))


def _check_access_token(claims: JSONObject, access_token: str, id_token: str) -> None:
    """Check that the two tokens belong together, if the ID token says so.

    OpenID Connect Core §3.1.3.8.
    """
    expected = claims.get("at_hash")
    if is_absent(expected):
        return
    header = parse_json_object(decode_base64url(id_token.split(".")[0].encode()))
    name = _HASHES.get(header["alg"][-3:]) or _HASHES.get(header["alg"])
    if name is None:
        return
    digest = hashlib.new(name, access_token.encode()).digest()
    half = encode_base64url(digest[: len(digest) // 2])
    if not hmac.compare_digest(half.encode(), str(expected).encode("utf-8", "surrogatepass")):
        raise _unusable("the ID token does not belong to the access token (at_hash)")


def _invalid(what: str, error: InvalidToken) -> SignInFailed:
    failed = _unusable(f"{what} is invalid ({error.reason})")
    return SignInFailed(reason="unknown_signer") if error.reason in _UNKNOWN_SIGNER else failed


def _unusable(why: str) -> SignInFailed:
    logger.warning("A sign-in at the identity provider failed: %s", why)
    return SignInFailed()


def merged(claims: JSONObject, more: JSONObject) -> JSONObject:
    """Return the claims of the ID token, completed with those of the userinfo endpoint.

    An email address and whether it is verified belong together. Both come from the source that has
    both, if there is one.
    """
    merged = {**more, **claims}
    whole = (each for each in (claims, more) if all(each.get(name) is not None for name in _EMAIL))
    source = next(whole, more if claims.get("email") is None else claims)
    merged |= {name: source.get(name) for name in _EMAIL}
    return {
        name: value for name, value in merged.items() if value is not None or name not in _EMAIL
    }
