"""OAuth 2.0 Token Revocation (RFC 7009)."""

from __future__ import annotations

import pytest

from asgi_mcp_auth.server import Registration
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from tests.support.authorization_server import CONFIDENTIAL, KEY, basic, deploy
from tests.support.failing import FailingStore
from tests.support.token_endpoint import assert_refused, is_alive

pytestmark = pytest.mark.asyncio

HEADERS = basic("service", CONFIDENTIAL["client_secret"])
OPERATORS = Registration(clients=[CONFIDENTIAL])


@pytest.mark.case("Z84")
@pytest.mark.rule("AS-49")
@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_a_token_is_revoked_with_all_that_is_based_on_the_same_grant(kind: str) -> None:
    """§2.1: refresh tokens MUST be supported; access tokens of the grant SHOULD go, too; §3 allows
    the reverse.
    """
    async with deploy(registration=OPERATORS) as server:
        client = server.known(CONFIDENTIAL)
        tokens = await client.sign_in()
        form = {"token": tokens[kind], "token_type_hint": kind}
        response = await server.call("POST", "/revoke", headers=HEADERS, form=form)
        assert (response.status, response.body) == (200, b"")
        assert not await is_alive(server, tokens["access_token"])
        assert_refused(await client.refresh(tokens["refresh_token"]), "invalid_grant")


@pytest.mark.rule("AS-46", "AS-48")
async def test_credentials_are_checked_and_then_whose_token_it_is() -> None:
    """§2.1: a token of another client is refused; nothing of it is told (§2.2)."""
    async with deploy(registration=OPERATORS) as server:
        client = await server.register()
        tokens = await client.sign_in()
        form = {"token": tokens["refresh_token"]}
        response = await server.call(
            "POST", "/revoke", headers=basic("service", "x" * 40), form=form
        )
        assert_refused(response, "invalid_client", 401)
        assert (await server.call("POST", "/revoke", headers=HEADERS, form=form)).status == 200
        assert await is_alive(server, tokens["access_token"])


@pytest.mark.case("Z83")
@pytest.mark.rule("AS-46")
async def test_a_public_client_shows_its_client_id() -> None:
    """§2.1, §5."""
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in()
        assert_refused(
            await server.call("POST", "/revoke", form={"token": "x"}), "invalid_client", 401
        )
        form = {"token": tokens["refresh_token"], "client_id": client.client_id}
        assert (await server.call("POST", "/revoke", form=form)).status == 200
        assert not await is_alive(server, tokens["access_token"])


@pytest.mark.case("Z82", "Z85")
@pytest.mark.rule("AS-47")
@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "whatever"])
async def test_a_hint_is_a_hint_and_an_invalid_token_is_no_error(hint: str) -> None:
    """§2.1, §2.2: the purpose of the request, invalidating the token, has been achieved already."""
    async with deploy(registration=OPERATORS) as server:
        tokens = await server.known(CONFIDENTIAL).sign_in()
        for token in (
            "45ghiukldjahdnhzdauz",
            tokens["refresh_token"],
            tokens["refresh_token"],
            tokens["access_token"],
        ):
            form = {"token": token, "token_type_hint": hint}
            assert (await server.call("POST", "/revoke", headers=HEADERS, form=form)).status == 200
        assert not await is_alive(server, tokens["access_token"])


@pytest.mark.rule("AS-47")
async def test_a_server_that_cannot_now_says_503_and_when_to_come_back() -> None:
    """§2.2.1: the client MUST assume that the token still exists."""
    failing = FailingStore(MemoryStore(), for_good=True)
    async with deploy(store=EncryptedStore(failing, [KEY]), registration=OPERATORS) as server:
        tokens = await server.known(CONFIDENTIAL).sign_in()
        failing.fail_at = len(failing.calls) + 1
        response = await server.call(
            "POST", "/revoke", headers=HEADERS, form={"token": tokens["refresh_token"]}
        )
        assert (response.status, response.header("retry-after")) == (503, "1")


async def test_pages_may_call_it() -> None:
    """§2: CORS MAY be supported."""
    async with deploy() as server:
        headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        response = await server.call("OPTIONS", "/revoke", headers=headers)
        assert response.header("access-control-allow-origin") == "*"
