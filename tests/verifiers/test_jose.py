"""Keys at the edge of what is accepted: one bit, one byte, one member to each side."""

from __future__ import annotations

import base64
import functools
import re
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from asgi_mcp_auth._jose import (
    ASYMMETRIC,
    SYMMETRIC,
    SigningKey,
    UnusableKey,
    VerifyingKey,
    keys_from_jwk,
    keys_from_pem,
    keys_from_secret,
    problem_of_secret,
)
from asgi_mcp_auth._json import decode_base64url, encode_base64url
from tests.support.rows import rows
from tests.tables.jwk_members import HARMLESS, unusable

MESSAGE = b"header.payload"
EC_BYTES = {"ES256": 32, "ES384": 48, "ES512": 66, "ES256K": 32}
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "ES256K": "secp256k1"}
HASHES = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
    "56K": hashes.SHA256(),
}


@functools.cache
def signer(algorithm: str) -> SigningKey:
    return SigningKey(algorithm, "one")


def integer(value: int) -> str:
    return encode_base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def rsa_jwk(n: int, e: int = 65537) -> dict[str, Any]:
    return {"kty": "RSA", "n": integer(n), "e": integer(e)}


def odd(bits: int) -> int:
    return (1 << (bits - 1)) | 1


def names(keys: list[VerifyingKey]) -> list[str]:
    return [key.algorithm for key in keys]


def pem_of(private: Any) -> bytes:
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert isinstance(public, bytes)
    return public


def test_the_algorithms_are_these() -> None:
    assert (
        *(
            "RS256",
            "RS384",
            "RS512",
            "PS256",
            "PS384",
            "PS512",
            "ES256",
            "ES384",
            "ES512",
            "ES256K",
        ),
        *("EdDSA", "Ed25519", "Ed448"),
    ) == ASYMMETRIC
    assert SYMMETRIC == ("HS256", "HS384", "HS512")


@rows(("bits", "usable"), [(2047, False), (2048, True), (8192, True), (8193, False)])
def test_rsa_keys_have_2048_to_8192_bits(bits: int, usable: bool) -> None:
    if usable:
        assert names(keys_from_jwk(rsa_jwk(odd(bits)), ["RS256"])) == ["RS256"]
    else:
        with pytest.raises(UnusableKey, match="2048 to 8192 bits"):
            keys_from_jwk(rsa_jwk(odd(bits)), ["RS256"])


@rows(
    ("exponent", "usable"),
    [
        *(
            (1, False),
            (2, False),
            (3, False),
            (4, False),
            (5, True),
            (7, True),
            (65536, False),
            (65537, True),
        ),
        *(
            (2**32 + 1, True),
            (2**33 - 1, True),
            (2**33, False),
            (2**33 + 1, False),
            (2**64 + 1, False),
        ),
    ],
)
def test_rsa_exponents_are_odd_and_neither_tiny_nor_huge(exponent: int, usable: bool) -> None:
    if usable:
        assert keys_from_jwk(rsa_jwk(odd(2048), exponent), ["RS256"])
    else:
        with pytest.raises(UnusableKey, match="exponent"):
            keys_from_jwk(rsa_jwk(odd(2048), exponent), ["RS256"])


@rows(("length", "usable"), [(4, True), (2048, True), (2050, False), (2051, False), (2052, False)])
def test_a_number_is_spelled_with_at_most_2048_characters(length: int, usable: bool) -> None:
    octets = (65537).to_bytes(length * 3 // 4, "big")
    jwk = {**rsa_jwk(odd(2048)), "e": encode_base64url(octets)}
    assert len(jwk["e"]) == length
    if usable:
        assert keys_from_jwk(jwk, ["RS256"])
    else:
        with pytest.raises(UnusableKey, match="member e"):
            keys_from_jwk(jwk, ["RS256"])


@rows("value", [None, 1, "", "A+", "A=", "AQAB\n", "é", ["AQAB"], {}])
@rows(
    ("algorithm", "member"),
    [
        ("RS256", "n"),
        ("RS256", "e"),
        ("ES256", "x"),
        ("ES256", "y"),
        ("Ed448", "x"),
        ("Ed25519", "x"),
    ],
)
def test_a_number_that_is_not_base64url_makes_the_key_unusable(
    algorithm: str, member: str, value: Any
) -> None:
    with pytest.raises(UnusableKey, match=f"member {member} is missing or not base64url"):
        keys_from_jwk({**signer(algorithm).public_jwk(), member: value}, [algorithm])


@rows("algorithm", [*EC_BYTES, "Ed25519", "Ed448"])
@rows("change", ["shorter", "longer", "leading zero"])
def test_coordinates_have_exactly_the_length_of_the_curve(algorithm: str, change: str) -> None:
    jwk = signer(algorithm).public_jwk()
    octets = decode_base64url(jwk["x"].encode())
    changed = {"shorter": octets[:-1], "longer": octets + b"\0", "leading zero": b"\0" + octets}[
        change
    ]
    with pytest.raises(UnusableKey):
        keys_from_jwk({**jwk, "x": encode_base64url(changed)}, [algorithm])


@rows(("jwk", "why"), unusable(signer("ES256").public_jwk(), signer("RS256").public_jwk()))
def test_a_key_whose_members_forbid_it_or_do_not_fit_is_unusable(jwk: Any, why: str) -> None:
    with pytest.raises(UnusableKey, match=why):
        keys_from_jwk(jwk, ASYMMETRIC)


@rows(
    ("member", "value"),
    [*HARMLESS, *(("kid", each) for each in (None, "", [], 1, False, ["x"], "x"))],
)
def test_a_member_that_allows_it_leaves_the_key_usable(member: str, value: Any) -> None:
    (key,) = keys_from_jwk({**signer("ES256").public_jwk(), member: value}, ["ES256"])
    assert key.algorithm == "ES256"
    assert key.key_id == ({"x": "x"}.get(str(value)) if member == "kid" else "one")


@rows("member", ["kid", "use", "key_ops", "alg"])
def test_members_about_the_purpose_may_be_absent(member: str) -> None:
    jwk = {name: value for name, value in signer("ES256").public_jwk().items() if name != member}
    assert names(keys_from_jwk(jwk, ["ES256"])) == ["ES256"]


@rows(
    ("algorithm", "fit"),
    [
        ("RS256", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
        ("ES256", ["ES256"]),
        ("ES384", ["ES384"]),
        ("ES512", ["ES512"]),
        ("ES256K", ["ES256K"]),
        ("Ed25519", ["EdDSA", "Ed25519"]),
        ("Ed448", ["EdDSA", "Ed448"]),
    ],
)
def test_a_key_is_bound_to_the_algorithms_of_its_type_and_to_its_own(
    algorithm: str, fit: list[str]
) -> None:
    jwk: dict[str, Any] = signer(algorithm).public_jwk()
    pem = pem_of(signer(algorithm)._private)
    everything = [*ASYMMETRIC, *SYMMETRIC]
    assert names(keys_from_jwk({**jwk, "alg": None}, everything)) == fit
    assert names(keys_from_pem(pem, everything)) == fit
    assert names(keys_from_jwk(jwk, everything)) == [algorithm]
    assert names(keys_from_jwk(jwk, [name for name in fit if name != algorithm])) == []
    assert names(keys_from_jwk({**jwk, "alg": "HS256"}, everything)) == []


@pytest.mark.parametrize(
    "private", [ec.generate_private_key(ec.SECP224R1()), x25519.X25519PrivateKey.generate()]
)
def test_a_pem_of_a_kind_that_no_algorithm_uses_gives_no_key(private: Any) -> None:
    assert keys_from_pem(pem_of(private), ASYMMETRIC) == []


def test_a_dsa_pem_gives_no_key() -> None:
    private = dsa.generate_private_key(1024)  # noqa: S505 (a key that has to be refused)
    assert keys_from_pem(pem_of(private), ASYMMETRIC) == []


def test_a_weak_rsa_pem_is_unusable() -> None:
    private = rsa.generate_private_key(65537, 1024)  # noqa: S505 (a key that has to be refused)
    with pytest.raises(UnusableKey, match="2048 to 8192 bits"):
        keys_from_pem(pem_of(private), ASYMMETRIC)


def test_a_shared_secret_has_32_bytes_at_least() -> None:
    assert names(keys_from_secret(b"x" * 32, SYMMETRIC)) == list(SYMMETRIC)
    with pytest.raises(UnusableKey, match="at least 32 bytes"):
        keys_from_secret(b"x" * 31, SYMMETRIC)


def test_a_public_key_is_no_shared_secret() -> None:
    """CVE-2024-33663: an HMAC key that is a public key is no secret."""
    with pytest.raises(UnusableKey, match="public key"):
        keys_from_secret(pem_of(signer("RS256")._private), SYMMETRIC)


@rows("algorithm", ASYMMETRIC)
def test_our_signature_is_what_cryptography_verifies_and_theirs_is_what_we_verify(
    algorithm: str,
) -> None:
    private = signer(algorithm)._private
    (key,) = keys_from_jwk(signer(algorithm).public_jwk(), [algorithm])
    assert key.key_id == "one"
    ours, theirs = signer(algorithm).sign(MESSAGE), sign_with_cryptography(algorithm, private)
    verify_with_cryptography(algorithm, private, ours)
    for signature in (ours, theirs):
        assert key.verify(MESSAGE, signature) is True
        assert key.verify(MESSAGE + b"x", signature) is False
        assert key.verify(MESSAGE, bytes([signature[0] ^ 1]) + signature[1:]) is False
        assert key.verify(MESSAGE, signature[:-1] + bytes([signature[-1] ^ 1])) is False
        assert key.verify(MESSAGE, signature[:-1]) is False
        assert key.verify(MESSAGE, signature + b"\0") is False
        assert key.verify(MESSAGE, b"\0" + signature) is False
        assert key.verify(MESSAGE, b"") is False
        assert key.verify(MESSAGE, bytes(len(signature))) is False
        assert key.verify(MESSAGE, b"\xff" * len(signature)) is False


def sign_with_cryptography(algorithm: str, private: Any) -> bytes:
    digest = HASHES.get(algorithm[-3:])
    if algorithm in EC_BYTES:
        r, s = decode_dss_signature(private.sign(MESSAGE, ec.ECDSA(digest)))  # type: ignore[arg-type]
        return r.to_bytes(EC_BYTES[algorithm], "big") + s.to_bytes(EC_BYTES[algorithm], "big")
    if isinstance(private, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return private.sign(MESSAGE)
    assert digest is not None
    scheme: Any = padding.PKCS1v15()
    if algorithm[0] == "P":
        scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
    return bytes(private.sign(MESSAGE, scheme, digest))


def verify_with_cryptography(algorithm: str, private: Any, signature: bytes) -> None:
    digest, public = HASHES.get(algorithm[-3:]), private.public_key()
    if algorithm in EC_BYTES:
        half = EC_BYTES[algorithm]
        assert len(signature) == 2 * half
        der = encode_dss_signature(
            int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        )
        public.verify(der, MESSAGE, ec.ECDSA(digest))  # type: ignore[arg-type]
    elif isinstance(private, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        public.verify(signature, MESSAGE)
    else:
        assert digest is not None
        scheme = (
            padding.PSS(padding.MGF1(digest), digest.digest_size)
            if algorithm[0] == "P"
            else padding.PKCS1v15()
        )
        public.verify(signature, MESSAGE, scheme, digest)


@rows("algorithm", EC_BYTES)
def test_the_numbers_of_an_ecdsa_signature_have_one_length(algorithm: str) -> None:
    """RFC 7518 §3.4. A zero in front of a number leaves its value, and would be a second
    spelling.
    """
    half = EC_BYTES[algorithm]
    signature = signer(algorithm).sign(MESSAGE)
    (key,) = keys_from_jwk(signer(algorithm).public_jwk(), [algorithm])
    assert key.verify(MESSAGE, signature) is True
    assert key.verify(MESSAGE, signature[:half] + b"\0" + signature[half:]) is False
    assert key.verify(MESSAGE, signature[:half] + b"\0\0" + signature[half:]) is False


@rows(
    ("algorithm", "key_type"),
    [
        ("Ed25519", "EC"),
        ("Ed448", "EC"),
        ("ES256", "OKP"),
        ("RS256", "EC"),
        ("RS256", "OKP"),
        ("Ed25519", "RSA"),
        ("ES256", "RSA"),
        ("Ed448", None),
    ],
)
def test_a_key_of_another_type_than_its_members_is_unusable(
    algorithm: str, key_type: str | None
) -> None:
    with pytest.raises(UnusableKey):
        keys_from_jwk({**signer(algorithm).public_jwk(), "kty": key_type}, [algorithm])


def test_a_pss_signature_with_another_salt_length_is_refused() -> None:
    """RFC 7518 §3.5: the salt is as long as the hash."""
    private = signer("PS256")._private
    (key,) = keys_from_jwk(signer("PS256").public_jwk(), ["PS256"])
    for length in (0, 31, 33):
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), length)
        assert key.verify(MESSAGE, private.sign(MESSAGE, scheme, hashes.SHA256())) is False
    other_mask = padding.PSS(padding.MGF1(hashes.SHA384()), 32)
    assert key.verify(MESSAGE, private.sign(MESSAGE, other_mask, hashes.SHA256())) is False


@rows("algorithm", ["RS256", "PS256", "PS384", "PS512"])
def test_an_rsa_signature_is_as_long_as_the_modulus(algorithm: str) -> None:
    """RFC 8017 §8.1.2 and §8.2.2. Without its leading zero it would be a second spelling."""
    key = signer(algorithm)
    (public,) = keys_from_jwk(key.public_jwk(), [algorithm])
    # One signature in 256 begins with a zero.
    messages = (MESSAGE + b"%d" % number for number in range(100_000))
    message, signature = next(
        (message, signature)
        for message in messages
        if (signature := key.sign(message)).startswith(b"\0")
    )
    assert public.verify(message, signature) is True
    assert public.verify(message, signature.lstrip(b"\0")) is False
    assert public.verify(message, b"\0" + signature) is False


def test_the_modulus_of_a_pss_key_may_begin_with_the_last_bit_of_a_byte() -> None:
    """RFC 8017 §8.1.2: that byte counts. OpenSSL makes no such key, so this one is computed."""
    p, q, e = 2**1024 + 643, 2**1024 + 1081, 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(e, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    key = SigningKey("PS256", "one", numbers.private_key(unsafe_skip_rsa_key_validation=True))
    (verifying,) = keys_from_jwk(key.public_jwk(), ["PS256"])
    signature = key.sign(MESSAGE)
    assert len(signature) == 257
    assert verifying.verify(MESSAGE, signature) is True


def pem(private: Any, *, is_private: bool = False, curve: bytes = b"\x07") -> bytes:
    der = (
        private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        if is_private
        else private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    # The object identifier of P-256, and the one of a curve that cryptography does not know.
    der = der.replace(P_256 + b"\x07", P_256 + curve)
    kind = b"PRIVATE KEY" if is_private else b"PUBLIC KEY"
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (kind, base64.encodebytes(der), kind)


P_256 = bytes.fromhex("06082a8648ce3d0301")
EC_KEY = ec.generate_private_key(ec.SECP256R1())


@rows(
    ("text", "complaint"),
    [
        (b"junk", "it is not a PEM public key; a shared secret needs algorithm='HS256'"),
        (
            pem(EC_KEY, curve=b"\x05"),
            "it is not a PEM public key; a shared secret needs algorithm=",
        ),
        (pem(EC_KEY, is_private=True), "it is a private key: give the public one"),
    ],
)
def test_what_is_no_pem_of_a_public_key_is_told_what_it_is(text: bytes, complaint: str) -> None:
    with pytest.raises(UnusableKey, match=f"^{re.escape(complaint)}"):
        keys_from_pem(text, ASYMMETRIC)
    assert names(keys_from_pem(pem(EC_KEY), ASYMMETRIC)) == ["ES256"]


@rows(
    "text",
    [
        "junk",
        pem(EC_KEY).decode(),
        pem(EC_KEY, is_private=True, curve=b"\x05").decode(),
        EC_KEY.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        ).decode(),
    ],
    ids=["junk", "public", "unknown curve", "encrypted"],
)
def test_a_key_that_signs_is_an_unencrypted_private_one(text: str) -> None:
    with pytest.raises(UnusableKey, match="it is not an unencrypted PEM private key"):
        SigningKey.from_pem(text)
    key = SigningKey.from_pem(pem(EC_KEY, is_private=True).decode())
    assert (key.algorithm, len(key.key_id)) == ("ES256", 16)


@rows(("made_for", "algorithm"), [("RS256", "RS256"), ("ES256", "ES256"), ("Ed25519", "EdDSA")])
def test_a_key_that_signs_is_bound_to_one_algorithm(made_for: str, algorithm: str) -> None:
    key = SigningKey.from_pem(signer(made_for).pem(), "mine")
    assert (key.algorithm, key.key_id) == (algorithm, "mine")
    assert key.verifying_key().verify(MESSAGE, key.sign(MESSAGE)) is True


@rows("made_for", ["ES384", "ES256K", "Ed448"])
def test_a_key_of_another_curve_does_not_sign(made_for: str) -> None:
    with pytest.raises(UnusableKey, match="not RSA, EC on P-256, or Ed25519"):
        SigningKey.from_pem(signer(made_for).pem())


def test_a_weak_key_does_not_sign() -> None:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 (that is the point)
    with pytest.raises(UnusableKey, match="2048 to 8192 bits"):
        SigningKey.from_pem(pem(weak, is_private=True).decode())


@rows(("algorithm", "shortest"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_the_secret_of_a_client_is_as_long_as_the_hash_of_its_algorithm(
    algorithm: str, shortest: int
) -> None:
    """RFC 7518 §3.2."""
    assert (
        problem_of_secret(None, algorithm) == f"there is none; {algorithm} needs {shortest} bytes"
    )
    short = f"it is too short; {algorithm} needs at least {shortest} bytes"
    assert problem_of_secret("x" * (shortest - 1), algorithm) == short
    assert problem_of_secret("x" * shortest, algorithm) is None
    assert problem_of_secret("é" * (shortest // 2), algorithm) is None
    public = "it is a public key or certificate, not a shared secret"
    assert problem_of_secret(pem(EC_KEY).decode(), algorithm) == public


def test_two_secrets_are_two_keys_and_one_secret_is_one() -> None:
    one, again, other = (
        keys_from_secret(secret * 32, ["HS256"])[0].material for secret in (b"a", b"a", b"b")
    )
    assert one == again != other


@rows("algorithm", ASYMMETRIC)
def test_a_published_key_has_just_the_members_of_its_type(algorithm: str) -> None:
    jwk = signer(algorithm).public_jwk()
    common = {"kid": "one", "alg": algorithm, "use": "sig"}
    public = signer(algorithm)._private.public_key()
    if algorithm[0] in "RP":
        numbers = public.public_numbers()
        assert jwk == {**common, "kty": "RSA", "n": integer(numbers.n), "e": "AQAB"}
        assert numbers.n.bit_length() == 2048
    elif algorithm in EC_BYTES:
        numbers, size = public.public_numbers(), EC_BYTES[algorithm]
        x, y = (encode_base64url(value.to_bytes(size, "big")) for value in (numbers.x, numbers.y))
        assert jwk == {**common, "kty": "EC", "crv": CURVES[algorithm], "x": x, "y": y}
    else:
        curve = "Ed448" if algorithm == "Ed448" else "Ed25519"
        assert jwk == {
            **common,
            "kty": "OKP",
            "crv": curve,
            "x": encode_base64url(public.public_bytes_raw()),
        }


@pytest.mark.parametrize(("algorithm", "scalar"), [("ES256", 2**200), ("ES512", 5), ("ES384", 7)])
def test_coordinates_with_leading_zeros_are_published_in_full_length(
    algorithm: str, scalar: int
) -> None:
    """RFC 7518 §6.2.1.2. One key in 256 has a leading zero, so keys are tried until one does."""
    curve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
    size = EC_BYTES[algorithm]
    limit = 1 << (8 * (size - 1)) if algorithm != "ES512" else 1 << (8 * (size - 2))
    private = next(
        key
        for number in range(scalar, scalar + 20_000)
        if (key := ec.derive_private_key(number, curve)).public_key().public_numbers().x < limit  # type: ignore[arg-type]
    )
    own = SigningKey(algorithm, "zero", private)
    x = decode_base64url(own.public_jwk()["x"].encode())
    assert len(x) == size
    assert int.from_bytes(x, "big") == private.public_key().public_numbers().x
    (key,) = keys_from_jwk(own.public_jwk(), [algorithm])
    assert key.verify(MESSAGE, own.sign(MESSAGE)) is True
