"""Authenticates clients, at the token endpoint and the others that need it.

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
from ...jwt import PLAIN_TYPES, JWTVerifier
from ...stores import Store
from ...types import Clock
from ..limits import Limits
from ..parties import Client
from ..records import Stored, hash_of
from ..table import Kind, Table
from ..web import EndpointRequest
from .keys import ClientKeys
from .metadata import ASSERTION_ALGORITHMS, SECRET_METHODS
from .registry import Clients, dummy_client

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_ASSERTION_SECONDS = 300
ASSERTION_ID_SECONDS = MAX_ASSERTION_SECONDS + 60
MAX_JTI_CHARS = 256
MAX_BASIC_BYTES = 16 * 1024

_ASSERTION_RULES = ClaimRules(max_lifetime_seconds=MAX_ASSERTION_SECONDS)
# Compared with if a client has no secret, so that the comparison takes as long.
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
    """The credentials in a request, for one of the methods of RFC 7591 §2."""

    method: str
    client_id: str
    proof: str

    def __repr__(self) -> str:
        return f"Credentials({self.method!r}, {self.client_id!r})"


class AssertionVerifier(JWTVerifier):
    """Verifies client assertions. Unlike access tokens, they are never cached."""

    accepted_types = PLAIN_TYPES | {
        "client-authentication+jwt",
        "application/client-authentication+jwt",
    }


class ClientAuthenticator:
    """Authenticates the clients that send requests.

    Args:
        clients: the known clients.
        store: where used assertions are recorded.
        clock: decides what has expired.
        audiences: the values of ``aud`` that an assertion may have: the issuer, and the endpoints
            for older clients.
        keys: the public keys of clients.
        limits: bound how much is stored for strangers.
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
            MalformedRequest: the request uses two methods at once, or names two clients.
            InvalidClient: the client fails to authenticate.
            ServerUnavailable: it cannot be authenticated at the moment.
            TooManyRequests: authenticating it would exceed what this network may make us fetch or
                store.
        """
        credentials = parse_client_credentials(request)
        client_id, address = credentials.client_id, request.source
        client = await self._clients.find(client_id, address=address, from_client=True)
        try:
            return await self._check(client, credentials, address)
        except InvalidClient:
            if client is None or client.origin != "document":
                raise
            # The document that is kept may be older than the client's keys.
            newer = await self._clients.find(client_id, address=address)
            if newer == client:
                raise
        return await self._check(newer, credentials, address)

    async def _check(self, client: Client | None, credentials: Credentials, address: str) -> Client:
        if credentials.method in SECRET_METHODS:
            # Before anything else, and for unknown clients too, so that timing does not tell them
            # apart.
            expected = (client or dummy_client()).secret_hash or _NO_SECRET
            matches = hmac.compare_digest(hash_of(credentials.proof), expected)
            if client is None or not matches or client.secret_hash is None:
                raise InvalidClient(reason="unknown_client" if client is None else "secret")
            if 0 < client.secret_expires_at <= self._clock.time():
                raise InvalidClient(reason="secret_expired")
        if client is None:
            raise InvalidClient
        methods = set(client.auth_methods)
        if not methods.isdisjoint(SECRET_METHODS):
            # A secret proves the same in the header as in the body, and libraries choose for
            # themselves (RFC 6749 §2.3.1).
            methods.update(SECRET_METHODS)
        if credentials.method not in methods:
            raise InvalidClient(reason="auth_method")
        if credentials.method == "private_key_jwt":
            await self._check_assertion(client, credentials.proof, address)
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
            # With several audiences it could be used at another server as well (RFC 7523bis).
            raise InvalidClient(reason="assertion")
        key = hash_of(hash_of(client.client_id) + hash_of(jti))
        used = UsedAssertion()
        if client.origin != "configured":
            self._limits.keep(address, used.dump(), ASSERTION_ID_SECONDS, is_sign_in=False)
        if not await self._used.add(key, used):
            raise InvalidClient(reason="assertion_replayed")

    def _verifier_for(self, client: Client, address: str) -> AssertionVerifier:
        only = client.metadata.get("token_endpoint_auth_signing_alg")
        verifier = AssertionVerifier(
            public_key=self._keys.of(client, address),
            issuer=client.client_id,
            audience=self._audiences,
            algorithm=ASSERTION_ALGORITHMS if only is None else only,
            claims=_ASSERTION_RULES,
            clock=self._clock,
            token_cache_size=0,
        )
        if client.origin != "configured":
            verifier.tries = 1  # a stranger may have brought keys that are expensive to try
        return verifier


def parse_client_credentials(request: EndpointRequest) -> Credentials:
    """Return the client credentials in a request.

    Raises:
        MalformedRequest: it uses two methods at once, or names two clients.
        InvalidClient: there are none, or they are malformed.
    """
    parameters = request.parameters
    client_id, secret = parameters.get("client_id"), parameters.get("client_secret")
    assertion, authorization = parameters.get("client_assertion"), request.header(b"authorization")
    if sum(each is not None for each in (secret, assertion, authorization)) > 1:
        raise MalformedRequest("The request uses two client authentication methods")
    if authorization is not None:
        credentials = _parse_basic(authorization)
    elif assertion is not None:
        if parameters.get("client_assertion_type") != ASSERTION_TYPE:
            raise InvalidClient("The client_assertion_type is not supported", reason="assertion")
        try:
            claimed_id = client_id or peek_issuer(assertion) or ""
        except InvalidToken:
            raise InvalidClient(reason="assertion") from None
        credentials = Credentials("private_key_jwt", claimed_id, assertion)
    elif client_id is None:
        raise InvalidClient(
            "The request contains no client_id and no client credentials", reason="no_credentials"
        )
    elif secret is not None:
        credentials = Credentials("client_secret_post", client_id, secret)
    else:
        credentials = Credentials("none", client_id, "")
    if client_id is not None and client_id != credentials.client_id:
        raise MalformedRequest("The request names two clients")
    return credentials


def _parse_basic(value: bytes) -> Credentials:
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic":
        raise InvalidClient("The authentication scheme is not supported", reason="auth_method")
    if len(encoded) > MAX_BASIC_BYTES:
        raise InvalidClient(reason="no_credentials")
    encoded = encoded.strip(b" ")
    try:
        data = base64.b64decode(encoded)
        text = data.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidClient(reason="no_credentials") from None
    client_id, colon, secret = text.partition(":")
    # Only the canonical spelling: the decoder skips invalid characters.
    if not colon or base64.b64encode(data) != encoded:
        raise InvalidClient(reason="no_credentials")
    # RFC 6749 §2.3.1: both are form-encoded first, which changes nothing in the ids and secrets
    # made here.
    # Without a secret it only names the client, as client_id in the body does: many libraries
    # always send Basic, and §2.3.1 lets an empty secret be left out.
    method = "client_secret_basic" if secret else "none"
    return Credentials(method, unquote_plus(client_id), unquote_plus(secret))
