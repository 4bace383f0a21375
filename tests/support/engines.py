"""The four engines of stores for tests: real servers of our own, a place in them for each test, and
what they hold.

@pytest.mark.parametrize("engine", ENGINES)
async def test_something(engine: str) -> None:
    with fresh(engine) as place:
        provider = OAuthProvider(store=place.store(), ...)
        ...
        assert secret.encode() not in place.dump()

Servers that a test kills are its own: ``with RedisServer() as server``, ``with PostgreSQLServer()
    as server``.
"""

from __future__ import annotations

import functools
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from asgi_mcp_auth.stores import store_from_url
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.types import Clock
from tests.support.processes import until_the_end
from tests.support.services import need

ENGINES = ("memory", "sqlite", "redis", "postgresql")
"""Made for ``@pytest.mark.parametrize("engine", ENGINES)``."""

SHARED_ENGINES = ("sqlite", "redis", "postgresql")
"""Those that several processes share."""


class Place:
    """A place for one test's records: a database file, a key prefix, a schema.

    Attributes:
        engine: one of ``ENGINES``.
        name: its key prefix or schema.
        url: what ``store_from_url`` and ``OAuthProvider(store=…)`` take; in another process too,
            memory aside.
        keys: the ``encryption_keys`` that belong to it.
    """

    def __init__(
        self, engine: str, url: str, *, name: str = "", folder: Path | None = None
    ) -> None:
        self.engine = engine
        self.name = name
        self.url = url
        self.keys = [secrets.token_urlsafe(32)]
        self._folder = folder
        self._memory: MemoryStore | None = None

    def store(self, *, clock: Clock = time) -> EncryptedStore:
        """Return a new store on the same records; the clock is for the engines that have none of
        their own.
        """
        if self.engine != "memory":
            return store_from_url(self.url, encryption_keys=self.keys, clock=clock)
        if self._memory is None:
            self._memory = MemoryStore(clock=clock)
        return EncryptedStore(self._memory, self.keys, clock=clock)

    def dump(self) -> bytes:
        """Return all that the engine holds, keys, values and groups, as raw bytes to search."""
        if self.engine == "memory":
            return _dump_memory(self._memory)
        if self.engine == "sqlite":
            assert self._folder is not None
            return _dump_sqlite(self._folder)
        if self.engine == "redis":
            return _dump_redis(self.name)
        return shared_postgresql().dump(self.name)


@contextmanager
def fresh(engine: str) -> Iterator[Place]:
    """Give a test an empty place in an engine; redis and postgresql are skipped where they are not
    installed.
    """
    name = f"t{secrets.token_hex(8)}"
    if engine == "memory":
        yield Place(engine, "memory:")
    elif engine == "sqlite":
        with tempfile.TemporaryDirectory(prefix="asgi-mcp-auth-") as folder:
            yield Place(engine, f"sqlite:///{folder}/auth.db", folder=Path(folder))
    elif engine == "redis":
        yield Place(engine, f"{shared_redis().url}?prefix={name}", name=name)
    else:
        yield Place(engine, f"{shared_postgresql().url}?schema={name}", name=name)


@functools.cache
def shared_redis() -> RedisServer:
    """Return the Redis that all tests of this process share."""
    return until_the_end.enter_context(RedisServer())


@functools.cache
def shared_postgresql() -> PostgreSQLServer:
    """Return the PostgreSQL that all tests of this process share."""
    return until_the_end.enter_context(PostgreSQLServer())


class Server:
    """A server process on a free loopback port, with a folder of its own that goes away with it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="asgi-mcp-auth-"))
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def command(self) -> Sequence[str]:
        """Return how it is started."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Return whether it takes requests."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, again after it was killed, and wait until it takes requests."""
        deadline = time.monotonic() + 30
        self._run()
        while not self.is_ready():
            assert self.process is not None
            if self.process.poll() is not None:  # what was killed before may not be quite gone
                time.sleep(0.2)
                self._run()
            if time.monotonic() > deadline:
                log = (self.folder / "log").read_text(errors="replace")[-2000:]
                self.stop()
                raise AssertionError(log)
            time.sleep(0.02)

    def _run(self) -> None:
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **_as_user(self),
            )

    def signal(self, number: int) -> None:
        """Send it a signal: SIGSTOP makes it hang, SIGCONT lets it go on."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it in the middle of whatever it does (SIGKILL)."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait(30)

    def stop(self) -> None:
        """End it, and remove its folder."""
        self.kill()
        for _ in range(50):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return
            time.sleep(0.1)  # a process of the killed server is still writing


class RedisServer(Server):
    """A Redis. ``durable`` makes it write each command to the disk before it answers.

    Args:
        options: more of ``redis-server``'s, such as ``"--maxmemory", "10mb"``.
        durable: with an append-only file that is synced each time.
    """

    def __init__(self, *options: str, durable: bool = False) -> None:
        super().__init__()
        self.program = need("redis")
        self.options = options
        self.durable = durable
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        aof = (
            ("--appendonly", "yes", "--appendfsync", "always")
            if self.durable
            else ("--appendonly", "no")
        )
        bind = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        return [self.program, *bind, "--save", "", *aof, *self.options]

    def is_ready(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False

    def client(self) -> redis.Redis:
        """Return a client of the server, to look behind the store's back."""
        return redis.Redis(port=self.port, socket_timeout=10, retry=Retry(NoBackoff(), 0))


class PostgreSQLServer(Server):
    """A PostgreSQL cluster with one database, which its user owns. Runs as ``postgres`` where the
    tests are root.

    Args:
        options: settings, such as ``"max_connections=5"``.
    """

    def __init__(self, *options: str) -> None:
        super().__init__()
        self.program = need("postgresql")
        self.options = options
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.data = self.folder / "data"
        _copy_for_server(_postgresql_template(), self.folder)

    def command(self) -> Sequence[str]:
        settings = (
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=60",
            "shared_buffers=16MB",
            *self.options,
        )
        return [
            self.program,
            "-D",
            str(self.data),
            *(part for each in settings for part in ("-c", each)),
        ]

    def is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        assert self.process is not None
        return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    def kill(self) -> None:
        """End the server and its sessions: one that hangs would not notice that the server is
        gone.
        """
        runs = self.process is not None and self.process.poll() is None
        processes = self._processes() if runs else []
        super().kill()
        for each in processes:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)

    def query(self, sql: str) -> bytes:
        """Run SQL behind the store's back and return what it answers, unaligned or as COPY sends
        it.
        """
        return subprocess.run(
            [self._psql(), "-XAtq", self.url, "-c", sql], capture_output=True, check=True
        ).stdout

    @contextmanager
    def lock_rows(self, schema: str) -> Iterator[None]:
        """Hold a lock on every row of a schema, as a forgotten transaction does."""
        command = [self._psql(), "-XAtq", self.url]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as psql:
            assert psql.stdin is not None
            assert psql.stdout is not None
            psql.stdin.write(f"BEGIN; SELECT 'locked' FROM {schema}.records FOR UPDATE;\n")  # noqa: S608 (our own name)
            psql.stdin.flush()
            assert psql.stdout.readline() == "locked\n"
            yield
            psql.stdin.close()

    def stop_all(self) -> None:
        """Let the server and its sessions hang (SIGSTOP)."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def continue_all(self) -> None:
        """Let them go on."""
        for process in self._processes():
            os.kill(process, signal.SIGCONT)

    def _processes(self) -> list[int]:
        assert self.process is not None
        children = (
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        )
        return [self.process.pid, *map(int, children)]

    def _psql(self) -> str:
        return str(Path(self.program).resolve().with_name("psql"))

    def dump(self, schema: str) -> bytes:
        """Return the rows of a schema, and the files of the whole cluster with its log of
        writes.
        """
        rows = self.query(f"COPY {schema}.records TO STDOUT (FORMAT binary)")
        self.query("CHECKPOINT")
        files = [
            path
            for part in ("base", "pg_wal")
            for path in (self.data / part).rglob("*")
            if path.is_file()
        ]
        return rows + b"".join(path.read_bytes() for path in files)


class PgBouncer(Server):
    """A connection pool in front of a PostgreSQL.

    Args:
        behind: the PostgreSQL.
        mode: ``session``, ``transaction`` or ``statement``.
    """

    def __init__(self, behind: PostgreSQLServer, mode: str) -> None:
        super().__init__()
        self.program = need("pgbouncer")
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        settings = self.folder / "pgbouncer.ini"
        settings.write_text(
            f"""[databases]
postgres = host=127.0.0.1 port={behind.port} user=postgres dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
ignore_startup_parameters = extra_float_digits
"""
        )
        _give_to_server(self.folder)

    def command(self) -> Sequence[str]:
        return [self.program, "pgbouncer.ini"]

    def is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=10).close()
        except OSError:
            return False
        return True


@functools.cache
def _postgresql_template() -> Path:
    """Return a folder with a cluster that was never started."""
    program = Path(need("postgresql")).resolve()
    folder = Path(tempfile.mkdtemp(prefix="asgi-mcp-auth-"))
    until_the_end.callback(shutil.rmtree, folder, ignore_errors=True)
    user = _user()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    subprocess.run(
        [
            program.with_name("initdb"),
            "-D",
            folder / "data",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ],
        check=True,
        capture_output=True,
        cwd=folder,
        **_as_user(None),
    )
    return folder


def _copy_for_server(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)
    _give_to_server(target)


def _give_to_server(folder: Path) -> None:
    user = _user()
    if user is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)


def _user() -> pwd.struct_passwd | None:
    """Return whom PostgreSQL runs as, ``None`` for ourselves: it refuses to run as root."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def _as_user(server: Server | None) -> dict[str, object]:
    user = _user()
    if user is None or (
        server is not None and not isinstance(server, PostgreSQLServer | PgBouncer)
    ):
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def free_port() -> int:
    """Return a free loopback port below those that the system takes for connections: otherwise a
    connection of another test could take it first.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _dump_memory(store: MemoryStore | None) -> bytes:
    entries = {} if store is None else store._entries
    return b"\n".join(
        b"\n".join(
            (
                ns.encode(),
                key.encode("utf-8", "surrogatepass"),
                entry.record.value,
                repr(entry.record.group).encode(),
            )
        )
        for ns, kind in entries.items()
        for key, entry in kind.items()
    )


def _dump_sqlite(folder: Path) -> bytes:
    """Return the rows, and the files with what was deleted; a value in the rows is in one piece."""
    rows: list[bytes] = []
    if (folder / "auth.db").exists():
        database = sqlite3.connect(folder / "auth.db")
        try:
            for row in database.execute("SELECT ns, key, value, grp FROM records"):
                rows += [
                    column if isinstance(column, bytes) else str(column).encode() for column in row
                ]
        finally:
            database.close()
    return b"\n".join(
        [*rows, *(path.read_bytes() for path in folder.glob("auth.db*") if path.suffix != ".key")]
    )


def _dump_redis(prefix: str) -> bytes:
    found: list[bytes] = []
    with shared_redis().client() as client:
        for key in client.scan_iter(f"{{{prefix}}}:*", count=1000):
            kind = client.type(key)
            found.append(key)
            if kind == b"hash":
                found += [part for pair in client.hgetall(key).items() for part in pair]
            else:
                found += client.zrange(key, 0, -1)
    return b"\n".join(found)
