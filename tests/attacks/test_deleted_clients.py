"""Deleting a client: its consents go with it, and no other person's records are read."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.server.interaction.consents import CONSENTS
from asgi_mcp_auth.stores import scan_all
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import (
    CONFIDENTIAL,
    KEY,
    WEB_REDIRECT_URI,
    ClientOf,
    Server,
    deploy,
)
from tests.support.rows import rows

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("AS-76")]


class Watching(EncryptedStore):
    """Records the groups whose records were asked for."""

    def __init__(self, clock: FrozenClock) -> None:
        super().__init__(MemoryStore(clock=clock), [KEY])
        self.groups: set[str | None] = set()

    async def scan(self, ns: str, *, group: str | None = None, **page: Any) -> Any:
        self.groups.add(group)
        return await super().scan(ns, group=group, **page)


async def consents(server: Server) -> int:
    return len([key async for key, _ in scan_all(server.provider.store, CONSENTS.name)])


async def delete(server: Server, client: ClientOf, by: str) -> None:
    if by == "operator":
        assert await server.provider.admin.delete_client(client.client_id)
    else:
        uri, token = (
            f"/register?client_id={client.client_id}",
            client.information["registration_access_token"],
        )
        assert (await server.call("DELETE", uri, bearer=token)).status == 204


@rows("by", ["operator", "client"])
@rows("people", [1, 8, 9, 20])
async def test_the_consents_and_grants_of_a_client_that_is_deleted_go_too(
    by: str, people: int
) -> None:
    async with deploy() as server:
        client, other = [await server.register(redirect_uris=[WEB_REDIRECT_URI]) for _ in range(2)]
        tokens = [await client.sign_in(f"person-{number}") for number in range(people)]
        await client.sign_in("person-0")
        kept = await other.sign_in("person-0")
        assert await consents(server) == people + 1
        await delete(server, client, by)
        assert await consents(server) == 1
        for each in tokens:
            assert (await server.call("POST", "/mcp", bearer=each["access_token"])).status == 401
        assert (await server.call("POST", "/mcp", bearer=kept["access_token"])).status == 200


async def test_a_client_that_deletes_itself_has_us_look_at_nothing_but_its_own_people() -> None:
    store = Watching(clock := FrozenClock())
    async with deploy(store=store, clock=clock) as server:
        client, other = await server.register(), await server.register()
        await client.sign_in("alice")
        await client.sign_in("bob")
        await other.sign_in("carol")
        server.provider.store.groups.clear()  # type: ignore[attr-defined]  # it is a Watching
        await delete(server, client, "client")
        assert server.provider.store.groups == {"alice", "bob"}  # type: ignore[attr-defined]


async def test_deleting_a_client_that_cannot_be_forgotten_makes_people_be_asked_again() -> None:
    """Such as one with a metadata document, or one that the operator wrote down."""
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        await server.known(CONFIDENTIAL).sign_in("alice")
        assert await consents(server) == 1
        assert await server.provider.admin.delete_client("service") is False
        assert await consents(server) == 0
