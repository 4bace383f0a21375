"""JSON that one reader takes and another does not, which nothing of ours may take (RFC 8259;
RFC 7515 §4: member names must be unique).
"""

from __future__ import annotations

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# a value, and why no text that holds it is read
VALUES = [
    (b'{"a":1,"a":1}', "duplicate member 'a'"),
    (b'{"a":1,"\\u0061":2}', "duplicate member 'a'"),
    (b'[{"b":{"a":1,"a":2}}]', "duplicate member 'a'"),
    (b'{"a":1,"b":2,"c":3,"b":4,"c":5}', "duplicate member 'b'"),
    (b'{"\\n\\u202e":1,"\\n\\u202e":1}', "duplicate member '\\\\n\\\\u202e'"),
    (b'{"%b":1,"%b":1}' % (b"a" * 99, b"a" * 99), f"duplicate member '{'a' * 64}'"),
    (b"NaN", "NaN is not JSON"),
    (b"[Infinity]", "Infinity is not JSON"),
    (b'{"a":-Infinity}', "-Infinity is not JSON"),
    (b"1e309", "number out of range"),
    (b"-1e309", "number out of range"),
    (b"9" * 21, "number too long"),
    (b"-" + b"9" * 20, "number too long"),
    (b'"\xff"', "utf-8"),
    (b'"\xc0\xaf"', "utf-8"),
    (b'"\xed\xa0\x80"', "utf-8"),
    (b'"\\ud800"', "surrogates not allowed"),
    (b'{"\\udfff":1}', "surrogates not allowed"),
    (b'["\\ud800\\u0041"]', "surrogates not allowed"),
    (b'"\n"', "control character"),
    (b'"\\x"', "Invalid"),
    (b"[" * 33 + b"]" * 33, "nested too deeply"),
    (b'{"a":' * 33 + b"1" + b"}" * 33, "nested too deeply"),
    (b'["\\"",' * 33, "nested too deeply"),
    (b"[" * 1000, "nested too deeply"),
]


def broken(good: bytes) -> list[bytes]:
    """Return what may come where ``good``, a JSON object with members, is expected."""
    return [text for text, _ in why_broken(good)]


def broken_answers(good: bytes) -> list[bytes]:
    """Return the same for the answers of issuers, from which a byte order mark is removed (RFC 8259
    §8.1).
    """
    return [text for text in broken(good) if not text.startswith(BYTE_ORDER_MARK)]


def why_broken(good: bytes) -> list[tuple[bytes, str]]:
    """Return the same, and why each is not read."""
    text, whole = good.decode(), good[:-1]
    return [
        *((b'%b,"x":%b}' % (whole, value), why) for value, why in VALUES),
        (whole + b"," + good[1:], "duplicate member"),
        (whole + b',"x":01}', "Expecting"),
        (whole + b",}", "Expecting|Illegal"),
        (whole, "Expecting"),
        (good.replace(b'"', b"'"), "Expecting"),
        (BYTE_ORDER_MARK + good, "no value"),
        (b"\xa0" + good, "utf-8"),
        (text.encode("utf-16"), "utf-8"),
        (text.encode("utf-16-le"), "Expecting"),
        (text.encode("utf-32"), "utf-8"),
        (good + b"x", "trailing data"),
        (good + b"\0", "trailing data"),
        (good + good, "trailing data"),
        (good + b" {}", "trailing data"),
        (b"[" + good + b"]", "not an object"),
        *((value, "not an object") for value in (b"[]", b"null", b"true", b"5", b'"a"')),
        *((value, "no value") for value in (b"", b" ", b"<html>")),
        (b"{", "Expecting"),
        (b"NaN", "NaN is not JSON"),
    ]
