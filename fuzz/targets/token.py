"""Tokens through ``JWTVerifier.verify``: signed by us after mutation, so that the fuzzer gets past
the signature.

What is accepted is judged again by rules written here from the specifications; every refusal has a
listed reason.
"""

from __future__ import annotations

import base64
import json
from typing import Any, get_args

from asgi_mcp_auth import ClaimRules, InvalidToken, JWTVerifier
from asgi_mcp_auth._jose import _ALGORITHMS, SigningKey
from asgi_mcp_auth._json import encode_base64url
from asgi_mcp_auth.claims import peek_issuer
from asgi_mcp_auth.errors import InvalidTokenReason
from asgi_mcp_auth.testing import FrozenClock
from asgi_mcp_auth.tokens import AccessToken
from fuzz.inprocess import finish
from fuzz.keys import SECRET, SIGNERS

ISSUER = "https://idp.example.com/tenant"
AUDIENCE = "https://mcp.example.com/mcp"
NOW = 1_800_000_000
SIGN, RAW, PATCH = range(3)

DICTIONARY: tuple[bytes, ...] = (
    *(
        f'"{name}"'.encode()
        for name in ("alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c", "zip", "enc", "cty")
    ),
    *(
        f'"{name}"'.encode()
        for name in (
            "iss",
            "aud",
            "exp",
            "nbf",
            "iat",
            "sub",
            "jti",
            "cnf",
            "scope",
            "scp",
            "client_id",
            "azp",
        )
    ),
    *(
        f'"{name}"'.encode()
        for name in ("at_hash", "c_hash", "s_hash", "nonce", "auth_time", "token_use", "ID", "id")
    ),
    *(
        f'"{name}"'.encode()
        for name in (
            "at+jwt",
            "JWT",
            "application/at+jwt",
            "none",
            ISSUER,
            AUDIENCE,
            "HS256",
            *SIGNERS,
        )
    ),
    *(
        str(number).encode()
        for number in (
            NOW - 1,
            NOW,
            NOW + 1,
            NOW + 60,
            NOW + 61,
            253402300799,
            253402300800,
            1e308,
            -1,
        )
    ),
    *(
        b"true",
        b"null",
        b"[]",
        b"{}",
        b'""',
        b",",
        b":",
        b"1e999",
        b"NaN",
        b'"\\ud800"',
        b"\\u0000",
        b"eyJ",
        b".",
        b"..",
        b"=",
        b"\n",
    ),
)

_REASONS = frozenset(get_args(InvalidTokenReason))
_clock = FrozenClock(float(NOW))
_SIGNERS = [*SIGNERS.values()]
_jwks = [signer.public_jwk() for signer in _SIGNERS]


class _Secret(SigningKey):
    """HS256, which the package itself never signs with."""

    def __init__(self) -> None:
        super().__init__("HS256", "hs256", SECRET)


def _verifier(**options: Any) -> JWTVerifier:
    usual: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "clock": _clock,
        "token_cache_size": 64,
    }
    return JWTVerifier(**{**usual, **options})


_verifiers = {
    "asymmetric": _verifier(public_key={"keys": _jwks}),
    "strict": _verifier(
        public_key={"keys": _jwks},
        claims=ClaimRules(require_at_jwt=True, max_lifetime_seconds=3600),
    ),
    "one": _verifier(public_key=[{**_jwks[0], "kid": None}], algorithm="ES256"),
    "symmetric": _verifier(public_key=SECRET, algorithm=["HS256", "HS512"]),
}
_ALL = [*_SIGNERS, _Secret()]


def _claims(**changes: Any) -> bytes:
    usual = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "client_id": "cli",
        "iat": NOW,
        "exp": NOW + 300,
        "scope": "a b",
    }
    return json.dumps({**usual, **changes}).encode()


def _header(signer: SigningKey, **changes: Any) -> bytes:
    return json.dumps(
        {"alg": signer.algorithm, "kid": signer.key_id, "typ": "at+jwt", **changes}
    ).encode()


def _sign(signer: SigningKey, header: bytes, payload: bytes) -> str:
    signing_input = f"{encode_base64url(header)}.{encode_base64url(payload)}"
    return f"{signing_input}.{encode_base64url(signer.sign(signing_input.encode()))}"


_valid = [_sign(signer, _header(signer), _claims()) for signer in _ALL]
_starts = [token.partition(".")[0] for token in _valid]


def seeds() -> list[bytes]:
    r"""Return inputs: the signer's number, the kind, then header ``\n`` payload, a token, or
    (place, byte) pairs."""
    found: list[bytes] = []
    for number, signer in enumerate(_ALL):
        start = bytes([number, SIGN])
        found.append(start + _header(signer) + b"\n" + _claims())
        found.append(bytes([number, RAW]) + _valid[number].encode())
        found.append(bytes([number, PATCH, 0, 200, 1, 7, 0, 3]))
    signer, start = _ALL[0], bytes([0, SIGN])
    headers = [_header(signer, **{name: value}) for name, value in _ODD_HEADERS]
    payloads = [_claims(**{name: value}) for name, value in _ODD_CLAIMS]
    found += [start + header + b"\n" + _claims() for header in headers]
    found += [
        start + _header(signer) + b"\n" + payload
        for payload in (*payloads, b"", b"[]", b"{}", b"null", b'{"exp":1,"exp":2}')
    ]
    raw = [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        _valid[0] + "=",
        _valid[0] + ".",
        "eyJhbGciOiJub25lIn0.e30.",
        "é.é.é",
        "x" * 65537,
    ]
    return found + [bytes([0, RAW]) + token.encode() for token in raw]


_ODD_HEADERS: list[tuple[str, Any]] = [
    *(("alg", value) for value in ("none", "HS256", "es256", None, [], 1)),
    *(("kid", value) for value in ("", "x" * 257, None, 1, "eddsa")),
    *(("typ", value) for value in ("JWT", "application/at+jwt", "dpop+jwt", "AT+JWT", None, 1)),
    *(
        (name, value)
        for name in ("crit", "b64", "jwk", "jku", "x5c", "x5u", "zip", "enc", "cty")
        for value in ([], "x")
    ),
]
_ODD_CLAIMS: list[tuple[str, Any]] = [
    *(
        ("exp", value)
        for value in (NOW - 1, NOW, NOW + 1, NOW + 0.5, 1e15, -1, "9", True, None, [])
    ),
    *(
        (name, value)
        for name in ("nbf", "iat")
        for value in (NOW + 60, NOW + 61, -5, 0.5, "9", True, None)
    ),
    *(("iss", value) for value in (ISSUER + "/", "", None, [ISSUER], 1)),
    *(
        ("aud", value)
        for value in (
            [AUDIENCE],
            ["x", AUDIENCE],
            [],
            [AUDIENCE, 1],
            ["x"] * 65,
            "",
            None,
            {AUDIENCE: 1},
        )
    ),
    *(
        (name, value)
        for name in ("sub", "client_id", "jti", "azp")
        for value in ("", "\n", "é", None, 1, [])
    ),
    *(
        (name, value)
        for name in ("scope", "scp")
        for value in ("", " a  b ", "a\tb", ["a", "b"], [1], [[]], None, {}, 'a"b')
    ),
    *(("cnf", value) for value in ({"jkt": "x"}, None)),
    ("nested", [[{"deep": [1, 2.5, None, "é", "\U0001f600"]}]]),
]


def is_accepted(data: bytes) -> bool:
    """Return whether some verifier accepts the token of this input: those inputs lead the fuzzer
    past the signature.
    """
    _, _, token = _read(data)
    return any(
        isinstance(_verdict(verifier, token), AccessToken) for verifier in _verifiers.values()
    )


def _read(data: bytes) -> tuple[SigningKey, int, str]:
    number, kind, rest = (
        (data[0] if data else 0) % len(_ALL),
        (data[1] if len(data) > 1 else 0) % 3,
        data[2:],
    )
    signer = _ALL[number]
    if kind == SIGN:
        header, _, payload = rest.partition(b"\n")
        token = _sign(signer, header, payload)
    elif kind == RAW:
        token = rest.decode("utf-8", "surrogateescape")
        signer = next(
            (each for number, each in enumerate(_ALL) if token.startswith(_starts[number])), signer
        )
    else:
        token = _patched(_valid[number], rest)
    return signer, kind, token


def check(data: bytes) -> None:
    """Verify one token with each verifier, twice: the cache must not change the verdict."""
    signer, kind, token = _read(data)
    issuer = peek_issuer(token)
    assert issuer is None or type(issuer) is str
    for name, verifier in _verifiers.items():
        first, second = _verdict(verifier, token), _verdict(verifier, token)
        assert first == second, f"{name}: {first} at first, then {second}"
        if isinstance(first, AccessToken):
            assert kind != PATCH or token in _valid, f"{name} accepts another signature: {token!r}"
            assert kind != RAW or _is_canonical(signer, token), (
                f"{name} accepts another spelling: {token!r}"
            )
            _judge(name, signer, token, first)
        else:
            assert first in _REASONS, first


def _verdict(verifier: JWTVerifier, token: str) -> AccessToken | str:
    try:
        return finish(verifier.verify(token))
    except InvalidToken as refusal:
        return refusal.reason


def _patched(token: str, pairs: bytes) -> str:
    """Return the token with some characters replaced; places count from the end, where the
    signature is.
    """
    characters = list(token)
    for position in range(0, len(pairs) - 2, 3):
        place = int.from_bytes(pairs[position : position + 2], "big") % len(characters)
        characters[-1 - place] = chr(pairs[position + 2])
    return "".join(characters)


def _is_canonical(signer: SigningKey, token: str) -> bool:
    """Return whether no other text spells the same token; an ECDSA signature is one of many, the
    others are the one.
    """
    parts = [base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) for text in token.split(".")]
    signing_input = token.rpartition(".")[0].encode()
    randomised = signer.algorithm.startswith(("ES", "PS"))
    return token == ".".join(map(encode_base64url, parts)) and (
        randomised or signer.sign(signing_input) == parts[2]
    )


def _part(token: str, index: int) -> Any:
    text = token.split(".")[index]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _judge(name: str, signer: SigningKey, token: str, access: AccessToken) -> None:
    """Hold an accepted token to RFC 7515, 7519, 8725 and 9068."""
    header, claims = _part(token, 0), _part(token, 1)
    key_types = {"one": "EC", "symmetric": "oct"}
    assert header["alg"] in _ALGORITHMS
    assert _ALGORITHMS[header["alg"]].key_type == _ALGORITHMS[signer.algorithm].key_type
    if name != "symmetric":
        assert header["alg"] == signer.algorithm, "one algorithm for each key"
    assert name not in key_types or _ALGORITHMS[header["alg"]].key_type == key_types[name]
    assert not {"crit", "b64", "zip", "enc"} & set(header)
    types = ["at+jwt"] if name == "strict" else ["", "jwt", "jose", "at+jwt"]
    typ, kid = (header[each] if type(header.get(each)) is str else "" for each in ("typ", "kid"))
    assert typ.lower().removeprefix("application/") in types
    assert name in ("one", "symmetric") or kid in ("", signer.key_id)
    given = {each: value for each, value in claims.items() if value not in (None, "", [], {})}

    if not typ.lower().endswith("at+jwt"):
        assert not any(claims.get(each) for each in ("at_hash", "c_hash", "s_hash")), "an ID token"
        assert claims.get("typ") != "ID"
        signed_in = claims.get("nonce") and (claims.get("auth_time") or claims.get("azp"))
        assert not signed_in or given.get("scope") or given.get("scp")

    assert claims["iss"] == ISSUER
    assert claims["aud"] == AUDIENCE or (type(claims["aud"]) is list and AUDIENCE in claims["aud"])
    assert _is_number(claims["exp"])
    assert claims["exp"] > NOW
    assert "nbf" not in given or _is_number(given["nbf"])
    times = [given[each] for each in ("nbf", "iat") if _is_number(given.get(each))]
    assert all(each <= NOW + 60 for each in times)
    assert "cnf" not in given
    if name == "strict":
        assert "sub" in given
        issued_at = given["iat"] if _is_number(given.get("iat")) else NOW
        assert claims["exp"] - issued_at <= 3600
    assert access.token == token
    assert access.claims == claims
    assert access.expires_at == int(claims["exp"])
    assert access.subject == (str(given["sub"]) if "sub" in given else None)
    assert access.resource == AUDIENCE
    named = [given.get(each) for each in ("client_id", "azp", "appid", "cid", "sub")]
    assert access.client_id == next(
        (str(each) for each in named if type(each) in (str, int)), "unknown"
    )
    for text in (access.client_id, access.subject or "-"):
        assert text
        assert text.isprintable()
    assert all(type(scope) is str for scope in access.scopes)
    assert len(set(access.scopes)) == len(access.scopes)
    assert "token=" not in repr(access)
