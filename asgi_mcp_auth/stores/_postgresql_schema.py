"""The table and the statements of PostgreSQLStore, and the migration of older tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigurationError

_ADVISORY_LOCK = 0x6D63_705F_6175_7468

# {0} is the schema. now() is the beginning of the statement's transaction.
MIGRATIONS = (
    """
    CREATE TABLE {0}.records (
        ns text NOT NULL, key bytea NOT NULL, value bytea NOT NULL, etag bigint NOT NULL,
        exp timestamptz, grp bytea, PRIMARY KEY (ns, key)
    );
    CREATE INDEX records_exp ON {0}.records (exp) WHERE exp IS NOT NULL;
    CREATE INDEX records_grp ON {0}.records (ns, grp, key) WHERE grp IS NOT NULL;
    """,
)
STATEMENTS = {
    # The driver gives prepared statements such names.
    "foreign statements": (
        r"SELECT count(*) FROM pg_prepared_statements WHERE name LIKE '\_\_asyncpg%'"
    ),
    "version": "SELECT max(number) FROM {0}.version",
    "first version": (
        "CREATE TABLE {0}.version (number integer NOT NULL); INSERT INTO {0}.version VALUES (0)"
    ),
    "new version": "UPDATE {0}.version SET number = $1",
    "get": (
        "SELECT value, etag, grp FROM {0}.records"
        " WHERE ns = $1 AND key = $2 AND (exp IS NULL OR exp > now())"
    ),
    "put": (
        """
        INSERT INTO {0}.records
        VALUES ($1, $2, $3, $4, now() + $5::float8 * interval '1 second', $6)
        ON CONFLICT (ns, key) DO UPDATE
        SET value = excluded.value, etag = excluded.etag, exp = excluded.exp, grp = excluded.grp
    """
    ),
    # Each call has a new etag. If "add" or "swap" finds its own, it ran before and its answer was
    # lost with the connection: it gives the same answer again.
    "add": (
        """
        INSERT INTO {0}.records AS old
        VALUES ($1, $2, $3, $4, now() + $5::float8 * interval '1 second', $6)
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
        "DELETE FROM {0}.records WHERE ns = $1 AND key = $2"
        " RETURNING value, exp IS NULL OR exp > now() AS live"
    ),
    "sweep": (
        """
        DELETE FROM {0}.records WHERE (ns, key) IN (
            SELECT ns, key FROM {0}.records
            WHERE exp <= least(now() - $2::float8 * interval '1 second', to_timestamp($3))
            ORDER BY exp LIMIT $1 FOR UPDATE SKIP LOCKED
        )
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
        WHERE ns = $1 AND key >= $2 AND grp = $4 AND (exp IS NULL OR exp > now())
        ORDER BY key LIMIT $3
    """
    ),
}


def statements_for(schema: str) -> dict[str, str]:
    """Return the statements for the table in ``schema``."""
    return {name: text.format(f'"{schema}"') for name, text in STATEMENTS.items()}


async def migrate(connection: Any, schema: str, statements: Mapping[str, str]) -> None:
    """Create the table or migrate it; of several processes, one does it.

    Raises:
        ConfigurationError: the table was created by a newer version.
    """
    # READ COMMITTED, to see the changes of another process after waiting for the lock.
    async with connection.transaction(isolation="read_committed"):
        version = await _version(connection, schema, statements)
        if version < len(MIGRATIONS):
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
            version = await _version(connection, schema, statements)
        if version > len(MIGRATIONS):
            raise ConfigurationError(
                f"store: the table in schema {schema} was created by a newer version of"
                f" asgi-mcp-auth (tables {version}, known {len(MIGRATIONS)}): install that version,"
                " or use another schema"
            )
        if version == 0:
            found = "SELECT 1 FROM pg_namespace WHERE nspname = $1"
            if await connection.fetchval(found, schema) is None:
                await connection.execute(f'CREATE SCHEMA "{schema}"')
            await connection.execute(statements["first version"])
        for migration in MIGRATIONS[version:]:
            await connection.execute(migration.format(f'"{schema}"'))
        if version < len(MIGRATIONS):
            await connection.execute(statements["new version"], len(MIGRATIONS))


async def _version(connection: Any, schema: str, statements: Mapping[str, str]) -> int:
    # Not to_regclass(): the server caches its failures, even after another process has succeeded.
    found = (
        "SELECT 1 FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relname = $1 AND nspname = $2"
    )
    if await connection.fetchval(found, "version", schema) is None:
        return 0
    number: int = await connection.fetchval(statements["version"])
    return number
