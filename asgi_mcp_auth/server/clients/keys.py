"""The keys that clients sign with: a set in what they registered, or at a URL that they name.

They are not an issuer's. Whoever registers a set makes us fetch and read it, so it is small, and
says which key is which: one assertion costs one signature check.
"""

from __future__ import annotations

import json
import math
from hashlib import sha256

from asgiref.sync import sync_to_async

from ..._cache import LRUCache
from ..._http import FetchFailed, PublicFetcher, Response
from ..._jose import UnusableKey, VerifyingKey
from ..._json import parse_json_object
from ...errors import InvalidClient, InvalidToken, ServerUnavailable
from ...jwks import MAX_BYTES as MAX_OPERATOR_BYTES
from ...keys import StaticKeys
from ...types import Clock
from ..limits import Limits
from ..parties import Client
from .fetched import Fetched
from .metadata import client_key_set

MAX_BYTES = 16 * 1024
COOLDOWN_SECONDS = 5  # at least so long between two looks for a key that was not there
STALE_SECONDS = 86_400
CACHE_SIZE = 1000


class ClientKeys:
    """Finds the keys of clients.

    Args:
        fetcher: the way to those that lie elsewhere.
        clock: for lifetimes.
        limits: how many an address may make us fetch.
    """

    def __init__(self, fetcher: PublicFetcher, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._registered: LRUCache[StaticKeys] = LRUCache(CACHE_SIZE)
        # Two, because what is too large for a stranger's must not count as unusable for the
        # operator's.
        self._fetched = {
            is_operators: Fetched(
                "Key set",
                fetcher,
                clock,
                limits,
                _read_operators if is_operators else _read,
                max_bytes=MAX_OPERATOR_BYTES if is_operators else MAX_BYTES,
                stale_seconds=STALE_SECONDS,
            )
            for is_operators in (False, True)
        }

    def of(self, client: Client, address: str) -> KeysOfClient:
        """Return the keys of a client, for one request that comes from ``address``."""
        return KeysOfClient(self, client, address)

    async def find(self, client: Client, address: str, *, anew: bool = False) -> StaticKeys:
        """Return the key set of a client.

        Args:
            client: whose.
            address: who makes us fetch it.
            anew: whether to look again where that was not done just now.

        Raises:
            InvalidClient: it cannot be used.
            ServerUnavailable: nobody answers; told that it is nobody, a client would forget who it
                is.
            TooManyRequests: the address has made us fetch enough.
        """
        is_operators, uri = client.origin == "configured", client.metadata.get("jwks_uri")
        if uri is None:
            return self._read_registered(client, is_operators=is_operators)
        since = self._clock.monotonic() - COOLDOWN_SECONDS if anew else -math.inf
        known = await self._fetched[is_operators].find(uri, address, since=since)
        if known.value is not None:
            return known.value
        raise ServerUnavailable if known.unreachable else _unusable()

    def _read_registered(self, client: Client, *, is_operators: bool) -> StaticKeys:
        document = client.metadata["jwks"]
        key = sha256(json.dumps([document, is_operators]).encode()).digest()
        keys = self._registered.get(key)
        if keys is None:
            try:
                keys = StaticKeys(client_key_set(document, is_operators=is_operators))
            except UnusableKey:  # it was registered when more could be
                raise _unusable() from None
            self._registered.put(key, keys)
        return keys


class KeysOfClient:
    """A ``KeySource`` for one request; nothing is fetched before something asks for a key."""

    def __init__(self, keys: ClientKeys, client: Client, address: str) -> None:
        self._keys = keys
        self._client = client
        self._address = address
        self.version = 1
        self.fresh_until = math.inf

    async def keys_for(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the one key that is meant; a new one counts as soon as the client has published
        it.

        Raises:
            InvalidToken: there is no such key.
            InvalidClient, ServerUnavailable, TooManyRequests: as ``ClientKeys.find``.
        """
        keys = await self._keys.find(self._client, self._address)
        try:
            return await keys.keys_for(key_id, algorithm)
        except InvalidToken as error:
            if error.reason != "unknown_key":
                raise
        keys = await self._keys.find(self._client, self._address, anew=True)
        return await keys.keys_for(key_id, algorithm)

    async def open(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do."""


async def _read(_: str, response: Response) -> StaticKeys:
    return _parse(response.body, is_operators=False)


async def _read_operators(_: str, response: Response) -> StaticKeys:
    if len(response.body) <= MAX_BYTES:
        return _parse(response.body, is_operators=True)
    return await sync_to_async(_parse, thread_sensitive=False)(response.body, is_operators=True)


def _parse(body: bytes, *, is_operators: bool) -> StaticKeys:
    try:
        keys = client_key_set(parse_json_object(body), is_operators=is_operators)
    except ValueError as error:
        raise FetchFailed(f"it is not JSON: {error}") from None
    except UnusableKey as error:
        raise FetchFailed(str(error)) from None
    if not len(keys):
        raise FetchFailed("it holds no key that can verify an assertion here")
    return StaticKeys(keys)


def _unusable() -> InvalidClient:
    return InvalidClient("The key set of the client cannot be used", reason="client_keys")
