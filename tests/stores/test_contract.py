"""One contract, every engine, in the clear and encrypted (S26)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from asgi_mcp_auth.stores import Store
from asgi_mcp_auth.stores.contract import StoreContract
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.stores.sqlite import SQLiteStore


@pytest.mark.asyncio
class TestContract(StoreContract):
    @pytest_asyncio.fixture(params=["memory", "sqlite", "encrypted sqlite"])
    async def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
        store: Store = MemoryStore() if request.param == "memory" else SQLiteStore(str(tmp_path / "auth.db"))
        if request.param.startswith("encrypted"):
            store = EncryptedStore(store, [secrets.token_urlsafe(32)])
        await store.open()
        yield store
        await store.aclose()
