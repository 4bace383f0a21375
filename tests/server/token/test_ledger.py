"""The ledger of grants at its edges: what a process knows before the store does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asgi_mcp_auth.errors import InvalidToken
from asgi_mcp_auth.server import Lifetimes
from asgi_mcp_auth.server.grants.ledger import Ledger
from asgi_mcp_auth.server.grants.records import GRANTS, Grant
from asgi_mcp_auth.server.table import Outcome
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import RESOURCE, memory_store

pytestmark = pytest.mark.asyncio

CLOCK = FrozenClock()
NOW = int(CLOCK.time())
GRANT = Grant(
    client_id="c",
    resource=RESOURCE,
    person=None,
    scopes=["read"],
    created_at=NOW,
    expires_at=NOW + 3600,
    rotated_at=NOW,
)


@pytest.fixture
def store() -> EncryptedStore:
    return memory_store(CLOCK)


@pytest.fixture
def ledger(store: EncryptedStore) -> Ledger:
    return Ledger(store, CLOCK, Lifetimes())


async def test_the_kind_of_record_stays_what_it_is(ledger: Ledger, store: EncryptedStore) -> None:
    """Another name, and all users would have to sign in again after an upgrade."""
    assert GRANTS.name == "grant"
    assert await ledger.add("id", GRANT) is True
    assert [key for key, _ in await store.scan("grant")] == ["id"]


async def test_a_grant_that_has_ended_before_it_was_written_down_does_not_begin(
    ledger: Ledger,
) -> None:
    ledger.mark_dead("id")
    assert await ledger.add("id", GRANT) is False
    assert await ledger.get("id") is None


async def test_a_grant_that_is_written_down_as_ended_stays_so_and_does_not_begin(
    ledger: Ledger,
) -> None:
    """Without its record it could begin in another process."""
    ledger.mark_dead("id")
    await ledger.end("id", GRANT, "code_replayed")
    assert await ledger.add("id", GRANT) is False
    found = await ledger.get("id")
    assert found is not None
    assert found.revoked == "code_replayed"


async def test_a_grant_has_ended_when_its_record_says_so_or_this_process(ledger: Ledger) -> None:
    assert not ledger.is_revoked("id", GRANT)
    assert ledger.is_revoked("id", replace(GRANT, revoked="code_replayed"))
    ledger.mark_dead("id")
    assert ledger.is_revoked("id", GRANT)


@pytest.mark.parametrize("reads_by", ["get", "retry"])
async def test_a_process_that_reads_of_an_end_elsewhere_no_longer_trusts_what_it_remembers(
    ledger: Ledger, store: EncryptedStore, reads_by: str
) -> None:
    async def look(grant: Grant | None) -> Outcome[Grant, None]:
        return Outcome(None, None)

    await ledger.add("id", GRANT)
    await ledger.check_alive("id")
    await Ledger(store, CLOCK, Lifetimes()).end("id", GRANT, "by_user")
    await ledger.check_alive("id")  # within the lag it is not looked at
    await (ledger.get("id") if reads_by == "get" else ledger.retry("id", look))
    with pytest.raises(InvalidToken):
        await ledger.check_alive("id")
