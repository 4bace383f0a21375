"""A worker is killed (SIGKILL) while it completes a sign-in at the identity provider.

The module is also the app of that worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest

from asgi_mcp_auth import IntrospectionTokenVerifier, OAuthProvider, OAuthProxy
from asgi_mcp_auth.claims import ANY_AUDIENCE
from asgi_mcp_auth.stores import store_from_url
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT
from tests.support.asgi import App, Spy
from tests.support.authorization_server import answer_of
from tests.support.engines import SHARED_ENGINES, fresh
from tests.support.products import some_of
from tests.support.upstream import CLIENT_ID, CLIENT_SECRET, Upstream
from tests.support.workers import WorkersApp, workers


def _build(
    base_url: str, url: str, keys: Sequence[str], *, issuer: str
) -> tuple[OAuthProvider, App]:
    verifier = IntrospectionTokenVerifier(
        introspection_url=f"{issuer}/introspect",
        client_id=INTROSPECTION_CLIENT[0],
        client_secret=INTROSPECTION_CLIENT[1],
        issuer=issuer,
        audience=ANY_AUDIENCE,
    )
    provider = OAuthProxy(
        upstream_authorization_endpoint=f"{issuer}/authorize",
        upstream_token_endpoint=f"{issuer}/token",
        upstream_client_id=CLIENT_ID,
        upstream_client_secret=CLIENT_SECRET,
        token_verifier=verifier,
        base_url=base_url,
        store=store_from_url(url, encryption_keys=keys),
        required_scopes=["mcp:read"],
    )
    return provider, Spy()


app = WorkersApp.of(_build, __name__)


@pytest.mark.case("P21")
@pytest.mark.asyncio
@pytest.mark.parametrize("engine", some_of(SHARED_ENGINES, "postgresql"))
async def test_a_worker_killed_during_a_sign_in_leaves_nothing_and_the_person_can_retry(
    engine: str,
) -> None:
    """The identity provider has used up its code by then; whose tokens they are was not known
    yet.
    """
    with Upstream() as upstream, fresh(engine) as place:
        more: Any = {"issuer": upstream.issuer}
        with workers(2, {"p": place}, app=f"{__name__}:app", more=more) as deployments:
            dying, other = deployments["p"]
            client, browser = await dying.register(), dying.browser()
            page = await browser.open(client.authorization_url())
            callback = upstream.approve((await browser.submit(page, action="approve")).url)
            upstream.delay("/introspect", 2)
            coming_back = asyncio.create_task(browser.send("GET", callback))
            while not upstream.access:  # noqa: ASYNC110 (it is filled on a thread of its own)
                await asyncio.sleep(0.01)
            dying.process.kill()
            await asyncio.wait([coming_back])
            assert coming_back.exception() is not None
            upstream.reset()
            store = place.store().scoped_to(str(dying.provider.base_url))
            await store.open()
            assert [
                await store.scan(kind) for kind in ("upstream", "upstream_state", "code", "session")
            ] == [[]] * 4
            await store.aclose()
            browser.server = client.server = other
            assert (await browser.send("GET", callback)).status == 400
            assert len(upstream.requests) == 1
            page = await browser.open(client.authorization_url())
            assert urlsplit(page.url).path.endswith("/consent")
            callback = upstream.approve((await browser.submit(page, action="approve")).url)
            answer = answer_of((await browser.send("GET", callback)).header("location") or "")
            assert (await client.redeem(answer["code"])).status == 200
