"""``/introspect``: what a resource server may learn about a token (RFC 7662)."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth.server import Lifetimes, Login, Person, Registration
from asgi_mcp_auth.server.login import LoginAttempt
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Response
from tests.support.authorization_server import (
    BASE_URL,
    CONFIDENTIAL,
    RESOURCE,
    ClientOf,
    Server,
    basic,
    deploy,
    memory_store,
)
from tests.support.rows import rows
from tests.support.token_endpoint import assert_not_kept, assert_refused, tokens_of

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("AS-50")]

GUARD = {**CONFIDENTIAL, "client_id": "resource-server"}
OPERATORS = Registration(clients=[GUARD])
HEADERS = basic("resource-server", GUARD["client_secret"])
INACTIVE = b'{"active":false}'


async def ask(
    server: Server, token: str, headers: dict[str, str] | None = None, **form: str
) -> Response:
    return await server.call(
        "POST", "/introspect", headers=headers or HEADERS, form={"token": token, **form}
    )


async def active(server: Server, token: str, **form: str) -> dict[str, Any]:
    response = await ask(server, token, **form)
    assert (response.status, response.header("content-type")) == (200, "application/json")
    assert_not_kept(response)
    document: dict[str, Any] = response.json()
    assert document["active"] is True
    return document


async def assert_inactive(
    server: Server, token: str, headers: dict[str, str] | None = None
) -> None:
    response = await ask(server, token, headers)
    assert (response.status, response.body) == (200, INACTIVE)
    assert_not_kept(response)


async def test_an_access_token_is_described_as_it_describes_itself() -> None:
    """RFC 7662 §2.2."""
    async with deploy(registration=OPERATORS) as server:
        client = await server.register()
        tokens = await client.sign_in(scope="mcp:read mcp:write")
        now = int(server.clock.time())
        document = await active(server, tokens["access_token"])
        jti, grant_id = document.pop("jti"), document.pop("grant_id")
        assert document == {
            "active": True,
            "token_type": "Bearer",
            "scope": "mcp:read mcp:write",
            "client_id": client.client_id,
            "sub": "alice",
            "aud": RESOURCE,
            "iss": BASE_URL,
            "iat": now,
            "exp": now + 3600,
            "auth_time": now,
        }
        assert jti
        assert grant_id


async def test_a_refresh_token_is_described_and_is_for_this_server_only() -> None:
    async with deploy(
        registration=OPERATORS, lifetimes=Lifetimes(refresh_idle_seconds=1000)
    ) as server:
        client = await server.register()
        tokens = await client.sign_in()
        began = int(server.clock.time())
        server.clock.advance(500)
        refreshed = tokens_of(await client.refresh(tokens["refresh_token"], scope="mcp:read"))
        assert await active(server, refreshed["refresh_token"]) == {
            "active": True,
            "client_id": client.client_id,
            "sub": "alice",
            "scope": "mcp:read",
            "iss": BASE_URL,
            "aud": BASE_URL,
            "iat": began,
            "exp": began + 500 + 1000,
        }
        await assert_inactive(server, tokens["refresh_token"])
        server.clock.advance(1000)
        await assert_inactive(server, refreshed["refresh_token"])


class Boasting(Login):
    """Signs in a person whose claims would say more than they may."""

    async def sign_in(self, attempt: LoginAttempt) -> Person:
        return Person(
            subject="mallory", claims={"active": False, "token_type": "DPoP", "username": "root"}
        )


async def test_a_person_s_claims_do_not_change_what_the_answer_says() -> None:
    async with deploy(registration=OPERATORS, login=Boasting()) as server:
        client = await server.register()
        document = await active(server, (await client.sign_in("mallory"))["access_token"])
        assert (document["active"], document["token_type"], document["username"]) == (
            True,
            "Bearer",
            "root",
        )


@rows("hint", ["access_token", "refresh_token", "unknown"])
@rows("kind", ["access_token", "refresh_token"])
async def test_a_wrong_hint_does_not_matter(kind: str, hint: str) -> None:
    """§2.1."""
    async with deploy(registration=OPERATORS) as server:
        tokens = await (await server.register()).sign_in()
        await active(server, tokens[kind], token_type_hint=hint)


async def test_whatever_is_not_active_is_exactly_that() -> None:
    """§2.2: nothing else is said of it."""
    async with deploy(registration=OPERATORS) as server:
        client = await server.register()
        tokens, revoked = await client.sign_in(), await client.sign_in()
        code = await client.code()
        form = {"token": revoked["access_token"], "client_id": client.client_id}
        assert (await server.call("POST", "/revoke", form=form)).status == 200
        for token in (
            "x",
            "..",
            "a.b.c",
            "é",
            "x" * 60_000,
            code,
            "rt_x.0.y",
            revoked["access_token"],
            revoked["refresh_token"],
            tokens["access_token"] + "A",
            tokens["refresh_token"][:-2] + "AA",
        ):
            await assert_inactive(server, token)
        server.clock.advance(3600)
        await assert_inactive(server, tokens["access_token"])
        await active(server, tokens["refresh_token"])
        tokens_of(await client.refresh(tokens["refresh_token"]))


async def test_a_client_sees_its_own_tokens_and_the_operator_s_see_all() -> None:
    """§4: who is not meant to use a token learns nothing of it."""
    async with deploy(registration=OPERATORS) as server:
        one, two = [
            await server.register(token_endpoint_auth_method="client_secret_basic")
            for _ in range(2)
        ]
        tokens = await one.sign_in()
        for kind in ("access_token", "refresh_token"):
            await active(server, tokens[kind])
            own = await ask(
                server, tokens[kind], basic(one.client_id, one.information["client_secret"])
            )
            assert own.json()["active"] is True
            await assert_inactive(
                server, tokens[kind], basic(two.client_id, two.information["client_secret"])
            )


async def test_what_another_process_has_revoked_is_inactive_at_once() -> None:
    """The revocation lag is for those who ask with every request; this endpoint is asked to
    know.
    """
    store = memory_store(clock := FrozenClock())
    settings: dict[str, Any] = {"store": store, "clock": clock, "registration": OPERATORS}
    async with deploy(**settings) as here, deploy(**settings) as there:
        client = await here.register()
        tokens = await client.sign_in()
        await active(there, tokens["access_token"])
        form = {"token": tokens["access_token"], "client_id": client.client_id}
        assert (await here.call("POST", "/revoke", form=form)).status == 200
        await assert_inactive(there, tokens["access_token"])
        assert (await there.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401


async def test_who_asks_has_to_prove_who_that_is() -> None:
    """§2.1: else it would be an oracle for finders of tokens."""
    async with deploy(registration=OPERATORS) as server:
        public = await server.register()
        tokens = await public.sign_in()
        token = {"token": tokens["access_token"]}
        for headers, form, reason in (
            ({}, {"client_id": public.client_id}, "auth_method"),
            ({}, {}, "no_credentials"),
            ({}, {"client_id": "resource-server"}, "auth_method"),
            (basic("resource-server", "x" * 40), {}, "secret"),
            ({"Authorization": f"Bearer {tokens['access_token']}"}, {}, "auth_method"),
        ):
            server.reasons()
            response = await server.call(
                "POST", "/introspect", headers=headers, form={**form, **token}
            )
            assert_refused(response, "invalid_client", 401)
            assert server.reasons() == [reason]
        for form in ({}, {"token": ""}):
            response = await server.call("POST", "/introspect", headers=HEADERS, form=form)
            assert_refused(response, "invalid_request")


async def test_a_token_of_a_client_that_acts_for_itself_has_that_client_as_its_subject() -> None:
    async with deploy(registration=OPERATORS) as server:
        tokens = tokens_of(await server.token(headers=HEADERS, grant_type="client_credentials"))
        document = await active(server, tokens["access_token"])
        assert (document["sub"], document["client_id"]) == ("resource-server", "resource-server")
        assert "auth_time" not in document


@pytest.mark.rule("RS-31")
async def test_our_own_resource_server_can_work_with_it() -> None:
    """What this endpoint says is what IntrospectionTokenVerifier wants to hear."""
    async with deploy(registration=OPERATORS) as server:
        client = ClientOf(server, (await server.register()).information)
        tokens = await client.sign_in()
        document = await active(server, tokens["access_token"])
        assert {"active", "exp", "aud", "iss", "client_id", "scope", "sub", "token_type"} <= set(
            document
        )
        assert "cnf" not in document
