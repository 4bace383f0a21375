"""Authorization bytes through the middleware: one token, spelled one way, gets in; nothing is a
crash.
"""

from __future__ import annotations

import json
import re

from asgi_mcp_auth import (
    JWTVerifier,
    MCPAuthMiddleware,
    RemoteAuthProvider,
    StaticTokenVerifier,
    TokenVerifier,
)
from asgi_mcp_auth.testing import sign_jwt
from fuzz.inprocess import App, request
from fuzz.keys import SIGNERS

TOKEN = b"dev-token.with~every/kind+of_char=="
METADATA = b"https://mcp.example.com/.well-known/oauth-protected-resource/mcp"

DICTIONARY: tuple[bytes, ...] = (
    *(
        b"Bearer ",
        b"bearer ",
        b"BEARER\t",
        b"Bearer",
        b"Basic ",
        b"DPoP ",
        b"Bearer  ",
        TOKEN,
        b"=",
        b"==",
        b",",
    ),
    *(
        b"access_token=",
        b"&",
        b"%",
        b"%61ccess_token=",
        b"\n",
        b"\0",
        b"\xff",
        b"\xc2\xa0",
        b"\r\n",
        b"\t",
    ),
)

_app = App()
_JWT = sign_jwt(
    SIGNERS["EdDSA"],
    {"alg": "EdDSA"},
    {
        "aud": "https://mcp.example.com/mcp",
        "exp": 4_000_000_000,
        "client_id": "me",
        "scope": "mcp:read",
    },
).encode()


def _protect(verifier: TokenVerifier) -> MCPAuthMiddleware:
    provider = RemoteAuthProvider(
        verifier,
        authorization_servers=["https://idp.example.com"],
        base_url="https://mcp.example.com",
    )
    return MCPAuthMiddleware(_app, provider, mcp_path="/mcp")


_STATIC = StaticTokenVerifier(
    {TOKEN.decode(): {"client_id": "me", "scopes": ["mcp:read"]}}, required_scopes=["mcp:read"]
)
# The second one remembers the token from the first request on.
_GUARDS = (
    (TOKEN, _protect(_STATIC)),
    (
        _JWT,
        _protect(
            JWTVerifier(public_key=SIGNERS["EdDSA"].public_jwk(), required_scopes=["mcp:read"])
        ),
    ),
)
_CHALLENGE = re.compile(
    rb'Bearer (?:error="(?P<error>[a-z_]+)", )?resource_metadata="' + re.escape(METADATA) + rb'"'
    rb'(?:, scope="mcp:read")?(?:, error_description="[A-Za-z: ]+")?'
)
_METHODS = ("GET", "POST", "HEAD", "OPTIONS")


def seeds() -> list[bytes]:
    r"""Return inputs: a byte for the kind of request, then query ``\0`` header ``\n`` header…"""
    values = [
        b"Bearer " + TOKEN,
        b"bearer " + TOKEN,
        b"Bearer",
        b"Bearer ",
        b"Bearer  " + TOKEN,
        b"Basic dTpw",
        b"",
        b"BearerX y",
    ]
    values += [
        b"Bearer " + TOKEN + b" ",
        b"Bearer a b",
        b"Bearer =",
        b"Bearer " + TOKEN + b"\nBearer " + TOKEN,
    ]
    queries = [b"", b"access_token=" + TOKEN, b"a=b&access_token=x", b"xaccess_token=1"]
    return [
        bytes([kind]) + query + b"\0" + value
        for kind in (0, 4)
        for query in queries
        for value in values
    ]


def check(data: bytes) -> None:
    """Send one request to each of two servers, which know another token each."""
    kind, rest = (data[0] if data else 0), data[1:]
    query, separator, tail = rest.partition(b"\0")
    values = tail.split(b"\n") if separator else []
    for token, guard in _GUARDS:
        _send(guard, token, kind, query, [value.replace(TOKEN, token) for value in values])


def _send(
    guard: MCPAuthMiddleware, token: bytes, kind: int, query: bytes, values: list[bytes]
) -> None:
    websocket = kind & 4 != 0
    before = _app.calls
    answer = request(
        guard,
        [(b"host", b"mcp.example.com"), *((b"authorization", value) for value in values)],
        type="websocket" if websocket else "http",
        method=None if websocket else _METHODS[kind & 3],
        query_string=query,
    )
    entered = _app.calls - before
    may_enter = (
        len(values) == 1
        and values[0][:7].lower() == b"bearer "
        and values[0][7:].lstrip(b" ") == token
    )
    twice = any(pair.startswith(b"access_token=") for pair in query.split(b"&"))
    assert entered == int(may_enter and not twice), (answer.status, values, query)
    if entered:
        assert answer.status == (101 if websocket else 200)
        return
    assert answer.status in (400, 401), answer
    (challenge,) = answer.all(b"www-authenticate")
    match = _CHALLENGE.fullmatch(challenge)
    assert match is not None, challenge
    expected = {400: b"invalid_request", 401: match["error"] and b"invalid_token"}[answer.status]
    assert match["error"] == expected, challenge
    if answer.body:
        assert json.loads(answer.body).get("error", "").encode() == (match["error"] or b"")
