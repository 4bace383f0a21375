"""Client metadata documents, and the URLs where they may be: what comes out is a client that is
allowed, or none.
"""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import unquote

from asgi_mcp_auth._http import PublicFetcher, Response
from asgi_mcp_auth._places import Place
from asgi_mcp_auth.errors import InvalidClient, ServerUnavailable
from asgi_mcp_auth.server.clients.cimd import ClientDocuments, is_document_url
from asgi_mcp_auth.server.clients.kept import KeptDocuments
from asgi_mcp_auth.server.clients.metadata import MetadataPolicy
from asgi_mcp_auth.server.grants import authorization_code, refresh_token
from asgi_mcp_auth.server.limits import Limits
from asgi_mcp_auth.server.options import Lifetimes, Registration
from asgi_mcp_auth.server.parties import Client
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from fuzz.issuer import LOOPBACK, WEB, run
from fuzz.keys import SIGNERS
from fuzz.targets import registration
from fuzz.targets.redirect_uri import judge_registered, read
from fuzz.targets.registration import judge_link

URL = "https://app.example.com/client.json"
ISSUER = "https://mcp.example.com"
DOCUMENT, PLACE, TYPE = range(3)
_MEMBERS = (
    "token_endpoint_auth_methods_supported",
    "registration_access_token",
    "client_secret_expires_at",
)
DICTIONARY: tuple[bytes, ...] = (
    *registration.DICTIONARY,
    *(f'"{name}":'.encode() for name in _MEMBERS),
    *(
        URL.encode(),
        b"https://",
        b"http://",
        b":443",
        b":8443",
        b"@",
        b"/../",
        b"/./",
        b"%2e%2e",
        b"%2f",
        b"?",
        b"#",
    ),
    *(
        b"127.0.0.1",
        b"[::1]",
        b"localhost",
        b".localhost",
        b"0x7f.1",
        b"2130706433",
        b"[::ffff:10.0.0.1]",
        b"%31",
        b"10.",
    ),
    *(
        b"mcp.example.com",
        b"MCP.example.com",
        b"application/json",
        b"+json",
        b"; charset=utf-8",
        b"text/html",
        b".",
    ),
)
_SCHEMES = frozenset(("cursor",))
_METHODS = ("none", "private_key_jwt")
_KEY = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")


class _Ready(PublicFetcher):
    """Has the document already."""

    answer = Response(200, {}, b"")

    async def fetch(self, url: str, *, max_bytes: int, place: Place | None = None) -> Response:
        if place is not None:
            place.leave()
        return self.answer


_fetcher = _Ready(timeout_seconds=1)
_clock = FrozenClock()
_policy = MetadataPolicy(
    scopes=frozenset(("mcp:read", "mcp:write")),
    grant_types=(authorization_code.GRANT, refresh_token.GRANT),
    redirect_schemes=_SCHEMES,
    auth_methods=_METHODS,
    default_auth_method="none",
)


def _document(**changes: Any) -> bytes:
    usual = {"client_id": URL, "client_name": "A program", "redirect_uris": [LOOPBACK, WEB]}
    return json.dumps({**usual, **changes}).encode()


def seeds() -> list[bytes]:
    """Return inputs: a byte for the kind, then the document, its URL, or its content type."""
    keys = {"keys": [SIGNERS["ES256"].public_jwk()]}
    documents = [
        _document(),
        _document(token_endpoint_auth_method="private_key_jwt", jwks=keys),
        _document(
            token_endpoint_auth_method="private_key_jwt", jwks_uri="https://app.example.com/jwks"
        ),
        _document(
            token_endpoint_auth_methods_supported=[
                "none",
                "private_key_jwt",
                "client_secret_basic",
            ],
            jwks=keys,
        ),
        _document(
            token_endpoint_auth_methods_supported=[{}, [], "none"],
            token_endpoint_auth_method="none",
        ),
        _document(token_endpoint_auth_method="client_secret_basic"),
        _document(client_secret="mine"),
        _document(client_id=f"{URL}/"),
        _document(client_name=None),
        _document(redirect_uris=["cursor://x/cb", "https://evil.example/#x"]),
        _document(grant_types=["client_credentials"]),
        _document(scope="mcp:read admin", **{"client_name#de": "Eine App"}),
        b"\xef\xbb\xbf" + _document(),
        b"x" * 5121,
        b"[]",
        b"",
    ]
    urls = [
        *(
            URL,
            "https://app.example.com/",
            "https://app.example.com",
            "https://app.example.com:8443/a/b",
            "http://a.example/c",
        ),
        *(
            "https://127.0.0.1/c",
            "https://[::1]/c",
            "https://localhost/c",
            "https://0x7f000001/c",
            "https://10.1.2.3/c",
        ),
        *(
            "https://a.example/../c",
            "https://a.example/%2e%2e/c",
            "https://a.example/c?x",
            "https://u@a.example/c",
        ),
        *(
            "https://mcp.example.com/c",
            "https://MCP.example.com:443/c",
            "https://8.8.8.8/c",
            "https://a.example./c",
        ),
    ]
    types = (
        b"application/json",
        b"application/json; charset=utf-8",
        b"application/cimd+json",
        b"text/html",
        b"",
        b"+json",
    )
    return [
        *(bytes([DOCUMENT]) + document for document in documents),
        *(bytes([PLACE]) + url.encode() for url in urls),
        *(bytes([TYPE]) + each for each in types),
    ]


def check(data: bytes) -> None:
    """Ask for the client."""
    kind, rest = (data[0] if data else 0) % 3, data[1:]
    url, body, content_type = URL, _document(), "application/json"
    if kind == DOCUMENT:
        body = rest
    elif kind == PLACE:
        url = rest.decode("utf-8", "replace")
        body = _document(client_id=url)
    else:
        content_type = rest.decode("latin-1")
    client = client_of(url, body, content_type) if is_document_url(url) else None
    if client is not None:
        assert len(body) <= 5120
        media_type = content_type.partition(";")[0].strip().lower()
        assert media_type == "application/json" or media_type.endswith("+json")
        _judge_url(url)
        _judge(client, json.loads(body))


def client_of(url: str, body: bytes, content_type: str = "application/json") -> Client | None:
    """Return the client that a document makes."""
    _fetcher.answer = Response(200, {"content-type": content_type}, body)
    documents = ClientDocuments(
        _policy,
        _fetcher,
        _clock,
        Limits(MemoryStore(), _clock, None),
        [ISSUER],
        Registration(),
        KeptDocuments(EncryptedStore(MemoryStore(), keys=[_KEY]), _clock, Lifetimes()),
    )
    try:
        return run(documents.client_for(url, "192.0.2.1"))
    except InvalidClient as refusal:
        assert refusal.reason == "document"  # noqa: PT017  # a fuzz target, not a test
        return None
    except ServerUnavailable:
        raise AssertionError("the document was there") from None


def _judge_url(url: str) -> None:
    """Hold a URL to draft-ietf-oauth-client-id-metadata-document §3, as a browser reads it."""
    reading = read(url)
    judge_link(url, encrypted=True)
    assert reading.fragment is None
    assert reading.query is None
    assert len(reading.path) > 1
    assert not {".", ".."} & set(unquote(reading.path).split("/"))
    assert reading.port != 0
    assert reading.host != "mcp.example.com" or reading.port is not None, (
        "we are no client of our own"
    )


def _judge(client: Client, document: dict[str, Any]) -> None:
    assert client.client_id == document["client_id"]
    assert client.origin == "document"
    assert client.secret_hash is client.registration_token_hash is None
    assert set(client.auth_methods) <= set(_METHODS)
    assert client.auth_methods
    has_keys = {"jwks", "jwks_uri"} & client.metadata.keys()
    assert has_keys or client.auth_methods == ["none"]
    assert (
        not {"client_secret", "client_secret_expires_at", "registration_access_token"}
        & document.keys()
    )
    assert 0 < len(client.name) <= 512
    assert set(client.grant_types) <= {"authorization_code", "refresh_token"}
    assert set(client.scopes or ()) <= {"mcp:read", "mcp:write", "offline_access"}
    assert client.redirect_uris
    for uri in client.redirect_uris:
        judge_registered(uri, _SCHEMES)
    Client.load(client.dump())
