"""A person's way through the pages: signing in, consenting, taking it back, leaving."""

from __future__ import annotations

from typing import Any

from asgi_mcp_auth import AppLogin, PasswordLogin
from asgi_mcp_auth.server import Pages, Person, RateLimits, hash_password

from ..browser import Browser
from ..deployments import (
    WEB_REDIRECT_URI,
    authorization_url,
    code_for,
    deployment,
    register,
)
from ..recorder import Recorder

ON_THE_WEB = "https://auth.example"


async def consent(recorder: Recorder) -> None:
    """From the authorization request to the code, and everything that can be done wrong on the
    way.
    """
    async with deployment(recorder) as (place, _):
        client = await register(place)
        browser = Browser(place)
        await browser.open(
            "The browser arrives",
            authorization_url(client, login_hint="bob", scope="mcp:read mcp:write"),
        )
        await browser.follow("The sign-in page")
        form = browser.form()
        await _send_wrongly(browser, "sign-in", form)
        await browser.post("A name with a control character", form, username="a\tb")
        await browser.post("The person signs in", form, username="alice")
        await browser.follow("The consent page")
        form = browser.form()
        await _send_wrongly(browser, "consent", form, action="approve")
        await browser.post("The consent form without a decision", form)
        await browser.post("The consent form with an unknown decision", form, action="maybe")
        await browser.post("The person approves", form, action="approve")
        await browser.post("The second click of a double click", form, action="approve")
        await browser.post("The person denies after all", form, action="deny")
        action, inputs = form
        afterwards = f"{action}?transaction={inputs['transaction']}"
        await browser.open("The consent page afterwards", afterwards)


async def _send_wrongly(
    browser: Browser, name: str, form: tuple[str, dict[str, str]], **values: str
) -> None:
    """Send a form in every way that shows it is not sent from our page in this browser."""
    action, inputs = form
    stranger = Browser(browser.place)
    url = f"{action}?transaction={inputs['transaction']}"
    await stranger.open(f"The {name} page in another browser", url)
    await stranger.post(f"The {name} form in another browser", form, None, **values)
    for what, changed in {
        "without its token": {"csrf": ""},
        "with another token": {"csrf": "a" * 43},
        "without a transaction": {"transaction": ""},
    }.items():
        await browser.post(f"The {name} form {what}", form, None, **{**values, **changed})
    for what, headers in {
        "from another site": {"Sec-Fetch-Site": "cross-site"},
        "from a subdomain": {"Sec-Fetch-Site": "same-site"},
        "from another origin": {"Origin": "https://evil.example"},
    }.items():
        await browser.post(f"The {name} form {what}", form, headers, **values)


async def denied(recorder: Recorder) -> None:
    """The person denies, changes the account, or comes too late."""
    async with deployment(recorder) as (place, _):
        client = await register(place, redirect_uris=[WEB_REDIRECT_URI], client_name="")
        browser = Browser(place)
        await browser.open(None, authorization_url(client))
        await browser.follow(None)
        await browser.submit(None, username="alice")
        await browser.follow("The consent page of a client on the web without a name")
        page = browser.page
        await browser.submit("The person denies", action="deny")
        browser.page = page
        await browser.submit("The person denies again", action="deny")
        await browser.open("The next request finds the person signed in", authorization_url(client))
        await browser.follow(None)
        await browser.submit("The person wants another account", action="switch")
        await browser.follow("So they sign in again")
        await browser.submit("As another person", username="bob")
        await browser.follow("And are asked as that person")
        page = browser.page
        place.clock.advance(601)
        browser.page = page
        await browser.submit("The decision comes too late", action="approve")
        await browser.open(
            "The sign-in page of an unknown transaction", "/login?transaction=unknown"
        )
        await browser.open("The sign-in page of no transaction", "/login")
        await browser.open("The consent page of no transaction", "/consent")


async def applications(recorder: Recorder) -> None:
    """The page of the applications, and signing out."""
    pages = Pages(title="Notes", scope_descriptions={"mcp:read": "Read your notes"})
    async with deployment(recorder, pages=pages) as (place, _):
        client = await register(place, client_name="<b>Client</b>")
        browser = Browser(place)
        await browser.open("The page without a session", "/applications")
        await browser.follow("Sign in first")
        await browser.submit("After the sign-in", username="alice")
        await browser.follow("Nothing is allowed yet")
        await code_for(place, client, browser=browser)
        await browser.open("One application is allowed", "/applications")
        page = browser.page
        action, inputs = browser.form()
        await browser.open(
            "Revoking without the token", action, "POST", form={**inputs, "csrf": ""}
        )
        await browser.open(
            "Revoking from another site",
            action,
            "POST",
            form=inputs,
            headers={"Sec-Fetch-Site": "cross-site"},
        )
        await browser.open("Revoking nothing", action, "POST", form={"csrf": inputs["csrf"]})
        await browser.open("Revoking the application", action, "POST", form=inputs)
        await browser.follow("It is gone")
        await browser.open("Revoking it twice", action, "POST", form=inputs)
        browser.page = page
        action, inputs = browser.form(1)
        await browser.open(
            "Signing out without the token", action, "POST", form={**inputs, "csrf": ""}
        )
        await browser.open("GET does not sign out", "/logout")
        await browser.open("Signing out", action, "POST", form=inputs)
        await browser.open("Signing out twice", action, "POST", form=inputs)
        await browser.open("The session has ended", "/applications")


async def passwords(recorder: Recorder) -> None:
    """Names and passwords, on the web."""
    login = PasswordLogin(
        {"alice": hash_password("correct horse")},
        person=lambda name: Person(subject=f"id-{name}", name="Alice"),
    )
    limits = RateLimits(login_failures=2)
    async with deployment(recorder, base_url=ON_THE_WEB, login=login, rate_limits=limits) as (
        place,
        _,
    ):
        client = await register(place)
        browser = Browser(place)
        await browser.open("Cookies on the web", authorization_url(client))
        await browser.follow("The form asks for a name and a password")
        await browser.submit("A wrong password", username="alice", password="wrong")
        await browser.submit("An unknown name", username="mallory", password="wrong")
        await browser.submit("The right password", username="alice", password="correct horse")
        await browser.follow("The consent page names the person")
        await browser.submit("And the code goes to the client", action="approve")
        await browser.open(None, authorization_url(client, prompt="login"))
        await browser.follow(None)
        page = browser.page
        await browser.submit(
            "The first wrong password after that", username="ALICE", password="wrong"
        )
        await browser.submit("The next is one too many", username="alice", password="wrong")
        browser.page = page
        await browser.submit("So is the right password", username="alice", password="correct horse")
        place.clock.advance(600)
        await browser.open(
            "Another form, ten minutes later", authorization_url(client, prompt="login")
        )
        await browser.follow(None)
        await browser.submit(
            "The right one counts again", username="alice", password="correct horse"
        )


async def by_the_app(recorder: Recorder) -> None:
    """The host application signs people in."""
    login = AppLogin("https://app.example/signin?from=mcp")
    async with deployment(recorder, base_url=ON_THE_WEB, login=login, rate_limits=None) as (
        place,
        _,
    ):
        client = await register(place)
        browser = Browser(place)
        await browser.open(None, authorization_url(client))
        page = await browser.follow("The sign-in page leads to the application")
        transaction = page.header("location").rpartition("transaction=")[2]
        back = await login.complete(
            transaction, Person(subject="alice", name="Alice", claims={"tier": "gold"})
        )
        await Browser(place).open("What it hands over is of no use in another browser", back)
        await browser.open("The person comes back", back)
        await browser.open("The same again", back)
        await browser.open(None, authorization_url(client, prompt="login"))
        page = await browser.follow("Asked to sign the person in again")
        transaction = page.header("location").partition("transaction=")[2].partition("&")[0]
        refusal = await login.complete(transaction, None)
        await browser.open("The person did not want to", refusal)
        await browser.open(None, authorization_url(client))
        page = await browser.follow(None)
        late = await login.complete(
            page.header("location").rpartition("transaction=")[2], Person(subject="alice")
        )
        place.clock.advance(61)
        await browser.open("They come back too late", late)
        await browser.open("An unknown handover", f"{late[:-43]}{'a' * 43}")


async def hooks(recorder: Recorder) -> None:
    """What the operator's hooks let people grant, and what happens when a hook fails."""
    answers: dict[str, Any] = {"alice": ["mcp:read"], "bob": []}

    def grant_scopes(person: Person, client: object, scopes: list[str]) -> list[str]:
        return [scope for scope in answers[person.subject] if scope in scopes]

    options = {"grant_scopes": grant_scopes}
    async with deployment(recorder, options=options) as (
        place,
        _,
    ):
        client = await register(place)
        for user, sentence in (
            ("alice", "May grant a part"),
            ("bob", "May grant nothing"),
            ("carol", "The hook fails"),
        ):
            browser = Browser(place)
            await browser.open(None, authorization_url(client, scope="mcp:read mcp:write"))
            await browser.follow(None)
            await browser.submit(f"{sentence}: {user} signs in", username=user)
            if browser.location.startswith("http://localhost:8000/consent"):
                await browser.follow(f"{sentence}: the page that follows")


SCENES = {
    "A person signs in and consents": consent,
    "A person denies": denied,
    "The page of the applications": applications,
    "Names and passwords": passwords,
    "The host application signs people in": by_the_app,
    "The operator's hooks": hooks,
}
