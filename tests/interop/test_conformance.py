"""The official conformance suite of MCP against ``OAuthProvider``.

The suite is the npm package ``@modelcontextprotocol/conformance``. It has two scenarios for
authorization servers, with three checks: the metadata document, and a sign-in with PKCE and a
resource. Its scenarios for MCP servers do not cover authorization; here they show that a server
behaves the same behind the middleware and without it.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from asgi_mcp_auth.server import Registration
from tests.interop.browser import Person
from tests.interop.clients import NPM
from tests.interop.deployment import deployed
from tests.interop.servers import mcp_sdk_app, serving
from tests.support.asgi import App, Receive, Scope, Send
from tests.support.engines import free_port
from tests.support.services import need_node

SUITE = NPM / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
ROBOT = {
    "client_id": "robot",
    "client_secret": "a-secret-that-is-long-enough-for-this",
    "grant_types": ["client_credentials"],
}


@contextmanager
def suite(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run the suite; yield the process, and a dict that has each check with its outcome after the
    block.
    """
    node, outcomes = need_node((22, 0), NPM), dict[str, str]()
    with tempfile.TemporaryDirectory() as folder:
        command = [node, str(SUITE), *arguments, "--output-dir", folder]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                yield process, outcomes
            finally:
                process.kill()
        for file in sorted(Path(folder).rglob("checks.json")):
            for check in json.loads(file.read_text()):
                outcomes[check["id"]] = ": ".join(
                    filter(None, (check["status"], check.get("errorMessage")))
                )


CASES = {
    **{
        version: (version, False, False)
        for version in ("2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
    },
    "below a path": ("2026-07-28", True, False),
    "with a client that registers": ("2026-07-28", False, True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_authorization_server_passes_every_check_without_a_warning(case: str) -> None:
    version, mounted, registers = CASES[case]
    port = free_port()
    metadata = {"client_name": "Suite", "redirect_uris": [f"http://127.0.0.1:{port}/callback"]}
    known = Registration(clients=[{**metadata, "client_id": "suite"}], metadata_documents=True)
    with deployed(
        None if mounted else mcp_sdk_app(), mounted=mounted, registration=known
    ) as deployment:
        issuer, client_id = deployment.provider.base_url or "", "suite"
        if registers:
            metadata["token_endpoint_auth_method"] = "none"
            client_id = (
                httpx.post(f"{issuer}/register", json=metadata)
                .raise_for_status()
                .json()["client_id"]
            )
        options = {
            "--url": issuer,
            "--client-id": client_id,
            "--resource": deployment.url,
            "--port": str(port),
        }
        options["--spec-version"] = version
        with suite("authorization", *(part for option in options.items() for part in option)) as (
            process,
            outcomes,
        ):
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                # It opens no browser, but prints what a person has to open, and listens for what
                # comes back.
                if line.startswith(f"{issuer}/authorize?"):
                    Person().visit_and_return(line.strip())
            assert process.wait(10) == 0, "".join(said)
    expected = [
        "authorization-code-grant",
        "authorization-server-metadata",
        "authorization-server-metadata-cimd",
    ]
    if version < "2025-11-25":
        expected.remove("authorization-server-metadata-cimd")
    assert outcomes == dict.fromkeys(expected, "SUCCESS")


class _WithToken:
    """In front of the middleware: gives every request a token, since the suite's client has
    none.
    """

    def __init__(self, app: App, headers: list[tuple[bytes, bytes]]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], *self._headers]}
        await self._app(scope, receive, send)


@pytest.mark.parametrize(
    "scenario",
    [
        "server-session-lifecycle",
        "server-sse-multiple-streams",
        pytest.param("server-stateless", marks=pytest.mark.soak),  # it waits for seconds
        "http-header-validation",
        "dns-rebinding-protection",
    ],
)
def test_behind_the_middleware_a_server_passes_what_it_passes_without_it(scenario: str) -> None:
    def examine(url: str) -> dict[str, str]:
        with suite("server", "--url", url, "--scenario", scenario) as (process, outcomes):
            process.communicate(timeout=30)
        assert outcomes
        return outcomes

    with serving(lambda _: mcp_sdk_app()) as base_url:
        without = examine(f"{base_url}/mcp")
    headers: list[tuple[bytes, bytes]] = []
    with deployed(
        mcp_sdk_app(),
        outside=lambda app: _WithToken(app, headers),
        registration=Registration(clients=[ROBOT]),
    ) as deployment:
        credentials = (ROBOT["client_id"], ROBOT["client_secret"])
        form = {"grant_type": "client_credentials"}
        answer = httpx.post(
            f"{deployment.provider.base_url}/token", data=form, auth=credentials
        ).raise_for_status()
        headers.append((b"authorization", b"Bearer " + answer.json()["access_token"].encode()))
        behind = examine(deployment.url)
    assert behind == without
    assert "SUCCESS" in behind.values()
