"""Who signed in at the provider, by ID token or access token (OpenID Connect Core §3.1.3.7), and
who may come in.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from .._json import decode_base64url, encode_base64url, is_array, parse_json_object
from .._urls import origin_of
from ..auth import AuthProvider, ReasoningVerifier
from ..claims import ClaimRules
from ..errors import ConfigurationError, InvalidToken, SignInFailed
from ..jwks import JWKSOptions
from ..jwt import JWTVerifier
from ..lookups import LookupVerifier
from ..multi import MultiAuth
from ..tokens import AccessToken, access_token
from ..types import Clock, JSONObject
from .client import TokenAnswer, UpstreamClient
from .domains import ascii_domain
from .options import UpstreamIdentity, UpstreamRules
from .upstream import Endpoints

logger = logging.getLogger(__name__)

_HASHES = {"256": "sha256", "384": "sha384", "512": "sha512", "EdDSA": "sha512"}


_EMAIL = ("email", "email_verified")
_GOOGLE = frozenset(("https://accounts.google.com", "accounts.google.com"))
# No key is known that has signed it: the key set may be older than the token, or the token older
# than the key set.
_UNKNOWN_SIGNER = frozenset(("unknown_key", "signature"))


class Identifier(Protocol):
    """Tells from the provider's tokens who signed in."""

    async def start(self) -> None:
        """Get ready on the running event loop."""
        ...

    async def stop(self) -> None:
        """Let go of what ``start`` took."""
        ...

    async def identify(
        self, answer: TokenAnswer, nonce: str | None, answered_at: float | None = None
    ) -> UpstreamIdentity | None:
        """Return who it is; ``None`` when refreshed tokens say nothing new.

        Args:
            answer: of the token endpoint.
            nonce: of the sign-in; ``None`` for refreshed tokens.
            answered_at: epoch seconds when the answer came, if not just now. What has expired since
                then was good.

        Raises:
            SignInFailed: the tokens are not what they have to be; ``unknown_signer`` where that may
                change.
            ServerUnavailable: that cannot be found out now.
        """
        ...


class AccessTokenIdentifier:
    """Asks a verifier about the provider's access token.

    Args:
        verifier: knows the provider's tokens, with the audience that they have.
        authorization_endpoint: names the provider where the verifier knows no issuer.

    Raises:
        ConfigurationError: it is no verifier, or one without an audience of its own.
    """

    def __init__(self, verifier: AuthProvider, authorization_endpoint: str) -> None:
        if not isinstance(verifier, AuthProvider):
            raise ConfigurationError(
                f"token_verifier={verifier!r} must verify the identity provider's tokens, as"
                " JWTVerifier(…) does"
            )
        try:
            # where tokens have none, it does not matter: these come from no stranger
            if verifier.names_audience:
                verifier.bind_audience(None)
        except ConfigurationError:
            raise ConfigurationError(
                "token_verifier needs an audience of its own: that of the identity provider's"
                " access tokens, which are not made for this server"
            ) from None
        self.verifier = verifier
        self._usual_issuer = (
            verifier.issuers[0] if len(verifier.issuers) == 1 else origin_of(authorization_endpoint)
        )
        for each in verifier.sources if isinstance(verifier, MultiAuth) else (verifier,):
            if isinstance(each, LookupVerifier) and not each.issuers:
                each.usual_issuer = self._usual_issuer

    async def start(self) -> None:
        """Open the verifier."""
        await self.verifier.__aenter__()

    async def stop(self) -> None:
        """Close it."""
        await self.verifier.__aexit__(None, None, None)

    async def identify(
        self, answer: TokenAnswer, nonce: str | None, answered_at: float | None = None
    ) -> UpstreamIdentity:
        """Return who the access token belongs to; what has expired is refreshed again before
        anybody asks.
        """
        access = await self._verify(answer.access_token)
        issuer = access.claims.get("iss", self._usual_issuer)
        if not isinstance(issuer, str) or not access.subject:
            raise _unusable("the access token names nobody")
        return UpstreamIdentity(issuer=issuer, subject=access.subject, claims=access.claims)

    async def _verify(self, token: str) -> AccessToken:
        if isinstance(self.verifier, ReasoningVerifier):
            try:
                return await self.verifier.verify(token)
            except InvalidToken as error:
                raise _invalid("access", error) from None
        access = await self.verifier.verify_token(token)
        if access is None:
            raise _unusable("the access token is not valid")
        return access


class _IDTokenVerifier(JWTVerifier):
    accepted_types = frozenset(("jwt",))  # an access token is no ID token (RFC 9068 §5)
    refuses_id_tokens = False

    async def verify_as_of(self, token: str, at: float) -> AccessToken:
        """Return what ``verify`` would have said at that time with the keys of now."""
        facts, *_ = await self._verify(token, token.encode("ascii"), at)
        return access_token(token, facts)


class IDTokenIdentifier:
    """Reads ID tokens, and the userinfo endpoint where that is wanted.

    Args:
        client: the proxy, as the provider's client.
        rules: whether to ask for userinfo.
        clock: decides what has expired.
    """

    def __init__(self, client: UpstreamClient, rules: UpstreamRules, clock: Clock) -> None:
        self._client = client
        self._rules = rules
        self._clock = clock
        self._verifier: _IDTokenVerifier | None = None
        self._verifier_of: tuple[str | None, tuple[str, ...]] | None = None

    async def start(self) -> None:
        """Nothing: the keys are fetched when they are needed."""

    async def stop(self) -> None:
        """Nothing is open."""

    async def identify(
        self, answer: TokenAnswer, nonce: str | None, answered_at: float | None = None
    ) -> UpstreamIdentity | None:
        """Return who the ID token is about."""
        if answer.id_token is None:
            if nonce is None:
                return None  # OpenID Connect Core §12.2: a refresh need not bring one
            raise _unusable("there is no ID token: is openid among upstream_scopes?")
        at = self._clock.time() if answered_at is None else answered_at
        verifier = self._verifier_for(await self._client.endpoints())
        try:
            claims = (await verifier.verify_as_of(answer.id_token, at)).claims
        except InvalidToken as error:
            raise _invalid("ID", error) from None
        subject = claims.get("sub")
        if not isinstance(subject, str):
            raise _unusable("the ID token names nobody")
        self._check_parties(claims)
        _check_access_token(claims, answer)
        if nonce is not None:
            if not hmac.compare_digest(
                str(claims.get("nonce")).encode("utf-8", "surrogatepass"), nonce.encode()
            ):
                raise _unusable("the ID token is of another sign-in (nonce)")
            if self._rules.userinfo:
                more = await self._userinfo(answer.access_token, subject)
                return UpstreamIdentity(
                    issuer=claims["iss"], subject=subject, claims=merged(claims, more)
                )
        return UpstreamIdentity(issuer=claims["iss"], subject=subject, claims=claims)

    def _verifier_for(self, endpoints: Endpoints) -> _IDTokenVerifier:
        if self._verifier is None or self._verifier_of != (endpoints.jwks_uri, endpoints.issuers):
            self._verifier = _IDTokenVerifier(
                jwks_uri=endpoints.jwks_uri,
                issuer=endpoints.issuers,
                audience=self._client.client_id,
                claims=ClaimRules(client_id_claim="sub"),
                jwks=JWKSOptions(http_client=self._rules.http_client),
                clock=self._clock,
                token_cache_size=0,
            )
            self._verifier_of = endpoints.jwks_uri, endpoints.issuers
        return self._verifier

    async def _userinfo(self, access_token: str, subject: str) -> JSONObject:
        document = await self._client.userinfo(access_token)
        if document.get("sub") != subject:  # OpenID Connect Core §5.3.2
            raise _unusable("the userinfo endpoint speaks of somebody else")
        return document

    def _check_parties(self, claims: JSONObject) -> None:
        client_id = self._client.client_id
        several = is_array(claims.get("aud")) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else client_id) != client_id:
            raise _unusable("the ID token was issued to another client (azp)")


def _check_access_token(claims: JSONObject, answer: TokenAnswer) -> None:
    """Check that the two tokens belong together, where the ID token says so (OpenID Connect Core
    §3.1.3.8).
    """
    expected = claims.get("at_hash")
    if expected is None:
        return
    header = parse_json_object(decode_base64url((answer.id_token or "").split(".")[0].encode()))
    name = _HASHES.get(header["alg"][-3:]) or _HASHES.get(header["alg"])
    if name is None:
        return
    digest = hashlib.new(name, answer.access_token.encode()).digest()
    half = encode_base64url(digest[: len(digest) // 2])
    if not hmac.compare_digest(half.encode(), str(expected).encode("utf-8", "surrogatepass")):
        raise _unusable("the ID token does not belong to the access token (at_hash)")


def _invalid(kind: str, error: InvalidToken) -> SignInFailed:
    failed = _unusable(f"the {kind} token is not valid ({error.reason})")
    return SignInFailed(reason="unknown_signer") if error.reason in _UNKNOWN_SIGNER else failed


def _unusable(why: str) -> SignInFailed:
    logger.warning("A sign-in at the identity provider failed: %s", why)
    return SignInFailed()


def merged(claims: JSONObject, more: JSONObject) -> JSONObject:
    """Return the claims of the ID token with those of the userinfo endpoint that it leaves out.

    An e-mail address and the word that it is verified are one claim. They come from the source that
    has both, if any.
    """
    merged = {**more, **claims}
    whole = (each for each in (claims, more) if all(each.get(name) is not None for name in _EMAIL))
    source = next(whole, more if claims.get("email") is None else claims)
    merged |= {name: source.get(name) for name in _EMAIL}
    return {
        name: value for name, value in merged.items() if value is not None or name not in _EMAIL
    }


def find_objection(identity: UpstreamIdentity, rules: UpstreamRules) -> str | None:
    """Return why this person may not come in, in words for them; ``None`` when they may."""
    claims = identity.claims
    if rules.allowed_domains and not _domains_of(identity) & {
        ascii_domain(each) for each in rules.allowed_domains
    }:
        return (
            "Only people with a verified e-mail address of certain organisations may use this"
            " service."
        )
    for name, accepted in rules.allowed_claims.items():
        is_denied = name == "email" and claims.get("email_verified") in (False, "false")
        if is_denied or not _values(claims.get(name)) & set(accepted):
            return "Your account does not belong to those who may use this service."
    return None


def _domains_of(identity: UpstreamIdentity) -> set[str]:
    # ``hd``: Google's own word for the organisation, and no other provider's. An address that the
    # provider has not checked is anybody's.
    claims, found = identity.claims, set[str | None]()
    if identity.issuer in _GOOGLE and isinstance(claims.get("hd"), str):
        found.add(ascii_domain(claims["hd"]))
    address = claims.get("email")
    if (
        isinstance(address, str)
        and claims.get("email_verified") in (True, "true")
        and address.count("@") == 1
    ):
        found.add(ascii_domain(address.rpartition("@")[2]))
    return {each for each in found if each is not None}


def _values(value: Any) -> set[str]:
    entries: Sequence[Any] = value if is_array(value) else (value,)
    return {each for each in entries if isinstance(each, str)}
