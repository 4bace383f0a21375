"""Resource Indicators (RFC 8707)."""

from __future__ import annotations

import pytest

from asgi_mcp_auth._urls import is_same_resource
from tests.support.authorization_server import RESOURCE, answer_of, deploy
from tests.support.rows import rows
from tests.support.token_endpoint import assert_refused, tokens_of

pytestmark = pytest.mark.asyncio

HOST = RESOURCE.removesuffix("/mcp")
BAD = [
    "https://unknown.example/mcp",
    "mcp",
    "/mcp",
    f"{RESOURCE}#fragment",
    f"{RESOURCE}?x=1",
    f"{RESOURCE}/?",
    f"{RESOURCE}//",
    f"{HOST}//mcp",
    HOST,
    f"{HOST}/",
    f"{HOST}/MCP",
    f"{HOST}/%6dcp",
    f"{HOST}/./mcp",
    f"{HOST}:444/mcp",
    f"{HOST}:0443/mcp",
    HOST.replace("//", "//user@") + "/mcp",
    HOST + "./mcp",
    RESOURCE.replace("https:", "http:").replace("http:", "ftp:"),
    f" {RESOURCE}",
    f"{RESOURCE}\n",
]
SAME = [
    RESOURCE,
    f"{RESOURCE}/",
    RESOURCE.replace(HOST, HOST.upper()),
    RESOURCE.replace("http", "hTTp"),
]


@pytest.mark.case("Z08")
@pytest.mark.rule("AS-22")
@rows("resource", BAD)
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


@pytest.mark.rule("RS-50")
@pytest.mark.parametrize("resource", SAME)
async def test_spellings_of_the_same_url_name_the_resource(resource: str) -> None:
    """People type it, and clients rewrite it. The token has the configured spelling."""
    async with deploy() as server:
        client = await server.register()
        code = await client.code(resource=resource)
        tokens = tokens_of(await client.redeem(code, resource=resource))
        tokens = tokens_of(await client.refresh(tokens["refresh_token"], resource=resource))
        assert (await server.call("POST", "/mcp", bearer=tokens["access_token"])).status == 200
        assert server.spy.scopes[-1]["access_token"].claims["aud"] == RESOURCE


@pytest.mark.rule("RS-50")
@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("https://h.example/mcp", "https://h.example:443/mcp", True),
        ("https://h.example/mcp", "https://h.example:/mcp", True),
        ("http://h.example/mcp", "http://h.example:80/mcp/", True),
        ("https://h.example:8443/mcp", "https://H.example:8443/mcp", True),
        ("https://h.example/mcp/", "https://h.example/mcp", True),
        ("https://h.example", "https://h.example/", True),
        ("https://[::AB]/mcp", "https://[::ab]:443/mcp", True),
        ("https://h.example/mcp", "http://h.example/mcp", False),
        ("https://h.example/mcp", "https://h.example:80/mcp", False),
        ("https://h.example:8443/mcp", "https://h.example/mcp", False),
        ("https://k.example/mcp", "https://\u212a.example/mcp", False),  # the Kelvin sign
        ("https://h.example/mcp", "https://h.example/mcp/x", False),
        ("https://h.example/mcp/", "https://h.example/mcp//", False),
        ("https://h.example", "https://h.example.evil.example", False),
        ("https://h.example/mcp", "https://h.example@evil.example/mcp", False),
        ("https://h.example/mcp", "https://h.example\\mcp", False),
    ],
)
async def test_what_is_the_same_resource(one: str, other: str, is_same: bool) -> None:
    assert is_same_resource(one, other) is is_same_resource(other, one) is is_same
