"""JSON Web Signature (RFC 7515)."""

from __future__ import annotations

import binascii
import json
from typing import Any

import pytest

from asgi_mcp_auth import ANY_AUDIENCE, ClaimRules, InvalidToken, JWTVerifier
from asgi_mcp_auth._jose import keys_from_jwk
from asgi_mcp_auth._json import decode_base64url, encode_base64url
from asgi_mcp_auth.testing import FrozenClock
from tests.support.gate import ABSENT, Gate, segment, signing_key, usual_claims
from tests.support.rows import rows

PAYLOAD = (
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
)
EXPIRY = 1_300_819_380
RSA = {
    "kty": "RSA",
    "n": (
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL"
        "-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e"
        "-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_"
        "h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
    ),
    "e": "AQAB",
}
EC = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
SECRET = decode_base64url(
    b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
)
# algorithm, key, protected header, signature: all over the same claims
EXAMPLES: list[tuple[str, Any, str, str]] = [
    (
        "HS256",
        SECRET,
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    ),
    (
        "RS256",
        RSA,
        "eyJhbGciOiJSUzI1NiJ9",
        (
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb"
            "F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383"
            "LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy"
            "wlVmtVrBp0igcN_IoypGlUPQGe77Rw"
        ),
    ),
    (
        "ES256",
        EC,
        "eyJhbGciOiJFUzI1NiJ9",
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    ),
]


def verifier_for(algorithm: str, key: Any, at: float) -> JWTVerifier:
    return JWTVerifier(
        public_key=key,
        algorithm=algorithm,
        issuer="joe",
        audience=ANY_AUDIENCE,
        claims=ClaimRules(client_id_claim="iss"),
        clock=FrozenClock(at),
    )


@pytest.mark.parametrize(
    ("algorithm", "key", "header", "signature"), EXAMPLES, ids=["A.1", "A.2", "A.3"]
)
@pytest.mark.asyncio
async def test_the_printed_tokens_are_valid_until_they_expire(
    algorithm: str, key: Any, header: str, signature: str
) -> None:
    """Appendix A.1 to A.3."""
    token = f"{header}.{PAYLOAD}.{signature}"
    access = await verifier_for(algorithm, key, EXPIRY - 1).verify(token)
    assert access.claims == {"iss": "joe", "exp": EXPIRY, "http://example.com/is_root": True}
    with pytest.raises(InvalidToken) as caught:
        await verifier_for(algorithm, key, EXPIRY).verify(token)
    assert caught.value.reason == "expired"
    for change in range(len(signature)):
        other = (
            signature[:change]
            + ("A" if signature[change] != "A" else "B")
            + signature[change + 1 :]
        )
        with pytest.raises(InvalidToken) as caught:
            await verifier_for(algorithm, key, EXPIRY - 1).verify(f"{header}.{PAYLOAD}.{other}")
        assert caught.value.reason in ("signature", "malformed")


def test_the_printed_es512_signature_verifies() -> None:
    """Appendix A.4: over the text "Payload", so it is a JWS and no JWT."""
    jwk = {
        "kty": "EC",
        "crv": "P-521",
        "x": (
            "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk"
        ),
        "y": (
            "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"
        ),
    }
    signature = (
        b"AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgo"
        b"XD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"
    )
    (key,) = keys_from_jwk(jwk, ["ES512", "ES256"])
    assert key.verify(b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA", decode_base64url(signature))
    assert not key.verify(b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZB", decode_base64url(signature))


@pytest.mark.asyncio
async def test_the_printed_unsecured_token_is_refused() -> None:
    """Appendix A.5; §8: an implementation must not accept alg none unless the application asks for
    it.
    """
    gate = Gate()
    await gate.refuses(f"eyJhbGciOiJub25lIn0.{PAYLOAD}.", "algorithm")


@pytest.mark.case("V29")
@pytest.mark.asyncio
async def test_a_critical_member_makes_the_printed_token_invalid() -> None:
    """Appendix E: the header {"alg":"none", "crit":["http://example.com/UNDEFINED"], …} has to be
    refused.
    """
    gate = Gate()
    critical = {"crit": ["http://example.com/UNDEFINED"], "http://example.com/UNDEFINED": True}
    await gate.refuses(gate.forge(header={"alg": "none", **critical}), "algorithm")
    await gate.refuses(gate.forge(header=critical), "critical_header")


@pytest.mark.case("V37")
@rows("name", ["jku", "jwk", "x5u", "x5c"])
@pytest.mark.asyncio
async def test_header_members_that_bring_a_key_along_are_ignored(name: str) -> None:
    """§4.1.2, §4.1.3, §4.1.5, §4.1.6: their use is OPTIONAL; following them is what RFC 8725 §3.10
    warns of.
    """
    gate = Gate()
    await gate.accepts(gate.forge(header={name: "https://idp.example.com/key"}))


@rows("name", ["x5t", "x5t#S256", "cty", "made-up"])
@pytest.mark.asyncio
async def test_header_members_that_only_describe_are_ignored(name: str) -> None:
    """§4.1.7, §4.1.8, §4.1.10 and §4: members that are not understood must be ignored."""
    gate = Gate()
    await gate.accepts(gate.forge(header={name: "abc"}))


@pytest.mark.asyncio
async def test_the_key_id_is_a_case_sensitive_string() -> None:
    """§4.1.4."""
    gate = Gate()
    await gate.refuses(gate.forge(header={"kid": gate.key.key_id.upper()}), "unknown_key")


@pytest.mark.case("V02")
@pytest.mark.asyncio
async def test_alg_is_required() -> None:
    """§4.1.1: alg MUST be present."""
    gate = Gate()
    await gate.refuses(gate.forge(header={"alg": ABSENT}), "algorithm")


@pytest.mark.case("V42")
@pytest.mark.asyncio
async def test_header_names_are_unique() -> None:
    """§4: duplicates have to be refused, or the last one taken. We refuse."""
    gate = Gate()
    await gate.refuses(gate.forge(header=b'{"alg":"ES256","alg":"ES256","kid":"key-1"}'), "header")


@rows(
    ("text", "octets"),
    [
        ("A-z_4ME", bytes([3, 236, 255, 224, 193])),
        ("", b""),
        ("AA", b"\0"),
        ("__8", b"\xff\xff"),
        ("-_-_", b"\xfb\xff\xbf"),
    ],
)
def test_base64url_has_no_padding_and_its_own_two_characters(text: str, octets: bytes) -> None:
    """§2 and appendix C, whose example is A-z_4ME."""
    assert decode_base64url(text.encode()) == octets
    assert encode_base64url(octets) == text


@pytest.mark.case("V23")
@rows(
    "text",
    [
        "A",
        "AAAAA",
        "A-z_4ME=",
        "AA==",
        "A+z/4ME",
        "A-z_4M E",
        "A-z_4ME\n",
        "A-z_4MF",
        "AB",
        "AAB",
        "AA\0A",
        "ÄAAA",
        "=",
        "====",
    ],
)
def test_base64url_has_one_spelling_for_each_value(text: str) -> None:
    """§2; RFC 4648 §3.2, §3.3 and §3.5."""
    with pytest.raises(binascii.Error):
        decode_base64url(text.encode())


@pytest.mark.asyncio
async def test_the_signature_is_over_the_encoded_header_and_payload() -> None:
    """§5.2: what is verified is ASCII(BASE64URL(header) || '.' || BASE64URL(payload)), not what it
    means.
    """
    gate = Gate()
    header = json.dumps({"alg": "ES256", "kid": gate.key.key_id})
    claims = json.dumps(usual_claims())
    spaced = f"{segment(header.encode())}.{segment(claims.replace(': ', ' :  ').encode())}"
    await gate.accepts(f"{spaced}.{segment(gate.key.sign(spaced.encode()))}")
    decoded = gate.key.sign(f"{header}.{claims}".encode())
    await gate.refuses(
        f"{segment(header.encode())}.{segment(claims.encode())}.{segment(decoded)}", "signature"
    )


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
@pytest.mark.asyncio
async def test_a_token_without_a_key_id_is_verified_with_the_key_there_is(algorithm: str) -> None:
    """§6 and appendix D: how the key is found is up to the application."""
    gate = Gate(public_key=[signing_key("ES256").public_jwk(), signing_key("RS256").public_jwk()])
    await gate.accepts(gate.forge(key=signing_key(algorithm), header={"kid": ABSENT}))
