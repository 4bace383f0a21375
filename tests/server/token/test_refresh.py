"""Refresh tokens: each for one use, a retry after a lost answer, the end after a replay."""

from __future__ import annotations

import asyncio

import pytest

from asgi_mcp_auth.server import Lifetimes, Registration
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.authorization_server import (
    CONFIDENTIAL,
    KEY,
    ClientOf,
    Server,
    deploy,
    memory_store,
)
from tests.support.failing import HeldStore
from tests.support.products import STORIES
from tests.support.rows import rows
from tests.support.token_endpoint import assert_refused, deploy_on, is_alive, tokens_of

pytestmark = pytest.mark.asyncio

DAY = 86_400
OPERATORS = Registration(clients=[CONFIDENTIAL])


async def refuses(
    client: ClientOf, token: str, reason: str, error: str = "invalid_grant", **form: str | None
) -> None:
    """Check that a refresh token cannot be used in this way, and why."""
    client.server.reasons()
    assert_refused(await client.refresh(token, **form), error)
    assert client.server.reasons() == [reason]


def revocations(server: Server) -> list[str | None]:
    """Return why grants have ended so far."""
    return [event.reason for event in server.events if event.action == "grant_revoked"]


# ----------------------------------------------------------------------------------------- rotation


@pytest.mark.case("Z71")
@pytest.mark.parametrize("engine", STORIES)
async def test_each_use_brings_a_new_token_and_the_old_one_is_over(engine: str) -> None:
    async with deploy_on(engine) as server:
        client = await server.register()
        tokens = await client.sign_in()
        seen = [tokens["refresh_token"]]
        for _ in range(3):
            server.clock.advance(3600)
            tokens = tokens_of(await client.refresh(seen[-1]))
            assert await is_alive(server, tokens["access_token"])
            assert tokens["refresh_token"] not in seen
            seen.append(tokens["refresh_token"])
        server.clock.advance(301)
        await refuses(client, seen[-2], "refresh_replayed")


@pytest.mark.case("Z71")
@pytest.mark.parametrize("rotate", [True, False])
async def test_whether_a_confidential_client_s_token_rotates_is_a_setting(rotate: bool) -> None:
    async with deploy(registration=OPERATORS, options={"rotate_confidential": rotate}) as server:
        client = server.known(CONFIDENTIAL)
        first = (await client.sign_in())["refresh_token"]
        server.clock.advance(60)
        second = tokens_of(await client.refresh(first))["refresh_token"]
        assert (second != first) is rotate
        server.clock.advance(60)
        tokens_of(await client.refresh(second))
        public = await server.register()
        first = (await public.sign_in())["refresh_token"]
        assert tokens_of(await public.refresh(first))["refresh_token"] != first


async def test_a_token_that_does_not_rotate_is_written_now_and_then_and_so_does_not_idle() -> None:
    store = memory_store(clock := FrozenClock())
    async with deploy(
        registration=OPERATORS, options={"rotate_confidential": False}, store=store, clock=clock
    ) as server:
        client = server.known(CONFIDENTIAL)
        token = (await client.sign_in())["refresh_token"]
        for _ in range(29):
            clock.advance(DAY - 1)
            tokens_of(await client.refresh(token))
        writes: list[str] = []
        inner = store.inner.swap

        async def swap(ns: str, *arguments: object, **bounds: object) -> bool:
            writes.append(ns)
            return await inner(ns, *arguments, **bounds)  # type: ignore[arg-type]

        store.inner.swap = swap  # type: ignore[method-assign]  # counts, and does the work
        for _ in range(5):
            tokens_of(await client.refresh(token))
        assert writes == [], "many at once do not keep each other from being written"
        clock.advance(11)
        tokens_of(await client.refresh(token))
        assert len(writes) == 1


@pytest.mark.case("Z72")
@pytest.mark.rule("AS-39")
@rows("engine", STORIES)
@rows("delay", [300.01, 3600, 14 * DAY - 1])
async def test_a_replay_ends_the_grant_and_its_access_tokens(engine: str, delay: float) -> None:
    """RFC 9700 §4.14.2. The audit log has a record of it."""
    lifetimes = Lifetimes(access_token_seconds=DAY)
    async with deploy_on(engine, lifetimes=lifetimes) as server:
        client = await server.register()
        tokens = await client.sign_in()
        refreshed = tokens_of(await client.refresh(tokens["refresh_token"]))
        server.clock.advance(delay)
        assert await is_alive(server, refreshed["access_token"]) is (delay < DAY)
        await refuses(client, tokens["refresh_token"], "refresh_replayed")
        assert revocations(server) == ["refresh_replayed"]
        for pair in (tokens, refreshed):
            assert not await is_alive(server, pair["access_token"])
        await refuses(client, refreshed["refresh_token"], "grant_revoked")


@pytest.mark.case("Z73")
@pytest.mark.parametrize("engine", STORIES)
async def test_of_20_at_once_each_gets_the_same_successor(engine: str) -> None:
    async with deploy_on(engine) as server:
        client = await server.register()
        token = (await client.sign_in())["refresh_token"]
        for _ in range(3):
            answers = [
                tokens_of(each)
                for each in await asyncio.gather(*(client.refresh(token) for _ in range(20)))
            ]
            (successor,) = {answer["refresh_token"] for answer in answers}
            assert successor != token
            for answer in answers:
                assert await is_alive(server, answer["access_token"])
            token = successor
            server.clock.advance(301)
        assert revocations(server) == []


@pytest.mark.case("Z74")
@pytest.mark.rule("AS-41")
@rows("engine", STORIES)
@rows("delay", [0, 60, 300])
async def test_a_client_that_lost_the_answer_gets_the_same_successor_again(
    engine: str, delay: float
) -> None:
    async with deploy_on(engine) as server:
        client = await server.register()
        lost = (await client.sign_in())["refresh_token"]
        first = tokens_of(await client.refresh(lost))
        server.clock.advance(delay)
        again = tokens_of(await client.refresh(lost))
        assert again["refresh_token"] == first["refresh_token"]
        for pair in (first, again):
            assert await is_alive(server, pair["access_token"])
        server.clock.advance(3600)
        tokens_of(await client.refresh(again["refresh_token"]))


@pytest.mark.case("Z74")
async def test_how_long_it_may_ask_again_is_a_setting() -> None:
    async with deploy(lifetimes=Lifetimes(refresh_leeway_seconds=0)) as server:
        client = await server.register()
        token = (await client.sign_in())["refresh_token"]
        tokens_of(await client.refresh(token))
        tokens_of(await client.refresh(token))
        server.clock.advance(0.001)
        await refuses(client, token, "refresh_replayed")


@pytest.mark.case("Z75")
@pytest.mark.parametrize("engine", STORIES)
async def test_once_the_successor_was_used_the_token_before_it_is_a_replay(engine: str) -> None:
    async with deploy_on(engine) as server:
        client = await server.register()
        first = (await client.sign_in())["refresh_token"]
        second = tokens_of(await client.refresh(first))["refresh_token"]
        third = tokens_of(await client.refresh(second))
        tokens_of(await client.refresh(second))
        await refuses(client, first, "refresh_replayed")
        assert not await is_alive(server, third["access_token"])
        await refuses(client, third["refresh_token"], "grant_revoked")


@pytest.mark.case("S28")
async def test_a_token_from_the_future_of_a_restored_backup_is_a_replay() -> None:
    """The grant is younger than it: what the store knows is not the whole story."""
    store = memory_store(clock := FrozenClock())
    async with deploy(store=store, clock=clock) as server:
        client = await server.register()
        first = (await client.sign_in())["refresh_token"]
        backup = {ns: dict(entries) for ns, entries in store.inner._entries.items()}
        later = tokens_of(await client.refresh(first))
        store.inner._entries = backup
        await refuses(client, later["refresh_token"], "refresh_replayed")
        await refuses(client, first, "grant_revoked")


# -------------------------------------------------------------------------------------------- scope


@pytest.mark.case("Z76")
@pytest.mark.rule("AS-40", "AS-83")
@rows(
    ("asked", "given"),
    [
        (None, "mcp:read mcp:write"),
        ("", "mcp:read mcp:write"),
        ("mcp:read mcp:write", "mcp:read mcp:write"),
        ("mcp:write mcp:read", "mcp:write mcp:read"),
        ("mcp:read", "mcp:read"),
        ("mcp:read  mcp:read", "mcp:read"),
        ("mcp:read offline_access", None),
        ("mcp:read unknown", "mcp:read"),
        ("unknown", None),
        ("mcp:admin", None),
        ("mcp:read\tmcp:write", None),
        ("MCP:READ", None),
        (" ", "mcp:read mcp:write"),
        ('"', None),
    ],
)
async def test_less_may_be_asked_for_and_the_grant_keeps_all(
    asked: str | None, given: str | None
) -> None:
    """RFC 6749 §6."""
    supported = ["mcp:read", "mcp:write", "mcp:admin"]
    async with deploy(scopes_supported=supported) as server:
        client = await server.register()
        token = (await client.sign_in(scope="mcp:read mcp:write"))["refresh_token"]
        if given is None:
            await refuses(client, token, "invalid_scope", "invalid_scope", scope=asked)
        else:
            tokens = tokens_of(await client.refresh(token, scope=asked))
            assert tokens["scope"] == given
            assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status in (
                200,
                403,
            )
            token = tokens["refresh_token"]
        assert tokens_of(await client.refresh(token))["scope"] == "mcp:read mcp:write"


@pytest.mark.case("Z76")
async def test_a_retry_may_ask_for_other_scopes_of_the_grant_and_no_more() -> None:
    async with deploy() as server:
        client = await server.register()
        token = (await client.sign_in(scope="mcp:read mcp:write"))["refresh_token"]
        first = tokens_of(await client.refresh(token, scope="mcp:read"))
        again = tokens_of(await client.refresh(token, scope="mcp:write"))
        assert (first["scope"], again["scope"]) == ("mcp:read", "mcp:write")
        await refuses(
            client, token, "invalid_scope", "invalid_scope", scope="mcp:write offline_access"
        )
        assert (
            tokens_of(await client.refresh(again["refresh_token"]))["scope"] == "mcp:read mcp:write"
        )


@pytest.mark.rule("RS-19")
async def test_a_scope_includes_what_the_hierarchy_says() -> None:
    hierarchy = {"mcp:admin": ["mcp:write"], "mcp:write": ["mcp:read"]}
    async with deploy(
        scopes_supported=[*hierarchy, "mcp:other"], options={"scope_hierarchy": hierarchy}
    ) as server:
        client = await server.register()
        tokens = await client.sign_in(scope="mcp:admin")
        assert await is_alive(server, tokens["access_token"])
        narrowed = tokens_of(await client.refresh(tokens["refresh_token"], scope="mcp:write"))
        assert narrowed["scope"] == "mcp:write"
        assert await is_alive(server, narrowed["access_token"])
        await refuses(
            client, narrowed["refresh_token"], "invalid_scope", "invalid_scope", scope="mcp:other"
        )


# -------------------------------------------------------------------------------------- whose it is


@pytest.mark.case("Z78")
async def test_another_client_gets_nothing_and_ends_nothing() -> None:
    async with deploy(registration=OPERATORS) as server:
        client, other = await server.register(), await server.register()
        tokens = await client.sign_in()
        for thief in (other, server.known(CONFIDENTIAL)):
            await refuses(thief, tokens["refresh_token"], "refresh_client")
        assert revocations(server) == []
        refreshed = tokens_of(await client.refresh(tokens["refresh_token"]))
        server.clock.advance(60)
        await refuses(other, tokens["refresh_token"], "refresh_client")
        tokens_of(await client.refresh(refreshed["refresh_token"]))


@pytest.mark.case("Z81")
async def test_what_is_no_refresh_token_is_refused_without_a_look_at_the_store() -> None:
    held = HeldStore(MemoryStore())
    async with deploy(store=EncryptedStore(held, [KEY])) as server:
        client = await server.register()
        tokens = await client.sign_in()
        code = await client.code()
        good: str = tokens["refresh_token"]
        grant, generation, mac = good.removeprefix("rt_").split(".")
        forged = [
            tokens["access_token"],
            code,
            "x",
            "rt_",
            "x" * 60_000,
            good[:-1],
            good + "A",
            good.upper(),
            f" {good}",
            f"{good}\n",
            f"{grant}.{generation}.{mac}",
            f"rt_{grant}.1.{mac}",
            f"rt_{grant}.00.{mac}",
            f"rt_{grant}.-0.{mac}",
            f"rt_{grant}.\u0660.{mac}",
            f"rt_{grant}..{mac}",
            f"rt_{grant}.{10**9}.{mac}",
            f"rt_{grant[::-1]}.{generation}.{mac}",
            f"rt_{grant}.{generation}.{mac[::-1]}",
            f"rt_{grant}.{generation}.{'A' * 43}",
            f"rt_{grant}.{generation}.{mac[:-1]}é",
        ]
        for token in forged:
            held.calls.clear()
            await refuses(client, token, "unknown_refresh_token")
            assert {ns.partition("@")[0] for _, ns, *_ in held.calls} <= {"client", "keys"}
        assert_refused(await client.refresh("x" * 2**20), "invalid_request", 413)
        assert_refused(await client.token(grant_type="refresh_token"), "invalid_request")
        tokens_of(await client.refresh(good))


@pytest.mark.case("S17")
async def test_refresh_tokens_of_another_key_are_worth_nothing_and_keys_can_be_changed() -> None:
    """The first key makes them, all of them are accepted."""
    clock, other = FrozenClock(), KEY[::-1].replace("Q", "A")
    engine = MemoryStore(clock=clock)

    async def refresh(keys: list[str], token: str) -> str | None:
        async with deploy(store=EncryptedStore(engine, keys), clock=clock) as server:
            response = await ClientOf(server, information).refresh(token)
            refreshed: str | None = response.json().get("refresh_token")
            return refreshed

    async with deploy(store=EncryptedStore(engine, [KEY]), clock=clock) as server:
        client = await server.register()
        token = (await client.sign_in())["refresh_token"]
        information = client.information
    both = await refresh([KEY, other], token)
    assert both is not None
    turned = await refresh([other, KEY], both)
    assert turned is not None
    assert await refresh([KEY], turned) is None, "an older worker does not know the new key"
    assert await refresh([other, KEY], turned) is not None


# -------------------------------------------------------------------------------------- in its time


@pytest.mark.case("Z79")
@pytest.mark.parametrize(("step", "uses"), [(14 * DAY, 0), (10 * DAY, 2), (DAY, 29)])
async def test_a_grant_ends_unused_after_14_days_and_in_any_case_after_30(
    step: float, uses: int
) -> None:
    async with deploy() as server:
        client = await server.register()
        token = (await client.sign_in())["refresh_token"]
        for _ in range(uses):
            server.clock.advance(step)
            token = tokens_of(await client.refresh(token))["refresh_token"]
        server.clock.advance(step)
        await refuses(client, token, "refresh_expired")


@pytest.mark.case("Z79")
@rows(("before_the_end", "good"), [(1, True), (0, False)])
@rows("end", ["idle", "absolute"])
async def test_both_ends_are_exact(end: str, before_the_end: float, good: bool) -> None:
    seconds = {"idle": (1000, 5000), "absolute": (5000, 1000)}[end]
    lifetimes = Lifetimes(refresh_idle_seconds=seconds[0], refresh_token_seconds=seconds[1])
    async with deploy(lifetimes=lifetimes) as server:
        client = await server.register()
        token = (await client.sign_in())["refresh_token"]
        server.clock.advance(1000 - before_the_end)
        if good:
            tokens = tokens_of(await client.refresh(token))
            assert tokens["expires_in"] == (3600 if end == "idle" else 1)
        else:
            await refuses(client, token, "refresh_expired")


async def test_an_access_token_does_not_outlive_its_grant() -> None:
    lifetimes = Lifetimes(refresh_token_seconds=4000)
    async with deploy(lifetimes=lifetimes) as server:
        client = await server.register()
        tokens = await client.sign_in()
        server.clock.advance(3000)
        refreshed = tokens_of(await client.refresh(tokens["refresh_token"]))
        assert refreshed["expires_in"] == 1000
        server.clock.advance(999)
        assert await is_alive(server, refreshed["access_token"])
        server.clock.advance(1)
        assert not await is_alive(server, refreshed["access_token"])


async def test_a_token_of_a_retry_lives_as_long_as_it_says() -> None:
    """The retry writes nothing, and the grant has to stay in the store for its token all the
    same.
    """
    lifetimes = Lifetimes(
        refresh_leeway_seconds=300, refresh_idle_seconds=310, access_token_seconds=600
    )
    async with deploy(lifetimes=lifetimes) as server:
        client = await server.register()
        token = (await client.sign_in())["refresh_token"]
        tokens_of(await client.refresh(token))
        server.clock.advance(300)
        again = tokens_of(await client.refresh(token))
        server.clock.advance(599)
        assert await is_alive(server, again["access_token"])


@pytest.mark.case("S19")
@rows("jump", [-3600, 3600, -1, 1])
async def test_a_clock_that_jumps_revives_no_token_that_was_replaced(jump: float) -> None:
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in()
        first = tokens_of(await client.refresh(tokens["refresh_token"]))
        second = tokens_of(await client.refresh(first["refresh_token"]))
        server.clock.jump(jump)
        third = tokens_of(await client.refresh(second["refresh_token"]))
        await refuses(client, first["refresh_token"], "refresh_replayed")
        server.clock.jump(-jump)
        for pair in (tokens, first, second, third):
            assert not await is_alive(server, pair["access_token"])
            assert_refused(await client.refresh(pair["refresh_token"]), "invalid_grant")


@pytest.mark.case("S19")
@rows("jump", [-3600, -61, -60, -1, 1, 300, 301, 3600])
async def test_the_retry_window_is_no_longer_than_a_minute_more_when_the_clock_is_set_back(
    jump: float,
) -> None:
    async with deploy() as server:
        client = await server.register()
        token = (await client.sign_in())["refresh_token"]
        tokens_of(await client.refresh(token))
        server.clock.jump(jump)
        if -60 <= jump <= 300:
            tokens_of(await client.refresh(token))
        else:
            await refuses(client, token, "refresh_replayed")


async def test_a_refresh_that_waited_while_another_won_gets_the_same_successor() -> None:
    """It was here before the other one won, and stood in a queue for longer than the retry
    window.
    """
    clock = FrozenClock()
    held = HeldStore(MemoryStore(clock=clock))
    async with deploy(store=EncryptedStore(held, [KEY]), clock=clock) as server:
        client = await server.register()
        token = (await client.sign_in())["refresh_token"]
        for hold in (("get", "grant"), ("swap", "grant")):
            held.arrived.clear()
            held.go.clear()
            held.hold = hold
            late = asyncio.create_task(client.refresh(token))
            await held.arrived.wait()
            clock.advance(20)
            successor = tokens_of(await client.refresh(token))["refresh_token"]
            held.go.set()
            assert tokens_of(await late)["refresh_token"] == successor
            token = successor
        assert revocations(server) == []


async def test_a_store_whose_swap_never_wins_is_503_and_no_loop_without_end() -> None:
    store = memory_store(clock := FrozenClock())

    async def swap(*_: object, **__: object) -> bool:
        return False

    async with deploy(store=store, clock=clock) as server:
        client = await server.register()
        tokens = await client.sign_in()
        code = await client.code()
        store.inner.swap = swap  # type: ignore[method-assign]  # a store that breaks its contract
        for answer in (await client.refresh(tokens["refresh_token"]), await client.redeem(code)):
            assert (answer.status, answer.header("retry-after")) == (503, "1")
            assert answer.json()["error"] == "temporarily_unavailable"


@pytest.mark.case("Z72")
@pytest.mark.parametrize("scope", ["mcp:read", "unknown", '"'])
async def test_a_replay_is_a_replay_whatever_scope_it_asks_for(scope: str) -> None:
    """Else a thief could find out, without any risk, whether the grant lives."""
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in()
        refreshed = tokens_of(await client.refresh(tokens["refresh_token"]))
        server.clock.advance(301)
        await refuses(client, tokens["refresh_token"], "refresh_replayed", scope=scope)
        assert not await is_alive(server, refreshed["access_token"])
