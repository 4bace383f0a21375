"""The only door to python-jose: JWK → key once, verify, sign; and the algorithms it lacks.

Keys and signatures only. Every claim, header and policy check is ours (docs/adr/0005).
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import load_pem_x509_certificate
from jose.backends import ECKey, HMACKey, RSAKey
from jose.backends.base import Key
from jose.exceptions import JOSEError

from ._json import decode_base64url, encode_base64url, is_array, is_object
from .errors import ConfigurationError

if (
    RSAKey is None
    or not {"cryptography_backend"}
    >= {each.__module__.rpartition(".")[2] for each in (ECKey, HMACKey, RSAKey)}
):  # pragma: no cover  # needs an installation without cryptography: tests/verifiers/test_backends.py runs one
    # The pure-Python backends accept MD5 signatures under an RS256 header.
    raise ConfigurationError(
        "python-jose runs without cryptography: pip install 'python-jose[cryptography]'"
    )

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
MIN_SECRET_BYTES = 32
_PRIVATE_MEMBERS = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))

_PublicKey = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)


class UnusableKey(Exception):
    """A key cannot be used here; the message says why. It never leaves the package."""


class VerifyingKey(NamedTuple):
    """One key bound to one algorithm (RFC 8725 §3.1)."""

    key_id: str | None
    algorithm: str
    verify: Callable[[bytes, bytes], bool]


class _ExtraKey(Key, ABC):
    """What the three algorithm families below share: the key and its algorithm."""

    def __init__(self, key: Any, algorithm: str) -> None:
        self.prepared_key = key
        self.algorithm = algorithm
        self.hash_algorithm = _HASHES.get(algorithm[-3:], hashes.SHA256())

    def verify(self, msg: bytes, sig: bytes) -> bool:
        """Return whether ``sig`` is the signature of ``msg``."""
        try:
            self._verify(msg, sig)
        except (InvalidSignature, ValueError):
            return False
        return True

    @abstractmethod
    def _verify(self, msg: bytes, sig: bytes) -> None:
        """Return if ``sig`` is the signature of ``msg``, else raise ``InvalidSignature`` or
        ``ValueError``.
        """


class _PSSKey(_ExtraKey):
    """PS256, PS384, PS512 (RFC 7518 §3.5: MGF1 with the same hash, salt as long as the hash)."""

    def _padding(self) -> padding.PSS:
        return padding.PSS(padding.MGF1(self.hash_algorithm), self.hash_algorithm.digest_size)

    def _verify(self, msg: bytes, sig: bytes) -> None:
        self.prepared_key.verify(sig, msg, self._padding(), self.hash_algorithm)

    def sign(self, msg: bytes) -> bytes:
        """Return the signature of ``msg``."""
        return bytes(self.prepared_key.sign(msg, self._padding(), self.hash_algorithm))


class _EdKey(_ExtraKey):
    """EdDSA (RFC 8037 §3.1) and its fully specified names Ed25519 and Ed448 (RFC 9864)."""

    def _verify(self, msg: bytes, sig: bytes) -> None:
        self.prepared_key.verify(sig, msg)

    def sign(self, msg: bytes) -> bytes:
        """Return the signature of ``msg``."""
        return bytes(self.prepared_key.sign(msg))


class _ECKey(_ExtraKey):
    """ES256, ES384, ES512 (RFC 7518 §3.4), for which jose makes objects anew each time; ES256K (RFC
    8812 §3.2).
    """

    def __init__(self, key: Any, algorithm: str) -> None:
        super().__init__(key, algorithm)
        self._half = (key.curve.key_size + 7) // 8
        self._ecdsa = ec.ECDSA(self.hash_algorithm)

    def _verify(self, msg: bytes, sig: bytes) -> None:
        half = self._half
        if len(sig) != 2 * half:
            raise InvalidSignature
        der = encode_dss_signature(
            int.from_bytes(sig[:half], "big"), int.from_bytes(sig[half:], "big")
        )
        self.prepared_key.verify(der, msg, self._ecdsa)

    def sign(self, msg: bytes) -> bytes:
        """Return the signature of ``msg``."""
        r, s = decode_dss_signature(self.prepared_key.sign(msg, self._ecdsa))
        return r.to_bytes(self._half, "big") + s.to_bytes(self._half, "big")


_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}


class _Algorithm(NamedTuple):
    key_type: str
    curves: tuple[str, ...]
    key_class: Callable[[Any, str], Any]


_ALGORITHMS: Final[Mapping[str, _Algorithm]] = {
    "RS256": _Algorithm("RSA", (), RSAKey),
    "RS384": _Algorithm("RSA", (), RSAKey),
    "RS512": _Algorithm("RSA", (), RSAKey),
    "PS256": _Algorithm("RSA", (), _PSSKey),
    "PS384": _Algorithm("RSA", (), _PSSKey),
    "PS512": _Algorithm("RSA", (), _PSSKey),
    "ES256": _Algorithm("EC", ("P-256",), _ECKey),
    "ES384": _Algorithm("EC", ("P-384",), _ECKey),
    "ES512": _Algorithm("EC", ("P-521",), _ECKey),
    "ES256K": _Algorithm("EC", ("secp256k1",), _ECKey),
    "EdDSA": _Algorithm("OKP", ("Ed25519", "Ed448"), _EdKey),
    "Ed25519": _Algorithm("OKP", ("Ed25519",), _EdKey),
    "Ed448": _Algorithm("OKP", ("Ed448",), _EdKey),
    "HS256": _Algorithm("oct", (), HMACKey),
    "HS384": _Algorithm("oct", (), HMACKey),
    "HS512": _Algorithm("oct", (), HMACKey),
}
ASYMMETRIC: Final = tuple(name for name, each in _ALGORITHMS.items() if each.key_type != "oct")
SYMMETRIC: Final = tuple(name for name, each in _ALGORITHMS.items() if each.key_type == "oct")

_CURVES: Final[Mapping[str, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "secp256k1": ec.SECP256K1(),
}
_CURVE_NAMES = {curve.name: name for name, curve in _CURVES.items()}


def keys_from_jwk(jwk: object, algorithms: Iterable[str]) -> list[VerifyingKey]:
    """Return one verifying key for each of ``algorithms`` that the JWK is fit for.

    Raises:
        UnusableKey: a member is missing or wrong, the key is too weak, private, symmetric, or meant
            for something else.

    RFC 7517 §4; RFC 7518 §6; RFC 8037 §2.
    """
    if not is_object(jwk):
        raise UnusableKey("not an object")
    members = jwk
    key_id = members.get("kid")
    if key_id is not None and type(key_id) is not str:
        raise UnusableKey("kid is not a string")
    if members.get("use", "sig") != "sig":
        raise UnusableKey("its use is not sig")
    operations = members.get("key_ops", ["verify"])
    if not is_array(operations) or "verify" not in operations:
        raise UnusableKey("its key_ops lack verify")
    if not _PRIVATE_MEMBERS.isdisjoint(members):
        raise UnusableKey("it is private or symmetric")
    public = _public_key_from(members)
    only = members.get("alg")
    if only is not None and str(only) not in _ALGORITHMS:
        raise UnusableKey("its alg is not known here")
    return _bind(
        public,
        key_id,
        algorithms if only is None else [each for each in algorithms if each == only],
    )


def keys_from_pem(pem: bytes, algorithms: Iterable[str]) -> list[VerifyingKey]:
    """Return one verifying key for each of ``algorithms`` that a PEM public key or certificate is
    fit for.

    Raises:
        UnusableKey: it is not such a PEM, or the key is too weak.
    """
    try:
        if b"-----BEGIN CERTIFICATE-----" in pem:
            public: Any = load_pem_x509_certificate(pem).public_key()
        else:
            public = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        private = b"PRIVATE KEY-----" in pem
        raise UnusableKey(
            "it is a private key: give the public one"
            if private
            else "it is not a PEM public key; a shared secret needs algorithm='HS256'"
        ) from None
    if isinstance(public, rsa.RSAPublicKey):
        _check_rsa(public.public_numbers())
    return _bind(public, None, algorithms)


def keys_from_secret(secret: bytes, algorithms: Iterable[str]) -> list[VerifyingKey]:
    """Return one verifying key for each of the HMAC ``algorithms``.

    Raises:
        UnusableKey: the secret is too short, or is a public key.
    """
    if len(secret) < MIN_SECRET_BYTES:
        raise UnusableKey(f"a shared secret needs at least {MIN_SECRET_BYTES} bytes")
    try:
        return [
            VerifyingKey(None, name, _ALGORITHMS[name].key_class(secret, name).verify)
            for name in algorithms
        ]
    except JOSEError:
        raise UnusableKey("it is a public key or certificate, not a shared secret") from None


def _bind(public: Any, key_id: str | None, algorithms: Iterable[str]) -> list[VerifyingKey]:
    if isinstance(public, rsa.RSAPublicKey):
        fit = {name for name, each in _ALGORITHMS.items() if each.key_type == "RSA"}
    else:
        curve = _curve_name(public)
        fit = {name for name, each in _ALGORITHMS.items() if curve in each.curves}
    return [
        VerifyingKey(key_id, name, _ALGORITHMS[name].key_class(public, name).verify)
        for name in algorithms
        if name in fit
    ]


def _curve_name(public: Any) -> str | None:
    if isinstance(public, ec.EllipticCurvePublicKey):
        return _CURVE_NAMES.get(public.curve.name)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return "Ed25519"
    return "Ed448" if isinstance(public, ed448.Ed448PublicKey) else None


def _public_key_from(members: Mapping[str, Any]) -> _PublicKey:
    key_type, curve = members.get("kty"), str(members.get("crv"))
    try:
        if key_type == "RSA":
            numbers = rsa.RSAPublicNumbers(n=_integer(members, "n"), e=_integer(members, "e"))
            _check_rsa(numbers)
            return numbers.public_key()
        if key_type == "EC" and curve in _CURVES:
            size = (_CURVES[curve].key_size + 7) // 8
            x, y = _integer(members, "x", size), _integer(members, "y", size)
            return ec.EllipticCurvePublicNumbers(x, y, _CURVES[curve]).public_key()
        if key_type == "OKP" and curve == "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(_octets(members, "x"))
        if key_type == "OKP" and curve == "Ed448":
            return ed448.Ed448PublicKey.from_public_bytes(_octets(members, "x"))
    except ValueError:
        raise UnusableKey("its numbers are not a key") from None
    raise UnusableKey("its kty or crv is not known here")


def _check_rsa(numbers: rsa.RSAPublicNumbers) -> None:
    if not MIN_RSA_BITS <= numbers.n.bit_length() <= MAX_RSA_BITS:
        raise UnusableKey(f"RSA keys have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
    if not 3 < numbers.e < 2**33 or numbers.e % 2 == 0:
        raise UnusableKey("its RSA exponent is not safe")


def _octets(members: Mapping[str, Any], name: str) -> bytes:
    value = members.get(name)
    if (
        type(value) is not str
        or len(value) > 2 * MAX_RSA_BITS // 8
        or not re.fullmatch(r"[\w-]+", value, re.ASCII)
    ):
        raise UnusableKey(f"its member {name} is missing or not base64url")
    return decode_base64url(value.encode("ascii"))


def _integer(members: Mapping[str, Any], name: str, size: int | None = None) -> int:
    octets = _octets(members, name)
    if size is not None and len(octets) != size:
        raise UnusableKey(f"its member {name} has the wrong length")  # RFC 7518 §6.2.1.2
    return int.from_bytes(octets, "big")


class SigningKey:
    """A private key bound to one algorithm.

    Args:
        algorithm: one of the asymmetric names.
        key_id: the ``kid`` that tokens and the published JWK carry.
        key: a private key of ``cryptography``; a new one is made when it is left out.
    """

    def __init__(self, algorithm: str, key_id: str, key: Any = None) -> None:
        self.algorithm = algorithm
        self.key_id = key_id
        self._private = _generate(_ALGORITHMS[algorithm]) if key is None else key
        self._key = _ALGORITHMS[algorithm].key_class(self._private, algorithm)

    @classmethod
    def from_pem(cls, pem: str, key_id: str | None = None) -> SigningKey:
        """Return the key in an unencrypted PEM, bound to RS256, ES256 or EdDSA; its id is a hash of
        its public half.

        Raises:
            UnusableKey: it is not such a PEM, or the key is too weak or of another kind.
        """
        try:
            private: Any = load_pem_private_key(pem.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
            raise UnusableKey("it is not an unencrypted PEM private key") from None
        public = private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            _check_rsa(public.public_numbers())
            algorithm: str | None = "RS256"
        else:
            algorithm = {"P-256": "ES256", "Ed25519": "EdDSA"}.get(_curve_name(public) or "")
        if algorithm is None:
            raise UnusableKey("it is neither RSA nor EC on P-256 nor Ed25519")
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return cls(algorithm, key_id or sha256(der).hexdigest()[:16], private)

    def pem(self) -> str:
        """Return the private key as an unencrypted PEM."""
        return str(
            self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "ascii"
        )

    def sign(self, signing_input: bytes) -> bytes:
        """Return the JWS signature of ``signing_input``."""
        return bytes(self._key.sign(signing_input))

    def verifying_key(self) -> VerifyingKey:
        """Return the public half, to verify with."""
        return _bind(self._private.public_key(), self.key_id, (self.algorithm,))[0]

    def public_jwk(self) -> dict[str, str]:
        """Return the public half as a JWK with kid, alg and use (RFC 7517 §4)."""
        members = {"kid": self.key_id, "alg": self.algorithm, "use": "sig"}
        public = self._private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            rsa_numbers = public.public_numbers()
            return members | {
                "kty": "RSA",
                "n": _encode_integer(rsa_numbers.n),
                "e": _encode_integer(rsa_numbers.e),
            }
        curve = _curve_name(public) or ""
        if isinstance(public, ec.EllipticCurvePublicKey):
            numbers, size = public.public_numbers(), (public.curve.key_size + 7) // 8
            x, y = _encode_integer(numbers.x, size), _encode_integer(numbers.y, size)
            return members | {"kty": "EC", "crv": curve, "x": x, "y": y}
        return members | {
            "kty": "OKP",
            "crv": curve,
            "x": encode_base64url(public.public_bytes_raw()),
        }


def sign_jwt(key: SigningKey, header: Mapping[str, Any], claims: Mapping[str, Any] | bytes) -> str:
    """Return a JWS of any header and any payload, also of impossible ones (RFC 7515 §7.1)."""
    payload = (
        claims if isinstance(claims, bytes) else json.dumps(claims, separators=(",", ":")).encode()
    )
    encoded_header = encode_base64url(json.dumps(header, separators=(",", ":")).encode())
    signing_input = f"{encoded_header}.{encode_base64url(payload)}"
    return f"{signing_input}.{encode_base64url(key.sign(signing_input.encode()))}"


def _generate(algorithm: _Algorithm) -> Any:
    if algorithm.key_type == "RSA":
        return rsa.generate_private_key(65537, MIN_RSA_BITS)
    curve = algorithm.curves[0]
    if curve in _CURVES:
        return ec.generate_private_key(_CURVES[curve])
    return (
        ed25519.Ed25519PrivateKey.generate()
        if curve == "Ed25519"
        else ed448.Ed448PrivateKey.generate()
    )


def _encode_integer(value: int, size: int | None = None) -> str:
    return encode_base64url(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))
