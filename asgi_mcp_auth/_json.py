"""Strict parsers for untrusted JSON, base64url and percent-encoding. Pure.

Stricter than the standard library: no duplicate members, no NaN or Infinity, no numbers longer than
a clock or a counter needs, no lone surrogates, bounded size and depth; base64url only in its
canonical spelling.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeGuard

from .types import JSONObject

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NUMBER_CHARS = 20
# Of JSON that anyone can send: as many commas and brackets as the densest 12 KiB, which take 2 ms.
# Honest tokens have less in 48 KiB.
MAX_QUICK_PIECES = 6000
MAX_SHOWN = 64  # characters of a name in a message

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def _object(pairs: list[tuple[str, Any]]) -> JSONObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise json.JSONDecodeError(f"duplicate member {name[:MAX_SHOWN]!r}", "", 0)
    return members


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise json.JSONDecodeError("number too long", "", 0)
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise json.JSONDecodeError("number out of range", "", 0)
    return value


def _constant(text: str) -> float:
    raise json.JSONDecodeError(f"{text} is not JSON", "", 0)


_decoder: Any = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
)
# decode() does the same with two more passes of regular expressions.
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once


def parse_json(data: bytes, *, max_bytes: int = MAX_BYTES) -> Any:
    """Return the one JSON value in ``data``.

    Raises:
        ValueError: ``data`` is not valid JSON, or breaks a rule of this module
            (``json.JSONDecodeError`` or ``UnicodeDecodeError``).

    RFC 8259; RFC 7515 §4 (member names must be unique).
    """
    if len(data) > max_bytes:
        raise json.JSONDecodeError("too large", "", 0)
    # Counts brackets inside strings as well, so only a suspicious text needs a real measurement.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _is_deeper(data, MAX_DEPTH):
        raise json.JSONDecodeError("nested too deeply", "", 0)
    text = data.decode("utf-8").strip(" \t\n\r")
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise json.JSONDecodeError("no value", "", 0) from None
    if end != len(text):
        raise json.JSONDecodeError("trailing data", "", 0)
    if b"\\u" in data:
        # A lone surrogate cannot be encoded; it would fail later, in a log or a header.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def parse_json_object(data: bytes, *, max_bytes: int = MAX_BYTES) -> JSONObject:
    """Return the JSON object in ``data``.

    Raises:
        ValueError: as for ``parse_json``, or the value is not an object.
    """
    value = parse_json(data, max_bytes=max_bytes)
    if not is_object(value):
        raise json.JSONDecodeError("not an object", "", 0)
    return value


class TooDense(ValueError):
    """JSON takes longer to read than others can wait."""


def check_quick(data: bytes) -> bytes:
    """Return JSON of which nothing is known, if it is read quickly however it is written.

    Raises:
        TooDense: it has too many members.
    """
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_QUICK_PIECES:
        raise TooDense
    return data


def is_object(value: object) -> TypeGuard[JSONObject]:
    """Return whether a parsed value is a JSON object."""
    return type(value) is dict


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Return whether a parsed value is a JSON array."""
    return type(value) is list


def is_absent(value: object) -> bool:
    """Return whether a member counts as left out: it is null, or an empty text, list or object."""
    return value is None or value in ("", [], {})


def _is_deeper(data: bytes, levels: int) -> bool:
    """Return whether brackets are nested deeper than ``levels``, or do not match."""
    brackets = _STRING.sub(b"", data).translate(_TO_SQUARE, _NOT_BRACKETS)
    for _ in range(levels):  # a loop over the bytes would take milliseconds
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


_URLSAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
# The last character may carry 4 or 2 bits that decoding discards. They must be zero.
_LAST_CHARACTER = {0: _URLSAFE, 2: b"AQgw", 3: b"AEIMQUYcgkosw048"}
_PADDING = {0: b"", 2: b"==", 3: b"="}


def decode_base64url(text: bytes) -> bytes:
    """Return the bytes of unpadded base64url, of which every value has exactly one spelling.

    Raises:
        ValueError: padding, invalid characters, an impossible length, or stray bits at the end.

    RFC 7515 §2; RFC 4648 §3.5.
    """
    if not text:
        return b""
    remainder = len(text) % 4
    if remainder == 1 or text[-1] not in _LAST_CHARACTER[remainder]:
        raise binascii.Error("not canonical base64url")
    # a2b_base64 skips invalid characters, so the result is too short.
    data = binascii.a2b_base64(text.translate(_TO_STANDARD, b"+/") + _PADDING[remainder])
    if len(data) != len(text) * 3 // 4:
        raise binascii.Error("not base64url")
    return data


def encode_base64url(data: bytes) -> str:
    """Return unpadded base64url (RFC 7515 §2)."""
    return (
        binascii.b2a_base64(data, newline=False)
        .rstrip(b"=")
        .replace(b"+", b"-")
        .replace(b"/", b"_")
        .decode("ascii")
    )


def decode_form(text: bytes) -> str:
    """Return a decoded name or value of a form or a query.

    Raises:
        ValueError: non-ASCII characters, a percent sign without two hexadecimal digits, or invalid
            UTF-8.

    WHATWG URL §5.1.
    """
    if b"%" not in text and b"+" not in text:
        return text.decode("ascii")
    plain = text.replace(b"+", b" ").decode("ascii")
    # Python's codec for \x41 is ten times as fast as decoding each %41.
    escaped = plain.replace("\\", r"\x5c").replace("%", r"\x")
    return escaped.encode("ascii").decode("unicode_escape").encode("latin-1").decode("utf-8")
