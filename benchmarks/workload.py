"""The workload that every contestant gets: tokens, requests and the application behind the
middleware.
"""

from __future__ import annotations

import json
import random
import string
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asgi_mcp_auth.testing import Issuer

BASE_URL = "https://mcp.example.com"
MCP_PATH = "/mcp"
RESOURCE = BASE_URL + MCP_PATH
REQUIRED_SCOPES = ["mcp:read"]

_BASE64URL = string.ascii_letters + string.digits + "-_"
_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
_BODY = {"type": "http.response.body", "body": b"ok"}


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read who is calling, as any tool that has users does, and answer 200.

    Every contestant but mcpauth, which has a context variable instead, leaves the caller in
    ``scope["user"]``. The bare application has none.
    """
    user = scope.get("user")
    if user is not None:
        token = user.access_token
        _ = (token.subject, token.client_id, token.scopes)
    await send(_START)
    await send(_BODY)


async def incurious(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer 200 without reading who is calling."""
    await send(_START)
    await send(_BODY)


def mint(
    idp: Issuer, count: int, algorithm: str = "RS256", header: Mapping[str, Any] | None = None
) -> list[str]:
    """Return distinct valid tokens with the claims that a usual identity provider puts in."""
    now = int(time.time())
    claims: dict[str, Any] = {
        "aud": RESOURCE,
        "scope": " ".join([*REQUIRED_SCOPES, "mcp:write"]),
        "client_id": "0oa1b2c3d4e5f6g7h8",
        "iat": now,
        "nbf": now,
        "exp": now + 7 * 86_400,
        "email": "somebody@example.com",
    }
    return [
        idp.mint(
            algorithm=algorithm,
            header=header,
            **claims,
            sub=f"user-{number}",
            jti=f"{random.getrandbits(96):024x}",
        )
        for number in range(count)
    ]


def forge(tokens: Sequence[str]) -> list[str]:
    """Return the tokens, each with a signature of the right length that is not its own."""
    return [
        token.rpartition(".")[0]
        + "."
        + "".join(random.choices(_BASE64URL, k=len(token.rpartition(".")[2]) - 1))
        + "A"
        for token in tokens
    ]


def opaque(count: int) -> list[str]:
    """Return random strings such as another kind of server issues."""
    return ["".join(random.choices(_BASE64URL, k=43)) for _ in range(count)]


def scrambled(tokens: Sequence[str]) -> list[str]:
    """Return random strings with the shape of a JWT: three parts, as long as those of real ones."""
    return [
        ".".join("".join(random.choices(_BASE64URL, k=len(part))) for part in token.split("."))
        for token in tokens
    ]


def request(token: str | None) -> dict[str, Any]:
    """Return the ASGI scope of a tool call, every object in it new, as a server makes it."""
    headers = [
        (b"host", b"mcp.example.com"),
        (b"user-agent", b"python-httpx/0.28.1"),
        (b"accept", b"application/json, text/event-stream"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"connection", b"keep-alive"),
        (b"content-type", b"application/json"),
        (b"content-length", b"118"),
        (b"mcp-protocol-version", b"2025-11-25"),
        (b"mcp-session-id", b"3f0c1f6c9d7a4c1e8f6b2a4d5e6f7a8b"),
    ]
    if token is not None:
        headers.insert(5, (b"authorization", b"Bearer " + token.encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50_000),
        "scheme": "http",
        "method": "POST",
        "root_path": "",
        "path": MCP_PATH,
        "raw_path": MCP_PATH.encode(),
        "query_string": b"",
        "headers": headers,
        "state": {},
    }


def save(path: Path, **fixture: Any) -> Path:
    """Write what the other processes need."""
    path.write_text(json.dumps(fixture))
    return path
