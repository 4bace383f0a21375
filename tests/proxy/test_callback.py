"""People who come back from the provider: too early, with an old session, or with an error that
does not say where it belongs.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from asgi_mcp_auth import ANY_AUDIENCE, IntrospectionTokenVerifier
from asgi_mcp_auth.proxy import UpstreamRules
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import Browser, ClientOf, answer_of
from tests.support.proxy import come_back, depart, deploy_proxy
from tests.support.rows import rows
from tests.support.upstream import Upstream

pytestmark = pytest.mark.asyncio

STALE = "mcp_stale_"
REFUSED = b'{"error":"invalid_grant","error_codes":[70043]}'


@pytest.mark.rule("PX-20")
async def test_a_browser_that_loads_the_page_ahead_uses_nothing_up(upstream: Upstream) -> None:
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        callback = upstream.approve(await depart(browser, client))
        for name, value in (
            ("Sec-Purpose", "prefetch"),
            ("Sec-Purpose", "prefetch;prerender"),
            ("Sec-Purpose", "Prefetch; anonymous-client-ip"),
            ("Purpose", "prefetch"),
            ("X-Purpose", "preview"),
            ("X-Moz", "prefetch"),
        ):
            early = await browser.send("GET", callback, headers={name: value})
            assert (early.status, early.header("cache-control")) == (503, "no-store")
        assert upstream.requests == []
        response = await browser.send("GET", callback, headers={"Sec-Purpose": "navigate"})
        assert "code" in answer_of(response.header("location") or "")


@pytest.mark.rule("PX-20")
async def test_a_way_to_the_provider_that_is_loaded_ahead_replaces_none(
    upstream: Upstream,
) -> None:
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        callback = upstream.approve((await browser.submit(page, action="approve")).url)
        again = f"/login?transaction={page.hidden['transaction']}"
        assert (await browser.send("GET", again, headers={"Sec-Purpose": "prefetch"})).status == 503
        assert (await come_back(browser, callback)).status == 303


async def prompt_of(upstream: Upstream, browser: Browser, client: ClientOf) -> str | None:
    """What the next sign-in asks for; it comes back with a good code."""
    url = await depart(browser, client)
    response = await come_back(browser, upstream.approve(url))
    assert "code" in answer_of(response.header("location") or "")
    return upstream.asked(url).get("prompt")


@pytest.mark.rule("PX-21")
async def test_after_a_refused_code_the_next_attempt_asks_to_sign_in_again(
    upstream: Upstream,
) -> None:
    """In this browser, for ten minutes or until a sign-in works."""
    async with deploy_proxy(upstream) as server:
        client, browser, other = await server.register(), server.browser(), server.browser()
        for error in (REFUSED, b'{"error":"interaction_required"}'):
            upstream.answer("/token", error, status=400, times=1)
            url = await depart(browser, client)
            assert "prompt" not in upstream.asked(url)
            response = await come_back(browser, upstream.approve(url))
            assert answer_of(response.header("location") or "")["error"] == "server_error"
            (kept,) = [each for each in response.all("set-cookie") if STALE in each]
            assert "; Max-Age=600; Path=/; HttpOnly; SameSite=Lax" in kept
            assert await prompt_of(upstream, other, client) is None
            assert await prompt_of(upstream, browser, client) == "login"


@pytest.mark.rule("PX-21")
@pytest.mark.parametrize(
    ("error", "prompt"),
    [
        ("login_required", "login consent"),
        ("interaction_required", "login consent"),
        ("invalid_scope", None),
        ("access_denied", None),
    ],
)
async def test_an_error_about_the_session_at_the_provider_does_the_same(
    upstream: Upstream, error: str, prompt: str | None
) -> None:
    rules = UpstreamRules(reauth_prompt="login consent")
    async with deploy_proxy(upstream, upstream=rules) as server:
        client, browser = await server.register(), server.browser()
        await come_back(browser, upstream.refuse(await depart(browser, client), error))
        assert await prompt_of(upstream, browser, client) == prompt


@pytest.mark.rule("PX-21")
@pytest.mark.parametrize("answer", [b'{"error":"invalid_client"}', b"<html>"])
async def test_what_is_not_the_persons_fault_asks_them_for_nothing(
    upstream: Upstream, answer: bytes
) -> None:
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        upstream.answer("/token", answer, status=400, times=1)
        await come_back(browser, upstream.approve(await depart(browser, client)))
        assert await prompt_of(upstream, browser, client) is None


@pytest.mark.rule("PX-21")
async def test_who_looks_at_their_applications_is_asked_to_sign_in_again_as_well(
    upstream: Upstream,
) -> None:
    async with deploy_proxy(upstream) as server:
        browser = server.browser()
        upstream.answer("/token", REFUSED, status=400, times=1)
        url = (await browser.open("/applications")).url
        assert (await come_back(browser, upstream.approve(url))).status == 502
        url = (await browser.open("/applications")).url
        assert upstream.asked(url)["prompt"] == "login"


@pytest.mark.rule("PX-22")
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"state": None, "error": "invalid_scope", "code": None},
            "The answer to a sign-in has no state, so it belongs to none: invalid_scope",
        ),
        (
            {"state": "", "error": "invalid_scope", "code": None},
            "The answer to a sign-in has no state, so it belongs to none: invalid_scope",
        ),
        (
            {"state": None, "error": "<b>\r\n", "code": None},
            "The answer to a sign-in has no state, so it belongs to none",
        ),
        (
            {"iss": None, "error": "access_denied", "code": None},
            "The answer to a sign-in does not name its provider (iss): access_denied",
        ),
        (
            {"iss": None},
            "The answer to a sign-in does not name its provider (iss)",
        ),
        (
            {"iss": "https://evil.example", "error": "invalid_scope", "code": None},
            "The answer to a sign-in comes from another identity provider (iss): invalid_scope",
        ),
    ],
)
async def test_an_error_that_lacks_something_is_in_the_log_with_its_code(
    upstream: Upstream, caplog: pytest.LogCaptureFixture, answer: dict[str, str | None], said: str
) -> None:
    caplog.set_level(logging.INFO, logger="asgi_mcp_auth.proxy")
    upstream.metadata_more = {"authorization_response_iss_parameter_supported": True}
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        response = await come_back(
            browser, upstream.approve(await depart(browser, client), **answer)
        )
        assert "code" not in answer_of(response.header("location") or "")
        assert said in caplog.messages


ANSWERS, SILENCE = "answers with an error", "cannot be reached"
NO_SERVER = "http://127.0.0.1:1"  # a port on which nothing listens
ELSEWHERE = {"location": "https://login.example/"}
TWO = ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")
# Where the provider fails; its answer there, ``None`` for none; and what people are told.
FAILURES: dict[str, tuple[str, dict[str, Any] | None, str]] = {
    "the token endpoint": ("/token", {"status": 500}, ANSWERS),
    "the token endpoint, busy": ("/token", {"status": 429}, ANSWERS),
    "the token endpoint, elsewhere": ("/token", {"status": 302, "headers": ELSEWHERE}, ANSWERS),
    "the token endpoint, at length": ("/token", {"body": b"x" * 2**20}, ANSWERS),
    "the token endpoint, silent": ("token_endpoint", None, SILENCE),
    "the userinfo endpoint": ("/userinfo", {"status": 503}, ANSWERS),
    "the userinfo endpoint, silent": ("userinfo_endpoint", None, SILENCE),
    "the keys": ("/jwks", {"status": 500}, ANSWERS),
    "the keys, gone": ("/jwks", {"status": 404}, ANSWERS),
    "the keys, a page": ("/jwks", {"body": b"<html>"}, ANSWERS),
    "the keys, silent": ("jwks_uri", None, SILENCE),
}


@pytest.mark.rule("PX-23", "RS-83")
@rows("case", FAILURES)
async def test_people_are_told_whether_the_provider_answers(case: str) -> None:
    where, answer, said = FAILURES[case]
    with Upstream(clock=FrozenClock()) as upstream:
        if answer is None:
            upstream.metadata_more = {where: NO_SERVER}
        async with deploy_proxy(upstream, upstream=UpstreamRules(userinfo=True)) as server:
            browser = server.browser()
            url = (await browser.open("/applications")).url
            if answer is not None:
                upstream.answer(where, **{"body": b"x", **answer})
            response = await come_back(browser, upstream.approve(url))
    assert response.status == 503
    assert f"The identity provider {said} at the moment" in response.body.decode()


@pytest.mark.rule("PX-23", "RS-83")
@rows(("answer", "said"), [(500, ANSWERS), (404, ANSWERS), (None, SILENCE)])
async def test_people_are_told_whether_the_providers_metadata_are_there(
    answer: int | None, said: str
) -> None:
    with Upstream(clock=FrozenClock()) as upstream:
        for place in TWO:
            upstream.fail(place, status=answer or 500)
        issuer = upstream.issuer if answer else NO_SERVER
        async with deploy_proxy(upstream, issuer=issuer) as server:
            page = await server.browser().open("/applications")
    assert page.response.status == 503
    assert f"The identity provider {said} at the moment" in page.text


@pytest.mark.rule("PX-23", "RS-83")
@rows(("status", "said"), [(500, ANSWERS), (401, ANSWERS), (None, SILENCE)])
async def test_people_are_told_whether_the_provider_answers_about_tokens(
    status: int | None, said: str
) -> None:
    with Upstream(clock=FrozenClock()) as upstream:
        settings: dict[str, Any] = {}
        if status is None:
            settings["token_verifier"] = IntrospectionTokenVerifier(
                introspection_url=f"{NO_SERVER}/introspect",
                client_id="id",
                client_secret="secret",
                audience=ANY_AUDIENCE,
            )
        else:
            upstream.answer("/introspect", b"x", status=status)
        async with deploy_proxy(upstream, "oauth", **settings) as server:
            browser = server.browser()
            url = (await browser.open("/applications")).url
            response = await come_back(browser, upstream.approve(url))
    assert response.status == 503
    assert f"The identity provider {said} at the moment" in response.body.decode()
