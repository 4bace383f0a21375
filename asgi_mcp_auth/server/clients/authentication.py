"""Who sends this? Client authentication at the token endpoint and its neighbours.

RFC 6749 §2.3 (secret in the header or in the body), RFC 7523 §3 (signed assertion), OAuth 2.1 §2.4.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from ...claims import ClaimRules, peek_issuer
from ...errors import InvalidClient, InvalidToken, MalformedRequest
from ...headers import MAX_TOKEN_BYTES
from ...jwt import JWTVerifier
from ...stores import Store
from ...types import Clock
from ..limits import Limits
from ..parties import Client
from ..records import Stored, hash_of
from ..table import Kind, Table
from ..web import EndpointRequest
from .keys import ClientKeys
from .metadata import ASSERTION_ALGORITHMS, SECRET_METHODS
from .registry import Clients, nobody

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_ASSERTION_SECONDS = 300
ASSERTION_ID_SECONDS = MAX_ASSERTION_SECONDS + 60
MAX_JTI_CHARS = 256

_ASSERTION_RULES = ClaimRules(max_lifetime_seconds=MAX_ASSERTION_SECONDS)
# compared with where there is nothing to compare with, so that it takes as long
_NO_SECRET = hash_of("")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedAssertion(Stored):
    """The fact that an assertion has been used."""

    def dump(self) -> bytes:
        """Return the record as the store keeps it."""
        return b"1"


USED_ASSERTIONS: Final = Kind(
    "jti",
    UsedAssertion,
    key="SHA-256 of the hashes of the client id and the `jti`",
    lifetime="6 minutes, longer than any assertion is valid",
)


class Credentials(NamedTuple):
    """What a request shows, by one method of RFC 7591 §2."""

    method: str
    client_id: str
    proof: str

    def __repr__(self) -> str:
        return f"Credentials({self.method!r}, {self.client_id!r})"


class AssertionVerifier(JWTVerifier):
    """Verifies client assertions; unlike access tokens they are never remembered."""

    accepted_types = frozenset(
        ("jwt", "client-authentication+jwt", "application/client-authentication+jwt")
    )


class ClientAuthenticator:
    """Finds out which client sends a request.

    Args:
        clients: those that are known.
        store: remembers which assertions were used.
        clock: decides what has expired.
        audiences: what an assertion may be addressed to: the issuer, and for older clients an
            endpoint.
        keys: what clients sign with.
        limits: know how much may be kept for strangers.
    """

    def __init__(
        self,
        clients: Clients,
        store: Store,
        clock: Clock,
        audiences: Sequence[str],
        keys: ClientKeys,
        limits: Limits,
    ) -> None:
        self._clients = clients
        self._used = Table(store, USED_ASSERTIONS, lambda _: ASSERTION_ID_SECONDS)
        self._clock = clock
        self._audiences = audiences
        self._keys = keys
        self._limits = limits

    async def authenticate(self, request: EndpointRequest) -> Client:
        """Return the client that sends a request.

        Raises:
            MalformedRequest: it uses two methods at once, or contradicts itself.
            InvalidClient: it does not prove to be the client that it says.
            ServerUnavailable: that cannot be found out now.
            TooManyRequests: the address has made us fetch, or keep, enough to find that out.
        """
        shown = parse_client_credentials(request)
        client = await self._clients.find(shown.client_id, address=request.source)
        if shown.method in SECRET_METHODS:
            # Before anything else, and for unknown clients too: timing shall not tell them apart.
            good = (client or nobody()).secret_hash or _NO_SECRET
            matches = hmac.compare_digest(hash_of(shown.proof), good)
            if client is None or not matches or client.secret_hash is None:
                raise InvalidClient(reason="unknown_client" if client is None else "secret")
            if 0 < client.secret_expires_at <= self._clock.time():
                raise InvalidClient(reason="secret_expired")
        if client is None:
            raise InvalidClient
        if shown.method not in client.auth_methods:
            raise InvalidClient(reason="auth_method")
        if shown.method == "private_key_jwt":
            await self._check_assertion(client, shown.proof, request.source)
        return client

    async def _check_assertion(self, client: Client, assertion: str, address: str) -> None:
        try:
            access = await self._verifier_for(client, address).verify(assertion)
        except InvalidToken:
            raise InvalidClient(reason="assertion") from None
        jti, audience = access.claims.get("jti"), access.claims["aud"]
        if (
            access.subject != client.client_id
            or not isinstance(jti, str)
            or not 0 < len(jti) <= MAX_JTI_CHARS
        ):
            raise InvalidClient(reason="assertion")
        if not isinstance(audience, str) and len(audience) != 1:
            # it could be used elsewhere as well (RFC 7523 bis)
            raise InvalidClient(reason="assertion")
        key = hash_of(hash_of(client.client_id) + hash_of(jti))
        used = UsedAssertion()
        if client.origin != "configured":
            self._limits.keep(address, used.dump(), ASSERTION_ID_SECONDS, is_sign_in=False)
        if not await self._used.add(key, used):
            raise InvalidClient(reason="assertion_replayed")

    def _verifier_for(self, client: Client, address: str) -> AssertionVerifier:
        only = client.metadata.get("token_endpoint_auth_signing_alg")
        return AssertionVerifier(
            public_key=self._keys.of(client, address),
            issuer=client.client_id,
            audience=self._audiences,
            algorithm=ASSERTION_ALGORITHMS if only is None else only,
            claims=_ASSERTION_RULES,
            clock=self._clock,
            token_cache_size=0,
        )


def parse_client_credentials(request: EndpointRequest) -> Credentials:
    """Return what a request shows of its client.

    Raises:
        MalformedRequest: it uses two methods at once, or names two clients.
        InvalidClient: it shows nothing, or nothing that can be read.
    """
    parameters = request.parameters
    client_id, secret = parameters.get("client_id"), parameters.get("client_secret")
    assertion, authorization = parameters.get("client_assertion"), request.header(b"authorization")
    if sum(each is not None for each in (secret, assertion, authorization)) > 1:
        raise MalformedRequest("The client authenticates by two methods at once")
    if authorization is not None:
        shown = _parse_basic(authorization)
    elif assertion is not None:
        if parameters.get("client_assertion_type") != ASSERTION_TYPE:
            raise InvalidClient("The client_assertion_type is not supported", reason="assertion")
        shown = Credentials("private_key_jwt", client_id or peek_issuer(assertion) or "", assertion)
    elif client_id is None:
        raise InvalidClient("The client does not say who it is", reason="no_credentials")
    elif secret is not None:
        shown = Credentials("client_secret_post", client_id, secret)
    else:
        shown = Credentials("none", client_id, "")
    if client_id is not None and client_id != shown.client_id:
        raise MalformedRequest("The request names two clients")
    return shown


def _parse_basic(value: bytes) -> Credentials:
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic":
        raise InvalidClient("The client authenticates by an unknown scheme", reason="auth_method")
    if len(encoded) > MAX_TOKEN_BYTES:
        raise InvalidClient(reason="no_credentials")
    encoded = encoded.strip(b" ")
    try:
        data = base64.b64decode(encoded)
        text = data.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidClient(reason="no_credentials") from None
    client_id, colon, secret = text.partition(":")
    # one spelling, without what the decoder passes over
    if not colon or base64.b64encode(data) != encoded:
        raise InvalidClient(reason="no_credentials")
    # RFC 6749 §2.3.1: both were form-encoded before. Ids and secrets made here look the same either
    # way.
    return Credentials("client_secret_basic", unquote_plus(client_id), unquote_plus(secret))
