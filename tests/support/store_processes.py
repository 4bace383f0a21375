"""Other processes that work on a store: they race, they get killed, they all open it at once.

This module is also the program that they run. A parent and its child talk in lines.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from asgi_mcp_auth import DevLogin, OAuthProvider, ServerUnavailable
from asgi_mcp_auth.stores import Record, Store, store_from_url
from tests.support.engines import Place

ROOT = Path(__file__).parents[2]
CONTENDERS = 20

STAGES = (b"pending", b"used", None)
"""What becomes of each key of a process that will be killed: written, swapped, removed."""


class Child:
    """A process that runs one of the functions below on a place's store."""

    def __init__(self, place: Place, task: str, *arguments: object) -> None:
        settings = json.dumps([place.url, place.keys, task, *arguments])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.store_processes", settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def tell(self, line: str) -> None:
        """Send the child a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """Wait for a line of the child's."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the child died"
        return line.strip()

    def kill(self) -> None:
        """End it in the middle of whatever it does (SIGKILL)."""
        self.process.kill()
        assert self.process.wait(30) in (0, -signal.SIGKILL), "the child had died before"

    def rest(self) -> list[str]:
        """Return the complete lines that it printed and that were not read yet."""
        assert self.process.stdout is not None
        return [line.strip() for line in self.process.stdout if line.endswith("\n")]

    def close(self) -> None:
        """End it, if that has not happened yet."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


@contextmanager
def children(count: int, place: Place, task: str, *arguments: object) -> Iterator[Sequence[Child]]:
    """Start processes, wait until each is ready, and end them afterwards."""
    started = [Child(place, task, *arguments) for _ in range(count)]
    try:
        for child in started:
            assert child.hear() == "ready"
        yield started
    finally:
        for child in started:
            child.close()


def say(*words: object) -> None:
    """Send the parent a line."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def contend(store: Store) -> None:
    """Try, with 20 tasks for each line ``verb key``, to be the only one; answer with how many
    were.
    """
    verbs: dict[str, Callable[[str], Awaitable[object]]] = {
        "add": lambda key: store.add("race", key, b"1"),
        "take": lambda key: store.take("race", key),
    }
    say("ready")
    async for line in _lines():
        verb, key, *etag = line.split()
        if verb == "swap":
            calls = [
                store.swap("race", key, Record(b"", int(etag[0])), b"%d" % number)
                for number in range(CONTENDERS)
            ]
        else:
            calls = [verbs[verb](key) for _ in range(CONTENDERS)]
        say(sum(map(bool, await asyncio.gather(*calls))))


async def increment(store: Store, writers: int, times: int) -> None:
    """Count up with several tasks, when told to, and say when it is done."""

    async def write() -> None:
        for _ in range(times):
            while True:
                record = await store.get("count", "er")
                assert record is not None
                if await store.swap("count", "er", record, b"%d" % (int(record.value) + 1)):
                    break

    say("ready")
    async for _ in _lines():
        await asyncio.gather(*(write() for _ in range(writers)))
        say("done")


async def work(store: Store, name: str) -> None:
    """Take keys through their stages until killed, and say each time what the store
    acknowledged.
    """

    async def task(number: int) -> None:
        count = 0
        while True:
            key = f"{name}-{number}-{count}"
            count += 1
            # it is then unknown whether it happened; go on with another key
            with suppress(ServerUnavailable):
                await store.put("crash", key, b"pending", ttl=3600, group=name)
                say(key, 0)
                record = await store.get("crash", key)
                assert record is not None, f"{key} was acknowledged and is gone"
                assert await store.swap("crash", key, record, b"used", ttl=3600), (
                    f"{key} changed by itself"
                )
                say(key, 1)
                if count % 3 == 0:
                    assert await store.take("crash", key) == b"used", f"{key} was used and is not"
                    say(key, 2)
            await asyncio.sleep(0)

    say("ready")
    await asyncio.gather(*(task(number) for number in range(8)))


async def check(store: Store, lines: Sequence[str]) -> int:
    """Compare what a killed process was told with what there is now, and return how many keys it
    was about.

    Each key has the last stage that was acknowledged, or the one after that, which may have been on
    its way.
    """
    acknowledged: dict[str, int] = {}
    for line in lines:
        key, stage = line.split()
        acknowledged[key] = int(stage)
    for key, stage in acknowledged.items():
        record = await store.get("crash", key)
        value = None if record is None else record.value
        assert value in STAGES[stage : stage + 2], (
            f"{key}: {STAGES[stage]!r} was acknowledged, {value!r} is there"
        )
    return len(acknowledged)


def begin_at_once(processes: int, url: str, keys: Sequence[str]) -> list[str]:
    """Fork processes that start an authorization server at the same moment; return the ids of each
    one's keys.
    """
    reader, writer = os.pipe()
    codes = fork_at_once(processes, lambda _: _begin(url, keys, writer))
    os.close(writer)
    assert codes == [0] * processes
    with open(reader) as pipe:
        return [line.strip() for line in pipe]


async def _begin(url: str, keys: Sequence[str], writer: int) -> int:
    store = store_from_url(url, encryption_keys=keys)
    provider = OAuthProvider(base_url="http://localhost:8000", login=DevLogin(), store=store)
    async with provider:
        signing = (await provider._parts.signer.jwks())["keys"]
    os.write(writer, (" ".join(key["kid"] for key in signing) + "\n").encode())
    return 0


def open_at_once(processes: int, url: str, keys: Sequence[str]) -> list[int]:
    """Fork processes that open the store and write to it at the same moment; return how each of
    them ended.
    """
    return fork_at_once(processes, lambda number: _open_and_write(url, keys, number))


def fork_at_once(processes: int, work: Callable[[int], Coroutine[Any, Any, int]]) -> list[int]:
    """Fork processes that work at the same moment; return how each of them ended."""
    reader, writer = os.pipe()
    started = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)  # until the parent closes its end
            os._exit(asyncio.run(work(number)))
        started.append(child)
    os.close(reader)
    os.close(writer)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in started]


async def _open_and_write(url: str, keys: Sequence[str], number: int) -> int:
    store = store_from_url(url, encryption_keys=keys)
    await store.open()
    written = await store.add("opened", f"{number}", b"1")
    await store.aclose()
    return 0 if written else 1


async def _lines() -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        yield line


async def _run(url: str, keys: Sequence[str], task: str, arguments: Sequence[object]) -> None:
    store = store_from_url(url, encryption_keys=keys)
    await store.open()
    await {"contend": contend, "increment": increment, "work": work}[task](store, *arguments)
    await store.aclose()


if __name__ == "__main__":
    url, keys, task, *arguments = json.loads(sys.argv[1])
    if task in ("open", "begin"):
        say(json.dumps({"open": open_at_once, "begin": begin_at_once}[task](*arguments, url, keys)))
    else:
        asyncio.run(_run(url, keys, task, arguments))
