"""Signing in at an identity provider: the request, the answer, and the result."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError
from asgi_mcp_auth.proxy import UpstreamIdentity, UpstreamRules
from asgi_mcp_auth.server import Person
from asgi_mcp_auth.tokens import SCOPE_KEY
from tests.support.authorization_server import (
    BASE_URL,
    WEB_REDIRECT_URI,
    Server,
    answer_of,
    challenge_of,
)
from tests.support.proxy import KINDS, come_back, depart, deploy_proxy, tokens_for, told
from tests.support.rows import rows
from tests.support.upstream import CLIENT_ID, Upstream

pytestmark = pytest.mark.asyncio

STATES, TOKENS = "upstream_state", "upstream"


async def who(server: Server, access_token: str) -> Any:
    """Return the access token that the app sees."""
    server.spy.scopes.clear()
    assert (await server.call("POST", "/mcp", bearer=access_token)).status == 200
    return server.spy.scope[SCOPE_KEY]


@pytest.mark.case("P19")
@pytest.mark.rule("PX-06")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_person_of_the_identity_provider_gets_tokens_of_ours(
    upstream: Upstream, kind: str
) -> None:
    """The subject is issuer and person, never an address that changes hands."""
    upstream.people["alice"] = {"email": "alice@example.com", "name": "Alice"}
    async with deploy_proxy(upstream, kind) as server:
        tokens = await tokens_for(upstream, await server.register())
        access = await who(server, tokens["access_token"])
        assert access.subject == f"{upstream.issuer}|alice"
        assert access.claims["iss"] == BASE_URL
        assert "email" not in access.claims


@pytest.mark.case("P08", "P18")
@pytest.mark.rule("PX-05", "PX-07", "PX-10")
@pytest.mark.parametrize("kind", KINDS)
async def test_what_goes_upstream_is_ours_alone(upstream: Upstream, kind: str) -> None:
    """Our own verifier, nonce, state and scopes; nothing that the client chose."""
    async with deploy_proxy(upstream, kind, upstream_scopes=["openid", "profile"]) as server:
        client, browser = await server.register(), server.browser()
        wishes = {
            "scope": "mcp:read mcp:write",
            "login_hint": "mallory",
            "prompt": "login",
            "nonce": "n",
            "foo": "bar",
        }
        asked = [upstream.asked(await depart(browser, client, **wishes)) for _ in range(2)]
        for each in asked:
            assert each.pop("prompt") == "login"
            assert each["scope"] == "openid profile"
            assert each["redirect_uri"] == f"{BASE_URL}/auth/callback"
            assert each["client_id"] == CLIENT_ID
            assert each["code_challenge_method"] == "S256"
            assert each["code_challenge"] != challenge_of(client.verifier)
            assert each.get("nonce") != "n"
        known = {
            "response_type",
            "client_id",
            "redirect_uri",
            "scope",
            "state",
            "code_challenge",
            "code_challenge_method",
        }
        assert set(asked[0]) == known | ({"nonce"} if kind == "oidc" else set())
        for name in ("state", "code_challenge", *(["nonce"] if kind == "oidc" else [])):
            assert asked[0][name] != asked[1][name]


async def test_the_required_scopes_and_openid_are_asked_for_unless_others_are_named(
    upstream: Upstream,
) -> None:
    for kind, expected in (("oidc", "openid mcp:read"), ("oauth", "mcp:read")):
        async with deploy_proxy(upstream, kind) as server:
            url = await depart(server.browser(), await server.register())
            assert upstream.asked(url)["scope"] == expected


@pytest.mark.rule("PX-02")
async def test_the_consent_page_says_where_people_sign_in_and_what_is_asked_for_there(
    upstream: Upstream,
) -> None:
    async with deploy_proxy(upstream, upstream_scopes=["openid", "repo:delete"]) as server:
        client = await server.register(client_name="An odd client")
        page = await server.browser().open(client.authorization_url())
        for text in (
            "An odd client",
            upstream.issuer.removeprefix("http://"),
            "repo:delete",
            "127.0.0.1:8123",
        ):
            assert text in page.text
        assert "frame-ancestors 'none'" in (page.response.header("content-security-policy") or "")


@pytest.mark.case("P01", "P05")
@pytest.mark.rule("PX-01", "PX-04", "PX-03")
async def test_state_and_cookie_exist_only_after_the_approval(upstream: Upstream) -> None:
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        assert await server.provider.store.scan(STATES) == []
        assert not any("mcp_login" in name for name in browser.cookies)
        action, form = page.forms[0]
        await browser.send("POST", action, {**form, "action": "approve"})
        response = await browser.send("GET", page.url.replace("/consent", "/login"))
        (cookie,) = response.all("set-cookie")
        assert "mcp_login" in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert len(await server.provider.store.scan(STATES)) == 1


async def test_each_sign_in_goes_upstream_despite_a_session_here(
    upstream: Upstream,
) -> None:
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        for _ in range(2):
            await come_back(browser, upstream.approve(await depart(browser, client)))
        assert len(upstream.requests) == 2


@pytest.mark.rule("PX-06")
async def test_two_tabs_do_not_share_the_tokens_of_the_identity_provider(
    upstream: Upstream,
) -> None:
    """Each grant has its own, so that revoking one leaves the other alone."""
    async with deploy_proxy(upstream) as server:
        browser, clients = server.browser(), [await server.register() for _ in range(2)]
        urls = [await depart(browser, client) for client in clients]
        answers = [await come_back(browser, upstream.approve(url)) for url in urls]
        codes = [answer_of(answer.header("location") or "")["code"] for answer in answers]
        tokens = [
            (await client.redeem(code)).json() for client, code in zip(clients, codes, strict=True)
        ]
        assert len(await server.provider.store.scan(TOKENS)) == 2
        assert (
            await server.call(
                "POST",
                "/revoke",
                form={"client_id": clients[0].client_id, "token": tokens[0]["refresh_token"]},
            )
        ).status == 200
        await told(server)
        assert len(upstream.revoked) == 1
        assert (await clients[1].refresh(tokens[1]["refresh_token"])).status == 200


@pytest.mark.parametrize("kind", KINDS)
async def test_claims_that_are_asked_for_are_repeated_and_others_are_not(
    upstream: Upstream, kind: str
) -> None:
    upstream.people["alice"] = {"email": "alice@example.com", "groups": ["staff"], "phone": "1"}
    async with deploy_proxy(
        upstream, kind, upstream=UpstreamRules(claims=["email", "groups", "tid"])
    ) as server:
        claims = (
            await who(server, (await tokens_for(upstream, await server.register()))["access_token"])
        ).claims
        assert (claims["email"], claims["groups"]) == ("alice@example.com", ["staff"])
        assert not {"phone", "tid"} & set(claims)


async def test_a_hook_says_who_the_person_is(upstream: Upstream) -> None:
    seen: list[UpstreamIdentity] = []

    def person(identity: UpstreamIdentity) -> Person | None:
        seen.append(identity)
        return Person(subject=f"user-{identity.subject}", claims={"team": "blue"})

    async with deploy_proxy(upstream, upstream=UpstreamRules(person=person)) as server:
        access = await who(
            server, (await tokens_for(upstream, await server.register()))["access_token"]
        )
        assert (access.subject, access.claims["team"]) == ("user-alice", "blue")
        assert (seen[0].issuer, seen[0].subject, seen[0].claims["aud"]) == (
            upstream.issuer,
            "alice",
            CLIENT_ID,
        )
        assert "aud" not in repr(seen[0])


async def test_a_subject_that_is_too_long_is_hashed(upstream: Upstream) -> None:
    """OpenID Connect Core §2 allows 255 characters, and ours has the issuer in front."""
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        subjects = [
            (await who(server, (await tokens_for(upstream, client, user))["access_token"])).subject
            for user in ("a" * 250, "a" * 250, "a" * 249 + "b")
        ]
        assert subjects[0] == subjects[1] != subjects[2]
        assert all(len(each) <= 255 and each.startswith(f"{upstream.issuer}|") for each in subjects)


async def test_the_userinfo_endpoint_is_asked_if_wanted(upstream: Upstream) -> None:
    """OpenID Connect Core §5.3.2: it has to speak of the same person; the ID token has the last
    word.
    """
    upstream.people["alice"] = {"email": "from-userinfo@example.com", "groups": ["staff"]}
    upstream.id_token = {"email": "from-id-token@example.com", "groups": None}
    rules = UpstreamRules(userinfo=True, claims=["email", "groups"])
    async with deploy_proxy(upstream, upstream=rules) as server:
        client = await server.register()
        claims = (await who(server, (await tokens_for(upstream, client))["access_token"])).claims
        assert (claims["email"], claims["groups"]) == ("from-id-token@example.com", ["staff"])
        upstream.answer("/userinfo", b'{"sub":"mallory"}')
        browser = server.browser()
        response = await come_back(browser, upstream.approve(await depart(browser, client)))
        assert answer_of(response.header("location") or "")["error"] == "server_error"


@pytest.mark.parametrize(
    ("rules", "claims", "welcome"),
    [
        (
            {"allowed_domains": ["example.com"]},
            {"email": "a@example.com", "email_verified": True},
            True,
        ),
        (
            {"allowed_domains": ["Example.com"]},
            {"email": "a@EXAMPLE.com", "email_verified": "true"},
            True,
        ),
        ({"allowed_domains": ["example.com"]}, {"email": "a@example.com"}, False),
        (
            {"allowed_domains": ["example.com"]},
            {"email": "a@example.com", "email_verified": False},
            False,
        ),
        (
            {"allowed_domains": ["example.com"]},
            {"email": "a@evil.example", "email_verified": True},
            False,
        ),
        (
            {"allowed_domains": ["example.com"]},
            {"email": "a@sub.example.com", "email_verified": True},
            False,
        ),
        (
            {"allowed_domains": ["example.com"]},
            {"email": "a@evil@example.com", "email_verified": True},
            False,
        ),
        (
            {"allowed_domains": ["example.com"]},
            {"email": ["a@example.com"], "email_verified": True},
            False,
        ),
        ({"allowed_domains": ["example.com"]}, {}, False),
        (
            {"allowed_claims": {"groups": ["staff", "admins"]}},
            {"groups": ["guests", "staff"]},
            True,
        ),
        ({"allowed_claims": {"groups": ["staff"]}}, {"groups": "staff"}, True),
        ({"allowed_claims": {"groups": ["staff"]}}, {"groups": ["Staff"]}, False),
        ({"allowed_claims": {"groups": ["staff"]}}, {"groups": {"staff": True}}, False),
        (
            {"allowed_claims": {"groups": ["staff"], "tid": ["t1"]}},
            {"groups": ["staff"], "tid": "t1"},
            True,
        ),
        (
            {"allowed_claims": {"groups": ["staff"], "tid": ["t1"]}},
            {"groups": ["staff"], "tid": "t2"},
            False,
        ),
        ({"person": lambda identity: None}, {}, False),
    ],
)
async def test_who_may_come_in(
    upstream: Upstream, rules: dict[str, Any], claims: dict[str, Any], welcome: bool
) -> None:
    """Who may not is told why and whom to ask, and the tokens go back to the identity provider."""
    upstream.people["alice"] = claims
    more = UpstreamRules(**rules, contact="Ask <it@example.com>.")
    async with deploy_proxy(upstream, upstream=more) as server:
        client, browser = await server.register(redirect_uris=[WEB_REDIRECT_URI]), server.browser()
        response = await come_back(browser, upstream.approve(await depart(browser, client)))
        if welcome:
            assert "code" in answer_of(response.header("location") or "")
            return
        assert response.status == 403
        text = response.body.decode()
        assert "use this service" in text
        assert "Ask &lt;it@example.com&gt;." in text
        assert f'href="{WEB_REDIRECT_URI}?error=access_denied' in text
        assert server.reasons() == ["not_allowed"]
        await told(server)
        assert len(upstream.revoked) == 1
        assert await server.provider.store.scan(TOKENS) == []
        assert (await browser.send("GET", "/applications")).status == 303  # no person is signed in


@pytest.mark.case("P09", "P11")
@pytest.mark.rule("PX-06", "PX-12")
async def test_the_secret_and_the_tokens_of_the_identity_provider_stay_inside(
    upstream: Upstream,
) -> None:
    """In no answer, no audit event, no metadata, and encrypted in the store."""
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        seen = [repr(client.information)]
        page = await browser.open(client.authorization_url())
        page = await browser.submit(page, action="approve")
        seen.append(page.url)
        response = await come_back(browser, upstream.approve(page.url))
        seen += [repr(response.headers), response.body.decode()]
        tokens = (await client.redeem(answer_of(response.header("location") or "")["code"])).json()
        access = await who(server, tokens["access_token"])
        metadata = await server.call("GET", "/.well-known/oauth-authorization-server")
        engine: Any = server.provider.store.inner
        seen += [
            repr(tokens),
            repr(access.claims),
            metadata.body.decode(),
            repr(server.events),
            repr(vars(engine)),
        ]
        secrets = [*upstream.access, *upstream._sessions, "the secret of the proxy"]
        assert len(secrets) == 3
        assert not [secret for secret in secrets if any(secret in text for text in seen)]
        assert CLIENT_ID not in "".join(text for text in seen if text != page.url)


@pytest.mark.case("P10")
@pytest.mark.rule("PX-06", "RS-28")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_of_the_identity_provider_is_refused_here(
    upstream: Upstream, kind: str
) -> None:
    async with deploy_proxy(upstream, kind) as server:
        await tokens_for(upstream, await server.register())
        (token,) = upstream.access
        for each in (
            token,
            upstream.mint(sub="alice", aud=CLIENT_ID),
            upstream.mint(aud=server.provider.resource),
        ):
            assert (await server.call("POST", "/mcp", bearer=each)).status == 401


async def test_a_setting_that_is_wrong_is_named(upstream: Upstream) -> None:
    wrong: list[tuple[str, str, dict[str, Any]]] = [
        ("oidc", "issuer", {"issuer": None}),
        ("oidc", "config_url", {"issuer": [upstream.issuer, "https://b.example"]}),
        ("oidc", "issuer", {"issuer": "idp.example"}),
        (
            "oidc",
            "config_url",
            {"config_url": "http://idp.example/.well-known/openid-configuration"},
        ),
        ("oidc", "client_id", {"client_id": ""}),
        ("oidc", "client_secret", {"client_secret": ""}),
        (
            "oidc",
            "client_secret",
            {
                "client_secret": None,
                "upstream": UpstreamRules(client_auth_method="client_secret_post"),
            },
        ),
        ("oidc", "client_secret", {"upstream": UpstreamRules(client_auth_method="none")}),
        ("oidc", "openid", {"upstream_scopes": ["profile"]}),
        ("oidc", "upstream", {"upstream": {"userinfo": True}}),
        ("oidc", "redirect_path", {"redirect_path": "auth/callback"}),
        ("oidc", "redirect_path", {"redirect_path": "/token"}),
        (
            "oauth",
            "upstream_authorization_endpoint",
            {"upstream_authorization_endpoint": "file:///etc/passwd"},
        ),
        (
            "oauth",
            "upstream_token_endpoint",
            {"upstream_token_endpoint": "http://idp.example/token"},
        ),
        ("oauth", "upstream_revocation_endpoint", {"upstream_revocation_endpoint": "--help"}),
        ("oauth", "upstream_client_id", {"upstream_client_id": None}),
        ("oauth", "upstream_client_secret", {"upstream_client_secret": 7}),
        ("oauth", "token_verifier", {"token_verifier": "jwt"}),
        ("oauth", "upstream_scopes", {"upstream_scopes": "repo"}),
    ]
    for kind, name, settings in wrong:
        with pytest.raises(ConfigurationError, match=name):
            async with deploy_proxy(upstream, kind, **settings):
                raise AssertionError((kind, settings))


@rows(
    ("name", "value"),
    [
        ("client_auth_method", "private_key_jwt"),
        ("authorize_parameters", {"state": "x"}),
        ("authorize_parameters", [("a", "b")]),
        ("token_parameters", {"audience": 7}),
        ("reauth_prompt", ""),
        ("userinfo", "yes"),
        ("keep_tokens", None),
        ("claims", "email"),
        ("claims", ["sub"]),
        ("person", "alice"),
        ("allowed_domains", "example.com"),
        ("allowed_domains", ["@example.com"]),
        ("allowed_domains", [""]),
        ("allowed_claims", {"groups": "staff"}),
        ("allowed_claims", {"groups": []}),
        ("allowed_claims", [("groups", ["staff"])]),
        ("contact", 7),
    ],
)
async def test_a_rule_that_is_wrong_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        UpstreamRules(**{name: value})
