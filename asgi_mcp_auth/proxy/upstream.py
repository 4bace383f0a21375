"""Endpoints of an identity provider: configured or discovered."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from .._cache import SingleFlight
from .._http import FetchFailed, HTTPFetcher
from .._jose import SYMMETRIC
from .._json import is_array
from .._outage import Outage
from ..discovery import Metadata, fetch_document, fetch_metadata, metadata_urls
from ..errors import ServerUnavailable, UpstreamFails
from ..types import Clock, JSONObject

logger = logging.getLogger(__name__)

TTL_SECONDS = 3600.0
PARTIAL_SECONDS = 60.0  # where one of the documents could not be fetched
COOLDOWN_SECONDS = 1.0
_NEEDED = ("authorization_endpoint", "token_endpoint")
_KEYS = ("jwks_uri",)  # needed unless the client secret signs
# OpenID's document often leaves the first two to the one of RFC 8414.
_WANTED = ("revocation_endpoint", "authorization_response_iss_parameter_supported", *_KEYS)


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
        signing_algorithms: of ID tokens, if the metadata says so.
    """

    authorization: str
    token: str
    revocation: str | None = None
    userinfo: str | None = None
    jwks_uri: str | None = None
    issuers: tuple[str, ...] = ()
    states_issuer: bool = False
    auth_methods: tuple[str, ...] = ()
    signing_algorithms: tuple[str, ...] = ()


FindEndpoints: TypeAlias = Callable[[], Awaitable[Endpoints]]


class Discovery:
    """Finds endpoints in the provider's metadata, and keeps using them during an outage.

    Args:
        issuers: accepted issuers; the first one leads to the metadata without ``config_url``.
        config_url: URL of the metadata.
        fetcher: fetches it.
        clock: decides when to fetch it again.
        needs_userinfo: whether metadata without a userinfo endpoint are of no use.

    OpenID Connect Discovery 1.0 §4; RFC 8414 §3.
    """

    def __init__(
        self,
        issuers: Sequence[str],
        config_url: str | None,
        fetcher: HTTPFetcher,
        clock: Clock,
        *,
        needs_userinfo: bool = False,
    ) -> None:
        self._issuers = tuple(issuers)
        self._config_url = config_url
        self._where = config_url or self._issuers[0]
        self._needed = (*_NEEDED, "userinfo_endpoint") if needs_userinfo else _NEEDED
        self._fetcher = fetcher
        self._clock = clock
        self._is_silent = True
        self._odd = ""
        self._known: Endpoints | None = None
        self._fetch_again_at = -math.inf
        self._outage = Outage(each_reason=True)
        self._refresh = SingleFlight(self._refresh_now)

    async def __call__(self) -> Endpoints:
        """Return the endpoints.

        Raises:
            ServerUnavailable: they are unknown, and the metadata cannot be fetched now; it is an
                ``UpstreamFails`` unless there was no answer.
        """
        if self._clock.monotonic() >= self._fetch_again_at:
            await self._refresh()
        if self._known is None:
            failure = ServerUnavailable if self._is_silent else UpstreamFails
            raise failure(COOLDOWN_SECONDS)
        return self._known

    def start(self) -> None:
        """Begin to fetch the metadata if they are due, so that the first sign-in does not wait."""
        if self._clock.monotonic() >= self._fetch_again_at:
            self._refresh.start()

    async def aclose(self) -> None:
        """Cancel a running fetch."""
        await self._refresh.aclose()

    async def _refresh_now(self) -> None:
        try:
            found = await self._fetch()
            self._known = _read(found, self._issuers, self._known)
        except (FetchFailed, ValueError) as error:
            seconds = COOLDOWN_SECONDS
            self._is_silent = isinstance(error, FetchFailed) and error.is_silence
            if self._outage.failed(str(error)):
                logger.warning(
                    "The metadata of the identity provider %s is unusable: %s", self._where, error
                )
        else:
            seconds = PARTIAL_SECONDS if found.is_partial else TTL_SECONDS
            self._outage.recovered()
            problem = "; ".join(found.odd.values())
            if problem not in ("", self._odd):
                logger.warning(
                    "The metadata of the identity provider %s is used without what is wrong in it:"
                    " %s",
                    self._where,
                    problem,
                )
            self._odd = problem
        self._fetch_again_at = self._clock.monotonic() + seconds

    async def _fetch(self) -> Metadata:
        found = await self._documents()
        if frozenset(SYMMETRIC).isdisjoint(_signing_algorithms(found)):
            found.check(_KEYS)
        return found

    async def _documents(self) -> Metadata:
        if self._config_url is None:
            return await fetch_metadata(
                self._issuers[0],
                self._fetcher,
                needed=self._needed,
                wanted=_WANTED,
                is_openid=True,
                setting="config_url",
            )
        document = await fetch_document(self._config_url, self._fetcher, "config_url")
        issuer = document.get("issuer")
        # With issuers configured, they are the ones that ID tokens may have. Otherwise the URL must
        # be the issuer's own.
        if not self._issuers and (
            not isinstance(issuer, str) or self._config_url not in metadata_urls(issuer)
        ):
            raise FetchFailed(
                f"its issuer is {issuer!r}, whose metadata has another URL: set issuer='…'"
            )
        found = Metadata(self._config_url)
        found.add(document)
        found.check(self._needed)
        return found


def _read(found: Metadata, issuers: tuple[str, ...], known: Endpoints | None) -> Endpoints:
    members = found.members
    endpoints = Endpoints(
        authorization=members["authorization_endpoint"],
        token=members["token_endpoint"],
        revocation=members.get("revocation_endpoint"),
        userinfo=members.get("userinfo_endpoint"),
        jwks_uri=members.get("jwks_uri"),
        issuers=issuers or (members["issuer"],),
        states_issuer=members.get("authorization_response_iss_parameter_supported") is True,
        auth_methods=_texts(members, "token_endpoint_auth_methods_supported"),
        signing_algorithms=_signing_algorithms(found),
    )
    if found.is_partial and known is not None:  # what the missing document said
        endpoints = endpoints._replace(
            revocation=endpoints.revocation or known.revocation,
            states_issuer=endpoints.states_issuer or known.states_issuer,
        )
    return endpoints


def _texts(document: JSONObject, name: str) -> tuple[str, ...]:
    value: Any = document.get(name)
    return tuple(each for each in value if isinstance(each, str)) if is_array(value) else ()


def _signing_algorithms(found: Metadata) -> tuple[str, ...]:
    return _texts(found.members, "id_token_signing_alg_values_supported")
