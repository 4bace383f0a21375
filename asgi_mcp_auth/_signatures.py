"""Signature algorithms that python-jose lacks, and ECDSA, for which it makes objects for each call.

The classes have the methods of jose's keys that we use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}


class _Key(ABC):
    """A public or private key of ``cryptography``, bound to an algorithm."""

    def __init__(self, key: Any, algorithm: str) -> None:
        self._key = key
        self._hash = _HASHES.get(algorithm[-3:], hashes.SHA256())

    def verify(self, msg: bytes, sig: bytes) -> bool:
        """Return whether ``sig`` is the signature of ``msg``."""
        try:
            self._verify(msg, sig)
        except (InvalidSignature, ValueError):
            return False
        return True

    @abstractmethod
    def _verify(self, msg: bytes, sig: bytes) -> None:
        """Raise ``InvalidSignature`` or ``ValueError`` unless ``sig`` matches ``msg``."""

    @abstractmethod
    def sign(self, msg: bytes) -> bytes:
        """Return the signature of ``msg``."""


class PSSKey(_Key):
    """PS256, PS384, PS512 (RFC 7518 §3.5: MGF1 with the same hash, salt as long as the hash)."""

    def _padding(self) -> padding.PSS:
        return padding.PSS(padding.MGF1(self._hash), self._hash.digest_size)

    def _verify(self, msg: bytes, sig: bytes) -> None:
        # As long as the modulus (RFC 8017 §8.1.2): OpenSSL takes one without its leading zeros, so
        # two texts would be the same token.
        if len(sig) != (self._key.key_size + 7) // 8:
            raise InvalidSignature
        self._key.verify(sig, msg, self._padding(), self._hash)

    def sign(self, msg: bytes) -> bytes:
        """Return the signature of ``msg``."""
        return bytes(self._key.sign(msg, self._padding(), self._hash))


class EdKey(_Key):
    """EdDSA (RFC 8037 §3.1) and its fully specified names Ed25519 and Ed448 (RFC 9864)."""

    def _verify(self, msg: bytes, sig: bytes) -> None:
        self._key.verify(sig, msg)

    def sign(self, msg: bytes) -> bytes:
        """Return the signature of ``msg``."""
        return bytes(self._key.sign(msg))


class ECKey(_Key):
    """ES256, ES384, ES512 (RFC 7518 §3.4) and ES256K (RFC 8812 §3.2)."""

    def __init__(self, key: Any, algorithm: str) -> None:
        super().__init__(key, algorithm)
        self._half = (key.curve.key_size + 7) // 8
        self._ecdsa = ec.ECDSA(self._hash)

    def _verify(self, msg: bytes, sig: bytes) -> None:
        half = self._half
        if len(sig) != 2 * half:
            raise InvalidSignature
        r = int.from_bytes(sig[:half], "big")
        s = int.from_bytes(sig[half:], "big")
        self._key.verify(encode_dss_signature(r, s), msg, self._ecdsa)

    def sign(self, msg: bytes) -> bytes:
        """Return the signature of ``msg``."""
        r, s = decode_dss_signature(self._key.sign(msg, self._ecdsa))
        return r.to_bytes(self._half, "big") + s.to_bytes(self._half, "big")
