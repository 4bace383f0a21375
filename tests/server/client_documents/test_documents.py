"""Client ID metadata documents, on a real TLS host."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from asgi_mcp_auth import PasswordLogin
from asgi_mcp_auth.errors import InvalidClient
from asgi_mcp_auth.server import RateLimits, Registration
from asgi_mcp_auth.testing import sign_jwt
from tests.support.authorization_server import (
    CONFIDENTIAL,
    WEB_REDIRECT_URI,
    Server,
    answer_of,
    deploy,
)
from tests.support.client_documents import (
    REDIRECT_URI,
    ask,
    ask_token,
    client_of,
    developing,
)
from tests.support.gate import signing_key
from tests.support.rows import rows
from tests.support.tls import Authority, DocumentHost, hang
from tests.tables.cache_control import LIFETIMES, within
from tests.tables.json_texts import broken

pytestmark = pytest.mark.asyncio

UNUSABLE = "The client metadata document cannot be used"
NO_DOCUMENT = "The client id cannot be the URL of a metadata document"


async def assert_refused(server: Server, url: str, message: str) -> None:
    """Check that there is no redirect, and the error that each side gets (AS-62)."""
    response = await ask(server, url)
    assert (response.status, response.header("location")) == (400, None)
    assert message in response.body.decode()
    response = await ask_token(server, url)
    assert (response.status, response.json()["error"]) == (401, "invalid_client")
    assert server.reasons() == ["document", "document"]


# ---------------------------------------------------------------------------------------- good ones


@pytest.mark.rule("AS-59", "AS-65")
async def test_a_client_with_a_document_signs_its_user_in(
    authority: Authority, host: DocumentHost
) -> None:
    """Nothing is registered; the person sees where the document lies and where they are sent."""
    url = host.serve_client(
        "/app/client.json", client_name="Notes on the go", redirect_uris=[WEB_REDIRECT_URI]
    )
    async with developing(authority) as server:
        client, browser = client_of(server, url, WEB_REDIRECT_URI), server.browser()
        page = await browser.sign_in(
            await browser.open(client.authorization_url()), username="alice"
        )
        for text in (
            "Notes on the go",
            f"localhost:{host.port}",
            "app.example.com",
            "has not been verified",
        ):
            assert text in page.text
        code = answer_of((await browser.submit(page, action="approve")).url)["code"]
        tokens = (await client.redeem(code)).json()
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
        assert server.spy.scope["access_token"].client_id == url
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        form = {"token": tokens["refresh_token"], "client_id": url}
        assert (await server.call("POST", "/revoke", form=form)).status == 200
        assert [each async for each in server.provider.admin.clients()] == []
        assert host.requests == ["/app/client.json"]


async def test_a_client_with_a_document_and_a_key_proves_who_it_is(
    authority: Authority, host: DocumentHost
) -> None:
    key = signing_key("ES256")
    document = {
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": {"keys": [key.public_jwk()]},
    }
    url = host.serve_client(**document)
    async with developing(authority) as server:
        client, now = client_of(server, url), int(server.clock.time())
        code = await client.code()
        assert (await client.redeem(code)).json()["error"] == "invalid_client"
        claims = {
            "iss": url,
            "sub": url,
            "aud": server.provider.base_url,
            "exp": now + 60,
            "iat": now,
            "jti": "1",
        }
        assertion = sign_jwt(key, {"alg": "ES256", "kid": key.key_id}, claims)
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        response = await client.redeem(code, client_assertion=assertion, client_assertion_type=kind)
        assert response.status == 200


METHODS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["none"]),
    ({"token_endpoint_auth_method": "none"}, ["none"]),
    ({"token_endpoint_auth_method": "private_key_jwt"}, ["private_key_jwt"]),
    (  # what ChatGPT says
        {
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
        },
        ["private_key_jwt", "none"],
    ),
    ({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}, ["private_key_jwt"]),
    (
        {"token_endpoint_auth_methods_supported": ["private_key_jwt", "none"]},
        ["none", "private_key_jwt"],
    ),
    ({"token_endpoint_auth_methods_supported": ["client_secret_basic"]}, ["none"]),
    ({"token_endpoint_auth_methods_supported": "none"}, ["none"]),
    ({"token_endpoint_auth_method": "none", "token_endpoint_auth_methods_supported": []}, ["none"]),
]


@pytest.mark.rule("AS-61")
@pytest.mark.parametrize(("members", "methods"), METHODS, ids=str)
async def test_a_client_may_leave_it_to_us_how_it_authenticates(
    members: dict[str, Any], methods: list[str], authority: Authority, host: DocumentHost
) -> None:
    """The choices count, beside the one that the client prefers."""
    url = host.serve_client(**members, jwks={"keys": [signing_key().public_jwk()]})
    async with developing(authority) as server:
        client = await server.provider.admin.get_client(url)
        assert client.auth_methods == methods
        assert (client.is_public, client.origin) == ("none" in methods, "document")


async def test_without_a_key_there_is_no_choice(authority: Authority, host: DocumentHost) -> None:
    url = host.serve_client(token_endpoint_auth_methods_supported=["none", "private_key_jwt"])
    async with developing(authority) as server:
        assert (await server.provider.admin.get_client(url)).auth_methods == ["none"]


@pytest.mark.case("Z107")
@pytest.mark.parametrize(
    ("headers", "fine"),
    [
        ({"content_type": "application/json"}, True),
        ({"content_type": "application/json; charset=utf-8"}, True),
        ({"content_type": "Application/JSON"}, True),
        ({"content_type": "application/oauth-client+json"}, True),
        ({"content_type": "text/html"}, False),
        ({"content_type": "text/plain"}, False),
        ({"content_type": "image/png"}, False),
        ({"content_type": "application/jsonp"}, False),
        ({"content_type": ""}, False),
        ({"content_encoding": "gzip"}, False),
    ],
    ids=str,
)
async def test_a_document_is_uncompressed_json_and_says_so(
    headers: dict[str, str], fine: bool, authority: Authority, host: DocumentHost
) -> None:
    url = host.serve_client(headers=headers)
    async with developing(authority) as server:
        if fine:
            assert (await ask(server, url)).status == 303
        else:
            await assert_refused(server, url, UNUSABLE)


@pytest.mark.case("Z107")
async def test_what_is_no_json_object_is_no_document(
    authority: Authority, host: DocumentHost
) -> None:
    async with developing(authority) as server:
        for number in range(len(broken(b"{}"))):
            url = host.url(f"/{number}.json")
            members = {"client_id": url, "client_name": "x", "redirect_uris": [REDIRECT_URI]}
            body = broken(json.dumps(members).encode())[number]
            host.serve(f"/{number}.json", body)
            await assert_refused(server, url, UNUSABLE)
        assert (await ask(server, host.serve_client())).status == 303


DOCUMENTS: dict[str, dict[str, Any]] = {
    # Z108: simple string comparison
    "another client_id": {"client_id": "https://other.example/client.json"},
    "no client_id": {"client_id": None},
    "a client_id with a slash more": {"client_id": "{url}/"},
    "a client_id without the port": {"client_id": "https://localhost/client.json"},
    "a client_id in capitals": {"client_id": "https://LOCALHOST:{port}/client.json"},
    "a client_id that is a list": {"client_id": ["{url}"]},
    # AS-61
    "no client_name": {"client_name": None},
    "an empty client_name": {"client_name": ""},
    "a client_name that is none": {"client_name": ["x"]},
    "no redirect_uris": {"redirect_uris": None},
    "empty redirect_uris": {"redirect_uris": []},
    "a redirect URI without TLS": {"redirect_uris": ["http://app.example.com/callback"]},
    "a redirect URI that is a script": {"redirect_uris": ["javascript:alert(1)"]},
    "no way to begin": {"grant_types": ["urn:ietf:params:oauth:grant-type:device_code"]},
    "the implicit grant alone": {"grant_types": ["implicit"]},
    "a client that acts for itself": {"grant_types": ["client_credentials"]},
    # Z109
    "a secret": {"client_secret": "x"},
    "a secret that expires": {"client_secret_expires_at": 0},
    "a registration access token": {"registration_access_token": "x"},
    "client_secret_basic": {"token_endpoint_auth_method": "client_secret_basic"},
    "client_secret_post": {"token_endpoint_auth_method": "client_secret_post"},
    "client_secret_jwt": {"token_endpoint_auth_method": "client_secret_jwt"},
    "a symmetric key": {"jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}},
    "a private key": {"jwks": {"keys": [{**signing_key().public_jwk(), "d": "AQAB"}]}},
    "keys twice": {
        "jwks": {"keys": [signing_key().public_jwk()]},
        "jwks_uri": "https://app.example.com/jwks",
    },
    "keys that lie inside": {"jwks_uri": "https://169.254.169.254/jwks"},
    "private_key_jwt without a key": {"token_endpoint_auth_method": "private_key_jwt"},
}


@pytest.mark.case("Z108", "Z109")
@pytest.mark.rule("AS-61")
@pytest.mark.parametrize("case", DOCUMENTS)
async def test_a_document_that_says_what_it_must_not_is_refused(
    case: str, authority: Authority, host: DocumentHost
) -> None:
    members = {
        name: value.format(url=host.url(), port=host.port) if isinstance(value, str) else value
        for name, value in DOCUMENTS[case].items()
    }
    url = host.serve_client(**members)
    async with developing(authority) as server:
        await assert_refused(server, url, UNUSABLE)


@pytest.mark.rule("AS-81")
async def test_what_only_informs_and_is_unusable_is_left_out(
    authority: Authority, host: DocumentHost
) -> None:
    url = host.serve_client(
        client_name="An \u202eapp\n",
        client_uri="http://localhost:5173",
        logo_uri="data:image/png;base64,iVBORw0KGgo=",
        contacts="ops@client.example",
        software_version=2,
        grant_types=["authorization_code", "implicit"],
        response_types=["code", "id_token"],
        redirect_uris=["editor://callback", "https://app.example.com/callback"],
    )
    async with developing(authority) as server:
        client = await server.provider.admin.get_client(url)
        assert client.metadata == {
            "client_name": "An app",
            "grant_types": ["authorization_code"],
            "response_types": ["code"],
            "redirect_uris": ["https://app.example.com/callback"],
            "token_endpoint_auth_method": "none",
        }


async def test_grants_and_scopes_that_do_not_exist_here_are_left_out(
    authority: Authority, host: DocumentHost
) -> None:
    grants = [
        "authorization_code",
        "urn:ietf:params:oauth:grant-type:device_code",
        "client_credentials",
    ]
    url = host.serve_client(
        grant_types=grants, scope="mcp:read admin", logo_uri="https://app.example.com/logo.png"
    )
    async with developing(authority) as server:
        client = await server.provider.admin.get_client(url)
        assert (client.grant_types, client.metadata["scope"]) == (
            ["authorization_code"],
            "mcp:read",
        )
        response = await client_of(server, url).token(grant_type="client_credentials")
        assert response.json()["error"] == "unauthorized_client"


@pytest.mark.case("Z104")
@pytest.mark.rule("AS-62")
@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 400, 401, 403, 404, 410])
async def test_what_is_not_200_is_no_document(
    status: int, authority: Authority, host: DocumentHost
) -> None:
    """Redirects are not followed, not even to the same host."""
    elsewhere = host.serve_client("/other.json")
    host.serve("/client.json", b"{}", status=status, location=elsewhere)
    async with developing(authority) as server:
        await assert_refused(server, host.url(), UNUSABLE)
        assert host.requests == ["/client.json"]


async def assert_unreachable(server: Server, url: str) -> None:
    """Check that the client is asked to come back, and does not throw away what it has."""
    for response in (await ask(server, url), await ask_token(server, url)):
        assert (response.status, response.header("retry-after"), response.header("location")) == (
            503,
            "1",
            None,
        )
    assert server.reasons() == ["document_unreachable"] * 2


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
async def test_a_document_that_cannot_be_had_now_is_503(
    status: int, authority: Authority, host: DocumentHost
) -> None:
    """Not invalid_client: an outage does not say that the client does not exist (ADR 0002)."""
    host.serve("/client.json", b"{}", status=status)
    async with developing(authority) as server:
        await assert_unreachable(server, host.url())


async def test_a_host_that_is_missing_or_has_another_certificate_is_503(
    authority: Authority,
) -> None:
    with DocumentHost(authority, context=authority.context(self_signed=True)) as impostor:
        url = impostor.serve_client()
        async with developing(authority) as server:
            await assert_unreachable(server, url)
        assert impostor.requests == []
    async with developing(authority) as server:
        await assert_unreachable(server, url)


# --------------------------------------------------------------------------------------------- URLs

URLS: dict[str, str] = {
    # Z100
    "no path": "https://app.example.com",
    "no path but a slash": "https://app.example.com/",
    "a fragment": "https://app.example.com/client.json#x",
    "an empty fragment": "https://app.example.com/client.json#",
    "a query": "https://app.example.com/client.json?x=y",
    "an empty query": "https://app.example.com/client.json?",
    "a user name": "https://user@app.example.com/client.json",
    "a user name and a password": "https://user:password@app.example.com/client.json",
    "a dot segment": "https://app.example.com/a/../client.json",
    "a single dot": "https://app.example.com/./client.json",
    "an encoded dot segment": "https://app.example.com/a/%2e%2e/client.json",
    "a half encoded dot segment": "https://app.example.com/a/.%2E/client.json",
    "dots behind an encoded slash": "https://app.example.com/a%2f..%2fclient.json",
    "port 0": "https://app.example.com:0/client.json",
    "a port out of range": "https://app.example.com:65536/client.json",
    "a port that is none": "https://app.example.com:x/client.json",
    "a space": "https://app.example.com/client .json",
    "a backslash": "https://app.example.com\\@evil.example/client.json",
    "a quote": 'https://app.example.com/"client.json',
    "unicode": "https://app.example.com/clïent.json",
    "an encoded host": "https://app%2eexample.com/client.json",
    "a host with a dot at its end": "https://app.example.com./client.json",
    "too long": "https://app.example.com/" + "x" * 2025,
    # Z101
    "loopback": "https://127.0.0.1:{port}/client.json",
    "loopback by name": "https://localhost:{port}/client.json",
    "loopback by any name": "https://app.localhost:{port}/client.json",
    "loopback of IPv6": "https://[::1]:{port}/client.json",
    "loopback, mapped": "https://[::ffff:127.0.0.1]:{port}/client.json",
    "loopback as a number": "https://2130706433:{port}/client.json",
    "loopback in hexadecimal": "https://0x7f000001:{port}/client.json",
    "loopback, short": "https://127.1:{port}/client.json",
    "all addresses": "https://0.0.0.0:{port}/client.json",
    "the metadata of a cloud": "https://169.254.169.254/latest/client.json",
    "a private network": "https://10.0.0.1/client.json",
    # Z113: our own documents
    "our metadata": "https://mcp.example.com/.well-known/oauth-authorization-server",
    "our metadata, with the port": (
        "https://mcp.example.com:443/.well-known/oauth-authorization-server"
    ),
    "our metadata, in capitals": "https://MCP.example.com/.well-known/oauth-authorization-server",
    "the metadata of our resource": (
        "https://api.example.com/.well-known/oauth-protected-resource/mcp"
    ),
    "our own endpoint": "https://mcp.example.com/authorize",
}


@pytest.mark.case("Z100", "Z101", "Z113")
@pytest.mark.rule("AS-60")
@pytest.mark.parametrize("case", URLS)
async def test_a_url_that_cannot_be_a_client_is_not_fetched(case: str, host: DocumentHost) -> None:
    """No packet."""
    asked: list[str] = []
    settings: dict[str, Any] = {
        "base_url": "https://mcp.example.com",
        "registration": Registration(trust_document=lambda url: bool(asked.append(url))),
        "options": {"resource_base_url": "https://api.example.com"},
    }
    async with public_server(**settings) as server:
        url = URLS[case].format(port=host.port)
        response = await ask(server, url)
        assert response.status == 400
        assert "is not known" in response.body.decode() or NO_DOCUMENT in response.body.decode()
        response = await ask_token(server, url)
        assert (response.status, response.json()["error"]) == (401, "invalid_client")
        assert (asked, host.connections) == ([], 0)


@asynccontextmanager
async def public_server(**settings: Any) -> AsyncIterator[Server]:
    """Run a server that is not on loopback."""
    async with deploy(login=PasswordLogin(lambda name: None), **settings) as server:
        yield server


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost",
        "https://localhost/",
        "https://localhost:99999/client.json",
        "https://localhost:0/client.json",
        "https://[::1/client.json",
        "https:///client.json",
        "https://./client.json",
        "https://localhost/a/../client.json",
        "https://localhost/client.json?",
        "https://user@localhost/client.json",
        "https://localhost:8000/client.json",
    ],
)
async def test_in_development_a_url_of_this_machine_has_to_be_plain_too(
    url: str, authority: Authority
) -> None:
    async with developing(authority, base_url="https://localhost:8000") as server:
        await assert_refused(server, url, NO_DOCUMENT)


@rows(
    "client_id",
    [
        "http://app.example.com/client.json",
        "HTTPS://app.example.com/client.json",
        "ftp://x/y",
        "urn:x",
        "//x/y",
        "x\ny",
    ],
)
async def test_a_client_id_that_is_no_https_url_is_looked_up_like_any_other(client_id: str) -> None:
    asked: list[str] = []
    async with deploy(
        registration=Registration(trust_document=lambda url: bool(asked.append(url)))
    ) as server:
        assert (await ask(server, client_id)).status == 400
        assert (server.reasons(), asked) == (["unknown_client"], [])


@pytest.mark.rule("AS-60")
async def test_a_url_is_compared_as_a_string(authority: Authority, host: DocumentHost) -> None:
    """Two spellings are two clients, and only one of them is what the document says."""
    url = host.serve_client()
    host.serve_client("/%63lient.json", client_id=url)
    async with developing(authority) as server:
        assert (await ask(server, url)).status == 303
        await assert_refused(server, url.replace("/client", "/%63lient"), UNUSABLE)
        await assert_refused(server, url.replace("localhost", "LOCALHOST"), UNUSABLE)


# -------------------------------------------------------------------------------------- who decides


@pytest.mark.rule("AS-65")
async def test_the_operator_decides_which_documents_are_fetched(
    authority: Authority, host: DocumentHost
) -> None:
    asked: list[str] = []

    async def trust(url: str) -> bool:
        asked.append(url)
        return url.endswith("/trusted.json")

    trusted, other = host.serve_client("/trusted.json"), host.serve_client("/other.json")
    async with developing(authority, registration={"trust_document": trust}) as server:
        assert (await ask(server, trusted)).status == 303
        await assert_refused(server, other, UNUSABLE)
    assert asked == [trusted, other]
    assert host.requests == ["/trusted.json"]


@pytest.mark.rule("AS-65")
async def test_a_client_that_the_operator_wrote_down_is_not_fetched(
    authority: Authority, host: DocumentHost
) -> None:
    """Static registrations win."""
    url = host.serve_client(client_name="From the document")
    known = {**CONFIDENTIAL, "client_id": url, "client_name": "From the operator"}
    async with developing(authority, registration={"clients": [known]}) as server:
        browser = server.browser()
        page = await browser.sign_in(await browser.open(server.known(known).authorization_url()))
        assert "From the operator" in page.text
        assert (await server.provider.admin.get_client(url)).origin == "configured"
        assert host.connections == 0


@pytest.mark.case("Z115")
@pytest.mark.parametrize("allowed", [True, False])
async def test_what_is_advertised_is_what_is_done(
    allowed: bool, authority: Authority, host: DocumentHost
) -> None:
    url = host.serve_client()
    async with developing(authority, registration={"metadata_documents": allowed}) as server:
        metadata = (await server.call("GET", "/.well-known/oauth-authorization-server")).json()
        assert metadata.get("client_id_metadata_document_supported") is (True if allowed else None)
        assert (await ask(server, url)).status == (303 if allowed else 400)
        assert server.reasons() == ([] if allowed else ["documents_off"])
        assert len(host.requests) == allowed


DEFAULTS: list[tuple[str, dict[str, Any], bool]] = [
    ("https://mcp.example.com", {}, True),
    ("https://mcp.example.com", {"metadata_documents": False}, False),
    ("https://mcp.example.com/t1", {"metadata_documents": True}, True),
    ("https://10.0.0.1", {}, True),
    ("http://localhost:8000", {}, False),
    ("http://127.0.0.1:8000", {}, False),
    ("http://[::1]:8000/t1", {}, False),
    ("http://localhost:8000", {"metadata_documents": True}, True),
    ("http://localhost:8000", {"trust_document": lambda url: True}, True),
    ("http://localhost:8000", {"development_documents": True}, True),
    ("http://localhost:8000", {"document_proxy": "http://127.0.0.1:9"}, True),
    (
        "http://localhost:8000",
        {"development_documents": True, "metadata_documents": False},
        False,
    ),
]


@pytest.mark.rule("AS-99")
@pytest.mark.case("Z115")
@rows(("base_url", "settings", "offered"), DEFAULTS, ids=str)
async def test_on_loopback_documents_are_off_unless_a_setting_is_about_them(
    base_url: str, settings: dict[str, Any], offered: bool
) -> None:
    """Clients register there, and the machine may be offline."""
    login = PasswordLogin(lambda name: None)
    registration = Registration(**settings)
    async with deploy(base_url=base_url, login=login, registration=registration) as server:
        path = f"/.well-known/oauth-authorization-server{urlsplit(base_url).path}"
        metadata = (await server.call("GET", path)).json()
        assert metadata.get("client_id_metadata_document_supported", False) is offered
        assert "registration_endpoint" in metadata
        await ask_token(server, "https://10.0.0.1/client.json")
        assert server.reasons() == ["document" if offered else "documents_off"]


@pytest.mark.case("Z110")
async def test_a_redirect_elsewhere_is_shown_and_so_is_loopback(
    authority: Authority, host: DocumentHost
) -> None:
    """The document's host says nothing about who listens on the person's machine."""
    url = host.serve_client(redirect_uris=["https://evil.example/callback", REDIRECT_URI])
    async with developing(authority) as server:
        browser = server.browser()
        for uri, shown in (
            ("https://evil.example/callback", "evil.example"),
            (REDIRECT_URI, "127.0.0.1"),
        ):
            page = await browser.open(client_of(server, url, uri).authorization_url())
            page = await browser.sign_in(page, username="alice")
            assert f"localhost:{host.port}" in page.text
            assert shown in page.text
            assert ("a program on this device" in page.text) == (uri == REDIRECT_URI)


# ------------------------------------------------------------------------------------------ caching


@pytest.mark.case("Z111")
@pytest.mark.rule("AS-64")
async def test_a_document_is_kept_as_its_host_says_within_bounds(
    authority: Authority, host: DocumentHost
) -> None:
    """Five minutes to a day."""
    async with developing(authority) as server:
        for number, (asked_for, asked) in enumerate(LIFETIMES):
            seconds = within(asked, minimum=300, maximum=86_400, usual=3600)
            headers = {} if asked_for is None else {"cache_control": asked_for}
            url = host.serve_client(f"/{number}.json", headers=headers)
            before = len(host.requests)
            for passed, requests in ((0, 1), (0, 1), (seconds - 1, 1), (1, 2)):
                server.clock.advance(passed)
                assert (await ask(server, url)).status == 303
                assert len(host.requests) - before == requests, asked_for


@pytest.mark.case("Z111")
@pytest.mark.parametrize("failure", ["unusable", "unreachable"])
async def test_a_failure_is_remembered_for_half_a_minute(
    failure: str, authority: Authority, host: DocumentHost
) -> None:
    host.serve(
        "/client.json",
        b"{}",
        status=404 if failure == "unusable" else 503,
        cache_control="max-age=86400",
    )
    url, status = host.url(), 400 if failure == "unusable" else 503
    async with developing(authority) as server:
        for passed, requests in ((0, 1), (29, 1), (1, 2)):
            server.clock.advance(passed)
            assert (await ask(server, url)).status == status
            assert len(host.requests) == requests
        host.serve_client()
        server.clock.advance(30)
        assert (await ask(server, url)).status == 303


@pytest.mark.case("Z111")
async def test_what_a_document_does_not_say_any_more_ends_with_its_time(
    authority: Authority, host: DocumentHost
) -> None:
    """A redirect URI that was taken out is not used beyond that, nor does it come back while the
    host is down.
    """
    url = host.serve_client(redirect_uris=[REDIRECT_URI, WEB_REDIRECT_URI])
    async with developing(authority) as server:
        tokens = await client_of(server, url).sign_in()
        host.serve_client(redirect_uris=[WEB_REDIRECT_URI])
        server.clock.advance(3599)
        assert (await ask(server, url)).status == 303
        server.clock.advance(1)
        assert (await ask(server, url)).status == 400
        assert server.reasons() == ["redirect_uri"]
        host.serve("/client.json", b"", status=503)
        server.clock.advance(3600)
        assert (await ask(server, url)).status == 400
        client = client_of(server, url)
        assert (await client.refresh(tokens["refresh_token"])).status == 200


async def test_a_document_that_changes_between_the_pages_counts_as_it_is_then(
    authority: Authority, host: DocumentHost
) -> None:
    url = host.serve_client(headers={"cache_control": "max-age=300"})
    async with developing(authority) as server:
        client, browser = client_of(server, url), server.browser()
        page = await browser.sign_in(await browser.open(client.authorization_url()))
        host.serve_client(redirect_uris=[WEB_REDIRECT_URI])
        server.clock.advance(300)
        page = await browser.submit(page, action="approve")
        assert (page.response.status, server.reasons()) == (400, ["redirect_uri"])


@pytest.mark.case("Z112")
async def test_many_who_ask_at_once_cause_one_fetch(
    authority: Authority, host: DocumentHost
) -> None:
    url = host.serve_client()
    async with developing(authority) as server:
        answers = await asyncio.gather(*(ask(server, url) for _ in range(50)))
        assert {each.status for each in answers} == {303}
        assert host.requests == ["/client.json"]


@pytest.mark.case("Z112")
async def test_a_request_that_leaves_cancels_no_other(
    authority: Authority, host: DocumentHost
) -> None:
    url = host.serve_client()
    async with developing(authority) as server:
        first, second = (asyncio.create_task(ask(server, url)) for _ in range(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).status == 303
        assert len(host.requests) == 1


@pytest.mark.case("Z112")
async def test_an_address_makes_us_fetch_as_many_documents_as_it_may_register(
    authority: Authority, host: DocumentHost
) -> None:
    urls = [host.serve_client(f"/{number}.json") for number in range(4)]
    async with developing(authority, rate_limits=RateLimits(register=3)) as server:

        async def visit(url: str, address: str) -> int:
            query = urlencode({"client_id": url, "redirect_uri": REDIRECT_URI})
            response = await server.call("GET", f"/authorize?{query}", client=(address, 1))
            return response.status

        assert [await visit(url, "192.0.2.1") for url in urls] == [303, 303, 303, 429]
        assert server.reasons()[-1] == "rate_limit"
        # what is known costs nothing
        assert [await visit(url, "192.0.2.1") for url in urls] == [303, 303, 303, 429]
        assert await visit(urls[3], "192.0.2.2") == 303
        response = await server.call("POST", "/register", document={}, client=("192.0.2.1", 1))
        assert response.status == 429
        headers = {"client_id": host.url("/5.json"), "grant_type": "authorization_code"}
        response = await server.call("POST", "/token", form=headers, client=("192.0.2.1", 1))
        assert response.status == 429
        assert len(host.requests) == 4


@pytest.mark.slow
@pytest.mark.case("Z112")
async def test_so_many_fetches_are_under_way_at_most(
    authority: Authority, host: DocumentHost
) -> None:
    """Slow hosts delay requests of their network for new documents, and no known client."""
    known, new = host.serve_client("/known.json"), host.serve_client("/new.json")
    slow = [host.url(f"/slow/{number}.json") for number in range(4)]
    for number in range(4):
        host.behave(f"/slow/{number}.json", hang())
    async with developing(authority) as server:
        assert (await ask(server, known)).status == 303
        waiting = [asyncio.create_task(ask(server, url)) for url in slow]
        await asyncio.sleep(0.1)
        assert (await ask(server, new)).status == 429
        assert (await ask(server, known)).status == 303
        assert {(await each).status for each in waiting} == {503}
        assert (await ask(server, new)).status == 303  # it was never found wanting


@pytest.mark.case("Z112")
async def test_no_more_than_a_thousand_documents_are_remembered(authority: Authority) -> None:
    """What is refused counts too; nothing goes into the store."""
    refused = Registration(trust_document=lambda url: False)
    async with deploy(registration=refused) as server:
        documents = server.provider._server.clients._documents
        began = time.monotonic()
        for number in range(1100):
            with pytest.raises(InvalidClient):
                await documents.client_for(f"https://{number}.example/x", "192.0.2.1")
        assert len(documents._decisions) == 1000
        assert time.monotonic() - began < 20
        assert [each async for each in server.provider.admin.clients()] == []


async def test_the_log_says_at_most_info_and_quotes_what_strangers_wrote(
    authority: Authority, host: DocumentHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    host.serve("/client.json", b"{}", status=200, content_type="text/html\tx")
    async with developing(authority) as server:
        await ask(server, host.url())
    records = [each for each in caplog.records if each.name.startswith("asgi_mcp_auth")]
    assert max(each.levelno for each in records) == logging.INFO
    (line,) = [each.getMessage() for each in records if each.name.endswith("fetched")]
    assert line.startswith(f"Client metadata document '{host.url()}' cannot be used: ")
