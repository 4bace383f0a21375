"""The public keys of clients: registered with them, or fetched from their ``jwks_uri``.

These are not the keys of an issuer. Strangers can register a key set, and make us fetch and parse
it. So it must be small and each key needs a ``kid``: one assertion costs one signature check.
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
from ...errors import ClientUnreachable, InvalidClient, InvalidToken
from ...jwks import MAX_BYTES as MAX_OPERATOR_BYTES
from ...keys import StaticKeys
from ...types import Clock
from ..limits import Limits
from ..parties import Client
from .fetched import FetchCache
from .metadata import client_key_set

MAX_BYTES = 16 * 1024
COOLDOWN_SECONDS = 5  # between two fetches for a key that is missing
STALE_SECONDS = 86_400
CACHE_SIZE = 1000


class ClientKeys:
    """Finds the keys of clients.

    Args:
        fetcher: fetches key sets.
        clock: for lifetimes.
        limits: bound how much a network may make us fetch.
    """

    def __init__(self, fetcher: PublicFetcher, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._registered: LRUCache[StaticKeys] = LRUCache(CACHE_SIZE)
        # Two caches, because a key set that is too large for a stranger's client may be fine for
        # one of the operator's.
        self._fetched = {
            is_operators: FetchCache(
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

    def of(self, client: Client, address: str) -> ClientKeySource:
        """Return the keys of a client, for one request from ``address``."""
        return ClientKeySource(self, client, address)

    async def find(self, client: Client, address: str, *, reload: bool = False) -> StaticKeys:
        """Return the key set of a client.

        Args:
            client: the client.
            address: the address that makes us fetch the key set.
            reload: whether to fetch it again, unless that has just been done.

        Raises:
            InvalidClient: the key set is invalid.
            ClientUnreachable: its host is not responding. After an invalid_client, the client would
                discard its registration.
            TooManyRequests: the address has made us fetch too much.
        """
        is_operators, uri = client.origin == "configured", client.metadata.get("jwks_uri")
        if uri is None:
            return self._read_registered(client, is_operators=is_operators)
        since = self._clock.monotonic() - COOLDOWN_SECONDS if reload else -math.inf
        fetched = await self._fetched[is_operators].find(uri, address, since=since)
        if fetched.value is not None:
            return fetched.value
        if fetched.failure == "unreachable":
            raise ClientUnreachable("client_keys_unreachable", client.client_id, uri)
        raise _invalid_keys()

    def _read_registered(self, client: Client, *, is_operators: bool) -> StaticKeys:
        document = client.metadata["jwks"]
        key = sha256(json.dumps([document, is_operators]).encode()).digest()
        keys = self._registered.get(key)
        if keys is None:
            try:
                keys = StaticKeys(client_key_set(document, is_operators=is_operators))
            except UnusableKey:  # an earlier version accepted the registration
                raise _invalid_keys() from None
            self._registered.put(key, keys)
        return keys


class ClientKeySource:
    """A ``KeySource`` for one request. It fetches nothing before it is asked for a key."""

    def __init__(self, keys: ClientKeys, client: Client, address: str) -> None:
        self._keys = keys
        self._client = client
        self._address = address
        self.version = 1
        self.fresh_until = math.inf

    async def keys_for(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the key that the assertion names. A new key is accepted as soon as the client has
        published it.

        Raises:
            InvalidToken: the client has no such key.
            InvalidClient, ClientUnreachable, TooManyRequests: as ``ClientKeys.find``.
        """
        keys = await self._keys.find(self._client, self._address)
        try:
            return await keys.keys_for(key_id, algorithm)
        except InvalidToken as error:
            if error.reason != "unknown_key":
                raise
        keys = await self._keys.find(self._client, self._address, reload=True)
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
        document = parse_json_object(body, max_bytes=MAX_OPERATOR_BYTES)
        keys = client_key_set(document, is_operators=is_operators)
    except ValueError as error:
        raise FetchFailed(f"it is not JSON: {error}") from None
    except UnusableKey as error:
        raise FetchFailed(str(error)) from None
    if not len(keys):
        raise FetchFailed("it contains no key that can verify an assertion here")
    return StaticKeys(keys)


def _invalid_keys() -> InvalidClient:
    return InvalidClient("The key set of the client cannot be used", reason="client_keys")
