"""OAuth 2.0 Authorization Server Metadata (RFC 8414)."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth import PasswordLogin
from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.server.clients.metadata import ASSERTION_ALGORITHMS
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from tests.support.authorization_server import BASE_URL, KEY, RESOURCE, Server, answer_of, deploy
from tests.support.failing import FailingStore
from tests.support.gate import claims_of, signing_key
from tests.support.rows import rows
from tests.tables import metadata_paths

pytestmark = pytest.mark.asyncio

NOWHERE = PasswordLogin(lambda name: None)


async def metadata(
    server: Server, target: str = "/.well-known/oauth-authorization-server"
) -> dict[str, Any]:
    response = await server.call("GET", target)
    assert response.status == 200, target
    document: dict[str, Any] = response.json()
    return document


@pytest.mark.rule("AS-04", "AS-05", "AS-06", "AS-07")
async def test_the_document_says_what_there_is() -> None:
    """§2: defaults of the RFC that do not hold here are written out."""
    async with deploy(registration=Registration(metadata_documents=True)) as server:
        algorithms = list(ASSERTION_ALGORITHMS)
        assert await metadata(server) == {
            "issuer": BASE_URL,
            "authorization_endpoint": f"{BASE_URL}/authorize",
            "token_endpoint": f"{BASE_URL}/token",
            "registration_endpoint": f"{BASE_URL}/register",
            "revocation_endpoint": f"{BASE_URL}/revoke",
            "introspection_endpoint": f"{BASE_URL}/introspect",
            "pushed_authorization_request_endpoint": f"{BASE_URL}/par",
            "jwks_uri": f"{BASE_URL}/.well-known/jwks.json",
            "scopes_supported": ["mcp:read", "mcp:write", "offline_access"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": [
                "none",
                "client_secret_basic",
                "client_secret_post",
                "private_key_jwt",
            ],
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
            "revocation_endpoint_auth_methods_supported": [
                "none",
                "client_secret_basic",
                "client_secret_post",
                "private_key_jwt",
            ],
            "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
            "introspection_endpoint_auth_methods_supported": [
                "client_secret_basic",
                "client_secret_post",
                "private_key_jwt",
            ],
            "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
            "protected_resources": [RESOURCE],
            "authorization_response_iss_parameter_supported": True,
            "client_id_metadata_document_supported": True,
            "request_uri_parameter_supported": False,
        }
        assert "none" not in algorithms
        assert not [name for name in algorithms if name.startswith("HS")]


@pytest.mark.rule("AS-08")
@pytest.mark.parametrize("scopes", [[], ["offline_access"], ["a", "offline_access", "b"]])
async def test_a_member_without_a_value_is_left_out_and_none_is_there_twice(
    scopes: list[str],
) -> None:
    """§3.2."""
    async with deploy(required_scopes=[], scopes_supported=scopes) as server:
        document = await metadata(server)
        assert None not in document.values()
        assert [] not in document.values()
        assert sorted(document["scopes_supported"]) == sorted({*scopes, "offline_access"})


@pytest.mark.rule("RS-07", "RS-08")
@rows("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@rows(
    "target",
    [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/.well-known/jwks.json",
    ],
)
async def test_documents_are_read_and_nothing_else(method: str, target: str) -> None:
    """§3.1, §3.2: for all callers, pages of any origin included."""
    async with deploy() as server:
        headers = {"Origin": "https://inspector.example", "MCP-Protocol-Version": "2026-07-28"}
        response = await server.call(method, target, headers=headers)
        assert response.header("access-control-allow-origin") == "*"
        if method in ("GET", "HEAD"):
            assert (response.status, response.header("content-type")) == (200, "application/json")
            assert (response.header("cache-control") or "").startswith("public, max-age=")
            assert (response.body == b"") == (method == "HEAD")
        else:
            assert (response.status, response.header("allow")) == (405, "GET, HEAD, OPTIONS")
        preflight = {**headers, "Access-Control-Request-Method": "GET"}
        assert (await server.call("OPTIONS", target, headers=preflight)).status == 204


@pytest.mark.case("Z117")
@pytest.mark.rule("AS-01", "AS-02", "AS-03", "RS-46")
@rows(
    ("base_url", "targets"),
    [
        *((f"http://localhost:8000{path}", targets) for path, targets in metadata_paths.ISSUERS),
        ("http://LOCALHOST:8000", metadata_paths.ISSUERS[0][1]),
    ],
)
async def test_the_document_lies_wherever_clients_look_and_names_one_issuer(
    base_url: str, targets: list[str]
) -> None:
    """§3.1: the path is inserted; OpenID Connect Discovery §4.1: it stands in front. Of a base URL,
    one slash at the end is dropped.
    """
    async with deploy(base_url=base_url) as server:
        issuer = base_url.removesuffix("/")
        document = await metadata(server, targets[0])
        assert document["issuer"] == issuer
        for target in targets[1:]:
            openid = await metadata(server, target)
            assert openid == document | {
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            }
        endpoints = {
            name: url
            for name, url in document.items()
            if name.endswith("_endpoint") or name == "jwks_uri"
        }
        assert all(url.startswith(f"{issuer}/") for url in endpoints.values())
        for name, url in endpoints.items():
            method, target = (
                "GET" if name == "jwks_uri" else "POST",
                url[len("http://localhost:8000") :],
            )
            response = await server.call(method, target, form={} if method == "POST" else None)
            assert (
                response.status in (200, 303, 400) or response.json()["error"] == "invalid_client"
            ), name


@pytest.mark.rule("RS-45")
@pytest.mark.parametrize("base_url", ["http://localhost:8000", "http://localhost:8000/t1"])
async def test_clients_of_2025_03_26_find_everything_at_the_root_of_the_origin(
    base_url: str,
) -> None:
    """Such clients know no resource metadata, drop the path of the MCP URL and send no
    ``resource``.
    """
    async with deploy(base_url=base_url) as server:
        document = await metadata(server)
        assert document["issuer"] == base_url
        for target, method, status in (
            ("/authorize", "GET", 400),
            ("/token", "POST", 401),
            ("/register", "POST", 400),
        ):
            assert (await server.call(method, target, form={})).status == status
        registration = {
            "redirect_uris": ["http://127.0.0.1:1/callback"],
            "token_endpoint_auth_method": "none",
        }
        client = await server.register(**registration)
        tokens = await client.sign_in(resource=None)
        assert claims_of(tokens["access_token"])["aud"] == f"{base_url}/mcp"
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200


@pytest.mark.rule("RS-07")
@rows(
    "target",
    [
        "/.well-known/oauth-authorization-server/",
        "/.well-known/oauth-authorization-server/other",
        "/.well-known/oauth-authorization-server/mcp",
        "/.well-known/openid-configuration/other",
        "/.well-known/oauth-protected-resource/other",
    ],
)
async def test_a_document_that_is_not_there_is_404(target: str) -> None:
    async with deploy() as server:
        assert (await server.call("GET", target)).status == 404


ISSUERS = [
    "http://localhost:8000",
    "http://127.0.0.1",
    "http://[::1]:8000/t1",
    "https://mcp.example.com",
    "https://MCP.Example.com:443",
    "https://mcp.example.com:8443/a/b",
    "https://mcp.example.com/~user/a%20b",
    "https://xn--mnchen-3ya.example",
]


@pytest.mark.case("Z116")
@pytest.mark.rule("AS-03")
@rows("issuer", ISSUERS)
async def test_the_issuer_is_the_same_to_the_last_character_everywhere(issuer: str) -> None:
    """§3.3; RFC 9207 §2.4; RFC 9728 §3.3: no URL type rewrites it."""
    async with deploy(
        base_url=issuer, login=NOWHERE, registration=Registration(clients=[PUBLIC])
    ) as server:
        path = server.provider._server.issuer.partition("//")[2].partition("/")[2]
        document = await metadata(
            server, f"/.well-known/oauth-authorization-server{path and '/' + path}"
        )
        resource = (
            await server.call(
                "GET", f"/.well-known/oauth-protected-resource{path and '/' + path}/mcp"
            )
        ).json()
        assert document["issuer"] == issuer
        assert resource["authorization_servers"] == [issuer]
        assert resource["resource"] == f"{issuer}/mcp" == document["protected_resources"][0]
        refused = await server.call("GET", "/authorize?client_id=app&response_type=token&state=x")
        assert answer_of(refused.header("location") or "")["iss"] == issuer


PUBLIC = {"client_id": "app", "redirect_uris": ["https://app.example.com/callback"]}


@pytest.mark.case("Z116")
@pytest.mark.rule("AS-03")
async def test_the_issuer_of_a_token_and_of_a_response_is_that_of_the_document() -> None:
    async with deploy() as server:
        client, issuer = await server.register(), (await metadata(server))["issuer"]
        url = await server.browser().decide(client.authorization_url())
        assert answer_of(url)["iss"] == issuer
        tokens = (await client.redeem(answer_of(url)["code"])).json()
        assert claims_of(tokens["access_token"])["iss"] == issuer
        denied = await server.browser().decide(client.authorization_url(), action="deny")
        assert (answer_of(denied)["error"], answer_of(denied)["iss"]) == ("access_denied", issuer)


@pytest.mark.rule("RS-10")
@pytest.mark.parametrize("host", ["evil.example", "localhost:9999", "MCP.example.com"])
async def test_what_a_request_says_of_its_host_is_in_no_document(host: str) -> None:
    """RFC 9700 §4.13."""
    headers = {
        "Host": host,
        "X-Forwarded-Host": host,
        "Forwarded": f"host={host}",
        "X-Forwarded-Proto": "https",
    }
    async with deploy() as server:
        for target in (
            "/.well-known/oauth-authorization-server",
            "/.well-known/openid-configuration",
        ):
            response = await server.call("GET", target, headers=headers)
            assert host.encode() not in response.body
        response = await server.call("GET", "/authorize", headers=headers)
        assert host.encode() not in response.body


@pytest.mark.case("Z119")
@pytest.mark.rule("AS-09")
async def test_the_key_set_has_public_members_only() -> None:
    """RFC 7517 §5: kid, use and alg; one key, in the form of its type."""
    members = {
        "ES256": {"kty", "kid", "use", "alg", "crv", "x", "y"},
        "RS256": {"kty", "kid", "use", "alg", "n", "e"},
        "EdDSA": {"kty", "kid", "use", "alg", "crv", "x"},
    }
    for algorithm, expected in members.items():
        for options in (
            {"signing_algorithm": algorithm},
            {"signing_keys": [signing_key(algorithm).pem()]},
        ):
            async with deploy(options=options) as server:
                document = await metadata(server, "/.well-known/jwks.json")
                assert set(document) == {"keys"}
                (key,) = document["keys"]
                assert (set(key), key["use"], key["alg"]) == (expected, "sig", algorithm)
                openid = await metadata(server, "/.well-known/openid-configuration")
                assert openid["id_token_signing_alg_values_supported"] == [algorithm]


@pytest.mark.rule("AS-08")
@rows(
    ("settings", "gone"),
    [
        (
            {
                "allow_dynamic_registration": False,
                "registration": Registration(metadata_documents=True),
            },
            ["registration_endpoint"],
        ),
        (
            {"registration": Registration(metadata_documents=False)},
            ["client_id_metadata_document_supported"],
        ),
        (
            {"options": {"disabled": ["revoke"]}},
            [
                "revocation_endpoint",
                "revocation_endpoint_auth_methods_supported",
                "revocation_endpoint_auth_signing_alg_values_supported",
            ],
        ),
        (
            {"options": {"disabled": ["introspect"]}},
            [
                "introspection_endpoint",
                "introspection_endpoint_auth_methods_supported",
                "introspection_endpoint_auth_signing_alg_values_supported",
            ],
        ),
        ({"options": {"disabled": ["par"]}}, ["pushed_authorization_request_endpoint"]),
        ({"options": {"disabled": ["applications"]}}, []),
    ],
    ids=str,
)
async def test_what_is_switched_off_vanishes(settings: dict[str, Any], gone: list[str]) -> None:
    everything = {"registration": Registration(metadata_documents=True)}
    async with deploy(**everything) as usual, deploy(**{**everything, **settings}) as server:
        before, after = await metadata(usual), await metadata(server)
        assert {name: value for name, value in before.items() if name not in gone} == after


async def test_the_key_set_is_503_while_there_is_none() -> None:
    store = FailingStore(MemoryStore(), 1, for_good=True)
    async with deploy(store=EncryptedStore(store, [KEY])) as server:
        response = await server.call("GET", "/.well-known/jwks.json")
        assert (response.status, response.header("retry-after")) == (503, "1")
        store.fail_at = 0
        assert len((await metadata(server, "/.well-known/jwks.json"))["keys"]) == 1
