"""One protected resource as most tests need it: two callers, their tokens, and a record of every
refusal.

guard = protect(public_paths=["/health"])
response = await call(guard.app, "GET", "/mcp", ALICE)
guard.assert_refused(response, 401, "missing_token")
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from asgi_mcp_auth import (
    AuthProvider,
    MCPAuthMiddleware,
    Refusal,
    RemoteAuthProvider,
    StaticTokenVerifier,
)
from tests.support.asgi import App, Response, Spy

BASE_URL = "https://mcp.example.com"
RESOURCE = f"{BASE_URL}/mcp"
ISSUER = "https://idp.example.com"
METADATA_PATH = "/.well-known/oauth-protected-resource/mcp"
METADATA_URL = f"{BASE_URL}{METADATA_PATH}"

TOKENS: Mapping[str, Mapping[str, Any]] = {
    "alice-token": {
        "client_id": "client-a",
        "subject": "alice",
        "scopes": ["mcp:read", "mcp:write"],
    },
    "bob-token": {"client_id": "client-b", "subject": "bob"},
}
ALICE = {"Authorization": "Bearer alice-token"}
BOB = {"Authorization": "Bearer bob-token"}
STRANGER = {"Authorization": "Bearer nobody-knows-this"}


def make_provider(
    base_url: str = BASE_URL, *, required_scopes: list[str] | None = None, **settings: Any
) -> RemoteAuthProvider:
    """Return a provider that knows ``TOKENS`` and sends strangers to ``ISSUER``."""
    verifier = StaticTokenVerifier(TOKENS, required_scopes=required_scopes)
    return RemoteAuthProvider(verifier, [ISSUER], base_url, **settings)


class Guard:
    """A middleware in front of a spy, and what it reported.

    Attributes:
        app: the middleware.
        spy: the app behind; what it is asked says who came through.
        events: every refusal, in order.
    """

    def __init__(
        self, app: App | None, provider: AuthProvider | None, settings: dict[str, Any]
    ) -> None:
        self.spy = Spy()
        self.events: list[Refusal] = []
        self.app = MCPAuthMiddleware(
            app or self.spy,
            provider or make_provider(),
            on_event=self.events.append,
            **{"mcp_path": "/mcp", **settings},
        )

    @property
    def reasons(self) -> list[str]:
        """Why each refused request was refused."""
        return [event.reason for event in self.events]

    def assert_refused(self, response: Response, status: int, reason: str) -> None:
        """Check the answer, that its reason was reported exactly once, and that nothing reached the
        app.
        """
        assert (response.status, self.reasons) == (status, [reason])
        assert self.events[0].status == status
        assert self.spy.scopes == []
        self.events.clear()

    def assert_entered(self, response: Response, subject: str | None = "alice") -> None:
        """Check that the request reached the app as this caller, ``None`` for an anonymous one."""
        assert (response.status, self.reasons) == (200, [])
        access = self.spy.scope["access_token"]
        assert (None if access is None else access.subject) == subject
        self.spy.scopes.clear()


def protect(app: App | None = None, provider: AuthProvider | None = None, **settings: Any) -> Guard:
    """Return a guarded app; ``settings`` are those of ``MCPAuthMiddleware``."""
    return Guard(app, provider, settings)


_ATTRIBUTE = re.compile(r'([a-z_]+)="([\x20-\x21\x23-\x5B\x5D-\x7E]*)"')


def parse_challenge(value: str | None) -> dict[str, str]:
    """Return the attributes of a ``WWW-Authenticate: Bearer`` value, in order.

    Raises:
        AssertionError: it departs from the syntax of RFC 6750 §3, or names an attribute twice.
    """
    assert value is not None, "there is no challenge"
    assert value.startswith("Bearer "), value
    found = _ATTRIBUTE.findall(value)
    assert value == "Bearer " + ", ".join(f'{name}="{text}"' for name, text in found), value
    assert len(dict(found)) == len(found), f"an attribute is named twice: {value}"
    return dict(found)


def challenge_of(response: Response) -> dict[str, str]:
    """Return the attributes of the response's only challenge."""
    return parse_challenge(response.header("www-authenticate"))
