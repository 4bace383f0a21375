"""The operator's functions: clients, grants, people, keys, sweeping, health."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from asgi_mcp_auth import ServerUnavailable
from asgi_mcp_auth.errors import InvalidClientMetadata, InvalidRedirectURI
from asgi_mcp_auth.server import Client, Registration
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import (
    CONFIDENTIAL,
    KEY,
    REDIRECT_URI,
    WEB_REDIRECT_URI,
    ClientOf,
    Server,
    deploy,
)
from tests.support.engines import fresh
from tests.support.failing import FailingStore
from tests.support.products import STORIES
from tests.support.rows import rows

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("AS-76")]

LAG = 5


@asynccontextmanager
async def two_workers(engine: str) -> AsyncIterator[tuple[Server, Server]]:
    """Run two workers on one store; what one of them does is seen by the other within the lag."""
    with fresh(engine) as place:
        clock = FrozenClock(time.time())
        settings: dict[str, Any] = {
            "clock": clock,
            "registration": Registration(clients=[CONFIDENTIAL]),
        }
        one = deploy(store=place.store(clock=clock), **settings)
        other = deploy(store=place.store(clock=clock), **settings)
        async with one as first, other as second:
            yield first, second


async def gets_in(server: Server, tokens: dict[str, Any]) -> bool:
    return (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200


async def grants_of(server: Server, **which: str) -> list[tuple[str, str]]:
    """The clients and people of the grants that have not ended."""
    found = [
        (grant.client_id, grant.subject) async for _, grant in server.provider.admin.grants(**which)
    ]
    return sorted(found)


@pytest.mark.parametrize("engine", STORIES)
async def test_grants_can_be_listed_by_person_by_client_and_all(engine: str) -> None:
    async with two_workers(engine) as (server, other):
        a, b = [await server.register() for _ in range(2)]
        for client, user in ((a, "alice"), (a, "bob"), (b, "alice")):
            await client.sign_in(user)
        await server.known(CONFIDENTIAL).token(grant_type="client_credentials")
        everything = [
            (a.client_id, "alice"),
            (a.client_id, "bob"),
            (b.client_id, "alice"),
            ("service", "service"),
        ]
        assert await grants_of(other) == sorted(everything)
        assert await grants_of(other, subject="alice") == sorted([everything[0], everything[2]])
        assert await grants_of(other, client_id=a.client_id) == everything[:2]
        assert await grants_of(other, subject="bob", client_id=b.client_id) == []
        assert await grants_of(other, subject="nobody") == []


@pytest.mark.rule("AS-76")
@pytest.mark.parametrize("engine", STORIES)
async def test_a_person_who_leaves_is_signed_out_everywhere_and_has_allowed_nothing(
    engine: str,
) -> None:
    """Sessions, consents, grants and unredeemed codes: seen elsewhere within the lag."""
    async with two_workers(engine) as (server, other):
        client, hosted = (
            await server.register(),
            await server.register(redirect_uris=[WEB_REDIRECT_URI]),
        )
        browser = server.browser()
        await hosted.code("alice", browser)
        tokens, bobs = await client.sign_in("alice"), await client.sign_in("bob")
        waiting = await client.code("alice")
        assert await gets_in(other, tokens)
        assert await server.provider.admin.revoke_person("alice") == 1
        assert not await gets_in(server, tokens)
        server.clock.advance(LAG)
        assert not await gets_in(other, tokens)
        for worker in (server, other):
            there = replace(client, server=worker)
            assert (await there.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
            assert (await there.redeem(waiting)).json()["error"] == "invalid_grant"
            assert await gets_in(worker, bobs)
        page = await browser.open(hosted.authorization_url())
        assert page.url.partition("?")[0].endswith("/login")
        page = await browser.sign_in(page, username="alice")
        assert page.url.partition("?")[0].endswith("/consent")  # asked again
        reasons = [event.reason for event in server.events if event.action == "grant_revoked"]
        assert set(reasons) == {"by_operator"}
        assert await server.provider.admin.revoke_person("alice") == 0


@pytest.mark.rule("AS-76")
@pytest.mark.parametrize("engine", STORIES)
async def test_a_client_that_is_deleted_is_gone_with_its_grants(engine: str) -> None:
    async with two_workers(engine) as (server, other):
        client, kept = await server.register(), await server.register()
        tokens, others = await client.sign_in(), await kept.sign_in()
        waiting = await client.code()
        assert await gets_in(other, tokens)
        assert await server.provider.admin.delete_client(client.client_id) is True
        server.clock.advance(LAG)
        for worker in (server, other):
            assert not await gets_in(worker, tokens)
            assert await gets_in(worker, others)
            there = replace(client, server=worker)
            assert (await there.redeem(waiting)).json()["error"] == "invalid_client"
            assert await worker.provider.admin.get_client(client.client_id) is None
        deleted = [event for event in server.events if event.action == "client_deleted"]
        assert [(event.client_id, event.endpoint) for event in deleted] == [
            (client.client_id, None)
        ]
        assert await other.provider.admin.delete_client(client.client_id) is False


@pytest.mark.parametrize("engine", STORIES)
async def test_one_grant_or_all_that_a_person_allowed_a_client_can_be_ended(engine: str) -> None:
    async with two_workers(engine) as (server, other):
        client = await server.register()
        first, second, bobs = [await client.sign_in(user) for user in ("alice", "alice", "bob")]
        (grant_id,) = [key async for key, _ in server.provider.admin.grants(subject="bob")]
        assert await server.provider.admin.revoke_grant(grant_id) is True
        assert await other.provider.admin.revoke_grant(grant_id) is False
        assert await server.provider.admin.revoke_grant("unknown") is False
        assert [await gets_in(server, each) for each in (first, second, bobs)] == [
            True,
            True,
            False,
        ]
        assert await other.provider.admin.revoke_client("alice", client.client_id) == 2
        server.clock.advance(LAG)
        assert [await gets_in(server, each) for each in (first, second)] == [False, False]


async def test_a_client_of_the_operators_cannot_be_forgotten_but_its_grants_end() -> None:
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        tokens = (await server.known(CONFIDENTIAL).token(grant_type="client_credentials")).json()
        assert await server.provider.admin.delete_client("service") is False
        assert not await gets_in(server, tokens)
        assert (
            await server.known(CONFIDENTIAL).token(grant_type="client_credentials")
        ).status == 200
        assert "client_deleted" not in [event.action for event in server.events]


@pytest.mark.parametrize("engine", STORIES)
async def test_a_client_can_be_made_while_the_server_runs(engine: str) -> None:
    async with two_workers(engine) as (server, other):
        metadata = {
            "redirect_uris": [WEB_REDIRECT_URI],
            "grant_types": ["authorization_code", "client_credentials"],
        }
        made = await server.provider.admin.create_client(metadata)
        assert (made["client_secret_expires_at"], "registration_access_token" in made) == (0, False)
        client = await other.provider.admin.get_client(made["client_id"])
        assert isinstance(client, Client)
        assert (client.origin, client.expires_at) == ("configured", None)
        assert made["client_secret"] not in repr(client)
        there = ClientOf(other, made)
        assert (await there.token(grant_type="client_credentials")).status == 200
        server.clock.advance(400 * 86_400)
        assert (await there.token(grant_type="client_credentials")).status == 200
        assert [event.action for event in server.events].count("client_registered") == 1
        known = [each.client_id async for each in other.provider.admin.clients()]
        assert known == ["service", made["client_id"]]


@rows(
    ("metadata", "error", "message"),
    [
        ({"redirect_uris": ["http://x"]}, InvalidRedirectURI, "must be https"),
        (
            {"redirect_uris": [REDIRECT_URI], "scope": "admin"},
            InvalidClientMetadata,
            "scope may contain",
        ),
        (
            {"redirect_uri": REDIRECT_URI},
            InvalidClientMetadata,
            "redirect_uri is not a known member",
        ),
        (
            {"redirect_uris": [REDIRECT_URI], "client_id": "mine"},
            InvalidClientMetadata,
            "are generated: to choose your own, write Registration",
        ),
        (
            {"redirect_uris": [REDIRECT_URI], "client_secret": "x"},
            InvalidClientMetadata,
            "are generated: to choose your own, write Registration",
        ),
    ],
)
async def test_a_client_that_is_made_is_held_to_the_same_as_one_in_the_settings(
    metadata: dict[str, Any], error: type[Exception], message: str
) -> None:
    async with deploy() as server:
        with pytest.raises(error, match=message):
            await server.provider.admin.create_client(metadata)
        assert [each async for each in server.provider.admin.clients()] == []


async def test_there_are_more_clients_and_grants_than_fit_on_a_page() -> None:
    async with deploy() as server:
        clients = [await server.register() for _ in range(250)]
        assert len({each.client_id async for each in server.provider.admin.clients()}) == 250
        for client in clients[:120]:
            await client.code()
        await clients[0].sign_in()
        assert await server.provider.admin.revoke_person("alice") == 1


@rows("client_id", ["", "unknown", "https://127.0.0.1/x", "\ud800", "x" * 5000, "a\nb"], ids=repr)
async def test_there_is_no_such_client(client_id: str) -> None:
    async with deploy() as server:
        assert await server.provider.admin.get_client(client_id) is None
        assert await server.provider.admin.delete_client(client_id) is False


async def test_everything_that_has_expired_can_be_removed_at_once() -> None:
    async with deploy() as server:
        for _ in range(600):
            await server.provider._server.clients.create({"token_endpoint_auth_method": "none"})
        server.clock.advance(86_400 + 30)
        assert await server.provider.admin.sweep() >= 600
        assert await server.provider.admin.sweep() == 0


async def test_health_is_a_store_that_answers_and_a_key_to_sign_with() -> None:
    clock = FrozenClock()
    inner = MemoryStore(clock=clock)
    store = FailingStore(inner)
    async with deploy(store=EncryptedStore(store, [KEY]), clock=clock) as server:
        assert await server.provider.admin.is_healthy() is True
        store.fail_at, store.for_good = len(store.calls) + 1, True
        assert await server.provider.admin.is_healthy() is False
        for action in (
            server.provider.admin.revoke_person("alice"),
            server.provider.admin.delete_client("x"),
            server.provider.admin.get_client("x"),
            server.provider.admin.rotate_keys(),
            server.provider.admin.sweep(),
            server.provider.admin.create_client({"redirect_uris": [REDIRECT_URI]}),
        ):
            with pytest.raises(ServerUnavailable):
                await action
        store.fail_at = 0
        assert await server.provider.admin.is_healthy() is True
    other_key = KEY[:-2] + ("AA" if KEY[-2:] != "AA" else "BA")
    async with deploy(store=EncryptedStore(inner, [other_key]), clock=clock) as server:
        assert await server.provider.admin.is_healthy() is False
