"""The keys that sign access tokens: created on first use, stored, shared by all workers, and
rotated with an overlap.

A new key is published before it signs, and an old one stays published until the last token that it
signed has expired.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, Self

from asgiref.sync import sync_to_async

from ..._cache import SingleFlight
from ..._jose import SigningKey, UnusableKey, VerifyingKey, sign_jwt
from ..._outage import Outage
from ...errors import ConfigurationError, InvalidToken, ServerUnavailable, UnreadableRecord
from ...keys import KeySet, KeySource
from ...stores import Store
from ...types import Clock, JSONObject
from ..audit import Audit, AuditEvent
from ..options import DAY, Lifetimes, ServerOptions
from ..records import Stored
from ..table import Kind, Outcome, Table

logger = logging.getLogger(__name__)

KEY_RING = "signing"  # the key of the one record
RELOAD_SECONDS = 60.0  # how old the keys in a process may be
COOLDOWN_SECONDS = 1.0  # between two reloads because of unknown keys
RETRY_SECONDS = 5.0  # between two reloads while the store is not responding
STALE_SECONDS = DAY  # how long loaded keys are used while the store is not responding
# How long a key is published before it signs: longer than others cache our key set.
AHEAD_SECONDS = 3600.0


class Signer(KeySource, Protocol):
    """Signs access tokens, and has the keys to verify them."""

    algorithm: str  # of new tokens

    async def ready(self) -> None:
        """Load a key unless there is one.

        Raises:
            ServerUnavailable: the store is not responding.
        """
        ...

    async def sign(self, header: JSONObject, claims: JSONObject) -> str:
        """Return a JWT."""
        ...

    async def jwks(self) -> JSONObject:
        """Return the public keys as a JWK set (RFC 7517 §5)."""
        ...

    async def rotate(self, *, retire: bool = False) -> None:
        """Sign with a new key from now on. ``retire`` drops the old keys, and so revokes all tokens
        that they signed.
        """
        ...


class StaticSigningKeys:
    """Signing keys from the settings; the first one signs.

    Args:
        pems: the private keys.

    Raises:
        ConfigurationError: a key cannot be used, or occurs twice.
    """

    def __init__(self, pems: Sequence[str]) -> None:
        self.version = 1
        self.fresh_until = math.inf
        try:
            self._keys = [SigningKey.from_pem(pem) for pem in pems]
        except UnusableKey as error:
            raise ConfigurationError(
                f"signing_keys has a key that cannot be used: {error}"
            ) from None
        if len({key.key_id for key in self._keys}) != len(self._keys):
            raise ConfigurationError("signing_keys has one key twice: keep one")
        self.algorithm = self._keys[0].algorithm
        self._set = KeySet(key.verifying_key() for key in self._keys)

    async def open(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do."""

    async def keys_for(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the key that the token names.

        Raises:
            InvalidToken: there is none.
        """
        return _checked(self._set.find(key_id, algorithm))

    async def ready(self) -> None:
        """Nothing to do."""

    async def sign(self, header: JSONObject, claims: JSONObject) -> str:
        """Return a JWT."""
        return _signed(self._keys[0], header, claims)

    async def jwks(self) -> JSONObject:
        """Return the public keys as a JWK set (RFC 7517 §5)."""
        return {"keys": [key.public_jwk() for key in self._keys]}

    async def rotate(self, *, retire: bool = False) -> None:
        """Refuse, because these keys are part of the settings.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(
            "signing_keys cannot be rotated here: put a new key in front of the list and restart"
        )


class TimedKey(NamedTuple):
    """A signing key, and when it begins to sign, in epoch seconds."""

    key: SigningKey
    active_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing(Stored):
    """The signing keys in the store, oldest first."""

    keys: tuple[TimedKey, ...] = field(default=(), repr=False)

    def dump(self) -> bytes:
        """Return the record as the store keeps it."""
        return json.dumps(
            [
                {"kid": each.key.key_id, "pem": each.key.pem(), "active_at": each.active_at}
                for each in self.keys
            ]
        ).encode()

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Return the record that ``dump`` wrote."""
        return cls(
            keys=tuple(
                TimedKey(SigningKey.from_pem(each["pem"], each["kid"]), each["active_at"])
                for each in json.loads(data)
            )
        )


KEYS: Final = Kind("keys", KeyRing, key="`signing`", lifetime="for ever")


class _Change(NamedTuple):
    before: tuple[TimedKey, ...]
    after: tuple[TimedKey, ...]


class StoredSigningKeys:
    """Signing keys in the store.

    Args:
        store: keeps them encrypted.
        clock: its wall clock decides which key signs, its monotonic clock when to reload.
        options: algorithm and rotation.
        lifetimes: of access tokens.
        audit: hears of new keys.
    """

    def __init__(
        self, store: Store, clock: Clock, options: ServerOptions, lifetimes: Lifetimes, audit: Audit
    ) -> None:
        self.version = 0
        self.fresh_until = -math.inf
        self._table = Table(store, KEYS, lambda _: None)
        self._clock = clock
        self.algorithm: str = options.signing_algorithm
        self._rotation_seconds = options.key_rotation_seconds
        self._overlap_seconds = lifetimes.access_token_seconds + RELOAD_SECONDS
        self._audit = audit
        self._keys: tuple[TimedKey, ...] = ()
        self._set = KeySet(())
        self._outage = Outage()  # of keys that cannot be decrypted
        self._loaded_at = -math.inf
        self._reload = SingleFlight(self._load)

    async def open(self) -> None:
        """Load the keys, or create the first one. If the store is down, the server starts
        anyway.
        """
        try:
            await self._reload()
        except ServerUnavailable:
            if self._outage.reason is None:
                logger.warning("The signing keys cannot be loaded yet: the store is not responding")

    async def aclose(self) -> None:
        """Cancel a reload under way."""
        await self._reload.aclose()

    async def keys_for(self, key_id: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """Return the key that the token names.

        Raises:
            InvalidToken: there is none.
            ServerUnavailable: there may be one, but the store is not responding.
        """
        await self.ready()
        found = self._set.find(key_id, algorithm)
        if not found and self._clock.monotonic() >= self._loaded_at + COOLDOWN_SECONDS:
            await self._reload()
            found = self._set.find(key_id, algorithm)
        return _checked(found)

    async def sign(self, header: JSONObject, claims: JSONObject) -> str:
        """Return a JWT.

        Raises:
            ServerUnavailable: the store is not responding, and no keys are loaded.
        """
        await self.ready()
        now = self._clock.time()
        usable = [each for each in self._keys if each.key.algorithm == self.algorithm]
        active = [each for each in usable if each.active_at <= now]
        return _signed(active[-1].key if active else usable[0].key, header, claims)

    async def jwks(self) -> JSONObject:
        """Return the public keys as a JWK set (RFC 7517 §5).

        Raises:
            ServerUnavailable: the store is not responding, and no keys are loaded.
        """
        await self.ready()
        return {"keys": [each.key.public_jwk() for each in self._keys]}

    async def rotate(self, *, retire: bool = False) -> None:
        """Sign with a new key from now on.

        Args:
            retire: drop the old keys, and so revoke all tokens that they signed. This also drops
                keys that cannot be decrypted.

        Raises:
            ServerUnavailable: the store is not responding, or its keys cannot be decrypted.
        """
        new = TimedKey(await self._new_key(), self._clock.time())

        async def add(keys: tuple[TimedKey, ...]) -> tuple[TimedKey, ...]:
            return (new,) if retire else (*keys, new)

        if retire:
            try:
                await self._table.get(KEY_RING)
            except UnreadableRecord:
                await self._table.delete(KEY_RING)
        await self._change(add)
        await self._load()

    async def ready(self) -> None:
        """Load the keys, unless they are fresh.

        Raises:
            ServerUnavailable: no keys are loaded, and the store is not responding or its keys
                cannot be decrypted.
        """
        if self._clock.monotonic() >= self.fresh_until:
            try:
                await self._reload()
            except ServerUnavailable:
                now = self._clock.monotonic()
                if self._keys and now >= self._loaded_at + STALE_SECONDS:
                    raise
                if self._keys or self._outage.reason is not None:
                    self.fresh_until = now + RETRY_SECONDS
        if not self._keys:
            raise ServerUnavailable

    async def _load(self) -> None:
        keys = await self._change(self._due)
        if [each.key.key_id for each in keys] != [each.key.key_id for each in self._keys]:
            self._set = KeySet(each.key.verifying_key() for each in keys)
            self.version += 1
        self._keys = keys
        self._loaded_at = self._clock.monotonic()
        self.fresh_until = self._loaded_at + RELOAD_SECONDS

    async def _change(
        self, change: Callable[[tuple[TimedKey, ...]], Awaitable[tuple[TimedKey, ...]]]
    ) -> tuple[TimedKey, ...]:
        """Change the keys in the store if necessary, and return them."""

        async def step(known: KeyRing | None) -> Outcome[KeyRing, _Change]:
            before = () if known is None else known.keys
            after = await change(before)
            # A worker that loses the race for the first key uses that of the winner.
            return Outcome(KeyRing(keys=after) if after else None, _Change(before, after))

        try:
            done = await self._table.retry(KEY_RING, step)
        except UnreadableRecord:
            raise self._undecryptable() from None
        for each in done.after:
            if each not in done.before:
                self._audit.report(AuditEvent(action="key_created", key_id=each.key.key_id))
        if done.after != done.before:
            self._outage.recovered()
        return done.after

    def _undecryptable(self) -> ServerUnavailable:
        if self._outage.failed("unreadable"):
            logger.error(
                "Cannot decrypt the signing keys in the store. If encryption_keys changed, append"
                " the old key to the list. If it is lost, await provider.admin.drop_unreadable()"
                " and then provider.admin.rotate_keys(retire=True): clients will have to register"
                " again, and users to sign in again"
            )
        return ServerUnavailable()

    async def _due(self, keys: tuple[TimedKey, ...]) -> tuple[TimedKey, ...]:
        """Return the keys that are due now: with a first one or a successor if one is needed, and
        without those that have expired.
        """
        now = self._clock.time()
        usable = [each for each in keys if each.key.algorithm == self.algorithm]
        if not usable:
            keys = (*keys, TimedKey(await self._new_key(), now))
        elif usable[-1].active_at + self._rotation_seconds - AHEAD_SECONDS <= now:
            keys = (*keys, TimedKey(await self._new_key(), now + AHEAD_SECONDS))
        return tuple(
            each
            for position, each in enumerate(keys)
            if now < self._ends_at(each, keys[position + 1 :])
        )

    def _ends_at(self, key: TimedKey, later: Sequence[TimedKey]) -> float:
        """Return until when tokens signed by a key may be valid."""
        successor = next((each for each in later if each.key.algorithm == key.key.algorithm), None)
        if successor is not None:
            return successor.active_at + self._overlap_seconds
        if key.key.algorithm == self.algorithm:
            return math.inf
        # Its algorithm is that of an earlier setting, or of workers that still have it.
        return key.active_at + self._rotation_seconds + self._overlap_seconds

    async def _new_key(self) -> SigningKey:
        # In a thread: an RSA key takes a tenth of a second or more.
        return await sync_to_async(SigningKey, thread_sensitive=False)(
            self.algorithm, secrets.token_hex(8)
        )


def _checked(keys: tuple[VerifyingKey, ...]) -> tuple[VerifyingKey, ...]:
    if not keys:
        raise InvalidToken("unknown_key")
    return keys


def _signed(key: SigningKey, header: JSONObject, claims: JSONObject) -> str:
    return sign_jwt(key, {"alg": key.algorithm, "kid": key.key_id, **header}, claims)
