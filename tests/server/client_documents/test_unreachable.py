"""Documents whose hosts are away: what is kept, what people and operators are told, and a proxy."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from asgi_mcp_auth.server import Lifetimes, RateLimits, Registration
from asgi_mcp_auth.server.clients.kept import DOCUMENTS
from asgi_mcp_auth.stores import scan_all
from asgi_mcp_auth.testing import FrozenClock, sign_jwt
from tests.support.authorization_server import WEB_REDIRECT_URI, Server, deploy, memory_store
from tests.support.client_documents import ask, ask_token, client_of, developing
from tests.support.connect_proxy import ConnectProxy
from tests.support.gate import signing_key
from tests.support.rows import rows
from tests.support.tls import Authority, DocumentHost

pytestmark = pytest.mark.asyncio

DAY = 86_400
PATIENCE = 10  # seconds, longer than anything here takes


@pytest.fixture
def proxied(host: DocumentHost) -> Iterator[ConnectProxy]:
    with ConnectProxy({"app.example.com": host.port}) as proxy:
        yield proxy


async def looked(server: Server) -> None:
    """Wait until no fetch is going on in the background."""
    background = server.provider._server.clients._documents._fetched._background
    async with asyncio.timeout(PATIENCE):
        while tasks := [task for each in background.values() for task in each.values()]:
            await asyncio.wait(tasks)


async def kept_documents(server: Server) -> list[str]:
    """Return the keys of the documents in the store."""
    return [key async for key, _ in scan_all(server.provider.store, DOCUMENTS.name)]


Away = Callable[[DocumentHost], None]


def answers(status: int, body: Any = b"", **headers: str) -> Away:
    return lambda host: host.serve("/client.json", body, status=status, **headers)


OUTAGES: dict[str, Away] = {
    "408": answers(408),
    "425": answers(425),
    "429": answers(429),
    "500": answers(500, b"oops", content_type="text/plain"),
    "503": answers(503),
    # Of something before the host, which says nothing about the document.
    "a challenge for robots": answers(403, b"<html>", content_type="text/html"),
    "a page to sign in at a network": answers(302, location="https://login.example.com/"),
    "no answer": lambda host: host.behave("/client.json", lambda connection: None),
    "half an answer": lambda host: host.behave(
        "/client.json", lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-")
    ),
}


@pytest.mark.rule("AS-94")
@pytest.mark.parametrize("case", OUTAGES)
async def test_a_client_that_somebody_uses_works_while_the_host_of_its_document_is_away(
    case: str, authority: Authority, host: DocumentHost
) -> None:
    """Refreshing and signing in, in the same process and after a restart."""
    url, clock = host.serve_client(), FrozenClock()
    settings: dict[str, Any] = {"store": memory_store(clock), "clock": clock}
    async with developing(authority, **settings) as server:
        client = client_of(server, url)
        tokens = await client.sign_in()
        OUTAGES[case](host)
        clock.advance(3600)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        await looked(server)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        assert await client.sign_in("bob")
        assert server.reasons() == []
    async with developing(authority, **settings) as server:
        client = client_of(server, url)
        clock.advance(3600)
        assert (await client.refresh(tokens["refresh_token"])).status == 200
        assert await client.sign_in("carol")
        assert server.reasons() == []


@pytest.mark.rule("AS-94")
async def test_a_host_that_is_gone_altogether_is_away_too(authority: Authority) -> None:
    async with developing(authority) as server:
        with DocumentHost(authority) as host:
            client = client_of(server, host.serve_client())
            tokens = await client.sign_in()
        server.clock.advance(3600)
        assert (await client.refresh(tokens["refresh_token"])).status == 200
        assert await client.sign_in("bob")


@pytest.mark.rule("AS-94")
async def test_a_client_that_somebody_uses_needs_no_place_for_a_fetch(
    authority: Authority, host: DocumentHost
) -> None:
    """Its network has used up what it may register and make us fetch."""
    url = host.serve_client()
    async with developing(authority, rate_limits=RateLimits(register=3)) as server:
        tokens = await client_of(server, url).sign_in()
        server.clock.advance(3600)
        for number in range(3):
            await ask(server, host.url(f"/{number}.json"))
        assert (await ask(server, host.url("/new.json"))).status == 429
        client = client_of(server, url)
        assert (await ask(server, url)).status == 303
        assert (await client.refresh(tokens["refresh_token"])).status == 200
        assert host.requests.count("/client.json") == 1


WITHDRAWALS: dict[str, Away] = {
    "404": answers(404),
    "410": answers(410),
    "the document of another": lambda host: host.serve_client(client_id="https://x.example/y"),
    "no document but a page": answers(200, b"<html>", content_type="text/html"),
    "a secret": lambda host: host.serve_client(client_secret="x"),
}


@pytest.mark.rule("AS-95")
@pytest.mark.parametrize("case", WITHDRAWALS)
async def test_a_document_that_its_host_has_taken_back_is_no_longer_used(
    case: str, authority: Authority, host: DocumentHost
) -> None:
    """A refresh does not wait for that news; nothing comes back when the host is away later."""
    url = host.serve_client()
    async with developing(authority) as server:
        client = client_of(server, url)
        tokens = await client.sign_in()
        WITHDRAWALS[case](host)
        server.clock.advance(3600)
        tokens = (await client.refresh(tokens["refresh_token"])).json()
        await looked(server)
        for away in (None, answers(503)):
            if away is not None:
                away(host)
                server.clock.advance(30)
            answer = await client.refresh(tokens["refresh_token"])
            assert answer.status == (401 if away is None else 503)
            assert (await ask(server, url)).status == (400 if away is None else 503)
        assert await kept_documents(server) == []


@pytest.mark.rule("AS-95")
async def test_the_newest_good_document_is_the_one_that_is_used(
    authority: Authority, host: DocumentHost
) -> None:
    """A redirect URI that was taken out stays out while the host is away, whoever fetched it."""
    clock = FrozenClock()
    settings: dict[str, Any] = {"store": memory_store(clock), "clock": clock}
    url = host.serve_client(redirect_uris=[WEB_REDIRECT_URI, "http://127.0.0.1/callback"])
    async with developing(authority, **settings) as server:
        tokens = await client_of(server, url).sign_in()
        host.serve_client(redirect_uris=[WEB_REDIRECT_URI])
        clock.advance(3600)
        await client_of(server, url).refresh(tokens["refresh_token"])
        await looked(server)
    answers(503)(host)
    async with developing(authority, **settings) as server:
        assert (await ask(server, url)).status == 400
        assert server.reasons() == ["redirect_uri"]
        assert (await ask(server, url, redirect_uri=WEB_REDIRECT_URI)).status == 303


@pytest.mark.rule("AS-94")
async def test_a_refresh_does_not_wait_for_a_document(
    authority: Authority, host: DocumentHost
) -> None:
    """Its host answers only afterwards."""
    url, asked, done = host.serve_client(), threading.Event(), threading.Event()
    async with developing(authority) as server:
        client = client_of(server, url)
        tokens = await client.sign_in()
        server.clock.advance(3600)

        def behave(connection: Any) -> None:
            asked.set()
            done.wait(PATIENCE)

        host.behave("/client.json", behave)
        try:
            for _ in range(2):  # the second one while the host is being asked
                response = await client.refresh(tokens["refresh_token"])
                assert response.status == 200
                tokens = response.json()
                assert await asyncio.to_thread(asked.wait, PATIENCE)
        finally:
            done.set()
        await looked(server)
        assert host.requests == ["/client.json"] * 2


@pytest.mark.rule("AS-94")
@pytest.mark.parametrize("is_away", [False, True])
async def test_a_key_that_is_newer_than_the_kept_document_is_looked_for(
    is_away: bool, authority: Authority, host: DocumentHost
) -> None:
    """A client that has changed its keys is not refused by what is kept of it."""
    old, new = signing_key("ES256"), signing_key("ES256")

    def publish(key: Any) -> str:
        return host.serve_client(
            token_endpoint_auth_method="private_key_jwt", jwks={"keys": [key.public_jwk()]}
        )

    url = publish(old)
    async with developing(authority) as server:
        client = client_of(server, url)

        def proof(key: Any, number: int) -> dict[str, str]:
            now = int(server.clock.time())
            claims = {"iss": url, "sub": url, "aud": server.provider.base_url}
            claims |= {"exp": now + 60, "iat": now, "jti": str(number)}
            return {
                "client_assertion": sign_jwt(key, {"alg": "ES256", "kid": key.key_id}, claims),
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            }

        code = await client.code()
        tokens = (await client.redeem(code, **proof(old, 1))).json()
        publish(new)
        if is_away:
            answers(503)(host)
        server.clock.advance(3600)
        used = old if is_away else new
        response = await client.refresh(tokens["refresh_token"], **proof(used, 2))
        assert response.status == 200


def no(*_: object) -> bool:
    return False


OPERATORS: dict[str, tuple[dict[str, Any], str]] = {
    "documents are off": ({"metadata_documents": False}, "documents_off"),
    "trust_document says no": ({"trust_document": no}, "document"),
    "approve says no": ({"approve": no}, "document"),
}


@pytest.mark.rule("AS-95")
@pytest.mark.parametrize("case", OPERATORS)
async def test_what_is_kept_is_for_the_operator_to_refuse(
    case: str, authority: Authority, host: DocumentHost
) -> None:
    settings, reason = OPERATORS[case]
    url, clock = host.serve_client(), FrozenClock()
    deployment: dict[str, Any] = {"store": memory_store(clock), "clock": clock}
    async with developing(authority, **deployment) as server:
        tokens = await client_of(server, url).sign_in()
    answers(503)(host)
    async with developing(authority, registration=settings, **deployment) as server:
        response = await client_of(server, url).refresh(tokens["refresh_token"])
        assert (response.status, response.json()["error"]) == (401, "invalid_client")
        assert (await ask(server, url)).status == 400
        assert server.reasons() == [reason, reason]


@pytest.mark.rule("AS-95")
async def test_a_hook_that_fails_about_a_kept_document_decides_nothing(
    authority: Authority, host: DocumentHost
) -> None:
    def fail(*_: object) -> bool:
        raise OSError("the list is not there")

    url, clock = host.serve_client(), FrozenClock()
    deployment: dict[str, Any] = {"store": memory_store(clock), "clock": clock}
    async with developing(authority, **deployment) as server:
        tokens = await client_of(server, url).sign_in()
    for name in ("approve", "trust_document"):
        async with developing(authority, registration={name: fail}, **deployment) as server:
            response = await client_of(server, url).refresh(tokens["refresh_token"])
            assert (response.status, response.json()["error"]) == (503, "temporarily_unavailable")


@pytest.mark.rule("AS-95")
async def test_rules_that_have_become_stricter_hold_for_a_kept_document(
    authority: Authority, host: DocumentHost
) -> None:
    url, clock = host.serve_client(redirect_uris=["cursor://callback"]), FrozenClock()
    deployment: dict[str, Any] = {"store": memory_store(clock), "clock": clock}
    async with developing(authority, allowed_redirect_schemes=["cursor"], **deployment) as server:
        await client_of(server, url, "cursor://callback").sign_in()
    answers(503)(host)
    async with developing(authority, **deployment) as server:
        assert (await ask(server, url, redirect_uri="cursor://callback")).status == 400
        assert server.reasons() == ["document"]


@pytest.mark.rule("AS-96")
async def test_a_stranger_has_nothing_kept(authority: Authority, host: DocumentHost) -> None:
    """A document is kept when somebody has approved its client."""
    async with developing(authority) as server:
        for number in range(5):
            url = host.serve_client(f"/{number}.json")
            await ask(server, url)
            await ask_token(server, url)
            form = dict(parse_qsl(urlsplit(client_of(server, url).authorization_url()).query))
            assert (await server.call("POST", "/par", form=form)).status == 201
        assert await kept_documents(server) == []
        await client_of(server, url).code()
        assert len(await kept_documents(server)) == 1
        await server.provider.admin.delete_client(url)
        assert await kept_documents(server) == []


@pytest.mark.rule("AS-96")
async def test_a_document_is_kept_for_as_long_as_its_client_may_have_a_grant(
    authority: Authority, host: DocumentHost
) -> None:
    lifetimes = Lifetimes(refresh_token_seconds=10 * DAY, refresh_idle_seconds=10 * DAY)
    url = host.serve_client()
    async with developing(authority, lifetimes=lifetimes) as server:
        client = client_of(server, url)
        tokens = await client.sign_in()
        answers(503)(host)
        server.clock.advance(10 * DAY - 1)
        response = await client.refresh(tokens["refresh_token"])
        assert response.status == 200
        await looked(server)
        server.clock.advance(DAY + 61)
        assert (await ask(server, url)).status == 503
        assert (await ask_token(server, url)).status == 503
        assert server.reasons() == ["document_unreachable"] * 2


# ------------------------------------------------------------------------------------ what is said


@pytest.mark.rule("AS-97")
async def test_who_reads_the_page_learns_which_host_and_which_settings(
    authority: Authority, host: DocumentHost
) -> None:
    answers(503)(host)
    async with developing(authority) as server:
        response = await ask(server, host.url())
        page = response.body.decode()
        for text in (
            f"localhost:{host.port}",
            "a document that this server cannot fetch",
            "Registration(metadata_documents=False)",
            "Registration(document_proxy=…)",
        ):
            assert text in page
        (event,) = [each for each in server.events if each.action == "refused"]
        assert (event.reason, event.error, event.client_id, event.endpoint) == (
            "document_unreachable",
            "temporarily_unavailable",
            host.url(),
            "authorize",
        )
        document = (await ask_token(server, host.url())).json()
        assert document["error"] == "temporarily_unavailable"
        assert document["error_description"].isascii()
        assert "localhost" not in document["error_description"]


@pytest.mark.rule("AS-97")
async def test_the_operator_is_warned_once_in_ten_minutes_and_about_few_hosts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Strangers name hosts, so most of them are worth an INFO only."""
    caplog.set_level(logging.INFO)

    def levels() -> list[int]:
        found = [each.levelno for each in caplog.records if "cannot be fetched" in each.message]
        caplog.clear()
        return found

    nowhere = {"document_proxy": "http://127.0.0.1:9"}
    async with deploy(registration=Registration(metadata_documents=True, **nowhere)) as server:

        async def visit(number: int) -> None:
            server.clock.advance(31)
            await ask(server, f"https://host{number}.example.com/client.json")

        await visit(0)
        assert "metadata_documents=False" in caplog.text
        assert levels() == [logging.WARNING]
        for number in (0, 1, 2, 3, 4, 5):
            await visit(number)
        assert levels() == [logging.INFO, *[logging.WARNING] * 3, logging.INFO, logging.INFO]
        server.clock.advance(600)
        await visit(0)
        assert levels() == [logging.WARNING]


@pytest.mark.rule("AS-97")
async def test_keys_that_cannot_be_fetched_are_reported_too(
    authority: Authority,
    host: DocumentHost,
    proxied: ConnectProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Signing in needs no keys, the token endpoint does."""
    caplog.set_level(logging.INFO)
    key, url = signing_key("ES256"), "https://app.example.com/client.json"
    uri = "https://app.example.com/jwks"
    host.serve("/jwks", b"", status=503)
    host.serve_client(client_id=url, token_endpoint_auth_method="private_key_jwt", jwks_uri=uri)
    async with developing(authority, registration={"document_proxy": proxied.url}) as server:
        assert (await ask(server, url)).status == 303
        now = int(server.clock.time())
        claims = {"iss": url, "sub": url, "aud": server.provider.base_url}
        claims |= {"exp": now + 60, "iat": now, "jti": "1"}
        response = await server.token(
            client_id=url,
            grant_type="authorization_code",
            client_assertion=sign_jwt(key, {"alg": "ES256", "kid": key.key_id}, claims),
            client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        )
        assert response.status == 503
        (event,) = [each for each in server.events if each.action == "refused"]
        assert (event.reason, event.client_id) == ("client_keys_unreachable", url)
        assert [each.levelno for each in caplog.records if "cannot be fetched" in each.message] == [
            logging.INFO
        ]


# -------------------------------------------------------------------------------------- a proxy


@pytest.mark.rule("AS-98")
@pytest.mark.parametrize("login", ["", "us:secret@"])
async def test_behind_an_http_proxy_documents_come_through_it(
    login: str, authority: Authority, host: DocumentHost, proxied: ConnectProxy
) -> None:
    """It gets the name, which this machine need not be able to resolve."""
    url = "https://app.example.com/client.json"
    host.serve_client(client_id=url)
    proxy = proxied.url.replace("//", f"//{login}")
    async with developing(authority, registration={"document_proxy": proxy}) as server:
        assert (await ask(server, url)).status == 303
        assert proxied.targets == ["app.example.com:443"]
        assert (b"proxy-authorization: basic" in proxied.heads[0].lower()) == bool(login)
        assert host.seen[0].server_name == "app.example.com"
        assert b"\r\nhost: app.example.com\r\n" in host.seen[0].head
        assert b"proxy-authorization" not in host.seen[0].head


@pytest.mark.rule("AS-98")
async def test_what_the_proxy_does_not_let_through_is_unreachable(
    authority: Authority, proxied: ConnectProxy
) -> None:
    async with developing(authority, registration={"document_proxy": proxied.url}) as server:
        assert (await ask(server, "https://elsewhere.example/client.json")).status == 503
        assert server.reasons() == ["document_unreachable"]
        assert proxied.targets == ["elsewhere.example:443"]


@pytest.mark.rule("AS-98")
@rows(
    "url",
    [
        "https://10.0.0.1/client.json",
        "https://[::1]/x",
        "https://2130706433/x",
        "https://a.localhost/x",
    ],
)
async def test_an_address_that_is_not_public_is_not_asked_of_the_proxy(url: str) -> None:
    with ConnectProxy({}) as proxy:
        settings = Registration(metadata_documents=True, document_proxy=proxy.url)
        async with deploy(registration=settings) as server:
            await ask(server, url)
            assert proxy.targets == []
