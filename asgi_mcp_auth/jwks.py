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
from ._http import MAX_REDIRECTS, FetchFailed, HTTPFetcher, Unreachable, cache_seconds
from ._jose import UnusableKey, VerifyingKey
from ._json import parse_json_object
from ._outage import Outage
from ._settings import check_seconds
from .errors import InvalidToken, ServerUnavailable, UpstreamFails
from .keys import KeySet, key_set_from
from .types import Clock

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

MAX_BYTES = 1024 * 1024  # some hundreds of keys with their certificates
MAX_BYTES_AT_ONCE = 16 * 1024  # a larger set is read in a thread: each key takes 50 µs
MAX_WARNINGS = 8  # about keys of one set
RENEW_AHEAD = 0.8  # of the lifetime: from then on the set is due
COLD_COOLDOWN_SECONDS = 1.0  # without any keys every request fails, so attempts are worth more
# Two, so that one made-up key id does not use up the fetch that a new key needs.
SEARCHES_AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class JWKSOptions:
    """How a remote key set is cached and fetched.

    Args:
        ttl_seconds: lifetime of a key set that comes without a Cache-Control max-age.
        min_ttl_seconds: a shorter max-age is raised to this.
        max_ttl_seconds: a longer max-age is lowered to this.
        cooldown_seconds: minimum time between two attempts to renew the set, failed ones included.
            Tokens with an unknown key id or a wrong signature trigger two fetches at once, then
            one per cooldown.
        stale_seconds: how long an expired key set stays in use while the provider is down.
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
    """A snapshot of a remote key set."""

    jwks_uri: str | None
    keys: int
    fetches: int
    age_seconds: float | None
    last_error: str | None


# Theory of operation
#
# The set is *empty* until the first fetch succeeds. Then it is *fresh*, *due* from four fifths of
# its lifetime on, *expired*, and *too old* once it has been expired for longer than stale_seconds.
# There is at most one fetch at a time; "wait" and "start" mean that one if it is under way.
#
# A renewal is a fetch because of the set's age. At least one cooldown passes between the end of
# any fetch and the next renewal (one second while the set is empty).
#
#   set        last fetch   the token gets                             renewal
#   ---------  -----------  -----------------------------------------  ---------------------
#   empty      any          a key of the new set, or 503               wait
#   fresh      any          a key of the set at hand                   none
#   due        any          a key of the set at hand                   start, do not wait
#   expired    succeeded    a key of the new set, or else the old set  wait
#   expired    failed       a key of the set at hand                   start, do not wait
#   too old    any          a key of the new set, or 503               wait
#
# A search is a fetch because a token's key is not in the set: the issuer may have published it
# since. The last fetch does not hold it up if it succeeded. Made-up tokens cause searches as well,
# so there is a budget: SEARCHES_AT_ONCE, refilled by one per cooldown. A fetch that was under way
# when the token came may be older than its key, so the search goes on after that one; a renewal
# that the token itself has waited for is new enough.
#
#   the token's key      last fetch   the token gets             search
#   -------------------  -----------  -------------------------  -------------------------------
#   no key fits          succeeded    the key, or unknown_key    wait, within the budget
#   no key fits          failed       the key, or 503            wait, also one cooldown between
#   signature fails      any          new keys, or signature     as above
#
# A key fits by id and algorithm, and by algorithm alone where the token or the key has no id.
#
# All times are monotonic: a jump of the wall clock neither delays nor triggers a fetch.


class RemoteJWKS:
    """A key set behind a URL, fetched when it is first needed, then cached and renewed.

    Args:
        jwks_uri: the URL, or a function that discovers it (raising ``FetchFailed``) and is called
            again after a failure.
        algorithms: the algorithms to make keys for.
        options: lifetimes and limits.
        clock: for lifetimes.
        fetcher: the HTTP client.
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
        self.version = 0
        self.fresh_until = -math.inf
        self._keys: KeySet | None = None
        self._options = options or JWKSOptions()
        self._locate = jwks_uri
        self._uri = jwks_uri if isinstance(jwks_uri, str) else None
        self._algorithms = tuple(algorithms)
        self._clock = clock
        self._fetcher = fetcher or HTTPFetcher(
            timeout_seconds=self._options.timeout_seconds, client=self._options.http_client
        )
        self._refresh = SingleFlight(self._fetch_and_store)
        self._body = b""
        self._etag: str | None = None
        self._fetches = 0
        self._fetched_at = -math.inf
        self._expires_at = -math.inf
        self._attempts = 0
        self._retry_not_before = -math.inf
        self._searches_paid_until = -math.inf
        self._outage = Outage()
        self._is_silent = True
        self._skipped: list[str] = []

    @property
    def state(self) -> JWKSState:
        """The current state, for health pages and tests."""
        return JWKSState(
            jwks_uri=self._uri,
            keys=len(self._keys or ()),
            fetches=self._fetches,
            age_seconds=None if self._keys is None else self._clock.monotonic() - self._fetched_at,
            last_error=self._outage.reason,
        )

    async def open(self) -> None:
        """Open the connection pool and fetch the key set; a failed fetch is not an error yet."""
        await self._fetcher.open()
        await self._refresh()

    async def aclose(self) -> None:
        """Cancel a running fetch and close the connection pool."""
        await self._refresh.aclose()
        await self._fetcher.aclose()

    async def keys_for(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the keys that may have signed the token, in most cases one.

        Raises:
            InvalidToken: the key set has none.
            ServerUnavailable: there is no key set, or it is too old, or the key may be a new one
                and the last fetch has failed.
        """
        now = self._clock.monotonic()
        attempts = self._attempts
        if now >= self.fresh_until:
            await self._renew(now)
        if self._keys is None or now >= self._expires_at + self._options.stale_seconds:
            raise self._unavailable()
        found = self._keys.find(key_id, algorithm)
        if not found:
            found = await self._search(key_id, algorithm, (), attempts)
        if found:
            return found
        if self._outage.reason is not None:
            raise self._unavailable()
        raise InvalidToken("unknown_key")

    async def replacements_for(
        self, key_id: str | None, algorithm: str, tried: tuple[VerifyingKey, ...]
    ) -> tuple[VerifyingKey, ...]:
        """Return the keys to try after a failed signature, none if the key set has not changed.

        An issuer may replace a key and keep its id.

        Args:
            key_id: from the token's header.
            algorithm: from the token's header.
            tried: the keys that ``keys_for`` has returned.
        """
        return await self._search(key_id, algorithm, tried, self._attempts)

    async def _search(
        self,
        key_id: str | None,
        algorithm: str,
        tried: tuple[VerifyingKey, ...],
        attempts: int,
    ) -> tuple[VerifyingKey, ...]:
        """Return the token's keys from a newer key set, none if they are still ``tried``.

        Args:
            key_id: from the token's header.
            algorithm: from the token's header.
            tried: the keys found so far.
            attempts: the number of fetches that had begun when the token came.
        """
        if self._refresh.running:
            await self._refresh()
        found = self._find(key_id, algorithm)
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
        if self._outage.reason is not None and now < self._retry_not_before:
            return False
        # Each search pays for one cooldown, all but one of SEARCHES_AT_ONCE in advance.
        cooldown = self._options.cooldown_seconds
        if now < self._searches_paid_until - cooldown * (SEARCHES_AT_ONCE - 1):
            return False
        self._searches_paid_until = max(self._searches_paid_until, now) + cooldown
        return True

    async def _renew(self, now: float) -> None:
        if now < self._retry_not_before and not self._refresh.running:
            return
        # During an outage no request waits for a fetch that will probably fail.
        usable_until = self._expires_at
        if self._outage.reason is not None:
            usable_until += self._options.stale_seconds
        if now < usable_until:
            self._refresh.start()
        else:
            await self._refresh()

    def _unavailable(self) -> ServerUnavailable:
        failure = ServerUnavailable if self._is_silent else UpstreamFails
        return failure(max(1.0, self._retry_not_before - self._clock.monotonic()))

    async def _fetch_and_store(self) -> None:
        self._attempts += 1
        try:
            async with asyncio.timeout(self._options.timeout_seconds):
                await self._fetch()
        except TimeoutError:
            self._failed(
                Unreachable(f"no complete answer within {self._options.timeout_seconds:g} s")
            )
        except FetchFailed as error:
            self._failed(error)
        cooldown = self._options.cooldown_seconds
        if self._keys is None:
            cooldown = min(COLD_COOLDOWN_SECONDS, cooldown)
        self._retry_not_before = self._clock.monotonic() + cooldown

    async def _fetch(self) -> None:
        if not isinstance(self._locate, str) and (
            self._uri is None or self._outage.reason is not None
        ):
            located = await self._locate()
            if located != self._uri:
                self._uri, self._etag = located, None
        self._fetches += 1
        headers = {"accept": "application/jwk-set+json, application/json"}
        if self._etag is not None and self._keys is not None:
            headers["if-none-match"] = self._etag
        response = await self._fetcher.fetch(
            self._uri or "",
            max_bytes=MAX_BYTES,
            headers=headers,
            max_redirects=MAX_REDIRECTS,
            setting="jwks_uri",
        )
        if response.status == 200:
            # Unchanged keys stay the same objects: a search goes on while it finds those.
            if response.body != self._body:
                self._keys = await self._parse(response.body)
                self._body = response.body
            self.version += 1
            self._etag = response.headers.get("etag")
        elif response.status != 304 or "if-none-match" not in headers:
            raise FetchFailed(f"HTTP {response.status}")
        self._succeeded(response.headers)

    async def _parse(self, body: bytes) -> KeySet:
        try:
            if len(body) <= MAX_BYTES_AT_ONCE:
                keys, skipped = self._read(body)
            else:
                keys, skipped = await asyncio.to_thread(self._read, body)
        except ValueError as error:
            raise FetchFailed(f"it is not JSON: {error}") from None
        except UnusableKey as error:
            raise FetchFailed(str(error)) from None
        if skipped != self._skipped:  # not for every fetch: strangers can trigger those
            for why in skipped[:MAX_WARNINGS]:
                logger.warning("Key set %s: %s", self._uri, why)
        self._skipped = skipped
        if not len(keys):
            raise FetchFailed("it holds no key that can verify a token here")
        return keys

    def _read(self, body: bytes) -> tuple[KeySet, list[str]]:
        return key_set_from(parse_json_object(body, max_bytes=MAX_BYTES), self._algorithms)

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
        self.fresh_until = self._fetched_at + lifetime * RENEW_AHEAD
        if self._outage.recovered():
            logger.info("Key set %s is back", self._uri)

    def _failed(self, error: FetchFailed) -> None:
        self._is_silent = error.is_silence
        if not self._outage.failed(str(error)):
            return
        effect = "The keys at hand stay in use"
        if self._keys is None:
            effect = "Requests with tokens get 503 until it can be"
        logger.warning(
            "Key set %s cannot be fetched: %s. %s", self._uri or "of the issuer", error, effect
        )
