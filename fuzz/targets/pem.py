"""Key settings: PEM texts that no operator would write give a ConfigurationError and nothing
else.
"""

from __future__ import annotations

import base64
import json

from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from asgi_mcp_auth import ConfigurationError, InvalidToken, JWTVerifier
from asgi_mcp_auth._jose import ASYMMETRIC, SYMMETRIC
from asgi_mcp_auth._json import encode_base64url
from fuzz.inprocess import finish
from fuzz.keys import SECRET, SIGNERS

DICTIONARY: tuple[bytes, ...] = (
    *(
        b"-----BEGIN PUBLIC KEY-----\n",
        b"\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----BEGIN RSA PUBLIC KEY-----\n",
    ),
    *(
        b"-----BEGIN PRIVATE KEY-----\n",
        b"-----BEGIN EC PARAMETERS-----\n",
        b"\x30\x82",
        b"\x03\x02\x01",
        b"\x06\x07",
        b"\x05\x00",
        b"\x02\x01\x00",
    ),
    *(
        b"\x2a\x86\x48\xce\x3d\x02\x01",
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01",
        b"\x2b\x65\x70",
        b"\x2b\x65\x71",
        b"\x2a\x86\x48\xce\x38\x04\x01",
    ),
)
_PUBLIC = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def seeds() -> list[bytes]:
    """Return inputs: a byte for the wrapping, then DER (which is wrapped) or a whole PEM."""
    others = [
        ec.generate_private_key(ec.SECP224R1()),
        ec.generate_private_key(ec.BrainpoolP256R1()),
        rsa.generate_private_key(65537, 1024),  # noqa: S505 (a key that has to be refused)
        dsa.generate_private_key(1024),  # noqa: S505 (the same)
        x25519.X25519PrivateKey.generate(),
    ]
    privates = [*(signer._private for signer in SIGNERS.values()), *others]
    ders = [private.public_key().public_bytes(*_PUBLIC) for private in privates]
    pems = [
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for private in privates
    ]
    pems += [
        privates[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        SECRET,
        b"",
        b"-----BEGIN",
    ]
    pems += [privates[6].public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)]
    return [
        *(b"\0" + der for der in ders),
        *(b"\1" + der for der in ders),
        *(b"\2" + pem for pem in pems),
        b"\3" + SECRET,
    ]


def check(data: bytes) -> None:
    """Configure a verifier."""
    kind, rest = (data[0] if data else 0) % 4, data[1:]
    if kind < 2:
        label = (b"PUBLIC KEY", b"CERTIFICATE")[kind]
        rest = b"-----BEGIN %b-----\n%b-----END %b-----\n" % (
            label,
            base64.encodebytes(rest),
            label,
        )
    algorithm = "HS256" if kind == 3 else None
    try:
        verifier = JWTVerifier(
            public_key=rest, audience="https://mcp.example.com", algorithm=algorithm
        )
    except ConfigurationError:
        return
    reasons = {_refusal(verifier, token) for token in _FORGED}
    assert reasons <= {"signature", "unknown_key", "algorithm"}
    assert "signature" in reasons, "a verifier without a usable key was made"


def _forged(algorithm: str) -> str:
    header = encode_base64url(json.dumps({"alg": algorithm}).encode())
    return f"{header}.e30.{encode_base64url(bytes(64))}"


_FORGED = [_forged(algorithm) for algorithm in (*ASYMMETRIC, *SYMMETRIC)]


def _refusal(verifier: JWTVerifier, token: str) -> str:
    try:
        finish(verifier.verify(token))
    except InvalidToken as refusal:
        return refusal.reason
    raise AssertionError("a signature of zeros is valid")
