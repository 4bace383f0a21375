"""``/revoke``: a client revokes a token, and with it the whole grant (RFC 7009)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_mcp_auth.server import Lifetimes, Registration
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Response
from tests.support.authorization_server import CONFIDENTIAL, KEY, ClientOf, Server, basic, deploy
from tests.support.engines import fresh
from tests.support.failing import FailingStore, HeldStore
from tests.support.products import STORIES
from tests.support.rows import rows
from tests.support.token_endpoint import (
    assert_not_kept,
    assert_refused,
    deploy_on,
    is_alive,
    tokens_of,
)

pytestmark = pytest.mark.asyncio

OPERATORS = Registration(clients=[CONFIDENTIAL])
TOKENS = ("access_token", "refresh_token")


async def revoke(client: ClientOf, token: str, hint: str | None = None) -> Response:
    form = {"token": token} | ({} if hint is None else {"token_type_hint": hint})
    if "client_secret" in client.information:
        headers = basic(client.client_id, client.information["client_secret"])
        return await client.server.call("POST", "/revoke", headers=headers, form=form)
    return await client.server.call("POST", "/revoke", form={**form, "client_id": client.client_id})


def assert_done(response: Response) -> None:
    """Check that an answer is what RFC 7009 §2.2 wants, whatever has happened."""
    assert (response.status, response.body) == (200, b"")
    assert_not_kept(response)


def revocations(server: Server) -> list[str | None]:
    return [event.reason for event in server.events if event.action == "grant_revoked"]


@pytest.mark.case("Z82", "Z84", "V75")
@pytest.mark.rule("AS-49")
@rows("engine", STORIES)
@rows("kind", TOKENS)
async def test_revoking_either_token_ends_the_grant(engine: str, kind: str) -> None:
    """At once, in the process that revoked. RFC 7009 §2.1."""
    async with deploy_on(engine) as server:
        client = await server.register()
        tokens, other = await client.sign_in(), await client.sign_in()
        refreshed = tokens_of(await client.refresh(tokens["refresh_token"]))
        assert await is_alive(server, refreshed["access_token"])
        assert_done(await revoke(client, refreshed[kind]))
        for pair in (tokens, refreshed):
            assert not await is_alive(server, pair["access_token"])
        assert_refused(await client.refresh(refreshed["refresh_token"]), "invalid_grant")
        assert revocations(server) == ["by_client"]
        assert await is_alive(server, other["access_token"]), "another sign-in is another grant"
        assert_done(await revoke(client, refreshed[kind]))
        assert revocations(server) == ["by_client"]


@pytest.mark.case("Z83")
@pytest.mark.rule("AS-46")
@pytest.mark.parametrize("kind", TOKENS)
async def test_public_and_confidential_clients_can(kind: str) -> None:
    async with deploy(registration=OPERATORS) as server:
        for client in (await server.register(), server.known(CONFIDENTIAL)):
            tokens = await client.sign_in()
            assert_done(await revoke(client, tokens[kind]))
            assert not await is_alive(server, tokens["access_token"])


@pytest.mark.case("Z85")
@pytest.mark.rule("AS-47")
@rows("kind", TOKENS)
@rows("hint", [*TOKENS, "unknown", "id_token", "", "é", "x" * 10_000])
async def test_a_wrong_hint_does_not_matter(kind: str, hint: str) -> None:
    """RFC 7009 §2.1."""
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in()
        assert_done(await revoke(client, tokens[kind], hint))
        assert not await is_alive(server, tokens["access_token"])


async def test_an_older_refresh_token_of_the_grant_ends_it_too() -> None:
    async with deploy() as server:
        client = await server.register()
        first = await client.sign_in()
        refreshed = first
        for _ in range(3):
            refreshed = tokens_of(await client.refresh(refreshed["refresh_token"]))
        assert_done(await revoke(client, first["refresh_token"]))
        assert not await is_alive(server, refreshed["access_token"])
        assert revocations(server) == ["by_client"], "that is no replay"


@pytest.mark.case("Z82")
@pytest.mark.rule("AS-48")
@pytest.mark.parametrize("kind", TOKENS)
async def test_another_client_s_token_is_left_alone_and_nothing_is_said_of_it(
    kind: str,
) -> None:
    async with deploy(registration=OPERATORS) as server:
        client = await server.register()
        tokens = await client.sign_in()
        for other in (await server.register(), server.known(CONFIDENTIAL)):
            assert_done(await revoke(other, tokens[kind]))
        assert revocations(server) == []
        assert await is_alive(server, tokens["access_token"])
        tokens_of(await client.refresh(tokens["refresh_token"]))


@pytest.mark.case("Z82")
@pytest.mark.rule("AS-47")
async def test_what_is_no_token_is_answered_the_same() -> None:
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in()
        code = await client.code()
        header, payload, signature = tokens["access_token"].split(".")
        for token in (
            "x",
            code,
            "rt_x.0.y",
            "a.b.c",
            "..",
            "é",
            "\0",
            "x" * 60_000,
            tokens["refresh_token"][:-1],
            tokens["refresh_token"][:-2] + "AA",
            f"{header}.{payload}.{signature[::-1]}",
            f"{payload}.{header}.{signature}",
        ):
            assert_done(await revoke(client, token))
        assert await is_alive(server, tokens["access_token"])
        tokens_of(await client.redeem(code))


@pytest.mark.case("Z82")
async def test_an_expired_token_is_answered_the_same() -> None:
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in()
        server.clock.advance(3600)
        assert_done(await revoke(client, tokens["access_token"]))
        tokens_of(await client.refresh(tokens["refresh_token"]))
        server.clock.advance(15 * 86_400)
        assert_done(await revoke(client, tokens["refresh_token"]))


async def test_the_token_is_needed_and_the_client_has_to_prove_itself() -> None:
    async with deploy(registration=OPERATORS) as server:
        client = server.known(CONFIDENTIAL)
        tokens = await client.sign_in()
        for form in ({}, {"token": ""}):
            response = await server.call(
                "POST",
                "/revoke",
                headers=basic("service", CONFIDENTIAL["client_secret"]),
                form=form,
            )
            assert_refused(response, "invalid_request")
        for headers, form in (
            ({}, {"client_id": "service"}),
            ({}, {}),
            (basic("service", "x" * 40), {}),
        ):
            response = await server.call(
                "POST", "/revoke", headers=headers, form={**form, "token": tokens["access_token"]}
            )
            assert_refused(response, "invalid_client", 401)
        assert await is_alive(server, tokens["access_token"])


@pytest.mark.case("Z86")
@rows("engine", STORIES)
@rows("order", range(4))
async def test_revocation_and_refresh_at_once_leave_nothing_alive(engine: str, order: int) -> None:
    async with deploy_on(engine) as server:
        client = await server.register()
        for _ in range(3):
            tokens = await client.sign_in()
            works = [client.refresh(tokens["refresh_token"]) for _ in range(4)]
            works.insert(order, revoke(client, tokens["refresh_token"]))
            answers = await asyncio.gather(*works)
            assert_done(answers.pop(order))
            for answer in answers:
                if answer.status == 200:
                    assert not await is_alive(server, answer.json()["access_token"])
                    assert_refused(
                        await client.refresh(answer.json()["refresh_token"]), "invalid_grant"
                    )
                else:
                    assert_refused(answer, "invalid_grant")


@pytest.mark.case("Z86")
@pytest.mark.parametrize("held_call", [("get", "grant"), ("swap", "grant")])
async def test_a_refresh_that_is_overtaken_by_a_revocation_writes_nothing_alive(
    held_call: tuple[str, str],
) -> None:
    clock = FrozenClock()
    held = HeldStore(MemoryStore(clock=clock))
    async with deploy(store=EncryptedStore(held, [KEY]), clock=clock) as server:
        client = await server.register()
        tokens = await client.sign_in()
        held.hold = held_call
        late = asyncio.create_task(client.refresh(tokens["refresh_token"]))
        await held.arrived.wait()
        assert_done(await revoke(client, tokens["refresh_token"]))
        held.go.set()
        assert_refused(await late, "invalid_grant")
        assert server.reasons() == ["grant_revoked"]


@pytest.mark.case("Z86")
@pytest.mark.parametrize("held_call", [("get", "grant"), ("put", "grant")])
async def test_a_revocation_that_is_overtaken_by_refreshes_ends_them_all(
    held_call: tuple[str, str],
) -> None:
    clock = FrozenClock()
    held = HeldStore(MemoryStore(clock=clock))
    async with (
        deploy(store=EncryptedStore(held, [KEY]), clock=clock) as server,
        deploy(store=EncryptedStore(held.inner, [KEY]), clock=clock) as other_process,
    ):
        client = await server.register()
        tokens = await client.sign_in()
        held.hold = held_call
        late = asyncio.create_task(revoke(client, tokens["refresh_token"]))
        await held.arrived.wait()
        latest, there = tokens, ClientOf(other_process, client.information, client.verifier)
        for _ in range(3):
            latest = tokens_of(await there.refresh(latest["refresh_token"]))
        held.go.set()
        assert_done(await late)
        assert not await is_alive(server, latest["access_token"])
        assert_refused(await client.refresh(latest["refresh_token"]), "invalid_grant")


@pytest.mark.case("V75")
async def test_a_token_revoked_during_its_look_up_is_not_remembered_as_live() -> None:
    clock = FrozenClock()
    held = HeldStore(MemoryStore(clock=clock))
    async with deploy(store=EncryptedStore(held, [KEY]), clock=clock) as server:
        client = await server.register()
        tokens = await client.sign_in()
        inner, records = held.inner.get, []

        async def slow_get(ns: str, key: str) -> object:
            record = await inner(ns, key)
            if ns.startswith("grant") and not records:
                records.append(record)
                held.arrived.set()
                await held.go.wait()
            return record

        held.inner.get = slow_get  # type: ignore[method-assign]  # answers late, with what was true when it was asked
        look_up = asyncio.create_task(is_alive(server, tokens["access_token"]))
        await held.arrived.wait()
        assert_done(await revoke(client, tokens["refresh_token"]))
        held.go.set()
        assert await look_up is False
        assert not await is_alive(server, tokens["access_token"])


@pytest.mark.case("V75")
@rows("engine", STORIES)
@rows("lag", [0, 5])
async def test_another_process_goes_on_for_the_revocation_lag_and_no_longer(
    engine: str, lag: float
) -> None:
    clock = FrozenClock()
    settings = {"clock": clock, "lifetimes": Lifetimes(revocation_lag_seconds=lag)}
    with fresh(engine) as place:
        async with (
            deploy(store=place.store(clock=clock), **settings) as here,
            deploy(store=place.store(clock=clock), **settings) as there,
        ):
            client = await here.register()
            tokens = await client.sign_in()
            assert await is_alive(there, tokens["access_token"])
            assert_done(await revoke(client, tokens["access_token"]))
            assert not await is_alive(here, tokens["access_token"])
            clock.advance(max(0, lag - 0.1))
            assert await is_alive(there, tokens["access_token"]) is (lag > 0)
            clock.advance(0.1)
            assert not await is_alive(there, tokens["access_token"])


@pytest.mark.case("S19")
async def test_the_revocation_lag_goes_by_the_clock_that_never_jumps() -> None:
    clock = FrozenClock()
    with fresh("memory") as place:
        async with (
            deploy(store=place.store(clock=clock), clock=clock) as here,
            deploy(store=place.store(clock=clock), clock=clock) as there,
        ):
            client = await here.register()
            tokens = await client.sign_in()
            assert await is_alive(there, tokens["access_token"])
            assert_done(await revoke(client, tokens["access_token"]))
            clock.jump(-1800)
            clock.advance(5)
            assert not await is_alive(there, tokens["access_token"])
            clock.jump(3600)
            assert not await is_alive(here, tokens["access_token"])


@pytest.mark.rule("AS-47")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_store_that_fails_is_503_and_the_client_may_try_again(when: str) -> None:
    clock = FrozenClock()
    failing = FailingStore(MemoryStore(clock=clock), when=when)  # type: ignore[arg-type]
    async with deploy(store=EncryptedStore(failing, [KEY]), clock=clock) as server:
        client = await server.register()
        tokens = await client.sign_in()
        for number in range(1, 10):
            failing.calls.clear()
            failing.fail_at = number
            response = await revoke(client, tokens["refresh_token"])
            if response.status == 200:
                break
            assert (response.status, response.header("retry-after")) == (503, "1")
        failing.fail_at = 0
        assert_done(response)
        assert number > 2
        assert not await is_alive(server, tokens["access_token"])


async def test_decision_12_a_store_that_cannot_be_read_beyond_the_lag_is_503_and_no_401() -> None:
    clock = FrozenClock()
    failing = FailingStore(MemoryStore(clock=clock), for_good=True)
    async with deploy(store=EncryptedStore(failing, [KEY]), clock=clock) as server:
        client = await server.register()
        tokens = await client.sign_in()
        assert await is_alive(server, tokens["access_token"])
        failing.calls.clear()
        failing.fail_at = 1
        clock.advance(4.9)
        assert await is_alive(server, tokens["access_token"])
        clock.advance(0.1)
        response = await server.call("POST", "/mcp", bearer=tokens["access_token"])
        assert (response.status, response.header("retry-after")) == (503, "1")
        failing.fail_at = 0
        assert await is_alive(server, tokens["access_token"])


@pytest.mark.case("V77")
@pytest.mark.parametrize("kind", ["refresh_token", "code", "session"])
async def test_what_is_no_access_token_does_not_open_the_app(kind: str) -> None:
    async with deploy() as server:
        client = await server.register()
        browser = server.browser()
        code = await client.code(browser=browser)
        tokens = tokens_of(await client.redeem(await client.code()))
        token = {
            "refresh_token": tokens["refresh_token"],
            "code": code,
            "session": next(iter(browser.cookies.values())),
        }
        assert not await is_alive(server, token[kind])
        assert server.spy.scopes == []
        assert await is_alive(server, tokens["access_token"])
        tokens_of(await client.redeem(code))


@pytest.mark.case("V76")
async def test_the_tokens_of_a_retired_key_are_over() -> None:
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in()
        assert await is_alive(server, tokens["access_token"])
        await server.provider.admin.rotate_keys()
        assert await is_alive(server, tokens["access_token"])
        await server.provider.admin.rotate_keys(retire=True)
        assert not await is_alive(server, tokens["access_token"])
        refreshed = tokens_of(await client.refresh(tokens["refresh_token"]))
        assert await is_alive(server, refreshed["access_token"])


@pytest.mark.case("V77")
@rows("grant_id", [{}, {"grant_id": 5}, {"grant_id": None}, {"grant_id": "unknown"}])
async def test_a_token_signed_by_our_key_without_a_grant_is_refused_each_time(
    grant_id: dict[str, Any],
) -> None:
    """An operator who keeps the keys may sign with them elsewhere, too."""
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in()
        assert await is_alive(server, tokens["access_token"])
        claims = {**server.spy.scope["access_token"].claims}
        del claims["grant_id"]
        token = await server.provider._server.signer.sign({"typ": "at+jwt"}, {**claims, **grant_id})
        for _ in range(3):
            assert not await is_alive(server, token)
        form = {"token": token, "client_id": client.client_id}
        assert_done(await server.call("POST", "/revoke", form=form))
        assert await is_alive(server, tokens["access_token"])
