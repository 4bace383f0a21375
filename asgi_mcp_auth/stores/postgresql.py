"""PostgreSQLStore: many hosts, nothing acknowledged is lost. One table; the server's clock decides
what has expired.

Each verb is one statement, which is the only arbiter between callers (READ COMMITTED is enough for
that).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import asyncpg

from ..errors import ConfigurationError
from . import Record, group_of, new_etag
from ._options import place_of, split_options
from ._outage import TIMEOUT_SECONDS, EngineOutage, describe
from ._pools import Pools
from ._sweeping import JUMP_SECONDS, Horizon

T = TypeVar("T")
# asyncpg's pools hand out proxies, which are connections in all but type
Connection: TypeAlias = Any

_OPTIONS = {
    "schema": r"[a-z_][a-z0-9_]{0,62}",
    "pool_size": r"[1-9]\d{0,2}",
    "statement_cache_size": r"\d{1,4}",
}
_RETRIES = 3
_MAX_TTL_SECONDS = 3e9  # 95 years; PostgreSQL's time ends before Python's numbers do
_ADVISORY_LOCK = 0x6D63_705F_6175_7468

# {0}: the schema. now() is when the statement's transaction began.
MIGRATIONS = (
    """
    CREATE TABLE {0}.records (
        ns text NOT NULL, key bytea NOT NULL, value bytea NOT NULL, etag bigint NOT NULL, exp timestamptz, grp bytea,
        PRIMARY KEY (ns, key)
    );
    CREATE INDEX records_exp ON {0}.records (exp) WHERE exp IS NOT NULL;
    CREATE INDEX records_grp ON {0}.records (ns, grp, key) WHERE grp IS NOT NULL;
    """,
)
_STATEMENTS = {
    "version": "SELECT max(number) FROM {0}.version",
    "first version": (
        "CREATE TABLE {0}.version (number integer NOT NULL); INSERT INTO {0}.version VALUES (0)"
    ),
    "new version": "UPDATE {0}.version SET number = $1",
    "get": (
        "SELECT value, etag, grp FROM {0}.records WHERE ns = $1 AND key = $2 AND (exp IS NULL OR"
        " exp > now())"
    ),
    "put": (
        """
        INSERT INTO {0}.records VALUES ($1, $2, $3, $4, now() + $5::float8 * interval '1 second', $6)
        ON CONFLICT (ns, key) DO UPDATE
        SET value = excluded.value, etag = excluded.etag, exp = excluded.exp, grp = excluded.grp
    """
    ),
    # An etag is new for each call. Where "add" or "swap" finds its own, it has run before and lost
    # its connection: it says then what it would have said.
    "add": (
        """
        INSERT INTO {0}.records AS old VALUES ($1, $2, $3, $4, now() + $5::float8 * interval '1 second', $6)
        ON CONFLICT (ns, key) DO UPDATE
        SET value = excluded.value, etag = excluded.etag, exp = excluded.exp, grp = excluded.grp
        WHERE old.exp <= now() OR old.etag = excluded.etag
    """
    ),
    "swap": (
        """
        UPDATE {0}.records SET value = $4, etag = $5, exp = now() + $6::float8 * interval '1 second'
        WHERE ns = $1 AND key = $2 AND etag IN ($3, $5) AND (exp IS NULL OR exp > now())
    """
    ),
    "take": (
        "DELETE FROM {0}.records WHERE ns = $1 AND key = $2 RETURNING value, exp IS NULL OR exp >"
        " now() AS live"
    ),
    "sweep": (
        """
        DELETE FROM {0}.records WHERE (ns, key) IN
        (SELECT ns, key FROM {0}.records WHERE exp <= least(now() - $2::float8 * interval '1 second', to_timestamp($3))
        ORDER BY exp LIMIT $1 FOR UPDATE SKIP LOCKED)
    """
    ),
    "scan": (
        """
        SELECT key, value, etag, grp FROM {0}.records
        WHERE ns = $1 AND key >= $2 AND (exp IS NULL OR exp > now()) ORDER BY key LIMIT $3
    """
    ),
    "scan group": (
        """
        SELECT key, value, etag, grp FROM {0}.records
        WHERE ns = $1 AND key >= $2 AND grp = $4 AND (exp IS NULL OR exp > now()) ORDER BY key LIMIT $3
    """
    ),
}
_FAILED = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
# The server has undone the statement, whatever it was.
_UNDONE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
# The connection is gone, and with it the answer: the statement may or may not have run.
_DROPPED = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InterfaceError,
    ConnectionError,
)
_MISCONFIGURED = (
    asyncpg.InvalidAuthorizationSpecificationError,  # and with it a wrong password
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ClientConfigurationError,
)


class PostgreSQLStore:
    """Keeps records in one table of a schema of its own.

    Between ``open`` and ``aclose`` connections are pooled, on each event loop that called ``open``;
    anywhere else every call has one of its own, because a pooled one dies with its loop.

    Args:
        url: as libpq has it (``postgresql://user:password@host:5432/database``), with the options
            ``schema`` (``asgi_mcp_auth``; another one for each deployment), ``pool_size`` (10
            connections for each event loop) and ``statement_cache_size`` (100; 0 behind a PgBouncer
            that pools transactions).

    Raises:
        ConfigurationError: another URL, or a wrong option.
    """

    def __init__(self, url: str) -> None:
        self._url, options = split_options(url, _OPTIONS)
        self._place = place_of(self._url)
        self._schema = options.get("schema", "asgi_mcp_auth")
        self._cache_size = int(options.get("statement_cache_size", 100))
        self._sql = {name: text.format(f'"{self._schema}"') for name, text in _STATEMENTS.items()}
        self._pools: Pools[asyncpg.Pool] = Pools(int(options.get("pool_size", 10)))
        self._horizon = Horizon(time)
        self._prepared = False
        self._outage = EngineOutage(repr(self))

    def __repr__(self) -> str:
        return f"PostgreSQLStore({self._place!r})"

    async def open(self) -> None:
        """Pool connections on the running event loop, and make or migrate the table.

        Raises:
            ConfigurationError: the server refuses user, password, database or schema, or its table
                is newer than this code.
        """
        if self._pools.here() is None:
            pool = await asyncpg.create_pool(
                self._url,
                min_size=0,
                max_size=self._pools.size,
                statement_cache_size=self._cache_size,
                reset=_nothing,  # no verb leaves anything behind in its session
            )
            self._pools.add(pool)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                self._prepared = False
                await self._attempts(_nothing, repeatable=True)
        except (*_MISCONFIGURED, ConfigurationError) as error:
            await self.aclose()
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(
                f"store: {self._place} cannot be used ({describe(error)}): check user, password and"
                f" database in the URL; the user has to own the schema {self._schema}, or be"
                " allowed to make it"
            ) from None
        except _FAILED as error:
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
        """Return the record, ``None`` when there is none."""
        row = await self._call(lambda db: db.fetchrow(self._sql["get"], ns, _bytes(key)))
        return None if row is None else Record(row[0], row[1], group_of(row[2]))

    async def put(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> None:
        """Write the record, whether or not there was one."""
        # Not repeatable: somebody else may have changed, since, what the first attempt wrote.
        await self._write("put", ns, key, value, ttl, group, repeatable=False)

    async def add(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> bool:
        """Write the record if there is none; return whether this call wrote it."""
        return await self._write("add", ns, key, value, ttl, group, repeatable=True)

    async def swap(
        self, ns: str, key: str, known: Record, value: bytes, *, ttl: float | None = None
    ) -> bool:
        """Replace the version that was read; return whether it was still that one. The group
        stays.
        """
        values = (ns, _bytes(key), known.etag, value, new_etag(), _seconds(ttl))
        return _changed(await self._call(lambda db: db.execute(self._sql["swap"], *values)))

    async def take(self, ns: str, key: str) -> bytes | None:
        """Remove the record and return its value; of several callers one gets it."""
        # Not repeatable: the answer that was lost with a connection is nowhere else.
        rows = await self._call(
            lambda db: db.fetch(self._sql["take"], ns, _bytes(key)), repeatable=False
        )
        return rows[0]["value"] if rows and rows[0]["live"] else None

    async def delete(self, ns: str, key: str) -> bool:
        """Remove the record; return whether there was one."""
        return await self.take(ns, key) is not None

    async def sweep(self, limit: int = 500) -> int:
        """Remove expired records, at most ``limit``, and return how many."""
        # By the earlier of two clocks: neither a jump of the server's nor one of this host's
        # removes what lives.
        values = (limit, JUMP_SECONDS, self._horizon.now())
        status: str = await self._call(lambda db: db.execute(self._sql["sweep"], *values))
        return int(status.rpartition(" ")[2])

    async def scan(
        self, ns: str, *, group: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[tuple[str, Record]]:
        """Return up to ``limit`` records in the order of their keys, those of one group or all."""
        begin = b"" if after is None else _bytes(after) + b"\0"  # the next key that there can be
        statement, values = "scan", [ns, begin, limit]
        if group is not None:
            statement, values = "scan group", [*values, _bytes(group)]
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
            self._prepared = False  # what answers next may be another server
            raise self._outage.failed(error) from None
        self._outage.recovered()
        return result

    async def _attempts(self, work: Callable[[Connection], Awaitable[T]], *, repeatable: bool) -> T:
        """Run the work, and again where that can do no harm."""
        attempt = 0
        while True:
            begun = False
            try:
                async with self._connected() as connection:
                    if not self._prepared:
                        await self._migrate(connection)
                        self._prepared = True
                    begun = True
                    return await work(connection)
            except _MISCONFIGURED:
                raise
            except _UNDONE:
                if attempt == _RETRIES:
                    raise
            except _DROPPED:
                if attempt == _RETRIES or (begun and not repeatable):
                    raise
            attempt += 1
            await asyncio.sleep(random.uniform(0.01, 0.05) * 2**attempt)  # noqa: S311 (nothing secret)

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Connection]:
        """Yield a connection. One that something went wrong on is cut off, never used again and
        never waited for.
        """
        async with self._pools.place() as pool:
            connection: Connection
            if pool is None:
                connection = await asyncpg.connect(self._url, statement_cache_size=self._cache_size)
            else:
                connection = await pool.acquire()
            try:
                yield connection
            except BaseException:
                connection.terminate()
                raise
            finally:
                if pool is not None:
                    await pool.release(connection)
                elif not connection.is_closed():
                    await connection.close()

    async def _migrate(self, connection: Connection) -> None:
        """Bring the table to the newest version; of several processes one does it."""
        schema = f'"{self._schema}"'
        # READ COMMITTED: what another process did while this one waited for the lock has to be
        # seen.
        async with connection.transaction(isolation="read_committed"):
            version = await self._version(connection)
            if version < len(MIGRATIONS):
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
                version = await self._version(connection)
            if version > len(MIGRATIONS):
                raise ConfigurationError(
                    f"store: the table in schema {self._schema} was made by a newer version of"
                    f" asgi-mcp-auth (tables {version}, known {len(MIGRATIONS)}): install that"
                    " version, or name another schema"
                )
            if version == 0:
                if (
                    await connection.fetchval(
                        "SELECT 1 FROM pg_namespace WHERE nspname = $1", self._schema
                    )
                    is None
                ):
                    await connection.execute(f"CREATE SCHEMA {schema}")
                await connection.execute(self._sql["first version"])
            for migration in MIGRATIONS[version:]:
                await connection.execute(migration.format(schema))
            if version < len(MIGRATIONS):
                await connection.execute(self._sql["new version"], len(MIGRATIONS))

    async def _version(self, connection: Connection) -> int:
        # Not to_regclass(): the server remembers what it has not found, for longer than another
        # process takes.
        found = (
            "SELECT 1 FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE relname = $1"
            " AND nspname = $2"
        )
        if await connection.fetchval(found, "version", self._schema) is None:
            return 0
        number: int = await connection.fetchval(self._sql["version"])
        return number


async def _nothing(connection: Connection) -> None:
    pass


def _changed(status: str) -> bool:
    return not status.endswith(" 0")


def _seconds(ttl: float | None) -> float | None:
    return None if ttl is None else min(ttl, _MAX_TTL_SECONDS)


def _bytes(text: str) -> bytes:
    # bytea, because PostgreSQL's text has no NUL, and an order of its own in each locale.
    return text.encode("utf-8", "surrogatepass")
