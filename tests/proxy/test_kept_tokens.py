"""The identity provider's tokens: used by tools, refreshed, revoked with their grants."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from asgi_mcp_auth import (
    ConfigurationError,
    InsufficientScope,
    InvalidToken,
    MissingToken,
    get_upstream_token,
)
from asgi_mcp_auth.proxy import UpstreamRules
from asgi_mcp_auth.proxy.refresh import LEASE_SECONDS, LEASES
from asgi_mcp_auth.server import Registration
from tests.support.authorization_server import CONFIDENTIAL, ClientOf, Server
from tests.support.engines import fresh
from tests.support.products import STORIES
from tests.support.proxy import KINDS, code_of, deploy_proxy, tokens_for, told, upstream_token
from tests.support.upstream import Upstream

pytestmark = pytest.mark.asyncio

TOKENS = "upstream"


async def signed_in(
    server: Server, upstream: Upstream, user: str = "alice"
) -> tuple[ClientOf, dict[str, Any]]:
    """Return a client and its tokens for a person."""
    client = await server.register()
    return client, await tokens_for(upstream, client, user)


async def revoke(server: Server, client: ClientOf, token: str) -> None:
    """Give a token back."""
    response = await server.call(
        "POST", "/revoke", form={"client_id": client.client_id, "token": token}
    )
    assert response.status == 200


def refreshes(upstream: Upstream) -> int:
    """Return how many refreshes the identity provider was asked for."""
    return sum(each["grant_type"] == "refresh_token" for each in upstream.requests)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_tool_gets_the_persons_own_token(upstream: Upstream, kind: str) -> None:
    async with deploy_proxy(upstream, kind) as server:
        for user in ("alice", "bob"):
            _, tokens = await signed_in(server, upstream, user)
            assert upstream.access[await upstream_token(server, tokens["access_token"])] == user
        assert refreshes(upstream) == 0


@pytest.mark.rule("PX-11")
async def test_a_token_that_is_due_is_refreshed_and_rotation_is_survived(
    upstream: Upstream,
) -> None:
    """A minute before it expires."""
    async with deploy_proxy(upstream) as server:
        _, tokens = await signed_in(server, upstream)
        first = await upstream_token(server, tokens["access_token"])
        server.clock.advance(3600 - 61)
        assert await upstream_token(server, tokens["access_token"]) == first
        server.clock.advance(2)
        second = await upstream_token(server, tokens["access_token"])
        assert second != first
        assert await upstream_token(server, tokens["access_token"]) == second
        assert (refreshes(upstream), upstream.reused) == (1, [])


async def test_a_provider_that_keeps_its_refresh_token_need_not_send_it_again(
    upstream: Upstream,
) -> None:
    async with deploy_proxy(upstream) as server:
        _, tokens = await signed_in(server, upstream)
        upstream.answer(
            "/token", b'{"access_token":"second","token_type":"Bearer","expires_in":3600}', times=1
        )
        server.clock.advance(3550)
        assert await upstream_token(server, tokens["access_token"]) == "second"
        kept = upstream.requests[-1]["refresh_token"]
        ((_, record),) = await server.provider.store.scan(TOKENS)
        assert json.loads(record.value)["refresh_token"] == kept


@pytest.mark.case("P13")
@pytest.mark.rule("PX-11")
@pytest.mark.parametrize("engine", STORIES)
async def test_of_many_at_once_one_refreshes(upstream: Upstream, engine: str) -> None:
    """Twenty tools and twenty refreshing requests of the client; one upstream refresh, one
    successor.
    """
    with fresh(engine) as place:
        async with deploy_proxy(upstream, store=place.store(clock=upstream.clock)) as server:
            client, tokens = await signed_in(server, upstream)
            upstream.delay("/token", 0.2)
            server.clock.advance(3601)
            answers = await asyncio.gather(
                *(client.refresh(tokens["refresh_token"]) for _ in range(20))
            )
            assert {answer.status for answer in answers} == {200}
            assert len({answer.json()["refresh_token"] for answer in answers}) == 1
            access_token = answers[0].json()["access_token"]
            server.clock.advance(3590)
            provider: Any = server.provider
            seen = await asyncio.gather(
                *(_given(provider, server, access_token) for _ in range(20))
            )
            assert len(set(seen)) == 1
            assert await upstream_token(server, access_token) in upstream.access
            assert (refreshes(upstream), upstream.reused) == (2, [])


async def _given(provider: Any, server: Server, access_token: str) -> str:
    access = await provider.verify_token(access_token)
    token: str = await provider.get_upstream_token({"access_token": access})
    return token


@pytest.mark.case("P12")
@pytest.mark.rule("PX-06", "RS-39")
@pytest.mark.parametrize("kind", KINDS)
async def test_an_upstream_that_has_ended_the_sign_in_ends_the_grant_at_the_refresh(
    upstream: Upstream, kind: str
) -> None:
    """The client hears invalid_grant and signs in again; nothing is left."""
    async with deploy_proxy(upstream, kind) as server:
        client, tokens = await signed_in(server, upstream)
        upstream.end("alice")
        server.clock.advance(3590)
        response = await client.refresh(tokens["refresh_token"])
        assert (response.status, response.json()["error"]) == (400, "invalid_grant")
        assert server.reasons() == ["sign_in_ended"]
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401
        assert [each.reason for each in server.events if each.action == "grant_revoked"] == [
            "sign_in_ended"
        ]
        assert await server.provider.store.scan(TOKENS) == []


async def test_an_upstream_that_has_ended_the_sign_in_ends_the_grant_when_a_tool_asks(
    upstream: Upstream,
) -> None:
    async with deploy_proxy(upstream) as server:
        client, tokens = await signed_in(server, upstream)
        upstream.end("alice")
        server.clock.advance(3590)
        with pytest.raises(InvalidToken):
            await upstream_token(server, tokens["access_token"])
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401
        assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"


@pytest.mark.case("P12")
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b""),
        (500, b"<html>"),
        (429, b""),
        (200, b"<html>"),
        (200, b"{}"),
        (401, b'{"error":"invalid_client"}'),
    ],
)
async def test_an_upstream_that_is_down_ends_nothing(
    upstream: Upstream, status: int, body: bytes
) -> None:
    """A 503: the grant stays, and the same refresh token works afterwards, here and upstream."""
    async with deploy_proxy(upstream) as server:
        client, tokens = await signed_in(server, upstream)
        upstream.answer("/token", body, status=status)
        server.clock.advance(3600)
        response = await client.refresh(tokens["refresh_token"])
        assert response.status == 503
        assert response.header("retry-after")
        upstream.reset()
        server.clock.advance(1)
        assert (await client.refresh(tokens["refresh_token"])).status == 200
        assert upstream.reused == []


async def test_while_the_old_token_is_good_an_upstream_that_is_down_goes_unnoticed(
    upstream: Upstream,
) -> None:
    async with deploy_proxy(upstream) as server:
        client, tokens = await signed_in(server, upstream)
        first = await upstream_token(server, tokens["access_token"])
        upstream.fail("/token")
        server.clock.advance(3590)
        assert await upstream_token(server, tokens["access_token"]) == first
        assert (await client.refresh(tokens["refresh_token"])).status == 200


@pytest.mark.case("P21")
async def test_who_takes_the_lease_and_dies_is_followed(upstream: Upstream) -> None:
    """The next one waits for its end, and then goes on."""
    async with deploy_proxy(upstream) as server:
        client, tokens = await signed_in(server, upstream)
        store = server.provider.store
        ((key, _),) = await store.scan(TOKENS)
        server.clock.advance(3601)
        assert await store.add(LEASES.name, f"{key}.0", b"refreshing", ttl=LEASE_SECONDS)
        waiting = asyncio.create_task(client.refresh(tokens["refresh_token"]))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        server.clock.advance(LEASE_SECONDS + 1)
        assert (await waiting).status == 200
        assert refreshes(upstream) == 1


async def test_no_request_waits_for_ever(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_mcp_auth.proxy.tokens.LOOKS", 3)
    async with deploy_proxy(upstream) as server:
        client, tokens = await signed_in(server, upstream)
        ((key, _),) = await server.provider.store.scan(TOKENS)
        server.clock.advance(3601)
        await server.provider.store.add(LEASES.name, f"{key}.0", b"refreshing", ttl=LEASE_SECONDS)
        assert (await client.refresh(tokens["refresh_token"])).status == 503


@pytest.mark.case("P15")
@pytest.mark.parametrize("kind", KINDS)
async def test_refreshed_tokens_of_another_person_end_the_grant(
    upstream: Upstream, kind: str
) -> None:
    async with deploy_proxy(upstream, kind) as server:
        client, tokens = await signed_in(server, upstream)
        upstream.refreshed_subject = "mallory"
        server.clock.advance(3590)
        assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
        assert await server.provider.store.scan(TOKENS) == []


@pytest.mark.case("P15")
@pytest.mark.parametrize(
    "claims", [{"sub": None}, {"aud": "another"}, {"iss": "https://evil.example"}]
)
async def test_a_refreshed_id_token_that_is_not_right_ends_the_grant(
    upstream: Upstream, claims: dict[str, Any]
) -> None:
    """OpenID Connect Core §12.2."""
    async with deploy_proxy(upstream) as server:
        client, tokens = await signed_in(server, upstream)
        upstream.id_token = claims
        server.clock.advance(3590)
        assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"


@pytest.mark.case("P15")
async def test_whose_refreshed_tokens_are_is_asked_again_if_it_could_not_be(
    upstream: Upstream,
) -> None:
    """The new tokens are kept before, so that nothing is lost."""
    async with deploy_proxy(upstream, "oauth") as server:
        client, tokens = await signed_in(server, upstream)
        upstream.fail("/introspect", times=1)
        server.clock.advance(3601)
        assert (await client.refresh(tokens["refresh_token"])).status == 503
        server.clock.advance(2)
        assert (await client.refresh(tokens["refresh_token"])).status == 200
        assert (refreshes(upstream), upstream.reused) == (1, [])


async def test_an_answer_without_an_id_token_is_enough_at_a_refresh(upstream: Upstream) -> None:
    """OpenID Connect Core §12.2."""
    async with deploy_proxy(upstream) as server:
        client, tokens = await signed_in(server, upstream)
        upstream.answer(
            "/token", b'{"access_token":"second","token_type":"Bearer","expires_in":60}', times=1
        )
        server.clock.advance(3590)
        assert (await client.refresh(tokens["refresh_token"])).status == 200


@pytest.mark.rule("PX-06", "RS-39")
async def test_without_a_refresh_token_a_grant_lasts_as_long_as_the_access_token(
    upstream: Upstream,
) -> None:
    upstream.refreshes = False
    async with deploy_proxy(upstream) as server:
        client, tokens = await signed_in(server, upstream)
        server.clock.advance(3590)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        assert await upstream_token(server, tokens["access_token"])
        server.clock.advance(10)
        with pytest.raises(InvalidToken):
            await upstream_token(server, tokens["access_token"])
        assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"


async def test_tokens_that_do_not_expire_are_never_refreshed(upstream: Upstream) -> None:
    upstream.expires_in = None
    async with deploy_proxy(upstream, "oauth") as server:
        client, tokens = await signed_in(server, upstream)
        for _ in range(20):
            server.clock.advance(86_400)
            tokens = (await client.refresh(tokens["refresh_token"])).json()
        assert await upstream_token(server, tokens["access_token"])
        assert refreshes(upstream) == 0


async def test_a_lifetime_of_nothing_is_no_loop(upstream: Upstream) -> None:
    upstream.expires_in = 0
    async with deploy_proxy(upstream) as server:
        _, tokens = await signed_in(server, upstream)
        before = refreshes(upstream)
        assert await upstream_token(server, tokens["access_token"])
        assert refreshes(upstream) == before + 1


@pytest.mark.case("P22")
@pytest.mark.rule("PX-11")
@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_revoked_here_is_given_back_there(upstream: Upstream, kind: str) -> None:
    async with deploy_proxy(upstream, kind) as server:
        client, tokens = await signed_in(server, upstream)
        (refresh_token,) = upstream._sessions
        await revoke(server, client, tokens["refresh_token"])
        await told(server)
        assert upstream.revoked == [refresh_token]
        assert await server.provider.store.scan(TOKENS) == []
        await revoke(server, client, tokens["refresh_token"])
        await told(server)
        assert len(upstream.revoked) == 1


async def test_an_access_token_is_given_back_where_there_is_no_other(upstream: Upstream) -> None:
    upstream.refreshes = False
    async with deploy_proxy(upstream) as server:
        client, tokens = await signed_in(server, upstream)
        await revoke(server, client, tokens["access_token"])
        await told(server)
        assert upstream.revoked == list(upstream.access)


@pytest.mark.case("P22")
@pytest.mark.parametrize("status", [400, 503])
async def test_a_provider_that_takes_nothing_back_is_no_obstacle(
    upstream: Upstream, status: int
) -> None:
    async with deploy_proxy(upstream) as server:
        client, tokens = await signed_in(server, upstream)
        upstream.fail("/revoke", status=status)
        await revoke(server, client, tokens["refresh_token"])
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401
        assert await server.provider.store.scan(TOKENS) == []


async def test_a_provider_without_revocation_is_not_asked(upstream: Upstream) -> None:
    async with deploy_proxy(upstream, "oauth", upstream_revocation_endpoint=None) as server:
        client, tokens = await signed_in(server, upstream)
        await revoke(server, client, tokens["refresh_token"])
        await told(server)
        assert upstream.revoked == []


async def test_a_replayed_code_gives_everything_back(upstream: Upstream) -> None:
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        code = await code_of(upstream, client)
        assert (await client.redeem(code)).status == 200
        server.clock.advance(30)
        assert (await client.redeem(code)).status == 400
        await told(server)
        assert len(upstream.revoked) == 1


@pytest.mark.case("P21")
async def test_a_code_that_is_never_redeemed_leaves_nothing_for_long(upstream: Upstream) -> None:
    """The tokens of a sign-in that led to nothing go with the transaction, long before a grant
    would.
    """
    async with deploy_proxy(upstream) as server:
        await code_of(upstream, await server.register())
        assert len(await server.provider.store.scan(TOKENS)) == 1
        server.clock.advance(1000)
        assert await server.provider.store.scan(TOKENS) == []


async def test_the_tokens_stay_as_long_as_the_grant_that_is_used(upstream: Upstream) -> None:
    upstream.expires_in = None
    async with deploy_proxy(upstream) as server:
        client, tokens = await signed_in(server, upstream)
        for _ in range(2):
            server.clock.advance(13 * 86_400)
            tokens = (await client.refresh(tokens["refresh_token"])).json()
            assert await upstream_token(server, tokens["access_token"])
        server.clock.advance(15 * 86_400)
        assert await server.provider.store.scan(TOKENS) == []


async def test_without_kept_tokens_a_grant_lives_by_itself(upstream: Upstream) -> None:
    async with deploy_proxy(upstream, upstream=UpstreamRules(keep_tokens=False)) as server:
        client, tokens = await signed_in(server, upstream)
        upstream.end("alice")
        server.clock.advance(3590)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        with pytest.raises(ConfigurationError, match="keep_tokens"):
            await upstream_token(server, tokens["access_token"])
        await revoke(server, client, tokens["refresh_token"])
        assert await server.provider.store.scan(TOKENS) == []


async def test_who_has_no_upstream_token(upstream: Upstream) -> None:
    settings = {"registration": Registration(clients=[CONFIDENTIAL])}
    async with deploy_proxy(upstream, **settings) as server:
        response = await server.known(CONFIDENTIAL).token(grant_type="client_credentials")
        with pytest.raises(InsufficientScope):
            await upstream_token(server, response.json()["access_token"])
        provider: Any = server.provider
        for ask in (provider.get_upstream_token, get_upstream_token):
            with pytest.raises(MissingToken):
                await ask({})
        client, tokens = await signed_in(server, upstream)
        access = await provider.verify_token(tokens["access_token"])
        with pytest.raises(ConfigurationError, match="another server issued"):
            await provider.get_upstream_token(
                {"access_token": access.model_copy(update={"claims": {"iss": "x"}})}
            )
        with pytest.raises(ConfigurationError, match="no OAuthProxy"):
            await get_upstream_token({"access_token": access})  # with no middleware in front
        assert await provider.get_upstream_token({"access_token": access}) in upstream.access
        await revoke(server, client, tokens["refresh_token"])
        with pytest.raises(InvalidToken):
            await provider.get_upstream_token({"access_token": access})
