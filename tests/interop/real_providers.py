"""Authorization servers as they are installed from PyPI and npm, behind our proxy.

``providers/`` has their programs; each has a client, the proxy, and a person, Alice. A program is
started once and serves all tests of a process.
"""

from __future__ import annotations

import functools
import json
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urljoin

import httpx

from tests.interop.browser import PASSWORD, forms_of
from tests.support.authorization_server import answer_of, basic, challenge_of
from tests.support.processes import until_the_end
from tests.support.services import need_modules, need_node, need_node_modules

FOLDER = Path(__file__).parent / "providers"
BASE_URL = "https://mcp.example.com"
CALLBACK = f"{BASE_URL}/auth/callback"
SECRET = "s3cret+with/all=that%has~to:be&encoded"
"""Of those that let one choose."""


@dataclass(frozen=True)
class Provider:
    """A provider that runs.

    Attributes:
        name: of its package.
        issuer: its issuer identifier.
        client_id: of the proxy.
        client_secret: of the proxy.
        end: a GET there ends all sign-ins.
    """

    name: str
    issuer: str
    client_id: str
    client_secret: str
    end: str

    async def sign_in(self, url: str) -> str:
        """Open an authorization URL in a new browser, fill in what comes up; return the URL of the
        callback that the browser is sent to.
        """
        async with httpx.AsyncClient(timeout=10, trust_env=False) as browser:
            response = await browser.get(url)
            while True:
                if response.is_redirect:
                    url = urljoin(str(response.url), response.headers["location"])
                    if url.startswith(CALLBACK):
                        return url
                    response = await browser.get(url)
                else:
                    response = await _fill_in(browser, response)

    async def metadata(self) -> dict[str, Any]:
        """Return what it says of itself."""
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            response = await http.get(f"{self.issuer}/.well-known/openid-configuration")
        found: dict[str, Any] = response.raise_for_status().json()
        return found

    async def token(self, scope: str, resource: str | None) -> str:
        """Return an access token of Alice, from a sign-in without a proxy."""
        verifier, found = secrets.token_urlsafe(48), await self.metadata()
        more = {"redirect_uri": CALLBACK, **({"resource": resource} if resource else {})}
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "scope": scope,
            "state": "a-state",
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
            **more,
        }
        back = await self.sign_in(f"{found['authorization_endpoint']}?{urlencode(asked)}")
        form = {
            "grant_type": "authorization_code",
            "code": answer_of(back)["code"],
            "code_verifier": verifier,
            **more,
        }
        headers = {}
        if self.name == "allauth":  # does not decode what the header has
            form |= {"client_id": self.client_id, "client_secret": self.client_secret}
        else:
            headers = basic(self.client_id, quote(self.client_secret, safe=""))
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            response = await http.post(found["token_endpoint"], data=form, headers=headers)
        assert response.status_code == 200, response.text
        token: str = response.json()["access_token"]
        return token

    async def end_sign_ins(self) -> None:
        """Forget, or refuse, the refresh tokens that were issued."""
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            (await http.get(self.end)).raise_for_status()


async def _fill_in(browser: httpx.AsyncClient, page: httpx.Response) -> httpx.Response:
    assert page.status_code == 200, f"{page.url} answered {page.status_code}: {page.text}"
    form = forms_of(page.text)[-1]
    typed = {"login": "alice", "password": PASSWORD}
    filled = {name: typed.get(name, value) for name, value in form.inputs.items()}
    filled |= {name: values[0] for name, values in form.buttons.items()}
    return await browser.post(urljoin(str(page.url), form.action), data=filled)


def running(name: str) -> Provider:
    """Return a provider, which is started unless it runs already.

    Where a program or a package is missing the test is skipped, or fails where
    ``REQUIRE_SERVICES=1``.
    """
    known = _started(_PROGRAMS[name])
    return Provider(name, **known[name], end=known["end"])


_PROGRAMS = {
    "oauth2-mock-server": "server.mjs",
    "better-auth": "server.mjs",
    "Authlib": "authlib_server.py",
    "allauth": "django_server.py",
    "django-oauth-toolkit": "django_server.py",
    "django-oidc-provider": "django_server.py",
}
_MODULES = {
    "authlib_server.py": "authlib flask",
    "django_server.py": "allauth oauth2_provider oidc_provider",
}


@functools.cache
def _started(file: str) -> dict[str, Any]:
    if file.endswith(".mjs"):
        need_node_modules(FOLDER)
        command = [need_node((22, 12), FOLDER.parent / "npm")]
    else:
        need_modules(*_MODULES[file].split())
        command = [sys.executable, "-W", "ignore"]
    process = subprocess.Popen(
        [*command, file, CALLBACK, SECRET, f"{BASE_URL}/mcp"],
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    until_the_end.enter_context(process)  # it stops by itself when its stdin is closed
    assert process.stdout is not None
    known: dict[str, Any] = json.loads(process.stdout.readline())
    return known
