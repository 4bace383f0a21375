"""Test vectors for JWS and JWK: a valid token per algorithm, and changes that invalidate it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError, JWTVerifier
from asgi_mcp_auth._jose import ASYMMETRIC
from asgi_mcp_auth._json import decode_base64url, encode_base64url
from tests.support.gate import AUDIENCE, ISSUER, Gate, segment, signing_key
from tests.support.rows import rows


def edit(token: str, part: int, change: Callable[[bytes], bytes]) -> str:
    """Return the token with the bytes of one part changed."""
    parts = token.split(".")
    parts[part] = encode_base64url(change(decode_base64url(parts[part].encode())))
    return ".".join(parts)


# comment, what is done to a valid token, the reasons that may be given
TOKEN_VECTORS: list[tuple[str, Callable[[str], str], tuple[str, ...]]] = [
    ("signature is empty", lambda t: t.rpartition(".")[0] + ".", ("signature",)),
    ("signature is one zero byte", lambda t: edit(t, 2, lambda _: b"\0"), ("signature",)),
    ("signature is all zeros", lambda t: edit(t, 2, lambda s: bytes(len(s))), ("signature",)),
    ("signature is all ones", lambda t: edit(t, 2, lambda s: b"\xff" * len(s)), ("signature",)),
    ("signature lacks its first byte", lambda t: edit(t, 2, lambda s: s[1:]), ("signature",)),
    ("signature lacks its last byte", lambda t: edit(t, 2, lambda s: s[:-1]), ("signature",)),
    (
        "signature lacks its second half",
        lambda t: edit(t, 2, lambda s: s[: len(s) // 2]),
        ("signature",),
    ),
    ("signature has a zero in front", lambda t: edit(t, 2, lambda s: b"\0" + s), ("signature",)),
    ("signature has a zero behind", lambda t: edit(t, 2, lambda s: s + b"\0"), ("signature",)),
    ("signature stands there twice", lambda t: edit(t, 2, lambda s: s + s), ("signature",)),
    ("signature is reversed", lambda t: edit(t, 2, lambda s: s[::-1]), ("signature",)),
    (
        "halves of the signature are swapped",
        lambda t: edit(t, 2, lambda s: s[len(s) // 2 :] + s[: len(s) // 2]),
        ("signature",),
    ),
    (
        "first bit of the signature is flipped",
        lambda t: edit(t, 2, lambda s: bytes([s[0] ^ 128]) + s[1:]),
        ("signature",),
    ),
    (
        "last bit of the signature is flipped",
        lambda t: edit(t, 2, lambda s: s[:-1] + bytes([s[-1] ^ 1])),
        ("signature",),
    ),
    (
        "a bit of the payload is flipped",
        lambda t: edit(t, 1, lambda s: s[:9] + bytes([s[9] ^ 1]) + s[10:]),
        ("signature",),
    ),
    ("payload is empty", lambda t: edit(t, 1, lambda _: b""), ("signature",)),
    ("payload has a space behind", lambda t: edit(t, 1, lambda s: s + b" "), ("signature",)),
    ("header has a space behind", lambda t: edit(t, 0, lambda s: s + b" "), ("signature",)),
    ("header is empty", lambda t: edit(t, 0, lambda _: b""), ("header",)),
    ("header is an array", lambda t: edit(t, 0, lambda s: b"[" + s + b"]"), ("header",)),
    (
        "padding is added to the signature",
        lambda t: t + "=" * (-len(t.rpartition(".")[2]) % 4 or 1),
        ("malformed",),
    ),
    (
        "padding is added to the payload",
        lambda t: t.replace(".", "=.", 2).replace("=.", ".", 1),
        ("signature",),
    ),
    ("padding is added to the header", lambda t: t.replace(".", "=.", 1), ("header",)),
    ("a line break is added", lambda t: t + "\n", ("malformed",)),
    ("a space stands in the signature", lambda t: t[:-4] + " " + t[-4:], ("malformed",)),
    ("a fourth part is added", lambda t: t + ".AAAA", ("malformed",)),
    ("the signature is left out", lambda t: t.rpartition(".")[0], ("malformed",)),
    (
        "the parts are in another order",
        lambda t: ".".join(t.split(".")[::-1]),
        ("header", "malformed"),
    ),
]
HEADER_VECTORS: list[tuple[dict[str, Any], str]] = [
    ({"alg": "none"}, "algorithm"),
    ({"alg": "HS256"}, "algorithm"),
    ({"alg": "A128KW"}, "algorithm"),
    ({"crit": ["exp"]}, "critical_header"),
    ({"b64": False}, "header"),
    ({"zip": "DEF"}, "header"),
    ({"typ": "dpop+jwt"}, "type"),
    ({"kid": "key-2"}, "unknown_key"),
]
KEY_VECTORS: list[dict[str, Any]] = [
    {"use": "enc"},
    {"use": "sig "},
    {"key_ops": ["sign"]},
    {"kty": "oct"},
    {"kty": "none"},
    {"crv": "P-192", "n": ""},
    {"alg": "none"},
    {"alg": "HS256"},
    {"d": "AAAA"},
    {"k": "AAAA"},
    {"x": "", "n": ""},
    {"x": "AAAA", "n": "AAAA"},
    {"x": 5, "n": 5},
    {"x": None, "n": None},
]


@pytest.mark.case("V89")
@rows("algorithm", ASYMMETRIC)
@pytest.mark.asyncio
async def test_a_token_that_was_tampered_with_is_refused_under_every_algorithm(
    algorithm: str,
) -> None:
    gate = Gate(algorithm=algorithm)
    for comment, change, reasons in TOKEN_VECTORS:
        good = gate.good()
        bad = change(good)
        assert bad != good, comment
        await gate.refuses(bad, *reasons, good=good)


@pytest.mark.case("V89")
@rows("algorithm", ASYMMETRIC)
@pytest.mark.asyncio
async def test_a_header_that_lies_is_refused_under_every_algorithm(algorithm: str) -> None:
    gate = Gate(algorithm=algorithm)
    for header, reason in HEADER_VECTORS:
        await gate.refuses(gate.forge(header=header), reason)


@pytest.mark.case("V89")
@rows("algorithm", ASYMMETRIC)
@pytest.mark.asyncio
async def test_a_key_is_not_used_with_an_algorithm_that_is_only_related(algorithm: str) -> None:
    jwk = {
        name: value for name, value in signing_key(algorithm).public_jwk().items() if name != "alg"
    }
    gate = Gate(algorithm=algorithm, public_key=jwk)
    names = {"Ed25519": {"EdDSA", "Ed25519"}, "Ed448": {"EdDSA", "Ed448"}}.get(
        jwk.get("crv", ""), {algorithm}
    )
    for other in ASYMMETRIC:
        token = gate.forge(header={"alg": other})
        if other in names:
            await gate.accepts(token)
        else:
            await gate.refuses(token, "signature", "unknown_key")


@pytest.mark.case("V89")
@rows("algorithm", ["RS256", "PS512", "ES256", "ES256K", "Ed25519", "Ed448"])
def test_a_key_that_is_not_fit_is_not_taken(algorithm: str) -> None:
    jwk = signing_key(algorithm).public_jwk()
    JWTVerifier(public_key=jwk, issuer=ISSUER, audience=AUDIENCE)
    for change in KEY_VECTORS:
        with pytest.raises(ConfigurationError, match=r"^public_key"):
            JWTVerifier(public_key={**jwk, **change}, issuer=ISSUER, audience=AUDIENCE)


@pytest.mark.case("V89")
@pytest.mark.asyncio
async def test_members_in_another_order_or_spelling_are_another_text_and_may_be_signed() -> None:
    gate = Gate()
    for header in (
        '{"kid":"key-1","alg":"ES256"}',
        '{ "alg" : "ES256" ,\n"kid" : "key-1" }',
        '{"\\u0061lg":"\\u0045S256","kid":"key-1"}',
    ):
        assert json.loads(header)["alg"] == "ES256"
        await gate.accepts(gate.forge(header=header.encode()))
        signed_otherwise = segment(header.encode()) + gate.good()[gate.good().index(".") :]
        await gate.refuses(signed_otherwise, "signature")
