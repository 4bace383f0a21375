"""Signing keys for fuzz targets: the same at every start where that is possible, so that findings
can be replayed.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519

from asgi_mcp_auth._jose import SigningKey

_NUMBER = int.from_bytes(b"fuzzing keys protect nothing ...", "big")

SIGNERS = {
    "ES256": SigningKey("ES256", "es256", ec.derive_private_key(_NUMBER, ec.SECP256R1())),
    "ES384": SigningKey("ES384", "es384", ec.derive_private_key(_NUMBER, ec.SECP384R1())),
    "ES512": SigningKey("ES512", "es512", ec.derive_private_key(_NUMBER, ec.SECP521R1())),
    "ES256K": SigningKey("ES256K", "es256k", ec.derive_private_key(_NUMBER, ec.SECP256K1())),
    "EdDSA": SigningKey(
        "EdDSA", "eddsa", ed25519.Ed25519PrivateKey.from_private_bytes(_NUMBER.to_bytes(32, "big"))
    ),
    "Ed448": SigningKey(
        "Ed448", "ed448", ed448.Ed448PrivateKey.from_private_bytes(_NUMBER.to_bytes(57, "big"))
    ),
    "RS256": SigningKey("RS256", "rs256"),  # RSA keys cannot be derived from a number
    "PS384": SigningKey("PS384", "ps384"),
}
SECRET = b"a shared secret of thirty-two bytes, or more"
