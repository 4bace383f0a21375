"""The certified upstream: node-oidc-provider with registration off; see
tests/interop/idp/upstream.mjs.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Literal

from tests.interop.identity_provider import FOLDER, node_with_packages
from tests.proxy.upstreams.upstream import TokenRequest, WatchedUpstream, ask
from tests.support.processes import until_the_end

ClientAuth = Literal["client_secret_basic", "client_secret_post", "none"]
_CLIENTS = {
    "client_secret_basic": "proxy-basic",
    "client_secret_post": "proxy-post",
    "none": "proxy-public",
}
_SECRET = "upstream-secret-0123456789-0123456789"


class CertifiedUpstream(WatchedUpstream):
    """A running node-oidc-provider and its knobs.

    It wants PKCE, issues opaque access tokens and rotates refresh tokens; one that comes twice ends
    the whole grant, as does revoking one. A person's ``sub`` is ``id-of-`` and their name; all that
    one person approves in one browser session is one grant, however often they sign in.
    """

    name: ClassVar[str] = "certified"

    def __init__(self, issuer: str, control: str, callback: str, client_auth: ClientAuth) -> None:
        self.issuer = issuer
        self.callback = callback
        self.client_id = _CLIENTS[client_auth]
        self.client_secret = "" if client_auth == "none" else _SECRET
        self.authorization_endpoint = f"{issuer}/auth"
        self.token_endpoint = f"{issuer}/token"
        self.userinfo_endpoint = f"{issuer}/me"
        self.revocation_endpoint = f"{issuer}/token/revocation"
        self.introspection_endpoint = f"{issuer}/token/introspection"
        self._control = control

    async def requests(self) -> list[TokenRequest]:
        """Return the requests to the token endpoint so far, in order."""
        seen = (await self._seen())["tokenRequests"]
        return [TokenRequest(**{**each, "parameters": tuple(each["parameters"])}) for each in seen]

    async def hits(self) -> Mapping[str, int]:
        """Return how many requests there were, by path."""
        found: Mapping[str, int] = (await self._seen())["hits"]
        return found

    async def fail(
        self,
        path: str,
        status: int = 503,
        times: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer the next ``times`` requests for ``path`` with ``status``; ``None``: until
        ``reset``.
        """
        await self._turn("fail", path=path, status=status, times=times, headers=headers or {})

    async def fail_one_refresh_in(self, every: int) -> None:
        """Answer one refresh in so many with 503, before anything is done."""
        await self._turn("fail_refresh", every=every)

    async def delay(self, path: str, seconds: float) -> None:
        """Let every request for ``path`` wait first."""
        await self._turn("delay", path=path, ms=seconds * 1000)

    async def refuse(self, **parameters: str) -> None:
        """Answer the next authorization request at once with these parameters; ``iss`` and
        ``state`` are added.
        """
        await self._turn("refuse", parameters=parameters)

    async def revoke_user(self, user: str) -> None:
        """End everything that this person has granted."""
        await self._turn("revoke_user", user=user)

    async def account(self, user: str, **claims: Any) -> None:
        """Say what is known of a person from now on, beside their ``sub``."""
        await self._turn("account", user=user, claims=claims)

    async def down(self) -> None:
        """Stop listening; issued tokens are not forgotten."""
        await self._turn("down")

    async def up(self) -> None:
        """Listen again, where it did before."""
        await self._turn("up")

    async def reset(self) -> None:
        """Forget failures, delays and requests. What was issued stays."""
        await self._turn("reset")

    async def _seen(self) -> dict[str, Any]:
        seen: dict[str, Any] = (await ask(f"{self._control}/seen", "GET")).raise_for_status().json()
        return seen

    async def _turn(self, knob: str, **settings: Any) -> None:
        (await ask(f"{self._control}/{knob}", json=settings)).raise_for_status()


@asynccontextmanager
async def certified_upstream(
    *,
    callback: str,
    client_auth: ClientAuth = "client_secret_basic",
    access_seconds: int = 300,
    refresh_seconds: int = 86400,
    claims_in_id_token: bool = True,
) -> AsyncIterator[CertifiedUpstream]:
    """Make it on a free port, with nothing known of those before it; skipped, or failed, where node
    or its packages are missing.

    Args:
        callback: the proxy's redirect URI.
        client_auth: how the proxy authenticates.
        access_seconds: the lifetime of access tokens; that of id_tokens is a day.
        refresh_seconds: the lifetime of refresh tokens.
        claims_in_id_token: whether the claims of scopes like ``email`` are in the id_token, as many
            providers have them; otherwise they are at the userinfo endpoint only.
    """
    options = {
        "callback": callback,
        "secret": _SECRET,
        "accessSeconds": access_seconds,
        "refreshSeconds": refresh_seconds,
        "claimsInIdToken": claims_in_id_token,
    }
    control = _idle.pop() if _idle else await asyncio.to_thread(_start)
    begun = (await ask(f"{control}/begin", json=options)).raise_for_status().json()
    upstream = CertifiedUpstream(begun["issuer"], control, callback, client_auth)
    yield upstream
    await upstream.down()
    _idle.append(control)  # unless the test failed: the next one gets another process then


_idle: list[str] = []
"""The knobs of processes that no test uses at the moment."""


def _start() -> str:
    node = node_with_packages()
    process = subprocess.Popen(
        [node, "upstream.mjs"],
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it warns about being run as a test
        text=True,
    )
    until_the_end.enter_context(process)  # it stops by itself when its stdin is closed
    assert process.stdout is not None
    control: str = json.loads(process.stdout.readline())["control"]
    return control
