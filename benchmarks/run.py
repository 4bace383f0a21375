"""Measure every goal side by side with the peers and print Markdown tables: ``make bench``.

Progress goes to standard error, the tables to standard output. ``--quick`` is a short run, ``--only
P1`` a group, ``--part issuer`` a whole table.
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

# Each part is one table, measured in one run; each group is one program, with the numbers of its
# rows.
PARTS = {
    "requests": {
        "verify": ("P1",),
        "request": ("P2", "P3", "P4"),
        "server": ("P5",),
        "outage": ("P6", "P7", "P8", "P9"),
        "memory": ("P10",),
        "imports": ("P11",),
        "messages": ("P14",),
    },
    "issuer": {
        "sign_in": ("P12", "P13"),
        "stores": ("stores",),
    },
    "worst": {
        "worst_cases": ("worst",),
    },
}
BEGIN, END = "<!-- results: {} -->", "<!-- end of results -->"
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
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = f"{model} ({names[0]})" if names and names[0] not in model else model
    python = f"{platform.python_implementation()} {platform.python_version()}"
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{os.cpu_count()} cores, {model}, {platform.system()}; {python}; {versions}"


def main() -> None:
    """Run the groups one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a short run: the order of magnitude only"
    )
    parser.add_argument(
        "--only", action="append", metavar="P5", help="this goal's group alone; may be repeated"
    )
    parser.add_argument("--part", choices=PARTS, help="this table alone")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="put each table between its two markers of a document",
    )
    options = parser.parse_args()
    if options.write and options.only:
        parser.error(
            "--write takes whole tables, so that each has one machine and one run behind it:"
            " --part, not --only"
        )
    for part, groups in PARTS.items():
        chosen = [
            name
            for name, goals in groups.items()
            if not options.only or not set(options.only).isdisjoint(goals)
        ]
        if not chosen or options.part not in (None, part):
            continue
        rows = [row for group in chosen for row in measured(group, quick=options.quick)]
        held, missed = (sum(row.holds is verdict for row in rows) for verdict in (True, False))
        summary = (
            f"{machine()}{', a quick run' if options.quick else ''}. {held} of {held + missed}"
            " goals hold."
        )
        print(f"{table(rows)}\n\n{summary}\n", flush=True)
        if options.write:
            before, rest = options.write.read_text().split(BEGIN.format(part))
            after = rest.partition(END)[2]
            options.write.write_text(
                f"{before}{BEGIN.format(part)}\n{table(rows)}\n\n{summary}\n{END}{after}"
            )


def measured(group: str, *, quick: bool) -> list[Row]:
    """Run one group and return its rows."""
    command = [
        sys.executable,
        str(Path(__file__).with_name(f"{group}.py")),
        "--json",
        *["--quick"] * quick,
    ]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [Row(**json.loads(line)) for line in output.splitlines()]


if __name__ == "__main__":
    main()
