"""Makes keys from JWKs, PEMs and secrets, verifies and signs. The only module that imports jose.

Keys and signatures only: every check of claims, headers and policy is elsewhere (docs/adr/0005).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import load_pem_x509_certificate
from jose.backends import ECKey as JoseECKey
from jose.backends import HMACKey, RSAKey
from jose.exceptions import JOSEError

from ._json import decode_base64url, encode_base64url, is_absent, is_array, is_object
from ._signatures import ECKey, EdKey, PSSKey
from .errors import ConfigurationError

_BACKENDS = {
    getattr(each, "__module__", "").rpartition(".")[2] for each in (JoseECKey, HMACKey, RSAKey)
}
# Covered by tests/verifiers/test_backends.py, in another process.
if RSAKey is None or _BACKENDS - {"cryptography_backend"}:  # pragma: no cover (see above)
    # The pure-Python backends accept MD5 signatures under an RS256 header.
    raise ConfigurationError(
        "python-jose runs without cryptography: pip install 'python-jose[cryptography]'"
    )

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
MIN_SECRET_BYTES = 32
_PRIVATE_MEMBERS = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))

_PublicKey = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)


class UnusableKey(Exception):
    """A key cannot be used; the message gives the reason. It never leaves the package."""


class VerifyingKey(NamedTuple):
    """One key bound to one algorithm (RFC 8725 §3.1)."""

    key_id: str | None
    algorithm: str
    verify: Callable[[bytes, bytes], bool]
    material: bytes  # equal for one key that a set lists twice


class _Algorithm(NamedTuple):
    key_type: str
    curves: tuple[str, ...]
    key_class: Callable[[Any, str], Any]


_ALGORITHMS: Final[Mapping[str, _Algorithm]] = {
    "RS256": _Algorithm("RSA", (), RSAKey),
    "RS384": _Algorithm("RSA", (), RSAKey),
    "RS512": _Algorithm("RSA", (), RSAKey),
    "PS256": _Algorithm("RSA", (), PSSKey),
    "PS384": _Algorithm("RSA", (), PSSKey),
    "PS512": _Algorithm("RSA", (), PSSKey),
    "ES256": _Algorithm("EC", ("P-256",), ECKey),
    "ES384": _Algorithm("EC", ("P-384",), ECKey),
    "ES512": _Algorithm("EC", ("P-521",), ECKey),
    "ES256K": _Algorithm("EC", ("secp256k1",), ECKey),
    "EdDSA": _Algorithm("OKP", ("Ed25519", "Ed448"), EdKey),
    "Ed25519": _Algorithm("OKP", ("Ed25519",), EdKey),
    "Ed448": _Algorithm("OKP", ("Ed448",), EdKey),
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
    """Return one verifying key for each of ``algorithms`` that the JWK is suitable for.

    An optional member that is null, empty or of the wrong type counts as left out.

    Raises:
        UnusableKey: a member is missing or invalid, or the key is too weak, private, symmetric, or
            for another use.

    RFC 7517 §4; RFC 7518 §6; RFC 8037 §2.
    """
    if not is_object(jwk):
        raise UnusableKey("not an object")
    members = {name: value for name, value in jwk.items() if not is_absent(value)}
    key_id, use, operations, only = map(members.get, ("kid", "use", "key_ops", "alg"))
    if type(use) is str and use != "sig":
        raise UnusableKey("its use is not sig")
    if is_array(operations) and "verify" not in operations:
        raise UnusableKey("its key_ops do not include verify")
    if not _PRIVATE_MEMBERS.isdisjoint(members):
        raise UnusableKey("it is private or symmetric")
    public = _public_key_from(members)
    if type(only) is str:
        if only not in _ALGORITHMS:
            raise UnusableKey("its alg is not supported")
        algorithms = [each for each in algorithms if each == only]
    return _bind(public, key_id if type(key_id) is str else None, algorithms)


def keys_from_pem(pem: bytes, algorithms: Iterable[str]) -> list[VerifyingKey]:
    """Return one verifying key for each of ``algorithms`` that a PEM is suitable for.

    Raises:
        UnusableKey: the PEM is neither a public key nor a certificate, or the key is too weak.
    """
    try:
        if b"-----BEGIN CERTIFICATE-----" in pem:
            public: Any = load_pem_x509_certificate(pem).public_key()
        else:
            public = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        reason = "it is not a PEM public key; a shared secret needs algorithm='HS256'"
        if b"PRIVATE KEY-----" in pem:
            reason = "it is a private key: give the public one"
        raise UnusableKey(reason) from None
    if isinstance(public, rsa.RSAPublicKey):
        _check_rsa(public.public_numbers())
    return _bind(public, None, algorithms)


def keys_from_secret(secret: bytes, algorithms: Iterable[str]) -> list[VerifyingKey]:
    """Return one verifying key for each of the HMAC ``algorithms``.

    Raises:
        UnusableKey: the secret is too short, or a public key.
    """
    if len(secret) < MIN_SECRET_BYTES:
        raise UnusableKey(f"a shared secret needs at least {MIN_SECRET_BYTES} bytes")
    material = sha256(secret).digest()
    try:
        return [
            VerifyingKey(None, name, _ALGORITHMS[name].key_class(secret, name).verify, material)
            for name in algorithms
        ]
    except JOSEError:
        raise UnusableKey("it is a public key or certificate, not a shared secret") from None


def problem_of_secret(secret: str | None, algorithm: str) -> str | None:
    """Return why a shared secret cannot be used with an HMAC algorithm, ``None`` if it can.

    RFC 7518 §3.2; RFC 8725 §3.5.
    """
    shortest = int(algorithm[2:]) // 8
    if secret is None:
        return f"there is none; {algorithm} needs {shortest} bytes"
    if len(secret.encode()) < shortest:
        return f"it is too short; {algorithm} needs at least {shortest} bytes"
    try:
        keys_from_secret(secret.encode(), (algorithm,))
    except UnusableKey as error:
        return str(error)
    return None


def _bind(public: Any, key_id: str | None, algorithms: Iterable[str]) -> list[VerifyingKey]:
    if isinstance(public, rsa.RSAPublicKey):
        fit = {name for name, each in _ALGORITHMS.items() if each.key_type == "RSA"}
    else:
        curve = _curve_name(public)
        fit = {name for name, each in _ALGORITHMS.items() if curve in each.curves}
    material = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return [
        VerifyingKey(key_id, name, _ALGORITHMS[name].key_class(public, name).verify, material)
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
    key_type = members.get("kty")
    curve = str(members.get("crv"))
    try:
        if key_type == "RSA":
            numbers = rsa.RSAPublicNumbers(n=_integer(members, "n"), e=_integer(members, "e"))
            _check_rsa(numbers)
            return numbers.public_key()
        if key_type == "EC" and curve in _CURVES:
            size = (_CURVES[curve].key_size + 7) // 8
            x = _integer(members, "x", size)
            y = _integer(members, "y", size)
            return ec.EllipticCurvePublicNumbers(x, y, _CURVES[curve]).public_key()
        if key_type == "OKP" and curve == "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(_octets(members, "x"))
        if key_type == "OKP" and curve == "Ed448":
            return ed448.Ed448PublicKey.from_public_bytes(_octets(members, "x"))
    except ValueError:
        raise UnusableKey("its numbers are not a key") from None
    raise UnusableKey("its kty or crv is not supported")


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
        algorithm: one of the asymmetric algorithms.
        key_id: the ``kid`` of tokens and of the published JWK.
        key: a private key of ``cryptography``; ``None`` generates one.
    """

    def __init__(self, algorithm: str, key_id: str, key: Any = None) -> None:
        self.algorithm = algorithm
        self.key_id = key_id
        self._private = _generate(_ALGORITHMS[algorithm]) if key is None else key
        self._key = _ALGORITHMS[algorithm].key_class(self._private, algorithm)

    @classmethod
    def from_pem(cls, pem: str, key_id: str | None = None) -> SigningKey:
        """Return the key in an unencrypted PEM, bound to RS256, ES256 or EdDSA.

        Args:
            pem: the private key.
            key_id: its id; ``None`` makes one from a hash of the public key.

        Raises:
            UnusableKey: the PEM is not such a key, or the key is too weak.
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
            raise UnusableKey("it is not RSA, EC on P-256, or Ed25519")
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
        """Return the public key, for verification."""
        return _bind(self._private.public_key(), self.key_id, (self.algorithm,))[0]

    def public_jwk(self) -> dict[str, str]:
        """Return the public key as a JWK with kid, alg and use (RFC 7517 §4)."""
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
            numbers = public.public_numbers()
            size = (public.curve.key_size + 7) // 8
            return members | {
                "kty": "EC",
                "crv": curve,
                "x": _encode_integer(numbers.x, size),
                "y": _encode_integer(numbers.y, size),
            }
        return members | {
            "kty": "OKP",
            "crv": curve,
            "x": encode_base64url(public.public_bytes_raw()),
        }


def sign_jwt(key: SigningKey, header: Mapping[str, Any], claims: Mapping[str, Any] | bytes) -> str:
    """Return a JWS with any header and payload, valid or not (RFC 7515 §7.1)."""
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
    if curve == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ed448.Ed448PrivateKey.generate()


def _encode_integer(value: int, size: int | None = None) -> str:
    return encode_base64url(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))
