"""The Python on the page about stores runs, and does what the text around it says."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_mcp_auth.stores.contract import StoreContract
from tests.examples.pages import PLACEHOLDER_ISSUER, ROOT, python_blocks, run_page

PAGE = "docs/stores.md"  # as it is named in the list of pages: "docs/stores.md"


def test_stores_the_url_with_its_key_names_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_STORE_KEY", secrets.token_urlsafe(32))
    page = run_page(PAGE, PLACEHOLDER_ISSUER)
    assert repr(page.store) == "EncryptedStore(RedisStore('redis://redis.internal:6379/0'))"
    assert issubclass(page.TestMyStore, StoreContract)


@pytest.mark.slow
def test_stores_the_contract_runs_on_a_store_of_one_s_own(tmp_path: Path) -> None:
    block = next(block for block in python_blocks(PAGE) if "StoreContract" in block)
    (tmp_path / "test_page.py").write_text(block)
    options = [
        "-q",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
    ]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", *options, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    tests = [name for name in dir(StoreContract) if name.startswith("test_")]
    assert f"{len(tests)} passed" in result.stdout, result.stdout + result.stderr
