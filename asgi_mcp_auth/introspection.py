"""IntrospectionTokenVerifier: opaque tokens, verified by asking their issuer (RFC 7662)."""

from __future__ import annotations

import base64
import logging
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import quote_plus

from ._cache import LRUCache, token_digest
from ._http import FetchFailed, HTTPFetcher
from ._json import parse_json_object
from ._urls import check_url
from .auth import ReasoningVerifier
from .claims import ClaimChecks, ClaimRules, check_issuers, check_kind, check_seconds
from .errors import ConfigurationError, InvalidToken, ServerUnavailable
from .headers import MAX_TOKEN_BYTES
from .tokens import AccessToken, Facts, access_token
from .types import Clock, InvalidTokenReason, JSONObject

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

MAX_RESPONSE_BYTES = 64 * 1024
MAX_CACHE_SIZE = 10_000
TIMEOUT_SECONDS = 5.0
NEGATIVE_TTL_SECONDS = 5.0  # short: an issuer may not know a token yet that it has just handed out
COOLDOWN_SECONDS = 1.0

ClientAuthMethod = Literal["client_secret_basic", "client_secret_post", "bearer"]


# Until when it counts (monotonic), and what the answer says. A plain tuple, for the reason given at Facts.
_CacheEntry: TypeAlias = tuple[float, Facts | InvalidTokenReason]


class IntrospectionTokenVerifier(ReasoningVerifier):
    """Verifies tokens by asking the issuer's introspection endpoint, and remembers the answer for a short time.

    Args:
        introspection_url: the endpoint.
        client_id: who we are there; not used with ``bearer``.
        client_secret: our secret there, or with ``bearer`` the token that opens the endpoint.
        client_auth_method: how we authenticate there.
        audience: accepted ``aud``; ``None`` is bound to the resource URL by the provider or middleware,
            ``ANY_AUDIENCE`` switches the check off (many servers send no ``aud``).
        issuer: accepted ``iss``; in a ``MultiAuth``, JWTs of these issuers come here as well.
        required_scopes: scopes that every request needs; the middleware checks them.
        base_url: public URL of this server, if used without a ``RemoteAuthProvider``.
        cache_ttl_seconds: how long a positive answer is used, at most until ``exp``; a revoked token works so much
            longer. 0 asks every time.
        claims: how to read scopes, client and the rest.
        http_client: an ``httpx.AsyncClient`` to use; it is never closed.
        clock: for tests.

    Raises:
        ConfigurationError: a setting is missing or wrong.

    RFC 7662 §2 and §4.
    """

    def __init__(
        self,
        *,
        introspection_url: str,
        client_id: str | None = None,
        client_secret: str,
        client_auth_method: ClientAuthMethod = "client_secret_basic",
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        required_scopes: Sequence[str] | None = None,
        base_url: str | None = None,
        cache_ttl_seconds: float = 60,
        claims: ClaimRules | None = None,
        http_client: httpx.AsyncClient | None = None,
        clock: Clock = time,
    ) -> None:
        super().__init__(base_url=base_url, required_scopes=required_scopes)
        self.issuers = check_issuers(issuer)
        check_kind("claims", claims, ClaimRules)
        check_kind("clock", clock, Clock)
        self._url = check_url("introspection_url", introspection_url, query=True)
        self._headers, self._form = client_authentication(client_auth_method, client_id, client_secret)
        self._checks = ClaimChecks(
            issuers=self.issuers, audience=audience, leeway_seconds=0, rules=claims or ClaimRules()
        )
        self._ttl = check_seconds("cache_ttl_seconds", cache_ttl_seconds, maximum=3600)
        self._answers: LRUCache[_CacheEntry] = LRUCache(MAX_CACHE_SIZE)
        self._fetcher = HTTPFetcher(timeout_seconds=TIMEOUT_SECONDS, client=http_client)
        self._clock = clock
        self._down = False
        self._failed_at = -math.inf

    def bind_audience(self, resource: str | None) -> None:
        """Accept tokens for ``resource``, unless ``audience`` was given."""
        self._checks.bind_audience(resource)

    async def start(self) -> None:
        """Pool connections."""
        await self._fetcher.open()

    async def stop(self) -> None:
        """Close the pool."""
        await self._fetcher.aclose()

    async def verify(self, token: str) -> AccessToken:
        """Return what ``token`` grants.

        Raises:
            InvalidToken: the issuer says that it is not active, or its answer fails a check.
            ServerUnavailable: the issuer cannot be asked, or its answer makes no sense.
            TypeError: not a ``str``.
        """
        if type(token) is not str:
            raise TypeError(f"token must be a str, not {type(token).__name__}")
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken("too_long")
        if not token.isascii():
            raise InvalidToken("malformed")  # outside b64token: the issuer cannot have made it (RFC 6750 §2.1)
        digest = token_digest(token)
        entry = self._answers.get(digest)
        now = self._clock.time()
        if entry is None or self._clock.monotonic() >= entry[0]:
            entry = await self._ask_and_judge(token, now)
            self._answers.put(digest, entry)
        _, result = entry
        if isinstance(result, str):
            raise InvalidToken(result)
        _, _, expires_at, *_ = result
        if expires_at is not None and now >= expires_at:
            raise InvalidToken("expired")
        return access_token(token, result)

    async def _ask_and_judge(self, token: str, now: float) -> _CacheEntry:
        answer, body = await self._ask(token)
        until = self._clock.monotonic()
        try:
            if answer.get("active") is not True:  # RFC 7662 §2.2: a boolean, and nothing else counts
                raise InvalidToken("inactive")
            kind = answer.get("token_type", "Bearer")
            if type(kind) is not str or kind.lower() not in ("bearer", "access_token"):
                raise InvalidToken("bound" if kind == "DPoP" else "type")
            facts = self._checks.read(answer, body, now)
        except InvalidToken as refusal:
            return until + min(NEGATIVE_TTL_SECONDS, self._ttl), refusal.reason
        return until + self._ttl, facts

    async def _ask(self, token: str) -> tuple[JSONObject, bytes]:
        if self._clock.monotonic() < self._failed_at + COOLDOWN_SECONDS:
            raise ServerUnavailable(COOLDOWN_SECONDS)  # do not make every caller wait for the same time-out
        form = {"token": token, "token_type_hint": "access_token", **self._form}
        status = 503  # what no answer at all amounts to
        try:
            response = await self._fetcher.fetch(
                self._url, max_bytes=MAX_RESPONSE_BYTES, headers=self._headers, form=form
            )
            status = response.status
            if status != 200:
                hint = ": check client_id and client_secret" if status in (400, 401, 403) else ""
                raise FetchFailed(f"HTTP {status}{hint}")
            answer = parse_json_object(response.body)
        except (FetchFailed, ValueError) as error:
            if not self._down:  # one line for each change of state
                logger.warning("Introspection at %s failed: %s. Tokens are answered with 503", self._url, error)
            self._down = True
            if status >= 500:  # any other answer may be about this one token, which must not lock the others out
                self._failed_at = self._clock.monotonic()
            raise ServerUnavailable(COOLDOWN_SECONDS) from None
        if self._down:
            logger.info("Introspection at %s is back", self._url)
        self._down = False
        return answer, response.body


def client_authentication(
    method: object, client_id: str | None, client_secret: object
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the headers and form fields that authenticate us (RFC 6749 §2.3.1, RFC 7662 §2.1)."""
    if not isinstance(client_secret, str) or not client_secret.isprintable() or not client_secret:
        raise ConfigurationError(
            "client_secret must be a string that is not empty: the endpoint answers only to clients it knows"
        )
    if method == "bearer":
        if not client_secret.isascii() or " " in client_secret:
            raise ConfigurationError("client_secret is sent as a Bearer token: ASCII only, no spaces")
        return {"authorization": f"Bearer {client_secret}"}, {}
    if not isinstance(client_id, str) or not client_id:
        raise ConfigurationError("client_id must be given, unless client_auth_method='bearer'")
    if method == "client_secret_basic":
        pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
        return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, {}
    if method == "client_secret_post":
        return {}, {"client_id": client_id, "client_secret": client_secret}
    raise ConfigurationError(
        f"client_auth_method={method!r} must be 'client_secret_basic', 'client_secret_post' or 'bearer'"
    )
