"""Storage for the authorization server: one protocol and four engines.

Each operation concerns one key and is atomic, however many processes share the store. An expired
record counts as absent, for every operation. Values are opaque here.
"""

from __future__ import annotations

import importlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable
from urllib.parse import unquote

from ..errors import ConfigurationError
from ..types import Clock

if TYPE_CHECKING:
    from .encrypted import EncryptedStore

logger = logging.getLogger(__name__)

_REDIS = ("redis", "rediss", "unix")
_POSTGRESQL = ("postgresql", "postgres")


class Record(NamedTuple):
    """A value, a tag that identifies this version of it, and the group it was written with."""

    value: bytes
    etag: int
    group: str | None = None

    def __repr__(self) -> str:
        return f"Record({len(self.value)} bytes, etag={self.etag}, group={self.group!r})"


@runtime_checkable
class Store(Protocol):
    """The operations that the authorization server needs.

    Their arguments: ``ns`` is the kind of record, ``key`` identifies it within its kind, ``ttl`` is
    its lifetime in seconds (``None``: unlimited), ``group`` is a label to ``scan`` for.

    Raises:
        ServerUnavailable: from every operation, if the store is not responding.
    """

    async def open(self) -> None:
        """Prepare for use on the running event loop. A store that is not responding is no error.

        Raises:
            ConfigurationError: the store cannot be used: another schema, a corrupt file, a wrong
                URL.
        """
        ...

    async def aclose(self) -> None:
        """Release the resources of ``open`` on the running event loop."""
        ...

    async def get(self, ns: str, key: str) -> Record | None:
        """Return the record, or ``None``."""
        ...

    async def put(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> None:
        """Write the record, replacing any other."""
        ...

    async def add(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> bool:
        """Write the record if there is none; return whether this call wrote it."""
        ...

    async def swap(
        self, ns: str, key: str, known: Record, value: bytes, *, ttl: float | None = None
    ) -> bool:
        """Replace the record if it is still ``known``; return whether it was. The group stays."""
        ...

    async def take(self, ns: str, key: str) -> bytes | None:
        """Remove the record and return its value, to one caller only."""
        ...

    async def delete(self, ns: str, key: str) -> bool:
        """Remove the record; return whether there was one."""
        ...

    async def sweep(self, limit: int = 500) -> int:
        """Remove up to ``limit`` expired records, and return how many.

        Return 0 if the engine removes them itself.
        """
        ...

    async def scan(
        self, ns: str, *, group: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[tuple[str, Record]]:
        """Return up to ``limit`` records ordered by key, of one group or of all.

        Args:
            ns: the kind of record.
            group: ``None`` for all records, with or without a group.
            after: the last key of the previous page.
            limit: the maximum number.
        """
        ...


def new_etag() -> int:
    """Return a tag for a new version.

    Random, so that a key that is removed and written again never gets an old tag.
    """
    return secrets.randbits(62)


def group_of(name: bytes | None) -> str | None:
    """Return a group as text, even if another program has written invalid bytes."""
    if name is None:
        return None
    try:
        return name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return name.decode("utf-8", "surrogateescape")


async def scan_all(
    store: Store, ns: str, *, group: str | None = None
) -> AsyncIterator[tuple[str, Record]]:
    """Yield all records of a kind, or of one group of it, page by page."""
    after: str | None = None
    while page := await store.scan(ns, group=group, after=after):
        for entry in page:
            yield entry
        after = page[-1][0]


def store_from_url(
    url: str, *, encryption_keys: Sequence[str] | None = None, clock: Clock = time
) -> EncryptedStore:
    """Return the store at a URL, with every value encrypted. Does not connect yet.

    Args:
        url: ``sqlite:///auth.db`` (relative) or ``sqlite:////var/lib/auth.db`` (absolute),
            ``redis://…``, ``rediss://…``, ``unix://…`` (Redis on a socket), ``postgresql://…``,
            ``memory:``. The query has options of Redis and PostgreSQL; see docs/stores.md.
        encryption_keys: keys made by ``secrets.token_urlsafe(32)``. The first encrypts, all of them
            decrypt. ``None``: SQLite keeps a key file beside the database, memory uses a random
            key, the others raise.
        clock: decides which records have expired. Redis and PostgreSQL use their own clocks first.

    Raises:
        ConfigurationError: the URL, a key or the key file is wrong, or a driver or the keys are
            missing. The message never repeats the URL's password.
    """
    from .encrypted import KEY_COMMAND, EncryptedStore

    scheme, colon, _ = url.partition(":") if isinstance(url, str) else ("", "", "")
    if not colon:
        raise ConfigurationError(
            "store must be a Store or a URL: sqlite:///auth.db, redis://…, postgresql://… or"
            " memory:"
        )
    if scheme == "memory":
        return _memory_store(url, encryption_keys, clock)
    if scheme == "sqlite":
        return _sqlite_store(url, encryption_keys, clock)
    if scheme not in (*_REDIS, *_POSTGRESQL):
        raise ConfigurationError(
            f"store: {scheme}: is not one of sqlite:///, redis://, rediss://, unix://,"
            " postgresql:// and memory:"
        )
    if not url.startswith(f"{scheme}://"):
        raise ConfigurationError(f"store: write {scheme}://…, with two slashes")
    if scheme in _REDIS:
        name = "Redis"
        make = _engine("redis", "pip install 'asgi-mcp-auth[redis]'").RedisStore
    else:
        name = "PostgreSQL"
        make = _engine("postgresql", "pip install 'asgi-mcp-auth[postgres]'").PostgreSQLStore
    if encryption_keys is None:
        raise ConfigurationError(
            f"{name} needs encryption_keys, the same for all workers: write"
            f" store=store_from_url('{scheme}://…',"
            f" encryption_keys=[os.environ['AUTH_STORE_KEY']]). Make one: {KEY_COMMAND}"
        )
    return EncryptedStore(make(url), encryption_keys, clock=clock)


def _memory_store(url: str, keys: Sequence[str] | None, clock: Clock) -> EncryptedStore:
    from .encrypted import EncryptedStore
    from .memory import MemoryStore

    if url not in ("memory:", "memory://"):
        raise ConfigurationError("store: memory has no name or options: write 'memory:'")
    logger.warning(
        "store='memory:' loses all grants when the process ends, and several workers do not share"
        " it"
    )
    if keys is None:
        keys = [secrets.token_urlsafe(32)]
    return EncryptedStore(MemoryStore(clock=clock), keys, clock=clock)


def _sqlite_store(url: str, keys: Sequence[str] | None, clock: Clock) -> EncryptedStore:
    from ._keyfile import keys_beside
    from .encrypted import EncryptedStore

    path = _sqlite_path(url)
    module = _engine("sqlite", "Python was built without it")
    if keys is None:
        keys = keys_beside(path)
    return EncryptedStore(module.SQLiteStore(path, clock=clock), keys, clock=clock)


def _sqlite_path(url: str) -> str:
    path = url.removeprefix("sqlite:///")
    if path in (url, "", "/", ":memory:") or "?" in path or "#" in path:
        raise ConfigurationError(
            "store: write sqlite:///auth.db for a file in the working directory,"
            " sqlite:////var/lib/auth.db for an absolute path, without ? and #; use memory: for"
            " data that may be lost when the process ends"
        )
    return unquote(path)


def _engine(name: str, remedy: str) -> Any:
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"store: the driver for {name} is not installed ({error.name}): {remedy}"
        ) from None
