"""Tokens as strings: their spellings, sizes and parts."""

from __future__ import annotations

import asyncio
import base64
import json
import string
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_mcp_auth import AccessToken, InvalidToken, JWTVerifier, ServerUnavailable
from asgi_mcp_auth._json import encode_base64url
from asgi_mcp_auth.testing import Issuer
from tests.support.gate import AUDIENCE, ISSUER, NOW, Gate, segment, signing_key, usual_claims
from tests.support.rows import rows

_URLSAFE = string.ascii_letters + string.digits + "-_"


@pytest.mark.case("V23")
@rows("algorithm", ["ES256", "RS256", "ES512", "Ed25519"])
@pytest.mark.asyncio
async def test_a_token_has_exactly_one_spelling(algorithm: str) -> None:
    gate = Gate(algorithm=algorithm)
    header, payload, signature = gate.good().split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    middle = len(signature) // 2
    spellings = {
        signature + "=",
        signature + "==",
        signature + "===",
        signature[:middle] + "!@#$" + signature[middle:],
        signature[:middle] + "==" + signature[middle:],
        signature + "==AAAA",
        "=" + signature,
        signature + "*" * 1_000,
        signature + "A",
        base64.b64encode(b"\xff\xfe" + raw).decode(),
        base64.b64encode(raw).decode(),
        base64.b32encode(raw).decode(),
        raw.hex(),
        signature.replace("A", "B", 1) if "A" in signature else signature[::-1],
    }
    for spelling in spellings - {signature}:
        await gate.refuses(f"{header}.{payload}.{spelling}", "malformed", "signature")
    for last in _URLSAFE:  # the bits of the last character that decoding would throw away
        if last != signature[-1]:
            await gate.only_refuses(
                f"{header}.{payload}.{signature[:-1]}{last}", "malformed", "signature"
            )
    await gate.only_refuses(f"{header}.{payload}.{signature}{'*' * 1_000_000}", "too_long")
    await gate.refuses(f"{header}.{payload}=.{signature}", "signature", "malformed")
    await gate.refuses(f"{header}=.{payload}.{signature}", "header")


@pytest.mark.case("V24")
@rows("junk", [" ", "\n", "\r\n", "\t", "\0", "\x7f", "é", "\u00a0", "\ud800", "😀", "~", "+", "/"])
@pytest.mark.asyncio
async def test_no_part_of_a_token_may_hold_anything_else(junk: str) -> None:
    gate = Gate()
    good = gate.good()
    for number in range(3):
        for place in ("start", "middle", "end"):
            parts = good.split(".")
            part = parts[number]
            cut = {"start": 0, "middle": len(part) // 2, "end": len(part)}[place]
            parts[number] = part[:cut] + junk + part[cut:]
            await gate.refuses(".".join(parts), "malformed", "header", "signature", good=good)


@pytest.mark.case("V24")
@pytest.mark.asyncio
async def test_a_payload_that_is_signed_but_not_base64url_is_refused() -> None:
    gate = Gate()
    header = segment({"alg": "ES256", "kid": gate.key.key_id})
    claims = segment(usual_claims())
    for payload in (claims + "=", claims + "*", "*" + claims, claims[:-1] + "A~"):
        data = f"{header}.{payload}"
        await gate.refuses(f"{data}.{encode_base64url(gate.key.sign(data.encode()))}", "payload")


@pytest.mark.case("V26")
@pytest.mark.asyncio
async def test_a_token_has_three_parts() -> None:
    gate = Gate()
    good = gate.good()
    header, payload, signature = good.split(".")
    for token, reason in {
        "": "malformed",
        ".": "malformed",
        header: "malformed",
        f"{header}.{payload}": "malformed",
        f"{header}.{signature}": "malformed",
        f"{good}.": "malformed",
        f"{good}.{signature}": "malformed",
        f".{good}": "malformed",
        f"{header}.{payload}.{payload}.{signature}": "malformed",
        ".".join([header] * 5): "malformed",
        ".".join([header] * 6): "malformed",
        "." * 60_000: "malformed",
        "." * 70_000: "too_long",
        "..": "header",
        f".{payload}.{signature}": "header",
        f"{header}..": "signature",
        f"{header}..{signature}": "signature",
        f"{header}.{payload}.": "signature",
    }.items():
        await gate.refuses(token, reason, good=good)


@pytest.mark.case("V26")
@pytest.mark.asyncio
async def test_a_token_of_another_number_of_parts_costs_no_cryptography_and_no_fetch() -> None:
    with Issuer(algorithms=("ES256",)) as idp:
        gate = Gate(JWTVerifier(issuer=idp.issuer, token_cache_size=0))
        header = segment({"alg": "ES256", "kid": "unknown"})
        for count in (1, 2, 4, 5):
            await gate.only_refuses(".".join([header] * count), "malformed")
        assert not idp.hits


@pytest.mark.case("V27")
@rows(
    "header",
    [
        {"alg": "RSA-OAEP", "enc": "A256GCM"},
        {"alg": "dir", "enc": "A128CBC-HS256"},
        {"alg": "PBES2-HS512+A256KW", "enc": "A256GCM", "p2c": 2**31 - 1, "p2s": "c2FsdHNhbHQ"},
        {"alg": "ES256", "enc": "A256GCM"},
    ],
    ids=lambda header: header["alg"],
)
@pytest.mark.asyncio
async def test_an_encrypted_token_is_refused_before_any_key_is_derived(
    header: dict[str, Any],
) -> None:
    gate = Gate()
    part = segment(header)
    started = time.process_time()
    await gate.refuses(f"{part}.{part}.{part}.{part}.{part}", "malformed")
    await gate.refuses(gate.forge(header=header), "algorithm", "header")
    assert time.process_time() - started < 1  # 2^31 rounds would take a quarter of an hour


@pytest.mark.case("V28")
@pytest.mark.asyncio
async def test_the_json_forms_of_a_jws_are_no_tokens() -> None:
    gate = Gate()
    header, payload, signature = gate.good().split(".")
    flat = {"payload": payload, "protected": header, "signature": signature}
    general = {"payload": payload, "signatures": [{"protected": header, "signature": signature}]}
    for form in (flat, general):
        await gate.refuses(json.dumps(form), "malformed")
        await gate.refuses(encode_base64url(json.dumps(form).encode()), "malformed")
    await gate.refuses(json.dumps(f"{header}.{payload}.{signature}"), "header", "malformed")


@pytest.mark.case("V79")
@pytest.mark.asyncio
async def test_the_longest_token_has_64_kib_and_one_byte_more_is_too_long() -> None:
    gate = Gate()
    unpadded = len(gate.forge(claims={"pad": "", "jti": "1"}))
    pad = (64 * 1024 - unpadded) * 3 // 4
    lengths = {}
    for extra in range(-3, 6):
        token = gate.forge(claims={"pad": "x" * (pad + extra), "jti": "1"})
        lengths[len(token)] = token
    assert any(length <= 64 * 1024 for length in lengths)
    assert any(length > 64 * 1024 for length in lengths)
    for length, token in lengths.items():
        if length <= 64 * 1024:
            await gate.accepts(token)
        else:
            await gate.refuses(token, "too_long")


@pytest.mark.case("V79")
@pytest.mark.parametrize("size", [64 * 1024 + 1, 2**20, 8 * 2**20])
@pytest.mark.asyncio
async def test_a_huge_token_costs_neither_time_nor_memory(size: int) -> None:
    gate = Gate()
    header, payload, signature = gate.good().split(".")
    token = f"{header}.{payload}.{signature}".ljust(size, "A")
    await gate.refuses(token, "too_long")
    tracemalloc.start()
    with pytest.raises(InvalidToken):
        await gate.verifier.verify(token)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 1024
    started = time.process_time()
    for _ in range(100):
        with pytest.raises(InvalidToken):
            await gate.verifier.verify(token)
    assert time.process_time() - started < 0.1  # 1 ms each


class _Text(str):
    """A str that could lie about itself."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"something else"


@pytest.mark.case("V83")
@rows(
    "token",
    [None, 5, b"abc.def.ghi", bytearray(b"a.b.c"), memoryview(b"a.b.c"), ["a"], _Text("a.b.c")],
)
@pytest.mark.asyncio
async def test_a_token_that_is_no_str_is_a_programming_error(token: Any) -> None:
    gate = Gate()
    await gate.accepts(gate.good())
    with pytest.raises(TypeError, match="token must be a str, not "):
        await gate.verifier.verify(token)
    with pytest.raises(TypeError, match="token must be a str, not "):
        await gate.verifier.verify_token(token)
    await gate.accepts(gate.good())


@pytest.mark.case("V84")
@rows(
    ("token", "reason"),
    [
        ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "malformed"),
        ("f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "malformed"),
        ("ya29.a0AfH6SMBx", "malformed"),
        ("xoxb-1234-5678-abcdef", "malformed"),
        ("v2.local.abcdef", "header"),
        ("sk-proj-abc.def.ghi", "header"),
        ("a", "malformed"),
    ],
)
@pytest.mark.asyncio
async def test_an_opaque_token_is_refused_without_a_fetch(token: str, reason: str) -> None:
    with Issuer(algorithms=("ES256",)) as idp:
        gate = Gate(
            JWTVerifier(issuer=idp.issuer, token_cache_size=0), good=lambda: idp.mint(aud=AUDIENCE)
        )
        await gate.only_refuses(token, reason)
        assert not idp.hits
        await gate.refuses(token, reason)


_STATIC = JWTVerifier(
    public_key=signing_key().public_jwk(), issuer=ISSUER, audience=AUDIENCE, clock=Gate().clock
)
_UNREACHABLE = JWTVerifier(
    jwks_uri="http://127.0.0.1:1/jwks", issuer=ISSUER, audience=AUDIENCE, clock=Gate().clock
)
_part = st.one_of(
    st.text(_URLSAFE, max_size=40),
    st.binary(max_size=60).map(encode_base64url),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
        ),
        max_leaves=8,
    ).map(segment),
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "iss", "aud", "exp", "sub", "jwk"]),
        st.sampled_from(
            ["ES256", "key-1", "none", "JWT", None, 5, [], {}, ISSUER, AUDIENCE, NOW, "\ud800"]
        ),
        max_size=5,
    ).map(segment),
)
_almost_tokens = st.lists(_part, min_size=2, max_size=4).map(".".join)
_bytes_as_sent = st.binary(max_size=200).map(lambda raw: raw.decode("latin-1"))


@pytest.mark.case("V86")
@given(token=st.one_of(st.text(max_size=200), _bytes_as_sent, _almost_tokens))
@example(token="\ud800.\udfff.é")
@example(token="." * 20_000)
def test_whatever_a_token_is_only_the_documented_errors_leave(token: str) -> None:
    async def verdicts() -> None:
        for verifier in (_STATIC, _UNREACHABLE):
            try:
                access = await verifier.verify(token)
            except (InvalidToken, ServerUnavailable):
                pass
            else:
                assert isinstance(access, AccessToken)
            try:
                assert await verifier.verify_token(token) is None
            except ServerUnavailable:
                assert verifier is _UNREACHABLE

    asyncio.run(verdicts())


@pytest.mark.case("V86")
@given(
    payload=st.one_of(
        st.binary(max_size=300),
        _part.map(str.encode),
        st.text(max_size=100).map(lambda t: t.encode("utf-8", "surrogatepass")),
    )
)
@example(payload=b"[" * 300)
@example(payload=b'{"exp":' + b"9" * 30 + b"}")
def test_whatever_an_issuer_signs_only_the_documented_errors_leave(payload: bytes) -> None:
    async def verdict() -> str:
        token = f"{segment({'alg': 'ES256', 'kid': 'key-1'})}.{encode_base64url(payload)}"
        token += f".{encode_base64url(signing_key().sign(token.encode()))}"
        try:
            await _STATIC.verify(token)
        except InvalidToken as refusal:
            return refusal.reason
        return "accepted"

    assert asyncio.run(verdict()) != "signature"


_CHANGES = {
    algorithm: Gate(algorithm=algorithm) for algorithm in ("ES256", "RS256", "PS256", "Ed25519")
}


@pytest.mark.case("V87")
@given(
    algorithm=st.sampled_from(sorted(_CHANGES)),
    position=st.floats(0, 1, exclude_max=True),
    char=st.one_of(st.sampled_from(_URLSAFE + ".=+/~ "), st.characters()),
    kind=st.sampled_from(["replace", "insert", "delete"]),
)
def test_any_change_of_one_character_makes_a_token_invalid(
    algorithm: str, position: float, char: str, kind: str
) -> None:
    gate = _CHANGES[algorithm]
    token = gate.good()
    at = int(position * len(token))
    changed = (
        token[:at]
        + ("" if kind == "delete" else char)
        + token[at if kind == "insert" else at + 1 :]
    )

    async def verdict() -> None:
        await gate.verifier.verify(token)
        if changed != token:
            with pytest.raises(InvalidToken):
                await gate.verifier.verify(changed)

    asyncio.run(verdict())


@pytest.mark.case("V87")
@pytest.mark.parametrize("algorithm", ["ES256", "Ed25519"])
@pytest.mark.asyncio
async def test_every_flip_of_one_bit_makes_a_token_invalid(algorithm: str) -> None:
    gate = _CHANGES[algorithm]
    token = gate.good()
    await gate.accepts(token)
    for at, char in enumerate(token):
        for bit in range(7):
            flipped = token[:at] + chr(ord(char) ^ 1 << bit) + token[at + 1 :]
            with pytest.raises(InvalidToken):
                await gate.verifier.verify(flipped)
    await gate.accepts(token)
