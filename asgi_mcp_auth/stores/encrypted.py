"""Encrypts the values in a store. Kinds, keys, groups and lifetimes of records stay readable.

A stored value is ``key id (8 bytes) · nonce (12) · AES-256-GCM ciphertext and tag``. The record's
kind and key are the associated data; its expiry and its group are encrypted in front of the value.
So a value moved to another record or group cannot be decrypted, and none outlives its expiry.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import logging
import math
import secrets
import struct
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Literal, NamedTuple, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .._json import decode_base64url
from ..errors import ConfigurationError, UnreadableRecord
from ..types import Clock
from . import Record, Store

logger = logging.getLogger(__name__)

KEY_COMMAND = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'

_KEY_ID_BYTES = 8
_NONCE_BYTES = 12
_TAG_BYTES = 16
# The expiry in epoch seconds, and the length of the group that follows.
_TERMS = struct.Struct(">dI")
_NO_GROUP = 0xFFFF_FFFF
_ANY_GROUP: Final = object()

CLOCK_SECONDS = 300
"""How far the clocks of hosts may differ: a record is readable for this long after its expiry."""

Unreadable: TypeAlias = Literal["truncated", "unknown_key", "tampered"]
_DAMAGED = "The store was modified from outside, or is damaged"
_REMEDIES: Mapping[Unreadable, str] = {
    "truncated": _DAMAGED,
    "unknown_key": (
        "Its key is missing from encryption_keys: append it to the list; or, if it is lost for"
        " good, await provider.admin.drop_unreadable()"
    ),
    "tampered": _DAMAGED,
}


class _Cipher(NamedTuple):
    aes: AESGCM
    # Whether expiry and group precede the value, as in all values written by this version.
    has_terms: bool


class EncryptedStore:
    """Encrypts the values of another store.

    A value that cannot be decrypted (another key, or modified, moved, truncated) does not count as
    absent: ``get`` and ``take`` raise ``UnreadableRecord``, a ``ServerUnavailable``; ``scan`` skips
    it. ``take`` removes it nevertheless, so that a one-time value is not usable again once the key
    is back. ``add`` does not replace it, so that a replay is still detected.

    Args:
        store: the engine.
        keys: one or several keys made by ``secrets.token_urlsafe(32)``. The first encrypts, all of
            them decrypt: put a new key in front, and remove an old one when nothing is encrypted
            with it any more.
        clock: its wall clock sets and checks the expiry of records.

    Raises:
        ConfigurationError: no key, or an invalid one.
    """

    def __init__(self, store: Store, keys: Sequence[str], *, clock: Clock = time) -> None:
        if isinstance(keys, str) or not keys:
            raise ConfigurationError(
                f"encryption_keys must be a list of at least one key. Make one: {KEY_COMMAND}"
            )
        self._secrets = tuple(map(parse_key, keys))
        self._clock = clock
        self._ciphers: dict[bytes, _Cipher] = {}
        for secret in self._secrets:
            # The first versions wrote values without terms. They have a key of their own, so that
            # neither kind can be passed off as the other.
            for has_terms, suffix in ((True, " with terms"), (False, "")):
                cipher = _Cipher(AESGCM(_subkey(secret, f"values{suffix}", 32)), has_terms)
                self._ciphers.setdefault(_subkey(secret, f"key id{suffix}", _KEY_ID_BYTES), cipher)
        self._key_id = next(iter(self._ciphers))
        self._unreadable: Counter[Unreadable] = Counter()
        self._realm = ""
        self.inner = store

    def __repr__(self) -> str:
        return f"EncryptedStore({self.inner!r})"

    @property
    def unreadable(self) -> Mapping[Unreadable, int]:
        """Number of values that could not be decrypted, by cause; for health pages and tests."""
        return dict(self._unreadable)

    def derive(self, purpose: str) -> tuple[bytes, ...]:
        """Return a key of 32 bytes for another purpose for each encryption key, in order."""
        return tuple(
            _subkey(secret, f"derived: {purpose}{self._realm}", 32) for secret in self._secrets
        )

    def scoped_to(self, realm: str) -> EncryptedStore:
        """Return a store in the same engine with separate records and derived keys.

        Args:
            realm: identifies its user, such as the issuer of an authorization server.
        """
        scoped = copy.copy(self)
        scoped._realm = f"@{hashlib.sha256(realm.encode()).hexdigest()[:12]}"
        return scoped

    async def open(self) -> None:
        """Open the engine."""
        await self.inner.open()

    async def aclose(self) -> None:
        """Close the engine."""
        await self.inner.aclose()

    async def get(self, ns: str, key: str) -> Record | None:
        """Return the record, or ``None``.

        Raises:
            UnreadableRecord: the record cannot be decrypted.
        """
        ns += self._realm
        record = await self.inner.get(ns, key)
        return None if record is None else self._open_record(ns, key, record)

    async def put(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> None:
        """Write the record, replacing any other."""
        ns += self._realm
        await self.inner.put(ns, key, self._seal(ns, key, value, ttl, group), ttl=ttl, group=group)

    async def add(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> bool:
        """Write the record if there is none, readable or not; return whether this call wrote it."""
        ns += self._realm
        return await self.inner.add(
            ns, key, self._seal(ns, key, value, ttl, group), ttl=ttl, group=group
        )

    async def swap(
        self, ns: str, key: str, known: Record, value: bytes, *, ttl: float | None = None
    ) -> bool:
        """Replace the record if it is still ``known``; return whether it was. The group stays."""
        ns += self._realm
        return await self.inner.swap(
            ns, key, known, self._seal(ns, key, value, ttl, known.group), ttl=ttl
        )

    async def take(self, ns: str, key: str) -> bytes | None:
        """Remove the record, readable or not, and return its value, to one caller only.

        Raises:
            UnreadableRecord: the record could not be decrypted.
        """
        ns += self._realm
        stored = await self.inner.take(ns, key)
        if stored is None:
            return None
        return self._open(ns, key, stored, group=_ANY_GROUP)

    async def delete(self, ns: str, key: str) -> bool:
        """Remove the record, readable or not; return whether there was one."""
        return await self.inner.delete(ns + self._realm, key)

    async def sweep(self, limit: int = 500) -> int:
        """Remove expired records, as the engine does."""
        return await self.inner.sweep(limit)

    async def scan(
        self, ns: str, *, group: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[tuple[str, Record]]:
        """Return up to ``limit`` readable records; fewer only if there are no more."""
        ns += self._realm
        found: list[tuple[str, Record]] = []
        while len(found) < limit:
            wanted = limit - len(found)
            page = await self.inner.scan(ns, group=group, after=after, limit=wanted)
            for key, stored in page:
                with suppress(UnreadableRecord):
                    record = self._open_record(ns, key, stored)
                    if record is not None:
                        found.append((key, record))
            if len(page) < wanted:
                break
            after = page[-1][0]
        return found

    async def drop_unreadable(self, ns: str) -> int:
        """Remove the records of a kind that cannot be decrypted, and return how many."""
        dropped = 0
        after: str | None = None
        while page := await self.inner.scan(ns + self._realm, after=after):
            for key, stored in page:
                try:
                    self._open_record(ns + self._realm, key, stored)
                except UnreadableRecord:
                    dropped += await self.delete(ns, key)
            after = page[-1][0]
        return dropped

    def _seal(self, ns: str, key: str, value: bytes, ttl: float | None, group: str | None) -> bytes:
        expires_at = math.inf if ttl is None else self._clock.time() + ttl
        if group is None:
            terms = _TERMS.pack(expires_at, _NO_GROUP)
        else:
            name = group.encode("utf-8", "surrogatepass")
            terms = _TERMS.pack(expires_at, len(name)) + name
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[self._key_id].aes.encrypt(
            nonce, terms + value, _associated_data(ns, key)
        )
        return self._key_id + nonce + sealed

    def _open_record(self, ns: str, key: str, stored: Record) -> Record | None:
        group = None if stored.group is None else stored.group.encode("utf-8", "surrogatepass")
        value = self._open(ns, key, stored.value, group)
        return None if value is None else Record(value, stored.etag, stored.group)

    def _open(self, ns: str, key: str, stored: bytes, group: bytes | object | None) -> bytes | None:
        """Return the value in a stored one, or ``None`` if it has expired.

        Args:
            ns: kind of the record.
            key: its key.
            stored: the stored value.
            group: the group it was found in, or ``_ANY_GROUP``.

        Raises:
            UnreadableRecord: the value cannot be decrypted, or belongs to another record.
        """
        cipher = self._ciphers.get(stored[:_KEY_ID_BYTES])
        if len(stored) < _KEY_ID_BYTES + _NONCE_BYTES + _TAG_BYTES:
            raise self._unreadable_record(ns, "truncated")
        if cipher is None:
            raise self._unreadable_record(ns, "unknown_key")
        nonce = stored[_KEY_ID_BYTES : _KEY_ID_BYTES + _NONCE_BYTES]
        sealed = stored[_KEY_ID_BYTES + _NONCE_BYTES :]
        try:
            data = cipher.aes.decrypt(nonce, sealed, _associated_data(ns, key))
        except InvalidTag:
            raise self._unreadable_record(ns, "tampered") from None
        if not cipher.has_terms:
            return data
        expires_at, length = _TERMS.unpack_from(data)
        begin = _TERMS.size
        written: bytes | None = None
        if length != _NO_GROUP:
            begin += length
            written = data[_TERMS.size : begin]
        if group is not _ANY_GROUP and group != written:
            raise self._unreadable_record(ns, "tampered")
        return None if self._clock.time() >= expires_at + CLOCK_SECONDS else data[begin:]

    def _unreadable_record(self, ns: str, cause: Unreadable) -> UnreadableRecord:
        self._unreadable[cause] += 1
        if self._unreadable[cause] == 1:
            logger.warning(
                "A record of kind %s in %r cannot be decrypted (%s): requests that need it get 503."
                " %s. This is logged once",
                ns,
                self.inner,
                cause,
                _REMEDIES[cause],
                extra={"reason": cause},
            )
        return UnreadableRecord()


def parse_key(key: object) -> bytes:
    """Return the 32 bytes of an encryption key.

    Raises:
        ConfigurationError: the key is invalid. The message does not repeat it.
    """
    try:
        secret = decode_base64url(key.encode()) if isinstance(key, str) else b""
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise ConfigurationError(
            f"An encryption key is 32 random bytes in base64url. Make one: {KEY_COMMAND}"
        )
    return secret


def _subkey(secret: bytes, info: str, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=f"asgi-mcp-auth {info}".encode()).derive(secret)


def _associated_data(ns: str, key: str) -> bytes:
    return _kind(ns) + key.encode("utf-8", "surrogatepass")


@functools.lru_cache(256)
def _kind(ns: str) -> bytes:
    # The length in front tells ("a", "bc") from ("ab", "c").
    kind = ns.encode("utf-8", "surrogatepass")
    return len(kind).to_bytes(4, "big") + kind
