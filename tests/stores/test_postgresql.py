"""PostgreSQLStore: retries, broken connections, deadlines."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from asgi_mcp_auth import ConfigurationError, ServerUnavailable
from asgi_mcp_auth.stores.postgresql import PostgreSQLStore
from tests.support.engines import (
    PgBouncer,
    Place,
    PostgreSQLServer,
    free_port,
    fresh,
    shared_postgresql,
)

pytestmark = pytest.mark.asyncio


@pytest.fixture
def place() -> Iterator[Place]:
    with fresh("postgresql") as place:
        yield place


@pytest_asyncio.fixture
async def store(place: Place) -> AsyncIterator[PostgreSQLStore]:
    store = PostgreSQLStore(place.url)
    await store.open()
    yield store
    await store.aclose()


def query(sql: str) -> str:
    return shared_postgresql().query(sql).decode().strip()


def fail_next(place: Place, code: str, times: int) -> None:
    """Let the server itself refuse the next statements that change the table."""
    query(f"""
        CREATE SEQUENCE IF NOT EXISTS {place.name}.failures;
        ALTER SEQUENCE {place.name}.failures RESTART;
        CREATE OR REPLACE FUNCTION {place.name}.fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('{place.name}.failures') <= {times} THEN
                RAISE EXCEPTION 'on purpose' USING ERRCODE = '{code}';
            END IF;
            RETURN NULL;
        END $$;
        CREATE OR REPLACE TRIGGER fail BEFORE INSERT OR UPDATE OR DELETE ON {place.name}.records
        FOR EACH STATEMENT EXECUTE FUNCTION {place.name}.fail();
    """)


def attempts(place: Place) -> int:
    return int(query(f"SELECT last_value FROM {place.name}.failures"))  # noqa: S608 (our own name)


# -------------------------------------------------------------------------------------- tried again


@pytest.mark.slow
@pytest.mark.case("S11")
@pytest.mark.parametrize("code", ["40001", "40P01", "57P01"])
async def test_what_the_server_undid_is_tried_again_up_to_three_times(
    store: PostgreSQLStore, place: Place, code: str
) -> None:
    await store.put("ns", "key", b"1")
    record = await store.get("ns", "key")
    assert record is not None
    fail_next(place, code, 3)
    assert await store.swap("ns", "key", record, b"2")
    assert attempts(place) == 4
    fail_next(place, code, 3)
    assert await store.add("ns", "other", b"1")
    record = await store.get("ns", "key")
    assert record is not None
    assert record.value == b"2"
    fail_next(place, code, 4)
    with pytest.raises(ServerUnavailable):
        await store.swap("ns", "key", record, b"3")
    assert attempts(place) == 4
    assert await store.get("ns", "key") == record


@pytest.mark.case("S11")
@pytest.mark.parametrize(("code", "tried"), [("40001", 2), ("40P01", 2), ("57P01", 1)])
async def test_a_put_or_take_that_may_have_happened_is_not_tried_again(
    store: PostgreSQLStore, place: Place, code: str, tried: int
) -> None:
    fail_next(place, code, 1)
    if tried == 1:
        with pytest.raises(ServerUnavailable):
            await store.put("ns", "key", b"1")
    await store.put("ns", "key", b"1")
    assert attempts(place) == 3  # an upsert runs the triggers of INSERT and of UPDATE
    fail_next(place, code, 1)
    if tried == 1:
        with pytest.raises(ServerUnavailable):
            await store.take("ns", "key")
    assert await store.take("ns", "key") == b"1"
    assert attempts(place) == 2


@pytest.mark.case("S11")
async def test_other_errors_are_503_at_once(store: PostgreSQLStore, place: Place) -> None:
    await store.put("ns", "key", b"1")
    fail_next(place, "53100", 1)  # disk full
    with pytest.raises(ServerUnavailable):
        await store.put("ns", "key", b"2")
    assert attempts(place) == 1


@pytest.mark.case("S11")
async def test_a_call_that_ran_and_lost_its_connection_answers_as_it_would_have(
    place: Place,
) -> None:
    """The statement is committed, and the connection ends before the answer."""
    async with Cut() as proxy:
        store = PostgreSQLStore(place.url.replace(f":{shared_postgresql().port}", f":{proxy.port}"))
        await store.open()
        await store.put("ns", "swapped", b"1")
        record = await store.get("ns", "swapped")
        assert record is not None
        proxy.cut_next("INSERT")
        assert await store.add("ns", "added", b"1") is True
        assert await store.add("ns", "added", b"2") is False
        proxy.cut_next("UPDATE")
        assert await store.swap("ns", "swapped", record, b"2") is True
        assert await store.swap("ns", "swapped", record, b"3") is False
        proxy.cut_next("INSERT")
        with pytest.raises(ServerUnavailable):
            await store.put("ns", "put", b"1")
        proxy.cut_next("DELETE")
        with pytest.raises(ServerUnavailable):
            await store.take("ns", "swapped")
        assert await store.take("ns", "swapped") is None
        assert proxy.cuts == 4
        await store.aclose()


class Cut:
    """A proxy to PostgreSQL that cuts a connection when the server has acknowledged a certain
    command.
    """

    def __init__(self) -> None:
        self.cuts = 0
        self._wanted: bytes | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Cut:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def cut_next(self, command: str) -> None:
        """Cut the connection that acknowledges this command next (``CommandComplete`` begins with
        its name).
        """
        self._wanted = command.encode()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        there_reader, there_writer = await asyncio.open_connection(
            "127.0.0.1", shared_postgresql().port
        )
        upwards = asyncio.ensure_future(self._copy(reader, there_writer))
        try:
            while data := await there_reader.read(65536):
                if self._wanted is not None and b"C\0\0\0" in data and self._wanted in data:
                    self._wanted = None
                    self.cuts += 1
                    return
                writer.write(data)
        except asyncio.CancelledError:
            return  # the test is over
        finally:
            upwards.cancel()
            writer.close()
            there_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)


@pytest.mark.case("S11")
@pytest.mark.parametrize("isolation", ["serializable", "repeatable%20read"])
async def test_stricter_isolation_costs_attempts_and_loses_nothing(
    place: Place, isolation: str
) -> None:
    store = PostgreSQLStore(f"{place.url}&default_transaction_isolation={isolation}")
    await store.open()
    await store.put("ns", "counter", b"0")

    async def increment() -> int:
        for _ in range(100):
            record = await store.get("ns", "counter")
            assert record is not None
            try:
                if await store.swap("ns", "counter", record, b"%d" % (int(record.value) + 1)):
                    return 1
            except ServerUnavailable:
                continue
        return 0

    assert sum(await asyncio.gather(*(increment() for _ in range(8)))) == 8
    record = await store.get("ns", "counter")
    assert record is not None
    assert record.value == b"8"
    await store.aclose()


# -------------------------------------------------------------------------------------- connections


@pytest.mark.case("S12")
async def test_connections_that_the_server_ended_are_not_used_again(
    store: PostgreSQLStore,
) -> None:
    await asyncio.gather(*(store.put("ns", f"{number}", b"1") for number in range(30)))
    query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND"
        " query ~ 'records'"
    )
    await asyncio.sleep(0.05)
    assert (
        await asyncio.gather(*(store.take("ns", f"{number}") for number in range(30)))
        == [b"1"] * 30
    )


@pytest.mark.slow
@pytest.mark.case("S12")
async def test_a_server_that_is_down_is_503_and_back_at_once_when_it_is_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = PostgreSQLServer()
    try:
        store = PostgreSQLStore(server.url)
        await store.open()
        with pytest.raises(ServerUnavailable):
            await store.put("ns", "key", b"1")
        await asyncio.to_thread(server.start)
        began = time.monotonic()
        await store.put("ns", "key", b"1")
        assert time.monotonic() - began < 4.5  # within five seconds it could be a time limit
        server.query("DROP SCHEMA asgi_mcp_auth CASCADE")  # as a server that was set up again
        with pytest.raises(ServerUnavailable):
            await store.put("ns", "key", b"1")
        await store.put("ns", "key", b"1")
        await store.aclose()
    finally:
        server.stop()
    assert ["is unavailable" in message for message in caplog.messages] == [
        True,
        False,
        True,
        False,
    ]


async def test_two_event_loops_have_connections_of_their_own(store: PostgreSQLStore) -> None:
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


@pytest.mark.case("S13")
async def test_a_statement_that_the_server_gives_up_is_503(
    place: Place, store: PostgreSQLStore
) -> None:
    await store.put("ns", "key", b"1")
    impatient = PostgreSQLStore(f"{place.url}&statement_timeout=200")
    await impatient.open()
    with shared_postgresql().lock_rows(place.name), pytest.raises(ServerUnavailable):
        await impatient.put("ns", "key", b"2")
    await impatient.put("ns", "key", b"3")
    await impatient.aclose()


async def test_sweep_leaves_locked_rows_alone(store: PostgreSQLStore, place: Place) -> None:
    await store.put("ns", "held", b"1", ttl=-100)
    with shared_postgresql().lock_rows(place.name):
        await store.put("ns", "free", b"1", ttl=-100)
        assert await store.sweep() == 1
    async with asyncio.timeout(10):
        while not await store.sweep():  # noqa: ASYNC110 (the server reports nothing)
            await asyncio.sleep(0.05)


# ----------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("cache", ["&statement_cache_size=0", ""])
async def test_every_verb_works_without_prepared_statements(place: Place, cache: str) -> None:
    store = PostgreSQLStore(place.url + cache + "&pool_size=1")
    await store.open()
    await store.put("ns", "key", b"1", ttl=100, group="g")
    (found,) = await store.scan("ns", group="g")
    assert await store.swap("ns", "key", found[1], b"2")
    assert await store.sweep() == 0
    assert await store.take("ns", "key") == b"2"
    await store.aclose()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("/postgres?", "/nowhere?", "InvalidCatalogNameError"),
        ("postgres@", "nobody@", "InvalidAuthorizationSpecificationError|InvalidPasswordError"),
        ("postgres@", "poor@", "InsufficientPrivilegeError.*own the schema"),
        ("?", "?conect_timeout=3&", "UndefinedObjectError.*conect_timeout"),
        ("?", "?wal_level=minimal&", "CantChangeRuntimeParamError.*wal_level"),
        ("?", "?statement_timeout=soon&", "InvalidParameterValueError.*statement_timeout"),
    ],
)
async def test_what_the_server_refuses_is_a_configuration_error_at_open_and_503_later(
    place: Place, old: str, new: str, told: str
) -> None:
    query("DO $$ BEGIN CREATE ROLE poor LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    store = PostgreSQLStore(place.url.replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=told):
        await store.open()
    with pytest.raises(ServerUnavailable):
        await store.get("ns", "key")


async def test_a_schema_that_was_made_for_the_user_is_used(place: Place) -> None:
    query("DO $$ BEGIN CREATE ROLE poor LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    query(f"CREATE SCHEMA {place.name} AUTHORIZATION poor")
    store = PostgreSQLStore(place.url.replace("postgres@", "poor@", 1))
    await store.open()
    await store.put("ns", "key", b"1")
    await store.aclose()


async def test_closing_cuts_off_what_does_not_end_by_itself(place: Place) -> None:
    store = PostgreSQLStore(place.url)
    await store.open()
    await store.aclose()
    await store.aclose()
    assert await store.get("ns", "key") is None


async def test_a_closed_port_is_503_without_a_pool() -> None:
    store = PostgreSQLStore(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres")
    with pytest.raises(ServerUnavailable):
        await store.scan("ns")


# -------------------------------------------------------------------------------------------- pools


@pytest.mark.rule("RS-79")
@pytest.mark.parametrize(
    ("mode", "option", "fine"),
    [
        ("transaction", "", False),
        ("statement", "", False),
        ("transaction", "&statement_cache_size=0", True),
        ("session", "", True),
    ],
)
async def test_a_pooler_that_mixes_prepared_statements_stops_the_start(
    place: Place, mode: str, option: str, fine: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with PgBouncer(shared_postgresql(), mode) as pooler:
        store = PostgreSQLStore(f"{pooler.url}?schema={place.name}{option}")
        if fine:
            await store.open()
            await asyncio.gather(*(store.put("ns", str(number), b"1") for number in range(20)))
            await store.aclose()
            return
        with pytest.raises(ConfigurationError, match="is a pooler"):
            await store.open()
        for _ in range(2):
            with pytest.raises(ServerUnavailable):
                await store.get("ns", "key")
        (record,) = caplog.records
        assert "?statement_cache_size=0" in record.getMessage()
