"""store_from_url: the store and keys that each URL names, and the message for each mistake."""

from __future__ import annotations

import logging
import os
import secrets
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_mcp_auth import ConfigurationError
from asgi_mcp_auth.stores import store_from_url
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.stores.sqlite import SQLiteStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.rows import rows

KEY = secrets.token_urlsafe(32)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def mode_of(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# ------------------------------------------------------------------------------------------- memory


@pytest.mark.asyncio
async def test_memory_has_a_key_of_its_own_and_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FrozenClock()
    store = store_from_url("memory:", clock=clock)
    assert isinstance(store.inner, MemoryStore)
    await store.put("ns", "key", b"1", ttl=1)
    assert await store.get("ns", "key") is not None
    clock.advance(1)
    assert await store.get("ns", "key") is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "loses all grants" in caplog.text


# ------------------------------------------------------------------------------------------- SQLite


@pytest.mark.case("S05")
@pytest.mark.asyncio
async def test_sqlite_makes_database_and_key_file_readable_for_their_owner_only(
    tmp_path: Path,
) -> None:
    umask = os.umask(0)
    try:
        store = store_from_url("sqlite:///auth.db")
        assert isinstance(store.inner, SQLiteStore)
        assert sorted(os.listdir()) == ["auth.db.key"], "nothing is opened yet"
        await store.open()
        await store.put("ns", "key", b"1")
        assert sorted(os.listdir()) == ["auth.db", "auth.db-shm", "auth.db-wal", "auth.db.key"]
        assert {mode_of(name) for name in os.listdir()} == {0o600}
    finally:
        os.umask(umask)
    await store.aclose()
    again = store_from_url(f"sqlite:///{tmp_path}/auth.db")
    assert await again.take("ns", "key") == b"1"


@pytest.mark.asyncio
async def test_sqlite_with_given_keys_makes_no_key_file(tmp_path: Path) -> None:
    store = store_from_url("sqlite:///a%20b.db", encryption_keys=[KEY])
    await store.put("ns", "key", b"1")
    assert "a b.db" in os.listdir()
    assert not any(name.endswith(".key") for name in os.listdir())


def test_sqlite_reads_several_keys_from_the_key_file_the_first_encrypts() -> None:
    older = store_from_url("sqlite:///auth.db").derive("x")
    file = Path("auth.db.key")
    file.write_text(f"{KEY}\n{file.read_text()}")
    newer = store_from_url("sqlite:///auth.db").derive("x")
    assert len(newer) == 2
    assert newer[1:] == older


@pytest.mark.slow
def test_sqlite_processes_that_start_at_once_agree_on_one_key() -> None:
    code = (
        "import sys; from asgi_mcp_auth.stores import store_from_url; sys.stdin.read(1); "
        "print(store_from_url('sqlite:///auth.db').derive('x')[0].hex())"
    )
    command = [sys.executable, "-c", code]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        for _ in range(6)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()
    answers = {process.communicate(timeout=60)[0] for process in started}
    assert {process.returncode for process in started} == {0}
    assert len(answers) == 1
    assert os.listdir() == ["auth.db.key"]


@pytest.mark.asyncio
async def test_sqlite_a_lost_key_file_is_reported_and_not_replaced() -> None:
    store = store_from_url("sqlite:///auth.db")
    await store.put("ns", "key", b"1")
    os.unlink("auth.db.key")
    with pytest.raises(ConfigurationError, match=r"auth\.db\.key is missing"):
        store_from_url("sqlite:///auth.db")
    assert "auth.db.key" not in os.listdir()


@pytest.mark.parametrize(
    ("content", "told"),
    [("", "empty"), ("\n\n", "empty"), ("hunter2", "not a key"), ("ä", "not ASCII")],
)
def test_sqlite_a_key_file_with_something_else_in_it_is_reported_but_not_repeated(
    content: str, told: str
) -> None:
    Path("auth.db.key").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=told) as refused:
        store_from_url("sqlite:///auth.db")
    assert "auth.db.key" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_sqlite_a_key_file_that_others_can_read_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store_from_url("sqlite:///auth.db")
    assert caplog.records == []
    os.chmod("auth.db.key", 0o644)
    store_from_url("sqlite:///auth.db")
    assert "chmod 600 auth.db.key" in caplog.text


def test_sqlite_a_key_file_that_cannot_be_read_is_reported() -> None:
    os.mkdir("auth.db.key")
    with pytest.raises(
        ConfigurationError, match=r"auth\.db\.key cannot be used \(Is a directory\)"
    ):
        store_from_url("sqlite:///auth.db")


def test_sqlite_a_missing_folder_is_reported() -> None:
    with pytest.raises(ConfigurationError, match=r"No such file or directory.*Make one: python -c"):
        store_from_url("sqlite:///nowhere/auth.db")


@rows(
    "url",
    [
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:////",
        "sqlite:auth.db",
        "sqlite://auth.db",
        "sqlite:///:memory:",
        "sqlite:///auth.db?mode=ro",
        "sqlite:///auth.db#x",
    ],
)
def test_sqlite_an_odd_url_is_told_the_right_form(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:///auth\.db"):
        store_from_url(url)
    assert os.listdir() == []


# -------------------------------------------------------------------------------- Redis, PostgreSQL


@pytest.mark.parametrize(
    "url", ["redis://:hunter2@host/0", "rediss://host", "postgresql://u:hunter2@host/db"]
)
def test_a_shared_engine_without_keys_is_told_how_to_make_one(url: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"encryption_keys=\[.*python -c .*token_urlsafe\(32\)"
    ) as refused:
        store_from_url(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [("redis://host", "redis", "[redis]"), ("postgres://host/db", "asyncpg", "[postgres]")],
)
def test_a_missing_driver_is_named_with_its_extra(url: str, driver: str, extra: str) -> None:
    code = f"""
import sys
sys.modules[{driver!r}] = None
from asgi_mcp_auth.stores import store_from_url
try:
    store_from_url({url!r}, encryption_keys=[{KEY!r}])
except ValueError as error:
    print(error)
"""
    root = str(Path(__file__).parents[2])
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"pip install 'asgi-mcp-auth{extra}'" in told
    assert driver in told


@rows(
    "url",
    [
        "redis://:hunter2@host:port/0",
        "redis://:hunter2@host:99999/0",
        "redis://:hunter2@host/zero",
        "redis:/:hunter2@host",
        "postgresql:u:hunter2@host/db",
        "redis://:hunter2@host/0?socket_timeot=3",
        "redis://:hunter2@host/0?socket_timeout=soon",
        "redis://:hunter2@host/0?prefix=",
        "redis://:hunter2@host/0?prefix=a:b",
        "redis://:hunter2@host/0?prefix={a}",
        "redis://:hunter2@host/0?prefix=a&prefix=b",
        "redis://:hunter2@host/0?wait_replicas=0",
        "redis://:hunter2@[host/0",
        "postgresql://u:hunter2@host:port/db",
        "postgresql://u:hunter2@host/db?schema=Robert'); DROP TABLE students;--",
        "postgresql://u:hunter2@host/db?schema=" + "s" * 64,
        "postgresql://u:hunter2@host/db?pool_size=0",
        "postgresql://u:hunter2@host/db?statement_cache_size=-1",
    ],
)
def test_a_wrong_option_is_refused_and_no_password_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="store: ") as refused:
        store_from_url(url, encryption_keys=[KEY])
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "redis://:hunter2@host:6379/0?prefix=app",
            "EncryptedStore(RedisStore('redis://host:6379/0'))",
        ),
        ("rediss://u:hunter2@host?wait_replicas=1", "EncryptedStore(RedisStore('rediss://host'))"),
        (
            "unix://u:hunter2@/run/redis.sock?db=1",
            "EncryptedStore(RedisStore('unix:///run/redis.sock'))",
        ),
        (
            "postgresql://u:hunter2@host/db?schema=app&pool_size=5&statement_cache_size=0&sslmode=require",
            "EncryptedStore(PostgreSQLStore('postgresql://host/db'))",
        ),
        (
            "postgres://u:hunter2@one:5432,[::1]:5433,two/db?target_session_attrs=primary",
            "EncryptedStore(PostgreSQLStore('postgres://one:5432,[::1]:5433,two/db'))",
        ),
    ],
)
def test_a_store_shows_its_place_and_no_password(url: str, shown: str) -> None:
    assert repr(store_from_url(url, encryption_keys=[KEY])) == shown


# ------------------------------------------------------------------------------------------- others


def test_no_driver_is_imported_before_its_url_is_named() -> None:
    code = """
import sys
from asgi_mcp_auth.stores import store_from_url
store_from_url("memory:")
engines = [f"asgi_mcp_auth.stores.{name}" for name in ("sqlite", "redis", "postgresql")]
print(sorted({"redis", "asyncpg", *engines} & set(sys.modules)))
"""
    root = str(Path(__file__).parents[2])
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.strip() == "[]"


@rows(
    "url",
    ["", "auth.db", "mysql://u:hunter2@host/db", "memory:x", "memory://x", "MEMORY:", 5, None],
)
def test_what_is_no_store_is_told_what_is_one(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:///|'memory:'") as refused:
        store_from_url(url)
    assert "hunter2" not in str(refused.value)


def test_a_wrong_key_is_refused_for_every_engine() -> None:
    for url in ("memory:", "sqlite:///auth.db"):
        for keys in (["hunter2"], [], "hunter2"):
            with pytest.raises(ConfigurationError, match="token_urlsafe"):
                store_from_url(url, encryption_keys=keys)
