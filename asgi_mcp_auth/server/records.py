"""Base class of the records in the store, and the secrets that name them. Pure.

No record holds a secret: codes, tokens and cookies are stored under their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import ClassVar, Self

from .._json import encode_base64url
from ..types import JSONObject


def new_secret() -> str:
    """Return 256 random bits as text of ``[A-Za-z0-9_-]``, which needs no escaping anywhere."""
    return secrets.token_urlsafe(32)


def hash_of(secret: str) -> str:
    """Return the key under which a secret is stored: its SHA-256.

    A secret of 256 random bits needs no slower hash.
    """
    return encode_base64url(hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest())


class Stored:
    """A record stored as JSON; its slots are its fields.

    Attributes:
        nested: the fields that are records themselves, with their classes.
    """

    __slots__: tuple[str, ...] = ()
    nested: ClassVar[Mapping[str, type[Stored]]] = {}

    def dump(self) -> bytes:
        """Return the record as the store keeps it."""
        return _encode(self).encode()

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Return the record that ``dump`` wrote, without members that this version has no field
        for.
        """
        return cls.of(_decode(data.decode()))

    @classmethod
    def of(cls, members: JSONObject) -> Self:
        """Return the record with these members."""
        fields = {name: members[name] for name in cls.__slots__ if name in members}
        for name, record in cls.nested.items():
            if fields.get(name) is not None:
                fields[name] = record.of(fields[name])
        return cls(**fields)


def _members(record: Stored) -> JSONObject:
    return {name: getattr(record, name) for name in record.__slots__}


_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_members).encode
