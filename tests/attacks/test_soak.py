"""Many requests, good and bad ones mixed, leave no memory and no file descriptor behind.

The short run is part of every test run; ``make soak`` adds the long one.
"""

from __future__ import annotations

import gc
import itertools
import os
import statistics
import subprocess
import sys
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asgi_mcp_auth import (
    InsufficientScope,
    JWTVerifier,
    MCPAuthMiddleware,
    RemoteAuthProvider,
    Rule,
)
from asgi_mcp_auth._jose import SigningKey
from asgi_mcp_auth.testing import FrozenClock, sign_jwt
from tests.support.asgi import call, handshake

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/statm"), reason="reads Linux's /proc"
)

ROOT = Path(__file__).parents[2]

BASE_URL = "https://mcp.example.com"
AUDIENCE = f"{BASE_URL}/mcp"
ISSUER = "https://idp.example.com"
CACHE_SIZE = 500
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Traffic:
    """A protected app and an endless, repeatable stream of requests to it."""

    def __init__(self) -> None:
        self.clock = FrozenClock()
        self.key = SigningKey("Ed25519", "one")
        self.stranger = SigningKey("Ed25519", "one")
        self.counter = itertools.count()
        self.events: Counter[str] = Counter()
        self.verifier = JWTVerifier(
            public_key=self.key.public_jwk(),
            issuer=ISSUER,
            clock=self.clock,
            token_cache_size=CACHE_SIZE,
        )
        provider = RemoteAuthProvider(
            self.verifier, authorization_servers=[ISSUER], base_url=BASE_URL
        )
        self.app = MCPAuthMiddleware(
            self._app,
            provider,
            mcp_path="/mcp",
            public_paths=["/health"],
            rules=[Rule("/admin", scopes=["admin"])],
            on_event=lambda event: self.events.update([event.reason]),
        )
        self.familiar = self.mint()
        self.requests: list[Callable[[], Any]] = [
            lambda: self.post(self.familiar),
            lambda: self.post(self.mint()),
            lambda: self.post(self.mint(exp=1)),
            lambda: self.post(self.mint(aud="https://other.example.com")),
            lambda: self.post(self.mint(key=self.stranger)),
            lambda: self.post(
                self.mint(header={"alg": "Ed25519", "kid": f"kid-{next(self.counter)}"})
            ),
            lambda: self.post(self.mint(header={"alg": "none", "pad": next(self.counter)})),
            lambda: self.post(f"garbage-{next(self.counter)}"),
            lambda: self.post(f"{next(self.counter)}" + "x" * 20_000),
            lambda: self.post(f'"{next(self.counter)}'),
            lambda: self.post(self.familiar, path="/admin"),
            lambda: self.post(self.familiar, path="/step-up"),
            lambda: self.post(self.familiar, path=f"/{next(self.counter)}?access_token=x"),
            lambda: call(self.app, "POST", f"/{next(self.counter)}"),
            lambda: call(self.app, "GET", "/health"),
            lambda: call(self.app, "GET", "/.well-known/oauth-protected-resource/mcp"),
            lambda: call(
                self.app, "GET", "/mcp", {"Origin": f"https://{next(self.counter)}.evil.example"}
            ),
            lambda: call(
                self.app,
                "GET",
                "/mcp",
                [("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
            ),
            lambda: handshake(self.app, "/mcp", {"Authorization": f"Bearer {self.familiar}"}),
            lambda: handshake(self.app, "/mcp", {"Authorization": f"Bearer {next(self.counter)}"}),
        ]

    def mint(
        self, *, key: SigningKey | None = None, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        now = int(self.clock.time())
        usual = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "alice",
            "client_id": "client",
            "exp": now + 300,
        }
        payload = {**usual, "jti": f"{next(self.counter)}", **claims}
        return sign_jwt(key or self.key, header or {"alg": "Ed25519", "kid": "one"}, payload)

    def post(self, token: str, path: str = "/mcp") -> Any:
        return call(self.app, "POST", path, {"Authorization": f"Bearer {token}"})

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        if scope["path"] == "/step-up":
            raise InsufficientScope("more")
        assert scope["access_token"] is None or scope["access_token"].claims["sub"] == "alice"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def run(self, requests: int) -> None:
        for number in range(requests):
            await self.requests[number % len(self.requests)]()


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE_BYTES


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def growth(
    run: Any, measure: Callable[[], int], *, warm_up: int, requests: int, steps: int
) -> float:
    """Return by how much ``measure`` grows per 1,000 requests: the median slope between any two
    measurements.
    """
    await run(warm_up)
    measured = array("q", [0] * (steps + 1))  # takes no memory of its own while it fills
    for step in range(steps + 1):
        gc.collect()
        measured[step] = measure()
        if step < steps:
            await run(requests // steps)
    pairs = itertools.combinations(range(steps + 1), 2)
    slopes = [(measured[b] - measured[a]) / ((b - a) * (requests // steps)) for a, b in pairs]
    return 1000 * statistics.median(slopes)


@pytest.mark.slow
@pytest.mark.case("W43")
def test_mixed_requests_leave_no_objects_and_no_file_descriptors_behind() -> None:
    """In a process of its own: whatever else a test run has left running allocates memory, too."""
    code = (
        "import asyncio; from tests.attacks.test_soak import check_mixed_requests as c;"
        " asyncio.run(c())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


async def check_mixed_requests() -> None:
    traffic = Traffic()
    files = open_files()
    # Every request kind that may be remembered comes often enough in the warm-up to fill its cache.
    blocks = await growth(
        traffic.run, sys.getallocatedblocks, warm_up=12_000, requests=4_000, steps=8
    )
    assert blocks <= 1, f"{blocks:.1f} memory blocks more for each 1,000 requests"
    assert open_files() == files
    assert len(traffic.verifier._tokens) <= CACHE_SIZE
    assert set(traffic.events) >= {
        "missing_token",
        "expired",
        "signature",
        "unknown_key",
        "audience",
        "origin",
    }


@pytest.mark.case("W43")
@pytest.mark.asyncio
@pytest.mark.soak
async def test_memory_does_not_grow_over_100_000_mixed_requests() -> None:
    traffic = Traffic()
    files = open_files()
    slope = await growth(traffic.run, resident_bytes, warm_up=30_000, requests=100_000, steps=50)
    assert slope <= 1024, f"{slope:.0f} bytes more for each 1,000 requests"
    assert open_files() == files


@pytest.mark.asyncio
@pytest.mark.soak
async def test_a_full_cache_does_not_grow_with_100_000_more_tokens_nor_with_garbage() -> None:
    traffic = Traffic()

    async def distinct(requests: int) -> None:
        for _ in range(requests):
            await traffic.verifier.verify(traffic.mint())

    async def garbage(requests: int) -> None:
        for _ in range(requests):
            assert await traffic.verifier.verify_token(f"{next(traffic.counter)}.e30.AAAA") is None

    slope = await growth(distinct, resident_bytes, warm_up=20_000, requests=100_000, steps=20)
    assert len(traffic.verifier._tokens) == CACHE_SIZE
    assert slope <= 1024, f"{slope:.0f} bytes more for each 1,000 tokens"
    slope = await growth(garbage, resident_bytes, warm_up=5_000, requests=100_000, steps=20)
    assert slope <= 1024, f"{slope:.0f} bytes more for each 1,000 garbage tokens"
