"""Elliptic curve signatures: RFC 8037, fully specified names (RFC 9864), ES256K (RFC 8812)."""

from __future__ import annotations

import pytest

from asgi_mcp_auth._jose import UnusableKey, keys_from_jwk
from asgi_mcp_auth._json import decode_base64url
from tests.support.gate import Gate, signing_key
from tests.support.rows import rows

JWK = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
SIGNED = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
SIGNATURE = (
    b"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)


def test_the_printed_signature_verifies() -> None:
    """Appendix A.4 and A.5."""
    eddsa, ed25519 = keys_from_jwk(JWK, ["EdDSA", "Ed25519", "Ed448", "ES256"])
    assert (eddsa.algorithm, ed25519.algorithm) == ("EdDSA", "Ed25519")
    raw = decode_base64url(SIGNATURE)
    for key in (eddsa, ed25519):
        assert key.verify(SIGNED, raw)
        assert not key.verify(SIGNED + b"A", raw)
        for wrong in (raw[:-1], raw + b"\0", b"", raw[32:] + raw[:32], bytes(64)):
            assert not key.verify(SIGNED, wrong)


def test_a_private_key_is_not_for_verifying() -> None:
    """Section 2: d is there for private keys and MUST NOT be there for public ones."""
    with pytest.raises(UnusableKey, match="private"):
        keys_from_jwk({**JWK, "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}, ["EdDSA"])


@rows("curve", ["X25519", "X448", "ed25519", "Ed25519 ", ""])
def test_other_curves_do_not_sign(curve: str) -> None:
    """Section 3.1: EdDSA is for Ed25519 and Ed448."""
    with pytest.raises(UnusableKey):
        keys_from_jwk({**JWK, "crv": curve}, ["EdDSA", "Ed25519", "Ed448"])


@rows(
    ("key_algorithm", "names"),
    [("Ed25519", {"EdDSA", "Ed25519"}), ("Ed448", {"EdDSA", "Ed448"})],
)
@rows("name", ["EdDSA", "Ed25519", "Ed448"])
@pytest.mark.asyncio
async def test_a_fully_specified_name_goes_with_its_curve_and_eddsa_with_both(
    key_algorithm: str, names: set[str], name: str
) -> None:
    """RFC 9864 section 2.2."""
    jwk = {
        each: value
        for each, value in signing_key(key_algorithm).public_jwk().items()
        if each != "alg"
    }
    gate = Gate(algorithm=key_algorithm, public_key=jwk)
    token = gate.forge(header={"alg": name})
    if name in names:
        await gate.accepts(token)
    else:
        await gate.refuses(token, "unknown_key")


@pytest.mark.asyncio
async def test_es256k_is_ecdsa_on_secp256k1() -> None:
    """RFC 8812 section 3.2: SHA-256, and 32 octets each for r and s."""
    gate = Gate(algorithm="ES256K")
    assert gate.key.public_jwk()["crv"] == "secp256k1"
    access = await gate.accepts(gate.good())
    assert len(decode_base64url(access.token.rpartition(".")[2].encode())) == 64
    await gate.refuses(gate.forge(header={"alg": "ES256"}), "unknown_key")
