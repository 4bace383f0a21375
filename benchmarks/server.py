"""P5: requests per second of a real server, uvicorn with one worker, under wrk."""

from __future__ import annotations

import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from report import Row, main, median_ratio, millis, note, spread
from workload import MCP_PATH, application, mint, save

from asgi_mcp_auth.testing import Issuer

CONTESTANTS = ("bare", "ours", "FastMCP", "SDK + PyJWT", "mcpauth")
CONNECTIONS = 32
# more than the token cache holds, in a fixed order: none is there any more when its turn comes
# again
DISTINCT = 25_000
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}

# One request for each token, made before the clock starts.
SCRIPT = """
local requests, turn = {}, 0
local body = '{"jsonrpc":"2.0","id":1,"method":"tools/call",'
  .. '"params":{"name":"echo","arguments":{"text":"hello"}}}'
function init(args)
  for token in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", "%s", {
      ["authorization"] = "Bearer " .. token, ["content-type"] = "application/json",
      ["accept"] = "application/json, text/event-stream", ["user-agent"] = "python-httpx/0.28.1",
      ["accept-encoding"] = "gzip, deflate", ["mcp-protocol-version"] = "2025-11-25",
      ["mcp-session-id"] = "3f0c1f6c9d7a4c1e8f6b2a4d5e6f7a8b" }, body)
  end
end
function request()
  turn = turn %% #requests + 1
  return requests[turn]
end
"""


class Server:
    """One contestant behind uvicorn, in a process of its own."""

    def __init__(self, contestant: str, fixture: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", contestant, str(fixture)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}{MCP_PATH}"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def load(self, seconds: int, script: Path, tokens: Path) -> tuple[float, float]:
        """Return requests per second and the 99th percentile of the latency in seconds."""
        command = [
            "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{seconds}s",
            "--latency",
            "-s",
            str(script),
            self.url,
            "--",
            str(tokens),
        ]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "Non-2xx" not in text, text
        assert "Socket errors" not in text, text
        rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
        slowest = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
        assert rate is not None, text
        assert slowest is not None, text
        return float(rate[1]), float(slowest[1]) * UNITS[slowest[2]]


def measure(quick: bool) -> Iterator[Row]:
    """Put the same load on one server after the other, round after round; the others are idle
    meanwhile.
    """
    if shutil.which("wrk") is None:
        yield Row(
            "P5",
            "requests/s under wrk",
            "",
            "",
            "skipped: wrk is not installed (apt install wrk)",
            "",
            None,
        )
        return
    rounds, seconds = (2, 2) if quick else (7, 4)
    with Issuer() as idp, ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        script, warm, distinct = folder / "load.lua", folder / "warm.txt", folder / "distinct.txt"
        script.write_text(SCRIPT % MCP_PATH)
        note(f"P5: minting {DISTINCT:,} tokens")
        tokens = mint(idp, DISTINCT)
        warm.write_text(tokens[0] + "\n")
        distinct.write_text("\n".join(tokens) + "\n")
        fixture = save(folder / "fixture.json", issuer=idp.issuer, jwks_uri=idp.jwks_uri)
        servers = {name: stack.enter_context(Server(name, fixture)) for name in CONTESTANTS}
        for server in servers.values():
            server.load(1, script, warm)
        for tokens_file in (warm, distinct):
            note(f"P5 {tokens_file.stem}")
            results: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for _ in range(rounds):
                for name, server in servers.items():
                    results[name].append(server.load(seconds, script, tokens_file))
            rates = {name: [rate for rate, _ in each] for name, each in results.items()}
            slowest = {name: [latency for _, latency in each] for name, each in results.items()}
            yield from (_warm(rates) if tokens_file is warm else _distinct(rates, slowest))


def _rates(rates: dict[str, list[float]]) -> str:
    return ", ".join(
        f"{name} {statistics.median(each):,.0f}/s" for name, each in rates.items() if name != "ours"
    )


def _warm(rates: dict[str, list[float]]) -> Iterator[Row]:
    yield Row(
        "P5",
        "uvicorn under wrk, one warm token",
        f"{statistics.median(rates['ours']):,.0f}/s",
        _rates(rates),
        f"{spread(rates['ours'], rates['bare'])} of the bare app; "
        f"FastMCP {median_ratio(rates['FastMCP'], rates['bare']):.2f}",
        "≥ 0.90",
        median_ratio(rates["ours"], rates["bare"]) >= 0.90,
    )


def _distinct(rates: dict[str, list[float]], slowest: dict[str, list[float]]) -> Iterator[Row]:
    yield Row(
        "P5",
        "uvicorn under wrk, every token new",
        f"{statistics.median(rates['ours']):,.0f}/s",
        _rates(rates),
        f"{spread(rates['ours'], rates['FastMCP'])}× FastMCP",
        "≥ 2.8×",
        median_ratio(rates["ours"], rates["FastMCP"]) >= 2.8,
    )
    yield Row(
        "P5",
        f"the same, 99th percentile of the latency with {CONNECTIONS} connections",
        millis(statistics.median(slowest["ours"])),
        ", ".join(
            f"{name} {millis(statistics.median(each))}"
            for name, each in slowest.items()
            if name != "ours"
        ),
        f"{spread(slowest['ours'], slowest['FastMCP'])}× FastMCP's",
        "≤ 0.4×",
        median_ratio(slowest["ours"], slowest["FastMCP"]) <= 0.4,
    )


def _serve(contestant: str, fixture: dict[str, Any]) -> None:
    import uvicorn
    from stacks import STACKS

    app: Any = application
    if contestant != "bare":
        app = STACKS[contestant](application, fixture["issuer"], fixture["jwks_uri"], "RS256").app
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)  # from here on a client that comes too early waits
        print(listener.getsockname()[1], flush=True)
        # Without lifespan: the SDK's middleware would answer it with 401, and the bare app has
        # none.
        uvicorn.Server(
            uvicorn.Config(app, lifespan="off", access_log=False, log_level="warning")
        ).run([listener])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        _serve(sys.argv[2], json.loads(Path(sys.argv[3]).read_text()))
    else:
        main(measure)
