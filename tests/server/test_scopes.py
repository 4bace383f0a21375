"""Which scopes a server names and knows: its own, those of challenges, those of the middleware."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from asgi_mcp_auth import (
    ConfigurationError,
    JWTVerifier,
    MCPAuthMiddleware,
    MultiAuth,
    OAuthProvider,
    OAuthProxy,
    OIDCProxy,
    RemoteAuthProvider,
    Rule,
    StaticTokenVerifier,
)
from asgi_mcp_auth.server import DevLogin
from tests.support.asgi import Spy, call
from tests.support.authorization_server import BASE_URL, Server, answer_of, deploy
from tests.support.protection import challenge_of
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

DOCUMENTS = ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server")
RULES = [Rule("/admin", scopes=["admin"]), Rule("/files", scopes=["files", "mcp:read"])]
VERIFIER = StaticTokenVerifier({"t": {"client_id": "c"}})
OWN: dict[str, Any] = {"required_scopes": ["read"], "scopes_supported": ["read", "write"]}
COMMON: dict[str, Any] = {"base_url": BASE_URL, "store": "memory:", **OWN}
KINDS: dict[str, Any] = {
    "OAuthProvider": functools.partial(OAuthProvider, login=DevLogin(), **COMMON),
    "OIDCProxy": functools.partial(
        OIDCProxy, issuer="https://idp.example", client_id="c", client_secret="s" * 32, **COMMON
    ),
    "OAuthProxy": functools.partial(
        OAuthProxy,
        upstream_authorization_endpoint="https://idp.example/authorize",
        upstream_token_endpoint="https://idp.example/token",
        upstream_client_id="c",
        token_verifier=VERIFIER,
        **COMMON,
    ),
}


async def named(server: Any) -> list[set[str]]:
    """Return the scopes in the resource's and in the server's metadata."""
    answers = [await server("GET", path) for path in DOCUMENTS]
    return [set(answer.json()["scopes_supported"]) for answer in answers]


@pytest.mark.rule("AS-84")
@rows("kind", KINDS)
async def test_a_challenge_names_the_scopes_to_ask_for_up_front(kind: str) -> None:
    """They are among those that can be asked for, and requests do not need them."""
    provider = KINDS[kind](challenge_scopes=["write", "delete", "offline_access"])
    assert provider.challenge_scopes == ["write", "delete", "read"]
    assert provider.required_scopes == ["read"]
    app = MCPAuthMiddleware(Spy(), provider, mcp_path="/mcp")
    response = await call(app, "GET", "/mcp")
    assert challenge_of(response)["scope"] == "write delete read"
    both = {"read", "write", "delete"}
    assert await named(functools.partial(call, app)) == [both, {*both, "offline_access"}]


@rows("kind", KINDS)
async def test_a_malformed_scope_of_a_challenge_is_a_settings_error(kind: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^challenge_scopes"):
        KINDS[kind](challenge_scopes="read write")


@pytest.mark.rule("AS-84")
async def test_every_scope_that_a_rule_or_the_middleware_needs_can_be_asked_for() -> None:
    middleware = {"rules": RULES, "required_scopes": ["more"]}
    async with deploy(middleware=middleware) as server:
        needed = {"mcp:read", "mcp:write", "more", "admin", "files"}
        assert await named(server.call) == [needed, {*needed, "offline_access"}]
        client = await server.register(scope="admin openid")
        assert client.information["scope"] == "admin"
        for path in ("/mcp", "/admin", "/files"):
            scope = challenge_of(await server.call("GET", path))["scope"]
            tokens = await client.sign_in(scope=scope)
            assert tokens["scope"] == scope
            response = await server.call("GET", path, bearer=tokens["access_token"])
            assert response.status == 200
        # What no rule needs of every request does not come without asking.
        assert (await client.sign_in())["scope"] == "mcp:read"


@pytest.mark.rule("AS-84")
async def test_a_client_that_asks_for_nothing_gets_nothing_of_rules() -> None:
    settings: dict[str, Any] = {"required_scopes": [], "scopes_supported": []}
    async with deploy(middleware={"rules": RULES}, **settings) as server:
        client = await server.register()
        assert (await client.sign_in())["scope"] == ""
        assert (await client.sign_in(scope="files"))["scope"] == "files"


@pytest.mark.rule("AS-84")
async def test_documents_that_were_made_before_the_middleware_name_its_scopes_too() -> None:
    """As in an app that takes the routes for its root, and makes its middleware later."""
    provider = KINDS["OAuthProvider"]()
    routes = {route.path: route.app for route in provider.get_well_known_routes("/mcp")}
    MCPAuthMiddleware(Spy(), provider, mcp_path="/mcp", rules=RULES)
    for path in DOCUMENTS:
        document = (await call(routes[path], "GET", path)).json()
        assert {"admin", "files"} < set(document["scopes_supported"])


@pytest.mark.rule("AS-84")
async def test_scopes_of_rules_reach_the_server_of_several_issuers() -> None:
    server = KINDS["OAuthProvider"]()
    provider = MultiAuth(server=server, verifiers=[VERIFIER])
    app = MCPAuthMiddleware(Spy(), provider, mcp_path="/mcp", rules=RULES)
    assert [{"admin", "files"} < each for each in await named(functools.partial(call, app))] == [
        True,
        True,
    ]
    MCPAuthMiddleware(Spy(), MultiAuth(verifiers=[VERIFIER]), rules=RULES)  # there is no server


async def test_what_other_servers_know_is_not_ours_to_say() -> None:
    """They might refuse a whole request for one scope that they do not have."""
    verifier = JWTVerifier(issuer="https://idp.example", audience="x")
    provider = RemoteAuthProvider(
        verifier, ["https://idp.example"], BASE_URL, scopes_supported=["read"]
    )
    app = MCPAuthMiddleware(Spy(), provider, mcp_path="/mcp", rules=RULES)
    response = await call(app, "GET", DOCUMENTS[0])
    assert response.json()["scopes_supported"] == ["read"]


@pytest.mark.rule("AS-80")
async def test_a_redirect_uri_that_was_left_out_is_explained_where_it_is_used() -> None:
    async with deploy() as server:
        client = await register_mixed(server)
        for uri, reason in (
            ("editor://x", "The redirect URI scheme editor is not allowed here; the operator can"),
            ("http://lan.example/x", "A redirect URI must be https; http is for 127.0.0.1,"),
            ("https://a.example/other", "The redirect URI is not registered for this application"),
        ):
            url = client.authorization_url(redirect_uri=uri).removeprefix(BASE_URL)
            response = await server.call("GET", url)
            assert (response.status, reason in response.body.decode()) == (400, True)
        url = client.authorization_url(redirect_uri="https://a.example/x")
        assert "code" in answer_of(await server.browser().decide(url))


async def register_mixed(server: Server) -> Any:
    uris = ["editor://x", "https://a.example/x", "http://lan.example/x"]
    client = await server.register(redirect_uris=uris)
    assert client.information["redirect_uris"] == ["https://a.example/x"]
    return client
