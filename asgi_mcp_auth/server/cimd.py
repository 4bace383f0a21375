"""Client ID Metadata Documents: a client id that is the URL of the client's own description.

draft-ietf-oauth-client-id-metadata-document; MCP 2026-07-28, client registration.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from .._cache import LRUCache, SingleFlight
from .._http import FetchFailed, PublicFetcher, Unreachable, cache_seconds
from .._json import is_array, parse_json_object
from .._urls import is_public_web_url, origin_of
from ..errors import InvalidClient, InvalidClientMetadata, InvalidRedirectURI, ServerUnavailable
from ..types import Clock, JSONObject
from .client_metadata import MetadataPolicy, check_client_metadata
from .limits import Limits
from .models import Client
from .options import TrustHook, call_hook

logger = logging.getLogger(__name__)

MAX_BYTES = 5 * 1024
TIMEOUT_SECONDS = 5.0
USUAL_SECONDS, MIN_SECONDS, MAX_SECONDS = 3600, 300, 86_400
FAILURE_SECONDS = 30  # how long a document that cannot be had or used is not asked for again
CACHE_SIZE = 1000
MAX_URL_CHARS = 2048

_SECRET_MEMBERS = ("client_secret", "client_secret_expires_at", "registration_access_token")


def is_document_url(client_id: str) -> bool:
    """Return whether a client id claims to be the URL of a document; ``Documents`` says whether it can be one."""
    return client_id.startswith("https://")


class _Known(NamedTuple):
    """What is known of a document, and until when (monotonic)."""

    until: float
    client: Client | None
    unreachable: bool


class Documents:
    """Fetches and remembers client metadata documents.

    Args:
        policy: what a document may say.
        fetcher: the way to them.
        clock: for lifetimes.
        limits: how many an address may make us fetch.
        own: our own URLs; no client lives there.
        trust: the operator's say in which URLs to fetch.
        development: whether hosts on this machine are fine.
    """

    def __init__(
        self,
        policy: MetadataPolicy,
        fetcher: PublicFetcher,
        clock: Clock,
        limits: Limits,
        own: Collection[str],
        *,
        trust: TrustHook | None = None,
        development: bool = False,
    ) -> None:
        self._policy = policy
        self._fetcher = fetcher
        self._clock = clock
        self._limits = limits
        self._own = frozenset(map(origin_of, own))
        self._trust = trust
        self._development = development
        self._known: LRUCache[_Known] = LRUCache(CACHE_SIZE)
        self._flights: dict[str, SingleFlight[_Known]] = {}

    async def client_for(self, client_id: str, address: str | None) -> Client:
        """Return the client that the document at ``client_id`` describes.

        Args:
            client_id: the URL of the document.
            address: who makes us fetch it, ``None`` for the operator.

        Raises:
            InvalidClient: it cannot be the URL of one, or what is there is no such document.
            ServerUnavailable: what is there is not known; whoever hears invalid_client throws good tokens away.
            TooManyRequests: the address has made us fetch enough.
        """
        key = sha256(client_id.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(key)
        if known is None or self._clock.monotonic() >= known.until:
            known = await self._fetch_once(client_id, key, address)
        if known.unreachable:
            raise ServerUnavailable
        if known.client is None:
            raise InvalidClient("The client metadata document cannot be used", reason="document")
        return known.client

    async def _fetch_once(self, client_id: str, key: bytes, address: str | None) -> _Known:
        flight = self._flights.get(client_id)
        if flight is None:
            if not self._is_acceptable(client_id):
                raise InvalidClient("The client id cannot be the URL of a metadata document", reason="document")
            if address is not None:
                await self._limits.count("register", address)
            if self._fetcher.is_full:
                raise ServerUnavailable

            async def work() -> _Known:
                try:
                    known = await self._look(client_id)
                    self._known.put(key, known)
                finally:
                    self._flights.pop(client_id, None)
                return known

            flight = self._flights.setdefault(client_id, SingleFlight(work))
        return await flight()

    async def _look(self, client_id: str) -> _Known:
        client, seconds, unreachable = None, float(FAILURE_SECONDS), False
        try:
            if self._trust is not None and not await call_hook(self._trust, client_id):
                raise FetchFailed("it is not trusted")
            client, seconds = await self._fetch(client_id)
        except (FetchFailed, InvalidClientMetadata, InvalidRedirectURI, ValueError) as error:
            unreachable = isinstance(error, Unreachable)
            # INFO: strangers cause it. Quoted, because they also wrote the URL.
            logger.info("Client metadata document %r cannot be used: %s", client_id, error)
        return _Known(self._clock.monotonic() + seconds, client, unreachable)

    async def _fetch(self, client_id: str) -> tuple[Client, float]:
        response = await self._fetcher.fetch(client_id, max_bytes=MAX_BYTES)
        if response.status == 429 or response.status >= 500:
            raise Unreachable(f"HTTP {response.status}")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status != 200 or not (kind == "application/json" or kind.endswith("+json")):
            raise FetchFailed(f"HTTP {response.status} with content type {kind!r}")
        document = parse_json_object(response.body, max_bytes=MAX_BYTES)
        metadata = self._check(client_id, document)
        seconds = cache_seconds(response.headers, usual=USUAL_SECONDS, minimum=MIN_SECONDS, maximum=MAX_SECONDS)
        return Client(client_id=client_id, metadata=metadata, origin="document"), seconds

    def _check(self, client_id: str, document: JSONObject) -> JSONObject:
        if document.get("client_id") != client_id:
            raise FetchFailed("its client_id is not its own URL, character by character")
        if any(name in document for name in _SECRET_MEMBERS):
            raise FetchFailed("it holds a secret")
        metadata = check_client_metadata(document, self._policy)
        if "client_name" not in metadata:
            raise FetchFailed("it has no client_name")
        choices = document.get("token_endpoint_auth_methods_supported")
        if is_array(choices):  # the client leaves it to us
            has_keys = "jwks" in metadata or "jwks_uri" in metadata
            possible = [each for each in self._policy.auth_methods if each in choices and (has_keys or each == "none")]
            preferred = document.get("token_endpoint_auth_method")
            if preferred is not None or possible:
                metadata["token_endpoint_auth_methods"] = list(dict.fromkeys(filter(None, (preferred, *possible))))
        return metadata

    def _is_acceptable(self, client_id: str) -> bool:
        if not client_id.isascii() or not client_id.isprintable() or len(client_id) > MAX_URL_CHARS:
            return False
        if not (self._development or is_public_web_url(client_id)):
            return False
        try:
            parts = urlsplit(client_id)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        segments = unquote(parts.path).split("/")
        return (
            bool(host.strip("."))
            and not host.endswith(".")
            and port != 0
            and not any(character in parts.netloc for character in "@%")
            and not any(character in client_id for character in "?#\\ ")
            and parts.path not in ("", "/")
            and not {".", ".."} & set(segments)
            and origin_of(client_id) not in self._own
        )
