"""EncryptedStore: no engine sees a value in the clear. Kinds, keys, groups and lifetimes of records stay readable.

A stored value is ``key id (8 bytes) · nonce (12) · AES-256-GCM ciphertext and tag``. Kind and key of the record are its
associated data: a value that is moved to another record is as unreadable as one that was changed.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .._json import decode_base64url
from ..errors import ConfigurationError
from . import Record, Store

logger = logging.getLogger(__name__)

KEY_COMMAND = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'

_KEY_ID_BYTES = 8
_NONCE_BYTES = 12
_TAG_BYTES = 16

Unreadable: TypeAlias = Literal["truncated", "unknown_key", "tampered"]
_DAMAGED = "Somebody changed the store from outside, or it is damaged"
_REMEDIES: Mapping[Unreadable, str] = {
    "truncated": _DAMAGED,
    "unknown_key": "Its key is not in encryption_keys: put it back, behind the new one",
    "tampered": _DAMAGED,
}


class EncryptedStore:
    """Encrypts every value on its way into another store.

    A value that cannot be decrypted (another key, changed, moved, cut off) counts as no value: ``get`` and ``take``
    return ``None``, ``scan`` leaves it out. ``take`` removes it all the same: what is meant to be used once must not
    become usable again when a key comes back. ``add`` finds the place taken, so a replay stays a replay.

    Args:
        store: the engine.
        keys: what ``secrets.token_urlsafe(32)`` makes, one or several. The first encrypts, all of them decrypt: a new
            key goes in front, an old one leaves when nothing is encrypted with it any more.

    Raises:
        ConfigurationError: no key, or one of another form.
    """

    def __init__(self, store: Store, keys: Sequence[str]) -> None:
        if isinstance(keys, str) or not keys:
            raise ConfigurationError(f"encryption_keys must be a list of at least one key. Make one: {KEY_COMMAND}")
        self._secrets = tuple(map(parse_key, keys))
        self._ciphers: dict[bytes, AESGCM] = {}
        for secret in self._secrets:
            self._ciphers.setdefault(_subkey(secret, "key id", _KEY_ID_BYTES), AESGCM(_subkey(secret, "values", 32)))
        self._key_id = next(iter(self._ciphers))
        self._unreadable: Counter[Unreadable] = Counter()
        self._realm = ""
        self.inner = store

    def __repr__(self) -> str:
        return f"EncryptedStore({self.inner!r})"

    @property
    def unreadable(self) -> Mapping[Unreadable, int]:
        """How many values could not be decrypted, by cause; for health pages and tests."""
        return dict(self._unreadable)

    def derive(self, purpose: str) -> tuple[bytes, ...]:
        """Return a key of 32 bytes for another purpose, made from each encryption key, in their order."""
        return tuple(_subkey(secret, f"derived: {purpose}{self._realm}", 32) for secret in self._secrets)

    def within(self, realm: str) -> EncryptedStore:
        """Return this store as it is for one of several users of the engine: with records and derived keys of its own.

        Args:
            realm: names the user, the issuer of an authorization server for example.
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
        """Return the record, ``None`` when there is none that can be read."""
        ns += self._realm
        record = await self.inner.get(ns, key)
        if record is None:
            return None
        value = self._decrypt(ns, key, record.value)
        return None if value is None else Record(value, record.etag)

    async def put(self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None) -> None:
        """Write the record, whether or not there was one."""
        ns += self._realm
        await self.inner.put(ns, key, self._encrypt(ns, key, value), ttl=ttl, group=group)

    async def add(self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None) -> bool:
        """Write the record if there is none, readable or not; return whether this call wrote it."""
        ns += self._realm
        return await self.inner.add(ns, key, self._encrypt(ns, key, value), ttl=ttl, group=group)

    async def swap(self, ns: str, key: str, etag: int, value: bytes, *, ttl: float | None = None) -> bool:
        """Replace the version that ``etag`` names; return whether it was still that one. The group stays."""
        ns += self._realm
        return await self.inner.swap(ns, key, etag, self._encrypt(ns, key, value), ttl=ttl)

    async def take(self, ns: str, key: str) -> bytes | None:
        """Remove the record, readable or not, and return its value; of several callers one gets it."""
        ns += self._realm
        value = await self.inner.take(ns, key)
        return None if value is None else self._decrypt(ns, key, value)

    async def delete(self, ns: str, key: str) -> bool:
        """Remove the record, readable or not; return whether there was one."""
        return await self.inner.delete(ns + self._realm, key)

    async def sweep(self, limit: int = 500) -> int:
        """Remove expired records, as the engine does."""
        return await self.inner.sweep(limit)

    async def scan(
        self, ns: str, *, group: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[tuple[str, Record]]:
        """Return up to ``limit`` records that can be read; fewer only when there are no more."""
        ns += self._realm
        found: list[tuple[str, Record]] = []
        while len(found) < limit:
            wanted = limit - len(found)
            page = await self.inner.scan(ns, group=group, after=after, limit=wanted)
            for key, record in page:
                value = self._decrypt(ns, key, record.value)
                if value is not None:
                    found.append((key, Record(value, record.etag)))
            if len(page) < wanted:
                break
            after = page[-1][0]
        return found

    def _encrypt(self, ns: str, key: str, value: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self._key_id + nonce + self._ciphers[self._key_id].encrypt(nonce, value, _associated_data(ns, key))

    def _decrypt(self, ns: str, key: str, stored: bytes) -> bytes | None:
        cipher = self._ciphers.get(stored[:_KEY_ID_BYTES])
        cause: Unreadable
        if len(stored) < _KEY_ID_BYTES + _NONCE_BYTES + _TAG_BYTES:
            cause = "truncated"
        elif cipher is None:
            cause = "unknown_key"
        else:
            nonce, sealed = stored[_KEY_ID_BYTES:][:_NONCE_BYTES], stored[_KEY_ID_BYTES + _NONCE_BYTES :]
            try:
                return cipher.decrypt(nonce, sealed, _associated_data(ns, key))
            except InvalidTag:
                cause = "tampered"
        self._unreadable[cause] += 1
        if self._unreadable[cause] == 1:
            logger.warning(
                "A record of kind %s in %r cannot be decrypted (%s) and counts as absent. %s. This is said once",
                ns,
                self.inner,
                cause,
                _REMEDIES[cause],
                extra={"reason": cause},
            )
        return None


def parse_key(key: object) -> bytes:
    """Return the 32 bytes of an encryption key.

    Raises:
        ConfigurationError: it is anything else; the message does not repeat it.
    """
    try:
        secret = decode_base64url(key.encode()) if isinstance(key, str) else b""
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise ConfigurationError(f"An encryption key is 32 random bytes in base64url. Make one: {KEY_COMMAND}")
    return secret


def _subkey(secret: bytes, info: str, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=f"asgi-mcp-auth {info}".encode()).derive(secret)


def _associated_data(ns: str, key: str) -> bytes:
    # The length in front makes it unambiguous: ("a", "bc") is not ("ab", "c").
    kind = ns.encode("utf-8", "surrogatepass")
    return len(kind).to_bytes(4, "big") + kind + key.encode("utf-8", "surrogatepass")
