"""Signs JWTs with the committed test keys. RS256 and HS256 give the same bytes every time."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

KEYS = Path(__file__).parent / "keys"


def private_pem(name: str) -> str:
    """Return a committed private key."""
    return (KEYS / f"{name}.pem").read_text()


def public_jwk(name: str, **members: str) -> dict[str, str]:
    """Return the public half of a committed RSA key."""
    numbers = _rsa_key(name).public_key().public_numbers()
    usual = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": name}
    return {**usual, "n": _encode_number(numbers.n), "e": _encode_number(numbers.e), **members}


def sign(key: str, claims: Any, **header: Any) -> str:
    """Return a JWT signed with RS256; ``None`` leaves a member of the header or a claim out."""
    signed = _signing_input({"alg": "RS256", "kid": key, "typ": "at+jwt", **header}, claims)
    return f"{signed}.{_encode(_rsa_key(key).sign(signed.encode(), PKCS1v15(), SHA256()))}"


def sign_symmetric(secret: str, claims: Mapping[str, Any], **header: Any) -> str:
    """Return a JWT signed with HS256."""
    signed = _signing_input({"alg": "HS256", "typ": "at+jwt", **header}, claims)
    return f"{signed}.{_encode(hmac.digest(secret.encode(), signed.encode(), 'sha256'))}"


def unsigned(claims: Mapping[str, Any]) -> str:
    """Return a JWT with ``alg`` ``none``."""
    return _signing_input({"alg": "none", "typ": "at+jwt"}, claims) + "."


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a PKCE verifier."""
    return _encode(hashlib.sha256(verifier.encode()).digest())


@functools.cache
def _rsa_key(name: str) -> RSAPrivateKey:
    key = load_pem_private_key(private_pem(name).encode(), None)
    assert isinstance(key, RSAPrivateKey)
    return key


def _signing_input(header: Mapping[str, Any], claims: Any) -> str:
    return f"{_encode_json(header)}.{_encode_json(claims)}"


def _encode_json(members: Any) -> str:
    given = members
    if isinstance(members, Mapping):
        given = {name: value for name, value in members.items() if value is not None}
    return _encode(json.dumps(given, separators=(",", ":")).encode())


def _encode_number(number: int) -> str:
    return _encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
