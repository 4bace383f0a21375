"""Apps below a prefix: root_path, Mount, proxies that strip or keep the prefix."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_mcp_auth import ConfigurationError, MCPAuthMiddleware, Rule
from tests.support.asgi import Spy, call, mounted, serve
from tests.support.protection import ALICE, challenge_of, make_provider, protect
from tests.support.rows import rows
from tests.support.sockets import request

pytestmark = pytest.mark.asyncio

API = "https://mcp.example.com/api"
ROOT = "/.well-known/oauth-protected-resource"
DOCUMENT = "/.well-known/oauth-protected-resource/api/mcp"


@pytest.mark.rule("RS-43")
async def test_root_path_is_removed_where_the_server_includes_it_in_path() -> None:
    guard = protect(public_paths=["/open"], rules=[Rule("/mcp", scopes=["mcp:admin"])])
    guard.assert_entered(await call(guard.app, "GET", "/api/open", root_path="/api"), None)
    response = await call(guard.app, "GET", "/api/mcp", ALICE, root_path="/api")
    guard.assert_refused(response, 403, "insufficient_scope")


@pytest.mark.rule("RS-43")
@rows("path", ["/apix/open", "/api", "/api/", "/ap/open", "/x/api/open"])
async def test_root_path_is_removed_on_segment_boundaries_only(path: str) -> None:
    guard = protect(public_paths=["/open"])
    guard.assert_refused(await call(guard.app, "GET", path, root_path="/api"), 401, "missing_token")


@rows(
    ("root_path", "path"),
    [
        ("/api", "/open"),  # beside root_path, as hypercorn, granian, gunicorn and daphne pass it
        ("/api", "/apix/open"),
        ("/api", "/API/open"),
        ("/api", "/api/open/api/x"),
        ("/api", "/api/open/apiary"),
        ("/zz", "/z%7A/open"),
        ("/\u00e9", "/%C3%A9/open"),
        ("/a/a", "/a/a/a/open"),
        ("/api/", "/api/open"),
        ("/api/", "/open"),
        ("//", "/open"),
    ],
)
async def test_a_path_that_frameworks_cut_differently_is_never_public_and_needs_all_scopes(
    root_path: str, path: str
) -> None:
    rules = [
        Rule("/open", public=True),
        Rule("/open/api"),
        Rule("/a", scopes=["a"]),
        Rule("/b", scopes=["b"]),
    ]
    guard = protect(public_paths=["/a/open"], rules=rules)
    response = await call(guard.app, "GET", path, ALICE, root_path=root_path)
    guard.assert_refused(response, 403, "insufficient_scope")
    assert challenge_of(response)["scope"] == "a b"


async def test_what_has_no_rule_of_its_own_is_served_beside_root_path_as_well() -> None:
    guard = protect(public_paths=["/open"])
    guard.assert_entered(await call(guard.app, "POST", "/mcp", ALICE, root_path="/api"))
    assert (
        await call(guard.app, "GET", "/.well-known/oauth-protected-resource/mcp", root_path="/api")
    ).status == 200


async def test_an_app_that_keeps_itself_in_app_has_no_prefix_of_its_own() -> None:
    spy: Any = Spy()
    spy.app = spy
    guard = protect(spy, public_paths=["/open"])
    assert (await call(guard.app, "GET", "/open")).status == 200


async def test_a_root_path_beside_the_path_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    guard = protect(public_paths=["/open"])
    with caplog.at_level(logging.WARNING):
        for path in ("/open", "/mcp"):
            assert (await call(guard.app, "GET", path, root_path="/api")).status == 401
    told = [
        record.getMessage()
        for record in caplog.records
        if "Frameworks differ" in record.getMessage()
    ]
    assert len(told) == 1
    assert "root_path='/api' from the path '/open'" in told[0]


async def test_a_root_path_beside_the_path_is_told_of_without_metadata_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard = protect(provider=make_provider().token_verifier, public_paths=["/open"])
    with caplog.at_level(logging.WARNING):
        await call(guard.app, "GET", "/open", root_path="/api")
    assert "Frameworks differ" in caplog.messages[-1]


async def test_without_rules_a_root_path_beside_the_path_decides_nothing_and_is_not_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard = protect(provider=make_provider().token_verifier)
    with caplog.at_level(logging.WARNING):
        assert (await call(guard.app, "GET", "/notes", root_path="/api")).status == 401
    assert "Frameworks differ" not in caplog.text


async def test_a_root_path_beside_the_path_is_reported_after_clear_requests_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard = protect(provider=make_provider().token_verifier, public_paths=["/open"])
    with caplog.at_level(logging.WARNING, "asgi_mcp_auth.middleware"):
        for path in ("/api/notes", "/notes", "/notes"):
            await call(guard.app, "GET", path, root_path="/api")
    assert [record.args for record in caplog.records if "Frameworks differ" in record.message] == [
        ("/api", "/notes", "leave root_path unset")
    ]


async def test_a_root_path_that_the_app_has_itself_belongs_to_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = FastAPI()
    api.root_path = "/api"  # as a parameter it is deprecated
    app = MCPAuthMiddleware(api, make_provider().token_verifier, public_paths=["/open"])
    with caplog.at_level(logging.WARNING, "asgi_mcp_auth.middleware"):
        assert (await call(app, "GET", "/open")).status == 401
    assert "Either give --root-path to uvicorn instead of the app, or" in caplog.messages[-1]


async def test_a_root_path_that_is_none_is_none() -> None:
    guard = protect(public_paths=["/open"])

    async def server(scope: Any, receive: Any, send: Any) -> None:
        await guard.app({**scope, "root_path": None}, receive, send)

    guard.assert_entered(await call(server, "GET", "/open"), None)
    guard.assert_entered(await call(server, "POST", "/mcp", ALICE))


async def test_the_root_of_a_mount_is_the_path_slash() -> None:
    guard = protect(rules=[Rule("/", scopes=["mcp:admin"])])
    for path in ("/api", "/api/"):
        guard.events.clear()
        await call(guard.app, "GET", path, ALICE, root_path="/api")
        assert guard.events[0].path == "/"


async def test_with_a_path_in_base_url_the_documents_match_with_and_without_it() -> None:
    guard = protect(provider=make_provider(API))
    for path in (DOCUMENT, f"/api{DOCUMENT}", "/.well-known/oauth-protected-resource"):
        response = await call(guard.app, "GET", path)
        assert (response.status, response.json()["resource"]) == (200, f"{API}/mcp")
    url = challenge_of(await call(guard.app, "GET", "/mcp"))["resource_metadata"]
    assert url == f"https://mcp.example.com{DOCUMENT}"


@pytest.mark.rule("RS-11")
async def test_a_mounted_app_says_once_what_the_host_has_to_serve(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard = protect(provider=make_provider(API))
    outer = mounted(guard.app, "/api")
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert (await call(outer, "POST", "/api/mcp")).status == 401
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "get_well_known_routes('/mcp')" in record.getMessage()
    assert f"https://mcp.example.com{DOCUMENT}" in record.getMessage()


@pytest.mark.rule("RS-11")
async def test_nothing_is_said_where_the_documents_are_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By the host, or by this app, which a client has asked for one."""
    by_host = make_provider(API)
    by_host.get_well_known_routes("/mcp")
    with caplog.at_level(logging.WARNING):
        for provider, path in ((by_host, "/mcp"), (make_provider(API), DOCUMENT)):
            outer = mounted(protect(provider=provider).app, "/api")
            for each in ("/mcp", path, "/mcp", "/mcp", "/mcp"):
                assert (await call(outer, "POST", f"/api{each}")).status in (401, 405)
    assert caplog.records == []


@pytest.mark.rule("RS-54")
@pytest.mark.parametrize("root_path", ["/", "//", "/api/", "/api/v1/", "/\u00e9/"])
async def test_a_slash_at_the_end_of_root_path_is_taken_away_as_starlette_does(
    root_path: str,
) -> None:
    guard = protect(provider=make_provider(), public_paths=["/open"])
    starlette = Starlette(routes=[Mount("/mcp", Spy())])
    for path, status in (
        ("/mcp", 401),
        ("/open", 401),  # never public: frameworks differ
        ("/.well-known/oauth-protected-resource/mcp", 200),
        ("/.well-known/oauth-protected-resource/other", 404),
    ):
        response = await call(guard.app, "GET", root_path + path, root_path=root_path)
        assert response.status == status, path
    path = f"{root_path}/mcp/"
    for app in (guard.app, starlette):
        assert (await call(app, "POST", path, ALICE, root_path=root_path)).status == 200


@pytest.mark.rule("RS-55")
async def test_the_host_can_serve_the_documents_at_its_root_as_well() -> None:
    provider = make_provider(API)
    assert ROOT not in {route.path for route in provider.get_well_known_routes("/mcp")}
    routes = provider.get_well_known_routes("/mcp", at_root=True)
    document = await call(Starlette(routes=routes), "GET", ROOT)
    assert (document.status, document.json()["resource"]) == (200, f"{API}/mcp")
    with pytest.raises(ConfigurationError, match="at_root='yes' must be True or False"):
        provider.get_well_known_routes("/mcp", at_root="yes")  # type: ignore[arg-type]  # wrong


@pytest.mark.rule("RS-11")
async def test_an_app_at_the_root_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    guard = protect()
    with caplog.at_level(logging.WARNING):
        await call(guard.app, "POST", "/mcp")
        await call(guard.app, "POST", "/mcp", root_path="/")
    assert caplog.records == []


@pytest.mark.rule("RS-11")
async def test_a_bare_verifier_has_no_document_to_miss(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard = protect(provider=make_provider().token_verifier)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        await call(mounted(guard.app, "/api"), "POST", "/api/mcp")
    assert caplog.records == []


@pytest.mark.rule("RS-11")
async def test_what_the_warning_says_to_do_works() -> None:
    provider = make_provider(API)
    app = Starlette(
        routes=[
            *provider.get_well_known_routes("/mcp"),
            Mount("/api", MCPAuthMiddleware(Spy(), provider, mcp_path="/mcp")),
        ]
    )
    response = await call(app, "POST", "/api/mcp")
    url = challenge_of(response)["resource_metadata"]
    document = await call(app, "GET", url.removeprefix("https://mcp.example.com"))
    assert (document.status, document.json()["resource"]) == (200, f"{API}/mcp")
    assert (await call(app, "POST", "/api/mcp", ALICE)).body == b"hello"


@pytest.mark.rule("RS-11", "RS-43")
@pytest.mark.parametrize("server", ["uvicorn-h11", "uvicorn-httptools"])
async def test_mounted_over_uvicorn_protection_and_urls_are_the_same(server: str) -> None:
    guard = protect(provider=make_provider(API), public_paths=["/open"])

    async def host(scope: Any, receive: Any, send: Any) -> None:
        below = scope["type"] == "http" and scope["path"].startswith("/.well-known/")
        await (guard.app if below else mounted(guard.app, "/api"))(scope, receive, send)

    with serve(host, server) as base_url:
        status, headers, _ = request(
            base_url, b"GET /api/mcp HTTP/1.1\r\nHost: evil.example\r\n\r\n"
        )
        assert (status, f'"https://mcp.example.com{DOCUMENT}"' in headers["www-authenticate"]) == (
            401,
            True,
        )
        status, _, body = request(base_url, f"GET {DOCUMENT} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert (status, json.loads(body)["resource"]) == (200, f"{API}/mcp")
        assert request(base_url, b"GET /api/open HTTP/1.1\r\nHost: h\r\n\r\n")[0] == 200
        assert request(base_url, b"GET /api/open/../mcp HTTP/1.1\r\nHost: h\r\n\r\n")[0] == 401
