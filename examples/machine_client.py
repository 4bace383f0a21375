"""The machine that pre_registered_client.py knows: the MCP SDK gets it a token, and it calls the
tool once.

python -m examples.machine_client
"""

from __future__ import annotations

import asyncio
import os

import httpx2
from mcp import Client
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

PORT = os.environ.get("PORT", "8000")
BASE_URL = os.environ.get("BASE_URL", f"http://127.0.0.1:{PORT}")
SECRET = os.environ.get("SECRET", "replace-me-with-32-random-characters-or-more")


class Nowhere:
    """Where the token is kept; a token with a secret behind it is quickly had again."""

    async def get_tokens(self) -> OAuthToken | None:
        return None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        pass

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        pass


async def main() -> None:
    url = f"{BASE_URL}/mcp"
    oauth = ClientCredentialsOAuthProvider(
        url, Nowhere(), "nightly-report", SECRET, issuer=BASE_URL
    )
    async with (
        httpx2.AsyncClient(auth=oauth) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        result = await client.call_tool("whoami")
    print(getattr(result.content[0], "text", None))


if __name__ == "__main__":
    asyncio.run(main())
