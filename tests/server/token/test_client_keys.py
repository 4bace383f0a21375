"""Clients with a ``jwks_uri``, on a real TLS host."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asgi_mcp_auth._http import PublicFetcher
from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.server.clients.authentication import ClientAuthenticator
from asgi_mcp_auth.server.clients.keys import ClientKeys
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Response
from tests.support.assertions import Robot, key_of, key_set
from tests.support.authorization_server import BASE_URL, Server, deploy
from tests.support.tls import Authority, DocumentHost, hang
from tests.support.token_endpoint import assert_refused, tokens_of

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("AS-34")]

NAME = "app.example.com"
SECONDS = 30  # longer than anything here takes


@pytest.fixture
def host(authority: Authority) -> Iterator[DocumentHost]:
    with DocumentHost(authority) as listening:
        listening.serve("/jwks", key_set(key_of("ES256")))
        yield listening


def fetcher_for(
    authority: Authority, *, addresses: Sequence[str] = ("127.0.0.1",), **settings: Any
) -> PublicFetcher:
    """Return what fetches key sets; ``addresses`` stand for what the name server says."""
    usual = {"timeout_seconds": 5, "allow_loopback": True, "ca_file": authority.ca_file}
    return PublicFetcher(resolve=lambda name, port: list(addresses), **{**usual, **settings})


@asynccontextmanager
async def knowing(
    host: DocumentHost,
    authority: Authority,
    *,
    path: str = "/jwks",
    fetcher: PublicFetcher | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Server, Robot]]:
    """Run a server that knows a robot with keys on the host; ``settings`` are of the fetcher, if
    there is none yet.
    """
    robot = Robot(BASE_URL, clock := FrozenClock())
    del robot.metadata["jwks"]
    robot.metadata |= {
        "jwks_uri": host.url(path, host=NAME),
        "token_endpoint_auth_method": "private_key_jwt",
    }
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        inner = server.provider._server
        keys = ClientKeys(fetcher or fetcher_for(authority, **settings), clock, inner.limits)
        inner.authenticator = ClientAuthenticator(
            inner.clients, inner.store, clock, [BASE_URL], keys, inner.limits
        )
        yield server, robot


def assert_unavailable(response: Response) -> None:
    assert (response.status, response.json()["error"]) == (503, "temporarily_unavailable")
    assert int(response.header("retry-after") or 0) >= 1


async def test_keys_are_fetched_once_and_kept(host: DocumentHost, authority: Authority) -> None:
    async with knowing(host, authority) as (server, robot):
        for _ in range(3):
            tokens_of(await server.token(**robot.form()))
        assert host.requests == ["/jwks"]
        assert host.seen[0].server_name == NAME
        server.clock.advance(3600)
        tokens_of(await server.token(**robot.form()))


async def test_fifty_at_once_cause_one_fetch(host: DocumentHost, authority: Authority) -> None:
    async with knowing(host, authority) as (server, robot):
        answers = await asyncio.gather(*(server.token(**robot.form()) for _ in range(50)))
        assert {answer.status for answer in answers} == {200}
        assert host.requests == ["/jwks"]


@pytest.mark.case("K01")
async def test_a_new_key_of_the_client_is_good_as_soon_as_it_is_published(
    host: DocumentHost, authority: Authority
) -> None:
    async with knowing(host, authority) as (server, robot):
        tokens_of(await server.token(**robot.form()))
        new = key_of("ES256", "new")
        assert_refused(
            await server.token(**robot.form(robot.assertion(key=new))), "invalid_client", 401
        )
        host.serve("/jwks", key_set(new))
        server.clock.advance(5)
        tokens_of(await server.token(**robot.form(robot.assertion(key=new))))
        assert_refused(await server.token(**robot.form()), "invalid_client", 401)


@pytest.mark.case("K03")
async def test_a_flood_of_unknown_key_ids_is_one_fetch_for_each_cooldown(
    host: DocumentHost, authority: Authority
) -> None:
    async with knowing(host, authority) as (server, robot):
        for number in range(50):
            assertion = robot.assertion(header={"kid": f"unknown-{number}"})
            assert_refused(await server.token(**robot.form(assertion)), "invalid_client", 401)
        assert len(host.requests) == 1
        server.clock.advance(5)
        for number in range(50):
            assertion = robot.assertion(header={"kid": f"unknown-{number}"})
            assert_refused(await server.token(**robot.form(assertion)), "invalid_client", 401)
        assert len(host.requests) == 2


@pytest.mark.case("Z69", "Z102")
@pytest.mark.rule("AS-63")
@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "169.254.169.254",
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "100.64.0.1",
        "fd00::1",
    ],
)
async def test_keys_that_lie_inside_are_never_fetched(
    host: DocumentHost, authority: Authority, address: str
) -> None:
    """Server-side request forgery: the client named the URL."""
    async with knowing(host, authority, addresses=["1.1.1.1", address], allow_loopback=False) as (
        server,
        robot,
    ):
        assert_refused(await server.token(**robot.form()), "invalid_client", 401)
        assert server.reasons() == ["client_keys"]
        assert host.connections == 0


UNUSABLE: dict[str, tuple[Any, dict[str, Any]]] = {
    "HTML": (b"<html>", {"content_type": "text/html"}),
    "a list": ([], {}),
    "no keys": ({"keys": []}, {}),
    "only a shared secret": ({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, {}),
    "something else": (b"{", {}),
    "404": ({}, {"status": 404}),
    "a redirect": ({}, {"status": 302, "location": "https://elsewhere.example/jwks"}),
    "a compressed body": (b"x", {"content_encoding": "gzip"}),
    "257 KiB": (b" " * 257 * 1024, {}),
}


@pytest.mark.parametrize(("document", "answer"), UNUSABLE.values(), ids=UNUSABLE)
async def test_what_is_no_key_set_is_the_client_s_fault(
    host: DocumentHost,
    authority: Authority,
    document: Any,
    answer: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And nothing that strangers can do is more than INFO."""
    caplog.set_level(logging.DEBUG)
    host.serve("/jwks", document, **answer)
    async with knowing(host, authority) as (server, robot):
        response = await server.token(**robot.form())
        assert_refused(response, "invalid_client", 401)
        assert response.json()["error_description"] == "The key set of the client cannot be used"
        assert server.reasons() == ["client_keys"]
        assert (
            max(
                record.levelno
                for record in caplog.records
                if record.name.startswith("asgi_mcp_auth")
            )
            == logging.INFO
        )
        host.serve("/jwks", key_set(robot.key))
        server.clock.advance(29)
        assert (await server.token(**robot.form())).status in (401, 503)  # quiet for half a minute
        server.clock.advance(1)
        tokens_of(await server.token(**robot.form()))


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_host_that_is_down_is_503_and_no_reason_to_forget_who_one_is(
    host: DocumentHost, authority: Authority, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with knowing(host, authority) as (server, robot):
        host.serve("/jwks", {}, status=status)
        assert_unavailable(await server.token(**robot.form()))
        assert {
            record.levelname for record in caplog.records if record.name.startswith("asgi_mcp_auth")
        } == {"INFO"}
        host.serve("/jwks", key_set(robot.key))
        server.clock.advance(29)
        assert (await server.token(**robot.form())).status in (401, 503)  # quiet for half a minute
        server.clock.advance(1)
        tokens_of(await server.token(**robot.form()))
        host.serve("/jwks", {}, status=status)
        server.clock.advance(3700)
        tokens_of(await server.token(**robot.form()))


@pytest.mark.case("Z106")
async def test_a_host_that_hangs_is_503_in_time(host: DocumentHost, authority: Authority) -> None:
    async with knowing(host, authority, timeout_seconds=0.2) as (server, robot):
        host.behave("/jwks", hang(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"))
        assert_unavailable(await server.token(**robot.form()))


@pytest.mark.case("Z114")
async def test_a_host_with_another_name_s_certificate_is_not_believed(authority: Authority) -> None:
    with DocumentHost(authority, context=authority.context(["other.example"])) as host:
        host.serve("/jwks", key_set(key_of("ES256")))
        async with knowing(host, authority) as (server, robot):
            assert_unavailable(await server.token(**robot.form()))


async def test_strangers_cannot_have_more_than_so_many_fetches_under_way(
    host: DocumentHost, authority: Authority
) -> None:
    """Registering many clients with slow hosts leads to a 503 and nothing else."""
    asked, released = threading.Event(), threading.Event()

    def slow(_: ssl.SSLSocket) -> None:
        asked.set()
        released.wait(SECONDS)

    host.behave("/slow", slow)
    fetcher = fetcher_for(authority, max_fetches=1, timeout_seconds=SECONDS)
    async with knowing(host, authority, path="/slow", fetcher=fetcher) as (server, robot):
        first = asyncio.create_task(server.token(**robot.form()))
        assert await asyncio.to_thread(asked.wait, SECONDS)
        url = host.url("/jwks", host=NAME)
        client = await server.register(token_endpoint_auth_method="private_key_jwt", jwks_uri=url)
        other = Robot(BASE_URL, server.clock, client_id=client.client_id)

        async def revoke() -> Response:
            form = {**other.form(), "token": "x"}
            return await server.call(
                "POST", "/revoke", form={k: v for k, v in form.items() if v is not None}
            )

        # As many as can wait, at a second each.
        line = [asyncio.create_task(fetcher.enter(f"192.0.2.{n}")) for n in range(SECONDS)]
        await asyncio.sleep(0)  # now all of them wait
        assert_unavailable(await revoke())
        assert host.requests == ["/slow"]
        for waiting in line:
            waiting.cancel()
        released.set()
        assert_unavailable(await first)
        assert (await revoke()).status == 200


async def test_an_assertion_that_cannot_be_one_causes_no_fetch(
    host: DocumentHost, authority: Authority
) -> None:
    async with knowing(host, authority) as (server, robot):
        for assertion in (
            "a.b.c",
            "x",
            robot.assertion(header={"alg": "none"}),
            robot.assertion(header={"typ": "at+jwt"}),
        ):
            response = await server.token(**robot.form(assertion, client_id=robot.client_id))
            assert_refused(response, "invalid_client", 401)
        assert host.connections == 0
