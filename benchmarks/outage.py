"""P6 to P9: what callers notice while the identity provider is slow, down, attacked through us, or
changing its keys.

Each contestant runs in a process of its own, and so does the identity provider that it talks to
over a loopback socket: its threads would hold up the event loop that is watched.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from typing import Any

from report import Row, main, millis, note
from workload import application, mint, request

from asgi_mcp_auth.testing import FrozenClock, Issuer

PEERS = ("FastMCP", "SDK + PyJWT", "mcpauth")
DEFAULT_COOLDOWN_SECONDS = {"ours": 5, "FastMCP": 30, "SDK + PyJWT": 30, "mcpauth": 30}
PATIENCE_SECONDS = 35.0

Build = Callable[..., Any]
Result = dict[str, Any]


class Provider(Issuer):
    """An issuer that is told what to do from another process."""

    def open(self) -> tuple[str, str]:
        """Start to serve; return the issuer and the URL of the key set."""
        self.__enter__()
        return self.issuer, self.jwks_uri

    def fetches(self) -> int:
        """Return how often the key set was asked for."""
        return self.hits["/jwks"]


class Providers(BaseManager):
    """Makes providers in a process beside this one."""


Providers.register("Provider", Provider)


async def status_of(app: Callable[..., Awaitable[None]], token: str) -> int:
    """Send one request and return the status of the answer."""
    answers: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answers.append(message["status"])

    await app(request(token), receive, send)
    return answers[0]


async def stampede(contestant: str, build: Build, make_provider: Callable[[], Any]) -> Result:
    """P6: 1,000 callers at once, and no key yet."""
    idp = make_provider()
    tokens = mint(idp, 1000)
    idp.delay("/jwks", 0.2)
    app = build(application, *idp.open(), "RS256").app
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before - 0.001)

    _forget_the_past()
    async with _background(watch()):
        await asyncio.sleep(0.05)
        longest = 0.0
        # A task for each caller, as servers do.
        statuses = Counter(
            await asyncio.gather(*(asyncio.create_task(status_of(app, token)) for token in tokens))
        )
        # so that a stall that everything else fitted into is seen as well
        await asyncio.sleep(0.05)
    return {"fetches": idp.fetches(), "accepted": statuses[200], "stall": longest}


async def outage(contestant: str, build: Build, make_provider: Callable[[], Any]) -> Result:
    """P7: the provider goes down, and then the lifetime of the keys ends."""
    idp = make_provider()
    first, *tokens = mint(idp, 201)
    clock = FrozenClock(at=time.time())
    settings: dict[str, Any] = {"ours": {"clock": clock}, "FastMCP": {}}.get(
        contestant, {"lifespan": 0.5}
    )
    stack = build(application, *idp.open(), "RS256", **settings)
    if contestant == "FastMCP":
        stack.verify.__self__._cache_ttl = 0.5  # an hour, and no setting for it
    assert await status_of(stack.app, first) == 200
    idp.fail("/jwks")
    known = idp.fetches()
    if contestant == "ours":
        # beyond the lifetime that the provider gave its keys, within the stale window
        clock.advance(23 * 3600)
    else:
        await asyncio.sleep(0.6)
    accepted = [await status_of(stack.app, token) for token in tokens[:100]].count(200)
    await asyncio.sleep(0.1)
    asked = idp.fetches() - known
    # beyond the longest lifetime (24 h) and the stale window (24 h) together
    clock.advance(26 * 3600)
    later = [await status_of(stack.app, token) for token in tokens[100:]].count(200)
    return {"accepted": accepted, "asked": asked, "later": later}


async def strangers(contestant: str, build: Build, make_provider: Callable[[], Any]) -> Result:
    """P8: 1,000 tokens with key ids that nobody published, valid ones between them; then again
    while fetches fail.
    """
    idp = make_provider()
    first, *valid = mint(idp, 201)
    unknown = [mint(idp, 1, header={"kid": f"unknown-{number}"})[0] for number in range(2000)]
    clock = FrozenClock(at=time.time())
    cooldown = 3.0
    settings: dict[str, Any] = {
        "ours": {"clock": clock},
        "FastMCP": {"jwks_refresh_interval": cooldown},
    }.get(contestant, {"cooldown_duration": cooldown})
    app = build(application, *idp.open(), "RS256", **settings).app
    assert await status_of(app, first) == 200
    fetches, latencies = [], []
    _forget_the_past()
    for failing in (False, True):
        if contestant == "ours":
            clock.advance(60)
        else:
            await asyncio.sleep(cooldown + 0.1)
        idp.delay("/jwks", 0.0 if failing else 0.2)
        if failing:
            idp.fail("/jwks")
        before, start = idp.fetches(), time.perf_counter()
        tasks, half = [], slice(100, 200) if failing else slice(0, 100)
        for turn, token in enumerate(valid[half]):
            due = start + turn * 0.01
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            for number in range(10):
                stranger = unknown[failing * 1000 + turn * 10 + number]
                tasks.append(asyncio.create_task(status_of(app, stranger)))
            latencies.append(asyncio.create_task(_latency(app, token, due)))
        refused = Counter(await asyncio.gather(*tasks))
        assert refused[200] == 0
        fetches.append(idp.fetches() - before)
    took = await asyncio.gather(*latencies)
    return {"fetches": fetches, "slowest": max(took), "median": statistics.median(took)}


async def _latency(app: Callable[..., Awaitable[None]], token: str, due: float) -> float:
    assert await status_of(app, token) == 200
    return time.perf_counter() - due  # since it should have begun: a blocked loop counts


async def rotation(contestant: str, build: Build, make_provider: Callable[[], Any]) -> Result:
    """P9: how long until a token signed with a new key is accepted, with default settings and in
    real time.
    """

    async def after_the_cooldown(idp: Any) -> float:
        app = await primed(idp)
        await asyncio.sleep(DEFAULT_COOLDOWN_SECONDS[contestant] + 0.5)
        idp.rotate()
        return await accepted_after(app, idp)

    async def during_the_cooldown(idp: Any) -> float:
        app = await primed(idp)
        idp.rotate()
        return await accepted_after(app, idp)

    async def failed_start(idp: Any) -> float:
        idp.fail("/jwks")
        app = build(application, *idp.open(), "RS256").app
        assert await status_of(app, mint(idp, 1)[0]) != 200
        idp.reset()
        return await accepted_after(app, idp)

    async def primed(idp: Any) -> Callable[..., Awaitable[None]]:
        app: Callable[..., Awaitable[None]] = build(application, *idp.open(), "RS256").app
        assert await status_of(app, mint(idp, 1)[0]) == 200
        return app

    async def accepted_after(app: Callable[..., Awaitable[None]], idp: Any) -> float:
        token, start = mint(idp, 1)[0], time.perf_counter()
        while time.perf_counter() - start < PATIENCE_SECONDS:
            if await status_of(app, token) == 200:
                break
            await asyncio.sleep(0.1)
        return time.perf_counter() - start

    passed, inside, start = await asyncio.gather(
        after_the_cooldown(make_provider()),
        during_the_cooldown(make_provider()),
        failed_start(make_provider()),
    )
    return {"passed": passed, "inside": inside, "start": start}


def _forget_the_past() -> None:
    # A full garbage collection looks at every imported module and takes 15 ms wherever it happens
    # to fall.
    gc.collect()
    gc.freeze()


@contextlib.asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()


def measure(quick: bool) -> Iterator[Row]:
    """Run each scenario for each contestant."""
    everybody = ("ours", *PEERS)
    yield _first_requests(
        [{name: _run(name, "stampede") for name in everybody} for _ in range(1 if quick else 5)]
    )
    yield _down({name: _run(name, "outage") for name in everybody})
    yield from _unknown_keys(
        [{name: _run(name, "strangers") for name in everybody} for _ in range(1 if quick else 3)]
    )
    started = {name: _start(name, "rotation") for name in everybody}
    yield from _new_keys({name: _result(process) for name, process in started.items()})


def _start(contestant: str, scenario: str) -> subprocess.Popen[str]:
    note(f"P6–P9 {scenario}: {contestant}")
    command = [sys.executable, __file__, "--scenario", scenario, contestant]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _result(process: subprocess.Popen[str]) -> Result:
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"{process.args} failed")
    result: Result = json.loads(output)
    return result


def _run(contestant: str, scenario: str) -> Result:
    return _result(_start(contestant, scenario))


def _first_requests(runs: Sequence[dict[str, Result]]) -> Row:
    def text(name: str) -> str:
        fetches = sorted({run[name]["fetches"] for run in runs})
        accepted = min(run[name]["accepted"] for run in runs)
        return (
            f"{'/'.join(map(str, fetches))} fetch, {accepted:,} accepted, stall"
            f" {millis(stall(name))}"
        )

    def stall(name: str) -> float:
        return statistics.median(run[name]["stall"] for run in runs)

    return Row(
        "P6",
        "1,000 first requests at once, the key set answers after 200 ms",
        text("ours"),
        "; ".join(f"{name} {text(name)}" for name in PEERS),
        f"{stall('ours') / stall('FastMCP'):.2f}× FastMCP's stall",
        "1 fetch, nobody refused, longest stall of the loop ≤ 50 ms",
        all(run["ours"]["fetches"] == 1 and run["ours"]["accepted"] == 1000 for run in runs)
        and stall("ours") <= 0.05,
    )


def _down(results: dict[str, Result]) -> Row:
    ours = results["ours"]
    assert ours["asked"], "the lifetime has not ended: nothing was measured"
    return Row(
        "P7",
        "provider down, lifetime of the keys over: valid tokens accepted",
        f"{ours['accepted']} of 100; after the stale window {ours['later']}",
        ", ".join(f"{name} {results[name]['accepted']}" for name in PEERS),
        "–",
        "100 of 100, within a bounded window",
        ours["accepted"] == 100 and ours["later"] == 0,
    )


def _unknown_keys(runs: Sequence[dict[str, Result]]) -> Iterator[Row]:
    for index, (held, limit) in enumerate((("succeed", 2), ("fail", 1))):
        most = {name: max(run[name]["fetches"][index] for run in runs) for name in runs[0]}
        yield Row(
            "P8",
            f"1,000 tokens with unknown key ids within one cooldown, fetches {held}",
            _fetches(most["ours"]),
            ", ".join(f"{name} {most[name]}" for name in PEERS),
            "–",
            f"≤ {_fetches(limit)}",
            most["ours"] <= limit,
        )
    slowest, usual = (
        {name: statistics.median(run[name][which] for run in runs) for name in runs[0]}
        for which in ("slowest", "median")
    )
    yield Row(
        "P8",
        "the slowest of 200 valid requests meanwhile (the median one)",
        f"{millis(slowest['ours'])} ({millis(usual['ours'])})",
        ", ".join(f"{name} {millis(slowest[name])} ({millis(usual[name])})" for name in PEERS),
        f"{slowest['ours'] / slowest['FastMCP']:.2f}× FastMCP's",
        "≤ 5 ms",
        slowest["ours"] <= 0.005,
    )


def _new_keys(results: dict[str, Result]) -> Iterator[Row]:
    for case, what, goal, limit in (
        (
            "passed",
            "a rotated key is accepted, last fetch longer ago than the cooldown",
            "at once",
            0.25,
        ),
        (
            "inside",
            "a rotated key is accepted, last fetch a moment ago",
            "at once",
            0.25,
        ),
        ("start", "first token accepted after a failed start", "≤ 1.5 s", 1.5),
    ):
        yield Row(
            "P9",
            what,
            f"{results['ours'][case]:.1f} s",
            ", ".join(f"{name} {_seconds(results[name][case])}" for name in PEERS),
            "–",
            goal,
            results["ours"][case] <= limit,
        )


def _fetches(count: int) -> str:
    return f"{count} fetch" if count == 1 else f"{count} fetches"


def _seconds(value: float) -> str:
    return f"> {PATIENCE_SECONDS:.0f} s" if value >= PATIENCE_SECONDS else f"{value:.1f} s"


def _play(scenario: str, contestant: str) -> None:
    from stacks import STACKS

    logging.disable(logging.CRITICAL)
    scenarios = {
        "stampede": stampede,
        "outage": outage,
        "strangers": strangers,
        "rotation": rotation,
    }
    with Providers(ctx=get_context("spawn")) as providers:
        print(
            json.dumps(
                asyncio.run(scenarios[scenario](contestant, STACKS[contestant], providers.Provider))
            )
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--scenario"]:
        _play(sys.argv[2], sys.argv[3])
    else:
        main(measure)
