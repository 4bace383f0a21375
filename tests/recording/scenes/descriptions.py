"""Client ids that are URLs of the client's own description."""

from __future__ import annotations

from typing import Any

from asgi_mcp_auth.server import Registration
from tests.support.tls import Authority, DocumentHost

from ..browser import Browser
from ..deployments import LOOPBACK_REDIRECT_URI, WEB_REDIRECT_URI, authorization_url, deployment
from ..recorder import Recorder

URLS = {
    "On a loopback address": "https://127.0.0.1/client",
    "On a private address": "https://10.0.0.1/client",
    "On a host without a dot": "https://localhost/client",
    "On this very server": "http://localhost:8000/client",
    "With http": "http://app.example/client",
    "Without a path": "https://app.example",
    "With a fragment": "https://app.example/client#a",
    "With a user name": "https://a@app.example/client",
    "With a dot segment": "https://app.example/a/../client",
    "Longer than any URL": f"https://app.example/{'a' * 2048}",
}


async def refused(recorder: Recorder) -> None:
    """Documents that are refused before they are fetched."""
    registration = Registration(trust_document=lambda url: "untrusted" not in url)
    async with deployment(recorder, registration=registration) as (place, _):
        for sentence, url in URLS.items():
            client = {"client_id": url, "redirect_uris": [LOOPBACK_REDIRECT_URI]}
            await place(f"{sentence}, at /authorize", "GET", authorization_url(client))
        untrusted = {
            "client_id": "https://untrusted.example/client",
            "redirect_uris": [LOOPBACK_REDIRECT_URI],
        }
        await place("One that the operator does not trust", "GET", authorization_url(untrusted))
        form = {
            "grant_type": "authorization_code",
            "code": "a",
            "client_id": "https://127.0.0.1/client",
        }
        await place("At the token endpoint", "POST", "/token", form=form)
    async with deployment(recorder, registration=Registration(metadata_documents=False)) as (
        place,
        _,
    ):
        await place("Switched off", "GET", authorization_url(untrusted))


async def fetched(recorder: Recorder) -> None:
    """Documents that are fetched, good and bad."""
    with Authority() as authority, DocumentHost(authority) as host:
        recorder.hide_port(host.port)
        registration = Registration(
            development_documents=True, development_ca_file=authority.ca_file
        )
        async with deployment(recorder, registration=registration) as (place, _):
            for number, (sentence, members) in enumerate(_documents().items()):
                url = host.serve_client(f"/{number}/client.json", **members)
                client = {"client_id": url, "redirect_uris": [WEB_REDIRECT_URI]}
                browser = Browser(place)
                await browser.open(sentence, authorization_url(client))
                if browser.page.status == 303:
                    await browser.follow(None)
                    await browser.submit(None, username="alice")
                    await browser.follow(f"{sentence}: the consent page")
                    await browser.submit(f"{sentence}: the person approves", action="approve")
            host.serve("/missing.json", {}, status=404)
            client = {"client_id": host.url("/missing.json"), "redirect_uris": [WEB_REDIRECT_URI]}
            await place("A document that is missing", "GET", authorization_url(client))


def _documents() -> dict[str, dict[str, Any]]:
    usual = {"client_name": "Notes on the go", "redirect_uris": [WEB_REDIRECT_URI]}
    return {
        "A document": usual,
        "A document that names another client": {**usual, "client_id": "https://other.example/"},
        "A document with a secret": {**usual, "client_secret": "secret"},
        "A document without redirect URIs": {**usual, "redirect_uris": None},
        "A document with another redirect URI": {**usual, "redirect_uris": ["https://a.example/"]},
        "A document for a client with a secret": {
            **usual,
            "token_endpoint_auth_method": "client_secret_basic",
        },
        "A document that is a page": {**usual, "headers": {"content_type": "text/html"}},
        "A document that is too large": {**usual, "software_id": "a" * 6000},
    }


SCENES = {"Client ids that are URLs": refused, "Descriptions that are fetched": fetched}
