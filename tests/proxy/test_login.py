"""The proxy's login step at its edges: accepted answers, deadlines, subjects, messages."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from asgi_mcp_auth import AccessToken, IntrospectionTokenVerifier, TokenVerifier
from asgi_mcp_auth.claims import ANY_AUDIENCE
from asgi_mcp_auth.proxy import UpstreamRules
from asgi_mcp_auth.server import Lifetimes
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT
from asgi_mcp_auth.tokens import SCOPE_KEY
from tests.support.authorization_server import Browser, answer_of
from tests.support.proxy import come_back, depart, deploy_proxy, tokens_for
from tests.support.upstream import Upstream

pytestmark = pytest.mark.asyncio

STATES, TOKENS = "upstream_state", "upstream"


def login_cookie(browser: Browser) -> str:
    """Return the name of the one cookie that the step has left."""
    (name,) = [name for name in browser.cookies if "mcp_login_" in name]
    return name


@pytest.mark.rule("PX-04")
@pytest.mark.parametrize("value", [None, "", "x" * 43])
async def test_a_state_without_its_cookie_is_worth_nothing_and_is_not_used_up(
    upstream: Upstream, value: str | None
) -> None:
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        callback = upstream.approve(await depart(browser, client))
        name = login_cookie(browser)
        kept = browser.cookies.pop(name)
        if value is not None:
            browser.cookies[name] = value
        assert (await come_back(browser, callback)).status == 400
        assert upstream.requests == []
        browser.cookies[name] = kept
        assert (await come_back(browser, callback)).status == 303


@pytest.mark.rule("PX-04")
async def test_of_two_departures_for_one_approval_the_last_one_counts(
    upstream: Upstream,
) -> None:
    """A double click, or the back button: each has a state, a verifier and a cookie of its own."""
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        first, second = [
            upstream.approve((await browser.submit(page, action="approve")).url) for _ in range(2)
        ]
        assert (await come_back(browser, first)).status == 400
        assert upstream.requests == []
        assert "code" in answer_of((await come_back(browser, second)).header("location") or "")


@pytest.mark.case("P04")
async def test_a_state_does_not_fit_another_transaction(upstream: Upstream) -> None:
    """Both are of this browser; the answer to the one is brought to the page of the other."""
    async with deploy_proxy(upstream) as server:
        browser, clients = server.browser(), [await server.register() for _ in range(2)]
        page = await browser.open(clients[0].authorization_url())
        other = upstream.approve((await browser.submit(page, action="approve")).url)
        mine = page.hidden["transaction"]
        callback = upstream.approve(await depart(browser, clients[1]))
        sent = {name: values[0] for name, values in parse_qs(urlsplit(callback).query).items()}
        # The cookie has the transaction in its name, so an attacker would have to move its value as
        # well.
        theirs, ours = (name for name in reversed(browser.cookies) if "mcp_login_" in name)
        before, browser.cookies[ours] = browser.cookies[ours], browser.cookies[theirs]
        response = await browser.send("GET", f"/login?{urlencode({**sent, 'transaction': mine})}")
        assert response.status == 400
        assert upstream.requests == []
        browser.cookies[ours] = before
        assert (await come_back(browser, other)).status == 303


@pytest.mark.rule("PX-04")
@pytest.mark.parametrize(("transaction_seconds", "stays_for"), [(600, 600), (60, 60), (3600, 600)])
async def test_a_state_lasts_as_long_as_the_transaction_and_ten_minutes_at_most(
    upstream: Upstream, transaction_seconds: int, stays_for: int
) -> None:
    async with deploy_proxy(
        upstream, lifetimes=Lifetimes(transaction_seconds=transaction_seconds)
    ) as server:
        client, browser = await server.register(), server.browser()
        callback = upstream.approve(await depart(browser, client))
        server.clock.advance(stays_for - 0.1)
        assert len(await server.provider.store.scan(STATES)) == 1
        server.clock.advance(0.1)
        assert await server.provider.store.scan(STATES) == []
        assert (await come_back(browser, callback)).status == 400


async def test_the_tokens_of_a_sign_in_wait_for_the_code_a_minute_longer_than_it_can_take(
    upstream: Upstream,
) -> None:
    async with deploy_proxy(
        upstream, lifetimes=Lifetimes(transaction_seconds=100, code_seconds=30)
    ) as server:
        client, browser = await server.register(), server.browser()
        await come_back(browser, upstream.approve(await depart(browser, client)))
        server.clock.advance(189.9)
        assert len(await server.provider.store.scan(TOKENS)) == 1
        server.clock.advance(0.1)
        assert await server.provider.store.scan(TOKENS) == []


@pytest.mark.rule("PX-18")
@pytest.mark.parametrize(("length", "fine"), [(1, True), (16_000, True), (16_384, False)])
async def test_a_code_is_as_long_as_a_request_can_be(
    upstream: Upstream, length: int, fine: bool
) -> None:
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        await come_back(browser, upstream.approve(await depart(browser, client), code="c" * length))
        assert len(upstream.requests) == fine


async def test_without_scopes_none_are_asked_for(upstream: Upstream) -> None:
    """And no person is made to sign in again without need."""
    async with deploy_proxy(upstream, "oauth", upstream_scopes=[]) as server:
        asked = upstream.asked(await depart(server.browser(), await server.register()))
        assert {"scope", "prompt"}.isdisjoint(asked)
        assert asked["response_type"] == "code"


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        (
            {
                "name": "Alice A.",
                "preferred_username": "al",
                "email": "a@example.com",
                "login": "alice42",
            },
            "Alice A.",
        ),
        ({"preferred_username": "al", "email": "a@example.com", "login": "alice42"}, "al"),
        ({"email": "a@example.com", "login": "alice42"}, "a@example.com"),
        ({"login": "alice42"}, "alice42"),
        ({"name": "", "login": "alice42"}, "alice42"),
        ({"name": "a\u202eb", "login": "alice42"}, "alice42"),
        ({"name": 7, "login": "alice42"}, "alice42"),
        ({"name": "n" * 300}, "n" * 255),
        ({}, None),
    ],
)
async def test_what_the_pages_call_people(
    upstream: Upstream, claims: dict[str, Any], name: str | None
) -> None:
    upstream.people["alice"] = claims
    async with deploy_proxy(upstream) as server:
        await tokens_for(upstream, await server.register())
        ((_, grant),) = [each async for each in server.provider.admin.grants()]
        assert grant.person is not None
        assert grant.person.name == name


@pytest.mark.parametrize(("length", "is_hashed"), [(0, False), (1, True)])
async def test_a_subject_of_255_characters_is_left_as_it_is(
    upstream: Upstream, length: int, is_hashed: bool
) -> None:
    room = 255 - len(upstream.issuer) - 1
    async with deploy_proxy(upstream) as server:
        await tokens_for(upstream, await server.register(), "a" * (room + length))
        ((_, grant),) = [each async for each in server.provider.admin.grants()]
        issuer, _, subject = grant.subject.partition("|")
        assert issuer == upstream.issuer
        assert (len(subject) == 43) == is_hashed


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"iss": "https://evil.example"},
            "The answer to a sign-in comes from another identity provider (iss)",
        ),
        (
            {"code": None},
            "The identity provider's answer to a sign-in has neither a code nor an error",
        ),
        ({"code": "made-up"}, "The identity provider rejected the code of a sign-in"),
        (
            {"error": "invalid_scope"},
            "The identity provider answered a sign-in with an error: invalid_scope",
        ),
        (
            {"error": "<b>"},
            "The identity provider answered a sign-in with an error: an invalid error code",
        ),
        (
            {"error": "a" * 65},
            "The identity provider answered a sign-in with an error: an invalid error code",
        ),
    ],
)
async def test_the_log_says_why_a_sign_in_failed(
    upstream: Upstream, caplog: pytest.LogCaptureFixture, answer: dict[str, str | None], said: str
) -> None:
    caplog.set_level(logging.INFO, logger="asgi_mcp_auth.proxy")
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        await come_back(browser, upstream.approve(await depart(browser, client), **answer))
        assert said in caplog.messages


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"nonce": "another"}, "the ID token belongs to another sign-in (nonce)"),
        ({"azp": "another"}, "the ID token was issued to another client (azp)"),
        ({"at_hash": "x"}, "the ID token does not belong to the access token (at_hash)"),
        ({"exp": 1}, "the ID token is invalid (expired)"),
    ],
)
async def test_the_log_says_what_is_wrong_with_an_id_token(
    upstream: Upstream, caplog: pytest.LogCaptureFixture, claims: dict[str, Any], said: str
) -> None:
    upstream.id_token = claims
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        await come_back(browser, upstream.approve(await depart(browser, client)))
        assert f"A sign-in at the identity provider failed: {said}" in caplog.messages


@pytest.mark.parametrize("contact", [None, "Ask the help desk."])
async def test_who_is_turned_away_by_the_hook_is_told_so(
    upstream: Upstream, contact: str | None
) -> None:
    rules = UpstreamRules(person=lambda identity: None, contact=contact)
    async with deploy_proxy(upstream, upstream=rules) as server:
        client, browser = await server.register(), server.browser()
        text = (
            await come_back(browser, upstream.approve(await depart(browser, client)))
        ).body.decode()
        assert "Your account is not allowed to use this service." in text
        assert ("Ask the help desk." in text) == (contact is not None)
        assert "None" not in text


async def test_who_is_turned_away_by_a_rule_is_told_which(upstream: Upstream) -> None:
    for rules, said in (
        (
            UpstreamRules(allowed_domains=["example.com"]),
            "Only people with a verified email address at certain organizations",
        ),
        (
            UpstreamRules(allowed_claims={"tid": ["t1"]}),
            "Your account is not allowed to use this service.",
        ),
    ):
        async with deploy_proxy(upstream, upstream=rules) as server:
            client, browser = await server.register(), server.browser()
            text = (
                await come_back(browser, upstream.approve(await depart(browser, client)))
            ).body.decode()
            assert said in text


async def test_keys_and_metadata_are_fetched_once_for_many_sign_ins(upstream: Upstream) -> None:
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        for user in ("alice", "bob", "carol"):
            await tokens_for(upstream, client, user)
        assert upstream.hits["/jwks"] == 1
        assert upstream.hits["/.well-known/oauth-authorization-server"] == 1


async def test_new_metadata_may_name_other_keys(upstream: Upstream) -> None:
    with Upstream(clock=upstream.clock) as other:
        async with deploy_proxy(upstream) as server:
            client = await server.register()
            await tokens_for(upstream, client)
            upstream.metadata_more = {"jwks_uri": other.jwks_uri}
            upstream.keys = other.keys
            server.clock.advance(3601)
            await tokens_for(upstream, client)
            assert other.hits["/jwks"] == 1


class Opaque(TokenVerifier):
    """A custom verifier without reasons: it goes by the name of the token's owner."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self._upstream = upstream

    def bind_audience(self, resource: str | None) -> None: ...

    async def verify_token(self, token: str) -> AccessToken | None:
        user = self._upstream.access.get(token)
        if user == "nobody":
            return AccessToken(token=token, client_id="c", scopes=[])
        return (
            None
            if user in (None, "mallory")
            else AccessToken(token=token, client_id="c", scopes=[], subject=user)
        )


async def test_a_custom_verifier_decides_and_the_sign_in_page_names_the_provider(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with deploy_proxy(upstream, "oauth", token_verifier=Opaque(upstream)) as server:
        client = await server.register()
        tokens = await tokens_for(upstream, client)
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
        assert server.spy.scope[SCOPE_KEY].subject == f"{upstream.issuer}|alice"
        for user, said in (
            ("mallory", "the access token is invalid"),
            ("nobody", "the access token has no usable subject"),
        ):
            browser = server.browser()
            response = await come_back(
                browser, upstream.approve(await depart(browser, client), user)
            )
            assert answer_of(response.header("location") or "")["error"] == "server_error"
            assert f"A sign-in at the identity provider failed: {said}" in caplog.messages


async def test_of_several_issuers_the_token_says_which(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """And one that says none is of the server where people signed in."""
    second = "https://second.example"
    verifier = IntrospectionTokenVerifier(
        introspection_url=upstream.introspection_url,
        client_id=INTROSPECTION_CLIENT[0],
        client_secret=INTROSPECTION_CLIENT[1],
        issuer=[second, upstream.issuer],
        audience=ANY_AUDIENCE,
        clock=upstream.clock,
    )
    async with deploy_proxy(upstream, "oauth", token_verifier=verifier) as server:
        for claims, issuer in (
            ({"iss": second}, second),
            ({"iss": upstream.issuer}, upstream.issuer),
        ):
            upstream.people["alice"] = claims
            await tokens_for(upstream, await server.register())
            subjects = {grant.subject async for _, grant in server.provider.admin.grants()}
            assert f"{issuer}|alice" in subjects
        upstream.answer("/introspect", b'{"active":false}', times=1)
        browser, client = server.browser(), await server.register()
        await come_back(browser, upstream.approve(await depart(browser, client)))
        assert (
            "A sign-in at the identity provider failed: the access token is invalid (inactive)"
            in caplog.messages
        )
