"""Unpacks compressed bodies, within a bound. Pure."""

from __future__ import annotations

import zlib

MAX_MEMBERS = 64  # each one costs a copy of what comes after it
_GZIP = zlib.MAX_WBITS | 16
#: The codings that are read, with zlib's name for them (RFC 9110 §8.4.1).
CODINGS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": zlib.MAX_WBITS}


def parse_content_encoding(value: str) -> str:
    """Return the coding of a body in lower case, ``""`` for none.

    Several are returned as they are; they are none of ``CODINGS``.
    """
    codings = [each.strip().lower() for each in value.split(",")]
    return ", ".join(each for each in codings if each not in ("", "identity"))


def unpack(packed: bytes, coding: str, *, max_bytes: int) -> bytes:
    """Return the unpacked body, or its first ``max_bytes + 1`` bytes.

    Args:
        packed: the body as it was sent, which bounds the time that this takes.
        coding: one of ``CODINGS``.
        max_bytes: where to stop; a bomb costs no more memory than this.

    Raises:
        zlib.error: the body is not what its coding says, is cut short, or has too many members.

    RFC 1950, RFC 1951, RFC 1952 §2.2 (gzip may have several members).
    """
    window_bits = CODINGS[coding]
    # RFC 9110 §8.4.1.2: some servers send "deflate" without its zlib header.
    if coding == "deflate" and not _has_zlib_header(packed):
        window_bits = -window_bits
    unpacked = bytearray()
    members = 0
    while packed and len(unpacked) <= max_bytes:
        members += 1
        if members > MAX_MEMBERS:
            raise zlib.error(f"the {coding} body has more than {MAX_MEMBERS} members")
        member = zlib.decompressobj(window_bits)
        try:
            unpacked += member.decompress(packed, max_bytes + 1 - len(unpacked))
        except zlib.error as error:
            raise zlib.error(f"the body is not {coding}: {error}") from None
        if not member.eof and len(unpacked) <= max_bytes:
            raise zlib.error(f"the {coding} body is cut short")
        packed = member.unused_data.lstrip(b"\0")  # padding
    return bytes(unpacked)


def _has_zlib_header(packed: bytes) -> bool:
    # RFC 1950 §2.2: the method is 8, and the first two bytes are a multiple of 31.
    return packed[:1] != b"" and packed[0] & 15 == 8 and int.from_bytes(packed[:2]) % 31 == 0
