"""Stop the processes that many tests share, and find those that a test has left behind."""

from __future__ import annotations

import atexit
import ctypes
import sys
import time
from contextlib import ExitStack
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36

until_the_end = ExitStack()
"""Holds what many tests share; conftest.py closes it after the last one."""

atexit.register(until_the_end.close)  # for programs that run without pytest


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that they can be found (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children_left(seconds: float) -> list[str]:
    """Return the children that still run, as ``pid command``, after this long at most: some have
    been told to end and need a moment.
    """
    deadline = time.monotonic() + seconds
    while (children := _children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return children


def _children() -> list[str]:
    found: list[str] = []
    for thread in Path("/proc/self/task").glob("*/children"):
        for pid in thread.read_text().split():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if command:  # a process that has ended and was not waited for has none
                found.append(f"{pid} {command.replace(bytes(1), b' ').decode(errors='replace')}")
    return found
