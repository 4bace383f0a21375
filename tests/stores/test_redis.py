"""RedisStore: foreign values, forgotten scripts, indexes, replicas, clusters."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio
import redis

from asgi_mcp_auth import ConfigurationError, ServerUnavailable
from asgi_mcp_auth.stores import Record
from asgi_mcp_auth.stores.redis import RedisStore
from tests.support.engines import Place, RedisServer, free_port, fresh, shared_redis

pytestmark = pytest.mark.asyncio


@pytest.fixture
def place() -> Iterator[Place]:
    with fresh("redis") as place:
        yield place


@pytest_asyncio.fixture
async def store(place: Place) -> AsyncIterator[RedisStore]:
    store = RedisStore(place.url)
    await store.open()
    yield store
    await store.aclose()


@pytest.fixture
def behind() -> Iterator[redis.Redis]:
    """A client that looks and writes behind the store's back."""
    with shared_redis().client() as client:
        yield client


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (Redis has no event for it)
        await asyncio.sleep(0.02)


def record_key(place: Place, behind: redis.Redis) -> bytes:
    (key,) = behind.keys(f"{{{place.name}}}:r:*")
    return bytes(key)


# ---------------------------------------------------------------------------------- foreign content


@pytest.mark.case("S10")
@pytest.mark.parametrize(
    "content",
    [
        "text",
        ["a", "list"],
        {"unknown": "fields"},
        {"v": "no etag"},
        {"e": "12"},
        {"v": "odd etag", "e": "12x"},
        {"v": "negative etag", "e": "-1"},
        {"v": "endless etag", "e": "9" * 5000},
    ],
    ids=str,
)
async def test_what_is_no_record_of_ours_counts_as_absent(
    store: RedisStore, place: Place, behind: redis.Redis, content: Any
) -> None:
    async def spoil() -> None:
        await store.put("ns", "key", b"1", group="g")
        key = record_key(place, behind)
        behind.delete(key)
        if isinstance(content, str):
            behind.set(key, content)
        elif isinstance(content, list):
            behind.rpush(key, *content)
        else:
            behind.hset(key, mapping=content)

    await spoil()
    assert await store.get("ns", "key") is None
    assert await store.scan("ns") == []
    assert await store.scan("ns", group="g") == []
    assert await store.swap("ns", "key", Record(b"1", 12), b"2") is False
    if isinstance(content, dict) and {"v", "e"} <= content.keys():
        return  # it is a record for the scripts, which do not read etags
    assert await store.add("ns", "key", b"2") is True
    await spoil()
    assert await store.take("ns", "key") is None
    assert await store.delete("ns", "key") is False
    await spoil()
    await store.put("ns", "key", b"3", group="g")
    assert [key for key, _ in await store.scan("ns", group="g")] == ["key"]


@pytest.mark.case("S10")
async def test_a_group_changed_from_outside_is_not_listed(
    store: RedisStore, place: Place, behind: redis.Redis
) -> None:
    await store.put("ns", "key", b"1", group="g")
    behind.hset(record_key(place, behind), "g", ":h")
    assert await store.scan("ns", group="g") == []
    behind.hdel(record_key(place, behind), "g")
    assert await store.scan("ns", group="g") == []
    assert len(await store.scan("ns")) == 1
    record = await store.get("ns", "key")
    assert record is not None
    assert await store.swap("ns", "key", record, b"2", ttl=100)
    assert await store.take("ns", "key") == b"2"


@pytest.mark.case("S07")
async def test_after_flushall_everything_is_absent_and_scripts_are_loaded_again() -> None:
    with RedisServer() as server:
        store = RedisStore(server.url)
        await store.open()
        await store.put("ns", "key", b"1", group="g")
        with server.client() as client:
            client.flushall()
            client.script_flush()
        assert await store.get("ns", "key") is None
        assert await store.scan("ns", group="g") == []
        assert await store.add("ns", "key", b"2") is True
        assert await store.take("ns", "key") == b"2"
        await store.aclose()


@pytest.mark.case("S07")
async def test_a_redis_without_memory_refuses_writes_and_half_of_nothing_is_kept() -> None:
    with RedisServer("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:
        store = RedisStore(server.url)
        await store.open()
        await store.put("ns", "before", b"1")
        number = 0
        with suppress(ServerUnavailable):
            for number in range(100):
                await store.put("ns", f"{number}", bytes(100_000), group="g", ttl=1000)
        assert 0 < number < 99
        with server.client() as client:
            assert client.exists(f"{{asgi-mcp-auth}}:r:2:ns:{number}") == 0
        assert number not in {int(key) for key, _ in await store.scan("ns", group="g")}
        assert await store.take("ns", "before") == b"1"
        await store.aclose()


# ------------------------------------------------------------------------------------------ indexes


async def test_indexes_keep_nothing_of_what_is_gone(
    store: RedisStore, place: Place, behind: redis.Redis
) -> None:
    for number in range(250):
        await store.put(
            "ns", f"{number}", b"1", ttl=0.3, group=f"g{number % 3}" if number % 2 else None
        )
    await store.put("ns", "moved", b"1", group="before")
    await store.put("ns", "moved", b"1", group="after")
    await store.put("ns", "taken", b"1", group="taken")
    await store.take("ns", "taken")
    await store.put("ns", "swapped out", b"1", group="swapped")
    record = await store.get("ns", "swapped out")
    assert record is not None
    assert await store.swap("ns", "swapped out", record, b"2", ttl=0)
    await store.put("ns", "again", b"1", ttl=0.2, group="g")
    await store.put("ns", "again", b"1", group="g")
    await asyncio.sleep(0.4)
    assert await store.sweep(200) == 200
    assert await store.sweep(200) > 50
    assert await store.sweep(200) == 0
    prefix = f"{{{place.name}}}:".encode()
    assert {key.removeprefix(prefix) for key in behind.keys(prefix + b"*")} == {
        b"r:2:ns:again",
        b"r:2:ns:moved",
        b"k:ns",
        b"g:2:ns:after",
        b"g:2:ns:g",
    }
    assert [key for key, _ in await store.scan("ns")] == ["again", "moved"]


async def test_sweep_leaves_what_lives_longer_than_it_was_noted(
    store: RedisStore, place: Place, behind: redis.Redis
) -> None:
    """A clock that jumped, or an operator's EXPIRE: the record decides, not the note."""
    await store.put("ns", "key", b"1", ttl=0.1, group="g")
    behind.pexpire(record_key(place, behind), 60_000)
    await asyncio.sleep(0.2)
    assert await store.sweep() == 1
    assert await store.sweep() == 0
    assert len(await store.scan("ns", group="g")) == 1
    behind.persist(record_key(place, behind))
    behind.zadd(f"{{{place.name}}}:due", {b"2:3:nskey:g": 1})
    assert await store.sweep() == 1
    assert len(await store.scan("ns", group="g")) == 1
    assert behind.exists(f"{{{place.name}}}:due") == 0


# ----------------------------------------------------------------------------------------- settings


@pytest.mark.case("S07")
@pytest.mark.parametrize(
    ("policy", "warned"),
    [
        ("noeviction", False),
        ("allkeys-lru", True),
        ("allkeys-random", True),
        ("volatile-ttl", True),
        ("volatile-lru", True),
        ("volatile-random", True),
    ],
)
async def test_a_policy_that_throws_records_away_is_warned_about(
    policy: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer("--maxmemory-policy", policy) as server:
        store = RedisStore(server.url)
        await store.open()
        await store.aclose()
    assert ("noeviction" in caplog.text) is warned


async def test_a_redis_that_does_not_tell_its_settings_is_taken_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RedisServer("--rename-command", "CONFIG", "") as server:
        store = RedisStore(server.url)
        await store.open()
        await store.put("ns", "key", b"1")
        await store.aclose()
    assert caplog.records == []


@pytest.mark.parametrize("user", ["", ":hunter2@"])
async def test_a_wrong_password_is_a_configuration_error_at_open_and_503_later(user: str) -> None:
    with RedisServer("--requirepass", "correct") as server:
        store = RedisStore(server.url.replace("//", f"//{user}"))
        with pytest.raises(ConfigurationError, match=r"refuses user or password") as refused:
            await store.open()
        assert "hunter2" not in str(refused.value)
        with pytest.raises(ServerUnavailable):
            await store.get("ns", "key")
        right = RedisStore(server.url.replace("//", "//:correct@"))
        await right.open()
        await right.put("ns", "key", b"1")
        await right.aclose()


KEYS = "~{asgi-mcp-auth}:*"
ALLOWED = ("+@read", "+@write", "+@scripting", "+ping", "+select", "+time")
# What a user may do, and whether that is enough.
USERS: dict[str, tuple[tuple[str, ...], bool]] = {
    "what the message says": ((KEYS, *ALLOWED), True),
    "everything": (("~*", "+@all"), True),
    "no scripts": (("~*", *ALLOWED, "-@scripting"), False),
    "no writing": (("~*", *ALLOWED, "-@write"), False),
    "no sorted sets": (("~*", *ALLOWED, "-zadd"), False),
    "no expiry": (("~*", *ALLOWED, "-pexpire"), False),
    "no pages": (("~*", *ALLOWED, "-zrangebylex"), False),
    "other keys": (("~other:*", *ALLOWED), False),
    "nothing": (("~*", "+ping"), False),
}


@pytest.mark.rule("RS-79")
@pytest.mark.parametrize("case", USERS)
async def test_a_user_who_may_not_do_all_that_is_needed_stops_the_start(
    case: str, behind: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    rights, enough = USERS[case]
    behind.execute_command("ACL", "SETUSER", "poor", "reset", "on", ">password", *rights)
    store = RedisStore(f"redis://poor:password@127.0.0.1:{shared_redis().port}/0")
    before = behind.dbsize()
    if enough:
        await store.open()
        await store.put("ns", "key", b"1", ttl=9, group="g")
        assert len(await store.scan("ns", group="g")) == 1
        assert await store.take("ns", "key") == b"1"
        await store.sweep()
        await store.aclose()
        return
    with pytest.raises(ConfigurationError, match=r"all that is needed \(.*ACL SETUSER … '~\{asgi"):
        await store.open()
    assert behind.dbsize() == before
    for _ in range(2):
        with pytest.raises(ServerUnavailable):
            await (store.scan("ns") if case == "no pages" else store.put("ns", "key", b"1", ttl=9))
    (record,) = caplog.records
    assert "ACL SETUSER" in record.getMessage()


@pytest.mark.rule("RS-79")
@pytest.mark.parametrize(("number", "fine"), [(15, True), (16, False), (99, False)])
async def test_a_database_that_does_not_exist_stops_the_start(number: int, fine: bool) -> None:
    store = RedisStore(f"redis://127.0.0.1:{shared_redis().port}/{number}")
    if fine:
        await store.open()
        await store.aclose()
        return
    with pytest.raises(ConfigurationError, match=r"no such database.*another number"):
        await store.open()


@pytest.mark.rule("RS-79")
async def test_a_replica_stops_the_start() -> None:
    with (
        RedisServer("--replicaof", "127.0.0.1", str(free_port())) as server,
        pytest.raises(ConfigurationError, match=r"is a replica.*the primary's URL"),
    ):
        await RedisStore(server.url).open()


async def test_a_socket_is_as_good_as_a_port() -> None:
    with RedisServer("--unixsocket", "redis.sock") as server:
        store = RedisStore(f"unix://{server.folder}/redis.sock?prefix=app&db=2")
        await store.open()
        await store.put("ns", "key", b"1")
        assert await store.take("ns", "key") == b"1"
        await store.aclose()


# ------------------------------------------------------------------------------------------ outages


@pytest.mark.case("S06")
async def test_a_redis_that_is_down_at_the_start_is_503_until_it_is_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = RedisServer()
    try:
        store = RedisStore(server.url)
        await store.open()
        for _ in range(3):
            with pytest.raises(ServerUnavailable):
                await store.put("ns", "key", b"1")
        await asyncio.to_thread(server.start)
        began = time.monotonic()
        await store.put("ns", "key", b"1")
        assert time.monotonic() - began < 4.5  # within five seconds it could be a time limit
        await store.aclose()
    finally:
        server.stop()
    assert ["is unavailable" in message for message in caplog.messages] == [True, False]
    assert "is back" in caplog.messages[1]


@pytest.mark.case("S06")
async def test_connections_that_a_restart_has_cut_are_not_used_again() -> None:
    with RedisServer(durable=True) as server:
        store = RedisStore(server.url)
        await store.open()
        await asyncio.gather(*(store.put("ns", f"{number}", b"1") for number in range(30)))
        server.kill()
        await asyncio.to_thread(server.start)
        results = await asyncio.gather(*(store.take("ns", f"{number}") for number in range(30)))
        assert results == [b"1"] * 30
        await store.aclose()


@pytest.mark.case("S06")
async def test_a_call_that_a_kill_interrupts_is_503() -> None:
    with RedisServer() as server:
        store = RedisStore(server.url)
        await store.open()
        await store.put("ns", "key", b"1")
        server.signal(signal.SIGSTOP)
        call = asyncio.ensure_future(store.get("ns", "key"))
        await asyncio.sleep(0.1)
        server.kill()
        with pytest.raises(ServerUnavailable):
            await call
        await store.aclose()


async def test_two_event_loops_have_connections_of_their_own(store: RedisStore) -> None:
    async def elsewhere() -> None:
        await store.open()
        await store.put("ns", "there", b"1")
        await store.aclose()
        await store.put("ns", "unpooled", b"1")

    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    await store.put("ns", "here", b"1")
    await asyncio.to_thread(thread.join)
    assert [key for key, _ in await store.scan("ns")] == ["here", "there", "unpooled"]


# ------------------------------------------------------------------------------- replicas, clusters


@pytest.mark.case("S08")
async def test_with_wait_replicas_no_acknowledged_write_is_lost_by_a_failover() -> None:
    with (
        RedisServer("--repl-diskless-sync-delay", "0") as primary,
        RedisServer("--replicaof", "127.0.0.1", str(primary.port)) as replica,
    ):
        store = RedisStore(f"{primary.url}?wait_replicas=1")
        await store.open()
        with replica.client() as client:
            await until(lambda: client.info("replication")["master_link_status"] == "up")
        await asyncio.gather(*(store.put("code", f"{number}", b"pending") for number in range(100)))
        for number in range(100):
            record = await store.get("code", f"{number}")
            assert record is not None
            assert await store.swap("code", f"{number}", record, b"used")
        primary.kill()
        with replica.client() as client:
            client.replicaof("NO", "ONE")
        heir = RedisStore(replica.url)
        assert {record.value for _, record in await heir.scan("code")} == {b"used"}
        assert len(await heir.scan("code")) == 100
        await store.aclose()


@pytest.mark.slow
@pytest.mark.case("S08")
async def test_without_the_replica_a_write_is_503() -> None:
    with RedisServer() as server:
        assert await RedisStore(server.url).add("ns", "other", b"1")
        store = RedisStore(f"{server.url}?wait_replicas=1")
        await store.open()
        assert await store.get("ns", "key") is None
        with pytest.raises(ServerUnavailable):
            await store.add("ns", "key", b"1")
        await store.aclose()


@pytest.mark.slow
@pytest.mark.case("S09")
async def test_every_script_stays_in_one_hash_slot_of_a_cluster() -> None:
    with RedisServer("--cluster-enabled", "yes") as server:
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            await until(lambda: client.cluster("info")["cluster_state"] == "ok")
        store = RedisStore(server.url)
        await store.open()
        await store.put("ns", "{a}", b"1", ttl=0.1, group="{b}")
        await store.put("ns", "{c}", b"1", ttl=100, group="{d}")
        assert await store.add("ns", "{e}", b"1", group="{f}")
        record = await store.get("ns", "{c}")
        assert record is not None
        assert await store.swap("ns", "{c}", record, b"2", ttl=200)
        assert [key for key, _ in await store.scan("ns", group="{d}")] == ["{c}"]
        await asyncio.sleep(0.15)
        assert await store.sweep() == 1
        assert await store.take("ns", "{e}") == b"1"
        await store.aclose()


async def test_a_closed_port_is_503_without_a_pool() -> None:
    store = RedisStore(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(ServerUnavailable):
        await store.scan("ns")
