"""The README's code does what the README says, and its answers are real ones."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from asgi_mcp_auth import MCPAuthMiddleware, RemoteAuthProvider, StaticTokenVerifier
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.examples.at_the_provider import AtTheProvider
from tests.examples.pages import BASE_URL, ROOT, python_blocks, run_blocks, serving_blocks
from tests.interop.clients import python_sdk
from tests.support.asgi import Spy, call
from tests.support.authorization_server import Server, answer_of
from tests.support.upstream import CLIENT_SECRET, Upstream

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = python_blocks("README.md")
(
    SERVER,
    FIVE_MINUTES,
    PROXY,
    NO_ISSUER,
    ON_THIS_MACHINE,
    WHO,
    RULES,
    LOGGING,
    ON_EVENT,
    LOOK_INTO,
) = BLOCKS
AUDIENCE = f"{BASE_URL}/mcp"


@pytest.fixture(scope="module")
def idp() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def call_tool(url: str, token: str, tool: str, **arguments: int) -> str:
    async with (
        httpx2.AsyncClient(headers=bearer(token), timeout=10) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        result = await client.call_tool(tool, arguments)
    return str(getattr(result.content[0], "text", None))


@pytest.mark.asyncio
async def test_the_five_minute_start_protects_the_server(idp: Issuer) -> None:
    with serving_blocks([SERVER, FIVE_MINUTES, WHO], idp.issuer) as base:
        async with httpx2.AsyncClient() as http:
            assert (await http.post(f"{base}/mcp")).status_code == 401
            assert (await http.get(f"{base}/elsewhere")).status_code == 401
        token = idp.mint(aud=f"{base}/mcp", scope="notes:read")
        assert await call_tool(f"{base}/mcp", token, "add", a=2, b=3) == "5"
        said = await call_tool(f"{base}/mcp", token, "whoami")
        assert said == f"alice may ['notes:read'], says {idp.issuer}"


@pytest.mark.asyncio
async def test_the_server_of_the_five_minute_start_answers_to_its_public_name(idp: Issuer) -> None:
    module = run_blocks([SERVER, FIVE_MINUTES], idp.issuer)
    refused = await call(module.app, "POST", "/mcp", {"Host": "mcp.example.com"})
    assert refused.status == 401


@pytest.mark.asyncio
async def test_without_an_issuer_the_server_signs_its_person_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the database is made in the working directory
    app = run_blocks([SERVER, NO_ISSUER], "https://idp.example.com").app
    app.app = Spy()
    server = Server(app.provider, app, app.app, FrozenClock(), [])
    async with app.provider:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        page = await browser.sign_in(
            page, username="alice", password="correct horse battery staple"
        )
        page = await browser.submit(page, action="approve")
        tokens = (await client.redeem(answer_of(page.url)["code"])).json()
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
    assert {"auth.db", "auth.db.key"} <= set(os.listdir(tmp_path))


@pytest.mark.asyncio
async def test_a_proxy_signs_people_in_at_the_issuer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIENT_SECRET", CLIENT_SECRET)
    with Upstream() as upstream, serving_blocks([SERVER, PROXY, WHO], upstream.issuer) as base:
        async with python_sdk(f"{base}/mcp", AtTheProvider(upstream)) as client:
            said = await client.call("whoami")
    assert said == f"{upstream.issuer}|alice may ['notes:read', 'offline_access'], says {base}"


@pytest.mark.asyncio
async def test_the_fixed_token_works_on_this_machine(
    idp: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    with serving_blocks([SERVER, ON_THIS_MACHINE], idp.issuer) as base:
        async with httpx2.AsyncClient() as http:
            assert (await http.post(f"{base}/mcp")).status_code == 401
            inside = await http.post(f"{base}/mcp", headers=bearer("dev-token"))
            assert inside.status_code not in (401, 403)
        assert await call_tool(f"{base}/mcp", "dev-token", "add", a=2, b=3) == "5"
    ours = [
        record.levelname for record in caplog.records if record.name.startswith("asgi_mcp_auth")
    ]
    assert ours.count("WARNING") == 1


@pytest.mark.asyncio
async def test_public_paths_and_rules(idp: Issuer) -> None:
    app = run_blocks([SERVER, FIVE_MINUTES, RULES], idp.issuer).app
    app.app = Spy()  # the MCP server has no such paths
    reader = bearer(idp.mint(aud=AUDIENCE))
    statuses = {
        path: (await call(app, "GET", path)).status
        for path in ("/health", "/health/x", "/static/a", "/static")
    }
    assert statuses == {"/health": 200, "/health/x": 401, "/static/a": 200, "/static": 401}
    assert (await call(app, "GET", "/admin/users", reader)).status == 403


@pytest.mark.asyncio
async def test_the_answers_that_are_shown_are_the_real_ones(idp: Issuer) -> None:
    app = run_blocks([SERVER, FIVE_MINUTES], idp.issuer).app
    shown = re.findall(
        r"^```http\nHTTP/1.1 (\d+) .*\nwww-authenticate: (.*)\n(?:\n(.*)\n)?```$",
        README,
        re.MULTILINE,
    )
    assert len(shown) == 2
    for (status, challenge, body), headers in zip(shown, [{}, bearer("a.b.c")], strict=True):
        answer = await call(app, "POST", "/mcp", headers)
        assert (str(answer.status), answer.header("www-authenticate")) == (status, challenge)
        assert answer.body.decode() == (body or "{}")


@pytest.mark.asyncio
async def test_a_refusal_is_logged_as_shown(idp: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    app = run_blocks([SERVER, FIVE_MINUTES, LOGGING], idp.issuer).app
    with caplog.at_level(logging.INFO, "asgi_mcp_auth"):
        await call(app, "POST", "/mcp", bearer(idp.mint(aud="https://other.example")))
    (record,) = [record for record in caplog.records if record.name == "asgi_mcp_auth.refusals"]
    assert logging.Formatter(logging.BASIC_FORMAT).format(record) in README


@pytest.mark.asyncio
async def test_a_refusal_is_reported_as_shown(
    idp: Issuer, capsys: pytest.CaptureFixture[str]
) -> None:
    app = run_blocks([SERVER, FIVE_MINUTES, ON_EVENT], idp.issuer).app
    await call(app, "POST", "/mcp", bearer(idp.mint(aud="https://other.example")))
    assert capsys.readouterr().out == "401 audience /mcp None None\n"


@pytest.mark.parametrize("length", range(4))
def test_looking_into_a_token(idp: Issuer, length: int) -> None:
    token = idp.mint(aud=AUDIENCE, padding="x" * length)
    result = subprocess.run(
        [sys.executable, "-c", LOOK_INTO, token], capture_output=True, text=True, check=True
    )
    payload = token.split(".")[1]
    assert json.loads(result.stdout) == json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    assert json.loads(result.stdout)["aud"] == AUDIENCE


def test_a_remote_provider_serves_a_document_and_a_bare_verifier_does_not() -> None:
    verifier = StaticTokenVerifier(tokens={"t": {"client_id": "me"}})
    provider = RemoteAuthProvider(verifier, ["https://idp.example"], BASE_URL)
    assert MCPAuthMiddleware(Spy(), provider).provider.resource_metadata_url is not None
    assert MCPAuthMiddleware(Spy(), verifier).provider.resource_metadata_url is None


def test_the_commands_that_are_named_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert (
        set(re.findall(r"^    make ([a-z]+)", README, re.MULTILINE))
        == {"demo", "test"}
        <= set(targets)
    )
