"""``make demo``: quiet, quick, and clear about what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.demo import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    """Run the demo the way make does, with every warning an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.demo"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )


def test_the_demo_ends_well_and_says_so(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "✓ All 11 steps turned out as expected" in demo.stdout


def test_the_demo_prints_no_warning_and_no_log(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.stderr == ""


def test_the_demo_prints_no_colour_codes_into_a_pipe(
    demo: subprocess.CompletedProcess[str],
) -> None:
    assert "\x1b" not in demo.stdout


@pytest.mark.parametrize(
    "shown",
    [
        "POST /mcp  → 401 Unauthorized",
        "resource_metadata=",
        "authorization_servers",
        "POST /register  → 201 Created",
        "Read your notes",
        "POST /token  → 200 OK",
        "“You are alice.”",
        "reason='expired'",
        "action='grant_revoked', reason='by_user'",
        "reason='revoked'",
    ],
)
def test_the_demo_shows(demo: subprocess.CompletedProcess[str], shown: str) -> None:
    assert shown in demo.stdout


def test_the_demo_leaves_nothing_behind(demo: subprocess.CompletedProcess[str]) -> None:
    (line,) = [line for line in demo.stdout.splitlines() if line.strip().startswith("store ")]
    assert not Path(line.split()[-1]).parent.exists()


def test_a_wrong_password_makes_the_demo_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(password="wrong") == 1
    wanted = (
        "✗ Step 4 did not turn out as expected: the page says: The user name or password is"
        " incorrect."
    )
    assert wanted in capsys.readouterr().out


def test_a_person_who_says_no_makes_the_demo_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(button="Deny") == 1
    assert (
        "✗ Step 5 did not turn out as expected: what the browser brings back"
        in capsys.readouterr().out
    )
