"""Client ID Metadata Documents: the client id is the URL of the client's own metadata.

draft-ietf-oauth-client-id-metadata-document; MCP 2026-07-28, client registration.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ..._cache import LRUCache
from ..._http import FetchFailed, PublicFetcher, Response
from ..._json import is_array, parse_json_object
from ..._urls import is_public_web_url, origin_of
from ...errors import (
    ClientUnreachable,
    InvalidClient,
    InvalidClientMetadata,
    InvalidRedirectURI,
    ServerUnavailable,
    TooManyRequests,
)
from ...types import Clock, JSONObject
from ..limits import Limits
from ..options import Registration, ask_hook
from ..parties import Client
from .fetched import FetchCache
from .kept import KeptDocuments
from .metadata import MetadataPolicy, check_client_metadata

MAX_BYTES = 5 * 1024
TIMEOUT_SECONDS = 5.0
TRUST_SECONDS = 60  # how long a decision of trust_document is cached
MAX_DECISIONS = 1000
MAX_URL_CHARS = 2048
ADVICE = (
    "A server without a way to the internet needs Registration(metadata_documents=False), so that"
    " applications register instead, or Registration(document_proxy=…)"
)

_SECRET_MEMBERS = ("client_secret", "client_secret_expires_at", "registration_access_token")


def is_document_url(client_id: str) -> bool:
    """Return whether a client id claims to be the URL of a document; ``ClientDocuments`` decides
    whether it is an acceptable one.
    """
    return client_id.startswith("https://")


class _Decision(NamedTuple):
    """Whether the operator trusts a URL, and until when (monotonic) that is cached."""

    until: float
    is_trusted: bool


class _Document(NamedTuple):
    """A document that is valid, and the client that it describes."""

    text: str
    client: Client


class ClientDocuments:
    """Fetches and caches client metadata documents.

    Theory of operation
    -------------------
    When a user has approved a client, its document is also kept in the store.

    in this process         kept   request of         what is used
    ----------------------  -----  -----------------  ----------------------------------------
    fresh                   any    any                the document
    nothing, or expired     yes    the client itself  the kept one; a fetch in the background
    nothing, or expired     any    a user             what a fetch brings
    unusable, says its      any    any                none, and it is no longer kept
      host
    not to be had           yes    any                the kept one
    not to be had           no     any                none: ``ClientUnreachable``, if its host
                                                      is not responding

    The operator's ``trust_document`` and ``approve`` decide about a kept document, too.

    Args:
        policy: the metadata that a document may contain.
        fetcher: fetches the documents.
        clock: for lifetimes.
        limits: bound how much an address may make us fetch.
        own: this server's own URLs, which cannot be client ids.
        registration: the operator's hooks, and whether documents may be on this machine.
        kept: those that are in the store.
    """

    def __init__(
        self,
        policy: MetadataPolicy,
        fetcher: PublicFetcher,
        clock: Clock,
        limits: Limits,
        own: Collection[str],
        registration: Registration,
        kept: KeptDocuments,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._own = frozenset(map(origin_of, own))
        self._registration = registration
        self._fetched = FetchCache(
            "Client metadata document",
            fetcher,
            clock,
            limits,
            self._read,
            advice=ADVICE,
            max_bytes=MAX_BYTES,
        )
        self._kept = kept
        self._decisions: LRUCache[_Decision] = LRUCache(MAX_DECISIONS)

    async def client_for(
        self, client_id: str, address: str | None, *, from_client: bool = False
    ) -> Client:
        """Return the client that the document at ``client_id`` describes.

        Args:
            client_id: the URL of the document.
            address: the address that makes us fetch it, ``None`` for the operator.
            from_client: whether the client itself sends the request, and so does not wait for a
                fetch if its document is kept.

        Raises:
            InvalidClient: the URL is not acceptable, or the document is invalid.
            ClientUnreachable: its host is not responding. After an invalid_client, the client would
                discard valid tokens.
            TooManyRequests: the address has made us fetch too much.
        """
        if not self._is_acceptable(client_id):
            raise InvalidClient(
                "The client id cannot be the URL of a metadata document", reason="document"
            )
        if not await self._is_trusted(client_id):
            raise _unusable()
        fetched = self._fetched.recall(client_id)
        if fetched is None:
            if from_client:
                with suppress(InvalidClient):  # a newer one may be acceptable
                    kept = await self._find_kept(client_id)
                    if kept is not None:
                        self._fetched.find_later(client_id, address)
                        return kept
            try:
                fetched = await self._fetched.find(client_id, address)
            except (TooManyRequests, ServerUnavailable):  # no place for a fetch
                kept = await self._find_kept(client_id)
                if kept is None:
                    raise
                return kept
        if fetched.value is not None:
            return fetched.value.client
        if fetched.failure == "unusable":
            await self._kept.drop(client_id)
            raise _unusable()
        kept = await self._find_kept(client_id)
        if kept is not None:
            return kept
        if fetched.failure == "unreachable":
            raise ClientUnreachable("document_unreachable", client_id, client_id)
        raise _unusable()

    async def keep(self, client_id: str) -> None:
        """Keep the document of a client that a user has approved.

        Raises:
            ServerUnavailable: the store is not responding.
        """
        fetched = self._fetched.recall(client_id)
        text = None if fetched is None or fetched.value is None else fetched.value.text
        if text is None:
            text = await self._kept.get(client_id)
        if text is not None:
            await self._kept.keep(client_id, text)

    async def drop(self, client_id: str) -> None:
        """Stop keeping the document of a client.

        Raises:
            ServerUnavailable: the store is not responding.
        """
        await self._kept.drop(client_id)

    async def _find_kept(self, client_id: str) -> Client | None:
        """Return the client that the kept document describes, ``None`` if there is none.

        Raises:
            InvalidClient: it is not acceptable any more.
        """
        text = await self._kept.get(client_id)
        if text is None:
            return None
        try:
            return (await self._parse(client_id, text.encode())).client
        except FetchFailed:
            raise _unusable() from None

    async def _is_trusted(self, client_id: str) -> bool:
        """Return whether the operator trusts the URL. The hook is asked again after a minute,
        however long the document is cached.
        """
        trust_document = self._registration.trust_document
        if trust_document is None:
            return True
        key = sha256(client_id.encode()).digest()
        decision = self._decisions.get(key)
        if decision is None or self._clock.monotonic() >= decision.until:
            is_trusted = bool(await ask_hook("trust_document", trust_document, client_id))
            decision = _Decision(self._clock.monotonic() + TRUST_SECONDS, is_trusted)
            self._decisions.put(key, decision)
        return decision.is_trusted

    async def _read(self, client_id: str, response: Response) -> _Document:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not (kind == "application/json" or kind.endswith("+json")):
            raise FetchFailed(f"its content type is {kind!r}")
        document = await self._parse(client_id, response.body)
        await self._kept.renew(client_id, document.text)
        return document

    async def _parse(self, client_id: str, body: bytes) -> _Document:
        try:
            metadata = self._check(client_id, parse_json_object(body, max_bytes=MAX_BYTES))
        except (InvalidClientMetadata, InvalidRedirectURI, ValueError) as error:
            raise FetchFailed(str(error)) from None
        approve = self._registration.approve
        if approve is not None and not await ask_hook(
            "approve", approve, {"client_id": client_id, **metadata}
        ):
            raise FetchFailed("the approve hook refused it")
        client = Client(client_id=client_id, metadata=metadata, origin="document")
        return _Document(body.decode(), client)

    def _check(self, client_id: str, document: JSONObject) -> JSONObject:
        if document.get("client_id") != client_id:
            raise FetchFailed("its client_id is not exactly its own URL")
        if any(name in document for name in _SECRET_MEMBERS):
            raise FetchFailed("it contains a secret")
        metadata = check_client_metadata(document, self._policy)
        if "client_name" not in metadata:
            raise FetchFailed("it has no client_name")
        choices = document.get("token_endpoint_auth_methods_supported")
        if is_array(choices):  # the client lets us choose
            has_keys = "jwks" in metadata or "jwks_uri" in metadata
            possible = [
                each
                for each in self._policy.auth_methods
                if each in choices and (has_keys or each == "none")
            ]
            preferred = document.get("token_endpoint_auth_method")
            if preferred is not None or possible:
                metadata["token_endpoint_auth_methods"] = list(
                    dict.fromkeys(filter(None, (preferred, *possible)))
                )
        return metadata

    def _is_acceptable(self, client_id: str) -> bool:
        if not client_id.isascii() or not client_id.isprintable() or len(client_id) > MAX_URL_CHARS:
            return False
        if not (self._registration.development_documents or is_public_web_url(client_id)):
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


def _unusable() -> InvalidClient:
    return InvalidClient("The client metadata document cannot be used", reason="document")
