"""P12 and P13: what a sign-in costs, in memory and on disk; what requests cost with our own
server's tokens.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from report import Row, main, median_ratio, micros, millis, note, spread
from worker import CHUNK, Worker, time_requests
from workload import BASE_URL, MCP_PATH, REQUIRED_SCOPES, application, request

RESULTS = Path(__file__).parent / "results"
CLIENTS = 32  # that sign in at the same time
PAGES = "pages"  # the browser is new, the client too: sign-in, consent
NO_PAGES = "no pages"  # the person is signed in and has allowed the client
REPEATED = {"warm": "token seen before", "fresh": "new ES256 token"}


def measure(quick: bool) -> Iterator[Row]:
    """Ask one worker after the other, round after round."""
    rounds, count, sign_ins = (3, 100, 300) if quick else (15, 300, 1500)
    RESULTS.mkdir(exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=RESULTS)))
        workers = {
            name: stack.enter_context(Worker(name, folder, __file__))
            for name in ("ours", "FastMCP")
        }
        yield from _in_memory(workers, rounds, count)
        yield from _own_tokens(workers["ours"], rounds, count)
        yield from _on_disk(workers["ours"], max(3, rounds // 3), sign_ins)


def _in_memory(workers: Mapping[str, Worker], rounds: int, count: int) -> Iterator[Row]:
    note("P12")
    costs: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, worker in workers.items():
            (cost,) = worker.ask(task=NO_PAGES, count=count)
            costs[name].append(cost)
        (cost,) = workers["ours"].ask(task=PAGES, count=count)
        costs[PAGES].append(cost)
        (cost,) = workers["ours"].ask(task="signature", count=count)
        costs["signature"].append(cost)
    peer = (
        f"FastMCP {micros(costs['FastMCP'])}: never any page, random tokens, nothing signed or"
        " encrypted"
    )
    yield Row(
        "P12",
        "server time of register → authorize → token → call, memory store, encrypted; the person is"
        " signed in and has allowed the client, so there is no page",
        micros(costs["ours"]),
        peer,
        f"{spread(costs['FastMCP'], costs['ours'])}× as fast as FastMCP",
        "≥ 2×",
        median_ratio(costs["FastMCP"], costs["ours"]) >= 2,
    )
    yield Row(
        "P12",
        "the same for a new client in a new browser: with the pages to sign in (no password to"
        " hash) and to consent, 8 requests in all",
        micros(costs[PAGES]),
        peer,
        f"{spread(costs['FastMCP'], costs[PAGES])}× as fast as FastMCP",
        "",
        None,
    )
    yield Row(
        "P12",
        "of this, the bare ES256 signature of the token and its check",
        micros(costs["signature"]),
        "",
        f"{spread(costs['signature'], costs['FastMCP'])}× all of FastMCP's",
        "",
        None,
    )


def _own_tokens(worker: Worker, rounds: int, count: int) -> Iterator[Row]:
    for task, what in REPEATED.items():
        note(f"own tokens, {task}")
        answers = [worker.ask(task=task, count=count) for _ in range(rounds)]
        plain, ours = ([each[place] - each[0] for each in answers] for place in (1, 2))
        look = (
            "; its grant was looked at less than 5 s ago"
            if task == "warm"
            else "; its grant is looked up"
        )
        yield Row(
            "P2" if task == "warm" else "P3",
            f"cost added to a request by OAuthProvider, {what}{look}",
            micros(ours),
            f"JWTVerifier, the same tokens {micros(plain)}",
            f"{spread(ours, plain)}× JWTVerifier's",
            "",
            None,
        )


def _on_disk(worker: Worker, rounds: int, count: int) -> Iterator[Row]:
    note("P13")
    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for task in (PAGES, NO_PAGES):
            (rate,) = worker.ask(task=f"disk, {task}", count=count)
            rates[task].append(rate)
    rate = statistics.median(rates[PAGES])
    yield Row(
        "P13",
        "complete sign-ins a second (register, authorize, sign in, consent, token, call: 8"
        " requests), sqlite store with synchronous=FULL, rate limits as they are by default; one"
        f" process with {CLIENTS} clients in it, no HTTP",
        f"{rate:,.0f}/s",
        f"writing 4 KiB to this disk, fdatasync: {millis(_seconds_of_a_write())}",
        "–",
        "≥ 300/s",
        rate >= 300,
    )
    yield Row(
        "P13",
        "the same without pages, 4 requests",
        f"{statistics.median(rates[NO_PAGES]):,.0f}/s",
        "",
        "–",
        "",
        None,
    )


def _seconds_of_a_write(count: int = 200) -> float:
    with tempfile.NamedTemporaryFile(dir=RESULTS, buffering=0) as file:
        started = time.perf_counter()
        for _ in range(count):
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
        return (time.perf_counter() - started) / count


# ----------------------------------------------------------------------------- the worker's process


async def _sign_in(contestant: str, task: str, count: int) -> float:
    """Return the nanoseconds of CPU time that the server takes for one sign-in."""
    from issuers import ISSUERS
    from visitor import Visitor

    async with ISSUERS[contestant]() as app:
        regular = Visitor(app)
        known = await regular.sign_in() if contestant == "ours" else None
        before = regular.nanoseconds
        total = 0
        for _ in range(count):
            if task == NO_PAGES:
                await regular.sign_in_without_pages(known)
            else:
                new = Visitor(app)
                await new.sign_in()
                total += new.nanoseconds
        return (regular.nanoseconds - before + total) / count


def _signature(count: int) -> float:
    """Return the nanoseconds of CPU time that a signature of ``cryptography`` and its check
    take.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    key, algorithm, text = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(SHA256()), bytes(400)
    public = key.public_key()
    started = time.thread_time_ns()
    for _ in range(count):
        public.verify(key.sign(text, algorithm), text, algorithm)
    return (time.thread_time_ns() - started) / count


async def _requests(task: str, count: int) -> list[float]:
    """Return the nanoseconds that a request takes: bare, with ``JWTVerifier``, with
    ``OAuthProvider``.
    """
    from issuers import SERVICE, provider
    from visitor import Visitor

    from asgi_mcp_auth import JWTVerifier, MCPAuthMiddleware, RemoteAuthProvider

    server = provider(rate_limits=None)
    ours = MCPAuthMiddleware(application, server, mcp_path=MCP_PATH)
    async with server:
        client = Visitor(ours)
        tokens = [
            await client.token_for_client(SERVICE["client_id"], SERVICE["client_secret"])
            for _ in range(count)
        ]
        if task == "warm":
            tokens = tokens[:1] * count
        keys = await server._server.signer.jwks()
        verifier = JWTVerifier(public_key=keys, issuer=BASE_URL, required_scopes=REQUIRED_SCOPES)
        plain = MCPAuthMiddleware(
            application,
            RemoteAuthProvider(verifier, authorization_servers=[BASE_URL], base_url=BASE_URL),
            mcp_path=MCP_PATH,
        )
        apps = (application, plain, ours)
        if task == "warm":
            for app in apps:
                await time_requests(app, [request(tokens[0])], 200)
        spent = [0, 0, 0]
        for start in range(0, count, CHUNK):
            scopes = [request(token) for token in tokens[start : start + CHUNK]]
            for place, app in enumerate(apps):
                spent[place] += await time_requests(app, scopes, 200)
    return [each / count for each in spent]


async def _on_this_disk(folder: Path, task: str, count: int) -> float:
    """Return how many sign-ins a second are done, each from an address of its own, because of the
    rate limits.
    """
    from issuers import ours
    from visitor import Visitor

    with tempfile.TemporaryDirectory(dir=folder) as place:
        async with ours(f"sqlite:///{place}/auth.db") as app:
            numbers = iter(range(count))

            async def work(first: Visitor, known: str) -> None:
                for number in numbers:
                    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
                    if task == NO_PAGES:
                        await first.at(address).sign_in_without_pages(known)
                    else:
                        await Visitor(app, address).sign_in()

            people = [Visitor(app, f"192.0.2.{number}") for number in range(CLIENTS)]
            known = [await person.sign_in() for person in people]
            started = time.perf_counter()
            await asyncio.gather(*map(work, people, known))
            return count / (time.perf_counter() - started)


def _serve(contestant: str, folder: Path) -> None:
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        command = json.loads(line)
        task, count = command["task"], command["count"]
        answer: Sequence[float]
        if task == "signature":
            answer = [_signature(count)]
        elif task in REPEATED:
            answer = asyncio.run(_requests(task, count))
        elif task.startswith("disk, "):
            answer = [asyncio.run(_on_this_disk(folder, task.removeprefix("disk, "), count))]
        else:
            answer = [asyncio.run(_sign_in(contestant, task, count))]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] in (["ours"], ["FastMCP"]):
        _serve(sys.argv[1], Path(sys.argv[2]))
    else:
        main(measure)
