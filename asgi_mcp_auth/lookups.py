"""Base class of verifiers that send a request for each token: result cache, limits, cooldown.

Tokens that were valid before never wait for tokens that were not: anyone can make up any number
of those.
"""

from __future__ import annotations

import functools
import json
import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from ._cache import LRUCache, SingleFlight, token_digest
from ._http import FetchFailed, HTTPFetcher, Response
from ._json import is_absent
from ._outage import Outage
from ._places import Places, network_of
from ._settings import check_issuers, check_kind, check_seconds
from .auth import RefusingVerifier
from .errors import InvalidToken, ServerUnavailable, TooManyRequests, UpstreamFails
from .headers import MAX_TOKEN_BYTES, is_visible_ascii
from .tokens import (
    AccessToken,
    PackedToken,
    VerifiedToken,
    access_token,
    claims_weight,
    current_verification,
)
from .types import Clock, InvalidTokenReason, JSONObject

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

MAX_RESPONSE_BYTES = 64 * 1024
MAX_CACHE_SIZE = 10_000
MAX_REFUSALS = 2_000  # in a cache of their own: made-up tokens evict only each other
TIMEOUT_SECONDS = 5.0
# Short: the endpoint may not know a token yet that its issuer has just handed out.
NEGATIVE_TTL_SECONDS = 5.0
COOLDOWN_SECONDS = 1.0
WARNING_SECONDS = 60.0  # minimum time between two warnings: a single odd token may cause one
# For tokens that were never valid, as all of them are after a restart. A pool has 100 connections,
# so most are left for the others.
STRANGERS_AT_ONCE = 32
STRANGERS_OF_ONE_NETWORK = 1_000  # looked up and waiting; all users may share one address
STRANGERS_WAIT_SECONDS = 5.0

# The result of a look-up; None: there was no usable answer.
_Result: TypeAlias = VerifiedToken | InvalidTokenReason | None


class LookupVerifier(RefusingVerifier):
    """Verifies tokens with a request to a URL, and caches the result for a short time.

    Args:
        url: the endpoint.
        issuer: accepted ``iss``, and the default for responses without one. If there are several,
            the response must name one. If there are none, the default is ``url``.
        required_scopes: scopes that every request needs; the middleware checks them.
        base_url: public URL of this server, if used without a ``RemoteAuthProvider``.
        cache_ttl_seconds: how long a positive result is cached, at most until the token expires; 0
            looks a token up for every request.
        http_client: an ``httpx.AsyncClient`` to use; it is never closed.
        clock: for tests.

    Raises:
        ConfigurationError: a setting is wrong.
    """

    #: The kind of endpoint, for the log.
    label: ClassVar[str]

    def __init__(
        self,
        url: str,
        *,
        issuer: str | Sequence[str] | None,
        required_scopes: Sequence[str] | None,
        base_url: str | None,
        cache_ttl_seconds: float,
        http_client: httpx.AsyncClient | None,
        clock: Clock,
    ) -> None:
        super().__init__(base_url=base_url, required_scopes=required_scopes)
        check_kind("clock", clock, Clock)
        self.url = url
        self.issuers = check_issuers(issuer)
        #: The issuer of tokens whose responses name none; ``None`` if they must name one.
        self.default_issuer: str | None = None
        if len(self.issuers) < 2:
            self.default_issuer = next(iter(self.issuers), url.partition("?")[0])
        self._ttl = check_seconds("cache_ttl_seconds", cache_ttl_seconds, maximum=3600)
        # The expiry (monotonic) and the facts, as plain tuples for the reason given at PackedToken.
        # An expired entry stays, as a sign that its token was valid before.
        self._answers: LRUCache[tuple[float, PackedToken]] = LRUCache(
            MAX_CACHE_SIZE, lambda entry: claims_weight(entry[1])
        )
        self._refusals: LRUCache[tuple[float, InvalidTokenReason | None]] = LRUCache(MAX_REFUSALS)
        self._flights: dict[bytes, SingleFlight[_Result]] = {}
        self._strangers = Places(
            STRANGERS_AT_ONCE,
            each=STRANGERS_OF_ONE_NETWORK,
            wait_seconds=STRANGERS_WAIT_SECONDS,
            usual_seconds=0.05,
            clock=clock,
        )
        self._fetcher = HTTPFetcher(timeout_seconds=TIMEOUT_SECONDS, client=http_client)
        self._clock = clock
        self._is_silent = True
        self._outage = Outage(pause_seconds=WARNING_SECONDS, clock=clock)
        # for tokens that were good before; strangers cannot close this door
        self._closed_until = -math.inf

    @abstractmethod
    def build_request(self, token: str) -> tuple[Mapping[str, str], Mapping[str, str] | None]:
        """Return the headers and the form of the request; without a form it is a GET."""

    @abstractmethod
    def parse_response(self, response: Response, now: float) -> VerifiedToken:
        """Return the token's facts.

        Raises:
            InvalidToken: the token is not valid here.
            FetchFailed: the response is unusable.
            ValueError: the response is not JSON.
        """

    def set_issuer(self, answer: JSONObject, body: bytes) -> bytes:
        """Add the issuer to ``answer`` if it names none, and return it as JSON.

        A subject identifies a user only together with an issuer.

        Args:
            answer: the parsed body.
            body: the body.

        Raises:
            InvalidToken: the answer names an issuer that is not accepted, or none although there
                are several.
        """
        named = answer.get("iss")
        if self.issuers and not is_absent(named):
            if named not in self.issuers:
                raise InvalidToken("issuer")
            return body
        if isinstance(named, str) and named:
            return body
        if self.default_issuer is None:
            raise InvalidToken("missing_iss")
        answer["iss"] = self.default_issuer
        return json.dumps(answer).encode()

    async def start(self) -> None:
        """Open the connection pool."""
        await self._fetcher.open()

    async def stop(self) -> None:
        """Cancel the look-ups on this event loop and close the connection pool."""
        for flight in list(self._flights.values()):
            await flight.aclose()
        await self._fetcher.aclose()

    async def verify(self, token: str) -> AccessToken:
        """Return the access that ``token`` grants.

        Raises:
            InvalidToken: the token is not valid here.
            ServerUnavailable: the endpoint is not responding, or its response is unusable.
            TypeError: the token is not a ``str``.
        """
        if type(token) is not str:
            raise TypeError(f"token must be a str, not {type(token).__name__}")
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken("too_long")
        if not is_visible_ascii(token):
            raise InvalidToken("malformed")  # no issuer can have made it
        digest = token_digest(token)
        cached = self._answers.get(digest)
        if cached is None or self._clock.monotonic() >= cached[0]:
            verified = await self._look_up(token, digest, was_valid=cached is not None)
        else:
            verified = VerifiedToken(*cached[1])
        if verified.expires_at is not None and self._clock.time() >= verified.expires_at:
            raise InvalidToken("expired")
        return access_token(token, verified)

    async def _look_up(self, token: str, digest: bytes, *, was_valid: bool) -> VerifiedToken:
        refusal = self._refusals.get(digest)
        if refusal is not None and self._clock.monotonic() < refusal[0]:
            result: _Result = refusal[1]
        else:
            flight = self._flights.get(digest)
            if flight is None:
                verification = current_verification.get()
                address = "" if verification is None else verification.address
                work = functools.partial(
                    self._take_turn, token, digest, None if was_valid else network_of(address)
                )
                flight = self._flights[digest] = SingleFlight(work)
            result = await flight()
        if result is None:
            failure = ServerUnavailable if self._is_silent else UpstreamFails
            raise failure(COOLDOWN_SECONDS)
        if isinstance(result, str):
            raise InvalidToken(result)
        return result

    async def _take_turn(self, token: str, digest: bytes, network: str | None) -> _Result:
        """Send the request as soon as this token may.

        Args:
            token: the token.
            digest: its digest.
            network: where a token comes from that was never valid; ``None`` for any other.
        """
        try:
            if network is None:
                return await self._ask(token, digest, was_valid=True) if self._may_ask() else None
            place = await self._strangers.enter(network)
            try:
                return await self._ask(token, digest, was_valid=False)
            finally:
                place.leave()
        except (ServerUnavailable, TooManyRequests):  # the queue is full
            return None
        finally:
            self._flights.pop(digest, None)

    def _may_ask(self) -> bool:
        """Return whether a token that was valid may be looked up; during an outage one tries for
        all.
        """
        now = self._clock.monotonic()
        if now < self._closed_until:
            return False
        if self._closed_until > -math.inf:
            # Until this request has its result.
            self._closed_until = now + TIMEOUT_SECONDS + COOLDOWN_SECONDS
        return True

    async def _ask(self, token: str, digest: bytes, *, was_valid: bool) -> _Result:
        headers, form = self.build_request(token)
        status = 503  # stands for no response at all
        try:
            response = await self._fetcher.fetch(
                self.url, max_bytes=MAX_RESPONSE_BYTES, headers=headers, form=form
            )
            status = response.status
            verified = self.parse_response(response, self._clock.time())
        except InvalidToken as refusal:
            self._answered()
            self._answers.discard(digest)
            until = self._clock.monotonic() + min(NEGATIVE_TTL_SECONDS, self._ttl)
            self._refusals.put(digest, (until, refusal.reason))
            return refusal.reason
        except (FetchFailed, ValueError) as error:
            self._is_silent = isinstance(error, FetchFailed) and error.is_silence
            if self._outage.failed(str(error)):
                logger.warning(
                    "%s at %s failed: %s. Tokens are answered with 503", self.label, self.url, error
                )
            closed_until = self._clock.monotonic() + COOLDOWN_SECONDS
            self._refusals.put(digest, (closed_until, None))
            # A status below 500 is about this one token, which must not lock the others out.
            if was_valid:
                self._closed_until = closed_until if status >= 500 else -math.inf
            return None
        self._answered()
        self._answers.put(digest, (self._clock.monotonic() + self._ttl, verified.pack()))
        return verified

    def _answered(self) -> None:
        self._closed_until = -math.inf
        self._is_silent = True
        if self._outage.recovered():
            logger.info("%s at %s works again", self.label, self.url)
