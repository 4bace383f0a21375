"""``make demo PROXY=1``: as quiet and clear as ``make demo``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.proxy_demo import FOLDER, main
from tests.interop.identity_provider import node_with_packages

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    """Run the demo the way make does, with every warning an error."""
    node_with_packages()
    return run_demo()


def run_demo(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.proxy_demo"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=60,
    )


def test_the_demo_ends_well_and_says_so(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "✓ All 11 steps turned out as expected" in demo.stdout


def test_the_demo_prints_no_warning_and_no_log(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.stderr == ""


@pytest.mark.parametrize(
    "shown",
    [
        "POST /register  → 201 Created",
        "You will sign in next, at 127.0.0.1:",
        "Requested from your provider  openid, email",
        "/auth/callback",
        "The MCP server asks for openid email",
        "action='signed_in', action='approved'",
        "“alice@example.com, who is http://127.0.0.1:",
        "POST /token with its refresh token, once",
        "action='grant_revoked', reason='by_user'",
        "POST /token/revocation",
        "reason='revoked'",
    ],
)
def test_the_demo_shows(demo: subprocess.CompletedProcess[str], shown: str) -> None:
    assert shown in demo.stdout


def test_the_demo_leaves_nothing_behind(demo: subprocess.CompletedProcess[str]) -> None:
    (line,) = [line for line in demo.stdout.splitlines() if line.strip().startswith("store ")]
    assert not Path(line.split()[-1]).parent.exists()


def test_a_person_who_says_no_makes_the_demo_fail(capsys: pytest.CaptureFixture[str]) -> None:
    node_with_packages()
    assert main(button="Deny") == 1
    assert (
        "✗ Step 3 did not turn out as expected: the heading of the page" in capsys.readouterr().out
    )


def test_without_node_it_says_in_one_sentence_what_to_install(tmp_path: Path) -> None:
    demo = run_demo(PATH=str(tmp_path))
    assert (demo.returncode, demo.stderr) == (1, "")
    assert re.fullmatch(
        r"This demo needs Node\.js 20 or newer with npm, [^\n]* run make demo PROXY=1 again\.\n",
        demo.stdout,
    )


def test_with_an_old_node_it_says_the_same(tmp_path: Path) -> None:
    for program, said in {"node": "v18.20.4", "npm": "9.2.0"}.items():
        _write_program(tmp_path / program, f"echo {said}")
    demo = run_demo(PATH=str(tmp_path))
    assert demo.returncode == 1
    assert demo.stdout.startswith("This demo needs Node.js 20 or newer")


def test_what_is_missing_is_installed_with_npm_once_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node, folder, programs = node_with_packages(), tmp_path / "idp", tmp_path / "programs"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("node_modules"))
    programs.mkdir()
    (programs / "node").symlink_to(node)
    # Stands for the registry; what it is asked for is what npm would be asked for.
    _write_program(programs / "npm", f'[ "$1" = ci ] && ln -s {FOLDER}/node_modules node_modules')
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    for _ in range(2):
        assert main(folder=folder) == 0
    assert (
        capsys.readouterr().out.count(
            f"Installing node-oidc-provider with npm into {folder}/node_modules"
        )
        == 1
    )


def test_when_npm_fails_its_words_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node_with_packages()
    _write_program(tmp_path / "npm", "echo 'npm error network' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert main(folder=tmp_path) == 1
    assert capsys.readouterr().out.endswith(f"npm ci in {tmp_path} failed:\nnpm error network\n\n")


def test_make_runs_it_when_asked_to() -> None:
    for settings, module in {(): "demo", ("PROXY=1",): "proxy_demo", ("PROXY=0",): "demo"}.items():
        commands = subprocess.run(
            ["make", "-n", "demo", *settings], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        assert f"-m examples.{module}\n" in commands


def _write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
