"""P11: the CPU time of importing, each time in a new interpreter."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator

from report import Row, main, median_ratio, note, spread

IMPORTS = {
    "ours": "import asgi_mcp_auth; asgi_mcp_auth.MCPAuthMiddleware, asgi_mcp_auth.JWTVerifier",
    "FastMCP's auth stack": (
        "from fastmcp.server.auth import RemoteAuthProvider\n"
        "from fastmcp.server.auth.providers.jwt import JWTVerifier"
    ),
    "the SDK's + PyJWT": (
        "import jwt\nfrom mcp.server.auth.middleware import auth_context, bearer_auth\n"
        "from starlette.middleware import authentication"
    ),
    "mcpauth": "import mcpauth",
}
TIMER = (
    "import time, sys\nstart = time.process_time()\n{}\nprint(time.process_time() - start, 'httpx'"
    " in sys.modules)"
)


def measure(quick: bool) -> Iterator[Row]:
    """Import one after the other, round after round; the first round only fills the disk cache."""
    note("P11")
    seconds: dict[str, list[float]] = defaultdict(list)
    loads_httpx = False
    for turn in range(4 if quick else 12):
        for name, statement in IMPORTS.items():
            command = [sys.executable, "-c", TIMER.format(statement)]
            took, httpx = subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.split()
            if turn:
                seconds[name].append(float(took))
            loads_httpx |= name == "ours" and httpx == "True"
    theirs = seconds["FastMCP's auth stack"]
    yield Row(
        "P11",
        "`import asgi_mcp_auth`, CPU time"
        + (" (it loads httpx)" if loads_httpx else ", httpx not loaded"),
        f"{statistics.median(seconds['ours']) * 1000:.0f} ms",
        ", ".join(
            f"{name} {statistics.median(each) * 1000:,.0f} ms"
            for name, each in seconds.items()
            if name != "ours"
        ),
        f"{spread(seconds['ours'], theirs)}× FastMCP's",
        "≤ 0.15×, without httpx",
        median_ratio(seconds["ours"], theirs) <= 0.15 and not loads_httpx,
    )


if __name__ == "__main__":
    main(measure)
