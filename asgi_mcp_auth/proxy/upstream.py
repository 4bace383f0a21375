"""Endpoints of an identity provider: configured, or discovered on first use."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from .._cache import SingleFlight
from .._http import FetchFailed, HTTPFetcher
from .._json import is_array, parse_json_object
from .._outage import Outage
from ..discovery import MAX_METADATA_BYTES, check_endpoint, fetch_metadata, metadata_urls
from ..errors import ConfigurationError, ServerUnavailable
from ..types import Clock, JSONObject

logger = logging.getLogger(__name__)

TTL_SECONDS = 3600.0
COOLDOWN_SECONDS = 1.0


class Endpoints(NamedTuple):
    """The metadata of an identity provider that a client needs.

    Attributes:
        authorization: the authorization endpoint.
        token: the token endpoint.
        revocation: the revocation endpoint (RFC 7009).
        userinfo: the userinfo endpoint.
        jwks_uri: the keys of ID tokens.
        issuers: accepted issuers; empty if unknown.
        states_issuer: whether each authorization response names the issuer (RFC 9207 §3).
        auth_methods: how clients may authenticate, if the metadata says so.
    """

    authorization: str
    token: str
    revocation: str | None = None
    userinfo: str | None = None
    jwks_uri: str | None = None
    issuers: tuple[str, ...] = ()
    states_issuer: bool = False
    auth_methods: tuple[str, ...] = ()


FindEndpoints: TypeAlias = Callable[[], Awaitable[Endpoints]]


class Discovery:
    """Finds endpoints in the provider's metadata, and keeps using them during an outage.

    Args:
        issuers: accepted issuers; the first one leads to the metadata without ``config_url``.
        config_url: URL of the metadata.
        fetcher: fetches it.
        clock: decides when to fetch it again.

    OpenID Connect Discovery 1.0 §4; RFC 8414 §3.
    """

    def __init__(
        self, issuers: Sequence[str], config_url: str | None, fetcher: HTTPFetcher, clock: Clock
    ) -> None:
        self._issuers = tuple(issuers)
        self._config_url = config_url
        self._fetcher = fetcher
        self._clock = clock
        self._known: Endpoints | None = None
        self._fetch_again_at = -math.inf
        self._outage = Outage(each_reason=True)
        self._refresh = SingleFlight(self._refresh_now)

    async def __call__(self) -> Endpoints:
        """Return the endpoints.

        Raises:
            ServerUnavailable: they are unknown, and the metadata cannot be fetched now.
        """
        if self._clock.monotonic() >= self._fetch_again_at:
            await self._refresh()
        if self._known is None:
            raise ServerUnavailable(COOLDOWN_SECONDS)
        return self._known

    async def _refresh_now(self) -> None:
        try:
            self._known = _read(await self._fetch(), self._issuers, self._config_url)
        except (FetchFailed, ConfigurationError, ValueError) as error:
            seconds = COOLDOWN_SECONDS
            if self._outage.failed(str(error)):
                where = self._config_url or self._issuers[0]
                logger.warning(
                    "The metadata of the identity provider %s is unusable: %s", where, error
                )
        else:
            seconds = TTL_SECONDS
            self._outage.recovered()
        self._fetch_again_at = self._clock.monotonic() + seconds

    async def _fetch(self) -> JSONObject:
        if self._config_url is None:
            return await fetch_metadata(self._issuers[0], self._fetcher)
        response = await self._fetcher.fetch(self._config_url, max_bytes=MAX_METADATA_BYTES)
        if response.status != 200:
            raise FetchFailed(f"HTTP {response.status}")
        document = parse_json_object(response.body, max_bytes=MAX_METADATA_BYTES)
        issuer = document.get("issuer")
        # With issuers configured, they are the ones that ID tokens may have. Otherwise the URL must
        # be the issuer's own.
        if not self._issuers and (
            not isinstance(issuer, str) or self._config_url not in metadata_urls(issuer)
        ):
            raise FetchFailed(
                f"its issuer is {issuer!r}, whose metadata has another URL: set issuer='…'"
            )
        return document


def _read(document: JSONObject, issuers: tuple[str, ...], config_url: str | None) -> Endpoints:
    source = config_url or issuers[0]

    def url(name: str) -> str:
        return check_endpoint(name, document.get(name), source)

    def optional_url(name: str) -> str | None:
        return None if document.get(name) is None else url(name)

    return Endpoints(
        authorization=url("authorization_endpoint"),
        token=url("token_endpoint"),
        revocation=optional_url("revocation_endpoint"),
        userinfo=optional_url("userinfo_endpoint"),
        jwks_uri=url("jwks_uri"),
        issuers=issuers or (document["issuer"],),
        states_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        auth_methods=_texts(document, "token_endpoint_auth_methods_supported"),
    )


def _texts(document: JSONObject, name: str) -> tuple[str, ...]:
    value: Any = document.get(name)
    return tuple(each for each in value if isinstance(each, str)) if is_array(value) else ()
