"""UserinfoTokenVerifier: the subject, what it remembers, and the cost of an outage."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    AccessToken,
    ConfigurationError,
    InvalidToken,
    MCPAuthMiddleware,
    RemoteAuthProvider,
    ServerUnavailable,
    UserinfoTokenVerifier,
)
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Spy, call
from tests.support.gate import ISSUER, NOW, Gate
from tests.support.profiles import ProfileServer, serving_profiles
from tests.support.rows import rows
from tests.tables.json_texts import broken_answers

ALICE = {"id": 583231, "login": "alice", "sub": "alice-at-idp"}


@pytest.fixture
def provider() -> Iterator[ProfileServer]:
    with serving_profiles() as profiles:
        profiles.profiles["gho_alice"] = ALICE
        yield profiles


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(NOW)


def verifier_for(provider: ProfileServer, **settings: Any) -> UserinfoTokenVerifier:
    return UserinfoTokenVerifier(
        **{"userinfo_url": provider.userinfo_url, "audience": ANY_AUDIENCE, **settings}
    )


async def reason_of(verifier: UserinfoTokenVerifier, token: str) -> str | None:
    try:
        await verifier.verify(token)
    except InvalidToken as refusal:
        return refusal.reason
    return None


# ---------------------------------------------------------------------------------------- one token


@pytest.mark.asyncio
async def test_the_profile_says_whose_token_it_is(provider: ProfileServer) -> None:
    access = await verifier_for(provider).verify("gho_alice")
    assert access == AccessToken(
        token="gho_alice",
        client_id="alice-at-idp",
        scopes=[],
        subject="alice-at-idp",
        claims={**ALICE, "iss": provider.userinfo_url},
    )


@pytest.mark.asyncio
async def test_a_whole_number_names_a_person_too(provider: ProfileServer) -> None:
    access = await verifier_for(provider, subject_claim="id").verify("gho_alice")
    assert (access.subject, access.claims["id"]) == ("583231", 583231)


@pytest.mark.asyncio
@pytest.mark.parametrize("subject", [None, True, 1.5, "", "a\nb", ["alice"], {"id": 1}])
async def test_a_profile_without_a_subject_is_no_verdict(
    provider: ProfileServer, subject: Any, caplog: pytest.LogCaptureFixture
) -> None:
    provider.profiles["gho_alice"] = {"id": subject}
    with pytest.raises(ServerUnavailable):
        await verifier_for(provider, subject_claim="id").verify_token("gho_alice")
    assert "the profile has no usable id: check subject_claim" in caplog.text


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("x" * 65_537, "too_long"),
        ("é", "malformed"),
        ("\ud800", "malformed"),
        ("a b", "malformed"),
        ("", "malformed"),
    ],
)
async def test_what_cannot_be_a_token_is_not_asked_about(
    provider: ProfileServer, clock: FrozenClock, token: str, reason: str
) -> None:
    gate = Gate(verifier_for(provider, clock=clock), good=lambda: "gho_alice", clock=clock)
    await gate.only_refuses(token, reason)
    assert provider.requests == []
    await gate.refuses(token, reason)


@pytest.mark.asyncio
@pytest.mark.parametrize("token", ["a\r\nx-evil: 1", "a\nb", "a\tb", "a b", "\x7f"])
async def test_a_token_cannot_add_a_header(provider: ProfileServer, token: str) -> None:
    assert await reason_of(verifier_for(provider), token) == "malformed"
    assert provider.requests == []


@pytest.mark.asyncio
@pytest.mark.parametrize("token", [None, 5, b"token"])
async def test_a_token_that_is_no_str_is_a_programming_error(
    provider: ProfileServer, token: Any
) -> None:
    with pytest.raises(TypeError, match="token must be a str"):
        await verifier_for(provider).verify(token)


@pytest.mark.asyncio
async def test_settings_headers_are_sent_along(provider: ProfileServer) -> None:
    headers = {"X-GitHub-Api-Version": "2022-11-28", "Accept": "application/vnd.github+json"}
    await verifier_for(provider, headers=headers).verify("gho_alice")
    (sent,) = provider.requests
    assert sent["x-github-api-version"] == "2022-11-28"
    assert sent["accept"] == "application/vnd.github+json"
    assert sent["authorization"] == "Bearer gho_alice"


# ------------------------------------------------------------------------------------------- memory


@pytest.mark.asyncio
async def test_a_profile_is_fetched_once_per_ttl(
    provider: ProfileServer, clock: FrozenClock
) -> None:
    verifier = verifier_for(provider, cache_ttl_seconds=60, clock=clock)
    for _ in range(3):
        assert await reason_of(verifier, "gho_alice") is None
    clock.advance(59)
    del provider.profiles["gho_alice"]
    assert await reason_of(verifier, "gho_alice") is None  # the price of remembering
    assert len(provider.requests) == 1
    clock.advance(1)
    assert await reason_of(verifier, "gho_alice") == "inactive"
    assert len(provider.requests) == 2


@pytest.mark.asyncio
async def test_with_a_ttl_of_zero_every_request_is_asked_for(provider: ProfileServer) -> None:
    verifier = verifier_for(provider, cache_ttl_seconds=0)
    assert await reason_of(verifier, "gho_alice") is None
    del provider.profiles["gho_alice"]
    assert await reason_of(verifier, "gho_alice") == "inactive"
    assert await reason_of(verifier, "gho_alice") == "inactive"
    assert len(provider.requests) == 3


@pytest.mark.asyncio
async def test_a_refusal_is_remembered_for_a_few_seconds_only(
    provider: ProfileServer, clock: FrozenClock
) -> None:
    verifier = verifier_for(provider, clock=clock)
    for _ in range(3):
        assert await reason_of(verifier, "not-known-yet") == "inactive"
    clock.advance(4.9)
    assert await reason_of(verifier, "not-known-yet") == "inactive"
    assert len(provider.requests) == 1
    clock.advance(0.1)
    assert await reason_of(verifier, "not-known-yet") == "inactive"
    assert len(provider.requests) == 2


@pytest.mark.asyncio
async def test_two_tokens_never_share_a_profile(provider: ProfileServer) -> None:
    provider.profiles["gho_bob"] = {"sub": "bob"}
    verifier = verifier_for(provider)
    for _ in range(2):
        assert (await verifier.verify("gho_alice")).subject == "alice-at-idp"
        assert (await verifier.verify("gho_bob")).subject == "bob"
    (await verifier.verify("gho_alice")).claims["sub"] = "root"
    assert (await verifier.verify("gho_alice")).claims["sub"] == "alice-at-idp"


# ------------------------------------------------------------------------------------------ outages


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [401, 403])
async def test_the_provider_may_refuse_a_token(provider: ProfileServer, status: int) -> None:
    provider.answer = (status, b"<html>", {})
    assert await reason_of(verifier_for(provider), "gho_alice") == "inactive"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "headers", [{"x-ratelimit-remaining": "0"}, {"retry-after": "60"}], ids=str
)
async def test_a_403_for_asking_too_often_is_no_verdict(
    provider: ProfileServer, clock: FrozenClock, headers: Mapping[str, str]
) -> None:
    verifier = verifier_for(provider, clock=clock)
    provider.answer = (403, b"{}", headers)
    with pytest.raises(ServerUnavailable):
        await verifier.verify_token("gho_alice")
    provider.answer = (403, b"{}", {"x-ratelimit-remaining": "4999"})
    clock.advance(1)
    assert await reason_of(verifier, "gho_alice") == "inactive"


@pytest.mark.asyncio
async def test_an_outage_is_no_verdict(
    provider: ProfileServer, clock: FrozenClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    verifier = verifier_for(provider, clock=clock)
    provider.answer = (500, b"", {})
    for _ in range(3):
        with pytest.raises(ServerUnavailable) as caught:
            await verifier.verify_token("gho_alice")
        assert caught.value.retry_after_seconds >= 1
    assert len(provider.requests) == 1  # the others did not have to wait for the same failure
    clock.advance(1)
    with pytest.raises(ServerUnavailable):
        await verifier.verify_token("gho_other")
    assert len(provider.requests) == 2
    provider.answer = None
    clock.advance(1)
    assert await reason_of(verifier, "gho_alice") is None
    assert await reason_of(verifier, "gho_other") == "inactive"
    messages = [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name.endswith("lookups")
    ]
    assert messages == [
        (
            "WARNING",
            f"Profiles at {provider.userinfo_url} failed: HTTP 500. Tokens are answered with 503",
        ),
        ("INFO", f"Profiles at {provider.userinfo_url} works again"),
    ]
    assert "gho_" not in caplog.text


@pytest.mark.asyncio
async def test_remembered_tokens_survive_an_outage(provider: ProfileServer) -> None:
    verifier = verifier_for(provider)
    assert await reason_of(verifier, "gho_alice") is None
    provider.answer = (503, b"", {})
    with pytest.raises(ServerUnavailable):
        await verifier.verify("another-token")
    assert await reason_of(verifier, "gho_alice") is None


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [204, 400, 404, 413, 429])
async def test_an_answer_that_may_be_about_one_token_locks_no_other_out(
    provider: ProfileServer, status: int
) -> None:
    verifier = verifier_for(provider)
    provider.answer = (status, b"", {"location": "https://elsewhere.example"})
    with pytest.raises(ServerUnavailable):
        await verifier.verify("odd-token")
    provider.answer = None
    assert await reason_of(verifier, "gho_alice") is None


@pytest.mark.asyncio
@rows(
    "body",
    [
        *broken_answers(b'{"sub":"a"}'),
        b'{"ok":false}',
        b'{"sub":"a","x":"' + b"x" * 65 * 1024 + b'"}',
    ],
)
async def test_an_answer_that_makes_no_sense_is_no_verdict(
    provider: ProfileServer, body: bytes
) -> None:
    provider.answer = (200, body, {})
    with pytest.raises(ServerUnavailable):
        await verifier_for(provider).verify_token("gho_alice")


@pytest.mark.asyncio
@pytest.mark.rule("PX-17")
@pytest.mark.parametrize("body", [b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln", b"\neyJ.a.b.c.d"])
async def test_a_profile_that_is_a_jwt_cannot_be_checked_and_the_log_says_so(
    provider: ProfileServer, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    provider.answer = (200, body, {"content-type": "application/jwt"})
    with pytest.raises(ServerUnavailable):
        await verifier_for(provider).verify_token("gho_alice")
    assert "the profile is a JWT, which needs the issuer's keys" in caplog.text


@pytest.mark.asyncio
async def test_an_endpoint_that_does_not_exist_is_an_outage() -> None:
    verifier = UserinfoTokenVerifier(userinfo_url="http://127.0.0.1:1/user", audience=ANY_AUDIENCE)
    with pytest.raises(ServerUnavailable):
        await verifier.verify_token("gho_alice")


@pytest.mark.asyncio
@pytest.mark.parametrize("pooled", [True, False])
async def test_connections_are_pooled_while_it_is_open(
    provider: ProfileServer, pooled: bool
) -> None:
    verifier = verifier_for(provider, cache_ttl_seconds=0)
    if pooled:
        async with verifier:
            assert await reason_of(verifier, "gho_alice") is None
    assert await reason_of(verifier, "gho_alice") is None


@pytest.mark.asyncio
async def test_a_client_of_the_users_is_used_and_left_open(provider: ProfileServer) -> None:
    async with httpx.AsyncClient(headers={"x-from": "the-user"}) as client:
        async with verifier_for(provider, http_client=client) as verifier:
            assert isinstance(verifier, UserinfoTokenVerifier)
            assert await reason_of(verifier, "gho_alice") is None
        assert not client.is_closed
    assert provider.requests[0]["x-from"] == "the-user"


# ---------------------------------------------------------------------------- audience and settings


@pytest.mark.asyncio
async def test_behind_the_middleware_it_says_who_is_calling(provider: ProfileServer) -> None:
    app = Spy()
    protected = MCPAuthMiddleware(
        app, RemoteAuthProvider(verifier_for(provider), [ISSUER], "https://mcp.example.com")
    )
    assert (await call(protected, "GET", "/", {"Authorization": "Bearer gho_alice"})).status == 200
    assert app.scope["access_token"].subject == "alice-at-idp"
    assert (await call(protected, "GET", "/", {"Authorization": "Bearer gho_other"})).status == 401


@pytest.mark.asyncio
async def test_without_any_audience_it_serves_a_proxy_only(provider: ProfileServer) -> None:
    verifier = verifier_for(provider, audience=None, required_scopes=["read:user"])
    assert (await verifier.verify("gho_alice")).subject == "alice-at-idp"  # what a proxy does
    with pytest.raises(
        ConfigurationError, match="Put an OAuthProxy around the verifier, or write audience=ANY_AUD"
    ):
        MCPAuthMiddleware(Spy(), verifier)


def test_required_scopes_would_refuse_every_token(provider: ProfileServer) -> None:
    verifier = verifier_for(provider, required_scopes=["read:user"])
    with pytest.raises(ConfigurationError, match="a profile does not name a token's scopes"):
        RemoteAuthProvider(verifier, [ISSUER], "https://mcp.example.com").set_mcp_path("/mcp")


@rows(
    ("settings", "message"),
    [
        ({"userinfo_url": "http://idp.example/user"}, "not encrypted"),
        ({"userinfo_url": None}, "userinfo_url must be given"),
        ({"subject_claim": ""}, "subject_claim="),
        ({"subject_claim": ["id", "sub"]}, "subject_claim="),
        ({"audience": "https://mcp.example.com"}, "only ANY_AUDIENCE is possible"),
        ({"cache_ttl_seconds": 3601}, "cache_ttl_seconds="),
        ({"headers": "accept: x"}, "headers='accept: x' must be a Mapping"),
        ({"headers": {"Authorization": "Basic x"}}, "other than Authorization"),
        ({"headers": {"a b": "x"}}, "the name of a header"),
        ({"headers": {5: "x"}}, "the name of a header"),
        ({"headers": {"x-a": "b\r\nc: d"}}, "headers has x-a="),
        ({"headers": {"x-a": 5}}, "headers has x-a=5"),
        ({"clock": 5}, "clock=5"),
        ({"http_client": 5}, "http_client=5"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        UserinfoTokenVerifier(**{"userinfo_url": "https://idp.example/user", **settings})
