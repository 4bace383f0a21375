"""The OAuth 2.0 Authorization Framework (RFC 6749), at the token endpoint, as OAuth 2.1 has it."""

from __future__ import annotations

import pytest

from asgi_mcp_auth.server import Registration
from tests.support.authorization_server import CONFIDENTIAL, REDIRECT_URI, basic, deploy
from tests.support.token_endpoint import assert_refused, tokens_of

pytestmark = pytest.mark.asyncio

OPERATORS = Registration(clients=[CONFIDENTIAL])
SECRET = CONFIDENTIAL["client_secret"]


async def test_a_client_password_in_the_header_or_in_the_body_but_not_in_the_uri() -> None:
    """§2.3.1: HTTP Basic MUST be supported; parameters MUST NOT be in the request URI."""
    poster = {
        **CONFIDENTIAL,
        "client_id": "poster",
        "token_endpoint_auth_method": "client_secret_post",
    }
    async with deploy(registration=Registration(clients=[CONFIDENTIAL, poster])) as server:
        grant = {"grant_type": "client_credentials"}
        tokens_of(await server.token(headers=basic("service", SECRET), **grant))
        tokens_of(await server.token(client_id="poster", client_secret=SECRET, **grant))
        target = f"/token?client_id=poster&client_secret={SECRET}"
        assert_refused(await server.call("POST", target, form=grant), "invalid_client", 401)


@pytest.mark.case("Z63")
@pytest.mark.rule("AS-33")
async def test_one_method_of_authentication_for_each_request() -> None:
    """§2.3: the client MUST NOT use more than one."""
    async with deploy(registration=OPERATORS) as server:
        response = await server.token(
            headers=basic("service", SECRET), client_secret=SECRET, grant_type="client_credentials"
        )
        assert_refused(response, "invalid_request")


async def test_the_token_endpoint_wants_post_and_ignores_what_it_does_not_know() -> None:
    """§3.2: POST; unrecognized parameters MUST be ignored; none may be included more than once."""
    async with deploy() as server:
        client = await server.register()
        assert (await server.call("GET", "/token")).status == 405
        tokens_of(await client.redeem(await client.code(), foo="bar", username="x", assertion="y"))
        pairs = [("client_id", client.client_id), ("grant_type", "x"), ("foo", "1"), ("foo", "2")]
        assert_refused(await server.call("POST", "/token", form=pairs), "invalid_request")


async def test_scope_is_case_sensitive_and_its_order_does_not_matter() -> None:
    """§3.3."""
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in(scope="mcp:write mcp:read")
        assert set(tokens["scope"].split()) == {"mcp:read", "mcp:write"}
        assert_refused(
            await client.refresh(tokens["refresh_token"], scope="MCP:READ"), "invalid_scope"
        )


@pytest.mark.case("Z29", "Z46", "Z49")
@pytest.mark.rule("AS-35")
async def test_a_code_is_bound_to_client_and_redirect_uri_and_good_once() -> None:
    """§4.1.2, §4.1.3 and §10.5: tokens that came of it SHOULD be revoked when it is used again."""
    async with deploy() as server:
        client, other = await server.register(), await server.register()
        code = await client.code()
        assert_refused(await other.redeem(code, code_verifier=client.verifier), "invalid_grant")
        assert_refused(await client.redeem(code, redirect_uri=f"{REDIRECT_URI}/x"), "invalid_grant")
        tokens = tokens_of(await client.redeem(code, redirect_uri=REDIRECT_URI))
        server.clock.advance(5)
        assert_refused(await client.redeem(code, redirect_uri=REDIRECT_URI), "invalid_grant")
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 401


@pytest.mark.case("Z58")
@pytest.mark.rule("AS-43")
async def test_the_implicit_grant_and_passwords_are_gone() -> None:
    """§4.2 and §4.3; OAuth 2.1 §10 leaves them out."""
    async with deploy() as server:
        client = await server.register()
        response = await client.token(grant_type="password", username="alice", password="secret")
        assert_refused(response, "unsupported_grant_type")
        url = await server.browser().decide(client.authorization_url(response_type="token"))
        assert "error=unsupported_response_type" in url


@pytest.mark.rule("EXT-02")
async def test_client_credentials_are_for_confidential_clients_and_bring_no_refresh_token() -> None:
    """§4.4 and §4.4.3."""
    async with deploy(registration=OPERATORS) as server:
        tokens = tokens_of(await server.known(CONFIDENTIAL).token(grant_type="client_credentials"))
        assert "refresh_token" not in tokens
        public = await server.register()
        assert_refused(await public.token(grant_type="client_credentials"), "unauthorized_client")


@pytest.mark.case("Z59")
@pytest.mark.rule("AS-31", "AS-37")
async def test_a_successful_response_has_its_members_and_is_not_stored() -> None:
    """§5.1."""
    async with deploy() as server:
        client = await server.register()
        tokens = tokens_of(await client.redeem(await client.code()))
        assert tokens["token_type"].lower() == "bearer"
        assert tokens["expires_in"] == 3600


@pytest.mark.case("Z62")
@pytest.mark.rule("AS-32")
async def test_a_failed_authentication_by_header_is_401_with_a_challenge_of_that_scheme() -> None:
    """§5.2: every other error is 400."""
    async with deploy(registration=OPERATORS) as server:
        response = await server.token(
            headers=basic("service", "x" * 40), grant_type="client_credentials"
        )
        assert_refused(response, "invalid_client", 401)
        assert (response.header("www-authenticate") or "").startswith("Basic realm=")
        response = await server.token(client_id="service", grant_type="client_credentials")
        assert_refused(response, "invalid_client", 401)
        assert response.header("www-authenticate") is None


@pytest.mark.case("Z76")
@pytest.mark.rule("AS-40")
async def test_refreshing_gives_no_more_than_was_granted() -> None:
    """§6: omitted, the scope is as before; a new refresh token has the scope of the one that was
    used.
    """
    async with deploy() as server:
        client = await server.register()
        tokens = await client.sign_in(scope="mcp:read")
        assert_refused(
            await client.refresh(tokens["refresh_token"], scope="mcp:read mcp:write"),
            "invalid_scope",
        )
        tokens = await client.sign_in(scope="mcp:read mcp:write")
        narrowed = tokens_of(await client.refresh(tokens["refresh_token"], scope="mcp:read"))
        assert narrowed["scope"] == "mcp:read"
        assert (
            tokens_of(await client.refresh(narrowed["refresh_token"]))["scope"]
            == "mcp:read mcp:write"
        )
