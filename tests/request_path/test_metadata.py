"""The protected resource metadata document and its URLs."""

from __future__ import annotations

import json

import pytest

from asgi_mcp_auth import RemoteAuthProvider, StaticTokenVerifier
from tests.support.asgi import call, handshake, serve
from tests.support.protection import (
    ALICE,
    BASE_URL,
    ISSUER,
    METADATA_PATH,
    METADATA_URL,
    RESOURCE,
    TOKENS,
    challenge_of,
    make_provider,
    protect,
)
from tests.support.rows import rows
from tests.support.sockets import request

pytestmark = pytest.mark.asyncio

ROOT = "/.well-known/oauth-protected-resource"


@pytest.mark.rule("RS-01")
@pytest.mark.parametrize("mcp_path", ["/mcp", "/mcp/"])
async def test_each_spelling_of_a_trailing_slash_has_a_document_that_names_it(
    mcp_path: str,
) -> None:
    """RFC 9728 §3.3: clients compare it with the URL that a person has typed."""
    guard = protect(mcp_path=mcp_path)
    for path in ("/mcp", "/mcp/"):
        challenge = challenge_of(await call(guard.app, "POST", path))
        assert challenge["resource_metadata"] == f"{BASE_URL}{ROOT}{path}"
        document = await call(guard.app, "GET", f"{ROOT}{path}")
        assert document.json()["resource"] == BASE_URL + path
    for path in ("/mcp//", "/MCP", "/mcp/x", "/"):
        challenge = challenge_of(await call(guard.app, "POST", path))
        assert challenge["resource_metadata"] == f"{BASE_URL}{ROOT}{mcp_path}"
    assert (await call(guard.app, "GET", ROOT)).json()["resource"] == BASE_URL + mcp_path


@pytest.mark.rule("RS-02")
async def test_with_one_resource_the_root_document_is_the_same() -> None:
    guard = protect()
    assert (await call(guard.app, "GET", ROOT)).body == (
        await call(guard.app, "GET", METADATA_PATH)
    ).body


@pytest.mark.rule("RS-02")
async def test_the_routes_for_a_host_app_hold_only_the_inserted_form() -> None:
    routes = make_provider().get_well_known_routes("/mcp")
    assert [route.path for route in routes] == [METADATA_PATH, f"{METADATA_PATH}/"]


@pytest.mark.rule("RS-04")
async def test_authorization_servers_are_published_byte_for_byte() -> None:
    servers = ["https://idp.example", "https://IDP.example:443/tenant/", "http://127.0.0.1:9000"]
    guard = protect(provider=RemoteAuthProvider(StaticTokenVerifier(TOKENS), servers, BASE_URL))
    assert (await call(guard.app, "GET", METADATA_PATH)).json()["authorization_servers"] == servers


@pytest.mark.rule("RS-05")
async def test_the_document_has_the_configured_members_and_scopes_default_to_required_ones() -> (
    None
):
    provider = make_provider(
        required_scopes=["mcp:read"],
        resource_name="Wetter",
        resource_documentation="https://docs.example/mcp",
    )
    assert (await call(protect(provider=provider).app, "GET", METADATA_PATH)).json() == {
        "resource": RESOURCE,
        "authorization_servers": [ISSUER],
        "scopes_supported": ["mcp:read"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Wetter",
        "resource_documentation": "https://docs.example/mcp",
    }


@pytest.mark.rule("RS-05")
async def test_explicit_scopes_replace_the_required_ones() -> None:
    guard = protect(
        provider=make_provider(
            required_scopes=["mcp:read"], scopes_supported=["mcp:read", "mcp:all"]
        )
    )
    assert (await call(guard.app, "GET", METADATA_PATH)).json()["scopes_supported"] == [
        "mcp:read",
        "mcp:all",
    ]


@pytest.mark.rule("RS-06")
async def test_members_without_a_value_are_left_out() -> None:
    document = (await call(protect().app, "GET", METADATA_PATH)).json()
    assert sorted(document) == ["authorization_servers", "bearer_methods_supported", "resource"]


@pytest.mark.rule("RS-07")
async def test_get_is_200_json_and_head_is_the_same_without_a_body() -> None:
    guard = protect()
    get, head = [await call(guard.app, method, METADATA_PATH) for method in ("GET", "HEAD")]
    assert (get.status, get.header("content-type")) == (200, "application/json")
    assert (head.status, head.headers, head.body) == (200, get.headers, b"")


@pytest.mark.rule("RS-07")
@rows("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_405_with_allow(method: str) -> None:
    response = await call(protect().app, method, METADATA_PATH)
    assert (response.status, response.header("allow")) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.rule("RS-07")
@rows(
    "path",
    [
        f"{ROOT}/other",
        f"{ROOT}/mcp/x",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/mcp",
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/mcp",
    ],
)
@rows(("method", "status"), [("GET", 404), ("HEAD", 404), ("POST", 405)])
async def test_an_unknown_document_of_our_names_is_404(path: str, method: str, status: int) -> None:
    guard = protect()
    response = await call(guard.app, method, path, ALICE)
    assert (response.status, guard.spy.scopes, guard.reasons) == (status, [], [])
    # a browser may read that there is nothing
    assert response.header("access-control-allow-origin") == "*"


@rows(
    "path",
    [
        "/.well-known/security.txt",
        f"{ROOT}-of-mine",
        "/.well-known/openid-configuration2",
        "/.well-known/",
    ],
)
async def test_other_well_known_paths_belong_to_the_app(path: str) -> None:
    guard = protect()
    guard.assert_refused(await call(guard.app, "GET", path), 401, "missing_token")
    guard.assert_entered(await call(guard.app, "GET", path, ALICE))


@pytest.mark.rule("RS-07")
async def test_a_websocket_to_a_document_is_refused() -> None:
    for path in (METADATA_PATH, "/.well-known/oauth-authorization-server"):
        denial = (await handshake(protect().app, path)).denial
        assert denial is not None
        assert denial.status == 404


@pytest.mark.rule("RS-08")
async def test_the_document_can_be_read_by_every_page_and_never_with_credentials() -> None:
    response = await call(protect().app, "GET", METADATA_PATH, {"Origin": "https://any.example"})
    assert response.header("access-control-allow-origin") == "*"
    assert response.header("access-control-allow-credentials") is None


@pytest.mark.rule("RS-08")
async def test_the_preflight_of_the_document_allows_the_protocol_version_header() -> None:
    headers = {
        "Origin": "https://any.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "mcp-protocol-version",
    }
    response = await call(protect().app, "OPTIONS", METADATA_PATH, headers)
    assert (response.status, response.body) == (204, b"")
    assert response.header("access-control-allow-origin") == "*"
    assert response.header("access-control-allow-methods") == "GET, HEAD"
    assert response.header("access-control-allow-headers") == "mcp-protocol-version"


@pytest.mark.rule("RS-09")
async def test_offline_access_is_never_advertised_but_is_still_required() -> None:
    scopes = ["mcp:read", "offline_access"]
    guard = protect(provider=make_provider(required_scopes=scopes, challenge_scopes=scopes))
    assert (await call(guard.app, "GET", METADATA_PATH)).json()["scopes_supported"] == ["mcp:read"]
    response = await call(guard.app, "GET", "/mcp", ALICE)
    guard.assert_refused(response, 403, "insufficient_scope")
    assert challenge_of(response)["scope"] == "mcp:read"


@pytest.mark.rule("RS-10")
async def test_no_request_header_changes_a_url() -> None:
    guard = protect()
    headers = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "host=evil.example;proto=http",
    }
    assert (
        challenge_of(await call(guard.app, "GET", "/mcp", headers))["resource_metadata"]
        == METADATA_URL
    )
    assert (await call(guard.app, "GET", METADATA_PATH, headers)).json()["resource"] == RESOURCE


@pytest.mark.rule("RS-12")
async def test_caches_may_keep_the_document_for_a_short_time() -> None:
    response = await call(protect().app, "GET", METADATA_PATH)
    assert response.header("cache-control") == "public, max-age=300"


async def test_resource_base_url_names_the_resource_and_places_the_document() -> None:
    provider = make_provider(
        "https://gateway.example", resource_base_url="https://tools.example/v1"
    )
    guard = protect(provider=provider)
    url = challenge_of(await call(guard.app, "GET", "/mcp"))["resource_metadata"]
    assert url == "https://tools.example/.well-known/oauth-protected-resource/v1/mcp"
    response = await call(guard.app, "GET", "/.well-known/oauth-protected-resource/v1/mcp")
    assert response.json()["resource"] == "https://tools.example/v1/mcp"


async def test_a_name_that_is_not_ascii_survives() -> None:
    provider = make_provider(resource_name='Wëtter "☂"')
    assert (await call(protect(provider=provider).app, "GET", METADATA_PATH)).json()[
        "resource_name"
    ] == 'Wëtter "☂"'


@pytest.mark.rule("RS-01", "RS-07")
@pytest.mark.parametrize("server", ["uvicorn-h11", "uvicorn-httptools"])
async def test_get_and_head_over_uvicorn_agree(server: str) -> None:
    with serve(protect().app, server) as base_url:
        head = (
            f"{METADATA_PATH} HTTP/1.1\r\nHost: evil.example\r\nMCP-Protocol-Version:"
            " 2026-07-28\r\n\r\n".encode()
        )
        status, headers, body = request(base_url, b"GET " + head)
        assert (status, json.loads(body)["resource"]) == (200, RESOURCE)
        status_of_head, headers_of_head, _ = request(base_url, b"HEAD " + head)
        assert status_of_head == 200
        assert headers_of_head["content-length"] == headers["content-length"] == str(len(body))
