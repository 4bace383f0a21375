"""The certified identity provider of the tests (npm ``oidc-provider``, see idp/server.mjs), as seen
from Python.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.interop.browser import sign_in
from tests.support.services import need, need_node_modules

FOLDER = Path(__file__).parent / "idp"
REDIRECT_URI = "http://127.0.0.1:8123/callback"


class IdentityProvider:
    """A running identity provider and its knobs.

    Attributes:
        issuer: its issuer identifier, without a trailing slash.
        introspection_url: answers ``introspection_client``, a client id and its secret.
    """

    introspection_client = ("resource-server", "resource-server-secret-0123456789")

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.introspection_url = f"{issuer}/token/introspection"
        self._http = httpx.Client(base_url=issuer, timeout=10)

    def token(self, resource: str, scope: str = "mcp:read", user: str = "alice") -> str:
        """Sign ``user`` in and return an access token for ``resource``; its last path segment picks
        the format.

        ``RS256``, ``PS256``, ``ES256`` and ``EdDSA`` are JWTs signed so, ``opaque`` is not one;
        else RS256.
        """
        token: str = self.tokens(resource, scope, user)["access_token"]
        return token

    def tokens(self, resource: str, scope: str, user: str = "alice") -> dict[str, Any]:
        """Return the whole token response; with the scope ``openid`` it has an ID token."""
        verifier = secrets.token_urlsafe(48)
        challenge = (
            base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
            .rstrip(b"=")
            .decode()
        )
        pkce = {"code_challenge": challenge, "code_challenge_method": "S256"}
        client = {"client_id": "test-app", "redirect_uri": REDIRECT_URI, "resource": resource}
        request = {
            "response_type": "code",
            "scope": scope,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        answer = sign_in(
            str(httpx.URL(f"{self.issuer}/auth", params=client | request | pkce)),
            REDIRECT_URI,
            user,
        )
        grant = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "code_verifier": verifier,
        }
        response: dict[str, Any] = (
            self._http.post("/token", data=client | grant).raise_for_status().json()
        )
        return response

    def revoke(self, token: str) -> None:
        """Revoke an opaque token; from now on introspection says that it is not active."""
        self._http.post(
            "/token/revocation", data={"client_id": "test-app", "token": token}
        ).raise_for_status()

    @property
    def hits(self) -> dict[str, int]:
        """Requests so far, by path; those to the knobs are not counted."""
        counted: dict[str, int] = self._http.get("/admin/hits").raise_for_status().json()
        return counted

    def rotate(self, *, drop: bool = False) -> None:
        """Sign with new keys; the old ones stay published, unless ``drop``."""
        self._turn("rotate", drop=drop)

    def fail(self, path: str, status: int = 503, times: int | None = None) -> None:
        """Answer the next ``times`` requests for ``path`` with ``status``; ``None``: until
        ``reset``.
        """
        self._turn("fail", path=path, status=status, times=times)

    def delay(self, path: str, seconds: float) -> None:
        """Let every request for ``path`` wait."""
        self._turn("delay", path=path, ms=seconds * 1000)

    def reset(self) -> None:
        """Forget failures, delays and hits. Keys, clients and tokens stay."""
        self._turn("reset")

    def _turn(self, knob: str, **settings: Any) -> None:
        self._http.post(f"/admin/{knob}", json=settings).raise_for_status()

    def close(self) -> None:
        """Close the connections to it."""
        self._http.close()


@contextmanager
def running_identity_provider() -> Iterator[IdentityProvider]:
    """Start the identity provider on a free port.

    Where node or its packages are missing the test is skipped, or fails where
    ``REQUIRE_SERVICES=1``.
    """
    node = node_with_packages()
    process = subprocess.Popen(
        [node, "server.mjs"],
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it warns about being run as a test
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        provider = IdentityProvider(json.loads(process.stdout.readline())["issuer"])
        try:
            yield provider
        finally:
            provider.close()
            process.stdin.close()  # it stops by itself then


def node_with_packages() -> str:
    """Return the path of node, after installing what idp/package-lock.json lists if it isn't
    installed yet.
    """
    node, npm = need("node"), need("npm")
    wanted, installed = FOLDER / "package-lock.json", FOLDER / "node_modules" / ".package-lock.json"
    with wanted.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of pytest's workers installs
        if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            subprocess.run([npm, "ci"], cwd=FOLDER, capture_output=True, check=False)
    need_node_modules(FOLDER)
    return node
