"""An SQLite file: made with its mode, refused when it is not ours, brought to the newest tables,
checked for damage.
"""

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

# What an SQLite of 2020 understands (3.34 comes with RHEL 9): no RETURNING, no STRICT.
MIGRATIONS = (
    """
    CREATE TABLE records (
        ns TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, etag INTEGER NOT NULL, exp REAL, grp BLOB,
        PRIMARY KEY (ns, key)
    ) WITHOUT ROWID;
    CREATE INDEX records_exp ON records (exp) WHERE exp IS NOT NULL;
    CREATE INDEX records_grp ON records (ns, grp) WHERE grp IS NOT NULL;
    """,
)
CHECKED_BYTES = 64 * 1024 * 1024
CONVERTED_BYTES = 16 * 1024 * 1024  # takes a fifth of a second
SPARE_PAGES = 256  # that stay in the file, because they are needed again soon
GIVEN_PAGES = 1024  # at a time, which takes some milliseconds
LOG_BYTES = 4 * 1024 * 1024  # of the write-ahead log that stay when a flood is over
APPLICATION_ID = 0x4D635361  # in the file's header: whose database it is
_INCREMENTAL = 2
_DAMAGE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def connect(path: str) -> sqlite3.Connection:
    """Return a connection to the file, which is made first if there is none. Blocks, for a few
    seconds at most.

    Raises:
        ConfigurationError: no folder, no permission, a damaged file, one of another program or a
            newer version.
        sqlite3.Error: it cannot be used now.
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
                    f"{path} is damaged or no database ({describe(error)}): bring back a backup, or"
                    " move it away"
                ) from None
            # The change to WAL needs the file alone for a moment, and does not wait for others that
            # want the same.
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01 + secrets.randbelow(20) / 1000)
        except ConfigurationError:
            db.close()
            raise
        else:
            return db


def _create(path: str) -> None:
    """Make the file with its mode from the start; -wal and -shm take theirs from it."""
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
            f"{path} cannot be made ({error.strerror}): the folder {folder} has to exist, and this"
            " process has to be allowed to write there"
        ) from None


def _prepare(db: sqlite3.Connection, path: str) -> None:
    """Set the connection up and bring the tables to the newest version; of several processes one
    does it.
    """
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
    """Write a file of an earlier version anew, unless that takes long; it could not give space
    back.
    """
    if db.execute("PRAGMA auto_vacuum").fetchone() == (_INCREMENTAL,):
        return
    if os.path.getsize(path) > CONVERTED_BYTES:
        logger.info(
            "%s keeps the space of what was removed. To change that, stop all workers, and run: "
            "sqlite3 %s 'PRAGMA auto_vacuum = INCREMENTAL; VACUUM'",
            path,
            path,
        )
        return
    with suppress(sqlite3.OperationalError):  # busy, or a full disk: the next start tries again
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("VACUUM")


def give_space_back(db: sqlite3.Connection) -> None:
    """Let the file become smaller by some of the space that nothing is in any more."""
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    if free > SPARE_PAGES:
        # busy, or a disk so full that not even the log has room: next time
        with suppress(sqlite3.OperationalError):
            # Not execute(): it stops after the first page.
            db.executescript(f"PRAGMA incremental_vacuum({min(free - SPARE_PAGES, GIVEN_PAGES)})")


def version_of(db: sqlite3.Connection, path: str) -> int:
    """Return the version of the tables in the file, 0 where there are none.

    Raises:
        ConfigurationError: it is the database of another program, or of a newer version.
        sqlite3.Error: it cannot be read.
    """
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    # Last: another process may be making the tables just now, and whoever has seen them sees this,
    # too.
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID and (tables or application or version):
        raise ConfigurationError(
            f"{path} is the database of another program: give the store a file of its own"
        )
    if version > len(MIGRATIONS):
        raise ConfigurationError(
            f"{path} was written by a newer version of asgi-mcp-auth (tables {version}, known"
            f" {len(MIGRATIONS)}): install that version, or bring back a backup from before"
        )
    return int(version)


def check(db: sqlite3.Connection, path: str) -> None:
    """Look for damage, unless the file is so large that every start would take seconds.

    Raises:
        ConfigurationError: there is some.
        sqlite3.Error: it cannot be looked for now.
        OSError: the same.
    """
    if os.path.getsize(path) > CHECKED_BYTES:
        return
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise ConfigurationError(
            f"{path} is damaged ({found}): bring back a backup, or move it away"
        )


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary code; the higher bits tell which kind of it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
