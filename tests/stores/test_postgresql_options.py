"""The options of libpq in a URL of PostgreSQL: taken, left out, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_mcp_auth import ConfigurationError
from asgi_mcp_auth.stores.postgresql import PostgreSQLStore

URL = "postgresql://user:hunter2@host:5432/database"

TAKEN = (
    "application_name=notes",
    "options=-c%20search_path%3Dx",
    "port=5433,5434",
    "sslmode=verify-full",
    "statement_timeout=5s",
    "target_session_attrs=read-write",
)
LEFT_OUT = (
    "channel_binding=disable",
    "channel_binding=prefer",
    "client_encoding=utf8",
    "connect_timeout=10",
    "fallback_application_name=notes",
    "gssencmode=prefer",
    "keepalives=1",
    "keepalives_idle=30",
    "load_balance_hosts=random",
    "sslcompression=0",
    "sslsni=1",
    "tcp_user_timeout=1000",
)
# And what to write instead.
REFUSED = (
    ("channel_binding=require", "sslmode=verify-full"),
    ("client_encoding=latin1", "UTF-8"),
    ("connection_limit=5", "pool_size"),
    ("gssencmode=require", "sslmode=verify-full"),
    ("hostaddr=10.0.0.1", "in place of the host"),
    ("pgbouncer=true", "statement_cache_size=0"),
    ("port=many", "port=5432"),
    ("prepared_statement_cache_size=0", "statement_cache_size"),
    ("require_auth=scram-sha-256", "remove it"),
    ("ssl=true", "sslmode instead"),
    ("sslaccept=strict", "sslmode instead"),
    ("sslmode=", "no value"),
    ("sslmode=no-verify", "require, verify-ca"),
    ("sslmode=VERIFY-FULL", "verify-full"),
    ("sslrootcert=/nowhere/ca.pem", "cannot be read .*No such file"),
    ("sslrootcert=system", "write the path of a file"),
    ("sslcert=/nowhere/client.pem", "cannot be read"),
    ("sslkey=/nowhere/client.key", "cannot be read"),
    ("target_session_attrs=master", "primary, standby"),
)


@pytest.mark.rule("RS-79")
@pytest.mark.parametrize("option", [*TAKEN, *LEFT_OUT])
def test_an_option_of_libpq_is_taken_or_left_out_where_it_asks_for_nothing(option: str) -> None:
    url = PostgreSQLStore(f"{URL}?{option}")._url
    assert url.startswith(URL)
    assert (option.partition("=")[0] in url) == (option in TAKEN)


@pytest.mark.rule("RS-79")
@pytest.mark.parametrize(("option", "told"), REFUSED)
def test_what_the_driver_cannot_do_is_named_with_what_to_write(option: str, told: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"option {option.partition('=')[0]} .*{told}"
    ) as e:
        PostgreSQLStore(f"{URL}?schema=x&{option}")
    assert "hunter2" not in str(e.value)


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("hello")
    with pytest.raises(ConfigurationError, match=r"option sslrootcert .*cannot be read"):
        PostgreSQLStore(f"{URL}?sslrootcert={file}")
