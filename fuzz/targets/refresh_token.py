"""Refresh tokens through the token endpoint: of all texts, one is good; another spelling of it
never is.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode

from asgi_mcp_auth.errors import InvalidGrant
from asgi_mcp_auth.server.tokens.refresh import RefreshTokens
from fuzz.issuer import Issuer

RAW, PATCH, PARTS = range(3)
_issuer = Issuer()
_TOKEN = _issuer.refresh_token
_GRANT = _TOKEN[3:25]
_KEYS = (b"k" * 32, b"l" * 32)
_tokens = RefreshTokens(_KEYS)
DICTIONARY: tuple[bytes, ...] = (
    *(
        b"rt_",
        b".",
        b".0.",
        b".1.",
        b".00.",
        b".-1.",
        b".999999999.",
        b".1000000000.",
        b"TOKEN",
        b"GRANT",
        b"=",
        b"\n",
    ),
    *("\u0661".encode(), b"\0", b" ", b"A" * 22, b"A" * 43, b"\xff", b"RT_", b"%", b"+"),
)


def seeds() -> list[bytes]:
    """Return inputs: a byte for the kind, then a token, (place, byte) pairs, or key, grant,
    generation and the rest.
    """
    raw = [
        b"TOKEN",
        b"TOKEN\n",
        b" TOKEN",
        b"TOKEN=",
        b"TOKENA",
        b"rt_GRANT.0." + b"A" * 43,
        b"rt_GRANT.1.",
        b"",
        b"rt_..",
    ]
    pairs = [b"", b"\0A", b"\x2bB", b"\x2c1", b"\x2d.", b"\x45S"]
    parts = [
        bytes([key]) + b"a-grant-of-22-letters_\0" + number
        for key in (0, 1, 2)
        for number in (b"0", b"1", b"01", b"x")
    ]
    return [
        *(bytes([RAW]) + each for each in raw),
        *(bytes([PATCH]) + each for each in pairs),
        *(bytes([PARTS]) + each for each in parts),
    ]


def check(data: bytes) -> None:
    """Use one token; or sign one, with a key of ours or another one, and read it."""
    kind, rest = (data[0] if data else 0) % 3, data[1:]
    if kind == PARTS:
        _check_parts(rest)
        return
    if kind == RAW:
        token = (
            rest.replace(b"TOKEN", _TOKEN.encode())
            .replace(b"GRANT", _GRANT.encode())
            .decode("utf-8", "replace")
        )
    else:
        characters = list(_TOKEN)
        for position in range(0, len(rest) - 1, 2):
            characters[-1 - rest[position] % len(characters)] = chr(rest[position + 1])
        token = "".join(characters)
    _issuer.reset()
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "public"}
    first = _issuer.document(answer := _issuer.form("/token", form), {200, 400})
    assert (answer.status == 200) == (token == _TOKEN), f"{token!r}: {answer.status}"
    if answer.status == 200:
        # A moment later it gives the same successor again: the answer may have been lost.
        second = _issuer.document(_issuer.form("/token", form), {200})
        assert first["refresh_token"] == second["refresh_token"] != token
    else:
        assert first["error"] == ("invalid_grant" if token else "invalid_request")
        again = _issuer.document(_issuer.form("/token", {**form, "refresh_token": _TOKEN}), {200})
        assert again["refresh_token"], "what a stranger sent has ended somebody's grant"


def _check_parts(data: bytes) -> None:
    """Sign what the fuzzer wants signed: of what the right key has signed, only plain numbers and
    ids are tokens.
    """
    key, rest = (data[0] if data else 0) % 3, data[1:]
    grant, _, generation = rest.decode("utf-8", "replace").partition("\0")
    secret = (*_KEYS, b"m" * 32)[key]
    mac = hmac.new(secret, f"{grant}.{generation}".encode(), hashlib.sha256).digest()
    token = f"rt_{grant}.{generation}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    try:
        found = _tokens.parse(token)
    except InvalidGrant:
        return
    assert key < 2, "signed with another key"
    assert found == (grant, int(generation))
    assert len(grant) == 22
    assert str(int(generation)) == generation, "another spelling of a number"
    if key == 0:
        assert _tokens.make(*found) == token
