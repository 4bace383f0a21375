"""The key file that SQLite keeps beside its database, so that the default needs no setting."""

from __future__ import annotations

import logging
import os
import secrets
import stat

from ..errors import ConfigurationError
from .encrypted import KEY_COMMAND, parse_key

logger = logging.getLogger(__name__)


def keys_beside(database: str) -> list[str]:
    """Return the keys in ``<database>.key``, one per line.

    The file is created if neither it nor the database exists.

    Raises:
        ConfigurationError: the file cannot be read or written, does not contain keys, or is missing
            although the database exists.
    """
    path = f"{database}.key"
    try:
        if not os.path.exists(path):
            # The key is written before the database, so a database without a key means that the
            # key was lost.
            lost = os.path.exists(database) and os.path.getsize(database) > 0
            if lost and not os.path.exists(path):
                raise ConfigurationError(
                    f"{path} is missing: the records in {database} are encrypted with its key."
                    " Restore the key file, or pass its key as encryption_keys=[…]; to start over,"
                    " move the database file away too"
                )
            _create(path)
        return _read(path)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(
            f"The key file {path} cannot be used ({_reason(error)}): make its folder readable and"
            f" writable for this process, or pass encryption_keys=[…]. Make one: {KEY_COMMAND}"
        ) from None


def _create(path: str) -> None:
    """Write a new key atomically; if several processes start at once, one succeeds."""
    temporary = f"{path}.{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        os.unlink(temporary)
    if os.name == "posix":
        _sync_folder(os.path.dirname(path) or ".")


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: str) -> list[str]:
    with open(path, encoding="ascii") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        keys = file.read().split()
    if os.name == "posix" and mode & 0o077:
        logger.warning(
            "The key file %s can be read by others (mode %o): chmod 600 %s", path, mode, path
        )
    if not keys:
        raise ConfigurationError(f"The key file {path} is empty: restore it from a backup")
    for key in keys:
        try:
            parse_key(key)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"The key file {path} has a line that is not a key. {error}"
            ) from None
    return keys


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is not ASCII text"
