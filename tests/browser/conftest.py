"""One Chromium for all of these tests; each test has a profile of its own in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.browser.stage import chromium_arguments, client_servers
from tests.support.services import need, need_node_modules


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def chromium() -> AsyncIterator[Browser]:
    need_node_modules(Path(__file__).parent)
    program = need("chromium")
    with client_servers():
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=program, args=chromium_arguments())
            yield browser
            await browser.close()
