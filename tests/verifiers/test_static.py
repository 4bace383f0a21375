"""StaticTokenVerifier, and the behaviour shared by all providers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asgi_mcp_auth import (
    AccessToken,
    AuthProvider,
    ConfigurationError,
    MCPAuthMiddleware,
    RemoteAuthProvider,
    ServerUnavailable,
    StaticTokenVerifier,
    TokenVerifier,
)
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Spy, call
from tests.support.gate import ISSUER, NOW, Gate
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio


async def test_a_listed_token_grants_what_the_list_says() -> None:
    facts = {
        "client_id": "me",
        "scopes": ["a"],
        "subject": "alice",
        "expires_at": NOW + 1,
        "roles": {"x": [1]},
    }
    gate = Gate(
        StaticTokenVerifier({"dev-token": facts}, clock=FrozenClock(NOW)), good=lambda: "dev-token"
    )
    access = await gate.accepts("dev-token")
    assert (access.client_id, access.scopes, access.subject, access.expires_at) == (
        "me",
        ["a"],
        "alice",
        NOW + 1,
    )
    assert access.claims == facts
    await gate.refuses("dev-tokem", "unknown_token")
    await gate.refuses("dev-token2", "unknown_token")
    await gate.refuses("DEV-TOKEN", "unknown_token")


async def test_a_listed_token_dies_on_the_second() -> None:
    clock = FrozenClock(NOW)
    verifier = StaticTokenVerifier(
        {"dev-token": {"client_id": "me", "expires_at": NOW + 10}}, clock=clock
    )
    gate = Gate(verifier, good=lambda: "dev-token")
    clock.advance(9)
    await gate.accepts("dev-token")
    clock.advance(1)
    await gate.only_refuses("dev-token", "expired")


async def test_a_listed_token_is_for_whatever_resource_there_is() -> None:
    bare = StaticTokenVerifier({"dev-token": {"client_id": "me", "sub": "alice"}})
    access = await bare.verify_token("dev-token")
    assert access is not None
    assert (access.resource, access.subject, access.expires_at, access.scopes) == (
        None,
        "alice",
        None,
        [],
    )
    placed = StaticTokenVerifier(
        {"dev-token": {"client_id": "me"}}, base_url="https://mcp.example.com/"
    )
    placed.set_mcp_path("/mcp")
    behind = StaticTokenVerifier({"dev-token": {"client_id": "me"}})
    RemoteAuthProvider(behind, ["https://idp.example.com"], "https://mcp.example.com").set_mcp_path(
        "/mcp"
    )
    for verifier in (placed, behind):
        access = await verifier.verify_token("dev-token")
        assert access is not None
        assert access.resource == "https://mcp.example.com/mcp"


async def test_two_requests_with_a_listed_token_share_nothing() -> None:
    verifier = StaticTokenVerifier({"t": {"client_id": "me", "scopes": ["a"], "roles": ["x"]}})
    first = await verifier.verify("t")
    first.scopes.append("b")
    first.claims["roles"].append("y")
    second = await verifier.verify("t")
    assert (second.scopes, second.claims["roles"]) == (["a"], ["x"])


@rows("token", ["", "é", "\ud800", "x" * 100_000, "a b"])
async def test_whatever_is_not_listed_is_unknown(token: str) -> None:
    verifier = StaticTokenVerifier({"t": {"client_id": "me"}})
    assert await verifier.verify_token(token) is None


class Directory(TokenVerifier):
    """A verifier as users write it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.calls: list[str] = []
        self.down = False

    async def verify_token(self, token: str) -> AccessToken | None:
        if self.down:
            raise ServerUnavailable(7)
        return AccessToken(token=token, client_id="c", scopes=["x"]) if token == "good" else None

    async def start(self) -> None:
        self.calls.append("start")

    async def stop(self) -> None:
        self.calls.append("stop")


async def test_a_verifier_of_the_users_needs_only_verify_token() -> None:
    events = []
    verifier, spy = Directory(required_scopes=["x"]), Spy()
    app = MCPAuthMiddleware(
        spy, RemoteAuthProvider(verifier, [ISSUER], "https://h.example"), on_event=events.append
    )
    assert (await call(app, "GET", "/", {"Authorization": "Bearer good"})).status == 200
    assert (await call(app, "GET", "/", {"Authorization": "Bearer bad"})).status == 401
    assert [event.reason for event in events] == ["rejected"]
    verifier.down = True
    response = await call(app, "GET", "/", {"Authorization": "Bearer good"})
    assert (response.status, response.header("retry-after")) == (503, "7")


async def test_a_provider_without_verify_token_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        TokenVerifier()  # type: ignore[abstract]


async def test_a_provider_is_opened_once_however_many_share_it() -> None:
    verifier = Directory()
    provider = RemoteAuthProvider(verifier, [ISSUER], "https://h.example")
    async with provider, verifier, provider:
        assert verifier.calls == ["start"]
    assert verifier.calls == ["start", "stop"]
    async with verifier:
        pass
    assert verifier.calls == ["start", "stop"] * 2


async def test_a_provider_is_opened_on_each_event_loop_by_itself() -> None:
    verifier = Directory()

    async def use() -> None:
        async with verifier:
            pass

    async with verifier:
        await asyncio.to_thread(asyncio.run, use())
        assert verifier.calls == ["start", "start", "stop"]
    assert verifier.calls == ["start", "start", "stop", "stop"]


async def test_what_a_bare_verifier_says_about_itself() -> None:
    verifier = Directory(required_scopes=["a", "offline_access"], base_url="https://h.example/")
    assert (verifier.base_url, verifier.resource) == ("https://h.example", "https://h.example")
    assert (verifier.scopes_supported, verifier.challenge_scopes) == (
        ["a", "offline_access"],
        ["a"],
    )
    assert verifier.get_challenge_scopes(["b", "b"]) == ["b"]
    assert verifier.resource_metadata_url is None
    assert verifier.get_routes("/mcp") == []
    assert verifier.resource == "https://h.example/mcp"
    assert Directory().resource is None


async def test_what_a_remote_provider_says_about_itself() -> None:
    verifier = Directory(required_scopes=["a"])
    provider = RemoteAuthProvider(
        verifier,
        (ISSUER,),
        "https://h.example",
        ["a", "b"],
        challenge_scopes=["c", "offline_access"],
    )
    assert provider.authorization_servers == [ISSUER]
    assert (provider.required_scopes, provider.scopes_supported) == (["a"], ["a", "b"])
    assert (provider.challenge_scopes, provider.get_challenge_scopes(["d"])) == (
        ["c", "a"],
        ["c", "d"],
    )
    paths = sorted(route.path for route in provider.get_routes("/mcp"))
    assert paths == [
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-protected-resource/mcp/",
    ]
    assert sorted(route.path for route in provider.get_well_known_routes()) == paths


async def test_a_base_url_that_ends_in_the_mcp_path_is_probably_a_mistake(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    RemoteAuthProvider(Directory(), [ISSUER], "https://h.example").set_mcp_path("/mcp")
    assert caplog.records == []
    RemoteAuthProvider(Directory(), [ISSUER], "https://h.example/mcp").set_mcp_path("/mcp")
    assert "so that the resource is https://h.example/mcp/mcp" in caplog.text


async def test_a_provider_keeps_its_path() -> None:
    provider: AuthProvider = RemoteAuthProvider(Directory(), [ISSUER], "https://h.example")
    provider.set_mcp_path("/")
    provider.set_mcp_path(None)
    assert (provider.mcp_path, provider.resource) == ("", "https://h.example")
    with pytest.raises(ConfigurationError, match=r"^mcp_path="):
        provider.set_mcp_path("/mcp")


async def test_the_middleware_of_a_provider_protects_an_app() -> None:
    provider = RemoteAuthProvider(Directory(), [ISSUER], "https://h.example")
    (entry,) = provider.get_middleware()
    spy = Spy()
    app = entry.cls(spy, *entry.args, **entry.kwargs)
    assert (await call(app, "GET", "/", {"Authorization": "Bearer good"})).status == 200
    assert (await call(app, "GET", "/")).status == 401


async def test_outside_a_middleware_the_reason_of_a_refusal_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    verifier = StaticTokenVerifier({"t": {"client_id": "me"}})
    assert await verifier.verify_token("secret-token") is None
    (record,) = caplog.records
    assert record.__dict__["reason"] == "unknown_token"
    assert record.getMessage() == f"Token {record.__dict__['token_id']} refused: unknown_token"
    assert "secret-token" not in caplog.text


async def test_two_spellings_of_one_issuer_are_probably_a_mistake(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    verifier = Directory()
    verifier.issuers = (ISSUER, "https://another.example")
    RemoteAuthProvider(verifier, [ISSUER], "https://h.example")
    assert caplog.records == []
    RemoteAuthProvider(verifier, [f"{ISSUER}/"], "https://h.example")
    assert f"authorization_servers has '{ISSUER}/', the verifier '{ISSUER}'" in caplog.text


async def test_a_provider_advertises_the_scopes_that_it_requires() -> None:
    provider = StaticTokenVerifier({"t": {"client_id": "c"}}, required_scopes=["a", "b"])
    assert provider.scopes_supported == provider.challenge_scopes == ["a", "b"]
