"""Where an identity provider's endpoints are: given, or discovered when they are first needed."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeAlias

from .._cache import SingleFlight
from .._http import FetchFailed, HTTPFetcher
from .._json import is_array, parse_json_object
from .._outage import Outage
from ..discovery import MAX_METADATA_BYTES, check_endpoint, fetch_metadata, metadata_urls
from ..errors import ConfigurationError, ServerUnavailable
from ..types import Clock, JSONObject
from .options import UpstreamAuthMethod

logger = logging.getLogger(__name__)

TTL_SECONDS = 3600.0
COOLDOWN_SECONDS = 1.0


class Endpoints(NamedTuple):
    """An identity provider, as far as a client needs to know it.

    Attributes:
        authorization: where people sign in.
        token: where codes and refresh tokens are exchanged.
        revocation: where tokens are given back (RFC 7009).
        userinfo: where more is said of the person.
        jwks_uri: the keys of ID tokens.
        issuers: who it says that it is; none where that is not known.
        states_issuer: whether it promises to say so in each response (RFC 9207 §3).
        auth_method: how clients authenticate there, where it says that.
    """

    authorization: str
    token: str
    revocation: str | None = None
    userinfo: str | None = None
    jwks_uri: str | None = None
    issuers: tuple[str, ...] = ()
    states_issuer: bool = False
    auth_method: UpstreamAuthMethod | None = None


FindEndpoints: TypeAlias = Callable[[], Awaitable[Endpoints]]


class Discovery:
    """Finds endpoints through the provider's metadata, and remembers them; an old answer is better
    than none.

    Args:
        issuers: who the provider says that it is; its first one leads to the metadata where
            ``config_url`` does not.
        config_url: where the metadata lies.
        fetcher: fetches it.
        clock: decides when to look again.

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
        self._look_again_at = -math.inf
        self._outage = Outage(each_reason=True)
        self._look = SingleFlight(self._look_now)

    async def __call__(self) -> Endpoints:
        """Return the endpoints.

        Raises:
            ServerUnavailable: they are not known, and cannot be found out now.
        """
        if self._clock.monotonic() >= self._look_again_at:
            await self._look()
        if self._known is None:
            raise ServerUnavailable(COOLDOWN_SECONDS)
        return self._known

    async def _look_now(self) -> None:
        try:
            self._known = _read(await self._fetch(), self._issuers, self._config_url)
        except (FetchFailed, ConfigurationError, ValueError) as error:
            seconds = COOLDOWN_SECONDS
            if self._outage.failed(str(error)):
                where = self._config_url or self._issuers[0]
                logger.warning(
                    "The metadata of the identity provider %s cannot be used: %s", where, error
                )
        else:
            seconds = TTL_SECONDS
            self._outage.recovered()
        self._look_again_at = self._clock.monotonic() + seconds

    async def _fetch(self) -> JSONObject:
        if self._config_url is None:
            return await fetch_metadata(self._issuers[0], self._fetcher)
        response = await self._fetcher.fetch(self._config_url, max_bytes=MAX_METADATA_BYTES)
        if response.status != 200:
            raise FetchFailed(f"HTTP {response.status}")
        document = parse_json_object(response.body, max_bytes=MAX_METADATA_BYTES)
        issuer = document.get("issuer")
        # Whoever names both has said which issuers ID tokens may have; otherwise the URL has to be
        # the issuer's own.
        if not self._issuers and (
            not isinstance(issuer, str) or self._config_url not in metadata_urls(issuer)
        ):
            raise FetchFailed(
                f"its issuer is {issuer!r}, whose metadata lies elsewhere: name it with issuer='…'"
            )
        return document


def _read(document: JSONObject, issuers: tuple[str, ...], config_url: str | None) -> Endpoints:
    source = config_url or issuers[0]

    def url(name: str) -> str:
        return check_endpoint(name, document.get(name), source)

    def optional_url(name: str) -> str | None:
        return None if document.get(name) is None else url(name)

    methods = document.get("token_endpoint_auth_methods_supported")
    known: tuple[UpstreamAuthMethod, ...] = ("client_secret_basic", "client_secret_post")
    return Endpoints(
        authorization=url("authorization_endpoint"),
        token=url("token_endpoint"),
        revocation=optional_url("revocation_endpoint"),
        userinfo=optional_url("userinfo_endpoint"),
        jwks_uri=url("jwks_uri"),
        issuers=issuers or (document["issuer"],),
        states_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        auth_method=next((each for each in known if is_array(methods) and each in methods), None),
    )
