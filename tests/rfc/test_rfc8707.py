"""Resource Indicators (RFC 8707)."""

from __future__ import annotations

import pytest

from tests.support.authorization_server import RESOURCE, answer_of, deploy
from tests.support.token_endpoint import assert_refused, tokens_of

pytestmark = pytest.mark.asyncio

BAD = ["https://unknown.example/mcp", "mcp", "/mcp", f"{RESOURCE}#fragment", f"{RESOURCE}?x=1"]


@pytest.mark.case("Z08")
@pytest.mark.rule("AS-22")
@pytest.mark.parametrize("resource", BAD)
async def test_an_unknown_or_malformed_resource_is_invalid_target(resource: str) -> None:
    """§2, §2.1, §2.2: an absolute URI without a fragment."""
    async with deploy() as server:
        client = await server.register()
        url = await server.browser().decide(client.authorization_url(resource=resource))
        assert answer_of(url)["error"] == "invalid_target"
        tokens = await client.sign_in()
        response = await client.refresh(tokens["refresh_token"], resource=resource)
        assert_refused(response, "invalid_target")


@pytest.mark.rule("AS-22", "AS-38")
async def test_the_token_is_for_the_resource_whether_it_was_named_or_not() -> None:
    """§2.2: the default is the one that there is; aud names it."""
    async with deploy() as server:
        client = await server.register()
        for at_authorize in (RESOURCE, None):
            for at_token in (RESOURCE, None):
                tokens = tokens_of(
                    await client.redeem(await client.code(resource=at_authorize), resource=at_token)
                )
                assert (
                    await server.call("POST", "/mcp", bearer=tokens["access_token"])
                ).status == 200
                assert server.spy.scopes[-1]["access_token"].claims["aud"] == RESOURCE
                refreshed = tokens_of(
                    await client.refresh(tokens["refresh_token"], resource=at_token)
                )
                assert (
                    await server.call("POST", "/mcp", bearer=refreshed["access_token"])
                ).status == 200


@pytest.mark.case("Z03")
@pytest.mark.rule("AS-22")
async def test_it_may_be_repeated() -> None:
    """§2: several, as long as each is one of ours."""
    async with deploy() as server:
        client = await server.register()
        form = {
            "grant_type": "authorization_code",
            "client_id": client.client_id,
            "code_verifier": client.verifier,
        }
        pairs = [
            *form.items(),
            ("code", await client.code()),
            ("resource", RESOURCE),
            ("resource", RESOURCE),
        ]
        tokens_of(await server.call("POST", "/token", form=pairs))
        pairs = [
            *form.items(),
            ("code", await client.code()),
            ("resource", RESOURCE),
            ("resource", BAD[0]),
        ]
        assert_refused(await server.call("POST", "/token", form=pairs), "invalid_target")
