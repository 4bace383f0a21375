"""How every test runs: hypothesis's profiles, and logging as it was. Helpers are imported from ``tests.support``."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# No deadline: two shared cores make single examples slow now and then, which says nothing about the code.
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile(
    "soak", deadline=None, print_blob=True, max_examples=20_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what a server under test does to the root logger: the MCP SDK turns it to INFO for the whole process."""
    root = logging.getLogger()
    level, handlers = root.level, set(root.handlers)
    yield
    root.setLevel(level)
    for handler in [each for each in root.handlers if each not in handlers]:
        if not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)
