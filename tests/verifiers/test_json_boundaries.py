"""The strict readers at their edges: one byte, one level, one bit to each side."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_mcp_auth._json import (
    decode_base64url,
    encode_base64url,
    parse_json,
    parse_json_object,
)

KIB_256 = 262_144


def nested(depth: int, opening: str = "[", closing: str = "]", inner: str = "") -> bytes:
    return (opening * depth + inner + closing * depth).encode()


def padded(size: int) -> bytes:
    return b'{"a":1}'.ljust(size)


def test_256_kib_are_read_and_one_byte_more_is_too_large() -> None:
    assert parse_json(padded(KIB_256)) == parse_json_object(padded(KIB_256)) == {"a": 1}
    for parse in (parse_json, parse_json_object):
        with pytest.raises(ValueError, match="too large"):
            parse(padded(KIB_256 + 1))


def test_the_callers_limit_replaces_the_usual_one() -> None:
    for parse in (parse_json, parse_json_object):
        assert parse(padded(10), max_bytes=10) == {"a": 1}
        with pytest.raises(ValueError, match="too large"):
            parse(padded(11), max_bytes=10)
        assert parse(padded(KIB_256 + 1), max_bytes=KIB_256 + 1) == {"a": 1}


@pytest.mark.parametrize(
    ("opening", "closing", "inner"), [("[", "]", ""), ('{"a":', "}", "1"), ('[{"a":', "}]", "1")]
)
def test_32_levels_are_read_and_33_are_too_many(opening: str, closing: str, inner: str) -> None:
    levels = opening.count("[") + opening.count("{")
    parse_json(nested(32 // levels, opening, closing, inner))
    with pytest.raises(ValueError, match="deep"):
        parse_json(b"[" + nested(32 // levels, opening, closing, inner) + b"]")


@pytest.mark.parametrize(
    "text",
    [
        "[" + "[]," * 100 + "[]]",
        "[" + "{}," * 100 + "{}]",
        "[" + ",".join(["[[]]"] * 100) + "]",
        '["' + "[" * 100 + '"]',
        '["' + "{" * 100 + '"]',
        '["\\"' + "[" * 100 + '"]',
        '["\\\\","' + "[" * 100 + '"]',
        '{"' + "[" * 100 + '":"' + "]" * 100 + '"}',
        '["\u2028' + "[" * 100 + '"]',
    ],
)
def test_brackets_side_by_side_or_in_strings_are_not_levels(text: str) -> None:
    assert parse_json(text.encode())


def test_what_is_closed_is_not_counted_and_what_is_open_is() -> None:
    parse_json(b"[[]," + nested(31) + b"]")
    parse_json(b"[[],{},[[]]," + nested(31) + b"]")
    for before in (b"[]", b"{}", b"[[]]", b"[],[]"):
        with pytest.raises(ValueError, match="deep"):
            parse_json(b"[" + before + b"," + nested(32) + b"]")


def test_a_bracket_in_a_string_does_not_hide_the_levels_after_it() -> None:
    closed = '["]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",' + "[" * 32 + "]" * 33
    with pytest.raises(ValueError, match="deep"):
        parse_json(closed.encode())


@pytest.mark.parametrize("space", [b" ", b"\t", b"\n", b"\r", b" \t\r\n "])
def test_the_four_white_spaces_of_json_may_surround_a_value(space: bytes) -> None:
    assert parse_json(space + b"[1]") == parse_json(b"[1]" + space) == [1]


@pytest.mark.parametrize(
    "space", [b"\x0b", b"\x0c", b"\xc2\xa0", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\0", b"X", b"n"]
)
def test_nothing_else_may_surround_a_value(space: bytes) -> None:
    for text in (space + b"[1]", b"[1]" + space):
        with pytest.raises(ValueError):  # noqa: PT011 (no value, or trailing data)
            parse_json(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"99999999999999999999", 99999999999999999999),
        (b"-9999999999999999999", -9999999999999999999),
        (b"0", 0),
        (b"-0", 0),
        (b"1.5", 1.5),
        (b"1e308", 1e308),
        (b"true", True),
        (b"null", None),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'{"a":{"a":1}}', {"a": {"a": 1}}),
        (b'[{"a":1},{"a":2}]', [{"a": 1}, {"a": 2}]),
    ],
)
def test_values_at_the_edge_are_read(text: bytes, value: Any) -> None:
    assert parse_json(text) == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"100000000000000000000", "too long"),
        (b"-10000000000000000000", "too long"),
        (b"1e309", "out of range"),
        (b"-1e309", "out of range"),
        (b"NaN", "not JSON"),
        (b"Infinity", "not JSON"),
        (b"-Infinity", "not JSON"),
        (b'{"a":1,"a":1}', "duplicate"),
        (b'{"x":{"a":1,"a":1}}', "duplicate"),
        (b'{"a":1,"\\u0061":1}', "duplicate"),
        (b"", "no value"),
        (b" ", "no value"),
        (b"1 2", "trailing"),
        (b"{}{}", "trailing"),
        (b'"\\ud800"', "surrogates"),
        (b'{"\\udfff":1}', "surrogates"),
        (b'"\xed\xa0\x80"', "utf-8"),
        (b"\xff", "utf-8"),
        (b'"\n"', "control character"),
    ],
)
def test_what_json_loads_might_let_pass_is_refused(text: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_json(text)


@pytest.mark.parametrize("text", [b"[]", b"[{}]", b"1", b'"{}"', b"null", b"true"])
def test_only_an_object_is_an_object(text: bytes) -> None:
    with pytest.raises(ValueError, match="not an object"):
        parse_json_object(text)


@pytest.mark.parametrize("length", range(20))
def test_every_length_survives_the_way_there_and_back(length: int) -> None:
    for octets in (bytes(length), b"\xff" * length, b"\xfb\xef\xbe" * length):
        text = encode_base64url(octets)
        assert text == base64.urlsafe_b64encode(octets).decode().rstrip("=")
        assert decode_base64url(text.encode()) == octets


def test_of_texts_that_differ_in_the_last_character_only_canonical_ones_are_read() -> None:
    """Each has at most one value that encodes to it (RFC 4648 §3.5)."""
    canonical = {base64.urlsafe_b64encode(bytes(octets)).rstrip(b"=") for octets in _endings()}
    for prefix in (b"", b"A", b"AA", b"AAA", b"AAAA", b"AAAAA"):
        for last in range(256):
            text = prefix + bytes([last])
            try:
                octets = decode_base64url(text)
            except ValueError:
                assert text not in canonical, text
            else:
                assert base64.urlsafe_b64encode(octets).rstrip(b"=") == text
                assert text in canonical


def _endings() -> Iterator[list[int]]:
    for value in range(256):
        yield from ([value], [0, value], [0, 0, value], [0, 0, 0, value])


ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize("place", range(8))
def test_a_byte_outside_the_alphabet_is_refused_wherever_it_stands(place: int) -> None:
    for character in sorted(set(range(256)) - set(ALPHABET)):
        for length in (8, 10, 11):
            text = bytearray(b"A" * length)
            text[place] = character
            with pytest.raises(ValueError):  # noqa: PT011 (ours or the standard library's)
                decode_base64url(bytes(text))
