"""Stores records in PostgreSQL, for many hosts. Nothing that was acknowledged is lost.

Each operation is one statement, which decides between concurrent callers; READ COMMITTED is enough
for that. The server's clock decides which records have expired.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias, TypeVar

import asyncpg

from ..errors import ConfigurationError
from . import Record, group_of, new_etag
from ._options import location_of, split_options
from ._outage import TIMEOUT_SECONDS, EngineOutage, describe
from ._pools import Pools
from ._postgresql_options import driver_url
from ._postgresql_schema import migrate, statements_for
from ._sweeping import JUMP_SECONDS, Horizon

T = TypeVar("T")
# asyncpg's pools return proxies, which are not of the type Connection.
Connection: TypeAlias = Any

_OPTIONS = {
    "schema": r"[a-z_][a-z0-9_]{0,62}",
    "pool_size": r"[1-9]\d{0,2}",
    "statement_cache_size": r"\d{1,4}",
}
_RETRIES = 3
_PROBE_SECONDS = 1.0
_MAX_TTL_SECONDS = 3e9  # 95 years; a float may exceed PostgreSQL's range of time

_FAILED = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
# The server has rolled the statement back.
_UNDONE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
# The connection was lost, and with it the answer: the statement may have run.
_DROPPED = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InterfaceError,
    ConnectionError,
)
_MISCONFIGURED = (
    asyncpg.InvalidAuthorizationSpecificationError,  # includes a wrong password
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ClientConfigurationError,
    # Options of the URL that the server, or a pooler before it, does not know or allow.
    asyncpg.UndefinedObjectError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.InvalidParameterValueError,
    asyncpg.ProtocolViolationError,
)
# Prepared statements that are gone, or another client's: a pooler changes connections below us.
_POOLED = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)


class PostgreSQLStore:
    """Stores records in one table in its own schema.

    Between ``open`` and ``aclose``, connections are pooled on each event loop that called ``open``.
    Elsewhere, every call makes a connection of its own, because a pooled one dies with its loop.

    Args:
        url: a URL for libpq (``postgresql://user:password@host:5432/database``), with the options
            ``schema`` (``asgi_mcp_auth``; different for each deployment), ``pool_size`` (10
            connections for each event loop) and ``statement_cache_size`` (100; 0 behind a PgBouncer
            that pools transactions and has no ``max_prepared_statements``).

    Raises:
        ConfigurationError: an invalid URL or option.
    """

    def __init__(self, url: str) -> None:
        theirs, options = split_options(url, _OPTIONS)
        self._url = driver_url(theirs)
        self._location = location_of(self._url)
        self._schema = options.get("schema", "asgi_mcp_auth")
        self._cache_size = int(options.get("statement_cache_size", 100))
        self._sql = statements_for(self._schema)
        self._pools: Pools[asyncpg.Pool] = Pools(int(options.get("pool_size", 10)))
        self._horizon = Horizon(time)
        self._prepared = False
        self._outage = EngineOutage(repr(self))

    def __repr__(self) -> str:
        return f"PostgreSQLStore({self._location!r})"

    async def open(self) -> None:
        """Open a pool on the running event loop, and create or migrate the table.

        Raises:
            ConfigurationError: the server refuses the user, password, database or schema, or its
                table is newer than this code.
        """
        if self._pools.here() is None:
            pool = await asyncpg.create_pool(
                self._url,
                min_size=0,
                max_size=self._pools.size,
                statement_cache_size=self._cache_size,
                reset=_do_nothing,  # no operation changes its session
            )
            self._pools.add(pool)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                self._prepared = False
                await self._attempts(_do_nothing, repeatable=True)
        except (*_FAILED, ConfigurationError) as error:
            explained = _explained(error, self._location, self._schema)
            if isinstance(explained, ConfigurationError):
                await self.aclose()
                raise explained from None
            self._outage.failed(error)

    async def aclose(self) -> None:
        """Close the pool of the running event loop."""
        pool = self._pools.remove()
        if pool is None:
            return
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await pool.close()
        except _FAILED:
            pool.terminate()

    async def get(self, ns: str, key: str) -> Record | None:
        """Return the record, or ``None``."""
        row = await self._call(lambda db: db.fetchrow(self._sql["get"], ns, _bytes(key)))
        return None if row is None else Record(row[0], row[1], group_of(row[2]))

    async def put(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> None:
        """Write the record, replacing any other."""
        # Not repeatable: another call may have changed the record since the first attempt.
        await self._write("put", ns, key, value, ttl, group, repeatable=False)

    async def add(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> bool:
        """Write the record if there is none; return whether this call wrote it."""
        return await self._write("add", ns, key, value, ttl, group, repeatable=True)

    async def swap(
        self, ns: str, key: str, known: Record, value: bytes, *, ttl: float | None = None
    ) -> bool:
        """Replace the record if it is still ``known``; return whether it was. The group stays."""
        values = (ns, _bytes(key), known.etag, value, new_etag(), _seconds(ttl))
        return _changed(await self._call(lambda db: db.execute(self._sql["swap"], *values)))

    async def take(self, ns: str, key: str) -> bytes | None:
        """Remove the record and return its value, to one caller only."""
        # Not repeatable: a value that was lost with the connection cannot be read again.
        rows = await self._call(
            lambda db: db.fetch(self._sql["take"], ns, _bytes(key)), repeatable=False
        )
        return rows[0]["value"] if rows and rows[0]["live"] else None

    async def delete(self, ns: str, key: str) -> bool:
        """Remove the record; return whether there was one."""
        return await self.take(ns, key) is not None

    async def sweep(self, limit: int = 500) -> int:
        """Remove up to ``limit`` expired records, and return how many."""
        # By the earlier of two clocks, so that a jump of either removes no live record.
        values = (limit, JUMP_SECONDS, self._horizon.now())
        status: str = await self._call(lambda db: db.execute(self._sql["sweep"], *values))
        return int(status.rpartition(" ")[2])

    async def scan(
        self, ns: str, *, group: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[tuple[str, Record]]:
        """Return up to ``limit`` records ordered by key, of one group or of all."""
        begin = b"" if after is None else _bytes(after) + b"\0"  # the next possible key
        statement = "scan"
        values: list[Any] = [ns, begin, limit]
        if group is not None:
            statement = "scan group"
            values.append(_bytes(group))
        rows = await self._call(lambda db: db.fetch(self._sql[statement], *values))
        return [
            (key.decode("utf-8", "surrogatepass"), Record(value, etag, group_of(group)))
            for key, value, etag, group in rows
        ]

    async def _write(
        self,
        statement: str,
        ns: str,
        key: str,
        value: bytes,
        ttl: float | None,
        group: str | None,
        *,
        repeatable: bool,
    ) -> bool:
        values = (
            ns,
            _bytes(key),
            value,
            new_etag(),
            _seconds(ttl),
            None if group is None else _bytes(group),
        )
        return _changed(
            await self._call(
                lambda db: db.execute(self._sql[statement], *values), repeatable=repeatable
            )
        )

    async def _call(
        self, work: Callable[[Connection], Awaitable[Any]], *, repeatable: bool = True
    ) -> Any:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                result = await self._attempts(work, repeatable=repeatable)
        except (*_FAILED, ConfigurationError) as error:
            self._prepared = False  # the next answer may come from another server
            raise self._outage.failed(_explained(error, self._location, self._schema)) from None
        self._outage.recovered()
        return result

    async def _check_pooler(self, connection: Connection) -> None:
        """Check that prepared statements are ours alone.

        A pooler gives each client a process number of its own. Where its connections change hands
        with the statements that were prepared on them, another client sees ours.

        Raises:
            asyncpg.DuplicatePreparedStatementError: they are not.
        """
        if not self._cache_size:
            return
        if await connection.fetchval("SELECT pg_backend_pid()") == connection.get_server_pid():
            return
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                other = await asyncpg.connect(self._url, statement_cache_size=0)
                try:
                    seen = await other.fetchval(self._sql["foreign statements"])
                finally:
                    other.terminate()
        except _FAILED:  # a pooler without another connection for us tells nothing
            return
        if seen:
            raise asyncpg.DuplicatePreparedStatementError("another client's statements are there")

    async def _attempts(self, work: Callable[[Connection], Awaitable[T]], *, repeatable: bool) -> T:
        """Run the work, and retry it if that is safe."""
        attempt = 0
        while True:
            begun = False
            try:
                async with self._connected() as connection:
                    if not self._prepared:
                        await migrate(connection, self._schema, self._sql)
                        await self._check_pooler(connection)
                        self._prepared = True
                    begun = True
                    return await work(connection)
            except (*_MISCONFIGURED, *_POOLED):
                raise
            except _UNDONE:
                if attempt == _RETRIES:
                    raise
            except _DROPPED:
                if attempt == _RETRIES or (begun and not repeatable):
                    raise
            attempt += 1
            pause = random.uniform(0.01, 0.05)  # noqa: S311 (nothing secret)
            await asyncio.sleep(pause * 2**attempt)

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Connection]:
        """Yield a connection; after an error it is terminated, and not waited for."""
        async with self._pools.slot() as pool:
            connection: Connection
            if pool is None:
                connection = await asyncpg.connect(self._url, statement_cache_size=self._cache_size)
            else:
                connection = await pool.acquire()
            try:
                yield connection
            except BaseException:
                with suppress(asyncpg.InterfaceError):  # the server has closed it
                    connection.terminate()
                raise
            finally:
                if pool is not None:
                    await pool.release(connection)
                elif not connection.is_closed():
                    await connection.close()


def _explained(error: BaseException, location: str, schema: str) -> BaseException:
    """Return a ``ConfigurationError`` for what an operator has to mend, else the error."""
    if isinstance(error, _POOLED):
        return ConfigurationError(
            f"store: {location} is a pooler that changes connections between transactions"
            f" ({describe(error)}). Add ?statement_cache_size=0 to the URL; or, with PgBouncer"
            " 1.21 or newer, set max_prepared_statements there"
        )
    if "statement pooling" in str(error):  # the words of PgBouncer, which hangs up
        return ConfigurationError(
            f"store: {location} is a pooler without transactions: set pool_mode = session"
            " there, or transaction with ?statement_cache_size=0 in the URL"
        )
    if isinstance(error, _MISCONFIGURED):
        return ConfigurationError(
            f"store: {location} cannot be used ({describe(error)}): check user, password,"
            f" database and options in the URL; the user must own the schema {schema}, or"
            " be allowed to create it"
        )
    return error


async def _do_nothing(connection: Connection) -> None:
    pass


def _changed(status: str) -> bool:
    return not status.endswith(" 0")


def _seconds(ttl: float | None) -> float | None:
    return None if ttl is None else min(ttl, _MAX_TTL_SECONDS)


def _bytes(text: str) -> bytes:
    # bytea: PostgreSQL's text has no NUL, and its order depends on the locale.
    return text.encode("utf-8", "surrogatepass")
