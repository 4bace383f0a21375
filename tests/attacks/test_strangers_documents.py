"""Metadata documents named by strangers: shares of the fetches, and the operator's say."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest

from asgi_mcp_auth import ConfigurationError, DevLogin, OAuthProvider
from asgi_mcp_auth._http import PublicFetcher
from asgi_mcp_auth.server import RateLimits, Registration
from tests.support.authorization_server import ClientOf, Server, deploy
from tests.support.tls import Authority, DocumentHost, hang

pytestmark = [pytest.mark.asyncio, pytest.mark.case("Z112")]

REDIRECT_URI = "http://127.0.0.1/callback"
FLOODER, OTHER = "192.0.2.1", "198.51.100.1"


class Zone:
    """What name servers say: those of ``dead.example`` nothing, as long as the test wants."""

    def __init__(self) -> None:
        self.revived = threading.Event()
        self.asked = 0

    def resolve(self, host: str, port: int) -> list[str]:
        if host.endswith(".dead.example"):
            self.asked += 1
            self.revived.wait(20)
            raise OSError("nobody knows it")
        return ["127.0.0.1"]


@asynccontextmanager
async def developing(
    authority: Authority, *, fetching: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[Server, Zone]]:
    """Run a server whose documents come by a fetcher with these settings."""
    zone, registration = Zone(), settings.pop("registration", {})
    usual = {
        "development_documents": True,
        "development_ca_file": authority.ca_file,
        **registration,
    }
    async with deploy(registration=Registration(**usual), **settings) as server:
        documents = server.provider._server.clients._documents
        documents._fetched._fetcher = PublicFetcher(
            **{
                "timeout_seconds": 5,
                "allow_loopback": True,
                "ca_file": authority.ca_file,
                **(fetching or {}),
            },
            resolve=zone.resolve,
        )
        try:
            yield server, zone
        finally:
            zone.revived.set()


async def visit(server: Server, url: str, address: str) -> int:
    """Begin a sign-in of the client ``url``."""
    query = urlencode(
        {
            "client_id": url,
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "code_challenge": "x" * 43,
            "code_challenge_method": "S256",
        }
    )
    return (await server.call("GET", f"/authorize?{query}", client=(address, 1))).status


def give_time(server: Server) -> None:
    """Let good hosts be as slow as this machine may be, once the dead ones have been given up."""
    server.provider._server.clients._documents._fetched._fetcher._timeout_seconds = 5


# -------------------------------------------------------------------------------- shares of fetches


@pytest.mark.slow
async def test_a_place_lasts_as_long_as_its_thread_and_a_dead_zone_costs_its_own_network(
    authority: Authority, host: DocumentHost
) -> None:
    """The fetch is given up in time, but the thread asks the name server for much longer."""
    good = host.serve_client()
    fetching = {"timeout_seconds": 0.3, "max_fetches": 6, "max_fetches_each": 4}
    async with developing(authority, fetching=fetching) as (server, zone):
        dead = [f"https://{number}.dead.example/client.json" for number in range(9)]
        answers = [await visit(server, url, FLOODER) for url in dead]
        assert answers == [503] * 4 + [429] * 5
        assert zone.asked == 4
        give_time(server)
        assert await visit(server, good, FLOODER) == 429
        assert await visit(server, good, OTHER) == 303
        zone.revived.set()
        for _ in range(500):
            if await visit(server, host.serve_client("/later.json"), FLOODER) == 303:
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("the places never came back")


async def test_the_operator_looks_a_client_up_while_strangers_hold_all_places(
    authority: Authority, host: DocumentHost
) -> None:
    good = host.serve_client()
    fetching = {"timeout_seconds": 0.3, "max_fetches": 2, "max_fetches_each": 2}
    async with developing(authority, fetching=fetching) as (server, _):
        for number in range(2):
            await visit(server, f"https://{number}.dead.example/client.json", FLOODER)
        assert await visit(server, good, OTHER) == 503
        give_time(server)
        assert await server.provider.admin.get_client(good) is not None


async def test_our_own_congestion_is_not_remembered_against_an_honest_url(
    authority: Authority, host: DocumentHost
) -> None:
    good = host.serve_client()
    fetching = {"timeout_seconds": 0.3, "max_fetches": 1, "max_fetches_each": 1}
    async with developing(authority, fetching=fetching) as (server, zone):
        assert await visit(server, "https://x.dead.example/client.json", FLOODER) == 503
        assert (await visit(server, good, FLOODER), await visit(server, good, OTHER)) == (429, 503)
        assert host.connections == 0
        give_time(server)
        zone.revived.set()
        for _ in range(500):  # the clock of the server stands still
            if await visit(server, good, OTHER) == 303:
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("the URL was remembered as one that cannot be had")


@pytest.mark.slow
async def test_waiting_for_a_fetch_under_way_takes_no_place(
    authority: Authority, host: DocumentHost
) -> None:
    same, other = host.serve_client("/same.json"), host.serve_client("/other.json")
    host.behave("/slow.json", hang())
    fetching = {"timeout_seconds": 1, "max_fetches": 2, "max_fetches_each": 2}
    async with developing(authority, fetching=fetching) as (server, _):
        slow = [
            asyncio.create_task(visit(server, host.url("/slow.json"), FLOODER)) for _ in range(30)
        ]
        await asyncio.sleep(0.1)
        assert await visit(server, other, FLOODER) == 303, (
            "thirty who wait for one fetch hold one place"
        )
        answers = await asyncio.gather(
            *(visit(server, same, address) for address in (FLOODER, OTHER) * 20)
        )
        assert {*answers} == {303}
        assert {await each for each in slow} == {503}
        assert sorted(host.requests) == ["/other.json", "/same.json", "/slow.json"]


async def test_a_document_needed_again_during_a_sign_in_counts_for_the_person_signing_in(
    authority: Authority, host: DocumentHost
) -> None:
    """Otherwise many unfinished sign-ins would make us fetch all their documents at once,
    uncounted.
    """
    urls = [
        host.serve_client(f"/{number}.json", headers={"cache_control": "max-age=300"})
        for number in range(3)
    ]
    async with developing(authority, rate_limits=RateLimits(register=2)) as (server, _):
        pages = []
        for url in urls:
            browser = server.browser()
            client = ClientOf(server, {"client_id": url, "redirect_uris": [REDIRECT_URI]})
            pages.append((browser, await browser.open(client.authorization_url())))
            server.clock.advance(60)
        server.clock.advance(300)
        assert [(await browser.open(page.url)).response.status for browser, page in pages] == [
            200,
            200,
            429,
        ]


async def test_who_waited_for_a_place_and_finds_the_document_there_gives_the_place_back(
    authority: Authority, host: DocumentHost
) -> None:
    good, later = host.serve_client(), host.serve_client("/later.json")
    async with developing(authority, fetching={"max_fetches": 1, "max_fetches_each": 1}) as (
        server,
        _,
    ):
        fetcher = server.provider._server.clients._documents._fetched._fetcher
        held = await fetcher.enter("somebody else")
        both = [asyncio.create_task(visit(server, good, address)) for address in (FLOODER, OTHER)]
        for _ in range(500):
            if len(fetcher._places._line) == len(both):
                break
            await asyncio.sleep(0.01)
        held.leave()
        assert await asyncio.gather(*both) == [303, 303]
        assert await visit(server, later, FLOODER) == 303


# ----------------------------------------------------------------------------------- who is welcome


async def test_the_operators_trust_is_asked_for_again_whatever_the_documents_cache_says(
    authority: Authority, host: DocumentHost
) -> None:
    url, trusted, asked = (
        host.serve_client(headers={"cache_control": "max-age=86400"}),
        True,
        list[str](),
    )

    def trust(named: str) -> bool:
        asked.append(named)
        return trusted

    async with developing(authority, registration={"trust_document": trust}) as (server, _):
        client = ClientOf(server, {"client_id": url, "redirect_uris": [REDIRECT_URI]})
        tokens = await client.sign_in()
        assert asked == [url], "not at each request: it may take its time"
        trusted = False
        server.clock.advance(60)
        response = await client.refresh(tokens["refresh_token"])
        assert (response.status, response.json()["error"]) == (401, "invalid_client")
        assert await visit(server, url, OTHER) == 400
        trusted = True
        server.clock.advance(60)
        assert (await client.refresh(tokens["refresh_token"])).status == 200
        assert len(host.requests) == 1


async def test_the_operator_approves_of_documents_as_of_registrations(
    authority: Authority, host: DocumentHost
) -> None:
    good, bad = (
        host.serve_client("/good.json"),
        host.serve_client("/bad.json", client_name="Totally your bank"),
    )
    seen: list[dict[str, Any]] = []

    def approve(metadata: dict[str, Any]) -> bool:
        seen.append(metadata)
        return "bank" not in metadata["client_name"]

    async with developing(authority, registration={"approve": approve}) as (server, _):
        assert (await visit(server, good, OTHER), await visit(server, bad, OTHER)) == (303, 400)
        assert [each["client_id"] for each in seen] == [good, bad]
        assert seen[0]["redirect_uris"] == [REDIRECT_URI]
        assert server.reasons() == ["document"]


TOKEN = "a-token-of-at-least-thirty-two-characters"
CLOSED = {
    "off": ({"allow_dynamic_registration": False}, {}),
    "token": ({}, {"initial_access_token": TOKEN}),
}


@pytest.mark.parametrize("closed", CLOSED)
async def test_closing_registration_requires_a_decision_about_documents(closed: str) -> None:
    settings, members = CLOSED[closed]

    def make(**said: Any) -> OAuthProvider:
        registration = Registration(**members, **said)
        usual = {
            "base_url": "http://localhost:8000",
            "login": DevLogin(),
            "store": "memory:",
            **settings,
        }
        return OAuthProvider(registration=registration, **usual)

    with pytest.raises(
        ConfigurationError, match=r"metadata_documents=False\) to refuse documents too"
    ):
        make()
    for said in (
        {"metadata_documents": False},
        {"metadata_documents": True},
        {"trust_document": lambda url: True},
    ):
        make(**said)
