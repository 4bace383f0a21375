"""Registrations through the real endpoint: what is registered is a client that is allowed, and can
be asked about.
"""

from __future__ import annotations

import json
import re
from ipaddress import ip_address
from typing import Any

from asgi_mcp_auth.server.clients.known import KNOWN_REDIRECT_URIS
from fuzz.inprocess import Answer
from fuzz.issuer import LOOPBACK, WEB, Issuer
from fuzz.keys import SIGNERS
from fuzz.markup import Markup
from fuzz.targets.redirect_uri import judge_registered, read

_MEMBERS = (
    *(
        "redirect_uris",
        "client_name",
        "client_uri",
        "logo_uri",
        "tos_uri",
        "policy_uri",
        "contacts",
        "software_id",
    ),
    *(
        "software_version",
        "software_statement",
        "application_type",
        "grant_types",
        "response_types",
        "scope",
        "jwks",
    ),
    *(
        "token_endpoint_auth_method",
        "token_endpoint_auth_signing_alg",
        "jwks_uri",
        "client_name#ja",
        "client_id",
    ),
    *(
        "client_secret",
        "require_pushed_authorization_requests",
        "dpop_bound_access_tokens",
        "registration_access_token",
    ),
)
DICTIONARY: tuple[bytes, ...] = (
    *(f'"{name}":'.encode() for name in _MEMBERS),
    *(
        f'"{word}"'.encode()
        for word in (
            "authorization_code",
            "refresh_token",
            "client_credentials",
            "password",
            "code",
        )
    ),
    *(
        f'"{word}"'.encode()
        for word in ("none", "client_secret_basic", "client_secret_post", "private_key_jwt", "web")
    ),
    *(
        f'"{word}"'.encode()
        for word in (
            "mcp:read mcp:write",
            "admin",
            "offline_access",
            LOOPBACK,
            WEB,
            "ES256",
            "HS256",
        )
    ),
    *(
        b'"cursor://x/cb"',
        b'"javascript:x"',
        b'"http://192.168.0.1/"',
        b'"http://[::1]/cb"',
        b'"https://a/#"',
        b"[",
        b"]",
    ),
    *(
        b"{",
        b"}",
        b",",
        b"null",
        b"true",
        b"0",
        b"1e999",
        b'"',
        b'"\\ud800"',
        b'"\\u202e"',
        b'"\\u0000"',
        b"\\",
        b"#",
    ),
    *(
        b'"<svg onload=x>"',
        b'"&lt;"',
        b"[[[[[[[[",
        b"[]",
        b"{}",
        b"\xef\xbb\xbf",
        b'"' + b"x" * 600 + b'"',
        b'""',
    ),
)
CREATE, UPDATE = range(2)
_issuer = Issuer()
_SCHEMES = frozenset(("cursor",))
_ERRORS = ("invalid_redirect_uri", "invalid_client_metadata", "invalid_request")
_OURS = {
    *("client_id", "client_id_issued_at", "client_secret", "client_secret_expires_at"),
    *("registration_access_token", "registration_client_uri"),
}


def seeds() -> list[bytes]:
    """Return inputs: a byte that says whether it is an update, then the document."""
    usual = {"redirect_uris": [LOOPBACK], "client_name": "A program"}
    documents: list[dict[str, Any]] = [
        usual,
        {"redirect_uris": [LOOPBACK, WEB, "cursor://x/cb"], "token_endpoint_auth_method": "none"},
        {
            **usual,
            "client_name": "<svg onload=x>\u202e",
            "client_name#ja-Jpan": "\u5fdc\u7528",
            "contacts": ["a@b.example"],
        },
        {
            **usual,
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": {"keys": [SIGNERS["ES256"].public_jwk()]},
        },
        {
            **usual,
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks_uri": "https://app.example.com/jwks",
        },
        {
            **usual,
            "grant_types": ["authorization_code"],
            "response_types": ["code"],
            "scope": "mcp:read admin",
        },
        {
            **usual,
            "grant_types": ["authorization_code", "client_credentials"],
            "application_type": "native",
        },
        {"grant_types": ["client_credentials"]},
        {
            **usual,
            "client_uri": "https://app.example.com",
            "logo_uri": "http://169.254.169.254/",
            "software_id": "x",
        },
        {
            **usual,
            "client_id": "service",
            "client_secret": "mine",
            "registration_access_token": "mine",
        },
        {
            **usual,
            "client_name": None,
            "client_uri": "",
            "require_pushed_authorization_requests": True,
        },
    ]
    texts = [json.dumps(document).encode() for document in documents]
    return [
        *(bytes([kind]) + text for kind in (CREATE, UPDATE) for text in texts),
        b"",
        b"\0[]",
        b"\0{",
        b"\0null",
    ]


def check(data: bytes) -> None:
    """Register a client, or register one and change it."""
    kind, text = (data[0] if data else 0) % 2, data[1:]
    _issuer.reset()
    if kind == UPDATE:
        known = json.loads(_send("POST", "", b'{"redirect_uris":["%b"]}' % WEB.encode()).body)
        text = text.replace(b"{", b'{"client_id":"%b",' % known["client_id"].encode(), 1)
        answer = _send(
            "PUT", f"client_id={known['client_id']}", text, known["registration_access_token"]
        )
        document = _issuer.document(answer, {200, 400, 413})
        if answer.status == 200:
            assert document["client_id"] == known["client_id"]
            assert document["registration_access_token"] == known["registration_access_token"]
    else:
        answer = _send("POST", "", text)
        document = _issuer.document(answer, {201, 400, 413})
    if answer.status >= 400:
        assert document["error"] in _ERRORS, document
        return
    _judge(json.loads(text), document, kind)
    token = document["registration_access_token"]
    read = _issuer.document(_send("GET", f"client_id={document['client_id']}", b"", token), {200})
    assert read == {
        name: value for name, value in document.items() if not name.startswith("client_secret")
    }
    _ask_about(document)


def _send(method: str, query: str, body: bytes, token: str | None = None) -> Answer:
    headers = [(b"content-type", b"application/json")]
    if token is not None:
        headers.append((b"authorization", b"Bearer " + token.encode()))
    return _issuer.send(method, "/register", query=query.encode(), body=body, headers=headers)


def _judge(asked: dict[str, Any], document: dict[str, Any], kind: int) -> None:
    """Hold a client to RFC 7591 §2 and §3.2.1, and to what may be had here."""
    assert len(document["client_id"]) == 32
    metadata = {name: value for name, value in document.items() if name not in _OURS}
    usual = {
        "grant_types",
        "response_types",
        "token_endpoint_auth_method",
        "redirect_uris",
        "scope",
    }
    for name, value in metadata.items():
        # A list may come back shorter, and a name without what misleads.
        shortened = type(value) is type(asked.get(name)) in (list, str) and all(
            each in asked[name] for each in value
        )
        assert name in usual or asked[name] == value or shortened, (
            f"{name} is not what was asked for"
        )
    assert set(document["grant_types"]) <= {"authorization_code", "refresh_token"}
    assert "authorization_code" in document["grant_types"]
    assert document["response_types"] == ["code"]
    assert document["redirect_uris"]
    for uri in document["redirect_uris"]:
        assert uri in asked["redirect_uris"]
        if uri not in KNOWN_REDIRECT_URIS:
            judge_registered(uri, _SCHEMES)
    assert set(document.get("scope", "mcp:read").split(" ")) <= {
        "mcp:read",
        "mcp:write",
        "offline_access",
    }
    method = document["token_endpoint_auth_method"]
    has_secret = method in ("client_secret_basic", "client_secret_post")
    # which keeps its secret
    assert ("client_secret" in document) == has_secret or (kind == UPDATE and has_secret)
    assert document.get("client_secret", "") != asked.get("client_secret")
    assert ("jwks" in document) != ("jwks_uri" in document) or method != "private_key_jwt"
    for name in ("client_uri", "logo_uri", "tos_uri", "policy_uri", "jwks_uri"):
        if name in document:
            judge_link(document[name], encrypted=name == "jwks_uri")
    assert not re.search('"(?:d|p|q|dp|dq|qi|k)":', json.dumps(document.get("jwks", {}))), (
        "a private key"
    )


def judge_link(url: str, *, encrypted: bool) -> None:
    """Hold a URL to leading to a host that may be public, as a browser reads it."""
    reading = read(url)
    assert reading.scheme == "https" or (reading.scheme == "http" and not encrypted)
    assert not reading.credentials
    assert not f".{reading.host}".removesuffix(".").endswith(".localhost")
    assert (
        not re.search(r"(?:^|\.)(?:0x[0-9a-f]*|\d+)\.?$", reading.host)
        or ip_address(reading.host).is_global
    )
    assert "[" not in reading.host or ip_address(reading.host.strip("[]")).is_global


def _ask_about(document: dict[str, Any]) -> None:
    """Have the person asked about this client: the page says what it says about any other."""
    target = _issuer.follow(
        _issuer.open(
            _issuer.authorization_path(document["client_id"], document["redirect_uris"][0])
        )
    )
    if not target.startswith("/"):
        assert "error=" in target, target  # for example, it has to push its requests
        return
    assert target.startswith("/consent?")
    page = _issuer.open(target)
    assert page.status == 200, page
    markup = Markup(page.body.decode())
    assert markup.elements.count(("li", ())) == 1
    assert markup.elements.count(("form", ("method", "action"))) == 1
    assert {name for name, _ in markup.elements} <= _ELEMENTS, markup.elements


_ELEMENTS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "main",
        "section",
        "h1",
        "h2",
        "p",
        "bdi",
        "dl",
        "div",
    ),
    *("dt", "dd", "ul", "li", "form", "input", "button", "a", "strong", "footer"),
}
_ELEMENTS |= {f"/{name}" for name in _ELEMENTS}
