"""What verifiers share that ask somebody about each token: who may ask when, and for how long an
answer counts.

Tokens that were good before never wait for those that were not, of which anybody can make up any
number.
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
from ._outage import Outage
from ._places import Places, network_of
from ._settings import check_issuers, check_kind, check_seconds
from .auth import ReasoningVerifier
from .errors import InvalidToken, ServerUnavailable, TooManyRequests
from .headers import MAX_TOKEN_BYTES, is_b64token
from .tokens import (
    AccessToken,
    PackedToken,
    VerifiedToken,
    access_token,
    current_verification,
)
from .types import Clock, InvalidTokenReason, JSONObject

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

MAX_RESPONSE_BYTES = 64 * 1024
MAX_CACHE_SIZE = 10_000
MAX_REFUSALS = 2_000  # in a cache of their own: garbage forgets garbage
TIMEOUT_SECONDS = 5.0
# short: who is asked may not know a token yet that it has just handed out
NEGATIVE_TTL_SECONDS = 5.0
COOLDOWN_SECONDS = 1.0
# at least, between two warnings: one strange token may be enough to cause one
WARNING_SECONDS = 60.0
# For tokens that were never good, as all of them are after a restart. A pool has 100 connections,
# so most are left for the others.
STRANGERS_AT_ONCE = 32
STRANGERS_OF_ONE_NETWORK = 1_000  # asked about and waiting; everybody may be behind one address
STRANGERS_WAIT_SECONDS = 5.0

# What a question brought; None: nobody could say.
_Answer: TypeAlias = VerifiedToken | InvalidTokenReason | None


class LookupVerifier(ReasoningVerifier):
    """Verifies tokens by asking at a URL, and remembers the answer for a short time.

    Args:
        url: where to ask.
        issuer: accepted ``iss``, and what the claims say where the answer leaves it out. Of several
            the answer has to name one; without any, the claims say ``url`` then.
        required_scopes: scopes that every request needs; the middleware checks them.
        base_url: public URL of this server, if used without a ``RemoteAuthProvider``.
        cache_ttl_seconds: how long a positive answer is used, at most until the token expires; 0
            asks every time.
        http_client: an ``httpx.AsyncClient`` to use; it is never closed.
        clock: for tests.

    Raises:
        ConfigurationError: a setting is wrong.
    """

    #: What the log calls it.
    asked: ClassVar[str]

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
        #: The issuer of the tokens whose answers name none.
        self.usual_issuer = (
            None if len(self.issuers) > 1 else next(iter(self.issuers), url.partition("?")[0])
        )
        self._ttl = check_seconds("cache_ttl_seconds", cache_ttl_seconds, maximum=3600)
        # Until when it counts (monotonic), and what it says; plain tuples, for the reason given at
        # PackedToken. One that has run out stays: it says that its token was good before.
        self._answers: LRUCache[tuple[float, PackedToken]] = LRUCache(MAX_CACHE_SIZE)
        self._refusals: LRUCache[tuple[float, InvalidTokenReason | None]] = LRUCache(MAX_REFUSALS)
        self._flights: dict[bytes, SingleFlight[_Answer]] = {}
        self._strangers = Places(
            STRANGERS_AT_ONCE,
            each=STRANGERS_OF_ONE_NETWORK,
            wait_seconds=STRANGERS_WAIT_SECONDS,
            usual_seconds=0.05,
            clock=clock,
        )
        self._fetcher = HTTPFetcher(timeout_seconds=TIMEOUT_SECONDS, client=http_client)
        self._clock = clock
        self._outage = Outage(pause_seconds=WARNING_SECONDS, clock=clock)
        # for tokens that were good before; strangers cannot close this door
        self._closed_until = -math.inf

    @abstractmethod
    def question(self, token: str) -> tuple[Mapping[str, str], Mapping[str, str] | None]:
        """Return the headers to ask with, and the form, ``None`` for a GET."""

    @abstractmethod
    def judge(self, response: Response, now: float) -> VerifiedToken:
        """Return what an answer says of the token.

        Raises:
            InvalidToken: that it is not good here.
            FetchFailed: nothing that can be used.
            ValueError: it is no JSON.
        """

    def name_issuer(self, answer: JSONObject, body: bytes) -> bytes:
        """Return the answer as JSON with an issuer in it, and put it into ``answer``: a subject
        alone is not somebody.

        Args:
            answer: the parsed body.
            body: the same as bytes.

        Raises:
            InvalidToken: it names none, and there are several; or another one than those that are
                accepted.
        """
        named = answer.get("iss")
        if self.issuers and "iss" in answer:
            if named not in self.issuers:
                raise InvalidToken("issuer")
            return body
        if isinstance(named, str) and named:
            return body
        if self.usual_issuer is None:
            raise InvalidToken("missing_iss")
        answer["iss"] = self.usual_issuer
        return json.dumps(answer).encode()

    async def start(self) -> None:
        """Pool connections."""
        await self._fetcher.open()

    async def stop(self) -> None:
        """End the questions under way on this event loop, and close the pool."""
        for flight in list(self._flights.values()):
            await flight.aclose()
        await self._fetcher.aclose()

    async def verify(self, token: str) -> AccessToken:
        """Return what ``token`` grants.

        Raises:
            InvalidToken: it is not good here.
            ServerUnavailable: nobody answers, or not what can be used.
            TypeError: not a ``str``.
        """
        if type(token) is not str:
            raise TypeError(f"token must be a str, not {type(token).__name__}")
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken("too_long")
        if not token.isascii() or not is_b64token(token.encode("ascii")):
            raise InvalidToken("malformed")  # nobody can have made it (RFC 6750 §2.1)
        digest = token_digest(token)
        remembered = self._answers.get(digest)
        if remembered is None or self._clock.monotonic() >= remembered[0]:
            verified = await self._find_out(token, digest, was_good=remembered is not None)
        else:
            verified = VerifiedToken(*remembered[1])
        if verified.expires_at is not None and self._clock.time() >= verified.expires_at:
            raise InvalidToken("expired")
        return access_token(token, verified)

    async def _find_out(self, token: str, digest: bytes, *, was_good: bool) -> VerifiedToken:
        refusal = self._refusals.get(digest)
        if refusal is not None and self._clock.monotonic() < refusal[0]:
            answer: _Answer = refusal[1]
        else:
            flight = self._flights.get(digest)
            if flight is None:
                verification = current_verification.get()
                address = "" if verification is None else verification.address
                work = functools.partial(
                    self._ask, token, digest, None if was_good else network_of(address)
                )
                flight = self._flights[digest] = SingleFlight(work)
            answer = await flight()
        if answer is None:
            raise ServerUnavailable(COOLDOWN_SECONDS)
        if isinstance(answer, str):
            raise InvalidToken(answer)
        return answer

    async def _ask(self, token: str, digest: bytes, stranger_from: str | None) -> _Answer:
        """Ask when this token may; ``stranger_from`` is ``None`` for one that was good before."""
        try:
            if stranger_from is None:
                return (
                    await self._question(token, digest, was_good=True) if self._may_ask() else None
                )
            place = await self._strangers.enter(stranger_from)
            try:
                return await self._question(token, digest, was_good=False)
            finally:
                place.leave()
        except (ServerUnavailable, TooManyRequests):  # there is no place
            return None
        finally:
            self._flights.pop(digest, None)

    def _may_ask(self) -> bool:
        """Return whether a token that was good may be asked about: while nobody answers, one tries
        for all.
        """
        now = self._clock.monotonic()
        if now < self._closed_until:
            return False
        if self._closed_until > -math.inf:
            # until this one knows more
            self._closed_until = now + TIMEOUT_SECONDS + COOLDOWN_SECONDS
        return True

    async def _question(self, token: str, digest: bytes, *, was_good: bool) -> _Answer:
        headers, form = self.question(token)
        status = 503  # what no answer at all amounts to
        try:
            response = await self._fetcher.fetch(
                self.url, max_bytes=MAX_RESPONSE_BYTES, headers=headers, form=form
            )
            status = response.status
            verified = self.judge(response, self._clock.time())
        except InvalidToken as refusal:
            self._answered()
            self._answers.discard(digest)
            until = self._clock.monotonic() + min(NEGATIVE_TTL_SECONDS, self._ttl)
            self._refusals.put(digest, (until, refusal.reason))
            return refusal.reason
        except (FetchFailed, ValueError) as error:
            if self._outage.failed(str(error)):
                logger.warning(
                    "%s at %s failed: %s. Tokens are answered with 503", self.asked, self.url, error
                )
            closed_until = self._clock.monotonic() + COOLDOWN_SECONDS
            self._refusals.put(digest, (closed_until, None))
            # a status below 500 is about this one token, which must not lock the others out
            if was_good:
                self._closed_until = closed_until if status >= 500 else -math.inf
            return None
        self._answered()
        self._answers.put(digest, (self._clock.monotonic() + self._ttl, verified.pack()))
        return verified

    def _answered(self) -> None:
        self._closed_until = -math.inf
        if self._outage.recovered():
            logger.info("%s at %s works again", self.asked, self.url)
