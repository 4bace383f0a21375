"""What a test needs from the machine. A user's machine may lack it; the build machine may not.

def test_a_typescript_client_gets_in() -> None:
    node = need("node")
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

# Debian keeps PostgreSQL's server programs off PATH.
_ELSEWHERE = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_PROGRAMS = {
    "node": ["node"],
    "npm": ["npm"],
    "redis": ["redis-server"],
    "postgresql": ["postgres"],
    "chromium": ["chromium", "chromium-browser", "google-chrome"],
}


def need(service: str) -> str:
    """Return the path of the service's program: ``node``, ``npm``, ``redis``, ``postgresql`` or ``chromium``.

    Where it is missing the test is skipped, or fails where ``REQUIRE_SERVICES=1``.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, _ELSEWHERE)])
    for program in _PROGRAMS[service]:
        if found := shutil.which(program, path=path):
            return found
    return _missing(f"needs {service}: none of {', '.join(_PROGRAMS[service])} is on PATH")


def need_node_modules(directory: Path) -> str:
    """Return the path of node for a directory whose package.json is installed; else as ``need``."""
    node = need("node")
    if not (directory / "node_modules").is_dir():
        _missing(f"needs the npm packages of {directory.name}: run `npm ci` in {directory}")
    return node


def _missing(message: str) -> NoReturn:
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
