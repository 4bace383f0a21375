"""Fuzz every parser with atheris: ``python -m fuzz.run [target…] [--seconds N]``.

FUZZ_SECONDS says the same as --seconds. Each target runs in a process of its own. The corpus grows
in fuzz/corpus/<target>/, findings land in fuzz/findings/<target>/; ``python -m fuzz.run <target>
--replay FILE`` runs one again.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from fuzz.targets import NAMES

HERE = Path(__file__).parent
DEFAULT_SECONDS = 60
SECONDS_PER_INPUT = 5
RSS_LIMIT_MB = 2048
MAX_LENGTH = {
    "token": 4096,
    "jwks": 8192,
    "pem": 2048,
    "json_text": 4096,
    "form": 2048,
    "client_auth": 2048,
    "registration": 4096,
    "client_document": 5200,
    "pages": 1024,
}


class Result(NamedTuple):
    """What one target did."""

    name: str
    executions: int
    seconds: float
    corpus: int
    findings: list[Path]
    failed: bool


def main() -> int:
    """Run the targets that were asked for, one after the other."""
    parser = argparse.ArgumentParser(description="Fuzz the parsers.")
    parser.add_argument(
        "targets", nargs="*", metavar="target", help=f"some of {', '.join(NAMES)}; all by default"
    )
    parser.add_argument(
        "--seconds", type=int, default=int(os.environ.get("FUZZ_SECONDS", DEFAULT_SECONDS))
    )
    parser.add_argument("--replay", type=Path, help="run one input through one target")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.targets) - set(NAMES):
        parser.error(f"no target named {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if options.replay:
        importlib.import_module(f"fuzz.targets.{options.targets[0]}").check(
            options.replay.read_bytes()
        )
        print("No finding.")
        return 0
    if options.inside:
        fuzz_here(options.targets[0], options.inside, options.seconds)
    results = [fuzz(name, options.seconds) for name in options.targets or NAMES]
    print("\n| target | executions | seconds | corpus | findings |\n|---|---|---|---|---|")
    for each in results:
        print(
            f"| {each.name} | {each.executions:,} | {each.seconds:.0f} | {each.corpus} |"
            f" {len(each.findings)} |"
        )
    for each in results:
        for path in each.findings:
            print(
                f"\nFinding: python -m fuzz.run {each.name} --replay"
                f" {path.relative_to(HERE.parent)}"
            )
    return int(any(each.failed for each in results))


def fuzz(name: str, seconds: int) -> Result:
    """Run one target in a process of its own."""
    corpus, findings = HERE / "corpus" / name, HERE / "findings" / name
    for directory in (corpus, findings):
        directory.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    print(f"{name}: {seconds} s ...", flush=True)
    command = [
        sys.executable,
        "-m",
        "fuzz.run",
        name,
        "--seconds",
        str(seconds),
        "--inside",
        str(corpus),
    ]
    started = time.monotonic()
    run = subprocess.run(
        command,
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    elapsed = time.monotonic() - started
    (findings.parent / f"{name}.log").write_text(run.stdout)
    counted = re.findall(
        r"^stat::number_of_executed_units:\s*(\d+)|^#(\d+)\s", run.stdout, re.MULTILINE
    )
    executions = max((int(final or running) for final, running in counted), default=0)
    new = sorted(set(findings.iterdir()) - before)
    if run.returncode:
        print(_shorten(run.stdout))
    return Result(
        name, executions, elapsed, sum(1 for _ in corpus.iterdir()), new, run.returncode != 0
    )


def fuzz_here(name: str, corpus: Path, seconds: int) -> None:
    """Turn this process into the fuzzer of one target; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["asgi_mcp_auth", "jose", "json"]):
        target = importlib.import_module(f"fuzz.targets.{name}")
    for seed in target.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    dictionary = corpus.parent / f"{name}.dict"
    words = ["".join(f"\\x{byte:02x}" for byte in word) for word in target.DICTIONARY]
    dictionary.write_text("".join(f'"{word}"\n' for word in words))
    arguments = [
        f"-max_total_time={seconds}",
        f"-dict={dictionary}",
        f"-artifact_prefix={HERE / 'findings' / name}{os.sep}",
        f"-max_len={MAX_LENGTH.get(name, 512)}",
        f"-timeout={SECONDS_PER_INPUT}",
        f"-rss_limit_mb={RSS_LIMIT_MB}",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *arguments], target.check)
    atheris.Fuzz()


def _shorten(log: str) -> str:
    """Return the part of the log that says what happened."""
    start = log.find("=== Uncaught Python exception")
    return log[start if start >= 0 else -3000 :][:3000]


if __name__ == "__main__":
    sys.exit(main())
