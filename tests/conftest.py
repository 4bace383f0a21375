"""How every test runs: hypothesis's profiles, logging as it was, one browser. Helpers come from
``tests.support``.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import coverage
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from tests.support.processes import adopt_orphans, children_left, until_the_end
from tests.support.tls import Authority, DocumentHost

# No deadline: two shared cores make single examples slow now and then, which says nothing about the
# code.
settings.register_profile("default", deadline=None, print_blob=True, max_examples=50)
settings.register_profile(
    "soak",
    deadline=None,
    print_blob=True,
    max_examples=20_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


PROGRAMS = frozenset(
    {
        "tests.browser.stage",
        "tests.examples.processes",
        "tests.interop.clients",
        "tests.interop.identity_provider",
        "tests.interop.real_providers",
        "tests.proxy.upstreams.certified",
        "tests.proxy.upstreams.glewlwyd",
        "tests.proxy.upstreams.proxies",
        "tests.support.server_processes",
        "tests.support.store_processes",
        "tests.support.token_processes",
        "tests.support.workers",
    }
)
"""Modules that start browsers, Node programs, workers and examples."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark as slow what starts programs."""
    module = item.getparent(pytest.Module)
    if module is not None and _starts_programs(module.obj):
        item.add_marker("slow")


@functools.cache
def _starts_programs(module: ModuleType) -> bool:
    return any(getattr(each, "__module__", "") in PROGRAMS for each in vars(module).values())


class Measurement:
    """Coverage, which is not measured in slow tests, in the programs that they start, in property
    tests, and in attacks.

    Tracing makes Python take almost twice as long, and the other tests reach what the goals are
    about.
    """

    def __init__(self) -> None:
        self._coverage = coverage.Coverage.current()
        self._paused: dict[str, str] | None = None

    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Pause or go on, where the next test is not of the same sort as the one before."""
        left_out = any(item.get_closest_marker(each) for each in ("slow", "hypothesis"))
        left_out = left_out or "/attacks/" in item.nodeid
        if self._coverage is None or left_out == (self._paused is not None):
            return
        if left_out:
            names = [each for each in os.environ if each.startswith("COVERAGE_PROCESS_")]
            self._paused = {name: os.environ.pop(name) for name in names}
            self._coverage.stop()
        else:
            os.environ.update(self._paused or {})
            self._paused = None
            self._coverage.start()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Measurement(), "measurement")


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """Fail the run when a process that a test has started is there after the last one."""
    adopt_orphans()
    yield
    until_the_end.close()
    assert children_left(seconds=10) == []


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what a server under test does to the root logger: the MCP SDK turns it to INFO for the
    whole process.
    """
    root = logging.getLogger()
    level, handlers = root.level, set(root.handlers)
    yield
    root.setLevel(level)
    for handler in [each for each in root.handlers if each not in handlers]:
        if not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """The certificate authority of every https host here."""
    with Authority() as made:
        yield made


@pytest.fixture
def host(authority: Authority) -> Iterator[DocumentHost]:
    """A host of clients' metadata documents and key sets."""
    with DocumentHost(authority) as listening:
        yield listening


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def chromium() -> AsyncIterator[Any]:
    """One Chromium for all tests that want one; each has a profile of its own in it."""
    from playwright.async_api import async_playwright

    from tests.browser.stage import chromium_arguments, client_servers
    from tests.support.services import need, need_node_modules

    need_node_modules(Path(__file__).parent / "browser")
    program = need("chromium")
    with client_servers():
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=program, args=chromium_arguments()
            )
            yield browser
            await browser.close()
