"""Passwords: how they are stored, what a wrong one costs, and how fast guesses may come."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError, OAuthProvider, PasswordLogin
from asgi_mcp_auth.server import Person, RateLimits, Registration, hash_password
from asgi_mcp_auth.server.login.hashing import DUMMY_HASH, check_password
from tests.support.asgi import Response
from tests.support.authorization_server import (
    BASE_URL,
    CONFIDENTIAL,
    Page,
    Server,
    answer_of,
    deploy,
)
from tests.support.passwords import cheap, looking_up
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio


ALICE = cheap("secret")
LIMITS = RateLimits(authorize=10_000, passwords=10_000)


async def login_page(server: Server) -> Page:
    """Return the sign-in page of a new browser."""
    return await server.browser().open((await server.register()).authorization_url())


class Guesser:
    """A client that sends names and passwords from an address."""

    def __init__(self, server: Server, address: str = "192.0.2.1") -> None:
        self.server = server
        self.address = address

    async def open(self) -> Guesser:
        """Open the page."""
        self.browser = self.server.browser()
        self.page = await self.browser.open((await self.server.register()).authorization_url())
        return self

    async def guess(self, password: str, name: str = "alice") -> Response:
        """Send the form."""
        cookies = "; ".join(f"{key}={value}" for key, value in self.browser.cookies.items())
        return await self.server.call(
            "POST",
            "/login",
            headers={"Cookie": cookies},
            form={**self.page.hidden, "username": name, "password": password},
            client=(self.address, 1),
        )


# ----------------------------------------------------------------------------------------- the hash


@pytest.mark.slow
async def test_a_hash_is_scrypt_with_a_salt_of_its_own() -> None:
    one, other = hash_password("secret"), hash_password("secret")
    assert one.startswith("scrypt$ln=15,r=8,p=3$")  # OWASP Password Storage Cheat Sheet
    assert one != other
    assert len(base64.b64decode(one.split("$")[2])) == 16
    assert check_password("secret", one)
    assert not check_password("Secret", one)


@rows("password", ["", " ", "p" * 10_000, "pässwörd", "🎉", "nul\x00", "secret "])
async def test_every_password_has_a_hash_of_its_own(password: str) -> None:
    assert check_password(password, cheap(password))
    assert not check_password(password + "x", cheap(password))
    assert not check_password("secret", cheap(password))


@rows(
    "stored",
    [
        "",
        "secret",
        "scrypt$",
        "scrypt$ln=15,r=8,p=3$$",
        "scrypt$ln=99,r=8,p=3$c2FsdA==$a2V5",
        "scrypt$ln=15,r=99,p=99$c2FsdA==$a2V5",
        "scrypt$ln=0,r=0,p=0$c2FsdA==$a2V5",
        "scrypt$ln=4,r=8,p=1$c2FsdA=$a2V5",
        "scrypt$ln=4,r=8,p=1$c2FsdA==$=",
        "$2b$12$abcdefghijklmnopqrstuv",
        f"{ALICE}\n",
        f" {ALICE}",
    ],
)
async def test_what_hash_password_did_not_return_is_refused(stored: str) -> None:
    with pytest.raises(ConfigurationError, match="hash_password"):
        check_password("secret", stored)


async def test_a_hash_that_cannot_be_checked_shows_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="hash_password"):
        PasswordLogin({"alice": ALICE, "bob": "scrypt$ln=25,r=8,p=3$c2FsdA==$a2V5"})


async def test_the_stand_in_for_an_unknown_account_has_no_password() -> None:
    assert not check_password("", DUMMY_HASH)


# ----------------------------------------------------------------------------------------- settings


@rows("users", [{}, None, "alice", ["alice"], {"alice": None}, {"": "x"}, {"alice": ""}, {1: "x"}])
async def test_users_are_names_and_hashes(users: Any) -> None:
    with pytest.raises(ConfigurationError, match="PasswordLogin needs users"):
        PasswordLogin(users)


@pytest.mark.case("Z125")
async def test_plain_passwords_are_for_loopback() -> None:
    login = PasswordLogin({"alice": ALICE, "bob": "plain"})
    with pytest.raises(
        ConfigurationError, match=r"plain password for 'bob'.*hash_password.*getpass"
    ) as refused:
        OAuthProvider(base_url="https://mcp.example.com", login=login, store="memory:")
    assert "plain'" not in str(refused.value)
    async with deploy(login=login) as server:
        page = await login_page(server)
        assert (await _send(server, page, "bob", "plain")).status == 303


async def test_the_error_says_how_to_make_a_hash() -> None:
    with pytest.raises(ConfigurationError, match="hash_password"):
        OAuthProvider(
            base_url="https://mcp.example.com", login=PasswordLogin({"a": "b"}), store="memory:"
        )


# --------------------------------------------------------------------------------------- signing in


async def _send(server: Server, page: Page, name: str, password: str) -> Response:
    browser = server.browser()
    page = await browser.open((await server.register()).authorization_url())
    return await browser.send(
        "POST", "/login", {**page.hidden, "username": name, "password": password}
    )


async def test_the_form_has_a_user_name_and_a_password_for_password_managers() -> None:
    async with deploy(login=PasswordLogin({"alice": ALICE})) as server:
        page = await login_page(server)
        assert page.forms[0][0] == f"{BASE_URL}/login"
        assert {"username", "password", "transaction", "csrf"} == page.forms[0][1].keys()
        assert 'autocomplete="username"' in page.text
        assert 'type="password"' in page.text
        assert 'autocomplete="current-password"' in page.text


@rows(
    ("name", "password"),
    [
        ("alice", "wrong"),
        ("alice", ""),
        ("alice", "secret "),
        ("Alice", "secret"),
        ("nobody", "secret"),
        ("", "secret"),
        ("", ""),
        ("alice\x00", "secret"),
        ("a" * 7_000, "b" * 7_000),
    ],
)
async def test_a_wrong_pair_is_wrong_and_nothing_says_which_half(name: str, password: str) -> None:
    async with deploy(login=PasswordLogin({"alice": ALICE})) as server:
        page = await login_page(server)
        response = await _send(server, page, name, password)
        assert response.status == 401
        assert b"The user name or password is incorrect." in response.body
        assert b"secret" not in response.body
        assert not any("session" in line for line in response.all("set-cookie"))
        event = server.events[-1]
        # what stands there may be a password, in the wrong field
        account = name if name == "alice" else None
        assert (event.action, event.reason, event.subject) == (
            "sign_in_failed",
            "credentials",
            account,
        )


async def test_an_unknown_name_costs_as_much_as_a_wrong_password() -> None:
    """Compared with a hash of the same cost that belongs to no account."""
    login = PasswordLogin({"alice": ALICE})
    assert login._hardest.split("$")[:2] == ALICE.split("$")[:2]
    assert not check_password("", login._hardest)
    assert PasswordLogin({"alice": hash_password("x")})._hardest == DUMMY_HASH


def _lookups() -> dict[str, Callable[[str], Any]]:
    known = {"alice": ALICE}

    async def asynchronous(name: str) -> str | None:
        await asyncio.sleep(0)
        return known.get(name)

    return {"sync": known.get, "async": asynchronous, "lambda": lambda name: asynchronous(name)}


@pytest.mark.parametrize("kind", ["sync", "async", "lambda"])
async def test_users_may_be_looked_up(kind: str) -> None:
    async with deploy(login=looking_up(_lookups()[kind])) as server:
        page = await login_page(server)
        assert (await _send(server, page, "alice", "secret")).status == 303
        assert (await _send(server, page, "alice", "wrong")).status == 401
        assert (await _send(server, page, "bob", "secret")).status == 401


async def test_a_person_may_be_more_than_a_name() -> None:
    async def person(name: str) -> Person:
        return Person(subject=f"user-{len(name)}", name=name.title(), claims={"role": "editor"})

    for function in (
        person,
        lambda name: Person(subject="user-5", name=name.title(), claims={"role": "editor"}),
    ):
        async with deploy(login=PasswordLogin({"alice": ALICE}, person=function)) as server:
            client, browser = await server.register(), server.browser()
            page = await browser.open(client.authorization_url())
            page = await browser.submit(page, username="alice", password="secret")
            assert "Alice" in page.text
            code = answer_of((await browser.submit(page, action="approve")).url)["code"]
            access_token = (await client.redeem(code)).json()["access_token"]
            await server.call("POST", "/mcp", bearer=access_token)
            access = server.spy.scope["access_token"]
            assert (access.subject, access.claims["role"]) == ("user-5", "editor")


@rows("person", ["alice", None, Person(subject=""), Person(subject="x", claims={"sub": "y"})])
async def test_a_person_function_that_returns_no_person_refuses_the_sign_in(person: Any) -> None:
    async with deploy(login=PasswordLogin({"alice": ALICE}, person=lambda name: person)) as server:
        page = await login_page(server)
        with pytest.raises(ConfigurationError):
            await _send(server, page, "alice", "secret")


@pytest.mark.rule("AS-29")
async def test_no_person_can_have_the_name_of_a_client_that_acts_for_itself() -> None:
    """RFC 9700 §4.15."""
    users, registration = PasswordLogin({"service": ALICE}), Registration(clients=[CONFIDENTIAL])
    async with deploy(login=users, registration=registration) as server:
        page = await login_page(server)
        response = await _send(server, page, "service", "secret")
        assert response.status == 400
        assert b"This account cannot be used here" in response.body
        assert response.all("set-cookie") == []


# ----------------------------------------------------------------------------------------- guessing


@pytest.mark.case("Z122")
async def test_after_ten_wrong_guesses_there_is_a_pause_even_for_the_right_one() -> None:
    async with deploy(
        login=PasswordLogin({"alice": ALICE, "bob": ALICE}), rate_limits=LIMITS
    ) as server:
        guesser = await Guesser(server).open()
        for number in range(10):
            assert (await guesser.guess(f"wrong-{number}")).status == 401
        for password in ("wrong", "secret"):
            response = await guesser.guess(password)
            assert response.status == 429
            assert 0 < int(response.header("retry-after") or 0) <= 600
        assert server.reasons() == ["rate_limit", "rate_limit"]
        assert (await guesser.guess("secret", name="bob")).status == 303  # another account
        # from elsewhere
        assert (await (await Guesser(server, "192.0.2.2").open()).guess("secret")).status == 303
        server.clock.advance(600)
        assert (await (await Guesser(server).open()).guess("secret")).status == 303


async def test_guessing_right_does_not_count() -> None:
    async with deploy(login=PasswordLogin({"alice": ALICE}), rate_limits=LIMITS) as server:
        for _ in range(15):
            assert (await (await Guesser(server).open()).guess("secret")).status == 303
        guesser = await Guesser(server).open()
        for _ in range(9):
            assert (await guesser.guess("wrong")).status == 401
        assert (await (await Guesser(server).open()).guess("secret")).status == 303
        assert (await guesser.guess("wrong")).status == 401
        assert (await guesser.guess("secret")).status == 429


async def test_another_spelling_of_a_name_is_no_new_account() -> None:
    """A look-up in a database may find alice under ALICE, too."""
    asked: list[str] = []

    def lookup(name: str) -> str:
        asked.append(name)
        return ALICE

    async with deploy(login=looking_up(lookup), rate_limits=LIMITS) as server:
        guesser = await Guesser(server).open()
        spellings = [
            "alice",
            "Alice",
            "ALICE",
            " alice",
            "alice ",
            "aLICE",
            "\uff41lice",
            "alicE",
            "ALice",
            "aliCE",
        ]
        for name in spellings:
            assert (await guesser.guess("wrong", name=name)).status == 401
        assert (await guesser.guess("secret", name="alICE")).status == 429
        assert asked == spellings


async def test_of_many_guesses_at_once_ten_count() -> None:
    asked: list[str] = []

    async def lookup(name: str) -> str:
        asked.append(name)
        await asyncio.sleep(0.01)
        return ALICE

    async with deploy(login=looking_up(lookup), rate_limits=LIMITS) as server:
        guesser = await Guesser(server).open()
        statuses: list[int] = []
        while statuses[-1:] != [429] or 401 in statuses[-40:]:
            responses = await asyncio.gather(
                *(guesser.guess(f"wrong-{number}") for number in range(40))
            )
            statuses += sorted(response.status for response in responses)
        assert statuses.count(401) == 10
        assert set(statuses) == {401, 429}


async def test_on_loopback_there_are_no_limits_unless_the_operator_sets_them() -> None:
    async with deploy(login=PasswordLogin({"alice": ALICE})) as server:
        guesser = await Guesser(server).open()
        for _ in range(15):
            assert (await guesser.guess("wrong")).status == 401
        assert (await guesser.guess("secret")).status == 303


async def test_what_people_read_says_what_was_too_much_and_when_to_come_back() -> None:
    limits = RateLimits(login_failures=1, passwords=3)
    async with deploy(login=PasswordLogin({"alice": ALICE}), rate_limits=limits) as server:
        guesser = await Guesser(server).open()
        assert (await guesser.guess("wrong")).status == 401
        for name, text in (
            (
                "alice",
                (
                    b"Too many wrong passwords for this account. Please go back and try again in 10"
                    b" minutes."
                ),
            ),
            ("bob", b"The user name or password is incorrect."),
            (
                "eve",
                (
                    b"Too many passwords from this network. Please go back and try again"
                    b" in a minute."
                ),
            ),
        ):
            assert text in (await guesser.guess("wrong", name=name)).body
        assert (await guesser.guess("secret")).status == 429


# ----------------------------------------------------------------------------------- cheaper hashes


@pytest.mark.slow
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_hash_cheaper_than_todays_is_replaced_at_sign_in(
    asynchronous: bool,
) -> None:
    kept = {"alice": ALICE, "bob": hash_password("secret")}

    async def later(name: str, stored: str) -> None:
        kept[name] = stored

    rehash: Any = later if asynchronous else kept.__setitem__
    async with deploy(login=looking_up(kept.get, rehash=rehash)) as server:
        page = await login_page(server)
        before = dict(kept)
        assert (await _send(server, page, "alice", "wrong")).status == 401
        assert (await _send(server, page, "bob", "secret")).status == 303
        assert kept == before
        assert (await _send(server, page, "alice", "secret")).status == 303
        assert kept["alice"].startswith("scrypt$ln=15,r=8,p=3$")
        assert check_password("secret", kept["alice"])
        again = dict(kept)
        assert (await _send(server, page, "alice", "secret")).status == 303
        assert kept == again


async def test_rehash_is_a_function() -> None:
    with pytest.raises(ConfigurationError, match=r"^rehash="):
        PasswordLogin({"alice": ALICE}, rehash="yes")  # type: ignore[arg-type]  # a likely mistake


async def test_an_account_without_a_password_cannot_sign_in() -> None:
    async with deploy(login=looking_up(lambda name: "")) as server:
        assert (await _send(server, await login_page(server), "alice", "")).status == 401
