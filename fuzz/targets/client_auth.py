"""Client authentication through the token endpoint: Basic headers, and assertions signed after they
are changed.

Who gets in is judged by a second reading of RFC 7617, RFC 6749 §2.3.1 and RFC 7523 §3.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any
from urllib.parse import quote_plus

from asgi_mcp_auth._json import encode_base64url
from fuzz.inprocess import Answer
from fuzz.issuer import BASE_URL, NOW, SERVICE, Issuer
from fuzz.keys import SIGNERS

HEADER, PAIR, SIGNED, RAW = range(4)
_KEYS = ("ES256", "EdDSA", "RS256")  # the client has not registered the last one
_ID, _SECRET = str(SERVICE["client_id"]), str(SERVICE["client_secret"])
_PAIR = f"{quote_plus(_ID)}:{quote_plus(_SECRET)}".encode()
_AUDIENCES = (BASE_URL, f"{BASE_URL}/", f"{BASE_URL}/token")
_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
DICTIONARY: tuple[bytes, ...] = (
    *(
        b"Basic ",
        b"basic ",
        b"BASIC  ",
        b"Bearer ",
        b":",
        b"%3A",
        b"%",
        b"+",
        b"%20",
        b"=",
        b"==",
        b" ",
        b"\t",
        b"\n",
        b"\0",
    ),
    *(
        base64.b64encode(_PAIR),
        _PAIR,
        quote_plus(_ID).encode(),
        b"public",
        b"posting",
        b"signing",
        b"\xc3\xbc",
        b"\xff",
    ),
    *(
        f'"{name}"'.encode()
        for name in ("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "alg", "kid", "typ", "crit")
    ),
    *(
        f'"{text}"'.encode()
        for text in ("signing", *_AUDIENCES, *_KEYS, "none", "client-authentication+jwt", "at+jwt")
    ),
    *(str(number).encode() for number in (NOW, NOW + 60, NOW + 300, NOW + 301, NOW + 1e9, -1)),
    *(b"null", b"true", b"[]", b"{}", b'""', b",", b"1e999", b'"\\ud800"'),
)
_issuer = Issuer()


def _claims(**changes: Any) -> bytes:
    usual = {
        "iss": "signing",
        "sub": "signing",
        "aud": BASE_URL,
        "jti": "1",
        "iat": NOW,
        "exp": NOW + 60,
    }
    return json.dumps(
        {name: value for name, value in {**usual, **changes}.items() if value is not None}
    ).encode()


def _header(key: str, **changes: Any) -> bytes:
    return json.dumps({"alg": key, "kid": SIGNERS[key].key_id, **changes}).encode()


def seeds() -> list[bytes]:
    r"""Return inputs: kind, key, then an Authorization value, ``id:secret``, header ``\n`` claims,
    or a JWT."""
    encoded = base64.b64encode(_PAIR)
    values = [
        *(
            b"Basic " + encoded,
            b"basic " + encoded,
            b"Basic  " + encoded,
            b"Basic " + encoded + b"=",
            b"Basic",
            b"",
        ),
        *(
            b"Basic " + base64.b64encode(f"{_ID}:{_SECRET}".encode()),
            b"Basic OnB1YmxpYw==",
            b"Bearer " + encoded,
        ),
    ]
    claims = [
        *(
            _claims(),
            _claims(aud=[BASE_URL]),
            _claims(aud=list(_AUDIENCES)),
            _claims(aud=_AUDIENCES[2]),
            _claims(iat=None),
        ),
        *(
            _claims(exp=NOW),
            _claims(exp=NOW + 301),
            _claims(exp=None),
            _claims(iss="public"),
            _claims(sub="public"),
        ),
        *(
            _claims(jti=None),
            _claims(jti=""),
            _claims(jti="x" * 257),
            _claims(jti=5),
            _claims(nbf=NOW + 61),
            b"[]",
            b"",
        ),
    ]
    headers = [
        *(
            _header("ES256"),
            _header("ES256", typ="JWT"),
            _header("ES256", typ="client-authentication+jwt"),
        ),
        *(
            _header("ES256", typ="at+jwt"),
            _header("ES256", kid="x"),
            _header("ES256", alg="none"),
            _header("EdDSA"),
            b"{}",
        ),
    ]
    return [
        *(bytes([HEADER, 0]) + value for value in values),
        *(bytes([PAIR, 0]) + pair for pair in (_PAIR, b"public:", b":", b"", _PAIR + b"\0")),
        *(bytes([SIGNED, 0]) + _header("ES256") + b"\n" + each for each in claims),
        *(bytes([SIGNED, 0]) + each + b"\n" + _claims() for each in headers),
        *(
            bytes([SIGNED, number]) + _header(key) + b"\n" + _claims()
            for number, key in enumerate(_KEYS)
        ),
        bytes([RAW, 0]) + _sign("ES256", _header("ES256"), _claims()).encode(),
        bytes([RAW, 0]) + b"eyJhbGciOiJub25lIn0.e30.",
    ]


def check(data: bytes) -> None:
    """Ask for a token twice; what proves who somebody is, does so once or always, by its kind."""
    kind, key, rest = _read(data)
    first, second = _send(kind, key, rest, anew=True), _send(kind, key, rest, anew=False)
    if first.status == 200:
        (_judge_basic if kind in (HEADER, PAIR) else _judge_assertion)(kind, key, rest)
        assert second.status == (200 if kind in (HEADER, PAIR) else 401), (
            "an assertion was good twice"
        )
    else:
        assert second.status == first.status


def is_accepted(data: bytes) -> bool:
    """Return whether this input gets in."""
    return _send(*_read(data), anew=True).status == 200


def _read(data: bytes) -> tuple[int, str, bytes]:
    kind, number = (data[0] if data else 0) % 4, (data[1] if len(data) > 1 else 0) % len(_KEYS)
    return kind, _KEYS[number], data[2:]


def _assertion(kind: int, key: str, rest: bytes) -> str:
    if kind == RAW:
        return rest.decode("latin-1")
    header, _, payload = rest.partition(b"\n")
    return _sign(key, header, payload)


def _sign(key: str, header: bytes, payload: bytes) -> str:
    signing_input = f"{encode_base64url(header)}.{encode_base64url(payload)}"
    return f"{signing_input}.{encode_base64url(SIGNERS[key].sign(signing_input.encode()))}"


def _send(kind: int, key: str, rest: bytes, *, anew: bool) -> Answer:
    if anew:
        _issuer.reset()
    form = {"grant_type": "client_credentials"}
    headers: list[tuple[bytes, bytes]] = []
    if kind == HEADER:
        headers = [(b"authorization", rest)]
    elif kind == PAIR:
        headers = [(b"authorization", b"Basic " + base64.b64encode(rest))]
    else:
        form |= {"client_assertion": _assertion(kind, key, rest), "client_assertion_type": _TYPE}
    answer = _issuer.form("/token", form, headers)
    document = _issuer.document(answer, {200, 400, 401})
    assert answer.status == 200 or document["error"] in (
        "invalid_request",
        "invalid_client",
        "unauthorized_client",
    )
    if answer.status == 401:
        assert answer.all(b"www-authenticate") == ([b'Basic realm="oauth"'] if headers else [])
    return answer


def _judge_basic(kind: int, key: str, rest: bytes) -> None:
    if kind == HEADER:
        match = re.fullmatch(rb"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+=*) *", rest)
        assert match is not None, rest
        rest = base64.b64decode(match[1])
        assert base64.b64encode(rest) == match[1], "another spelling"
    client_id, _, secret = (_form_decoded(each) for each in rest.partition(b":"))
    assert (client_id, secret) == (_ID, _SECRET)


def _form_decoded(text: bytes) -> str:
    text = text.replace(b"+", b" ")
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), text).decode()


def _judge_assertion(kind: int, key: str, rest: bytes) -> None:
    parts = _assertion(kind, key, rest).split(".")
    header, claims = (
        json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2]
    )
    assert header["alg"] in ("ES256", "EdDSA")
    assert kind == RAW or header["alg"] == key
    assert not {"crit", "b64", "zip", "enc"} & set(header)
    typ = header["typ"].lower() if type(header.get("typ")) is str else ""
    assert typ.removeprefix("application/") in ("", "jwt", "jose", "client-authentication+jwt")
    assert claims["iss"] == claims["sub"] == "signing"
    audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    assert len(audience) == 1
    assert audience[0] in _AUDIENCES
    assert isinstance(claims["jti"], str)
    assert 0 < len(claims["jti"]) <= 256
    numbers = [
        claims[name] for name in ("exp", "nbf") if claims.get(name) not in (None, "", [], {})
    ]
    assert all(type(number) in (int, float) for number in numbers)
    issued_at = claims["iat"] if type(claims.get("iat")) in (int, float) else NOW
    assert NOW < claims["exp"] <= issued_at + 300
    assert claims["exp"] <= NOW + 360  # an iat up to a minute ahead is forgiven
    assert all(number <= NOW + 60 for number in (issued_at, *numbers[1:]))
