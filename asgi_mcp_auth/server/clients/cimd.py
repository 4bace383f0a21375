"""Client ID Metadata Documents: a client id that is the URL of the client's own description.

draft-ietf-oauth-client-id-metadata-document; MCP 2026-07-28, client registration.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ..._cache import LRUCache
from ..._http import FetchFailed, PublicFetcher, Response
from ..._json import is_array, parse_json_object
from ..._urls import is_public_web_url, origin_of
from ...errors import InvalidClient, InvalidClientMetadata, InvalidRedirectURI, ServerUnavailable
from ...types import Clock, JSONObject
from ..limits import Limits
from ..options import Registration, call_hook
from ..parties import Client
from .fetched import Fetched
from .metadata import MetadataPolicy, check_client_metadata

MAX_BYTES = 5 * 1024
TIMEOUT_SECONDS = 5.0
TRUST_SECONDS = 60  # how long the operator's word counts
MAX_ANSWERS = 1000  # of the operator's, that are remembered
MAX_URL_CHARS = 2048

_SECRET_MEMBERS = ("client_secret", "client_secret_expires_at", "registration_access_token")


def is_document_url(client_id: str) -> bool:
    """Return whether a client id claims to be the URL of a document; ``Documents`` says whether it
    can be one.
    """
    return client_id.startswith("https://")


class _Trust(NamedTuple):
    """What the operator has said of a URL, and until when (monotonic) that counts."""

    until: float
    given: bool


class Documents:
    """Fetches and remembers client metadata documents.

    Args:
        policy: what a document may say.
        fetcher: the way to them.
        clock: for lifetimes.
        limits: how many an address may make us fetch.
        own: our own URLs; no client lives there.
        registration: the operator's say in which documents are welcome, and whether they may lie on
            this machine.
    """

    def __init__(
        self,
        policy: MetadataPolicy,
        fetcher: PublicFetcher,
        clock: Clock,
        limits: Limits,
        own: Collection[str],
        registration: Registration,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._own = frozenset(map(origin_of, own))
        self._registration = registration
        self._fetched = Fetched(
            "Client metadata document", fetcher, clock, limits, self._read, max_bytes=MAX_BYTES
        )
        self._answers: LRUCache[_Trust] = LRUCache(MAX_ANSWERS)

    async def client_for(self, client_id: str, address: str | None) -> Client:
        """Return the client that the document at ``client_id`` describes.

        Args:
            client_id: the URL of the document.
            address: who makes us fetch it, ``None`` for the operator.

        Raises:
            InvalidClient: it cannot be the URL of one, or what is there is no such document.
            ServerUnavailable: what is there is not known; whoever hears invalid_client throws good
                tokens away.
            TooManyRequests: the address has made us fetch enough.
        """
        if not self._is_acceptable(client_id):
            raise InvalidClient(
                "The client id cannot be the URL of a metadata document", reason="document"
            )
        known = (
            await self._fetched.find(client_id, address)
            if await self._is_trusted(client_id)
            else None
        )
        if known is not None and known.unreachable:
            raise ServerUnavailable
        if known is None or known.value is None:
            raise InvalidClient("The client metadata document cannot be used", reason="document")
        return known.value

    async def _is_trusted(self, client_id: str) -> bool:
        """Return what the operator says of the URL, asked again after a minute, however long the
        document is kept.
        """
        trust = self._registration.trust_document
        if trust is None:
            return True
        key = sha256(client_id.encode()).digest()
        answer = self._answers.get(key)
        if answer is None or self._clock.monotonic() >= answer.until:
            given = bool(await call_hook(trust, client_id))
            answer = _Trust(self._clock.monotonic() + TRUST_SECONDS, given)
            self._answers.put(key, answer)
        return answer.given

    async def _read(self, client_id: str, response: Response) -> Client:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not (kind == "application/json" or kind.endswith("+json")):
            raise FetchFailed(f"its content type is {kind!r}")
        try:
            metadata = self._check(client_id, parse_json_object(response.body, max_bytes=MAX_BYTES))
        except (InvalidClientMetadata, InvalidRedirectURI, ValueError) as error:
            raise FetchFailed(str(error)) from None
        approve = self._registration.approve
        if approve is not None and not await call_hook(
            approve, {"client_id": client_id, **metadata}
        ):
            raise FetchFailed("this application is not welcome here")
        return Client(client_id=client_id, metadata=metadata, origin="document")

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
