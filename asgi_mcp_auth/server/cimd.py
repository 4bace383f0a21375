"""Client ID Metadata Documents: a client id that is the URL of the client's own description.

draft-ietf-oauth-client-id-metadata-document; MCP 2026-07-28, client registration.
"""

from __future__ import annotations

import logging
from hashlib import sha256
from urllib.parse import unquote, urlsplit

from .._cache import LRUCache, SingleFlight
from .._http import FetchFailed, PublicFetcher, cache_seconds
from .._json import parse_json_object
from .._urls import is_public_web_url, origin_of
from ..errors import InvalidClient, InvalidClientMetadata, InvalidRedirectURI, ServerUnavailable
from ..types import Clock, JSONObject
from .client_metadata import MetadataPolicy, check_client_metadata
from .models import Client
from .options import TrustHook, call_hook

logger = logging.getLogger(__name__)

MAX_BYTES = 5 * 1024
TIMEOUT_SECONDS = 5.0
USUAL_SECONDS, MIN_SECONDS, MAX_SECONDS = 3600, 300, 86_400
FAILURE_SECONDS = 30  # how long a document that cannot be used is not asked for again
CACHE_SIZE = 1000
MAX_FLIGHTS = 16
MAX_URL_CHARS = 2048

_SECRET_MEMBERS = ("client_secret", "client_secret_expires_at", "registration_access_token")


def is_document_url(client_id: str) -> bool:
    """Return whether a client id claims to be the URL of a document; ``Documents`` says whether it can be one."""
    return client_id.startswith("https://")


class Documents:
    """Fetches and remembers client metadata documents.

    Args:
        policy: what a document may say.
        fetcher: the way to them.
        clock: for lifetimes.
        issuer: our own URL; no client lives there.
        trust: the operator's say in which URLs to fetch.
        development: whether hosts on this machine are fine.
    """

    def __init__(
        self,
        policy: MetadataPolicy,
        fetcher: PublicFetcher,
        clock: Clock,
        issuer: str,
        *,
        trust: TrustHook | None = None,
        development: bool = False,
    ) -> None:
        self._policy = policy
        self._fetcher = fetcher
        self._clock = clock
        self._origin = origin_of(issuer)
        self._trust = trust
        self._development = development
        self._known: LRUCache[tuple[float, Client | None]] = LRUCache(CACHE_SIZE)
        self._flights: dict[str, SingleFlight[Client | None]] = {}

    async def client_for(self, client_id: str) -> Client:
        """Return the client that the document at ``client_id`` describes.

        Raises:
            InvalidClient: it cannot be the URL of one, it cannot be fetched, or what is there is no such document.
            ServerUnavailable: too many others are being fetched.
        """
        key = sha256(client_id.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(key)
        if known is not None and self._clock.monotonic() < known[0]:
            client = known[1]
        else:
            client = await self._fetch_once(client_id, key)
        if client is None:
            raise InvalidClient("The client metadata document cannot be used", reason="document")
        return client

    async def _fetch_once(self, client_id: str, key: bytes) -> Client | None:
        flight = self._flights.get(client_id)
        if flight is None:
            if not self._is_acceptable(client_id):
                raise InvalidClient("The client id cannot be the URL of a metadata document", reason="document")
            if len(self._flights) >= MAX_FLIGHTS:
                raise ServerUnavailable

            async def work() -> Client | None:
                try:
                    return await self._fetch_and_remember(client_id, key)
                finally:
                    self._flights.pop(client_id, None)

            flight = self._flights[client_id] = SingleFlight(work)
        return await flight()

    async def _fetch_and_remember(self, client_id: str, key: bytes) -> Client | None:
        client, seconds = None, float(FAILURE_SECONDS)
        try:
            if self._trust is not None and not await call_hook(self._trust, client_id):
                raise FetchFailed("it is not trusted")
            client, seconds = await self._fetch(client_id)
        except (FetchFailed, InvalidClientMetadata, InvalidRedirectURI, ValueError) as error:
            # INFO: strangers cause it. Quoted, because they also wrote the URL.
            logger.info("Client metadata document %r cannot be used: %s", client_id, error)
        self._known.put(key, (self._clock.monotonic() + seconds, client))
        return client

    async def _fetch(self, client_id: str) -> tuple[Client, float]:
        response = await self._fetcher.fetch(client_id, max_bytes=MAX_BYTES)
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
        if not isinstance(document.get("client_name"), str):
            raise FetchFailed("it has no client_name")
        if any(name in document for name in _SECRET_MEMBERS):
            raise FetchFailed("it holds a secret")
        metadata = check_client_metadata(document, self._policy)
        choices = document.get("token_endpoint_auth_methods_supported")
        if isinstance(choices, list) and "none" in choices:
            metadata["token_endpoint_auth_methods"] = [metadata["token_endpoint_auth_method"], "none"]
        return metadata

    def _is_acceptable(self, client_id: str) -> bool:
        if len(client_id) > MAX_URL_CHARS or not (self._development or is_public_web_url(client_id)):
            return False
        try:
            parts = urlsplit(client_id)
            valid = bool(parts.hostname) and parts.port != 0
        except ValueError:
            return False
        plain = "@" not in parts.netloc and "?" not in client_id and "#" not in client_id
        segments = unquote(parts.path).split("/")
        if not valid or not plain or parts.path in ("", "/") or "." in segments or ".." in segments:
            return False
        return client_id.isascii() and client_id.isprintable() and origin_of(client_id) != self._origin
