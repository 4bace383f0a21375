"""A long run leaves nothing behind: security.md, W43. The full count runs in `make soak`."""

from __future__ import annotations

import gc
import os
import tracemalloc
from pathlib import Path

import pytest

from asgi_mcp_auth import JWTVerifier, RemoteAuthProvider
from asgi_mcp_auth.testing import Issuer
from tests.support.asgi import call, handshake
from tests.support.protection import BASE_URL, RESOURCE, Guard, protect

pytestmark = pytest.mark.asyncio


async def run(guard: Guard, idp: Issuer, count: int) -> None:
    """Send ``count`` requests, good and bad ones of every kind, with ever new tokens."""
    for number in range(0, count, 10):
        good = {"Authorization": f"Bearer {idp.mint(aud=RESOURCE)}"}
        unknown = {"Authorization": f"Bearer {idp.mint(aud=RESOURCE, header={'kid': f'kid-{number}'})}"}
        for headers in ({}, good, unknown, {"Authorization": f"Bearer junk-{number}"}, {"Authorization": "Bearer "}):
            await call(guard.app, "POST", f"/{number}", headers)
        await call(guard.app, "POST", "/mcp", {**good, "Origin": f"http://localhost:{number}"})
        await call(guard.app, "POST", "/mcp", {**good, "Origin": f"https://evil-{number}.example"})
        await call(guard.app, "GET", f"/.well-known/oauth-protected-resource/{number}")
        await call(guard.app, "GET", f"/health?{number}")
        await handshake(guard.app, "/mcp", good)
        guard.spy.scopes.clear()
        guard.events.clear()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Remembering tokens is wanted and bounded, so the bound is small here and reached before the measurement begins.
CACHED = 50


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
async def test_w43_two_thousand_mixed_requests_leave_no_object_and_no_file_behind() -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        verifier = JWTVerifier(issuer=idp.issuer, token_cache_size=CACHED)
        guard = protect(provider=RemoteAuthProvider(verifier, [idp.issuer], BASE_URL), public_paths=["/health"])
        tracemalloc.start()
        try:
            await run(guard, idp, 4_000)  # headers are remembered, too: 256 of them
            gc.collect()
            memory, files = tracemalloc.get_traced_memory()[0], open_files()
            await run(guard, idp, 2_000)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - memory
        finally:
            tracemalloc.stop()
        assert grown < 16 * 1024
        assert open_files() <= files


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
async def test_w43_resident_memory_grows_by_less_than_a_kibibyte_per_thousand_requests() -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        verifier = JWTVerifier(issuer=idp.issuer, token_cache_size=CACHED)
        guard = protect(provider=RemoteAuthProvider(verifier, [idp.issuer], BASE_URL), public_paths=["/health"])
        await run(guard, idp, 20_000)
        gc.collect()
        memory, files = resident_bytes(), open_files()
        await run(guard, idp, 100_000)
        gc.collect()
        assert resident_bytes() - memory <= 100 * 1024
        assert open_files() <= files
