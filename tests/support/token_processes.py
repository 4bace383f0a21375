"""Other processes that run an authorization server on a store: they race for codes, and get killed
while they work.

This module is also the program that they run. A parent and its child talk in lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from asgi_mcp_auth.stores import store_from_url
from tests.support.authorization_server import Server, deploy
from tests.support.engines import Place

ROOT = Path(__file__).parents[2]
CONTENDERS = 20


class Contender:
    """A process with servers of its own, one on each store that it is sent to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.token_processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def tell(self, place: Place, *requests: dict[str, Any]) -> None:
        """Have it send requests, each to a path, all at once, to its server on this store."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([place.url, place.keys, requests]) + "\n")
        self.process.stdin.flush()

    def work(self, place: Place, jobs: Sequence[dict[str, str]]) -> None:
        """Have it redeem, refresh and revoke, one job after the other, until it is killed; it says
        what it was told.

        Args:
            place: where.
            jobs: codes, each with its ``client_id`` and ``code_verifier``.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([place.url, place.keys, {"jobs": jobs}]) + "\n")
        self.process.stdin.flush()

    def rest(self) -> list[Any]:
        """Return what it has said in whole lines before it was killed."""
        assert self.process.stdout is not None
        return [json.loads(line) for line in self.process.stdout if line.endswith("\n")]

    def hear(self) -> Any:
        """Wait for what it says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the contender died"
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def contenders(count: int) -> Iterator[Sequence[Contender]]:
    """Start processes, and end them afterwards."""
    started = [Contender() for _ in range(count)]
    try:
        yield started
    finally:
        for each in started:
            each.close()


def race(
    racers: Sequence[Contender], place: Place, *requests: dict[str, Any]
) -> list[tuple[int, dict[str, Any]]]:
    """Have each process send all of ``requests`` at once, and return the statuses and documents of
    all answers.
    """
    for racer in racers:
        racer.tell(place, *requests)
    return [(status, document) for racer in racers for status, document in racer.hear()]


async def _run() -> None:
    servers: dict[str, Server] = {}
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            url, keys, requests = json.loads(line)
            if url not in servers:
                store = store_from_url(url, encryption_keys=keys)
                entering = deploy(store=store, clock=time)  # type: ignore[arg-type]  # the real clock
                servers[url] = await stack.enter_async_context(entering)
            if isinstance(requests, dict):
                workers = [_work(servers[url], requests["jobs"][number::8]) for number in range(8)]
                await asyncio.gather(*workers)
                continue
            call = servers[url].call
            answers = await asyncio.gather(
                *(call("POST", each["path"], form=each["form"]) for each in requests)
            )
            _say([(answer.status, answer.json() if answer.body else {}) for answer in answers])


async def _work(server: Server, jobs: Sequence[dict[str, str]]) -> None:
    for job in jobs:
        client = {"client_id": job["client_id"]}
        metadata = {
            "redirect_uris": ["https://app.example.com/callback"],
            "token_endpoint_auth_method": "none",
        }
        registered = (await server.call("POST", "/register", document=metadata)).json()
        _say([job["code"], "registered", registered])
        tokens = (await server.token(grant_type="authorization_code", **job)).json()
        _say([job["code"], "redeemed", tokens])
        form = {**client, "grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        refreshed = (await server.token(**form)).json()
        _say([job["code"], "refreshed", refreshed])
        revoked = await server.call(
            "POST", "/revoke", form={**client, "token": refreshed["refresh_token"]}
        )
        _say([job["code"], "revoked", revoked.status])


def _say(words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_run())
