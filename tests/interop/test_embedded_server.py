"""Real MCP clients and an MCP server with an authorization server of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from asgi_mcp_auth import Method, PasswordLogin, Tool
from asgi_mcp_auth.server import Lifetimes, Registration
from tests.interop.browser import PASSWORD, Person
from tests.interop.clients import CLIENTS, Refused, inspector, python_sdk
from tests.interop.deployment import deployed, whoever
from tests.interop.servers import fastmcp_app, fastmcp_server, mcp_sdk_app, mcp_sdk_server
from tests.support.asgi import App
from tests.support.engines import free_port
from tests.support.passwords import cheap
from tests.support.products import once_each
from tests.support.tls import Authority, DocumentHost

pytestmark = pytest.mark.asyncio

PASSWORDS = {"alice": cheap(PASSWORD)}
SERVERS: dict[str, Callable[[], App]] = {"mcp-sdk": mcp_sdk_app, "fastmcp": fastmcp_app}
WITHOUT_SESSIONS: dict[str, Callable[[], App]] = {
    "mcp-sdk": lambda: mcp_sdk_server().streamable_http_app(stateless_http=True),
    "fastmcp": lambda: fastmcp_server().http_app(stateless_http=True),
}
NEW_CLIENT = ["client_registered", "signed_in", "approved", "token_issued"]
SIGN_IN = ["signed_in", "approved", "token_issued"]


# ---------------------------------------------------------------------------- a client and its user


@pytest.mark.parametrize(("client", "server"), once_each(sorted(CLIENTS), SERVERS))
async def test_a_client_that_knows_only_the_url_gets_in_stays_in_and_returns_when_revoked(
    tmp_path: Path, client: str, server: str
) -> None:
    settings: dict[str, Any] = {}
    if server == "mcp-sdk":
        settings = {"login": PasswordLogin(PASSWORDS), "store": f"sqlite:///{tmp_path}/auth.db"}
    with deployed(SERVERS[server](), **settings) as deployment:
        async with CLIENTS[client](deployment.url, "alice") as connection:
            assert whoever(await connection.call("whoami")) == {"alice"}
            assert deployment.done() == NEW_CLIENT
            assert set(deployment.reasons()) == {"missing_token"}

            deployment.clock.seconds += 3601
            connection.wait_for_expiry()
            assert whoever(await connection.call("whoami")) == {"alice"}
            assert deployment.done() == ["token_refreshed"]

            await deployment.provider.admin.revoke_person("alice")
            assert whoever(await connection.call("whoami")) == {"alice"}
            assert [each for each in deployment.done() if each != "refused"] == [
                "grant_revoked",
                *SIGN_IN,
            ]
            assert connection.sign_ins == 2


@pytest.mark.rule("RS-35")
@pytest.mark.parametrize(
    ("client", "server"),
    once_each(sorted({*CLIENTS} - {"inspector"}), WITHOUT_SESSIONS),
)
async def test_a_client_looks_around_signs_in_where_it_has_to_and_asks_for_more_where_it_has_to(
    client: str, server: str
) -> None:
    """Left out: the Inspector, which asks for all scopes at once."""
    rules = [
        Method("tools/list", public=True),
        Tool("whoami", public=True),
        Tool("write_note", scopes=["mcp:write"]),
    ]
    with deployed(WITHOUT_SESSIONS[server](), rules=rules) as deployment:
        async with CLIENTS[client](deployment.url) as connection:
            assert await connection.tools() > {"whoami", "my_scopes", "write_note"}
            assert whoever(await connection.call("whoami")) == {None}
            assert (connection.sign_ins, deployment.done()) == (0, [])

            assert "mcp:read" in await connection.call("my_scopes")
            assert (connection.sign_ins, deployment.done()) == (1, NEW_CLIENT)
            assert whoever(await connection.call("whoami")) == {"alice"}
            deployment.reasons()

            if client == "typescript-sdk":  # the first SDK refreshes, which cannot add a scope
                with pytest.raises(Refused, match="403 after trying upscoping"):
                    await connection.call("write_note")
                assert (connection.sign_ins, deployment.done()) == (1, ["token_refreshed"])
                assert deployment.reasons() == ["insufficient_scope"] * 2
            else:
                assert await connection.call("write_note") == "written"
                assert connection.asked >= {"mcp:read", "mcp:write"}
                done = [each for each in deployment.done() if each != "signed_in"]
                assert (connection.sign_ins, done) == (2, ["approved", "token_issued"])
                assert deployment.reasons() == ["insufficient_scope"]
                assert {*(await connection.call("my_scopes")).split()} >= {"mcp:read", "mcp:write"}
            assert whoever(await connection.call("whoami")) == {"alice"}
            assert deployment.done() == []


@pytest.mark.parametrize(
    ("client", "at_once"), [("python-sdk", 3), ("typescript-sdk", 1), ("typescript-sdk-2", 3)]
)
async def test_any_number_of_refreshes_ends_no_session(client: str, at_once: int) -> None:
    """The TypeScript SDK refreshes once for each call under way, each time with the same refresh
    token.

    (That of the first generation fails at this by itself: it takes the second 401 for a broken
    server.)
    """
    with deployed(mcp_sdk_app()) as deployment:
        async with CLIENTS[client](deployment.url) as connection:
            await connection.call("whoami")
            assert deployment.done() == NEW_CLIENT
            for _ in range(10):
                deployment.clock.seconds += 3601
                connection.wait_for_expiry()
                for said in await connection.call_at_once("whoami", at_once):
                    assert whoever(said) == {"alice"}
            assert set(deployment.done()) == {"token_refreshed"}
            assert connection.sign_ins == 1


async def test_a_client_whose_access_token_really_expires_refreshes_it_by_its_own_clock() -> None:
    with deployed(mcp_sdk_app(), lifetimes=Lifetimes(access_token_seconds=3)) as deployment:
        async with CLIENTS["python-sdk"](deployment.url) as connection:
            await connection.call("whoami")
            assert deployment.done()[: len(NEW_CLIENT)] == NEW_CLIENT
            await asyncio.sleep(3.1)
            assert whoever(await connection.call("whoami")) == {"alice"}
            assert set(deployment.done()) == {"token_refreshed"}
            assert connection.sign_ins == 1


async def test_a_client_does_not_notice_that_the_server_was_restarted(tmp_path: Path) -> None:
    port, store = free_port(), f"sqlite:///{tmp_path}/auth.db"
    async with inspector(f"http://127.0.0.1:{port}/mcp") as connection:
        for done in (NEW_CLIENT, [], ["token_refreshed"]):
            with deployed(mcp_sdk_app(), store=store, port=port) as deployment:
                deployment.clock.seconds += 3601 if done == ["token_refreshed"] else 0
                assert whoever(await connection.call("whoami")) == {"alice"}
                assert deployment.done() == done
        assert connection.sign_ins == 1


async def test_a_client_whose_user_says_no_is_told_and_gets_nothing() -> None:
    with deployed(mcp_sdk_app()) as deployment:
        with pytest.RaisesGroup(
            pytest.RaisesExc(Refused, match="access_denied"), flatten_subgroups=True
        ):
            async with python_sdk(deployment.url, Person(decision="deny")):
                pass
        assert deployment.done() == ["client_registered", "signed_in", "denied", "refused"]


async def test_a_client_whose_registration_is_forgotten_registers_again() -> None:
    with deployed(mcp_sdk_app()) as deployment:
        async with CLIENTS["fastmcp"](deployment.url) as connection:
            await connection.call("whoami")
            assert deployment.done() == NEW_CLIENT
            admin = deployment.provider.admin
            (known,) = [each async for each in admin.clients()]
            assert await admin.delete_client(known.client_id)
            assert whoever(await connection.call("whoami")) == {"alice"}
            done = deployment.done()
            assert (done[:2], done[-3:]) == (
                ["grant_revoked", "client_deleted"],
                ["client_registered", *SIGN_IN[1:]],
            )


async def test_an_operators_client_gets_in_with_its_secret_from_any_loopback_port() -> None:
    known = {
        "client_id": "inspector",
        "client_secret": "a-secret-that-is-long-enough-for-this",
        "client_name": "Our Inspector",
        "redirect_uris": ["http://127.0.0.1/oauth/callback"],
    }
    registration = Registration(clients=[known], metadata_documents=False)
    settings = {"registration": registration, "allow_dynamic_registration": False}
    with deployed(mcp_sdk_app(), **settings) as deployment:
        options = {name: known[name] for name in ("client_id", "client_secret")}
        async with inspector(deployment.url, "alice", **options) as connection:
            assert whoever(await connection.call("whoami")) == {"alice"}
        assert deployment.done() == SIGN_IN


@pytest.mark.parametrize("client", sorted({*CLIENTS} - {"python-sdk-with-session"}))
async def test_a_client_with_a_metadata_document_gets_in_without_registering(client: str) -> None:
    with Authority() as authority, DocumentHost(authority) as host:
        names, paths = ("127.0.0.1", "localhost"), ("callback", "oauth/callback")
        redirect_uris = [f"http://{name}/{path}" for name in names for path in paths]
        document = host.serve_client(
            "/client.json", client_name="A client of note", redirect_uris=redirect_uris
        )
        registration = Registration(
            development_documents=True, development_ca_file=authority.ca_file
        )
        with deployed(mcp_sdk_app(), registration=registration) as deployment:
            async with CLIENTS[client](deployment.url, "alice", document=document) as connection:
                assert whoever(await connection.call("whoami")) == {"alice"}
                deployment.clock.seconds += 3601
                connection.wait_for_expiry()
                assert whoever(await connection.call("whoami")) == {"alice"}
            assert {
                event.client_id for event in deployment.events if event.action == "approved"
            } == {document}
            assert deployment.done() == [*SIGN_IN, "token_refreshed"]
        assert set(host.requests) == {"/client.json"}


# ------------------------------------------------------------- FastMCP with our provider as its own


@pytest.mark.parametrize(
    ("client", "mounted"),
    once_each(["python-sdk", "fastmcp", "typescript-sdk-2", "mcp-remote"], [False, True]),
)
async def test_a_client_finds_a_fastmcp_server_that_has_our_provider_as_its_own(
    client: str, mounted: bool
) -> None:
    with deployed(None, mounted=mounted) as deployment:
        async with CLIENTS[client](deployment.url) as connection:
            assert whoever(await connection.call("whoami")) == {"alice"}
            deployment.clock.seconds += 3601
            connection.wait_for_expiry()
            assert whoever(await connection.call("whoami")) == {"alice"}
        assert deployment.done() == [*NEW_CLIENT, "token_refreshed"]


@pytest.mark.parametrize("mounted", [False, True], ids=["at the root", "below a path"])
async def test_the_urls_in_the_metadata_of_such_a_server_lead_somewhere(mounted: bool) -> None:
    with deployed(None, mounted=mounted) as deployment:
        issuer = deployment.provider.base_url
        parts = urlsplit(issuer)
        known_at = (
            f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{parts.path}"
        )
        async with httpx.AsyncClient() as http:
            document = (await http.get(known_at)).raise_for_status().json()
            assert document["issuer"] == issuer
            statuses = {
                name: (await http.get(url)).status_code
                for name, url in document.items()
                if name.endswith(("_endpoint", "_uri"))
            }
            assert (await http.get(document["jwks_uri"])).json()["keys"]
        assert set(statuses.values()) <= {200, 400, 401, 405}
