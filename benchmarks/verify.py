"""P1: verifying a JWT that was never seen before, as a multiple of the bare signature check."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from report import Row, main, median_ratio, micros, note, spread
from worker import Worker
from workload import mint, save

from asgi_mcp_auth.testing import Issuer

GOALS = {"RS256": 1.5, "ES256": 1.2, "EdDSA": 1.15}
PEERS = ("FastMCP", "SDK + PyJWT", "mcpauth")


def measure(quick: bool) -> Iterator[Row]:
    """Ask one worker after the other, round after round."""
    rounds, count = (5, 400) if quick else (21, 1000)
    with Issuer(algorithms=tuple(GOALS)) as idp, ExitStack() as stack:
        tokens = {algorithm: mint(idp, count + 1, algorithm) for algorithm in GOALS}
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "fixture.json"
        save(path, issuer=idp.issuer, jwks_uri=idp.jwks_uri, jwks=idp.jwks, tokens=tokens)
        workers = {name: stack.enter_context(Worker(name, path)) for name in ("ours", *PEERS)}
        for algorithm, goal in GOALS.items():
            note(f"P1 {algorithm}")
            times: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for _ in range(rounds):
                for name, worker in workers.items():
                    if (name, algorithm) != ("mcpauth", "EdDSA"):  # it has no EdDSA
                        times[name].append(worker.measure("verify", algorithm=algorithm))
            raw, verified = zip(*times["ours"], strict=True)
            peers = {
                name: tuple(zip(*each, strict=True))
                for name, each in times.items()
                if name != "ours"
            }
            yield Row(
                "P1",
                f"verify a new {algorithm} token, as a multiple of the bare signature check"
                f" ({micros(raw)})",
                micros(verified),
                ", ".join(
                    f"{name} {micros(each[1])} = {median_ratio(each[1], each[0]):.2f}×"
                    for name, each in peers.items()
                ),
                spread(verified, raw) + "×",
                f"≤ {goal}×",
                median_ratio(verified, raw) <= goal,
            )


if __name__ == "__main__":
    main(measure)
