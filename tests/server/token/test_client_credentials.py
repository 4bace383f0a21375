"""Clients that act for themselves (RFC 6749 §4.4)."""

from __future__ import annotations

import pytest

from asgi_mcp_auth import PasswordLogin
from asgi_mcp_auth.server import Lifetimes, Registration
from asgi_mcp_auth.testing import FrozenClock
from tests.support.assertions import Robot
from tests.support.authorization_server import (
    BASE_URL,
    CONFIDENTIAL,
    RESOURCE,
    Server,
    basic,
    deploy,
)
from tests.support.products import STORIES
from tests.support.rows import rows
from tests.support.token_endpoint import assert_refused, deploy_on, is_alive, tokens_of

pytestmark = pytest.mark.asyncio

OPERATORS = Registration(clients=[CONFIDENTIAL])
HEADERS = basic("service", CONFIDENTIAL["client_secret"])


async def ask(server: Server, **form: str | None) -> dict[str, object]:
    return tokens_of(
        await server.token(headers=HEADERS, **{"grant_type": "client_credentials", **form})
    )


@pytest.mark.rule("EXT-02")
@pytest.mark.parametrize("engine", STORIES)
async def test_the_token_is_the_client_s_own_and_there_is_no_refresh_token(
    engine: str,
) -> None:
    async with deploy_on(engine, registration=OPERATORS) as server:
        tokens = await ask(server, resource=RESOURCE)
        assert set(tokens) == {"access_token", "token_type", "expires_in", "scope"}
        assert (tokens["scope"], tokens["expires_in"]) == ("mcp:read", 3600)
        assert await is_alive(server, str(tokens["access_token"]))
        access = server.spy.scope["access_token"]
        assert (access.subject, access.client_id, access.resource) == (
            "service",
            "service",
            RESOURCE,
        )
        assert "auth_time" not in access.claims, "nobody has signed in"
        server.clock.advance(3600)
        assert not await is_alive(server, str(tokens["access_token"]))


@pytest.mark.rule("EXT-02")
async def test_scope_and_resource_are_checked() -> None:
    async with deploy(registration=OPERATORS) as server:
        assert (await ask(server, scope="mcp:write"))["scope"] == "mcp:write"
        for form, error in (
            ({"scope": "unknown"}, "invalid_scope"),
            ({"scope": '"'}, "invalid_scope"),
            ({"scope": " ".join(f"s{number}" for number in range(10_000))}, "invalid_scope"),
            ({"resource": "https://other.example"}, "invalid_target"),
        ):
            response = await server.token(headers=HEADERS, grant_type="client_credentials", **form)
            assert_refused(response, error)
            assert server.reasons() == [error]


@pytest.mark.case("Z99")
@rows(
    ("limit", "asked", "given"),
    [
        ("mcp:read", None, "mcp:read"),
        ("mcp:read", "mcp:read", "mcp:read"),
        ("mcp:read", "mcp:write", None),
        ("mcp:read", "mcp:read mcp:write", "mcp:read"),
        ("mcp:read", "mcp:read unknown", "mcp:read"),
        ("mcp:write", None, None),
        ("mcp:write", "mcp:write", "mcp:write"),
    ],
)
async def test_a_client_is_held_to_the_operator_s_limit(
    limit: str, asked: str | None, given: str | None
) -> None:
    """For a client that acts for itself, no person decides."""
    async with deploy(
        registration=Registration(clients=[{**CONFIDENTIAL, "scope": limit}])
    ) as server:
        response = await server.token(headers=HEADERS, grant_type="client_credentials", scope=asked)
        if given is None:
            assert_refused(response, "invalid_scope")
        else:
            assert tokens_of(response)["scope"] == given


@pytest.mark.rule("EXT-02")
async def test_a_client_that_registered_itself_cannot_act_for_itself() -> None:
    """Whatever it asks for at registration: only the operator says who needs no person."""
    async with deploy() as server:
        for method in ("none", "client_secret_basic"):
            client = await server.register(
                token_endpoint_auth_method=method,
                grant_types=["authorization_code", "client_credentials"],
            )
            assert client.information["grant_types"] == ["authorization_code"]
            assert_refused(
                await client.token(grant_type="client_credentials"), "unauthorized_client"
            )
            assert server.reasons() == ["unauthorized_client"]


@pytest.mark.rule("EXT-01")
async def test_a_public_client_of_the_operator_s_cannot_have_it() -> None:
    async with deploy(
        registration=Registration(
            clients=[{"client_id": "p", "redirect_uris": ["https://a.example/"]}]
        )
    ) as server:
        response = await server.token(client_id="p", grant_type="client_credentials")
        assert_refused(response, "unauthorized_client")


@pytest.mark.rule("AS-29")
async def test_no_person_can_sign_in_under_the_name_of_such_a_client() -> None:
    """Their tokens would say the same ``sub``."""
    async with deploy(registration=OPERATORS) as server:
        client = await server.register()
        browser = server.browser()
        page = await browser.sign_in(
            await browser.open(client.authorization_url()), username="service"
        )
        assert page.response.status in (303, 400)
        assert "code=" not in page.url
        assert "access_denied" in server.reasons()
        await client.sign_in("services")


async def test_its_grant_can_be_revoked_and_lives_no_longer_than_its_token() -> None:
    async with deploy(
        registration=OPERATORS, lifetimes=Lifetimes(access_token_seconds=100)
    ) as server:
        tokens = await ask(server)
        grants = [grant async for grant in server.provider.admin.grants(client_id="service")]
        assert [(grant.subject, grant.person, grant.scopes) for _, grant in grants] == [
            ("service", None, ["mcp:read"])
        ]
        response = await server.call(
            "POST", "/revoke", headers=HEADERS, form={"token": str(tokens["access_token"])}
        )
        assert response.status == 200
        assert not await is_alive(server, str(tokens["access_token"]))
        await ask(server)
        server.clock.advance(100)
        assert [grant async for grant in server.provider.admin.grants()] == []


async def test_each_token_has_a_grant_of_its_own() -> None:
    async with deploy(registration=OPERATORS) as server:
        one, two = await ask(server), await ask(server)
        await server.call(
            "POST", "/revoke", headers=HEADERS, form={"token": str(one["access_token"])}
        )
        assert not await is_alive(server, str(one["access_token"]))
        assert await is_alive(server, str(two["access_token"]))


@pytest.mark.case("V76")
@pytest.mark.rule("AS-76")
async def test_deleting_the_client_ends_its_tokens() -> None:
    """A client that the operator made while the server ran."""
    async with deploy() as server:
        made = await server.provider.admin.create_client({"grant_types": ["client_credentials"]})
        headers = basic(made["client_id"], made["client_secret"])
        tokens = tokens_of(await server.token(headers=headers, grant_type="client_credentials"))
        assert await is_alive(server, tokens["access_token"])
        assert await server.provider.admin.delete_client(made["client_id"])
        assert not await is_alive(server, tokens["access_token"])
        response = await server.token(headers=headers, grant_type="client_credentials")
        assert_refused(response, "invalid_client", 401)


async def test_it_needs_neither_a_person_nor_a_loopback_server() -> None:
    login = PasswordLogin(
        {"alice": "scrypt$ln=15,r=8,p=3$eqPOBOLB1mhBQbqr2c5L8w==$" + "A" * 43 + "="}
    )
    base_url = "https://mcp.example.com"
    async with deploy(
        base_url=base_url, login=login, registration=OPERATORS, rate_limits=None
    ) as server:
        tokens = await ask(server, resource=f"{base_url}/mcp")
        assert await is_alive(server, str(tokens["access_token"]))


@pytest.mark.rule("EXT-03")
async def test_what_the_official_suite_sends_is_good() -> None:
    """client-credentials-jwt: ES256, aud the issuer with and without a slash, no client_id in the
    body.
    """
    async with deploy(
        registration=Registration(clients=[Robot(BASE_URL, FrozenClock()).metadata])
    ) as server:
        robot = Robot(BASE_URL, server.clock)
        for audience in (BASE_URL, f"{BASE_URL}/"):
            form = robot.form(robot.assertion(aud=audience), scope="mcp:read", resource=RESOURCE)
            tokens_of(await server.token(**form))
