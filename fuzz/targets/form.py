"""Forms and queries through the real endpoints: documented answers only, and tokens only for what
earns them.

Who gets a token, and where a browser is sent, is judged by a second reading of the form, written
here.
"""

from __future__ import annotations

import re
from urllib.parse import urlencode

from fuzz.inprocess import Answer
from fuzz.issuer import BASE_URL, LOOPBACK, POSTING, RESOURCE, VERIFIER, WEB, Issuer, challenge_of

# What the words stand for differs from start to start, so that inputs hold the words.
CODE, REFRESH = b"CODE", b"REFRESH"
DICTIONARY: tuple[bytes, ...] = (
    *(
        b"&",
        b"=",
        b"+",
        b"%",
        b"%00",
        b"%20",
        b"%26",
        b"%3D",
        b"%c3%bc",
        b"%ED%A0%80",
        b"%u0041",
        b";",
        b"\xff",
        b"&&",
    ),
    *(
        b"grant_type=authorization_code",
        b"grant_type=refresh_token",
        b"grant_type=client_credentials",
        CODE,
        REFRESH,
    ),
    *(
        b"&code=",
        b"&refresh_token=",
        b"&scope=mcp%3Aread",
        b"&scope=mcp:write",
        b"&scope=",
        b"&client_id=public",
    ),
    *(
        b"&code_verifier=",
        VERIFIER.encode(),
        b"&redirect_uri=",
        LOOPBACK.encode(),
        WEB.encode(),
        RESOURCE.encode(),
    ),
    *(
        b"&resource=",
        b"&client_secret=",
        b"&token=",
        b"&token_type_hint=access_token",
        b"client_assertion=",
        b"posting",
    ),
    *(
        b"&response_type=code",
        b"&code_challenge=",
        challenge_of(VERIFIER).encode(),
        b"&code_challenge_method=S256",
    ),
    *(
        b"&prompt=none",
        b"&prompt=login",
        b"&max_age=0",
        b"&state=",
        b"&request_uri=urn:x",
        b"&request=",
        b"offline_access",
    ),
    *(
        b"&response_mode=query",
        b"&login_hint=",
        b"&transaction=",
        b"&csrf=",
        b"&action=approve",
        b"&username=",
    ),
)
ENDPOINTS = (
    "/token",
    "/authorize",
    "/par",
    "/revoke",
    "/introspect",
    "/login",
    "/consent",
    "/applications",
    "/logout",
)
TOKEN, AUTHORIZE = range(2)
_TYPES = (
    b"application/x-www-form-urlencoded",
    b"application/x-www-form-urlencoded; charset=utf-8",
    b"application/json",
    b"multipart/form-data; boundary=x",
)
_issuer = Issuer()
_ERRORS = {
    *(
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
    ),
    *("invalid_scope", "invalid_target", "unsupported_response_type", "request_not_supported"),
    *("request_uri_not_supported", "access_denied", "login_required", "consent_required"),
}
_OWN_PAGE = re.compile(
    re.escape(BASE_URL) + r"/(login|consent|applications)(\?transaction=[A-Za-z0-9_-]+)?"
)
_CLIENT = re.compile(rf"http://127\.0\.0\.1(:\d{{1,5}})?/callback\?(.*)|{re.escape(WEB)}&(.*)")


def seeds() -> list[bytes]:
    """Return inputs: a byte for the endpoint, one for the content type, then the form."""
    code = {
        "grant_type": "authorization_code",
        "code": "CODE",
        "code_verifier": VERIFIER,
        "client_id": "public",
    }
    refresh = {"grant_type": "refresh_token", "refresh_token": "REFRESH", "client_id": "public"}
    service = {"client_id": "posting", "client_secret": POSTING["client_secret"]}
    credentials = {"grant_type": "client_credentials", **service, "scope": "mcp:read"}
    request = {
        "client_id": "public",
        "response_type": "code",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
        "redirect_uri": LOOPBACK,
        "state": "a b&c",
        "scope": "mcp:read offline_access",
        "resource": RESOURCE,
    }
    forms: list[tuple[int, dict[str, object]]] = [
        *((TOKEN, form) for form in (code, refresh, credentials)),
        (TOKEN, {**code, "redirect_uri": LOOPBACK, "resource": RESOURCE}),
        (TOKEN, {**refresh, "scope": "mcp:read"}),
        *(
            (AUTHORIZE, {**request, **more})
            for more in ({}, {"prompt": "none"}, {"redirect_uri": WEB}, {"max_age": 0})
        ),
        *(
            (AUTHORIZE, {**request, "redirect_uri": uri})
            for uri in ("http://127.0.0.1:1/callback", f"{LOOPBACK}/")
        ),
        (2, request),
        (2, {**request, **service, "redirect_uri": WEB}),
        *((3, {"token": token, "client_id": "public"}) for token in ("REFRESH", "x", "")),
        (4, {"token": "REFRESH", **service}),
        *(
            (place, {"transaction": "x", "csrf": "y", "action": "approve", "client_id": "z"})
            for place in range(5, 9)
        ),
    ]
    found = [bytes([place, 0]) + urlencode(form).encode() for place, form in forms]
    return [*found, bytes([0, 2]) + b"{}", bytes([0, 0]), bytes([0, 0]) + b"&".join([b"a=b"] * 65)]


def check(data: bytes) -> None:
    """Send one request to one endpoint."""
    kind, content_type, form = (data[0] if data else 0), (data[1] if len(data) > 1 else 0), data[2:]
    path = ENDPOINTS[kind % len(ENDPOINTS)]
    form = form.replace(CODE, _issuer.code.encode()).replace(
        REFRESH, _issuer.refresh_token.encode()
    )
    answer = _send(path, _TYPES[content_type % len(_TYPES)], form)
    if path == "/token":
        _judge_token(content_type % len(_TYPES) < 2, form, answer)
    elif path == "/par":
        document = _issuer.document(answer, {201, 400, 401})
        assert answer.status == 201 or document["error"] in _ERRORS, document
    elif path in ("/revoke", "/introspect"):
        if answer.status != 200 or answer.body:
            document = _issuer.document(answer, {200, 400, 401})
            assert answer.status == 200 or document["error"] in _ERRORS, document
    elif answer.status == 303:
        _judge_redirect(answer.all(b"location")[0].decode())
    else:
        assert answer.status in (200, 400, 401, 403, 413), answer
        assert answer.all(b"content-type") == [b"text/html; charset=utf-8"], answer


def is_earned(data: bytes) -> bool:
    """Return whether this input gets a token."""
    _, content_type, form = data[0], data[1], data[2:]
    form = form.replace(CODE, _issuer.code.encode()).replace(
        REFRESH, _issuer.refresh_token.encode()
    )
    return _send("/token", _TYPES[content_type], form).status == 200


def _send(path: str, content_type: bytes, form: bytes) -> Answer:
    _issuer.reset()
    cookies = "; ".join(f"{name}={value}" for name, value in _issuer.cookies.items()).encode()
    browser = () if path in ("/token", "/par", "/revoke", "/introspect") else [(b"cookie", cookies)]
    if path == "/authorize":
        return _issuer.send("GET", path, query=form, headers=browser)
    return _issuer.send(
        "POST", path, body=form, headers=[(b"content-type", content_type), *browser]
    )


def _judge_token(is_form: bool, form: bytes, answer: Answer) -> None:
    document = _issuer.document(answer, {200, 400, 401, 413})
    if answer.status != 200:
        assert document["error"] in _ERRORS, document
        return
    pairs = _read(form)
    assert is_form
    assert len(pairs) <= 64
    names = [name for name, _ in pairs if name != "resource"]
    assert len(set(names)) == len(names), "a parameter was repeated"
    assert {value for name, value in pairs if name == "resource" and value} <= {RESOURCE}
    sent = {name: value for name, value in pairs if value}
    scopes = set(sent.get("scope", "").split(" ")) - {""}
    granted = set(document["scope"].split())
    # With a code it says nothing: the scopes were decided when the code was issued.
    assert scopes in (set(), granted) or sent["grant_type"] == "authorization_code", (
        scopes,
        granted,
    )
    if sent["grant_type"] == "client_credentials":
        assert (sent["client_id"], sent["client_secret"]) == ("posting", POSTING["client_secret"])
        assert granted <= {"mcp:read", "mcp:write", "offline_access"}
        assert "refresh_token" not in document
        return
    assert sent["client_id"] == "public"
    assert not {"client_secret", "client_assertion"} & sent.keys()
    assert granted <= {"mcp:read"}
    if sent["grant_type"] == "authorization_code":
        assert (sent["code"], sent["code_verifier"]) == (_issuer.code, VERIFIER)
        assert sent.get("redirect_uri", LOOPBACK) == LOOPBACK
    else:
        assert (sent["grant_type"], sent["refresh_token"]) == (
            "refresh_token",
            _issuer.refresh_token,
        )


def _judge_redirect(location: str) -> None:
    if _OWN_PAGE.fullmatch(location):
        return
    match = _CLIENT.fullmatch(location)
    assert match is not None, f"sent to {location}"
    answer = _read((match[2] or match[3]).encode())
    parameters = dict(answer)
    assert len(parameters) == len(answer), f"a parameter is repeated: {location}"
    assert parameters["iss"] == BASE_URL
    assert "code" not in parameters, "nobody has consented"
    assert parameters["error"] in _ERRORS, parameters


def _read(form: bytes) -> list[tuple[str, str]]:
    """Read a form as the WHATWG URL standard does, §5.1, except that what is not UTF-8 is an
    error.
    """
    pairs = (piece.partition(b"=") for piece in form.split(b"&") if piece)
    return [(_decoded(name), _decoded(value)) for name, _, value in pairs]


def _decoded(text: bytes) -> str:
    text = text.replace(b"+", b" ")
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), text).decode()
