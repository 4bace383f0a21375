"""Fetches an issuer's key set, caches it and renews it.

RFC 7517 §5; caching as in RFC 9111, within bounds of our own.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._cache import SingleFlight
from ._http import FetchFailed, HTTPFetcher, cache_seconds
from ._jose import UnusableKey, VerifyingKey
from ._json import parse_json_object
from .claims import check_seconds
from .errors import InvalidToken, ServerUnavailable
from .keys import KeySet, key_set_from
from .types import Clock

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

MAX_BYTES = 256 * 1024
# of the lifetime: from then on a request starts the refresh and goes on with the old keys
REFRESH_AHEAD = 0.8
COLD_COOLDOWN_SECONDS = 1.0  # without any keys every request fails, so attempts are worth more
# Fetches at once for tokens whose key is not in the set at hand. Two: one stranger who makes up a
# key id must not take the fetch that the first token under a new key needs.
SEARCHES_AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class JWKSOptions:
    """How a remote key set is cached and fetched.

    Args:
        ttl_seconds: lifetime of a key set whose answer has no Cache-Control max-age.
        min_ttl_seconds: a shorter max-age is raised to this.
        max_ttl_seconds: a longer max-age is lowered to this.
        cooldown_seconds: minimum time between two attempts to renew the set, failed ones included.
            Tokens with an unknown key id or a wrong signature trigger two fetches at once, then
            one per cooldown.
        stale_seconds: how long after its lifetime a key set is used while the provider does not
            answer.
        timeout_seconds: for one whole fetch, discovery included.
        http_client: an ``httpx.AsyncClient`` to use instead of our own; it is never closed.

    Raises:
        ConfigurationError: a number out of bounds.
    """

    ttl_seconds: float = 3600
    min_ttl_seconds: float = 60
    max_ttl_seconds: float = 86_400
    cooldown_seconds: float = 5
    stale_seconds: float = 86_400
    timeout_seconds: float = 5
    http_client: httpx.AsyncClient | None = None

    def __post_init__(self) -> None:
        check_seconds("min_ttl_seconds", self.min_ttl_seconds, minimum=1)
        check_seconds("max_ttl_seconds", self.max_ttl_seconds, minimum=self.min_ttl_seconds)
        check_seconds(
            "ttl_seconds",
            self.ttl_seconds,
            minimum=self.min_ttl_seconds,
            maximum=self.max_ttl_seconds,
        )
        check_seconds("cooldown_seconds", self.cooldown_seconds, minimum=0.1, maximum=300)
        check_seconds("stale_seconds", self.stale_seconds)
        check_seconds("timeout_seconds", self.timeout_seconds, minimum=0.1, maximum=60)


@dataclass(frozen=True, slots=True)
class JWKSState:
    """What a key set looks like at one moment."""

    jwks_uri: str | None
    keys: int
    fetches: int
    age_seconds: float | None
    last_error: str | None


class RemoteJWKS:
    """A key set behind a URL, fetched when it is first needed and cached.

    One fetch at a time, whoever asks; old keys while a new set is on its way; old keys while the
    provider is down.

    Args:
        jwks_uri: the URL, or a function that finds it out (raising ``FetchFailed``) and is asked
            again after a failure.
        algorithms: the algorithms to make keys for.
        options: lifetimes and limits.
        clock: for lifetimes; wall-clock jumps do not matter.
        fetcher: the HTTP side.
    """

    def __init__(
        self,
        jwks_uri: str | Callable[[], Awaitable[str]],
        *,
        algorithms: Iterable[str],
        options: JWKSOptions | None = None,
        clock: Clock = time,
        fetcher: HTTPFetcher | None = None,
    ) -> None:
        self.serial = 0
        self.settled_until = -math.inf
        self._keys: KeySet | None = None
        self._options = options or JWKSOptions()
        self._locate = jwks_uri
        self._uri = jwks_uri if isinstance(jwks_uri, str) else None
        self._algorithms = tuple(algorithms)
        self._clock = clock
        self._fetcher = fetcher or HTTPFetcher(
            timeout_seconds=self._options.timeout_seconds, client=self._options.http_client
        )
        self._refresh = SingleFlight(self._fetch_and_remember)
        self._etag: str | None = None
        self._fetches = 0
        self._fetched_at = -math.inf
        self._expires_at = -math.inf
        self._attempts = 0
        self._attempted_at = -math.inf
        self._searches_paid_until = -math.inf
        self._error: str | None = None
        self._skipped: list[str] = []

    @property
    def state(self) -> JWKSState:
        """The state at this moment, for health pages and tests."""
        return JWKSState(
            jwks_uri=self._uri,
            keys=len(self._keys or ()),
            fetches=self._fetches,
            age_seconds=None if self._keys is None else self._clock.monotonic() - self._fetched_at,
            last_error=self._error,
        )

    async def open(self) -> None:
        """Pool connections and fetch the key set; a provider that is down stops nobody from
        starting.
        """
        await self._fetcher.open()
        await self._refresh()

    async def aclose(self) -> None:
        """Stop a fetch under way and close the pool."""
        await self._refresh.aclose()
        await self._fetcher.aclose()

    async def keys_for(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the one key that the token names.

        A key set without that key is fetched again, within the budget for searches.

        Raises:
            InvalidToken: the key set has no such key.
            ServerUnavailable: the key set cannot be fetched, or is too old to be trusted.
        """
        now = self._clock.monotonic()
        attempts = self._attempts
        if now >= self.settled_until:
            await self._renew(now)
        if self._keys is None or now >= self._expires_at + self._options.stale_seconds:
            raise self._unavailable()
        found = self._keys.find(key_id, algorithm)
        if not found and key_id is not None:
            found = await self._search(key_id, algorithm, (), attempts)
        if found:
            return found
        if self._error is not None:
            raise self._unavailable()  # the key may be a new one
        raise InvalidToken("unknown_key")

    async def replacements_for(
        self, key_id: str | None, algorithm: str, tried: tuple[VerifyingKey, ...]
    ) -> tuple[VerifyingKey, ...]:
        """Return the keys to try next, after a signature has failed with those of ``keys_for``.

        An issuer may replace a key under the same id. The key set is fetched again, within the
        budget for searches; nothing is returned if it has not changed.

        Raises:
            InvalidToken: no key id, and several keys fit now.
        """
        return await self._search(key_id, algorithm, tried, self._attempts)

    async def _search(
        self,
        key_id: str | None,
        algorithm: str,
        tried: tuple[VerifyingKey, ...],
        attempts: int,
    ) -> tuple[VerifyingKey, ...]:
        """Return other keys than ``tried``, from a key set that was requested after the token came.

        Args:
            key_id: of the token.
            algorithm: of the token.
            tried: the keys found so far.
            attempts: number of fetches begun before the token came.
        """
        if self._refresh.running:
            await self._refresh()
        found = self._find(key_id, algorithm)
        # A fetch that was under way already may have missed the key.
        if found == tried and self._attempts == attempts and self._may_search():
            await self._refresh()
            found = self._find(key_id, algorithm)
        return () if found == tried else found

    def _find(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        return () if self._keys is None else self._keys.find(key_id, algorithm)

    def _may_search(self) -> bool:
        if self._refresh.running:
            return True
        now = self._clock.monotonic()
        if self._error is not None and not self._may_fetch(now):
            return False
        # Each search pays for one cooldown; all but one of SEARCHES_AT_ONCE on credit.
        cooldown = self._options.cooldown_seconds
        if now < self._searches_paid_until - cooldown * (SEARCHES_AT_ONCE - 1):
            return False
        self._searches_paid_until = max(self._searches_paid_until, now) + cooldown
        return True

    async def _renew(self, now: float) -> None:
        if not (self._refresh.running or self._may_fetch(now)):
            return
        # Once a fetch has failed nobody waits for the next one as long as there are keys.
        usable = self._keys is not None and (now < self._expires_at or self._error is not None)
        if usable and now < self._expires_at + self._options.stale_seconds:
            self._refresh.start()
        else:
            await self._refresh()

    def _cooldown(self) -> float:
        if self._keys is None:
            return min(COLD_COOLDOWN_SECONDS, self._options.cooldown_seconds)
        return self._options.cooldown_seconds

    def _may_fetch(self, now: float) -> bool:
        return now >= self._attempted_at + self._cooldown()

    def _unavailable(self) -> ServerUnavailable:
        return ServerUnavailable(
            max(1.0, self._attempted_at + self._cooldown() - self._clock.monotonic())
        )

    async def _fetch_and_remember(self) -> None:
        self._attempts += 1
        try:
            async with asyncio.timeout(self._options.timeout_seconds):
                await self._fetch()
        except TimeoutError:
            self._failed(f"no complete answer within {self._options.timeout_seconds:g} s")
        except FetchFailed as error:
            self._failed(str(error))
        self._attempted_at = self._clock.monotonic()

    async def _fetch(self) -> None:
        if not isinstance(self._locate, str) and (self._uri is None or self._error is not None):
            located = await self._locate()
            if located != self._uri:
                self._uri, self._etag = located, None
        self._fetches += 1
        headers = {"accept": "application/jwk-set+json, application/json"}
        if self._etag is not None and self._keys is not None:
            headers["if-none-match"] = self._etag
        response = await self._fetcher.fetch(self._uri or "", max_bytes=MAX_BYTES, headers=headers)
        if response.status == 200:
            self._keys = self._parse(response.body)
            self.serial += 1
            self._etag = response.headers.get("etag")
        elif response.status != 304 or "if-none-match" not in headers:
            raise FetchFailed(f"HTTP {response.status}")
        self._succeeded(response.headers)

    def _parse(self, body: bytes) -> KeySet:
        try:
            keys, skipped = key_set_from(
                parse_json_object(body, max_bytes=MAX_BYTES), self._algorithms
            )
        except ValueError as error:
            raise FetchFailed(f"it is not JSON: {error}") from None
        except UnusableKey as error:
            raise FetchFailed(str(error)) from None
        if skipped != self._skipped:  # not at every refresh: strangers can trigger those
            for why in skipped:
                logger.warning("Key set %s: %s", self._uri, why)
        self._skipped = skipped
        if not len(keys):
            raise FetchFailed("it holds no key that can verify a token here")
        return keys

    def _succeeded(self, headers: Mapping[str, str]) -> None:
        options = self._options
        lifetime = cache_seconds(
            headers,
            usual=options.ttl_seconds,
            minimum=options.min_ttl_seconds,
            maximum=options.max_ttl_seconds,
        )
        self._fetched_at = self._clock.monotonic()
        self._expires_at = self._fetched_at + lifetime
        self.settled_until = self._fetched_at + lifetime * REFRESH_AHEAD
        if self._error is not None:
            logger.info("Key set %s is back", self._uri)
        self._error = None

    def _failed(self, why: str) -> None:
        if self._error is None:  # one line for each change of state, not for each attempt
            logger.warning(
                "Key set %s cannot be fetched: %s. %s",
                self._uri or "of the issuer",
                why,
                (
                    "Tokens are answered with 503 until it can"
                    if self._keys is None
                    else "The keys at hand stay in use"
                ),
            )
        self._error = why
