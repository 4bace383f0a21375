"""docs/identity-providers.md: the second part is what the catalog says, and its code runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from asgi_mcp_auth import OAuthProxy, OIDCProxy, RemoteAuthProvider, presets
from docs.generate_identity_providers import page
from tests.examples.pages import BASE_URL, ROOT, python_blocks, run_blocks
from tests.support.rows import rows

PAGE = "docs/identity-providers.md"  # as the list of pages names it: "docs/identity-providers.md"
FIRST, *EXAMPLES = python_blocks(PAGE)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a directory of our own: a proxy without ``store=`` keeps a file where it runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIENT_SECRET", "the-secret-of-the-proxy")


def test_the_page_says_what_the_catalog_says() -> None:
    """``python -m docs.generate_identity_providers`` writes it."""
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page()


def test_there_is_an_example_for_each_provider() -> None:
    assert len(EXAMPLES) == len(presets.CATALOG)


@rows(("name", "block"), list(zip(presets.CATALOG, EXAMPLES, strict=True)), ids=presets.CATALOG)
def test_an_example_makes_a_provider(name: str, block: str) -> None:
    assert f'"{name}"' in block
    provider: Any = run_blocks([FIRST, block], "https://idp.example", page=PAGE).provider
    assert isinstance(provider, RemoteAuthProvider | OIDCProxy | OAuthProxy)
    assert provider.base_url == BASE_URL


@pytest.mark.asyncio
async def test_the_app_of_the_page_asks_for_a_token() -> None:
    app = run_blocks([FIRST], "https://idp.example", page=PAGE).app
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL) as http:
        response = await http.get("/mcp")
    assert response.status_code == 401
    assert f'resource_metadata="{BASE_URL}/.well-known/' in response.headers["www-authenticate"]
