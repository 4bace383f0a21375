"""Debian's ``glewlwyd`` as an upstream: an OpenID provider in C written elsewhere, with its own
pages.

It differs from node-oidc-provider where that is of use: its issuer has a path, its access tokens
are JWTs without an audience, its response names the issuer though its metadata does not
promise that, and its pages offer no refusal.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.async_api import Page

from tests.interop.browser import PASSWORD
from tests.proxy.upstreams.upstream import Upstream
from tests.support.engines import Server
from tests.support.services import need, need_file

_SHARE = Path("/usr/share/glewlwyd")
_SCHEMA = Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")
_ADMIN = {"username": "admin", "password": "password"}  # as the schema has it
_SECRET = "upstream-secret-0123456789-0123456789"
_PEOPLE = {"alice": ("Alice", "alice@example.com"), "bob": ("Bob", "bob@example.org")}
_TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "application/javascript",
    "json": "application/json",
}


class _Process(Server):
    """The program with a database and a copy of its pages: it does not follow Debian's links to
    jQuery by itself.
    """

    def __init__(self) -> None:
        self.program = need("glewlwyd")
        pages, schema = (
            need_file(_SHARE / "webapp", "glewlwyd-common"),
            need_file(_SCHEMA, "glewlwyd"),
        )
        super().__init__()
        self.base_url = f"http://127.0.0.1:{self.port}"
        shutil.copytree(pages, self.folder / "pages", ignore=shutil.ignore_patterns("config.json"))
        shutil.copy(_SHARE / "templates/config.json", self.folder / "pages")
        database = sqlite3.connect(self.folder / "glewlwyd.db")
        database.executescript(schema.read_text())
        database.close()
        (self.folder / "glewlwyd.conf").write_text(self._configuration())

    def command(self) -> Sequence[str]:
        return [self.program, f"--config-file={self.folder}/glewlwyd.conf"]

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.base_url}/config", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _configuration(self) -> str:
        settings: dict[str, str | int] = {
            "port": self.port,
            "bind_address": "127.0.0.1",
            "external_url": self.base_url,
            "login_url": "login.html",
            "api_prefix": "api",
            "static_files_path": f"{self.folder}/pages/",
            "log_mode": "console",
            "log_level": "INFO",
            "cookie_secure": 0,
            "cookie_same_site": "lax",
            "session_key": "GLEWLWYD2_SESSION_ID",
            "admin_scope": "g_admin",
            "profile_scope": "g_profile",
            "user_module_path": "/usr/lib/glewlwyd/user",
            "client_module_path": "/usr/lib/glewlwyd/client",
            "user_auth_scheme_module_path": "/usr/lib/glewlwyd/scheme",
            "plugin_module_path": "/usr/lib/glewlwyd/plugin",
            "hash_algorithm": "SHA512",
        }
        types = ", ".join(
            f'{{extension = ".{name}"; mime_type = "{kind}";}}' for name, kind in _TYPES.items()
        )
        return "\n".join(
            [
                *(f"{name} = {json.dumps(value)};" for name, value in settings.items()),
                f'database = {{type = "sqlite3"; path = "{self.folder}/glewlwyd.db";}};',
                f"static_files_mime_types = ({types});",
            ]
        )


class Glewlwyd(Upstream):
    """A running Glewlwyd with two people, one client, and the scopes ``openid`` and ``notes``.

    It wants PKCE. A refresh token is good once; one that comes again ends the last of its
    successors.
    """

    name: ClassVar[str] = "glewlwyd"

    def __init__(self, process: _Process, callback: str) -> None:
        self.issuer: str = f"{process.base_url}/api/oidc"
        self.callback = callback
        self.client_id = "the-proxy"
        self.client_secret = _SECRET
        self.authorization_endpoint = f"{self.issuer}/auth"
        self.token_endpoint = f"{self.issuer}/token"
        self.userinfo_endpoint = f"{self.issuer}/userinfo"
        self.revocation_endpoint = f"{self.issuer}/revoke"
        self._process = process

    async def down(self) -> None:
        """Stop listening; issued tokens are not forgotten."""
        await asyncio.to_thread(self._process.kill)

    async def up(self) -> None:
        """Listen again, where it did before."""
        await asyncio.to_thread(self._process.start)

    async def sign_in(
        self,
        browser: httpx.AsyncClient,
        authorization_url: str,
        user: str = "alice",
        *,
        decision: str = "approve",
    ) -> str:
        """Do what its pages do, as a person; return the URL of the callback that the browser is
        sent to.

        Raises:
            AssertionError: it sends the browser somewhere else.
        """
        assert decision == "approve", "nobody can say no here"
        response = await browser.get(authorization_url)
        url = response.headers["location"]
        if not url.startswith(self.callback):
            api = f"{self._process.base_url}/api/auth/"
            (
                await browser.post(api, json={"username": user, "password": PASSWORD})
            ).raise_for_status()
            grant = await browser.put(
                f"{api}grant/{self.client_id}/", json={"scope": "openid notes"}
            )
            grant.raise_for_status()
            url = (await browser.get(f"{authorization_url}&g_continue")).headers["location"]
        assert url.startswith(self.callback), url
        return url

    async def use_pages(
        self, page: Page, user: str = "alice", *, decision: str = "approve"
    ) -> None:
        """Do the same in a real browser that shows the first of its pages."""
        assert decision == "approve", "nobody can say no here"
        await page.get_by_label("Login").fill(user)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="OK").click()
        await page.get_by_role("button", name="Continue").click()

    async def set_up(self, access_seconds: int, refresh_seconds: int) -> None:
        """Make the plugin, the client, the scope and the people, through the administrator's
        API.
        """
        api = f"{self._process.base_url}/api"
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:

            async def make(kind: str, **members: Any) -> None:
                response = await http.post(f"{api}/{kind}/", json=members)
                assert response.is_success, response.text

            await make("auth", **_ADMIN)
            plugin = _plugin(self.issuer, access_seconds, refresh_seconds)
            await make(
                "mod/plugin", module="oidc", name="oidc", display_name="OpenID", parameters=plugin
            )
            password = {"password_required": True, "password_max_age": 0, "scheme": {}}
            await make("scope", name="notes", display_name="Your notes", **password)
            # The scope that is there already would let in who has an old session, without a
            # password.
            (
                await http.put(f"{api}/scope/openid", json={"display_name": "OpenID", **password})
            ).raise_for_status()
            await make("client", **self._client())
            for user, (name, email) in _PEOPLE.items():
                person = {"username": user, "name": name, "email": email, "password": PASSWORD}
                await make("user", **person, scope=["openid", "notes"], enabled=True)

    def _client(self) -> dict[str, Any]:
        return {
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "name": "The MCP server",
            "confidential": True,
            "redirect_uri": [self.callback],
            # The last one: only such clients may revoke.
            "authorization_type": ["code", "refresh_token", "client_credentials"],
            "token_endpoint_auth_method": ["client_secret_basic", "client_secret_post"],
            "scope": [],
            "enabled": True,
        }


def _plugin(issuer: str, access_seconds: int, refresh_seconds: int) -> dict[str, Any]:
    off = [
        *(f"auth-type-{kind}-enabled" for kind in ("token", "password", "device", "none")),
        *(f"oauth-{kind}-allowed" for kind in ("rar", "par", "ciba", "dpop")),
        "allow-non-oidc",
        "encrypt-out-token-allow",
        "pkce-method-plain-allowed",
        "refresh-token-rolling",
        "register-client-allowed",
        "request-parameter-allow",
        "resource-allowed",
        "session-management-allowed",
    ]
    on = [
        *(f"auth-type-{kind}-enabled" for kind in ("code", "refresh", "client")),
        "auth-type-code-revoke-replayed",
        "introspection-revocation-allow-target-client",
        "introspection-revocation-allowed",
        "jwks-show",
        "oauth-as-iss-id",
        "pkce-allowed",
        "pkce-required",
    ]
    empty = (
        "claims",
        "additional-parameters",
        "scope",
        "pkce-scopes",
        "introspection-revocation-auth-scope",
    )
    return {
        **dict.fromkeys(off, False),
        **dict.fromkeys(on, True),
        **{name: list[str]() for name in empty},
        "iss": issuer,
        "subject-type": "public",
        "allowed-scope": ["openid"],
        "jwt-type": "ecdsa",
        "jwt-key-size": "256",
        "jwks-private": json.dumps({"keys": [_key()]}),
        "default-kid": "key-1",
        "access-token-duration": access_seconds,
        "refresh-token-duration": refresh_seconds,
        "code-duration": 60,
        "refresh-token-one-use": "always",
        "name-claim": "mandatory",
        "email-claim": "mandatory",
        "scope-claim": "no",
        "address-claim": {"type": "no"},
    }


def _key() -> dict[str, str]:
    numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    parts = {
        "d": numbers.private_value,
        "x": numbers.public_numbers.x,
        "y": numbers.public_numbers.y,
    }
    encoded = {
        name: base64.urlsafe_b64encode(part.to_bytes(32)).rstrip(b"=").decode()
        for name, part in parts.items()
    }
    return {"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "key-1", "use": "sig", **encoded}


@asynccontextmanager
async def glewlwyd_upstream(
    *, callback: str, access_seconds: int = 300, refresh_seconds: int = 86400
) -> AsyncIterator[Glewlwyd]:
    """Start it on a free port; skipped, or failed, where it is not installed.

    Args:
        callback: the proxy's redirect URI.
        access_seconds: the lifetime of access tokens and id_tokens.
        refresh_seconds: the lifetime of refresh tokens.
    """
    process = _Process()
    await asyncio.to_thread(process.start)
    try:
        upstream = Glewlwyd(process, callback)
        await upstream.set_up(access_seconds, refresh_seconds)
        yield upstream
    finally:
        await asyncio.to_thread(process.stop)
