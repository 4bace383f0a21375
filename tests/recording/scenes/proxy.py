"""The proxy: people sign in at an identity provider behind this server."""

from __future__ import annotations

import json
from typing import Any

import httpx

from asgi_mcp_auth import OAuthProxy, OIDCProxy, UserinfoTokenVerifier
from asgi_mcp_auth.proxy import UpstreamIdentity, UpstreamRules
from asgi_mcp_auth.server import Person
from asgi_mcp_auth.testing import FrozenClock

from ..browser import Browser
from ..deployments import answer_of, authorization_url, deployment, redeem, register
from ..recorder import NOW, Place, Recorder
from ..upstream import CLIENT_ID, CLIENT_SECRET, IDP, Upstream

BASE_URL = "https://mcp.example"


def _oidc(upstream: Upstream, clock: FrozenClock, **rules: Any) -> dict[str, Any]:
    return {
        "kind": OIDCProxy,
        "issuer": IDP,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "base_url": BASE_URL,
        "upstream": UpstreamRules(http_client=upstream.client(), **rules),
        "clock": clock,
        "rate_limits": None,
    }


async def _depart(place: Place, client: dict[str, Any], browser: Browser, **parameters: str) -> str:
    """Go as far as the provider, unrecorded; return where the person was sent."""
    await browser.open(None, authorization_url(client, **parameters))
    await browser.follow(None)
    if browser.page.status == 200:
        await browser.submit(None, action="approve")
        await browser.follow(None)
    return browser.location


async def sign_in(recorder: Recorder) -> None:
    """From the client over the consent to the provider and back."""
    clock = FrozenClock(NOW)
    upstream = Upstream(clock, recorder.reports)
    settings = _oidc(upstream, clock, userinfo=True, claims=["email", "groups"])
    async with deployment(recorder, **settings) as (place, provider):
        client = await register(place, "A client registers")
        await place("The metadata", "GET", "/.well-known/oauth-authorization-server")
        browser = Browser(place)
        await browser.open("The browser arrives", authorization_url(client))
        await browser.follow("Consent comes first")
        await browser.submit("The person approves", action="approve")
        await browser.follow("And goes to the provider")
        upstream.known["upstream-access-1"] = {"sub": "alice", "groups": ["staff"]}
        back = upstream.approve(browser.location)
        await Browser(place).open("Coming back in another browser", back)
        await browser.open("A state that is not known", "/auth/callback?code=a&state=unknown")
        await browser.open("POST to the callback", back, "POST", form={"code": "a"})
        await browser.open("The person comes back", back)
        code = answer_of(browser.page)["code"]
        await browser.open("The same again", back)
        tokens = await redeem(place, client, code, "The client redeems its code")
        await place(
            "The access token opens the resource", "POST", "/mcp", bearer=tokens["access_token"]
        )
        await _upstream_tokens(place, provider, upstream, client, tokens)


async def _upstream_tokens(
    place: Place, provider: Any, upstream: Upstream, client: dict[str, Any], tokens: dict[str, Any]
) -> None:
    async def tool(scope: Any) -> dict[str, Any]:
        return {"upstream_token": await provider.get_upstream_token(scope)}

    place.behind.tool = tool
    await place(
        "A tool asks for the provider's token", "POST", "/mcp", bearer=tokens["access_token"]
    )
    place.clock.advance(3550)
    await place("The provider's token is refreshed", "POST", "/mcp", bearer=tokens["access_token"])
    form = {"grant_type": "refresh_token", "client_id": client["client_id"]}
    answer = await place(
        "Our own refresh token",
        "POST",
        "/token",
        form={**form, "refresh_token": tokens["refresh_token"]},
    )
    tokens = json.loads(answer.body)
    place.clock.advance(3545)
    upstream.answers["/token"] = 503
    access = tokens["access_token"]
    await place("The provider is down, its token still good", "POST", "/mcp", bearer=access)
    form |= {"refresh_token": tokens["refresh_token"]}
    answer = await place("Our refresh token works as long", "POST", "/token", form=form)
    tokens = json.loads(answer.body)
    form |= {"refresh_token": tokens["refresh_token"]}
    place.clock.advance(60)
    await place("The provider's token has expired", "POST", "/mcp", bearer=tokens["access_token"])
    await place("So our refresh token does not work", "POST", "/token", form=form)
    upstream.answers["/token"] = {"error": "invalid_grant"}
    place.clock.advance(60)
    await place("The provider has ended the sign-in", "POST", "/token", form=form)
    await place("So the grant has ended", "POST", "/token", form=form)


ANSWERS: dict[str, dict[str, str | None]] = {
    "The person said no": {"code": None, "error": "access_denied"},
    "The provider is busy": {"code": None, "error": "temporarily_unavailable"},
    "The provider refuses the proxy": {"code": None, "error": "invalid_scope"},
    "An answer of another provider": {"iss": "https://other.example"},
    "An answer without a code": {"code": None},
}
TOKENS: dict[str, Any] = {
    "The token endpoint does not know the code": {"error": "invalid_grant"},
    "The token endpoint refuses the proxy": 401,
    "The token endpoint is down": 503,
    "The token endpoint cannot be reached": httpx.ConnectError("refused"),
    "There is no ID token": {"access_token": "a", "token_type": "Bearer"},
    "There is no access token": {"token_type": "Bearer"},
    "The token type is another one": {"access_token": "a", "token_type": "DPoP"},
}
ID_TOKENS: dict[str, dict[str, Any]] = {
    "The ID token is of another sign-in": {"nonce": "other"},
    "The ID token is for another client": {"aud": "other"},
    "The ID token is of another issuer": {"iss": "https://other.example"},
    "The ID token has expired": {"exp": int(NOW)},
    "The ID token belongs to another access token": {"at_hash": "other"},
    "The ID token has another party": {"azp": "other"},
    "The ID token names no person": {"sub": None},
}


async def failures(recorder: Recorder) -> None:
    """What goes wrong at the provider, as the client is told."""
    clock = FrozenClock(NOW)
    upstream = Upstream(clock, recorder.reports)
    async with deployment(recorder, **_oidc(upstream, clock)) as (place, _):
        client = await register(place)
        for sentence, answer in ANSWERS.items():
            browser = Browser(place)
            back = upstream.approve(await _depart(place, client, browser), **answer)
            await browser.open(sentence, back)
        for sentence, document in TOKENS.items():
            browser = Browser(place)
            back = upstream.approve(await _depart(place, client, browser))
            upstream.answers["/token"] = document
            await browser.open(sentence, back)
            del upstream.answers["/token"]
        for sentence, claims in ID_TOKENS.items():
            browser = Browser(place)
            upstream.id_token = claims
            await browser.open(sentence, upstream.approve(await _depart(place, client, browser)))
        upstream.id_token = {}
        upstream.signer = "stranger"
        clock.advance(30)
        browser = Browser(place)
        await browser.open(
            "The ID token is signed by a stranger",
            upstream.approve(await _depart(place, client, browser)),
        )


async def without_metadata(recorder: Recorder) -> None:
    """The provider cannot be found."""
    clock = FrozenClock(NOW)
    upstream = Upstream(clock, recorder.reports)
    usual = upstream.answers.pop("/.well-known/openid-configuration")
    async with deployment(recorder, **_oidc(upstream, clock)) as (place, _):
        client = await register(place)
        browser = Browser(place)
        await browser.open(None, authorization_url(client))
        await browser.follow(None)
        await browser.submit(None, action="approve")
        page = browser.page
        await browser.follow("The provider has no metadata")
        clock.advance(60)
        upstream.answers["/.well-known/openid-configuration"] = usual
        await browser.open("The transaction is over", page.header("location"))
        await _depart(place, client, browser, prompt="login")
        await browser.open(
            "A new one, with prompt=login", authorization_url(client, prompt="login")
        )


async def admission(recorder: Recorder) -> None:
    """Who of the provider's people may come in."""

    def person(identity: UpstreamIdentity) -> Person | None:
        return (
            None if identity.subject == "mallory" else Person(subject=f"local-{identity.subject}")
        )

    clock = FrozenClock(NOW)
    upstream = Upstream(clock, recorder.reports)
    rules = {
        "allowed_domains": ["example.com"],
        "allowed_claims": {"groups": ["staff"]},
        "person": person,
    }
    async with deployment(recorder, **_oidc(upstream, clock, contact="Ask us.", **rules)) as (
        place,
        _,
    ):
        client = await register(place)
        cases: dict[str, dict[str, Any]] = {
            "Of another domain": {"email": "alice@other.example", "groups": ["staff"]},
            "With an address that is not verified": {"email_verified": False, "groups": ["staff"]},
            "Of another group": {"groups": ["guests"]},
            "The operator's function says no": {"sub": "mallory", "groups": "staff"},
            "The operator's function says yes": {"groups": ["guests", "staff"]},
        }
        browser = Browser(place)
        for sentence, claims in cases.items():
            upstream.id_token = claims
            browser.cookies.clear()
            await browser.open(sentence, upstream.approve(await _depart(place, client, browser)))
        tokens = await redeem(
            place, client, answer_of(browser.page)["code"], "The subject is the operator's"
        )
        form = {"token": tokens["refresh_token"], "client_id": client["client_id"]}
        await place("Revoking gives the provider's tokens back", "POST", "/revoke", form=form)


async def plain_oauth(recorder: Recorder) -> None:
    """A provider that knows OAuth, without ID tokens."""
    clock = FrozenClock(NOW)
    upstream = Upstream(clock, recorder.reports)
    verifier = UserinfoTokenVerifier(
        userinfo_url=f"{IDP}/userinfo",
        subject_claim="id",
        http_client=upstream.client(),
        clock=clock,
    )
    settings: dict[str, Any] = {
        "kind": OAuthProxy,
        "upstream_authorization_endpoint": f"{IDP}/authorize",
        "upstream_token_endpoint": f"{IDP}/token",
        "upstream_revocation_endpoint": f"{IDP}/revoke",
        "upstream_client_id": CLIENT_ID,
        "upstream_client_secret": CLIENT_SECRET,
        "upstream_scopes": ["read:user"],
        "redirect_path": "/back",
        "token_verifier": verifier,
        "base_url": BASE_URL,
        "upstream": UpstreamRules(
            http_client=upstream.client(),
            client_auth_method="client_secret_post",
            authorize_parameters={"access_type": "offline"},
            token_parameters={"audience": "api"},
        ),
        "clock": clock,
        "rate_limits": None,
    }
    upstream.known["upstream-access-1"] = {"id": 7, "login": "alice"}
    async with deployment(recorder, **settings) as (place, _):
        client = await register(place)
        browser = Browser(place)
        await browser.open(None, authorization_url(client))
        await browser.follow("The consent page says what the provider is asked for")
        await browser.submit(None, action="approve")
        await browser.follow("The person goes to the provider")
        await browser.open("And comes back", upstream.approve(browser.location))
        await redeem(
            place,
            client,
            answer_of(browser.page)["code"],
            "The subject has the provider's name in it",
        )
        browser = Browser(place)
        back = upstream.approve(
            await _depart(place, client, browser), code=None, error="access_denied"
        )
        await browser.open("The person said no", back)
        browser = Browser(place)
        await browser.open(
            "The access token is not good", upstream.approve(await _depart(place, client, browser))
        )


SCENES = {
    "A person signs in at a provider with OpenID Connect": sign_in,
    "Failures of the provider": failures,
    "The provider's metadata is missing": without_metadata,
    "Who may come in": admission,
    "A provider with plain OAuth": plain_oauth,
}
