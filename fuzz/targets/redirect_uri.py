"""Redirect URIs: what may be registered and what matches it, read once more as browsers read URLs.

A URI that is let through must lead a browser to the very scheme and host that the check has seen.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote_to_bytes

from asgi_mcp_auth._urls import (
    check_redirect_uri,
    is_loopback_redirect,
    redirect_uri_matches,
    with_parameters,
)
from asgi_mcp_auth.errors import InvalidRedirectURI

SCHEMES = frozenset(("cursor", "com.example.app"))
DICTIONARY: tuple[bytes, ...] = (
    *(
        b"http://",
        b"https://",
        b"cursor://",
        b"cursor:",
        b"com.example.app:/",
        b"javascript:",
        b"data:,",
        b"file:///",
    ),
    *(
        b"127.0.0.1",
        b"[::1]",
        b"localhost",
        b"localhost.",
        b"127.1",
        b"0x7f.1",
        b"2130706433",
        b"[::ffff:127.0.0.1]",
    ),
    *(
        b":80",
        b":443",
        b":0",
        b":65535",
        b":65536",
        b":99999",
        b":",
        b"@",
        b"\\",
        b"//",
        b"/..",
        b"%2e%2e/",
        b"%40",
    ),
    *(
        b"?",
        b"#",
        b"?code=1",
        b"&iss=x",
        b"&%69ss=x",
        b"*",
        b"\t",
        b"\n",
        b" ",
        b"\0",
        b"\xe2\x80\xae",
        b"\xc2\xad",
        b"%",
    ),
    *(
        b"app.example.com",
        b"APP.example.com",
        b"xn--",
        b"[",
        b"]",
        b"HTTP:",
        b"callback",
        b"\xef\xbc\x8f",
        b"'",
        b'"',
    ),
)
_SPECIAL = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
_DESCRIPTION = re.compile(r"[A-Za-z0-9 :;.,_+%\[\]-]+")
_LOOPBACK = {"127.0.0.1", "[::1]", "localhost"}


class Reading(NamedTuple):
    """What a browser makes of a URL."""

    scheme: str
    credentials: bool
    host: str
    port: int | None
    path: str
    query: str | None
    fragment: str | None


def seeds() -> list[bytes]:
    """Return inputs: a URI that is registered, a line break, a URI that is asked for."""
    uris = [
        *(
            b"https://app.example.com/callback",
            b"https://app.example.com",
            b"https://app.example.com:8443/cb?tenant=1&x",
        ),
        *(
            b"http://127.0.0.1/callback",
            b"http://127.0.0.1:8123/callback",
            b"http://[::1]:1/",
            b"http://localhost",
        ),
        *(
            b"cursor://anysphere.cursor-retrieval/oauth/callback",
            b"com.example.app:/cb",
            b"cursor:x",
            b"cursor://",
        ),
        *(
            b"https://user@app.example.com/",
            b"https://app.example.com\\@evil.example/",
            b"https:/app.example.com",
        ),
        *(
            b"https:app.example.com",
            b"https://*.example.com/",
            b"http://127.0.0.1@evil.example",
            b"http://localhost:1@x",
        ),
        *(
            b"javascript:alert(1)//http://localhost",
            b"https://app.example.com/#x",
            b"HTTPS://app.example.com",
            b"//x/y",
        ),
        *(
            b"http://localhost.evil.example/",
            b"http://127.0.0.1.nip.io/",
            b"https://[::1",
            b"https://a:b",
            b"http://[::1]x",
        ),
    ]
    found = [uri + b"\n" + uri for uri in uris]
    asked = (
        b"http://127.0.0.1:9/callback",
        b"http://localhost:9/callback",
        b"http://127.0.0.1:9/callback/",
    )
    return [*found, *(b"http://127.0.0.1/callback\n" + uri for uri in asked), b"", b"\n"]


def check(data: bytes) -> None:
    """Register one URI and ask for another one."""
    first, _, second = data.decode("utf-8", "surrogateescape").partition("\n")
    registered = _registered(first)
    if registered is None:
        return
    asked = second or first
    assert redirect_uri_matches(registered, [registered])
    if redirect_uri_matches(asked, [registered, "https://other.example/"]):
        _judge_match(asked, registered)
        _judge_answer(asked)


def _registered(uri: str) -> str | None:
    try:
        checked = check_redirect_uri(uri, SCHEMES)
    except InvalidRedirectURI as refusal:
        description = str(refusal)
    else:
        assert checked == uri
        judge_registered(uri, SCHEMES)
        assert is_loopback_redirect(uri) == uri.startswith("http:")
        return uri
    assert _DESCRIPTION.fullmatch(description), description
    return None


def judge_registered(uri: str, private_schemes: frozenset[str]) -> None:
    """Hold a redirect URI that may be registered to RFC 8252 §7 and RFC 9700 §2.1, as a browser
    reads it.
    """
    assert len(uri) <= 2048
    assert uri.isascii()
    assert uri.isprintable()
    reading = read(uri)
    assert reading.fragment is None
    if reading.scheme in private_schemes:
        return
    assert reading.scheme in ("http", "https"), reading
    assert reading.host
    assert not reading.credentials
    assert reading.port is None or 0 < reading.port < 65536
    spelled = r"[a-z][a-z0-9+.-]*://" + re.escape(reading.host) + r"(?::\d*)?(?:[/?].*)?"
    assert re.fullmatch(spelled, uri.lower()), f"{uri} is another host to a browser: {reading.host}"
    assert reading.scheme == "https" or reading.host in _LOOPBACK, reading


def _judge_match(asked: str, registered: str) -> None:
    # A port of 99999 passes, and browsers then go nowhere.
    if asked == registered:
        return
    one, other = read(asked), read(registered)
    assert one.scheme == other.scheme == "http", "only on loopback may anything differ"
    assert one.host == other.host
    assert one.host in _LOOPBACK
    assert one._replace(port=None) == other._replace(port=None)


def _judge_answer(uri: str) -> None:
    """Look at an authorization response to this URI: parameters are added, those of their names are
    gone, no more.
    """
    sent = {"code": "c/d e", "state": "&#\r\n\u00fc%", "iss": "https://mcp.example.com"}
    url = with_parameters(uri, sent)
    assert url.isascii()
    assert url.isprintable()
    before, after = read(uri), read(url)
    assert after._replace(query=None) == before._replace(query=None)
    given = parse_qsl(after.query or "", keep_blank_values=True, errors="surrogateescape")
    had = parse_qsl(before.query or "", keep_blank_values=True, errors="surrogateescape")
    assert given == [*(pair for pair in had if pair[0] not in sent), *sent.items()], (url, given)


def read(url: str) -> Reading:
    """Read a URL as the WHATWG URL standard does, §4.4: what concerns scheme, authority and the
    parts after it.
    """
    url = re.sub(r"[\t\n\r]", "", url.strip("".join(map(chr, range(33)))))
    url, hash_sign, fragment = url.partition("#")
    url, question_mark, query = url.partition("?")
    scheme, colon, rest = url.partition(":")
    assert colon, "no scheme: relative to whatever page it is on"
    scheme = scheme.lower()
    if scheme in _SPECIAL:
        rest = rest.replace("\\", "/").lstrip("/")  # any number of slashes, also none
    elif not rest.startswith("//"):
        return Reading(
            scheme,
            False,
            "",
            None,
            rest,
            query if question_mark else None,
            fragment if hash_sign else None,
        )
    else:
        rest = rest[2:]
    authority, slash, path = rest.partition("/")
    credentials, at_sign, host = authority.rpartition("@")
    port = None
    match = re.fullmatch(r"(.*?):(\d*)", host) if not host.endswith("]") else None
    if match is not None:
        host = match[1]
        port = int(match[2]) if match[2] else None
    host = unquote_to_bytes(host).decode("utf-8", "replace").lower() if scheme in _SPECIAL else host
    assert scheme not in _SPECIAL or not set(host) & set(" #%/<>?@\\^`{|}"), (
        "no browser follows this"
    )
    return Reading(
        scheme,
        bool(at_sign and credentials),
        host,
        None if port == _SPECIAL.get(scheme) else port,
        slash + path or "/",
        query if question_mark else None,
        fragment if hash_sign else None,
    )
