"""What is said at the start about issuers at which MCP clients cannot sign people in."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asgi_mcp_auth import JWTVerifier, MultiAuth, RemoteAuthProvider, StaticTokenVerifier
from asgi_mcp_auth.auth import AuthProvider
from asgi_mcp_auth.testing import Issuer
from tests.support.protection import BASE_URL, TOKENS
from tests.support.rows import rows
from tests.support.sockets import HostileServer, read_head

pytestmark = pytest.mark.asyncio

LOGGER = "asgi_mcp_auth.issuers"
OAUTH, OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
REGISTER, DOCUMENTS = "registration_endpoint", "client_id_metadata_document_supported"
METHODS = "code_challenge_methods_supported"


def fixed(idp: Issuer) -> AuthProvider:
    return StaticTokenVerifier(TOKENS)


def discovering(idp: Issuer) -> AuthProvider:
    return JWTVerifier(issuer=idp.issuer)


def among_others(idp: Issuer) -> AuthProvider:
    return MultiAuth(verifiers=[fixed(idp), discovering(idp)])


VERIFIERS = {each.__name__: each for each in (fixed, discovering, among_others)}


@pytest.fixture
def idp() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


def provider_of(verifier: AuthProvider, *issuers: str) -> RemoteAuthProvider:
    provider = RemoteAuthProvider(verifier, [*issuers], BASE_URL)
    provider.set_mcp_path("/mcp")
    return provider


async def look(provider: RemoteAuthProvider) -> None:
    """Run a lifespan that lasts until the look at the issuers has ended."""
    before = asyncio.all_tasks()
    async with provider, asyncio.timeout(10):
        await asyncio.gather(*(asyncio.all_tasks() - before))


def publish(idp: Issuer, place: str, **members: Any) -> None:
    """Serve metadata with other members than the usual ones; ``None`` is left out."""
    document = {**idp.metadata(), DOCUMENTS: None, **members}
    stated = {name: value for name, value in document.items() if value is not None}
    idp.answer(place, json.dumps(stated).encode())


CANNOT_REGISTER = "they cannot register there.* see OIDCProxy in docs/identity-provider-proxy.md"
NO_PKCE = "does not list S256"
# What the two documents say; and the words of the warning, if there is one.
OFFERS: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None, str]] = {
    "registration": ({REGISTER: "https://idp.example/register"}, {}, ""),
    "metadata documents": ({DOCUMENTS: True}, {}, ""),
    "both": ({REGISTER: "https://idp.example/register", DOCUMENTS: True}, {}, ""),
    "registration in the second document": ({}, {REGISTER: "https://idp.example/register"}, ""),
    "metadata documents in the second": ({}, {DOCUMENTS: True}, ""),
    "registration in the only document": (None, {REGISTER: "https://idp.example/r"}, ""),
    "PKCE in the second": ({DOCUMENTS: True, METHODS: None}, {}, ""),
    "further methods of PKCE": ({DOCUMENTS: True, METHODS: ["plain", "S256"]}, {}, ""),
    "neither": ({}, {}, CANNOT_REGISTER),
    "neither in the only document": ({}, None, CANNOT_REGISTER),
    "neither in the only document, which is the second": (None, {}, CANNOT_REGISTER),
    "null and empty": ({REGISTER: ""}, {REGISTER: []}, CANNOT_REGISTER),
    "metadata documents switched off": ({DOCUMENTS: False}, {DOCUMENTS: False}, CANNOT_REGISTER),
    "the word true": ({DOCUMENTS: "true"}, {}, CANNOT_REGISTER),
    "no PKCE": ({DOCUMENTS: True, METHODS: None}, {METHODS: None}, NO_PKCE),
    "plain PKCE": ({DOCUMENTS: True, METHODS: ["plain"]}, None, NO_PKCE),
    "PKCE as text": ({DOCUMENTS: True, METHODS: "S256"}, None, NO_PKCE),
    "nothing": ({METHODS: None}, {METHODS: None}, f"{CANNOT_REGISTER}; .*{NO_PKCE}"),
}


async def warning_about(
    verifier: AuthProvider, idp: Issuer, offer: str, caplog: pytest.LogCaptureFixture
) -> str:
    """Return what is said about an issuer that makes this offer; nothing is fetched twice."""
    caplog.clear()
    idp.hits.clear()
    for place, members in zip((OAUTH, OPENID), OFFERS[offer], strict=False):
        if members is None:
            idp.fail(place, status=404)
        else:
            publish(idp, place, **members)
    await look(provider_of(verifier, idp.issuer))
    assert set(idp.hits.values()) == {1}
    lines = [each for each in caplog.records if each.name == LOGGER]
    assert [each.levelno for each in lines] in ([], [logging.WARNING])
    return "".join(each.getMessage() for each in lines)


def check_words(warning: str, offer: str, idp: Issuer) -> None:
    words = OFFERS[offer][2]
    assert bool(warning) == bool(words)
    if words:
        assert re.match(f"MCP clients cannot use the issuer '{idp.issuer}': .*{words}", warning)


@pytest.mark.rule("RS-81")
@rows("offer", OFFERS)
async def test_an_issuer_at_which_clients_cannot_register_is_reported(
    offer: str, idp: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    check_words(await warning_about(fixed(idp), idp, offer, caplog), offer, idp)


@pytest.mark.rule("RS-81")
@rows("offer", ["both", "registration in the second document", "neither"])
@rows("kind", ["discovering", "among_others"])
async def test_a_verifier_shares_the_metadata_that_it_has_fetched(
    offer: str, kind: str, idp: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    check_words(await warning_about(VERIFIERS[kind](idp), idp, offer, caplog), offer, idp)


# What is no metadata of the issuer: and whether clients fail for certain.
ANSWERS: dict[str, tuple[dict[str, Any], bool]] = {
    "not found": ({"status": 404}, True),
    "a page": ({"body": b"<html>"}, True),
    "another issuer": ({"body": b'{"issuer": "https://idp.example/"}'}, True),
    "HTTP 500": ({"status": 500}, False),
    "too many requests": ({"status": 429}, False),
}


@pytest.mark.rule("RS-81")
@rows("answer", ANSWERS)
async def test_an_issuer_without_metadata_is_reported_unless_it_is_an_outage(
    answer: str, idp: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    settings, is_certain = ANSWERS[answer]
    for place in (OAUTH, OPENID):
        idp.answer(place, **settings)
    await look(provider_of(fixed(idp), idp.issuer))
    lines = [each.getMessage() for each in caplog.records if each.name == LOGGER]
    assert len(lines) == is_certain
    assert all("no metadata document; " in line for line in lines)


@pytest.mark.rule("RS-81")
async def test_each_issuer_is_looked_at_once_in_a_process(caplog: pytest.LogCaptureFixture) -> None:
    with Issuer() as good, Issuer() as bad:
        publish(bad, OAUTH)
        publish(bad, OPENID)
        provider = provider_of(fixed(good), good.issuer, bad.issuer)
        for _ in range(3):
            await look(provider)
        assert (good.hits, bad.hits) == ({OAUTH: 1, OPENID: 1}, {OAUTH: 1, OPENID: 1})
    (line,) = [each.getMessage() for each in caplog.records if each.name == LOGGER]
    assert bad.issuer in line


@pytest.mark.rule("RS-81")
async def test_an_issuer_that_offers_all_is_asked_for_no_second_document(idp: Issuer) -> None:
    await look(provider_of(discovering(idp), idp.issuer))
    assert idp.hits == {OAUTH: 1, "/jwks": 1}


@pytest.mark.rule("RS-81")
async def test_what_a_verifier_reports_itself_is_not_reported_twice(
    idp: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    for place in (OAUTH, OPENID):
        idp.fail(place, status=404)
    await look(provider_of(discovering(idp), idp.issuer))
    assert idp.hits == {OAUTH: 1, OPENID: 1}
    assert [each.name for each in caplog.records] == ["asgi_mcp_auth.jwks"]


@pytest.mark.rule("RS-81")
async def test_an_issuer_that_hangs_delays_neither_the_start_nor_the_end() -> None:
    asked, release = threading.Event(), threading.Event()

    def behave(connection: Any) -> None:
        read_head(connection)
        asked.set()
        release.wait(10)

    with HostileServer(behave) as server:
        try:
            before = asyncio.all_tasks()
            async with provider_of(StaticTokenVerifier(TOKENS), server.url):
                assert len(asyncio.all_tasks() - before) == 1
                await _settle(asked.is_set)
            assert asyncio.all_tasks() == before
        finally:
            release.set()


async def _settle(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (it comes true on another thread)
            await asyncio.sleep(0.002)
