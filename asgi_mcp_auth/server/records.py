"""Records and their form in the store. Pure.

No record holds a secret: codes, tokens and cookies are stored under their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Self

from .._json import encode_base64url
from ..types import JSONObject


def new_secret() -> str:
    """Return 256 random bits as text of ``[A-Za-z0-9_-]``, which every client can send in every
    place.
    """
    return secrets.token_urlsafe(32)


def hash_of(secret: str) -> str:
    """Return the name under which a secret is remembered: its SHA-256. Of 256 random bits no slower
    hash is needed.
    """
    return encode_base64url(hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest())


class Stored:
    """A record that goes into the store as JSON; its slots are its fields."""

    __slots__: tuple[str, ...] = ()

    def dump(self) -> bytes:
        """Return the record as the store keeps it."""
        return _encode(self).encode()

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Return the record that ``dump`` wrote; members of another version are left out."""
        return cls.of(_decode(data.decode()))

    @classmethod
    def of(cls, members: JSONObject) -> Self:
        """Return the record with these members."""
        return cls(**{name: members[name] for name in cls.__slots__ if name in members})


def _members(record: Stored) -> JSONObject:
    return {name: getattr(record, name) for name in record.__slots__}


_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_members).encode
