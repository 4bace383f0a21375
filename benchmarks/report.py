"""Rows, the Markdown table and the statistics that every group uses."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

COLUMNS = ("#", "what", "ours", "peers", "ratio", "goal", "holds")


@dataclass(frozen=True)
class Row:
    """One line of the table; ``holds`` is None where nothing is promised or nothing could be
    measured.
    """

    number: str
    what: str
    ours: str
    peers: str
    ratio: str
    goal: str
    holds: bool | None


def table(rows: Iterable[Row]) -> str:
    """Return the rows as one Markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        verdict = "–" if row.holds is None else "yes" if row.holds else "**no**"
        cells = (row.number, row.what, row.ours, row.peers, row.ratio, row.goal, verdict)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios of each round: what disturbs a round disturbs both of its
    halves.
    """
    return statistics.median(one / other for one, other in zip(above, below, strict=True))


def spread(above: Sequence[float], below: Sequence[float]) -> str:
    """Return the median ratio and, in brackets, the middle half of the rounds."""
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    low, middle, high = (
        statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    )
    return f"{_figure(middle)} ({_figure(low)}–{_figure(high)})"


def micros(nanoseconds: Sequence[float]) -> str:
    """Return the median of some times as text in microseconds."""
    return f"{_figure(statistics.median(nanoseconds) / 1000)} µs"


def millis(seconds: float) -> str:
    """Return a time as text in milliseconds."""
    return f"{_figure(seconds * 1000)} ms"


def _figure(value: float) -> str:
    return (
        f"{value:.2f}"
        if abs(value) < 10
        else f"{value:.1f}"
        if abs(value) < 100
        else f"{value:,.0f}"
    )


def note(text: str) -> None:
    """Tell whoever waits what is going on, apart from the results."""
    print(text, file=sys.stderr, flush=True)


def main(measure: Callable[[bool], Iterable[Row]]) -> None:
    """Run one group as a program: ``--quick`` for a short run, ``--json`` for the runner."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: the order of magnitude only"
    )
    parser.add_argument("--json", action="store_true", help="rows as JSON lines instead of a table")
    options = parser.parse_args()
    rows: list[Row] = []
    for row in measure(options.quick):
        rows.append(row)
        if options.json:
            print(json.dumps(asdict(row)), flush=True)
    if not options.json:
        print(table(rows))
