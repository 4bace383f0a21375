"""P2 to P4: what the whole middleware adds to a request, the bare application subtracted."""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from report import Row, main, median_ratio, micros, note, spread
from stacks import STACKS
from worker import Worker
from workload import forge, mint, opaque, save, scrambled

from asgi_mcp_auth.testing import Issuer

WITH_SDK = "ours with the SDK loaded"
REFUSALS = {
    "missing": ("no token → 401", 1.5),
    "opaque": ("garbage (a random string) → 401", 4.0),
    "scrambled": ("garbage (random, in the shape of a JWT) → 401", 4.0),
    "forged": ("forged signature → 401", 30.0),
}

Costs = Mapping[str, Sequence[float]]  # by contestant: nanoseconds in each round


def measure(quick: bool) -> Iterator[Row]:
    """Ask one worker after the other, round after round."""
    rounds, count = (5, 300) if quick else (21, 800)
    with Issuer() as idp, ExitStack() as stack:
        tokens = mint(idp, count + 1)
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "fixture.json"
        save(
            path,
            issuer=idp.issuer,
            jwks_uri=idp.jwks_uri,
            tokens={"RS256": tokens},
            opaque=opaque(count),
            scrambled=scrambled(tokens[1:]),
            forged=forge(tokens[1:]),
        )
        workers = {name: stack.enter_context(Worker(name, path)) for name in STACKS}
        yield from _warm(_rounds(workers, "warm", rounds), "the app reads who is calling")
        yield from _warm(_rounds(workers, "unread", rounds), "the app does not")
        fresh = _rounds(workers, "fresh", rounds)
        yield from _fresh(fresh)
        accepted = statistics.median(fresh["ours"])
        for task, (what, goal) in REFUSALS.items():
            yield _refusal(what, goal, accepted, _rounds(workers, task, rounds))
        logged = {name: each for name, each in workers.items() if name in ("ours", "FastMCP")}
        yield _logged(_rounds(logged, "opaque", max(3, rounds // 4), log=True))


def _rounds(workers: Mapping[str, Worker], task: str, rounds: int, *, log: bool = False) -> Costs:
    note(f"P2–P4 {task}{' with default logging' if log else ''}")
    costs: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, worker in workers.items():
            bare, wrapped = worker.measure(task, log=log)
            costs[name].append(wrapped - bare)
    return costs


def _peers(costs: Costs) -> str:
    return ", ".join(
        f"{name} {micros(each)}" for name, each in costs.items() if name not in ("ours", WITH_SDK)
    )


def _warm(costs: Costs, reads: str) -> Iterator[Row]:
    for name, goal, what in (("ours", 50, ""), (WITH_SDK, 20, ", the MCP SDK loaded")):
        yield Row(
            "P2",
            f"cost added to a request, token seen before{what}; {reads}",
            micros(costs[name]),
            _peers(costs),
            f"{spread(costs['FastMCP'], costs[name])}× cheaper than FastMCP",
            f"≥ {goal}×",
            median_ratio(costs["FastMCP"], costs[name]) >= goal,
        )


def _fresh(costs: Costs) -> Iterator[Row]:
    for peer, goal in (("FastMCP", 3.2), ("mcpauth", 7)):
        yield Row(
            "P3",
            "cost added to a request, new RS256 token",
            micros(costs["ours"]),
            f"{peer} {micros(costs[peer])}"
            + (f", SDK + PyJWT {micros(costs['SDK + PyJWT'])}" if peer == "FastMCP" else ""),
            f"{spread(costs[peer], costs['ours'])}× cheaper than {peer}",
            f"≥ {goal}×",
            median_ratio(costs[peer], costs["ours"]) >= goal,
        )


def _refusal(what: str, goal: float, accepted: float, costs: Costs) -> Row:
    ours = statistics.median(costs["ours"])
    return Row(
        "P4",
        what,
        micros(costs["ours"]),
        _peers(costs),
        f"{ours / accepted:.2f}× an accepted new token",
        f"≤ {goal} µs and ≤ 1×",
        ours <= goal * 1000 and ours <= accepted,
    )


def _logged(costs: Costs) -> Row:
    return Row(
        "P4",
        "garbage (a random string) → 401, logging as it is by default",
        micros(costs["ours"]),
        f"FastMCP {micros(costs['FastMCP'])}",
        f"{spread(costs['FastMCP'], costs['ours'])}× cheaper than FastMCP",
        "",
        None,
    )


if __name__ == "__main__":
    main(measure)
