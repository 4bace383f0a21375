"""JWT Profile for OAuth 2.0 Client Authentication (RFC 7523), with the revised audience."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.testing import FrozenClock
from tests.support.assertions import ABSENT, Robot, key_of
from tests.support.authorization_server import BASE_URL, deploy
from tests.support.rows import rows
from tests.support.token_endpoint import assert_refused, tokens_of

pytestmark = [pytest.mark.asyncio, pytest.mark.rule("AS-34")]


async def check(
    verdict: bool, header: dict[str, Any] | None = None, key: Any = None, **claims: Any
) -> None:
    robot = Robot(BASE_URL, clock := FrozenClock())
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        response = await server.token(
            **robot.form(robot.assertion(header=header, key=key, **claims))
        )
        if verdict:
            tokens_of(response)
        else:
            assert_refused(response, "invalid_client", 401)


async def test_client_id_is_unnecessary_but_has_to_be_the_subject_where_it_is_sent() -> None:
    """§2.2; RFC 7521 §4.2."""
    robot = Robot(BASE_URL, clock := FrozenClock())
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        tokens_of(await server.token(**robot.form()))
        tokens_of(await server.token(**robot.form(client_id="robot")))
        assert_refused(await server.token(**robot.form(client_id="other")), "invalid_client", 401)


async def test_the_assertion_type_is_the_one_of_this_profile() -> None:
    """§2.2."""
    robot = Robot(BASE_URL, clock := FrozenClock())
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        kind = "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"
        assert_refused(
            await server.token(**robot.form(client_assertion_type=kind)), "invalid_client", 401
        )


@rows(
    ("claims", "verdict"),
    [
        ({}, True),
        ({"iss": ABSENT}, False),  # 1
        ({"sub": ABSENT}, False),  # 2
        ({"sub": "somebody"}, False),
        ({"aud": ABSENT}, False),  # 3
        ({"aud": "https://other.example"}, False),
        ({"aud": BASE_URL}, True),
        ({"aud": f"{BASE_URL}/token"}, True),
        ({"exp": ABSENT}, False),  # 4
        ({"exp": 1_800_000_000}, False),
        ({"exp": 1_900_000_000}, False),  # "unreasonably far in the future"
        ({"nbf": 1_800_000_000}, True),  # 5
        ({"nbf": 1_800_000_200}, False),
        ({"iat": 1_799_990_000}, False),  # 6: "unreasonably far in the past"
        ({"iat": ABSENT}, True),
        ({"more": ["claims"]}, True),  # 8
    ],
)
async def test_section_3_item_by_item(claims: dict[str, Any], verdict: bool) -> None:
    """§3, 1 to 8."""
    await check(verdict, **claims)


async def test_the_jti_is_used_once() -> None:
    """§3, 7: servers MAY ensure that assertions are not replayed; this one does, and so wants a
    jti.
    """
    robot = Robot(BASE_URL, clock := FrozenClock())
    async with deploy(clock=clock, registration=Registration(clients=[robot.metadata])) as server:
        form = robot.form()
        tokens_of(await server.token(**form))
        assert_refused(await server.token(**form), "invalid_client", 401)
    await check(False, jti=ABSENT)


async def test_the_assertion_is_signed_by_its_issuer() -> None:
    """§3, 9 and 10."""
    await check(True, header={"typ": ABSENT})
    await check(False, key=key_of("ES256", "stranger"))
    await check(False, header={"alg": "none"})
