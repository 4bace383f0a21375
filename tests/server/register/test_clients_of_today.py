"""Registrations of today's MCP clients, and the addresses they then use.

They are taken from the clients' sources and from recorded registrations of autumn 2026. A client is
accepted as it is, or the refusal names the setting that admits it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.support.authorization_server import ClientOf, answer_of, deploy
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
PUBLIC = {
    "token_endpoint_auth_method": "none",
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
}
ABSENT = (
    "scope",
    "client_name",
    "client_uri",
    "logo_uri",
    "contacts",
    "tos_uri",
    "jwks_uri",
    "jwks",
    "software_id",
)


class Sent(NamedTuple):
    """A registration, the redirect URI of the authorization request after it, and the schemes that
    it needs.
    """

    document: dict[str, Any]
    redirect_uri: str
    schemes: tuple[str, ...] = ()


CLIENTS: dict[str, Sent] = {
    "Claude": Sent(
        {
            **PUBLIC,
            "client_name": "Claude",
            "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"],
        },
        "https://claude.ai/api/mcp/auth_callback",
    ),
    "Claude Code": Sent(
        {
            **PUBLIC,
            "client_name": "Claude Code (notes)",
            "redirect_uris": ["http://localhost:3118/callback"],
            "application_type": "native",
        },
        "http://localhost:3118/callback",
    ),
    "Claude Code, without a port": Sent(
        {**PUBLIC, "redirect_uris": ["http://localhost/callback", "http://127.0.0.1/callback"]},
        "http://localhost:54545/callback",
    ),
    "ChatGPT": Sent(
        {
            **PUBLIC,
            "client_name": "ChatGPT",
            "redirect_uris": ["https://chatgpt.com/connector_platform_oauth_redirect"],
            "token_endpoint_auth_method": "client_secret_post",
        },
        "https://chatgpt.com/connector_platform_oauth_redirect",
    ),
    "Codex": Sent(
        {
            **PUBLIC,
            "client_name": "Codex",
            "redirect_uris": ["http://127.0.0.1:37819/callback/q1w2e3r4t5y6"],
            "application_type": "native",
        },
        "http://127.0.0.1:37819/callback/q1w2e3r4t5y6",
    ),
    "VS Code": Sent(
        {
            **PUBLIC,
            "client_name": "Visual Studio Code",
            "client_uri": "https://code.visualstudio.com",
            "grant_types": ["authorization_code", "refresh_token", DEVICE_GRANT],
            "redirect_uris": [
                "https://insiders.vscode.dev/redirect",
                "https://vscode.dev/redirect",
                "http://127.0.0.1/",
                "http://127.0.0.1:33418/",
            ],
            "scope": "mcp:read",
            "application_type": "native",
        },
        "http://127.0.0.1:59656/",  # when the usual port is taken
    ),
    "VS Code in a browser": Sent(
        {
            **PUBLIC,
            "redirect_uris": ["https://vscode.dev/redirect", "http://127.0.0.1/"],
            "application_type": "native",
        },
        "https://vscode.dev/redirect",
    ),
    "Cursor": Sent(
        {
            **PUBLIC,
            "client_name": "Cursor",
            "redirect_uris": [
                "cursor://anysphere.cursor-mcp/oauth/callback",
                "https://www.cursor.com/agents/mcp/oauth/callback",
                "http://localhost:8787/callback",
            ],
        },
        "cursor://anysphere.cursor-mcp/oauth/callback",
    ),
    "Warp": Sent(
        {
            **PUBLIC,
            "client_name": "Warp",
            "redirect_uris": ["warp://mcp/oauth2callback"],
            "scope": "",
        },
        "warp://mcp/oauth2callback",
    ),
    "a website in development": Sent(
        {
            **PUBLIC,
            "client_uri": "http://localhost:5173",
            "logo_uri": "data:image/png;base64,iVBORw0KGgo=",
            "application_type": "web",
            "response_types": ["code", "id_token"],
            "redirect_uris": ["http://localhost:5173/callback"],
        },
        "http://localhost:5173/callback",
    ),
    "Cursor, earlier": Sent(
        {
            **PUBLIC,
            "redirect_uris": ["cursor://anysphere.cursor-retrieval/oauth/user-notes/callback"],
        },
        "cursor://anysphere.cursor-retrieval/oauth/user-notes/callback",
        ("cursor",),
    ),
    "Inspector": Sent(
        {
            **PUBLIC,
            "client_name": "MCP Inspector",
            "client_uri": "https://github.com/modelcontextprotocol/inspector",
            "redirect_uris": [
                "http://localhost:6274/oauth/callback",
                "http://localhost:6274/oauth/callback/debug",
            ],
            "scope": "",
        },
        "http://localhost:6274/oauth/callback/debug",
    ),
    "Gemini CLI": Sent(
        {
            **PUBLIC,
            "client_name": "Gemini CLI MCP Client",
            "redirect_uris": ["http://localhost:7777/oauth/callback"],
            "scope": "",
        },
        "http://localhost:7777/oauth/callback",
    ),
    "OpenCode": Sent(
        {
            **PUBLIC,
            "client_name": "OpenCode",
            "redirect_uris": ["http://127.0.0.1:19876/mcp/oauth/callback"],
        },
        "http://127.0.0.1:19876/mcp/oauth/callback",
    ),
    "mcp-remote": Sent(
        {
            **PUBLIC,
            "client_name": "MCP CLI Proxy",
            "client_uri": "https://github.com/modelcontextprotocol/mcp-cli",
            "software_id": "2e6dc280-f3c3-4e01-99a7-8181dbd1d23d",
            "software_version": "0.1.30",
            "redirect_uris": ["http://localhost:35535/oauth/callback"],
        },
        "http://localhost:35535/oauth/callback",
    ),
    "one that says as little as it can": Sent(
        {"redirect_uris": ["http://localhost:3030/callback"]}, "http://localhost:3030/callback"
    ),
    "one that says null": Sent(
        {**PUBLIC, "redirect_uris": ["http://localhost:3030/callback"], **dict.fromkeys(ABSENT)},
        "http://localhost:3030/callback",
    ),
}


@rows("name", CLIENTS)
async def test_a_client_registers_and_its_user_signs_in(name: str) -> None:
    document, redirect_uri, schemes = CLIENTS[name]
    async with deploy(allowed_redirect_schemes=schemes) as server:
        response = await server.call("POST", "/register", document=document)
        assert response.status == 201, response.body
        information, form = response.json(), dict[str, str]()
        assert information["redirect_uris"] == document["redirect_uris"]
        assert information["grant_types"] == ["authorization_code", "refresh_token"]
        assert None not in information.values()
        if information["token_endpoint_auth_method"] == "client_secret_post":
            form = {"client_secret": information.pop("client_secret")}
        client = ClientOf(server, information)
        url = await server.browser().decide(client.authorization_url(redirect_uri=redirect_uri))
        assert url.startswith(f"{redirect_uri}?")
        tokens = (
            await client.redeem(answer_of(url)["code"], redirect_uri=redirect_uri, **form)
        ).json()
        assert (await client.refresh(tokens["refresh_token"], **form)).status == 200


@pytest.mark.parametrize("name", [name for name, sent in CLIENTS.items() if sent.schemes])
async def test_a_refused_private_use_scheme_is_answered_with_the_setting_that_allows_it(
    name: str,
) -> None:
    async with deploy() as server:
        response = await server.call("POST", "/register", document=CLIENTS[name].document)
        assert (response.status, response.json()["error"]) == (400, "invalid_redirect_uri")
        assert "scheme cursor" in response.json()["error_description"]
        assert "allowed_redirect_schemes" in response.json()["error_description"]
