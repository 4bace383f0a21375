"""A flood of everything at once, with an honest user beside it (``make soak``).

The settings are the defaults. One client calls with a token all the time, and others sign in one
after the other, from registering to the call. Their times are compared with those before the
flood. A quiet machine of two cores or more is needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.engines import free_port
from tests.support.flood import REDIRECT_URI, Answer, Connection, authorization_query, hidden_field
from tests.support.flood_server import PASSWORD, PERSON

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8, and /proc"),
]

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support"
SECONDS = int(os.environ.get("FLOOD_SECONDS", "60"))
QUIET_SECONDS = max(10, SECONDS // 3)
PROCESSES = 2
MEBIBYTE = 1 << 20
CALL_GOAL, SIGN_IN_GOAL, STALL_GOAL = 10, 4, 0.1
JOURNAL_BYTES = 4 * MEBIBYTE  # SQLite's journal stays as large as it once was, up to this
MEMORY_GOAL, DATABASE_GOAL = 32 * MEBIBYTE, 16 * MEBIBYTE


@dataclass
class Measured:
    """What an honest user has seen for a while, and what the server has."""

    calls: list[float] = field(default_factory=list)
    sign_ins: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    state: Mapping[str, float] = field(default_factory=dict)

    def call(self) -> float:
        return statistics.median(self.calls)

    def sign_in(self) -> float:
        return statistics.median(self.sign_ins)


class Refused(Exception):
    """Something honest was not let through."""


class HonestUsers:
    """People with an application and a browser, each at an address of their own: one calls, others
    come to sign in.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._token = ""
        self._address = "127.200.0.1"
        self._signed_in = 0

    async def stay(self, seconds: float) -> Measured:
        """Call and sign in for some time."""
        measured = Measured()
        if not self._token:
            connection = self._newcomer()
            await self.sign_in(connection)
            connection.close()
        ends_at = time.monotonic() + seconds
        await asyncio.gather(
            self._call_until(ends_at, measured), self._sign_in_until(ends_at, measured)
        )
        return measured

    async def _call_until(self, ends_at: float, measured: Measured) -> None:
        connection = Connection(self._port, self._address)
        while time.monotonic() < ends_at:
            started = time.perf_counter()
            answer = await connection.send(
                "POST", "/mcp", {"Authorization": f"Bearer {self._token}"}
            )
            measured.calls.append(time.perf_counter() - started)
            if answer.status != 200:
                measured.refused.append(f"a call: {answer.status} {answer.body.decode()[:200]}")
            await asyncio.sleep(0.01)
        connection.close()

    async def _sign_in_until(self, ends_at: float, measured: Measured) -> None:
        while time.monotonic() < ends_at:
            started = time.perf_counter()
            connection = self._newcomer()
            try:
                await self.sign_in(connection)
            except Refused as refusal:
                measured.refused.append(str(refusal))
            finally:
                connection.close()
            measured.sign_ins.append(time.perf_counter() - started)
            await asyncio.sleep(max(0.0, started + 1 - time.perf_counter()))

    def _newcomer(self) -> Connection:
        self._signed_in += 1
        return Connection(self._port, f"127.200.1.{1 + self._signed_in % 250}")

    async def sign_in(self, connection: Connection) -> None:
        """Register, authorize, sign in, consent, redeem, call."""
        cookies: dict[str, str] = {}
        verifier = secrets.token_urlsafe(48)
        challenge = (
            urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        )

        async def open_page(answer: Answer) -> Answer:
            target = "/" + answer.headers["location"].split("/", 3)[3]
            return expect(200, "a page", keep(await connection.send("GET", target, browser())))

        async def fill_in(path: str, page: Answer, **fields: str) -> Answer:
            hidden = {name: hidden_field(page.body, name) for name in ("transaction", "csrf")}
            return expect(
                303, path, keep(await connection.send_form(path, {**hidden, **fields}, browser()))
            )

        def browser() -> Mapping[str, str]:
            return {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}

        def keep(answer: Answer) -> Answer:
            name, _, value = answer.headers.get("set-cookie", "").partition(";")[0].partition("=")
            cookies[name] = value
            return answer

        document = {
            "redirect_uris": [REDIRECT_URI],
            "client_name": "Honest",
            "token_endpoint_auth_method": "none",
        }
        answer = expect(201, "/register", await connection.send_document("/register", document))
        client_id = json.loads(answer.body)["client_id"]
        query = authorization_query(client_id, code_challenge=challenge)
        answer = expect(
            303, "/authorize", keep(await connection.send("GET", f"/authorize?{query}"))
        )
        answer = await fill_in(
            "/login", await open_page(answer), username=PERSON, password=PASSWORD
        )
        answer = await fill_in("/consent", await open_page(answer), action="approve")
        (code,) = parse_qs(urlsplit(answer.headers["location"]).query)["code"]
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "client_id": client_id,
        }
        answer = expect(
            200,
            "/token",
            await connection.send_form("/token", {**form, "redirect_uri": REDIRECT_URI}),
        )
        token = json.loads(answer.body)["access_token"]
        expect(
            200, "/mcp", await connection.send("POST", "/mcp", {"Authorization": f"Bearer {token}"})
        )
        self._token = token


def expect(status: int, what: str, answer: Answer) -> Answer:
    if answer.status != status:
        raise Refused(f"{what}: {answer.status} {answer.body.decode()[-150:]!r}")
    return answer


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """Run the server; yield its port."""
    port = free_port()
    command = [sys.executable, "-P", str(SUPPORT / "flood_server.py"), str(port), str(folder)]
    process = subprocess.Popen(command, cwd=folder)
    try:
        deadline = time.monotonic() + 40
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, "the server does not listen"
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def state_of(port: int) -> Mapping[str, float]:
    """Return what the server says of itself since it was asked last."""
    connection = Connection(port, "127.200.0.2")
    state: dict[str, float] = json.loads((await connection.send("GET", "/_state")).body)
    connection.close()
    return state


async def flood(port: int, addresses: int, user: HonestUsers) -> tuple[Measured, dict[str, int]]:
    """Let the flood come; return what the user saw and what the flood was answered."""
    command = [
        sys.executable,
        "-P",
        str(SUPPORT / "flood.py"),
        str(port),
        str(max(1, addresses // PROCESSES)),
    ]
    each = [
        [*command, str(number if addresses > 1 else 0), str(SECONDS + 3)]
        for number in range(PROCESSES)
    ]
    pipe = asyncio.subprocess.PIPE
    started = [
        await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=ROOT)
        for command in each
    ]
    for process in started:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    await asyncio.sleep(3)
    await state_of(port)
    measured = await user.stay(SECONDS)
    measured.state = await state_of(port)
    answers: dict[str, int] = {}
    for process in started:
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        for name, number in json.loads(output).items():
            answers[name] = answers.get(name, 0) + number
    return measured, answers


async def given_back(port: int, size: float) -> float:
    """Let a day pass, and return the size of the database when it does not shrink any more, or is
    ``size``.
    """
    connection = Connection(port, "127.200.0.3")
    await connection.send("POST", "/_later")
    found = (await state_of(port))["database"]
    deadline = time.monotonic() + 60
    while found > size and time.monotonic() < deadline:
        for number in range(40):  # each is a chance to sweep
            sweeper = Connection(port, f"127.201.0.{1 + number}")
            await sweeper.send("GET", "/consent")  # answers without keeping anything
            sweeper.close()
        found = (await state_of(port))["database"]
    connection.close()
    return found


@pytest.mark.asyncio
@pytest.mark.parametrize("addresses", [1, 400])
async def test_an_honest_user_gets_on_beside_a_flood_of_everything(
    addresses: int, tmp_path: Path
) -> None:
    with server(tmp_path) as port:
        user = HonestUsers(port)
        await user.stay(5)
        await state_of(port)
        before = await user.stay(QUIET_SECONDS)
        before.state = await state_of(port)
        during, answers = await flood(port, addresses, user)
        await asyncio.sleep(12)  # what waits for dead name servers gives up
        await state_of(port)
        after = await user.stay(QUIET_SECONDS)
        after.state = await state_of(port)
        grown = during.state["database"] - before.state["database"]
        left = (
            await given_back(port, before.state["database"] + MEBIBYTE) - before.state["database"]
        )
    report(addresses, before, during, after, answers, grown, left)
    assert before.refused == during.refused == after.refused == []
    assert left <= JOURNAL_BYTES
    assert after.state["resident"] - before.state["resident"] <= MEMORY_GOAL
    assert grown <= DATABASE_GOAL
    assert during.call() <= CALL_GOAL * before.call()
    assert during.sign_in() <= SIGN_IN_GOAL * before.sign_in()
    assert during.state["stall"] <= STALL_GOAL


def report(
    addresses: int,
    before: Measured,
    during: Measured,
    after: Measured,
    answers: Mapping[str, int],
    grown: float,
    left: float,
) -> None:
    """Print before and during side by side, for the threat model."""

    def tell(text: str) -> None:
        sys.stdout.write(f"{text}\n")

    def row(what: str, *cells: str) -> None:
        tell(f"| {' | '.join((what, *cells))} |")

    three = (before, during, after)
    seconds = SECONDS + 3
    tell(
        f"\n{sum(answers.values()) / seconds:,.0f} requests a second from {addresses} address(es):"
    )
    tell(", ".join(f"{name}: {number}" for name, number in sorted(answers.items())))
    cpu = (during.state["cpu"] - before.state["cpu"]) / seconds
    loop_cpu = (during.state["loop_cpu"] - before.state["loop_cpu"]) / seconds
    tell(f"{cpu:.2f} cores of the server, {loop_cpu:.2f} of them its event loop")
    row("", "before", "during", "after", "goal")
    row("---", "---", "---", "---", "---")
    ratio = during.call() / before.call()
    row(
        "call, p50",
        *(f"{each.call() * 1000:.1f} ms" for each in three),
        f"{ratio:.1f}× of ≤ {CALL_GOAL}×",
    )
    ratio = during.sign_in() / before.sign_in()
    row(
        "sign-in, p50",
        *(f"{each.sign_in() * 1000:.0f} ms" for each in three),
        f"{ratio:.1f}× of ≤ {SIGN_IN_GOAL}×",
    )
    row("honest requests refused", *(str(len(each.refused)) for each in three), "0")
    for refusal in [refusal for each in three for refusal in each.refused][:5]:
        tell(f"    {refusal}")
    row(
        "longest stall",
        *(f"{each.state['stall'] * 1000:.0f} ms" for each in three),
        f"≤ {STALL_GOAL * 1000:.0f} ms",
    )
    row(
        "of it CPU time of the loop",
        *(f"{each.state['stall_cpu'] * 1000:.0f} ms" for each in three),
        "",
    )
    row("memory", *(f"{each.state['resident'] / MEBIBYTE:.0f} MiB" for each in three), "back")
    row(
        "database",
        *(f"{each.state['database'] / MEBIBYTE:.1f} MiB" for each in three),
        f"+{grown / MEBIBYTE:.1f} MiB",
    )
    row("database, a day later", "", "", f"+{left / MEBIBYTE:.1f} MiB", "given back")
    row("threads", *(f"{each.state['threads']:.0f}" for each in three), "")
