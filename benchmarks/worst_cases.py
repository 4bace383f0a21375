"""The most CPU time that one request of a stranger can take, endpoint by endpoint: what all others
wait for.

Each request is the worst of its size that is known: parsers get what they are slowest at, in the
largest size that is read. Measured is the thread of the event loop, inside the ASGI callable;
password checks have threads of their own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric import ec, ed448, utils
from cryptography.hazmat.primitives.hashes import SHA256
from issuers import provider
from report import Row, main, millis, note
from visitor import HIDDEN, METADATA, REDIRECT_URI, Visitor
from workload import BASE_URL, MCP_PATH, RESOURCE, application

MANY = 10**7
GOAL_SECONDS = 0.002
HEAD = 60 * 1024  # what servers read of a request's head: 64 KiB, for all of it
TOKEN, BODY, PAGE, DOCUMENT, STATE = 16 * 1024, 64 * 1024, 16 * 1024, 8 * 1024, 4 * 1024
ISSUER = "https://idp.example.com"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
VERIFIER = "v" * 64
FORM = (b"content-type", b"application/x-www-form-urlencoded")
JSON = (b"content-type", b"application/json")

Headers = tuple[tuple[bytes, bytes], ...]


class Request(NamedTuple):
    """One request: what a case sends, each time anew."""

    method: str
    target: str
    headers: Headers = ()
    body: bytes = b""

    @property
    def size(self) -> int:
        """Its bytes, more or less as they go over the wire."""
        return (
            len(self.target)
            + sum(len(name) + len(value) for name, value in self.headers)
            + len(self.body)
        )


class Case(NamedTuple):
    """A worst case.

    Attributes:
        endpoint: where it goes.
        what: what is bad about it.
        make: returns the request; what it does itself is not measured.
        app: who gets it.
    """

    endpoint: str
    what: str
    make: Callable[[], Request] | Callable[[], Awaitable[Request]]
    app: Any = None


def measure(quick: bool) -> Iterator[Row]:
    """Measure all cases."""
    logging.disable(logging.CRITICAL)
    yield from asyncio.run(_measure(5 if quick else 25))


async def _measure(rounds: int) -> list[Row]:
    found: dict[str, list[tuple[float, int, int, str]]] = defaultdict(list)
    async with _server() as (app, visitor):
        for case in await _cases(app, visitor):
            best, size, status = min([await _time(case, app) for _ in range(rounds)])
            note(f"{case.endpoint}, {case.what}: {best * 1000:.2f} ms, {size} bytes, HTTP {status}")
            found[case.endpoint].append((best, size, status, case.what))
    return [_row(endpoint, cases) for endpoint, cases in found.items()]


def _row(endpoint: str, cases: list[tuple[float, int, int, str]]) -> Row:
    best, size, status, what = max(cases)
    return Row(
        endpoint,
        f"{what} → {status}; the worst of {len(cases)}",
        millis(best),
        "",
        f"{millis(best * 1024 / max(size, 1024))} a KiB, of {size / 1024:.1f}",
        f"≤ {millis(GOAL_SECONDS)}",
        best <= GOAL_SECONDS,
    )


async def _time(case: Case, usual: Any) -> tuple[float, int, int]:
    made = case.make()
    request = made if isinstance(made, Request) else await made
    path, _, query = request.target.partition("?")
    body_length = (b"content-length", b"%d" % len(request.body))
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("203.0.113.66", 50_000),
        "scheme": "https",
        "method": request.method,
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"mcp.example.com"), body_length, *request.headers],
        "state": {},
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    started = time.thread_time()
    await (case.app or usual)(scope, receive, send)
    return time.thread_time() - started, request.size, statuses[0]


@asynccontextmanager
async def _server() -> AsyncIterator[tuple[Any, Visitor]]:
    from asgi_mcp_auth import MCPAuthMiddleware
    from asgi_mcp_auth.server import RateLimits

    plenty = RateLimits(
        register=MANY,
        authorize=MANY,
        token=MANY,
        passwords=MANY,
        login_failures=MANY,
        unfinished_bytes=10**12,
    )
    server = provider(rate_limits=plenty)
    async with server:
        app = MCPAuthMiddleware(application, server, mcp_path=MCP_PATH)
        yield app, Visitor(app)


async def _cases(app: Any, visitor: Visitor) -> list[Case]:
    return [
        *_authorization_cases(),
        *_head_cases(),
        *_registration_cases(),
        *await _query_cases(visitor),
        *await _token_cases(app),
        *await _page_cases(app),
        *_callback_cases(),
    ]


# ---------------------------------------------------------------------------------- bad ingredients


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _members(size: int, first: str = "") -> bytes:
    """JSON with as many members as go in."""
    parts, length = [first] if first else [], len(first)
    while length < size - 12:
        parts.append(f'"{len(parts):x}":0')
        length += len(parts[-1]) + 1
    return ("{" + ",".join(parts) + "}").encode()


def _fill(size: int, before: bytes, middle: bytes, after: bytes) -> bytes:
    return before + middle * ((size - len(before) - len(after)) // len(middle)) + after


def _bad_json(size: int) -> Mapping[str, bytes]:
    """What a JSON parser may find hard, in ``size`` bytes."""
    return {
        "JSON of many members": _members(size),
        "JSON nested without end": b"[" * size,
        "JSON of many small lists": _fill(size, b'{"a":[', b"[],", b"0]}"),
        "JSON of many brackets in strings": _fill(size, b'{"a":["', b"[{", b'"]}'),
        "JSON of many escapes": _fill(size, b'{"a":"', b"\\u00e9", b'"}'),
        "JSON of many escaped quotes": _fill(
            size, b'{"a":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[', b'\\"', b'"}'
        ),
        "JSON of many repeated members": _fill(size, b"{", b'"a":0,', b'"a":0}'),
        "JSON of many numbers": _fill(size, b'{"a":[', b"12345678901234567.1,", b"0]}"),
    }


def _jwt(header: bytes, payload: bytes = b"{}", signature: bytes = bytes(64)) -> str:
    return ".".join(map(_encoded, (header, payload, signature)))


_CURVES: Mapping[str, Any] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
    "secp256k1": ec.SECP256K1,
}


def _jwk(kind: str) -> dict[str, str]:
    if kind.startswith("RSA"):
        # Nobody has to know its factors: a signature that is checked against it is wrong in any
        # case.
        bits = int(kind[3:])
        modulus = secrets.randbits(bits) | 1 | 1 << bits - 1
        exponent = (1 << 33) - 1  # as large as one may be
        members = {"n": modulus.to_bytes(bits // 8, "big"), "e": exponent.to_bytes(5, "big")}
        return {"kty": "RSA", **{name: _encoded(value) for name, value in members.items()}}
    if kind == "Ed448":
        raw = ed448.Ed448PrivateKey.generate().public_key().public_bytes_raw()
        return {"kty": "OKP", "crv": "Ed448", "x": _encoded(raw)}
    curve = _CURVES[kind]
    numbers = ec.generate_private_key(curve()).public_key().public_numbers()
    size = (curve.key_size + 7) // 8
    x, y = (_encoded(each.to_bytes(size, "big")) for each in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": kind, "x": x, "y": y}


# Algorithm and key of the signatures whose checks cost the most.
_SIGNATURES = {
    "RSA of 8192 bits": ("PS512", "RSA8192"),
    "P-384": ("ES384", "P-384"),
    "P-521": ("ES512", "P-521"),
    "secp256k1": ("ES256K", "secp256k1"),
    "Ed448": ("Ed448", "Ed448"),
}


def _signatures(kind: str) -> Callable[[], bytes]:
    """Signatures with keys of somebody else: only the whole check shows that they are wrong."""
    if kind.startswith("RSA"):
        return lambda: b"\0" + secrets.token_bytes(int(kind[3:]) // 8 - 1)
    if kind == "Ed448":
        stranger = ed448.Ed448PrivateKey.generate()
        return lambda: stranger.sign(secrets.token_bytes(16))
    key = ec.generate_private_key(_CURVES[kind]())
    size = (key.curve.key_size + 7) // 8

    def sign() -> bytes:
        pair = utils.decode_dss_signature(key.sign(secrets.token_bytes(16), ec.ECDSA(SHA256())))
        return b"".join(each.to_bytes(size, "big") for each in pair)

    return sign


# -------------------------------------------------------------------------------- the protected app


def _authorization_cases() -> Iterator[Case]:
    def bearer(token: str) -> Request:
        return Request("POST", MCP_PATH, ((b"authorization", b"Bearer " + token.encode()),))

    room = TOKEN * 3 // 4 - 100
    # A comment of its own in each, or what is remembered of headers would be measured.
    tokens: dict[str, Callable[[], str]] = {
        "a token of the longest size": lambda: secrets.token_hex(TOKEN // 2),
        "a token of 16,000 parts": lambda: "." * (TOKEN - 400),
        "a token with a wrong character at its end": lambda: "a" * (TOKEN - 1) + "\t",
    }
    for what, text in _bad_json(room).items():
        tokens[f"a header of {what}"] = lambda text=text: _jwt(text)
    for what, make in tokens.items():
        yield Case(MCP_PATH, what, lambda make=make: bearer(make()))
    for what, (algorithm, kind) in _SIGNATURES.items():
        sign = _signatures(kind)
        app = _verifying({**_jwk(kind), "kid": "one", "alg": algorithm})
        header = json.dumps({"alg": algorithm, "kid": "one"}).encode()
        for length, payload in (("", b"{}"), (", the longest payload", b" " * (room - 1400))):
            yield Case(
                MCP_PATH,
                f"a forged signature, the issuer's key {what}{length}",
                lambda header=header, payload=payload, sign=sign: bearer(
                    _jwt(header, payload, sign())
                ),
                app,
            )
    two = _verifying(
        {**_jwk("P-256"), "kid": "one", "alg": "ES256"}, issuers=[ISSUER, f"{ISSUER}/other"]
    )
    header = json.dumps({"alg": "ES256", "kid": "one"}).encode()
    for what, text in _bad_json(room).items():
        yield Case(
            MCP_PATH,
            f"several issuers, a payload of {what}",
            lambda text=text: bearer(_jwt(header, text)),
            two,
        )


def _verifying(*keys: Mapping[str, str], issuers: list[str] | None = None) -> Any:
    from asgi_mcp_auth import JWTVerifier, MCPAuthMiddleware, RemoteAuthProvider
    from asgi_mcp_auth.keys import KeySource, StaticKeys, key_set_from

    source: KeySource = StaticKeys(
        key_set_from({"keys": list(keys)}, [each["alg"] for each in keys])[0]
    )
    verifier = JWTVerifier(
        public_key=source, issuer=issuers or ISSUER, algorithm=[each["alg"] for each in keys]
    )
    remote = RemoteAuthProvider(verifier, authorization_servers=[ISSUER], base_url=BASE_URL)
    return MCPAuthMiddleware(
        application, remote, mcp_path=MCP_PATH, public_paths=["/health", "/static/"]
    )


def _head_cases() -> Iterator[Case]:
    token = (b"authorization", b"Bearer x")
    heads: dict[str, Request] = {
        "the longest query beside a token": Request(
            "POST", f"{MCP_PATH}?{'access_token=&' * (HEAD // 14)}", (token,)
        ),
        "the longest query of empty parameters": Request(
            "POST", f"{MCP_PATH}?access_token={'&' * HEAD}", (token,)
        ),
        "the longest Authorization header, of another scheme": Request(
            "POST", MCP_PATH, ((b"authorization", b"Basic " + b"a" * HEAD),)
        ),
        "the longest Authorization header, padded": Request(
            "POST", MCP_PATH, ((b"authorization", b"Bearer " + b" " * (TOKEN - 1) + b"x"),)
        ),
        "as many headers as go in": Request("POST", MCP_PATH, ((b"a", b""),) * (HEAD // 5)),
        "as many Authorization headers as go in": Request(
            "POST", MCP_PATH, ((b"authorization", b""),) * (HEAD // 17)
        ),
        "the longest Origin": Request(
            "POST", MCP_PATH, ((b"origin", b"http://" + b"a." * (HEAD // 2)),)
        ),
        "the longest Origin, of digits": Request(
            "POST", MCP_PATH, ((b"origin", b"http://" + b"1" * HEAD),)
        ),
        "the longest Origin, of colons": Request(
            "POST", MCP_PATH, ((b"origin", b"http://[" + b":" * HEAD + b"]:1"),)
        ),
        "a preflight that asks for as much as goes in": Request(
            "OPTIONS",
            MCP_PATH,
            (
                (b"origin", BASE_URL.encode()),
                (b"access-control-request-method", b"POST"),
                (b"access-control-request-headers", b"a," * (HEAD // 2)),
            ),
        ),
    }
    for what, request in heads.items():
        yield Case(MCP_PATH, what, lambda request=request: request)
    for what, path in {
        "the longest path": "/" + "a" * HEAD,
        "the longest path of segments": "/a" * (HEAD // 2),
        "the longest path of dots": "/." * (HEAD // 2),
        "the longest path below /.well-known/": (
            "/.well-known/oauth-protected-resource/" + "a/" * (HEAD // 2)
        ),
    }.items():
        yield Case("any path", what, lambda path=path: Request("GET", path))
    for path in (
        "oauth-protected-resource/mcp",
        "oauth-authorization-server",
        "openid-configuration",
        "jwks.json",
    ):
        yield Case(
            f"/.well-known/{path}",
            "the document",
            lambda path=path: Request("GET", f"/.well-known/{path}"),
        )
        asked = (
            (b"access-control-request-method", b"GET"),
            (b"access-control-request-headers", b"a," * (HEAD // 2)),
        )
        request = Request(
            "OPTIONS", f"/.well-known/{path}", ((b"origin", b"https://x.example"), *asked)
        )
        yield Case(f"/.well-known/{path}", "a preflight", lambda request=request: request)


# ------------------------------------------------------------------------------------- registration


def _registration_cases() -> Iterator[Case]:
    base: dict[str, Any] = {"redirect_uris": [REDIRECT_URI], "token_endpoint_auth_method": "none"}
    loopback = [f"http://127.0.0.1:{number}/{'x' * 210}" for number in range(32)]
    keys = {
        kind: [{**_jwk(kind), "kid": f"{number}"} for number in range(60 if kind == "Ed448" else 8)]
        for kind in ("P-384", "P-521", "secp256k1", "Ed448", "RSA8192", "RSA2048")
    }
    documents: dict[str, dict[str, Any]] = {
        "32 redirect URIs": {
            **base,
            "redirect_uris": [f"https://{n}.example/{'x' * 210}" for n in range(32)],
        },
        "32 redirect URIs on loopback": {**base, "redirect_uris": loopback},
        "32 redirect URIs of IPv6": {
            **base,
            "redirect_uris": [f"https://[2001:db8::{n}]/{'%41' * 70}" for n in range(32)],
        },
        "names in 32 languages, of letters with marks": {
            **base,
            **{f"client_name#l{n}": "e\u0301" * 40 for n in range(32)},
        },
        "URLs in 32 languages": {
            **base,
            **{f"client_uri#l{n}": f"https://{n}.example/{'x' * 190}" for n in range(32)},
        },
        "a scope of many words": {**base, "scope": "a " * 1000},
        "many grant types": {**base, "grant_types": ["authorization_code", *["x" * 400] * 15]},
        "many unknown members": {**base, **{f"{n:x}": 0 for n in range(700)}},
        "many unknown members with languages": {**base, **{f"a#{n:x}": 0 for n in range(600)}},
    }
    for kind, each in keys.items():
        several = {**base, "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": each}}
        while len(json.dumps(several, separators=(",", ":"))) > DOCUMENT:
            each.pop()
        documents[f"{len(each)} keys, {kind}"] = several
    for what, document in documents.items():
        body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(body) <= DOCUMENT, (what, len(body))
        yield Case("/register", what, lambda body=body: Request("POST", "/register", (JSON,), body))
    for what, body in _bad_json(DOCUMENT).items():
        yield Case("/register", what, lambda body=body: Request("POST", "/register", (JSON,), body))
    long = Request(
        "GET", f"/register?{'client_id=%41&' * (PAGE // 14)}", ((b"authorization", b"Bearer x"),)
    )
    yield Case("/register", "another's registration, the longest query", lambda: long)
    deleted = Request(
        "DELETE", f"/register?client_id={'%41' * (PAGE // 3)}", ((b"authorization", b"Bearer x"),)
    )
    yield Case("/register", "another's registration, the longest client_id", lambda: deleted)


# --------------------------------------------------------------------------- authorization requests


async def _query_cases(visitor: Visitor) -> list[Case]:
    client_id = await visitor.register()
    usual = {
        "client_id": client_id,
        "redirect_uri": REDIRECT_URI,
        "response_type": "code",
        "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        "code_challenge_method": "S256",
        "scope": "mcp:read",
        "resource": RESOURCE,
    }
    good = urlencode(usual)

    def with_(name: str, value: str, size: int) -> str:
        others = urlencode({key: each for key, each in usual.items() if key != name})
        return f"{others}&{name}=" + value * ((size - len(others) - len(name) - 2) // len(value))

    # What a stranger can write into either; the sizes are the same.
    queries = {
        "the longest state": with_("state", "s", STATE),
        "the longest state, percent-encoded": with_("state", "%C3%A9", STATE),
        "a state that is too long": with_("state", "%C3%A9", PAGE),
        "the longest scope": with_("scope", "a+", PAGE),
        "the longest prompt": with_("prompt", "a+", PAGE),
        "the longest login_hint": with_("login_hint", "%C3%A9", PAGE),
        "the longest max_age": with_("max_age", "1", PAGE),
        "the longest redirect_uri": with_("redirect_uri", "http://127.0.0.1:1/", PAGE),
        "the longest redirect_uri, percent-encoded": with_("redirect_uri", "%41", PAGE),
        "the longest client_id": with_("client_id", "%41", PAGE),
        "the longest client_id, a URL": with_("client_id", "https://%5B::1%5D/", PAGE),
        "the longest code_challenge": with_("code_challenge", "a", PAGE),
        "as many resources as may be": good + f"&resource={RESOURCE}" * 56,
        "as many parameters as may be": good + "".join(f"&p{n}={'%41' * 80}" for n in range(56)),
        "more parameters than may be": "&" * PAGE,
        "broken percent-encoding": "a=" + "%C3" * ((PAGE - 2) // 3),
        "the longest request_uri": with_("request_uri", "a", PAGE),
    }
    cases = [
        Case("/authorize", what, lambda query=query: Request("GET", f"/authorize?{query}"))
        for what, query in queries.items()
    ]
    cases += [
        Case(
            "/authorize",
            f"POST, {what}",
            lambda query=query: Request("POST", "/authorize", (FORM,), query.encode()),
        )
        for what, query in queries.items()
        if "longest state" in what or "may be" in what
    ]
    return cases + [
        Case("/par", what, lambda query=query: Request("POST", "/par", (FORM,), query.encode()))
        for what, query in queries.items()
    ]


# --------------------------------------------------------------------------------- for clients only


async def _token_cases(app: Any) -> list[Case]:
    visitor = Visitor(app)
    client_id = await visitor.register()

    def form(target: str, *headers: tuple[bytes, bytes], **parameters: str) -> Request:
        return Request("POST", target, (FORM, *headers), urlencode(parameters).encode())

    async def wrong_verifier() -> Request:
        person = Visitor(app)
        new = await person.register()
        back = await person.answer_pages(await person.authorize(new))
        code = back.location.partition("code=")[2].partition("&")[0]
        return form(
            "/token",
            grant_type="authorization_code",
            code=code,
            client_id=new,
            redirect_uri=REDIRECT_URI,
            code_verifier="v" * (BODY - 400),
        )

    long = "x" * (BODY - 200)
    cases = [
        Case("/token", "the right code, the longest wrong verifier", wrong_verifier),
        Case(
            "/token",
            "the longest code",
            lambda: form(
                "/token",
                grant_type="authorization_code",
                client_id=client_id,
                redirect_uri=REDIRECT_URI,
                code_verifier=VERIFIER,
                code=long,
            ),
        ),
        Case(
            "/token",
            "the longest refresh token",
            lambda: form(
                "/token", grant_type="refresh_token", client_id=client_id, refresh_token=long
            ),
        ),
        Case(
            "/token",
            "the longest refresh token, of dots",
            lambda: form(
                "/token",
                grant_type="refresh_token",
                client_id=client_id,
                refresh_token="." * (BODY - 200),
            ),
        ),
        Case(
            "/token",
            "the longest form, percent-encoded",
            lambda: Request("POST", "/token", (FORM,), b"a=" + b"%C3%A9" * ((BODY - 2) // 6)),
        ),
        Case(
            "/token",
            "the longest form, of ampersands",
            lambda: Request("POST", "/token", (FORM,), b"&" * BODY),
        ),
        Case(
            "/token",
            "as many parameters as may be",
            lambda: Request(
                "POST", "/token", (FORM,), b"&".join(b"%d=" % n + b"%41" * 330 for n in range(64))
            ),
        ),
        Case(
            "/token",
            "the longest Basic header",
            lambda: form(
                "/token",
                (b"authorization", b"Basic " + base64.b64encode(b"%41:" + b"%41" * (HEAD // 4))),
                grant_type="refresh_token",
            ),
        ),
        Case(
            "/token",
            "a wrong secret of the longest size",
            lambda: form(
                "/token", grant_type="client_credentials", client_id=client_id, client_secret=long
            ),
        ),
    ]
    for endpoint in ("/revoke", "/introspect"):
        secret = {
            "client_id": "service",
            "client_secret": "a-secret-of-at-least-thirty-two-characters",
        }
        for what, token in {
            "the longest token": long,
            "the longest token, of dots": "." * (BODY - 200),
            **{
                f"a token with a header of {what}": _jwt(text)
                for what, text in _bad_json(TOKEN * 3 // 4 - 100).items()
            },
        }.items():
            cases.append(
                Case(
                    endpoint,
                    what,
                    lambda endpoint=endpoint, token=token, secret=secret: form(
                        endpoint, token=token, **secret
                    ),
                )
            )
    return [*cases, *await _assertion_cases(app)]


async def _assertion_cases(app: Any) -> list[Case]:
    def assertion(header: Mapping[str, str], payload: bytes, signature: bytes) -> Request:
        text = _jwt(json.dumps(header).encode(), payload, signature)
        parameters = {
            "grant_type": "refresh_token",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": text,
        }
        return Request("POST", "/token", (FORM,), urlencode(parameters).encode())

    cases: list[Case] = []
    for what, (algorithm, kind) in _SIGNATURES.items():
        sign = _signatures(kind)
        # As many keys to try as somebody may register: without names, or where that is refused,
        # with them.
        nameless = [_jwk(kind) for _ in range(60)]
        named = [{**key, "kid": str(number)} for number, key in enumerate(nameless)]
        for keys, key_id in (
            (nameless, None),
            (nameless[:1], None),
            (named, "0"),
            (named[:8], "0"),
            (named[:1], "0"),
        ):
            client_id, several = await _register_keys(app, keys)
            if client_id is not None:
                header = {"alg": algorithm, **({"kid": key_id} if key_id else {})}
                cases.append(
                    Case(
                        "/token",
                        f"a forged assertion, {several} key(s) of"
                        f" {what}{'' if key_id else ' without names'}",
                        lambda client_id=client_id, header=header, sign=sign: assertion(
                            header, json.dumps({"iss": client_id}).encode(), sign()
                        ),
                    )
                )
    for what, text in _bad_json(TOKEN * 3 // 4 - 200).items():
        cases.append(
            Case(
                "/token",
                f"an assertion with a payload of {what}",
                lambda text=text: assertion({"alg": "ES256"}, text, bytes(64)),
            )
        )
    return cases


async def _register_keys(app: Any, keys: list[dict[str, str]]) -> tuple[str | None, int]:
    """Register as many of the keys as are taken."""
    keys = list(keys)
    while keys:
        document = {
            **METADATA,
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": {"keys": keys},
        }
        if len(json.dumps(document)) <= DOCUMENT:
            answer = await Visitor(app)._send("POST", "/register", document=document)
            if answer.status == 201:
                return json.loads(answer.body)["client_id"], len(keys)
            return None, 0
        keys.pop()
    return None, 0


# --------------------------------------------------------------------------------------- for people


async def _page_cases(app: Any) -> list[Case]:
    visitor = Visitor(app)
    marked = {**METADATA, "client_name": "Z\u0351\u036b\u0343" * 128}
    client_id = json.loads((await visitor._send("POST", "/register", document=marked)).body)[
        "client_id"
    ]
    opened = await visitor.authorize(client_id)
    target = opened.location.removeprefix(BASE_URL)
    page = await visitor._send("GET", target)
    hidden = {name.decode(): value.decode() for name, value in HIDDEN.findall(page.body)}
    cookies = (b"cookie", b"; ".join(b"%b=%b" % pair for pair in visitor._cookies.items()))
    person = Visitor(app)
    client_of_person = json.loads((await person._send("POST", "/register", document=marked)).body)[
        "client_id"
    ]
    after = await person.authorize(client_of_person)
    login = await person._send("GET", after.location.removeprefix(BASE_URL))
    fields = {name.decode(): value.decode() for name, value in HIDDEN.findall(login.body)}
    after = await person._send("POST", "/login", form={**fields, "username": "mallory"})
    to_consent = after.location.removeprefix(BASE_URL)
    signed_in = (b"cookie", b"; ".join(b"%b=%b" % pair for pair in person._cookies.items()))
    transaction = to_consent.partition("transaction=")[2]

    def form(target: str, cookie: tuple[bytes, bytes], parameters: Mapping[str, str]) -> Request:
        return Request("POST", target, (FORM, cookie), urlencode(parameters).encode())

    passwords = await _password_page(app)
    cases = [
        Case(
            "/login",
            "the page, for a name of letters with marks",
            lambda: Request("GET", target, (cookies,)),
        ),
        Case(
            "/login",
            "the longest form token",
            lambda: form("/login", cookies, {**hidden, "csrf": "é" * (PAGE // 6 - 100)}),
        ),
        Case(
            "/login",
            "as many fields as may be",
            lambda: form(
                "/login",
                cookies,
                {**{f"p{n}": "é" * 35 for n in range(60)}, "transaction": hidden["transaction"]},
            ),
        ),
        Case(
            "/login",
            "the longest transaction",
            lambda: form("/login", cookies, {"transaction": "é" * (PAGE // 6 - 100)}),
        ),
        *passwords,
        Case(
            "/consent",
            "the page, for a name of letters with marks",
            lambda: Request("GET", to_consent, (signed_in,)),
        ),
        Case(
            "/consent",
            "the longest form token",
            lambda: form(
                "/consent", signed_in, {"transaction": transaction, "csrf": "é" * (PAGE // 6 - 100)}
            ),
        ),
        Case("/applications", "the page", lambda: Request("GET", "/applications", (signed_in,))),
        Case(
            "/logout",
            "the longest form token",
            lambda: form("/logout", signed_in, {"csrf": "é" * (PAGE // 6 - 100)}),
        ),
    ]
    for what, value in {
        "the longest Cookie header, of semicolons": b";" * HEAD,
        "the longest Cookie header, of small cookies": b"a=b; " * (HEAD // 5),
        "the longest Cookie header, of one": b"a=" + b"b" * HEAD,
        "the longest Cookie header, of our own name": b"; ".join(
            [signed_in[1]] * (HEAD // (len(signed_in[1]) + 2))
        ),
    }.items():
        cases.append(
            Case(
                "/applications",
                what,
                lambda value=value: Request("GET", "/applications", ((b"cookie", value),)),
            )
        )
    many = ((b"cookie", b"a"),) * (HEAD // 11)
    cases.append(
        Case(
            "/applications",
            "as many Cookie headers as go in",
            lambda: Request("GET", "/applications", many),
        )
    )
    return cases


async def _password_page(app: Any) -> list[Case]:
    """What ``PasswordLogin`` answers, but for the hash: a page with the name that was typed."""
    from asgi_mcp_auth import MCPAuthMiddleware, OAuthProvider, PasswordLogin
    from asgi_mcp_auth.server import RateLimits, hash_password

    plenty = RateLimits(
        register=MANY,
        authorize=MANY,
        token=MANY,
        passwords=MANY,
        login_failures=MANY,
        unfinished_bytes=10**12,
    )
    server = OAuthProvider(
        base_url=BASE_URL,
        login=PasswordLogin({"alice": hash_password("x")}),
        store="memory:",
        required_scopes=["mcp:read"],
        rate_limits=plenty,
    )
    await server.__aenter__()  # for as long as the process lasts
    guarded = MCPAuthMiddleware(application, server, mcp_path=MCP_PATH)
    visitor = Visitor(guarded)
    opened = await visitor.authorize(await visitor.register())
    page = await visitor._send("GET", opened.location.removeprefix(BASE_URL))
    hidden = {name.decode(): value.decode() for name, value in HIDDEN.findall(page.body)}
    cookies = (b"cookie", b"; ".join(b"%b=%b" % pair for pair in visitor._cookies.items()))

    def form(**parameters: str) -> Request:
        return Request(
            "POST", "/login", (FORM, cookies), urlencode({**hidden, **parameters}).encode()
        )

    short = PAGE // 6 - 100
    return [
        Case(
            "/login",
            "a password, the longest name that may be one",
            lambda: form(username="é" * 120, password="x"),
            guarded,
        ),
        Case(
            "/login",
            "a password, the longest name",
            lambda: form(username="é" * short, password="x"),
            guarded,
        ),
        Case(
            "/login",
            "a password, a name that is long when it is normalised",
            lambda: form(username="\ufdfa" * (PAGE // 9 - 100), password="x"),
            guarded,
        ),
        Case(
            "/login",
            "a password, a name of marks",
            lambda: form(username="a" + "\u0301\u0323" * (PAGE // 12 - 50), password="x"),
            guarded,
        ),
        Case(
            "/login",
            "the longest password",
            lambda: form(username="alice", password="é" * short),
            guarded,
        ),
    ]


def _callback_cases() -> Iterator[Case]:
    from asgi_mcp_auth import MCPAuthMiddleware, OAuthProxy, StaticTokenVerifier
    from asgi_mcp_auth.server import RateLimits

    plenty = RateLimits(
        register=MANY,
        authorize=MANY,
        token=MANY,
        passwords=MANY,
        login_failures=MANY,
        unfinished_bytes=10**12,
    )
    proxy = OAuthProxy(
        upstream_authorization_endpoint=f"{ISSUER}/authorize",
        upstream_token_endpoint=f"{ISSUER}/token",
        upstream_client_id="proxy",
        upstream_client_secret="secret",
        token_verifier=StaticTokenVerifier({"t": {"client_id": "c", "sub": "s"}}),
        base_url=BASE_URL,
        required_scopes=["mcp:read"],
        store="memory:",
        rate_limits=plenty,
    )
    guarded = MCPAuthMiddleware(application, proxy, mcp_path=MCP_PATH)
    for what, query in {
        "the longest state": "code=x&state=" + "s" * (PAGE - 20),
        "the longest code": "state=x&code=" + "%C3%A9" * (PAGE // 6 - 10),
        "the longest error": "state=x&error=x&error_description=" + "%C3%A9" * (PAGE // 6 - 10),
        "as many parameters as may be": (
            "state=x" + "".join(f"&p{n}={'%41' * 85}" for n in range(63))
        ),
    }.items():
        yield Case(
            "/auth/callback",
            what,
            lambda query=query: Request("GET", f"/auth/callback?{query}"),
            guarded,
        )


if __name__ == "__main__":
    main(measure)
