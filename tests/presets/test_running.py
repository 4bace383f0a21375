"""Presets at work: tokens verified, people signed in, on servers shaped like the providers."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from asgi_mcp_auth import ANY_AUDIENCE, InvalidToken, JWKSOptions, MCPAuthMiddleware, presets
from asgi_mcp_auth.discovery import metadata_urls
from asgi_mcp_auth.presets.model import JWTs
from asgi_mcp_auth.presets.resolver import resolve
from asgi_mcp_auth.proxy import UpstreamRules
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT, FrozenClock, Issuer
from asgi_mcp_auth.tokens import SCOPE_KEY
from tests.proxy.upstreams.github import github_upstream
from tests.support.asgi import Spy, call
from tests.support.authorization_server import BASE_URL, ClientOf, Server, answer_of, deploy
from tests.support.detour import Detour
from tests.support.profiles import serving_profiles
from tests.support.proxy import come_back, depart, tokens_for, upstream_token
from tests.support.upstream import CLIENT_ID, CLIENT_SECRET, Upstream

pytestmark = pytest.mark.asyncio

MCP = "https://mcp.example.com/mcp"
TENANT, STRANGER = "72f988bf-86f1-41af-91ab-2d7cd011db47", "fa15d692-e9c7-4460-a743-29f2956fd429"
API = "11111111-2222-4333-8444-555555555555"

# Claims as the providers write them, beside iss, sub, iat and exp; audience= if it is needed; what
# has to come out.
SHAPES: dict[str, tuple[dict[str, Any], str | None, list[str]]] = {
    "auth0": (
        {"aud": [MCP, "https://example.eu.auth0.com/userinfo"], "azp": "c", "scope": "a b"},
        None,
        ["a", "b"],
    ),
    "authentik": ({"aud": "the-client", "azp": "c", "scope": "a b"}, "the-client", ["a", "b"]),
    "clerk": ({"client_id": "c", "scope": "a b"}, ANY_AUDIENCE, ["a", "b"]),
    "cognito": (
        {"client_id": "c", "scope": "a b", "token_use": "access"},
        ANY_AUDIENCE,
        ["a", "b"],
    ),
    "descope": ({"aud": ["P2", MCP], "azp": "c", "scope": "a b"}, None, ["a", "b"]),
    "entra": (
        {"aud": API, "azp": "c", "scp": "a b", "tid": TENANT},
        None,
        ["a", "b", f"api://{API}/a", f"api://{API}/b"],
    ),
    "keycloak": ({"aud": MCP, "azp": "c", "scope": "a b", "typ": "Bearer"}, None, ["a", "b"]),
    "kinde": ({"aud": [MCP], "azp": "c", "scp": ["a", "b"]}, None, ["a", "b"]),
    "logto": ({"aud": MCP, "client_id": "c", "scope": "a b"}, None, ["a", "b"]),
    "oci": (
        {"aud": ["notes"], "client_id": "c", "scope": "a b", "tok_type": "AT"},
        "notes",
        ["a", "b"],
    ),
    "okta": ({"aud": MCP, "cid": "c", "uid": "u", "scp": ["a", "b"], "ver": 1}, None, ["a", "b"]),
    "onelogin": ({"aud": [MCP], "azp": "c", "scope": "a b"}, None, ["a", "b"]),
    "ory": ({"aud": [], "client_id": "c", "scp": ["a", "b"]}, ANY_AUDIENCE, ["a", "b"]),
    "pingone": ({"aud": [MCP], "client_id": "c", "scope": "a b"}, None, ["a", "b"]),
    "scalekit": ({"aud": [MCP, "res_1"], "client_id": "c", "scope": "a b"}, None, ["a", "b"]),
    "stytch": (
        {"aud": ["project-test-11111111-2222-4333-8444-5555"], "client_id": "c", "scope": "a b"},
        "project-test-11111111-2222-4333-8444-5555",
        ["a", "b"],
    ),
    "supabase": (
        {"aud": "authenticated", "role": "authenticated", "client_id": "c"},
        "authenticated",
        [],
    ),
    "workos": ({"aud": MCP, "client_id": "c", "scope": "a b"}, None, ["a", "b"]),
}


@pytest_asyncio.fixture
async def world() -> AsyncIterator[tuple[Issuer, httpx.AsyncClient]]:
    """An issuer, and a client for which it is at every address."""
    with Issuer(algorithms=("ES256",), clock=FrozenClock()) as idp:
        async with httpx.AsyncClient(transport=Detour(urlsplit(idp.jwks_uri).port or 0)) as client:
            yield idp, client


def examples(name: str) -> dict[str, Any]:
    return {key: parameter.example for key, parameter in presets.CATALOG[name].parameters.items()}


def publish(idp: Issuer, issuers: tuple[str, ...], jwks_uri: str | None) -> None:
    """Let the issuer be found where these providers are found."""
    metadata = {"jwks_uri": idp.jwks_uri.replace("http:", "https:")}
    for issuer in issuers:
        for url in metadata_urls(issuer):
            idp.answer(urlsplit(url).path, json.dumps({"issuer": issuer, **metadata}).encode())
    if jwks_uri is not None:
        idp.answer(urlsplit(jwks_uri).path, json.dumps(idp.jwks).encode())


async def test_every_provider_with_jwts_has_its_shape() -> None:
    assert [
        name for name, preset in presets.CATALOG.items() if isinstance(preset.tokens, JWTs)
    ] == list(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
async def test_a_token_of_the_providers_shape_is_understood(
    world: tuple[Issuer, httpx.AsyncClient], name: str
) -> None:
    (idp, client), (claims, audience, scopes) = world, SHAPES[name]
    found, _ = resolve(name, examples(name))
    assert isinstance(found.tokens, JWTs)
    publish(idp, found.tokens.issuers, found.tokens.jwks_uri)
    verifier: Any = presets.verifier(
        name,
        audience=audience,
        **examples(name),
        clock=idp.clock,
        jwks=JWKSOptions(http_client=client),
    )
    verifier.bind_audience(MCP)
    for issuer in found.tokens.issuers:
        usual = {"client_id": None, "iss": issuer}
        access = await verifier.verify(idp.mint(header={"typ": "JWT"}, **{**usual, **claims}))
        assert (access.subject, access.client_id, access.scopes) == ("alice", "c", scopes)
    for wrong, reason in (
        ({"iss": "https://evil.example"}, "issuer"),
        ({"aud": "another-server"}, "audience"),
    ):
        if reason == "audience" and audience == ANY_AUDIENCE:
            continue
        token = idp.mint(**{"client_id": None, "iss": found.tokens.issuers[0], **claims, **wrong})
        with pytest.raises(InvalidToken) as caught:
            await verifier.verify(token)
        assert caught.value.reason == reason


@pytest.mark.parametrize("name", ["clerk", "cognito", "ory", "stytch", "supabase"])
async def test_an_id_token_or_a_session_is_no_access_token(
    world: tuple[Issuer, httpx.AsyncClient], name: str
) -> None:
    """Where nothing else tells them apart, access tokens have a client_id."""
    idp, client = world
    found, _ = resolve(name, examples(name))
    assert isinstance(found.tokens, JWTs)
    publish(idp, found.tokens.issuers, None)
    claims, audience, _ = SHAPES[name]
    verifier: Any = presets.verifier(
        name,
        audience=audience,
        **examples(name),
        clock=idp.clock,
        jwks=JWKSOptions(http_client=client),
    )
    with pytest.raises(InvalidToken) as caught:
        await verifier.verify(
            idp.mint(**{**claims, "iss": found.tokens.issuers[0], "client_id": None})
        )
    assert caught.value.reason == "client_id"


@pytest.mark.parametrize("aud", [API, f"api://{API}"])
async def test_entra_version_1_has_another_issuer_and_either_audience(
    world: tuple[Issuer, httpx.AsyncClient], aud: str
) -> None:
    idp, client = world
    publish(idp, (), f"https://login.microsoftonline.com/{TENANT}/discovery/keys")
    settings: dict[str, Any] = {"tenant": TENANT, "api": API, "version": "1.0", "clock": idp.clock}
    verifier: Any = presets.verifier("entra", jwks=JWKSOptions(http_client=client), **settings)
    issuer = f"https://sts.windows.net/{TENANT}/"
    access = await verifier.verify(
        idp.mint(iss=issuer, aud=aud, appid="c", client_id=None, scp="mcp.read")
    )
    assert (access.client_id, access.scopes) == ("c", ["mcp.read", f"api://{API}/mcp.read"])
    with pytest.raises(InvalidToken):
        await verifier.verify(
            idp.mint(iss=issuer.replace(TENANT, STRANGER), aud=aud, client_id="c")
        )


async def test_remote_protects_a_server_with_tokens_of_a_real_issuer() -> None:
    with Issuer(path="/realms/staff") as idp:
        server = idp.issuer.removesuffix("/realms/staff")
        provider = presets.remote(
            "keycloak",
            server=server,
            realm="staff",
            base_url="https://mcp.example.com",
            required_scopes=["mcp:read"],
        )
        app = MCPAuthMiddleware(Spy(), provider, mcp_path="/mcp")
        good = idp.mint(aud=MCP, scope="mcp:read")
        assert (await call(app, "GET", "/mcp", {"Authorization": f"Bearer {good}"})).status == 200
        other = idp.mint(aud="https://other.example", scope="mcp:read")
        assert (await call(app, "GET", "/mcp", {"Authorization": f"Bearer {other}"})).status == 401
        metadata = await call(app, "GET", "/.well-known/oauth-protected-resource/mcp")
        assert metadata.json()["authorization_servers"] == [idp.issuer]


async def test_zitadel_is_asked_about_each_token() -> None:
    with Issuer(path="/oauth/v2") as idp:
        server = idp.issuer.removesuffix("/oauth/v2")
        client_id, secret = INTROSPECTION_CLIENT
        verifier: Any = presets.verifier(
            "zitadel",
            server=server,
            project_id="69",
            audience="69",
            client_id=client_id,
            client_secret=secret,
        )
        access = await verifier.verify(idp.mint_opaque(iss=server, aud=["69", "70"], scope="a b"))
        assert (access.scopes, access.resource) == (["a", "b"], "69")
        with pytest.raises(InvalidToken) as caught:
            await verifier.verify(idp.mint_opaque(iss=server, aud=["70"]))
        assert caught.value.reason == "audience"


@pytest.mark.parametrize(
    ("name", "path", "setting", "profile"),
    [
        ("github", "/user", "api", {"id": 583231}),
        ("gitlab", "/oauth/userinfo", "server", {"sub": "583231"}),
    ],
)
async def test_profiles_say_who_is_calling(
    name: str, path: str, setting: str, profile: dict[str, Any]
) -> None:
    with serving_profiles(path) as provider:
        provider.profiles["the-token"] = profile
        verifier: Any = presets.verifier(name, audience=ANY_AUDIENCE, **{setting: provider.url})
        assert (await verifier.verify("the-token")).subject == "583231"


# ------------------------------------------------------------------------------- people who sign in


async def who(server: Server, access_token: str) -> Any:
    """Return the access token that the app sees."""
    server.spy.scopes.clear()
    assert (await server.call("POST", "/mcp", bearer=access_token)).status == 200
    return server.spy.scope[SCOPE_KEY]


def behind(name: str, **settings: Any) -> Any:
    """Return what ``deploy`` needs to run this preset."""
    credentials = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    return functools.partial(presets.proxy, name, **{**credentials, **settings})


async def test_a_proxy_before_keycloak() -> None:
    with Upstream(path="/realms/staff", clock=FrozenClock()) as upstream:
        kind = behind(
            "keycloak", server=upstream.issuer.removesuffix("/realms/staff"), realm="staff"
        )
        async with deploy(
            kind=kind, clock=upstream.clock, upstream_scopes=["openid", "notes"]
        ) as server:
            asked = upstream.asked(await depart(server.browser(), await server.register()))
            assert asked["scope"] == "openid notes"
        async with deploy(kind=kind, clock=upstream.clock) as server:
            client = await server.register()
            asked = upstream.asked(await depart(server.browser(), client))
            assert asked["scope"] == "openid profile email offline_access"
            tokens = await tokens_for(upstream, client)
            assert (await who(server, tokens["access_token"])).subject == f"{upstream.issuer}|alice"
            assert await upstream_token(server, tokens["access_token"]) in upstream.access


async def test_a_proxy_before_google_asks_for_refresh_tokens_and_lets_one_domain_in() -> None:
    with Upstream(clock=FrozenClock()) as upstream:
        port = urlsplit(upstream.jwks_uri).port or 0
        upstream.issuer = "https://accounts.google.com"
        upstream.jwks_uri = f"{upstream.issuer}/jwks"
        upstream.people["alice"] = {"email": "alice@example.com", "email_verified": True}
        upstream.people["eve"] = {"email": "eve@evil.example", "email_verified": True}
        async with httpx.AsyncClient(transport=Detour(port)) as http_client:
            rules = UpstreamRules(
                allowed_domains=["example.com"],
                authorize_parameters={"hd": "example.com"},
                http_client=http_client,
            )
            async with deploy(
                kind=behind("google", upstream=rules), clock=upstream.clock
            ) as server:
                client = await server.register()
                url = await depart(server.browser(), client)
                asked = upstream.asked(url)
                assert (asked["access_type"], asked["prompt"], asked["hd"]) == (
                    "offline",
                    "consent",
                    "example.com",
                )
                assert asked["scope"] == "openid profile email"
                anew = upstream.asked(await depart(server.browser(), client, prompt="login"))
                assert anew["prompt"] == "select_account consent"
                tokens = await tokens_for(upstream, client)
                assert (
                    await who(server, tokens["access_token"])
                ).subject == "https://accounts.google.com|alice"
                browser = server.browser()
                refused = await come_back(
                    browser, upstream.approve(await depart(browser, client), "eve")
                )
                assert "code" not in answer_of(refused.header("location") or "")


async def test_a_proxy_before_several_tenants_of_entra_lets_no_other_in() -> None:
    with Upstream(path="/organizations", clock=FrozenClock()) as upstream:
        port = urlsplit(upstream.jwks_uri).port or 0
        upstream.issuer = "https://login.microsoftonline.com/organizations"
        upstream.jwks_uri = f"{upstream.issuer}/jwks"
        metadata = {
            **upstream.metadata(),
            "issuer": "https://login.microsoftonline.com/{tenantid}/v2.0",
        }
        upstream.answer("/v2.0/.well-known/openid-configuration", json.dumps(metadata).encode())

        async def sign_in(client: ClientOf) -> dict[str, str]:
            browser = client.server.browser()
            callback = upstream.approve(await depart(browser, client, scope="mcp.read"), iss=None)
            return answer_of((await come_back(browser, callback)).header("location") or "")

        async with httpx.AsyncClient(transport=Detour(port)) as http_client:
            kind = behind(
                "entra",
                tenant=[TENANT, API],
                api=API,
                upstream=UpstreamRules(http_client=http_client),
            )
            async with deploy(
                kind=kind, clock=upstream.clock, required_scopes=["mcp.read"]
            ) as server:
                client = await server.register()
                asked = upstream.asked(await depart(server.browser(), client, scope="mcp.read"))
                assert asked["scope"] == f"openid profile email offline_access api://{API}/mcp.read"
                issuer = f"https://login.microsoftonline.com/{TENANT}/v2.0"
                upstream.id_token = {"iss": issuer, "tid": TENANT}
                tokens: Any = (await client.redeem((await sign_in(client))["code"])).json()
                assert (await who(server, tokens["access_token"])).subject == f"{issuer}|alice"
                upstream.id_token = {"iss": issuer.replace(TENANT, STRANGER), "tid": STRANGER}
                assert (await sign_in(client))["error"] == "server_error"


async def test_a_proxy_before_github() -> None:
    async with github_upstream(callback=f"{BASE_URL}/auth/callback") as upstream:
        settings = {"client_id": upstream.client_id, "client_secret": upstream.client_secret}
        origin = upstream.origin.removesuffix("/")
        async with deploy(kind=behind("github", server=origin, api=origin, **settings)) as server:
            client, browser = await server.register(), server.browser()
            url = await depart(browser, client)
            async with httpx.AsyncClient() as person:
                callback = await upstream.sign_in(person, url)
            response = await come_back(browser, callback)
            code = dict(
                pair.split("=")
                for pair in urlsplit(response.header("location") or "").query.split("&")
            )["code"]
            tokens: Any = (await client.redeem(code)).json()
            assert (await who(server, tokens["access_token"])).subject == f"{origin}|1001"
            assert [each.client_auth for each in await upstream.requests()] == [
                "client_secret_post"
            ]
