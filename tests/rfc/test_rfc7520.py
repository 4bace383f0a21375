"""Examples of Protecting Content Using JOSE (RFC 7520): the four signatures printed in §4."""

from __future__ import annotations

import re

import pytest

from asgi_mcp_auth import ANY_AUDIENCE, InvalidToken, JWTVerifier
from asgi_mcp_auth._jose import keys_from_jwk, keys_from_secret
from asgi_mcp_auth._json import decode_base64url
from tests.support.rows import rows

PAYLOAD = (
    "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0"
    "aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91"
    "IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4"
)
TEXT = (
    "It’s a dangerous business, Frodo, going out your door. You step onto the road, and if you"
    " don't keep your feet, there’s no knowing where you might be swept off to."
)

# algorithm, public key, protected header, signature
EXAMPLES: list[tuple[str, dict[str, str], str, str]] = [
    (
        "RS256",
        {
            "kty": "RSA",
            "kid": "bilbo.baggins@hobbiton.example",
            "use": "sig",
            "n": (
                "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMa"
                "JMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6c"
                "S6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwd"
                "q_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"
            ),
            "e": "AQAB",
        },
        "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        (
            "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7P"
            "NDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9e"
            "Ro4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4"
            "uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg"
        ),
    ),
    (
        "PS384",
        {
            "kty": "RSA",
            "kid": "bilbo.baggins@hobbiton.example",
            "use": "sig",
            "n": (
                "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMa"
                "JMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6c"
                "S6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwd"
                "q_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"
            ),
            "e": "AQAB",
        },
        "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        (
            "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dD"
            "DItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ij"
            "Q7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAj"
            "VKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw"
        ),
    ),
    (
        "ES512",
        {
            "kty": "EC",
            "kid": "bilbo.baggins@hobbiton.example",
            "use": "sig",
            "crv": "P-521",
            "x": (
                "AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt"
            ),
            "y": (
                "AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1"
            ),
        },
        "eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        (
            "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPB"
            "u_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2"
        ),
    ),
    (
        "HS256",
        {
            "kty": "oct",
            "kid": "018c0ae5-4d9b-471b-bfd6-eef314bc7037",
            "use": "sig",
            "alg": "HS256",
            "k": "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
        },
        "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9",
        "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
    ),
]


@pytest.mark.case("V90")
@rows(("algorithm", "jwk", "header", "signature"), EXAMPLES, ids=["4.1", "4.2", "4.3", "4.4"])
def test_a_printed_signature_verifies(
    algorithm: str, jwk: dict[str, str], header: str, signature: str
) -> None:
    """§4.1 RSA v1.5, §4.2 RSA-PSS, §4.3 ECDSA, §4.4 HMAC-SHA2."""
    assert decode_base64url(PAYLOAD.encode()).decode() == TEXT
    if jwk["kty"] == "oct":
        (key,) = keys_from_secret(decode_base64url(jwk["k"].encode()), [algorithm])
    else:
        (key,) = keys_from_jwk(jwk, [algorithm])
        assert key.key_id == jwk["kid"]
    signed, raw = f"{header}.{PAYLOAD}".encode(), decode_base64url(signature.encode())
    assert key.verify(signed, raw)
    assert not key.verify(signed + b"A", raw)
    assert not key.verify(signed, raw[:-1] + bytes([raw[-1] ^ 1]))


@pytest.mark.case("V90")
@rows(("algorithm", "jwk", "header", "signature"), EXAMPLES, ids=["4.1", "4.2", "4.3", "4.4"])
@pytest.mark.asyncio
async def test_the_verifier_gets_as_far_as_the_payload_which_is_no_token(
    algorithm: str, jwk: dict[str, str], header: str, signature: str
) -> None:
    """§4: "It’s a dangerous business" is signed correctly, and no JSON."""
    key = decode_base64url(jwk["k"].encode()) if jwk["kty"] == "oct" else jwk
    verifier = JWTVerifier(public_key=key, algorithm=algorithm, audience=ANY_AUDIENCE)
    with pytest.raises(InvalidToken) as caught:
        await verifier.verify(f"{header}.{PAYLOAD}.{signature}")
    assert caught.value.reason == "payload"
    other = re.sub("^.", lambda match: "B" if match[0] == "A" else "A", signature)
    with pytest.raises(InvalidToken) as caught:
        await verifier.verify(f"{header}.{PAYLOAD}.{other}")
    assert caught.value.reason == "signature"
