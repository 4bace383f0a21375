"""Measure every goal side by side with the peers and print one Markdown table: ``make bench``.

Progress goes to standard error, the table to standard output. ``--quick`` is a short run, ``--only P1`` a part.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from report import Row, table

GROUPS = {
    "verify": ("P1",),
    "request": ("P2", "P3", "P4"),
    "server": ("P5",),
    "outage": ("P6", "P7", "P8", "P9"),
    "memory": ("P10",),
    "imports": ("P11",),
}
PACKAGES = (
    "asgi-mcp-auth",
    "fastmcp",
    "mcp",
    "pyjwt",
    "mcpauth",
    "cryptography",
    "python-jose",
    "uvicorn",
    "httptools",
)


def machine() -> str:
    """Return one line about this machine and one about what runs on it."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = f"{model} ({names[0]})" if names and names[0] not in model else model
    python = f"{platform.python_implementation()} {platform.python_version()}"
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{os.cpu_count()} cores, {model}, {platform.system()}; {python}; {versions}"


def main() -> int:
    """Run the groups one after the other; return how many goals are missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short run: the order of magnitude only")
    parser.add_argument("--only", action="append", metavar="P5", help="this goal's group alone; may be repeated")
    options = parser.parse_args()
    rows: list[Row] = []
    for group, numbers in GROUPS.items():
        if options.only and not set(options.only) & set(numbers):
            continue
        command = [sys.executable, str(Path(__file__).with_name(f"{group}.py")), "--json", *["--quick"] * options.quick]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        rows += [Row(**json.loads(line)) for line in output.splitlines()]
    print(table(rows))
    print(f"\n{machine()}{', a quick run' if options.quick else ''}")
    missed = [row for row in rows if row.holds is False]
    print(f"\n{sum(row.holds is True for row in rows)} goals hold, {len(missed)} do not.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
