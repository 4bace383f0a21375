"""docs/authorization-server.md: its code runs, and its servers do what the page says."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from asgi_mcp_auth.server import AuditEvent
from asgi_mcp_auth.server.pages.models import MessagePage
from asgi_mcp_auth.testing import FrozenClock
from tests.examples.pages import BASE_URL, run_page
from tests.support.asgi import Spy, call
from tests.support.authorization_server import Server, answer_of, basic

PASSWORD = "correct horse battery staple"  # the page has its hash


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The page's code, run in a folder of its own: the database is made in the working
    directory.
    """
    monkeypatch.chdir(tmp_path)
    return run_page("docs/authorization-server.md", "https://idp.example.com")


def server_of(app: Any) -> Server:
    """Return an app of the page as the tests of the authorization server see it, a spy in place of
    its MCP server.
    """
    app.app = Spy()
    return Server(app.provider, app, app.app, FrozenClock(), [])


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["local", "app"])
async def test_a_person_signs_in_and_a_client_calls(page: ModuleType, name: str) -> None:
    server = server_of(getattr(page, name))
    async with server.provider:
        client, browser = await server.register(), server.browser()
        opened = await browser.open(client.authorization_url(scope="notes:read"))
        opened = await browser.sign_in(
            opened, username="alice", **({"password": PASSWORD} if name == "app" else {})
        )
        opened = await browser.submit(opened, action="approve")
        code = answer_of(opened.url)["code"]
        tokens = (await client.redeem(code)).json()
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
        assert server.spy.scope["access_token"].subject == "alice"


@pytest.mark.asyncio
async def test_the_application_signs_its_own_people_in(page: ModuleType) -> None:
    mcp_server, hosted = page.hosted.app, page.hosted
    server = server_of(hosted)
    hosted.app = mcp_server
    async with server.provider:
        client, browser = await server.register(), server.browser()
        at_the_application = await browser.open(client.authorization_url())
        assert at_the_application.url.startswith(f"{BASE_URL}/account/sign-in?transaction=")
        back = await browser.open(at_the_application.url, {"number": "7"})
        assert "User 7" in back.text
        page_at_client = await browser.submit(back, action="approve")
        assert "code=" in page_at_client.url


@pytest.mark.asyncio
async def test_a_login_step_of_one_s_own_turns_away_renews_and_is_told_of_the_end(
    page: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = server_of(page.staffed)
    async with server.provider:
        client, browser = await server.register(), server.browser()
        opened = await browser.open(client.authorization_url())
        assert "Unknown name." in (await browser.submit(opened, name="mallory")).text
        refused = await browser.submit(opened, name="bob")
        assert (refused.response.status, "Ask the front desk." in refused.text) == (403, True)
        opened = await browser.submit(await browser.open(client.authorization_url()), name="alice")
        code = answer_of((await browser.submit(opened, action="approve")).url)["code"]
        tokens = (await client.redeem(code)).json()
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        monkeypatch.setitem(page.STAFF, "alice", "on leave")
        assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401
    assert capsys.readouterr().out == "gone: desk-alice\n"


@pytest.mark.asyncio
async def test_only_the_operator_s_clients_come_and_one_acts_for_itself(page: ModuleType) -> None:
    server = server_of(page.closed)
    async with server.provider:
        headers = basic("nightly-report", "replace-me-with-32-random-characters-or-more")
        response = await server.token(headers=headers, grant_type="client_credentials")
        assert (response.status, response.json()["scope"]) == (200, "notes:read")
        assert (
            await server.call("POST", "/mcp", bearer=response.json()["access_token"])
        ).status == 200
        assert server.spy.scope["access_token"].subject == "nightly-report"


@pytest.mark.asyncio
async def test_the_operator_s_code_sees_and_ends_grants(
    page: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    server = server_of(page.app)
    async with server.provider:
        client, browser = await server.register(), server.browser()
        opened = await browser.sign_in(
            await browser.open(client.authorization_url()), username="alice", password=PASSWORD
        )
        opened = await browser.submit(opened, action="approve")
        code = answer_of(opened.url)["code"]
        token = (await client.redeem(code)).json()["access_token"]
        assert await page.who_may_what() == [f"alice lets {client.client_id}: ['notes:read']"]
        await page.alice_has_left()
        assert await page.who_may_what() == []
        assert (await server.call("POST", "/mcp", bearer=token)).status == 401
    page.watch(
        AuditEvent(
            action="refused", reason="code_replayed", client_id="c", subject="s", grant_id="g"
        )
    )
    assert capsys.readouterr().out == "used twice: c s g\n"


@pytest.mark.asyncio
async def test_a_page_of_one_s_own_and_scopes_in_words(page: ModuleType) -> None:
    answer = page.pages.response(MessagePage(heading="No <way>", text="Sorry"))
    assert (
        answer.body
        == b"<!doctype html><title>Example Notes</title><h1>No &lt;way&gt;</h1><p>Sorry</p>"
    )
    assert page.pages.describe(["notes:read"]) == [("notes:read", "Read your notes")]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("person", "granted"), [("alice", ["notes:read", "notes:write"]), ("bob", ["notes:read"])]
)
async def test_a_function_decides_what_a_person_may_grant(
    page: ModuleType, person: str, granted: list[str]
) -> None:
    asked = ["notes:read", "notes:write"]
    assert await page.grant_scopes(page.Person(subject=person), None, asked) == granted


@pytest.mark.asyncio
async def test_what_is_switched_off_is_not_there(page: ModuleType) -> None:
    document = (await call(page.closed, "GET", "/.well-known/oauth-authorization-server")).json()
    assert "registration_endpoint" not in document
    assert "client_id_metadata_document_supported" not in document
    assert (await call(page.closed, "POST", "/register")).status == 404
