"""Key sets of issuers that are down, slow, hostile or careless."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import socket
import struct
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from asgi_mcp_auth import (
    ConfigurationError,
    InvalidToken,
    JWKSOptions,
    JWTVerifier,
    ServerUnavailable,
)
from asgi_mcp_auth._jose import SigningKey
from asgi_mcp_auth.testing import FrozenClock, Issuer, sign_jwt
from tests.support.rows import rows
from tests.support.sockets import HostileServer, answering, read_head

pytestmark = pytest.mark.asyncio

AUDIENCE = "https://mcp.example.com/mcp"


class Tenant:
    """An issuer, a verifier that trusts it, and the clock of both."""

    def __init__(
        self, idp: Issuer, clock: FrozenClock, options: dict[str, Any], jwks_uri: str | None = None
    ) -> None:
        self.idp = idp
        self.clock = clock
        self.verifier = JWTVerifier(
            issuer=idp.issuer,
            jwks_uri=jwks_uri,
            audience=AUDIENCE,
            clock=clock,
            jwks=JWKSOptions(**options),
        )

    @property
    def fetches(self) -> int:
        return self.idp.hits["/jwks"]

    def mint(self, **members: Any) -> str:
        return self.idp.mint(aud=AUDIENCE, exp=int(self.clock.time()) + 300, **members)

    async def accepts(self, token: str | None = None) -> None:
        access = await self.verifier.verify(token or self.mint())
        assert access.subject == "alice"

    async def refuses(self, token: str, reason: str) -> None:
        with pytest.raises(InvalidToken) as refused:
            await self.verifier.verify(token)
        assert refused.value.reason == reason

    async def is_unavailable(self, token: str | None = None) -> None:
        with pytest.raises(ServerUnavailable) as refused:
            await self.verifier.verify(token or self.mint())
        assert 1 <= refused.value.retry_after_seconds <= 5

    async def settled(self) -> None:
        """Wait for the refresh that a request has started."""
        async with asyncio.timeout(10):
            while self.verifier.jwks[0]._refresh.running:  # noqa: ASYNC110 (a test may look inside)
                await asyncio.sleep(0.002)


class tenant:  # noqa: N801 (reads like the context manager that it is)
    def __init__(self, *, jwks_uri: str | None = None, **options: Any) -> None:
        clock = FrozenClock()
        self._idp = Issuer(algorithms=["ES256"], clock=clock)
        self._tenant = Tenant(self._idp, clock, options, jwks_uri)

    def __enter__(self) -> Tenant:
        self._idp.__enter__()
        return self._tenant

    def __exit__(self, *error: Any) -> None:
        self._idp.__exit__(*error)


@pytest.mark.case("K01")
@pytest.mark.parametrize("age", [0, 4, 5])
async def test_a_rotated_key_is_accepted_at_once_even_right_after_a_fetch(age: int) -> None:
    with tenant() as each:
        await each.accepts()
        each.clock.advance(age)
        each.idp.rotate()
        await each.accepts()
        assert each.fetches == 2


@pytest.mark.case("K02")
@rows(("max_age", "lifetime"), [(None, 3600), (600, 600), (1, 60), (10**7, 86_400)])
async def test_a_withdrawn_key_is_refused_after_the_lifetime_of_the_set(
    max_age: int | None, lifetime: int
) -> None:
    with tenant() as each:
        each.idp.jwks_headers = {} if max_age is None else {"cache-control": f"max-age={max_age}"}
        old = each.idp.mint(aud=AUDIENCE, exp=int(each.clock.time()) + 10**7)
        await each.accepts(old)
        each.idp.rotate(drop=True)
        each.clock.advance(lifetime * 0.79)
        await each.accepts(old)
        each.clock.advance(lifetime * 0.21)
        await each.refuses(old, "unknown_key")
        await each.accepts()


@pytest.mark.case("K03")
async def test_a_flood_of_unknown_key_ids_costs_two_fetches_and_delays_no_valid_token() -> None:
    with tenant() as each:
        await each.accepts()
        each.idp.delay("/jwks", 0.2)
        tokens = [each.mint(header={"kid": f"k{number}"}) for number in range(1_000)]
        good = each.mint()
        flood: list[asyncio.Task[None]] = []
        for wave in (tokens[:500], tokens[500:]):  # the second one comes during the first fetch
            flood += [asyncio.create_task(each.refuses(token, "unknown_key")) for token in wave]
            await asyncio.sleep(0.01)
            await each.accepts(good)
        # they wait for the fetch, the valid token did not
        assert not any(task.done() for task in flood)
        await asyncio.gather(*flood)
        assert each.fetches == 3


@pytest.mark.case("K03")
async def test_a_flood_that_goes_on_costs_one_fetch_per_cooldown() -> None:
    with tenant() as each:
        await each.accepts()
        forger = SigningKey("ES256", each.idp.keys["ES256"].key_id)
        forged = sign_jwt(forger, {"alg": "ES256", "kid": forger.key_id}, {"iss": each.idp.issuer})
        for cooldown in range(10):
            for number in range(50):
                await each.refuses(each.mint(header={"kid": f"k{number}"}), "unknown_key")
                await each.refuses(forged, "signature")
            assert each.fetches == 1 + 2 + cooldown
            each.clock.advance(5)


@pytest.mark.case("K03")
async def test_while_the_issuer_is_down_an_unknown_key_id_is_503_once_per_cooldown() -> None:
    with tenant() as each:
        await each.accepts()
        each.idp.fail()
        each.clock.advance(5)
        for number in range(50):
            await each.is_unavailable(each.mint(header={"kid": f"k{number}"}))
        assert each.fetches == 2
        await each.accepts()


@pytest.mark.case("K05")
async def test_a_hundred_cold_requests_are_one_fetch_and_a_hundred_answers() -> None:
    with tenant() as each:
        each.idp.delay("/jwks", 0.1)
        await asyncio.gather(*(each.accepts() for _ in range(100)))
        assert each.fetches == 1


@pytest.mark.case("K06")
async def test_the_cancellation_of_the_first_caller_leaves_the_others_served() -> None:
    with tenant() as each:
        each.idp.delay("/jwks", 0.1)
        tasks = [asyncio.create_task(each.accepts()) for _ in range(5)]
        await asyncio.sleep(0.02)
        tasks[0].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [None] * 4
        assert each.fetches == 1


def reset(connection: Any) -> None:
    read_head(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


OUTAGES: dict[str, Callable[[Any], None]] = {
    "500": answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
    "404": answering(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n"),
    "a hang": lambda connection: ignore(connection),
    "RST": reset,
    "a hang-up": answering(b""),
    "a web page": answering(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
    ),
}


def ignore(connection: Any) -> None:
    while connection.recv(4096):
        pass


async def outlast(each: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    """Let a day of outage pass: every token is accepted, attempts go on, one line is logged."""
    jwks = each.verifier.jwks[0]
    with caplog.at_level(logging.INFO, "asgi_mcp_auth.jwks"):
        before = jwks.state.fetches
        for _ in range(4):
            each.clock.advance(86_400 / 4)
            await each.accepts()
            await each.settled()
        assert jwks.state.last_error is not None
        assert jwks.state.fetches == before + 4
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.slow
@pytest.mark.case("K07")
@pytest.mark.parametrize("case", OUTAGES)
async def test_an_issuer_that_goes_down_after_warm_up_costs_no_request_for_a_day(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    with tenant() as each:
        body = json.dumps(each.idp.jwks).encode()
        good = answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        with HostileServer(lambda connection: behave(connection)) as server:
            behave = good
            guarded = Tenant(each.idp, each.clock, {"timeout_seconds": 0.3}, server.url)
            await guarded.accepts()
            behave = OUTAGES[case]
            await outlast(guarded, caplog)


@pytest.mark.case("K07")
async def test_a_key_set_server_that_is_gone_costs_no_request_for_a_day(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with tenant() as each:
        body = json.dumps(each.idp.jwks).encode()
        with HostileServer(
            answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        ) as server:
            guarded = Tenant(each.idp, each.clock, {}, server.url)
            await guarded.accepts()
        await outlast(guarded, caplog)


@pytest.mark.case("K07")
@pytest.mark.parametrize(
    "jwks_uri", ["https://no.such.host.invalid/jwks", "https://127.0.0.1:{port}/jwks"]
)
async def test_a_key_set_moved_to_a_host_with_broken_dns_or_tls_costs_no_request_for_a_day(
    jwks_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    with tenant() as each:
        await each.accepts()
        port = each.idp.issuer.rpartition(":")[2]
        document = {**each.idp.metadata(), "jwks_uri": jwks_uri.format(port=port)}
        each.idp.answer("/.well-known/oauth-authorization-server", json.dumps(document).encode())
        each.idp.fail("/jwks", status=404)
        await outlast(each, caplog)
        assert "ConnectError" in (each.verifier.jwks[0].state.last_error or "")


@pytest.mark.case("K09")
async def test_an_issuer_down_at_the_start_is_503_and_works_a_second_after_its_return() -> None:
    with tenant() as each:
        each.idp.fail()
        for _ in range(3):
            await each.is_unavailable()
        assert each.fetches == 1
        each.idp.reset()
        each.clock.advance(1)
        await each.accepts()


@pytest.mark.case("K10")
@rows("target", ["{other}/jwks", "http://idp.example/jwks", "file:///etc/passwd"])
@rows("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_origin_is_not_followed(status: int, target: str) -> None:
    with tenant() as each, HostileServer(answering(b"")) as other:
        location = target.format(other=other.url)
        each.idp.answer("/jwks", status=status, headers={"location": location})
        await each.is_unavailable()
        assert other.connections == 0
        each.idp.reset()
        each.clock.advance(1)
        await each.accepts()


@pytest.mark.case("K10")
async def test_a_redirect_within_the_origin_is_followed() -> None:
    with tenant() as each:
        each.idp.answer("/jwks", status=302, headers={"location": "/keys"})
        each.idp.answer("/keys", json.dumps(each.idp.jwks).encode())
        await each.accepts()


@pytest.mark.case("K11")
@rows(
    "url",
    [
        "http://idp.example/jwks",
        "http://127.0.0.1.evil.example/jwks",
        "http://localhost@evil.example/jwks",
        "file:///etc/passwd",
        "data:application/json,{}",
        "ftp://idp.example/jwks",
        "//idp.example/jwks",
        "idp.example",
        "",
    ],
)
async def test_a_key_set_url_that_is_not_https_is_refused_at_construction(url: str) -> None:
    with pytest.raises(ConfigurationError, match="jwks_uri"):
        JWTVerifier(jwks_uri=url, issuer="https://idp.example", audience=AUDIENCE)


async def flooded(head: bytes, piece: bytes, why: str) -> int:
    """Return the peak of memory that a fetch from a server costs that never stops sending."""

    def behave(connection: Any) -> None:
        read_head(connection)
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    with Issuer(algorithms=["ES256"], clock=FrozenClock()) as idp, HostileServer(behave) as server:
        verifier = JWTVerifier(
            issuer=idp.issuer, jwks_uri=server.url, audience=AUDIENCE, clock=FrozenClock()
        )
        token = idp.mint(aud=AUDIENCE)
        tracemalloc.start()
        try:
            with pytest.raises(ServerUnavailable):
                await verifier.verify(token)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert why in (verifier.jwks[0].state.last_error or "")
        return peak


async def warm_up() -> None:
    """Import and cache what the first fetch of a process does, so that it is not measured."""
    with tenant() as each:
        await each.accepts()


@pytest.mark.case("K12")
async def test_a_body_of_64_mib_is_given_up_at_1_mib() -> None:
    await warm_up()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n"
    assert await flooded(head, b" " * 65_536, "larger than 1048576 bytes") < 5 * 1024 * 1024


@pytest.mark.case("K13")
@rows(
    ("encoding", "why"),
    [
        ("gzip", "larger than"),
        ("deflate", "larger than"),
        ("br", "compressed"),
        ("zstd", "compressed"),
    ],
)
async def test_a_bomb_costs_no_more_than_the_bound(encoding: str, why: str) -> None:
    await warm_up()
    bomb = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    packed = bomb.compress(b" " * 64 * 1024 * 1024) + bomb.flush()
    assert len(packed) < 256 * 1024
    length = f"Content-Length: {len(packed)}\r\n\r\n"
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\n{length}".encode()
    assert await flooded(head, packed, why) < 5 * 1024 * 1024
    endless = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\n\r\n".encode()
    assert await flooded(endless, packed, why) < 5 * 1024 * 1024


@pytest.mark.case("K14")
@rows("case", ["body", "headers", "chunks", "informational", "nothing"])
async def test_a_drip_ends_at_the_deadline(case: str) -> None:
    await warm_up()
    head, piece = {
        "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
        "headers": (b"HTTP/1.1 200 OK\r\n", b"x"),
        "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        "informational": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "nothing": (b"", b""),
    }[case]

    def behave(connection: Any) -> None:
        read_head(connection)
        connection.sendall(head)
        while not server.stopping.wait(0.01):
            connection.sendall(piece)

    with tenant() as each, HostileServer(behave) as server:
        slow = Tenant(each.idp, each.clock, {"timeout_seconds": 0.3}, server.url)
        began = time.monotonic()
        await slow.is_unavailable()
        assert time.monotonic() - began < 5
        assert "no complete answer" in (slow.verifier.jwks[0].state.last_error or "")
        await each.accepts()


@pytest.mark.case("K15")
@rows("content_type", ["text/plain", None, "text/html", "application/jwk-set+json", "x"])
async def test_the_content_decides_and_not_its_type(content_type: str | None) -> None:
    with tenant() as each:
        headers = {} if content_type is None else {"content-type": content_type}
        each.idp.answer("/jwks", json.dumps(each.idp.jwks).encode(), headers={"x": "y", **headers})
        await each.accepts()


@pytest.mark.case("K15")
async def test_a_web_page_is_no_key_set() -> None:
    with tenant() as each:
        each.idp.answer("/jwks", b"<html>Sign in</html>", headers={"content-type": "text/html"})
        await each.is_unavailable()
        each.idp.reset()
        each.clock.advance(1)
        await each.accepts()


@pytest.mark.case("K16")
async def test_a_key_without_a_kid_is_used_by_tokens_with_and_without_one() -> None:
    with tenant() as each:
        (key,) = each.idp.jwks["keys"]
        each.idp.jwks = {"keys": [{name: value for name, value in key.items() if name != "kid"}]}
        await each.accepts(each.mint(header={"kid": None}))
        await each.accepts(each.mint())


@pytest.mark.case("K18")
async def test_a_set_of_any_number_of_keys_is_read_and_one_beyond_a_mib_is_not() -> None:
    with tenant() as each:
        key = each.idp.jwks["keys"][0]
        many = [{**key, "kid": f"k{number}"} for number in range(300)]
        each.idp.jwks = {"keys": [*many, key]}
        await each.accepts()
        assert each.verifier.jwks[0].state.last_error is None
        each.idp.jwks = {"keys": [key], "x": "x" * 2**20}
        each.clock.advance(86_400)
        await each.accepts()
        assert "1048576 bytes" in (each.verifier.jwks[0].state.last_error or "")


@pytest.mark.case("K19")
async def test_the_order_of_unlike_keys_does_not_matter() -> None:
    algorithms = ["RS256", "ES256", "EdDSA", "PS384", "ES384", "ES256K", "Ed448"]
    clock = FrozenClock()
    with Issuer(algorithms=algorithms, clock=clock) as idp:
        for _ in range(len(algorithms)):
            verifier = JWTVerifier(issuer=idp.issuer, audience=AUDIENCE, clock=clock)
            for algorithm in algorithms:
                assert (
                    await verifier.verify(idp.mint(aud=AUDIENCE, algorithm=algorithm))
                ).subject == "alice"
            first, *rest = idp.jwks["keys"]
            idp.jwks = {"keys": [*rest, first]}


@pytest.mark.case("K20")
async def test_equal_key_ids_of_two_issuers_do_not_meet() -> None:
    clock = FrozenClock()
    with (
        Issuer(algorithms=["ES256"], clock=clock) as one,
        Issuer(algorithms=["ES256"], clock=clock) as two,
    ):
        for idp in (one, two):
            idp.keys = {"ES256": SigningKey("ES256", "key-1")}
            idp.jwks = {"keys": [idp.keys["ES256"].public_jwk()]}
        verifier = JWTVerifier(issuer=[one.issuer, two.issuer], audience=AUDIENCE, clock=clock)
        for idp, other in ((one, two), (two, one)):
            assert (await verifier.verify(idp.mint(aud=AUDIENCE))).claims["iss"] == idp.issuer
            # signed by one, claiming to be of the other
            with pytest.raises(InvalidToken) as refused:
                await verifier.verify(idp.mint(aud=AUDIENCE, iss=other.issuer))
            assert refused.value.reason == "signature"


@pytest.mark.case("K21")
@rows("found", ["{issuer}/", "HTTP{rest}", "https://evil.example", None, 1])
async def test_metadata_of_another_issuer_is_refused(found: Any) -> None:
    with tenant() as each:
        issuer = each.idp.issuer
        value = found.format(issuer=issuer, rest=issuer[4:]) if isinstance(found, str) else found
        document = json.dumps({**each.idp.metadata(), "issuer": value}).encode()
        for name in ("oauth-authorization-server", "openid-configuration"):
            each.idp.answer(f"/.well-known/{name}", document)
        await each.is_unavailable()
        assert each.fetches == 0
        each.idp.reset()
        each.clock.advance(1)
        await each.accepts()


@pytest.mark.case("K21")
async def test_a_key_set_on_another_host_must_be_https() -> None:
    with tenant() as each:
        document = {**each.idp.metadata(), "jwks_uri": "http://169.254.169.254/jwks"}
        for name in ("oauth-authorization-server", "openid-configuration"):
            each.idp.answer(f"/.well-known/{name}", json.dumps(document).encode())
        await each.is_unavailable()
        assert "not encrypted" in (each.verifier.jwks[0].state.last_error or "")


@pytest.mark.case("K22")
async def test_discovery_falls_through_to_the_next_place_and_asks_three_times_at_most() -> None:
    clock = FrozenClock()
    with Issuer(algorithms=["ES256"], path="/tenant", clock=clock) as idp:
        each = Tenant(idp, clock, {})
        idp.fail("/.well-known/oauth-authorization-server/tenant", status=404)
        idp.answer(
            "/.well-known/openid-configuration/tenant",
            b"<html>",
            headers={"content-type": "text/html"},
        )
        idp.fail("/.well-known/openid-configuration", status=404)
        await each.is_unavailable()
        assert sum(idp.hits.values()) == 3
        idp.answer("/.well-known/openid-configuration", json.dumps(idp.metadata()).encode())
        clock.advance(1)
        await each.accepts()
        assert sum(idp.hits.values()) == 7


@pytest.mark.case("K23")
async def test_a_key_set_at_a_private_address_is_the_operators_business() -> None:
    """Loopback stands in for it: the issuer's own URL is public, its keys come from inside."""
    with tenant() as each:
        verifier = JWTVerifier(
            issuer="https://idp.example",
            jwks_uri=each.idp.jwks_uri,
            audience=AUDIENCE,
            clock=each.clock,
        )
        assert (await verifier.verify(each.mint(iss="https://idp.example"))).subject == "alice"


@pytest.mark.case("K24")
async def test_proxy_variables_are_honoured_for_urls_of_the_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tenant() as each:
        asked: list[bytes] = []
        body = json.dumps(each.idp.jwks).encode()

        def behave(connection: Any) -> None:
            asked.append(read_head(connection).split(b"\r\n")[0])
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        with HostileServer(behave) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            through = Tenant(each.idp, each.clock, {}, "http://keys.localhost/jwks")
            await through.accepts()
    assert asked == [b"GET http://keys.localhost/jwks HTTP/1.1"]


@pytest.mark.case("K25")
async def test_two_loops_and_a_closed_loop_share_a_verifier() -> None:
    with tenant() as each:
        for _ in range(2):
            await asyncio.to_thread(asyncio.run, each.accepts())
            each.clock.advance(3600)
        await each.accepts()
        async with each.verifier:
            await asyncio.to_thread(asyncio.run, each.accepts())
            each.clock.advance(3600)
            await asyncio.to_thread(asyncio.run, each.accepts())
            await each.accepts()
        assert each.fetches >= 4


FORK = """
import asyncio, os, sys
from asgi_mcp_auth import JWKSOptions, JWTVerifier

jwks = JWKSOptions(cooldown_seconds=0.1)
verifier = JWTVerifier(issuer=sys.argv[1], audience=sys.argv[2], jwks=jwks)

async def verify():
    print((await verifier.verify(sys.stdin.readline().strip())).subject, flush=True)

async def warm():
    async with verifier:
        await verify()

asyncio.run(warm())
if os.fork() == 0:
    asyncio.run(verify())
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.case("K25")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_process_forked_after_warm_up_fetches_for_itself() -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FORK, idp.issuer, AUDIENCE, stdin=pipe, stdout=pipe
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{idp.mint(aud=AUDIENCE)}\n".encode())
        assert await process.stdout.readline() == b"alice\n"
        idp.rotate()
        await asyncio.sleep(0.2)  # the child's cooldown
        process.stdin.write(f"{idp.mint(aud=AUDIENCE)}\n".encode())
        assert await process.stdout.readline() == b"alice\n"
        assert await process.wait() == 0
        process.stdin.close()
        assert idp.hits["/jwks"] == 2


@pytest.mark.case("K26")
async def test_a_shutdown_during_a_fetch_leaves_no_task_and_no_connection(
    recwarn: pytest.WarningsRecorder,
) -> None:
    def hang(connection: Any) -> None:
        read_head(connection)
        assert connection.recv(1) == b""  # the client has hung up

    with tenant() as each, HostileServer(hang) as server:
        slow = Tenant(each.idp, each.clock, {}, server.url)
        opening = asyncio.create_task(slow.verifier.start())
        async with asyncio.timeout(5):
            while not server.connections:  # noqa: ASYNC110 (counted on another thread)
                await asyncio.sleep(0.002)
        await slow.verifier.stop()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert asyncio.all_tasks() == {asyncio.current_task()}
        del opening
        gc.collect()
    assert [str(each.message) for each in recwarn] == []


@pytest.mark.case("K27")
async def test_304_extends_the_life_of_a_good_set_only() -> None:
    with tenant() as each:
        each.idp.answer("/jwks", status=304, headers={"etag": '"x"'})
        await each.is_unavailable()
        each.idp.reset()
        each.idp.jwks_headers = {"etag": '"v1"'}
        each.clock.advance(1)
        await each.accepts()
        each.idp.answer("/jwks", status=304, headers={"etag": '"v1"'})
        each.clock.advance(3600)
        await each.accepts()
        assert (
            each.verifier.jwks[0].state.age_seconds,
            each.verifier.jwks[0].state.last_error,
        ) == (0, None)


@pytest.mark.case("K28")
@rows("days", [1, -1, 3_650, -3_650])
async def test_a_jump_of_the_wall_clock_causes_no_fetch(days: int) -> None:
    with tenant() as each:
        await each.accepts()
        each.clock.jump(days * 86_400)
        for _ in range(10):
            await each.accepts(each.mint(iat=None))
        assert each.fetches == 1
        # and stops none
        each.clock.advance(3600)
        each.idp.rotate(drop=True)
        await each.accepts(each.mint(iat=None))
        assert each.fetches == 2


@pytest.mark.slow
@pytest.mark.case("K29")
@pytest.mark.parametrize("count", [1_500, pytest.param(1_000_000, marks=pytest.mark.soak)])
async def test_unknown_key_ids_leave_no_trace_in_memory(count: int) -> None:
    with tenant() as each:
        await each.accepts()
        jwks = each.verifier.jwks[0]

        async def flood(count: int) -> None:
            for number in range(count):
                with pytest.raises(InvalidToken):
                    await jwks.keys_for(f"unknown-{number}", "ES256")

        await flood(200)
        gc.collect()
        tracemalloc.start()
        try:
            await flood(count)
            gc.collect()
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < 64 * 1024
        assert each.fetches == 3


@pytest.mark.slow
@pytest.mark.case("K30")
async def test_one_slow_issuer_of_many_delays_only_its_own_tokens() -> None:
    clock = FrozenClock()
    quick = [Issuer(algorithms=["ES256"], clock=clock) for _ in range(5)]
    with Issuer(algorithms=["ES256"], clock=clock) as slow:
        for idp in quick:
            idp.__enter__()
        try:
            verifier = JWTVerifier(
                issuer=[idp.issuer for idp in (slow, *quick)], audience=AUDIENCE, clock=clock
            )
            slow.delay("/jwks", 1)
            waiting = asyncio.create_task(verifier.verify(slow.mint(aud=AUDIENCE)))
            tokens = [idp.mint(aud=AUDIENCE) for idp in quick for _ in range(10)]
            assert len(await asyncio.gather(*(verifier.verify(token) for token in tokens))) == 50
            assert not waiting.done()
            assert [idp.hits["/jwks"] for idp in quick] == [1] * 5
            assert (await waiting).subject == "alice"
        finally:
            for idp in quick:
                idp.__exit__(None, None, None)


@pytest.mark.case("K31")
async def test_a_key_of_8192_bits_is_the_largest() -> None:
    """A modulus is a number like any other here: making real ones of that size takes minutes."""
    with tenant() as each:
        rsa = SigningKey("RS256", "large").public_jwk()
        largest, too_large = "_" * 1365 + "w", "_" * 1366 + "8"  # 8192 and 8200 bits, odd
        each.idp.jwks = {"keys": [*each.idp.jwks["keys"], {**rsa, "n": too_large}]}
        await each.accepts()
        forged = sign_jwt(
            SigningKey("RS256", "large"), {"alg": "RS256", "kid": "large"}, {"iss": each.idp.issuer}
        )
        each.clock.advance(5)
        await each.refuses(forged, "unknown_key")
        each.idp.jwks = {"keys": [*each.idp.jwks["keys"][:-1], {**rsa, "n": largest}]}
        each.clock.advance(5)
        await each.refuses(forged, "signature")
