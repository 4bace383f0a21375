"""P10: what the token cache costs: bytes, and pauses of the garbage collector."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import hmac
import json
import logging
import os
import resource
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from report import Row, main, note
from workload import BASE_URL, MCP_PATH, REQUIRED_SCOPES, RESOURCE, application, opaque, request

ISSUER = "https://idp.example.com"
SECRET = b"a shared secret of the benchmark, 32 bytes and more"
BATCH = 500  # few enough that the tokens themselves do not show
MEBIBYTE = 1024 * 1024
DEFAULT_ENTRIES = 10_000
BYTES_AN_ENTRY = 1800


def minted(start: int, count: int) -> list[str]:
    """Return distinct valid tokens. HS256, because a million signatures of another kind take
    minutes to make.
    """
    header = _encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    now, tokens = int(time.time()), []
    for number in range(start, start + count):
        claims = {
            "iss": ISSUER,
            "sub": f"user-{number}",
            "aud": RESOURCE,
            "client_id": "0oa1b2c3d4e5f6g7h8",
            "scope": " ".join([*REQUIRED_SCOPES, "mcp:write"]),
            "iat": now,
            "nbf": now,
            "exp": now + 86_400,
            "jti": secrets.token_hex(12),
            "email": "somebody@example.com",
        }
        message = header + b"." + _encode(json.dumps(claims).encode())
        tokens.append(
            (message + b"." + _encode(hmac.digest(SECRET, message, hashlib.sha256))).decode()
        )
    return tokens


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def protected(**settings: Any) -> Callable[..., Awaitable[None]]:
    """Build the middleware with a shared secret."""
    from asgi_mcp_auth import JWTVerifier, MCPAuthMiddleware, RemoteAuthProvider

    verifier = JWTVerifier(
        public_key=SECRET,
        algorithm="HS256",
        issuer=ISSUER,
        required_scopes=REQUIRED_SCOPES,
        **settings,
    )
    provider = RemoteAuthProvider(verifier, authorization_servers=[ISSUER], base_url=BASE_URL)
    app: Callable[..., Awaitable[None]] = MCPAuthMiddleware(
        application, provider, mcp_path=MCP_PATH
    )
    return app


async def send_all(app: Callable[..., Awaitable[None]], tokens: Sequence[str], status: int) -> None:
    """Send a request with each token, all of which get the same answer."""
    wrong = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal wrong
        wrong += message.get("status", status) != status

    for token in tokens:
        await app(request(token), receive, send)
    assert not wrong, f"{wrong} answers were not {status}"


def resident() -> int:
    """Return the memory of this process in bytes; where there is no /proc, the most it ever was."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )


async def flood(count: int) -> dict[str, float]:
    """Send many distinct valid tokens, then as many garbage ones, to a middleware with default
    settings.
    """
    app = protected()
    await send_all(app, minted(0, 500), 200)
    await send_all(app, opaque(500), 401)
    gc.collect()
    start = resident()
    for number in range(500, count + 500, BATCH):
        await send_all(app, minted(number, BATCH), 200)
    gc.collect()
    valid = resident()
    for _ in range(0, count, BATCH):
        await send_all(app, opaque(BATCH), 401)
    gc.collect()
    return {"valid": valid - start, "garbage": resident() - valid}


async def fill(entries: int) -> dict[str, float]:
    """Fill a cache of some size and return what an entry costs, and what the collector needs to
    look at all of them.
    """
    app = protected(token_cache_size=entries)
    await send_all(app, minted(0, 500), 200)
    gc.collect()
    gc.freeze()  # what is there already is not ours to count
    start = resident()
    for number in range(500, entries, BATCH):
        await send_all(app, minted(number, min(BATCH, entries - number)), 200)
    gc.collect()
    grown, pauses = resident() - start, []
    for _ in range(9):
        before = time.thread_time()
        gc.collect()
        pauses.append(time.thread_time() - before)
    return {"entry": grown / (entries - 500), "pause": statistics.median(pauses)}


def measure(quick: bool) -> Iterator[Row]:
    """Run both in processes of their own."""
    count, entries = (100_000 if quick else 1_000_000), 100_000
    note(f"P10: {count:,} valid tokens, then {count:,} garbage ones")
    grown = _run("flood", count)
    limit = DEFAULT_ENTRIES * BYTES_AN_ENTRY
    yield Row(
        "P10",
        f"memory after {count:,} distinct valid tokens, token_cache_size as it is by default"
        f" ({DEFAULT_ENTRIES:,})",
        f"+{grown['valid'] / MEBIBYTE:.1f} MiB",
        "none has a token cache",
        "–",
        f"≤ +{limit / MEBIBYTE:.0f} MiB, {DEFAULT_ENTRIES:,} entries",
        grown["valid"] <= limit,
    )
    yield Row(
        "P10",
        f"memory after {count:,} garbage tokens more",
        f"{grown['garbage'] / MEBIBYTE:+.1f} MiB",
        "",
        "–",
        "+0 (± 1 MiB, the allocator's)",
        grown["garbage"] <= MEBIBYTE,
    )
    note(f"P10: {entries:,} entries")
    filled = _run("fill", entries)
    yield Row(
        "P10",
        f"memory of an entry, {entries:,} in the cache",
        f"{filled['entry'] / 1000:.2f} kB",
        "",
        "–",
        "≤ 1.8 kB",
        filled["entry"] <= BYTES_AN_ENTRY,
    )
    yield Row(
        "P10",
        f"full garbage collection with {entries:,} entries, the rest of the process frozen",
        f"{filled['pause'] * 1000:.2f} ms",
        "",
        "–",
        "≤ 1 ms",
        filled["pause"] <= 0.001,
    )


def _run(task: str, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--task", task, str(count)]
    result: dict[str, float] = json.loads(
        subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    )
    return result


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        logging.disable(logging.CRITICAL)
        print(
            json.dumps(asyncio.run({"flood": flood, "fill": fill}[sys.argv[2]](int(sys.argv[3]))))
        )
    else:
        main(measure)
