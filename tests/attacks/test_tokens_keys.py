"""Keys and signatures that are unsuitable, weak or malformed."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from asgi_mcp_auth import ConfigurationError, JWTVerifier
from asgi_mcp_auth._jose import ASYMMETRIC, SYMMETRIC, SigningKey
from asgi_mcp_auth._json import decode_base64url, encode_base64url
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.support.gate import AUDIENCE, ISSUER, NOW, Gate, compact, signing_key, usual_claims
from tests.support.rows import rows
from tests.tables.jwk_members import HARMLESS, unusable

pytestmark = pytest.mark.asyncio

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def private(key: SigningKey) -> Any:
    """The key of ``cryptography`` inside."""
    return key._private


def pem_of(key: SigningKey, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    """The public half as PEM."""
    return private(key).public_key().public_bytes(Encoding.PEM, form)


def serve(idp: Issuer, key: SigningKey, *others: object) -> Gate:
    """A gate whose keys come from a key set: ``key`` signs good tokens, ``others`` stand beside
    it.
    """
    idp.keys, idp.jwks = {key.algorithm: key}, {"keys": [*others, key.public_jwk()]}
    verifier = JWTVerifier(issuer=idp.issuer, jwks_uri=idp.jwks_uri, token_cache_size=0)
    return Gate(verifier, good=lambda: idp.mint(aud=AUDIENCE, algorithm=key.algorithm))


@pytest.mark.case("V04")
@rows("name", SYMMETRIC)
@rows("form", [PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1])
async def test_a_public_key_is_never_taken_for_a_shared_secret(
    name: str, form: PublicFormat
) -> None:
    key = signing_key("RS256")
    pem = pem_of(key, form)
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[name]
    gate = Gate(algorithm="RS256", public_key=pem_of(key))
    for secret in (pem, pem.rstrip(b"\n"), pem.replace(b"\n", b"\r\n"), b""):
        forged = gate.forge(
            header={"alg": name}, sign=lambda data, secret=secret: hmac.digest(secret, data, digest)
        )
        await gate.refuses(forged, "algorithm")
    with pytest.raises(ConfigurationError, match="public_key cannot be used: it is a public key"):
        JWTVerifier(public_key=pem, issuer=ISSUER, audience=AUDIENCE, algorithm=name)


@pytest.mark.case("V07")
@pytest.mark.parametrize("name", SYMMETRIC)
async def test_shared_secrets_and_key_sets_do_not_mix(name: str) -> None:
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[name]
    secret = b"0123456789abcdef0123456789abcdef"
    with Issuer(algorithms=("ES256",)) as idp:
        oct_key = {"kty": "oct", "k": encode_base64url(secret), "kid": "shared", "alg": name}
        gate = serve(idp, signing_key(), oct_key)
        for used in (b"", secret):
            claims = {"iss": idp.issuer}
            forged = gate.forge(
                header={"alg": name, "kid": "shared"},
                claims=claims,
                sign=lambda data, used=used: hmac.digest(used, data, digest),
            )
            await gate.refuses(forged, "algorithm")
        with pytest.raises(ConfigurationError, match="needs the shared secret"):
            JWTVerifier(jwks_uri=idp.jwks_uri, issuer=idp.issuer, audience=AUDIENCE, algorithm=name)
        with pytest.raises(ConfigurationError, match="needs the shared secret"):
            JWTVerifier(issuer=idp.issuer, audience=AUDIENCE, algorithm=name)
    for short in ("", b"", "x" * 31, b"x" * 31):
        with pytest.raises(ConfigurationError, match="at least 32 bytes"):
            JWTVerifier(public_key=short, issuer=ISSUER, audience=AUDIENCE, algorithm=name)


@pytest.mark.case("V07")
@pytest.mark.parametrize("name", SYMMETRIC)
async def test_a_shared_secret_works_when_it_is_asked_for_and_only_for_its_algorithm(
    name: str,
) -> None:
    secret = "0123456789abcdef0123456789abcdef"
    digests = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}

    def token(algorithm: str, key: bytes = secret.encode()) -> str:
        return gate.forge(
            header={"alg": algorithm}, sign=lambda data: hmac.digest(key, data, digests[algorithm])
        )

    clock = FrozenClock(NOW)
    verifier = JWTVerifier(
        public_key=secret, issuer=ISSUER, algorithm=name, token_cache_size=0, clock=clock
    )
    gate = Gate(verifier, good=lambda: token(name))
    for other in SYMMETRIC:
        if other != name:
            await gate.refuses(token(other), "algorithm")
    await gate.refuses(token(name, b""), "signature")
    await gate.refuses(token(name, secret.encode() + b"1"), "signature")
    await gate.refuses(gate.forge(), "algorithm")


@pytest.mark.case("V08")
@rows(
    "algorithm",
    [
        ["HS256", "RS256"],
        ("ES256", "HS512"),
        ["none"],
        "none",
        ["RS256", "none"],
        [],
        (),
        "",
        [""],
        "RS256 ",
        ["RS1"],
    ],
    ids=repr,
)
async def test_an_allow_list_that_cannot_be_meant_is_a_configuration_error(
    algorithm: Any,
) -> None:
    with pytest.raises(ConfigurationError, match=r"^algorithm="):
        JWTVerifier(
            public_key=pem_of(signing_key("RS256")),
            issuer=ISSUER,
            audience=AUDIENCE,
            algorithm=algorithm,
        )


@pytest.mark.case("V10")
@rows("alg", ["RS512", "PS256", "RS384", "HS256", "RSA-OAEP", "none", "rs256", "RS256 "])
async def test_a_key_is_used_only_with_its_own_algorithm(alg: Any) -> None:
    key, good = signing_key("RS256"), signing_key("ES256", "good")
    with Issuer(algorithms=("ES256",)) as idp:
        gate = serve(idp, good, {**key.public_jwk(), "alg": alg})
        await gate.refuses(gate.forge(key=key, claims={"iss": idp.issuer}), "unknown_key")
        assert gate.verifier.jwks[0].state.keys == (2 if alg in ("RS512", "PS256", "RS384") else 1)


@pytest.mark.case("V11")
async def test_a_key_for_verifying_is_loaded_and_what_else_it_may_do_does_not_matter() -> None:
    jwk = signing_key().public_jwk()
    for member, value in HARMLESS:
        gate = Gate(public_key={**jwk, member: value})
        await gate.accepts(gate.good())


@pytest.mark.case("V11", "V12", "K16")
async def test_a_key_that_is_none_is_skipped_and_warned_of_once_and_the_others_work(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ec, rsa_key, good = (
        signing_key(*each) for each in (("ES256", "bad"), ("RS256", "bad"), ("ES256", "good"))
    )
    with Issuer(algorithms=("ES256",)) as idp:
        for jwk, why in unusable(ec.public_jwk(), rsa_key.public_jwk()):
            caplog.clear()
            gate = serve(idp, good, jwk)
            bad = rsa_key if isinstance(jwk, dict) and "n" in jwk else ec
            await gate.refuses(gate.forge(key=bad, claims={"iss": idp.issuer}), "unknown_key")
            assert gate.verifier.jwks[0].state.keys == 1
            assert idp.hits["/jwks"] > 1, "the set was read again"
            warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
            (skipped,) = [each for each in warnings if "is skipped" in each.getMessage()]
            assert "key number 1 is skipped: " in skipped.getMessage()
            assert why in skipped.getMessage()
            if jwk and isinstance(jwk, dict):
                with pytest.raises(ConfigurationError, match=why):
                    JWTVerifier(public_key=jwk, issuer=ISSUER, audience=AUDIENCE)
            idp.hits.clear()


_RSA = signing_key("RS256", "bad").public_jwk()


@pytest.mark.case("V13")
@pytest.mark.parametrize("bits", [512, 768, 1024, 2047])
async def test_a_short_rsa_key_is_skipped_with_one_warning(
    bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    # too short to be made with cryptography; a number of that length does for the key set
    if bits < 1024:
        jwk = {**_RSA, "n": encode_base64url(((1 << bits) - 1).to_bytes(bits // 8, "big"))}
        bad = signing_key("RS256", "bad")
    else:
        bad = SigningKey("RS256", "bad", rsa.generate_private_key(65537, bits))
        jwk = bad.public_jwk()
    with Issuer(algorithms=("ES256",)) as idp:
        gate = serve(idp, signing_key("ES256", "good"), jwk)
        for _ in range(2):
            await gate.refuses(gate.forge(key=bad, claims={"iss": idp.issuer}), "unknown_key")
    warnings = [
        record.getMessage() for record in caplog.records if "is skipped" in record.getMessage()
    ]
    assert len(warnings) == 1
    assert "RSA keys have 2048 to 8192 bits" in warnings[0]
    with pytest.raises(ConfigurationError, match="2048 to 8192 bits"):
        JWTVerifier(public_key=jwk, issuer=ISSUER, audience=AUDIENCE)
    if bits >= 1024:
        with pytest.raises(ConfigurationError, match="2048 to 8192 bits"):
            JWTVerifier(public_key=pem_of(bad), issuer=ISSUER, audience=AUDIENCE)


@pytest.mark.case("V13")
async def test_a_key_of_2048_bits_is_long_enough_and_one_beyond_8192_costs_too_much() -> None:
    gate = Gate(algorithm="RS256")
    assert private(gate.key).key_size == 2048
    await gate.accepts(gate.good())
    huge = {**_RSA, "n": encode_base64url((1 << 8192 | 1).to_bytes(1025, "big"))}
    with pytest.raises(ConfigurationError, match="2048 to 8192 bits"):
        JWTVerifier(public_key=huge, issuer=ISSUER, audience=AUDIENCE)


@pytest.mark.case("V14")
@rows("exponent", [0, 1, 2, 3, 4, 65536, 2**33, 2**33 + 1, 2**64 + 1])
async def test_an_rsa_key_with_an_unsafe_exponent_is_skipped(exponent: int) -> None:
    octets = exponent.to_bytes(max(1, (exponent.bit_length() + 7) // 8), "big")
    jwk = {**_RSA, "e": encode_base64url(octets)}

    # with e=1 the signature is the padded hash itself: it needs no private key
    def sign(data: bytes) -> bytes:
        info = (
            bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(data).digest()
        )
        return b"\0\1" + b"\xff" * (256 - 3 - len(info)) + b"\0" + info

    with Issuer(algorithms=("ES256",)) as idp:
        gate = serve(idp, signing_key("ES256", "good"), jwk)
        forged = gate.forge(
            header={"alg": "RS256", "kid": "bad"}, claims={"iss": idp.issuer}, sign=sign
        )
        await gate.refuses(forged, "unknown_key")
        assert gate.verifier.jwks[0].state.keys == 1
    with pytest.raises(ConfigurationError, match="public_key cannot be used"):
        JWTVerifier(public_key=jwk, issuer=ISSUER, audience=AUDIENCE)


_HASHES: dict[str, Any] = {
    "ES256": hashes.SHA256(),
    "ES384": hashes.SHA384(),
    "ES512": hashes.SHA512(),
}


@pytest.mark.case("V16")
@rows("header_algorithm", ["ES256", "ES384", "ES512", "ES256K"])
@rows("key_algorithm", ["ES256", "ES384", "ES512", "ES256K"])
async def test_an_ecdsa_algorithm_goes_with_its_own_curve_only(
    header_algorithm: str, key_algorithm: str
) -> None:
    key = signing_key(key_algorithm)
    jwk = {name: value for name, value in key.public_jwk().items() if name != "alg"}
    gate = Gate(algorithm=key_algorithm, public_key=jwk)
    size = (private(key).key_size + 7) // 8

    def sign(data: bytes) -> bytes:  # the other algorithm's hash under this key
        der = private(key).sign(data, ec.ECDSA(_HASHES.get(header_algorithm, hashes.SHA256())))
        return _raw(der, size)

    token = gate.forge(header={"alg": header_algorithm}, sign=sign)
    if header_algorithm == key_algorithm:
        await gate.accepts(token)
    else:
        await gate.refuses(token, "unknown_key")


@pytest.mark.case("V17")
@rows("algorithm", ["ES256", "ES256K", "ES384", "ES512"])
async def test_an_ecdsa_signature_has_one_form_and_one_length(algorithm: str) -> None:
    gate = Gate(algorithm=algorithm)
    der = private(gate.key)
    hash_algorithm = _HASHES.get(algorithm, hashes.SHA256())
    sign = gate.key.sign
    for forged in (
        lambda data: der.sign(data, ec.ECDSA(hash_algorithm)),
        lambda data: sign(data)[:-1],
        lambda data: sign(data)[1:],
        lambda data: sign(data) + b"\0",
        lambda data: b"\0" + sign(data),
        lambda data: sign(data) * 2,
        lambda data: b"",
        lambda data: b"\0",
    ):
        await gate.refuses(gate.forge(sign=forged), "signature")


@pytest.mark.case("V18")
@pytest.mark.parametrize("algorithm", ["ES256", "ES256K"])
async def test_degenerate_ecdsa_signatures_are_refused(algorithm: str) -> None:
    gate = Gate(algorithm=algorithm)
    order = (
        _P256_ORDER
        if algorithm == "ES256"
        else 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    )
    top = 2**256 - 1

    def pair(r: int, s: int) -> bytes:
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    for r in (0, 1, order - 1, order, order + 1, top):
        for s in (0, 1, order - 1, order, order + 1, top):
            await gate.only_refuses(gate.forge(sign=lambda data, r=r, s=s: pair(r, s)), "signature")
    for change in (
        lambda r, s: (0, s),
        lambda r, s: (r, 0),
        lambda r, s: (s, r),
        lambda r, s: ((r + order) % 2**256, s),
    ):

        def sign(data: bytes, change: Callable[[int, int], tuple[int, int]] = change) -> bytes:
            raw = gate.key.sign(data)
            return pair(*change(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")))

        await gate.refuses(gate.forge(sign=sign), "signature")


@pytest.mark.case("V19")
async def test_the_twin_of_an_ecdsa_signature_is_the_same_grant_under_another_token_string() -> (
    None
):
    gate = Gate()
    token = gate.good()
    signing_input, _, signature = token.rpartition(".")
    raw = decode_base64url(signature.encode())
    s = _P256_ORDER - int.from_bytes(raw[32:], "big")
    twin = f"{signing_input}.{encode_base64url(raw[:32] + s.to_bytes(32, 'big'))}"
    assert twin != token
    # JWS allows it. So tokens have to be counted and revoked by jti, which is the same for
    # both.
    first, second = await gate.accepts(token), await gate.accepts(twin)
    assert first.claims["jti"] == second.claims["jti"]


@pytest.mark.case("V20")
@rows("algorithm", ["RS256", "RS512", "PS256", "PS384"])
async def test_rsa_signatures_of_another_length_or_size_are_refused(algorithm: str) -> None:
    gate = Gate(algorithm=algorithm)
    modulus = private(gate.key).public_key().public_numbers().n
    sign = gate.key.sign
    for forged in (
        lambda data: (int.from_bytes(sign(data), "big") + modulus).to_bytes(257, "big"),
        lambda data: b"\0" + sign(data),
        lambda data: b"\0" * 16 + sign(data),
        lambda data: sign(data)[1:],
        lambda data: sign(data)[:-1],
        lambda data: sign(data) + b"\0",
        lambda data: b"",
        lambda data: b"\0",
        lambda data: b"\1",
        lambda data: b"\0" * 256,
        lambda data: b"\0" * 255 + b"\1",
        lambda data: (modulus - 1).to_bytes(256, "big"),
        lambda data: modulus.to_bytes(256, "big"),
        lambda data: b"\xff" * 256,
    ):
        await gate.refuses(gate.forge(sign=forged), "signature")


@pytest.mark.case("V21")
@rows("weak", ["sha1", "md5", "sha224", "sha512"])
async def test_a_signature_over_another_hash_is_refused(weak: str) -> None:
    gate = Gate(algorithm="RS256")
    info = {
        "sha1": "3021300906052b0e03021a05000414",
        "md5": "3020300c06082a864886f70d020505000410",
        "sha224": "302d300d06096086480165030402040500041c",
        "sha512": "3051300d060960864801650304020305000440",
    }[weak]
    numbers = private(gate.key).private_numbers()

    def sign(data: bytes) -> bytes:  # by hand: libraries rightly refuse to
        digest = bytes.fromhex(info) + hashlib.new(weak, data, usedforsecurity=False).digest()
        padded = b"\0\1" + b"\xff" * (256 - 3 - len(digest)) + b"\0" + digest
        return pow(int.from_bytes(padded, "big"), numbers.d, numbers.public_numbers.n).to_bytes(
            256, "big"
        )

    await gate.refuses(gate.forge(sign=sign), "signature")


@pytest.mark.case("V21")
async def test_a_pss_signature_has_the_salt_and_the_mask_of_its_hash() -> None:
    gate = Gate(algorithm="PS256")
    for mask, salt in (
        (hashes.SHA384(), 32),
        (hashes.SHA256(), 20),
        (hashes.SHA256(), 0),
        (hashes.SHA256(), 222),
    ):
        scheme = padding.PSS(padding.MGF1(mask), salt)
        forged = gate.forge(
            sign=lambda data, scheme=scheme: private(gate.key).sign(data, scheme, hashes.SHA256())
        )
        await gate.refuses(forged, "signature")
    await gate.refuses(
        gate.forge(
            sign=lambda data: private(gate.key).sign(data, padding.PKCS1v15(), hashes.SHA256())
        ),
        "signature",
    )


@pytest.mark.case("V22")
@rows("algorithm", ASYMMETRIC)
async def test_only_the_trusted_key_over_exactly_these_bytes_is_a_signature(
    algorithm: str,
) -> None:
    gate = Gate(algorithm=algorithm)
    attacker = signing_key(algorithm, "attacker")
    await gate.refuses(gate.forge(key=attacker, header={"kid": gate.key.key_id}), "signature")
    token, other = gate.good(), gate.good()
    header, payload, signature = token.split(".")
    await gate.refuses(f"{header}.{payload}.{other.split('.')[2]}", "signature")
    tampered = compact({}, usual_claims(sub="mallory"), lambda _: b"").split(".")[1]
    await gate.refuses(f"{header}.{tampered}.{signature}", "signature")
    respelled = compact({"kid": gate.key.key_id, "alg": algorithm}, {}, lambda _: b"").split(".")[0]
    await gate.refuses(f"{respelled}.{payload}.{signature}", "signature")


@pytest.mark.case("V22")
async def test_a_signature_over_the_hash_of_the_hash_is_refused() -> None:
    gate = Gate()

    def sign(data: bytes) -> bytes:  # over the hash of the hash
        digest = hashlib.sha256(hashlib.sha256(data).digest()).digest()
        return _raw(private(gate.key).sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))), 32)

    await gate.refuses(gate.forge(sign=sign), "signature")


def _raw(der: bytes, size: int) -> bytes:
    r, s = decode_dss_signature(der)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")
