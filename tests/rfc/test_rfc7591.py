"""OAuth 2.0 Dynamic Client Registration (RFC 7591)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asgi_mcp_auth._urls import check_redirect_uri
from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.server.clients.known import KNOWN_REDIRECT_URIS
from asgi_mcp_auth.server.clients.metadata import AUTH_METHODS
from tests.support.asgi import Response
from tests.support.authorization_server import (
    REDIRECT_URI,
    WEB_REDIRECT_URI,
    Server,
    answer_of,
    basic,
    deploy,
)
from tests.support.gate import signing_key
from tests.support.rows import rows
from tests.tables.json_texts import broken
from tests.tables.jwk_members import HARMLESS, unusable

pytestmark = pytest.mark.asyncio

MINIMAL = {"redirect_uris": [WEB_REDIRECT_URI]}
JWK = signing_key().public_jwk()
WITH_KEYS = {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [JWK]}}


async def register(server: Server, document: Any, **headers: str) -> Response:
    return await server.call("POST", "/register", headers=headers, document=document)


@pytest.mark.rule("AS-51")
async def test_a_registration_is_answered_with_all_that_holds_now() -> None:
    """§3.2.1. The answer has the defaults and substitutions in it, and may not be stored."""
    async with deploy() as server:
        response = await register(server, MINIMAL)
        assert response.status == 201
        assert response.header("content-type") == "application/json"
        assert (response.header("cache-control"), response.header("pragma")) == (
            "no-store",
            "no-cache",
        )
        document = response.json()
        secret, token = document.pop("client_secret"), document.pop("registration_access_token")
        client_id, uri = document.pop("client_id"), document.pop("registration_client_uri")
        assert uri == f"http://localhost:8000/register?client_id={client_id}"
        assert all(
            len(each) >= 32 and each.replace("-", "").replace("_", "").isalnum()
            for each in (secret, token)
        )
        assert document == {
            "client_id_issued_at": 1_800_000_000,
            "client_secret_expires_at": 0,
            "token_endpoint_auth_method": "client_secret_basic",
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "redirect_uris": [WEB_REDIRECT_URI],
        }


@pytest.mark.rule("AS-52", "AS-75")
async def test_a_public_client_gets_no_secret() -> None:
    """§2. ``none``."""
    async with deploy() as server:
        document = (
            await register(server, {**MINIMAL, "token_endpoint_auth_method": "none"})
        ).json()
        assert not {"client_secret", "client_secret_expires_at"} & set(document)


@pytest.mark.rule("AS-08")
@pytest.mark.parametrize(
    "method", ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]
)
async def test_a_client_authenticates_as_it_has_registered(method: str) -> None:
    """§2. What the metadata document offers can be registered, and no other method works then, but
    that a secret may stand in the header or in the body.
    """
    async with deploy() as server:
        document = {
            **MINIMAL,
            **(WITH_KEYS if method == "private_key_jwt" else {}),
            "token_endpoint_auth_method": method,
        }
        client = (await register(server, document)).json()
        assert client["token_endpoint_auth_method"] == method
        assert ("client_secret" in client) == method.startswith("client_secret_")
        client_id, secret = client["client_id"], client.get("client_secret", "a-guess")
        form = {"grant_type": "authorization_code", "code": "unknown", "code_verifier": "v" * 43}
        answers = {
            "none": await server.token(**form, client_id=client_id),
            "client_secret_basic": await server.token(headers=basic(client_id, secret), **form),
            "client_secret_post": await server.token(
                **form, client_id=client_id, client_secret=secret
            ),
        }
        errors = {name: each.json()["error"] for name, each in answers.items()}
        kind = method.removesuffix("_basic").removesuffix("_post")
        assert errors == {
            name: "invalid_grant" if name.startswith(kind) else "invalid_client" for name in answers
        }


DEFAULT = {"grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"]}
ECHOED = {
    "client_name": "Ünïcode name 🛠",
    "client_name#de": "Name",
    "client_name#zh-Hans-CN": "名",
    "client_uri": "https://client.example/",
    "client_uri#de": "https://client.example/de",
    "logo_uri": "https://client.example/logo.png",
    "tos_uri": "http://client.example/tos",
    "policy_uri": "https://client.example/policy",
    "contacts": ["ops@client.example"],
    "software_id": "4NRB1-0XZABZI9E6-5SM3R",
    "software_version": "2.1",
    "application_type": "native",
    "scope": "mcp:read mcp:write offline_access",
    "token_endpoint_auth_method": "none",
    "require_pushed_authorization_requests": False,
    "dpop_bound_access_tokens": False,
    "tls_client_certificate_bound_access_tokens": False,
}


@rows("name", ECHOED)
async def test_metadata_that_is_understood_comes_back(name: str) -> None:
    """§2, §2.2: languages are kept."""
    async with deploy() as server:
        assert (await register(server, {**MINIMAL, name: ECHOED[name]})).json()[name] == ECHOED[
            name
        ]


@pytest.mark.case("Z93")
@pytest.mark.rule("AS-52")
@rows(
    "member",
    [
        {"favourite_colour": "green"},
        # §2.3: not supported, so it has to be ignored
        {"software_statement": "eyJhbGciOiJub25lIn0.e30."},
        {"client_id": "mine"},
        {"client_secret": "mine-mine-mine-mine-mine-mine-mine"},
        {"client_id_issued_at": 1},
        {"client_secret_expires_at": 1},
        {"registration_access_token": "mine"},
        {"client_uri": None},
        {"client_uri": ""},
        {"scope": ""},  # what MCP Inspector and Gemini CLI send
        {"software_version": ""},
        {"contacts": None},
        {"client_name#": "no language"},
        {"client_name#not a language!": "x"},
        {"client_name#" + "x" * 36: "x"},
        {"contacts#de": ["a@b.example"]},  # not for people to read
        {"": "x"},
        {"#de": "x"},
    ],
    ids=str,
)
async def test_what_is_not_understood_has_no_value_or_is_ours_to_say_is_left_out(
    member: dict[str, Any],
) -> None:
    """§2, §3.1. Values that only the server may set are not stored."""
    async with deploy() as server:
        plain, document = (
            (await register(server, MINIMAL)).json(),
            (await register(server, MINIMAL | member)).json(),
        )
        assert set(document) == set(plain)
        assert not [value for value in member.values() if value and value in document.values()]


@pytest.mark.rule("AS-52")
@rows(
    ("asked", "effective"),
    [
        ({}, DEFAULT),
        ({"grant_types": ["authorization_code"]}, {"grant_types": ["authorization_code"]}),
        ({"grant_types": ["refresh_token", "authorization_code"]}, {"response_types": ["code"]}),
        (
            {"grant_types": ["authorization_code", "authorization_code"]},
            {"grant_types": ["authorization_code"]},
        ),
        (
            {"grant_types": ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"]},
            {"grant_types": ["authorization_code"]},
        ),
        (
            {"grant_types": ["authorization_code", "client_credentials"]},
            {"grant_types": ["authorization_code"]},
        ),
        (
            {"grant_types": ["authorization_code", "implicit", "refresh_token", "password"]},
            DEFAULT,
        ),
        ({"grant_types": []}, DEFAULT),
        ({"grant_types": "authorization_code"}, DEFAULT),
        ({"grant_types": [["authorization_code"], None]}, DEFAULT),
        ({"grant_types": ["authorization_code"] * 17}, {"grant_types": ["authorization_code"]}),
        ({"response_types": ["code"]}, DEFAULT),
        ({"response_types": ["code", "token"]}, DEFAULT),
        ({"response_types": ["code id_token", "code", 5]}, DEFAULT),
        ({"response_types": []}, DEFAULT),
        ({"response_types": "code"}, DEFAULT),
        ({"contacts": ["", "ops@client.example", 5]}, {"contacts": ["ops@client.example"]}),
        ({"contacts": ["x"] * 17}, {"contacts": ["x"] * 17}),
        ({"client_name": " Line\nbreak\r\n"}, {"client_name": "Linebreak"}),
        ({"client_name": "Bank\u202egnp.moc.elpmaxe"}, {"client_name": "Bankgnp.moc.elpmaxe"}),
        ({"client_name": "\u05d0\u05d1\u200f"}, {"client_name": "\u05d0\u05d1"}),
        ({"client_name#he": "\u2066\u05d0\u2069"}, {"client_name#he": "\u05d0"}),
        ({"scope": "mcp:read admin mcp:read"}, {"scope": "mcp:read"}),  # Z99
        ({"scope": "  mcp:write   mcp:read "}, {"scope": "mcp:write mcp:read"}),
        ({"scope": "admin"}, {"scope": None}),
        ({"redirect_uris": [WEB_REDIRECT_URI] * 3}, {"redirect_uris": [WEB_REDIRECT_URI]}),
    ],
    ids=str,
)
async def test_values_that_are_not_supported_are_replaced(
    asked: dict[str, Any], effective: dict[str, Any]
) -> None:
    """§3.2.1: the client is told what it has got instead."""
    async with deploy() as server:
        response = await register(server, MINIMAL | asked)
        assert response.status == 201
        assert {name: response.json().get(name) for name in effective} == effective


URLS: list[Any] = [
    "ftp://client.example/x",
    "some-editor://about",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "data:image/png;base64,iVBORw0KGgo=",
    "//client.example",
    "/x",
    "client.example",
    "http://localhost:5173",
    "https://localhost/x",
    "http://127.0.0.1:6274",
    "https://[::1]/x",
    "http://192.168.1.20:8080",
    "https://10.0.0.1/x",
    "https://169.254.169.254/latest/meta-data",
    "https://2130706433/x",
    "https://0x7f.1/x",
    "https://user@client.example/x",
    "https://client.example/ x",
    "https://client.example/l\u00f6go.png",
    "https://" + "x" * 2048,
    5,
    {},
    ["https://client.example"],
]
UNUSABLE: list[dict[str, Any]] = [
    {"client_name": "x" * 513},  # Z95
    {"client_name": ["name"]},
    {"client_name": {"name": "x"}},
    {"client_name": 5},
    {"client_name": " \n\u200e"},
    {"client_name#de": "x" * 513},
    {"contacts": "ops@client.example"},
    {"contacts": [""]},
    {"contacts": [5]},
    {"contacts": ["x" * 513]},
    {"contacts": {"mail": "ops@client.example"}},
    {"software_id": 5},
    {"software_version": 2},
    {"software_version": ["2"]},
    {"application_type": "browser"},
    {"application_type": True},
    {"scope": ["mcp:read"]},
    {"scope": 5},
    *(
        {name: value}  # Z94
        for name in ("client_uri", "logo_uri", "tos_uri", "policy_uri")
        for value in URLS
    ),
    {"client_uri#de": "http://localhost"},
]


@pytest.mark.case("Z94", "Z95")
@pytest.mark.rule("AS-52", "AS-55", "AS-81")
async def test_what_only_informs_and_is_unusable_is_left_out() -> None:
    """§2, §3.2.1. The rest is registered, and the same holds for an update (RFC 7592 §2.2)."""
    async with deploy() as server:
        plain = (await register(server, MINIMAL)).json()
        kept = {name: plain[name] for name in (*DEFAULT, "redirect_uris")}
        headers = {"Authorization": f"Bearer {plain['registration_access_token']}"}
        for member in UNUSABLE:
            response = await register(server, MINIMAL | member)
            assert response.status == 201, (member, response.body)
            document = response.json()
            assert set(document) == set(plain), member
            assert kept.items() <= document.items(), member
            update = {**MINIMAL, **member, "client_id": plain["client_id"]}
            url = f"/register?client_id={plain['client_id']}"
            response = await server.call("PUT", url, headers=headers, document=update)
            assert response.status == 200, (member, response.body)
            assert not set(member) & set(response.json())


METADATA: list[dict[str, Any]] = [
    {"grant_types": ["password"]},  # Z91
    {"grant_types": ["implicit", "password"]},
    {"grant_types": ["client_credentials"]},
    {"grant_types": ["refresh_token"]},
    {"grant_types": ["urn:ietf:params:oauth:grant-type:device_code"]},
    {"response_types": ["token"]},
    {"response_types": ["code id_token"]},
    {"token_endpoint_auth_method": "tls_client_auth"},  # Z92
    {"token_endpoint_auth_method": "self_signed_tls_client_auth"},
    {"token_endpoint_auth_method": "client_secret_jwt"},
    {"token_endpoint_auth_method": "NONE"},
    {"token_endpoint_auth_method": ["none"]},
    {"token_endpoint_auth_method": "private_key_jwt"},  # with which key?
    {**WITH_KEYS, "jwks_uri": "https://client.example/jwks"},
    {**WITH_KEYS, "jwks": {"keys": []}},
    {**WITH_KEYS, "jwks": [JWK]},
    {**WITH_KEYS, "jwks": "https://client.example/jwks"},
    {"token_endpoint_auth_signing_alg": "none"},
    {"token_endpoint_auth_signing_alg": "HS256"},
    {"token_endpoint_auth_signing_alg": ["RS256"]},
    *({"jwks_uri": value} for value in URLS),
    {"jwks_uri": "http://client.example/jwks"},
    # cannot be done here: plain tokens are not what such a client wants
    {"dpop_bound_access_tokens": True},
    {"tls_client_certificate_bound_access_tokens": True},
    # what a client insists on is not left out because of its form
    {"dpop_bound_access_tokens": "true"},
    {"tls_client_certificate_bound_access_tokens": 1},
    {"require_pushed_authorization_requests": "true"},
]


@pytest.mark.case("Z91", "Z92", "Z94", "Z95")
@pytest.mark.rule("AS-53", "AS-55", "AS-81")
@rows("member", METADATA, ids=lambda member: str(member)[:70])
async def test_metadata_that_decides_and_cannot_be_registered_is_invalid_client_metadata(
    member: dict[str, Any],
) -> None:
    """§3.2.2. The answer repeats nothing of it."""
    async with deploy() as server:
        response = await register(server, MINIMAL | member)
        assert (response.status, response.json()["error"]) == (400, "invalid_client_metadata")
        assert response.header("cache-control") == "no-store"
        assert server.reasons() == ["client_metadata"]
        for value in member.values():
            assert (
                type(value) is not str
                or value in AUTH_METHODS
                or value not in response.json()["error_description"]
            )
        assert [each async for each in server.provider.admin.clients()] == []


@pytest.mark.case("Z95")
@pytest.mark.rule("AS-53")
async def test_keys_of_which_none_verifies_cannot_be_registered() -> None:
    """§2: jwks."""
    ec, rsa = (signing_key(each, "bad").public_jwk() for each in ("ES256", "RS256"))
    async with deploy() as server:
        for jwk, why in unusable(ec, rsa):
            response = await register(server, {**MINIMAL, **WITH_KEYS, "jwks": {"keys": [jwk]}})
            assert (response.status, response.json()["error"]) == (
                400,
                "invalid_client_metadata",
            ), why
        for member, value in HARMLESS:
            jwks = {"keys": [{**ec, member: value}]}
            response = await register(server, {**MINIMAL, **WITH_KEYS, "jwks": jwks})
            assert response.status == 201, (member, value)
            server.clock.advance(3600)


@pytest.mark.case("Z95")
@pytest.mark.rule("AS-53")
async def test_what_is_no_json_object_is_invalid_client_metadata() -> None:
    """§3.2.2."""
    async with deploy() as server:
        for body in broken(json.dumps(MINIMAL).encode()):
            response = await register(server, body)
            assert (response.status, response.json()) == (
                400,
                {
                    "error": "invalid_client_metadata",
                    "error_description": "The body must be a JSON object, with each member once",
                },
            ), body


@rows(
    ("headers", "status"),
    [
        ([("Content-Type", "application/json; charset=utf-8")], 201),
        ([("Content-Type", "Application/JSON")], 201),
        ([("Content-Type", "application/x-www-form-urlencoded")], 400),
        ([("Content-Type", "text/plain")], 400),
        ([("Content-Type", "application/json, text/plain")], 400),
        ([], 400),
        ([("Content-Type", "application/json"), ("Content-Type", "application/json")], 400),
        ([("Content-Type", "application/json"), ("Content-Encoding", "identity")], 201),
        ([("Content-Type", "application/json"), ("Content-Encoding", "gzip")], 400),
        ([("Content-Type", "application/json"), ("Content-Length", "8193")], 413),
        ([("Content-Type", "application/json"), ("Content-Length", "9" * 30)], 413),
        ([("Content-Type", "application/json"), ("Content-Length", "-1")], 413),
    ],
    ids=str,
)
async def test_a_registration_is_uncompressed_json(
    headers: list[tuple[str, str]], status: int
) -> None:
    """§3.1."""
    async with deploy() as server:
        body = b'{"redirect_uris": ["https://app.example.com/callback"]}'
        response = await server.call("POST", "/register", headers=headers, body=body)
        assert response.status == status
        if status != 201:
            assert response.json()["error"] == "invalid_request"


@pytest.mark.case("Z95")
@pytest.mark.rule("AS-55")
@rows("size", [8192, 8193, 65_536, 1_048_576])
@rows("chunks", [1, 7])
async def test_a_registration_has_at_most_8_kib(size: int, chunks: int) -> None:
    """More is not read, whatever its length is said to be."""
    start, end = b'{"redirect_uris": ["https://app.example.com/callback"], "x": "', b'"}'
    body = start + b"x" * (size - len(start) - len(end)) + end
    step = size // chunks + 1
    pieces = [body[at : at + step] for at in range(0, size, step)]
    async with deploy() as server:
        headers = [("Content-Type", "application/json")]
        response = await server.call("POST", "/register", headers=headers, body=pieces)  # type: ignore[arg-type]
        assert response.status == (201 if size == 8192 else 413)


URIS: dict[str, tuple[Any, bool]] = {
    # AS-14
    "https": ("https://app.example.com/callback", True),
    "https with a port and a query": ("https://app.example.com:8443/callback?a=b", True),
    "https without a path": ("https://app.example.com", True),
    "https of an address": ("https://192.0.2.1/callback", True),
    "https of loopback": ("https://localhost/callback", True),
    "loopback": ("http://127.0.0.1:8123/callback", True),
    "loopback without a port": ("http://localhost/callback", True),
    "loopback without a path": ("http://localhost:8123", True),
    "loopback of IPv6": ("http://[::1]:8123/callback", True),
    "punycode": ("https://xn--mnchen-3ya.example/callback", True),
    # Z87
    "javascript": ("javascript:alert(1)", False),
    "javascript, mixed case": ("JaVaScRiPt:alert(1)", False),
    "javascript after a space": (" javascript:alert(1)", False),
    "javascript with a tab in it": ("java\tscript:alert(1)", False),
    "javascript with a line break in it": ("java\nscript:alert(1)", False),
    "javascript after a control character": ("\x01javascript:alert(1)", False),
    "data": ("data:text/html,<script>alert(1)</script>", False),
    "vbscript": ("vbscript:msgbox", False),
    "file": ("file:///etc/passwd", False),
    "blob": ("blob:https://app.example.com/1", False),
    "about": ("about:blank", False),
    "filesystem": ("filesystem:https://app.example.com/temporary/x", False),
    "view-source": ("view-source:https://app.example.com", False),
    "intent": ("intent://x#Intent;end", False),
    "ws": ("wss://app.example.com/x", False),
    # Z88
    "a fragment": ("https://app.example.com/callback#x", False),
    "an empty fragment": ("https://app.example.com/callback#", False),
    "a user name": ("https://user@app.example.com/callback", False),
    "an empty user name": ("https://@app.example.com/callback", False),
    "a user name that looks like a host": ("https://app.example.com@evil.example/callback", False),
    "a wildcard host": ("https://*.example.com/callback", False),
    "a wildcard": ("https://*/callback", False),
    "bidi characters": ("https://app.example.com/\u202ecallback", False),
    "unicode": ("https://äpp.example.com/callback", False),
    "a control character": ("https://app.example.com/\x00callback", False),
    "a backslash": ("https://app.example.com\\@evil.example/callback", False),
    "a space": ("https://app.example.com/call back", False),
    "a space behind": ("https://app.example.com/callback ", False),
    "a quote": ('https://app.example.com/"callback', False),
    "relative": ("/callback", False),
    "without a scheme": ("app.example.com/callback", False),
    "protocol-relative": ("//app.example.com/callback", False),
    "no host": ("https:///callback", False),
    "one slash": ("https:/app.example.com/callback", False),
    "no slash": ("https:app.example.com/callback", False),
    "upper-case scheme": ("HTTPS://app.example.com/callback", False),
    "empty": ("", False),
    "port 0": ("https://app.example.com:0/callback", False),
    "a port out of range": ("https://app.example.com:65536/callback", False),
    "a port that is none": ("https://app.example.com:http/callback", False),
    "a broken address": ("https://[::1/callback", False),
    "as long as may be": ("https://app.example.com/" + "x" * (2048 - 24), True),
    "longer than may be": ("https://app.example.com/" + "x" * (2049 - 24), False),
    # Z89
    "http": ("http://app.example.com/callback", False),
    "http of a private address": ("http://192.168.0.1/callback", False),
    "http of all addresses": ("http://0.0.0.0/callback", False),
    "http of another loopback address": ("http://127.0.0.2/callback", False),
    "http of a name that begins like loopback": ("http://localhost.evil.example/callback", False),
    "http of an address that begins like loopback": (
        "http://127.0.0.1.evil.example/callback",
        False,
    ),
    "http of loopback as a number": ("http://2130706433/callback", False),
    "http of loopback in capitals": ("http://LOCALHOST/callback", False),
    # AS-14: private-use schemes are the operator's to allow
    "a private-use scheme": ("cursor://anysphere.cursor-mcp/oauth/other", False),
    "a well-known client's": ("cursor://anysphere.cursor-mcp/oauth/callback", True),
    "a long scheme": ("com.example." + "x" * 64 + ":/callback", False),
    "a reverse domain name": ("com.example.app:/callback", False),
    # Z90
    "null": (None, False),
    "a number": (5, False),
    "a list": (["https://app.example.com"], False),
    "an object": ({}, False),
}


@pytest.mark.case("Z87", "Z88", "Z89")
@pytest.mark.rule("AS-14", "AS-54")
@rows("case", URIS)
async def test_a_redirect_uri_is_https_or_loopback_and_absolute(case: str) -> None:
    """§3.2.2. Every URI that can be registered can be used, to the last character."""
    uri, accepted = URIS[case]
    async with deploy() as server:
        other = f"{WEB_REDIRECT_URI}/other"
        public = {"token_endpoint_auth_method": "none"}
        mixed = await register(server, {"redirect_uris": [other, uri], **public})
        assert mixed.json()["redirect_uris"] == ([other, uri] if accepted else [other])
        response = await register(server, {"redirect_uris": [uri], **public})
        if not accepted:
            assert (response.status, response.json()["error"]) == (400, "invalid_redirect_uri")
            assert server.reasons() == ["redirect_uri"]
            assert not (isinstance(uri, str) and len(uri) > 8 and uri in response.body.decode())
        else:
            assert response.json()["redirect_uris"] == [uri]
        if accepted:
            client = await server.register(redirect_uris=[uri])
            assert (await server.browser().decide(client.authorization_url())).startswith(uri)


@pytest.mark.case("Z90")
@rows("uris", [None, "https://app.example.com/callback", [], "", {}, 5])
async def test_redirect_uris_are_a_list(uris: Any) -> None:
    async with deploy() as server:
        response = await register(server, {"redirect_uris": uris})
        assert (response.status, response.json()["error"]) == (400, "invalid_redirect_uri")


@pytest.mark.rule("AS-80")
async def test_only_the_size_of_a_registration_bounds_how_many_redirect_uris_it_has() -> None:
    """§3.2.1. Those that are acceptable come back, each once."""
    many = [f"https://a.example/{number}" for number in range(200)]
    async with deploy() as server:
        sent = [*many, *many[:9], *["some:/x"] * 33]
        response = await register(server, {"redirect_uris": sent})
        assert response.json()["redirect_uris"] == many


@pytest.mark.rule("AS-80")
async def test_a_registration_without_any_acceptable_redirect_uri_hears_all_reasons() -> None:
    """§3.2.2. Each reason once, and not more than fits."""
    uris = ["editor://x", "http://lan.example/x", "https://a.example/#x", "editor://y", "notes:/x"]
    async with deploy() as server:
        response = await register(server, {"redirect_uris": uris})
        assert response.json() == {
            "error": "invalid_redirect_uri",
            "error_description": (
                "The redirect URI scheme editor is not allowed here; the operator can add it to"
                " allowed_redirect_schemes. A redirect URI must be https; http is for 127.0.0.1,"
                " [::1] and localhost only. A redirect URI has a fragment. The redirect URI scheme"
                " notes is not allowed here; the operator can add it to allowed_redirect_schemes"
            ),
        }
        response = await register(server, {"redirect_uris": [f"a{n}:/x" for n in range(500)]})
        assert 900 < len(response.json()["error_description"]) <= 1000


@pytest.mark.rule("AS-80")
@rows("empty", [[], None, ""])
async def test_a_registration_that_asks_to_sign_in_again_is_told_how(empty: Any) -> None:
    """§2. What Gemini CLI sends in the middle of a session; its user reads the answer."""
    names = ("redirect_uris", "grant_types", "response_types")
    async with deploy() as server:
        response = await register(server, dict.fromkeys(names, empty))
        assert (response.status, response.json()["error"]) == (400, "invalid_redirect_uri")
        assert response.json()["error_description"] == (
            "redirect_uris is missing or empty, so a sign-in with this registration could not be"
            " completed. Please start the sign-in again in the application"
        )


@pytest.mark.rule("AS-80")
@rows("uri", KNOWN_REDIRECT_URIS)
async def test_a_well_known_client_may_have_its_redirect_uri_and_no_other_one(uri: str) -> None:
    """RFC 8252 §7.1. One setting switches all of them off."""
    assert check_redirect_uri(uri, {uri.partition(":")[0]}) == uri
    async with deploy() as server:
        for other in (f"{uri}x", uri[:-1], f"{uri}/", uri.upper(), f"{uri}?x", f"{uri}#"):
            assert (await register(server, {"redirect_uris": [other]})).status == 400, other
        client = await server.register(redirect_uris=[uri])
        assert (await server.browser().decide(client.authorization_url())).startswith(uri)
    async with deploy(registration=Registration(known_redirect_uris=False)) as server:
        assert (await register(server, {"redirect_uris": [uri]})).status == 400


@pytest.mark.rule("AS-14")
@rows(
    ("schemes", "uri", "accepted"),
    [
        (["cursor"], "cursor://anysphere.cursor-mcp/oauth/callback", True),
        (["com.example.app"], "com.example.app:/callback", True),
        (["com.example.app"], "com.example.app://callback?x=y", True),
        (["cursor"], "cursor-insiders://callback", False),
        (["cursor"], "CURSOR://callback", False),
        (["x" * 200], "x" * 200 + ":/callback", True),
        (["x"], "x:/callback", True),
        (["cursor"], "cursor:", False),
        (["cursor"], "cursor://", False),
        (["cursor"], "cursor:///", False),
        (["cursor"], "cursor://callback#x", False),
        (["cursor"], "cursor://call back", False),
        (["cursor"], "javascript:alert(1)", False),
    ],
    ids=str,
)
async def test_a_private_use_scheme_has_to_be_allowed(
    schemes: list[str], uri: str, accepted: bool
) -> None:
    """RFC 8252 §7.1."""
    async with deploy(allowed_redirect_schemes=schemes) as server:
        response = await register(server, {"redirect_uris": [uri]})
        assert (response.status == 201) == accepted


async def test_the_refusal_of_a_private_use_scheme_names_it_and_the_setting() -> None:
    async with deploy() as server:
        response = await register(
            server, {"redirect_uris": ["cursor://anysphere.cursor-retrieval/oauth/callback"]}
        )
        assert response.json() == {
            "error": "invalid_redirect_uri",
            "error_description": (
                "The redirect URI scheme cursor is not allowed here; the operator can add it to "
                "allowed_redirect_schemes"
            ),
        }


@pytest.mark.rule("AS-56")
@rows("application_type", ["web", "native", None, "browser"])
@rows(
    ("uri", "accepted"),
    [
        (WEB_REDIRECT_URI, True),
        (REDIRECT_URI, True),
        ("http://localhost/callback", True),
        ("http://app.example.com/callback", False),
    ],
)
async def test_what_an_application_calls_itself_decides_nothing(
    application_type: str | None, uri: str, accepted: bool
) -> None:
    """OpenID Connect Registration §2 keeps websites from loopback for the implicit flow only. The
    redirect URI decides who gets a code, and anyone may leave the type out.
    """
    async with deploy() as server:
        response = await register(
            server, {"redirect_uris": [uri], "application_type": application_type}
        )
        assert (response.status == 201) == accepted
        assert accepted or response.json()["error"] == "invalid_redirect_uri"


TOKEN = "the-initial-access-token-that-the-operator-hands-out"


@pytest.mark.case("Z97")
@pytest.mark.rule("AS-57")
@rows(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 201),
        (f"bearer {TOKEN}", 201),
        (None, 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN} {TOKEN}", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer \xe4", 401),
        ("Bearer " + "a" * (64 * 1024 + 1), 401),
    ],
    ids=repr,
)
async def test_an_initial_access_token_opens_the_registration(
    authorization: str | None, status: int
) -> None:
    """§3."""
    async with deploy(
        registration=Registration(initial_access_token=TOKEN, metadata_documents=False)
    ) as server:
        headers = {} if authorization is None else {"Authorization": authorization}
        response = await register(server, MINIMAL, **headers)
        assert response.status == status
        if status == 401:
            assert response.json()["error"] == "invalid_token"
            assert response.header("www-authenticate") == 'Bearer realm="register"'
            assert server.reasons() == ["registration_token"]
            # A caller who may not register does not make us read anything.
            many = [(b"x" * 1000) for _ in range(1000)]
            assert (
                await server.call("POST", "/register", headers=headers, body=many)
            ).status == 401


async def test_two_authorization_headers_are_refused() -> None:
    async with deploy(
        registration=Registration(initial_access_token=TOKEN, metadata_documents=False)
    ) as server:
        headers = [("Authorization", f"Bearer {TOKEN}")] * 2
        response = await server.call("POST", "/register", headers=headers, document=MINIMAL)
        assert (response.status, response.json()["error"]) == (400, "invalid_request")


@pytest.mark.case("Z99")
async def test_a_scope_in_a_registration_gives_nothing() -> None:
    """A person decides; what a client has registered for is neither granted nor a limit to what it
    may ask for.
    """
    async with deploy() as server:
        client = await server.register(scope="mcp:write admin")
        assert client.information["scope"] == "mcp:write"
        assert (await client.sign_in())["scope"] == "mcp:read"
        assert (await client.sign_in(scope="mcp:read mcp:write"))["scope"] == "mcp:read mcp:write"
        page = await server.browser().open(client.authorization_url(scope="admin"))
        assert answer_of(page.url)["error"] == "invalid_scope"


@pytest.mark.rule("AS-45")
async def test_a_client_that_did_not_register_for_refreshing_cannot() -> None:
    """§2: grant types are enforced."""
    async with deploy() as server:
        client = await server.register(grant_types=["authorization_code"])
        tokens = await client.sign_in()
        assert "refresh_token" not in tokens
        response = await client.refresh("rt_x.0.x")
        assert (response.status, response.json()["error"]) == (400, "unauthorized_client")


@pytest.mark.rule("RS-08")
async def test_registration_can_be_called_by_pages_of_any_origin() -> None:
    """Inspector and other browser clients register themselves, without cookies."""
    async with deploy() as server:
        preflight = {"Origin": "https://inspector.example", "Access-Control-Request-Method": "POST"}
        response = await server.call("OPTIONS", "/register", headers=preflight)
        assert (response.status, response.header("access-control-allow-origin")) == (204, "*")
        for document in (MINIMAL, {}):
            response = await register(server, document, Origin="https://inspector.example")
            assert response.header("access-control-allow-origin") == "*"
            assert response.header("access-control-allow-credentials") is None
