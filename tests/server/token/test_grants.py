"""Codes and grants at their edges: lifetimes, contents, notifications, number of look-ups."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pytest

from asgi_mcp_auth.errors import InvalidGrant, InvalidToken, ServerUnavailable
from asgi_mcp_auth.server import AuditEvent, Client, DevLogin, Lifetimes, Person
from asgi_mcp_auth.server.audit import Audit
from asgi_mcp_auth.server.grants import GRANT_TYPES, client_credentials
from asgi_mcp_auth.server.grants.authorization_code import issue_code, redeem
from asgi_mcp_auth.server.grants.grant_type import Granted, Grants, TokenRequest
from asgi_mcp_auth.server.grants.records import AuthorizationRequest, Grant
from asgi_mcp_auth.server.grants.refresh_token import find_by_refresh_token, refresh
from asgi_mcp_auth.server.grants.scopes import ScopePolicy
from asgi_mcp_auth.server.options import ScopeHook
from asgi_mcp_auth.server.records import hash_of
from asgi_mcp_auth.server.web import Parameters
from asgi_mcp_auth.stores import Record
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import KEY, REDIRECT_URI, RESOURCE, challenge_of
from tests.support.failing import FailingStore, FullStore, HeldStore
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

ALICE = Person(subject="alice", claims={"role": "author"})
VERIFIER = "v" * 43
CODES, GRANTS = "code", "grant"  # another name, and an upgrade would forget them all
HOUR, DAY = 3600, 86_400


def client(*, public: bool = True, refreshable: bool = True, client_id: str = "c") -> Client:
    metadata = {
        "grant_types": ["authorization_code", *(["refresh_token"] if refreshable else [])],
        "token_endpoint_auth_method": "none" if public else "client_secret_basic",
    }
    return Client(client_id=client_id, metadata=metadata, origin="configured")


REQUEST = AuthorizationRequest(
    client_id="c", redirect_uri=REDIRECT_URI, scopes=["read"], code_challenge=challenge_of(VERIFIER)
)


class Remembering(DevLogin):
    """Writes down what it is told of grants, and says what ``answer`` says."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str, float | None]] = []
        self.answer: Exception | None = None
        self.person: Person | None = None

    async def reauthorize(self, person: Person, seconds: float) -> Person | None:
        self.told.append(("renew", person.subject, seconds))
        if self.answer is not None:
            raise self.answer
        return self.person

    async def on_grant_ended(self, person: Person) -> None:
        self.told.append(("ended", person.subject, None))


class Bench:
    """Grants alone, on a store of their own."""

    def __init__(
        self,
        *,
        engine: Any = None,
        resource: str = RESOURCE,
        clock: FrozenClock | None = None,
        rotates: bool = True,
        grant_scopes: ScopeHook | None = None,
        **lifetimes: float,
    ) -> None:
        self.clock = clock or FrozenClock()
        self.engine = engine or MemoryStore(clock=self.clock)
        self.store = EncryptedStore(self.engine, [KEY])
        self.events: list[AuditEvent] = []
        self.lifetimes = Lifetimes(**lifetimes)
        scopes = ScopePolicy(["read"], ["read", "write"], None, grant_scopes)
        audit = Audit(self.events.append)
        keys = self.store.derive("refresh tokens")
        self.login = Remembering()
        self.grants = Grants(
            self.store,
            self.clock,
            self.lifetimes,
            scopes,
            audit,
            keys,
            self.login,
            rotate_confidential=rotates,
        )
        self.resource = resource

    async def issue(
        self,
        request: AuthorizationRequest = REQUEST,
        person: Person = ALICE,
        scopes: Sequence[str] = ("read", "write"),
        signed_in_at: int = 1_799_999_000,
        *,
        code: str | None = None,
    ) -> str | None:
        request = replace(request, resource=self.resource)
        return await issue_code(self.grants, request, person, [*scopes], signed_in_at, code=code)

    async def code(self, **more: Any) -> str:
        code = await self.issue(**more)
        assert code is not None
        return code

    def ask(self, client: Client, **parameters: str) -> TokenRequest:
        return TokenRequest(client, Parameters([*parameters.items()]), self.resource)

    async def redeem(self, code: str | None = None, client: Client = client()) -> Granted:  # noqa: B008 (frozen)
        request = self.ask(client, code=code or await self.code(), code_verifier=VERIFIER)
        return await redeem(self.grants, request)

    async def refresh(self, token: str | None, client: Client = client()) -> Granted:  # noqa: B008 (frozen)
        return await refresh(self.grants, self.ask(client, refresh_token=token or "none"))

    async def for_client(self, client: Client = client()) -> Granted:  # noqa: B008 (frozen)
        return await client_credentials.issue(self.grants, self.ask(client, scope="read"))

    async def find(self, grant_id: str) -> Grant | None:
        return await self.grants.ledger.find(grant_id, self.resource)

    async def find_by_refresh_token(self, token: str | None) -> tuple[Grant, int] | None:
        return await find_by_refresh_token(self.grants, token or "none", self.resource)

    async def belongs_to(self, grant_id: str, client_id: str = "c") -> bool:
        return await self.grants.ledger.belongs_to(grant_id, client_id, self.resource)

    async def refuses(self, work: Any, reason: str) -> None:
        with pytest.raises(InvalidGrant) as caught:
            await work
        assert caught.value.reason == reason

    async def stays_for(self, ns: str, key: str, seconds: float) -> None:
        """Check that a record stays in the store for just so long from now."""
        self.clock.advance(seconds - 0.1)
        assert await self.store.get(ns, key) is not None
        self.clock.advance(0.1)
        assert await self.store.get(ns, key) is None


# -------------------------------------------------------------------------------------------- codes


async def test_a_code_stays_for_ten_minutes_and_ten_more_once_it_is_used() -> None:
    bench = Bench()
    await bench.stays_for(CODES, hash_of(await bench.code()), 600)
    code = await bench.code()
    bench.clock.advance(59)
    await bench.redeem(code)
    await bench.stays_for(CODES, hash_of(code), 600)


@pytest.mark.parametrize(
    ("after", "reason"), [(599.9, "code_replayed"), (600, "unknown_code"), (601, "unknown_code")]
)
async def test_a_replay_shows_for_ten_minutes(after: float, reason: str) -> None:
    bench = Bench()
    code = await bench.code()
    await bench.redeem(code)
    bench.clock.advance(after)
    await bench.refuses(bench.redeem(code), reason)


@rows(
    ("began", "reason"),
    [
        (-61, "code_replayed"),
        (-60.1, "code_replayed"),
        (-60, "code_used"),
        (0, "code_used"),
        (2, "code_used"),
        (2.1, "code_replayed"),
    ],
)
async def test_what_counts_as_at_once(began: float, reason: str) -> None:
    bench = Bench()
    code = await bench.code()
    await bench.redeem(code)
    bench.clock.jump(began)
    await bench.refuses(bench.redeem(code), reason)


async def test_a_code_that_is_given_is_issued_again_until_it_is_used() -> None:
    """The second click of a double click; the person may have signed in again between the two."""
    bench = Bench()
    code = await bench.code(code="c" * 43)
    bench.clock.advance(5)
    assert await bench.code(code=code) == code
    assert await bench.issue(signed_in_at=1_799_999_999, code=code) == code
    bench.clock.advance(54)
    await bench.redeem(code)
    assert await bench.issue(code=code) is None


async def test_a_code_that_goes_while_it_is_issued_again_is_not_issued() -> None:
    engine = HeldStore(MemoryStore(clock=(clock := FrozenClock())))
    bench = Bench(engine=engine, clock=clock)
    code = await bench.code(code="c" * 43)
    engine.hold = ("get", CODES)
    again = asyncio.create_task(bench.issue(code="c" * 43))
    await engine.arrived.wait()
    await bench.store.delete(CODES, hash_of(code))
    engine.go.set()
    assert await again is None


async def test_a_replay_of_what_was_replayed_before_ends_nothing_again() -> None:
    bench = Bench()
    code = await bench.code()
    await bench.redeem(code)
    bench.clock.advance(3)
    for _ in range(2):
        await bench.refuses(bench.redeem(code), "code_replayed")
    assert [told for told in bench.login.told if told[0] == "ended"] == [("ended", "alice", None)]


@rows(
    ("request_", "person", "scopes"),
    [
        (replace(REQUEST, client_id="d"), ALICE, ["read", "write"]),
        (replace(REQUEST, redirect_uri="https://other.example/"), ALICE, ["read", "write"]),
        (replace(REQUEST, code_challenge=challenge_of("w" * 43)), ALICE, ["read", "write"]),
        (REQUEST, Person(subject="bob"), ["read", "write"]),
        (REQUEST, ALICE, ["read"]),
    ],
)
async def test_a_code_that_is_given_is_not_issued_for_anything_else(
    request_: AuthorizationRequest, person: Person, scopes: list[str]
) -> None:
    bench = Bench()
    code = await bench.code(code="c" * 43)
    assert await bench.issue(request_, person, scopes, code=code) is None
    await bench.redeem(code)


async def test_a_code_whose_place_is_taken_by_something_unreadable_is_not_issued() -> None:
    bench = Bench()
    await EncryptedStore(bench.engine, [KEY[::-1].replace("Q", "A")]).put(
        CODES, hash_of("c" * 43), b"{}"
    )
    with pytest.raises(ServerUnavailable):
        await bench.issue(code="c" * 43)


async def test_the_id_of_a_codes_grant_can_be_computed_from_the_code() -> None:
    """Pinned: two versions of this package on one store have to agree about replays."""
    bench = Bench()
    code = await bench.code()
    digest = hashlib.sha256(b"grant of code " + hash_of(code).encode()).digest()
    granted = await bench.redeem(code)
    assert granted.grant_id == base64.urlsafe_b64encode(digest).decode()[:22]
    assert (granted.grant.person, granted.grant.scopes, granted.grant.resource) == (
        ALICE,
        ["read", "write"],
        RESOURCE,
    )
    assert granted.grant.signed_in_at == 1_799_999_000


async def test_a_replay_between_the_two_steps_of_redeeming_leaves_nothing_alive() -> None:
    """ADR 0009: it writes down the grant that is about to begin, as ended."""
    clock = FrozenClock()
    held = HeldStore(MemoryStore(clock=clock))
    bench = Bench(engine=held, clock=clock)
    code = await bench.code()
    held.hold = ("add", GRANTS)
    first = asyncio.create_task(bench.redeem(code))
    await held.arrived.wait()
    clock.advance(3)
    await bench.refuses(bench.redeem(code), "code_replayed")
    held.go.set()
    await bench.refuses(first, "grant_revoked")
    assert [
        (event.action, event.reason, event.client_id, event.subject) for event in bench.events
    ] == [("grant_revoked", "code_replayed", "c", "alice")]


# ----------------------------------------------------------------------------- how long grants stay


@rows(
    ("lifetimes", "seconds"),
    [
        ({}, 14 * DAY + 60),
        ({"refresh_token_seconds": DAY}, DAY + 60),
        ({"refresh_idle_seconds": 100}, HOUR + 60),
        ({"refresh_token_seconds": 100}, HOUR + 60),
        ({"refresh_idle_seconds": 100, "access_token_seconds": 10}, 160),
    ],
)
async def test_a_grant_stays_as_long_as_one_of_its_tokens_may_count_and_a_minute(
    lifetimes: dict[str, float], seconds: float
) -> None:
    bench = Bench(**lifetimes)
    granted = await bench.redeem()
    await bench.stays_for(GRANTS, granted.grant_id, seconds)


async def test_a_refresh_lets_it_stay_longer_but_never_beyond_its_end() -> None:
    bench = Bench()
    granted = await bench.redeem()
    bench.clock.advance(10 * DAY)
    granted = await bench.refresh(granted.refresh_token or "")
    bench.clock.advance(13 * DAY)
    granted = await bench.refresh(granted.refresh_token or "")
    await bench.stays_for(GRANTS, granted.grant_id, 7 * DAY + 60)


async def test_a_grant_that_cannot_be_refreshed_lives_as_long_as_its_access_token() -> None:
    bench = Bench()
    granted = await bench.redeem(client=client(refreshable=False))
    assert granted.refresh_token is None
    assert granted.grant.expires_at == bench.clock.time() + HOUR
    await bench.stays_for(GRANTS, granted.grant_id, HOUR + 60)


async def test_a_client_s_own_grant_lives_as_long_as_its_access_token() -> None:
    bench = Bench()
    granted = await bench.for_client(client(public=False))
    assert (len(granted.grant_id), granted.refresh_token, granted.scopes) == (22, None, ["read"])
    assert granted.grant.expires_at == bench.clock.time() + HOUR
    assert (granted.grant.resource, granted.grant.subject, granted.grant.person) == (
        RESOURCE,
        "c",
        None,
    )
    await bench.stays_for(GRANTS, granted.grant_id, HOUR + 60)


async def test_a_grant_that_was_ended_stays_as_long_as_its_tokens_and_replays_of_its_code() -> None:
    bench = Bench()
    granted = await bench.redeem()
    assert await bench.grants.revocation.revoke(granted.grant_id, "by_user") is True
    await bench.stays_for(GRANTS, granted.grant_id, HOUR + 60 + 600)


async def test_ending_a_grant_returns_its_owner_once() -> None:
    bench = Bench()
    granted = await bench.redeem()
    assert await bench.grants.revocation.revoke(granted.grant_id, "by_user") is True
    assert await bench.grants.revocation.revoke(granted.grant_id, "by_user") is False
    assert await bench.grants.revocation.revoke("unknown", "by_user") is False
    event = AuditEvent(
        action="grant_revoked",
        client_id="c",
        subject="alice",
        grant_id=granted.grant_id,
        reason="by_user",
    )
    assert bench.events == [event]


async def test_a_grant_that_cannot_be_refreshed_is_found_no_longer_than_its_token_counts() -> None:
    """The record stays for another minute."""
    bench = Bench()
    granted = await bench.redeem(client=client(refreshable=False))
    bench.clock.advance(HOUR - 0.1)
    assert await bench.find(granted.grant_id) == granted.grant
    bench.clock.advance(0.1)
    assert await bench.find(granted.grant_id) is None
    assert await bench.store.get(GRANTS, granted.grant_id) is not None


async def test_a_grant_that_has_ended_is_not_found_before_the_store_knows() -> None:
    bench = Bench()
    granted = await bench.redeem()
    bench.grants.ledger.mark_dead(granted.grant_id)
    assert await bench.find(granted.grant_id) is None


async def test_when_all_of_a_person_ends_the_login_step_is_told_of_codes_as_well() -> None:
    bench = Bench()
    await bench.code()
    assert await bench.grants.revocation.revoke_all("by_user", subject="alice") == 0
    assert bench.login.told == [("ended", "alice", None)]


async def test_when_a_client_ends_the_login_step_hears_nothing_of_grants_without_a_person() -> None:
    bench = Bench()
    await bench.for_client(client())
    assert await bench.grants.revocation.revoke_all("by_client", client_id="c") == 1
    assert bench.login.told == []


async def test_what_ends_by_itself_while_all_of_a_person_ends_is_not_counted() -> None:
    engine = HeldStore(MemoryStore(clock=(clock := FrozenClock())))
    bench = Bench(engine=engine, clock=clock)
    granted = await bench.for_client(client())
    engine.hold = ("get", GRANTS)
    ending = asyncio.create_task(bench.grants.revocation.revoke_all("by_client", client_id="c"))
    await engine.arrived.wait()
    await bench.store.delete(GRANTS, granted.grant_id)
    engine.go.set()
    assert await ending == 0


async def test_a_full_store_drops_codes_whose_grants_cannot_be_recorded_as_ended() -> None:
    engine = FullStore(MemoryStore(clock=(clock := FrozenClock())))
    bench = Bench(engine=engine, clock=clock)
    code = await bench.code()
    engine.full = True
    await bench.grants.revocation.revoke_all("by_user", subject="alice")
    assert await bench.store.get(CODES, hash_of(code)) is None


async def test_an_operator_sees_a_grant_as_long_as_one_of_its_tokens_may_count() -> None:
    bench = Bench(refresh_idle_seconds=100, access_token_seconds=1000)
    await bench.redeem()
    for seconds, seen in ((1059.9, 1), (0.1, 0)):
        bench.clock.advance(seconds)
        assert len([each async for each in bench.grants.ledger.scan()]) == seen


# --------------------------------------------------------------------------------------- refreshing


@rows(
    ("began", "again"),
    [(-61, False), (-60.1, False), (-60, True), (0, True), (300, True), (300.1, False)],
)
async def test_what_counts_as_a_retry(began: float, again: bool) -> None:
    bench = Bench()
    first = (await bench.redeem()).refresh_token or ""
    second = (await bench.refresh(first)).refresh_token
    bench.clock.jump(began)
    if again:
        assert (await bench.refresh(first)).refresh_token == second
    else:
        await bench.refuses(bench.refresh(first), "refresh_replayed")


@pytest.mark.parametrize("public", [True, False])
async def test_refresh_tokens_rotate_for_every_client(public: bool) -> None:
    bench, owner = Bench(), client(public=public)
    first = (await bench.redeem(client=owner)).refresh_token or ""
    assert (await bench.refresh(first, owner)).refresh_token != first


async def test_a_retry_does_not_prolong_the_time_for_retries() -> None:
    bench = Bench()
    granted = await bench.redeem()
    assert granted.refresh_token is not None
    successor = (await bench.refresh(granted.refresh_token)).refresh_token
    bench.clock.advance(299)
    assert (await bench.refresh(granted.refresh_token)).refresh_token == successor
    bench.clock.advance(299)
    await bench.refuses(bench.refresh(granted.refresh_token), "refresh_replayed")


@pytest.mark.rule("PX-06")
async def test_the_login_step_hears_of_a_grant_before_it_begins_or_renews_and_at_its_end() -> None:
    """It is also told for how long the grant depends on it."""
    bench = Bench(refresh_token_seconds=10 * HOUR, refresh_idle_seconds=5 * HOUR)
    granted = await bench.redeem()
    assert granted.refresh_token is not None
    bench.clock.advance(5 * HOUR - 1)
    await bench.refresh(granted.refresh_token)
    assert bench.login.told == [
        ("renew", "alice", 5 * HOUR + 60),
        ("renew", "alice", 5 * HOUR + 60),
    ]
    assert await bench.grants.revocation.revoke(granted.grant_id, "by_user")
    assert not await bench.grants.revocation.revoke(granted.grant_id, "by_user")
    assert bench.login.told[2:] == [("ended", "alice", None)]


async def test_the_login_steps_answer_is_stored_even_if_nothing_else_changes() -> None:
    bench, confidential = Bench(rotates=False), client(public=False)
    granted = await bench.redeem(client=confidential)
    assert repr(granted) == f"Granted({granted.grant_id!r}, {granted.grant!r})"
    for role in ("editor", "reader"):
        bench.login.person = Person(subject="alice", claims={"role": role})
        again = await bench.refresh(granted.refresh_token or "", confidential)
        assert again.refresh_token == granted.refresh_token
        assert await bench.find(granted.grant_id) == again.grant
        assert again.grant.person == bench.login.person


async def test_a_login_step_is_told_nothing_of_clients_that_act_for_themselves() -> None:
    bench = Bench()
    granted = await bench.for_client(client())
    assert await bench.grants.revocation.revoke(granted.grant_id, "by_client")
    assert bench.login.told == []


async def test_a_code_is_not_used_up_when_the_login_step_cannot_say() -> None:
    bench = Bench()
    code = await bench.code()
    for answer in (ServerUnavailable(), InvalidGrant(reason="sign_in_ended")):
        bench.login.answer = answer
        with pytest.raises(type(answer)):
            await bench.redeem(code)
    bench.login.answer = None
    assert (await bench.redeem(code)).refresh_token


async def test_a_refresh_token_survives_an_undecided_login_step_and_ends_with_its_no() -> None:
    bench = Bench()
    granted = await bench.redeem()
    assert granted.refresh_token is not None
    bench.login.answer = ServerUnavailable()
    with pytest.raises(ServerUnavailable):
        await bench.refresh(granted.refresh_token)
    assert await bench.find(granted.grant_id) is not None
    bench.login.answer = InvalidGrant(reason="sign_in_ended")
    await bench.refuses(bench.refresh(granted.refresh_token), "sign_in_ended")
    assert await bench.find(granted.grant_id) is None
    assert bench.events[-1].reason == "sign_in_ended"


async def test_a_refresh_token_whose_grant_is_gone_is_unknown() -> None:
    bench = Bench()
    granted = await bench.redeem()
    await bench.store.delete(GRANTS, granted.grant_id)
    await bench.refuses(bench.refresh(granted.refresh_token or ""), "unknown_refresh_token")
    assert await bench.find(granted.grant_id) is None
    assert await bench.find_by_refresh_token(granted.refresh_token or "") is None


async def test_what_belongs_to_another_resource_is_nothing_here() -> None:
    bench = Bench()
    other = Bench(engine=bench.engine, clock=bench.clock, resource="https://other.example/mcp")
    code, granted = await bench.code(), await bench.redeem()
    token = granted.refresh_token or ""
    await bench.refuses(other.redeem(code), "other_resource")
    await bench.refuses(other.refresh(token), "other_resource")
    assert await other.find(granted.grant_id) is None
    assert [await each.belongs_to(granted.grant_id) for each in (bench, other)] == [True, False]
    assert not await bench.belongs_to(granted.grant_id, "d")
    assert not await bench.belongs_to("x" * 22)
    assert await other.find_by_refresh_token(token) is None
    assert await other.issue(code=code) is None
    assert await bench.find_by_refresh_token(token) == (
        granted.grant,
        granted.grant.created_at + 14 * DAY,
    )
    await bench.redeem(code)


class Stubborn(FailingStore):
    """Lets no swap win, against the contract."""

    async def swap(
        self, ns: str, key: str, known: Record, value: bytes, *, ttl: float | None = None
    ) -> bool:
        self.calls.append(("swap", ns, key))
        return False


async def test_a_swap_that_never_wins_is_tried_fifty_times() -> None:
    clock = FrozenClock()
    stubborn = Stubborn(MemoryStore(clock=clock))
    bench = Bench(engine=stubborn, clock=clock)
    fair = Bench(engine=stubborn.inner, clock=clock)
    code, token = await bench.code(), (await fair.redeem()).refresh_token or ""
    for work in (bench.redeem(code), bench.refresh(token)):
        stubborn.calls.clear()
        with pytest.raises(ServerUnavailable):
            await work
        assert [verb for verb, *_ in stubborn.calls].count("swap") == 50


async def test_a_retry_gets_the_same_token_and_writes_nothing() -> None:
    """Not even what the login step has learnt of the person."""
    bench = Bench()
    first = (await bench.redeem()).refresh_token
    second = await bench.refresh(first)
    bench.login.person = Person(subject="alice", claims={"role": "editor"})
    again = await bench.refresh(first)
    assert again.refresh_token == second.refresh_token
    assert again.grant.person == bench.login.person
    assert await bench.find(second.grant_id) == second.grant


async def test_a_token_that_does_not_rotate_is_written_for_a_change_or_against_idling() -> None:
    clock = FrozenClock()
    counting = FailingStore(MemoryStore(clock=clock))
    bench, confidential = Bench(engine=counting, clock=clock, rotates=False), client(public=False)
    token = (await bench.redeem(client=confidential)).refresh_token
    for seconds, role, written in (
        (11, None, True),  # longer ago than the leeway
        (10, None, False),
        (0, "editor", True),
        (5, "editor", False),
        (6, "editor", True),
    ):
        clock.advance(seconds)
        bench.login.person = None if role is None else Person(subject="alice", claims={"r": role})
        counting.calls.clear()
        granted = await bench.refresh(token, confidential)
        assert ("swap" in [verb for verb, *_ in counting.calls]) is written
        assert (granted.grant.rotated_at == clock.time()) is (written or seconds == 0)
        assert granted.refresh_token == token


async def test_a_refresh_asks_which_scopes_the_person_may_still_grant() -> None:
    allowed = ["read", "write"]
    bench = Bench(grant_scopes=lambda person, *_: allowed if person.subject == "alice" else [])
    granted = await bench.redeem()
    allowed.remove("write")
    granted = await bench.refresh(granted.refresh_token)
    assert (granted.scopes, granted.grant.scopes) == (["read"], ["read", "write"])
    allowed.clear()
    await bench.refuses(bench.refresh(granted.refresh_token), "nothing_left")
    assert await bench.find(granted.grant_id) is None


async def test_only_the_current_refresh_token_is_found() -> None:
    bench = Bench()
    first = await bench.redeem()
    second = await bench.refresh(first.refresh_token)
    assert await bench.find_by_refresh_token(first.refresh_token) is None
    assert await bench.find_by_refresh_token(second.refresh_token) is not None


async def test_when_all_of_a_person_ends_the_login_step_hears_of_each_grant() -> None:
    bench = Bench()
    await bench.redeem()
    assert await bench.grants.revocation.revoke_all("by_user", subject="alice") == 1
    assert bench.login.told[1:] == [("ended", "alice", None)]


async def test_a_grant_whose_revocation_a_full_store_cannot_record_is_removed() -> None:
    engine = FullStore(MemoryStore(clock=(clock := FrozenClock())))
    bench = Bench(engine=engine, clock=clock)
    granted = await bench.redeem()
    engine.full = True
    assert await bench.grants.revocation.revoke(granted.grant_id, "by_user")
    assert await bench.store.get(GRANTS, granted.grant_id) is None


async def test_the_grant_types_have_these_rules() -> None:
    found = [
        {
            field.name: getattr(each, field.name)
            for field in fields(each)
            if field.name not in ("name", "use") and getattr(each, field.name) != field.default
        }
        for each in GRANT_TYPES
    ]
    assert [each.name for each in GRANT_TYPES] == [
        "authorization_code",
        "refresh_token",
        "client_credentials",
    ]
    assert found == [
        {"response_type": "code", "is_default": True},
        {"starts": False, "is_default": True, "event": "token_refreshed"},
        {
            "needs_authentication": True,
            "acts_for_itself": True,
            "self_registration": False,
            "switch": "client_credentials",
        },
    ]


# ------------------------------------------------------------------------------------- is it alive?


async def test_a_grant_that_is_alive_is_looked_at_once_for_each_lag() -> None:
    clock = FrozenClock()
    counting = FailingStore(MemoryStore(clock=clock))
    bench = Bench(engine=counting, clock=clock)
    granted = await bench.redeem()
    for advance, looks in ((0, 1), (4.9, 0), (0.1, 1), (4.9, 0)):
        clock.advance(advance)
        counting.calls.clear()
        for _ in range(3):
            await bench.grants.ledger.check_alive(granted.grant_id)
        assert len(counting.calls) == looks


async def test_a_grant_that_is_known_to_have_ended_is_not_looked_at_again() -> None:
    clock = FrozenClock()
    counting = FailingStore(MemoryStore(clock=clock))
    bench = Bench(engine=counting, clock=clock)
    granted = await bench.redeem()
    await bench.grants.ledger.check_alive(granted.grant_id)
    await bench.grants.revocation.revoke(granted.grant_id, "by_user")
    counting.calls.clear()
    for _ in range(3):
        with pytest.raises(InvalidToken) as caught:
            await bench.grants.ledger.check_alive(granted.grant_id)
        assert caught.value.reason == "revoked"
    assert counting.calls == []
    with pytest.raises(InvalidToken):
        await bench.grants.ledger.check_alive("unknown")
    assert len(counting.calls) == 1
