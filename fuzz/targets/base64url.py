"""base64url: what is accepted has one spelling, and it is the standard library's; nothing else is
refused.
"""

from __future__ import annotations

import base64
import re

from asgi_mcp_auth._json import decode_base64url, encode_base64url

DICTIONARY: tuple[bytes, ...] = (b"=", b"==", b"-", b"_", b"+", b"/", b"\n")


def seeds() -> list[bytes]:
    """Return texts of every remainder, canonical or nearly."""
    texts = [base64.urlsafe_b64encode(bytes(range(length))).rstrip(b"=") for length in range(9)]
    return [*texts, b"AB", b"AAB", b"A", b"AA==", b"A+/A", b"A-_A", b"AA\nAA", "AAAé".encode()]


def check(data: bytes) -> None:
    """Compare with an independent reading."""
    try:
        octets = decode_base64url(data)
    except ValueError:
        assert _canonical(data) is None, f"{data!r} is canonical and was refused"
        return
    assert octets == _canonical(data), f"{data!r} became {octets!r}"
    assert encode_base64url(octets) == data.decode("ascii")


def _canonical(data: bytes) -> bytes | None:
    """Return the value when ``data`` is its one spelling."""
    if re.fullmatch(rb"[A-Za-z0-9_-]*", data) is None or len(data) % 4 == 1:
        return None
    octets = base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))
    return octets if base64.urlsafe_b64encode(octets).rstrip(b"=") == data else None
