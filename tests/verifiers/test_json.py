"""The strict readers of JSON, base64url and forms, and their edges: one byte, one level, one bit to
each side.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_mcp_auth._json import (
    MAX_DEPTH,
    TooDense,
    check_quick,
    decode_base64url,
    decode_form,
    encode_base64url,
    parse_json,
    parse_json_object,
)
from tests.support.rows import rows
from tests.tables import json_texts

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


KIB_256 = 262_144


def nested(depth: int, opening: str = "[", closing: str = "]", inner: str = "") -> bytes:
    return (opening * depth + inner + closing * depth).encode()


def padded(size: int) -> bytes:
    return b'{"a":1}'.ljust(size)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(value=VALUES, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_every_json_value_is_read_as_it_was_written(
    value: Any, ascii_only: bool, indent: int | None
) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    if depth_of(value) <= MAX_DEPTH:
        assert parse_json(data) == value
    else:
        with pytest.raises(json.JSONDecodeError, match="nested too deeply"):
            parse_json(data)


@given(
    st.one_of(
        st.binary(max_size=100),
        st.text('{}[]",:\\u0123456789eE+-.truefalsn \n', max_size=60).map(str.encode),
    )
)
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b'"' + b"[" * 100)
@example(b'"\\' * 50)
@example(b"]" * 50 + b"[" * 50)
@example(b"9" * 10_000)
@example(b"-" + b"9" * 4301)
@example(b"1" * 400 + b".5")
@example(b"1e" + b"9" * 400)
def test_whatever_bytes_are_they_are_json_or_a_value_error(data: bytes) -> None:
    try:
        value = parse_json(data)
    except ValueError:
        return
    # What we accept, the standard library reads in the same way, and it can be written again.
    assert json.loads(data) == value
    assert depth_of(value) <= MAX_DEPTH
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@rows(("data", "why"), json_texts.VALUES, ids=lambda value: repr(value)[:30])
def test_what_only_some_readers_understand_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_json(data)


@rows(("data", "why"), json_texts.why_broken(b'{"b":{},"c":1}'), ids=lambda value: repr(value)[:30])
def test_an_object_is_one_object_that_every_reader_understands(data: bytes, why: str) -> None:
    assert parse_json_object(b'{"b":{},"c":1}') == {"b": {}, "c": 1}
    with pytest.raises(ValueError, match=why):
        parse_json_object(data)


@rows(
    ("data", "value"),
    [
        (b" \t\r\n1 \t\r\n", 1),
        (b"0", 0),
        (b"-0", 0),
        (b"1.5", 1.5),
        (b"true", True),
        (b"null", None),
        (b"9" * 20, 10**20 - 1),
        (b"-" + b"9" * 19, -(10**19) + 1),
        (b"1e308", 1e308),
        (b"5e-324", 5e-324),
        (b"1e-400", 0.0),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\u0000"', "\0"),
        (b"[" * 32 + b"]" * 32, None),
        (b'"' + b"[{" * 1000 + b'"', "[{" * 1000),
        (b'["[[[", "\\"[[[[", "\\\\", ' + b"[" * 30 + b"]" * 30 + b', "' + b"]" * 50 + b'"]', None),
        (b'{"a":{"a":1},"b":{"a":1}}', {"a": {"a": 1}, "b": {"a": 1}}),
        (b'[{"a":1},{"a":2}]', [{"a": 1}, {"a": 2}]),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_every_reader_understands_is_read(data: bytes, value: Any) -> None:
    assert parse_json(data) == (json.loads(data) if value is None else value)


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


@rows("piece", [b",", b"[", b"{"])
def test_6000_commas_and_brackets_are_read_quickly_and_one_more_is_not(piece: bytes) -> None:
    data = b'{"a":[1,' + piece * 5997
    assert check_quick(data) is data
    with pytest.raises(TooDense):
        check_quick(data + piece)


@pytest.mark.parametrize(
    ("opening", "closing", "inner"), [("[", "]", ""), ('{"a":', "}", "1"), ('[{"a":', "}]", "1")]
)
def test_32_levels_are_read_and_33_are_too_many(opening: str, closing: str, inner: str) -> None:
    levels = opening.count("[") + opening.count("{")
    parse_json(nested(32 // levels, opening, closing, inner))
    with pytest.raises(ValueError, match="deep"):
        parse_json(b"[" + nested(32 // levels, opening, closing, inner) + b"]")


@rows(
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


@rows("space", [b" ", b"\t", b"\n", b"\r", b" \t\r\n "])
def test_the_four_white_spaces_of_json_may_surround_a_value(space: bytes) -> None:
    assert parse_json(space + b"[1]") == parse_json(b"[1]" + space) == [1]


@rows("space", [b"\x0b", b"\x0c", b"\xc2\xa0", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\0", b"X", b"n"])
def test_nothing_else_may_surround_a_value(space: bytes) -> None:
    for text in (space + b"[1]", b"[1]" + space):
        with pytest.raises(ValueError):  # noqa: PT011 (no value, or trailing data)
            parse_json(text)


@rows("data", [b"[]", b"[{}]", b"null", b"true", b"1", b'"{}"', b"1.5"])
def test_an_object_is_an_object(data: bytes) -> None:
    with pytest.raises(json.JSONDecodeError, match="not an object"):
        parse_json_object(data)


@given(st.binary(max_size=80))
def test_base64url_reads_what_it_writes(data: bytes) -> None:
    text = encode_base64url(data)
    assert decode_base64url(text.encode()) == data
    assert not set(text) & set("+/= \n")
    assert len(text) == math.ceil(len(data) * 4 / 3)


@given(
    st.one_of(st.binary(max_size=40), st.text("AQgwEIMBZaz09-_+/=\n ", max_size=12).map(str.encode))
)
@example(b"A" * 5)
@example(b"AA==")
@example(b"AA==AAAA")
@example(b"====")
@example(b"A===")
@example(b"AAA=")
@example(b"AA\nAA")
@example(b"AA+AAA/A")
@example(b"\xff\xff\xff\xff")
def test_every_value_has_one_spelling_and_nothing_else_is_one(text: bytes) -> None:
    try:
        data = decode_base64url(text)
    except binascii.Error:
        return
    assert encode_base64url(data).encode() == text


def test_every_character_but_64_is_refused_wherever_it_stands() -> None:
    good = set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    for byte in set(range(256)) - good:
        for length in (8, 10, 11):
            for at in range(8):
                text = bytearray(b"A" * length)
                text[at] = byte
                with pytest.raises(binascii.Error):
                    decode_base64url(bytes(text))
    for byte in good:
        assert len(decode_base64url(bytes([byte]) * 4)) == 3


@rows("length", range(20))
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


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_was_form_encoded_is_decoded_again(text: str) -> None:
    assert decode_form(quote_plus(text).encode()) == text


@given(st.text(alphabet="%\\+Nnux0129afAFgz{}&= \n\u00e9").map(lambda text: text.encode("latin-1")))
@example(rb"\x41%5cx41\N{DIGIT ONE}")
@example(b"%")
@example(b"%4")
@example(b"%4g")
@example(b"%c3%28")
@example(b"%00%0a")
def test_a_form_is_read_as_the_standard_library_reads_it_or_refused(text: bytes) -> None:
    """Refused is what the standard library takes for text: a percent sign that escapes nothing, and
    other bytes.
    """
    try:
        expected: str | None = unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        expected = None
    if not text.isascii() or re.search(rb"%(?![0-9A-Fa-f]{2})", text):
        expected = None
    try:
        found: str | None = decode_form(text)
    except ValueError:
        found = None
    assert found == expected
