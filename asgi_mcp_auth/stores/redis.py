"""Stores records in Redis, for many hosts. Redis itself removes expired records.

Every key begins with ``{prefix}``. The braces put all keys of a deployment into one hash slot, so
each operation is one script, atomic over the record and the indexes for ``scan``, and allowed in a
cluster. The keys:

- ``{prefix}:r:…`` is a record: a hash of value ``v``, etag ``e``, group ``g`` (``:name``, or
  empty), with an expiry.
- ``{prefix}:k:…`` and ``{prefix}:g:…`` are indexes: the keys of one kind, and of one group in it,
  in order. They may contain keys of removed records, and never lack an existing one.
- ``{prefix}:due`` lists the entries to check in those indexes, and when. ``sweep`` checks them.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from ..errors import ConfigurationError
from . import Record, group_of, new_etag
from ._options import location_of, split_options
from ._outage import TIMEOUT_SECONDS, EngineOutage, describe
from ._pools import Pools
from ._redis_scripts import CHECK, DUE, PRUNE, SWAP, TAKE, WRITE, Script

logger = logging.getLogger(__name__)

_redis: Any = redis.asyncio  # its annotations are incomplete, and change with each version

_OPTIONS = {
    "prefix": r"[A-Za-z0-9._-]{1,64}",
    "wait_replicas": r"[1-9]",
    "max_connections": r"[1-9]\d{0,3}",
}
_WAIT_MILLISECONDS = 2000
_MAX_TTL_MILLISECONDS = 10**15
# What only an operator can mend, by the words of Redis, and how.
_MISCONFIGURED = {
    r"Authentication|WRONGPASS|NOAUTH": "refuses user or password: {error}",
    r"NoPermission|NOPERM|user executing the script": (
        "does not let this user do all that is needed ({error}): write ACL SETUSER … '~{keys}*'"
        " +@read +@write +@scripting +ping +select +time"
    ),
    r"DB index|SELECT is not allowed|invalid DB": (
        "has no such database ({error}): write another number at the end of the URL, 0 in a cluster"
    ),
    r"ReadOnly|READONLY|read only replica": "is a replica ({error}): write the primary's URL",
    r"Moved|MOVED": (
        "is the wrong node of a cluster ({error}): write the URL of the node with the keys {keys}*"
    ),
    r"unknown command": "lacks a command that is needed ({error}): rename none, and allow scripts",
}
_SWEEP_AT_ONCE = 100  # keeps Redis busy for less than a millisecond


class _Names(NamedTuple):
    """The key of a record, the index of its kind, and its entry in ``due``."""

    record: bytes
    kind: bytes
    entry: bytes


class RedisStore:
    """Stores records in one Redis, or in one shard of a cluster.

    It is as durable as that Redis: see docs/stores.md. Between ``open`` and ``aclose``, connections
    are pooled on each event loop that called ``open``. Elsewhere, every call makes a connection of
    its own, because a pooled one dies with its loop.

    Args:
        url: a URL for redis-py (``redis://``, ``rediss://``, ``unix://``), with the options
            ``prefix`` (the beginning of all keys; different for each deployment),
            ``max_connections`` (32 for each event loop; further calls wait) and ``wait_replicas``
            (the number of replicas that must have a write before it is acknowledged).

    Raises:
        ConfigurationError: an invalid URL, or an unknown option.
    """

    def __init__(self, url: str) -> None:
        target, options = split_options(url, _OPTIONS)
        self._prefix = f"{{{options.get('prefix', 'asgi-mcp-auth')}}}:".encode()
        self._wait_replicas = int(options.get("wait_replicas", 0))
        self._location = location_of(target)
        self._pools: Pools[Any] = Pools(int(options.get("max_connections", 32)))
        try:
            if not target.startswith("unix:"):
                int(urlsplit(target).path.strip("/") or 0)  # or the client takes database 0
            self._settings: dict[str, Any] = {
                "socket_timeout": TIMEOUT_SECONDS,
                "socket_connect_timeout": TIMEOUT_SECONDS,
                **parse_url(target),
                "decode_responses": False,
                "protocol": 2,
                "retry": Retry(NoBackoff(), 0),  # a script whose answer is lost may have run
            }
            # Checks the options, and does not connect.
            self._new_client().connection_pool.make_connection()
        except (ValueError, TypeError, RedisError):
            raise ConfigurationError(
                f"store: {self._location} is not a valid URL, or has an unknown option: write"
                " redis://:password@host:6379/0"
            ) from None
        self._outage = EngineOutage(repr(self))

    def __repr__(self) -> str:
        return f"RedisStore({self._location!r})"

    async def open(self) -> None:
        """Open a pool on the running event loop, and warn of settings that lose records.

        Raises:
            ConfigurationError: Redis refuses what is needed: the user, the password, a command, the
                database; or it is a replica.
        """
        client = self._pools.here()
        if client is None:
            client = self._new_client()
            self._pools.add(client)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                policy = await _policy(client)
                keys = [self._prefix + b"check", self._prefix + b"check:sorted"]
                await _evaluate(client, CHECK, keys, ())
        except (RedisError, OSError) as error:
            explained = self._explained(error)
            if isinstance(explained, ConfigurationError):
                await self.aclose()
                raise explained from None
            self._outage.failed(error)
        else:
            # Nearly all records have an expiry, so volatile-* removes them as well.
            if policy not in ("", "noeviction"):
                logger.warning(
                    "%r may remove live records when its memory is full (maxmemory-policy %r),"
                    " which signs users out and lets used codes be used again: set"
                    " maxmemory-policy to noeviction",
                    self,
                    policy,
                )

    async def aclose(self) -> None:
        """Close the pool of the running event loop."""
        client = self._pools.remove()
        if client is not None:
            await client.aclose()

    async def get(self, ns: str, key: str) -> Record | None:
        """Return the record, or ``None``."""
        async with self._connected() as client:
            try:
                found = await client.hmget(self._names(ns, key).record, ["v", "e", "g"])
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                return None
            return _record(*found)

    async def put(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> None:
        """Write the record, replacing any other."""
        await self._write("put", ns, key, value, ttl, group)

    async def add(
        self, ns: str, key: str, value: bytes, *, ttl: float | None = None, group: str | None = None
    ) -> bool:
        """Write the record if there is none; return whether this call wrote it."""
        return await self._write("add", ns, key, value, ttl, group)

    async def swap(
        self, ns: str, key: str, known: Record, value: bytes, *, ttl: float | None = None
    ) -> bool:
        """Replace the record if it is still ``known``; return whether it was. The group stays."""
        names = self._names(ns, key)
        arguments = [known.etag, new_etag(), value, _milliseconds(ttl), names.entry]
        return bool(await self._change(SWAP, [names.record, self._prefix + b"due"], arguments))

    async def take(self, ns: str, key: str) -> bytes | None:
        """Remove the record and return its value, to one caller only."""
        names = self._names(ns, key)
        value: bytes | None = await self._change(
            TAKE, [names.record, self._prefix + b"due"], [names.entry]
        )
        return value

    async def delete(self, ns: str, key: str) -> bool:
        """Remove the record; return whether there was one."""
        return await self.take(ns, key) is not None

    async def sweep(self, limit: int = 500) -> int:
        """Check up to ``limit`` index entries of removed records, and return how many."""
        due = self._prefix + b"due"
        async with self._connected() as client:
            entries: list[bytes] = await _evaluate(client, DUE, [due], [limit])
            for start in range(0, len(entries), _SWEEP_AT_ONCE):
                keys = [due]
                arguments: list[bytes] = []
                for entry in entries[start : start + _SWEEP_AT_ONCE]:
                    ns, key, group = _parse_entry(entry)
                    names = self._names(ns, key)
                    index = self._group_key(ns, group) if group else names.kind
                    keys += [names.record, names.kind, index]
                    arguments += [key, entry, group]
                await _evaluate(client, PRUNE, keys, arguments)
        return len(entries)

    async def scan(
        self, ns: str, *, group: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[tuple[str, Record]]:
        """Return up to ``limit`` records ordered by key, of one group or of all."""
        wanted = None if group is None else b":" + _bytes(group)
        index = self._names(ns, "").kind if wanted is None else self._group_key(_bytes(ns), wanted)
        begin = b"-" if after is None else b"(" + _bytes(after)
        found: list[tuple[str, Record]] = []
        async with self._connected() as client:
            while len(found) < limit:
                keys: list[bytes] = await client.zrangebylex(
                    index, begin, b"+", start=0, num=limit - len(found)
                )
                if not keys:
                    break
                pipeline = client.pipeline(transaction=False)
                for key in keys:
                    pipeline.hmget(self._names(ns, key).record, ["v", "e", "g"])
                answers = await pipeline.execute(raise_on_error=False)
                for key, answer in zip(keys, answers, strict=True):
                    if isinstance(answer, RedisError):
                        continue
                    value, etag, name = answer
                    record = _record(value, etag, name)
                    if record is not None and wanted in (None, name):
                        found.append((key.decode("utf-8", "surrogatepass"), record))
                begin = b"(" + keys[-1]
        return found

    def _names(self, ns: str | bytes, key: str | bytes) -> _Names:
        # Lengths instead of separators, which a kind or a key might contain.
        kind = _bytes(ns)
        name = _bytes(key)
        return _Names(
            b"%sr:%d:%s:%s" % (self._prefix, len(kind), kind, name),
            b"%sk:%s" % (self._prefix, kind),
            b"%d:%d:%s%s" % (len(kind), len(name), kind, name),
        )

    def _group_key(self, ns: bytes, group: bytes) -> bytes:
        return b"%sg:%d:%s%s" % (self._prefix, len(ns), ns, group)

    async def _write(
        self, verb: str, ns: str, key: str, value: bytes, ttl: float | None, group: str | None
    ) -> bool:
        names = self._names(ns, key)
        keys = [names.record, names.kind, self._prefix + b"due"]
        name = b""
        if group is not None:
            name = b":" + _bytes(group)
            keys.append(self._group_key(_bytes(ns), name))
        arguments = [verb, value, new_etag(), _milliseconds(ttl), _bytes(key), names.entry, name]
        return bool(await self._change(WRITE, keys, arguments))

    async def _change(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Any]) -> Any:
        async with self._connected() as client:
            return await _evaluate(client, script, keys, arguments, self._wait_replicas)

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Any]:
        """Yield a client for one operation, and turn its failures into ``ServerUnavailable``."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                async with self._pools.slot() as pooled:
                    if pooled is not None:
                        yield pooled
                    else:
                        async with self._new_client() as client:
                            yield client
        except (RedisError, OSError) as error:
            raise self._outage.failed(self._explained(error)) from None
        self._outage.recovered()

    def _explained(self, error: BaseException) -> BaseException:
        """Return a ``ConfigurationError`` for what an operator has to mend, else the error."""
        for words, remedy in _MISCONFIGURED.items():
            if isinstance(error, RedisError) and re.search(words, describe(error)):
                keys = self._prefix.decode()
                text = remedy.format(error=describe(error), keys=keys)
                return ConfigurationError(f"store: {self._location} {text}")
        return error

    def _new_client(self) -> Any:
        return _redis.Redis.from_pool(
            _redis.ConnectionPool(max_connections=self._pools.size, **self._settings)
        )


class _NotReplicated(RedisError):
    pass


async def _policy(client: Any) -> str:
    """Return the maxmemory-policy, or ``""`` if Redis does not reveal it."""
    await client.ping()
    try:
        found = await client.config_get("maxmemory-policy")
    except ResponseError:  # common with Redis as a service
        return ""
    return str(found.get("maxmemory-policy", ""))


async def _evaluate(
    client: Any, script: Script, keys: Sequence[bytes], arguments: Sequence[Any], replicas: int = 0
) -> Any:
    try:
        return await _send(client, ["EVALSHA", script.sha, len(keys), *keys, *arguments], replicas)
    except NoScriptError:  # a new or restarted Redis; EVAL loads the script
        return await _send(client, ["EVAL", script.text, len(keys), *keys, *arguments], replicas)


async def _send(client: Any, command: Sequence[Any], replicas: int) -> Any:
    if not replicas:
        return await client.execute_command(*command)
    # WAIT only counts writes of its own connection.
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command(*command)
    pipeline.execute_command("WAIT", replicas, _WAIT_MILLISECONDS)
    answer, reached = await pipeline.execute()
    if reached < replicas:
        raise _NotReplicated(f"only {reached} of {replicas} replicas have the write")
    return answer


def _record(value: bytes | None, etag: bytes | None, name: bytes | None) -> Record | None:
    if value is None or etag is None or not etag.isdigit() or len(etag) > 19:
        return None
    return Record(value, int(etag), group_of(name[1:]) if name else None)


def _milliseconds(ttl: float | None) -> str | int:
    return "" if ttl is None else int(min(ttl * 1000, _MAX_TTL_MILLISECONDS))


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def _parse_entry(entry: bytes) -> tuple[bytes, bytes, bytes]:
    """Return kind, key and group from ``_Names.entry`` followed by a group."""
    kind_length, key_length, rest = entry.split(b":", 2)
    border = int(kind_length)
    end = border + int(key_length)
    return rest[:border], rest[border:end], rest[end:]
