"""What verifiers share that ask somebody about each token: a cache, a cooldown, and a word when it stops answering."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from ._cache import LRUCache, token_digest
from ._http import FetchFailed, HTTPFetcher, Response
from .auth import ReasoningVerifier
from .claims import check_kind, check_seconds
from .errors import InvalidToken, ServerUnavailable
from .headers import MAX_TOKEN_BYTES, is_b64token
from .tokens import AccessToken, Facts, access_token
from .types import Clock, InvalidTokenReason

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

MAX_RESPONSE_BYTES = 64 * 1024
MAX_CACHE_SIZE = 10_000
TIMEOUT_SECONDS = 5.0
NEGATIVE_TTL_SECONDS = 5.0  # short: who is asked may not know a token yet that it has just handed out
COOLDOWN_SECONDS = 1.0

# Until when it counts (monotonic), and what the answer says. A plain tuple, for the reason given at Facts.
_CacheEntry: TypeAlias = tuple[float, Facts | InvalidTokenReason]


class LookupVerifier(ReasoningVerifier):
    """Verifies tokens by asking at a URL, and remembers the answer for a short time.

    Args:
        url: where to ask.
        required_scopes: scopes that every request needs; the middleware checks them.
        base_url: public URL of this server, if used without a ``RemoteAuthProvider``.
        cache_ttl_seconds: how long a positive answer is used, at most until the token expires; 0 asks every time.
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
        required_scopes: Sequence[str] | None,
        base_url: str | None,
        cache_ttl_seconds: float,
        http_client: httpx.AsyncClient | None,
        clock: Clock,
    ) -> None:
        super().__init__(base_url=base_url, required_scopes=required_scopes)
        check_kind("clock", clock, Clock)
        self.url = url
        self._ttl = check_seconds("cache_ttl_seconds", cache_ttl_seconds, maximum=3600)
        self._answers: LRUCache[_CacheEntry] = LRUCache(MAX_CACHE_SIZE)
        self._fetcher = HTTPFetcher(timeout_seconds=TIMEOUT_SECONDS, client=http_client)
        self._clock = clock
        self._down = False
        self._failed_at = -math.inf

    @abstractmethod
    def question(self, token: str) -> tuple[Mapping[str, str], Mapping[str, str] | None]:
        """Return the headers to ask with, and the form, ``None`` for a GET."""

    @abstractmethod
    def judge(self, response: Response, now: float) -> Facts:
        """Return what an answer says of the token.

        Raises:
            InvalidToken: that it is not good here.
            FetchFailed: nothing that can be used.
            ValueError: it is no JSON.
        """

    async def start(self) -> None:
        """Pool connections."""
        await self._fetcher.open()

    async def stop(self) -> None:
        """Close the pool."""
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
        digest, now = token_digest(token), self._clock.time()
        entry = self._answers.get(digest)
        if entry is None or self._clock.monotonic() >= entry[0]:
            entry = await self._ask(token, now)
            self._answers.put(digest, entry)
        _, result = entry
        if isinstance(result, str):
            raise InvalidToken(result)
        _, _, expires_at, *_ = result
        if expires_at is not None and now >= expires_at:
            raise InvalidToken("expired")
        return access_token(token, result)

    async def _ask(self, token: str, now: float) -> _CacheEntry:
        if self._clock.monotonic() < self._failed_at + COOLDOWN_SECONDS:
            raise ServerUnavailable(COOLDOWN_SECONDS)  # do not make every caller wait for the same time-out
        headers, form = self.question(token)
        status = 503  # what no answer at all amounts to
        result: Facts | InvalidTokenReason
        try:
            response = await self._fetcher.fetch(self.url, max_bytes=MAX_RESPONSE_BYTES, headers=headers, form=form)
            status = response.status
            result, ttl = self.judge(response, now), self._ttl
        except InvalidToken as refusal:
            result, ttl = refusal.reason, min(NEGATIVE_TTL_SECONDS, self._ttl)
        except (FetchFailed, ValueError) as error:
            if not self._down:  # one line for each change of state
                logger.warning("%s at %s failed: %s. Tokens are answered with 503", self.asked, self.url, error)
            self._down = True
            if status >= 500:  # any other answer may be about this one token, which must not lock the others out
                self._failed_at = self._clock.monotonic()
            raise ServerUnavailable(COOLDOWN_SECONDS) from None
        if self._down:
            logger.info("%s at %s works again", self.asked, self.url)
        self._down = False
        return self._clock.monotonic() + ttl, result
