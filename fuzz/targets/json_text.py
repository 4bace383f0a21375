"""JSON: what is accepted equals what ``json.loads`` gives, and what is refused has one of the
documented reasons.
"""

from __future__ import annotations

import json
import math
from typing import Any

from asgi_mcp_auth._json import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NUMBER_CHARS,
    parse_json,
    parse_json_object,
)

DICTIONARY: tuple[bytes, ...] = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b'"',
        b"\\",
        b'"a":',
        b"null",
        b"true",
        b"false",
        b"NaN",
        b"Infinity",
    ),
    *(
        b"\\u0000",
        b"\\ud800",
        b"\\udc00",
        b"\\ud83d\\ude00",
        b"1e400",
        b"-0",
        b"1E+2",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
    ),
    *(
        b"12345678901234567890",
        b"[" * MAX_DEPTH,
        b'{"a":' * MAX_DEPTH,
        b'"\\"',
        b'"\\\\"',
        b"\r\n\t ",
    ),
)


def seeds() -> list[bytes]:
    """Return documents of every kind, and broken ones."""
    documents = [
        {
            "iss": "https://idp.example",
            "aud": ["a", "b"],
            "exp": 1_800_000_300,
            "nested": {"a": [1, -2.5e3, None]},
        },
        {"text": 'quote " backslash \\ brace { bracket [ é \U0001f600'},
        [[[[["deep"]]]]],
        {"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]},
    ]
    texts = [json.dumps(each).encode() for each in documents]
    texts += [json.dumps(each, ensure_ascii=False).encode() for each in documents]
    texts += [b"[" * depth + b"]" * depth for depth in (MAX_DEPTH, MAX_DEPTH + 1, 200)]
    texts += [
        b'["' + b"[" * 100 + b'"]',
        b'["\\"' + b"[" * 100 + b'"]',
        b'"\\',
        b'{"a":1,"a":2}',
        b'{"a":1} x',
        b" 1 ",
    ]
    return [
        *texts,
        b"",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"123456789012345678901",
        b'"\\ud800"',
        b"\xff",
        b"{}",
        b"0",
    ]


def check(data: bytes) -> None:
    """Compare with the standard library."""
    try:
        value = parse_json(data)
    except ValueError:
        assert _has_reason(data), f"{data!r} was refused without a documented reason"
        return
    # UTF-8 only: json.loads would guess other encodings from bytes.
    assert repr(value) == repr(json.loads(data.decode("utf-8"))), data
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    assert _depth(value) <= MAX_DEPTH
    try:
        assert parse_json_object(data) == value
    except ValueError:
        assert type(value) is not dict


class _Reason(Exception):
    """One of the documented refusals."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise _Reason
    return dict(pairs)


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise _Reason
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise _Reason
    return float(text)


def _refuse(text: str) -> float:
    raise _Reason


def _depth(value: Any) -> int:
    children = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    )
    return 0 if children is None else 1 + max(map(_depth, children), default=0)


def _has_reason(data: bytes) -> bool:
    if len(data) > MAX_BYTES:
        return True
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_refuse,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError, _Reason):
        return True
    return _depth(value) > MAX_DEPTH
