"""Client ids that are URLs, as far as it goes without a network."""

from __future__ import annotations

from asgi_mcp_auth.server import Registration

from ..deployments import LOOPBACK_REDIRECT_URI, authorization_url, deployment
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


SCENES = {"Client ids that are URLs": refused}
