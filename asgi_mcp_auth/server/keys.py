"""The keys that sign access tokens: made on first use, kept in the store, shared by all workers, rotated with overlap.

A new key is published before it signs, and an old one stays published until the last token that it signed has expired.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from asgiref.sync import sync_to_async

from .._cache import SingleFlight
from .._jose import SigningKey, UnusableKey, VerifyingKey, sign_jwt
from ..errors import ConfigurationError, InvalidToken, ServerUnavailable
from ..jwks import KeySet, KeySource
from ..stores import Store
from ..types import Clock, JSONObject
from .audit import Audit, AuditEvent
from .options import DAY, Lifetimes, ServerOptions

logger = logging.getLogger(__name__)

KEYS, RECORD = "keys", "signing"
RELOAD_SECONDS = 60.0  # how old the keys in a process may be
COOLDOWN_SECONDS = 1.0  # between two looks for a key that is not known
RETRY_SECONDS = 5.0  # between two looks while the store does not answer
STALE_SECONDS = DAY  # how long the keys at hand are used while it does not
AHEAD_SECONDS = 3600.0  # how long a key is published before it signs: longer than others keep our key set


class Signer(KeySource, Protocol):
    """Signs access tokens, and says with what they can be verified."""

    algorithm: str  # of the tokens that are made now

    async def ready(self) -> None:
        """Have a key at hand.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        ...

    async def sign(self, header: JSONObject, claims: JSONObject) -> str:
        """Return a JWT."""
        ...

    async def document(self) -> JSONObject:
        """Return the public keys as a JWK set (RFC 7517 §5)."""
        ...

    async def rotate(self, *, retire: bool = False) -> None:
        """Sign with a new key from now on; ``retire`` forgets the old ones, and every token that they signed."""
        ...


class GivenKeys:
    """Keys that the operator keeps; the first one signs.

    Args:
        pems: private keys.

    Raises:
        ConfigurationError: one of them cannot be used, or is there twice.
    """

    def __init__(self, pems: Sequence[str]) -> None:
        self.serial = 1
        self.settled_until = math.inf
        try:
            self._keys = [SigningKey.from_pem(pem) for pem in pems]
        except UnusableKey as error:
            raise ConfigurationError(f"signing_keys has a key that cannot be used: {error}") from None
        if len({key.key_id for key in self._keys}) != len(self._keys):
            raise ConfigurationError("signing_keys has one key twice: keep one")
        self.algorithm = self._keys[0].algorithm
        self._set = KeySet(key.verifying_key() for key in self._keys)

    async def open(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do."""

    async def keys_for(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the one key that the token names.

        Raises:
            InvalidToken: there is none.
        """
        return _found(self._set.find(key_id, algorithm))

    async def ready(self) -> None:
        """Nothing to do."""

    async def sign(self, header: JSONObject, claims: JSONObject) -> str:
        """Return a JWT."""
        return _signed(self._keys[0], header, claims)

    async def document(self) -> JSONObject:
        """Return the public keys as a JWK set (RFC 7517 §5)."""
        return {"keys": [key.public_jwk() for key in self._keys]}

    async def rotate(self, *, retire: bool = False) -> None:
        """Refuse: these keys are the operator's.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("signing_keys are yours to rotate: put a new one in front, and restart")


class _Key(NamedTuple):
    key: SigningKey
    active_at: float

    def dump(self) -> JSONObject:
        return {"kid": self.key.key_id, "pem": self.key.pem(), "active_at": self.active_at}


class KeptKeys:
    """Keys in the store.

    Args:
        store: keeps them encrypted.
        clock: its wall clock says which key signs, its monotonic one how old the keys at hand are.
        options: algorithm and rotation.
        lifetimes: how long a token lives that a key has signed.
        audit: is told of new keys.
    """

    def __init__(self, store: Store, clock: Clock, options: ServerOptions, lifetimes: Lifetimes, audit: Audit) -> None:
        self.serial = 0
        self.settled_until = -math.inf
        self._store = store
        self._clock = clock
        self.algorithm: str = options.signing_algorithm
        self._rotation_seconds = options.key_rotation_seconds
        self._overlap_seconds = lifetimes.access_token_seconds + RELOAD_SECONDS
        self._audit = audit
        self._keys: tuple[_Key, ...] = ()
        self._set = KeySet(())
        self._loaded_at = -math.inf
        self._reload = SingleFlight(self._load)

    async def open(self) -> None:
        """Load the keys, or make the first one; a store that is down stops nobody from starting."""
        try:
            await self._reload()
        except ServerUnavailable:
            logger.warning("The signing keys cannot be loaded yet: the store does not answer")

    async def aclose(self) -> None:
        """Stop a look under way."""
        await self._reload.aclose()

    async def keys_for(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the one key that the token names.

        Raises:
            InvalidToken: there is none.
            ServerUnavailable: there might be one, but the store does not answer.
        """
        await self.ready()
        found = self._set.find(key_id, algorithm)
        if not found and self._clock.monotonic() >= self._loaded_at + COOLDOWN_SECONDS:
            await self._reload()
            found = self._set.find(key_id, algorithm)
        return _found(found)

    async def sign(self, header: JSONObject, claims: JSONObject) -> str:
        """Return a JWT.

        Raises:
            ServerUnavailable: the store does not answer, and no key is at hand.
        """
        await self.ready()
        now = self._clock.time()
        key = next((each.key for each in reversed(self._keys) if each.active_at <= now), self._keys[0].key)
        return _signed(key, header, claims)

    async def document(self) -> JSONObject:
        """Return the public keys as a JWK set (RFC 7517 §5).

        Raises:
            ServerUnavailable: the store does not answer, and no key is at hand.
        """
        await self.ready()
        return {"keys": [each.key.public_jwk() for each in self._keys]}

    async def rotate(self, *, retire: bool = False) -> None:
        """Sign with a new key from now on.

        Args:
            retire: forget the old ones at once, and with them every token that they signed.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        record = await self._store.get(KEYS, RECORD)
        kept = () if record is None or retire else _parse(record.value)
        new = _Key(await self._new_key(), self._clock.time())
        await self._store.put(KEYS, RECORD, _dump((*kept, new)))
        self._created(new)
        await self._load()

    async def ready(self) -> None:
        """Have keys at hand that are not too old.

        Raises:
            ServerUnavailable: the store does not answer, and no key is at hand.
        """
        if self._clock.monotonic() < self.settled_until:
            return
        try:
            await self._reload()
        except ServerUnavailable:
            now = self._clock.monotonic()
            if not self._keys or now >= self._loaded_at + STALE_SECONDS:
                raise
            self.settled_until = now + RETRY_SECONDS

    async def _load(self) -> None:
        while True:
            record = await self._store.get(KEYS, RECORD)
            if record is None:
                first = _Key(await self._new_key(), self._clock.time())
                if await self._store.add(KEYS, RECORD, _dump((first,))):
                    self._created(first)
                elif await self._store.get(KEYS, RECORD) is None:
                    logger.error("The signing keys in the store cannot be read: have encryption_keys changed?")
                    raise ServerUnavailable
                continue
            keys = _parse(record.value)
            due = await self._due(keys)
            if due == keys:
                break
            # Whoever loses this race reads what the winner wrote.
            if await self._store.swap(KEYS, RECORD, record.etag, _dump(due)) and due[-1] != keys[-1]:
                self._created(due[-1])
        if [each.key.key_id for each in keys] != [each.key.key_id for each in self._keys]:
            self._set = KeySet(each.key.verifying_key() for each in keys)
            self.serial += 1
        self._keys = keys
        self._loaded_at = self._clock.monotonic()
        self.settled_until = self._loaded_at + RELOAD_SECONDS

    async def _due(self, keys: tuple[_Key, ...]) -> tuple[_Key, ...]:
        """Return the keys with what time has brought: a successor for an old one, and without those that are over."""
        now = self._clock.time()
        newest = keys[-1]
        if newest.key.algorithm != self.algorithm:
            keys = (*keys, _Key(await self._new_key(), now))
        elif newest.active_at + self._rotation_seconds - AHEAD_SECONDS <= now:
            keys = (*keys, _Key(await self._new_key(), now + AHEAD_SECONDS))
        return tuple(
            key
            for key, successor in zip(keys, (*keys[1:], None), strict=True)
            if successor is None or now < successor.active_at + self._overlap_seconds
        )

    async def _new_key(self) -> SigningKey:
        # In a thread: an RSA key takes a tenth of a second or more.
        return await sync_to_async(SigningKey, thread_sensitive=False)(self.algorithm, secrets.token_hex(8))

    def _created(self, key: _Key) -> None:
        self._audit.report(AuditEvent(action="key_created", key_id=key.key.key_id))


def _found(keys: tuple[VerifyingKey, ...]) -> tuple[VerifyingKey, ...]:
    if not keys:
        raise InvalidToken("unknown_key")
    return keys


def _signed(key: SigningKey, header: JSONObject, claims: JSONObject) -> str:
    return sign_jwt(key, {"alg": key.algorithm, "kid": key.key_id, **header}, claims)


def _dump(keys: Sequence[_Key]) -> bytes:
    return json.dumps([each.dump() for each in keys]).encode()


def _parse(data: bytes) -> tuple[_Key, ...]:
    return tuple(_Key(SigningKey.from_pem(each["pem"], each["kid"]), each["active_at"]) for each in json.loads(data))
