"""Opens an SQLite file: creates it with its mode, migrates its tables, checks it for damage."""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import stat
import time
from contextlib import suppress

from ..errors import ConfigurationError
from ._outage import TIMEOUT_SECONDS, describe

logger = logging.getLogger(__name__)

# For SQLite 3.34, which comes with RHEL 9: no RETURNING, no STRICT.
MIGRATIONS = (
    """
    CREATE TABLE records (
        ns TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, etag INTEGER NOT NULL, exp REAL,
        grp BLOB, PRIMARY KEY (ns, key)
    ) WITHOUT ROWID;
    CREATE INDEX records_exp ON records (exp) WHERE exp IS NOT NULL;
    CREATE INDEX records_grp ON records (ns, grp) WHERE grp IS NOT NULL;
    """,
)
CHECKED_BYTES = 64 * 1024 * 1024
CONVERTED_BYTES = 16 * 1024 * 1024  # takes a fifth of a second
SPARE_PAGES = 256  # stay in the file for the next records
GIVEN_PAGES = 1024  # freed at a time, which takes some milliseconds
LOG_BYTES = 4 * 1024 * 1024  # size of the write-ahead log after a flood
APPLICATION_ID = 0x4D635361  # in the file's header
_INCREMENTAL = 2
_DAMAGE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def connect(path: str) -> sqlite3.Connection:
    """Return a connection to the file, which is created if necessary.

    Blocks for a few seconds at most.

    Raises:
        ConfigurationError: no folder, no permission, a damaged file, or one of another program or a
            newer version.
        sqlite3.Error: the file cannot be used at the moment.
        OSError: the same.
    """
    _create(path)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        db = sqlite3.connect(path, timeout=TIMEOUT_SECONDS, isolation_level=None)
        try:
            _prepare(db, path)
        except sqlite3.Error as error:
            db.close()
            if _code(error) in _DAMAGE:
                raise ConfigurationError(
                    f"{path} is damaged or not a database ({describe(error)}): restore a backup, or"
                    " move the file away"
                ) from None
            # The change to WAL needs exclusive access for a moment, and does not wait for it.
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01 + secrets.randbelow(20) / 1000)
        except ConfigurationError:
            db.close()
            raise
        else:
            return db


def _create(path: str) -> None:
    """Create the file with its mode, which -wal and -shm inherit."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if os.name == "posix" and mode & 0o077:
            logger.warning(
                "The database %s can be read by others (mode %o): chmod 600 %s", path, mode, path
            )
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        folder = os.path.dirname(os.path.abspath(path))
        raise ConfigurationError(
            f"{path} cannot be created ({error.strerror}): the folder {folder} must exist, and this"
            " process must be allowed to write there"
        ) from None


def _prepare(db: sqlite3.Connection, path: str) -> None:
    """Configure the connection and migrate the tables; of several processes, one does it."""
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    if version_of(db, path) == len(MIGRATIONS):
        _make_shrinkable(db, path)
        return
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a file without tables
    db.execute("PRAGMA journal_mode = WAL")  # stays in the file
    db.execute("BEGIN IMMEDIATE")
    for migration in MIGRATIONS[version_of(db, path) :]:
        for statement in filter(str.strip, migration.split(";")):
            db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    db.execute("COMMIT")


def _make_shrinkable(db: sqlite3.Connection, path: str) -> None:
    """Rewrite a file of an earlier version, which cannot free disk space, unless it is large."""
    if db.execute("PRAGMA auto_vacuum").fetchone() == (_INCREMENTAL,):
        return
    if os.path.getsize(path) > CONVERTED_BYTES:
        logger.info(
            "%s does not free the space of removed records. To change that, stop all workers and"
            " run: sqlite3 %s 'PRAGMA auto_vacuum = INCREMENTAL; VACUUM'",
            path,
            path,
        )
        return
    with suppress(sqlite3.OperationalError):  # busy, or a full disk; the next start tries again
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("VACUUM")


def give_space_back(db: sqlite3.Connection) -> None:
    """Return some of the free pages in the file to the disk."""
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    if free > SPARE_PAGES:
        # Busy, or a disk without space even for the log; the next call tries again.
        with suppress(sqlite3.OperationalError):
            # execute() would stop after the first page.
            db.executescript(f"PRAGMA incremental_vacuum({min(free - SPARE_PAGES, GIVEN_PAGES)})")


def version_of(db: sqlite3.Connection, path: str) -> int:
    """Return the version of the tables in the file, 0 if there are none.

    Raises:
        ConfigurationError: the database belongs to another program, or to a newer version.
        sqlite3.Error: it cannot be read.
    """
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    # Read last: another process may be creating the tables, and sets this together with them.
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID and (tables or application or version):
        raise ConfigurationError(
            f"{path} is the database of another program: use a separate file for the store"
        )
    if version > len(MIGRATIONS):
        raise ConfigurationError(
            f"{path} was written by a newer version of asgi-mcp-auth (tables {version}, known"
            f" {len(MIGRATIONS)}): install that version, or restore an older backup"
        )
    return int(version)


def check(db: sqlite3.Connection, path: str) -> None:
    """Check the file for damage, unless it is so large that this would take seconds.

    Raises:
        ConfigurationError: the file is damaged.
        sqlite3.Error: it cannot be checked at the moment.
        OSError: the same.
    """
    if os.path.getsize(path) > CHECKED_BYTES:
        return
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise ConfigurationError(
            f"{path} is damaged ({found}): restore a backup, or move the file away"
        )


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary error code, without the bits of the extended one."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
