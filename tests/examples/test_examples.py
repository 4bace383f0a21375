"""Every example runs in a process of its own and does what its first lines say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from asgi_mcp_auth.testing import INTROSPECTION_CLIENT, Issuer
from tests.examples.processes import ROOT, running
from tests.interop.browser import Person
from tests.interop.clients import python_sdk
from tests.proxy.upstreams.certified import certified_upstream
from tests.support.engines import free_port
from tests.support.rows import rows

EXAMPLES = sorted(
    path.stem
    for path in (ROOT / "examples").glob("*.py")
    if path.stem not in ("__init__", "demo", "proxy_demo")
)


@pytest.fixture(scope="module")
def idp() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def call_tool(url: str, token: str, tool: str, **arguments: Any) -> tuple[bool, str]:
    """Call a tool with the MCP SDK's client; return whether it failed, and what it said."""
    async with (
        httpx2.AsyncClient(headers=bearer(token), timeout=10) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        result = await client.call_tool(tool, arguments)
    content: Any = result.content[0]
    return bool(result.is_error), content.text


@rows("name", EXAMPLES)
def test_an_example_fits_on_a_page(name: str) -> None:
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) < 70


def test_examples_can_be_imported_without_settings_and_without_a_network(tmp_path: Path) -> None:
    # uvicorn examples.x:app does this; nothing may be fetched, printed or started. One process for
    # all of them: most of the time goes into the libraries that they share.
    imports = "\n".join(f"import examples.{name}" for name in EXAMPLES)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", imports],
        cwd=tmp_path,  # some would keep their store in the working directory
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@rows("name", EXAMPLES)
def test_an_example_is_named_in_the_list(name: str) -> None:
    assert f"`{name}.py`" in Path(ROOT / "examples" / "README.md").read_text()


def test_plain_asgi(idp: Issuer) -> None:
    with running("plain_asgi", ISSUER=idp.issuer) as base, httpx.Client(base_url=base) as http:
        reader = bearer(idp.mint(aud=f"{base}/notes", scope="notes:read"))
        writer = bearer(idp.mint(aud=f"{base}/notes", scope="notes:read notes:write"))
        assert http.get("/health").json() == {"health": "good"}
        assert http.get("/notes").status_code == 401
        assert http.get("/elsewhere").status_code == 401
        assert http.get("/notes", headers=reader).json()["subject"] == "alice"
        refused = http.delete("/notes", headers=reader)
        assert refused.status_code == 403
        assert 'scope="notes:read notes:write"' in refused.headers["www-authenticate"]
        assert http.delete("/notes", headers=writer).status_code == 200


def test_starlette(idp: Issuer) -> None:
    with running("starlette_app", ISSUER=idp.issuer) as base, httpx.Client(base_url=base) as http:

        def token(scope: str) -> dict[str, str]:
            return bearer(idp.mint(aud=f"{base}/notes", scope=scope))

        assert http.get("/health").json() == {"signed_in": False}
        assert http.get("/notes").status_code == 401
        assert http.get("/notes", headers=token("other")).status_code == 403
        assert http.get("/notes", headers=token("notes:read")).json() == {
            "user": "alice",
            "scopes": ["notes:read"],
        }
        refused = http.delete("/notes", headers=token("notes:read"))
        assert refused.status_code == 403
        assert 'scope="notes:read notes:write"' in refused.headers["www-authenticate"]
        assert http.delete("/notes", headers=token("notes:read notes:write")).status_code == 200
        assert http.get("/admin/", headers=token("notes:read")).status_code == 403
        assert http.get("/admin/", headers=token("notes:admin")).status_code == 200


@pytest.fixture(scope="module")
def fastapi_app(idp: Issuer) -> Iterator[str]:
    with running("fastapi_app", ISSUER=idp.issuer) as base:
        yield base


def test_fastapi(idp: Issuer, fastapi_app: str) -> None:
    base = fastapi_app
    with httpx.Client(base_url=base) as http:
        reader = bearer(idp.mint(aud=f"{base}/notes", scope="notes:read"))
        writer = bearer(idp.mint(aud=f"{base}/notes", scope="notes:write"))
        assert http.get("/notes").status_code == 401
        assert http.get("/notes", headers=reader).json() == {"reader": "alice"}
        refused = http.delete("/notes", headers=reader)
        assert refused.status_code == 403
        assert 'scope="notes:write"' in refused.headers["www-authenticate"]
        assert http.delete("/notes", headers=writer).json() == {"writer": "alice"}


def test_fastapi_shows_what_each_operation_needs_in_its_openapi_document(fastapi_app: str) -> None:
    assert httpx.get(f"{fastapi_app}/docs").status_code == 200
    document = httpx.get(f"{fastapi_app}/openapi.json").json()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    operations = document["paths"]["/notes"]
    assert operations["get"]["security"] == [{"HTTPBearer": ["notes:read"]}]
    assert operations["delete"]["security"] == [{"HTTPBearer": ["notes:write"]}]


def test_tool_rules() -> None:
    async def look_around(url: str) -> tuple[list[str], str]:
        async with Client(streamable_http_client(url)) as guest:
            tools = [tool.name for tool in (await guest.list_tools()).tools]
            found: Any = (await guest.call_tool("search", {"words": "milk"})).content[0]
        return tools, found.text

    with running("tool_rules", STORE="memory:") as base, httpx.Client(base_url=base) as http:
        assert asyncio.run(look_around(f"{base}/mcp")) == (
            ["search", "read_note", "delete_note"],
            "Buy milk (for a guest)",
        )
        for tool, scopes in (
            ("read_note", "notes:read"),
            ("delete_note", "notes:read notes:write"),
        ):
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}
            refused = http.post("/mcp", json=call)
            assert refused.status_code == 401
            assert f'scope="{scopes}"' in refused.headers["www-authenticate"]
        hello = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        }
        begun = http.post(
            "/mcp",
            json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
            headers={"Accept": "application/json, text/event-stream"},
        )
        assert begun.status_code == 200
        assert "mcp-session-id" not in begun.headers  # it would end with the sign-in
        metadata = http.get("/.well-known/oauth-authorization-server").json()
        assert metadata["scopes_supported"] == ["notes:read", "notes:write", "offline_access"]


@pytest.mark.asyncio
async def test_mcp_sdk_server(idp: Issuer) -> None:
    with running("mcp_sdk_server", ISSUER=idp.issuer) as base:
        reader = idp.mint(aud=f"{base}/mcp", scope="notes:read")
        writer = idp.mint(aud=f"{base}/mcp", scope="notes:read notes:write")
        async with httpx.AsyncClient() as http:
            assert (await http.post(f"{base}/mcp")).status_code == 401
        assert await call_tool(f"{base}/mcp", reader, "whoami") == (
            False,
            "alice, through test-client",
        )
        failed, said = await call_tool(f"{base}/mcp", reader, "delete_note", number=3)
        assert failed
        assert "notes:write" in said
        assert await call_tool(f"{base}/mcp", writer, "delete_note", number=3) == (
            False,
            "Note 3 is gone.",
        )


@pytest.mark.asyncio
async def test_mcp_sdk_server_behind_a_proxy_that_passes_its_public_name_on(idp: Issuer) -> None:
    with running("mcp_sdk_server", ISSUER=idp.issuer, BASE_URL="https://mcp.example.com") as base:
        headers = bearer(idp.mint(aud="https://mcp.example.com/mcp", scope="notes:read"))
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        async with httpx.AsyncClient(headers=headers) as http:
            ours = await http.post(f"{base}/mcp", headers={"host": "mcp.example.com"}, json=body)
            foreign = await http.post(f"{base}/mcp", headers={"host": "evil.example"}, json=body)
    assert ours.status_code != 421
    assert foreign.status_code == 421


@pytest.mark.asyncio
async def test_fastmcp_server(idp: Issuer) -> None:
    with running("fastmcp_server", ISSUER=idp.issuer) as base:
        token = idp.mint(aud=f"{base}/mcp", scope="notes:read")
        async with httpx.AsyncClient() as http:
            refused = await http.post(f"{base}/mcp")
            url = re.search('resource_metadata="([^"]+)"', refused.headers["www-authenticate"])
            assert refused.status_code == 401
            assert url is not None
            assert (await http.get(url[1])).json()["resource"] == f"{base}/mcp"
        assert await call_tool(f"{base}/mcp", token, "whoami") == (
            False,
            "alice, through test-client",
        )


def test_websocket(idp: Issuer) -> None:
    with running("websocket", ISSUER=idp.issuer) as base:
        url = f"{base}/live".replace("http://", "ws://")
        with pytest.raises(InvalidStatus) as without_token:
            connect(url, proxy=None)
        assert without_token.value.response.status_code == 401
        with pytest.raises(InvalidStatus) as without_scope:
            connect(url, proxy=None, additional_headers=bearer(idp.mint(aud=base)))
        assert without_scope.value.response.status_code == 403
        with connect(
            url, proxy=None, additional_headers=bearer(idp.mint(aud=base, scope="notes:live"))
        ) as socket:
            assert socket.recv(timeout=10) == "hello alice"
            socket.send("ping")
            assert socket.recv(timeout=10) == "ping"


def test_several_issuers(idp: Issuer) -> None:
    with (
        Issuer() as partners,
        running(
            "several_issuers",
            ISSUER=idp.issuer,
            PARTNERS=partners.issuer,
            PARTNERS_CLIENT=INTROSPECTION_CLIENT[0],
            PARTNERS_SECRET=INTROSPECTION_CLIENT[1],
        ) as base,
        httpx.Client(base_url=base) as http,
    ):
        claims = {"aud": f"{base}/notes", "scope": "notes:read"}
        document = http.get("/.well-known/oauth-protected-resource/notes").json()
        assert document["authorization_servers"] == [idp.issuer, partners.issuer]
        staff = http.get("/notes", headers=bearer(idp.mint(**claims)))
        assert staff.json() == {"issuer": idp.issuer, "subject": "alice"}
        opaque = http.get("/notes", headers=bearer(partners.mint_opaque(**claims, sub="bob")))
        assert opaque.json() == {"issuer": partners.issuer, "subject": "bob"}
        with Issuer() as stranger:
            assert http.get("/notes", headers=bearer(stranger.mint(**claims))).status_code == 401


def test_local_issuer_prints_what_another_example_needs() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "examples.local_issuer"],
        cwd=ROOT,
        env={"BASE_URL": "https://mcp.example.com", "PATH": ""},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        settings = dict(
            line.removeprefix("export ").strip().split("=", 1) for line in lines if "export" in line
        )
        try:
            with running(
                "plain_asgi", ISSUER=settings["ISSUER"], BASE_URL="https://mcp.example.com"
            ) as base:
                answer = httpx.get(f"{base}/notes", headers=bearer(settings["TOKEN"]))
        finally:
            process.terminate()
    assert answer.json()["subject"] == "alice"


@pytest.mark.asyncio
async def test_authorization_server(tmp_path: Path) -> None:
    with running("authorization_server", STORE=f"sqlite:///{tmp_path}/auth.db") as base:
        async with python_sdk(f"{base}/mcp", "alice") as client:
            assert await client.call("whoami") == "alice, who allowed notes:read offline_access"


@pytest.mark.asyncio
async def test_password_login(tmp_path: Path) -> None:
    with running("password_login", STORE=f"sqlite:///{tmp_path}/auth.db") as base:
        person = Person("alice", password="open sesame")
        async with python_sdk(f"{base}/mcp", person) as client:
            assert await client.call("whoami") == "alice, who allowed notes:read offline_access"
        assert all("Our notes" in page for page in person.pages)
        assert "Alice" in person.pages[-1]
        assert "Read your notes" in person.pages[-1]


@pytest.mark.asyncio
async def test_app_login(tmp_path: Path) -> None:
    with running("app_login", STORE=f"sqlite:///{tmp_path}/auth.db") as base:
        person = Person("bob")
        async with python_sdk(f"{base}/mcp", person) as client:
            assert await client.call("whoami") == "user-4"
        assert len(person.pages) == 2, "the app's own page, and the consent"
        stranger = Person("mallory")
        with pytest.RaisesGroup(AssertionError, flatten_subgroups=True):
            async with python_sdk(f"{base}/mcp", stranger):
                pass


@pytest.mark.asyncio
async def test_oidc_proxy(tmp_path: Path) -> None:
    port = free_port()
    async with certified_upstream(callback=f"http://127.0.0.1:{port}/auth/callback") as upstream:
        settings = {
            "PORT": str(port),
            "STORE": f"sqlite:///{tmp_path}/auth.db",
            "ISSUER": upstream.issuer,
            "USERINFO": upstream.userinfo_endpoint,
            "CLIENT_ID": upstream.client_id,
            "CLIENT_SECRET": upstream.client_secret,
            "DOMAINS": "example.com",
        }
        with running("oidc_proxy", **settings) as base:
            async with python_sdk(f"{base}/mcp", "alice") as client:
                assert (
                    await client.call("whoami")
                    == "alice@example.com, who allowed notes:read offline_access"
                )
                assert json.loads(await client.call("profile"))["sub"] == "id-of-alice"
            bob = Person("bob")  # whose address is of another domain, and not verified
            with pytest.RaisesGroup(AssertionError, flatten_subgroups=True):
                async with python_sdk(f"{base}/mcp", bob):
                    pass
            assert len(bob.pages) == 3, "our consent, and two pages of the provider"


def test_pre_registered_client_and_machine_client(tmp_path: Path) -> None:
    with running("pre_registered_client", STORE=f"sqlite:///{tmp_path}/auth.db") as base:

        def call(**settings: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "examples.machine_client"],
                cwd=ROOT,
                env={**os.environ, "BASE_URL": base, **settings},
                capture_output=True,
                text=True,
            )

        assert call().stdout == "nightly-report, for itself\n"
        refused = call(SECRET="another")
        assert refused.returncode == 1
        assert "Client authentication failed" in refused.stderr
        assert httpx.post(f"{base}/register", json={}).status_code in (401, 404)
