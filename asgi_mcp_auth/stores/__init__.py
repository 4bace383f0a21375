"""Where an authorization server keeps what it has to remember: one protocol, four engines.

Every verb touches one key and is atomic, however many processes share the store. An expired record
is no record, for every verb. No verb knows what a value means.
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
    """A value, the tag that names this very version of it, and the group that it was written
    with.
    """

    value: bytes
    etag: int
    group: str | None = None

    def __repr__(self) -> str:
        return f"Record({len(self.value)} bytes, etag={self.etag}, group={self.group!r})"


@runtime_checkable
class Store(Protocol):
    """What the authorization server needs of a store.

    Args of the verbs: ``ns`` is the kind of record, ``key`` names it within its kind, ``ttl`` is in
    seconds (``None``: for ever), ``group`` is what ``scan`` can ask for.

    Raises:
        ServerUnavailable: from every verb, when the store does not answer.
    """

    async def open(self) -> None:
        """Get ready on the running event loop; a store that does not answer now is no reason to
        fail.

        Raises:
            ConfigurationError: the store is there and cannot be used: another schema, a corrupt
                file, a wrong URL.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what ``open`` took on the running event loop."""
        ...

    async def get(self, ns: str, key: str) -> Record | None:
        """Return the record, ``None`` when there is none."""
        ...

    async def put(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> None:
        """Write the record, whether or not there was one."""
        ...

    async def add(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> bool:
        """Write the record if there is none; return whether this call wrote it."""
        ...

    async def swap(
        self, ns: str, key: str, known: Record, value: bytes, *, ttl: float | None = None
    ) -> bool:
        """Replace the version that was read; return whether it was still that one. The group
        stays.
        """
        ...

    async def take(self, ns: str, key: str) -> bytes | None:
        """Remove the record and return its value; of several callers one gets it."""
        ...

    async def delete(self, ns: str, key: str) -> bool:
        """Remove the record; return whether there was one."""
        ...

    async def sweep(self, limit: int = 500) -> int:
        """Remove expired records, at most ``limit``, and return how many; 0 where the engine does
        it by itself.
        """
        ...

    async def scan(
        self, ns: str, *, group: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[tuple[str, Record]]:
        """Return up to ``limit`` records in the order of their keys, those of one group or all.

        Args:
            ns: the kind of record.
            group: ``None`` for every group and for records without one.
            after: the last key of the page before.
            limit: how many at most.
        """
        ...


def new_etag() -> int:
    """Return a tag for a new version. Random: a key that is removed and written again never has an
    old tag.
    """
    return secrets.randbits(62)


def group_of(name: bytes | None) -> str | None:
    """Return a group as text. Whoever writes to the engine from outside may have left bytes that
    are none.
    """
    if name is None:
        return None
    try:
        return name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return name.decode("utf-8", "surrogateescape")


async def scan_all(
    store: Store, ns: str, *, group: str | None = None
) -> AsyncIterator[tuple[str, Record]]:
    """Yield every record of a kind, or of one group of it, page by page."""
    after: str | None = None
    while page := await store.scan(ns, group=group, after=after):
        for entry in page:
            yield entry
        after = page[-1][0]


def store_from_url(
    url: str, *, encryption_keys: Sequence[str] | None = None, clock: Clock = time
) -> EncryptedStore:
    """Return the store that a URL names, with every value encrypted. Nothing is connected to yet.

    Args:
        url: ``sqlite:///auth.db`` (relative) or ``sqlite:////var/lib/auth.db`` (absolute),
            ``redis://…``, ``rediss://…``, ``unix://…`` (Redis on a socket), ``postgresql://…``,
            ``memory:``. Options of Redis and PostgreSQL stand in the query; docs/stores.md lists
            them.
        encryption_keys: what ``secrets.token_urlsafe(32)`` makes; the first encrypts, all of them
            decrypt. ``None``: SQLite keeps a key file beside the database, memory gets a random
            key, the others refuse.
        clock: decides what has expired. Redis and PostgreSQL have clocks of their own, which decide
            first.

    Raises:
        ConfigurationError: the URL, a key or the key file is wrong, a driver is missing, or keys
            are and have to be there. The message never repeats the URL's password.
    """
    from .encrypted import KEY_COMMAND, EncryptedStore

    scheme, colon, _ = url.partition(":") if isinstance(url, str) else ("", "", "")
    if not colon:
        raise ConfigurationError(
            "store must be a Store or a URL: sqlite:///auth.db, redis://…, postgresql://… or"
            " memory:"
        )
    if scheme == "memory":
        if url not in ("memory:", "memory://"):
            raise ConfigurationError("store: memory has no name and no options, write 'memory:'")
        from .memory import MemoryStore

        logger.warning(
            "store='memory:' forgets everybody's grants when the process ends, and several workers"
            " do not share it"
        )
        keys = [secrets.token_urlsafe(32)] if encryption_keys is None else encryption_keys
        return EncryptedStore(MemoryStore(clock=clock), keys, clock=clock)
    if scheme == "sqlite":
        path = _sqlite_path(url)
        module = _engine("sqlite", "Python was built without it")
        if encryption_keys is None:
            from ._keyfile import keys_beside

            encryption_keys = keys_beside(path)
        return EncryptedStore(module.SQLiteStore(path, clock=clock), encryption_keys, clock=clock)
    if scheme not in (*_REDIS, *_POSTGRESQL):
        raise ConfigurationError(
            f"store: {scheme}: is none of sqlite:///, redis://, rediss://, unix://, postgresql://"
            " and memory:"
        )
    engine, module = (
        ("Redis", _engine("redis", "pip install 'asgi-mcp-auth[redis]'"))
        if scheme in _REDIS
        else ("PostgreSQL", _engine("postgresql", "pip install 'asgi-mcp-auth[postgres]'"))
    )
    if encryption_keys is None:
        raise ConfigurationError(
            f"{engine} needs encryption_keys, the same for all workers: write"
            f" store=store_from_url('{scheme}://…',"
            f" encryption_keys=[os.environ['AUTH_STORE_KEY']]). Make one: {KEY_COMMAND}"
        )
    store: Store = (module.RedisStore if scheme in _REDIS else module.PostgreSQLStore)(url)
    return EncryptedStore(store, encryption_keys, clock=clock)


def _sqlite_path(url: str) -> str:
    """Return the path in a ``sqlite:`` URL."""
    path = url.removeprefix("sqlite:///")
    if path == url or path in ("", "/") or path == ":memory:" or "?" in path or "#" in path:
        raise ConfigurationError(
            "store: write sqlite:///auth.db for a file in the working directory,"
            " sqlite:////var/lib/auth.db for an absolute path, without ? and #; what need not"
            " outlive the process is memory:"
        )
    return unquote(path)


def _engine(name: str, remedy: str) -> Any:
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"store: the driver for {name} is not installed ({error.name}): {remedy}"
        ) from None
