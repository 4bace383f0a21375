"""The two metadata documents of an identity provider, each of which may say less than the other."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asgi_mcp_auth import ServerUnavailable
from asgi_mcp_auth._http import HTTPFetcher
from asgi_mcp_auth.proxy.upstream import Discovery, Endpoints
from asgi_mcp_auth.testing import FrozenClock
from tests.support.proxy import depart, deploy_proxy
from tests.support.rows import rows
from tests.support.upstream import Upstream

pytestmark = pytest.mark.asyncio

OPENID, OAUTH = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(clock=FrozenClock()) as upstream:
        yield upstream


def discovery(upstream: Upstream, **settings: Any) -> Discovery:
    fetcher = HTTPFetcher(timeout_seconds=5)
    return Discovery((upstream.issuer,), None, fetcher, upstream.clock, **settings)


def publish(upstream: Upstream, place: str, **members: Any) -> None:
    """Serve metadata at one place, with some members in place of the usual ones."""
    document = {**upstream.metadata(), **members}
    stated = {name: value for name, value in document.items() if value != "left out"}
    upstream.answer(place, json.dumps(stated).encode())


def endpoints_of(upstream: Upstream) -> Endpoints:
    return Endpoints(
        authorization=f"{upstream.issuer}/authorize",
        token=f"{upstream.issuer}/token",
        revocation=f"{upstream.issuer}/revoke",
        userinfo=f"{upstream.issuer}/userinfo",
        jwks_uri=upstream.jwks_uri,
        issuers=(upstream.issuer,),
    )


MEMBERS = (
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
)
# As good as left out, wherever it stands.
NOTHING: dict[str, Any] = {
    "left out": "left out",
    "null": None,
    "empty": "",
    "relative": "/x",
    "a number": 7,
    "a list": ["https://idp.example/x"],
    "an object": {},
    "no URL": "--help",
    "a file": "file:///etc/passwd",
    "with a fragment": "https://idp.example/#x",
    "not encrypted": "http://idp.example/x",
}


@pytest.mark.rule("RS-76")
@pytest.mark.parametrize("lacking", [OPENID, OAUTH])
@pytest.mark.parametrize("case", NOTHING)
async def test_what_one_document_lacks_is_taken_from_the_other(
    upstream: Upstream, case: str, lacking: str
) -> None:
    publish(upstream, lacking, **dict.fromkeys(MEMBERS, NOTHING[case]))
    assert await discovery(upstream, needs_userinfo=True)() == endpoints_of(upstream)


@pytest.mark.rule("RS-76")
async def test_openids_document_comes_first_and_the_other_is_asked_for_what_is_missing(
    upstream: Upstream,
) -> None:
    publish(upstream, OAUTH, token_endpoint=f"{upstream.issuer}/other")
    assert await discovery(upstream)() == endpoints_of(upstream)
    publish(upstream, OPENID, revocation_endpoint="left out")
    publish(upstream, OAUTH, authorization_response_iss_parameter_supported=True)
    found = await discovery(upstream)()
    assert found == endpoints_of(upstream)._replace(states_issuer=True)


@pytest.mark.rule("RS-77")
@pytest.mark.parametrize("case", NOTHING)
@pytest.mark.parametrize("name", ["revocation_endpoint", "userinfo_endpoint"])
async def test_an_odd_member_that_is_not_needed_is_left_out_and_told_once(
    upstream: Upstream, caplog: pytest.LogCaptureFixture, name: str, case: str
) -> None:
    caplog.set_level(logging.WARNING, "asgi_mcp_auth")
    upstream.metadata_more = {name: NOTHING[case]}
    if case == "left out":
        upstream.metadata_more = {name: None}
    find = discovery(upstream)
    left_out = {name.removesuffix("_endpoint"): None}
    for _ in range(2):
        assert await find() == endpoints_of(upstream)._replace(**left_out)
        upstream.clock.advance(7200)
    told = [record.getMessage() for record in caplog.records]
    is_odd = case not in ("left out", "null", "empty", "an object")
    assert [name in message for message in told] == [True] * is_odd


@pytest.mark.rule("RS-77")
@pytest.mark.parametrize("case", NOTHING)
@pytest.mark.parametrize(
    "name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"]
)
async def test_what_is_needed_and_odd_is_named(
    upstream: Upstream, caplog: pytest.LogCaptureFixture, name: str, case: str
) -> None:
    upstream.metadata_more = {name: NOTHING[case]} if case != "left out" else {name: None}
    with pytest.raises(ServerUnavailable):
        await discovery(upstream, needs_userinfo=True)()
    (record,) = caplog.records
    assert name in record.getMessage()


@pytest.mark.rule("RS-76")
@pytest.mark.parametrize("status", [404, 503, 429])
async def test_an_outage_of_one_place_is_no_verdict_about_what_it_says(
    upstream: Upstream, status: int
) -> None:
    publish(upstream, OPENID, revocation_endpoint="left out")
    publish(upstream, OAUTH, authorization_response_iss_parameter_supported=True)
    complete = endpoints_of(upstream)._replace(states_issuer=True)
    find = discovery(upstream)
    assert await find() == complete
    upstream.fail(OAUTH, status=status)
    upstream.clock.advance(3600)
    lost = complete._replace(revocation=None, states_issuer=False)
    assert await find() == (lost if status == 404 else complete)
    publish(upstream, OAUTH)
    upstream.clock.advance(60)
    expected = lost if status == 404 else endpoints_of(upstream)
    assert await find() == expected


@pytest.mark.rule("RS-76")
async def test_an_outage_is_one_only_where_something_is_needed(upstream: Upstream) -> None:
    upstream.fail(OPENID)
    assert await discovery(upstream, needs_userinfo=True)() == endpoints_of(upstream)
    publish(upstream, OAUTH, userinfo_endpoint="left out")
    assert (await discovery(upstream)()).userinfo is None
    with pytest.raises(ServerUnavailable):
        await discovery(upstream, needs_userinfo=True)()


@pytest.mark.rule("RS-82")
async def test_a_proxy_looks_at_its_provider_when_it_starts(upstream: Upstream) -> None:
    async with deploy_proxy(upstream) as server:
        await settle(lambda: OAUTH in upstream.hits)
        before = dict(upstream.hits)
        client, browser = await server.register(), server.browser()
        assert (await depart(browser, client)).startswith(f"{upstream.issuer}/authorize?")
        # The sign-in has nothing to wait for.
        assert {path: hits for path, hits in upstream.hits.items() if "known" in path} == before


# What is wrong with the metadata; and what the warning says.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "not found": ({"status": 404}, "HTTP 404"),
    "down": ({"status": 500}, "HTTP 500"),
    "another issuer": ({"body": b'{"issuer": "https://idp.example/"}'}, "must match exactly"),
    "a page": ({"body": b"<html>"}, "no metadata document"),
}


@pytest.mark.rule("RS-82")
@rows("case", WRONG)
async def test_a_proxy_says_at_the_start_what_is_wrong_with_its_provider(
    upstream: Upstream, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    caplog.clear()
    answer, words = WRONG[case]
    for place in (OPENID, OAUTH):
        upstream.answer(place, **answer)
    async with deploy_proxy(upstream):
        await settle(lambda: bool(caplog.records))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert words in record.getMessage()


@pytest.mark.rule("RS-82")
async def test_a_provider_that_hangs_delays_neither_the_start_nor_the_end_of_a_proxy(
    upstream: Upstream,
) -> None:
    upstream.delays[OPENID] = 0.5
    before = asyncio.all_tasks()
    async with deploy_proxy(upstream):
        assert asyncio.all_tasks() > before
    assert asyncio.all_tasks() == before


async def settle(condition: Callable[[], bool]) -> None:
    """Wait for what a task in the background is about to do."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (it comes true on another thread)
            await asyncio.sleep(0.002)
