"""A login step of the application's own: it sends people to an identity provider after consent.

It has the duties of a proxy to an identity provider.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from asgi_mcp_auth import ConfigurationError, OAuthProvider
from asgi_mcp_auth.errors import AccessDenied, ExpiredForm, InvalidGrant
from asgi_mcp_auth.server import Login, Person
from asgi_mcp_auth.server.login import LoginAttempt, LoginForm, LoginHost, LoginRedirect
from asgi_mcp_auth.server.records import hash_of, new_secret
from tests.support.asgi import Response
from tests.support.authorization_server import (
    BASE_URL,
    WEB_REDIRECT_URI,
    Browser,
    ClientOf,
    Page,
    Server,
    answer_of,
    deploy,
)
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

UPSTREAM = "https://idp.example/authorize"
STATES = "upstream"


class UpstreamLogin(Login):
    """Sends people to an identity provider, which says ``user`` in the end, or ``error``."""

    skips_session = True
    consent_before_login = True
    callback_path = "/auth/callback"

    def bind(self, host: LoginHost) -> None:
        self.store = host.store

    async def find_transaction(self, parameters: Mapping[str, str]) -> str | None:
        record = await self.store.get(STATES, hash_of(parameters.get("state", "")))
        return None if record is None else json.loads(record.value)["transaction"]

    async def sign_in(self, attempt: LoginAttempt) -> Person | LoginForm | LoginRedirect:
        state = attempt.parameters.get("state")
        if state is None:
            state = new_secret()
            record = json.dumps({"transaction": attempt.transaction}).encode()
            await self.store.put(STATES, hash_of(state), record, ttl=600)
            prompt = "&prompt=login" if attempt.force_login else ""
            return LoginRedirect(f"{UPSTREAM}?state={state}{prompt}", cookie=state)
        if await self.store.take(STATES, hash_of(state)) is None or attempt.cookie != state:
            raise ExpiredForm
        if "error" in attempt.parameters:
            raise AccessDenied("The identity provider said no")
        return Person(subject=attempt.parameters["user"])


@asynccontextmanager
async def upstream(**settings: Any) -> AsyncIterator[Server]:
    """Run a server whose people sign in at an identity provider."""
    async with deploy(login=UpstreamLogin(), **settings) as server:
        yield server


def login_cookies(browser: Browser) -> list[str]:
    """Return the cookies that a login step has left."""
    return [name for name in browser.cookies if "mcp_login_" in name]


async def approve(browser: Browser, client: ClientOf, **parameters: str | None) -> str:
    """Consent; return the state with which the identity provider is opened."""
    page = await browser.open(client.authorization_url(**parameters))
    assert page.url.startswith(f"{BASE_URL}/consent?"), page.url
    return state_of(await browser.submit(page, action="approve"))


def state_of(page: Page) -> str:
    """Return the state of a request to the identity provider."""
    assert page.url.startswith(f"{UPSTREAM}?"), page.url
    return parse_qs(urlsplit(page.url).query)["state"][0]


async def come_back(browser: Browser, state: str, user: str = "alice") -> Response:
    """Return from the identity provider."""
    return await browser.send("GET", f"/auth/callback?state={state}&user={user}")


@pytest.mark.case("P01")
@pytest.mark.rule("PX-01")
async def test_people_consent_before_they_go_upstream_and_come_back_with_a_code() -> None:
    async with upstream() as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        assert "You will sign in next" in page.text
        assert "Use another account" not in page.text
        response = await come_back(browser, await approve(browser, client))
        answer = answer_of(response.header("location") or "")
        assert (await client.redeem(answer["code"])).status == 200
        assert [event.subject for event in server.events if event.action == "token_issued"] == [
            "alice"
        ]


@pytest.mark.case("P05")
@pytest.mark.rule("PX-04")
async def test_before_approval_there_is_neither_a_state_nor_a_cookie() -> None:
    async with upstream() as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        assert login_cookies(browser) == []
        assert await server.provider.store.scan(STATES) == []
        state = state_of(await browser.submit(page, action="approve"))
        (name,) = login_cookies(browser)
        assert browser.cookies[name] == state
        await come_back(browser, state)
        assert login_cookies(browser) == []  # and it goes away again


@pytest.mark.rule("PX-01")
async def test_there_is_no_way_upstream_around_the_consent() -> None:
    async with upstream() as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        for target in (
            page.url.replace("/consent", "/login"),
            page.url.replace("/consent", "/login") + "&state=x",
        ):
            response = await browser.send("GET", target)
            assert response.header("location") == page.url
        form = {
            "transaction": page.hidden["transaction"],
            "csrf": page.hidden["csrf"],
            "user": "alice",
        }
        assert (await browser.send("POST", "/login", form)).status == 403
        assert await server.provider.store.scan(STATES) == []


async def test_a_person_who_denies_never_goes_upstream() -> None:
    """The client is told, also one that registered itself for the web: a person has decided."""
    async with upstream() as server:
        client, browser = await server.register(redirect_uris=[WEB_REDIRECT_URI]), server.browser()
        page = await browser.open(client.authorization_url())
        answer = answer_of((await browser.submit(page, action="deny")).url)
        assert answer["error"] == "access_denied"
        assert await server.provider.store.scan(STATES) == []


@pytest.mark.case("P02")
@pytest.mark.rule("PX-08")
async def test_another_browser_cannot_come_back() -> None:
    async with upstream() as server:
        client, browser = await server.register(), server.browser()
        state = await approve(browser, client)
        other = server.browser()
        assert (await come_back(other, state)).status == 403
        await approve(other, client)
        assert (await come_back(other, state, "mallory")).status == 403
        assert server.reasons() == ["other_browser", "other_browser"]
        assert "code" in answer_of((await come_back(browser, state)).header("location") or "")


@pytest.mark.case("P04")
async def test_a_state_is_unknown_missing_used_or_anothers() -> None:
    async with upstream() as server:
        client, browser = await server.register(), server.browser()
        first, second = await approve(browser, client), await approve(browser, client)
        for target in (
            "/auth/callback",
            "/auth/callback?state=",
            "/auth/callback?state=x",
            "/auth/callback?user=alice",
        ):
            assert (await browser.send("GET", target)).status == 400
        assert (
            await browser.send("GET", f"/auth/callback?state={first}&state={second}")
        ).status == 400
        assert (
            await browser.send("POST", "/auth/callback", {"state": first, "user": "alice"})
        ).status == 405
        assert (await come_back(browser, first)).status == 303
        assert (await come_back(browser, first)).status == 400
        assert "code" in answer_of((await come_back(browser, second)).header("location") or "")


@pytest.mark.rule("PX-04")
async def test_without_its_cookie_a_state_is_worth_nothing() -> None:
    async with upstream() as server:
        client, browser = await server.register(), server.browser()
        state = await approve(browser, client)
        del browser.cookies[login_cookies(browser)[0]]
        assert (await come_back(browser, state)).status == 400
        assert server.reasons() == ["expired_form"]


@pytest.mark.rule("PX-09")
async def test_an_error_upstream_is_told_to_the_client() -> None:
    async with upstream() as server:
        client, browser = await server.register(redirect_uris=[WEB_REDIRECT_URI]), server.browser()
        state = await approve(browser, client)
        response = await browser.send("GET", f"/auth/callback?state={state}&error=access_denied")
        answer = answer_of(response.header("location") or "")
        assert (answer["error"], answer["error_description"]) == (
            "access_denied",
            "The identity provider said no",
        )
        assert (answer["state"], answer["iss"]) == ("the-state", BASE_URL)


async def test_each_request_goes_upstream_and_a_remembered_consent_only_saves_the_page() -> None:
    async with upstream() as server:
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI])
        browser = Browser(server, headers={"Sec-Fetch-Site": "same-origin"})
        await come_back(browser, await approve(browser, client))
        state = state_of(await browser.open(client.authorization_url()))
        assert "code" in answer_of((await come_back(browser, state)).header("location") or "")
        browser.headers = {"Sec-Fetch-Site": "cross-site"}  # P03
        assert (await browser.open(client.authorization_url())).url.startswith(
            f"{BASE_URL}/consent"
        )


async def test_what_alice_approved_before_bob_is_asked_about() -> None:
    """Another person signed in upstream this time: the page comes afterwards."""
    async with upstream() as server:
        client = await server.register(redirect_uris=[WEB_REDIRECT_URI])
        browser = Browser(server, headers={"Sec-Fetch-Site": "same-origin"})
        await come_back(browser, await approve(browser, client))
        state = state_of(await browser.open(client.authorization_url()))
        page = await browser.open((await come_back(browser, state, "bob")).header("location") or "")
        assert page.url.startswith(f"{BASE_URL}/consent?")
        assert "bob" in page.text
        assert "code" in answer_of((await browser.submit(page, action="approve")).url)


async def test_who_may_grant_less_than_was_approved_grants_less() -> None:
    options = {
        "grant_scopes": lambda person, client, scopes: [
            each for each in scopes if each != "mcp:write"
        ]
    }
    async with upstream(options=options) as server:
        client, browser = await server.register(), server.browser()
        state = await approve(browser, client, scope="mcp:read mcp:write")
        code = answer_of((await come_back(browser, state)).header("location") or "")["code"]
        assert (await client.redeem(code)).json()["scope"] == "mcp:read"


async def test_a_double_click_on_allow_leads_upstream_and_only_its_last_state_counts() -> None:
    async with upstream() as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        states = [state_of(await browser.submit(page, action="approve")) for _ in range(2)]
        assert (await come_back(browser, states[0])).status == 400
        assert (await come_back(browser, states[1])).status == 303


@pytest.mark.case("Z37")
async def test_two_tabs_come_back_in_any_order() -> None:
    async with upstream() as server:
        browser = server.browser()
        clients = [await server.register() for _ in range(2)]
        states = [await approve(browser, client) for client in clients]
        for client, state in reversed(list(zip(clients, states, strict=True))):
            code = answer_of((await come_back(browser, state)).header("location") or "")["code"]
            assert (await client.redeem(code)).status == 200


async def test_two_people_who_come_back_for_one_approval_get_one_code() -> None:
    """The state is taken once, but the step may have been begun twice."""
    async with upstream() as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        state = state_of(await browser.submit(page, action="approve"))
        assert (await come_back(browser, state, "alice")).status == 303
        again = state_of(await browser.open(page.url.replace("/consent", "/login") + "&again=1"))
        assert (await come_back(browser, again, "bob")).status == 400
        assert len(await server.provider.store.scan("code")) == 1


async def test_a_fresh_sign_in_is_passed_on() -> None:
    async with upstream() as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url(prompt="login"))
        page = await browser.submit(page, action="approve")
        assert page.url.endswith("&prompt=login")
        assert "code" in answer_of(
            (await come_back(browser, state_of(page))).header("location") or ""
        )


async def test_the_applications_are_behind_the_same_step() -> None:
    async with upstream() as server:
        browser = server.browser()
        state = state_of(await browser.open(f"{BASE_URL}/applications"))
        response = await come_back(browser, state)
        assert response.header("location") == f"{BASE_URL}/applications"
        assert b"alice" in (await browser.send("GET", "/applications")).body


async def test_a_step_without_a_callback_has_none() -> None:
    async with deploy() as server:
        for path in ("/auth/callback", "/callback"):
            response = await server.call("GET", path)
            # the app's
            assert (response.status, response.header("content-type")) == (401, "application/json")


@rows("cookie", ["a b", "a;b", "x" * 257, "é", "a\r\nb"])
async def test_what_a_cookie_cannot_hold_is_refused(cookie: str) -> None:
    class Odd(Login):
        async def sign_in(self, attempt: LoginAttempt) -> LoginRedirect:
            return LoginRedirect("https://idp.example/", cookie=cookie)

    async with deploy(login=Odd()) as server:
        client = await server.register()
        with pytest.raises(ConfigurationError, match=r"LoginRedirect\.cookie"):
            await server.browser().open(client.authorization_url())


@rows("login", [None, "password", object(), UpstreamLogin])
async def test_the_way_to_sign_in_has_to_be_said(login: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"PasswordLogin.*AppLogin.*DevLogin"):
        OAuthProvider(base_url=BASE_URL, login=login, store="memory:")


async def test_a_step_with_the_old_names_still_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"Old\.") as warnings:

        class Old(UpstreamLogin):
            every_time = False
            consent_first = False

            async def renew(self, person: Person, seconds: float) -> Person | None:
                raise InvalidGrant(reason="sign_in_ended")

            async def ended(self, person: Person) -> None:
                """Do nothing."""

    assert [str(warning.message) for warning in warnings] == [
        "Old.every_time is deprecated: rename it to skips_session",
        "Old.consent_first is deprecated: rename it to consent_before_login",
        "Old.renew is deprecated: rename it to reauthorize",
        "Old.ended is deprecated: rename it to on_grant_ended",
    ]
    assert warnings[0].filename == __file__
    assert (Old.skips_session, Old.consent_before_login) == (False, False)
    assert (Old.reauthorize, Old.on_grant_ended) == (Old.renew, Old.ended)


async def test_a_step_that_refuses_under_the_old_name_ends_the_grant() -> None:
    with pytest.warns(DeprecationWarning, match=r"Old\.renew"):

        class Old(UpstreamLogin):
            async def renew(self, person: Person, seconds: float) -> Person | None:
                raise InvalidGrant(reason="sign_in_ended")

    async with deploy(login=Old()) as server:
        client, browser = await server.register(), server.browser()
        response = await come_back(browser, await approve(browser, client))
        code = answer_of(response.header("location") or "")["code"]
        assert (await client.redeem(code)).json()["error"] == "invalid_grant"


async def test_an_override_under_the_old_name_may_call_the_one_that_it_overrides() -> None:
    class New(UpstreamLogin):
        async def reauthorize(self, person: Person, seconds: float) -> Person | None:
            raise InvalidGrant(reason="sign_in_ended")

    with pytest.warns(DeprecationWarning, match=r"Old\.renew"):

        class Old(New):
            async def renew(self, person: Person, seconds: float) -> Person | None:
                return await super().renew(person, seconds)

    with pytest.raises(InvalidGrant):
        await Old().reauthorize(Person(subject="alice"), 1)
    with pytest.warns(DeprecationWarning, match=r"Base\.ended"):

        class Base(UpstreamLogin):
            async def ended(self, person: Person) -> None:
                return await super().ended(person)

    await Base().on_grant_ended(Person(subject="alice"))


async def test_an_old_name_that_an_instance_sets_has_its_effect() -> None:
    class Step(UpstreamLogin):
        skips_session = False

        def __init__(self) -> None:
            super().__init__()
            self.every_time = True

    with pytest.warns(DeprecationWarning, match=r"Step\.every_time") as warnings:
        step = Step()
    assert warnings[0].filename == __file__
    assert step.skips_session


async def test_an_old_name_in_a_mixin_has_its_effect() -> None:
    class Mixin:
        consent_first = True

        async def renew(self, person: Person, seconds: float) -> Person | None:
            raise InvalidGrant(reason="sign_in_ended")

    class Base(UpstreamLogin):
        consent_before_login = False

    with pytest.warns(DeprecationWarning, match=r"Step\.(consent_first|renew)") as warnings:

        class Step(Mixin, Base):
            """Has nothing of its own."""

    class Below(Step):
        """Inherits from a step that has warned."""

    assert len(warnings) == 2
    assert Step.consent_before_login
    assert Below.consent_before_login
    with pytest.raises(InvalidGrant):
        await Below().reauthorize(Person(subject="alice"), 1)
