"""Runs an example as its reader does: `python -m examples.x`, settings in the environment, real
sockets.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.engines import free_port

ROOT = Path(__file__).parents[2]


@contextmanager
def running(name: str, **settings: str) -> Iterator[str]:
    """Run `examples.<name>` in a process of its own, on a free port or on PORT; yield its base URL
    once it answers.
    """
    port = int(settings.get("PORT") or free_port())
    environment = {**os.environ, "PORT": str(port), **settings}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"examples.{name}"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
        try:
            deadline = time.monotonic() + 30
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    raise AssertionError(f"examples.{name} does not answer:\n{output.read()}")
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)
        output.seek(0)
        said = output.read()
    assert "Traceback" not in said, said


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
