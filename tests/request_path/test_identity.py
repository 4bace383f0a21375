"""The caller's identity as the app sees it, which no other layer or header can set."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_mcp_auth import (
    AccessToken,
    ConfigurationError,
    MCPAuthMiddleware,
    Rule,
    StaticTokenVerifier,
    get_access_token,
)
from tests.support.asgi import Spy, call, handshake, make_scope
from tests.support.protection import ALICE, BOB, make_provider, protect
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio


async def test_the_app_gets_the_token_and_starlettes_auth_and_user() -> None:
    guard = protect()
    await call(guard.app, "GET", "/mcp", ALICE)
    scope = guard.spy.scope
    access = scope["access_token"]
    assert isinstance(access, AccessToken)
    assert (access.token, access.client_id, access.subject) == ("alice-token", "client-a", "alice")
    assert access.scopes == ["mcp:read", "mcp:write"]
    assert scope["auth"].scopes == ["mcp:read", "mcp:write"]
    assert (scope["user"].is_authenticated, scope["user"].identity, scope["user"].display_name) == (
        True,
        "alice",
        "alice",
    )


async def test_a_user_without_a_subject_is_its_client() -> None:
    guard = protect(provider=StaticTokenVerifier({"machine": {"client_id": "cron"}}))
    await call(guard.app, "GET", "/mcp", {"Authorization": "Bearer machine"})
    assert (guard.spy.scope["user"].identity, guard.spy.scope["access_token"].subject) == (
        "cron",
        None,
    )


async def test_on_a_public_path_the_values_are_explicitly_anonymous() -> None:
    guard = protect(public_paths=["/open"])
    await call(guard.app, "GET", "/open", ALICE)
    scope = guard.spy.scope
    assert scope["access_token"] is None
    assert scope["auth"].scopes == []
    assert (scope["user"].is_authenticated, scope["user"].identity, scope["user"].display_name) == (
        False,
        "",
        "",
    )
    scope["auth"].scopes.append("mcp:admin")
    assert scope["auth"].scopes == []


@pytest.mark.rule("RS-42")
@pytest.mark.parametrize(("path", "headers"), [("/mcp", ALICE), ("/open", {})])
async def test_what_an_outer_layer_left_in_our_keys_is_overwritten(
    path: str, headers: dict[str, str]
) -> None:
    guard = protect(public_paths=["/open"])
    spoof = AccessToken(token="spoof", client_id="evil", scopes=["mcp:admin"], subject="root")
    members = {
        "access_token": spoof,
        "auth": spoof,
        "user": spoof,
        "asgi_mcp_auth.challenger": spoof,
    }
    await call(guard.app, "GET", path, headers, **members)
    scope = guard.spy.scope
    assert not [name for name in members if scope[name] is spoof]
    assert scope["user"].identity == ("alice" if path == "/mcp" else "")


@pytest.mark.rule("RS-42")
async def test_the_callers_scope_is_not_written_to() -> None:
    spy = Spy()
    guard = protect(spy, public_paths=["/open"], forward_authorization=False)
    for target in ("/mcp", "/open"):
        scope = make_scope("http", "GET", target, ALICE)
        before = {**scope, "headers": list(scope["headers"])}

        async def send(message: Any) -> None:
            pass

        await guard.app(scope, None, send)  # type: ignore[arg-type]
        assert scope == before
    for inner in spy.scopes:
        inner["anything"] = 1


@pytest.mark.rule("RS-42")
async def test_state_is_shared_with_the_server_as_it_is() -> None:
    guard = protect()
    state: dict[str, Any] = {"pool": 1}
    await call(guard.app, "GET", "/mcp", ALICE, state=state)
    assert guard.spy.scope["state"] is state


@pytest.mark.rule("RS-42")
@rows("header", ["X-User", "X-Forwarded-User", "X-Auth-Subject", "Remote-User"])
async def test_a_header_that_claims_an_identity_has_no_effect(header: str) -> None:
    guard = protect()
    guard.assert_refused(
        await call(guard.app, "GET", "/mcp", {header: "root"}), 401, "missing_token"
    )
    guard.assert_entered(await call(guard.app, "GET", "/mcp", {**ALICE, header: "root"}), "alice")


@pytest.mark.rule("RS-28", "RS-44")
async def test_the_authorization_header_reaches_the_app_unless_it_is_switched_off() -> None:
    headers = {**ALICE, "X-Other": "1"}
    for forward, expected in (
        (True, ["host", "authorization", "x-other"]),
        (False, ["host", "x-other"]),
    ):
        guard = protect(forward_authorization=forward, public_paths=["/open"])
        for target in ("/mcp", "/open"):
            await call(guard.app, "GET", target, headers)
            assert [name.decode() for name, _ in guard.spy.scopes.pop()["headers"]] == expected
        await handshake(guard.app, "/mcp", headers)
        assert [name.decode() for name, _ in guard.spy.scopes.pop()["headers"]] == expected


async def test_get_access_token_reads_a_scope_a_request_and_the_running_task() -> None:
    found: list[AccessToken | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.extend(
            [get_access_token(scope), get_access_token(Request(scope)), get_access_token()]
        )
        found.append(await asyncio.create_task(in_a_task()))
        found.append(await asyncio.to_thread(get_access_token))
        await Spy()(scope, receive, send)

    async def in_a_task() -> AccessToken | None:
        return get_access_token()

    guard = protect(app, public_paths=["/open"])
    await call(guard.app, "GET", "/mcp", ALICE)
    assert [None if each is None else each.subject for each in found] == ["alice"] * 5
    found.clear()
    await call(guard.app, "GET", "/open", ALICE)
    assert found == [None] * 5
    assert get_access_token() is None


async def test_get_access_token_without_the_middleware_is_none() -> None:
    assert get_access_token() is None
    assert get_access_token(make_scope("http", "GET", "/")) is None
    assert get_access_token({"type": "http", "access_token": {"subject": "root"}}) is None


async def test_a_public_request_inside_a_protected_one_is_anonymous() -> None:
    inside: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inside.append(get_access_token())
        if scope["path"] == "/mcp":
            await call(guard.app, "GET", "/open")
            inside.append(get_access_token())
        await Spy()(scope, receive, send)

    guard = protect(app, public_paths=["/open"])
    await call(guard.app, "GET", "/mcp", ALICE)
    assert [each and each.subject for each in inside] == ["alice", None, "alice"]


async def test_concurrent_requests_each_see_their_own_caller() -> None:
    seen: dict[str, list[str | None]] = {"alice": [], "bob": []}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        subject = scope["access_token"].subject
        for _ in range(5):
            await asyncio.sleep(0)
            access = get_access_token()
            seen[subject].append(access and access.subject)
        await Spy()(scope, receive, send)

    guard = protect(app)
    await asyncio.gather(
        *(call(guard.app, "GET", "/mcp", headers) for headers in [ALICE, BOB] * 10)
    )
    assert seen == {"alice": ["alice"] * 50, "bob": ["bob"] * 50}


async def test_requests_with_one_token_share_nothing_that_can_be_changed() -> None:
    guard = protect()
    for _ in range(2):
        await call(guard.app, "GET", "/mcp", ALICE)
    first, second = (scope["access_token"] for scope in guard.spy.scopes)
    first.scopes.append("mcp:admin")
    first.claims["scopes"].append("mcp:admin")
    assert second.scopes == second.claims["scopes"] == ["mcp:read", "mcp:write"]
    await call(guard.app, "GET", "/mcp", ALICE)
    assert guard.spy.scopes[-1]["access_token"].scopes == ["mcp:read", "mcp:write"]


async def test_starlettes_requires_and_request_user_work() -> None:
    @requires("mcp:admin")
    async def admin(request: Request) -> JSONResponse:
        return JSONResponse({})

    @requires("mcp:read")
    async def me(request: Request) -> JSONResponse:
        return JSONResponse({"user": request.user.display_name, "scopes": request.auth.scopes})

    guard = protect(
        Starlette(routes=[Route("/admin", admin), Route("/me", me)]),
        rules=[Rule("/open", public=True)],
    )
    response = await call(guard.app, "GET", "/me", ALICE)
    assert response.json() == {"user": "alice", "scopes": ["mcp:read", "mcp:write"]}
    assert (await call(guard.app, "GET", "/admin", ALICE)).status == 403


ALONE = """
import asyncio, sys
from tests.support.asgi import call
from tests.support.protection import ALICE, protect

async def main():
    guard = protect(public_paths=["/open"])
    for path in ("/mcp", "/open"):
        assert (await call(guard.app, "GET", path, ALICE)).status == 200
    print([type(scope["user"]).__module__ for scope in guard.spy.scopes])

asyncio.run(main())
print(sorted({"fastapi", "fastmcp", "mcp", "pydantic", "starlette"} & sys.modules.keys()))
"""


async def test_without_other_libraries_the_user_is_ours_and_none_of_them_is_imported() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ALONE, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    output, _ = await process.communicate()
    assert output.decode().splitlines() == [
        "['asgi_mcp_auth.tokens', 'asgi_mcp_auth.tokens']",
        "[]",
    ]


@pytest.mark.parametrize("app", [None, "app", 1])
async def test_an_app_that_is_none_is_refused_at_construction(app: Any) -> None:
    with pytest.raises(ConfigurationError, match="ASGI app"):
        MCPAuthMiddleware(app, make_provider())


@pytest.mark.parametrize("provider", [None, "https://idp.example", object()])
async def test_a_provider_that_is_none_is_refused_at_construction(provider: Any) -> None:
    with pytest.raises(ConfigurationError, match="AuthProvider"):
        MCPAuthMiddleware(Spy(), provider)
