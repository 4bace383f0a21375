"""Cookies: whatever else is in the header, somebody is signed in when their session is there, and
not otherwise.
"""

from __future__ import annotations

from fuzz.inprocess import Answer
from fuzz.issuer import Issuer

BEFORE, AFTER, AROUND, ALONE = range(4)
_issuer = Issuer()
_SESSION, _VALUE = next(
    (name, value) for name, value in _issuer.cookies.items() if "session" in name
)
# The name and the value differ from start to start.
NAME, VALUE = b"NAME", b"VALUE"
DICTIONARY: tuple[bytes, ...] = (
    *(
        b"; ",
        b";",
        b"=",
        b'"',
        b"\\",
        b"\\073",
        b",",
        b" ",
        b"\t",
        b"\n",
        b"\0",
        b"\xff",
        b"\xc3\xbc",
        b"$Version=1",
        b"{}",
    ),
    *(
        NAME,
        VALUE,
        b"NAME=VALUE",
        b"NAME=",
        b'NAME="VALUE"',
        b"__Host-",
        b"Path=/",
        b"expires=Mon, 01 Jan",
        b"NAME =VALUE",
    ),
)


def seeds() -> list[bytes]:
    """Return inputs: a byte for where our cookie is, then the others."""
    others = [
        *(
            b"",
            b"a=b",
            b"a=b; c=d",
            b'a="b; c=d',
            b"a",
            b"=b",
            b";;;",
            b"a b=c",
            b"a=b,c=d",
            b"{x}=y",
            b"\xff=\xff",
            b"a=b=c",
        ),
        *(
            b"NAME=VALUE",
            b"NAME=x",
            b"NAME",
            b'NAME="VALUE"',
            b"a=NAME=VALUE",
            b'a="; NAME=VALUE',
            b"NAME=VALUE; NAME=x",
        ),
        *(
            b"$Version=1; a=b; $Path=/",
            b"expires=Mon, 01 Jan 2026 00:00:00 GMT",
            b"NAME=VALUE\t",
            b"name=VALUE",
        ),
    ]
    return [bytes([place]) + other for place in range(4) for other in others]


def check(data: bytes) -> None:
    """Open a page that only shows something to somebody who is signed in."""
    place, others = (data[0] if data else 0) % 4, data[1:]
    others = others.replace(NAME, _SESSION.encode()).replace(VALUE, _VALUE.encode())
    ours = f"{_SESSION}={_VALUE}".encode()
    headers = {
        BEFORE: [ours + b"; " + others],
        AFTER: [others + b"; " + ours],
        AROUND: [others, ours],  # HTTP/2 may take the header apart
        ALONE: [others],
    }[place]
    answer = _open(headers)
    # RFC 6265 §5.4 says what a browser sends, so that is how a server has to read it: pairs, a
    # semicolon between them.
    sent = b";".join(headers).split(b";")
    pairs = [pair.strip(b" \t").partition(b"=") for pair in sent]
    values = [value for name, _, value in pairs if name == _SESSION.encode()]
    if _SESSION.encode() not in others:
        assert (answer.status == 200) == (place != ALONE)
    if _VALUE.encode() not in values:
        assert answer.status != 200, "signed in without the session"
    assert answer.status in (200, 303), answer
    if answer.status == 303:
        assert answer.all(b"location")[0].startswith(b"http://localhost:8000/login?transaction=")


def _open(headers: list[bytes]) -> Answer:
    _issuer.reset()
    return _issuer.send("GET", "/applications", headers=[(b"cookie", each) for each in headers])
