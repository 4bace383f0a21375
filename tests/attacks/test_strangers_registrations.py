"""Registrations by strangers: a share for each network, and used ones are kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError
from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.server.clients.records import CLIENTS, UNUSED
from asgi_mcp_auth.server.clients.unused import BATCH, UnusedRegistrations
from asgi_mcp_auth.server.records import hash_of
from asgi_mcp_auth.stores import Record, scan_all
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import (
    KEY,
    REDIRECT_URI,
    ClientOf,
    Server,
    deploy,
    memory_store,
)
from tests.support.engines import fresh
from tests.support.products import STORIES

pytestmark = [pytest.mark.asyncio, pytest.mark.case("Z96")]

SHARE = 2**18
FLOODER, OTHER = "192.0.2.1", "198.51.100.1"
SMALL = Registration(unused_bytes=SHARE, unused_bytes_each=SHARE)
LARGE = "x" * 500
FILLER = {
    f"client_name#{language}": LARGE
    for language in ("de", "fr", "it", "es", "pt", "nl", "sv", "da", "fi", "pl")
}


async def register(server: Server, address: str = FLOODER, **metadata: Any) -> ClientOf:
    document = {"redirect_uris": [REDIRECT_URI], "token_endpoint_auth_method": "none", **metadata}
    response = await server.call("POST", "/register", document=document, client=(address, 1))
    assert response.status == 201, response.body
    return ClientOf(server, response.json())


async def is_known(server: Server, client: ClientOf) -> bool:
    return await server.provider.admin.get_client(client.client_id) is not None


async def kept(server: Server) -> tuple[int, int]:
    """Return how many clients the store has, and how many bytes they take up."""
    sizes = [len(record.value) async for _, record in scan_all(server.provider.store, CLIENTS.name)]
    return len(sizes), sum(sizes)


class Counting(EncryptedStore):
    """Counts what it is asked to do."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(), [KEY])
        self.calls = 0

    def within(self, name: str) -> EncryptedStore:
        return self

    async def get(self, ns: str, key: str) -> Record | None:
        self.calls += 1
        return await super().get(ns, key)

    async def put(self, *arguments: Any, **named: Any) -> None:
        self.calls += 1
        await super().put(*arguments, **named)

    async def swap(self, *arguments: Any, **named: Any) -> bool:
        self.calls += 1
        return await super().swap(*arguments, **named)

    async def scan(self, *arguments: Any, **named: Any) -> Any:
        raise AssertionError("a registration looks at everybody's")


@pytest.mark.parametrize("engine", STORIES)
async def test_registrations_of_one_network_are_bounded_and_its_oldest_go_first(
    engine: str,
) -> None:
    with fresh(engine) as place:
        clock = FrozenClock(time.time())
        async with deploy(
            store=place.store(clock=clock), clock=clock, registration=SMALL
        ) as server:
            honest = await register(server, OTHER)
            flood = [await register(server, **FILLER) for _ in range(120)]
            number, size = await kept(server)
            assert size <= SHARE + BATCH * 8 * 1024
            assert number < 80
            assert await is_known(server, honest), (
                "of another network, and older than all of the flood"
            )
            known = [await is_known(server, each) for each in flood]
            assert known == sorted(known), "the oldest went first"
            assert known[-1]


async def test_small_ones_are_bounded_in_number() -> None:
    async with deploy(registration=SMALL) as server:
        for _ in range(400):
            await register(server)
        assert (await kept(server))[0] <= SHARE // 1024 + BATCH


async def test_many_networks_together_have_no_more_than_is_for_all() -> None:
    registration = Registration(unused_bytes=2 * SHARE, unused_bytes_each=SHARE)
    async with deploy(registration=registration) as server:
        clients = [
            await register(server, f"198.51.{number // 250}.{number % 250}")
            for number in range(700)
        ]
        assert (await kept(server))[0] <= 2 * SHARE // 1024 + 2 * BATCH
        assert [await is_known(server, each) for each in clients[-100:]] == [True] * 100


async def test_a_used_registration_is_never_evicted() -> None:
    async with deploy(registration=SMALL) as server:
        clients = [await register(server) for _ in range(3 * BATCH)]
        used = clients[::5]
        for client in used:
            await client.code()
        for _ in range(400):
            await register(server)
        assert [await is_known(server, each) for each in used] == [True] * len(used)
        assert not await is_known(server, clients[1])


@pytest.mark.parametrize("evicts", ["both", "only the one that has not seen it"])
async def test_one_that_another_process_has_seen_in_use_is_not_evicted_either(evicts: str) -> None:
    """Two processes share the store; neither knows what the other one has in memory."""
    store = memory_store(clock := FrozenClock())
    settings: dict[str, Any] = {"store": store, "clock": clock, "registration": SMALL}
    async with deploy(**settings) as one, deploy(**settings) as two:
        clients = [await register(one) for _ in range(2 * BATCH)]
        for client in clients[::2]:
            await ClientOf(two, client.information, client.verifier).code()
        for number in range(400):
            await register(two if evicts == "both" and number % 2 else one)
        assert [await is_known(one, each) for each in clients[::2]] == [True] * BATCH
        assert (await kept(one))[0] <= SHARE // 1024 + 2 * BATCH + BATCH


async def test_of_an_eviction_and_a_sign_in_at_once_one_wins_completely() -> None:
    """The person comes between the look at the registration and its deletion."""
    clock = FrozenClock()
    interlude: Callable[[str], Awaitable[None]] | None = None

    class Slow(MemoryStore):
        async def swap(
            self, ns: str, key: str, known: Record, value: bytes, *, ttl: float | None = None
        ) -> bool:
            nonlocal interlude
            if ns.startswith(f"{CLIENTS.name}@") and interlude is not None:
                between, interlude = interlude, None
                await between(key)
            return await super().swap(ns, key, known, value, ttl=ttl)

    store = EncryptedStore(Slow(clock=clock), [KEY])
    async with deploy(store=store, clock=clock, registration=SMALL) as server:
        clients = {
            hash_of(each.client_id): each for each in [await register(server) for _ in range(255)]
        }
        approved: list[ClientOf] = []

        async def approve(key: str) -> None:
            approved.append(clients[key])
            await clients[key].code()

        interlude = approve
        for _ in range(2 * BATCH):
            await register(server)
        assert len(approved) == 1
        assert await is_known(server, approved[0])
        assert (await server.provider.admin.get_client(approved[0].client_id)).used


async def test_a_change_of_a_registration_counts_as_large_as_it_becomes() -> None:
    """Otherwise small ones are registered, and made large afterwards (RFC 7592)."""
    async with deploy(registration=SMALL) as server:
        for _ in range(150):
            client = await register(server)
            token = client.information["registration_access_token"]
            document = {"client_id": client.client_id, "redirect_uris": [REDIRECT_URI], **FILLER}
            document["token_endpoint_auth_method"] = "none"
            uri = f"/register?client_id={client.client_id}"
            response = await server.call(
                "PUT", uri, document=document, bearer=token, client=(FLOODER, 1)
            )
            assert response.status == 200
        assert (await kept(server))[1] <= SHARE + BATCH * 8 * 1024


async def test_a_registration_costs_a_few_calls_of_the_store_also_when_there_are_many() -> None:
    store = Counting()
    async with deploy(store=store, registration=SMALL, rate_limits=None) as server:
        for _ in range(300):
            await register(server)
        before = store.calls
        for _ in range(20 * BATCH):
            await register(server)
        assert (store.calls - before) / (20 * BATCH) < 4
        before = store.calls
        for _ in range(5):
            client = await register(server)
            token = client.information["registration_access_token"]
            uri = f"/register?client_id={client.client_id}"
            assert (await server.call("DELETE", uri, bearer=token)).status == 204


async def test_those_that_are_used_at_once_never_get_into_the_index() -> None:
    async with deploy() as server:
        for _ in range(3 * BATCH):
            await (await register(server)).code()
        assert [entry async for entry in scan_all(server.provider.store, UNUSED.name)] == []


async def test_what_ended_or_was_deleted_counts_no_more() -> None:
    async with deploy(registration=SMALL) as server:
        for _ in range(240):
            await register(server)
        server.clock.advance(86_401)
        later = [await register(server) for _ in range(240)]
        assert [await is_known(server, each) for each in later] == [True] * 240
        for client in later[BATCH:]:
            assert await server.provider.admin.delete_client(client.client_id)
        for _ in range(200):
            await register(server)
        assert [await is_known(server, each) for each in later[:BATCH]] == [True] * BATCH


async def test_a_server_that_stops_writes_down_what_it_knew_alone() -> None:
    store = memory_store(clock := FrozenClock())
    async with deploy(store=store, clock=clock) as server:
        for _ in range(3):
            await register(server)
        index = [entry async for entry in scan_all(server.provider.store, UNUSED.name)]
        assert index == []
    assert len([entry async for entry in scan_all(server.provider.store, UNUSED.name)]) == 1


async def test_what_could_not_be_written_down_is_not_forgotten() -> None:
    clock = FrozenClock()
    store = _Down(MemoryStore(clock=clock), [KEY])
    unused = UnusedRegistrations(store, clock, SMALL)
    for number in range(BATCH):
        unused.add(f"{number:032x}", 100, FLOODER)
    with pytest.raises(asyncio.CancelledError):
        await unused.make_room()
    store.is_down = False
    await unused.make_room()
    ((_, record),) = [entry async for entry in scan_all(store, UNUSED.name)]
    assert len(record.value) == BATCH * 32


class _Down(EncryptedStore):
    is_down = True

    async def get(self, ns: str, key: str) -> Record | None:
        if self.is_down:
            raise asyncio.CancelledError
        return await super().get(ns, key)


async def test_the_busiest_network_is_the_one_that_takes_up_most() -> None:
    """One with a few large ones goes before one with more that are small."""
    async with deploy(registration=SMALL) as server:
        small = [await register(server, OTHER) for _ in range(20)]
        large = [await register(server, FLOODER, **FILLER) for _ in range(80)]
        assert [await is_known(server, each) for each in small] == [True] * 20
        assert not await is_known(server, large[0])


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"unused_bytes_each": 1000}, "unused_bytes_each=1000 must be at least 262144"),
        ({"unused_bytes": 2**18}, "unused_bytes=262144 must be at least unused_bytes_each=524288"),
        ({"unused_bytes": "8 MiB"}, "unused_bytes='8 MiB' must be a whole number"),
    ],
)
async def test_bounds_that_leave_no_room_are_refused(settings: dict[str, Any], advice: str) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        Registration(**settings)
