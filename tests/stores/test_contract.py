"""One contract, every engine, in the clear and encrypted (S26)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from asgi_mcp_auth.stores import Store
from asgi_mcp_auth.stores.contract import StoreContract
from tests.support.engines import ENGINES, fresh


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "encrypted"])
class TestContract(StoreContract):
    @pytest_asyncio.fixture
    async def store(self, engine: str, encrypted: bool) -> AsyncIterator[Store]:
        with fresh(engine) as place:
            store: Store = place.store() if encrypted else place.store().inner
            await store.open()
            yield store
            await store.aclose()
