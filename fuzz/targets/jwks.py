"""JWK set documents: bad keys are skipped, bad documents refused, and what is left can be asked
without a crash.
"""

from __future__ import annotations

import json
from typing import Any

from asgi_mcp_auth._jose import ASYMMETRIC, UnusableKey
from asgi_mcp_auth._json import parse_json_object
from asgi_mcp_auth.jwks import MAX_BYTES
from asgi_mcp_auth.keys import key_set_from
from fuzz.keys import SECRET, SIGNERS

DICTIONARY: tuple[bytes, ...] = (
    *(
        b'"keys"',
        b'"kty"',
        b'"crv"',
        b'"alg"',
        b'"use"',
        b'"key_ops"',
        b'"kid"',
        b'"n"',
        b'"e"',
        b'"x"',
        b'"y"',
        b'"d"',
        b'"k"',
    ),
    *(
        b'"RSA"',
        b'"EC"',
        b'"OKP"',
        b'"oct"',
        b'"P-256"',
        b'"P-384"',
        b'"P-521"',
        b'"secp256k1"',
        b'"Ed25519"',
        b'"Ed448"',
    ),
    *(
        b'"sig"',
        b'"enc"',
        b'["verify"]',
        b'"AQAB"',
        b'"Aw"',
        b'"AA"',
        b'""',
        b"[]",
        b"{}",
        b"null",
        b"1",
        b"true",
        b"[[]]",
        b",",
        b":",
    ),
    *(f'"{name}"'.encode() for name in ASYMMETRIC),
)


def seeds() -> list[bytes]:
    """Return good sets and bad ones."""
    keys: list[Any] = [signer.public_jwk() for signer in SIGNERS.values()]
    odd: list[Any] = [
        *(
            {**key, "alg": alg}
            for key in keys[:1]
            for alg in ("HS256", "none", "", None, 1, [], {}, "RS256")
        ),
        *(
            {**key, member: value}
            for key in keys[:3]
            for member in key
            for value in (None, 1, "", [], {}, "AA", "*")
        ),
        {**keys[0], "use": "enc"},
        {**keys[0], "key_ops": ["sign"]},
        {**keys[0], "d": "AA"},
        {"kty": "oct", "k": "AAAA"},
        *(None, 1, "key", [], {}),
    ]
    unnamed = [{name: value for name, value in key.items() if name != "kid"} for key in keys]
    sets: list[Any] = [{"keys": [key]} for key in (*keys, *odd)]
    sets += [
        {"keys": keys},
        {"keys": unnamed},
        {"keys": [*keys, *keys]},
        {"keys": [keys[0], {**keys[1], "kid": "es256"}]},
    ]
    sets += [{"keys": [keys[4]] * 65}, {"keys": {}}, {"keys": None}, {}, []]
    return [json.dumps(each, separators=(",", ":")).encode() for each in sets] + [b"", b"{", SECRET]


def check(data: bytes) -> None:
    """Read the document as a refresh does, then look for keys as a request does."""
    try:
        document = parse_json_object(data, max_bytes=MAX_BYTES)
        found, skipped = key_set_from(document, ASYMMETRIC)
    except (ValueError, UnusableKey):
        return
    members = document["keys"]
    assert len(skipped) <= len(members)
    assert all(why.isprintable() for why in skipped), skipped
    names = {_text(member, "kid") for member in members} - {None}
    for algorithm in ASYMMETRIC:
        for name in (None, "no such key", *names):
            keys = found.find(name, algorithm)
            assert len({key.material for key in keys}) == len(keys)
            assert name is None or len({key.key_id for key in keys}) <= 1
            for key in keys:
                assert key.algorithm == algorithm
                assert name is None or key.key_id in (name, None)
                _check_origin(key.key_id, key.algorithm, members)
                for signature in (b"", b"\0" * 64, b"\xff" * 64, b"\1" * 256):
                    assert key.verify(b"message", signature) is False


def _text(member: object, name: str) -> str | None:
    """A member that is text; null, empty and of another type count as left out."""
    value = member.get(name) if isinstance(member, dict) else None
    return value if type(value) is str and value else None


def _check_origin(key_id: str | None, algorithm: str, members: list[Any]) -> None:
    """Some member must be public, meant for signatures, and allow the algorithm."""
    assert any(
        isinstance(member, dict)
        and _text(member, "kid") == key_id
        and _text(member, "alg") in (algorithm, None)
        and _text(member, "use") in ("sig", None)
        and not any(_text(member, name) for name in ("d", "p", "q", "k"))
        and member.get("kty")
        == {"R": "RSA", "P": "RSA", "ES": "EC"}.get(
            algorithm[:1] if algorithm[1] == "S" and algorithm[0] in "RP" else algorithm[:2], "OKP"
        )
        for member in members
    ), (key_id, algorithm)
