"""UserinfoTokenVerifier: opaque tokens, verified by fetching the profile that they open (OpenID Connect Core §5.3)."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ._cache import LRUCache, token_digest
from ._http import FetchFailed, HTTPFetcher, Response
from ._json import parse_json_object
from ._urls import check_url
from .auth import ReasoningVerifier
from .claims import ANY_AUDIENCE, check_kind, check_names, check_seconds
from .errors import ConfigurationError, InvalidToken, ServerUnavailable
from .headers import MAX_TOKEN_BYTES, is_b64token
from .tokens import AccessToken, Facts, access_token
from .types import Clock, InvalidTokenReason

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

MAX_RESPONSE_BYTES = 64 * 1024
MAX_CACHE_SIZE = 10_000
TIMEOUT_SECONDS = 5.0
NEGATIVE_TTL_SECONDS = 5.0  # short: a provider may not know a token yet that it has just handed out
COOLDOWN_SECONDS = 1.0

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

# Until when it counts (monotonic), and what was found. A plain tuple, for the reason given at Facts.
_CacheEntry: TypeAlias = tuple[float, Facts | InvalidTokenReason]


class UserinfoTokenVerifier(ReasoningVerifier):
    """Verifies tokens by fetching a profile with them, and remembers the answer for a short time.

    For providers whose tokens only they can read, and that introspect none. A profile says whose token it is. It does
    not say for whom it was made, which scopes it has or when it ends: an application that somebody has signed in to
    could use that person's token here. Within an ``OAuthProxy``, which gets its tokens from the provider itself, this
    does not matter. Everywhere else ``audience=ANY_AUDIENCE`` has to say that it is meant.

    Args:
        userinfo_url: where the profile is.
        subject_claim: the member of the profile that names the person and never changes; a string or a whole number.
        audience: ``ANY_AUDIENCE``, or ``None`` within a proxy.
        required_scopes: what a proxy asks the provider for.
        base_url: public URL of this server, if used without a ``RemoteAuthProvider``.
        cache_ttl_seconds: how long a profile is used; a revoked token works so much longer. 0 asks every time.
        headers: sent along, such as an API version.
        http_client: an ``httpx.AsyncClient`` to use; it is never closed.
        clock: for tests.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """

    names_audience = False

    def __init__(
        self,
        *,
        userinfo_url: str,
        subject_claim: str = "sub",
        audience: str | None = None,
        required_scopes: Sequence[str] | None = None,
        base_url: str | None = None,
        cache_ttl_seconds: float = 60,
        headers: Mapping[str, str] | None = None,
        http_client: httpx.AsyncClient | None = None,
        clock: Clock = time,
    ) -> None:
        super().__init__(base_url=base_url, required_scopes=required_scopes)
        check_kind("clock", clock, Clock)
        self.userinfo_url = check_url("userinfo_url", userinfo_url, query=True)
        (self._subject_claim,) = check_names("subject_claim", [subject_claim])
        if audience not in (None, ANY_AUDIENCE):
            raise ConfigurationError(
                f"audience={audience!r}: a profile does not say for whom a token was made, so only ANY_AUDIENCE is "
                "possible, and any token of the provider is accepted then"
            )
        self._any_audience = audience is not None
        self._headers = _check_headers(headers)
        self._ttl = check_seconds("cache_ttl_seconds", cache_ttl_seconds, maximum=3600)
        self._answers: LRUCache[_CacheEntry] = LRUCache(MAX_CACHE_SIZE)
        self._fetcher = HTTPFetcher(timeout_seconds=TIMEOUT_SECONDS, client=http_client)
        self._clock = clock
        self._down = False
        self._failed_at = -math.inf

    def bind_audience(self, resource: str | None) -> None:
        """Check that these tokens may be taken as they are; a proxy, which gets them itself, does not ask.

        Raises:
            ConfigurationError: ``audience=ANY_AUDIENCE`` is missing, or scopes are required.
        """
        if not self._any_audience:
            raise ConfigurationError(
                f"tokens verified at {self.userinfo_url} have no audience: one that was made for another application "
                "would open this server. Put an OAuthProxy around the verifier, or write audience=ANY_AUDIENCE"
            )
        if self.required_scopes:
            raise ConfigurationError(
                f"required_scopes={self.required_scopes!r}: a profile does not say which scopes a token has, so every "
                "request would be refused. Leave them out, or put an OAuthProxy around the verifier"
            )

    async def start(self) -> None:
        """Pool connections."""
        await self._fetcher.open()

    async def stop(self) -> None:
        """Close the pool."""
        await self._fetcher.aclose()

    async def verify(self, token: str) -> AccessToken:
        """Return whose token this is; its claims are the profile.

        Raises:
            InvalidToken: it opens no profile.
            ServerUnavailable: the provider cannot be asked, or its answer makes no sense.
            TypeError: not a ``str``.
        """
        if type(token) is not str:
            raise TypeError(f"token must be a str, not {type(token).__name__}")
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken("too_long")
        if not token.isascii() or not is_b64token(token.encode("ascii")):
            raise InvalidToken("malformed")  # it becomes part of a header (RFC 6750 §2.1)
        digest = token_digest(token)
        entry = self._answers.get(digest)
        if entry is None or self._clock.monotonic() >= entry[0]:
            entry = await self._look_up(token)
            self._answers.put(digest, entry)
        _, result = entry
        if isinstance(result, str):
            raise InvalidToken(result)
        return access_token(token, result)

    async def _look_up(self, token: str) -> _CacheEntry:
        if self._clock.monotonic() < self._failed_at + COOLDOWN_SECONDS:
            raise ServerUnavailable(COOLDOWN_SECONDS)  # do not make every caller wait for the same time-out
        headers = {**self._headers, "authorization": f"Bearer {token}"}
        status = 503  # what no answer at all amounts to
        try:
            response = await self._fetcher.fetch(self.userinfo_url, max_bytes=MAX_RESPONSE_BYTES, headers=headers)
            status = response.status
            facts = None if _refuses_token(response) else self._read(response)
        except (FetchFailed, ValueError) as error:
            if not self._down:  # one line for each change of state
                logger.warning("Profiles at %s failed: %s. Tokens are answered with 503", self.userinfo_url, error)
            self._down = True
            if status >= 500:  # any other answer may be about this one token, which must not lock the others out
                self._failed_at = self._clock.monotonic()
            raise ServerUnavailable(COOLDOWN_SECONDS) from None
        now = self._clock.monotonic()
        if facts is None:
            return now + min(NEGATIVE_TTL_SECONDS, self._ttl), "inactive"
        if self._down:
            logger.info("Profiles at %s are back", self.userinfo_url)
        self._down = False
        return now + self._ttl, facts

    def _read(self, response: Response) -> Facts:
        if response.status != 200:
            raise FetchFailed(f"HTTP {response.status}")
        profile = parse_json_object(response.body, max_bytes=MAX_RESPONSE_BYTES)
        subject: Any = profile.get(self._subject_claim)
        if type(subject) is int:
            subject = str(subject)
        if type(subject) is not str or not subject or not subject.isprintable():
            raise FetchFailed(f"it has no {self._subject_claim} that names somebody: check subject_claim")
        return subject, (), None, None, subject, response.body


def _refuses_token(response: Response) -> bool:
    """Return whether the provider says that the token is no good, rather than that we ask too often (GitHub: 403)."""
    if response.status == 403:
        return "retry-after" not in response.headers and response.headers.get("x-ratelimit-remaining") != "0"
    return response.status == 401


def _check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    check_kind("headers", headers, Mapping)
    checked: dict[str, str] = {}
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name) or name.lower() == "authorization":
            raise ConfigurationError(f"headers has {name!r}: it must be the name of a header, and not Authorization")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ConfigurationError(f"headers has {name}={value!r}: its value must be a string in ASCII")
        checked[name.lower()] = value
    return checked
