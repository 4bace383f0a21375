"""The Python on the how-to pages runs, and does what the text around it says."""

from __future__ import annotations

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

from asgi_mcp_auth.testing import Issuer
from tests.examples.pages import (
    BASE_URL,
    PAGES,
    PLACEHOLDER_ISSUER,
    ROOT,
    python_blocks,
    run_page,
    serving_page,
)
from tests.support.asgi import App, call, handshake
from tests.support.frameworks import django_at
from tests.support.rows import rows

METADATA = "/.well-known/oauth-protected-resource"
GREETING = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@pytest.fixture(scope="module")
def idp() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def alice(
    idp: Issuer, scope: str = "notes:read", path: str = "/notes", base: str = BASE_URL
) -> dict[str, str]:
    return bearer(idp.mint(aud=base + path, scope=scope))


async def answer(
    app: App, method: str, path: str, headers: dict[str, str] | None = None
) -> tuple[int, str | None]:
    """Return the status, and the scopes that a challenge asks for."""
    response = await call(app, method, path, headers or {})
    asked = re.search('scope="([^"]*)"', response.header("www-authenticate") or "")
    return response.status, asked[1] if asked else None


async def call_tool(url: str, headers: dict[str, str], tool: str, **arguments: Any) -> str:
    """Call a tool with the MCP SDK's client and return what it said."""
    async with (
        httpx2.AsyncClient(headers=headers, timeout=10) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        result = await client.call_tool(tool, arguments)
    content: Any = result.content[0]
    text: str = content.text
    return text


# -------------------------------------------------------------------------------------- all of them


@rows("page", PAGES)
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    text = re.sub(
        r"^```.*?^```$",
        "",
        (ROOT / page).read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [
                re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
            ]
            assert anchor in slugs, f"{page} links to {target}"


@rows("page", [page for page in PAGES if page.startswith("docs/") and page.count("/") == 1])
def test_a_page_is_in_the_list_of_pages(page: str) -> None:
    name = page.removeprefix("docs/")
    assert name == "README.md" or f"({name})" in (ROOT / "docs/README.md").read_text(
        encoding="utf-8"
    )


def test_every_page_with_code_is_tested_here_or_beside() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")
    )
    assert [page for page in PAGES if python_blocks(page) and f'"{page}"' not in sources] == []


# ------------------------------------------------------------------------------------------ MCP SDK


@pytest.mark.asyncio
async def test_mcp_sdk_the_tools_know_the_caller_and_ask_for_scopes(idp: Issuer) -> None:
    with serving_page("docs/mcp-sdk.md", idp.issuer) as base:
        url, reader = f"{base}/mcp", alice(idp, path="/mcp", base=base)
        writer = alice(idp, "notes:read notes:write", "/mcp", base)
        assert await call_tool(url, reader, "whoami") == "alice, through test-client"
        assert "This needs the scope notes:write." in await call_tool(
            url, reader, "delete_note", number=3
        )
        assert await call_tool(url, writer, "delete_note", number=3) == "Note 3 is gone."


def test_mcp_sdk_the_server_answers_to_its_own_name_only(idp: Issuer) -> None:
    with serving_page("docs/mcp-sdk.md", idp.issuer) as base:
        headers = {
            **alice(idp, path="/mcp", base=base),
            "Accept": "application/json, text/event-stream",
        }
        assert httpx.post(f"{base}/mcp", headers=headers, json=GREETING).status_code == 200
        foreign = httpx.post(
            f"{base}/mcp", headers={**headers, "Host": "evil.example"}, json=GREETING
        )
        assert (foreign.status_code, foreign.text) == (421, "Invalid Host header")


@pytest.mark.asyncio
async def test_mcp_sdk_its_own_authorization_takes_our_verifier_and_has_its_own_answers() -> None:
    with Issuer() as idp:
        app = run_page("docs/mcp-sdk.md", idp.issuer).own.streamable_http_app(host="0.0.0.0")
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as http:
            assert (await http.post("/mcp")).status_code == 401
            idp.fail("/jwks")
            assert (await http.post("/mcp", headers=alice(idp, path="/mcp"))).status_code == 500


# ------------------------------------------------------------------------------------------ FastMCP


@pytest.mark.asyncio
@pytest.mark.parametrize(("app", "health"), [("app", 401), ("wrapped", 200)])
async def test_fastmcp_protects_custom_routes_unless_wrapped_from_outside(
    idp: Issuer, app: str, health: int
) -> None:
    assert (
        await call(getattr(run_page("docs/fastmcp.md", idp.issuer), app), "GET", "/health")
    ).status == health


@pytest.mark.asyncio
async def test_fastmcp_the_tool_knows_the_caller(idp: Issuer) -> None:
    with serving_page("docs/fastmcp.md", idp.issuer) as base:
        headers = alice(idp, path="/mcp", base=base)
        assert await call_tool(f"{base}/mcp", headers, "whoami") == "alice, through test-client"


# ---------------------------------------------------------------------------- Starlette and FastAPI


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["app", "wrapped", "by_hand"])
async def test_starlette_a_handler_knows_the_caller_and_may_ask_for_more(
    idp: Issuer, name: str
) -> None:
    app = getattr(run_page("docs/starlette.md", idp.issuer), name)
    reader, writer = alice(idp), alice(idp, "notes:read notes:write")
    assert (await call(app, "GET", "/notes", reader)).json() == {
        "subject": "alice",
        "scopes": ["notes:read"],
    }
    assert await answer(app, "DELETE", "/notes/3", reader) == (403, "notes:read notes:write")
    assert (await call(app, "DELETE", "/notes/3", writer)).json() == {"deleted": "3", "by": "alice"}
    assert await answer(app, "GET", "/admin/", reader) == (403, "notes:admin")
    assert await answer(app, "GET", "/admin/", alice(idp, "notes:admin")) == (200, None)
    assert (await call(app, "GET", f"{METADATA}/notes")).json()["resource"] == f"{BASE_URL}/notes"


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["app", "wrapped"])
async def test_starlette_a_public_path_sees_an_anonymous_user(idp: Issuer, name: str) -> None:
    app = getattr(run_page("docs/starlette.md", idp.issuer), name)
    assert (await call(app, "GET", "/health", alice(idp))).json() == {"signed_in": False}


@pytest.mark.asyncio
async def test_starlette_a_rule_asks_for_a_scope(idp: Issuer) -> None:
    app = run_page("docs/starlette.md", idp.issuer).app
    assert await answer(app, "GET", "/notes", alice(idp, "other")) == (403, "notes:read")


@pytest.mark.asyncio
async def test_fastapi_the_dependency_checks_scopes_and_shows_in_the_document(idp: Issuer) -> None:
    module = run_page("docs/fastapi.md", idp.issuer)
    assert (await call(module.app, "GET", "/notes", alice(idp))).json() == {"reader": "alice"}
    assert await answer(module.app, "DELETE", "/notes", alice(idp)) == (
        403,
        "notes:read notes:write",
    )
    document = (await call(module.app, "GET", "/openapi.json")).json()
    assert document["paths"]["/notes"]["delete"]["security"] == [
        {"HTTPBearer": ["notes:read", "notes:write"]}
    ]
    assert (await call(module.app, "GET", "/docs")).status == 200


@pytest.mark.asyncio
async def test_fastapi_wrapped_from_outside_gives_the_same_403_with_the_exception_handler(
    idp: Issuer,
) -> None:
    module = run_page("docs/fastapi.md", idp.issuer)
    module.app.user_middleware.clear()
    wrapped = module.MCPAuthMiddleware(module.app, module.provider, mcp_path="/notes")
    assert await answer(wrapped, "DELETE", "/notes", alice(idp)) == (403, "notes:read notes:write")


# --------------------------------------------------------------------------------- other frameworks


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["litestar_app", "quart", "django_app"])
async def test_other_frameworks_handlers_know_the_caller(idp: Issuer, name: str) -> None:
    page = run_page("docs/other-frameworks.md", idp.issuer)
    app = django_at(page, page.django_app) if name == "django_app" else getattr(page, name)
    assert await answer(app, "GET", "/notes") == (401, "notes:read")
    assert (await call(app, "GET", "/notes", alice(idp))).json() == {"subject": "alice"}


@pytest.mark.asyncio
async def test_other_frameworks_quart_lets_a_handler_ask_for_more(idp: Issuer) -> None:
    app = run_page("docs/other-frameworks.md", idp.issuer).quart
    assert await answer(app, "DELETE", "/notes", alice(idp)) == (403, "notes:read notes:write")


# ----------------------------------------------------------------------------------------- the rest


@pytest.mark.asyncio
async def test_websocket_the_handshake_is_checked(idp: Issuer) -> None:
    app = run_page("docs/websocket.md", idp.issuer).app
    nobody, stranger = (
        await handshake(app, "/live"),
        await handshake(app, "/live", alice(idp, path="")),
    )
    assert nobody.denial is not None
    assert stranger.denial is not None
    assert (nobody.denial.status, stranger.denial.status) == (401, 403)
    assert (await handshake(app, "/live", alice(idp, "notes:live", ""))).accepted


@pytest.mark.asyncio
async def test_several_issuers_each_vouch_for_their_own(idp: Issuer) -> None:
    with Issuer() as partners:
        app = run_page("docs/several-issuers.md", idp.issuer, partners=partners.issuer).app
        claims = {"aud": f"{BASE_URL}/mcp", "scope": "notes:read"}
        staff = bearer(idp.mint(**claims, permissions=["notes:read"]))
        assert (await call(app, "GET", "/mcp", staff)).body.decode() == f"alice of {idp.issuer}"
        partner = bearer(partners.mint_opaque(**claims, sub="bob"))
        assert (
            await call(app, "GET", "/mcp", partner)
        ).body.decode() == f"bob of {partners.issuer}"
        document = (await call(app, "GET", f"{METADATA}/mcp")).json()
        with Issuer() as stranger:
            before = partners.hits["/introspect"]
            assert (await call(app, "GET", "/mcp", bearer(stranger.mint(**claims)))).status == 401
            assert partners.hits["/introspect"] == before
    assert document["authorization_servers"] == [idp.issuer, partners.issuer]


@pytest.mark.asyncio
async def test_opaque_tokens_are_asked_about_once_and_must_name_us(idp: Issuer) -> None:
    app = run_page("docs/opaque-tokens.md", idp.issuer).app
    known = bearer(idp.mint_opaque(aud=f"{BASE_URL}/mcp", scope="notes:read"))
    before = idp.hits["/introspect"]
    for _ in range(3):
        assert (await call(app, "GET", "/mcp", known)).body == b"alice"
    assert idp.hits["/introspect"] == before + 1
    assert (
        await call(app, "GET", "/mcp", bearer(idp.mint_opaque(scope="notes:read")))
    ).status == 401


@pytest.mark.asyncio
async def test_other_tokens_a_verifier_of_one_s_own(idp: Issuer) -> None:
    app = run_page("docs/other-tokens.md", idp.issuer).app
    assert (await call(app, "GET", "/", bearer("key-of-the-build-server"))).body == b"build-server"
    assert (await call(app, "GET", "/", bearer("key-of-nobody"))).status == 401


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "path"), [("app", "/api/mcp"), ("host", "/api/mcp"), ("behind", "/mcp")]
)
async def test_mounting_the_document_is_where_clients_look(
    idp: Issuer, name: str, path: str
) -> None:
    app = getattr(run_page("docs/mounting.md", idp.issuer), name)
    refused = await call(app, "GET", path)
    url = f"{BASE_URL}{METADATA}/api/mcp"
    assert (
        refused.status,
        f'resource_metadata="{url}"' in (refused.header("www-authenticate") or ""),
    ) == (401, True)
    assert (await call(app, "GET", f"{METADATA}/api/mcp")).json()[
        "resource"
    ] == f"{BASE_URL}/api/mcp"
    assert (await call(app, "GET", path, alice(idp, path="/api/mcp"))).body == b"hello alice"


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["app", "host"])
async def test_mounting_what_is_public_stays_public(idp: Issuer, name: str) -> None:
    assert (
        await call(getattr(run_page("docs/mounting.md", idp.issuer), name), "GET", "/about")
    ).status == 200


@pytest.mark.asyncio
async def test_mounting_a_proxy_may_leave_the_prefix_in_place(idp: Issuer) -> None:
    behind = run_page("docs/mounting.md", idp.issuer).behind
    got = await call(behind, "GET", "/api/mcp", alice(idp, path="/api/mcp"), root_path="/api")
    assert got.body == b"hello alice"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://app.example.com", 200),
        (BASE_URL, 200),
        ("https://evil.example", 403),
        ("http://localhost:6274", 403),  # a list replaces the default
    ],
)
async def test_browser_clients_pages_on_the_list_may_call_and_read(
    idp: Issuer, origin: str, status: int
) -> None:
    app = run_page("docs/browser-clients.md", idp.issuer).app
    response = await call(app, "GET", "/mcp", {**alice(idp, path="/mcp"), "Origin": origin})
    assert response.status == status
    assert response.header("access-control-allow-origin") == (origin if status == 200 else None)


@pytest.mark.slow
def test_testing_the_tests_on_the_page_pass(tmp_path: Path) -> None:
    (block,) = python_blocks("docs/testing.md")
    assert PLACEHOLDER_ISSUER not in block
    (tmp_path / "test_page.py").write_text(block)
    result = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "pytest",
            "-q",
            "-o",
            "asyncio_default_fixture_loop_scope=function",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            str(tmp_path),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "4 passed" in result.stdout, result.stdout + result.stderr
