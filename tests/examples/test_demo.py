"""`make demo`: quiet, quick, and honest when something is not as it should be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from asgi_mcp_auth.testing import Issuer
from examples.demo import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    """Run the demo the way make does, with every warning an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.demo"], capture_output=True, text=True, cwd=ROOT, timeout=60
    )


def test_the_demo_ends_well_and_says_so(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "✓ All 7 steps turned out as expected" in demo.stdout


def test_the_demo_prints_no_warning_and_no_log(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.stderr == ""


def test_the_demo_prints_no_colour_codes_into_a_pipe(demo: subprocess.CompletedProcess[str]) -> None:
    assert "\x1b" not in demo.stdout


@pytest.mark.parametrize(
    "shown",
    [
        "→ 401 Unauthorized",
        "resource_metadata=",
        "authorization_servers",
        "“You are alice, calling through demo-client.”",
        "reason='expired'",
        "reason='audience'",
        "→ 403 Forbidden",
        'error="insufficient_scope"',
    ],
)
def test_the_demo_shows(demo: subprocess.CompletedProcess[str], shown: str) -> None:
    assert shown in demo.stdout


def test_a_provider_whose_keys_cannot_be_had_makes_the_demo_fail(capsys: pytest.CaptureFixture[str]) -> None:
    with Issuer() as idp:
        idp.fail("/jwks")
        assert main(idp) == 1
    assert "✗ Step 4 did not turn out as expected: expected an answer, but it was a 503" in capsys.readouterr().out


def test_a_provider_that_signs_with_unpublished_keys_makes_the_demo_fail(capsys: pytest.CaptureFixture[str]) -> None:
    with Issuer() as idp:
        published = idp.jwks
        idp.rotate(drop=True)
        idp.jwks = published
        assert main(idp) == 1
    assert "✗ Step 4 did not turn out as expected: expected an answer, but it was a 401" in capsys.readouterr().out
