"""Answers of an identity provider that must not lead to a code."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from asgi_mcp_auth import JWTVerifier
from asgi_mcp_auth.proxy import UpstreamRules
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Response
from tests.support.authorization_server import (
    BASE_URL,
    WEB_REDIRECT_URI,
    Browser,
    Server,
    answer_of,
)
from tests.support.proxy import KINDS, come_back, depart, deploy_proxy, tokens_for, told
from tests.support.rows import rows
from tests.support.sockets import HostileServer, read_head
from tests.support.upstream import Upstream

pytestmark = pytest.mark.asyncio

TOKENS = "upstream"


def error_of(response: Response) -> str:
    """Return the error that the client is told, which must come with state and issuer (PX-09)."""
    answer = answer_of(response.header("location") or "")
    assert (answer["state"], answer["iss"]) == ("the-state", BASE_URL)
    assert "code" not in answer
    return answer["error"]


async def attempt(server: Server, upstream: Upstream, **answer: str | None) -> Response:
    """Sign in; return the answer to the browser that comes back."""
    client, browser = await server.register(redirect_uris=[WEB_REDIRECT_URI]), server.browser()
    return await come_back(browser, upstream.approve(await depart(browser, client), **answer))


async def nobody_is_in(server: Server, upstream: Upstream) -> None:
    """Check that nothing is left of an attempt."""
    assert await server.provider.store.scan(TOKENS) == []
    assert await server.provider.store.scan("session") == []
    assert await server.provider.store.scan("code") == []


@pytest.mark.case("P04")
@pytest.mark.rule("PX-04")
async def test_a_state_that_is_missing_unknown_repeated_or_used_leads_nowhere(
    upstream: Upstream,
) -> None:
    """The identity provider is not asked."""
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        callback = upstream.approve(await depart(browser, client))
        state = parse_qs(urlsplit(callback).query)["state"][0]
        for query in (
            "",
            "code=c",
            "state=&code=c",
            f"state={'x' * 43}&code=c",
            f"state={state}&state={state}&code=c",
        ):
            assert (await browser.send("GET", f"/auth/callback?{query}")).status == 400
        assert upstream.requests == []
        assert (await come_back(browser, callback)).status == 303
        assert (await come_back(browser, callback)).status == 400
        assert len(upstream.requests) == 1


@pytest.mark.case("P04")
async def test_the_state_of_another_sign_in_does_not_fit(upstream: Upstream) -> None:
    """A code of one sign-in, with the state of another, fails at the identity provider (PKCE)."""
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        first, second = [upstream.approve(await depart(browser, client)) for _ in range(2)]
        code = parse_qs(urlsplit(first).query)["code"][0]
        sent = {name: values[0] for name, values in parse_qs(urlsplit(second).query).items()}
        response = await come_back(browser, f"/auth/callback?{urlencode({**sent, 'code': code})}")
        assert error_of(response) == "server_error"
        await nobody_is_in(server, upstream)


@pytest.mark.case("P02")
@pytest.mark.rule("PX-08")
async def test_only_the_browser_that_approved_can_come_back(upstream: Upstream) -> None:
    """The honest browser can still finish."""
    async with deploy_proxy(upstream) as server:
        client, browser, other = await server.register(), server.browser(), server.browser()
        callback = upstream.approve(await depart(browser, client))
        await depart(other, client)
        assert (await come_back(other, callback)).status == 403
        assert upstream.requests == []
        assert (await come_back(browser, callback)).status == 303


@pytest.mark.case("P06")
async def test_the_callback_of_one_proxy_is_nothing_to_another(upstream: Upstream) -> None:
    with Upstream(clock=upstream.clock) as second:
        async with deploy_proxy(upstream) as server, deploy_proxy(second) as other:
            browser, client = server.browser(), await server.register()
            callback = upstream.approve(await depart(browser, client))
            elsewhere = Browser(other, cookies=dict(browser.cookies))
            assert (await come_back(elsewhere, callback)).status == 400
            assert second.requests == []


@pytest.mark.case("P06")
@pytest.mark.rule("PX-07")
@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_of_another_issuer_is_refused(upstream: Upstream, kind: str) -> None:
    """RFC 9207 §2.4: the code is not sent anywhere."""
    async with deploy_proxy(upstream, kind) as server:
        for issuer in ("https://evil.example", f"{upstream.issuer}/", ""):
            assert error_of(await attempt(server, upstream, iss=issuer)) == "server_error"
        assert upstream.requests == []
        assert "code" in answer_of(
            (await attempt(server, upstream, iss=None)).header("location") or ""
        )


async def test_an_issuer_that_promises_to_name_itself_has_to(upstream: Upstream) -> None:
    """RFC 9207 §2.4."""
    upstream.metadata_more = {"authorization_response_iss_parameter_supported": True}
    async with deploy_proxy(upstream) as server:
        assert error_of(await attempt(server, upstream, iss=None)) == "server_error"
        assert upstream.requests == []


@pytest.mark.case("P07")
@pytest.mark.rule("PX-09")
@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("access_denied", "access_denied"),
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("server_error", "server_error"),
        ("invalid_scope", "server_error"),
        ("<script>alert(1)</script>", "server_error"),
        ("x\r\nSet-Cookie: a=b", "server_error"),
        ("", "server_error"),
    ],
)
async def test_an_error_upstream_becomes_one_of_ours(
    upstream: Upstream, caplog: pytest.LogCaptureFixture, sent: str, told: str
) -> None:
    async with deploy_proxy(upstream) as server:
        response = await attempt(
            server, upstream, code=None, error=sent, error_description="<b>&\r\n</b>"
        )
        assert error_of(response) == told
        assert "<" not in (response.header("location") or "")
        assert "<" not in caplog.text
        assert upstream.requests == []
        await nobody_is_in(server, upstream)


@pytest.mark.case("P07")
@pytest.mark.parametrize("code", [None, ""])
async def test_an_answer_without_code_and_error_is_an_error(
    upstream: Upstream, code: str | None
) -> None:
    async with deploy_proxy(upstream) as server:
        assert error_of(await attempt(server, upstream, code=code)) == "server_error"
        assert upstream.requests == []


@pytest.mark.case("P08", "P15")
@pytest.mark.rule("PX-07")
@pytest.mark.parametrize(
    ("claims", "header"),
    [
        ({"nonce": "another"}, {}),
        ({"nonce": None}, {}),
        ({"aud": "another"}, {}),
        ({"aud": None}, {}),
        ({"aud": ["another", "a third"]}, {}),
        ({"aud": ["the-proxy", "another"], "azp": "another"}, {}),
        ({"azp": "another"}, {}),
        ({"azp": ["the-proxy"]}, {}),
        ({"iss": "https://evil.example"}, {}),
        ({"iss": None}, {}),
        ({"sub": None}, {}),
        ({"sub": ""}, {}),
        ({"sub": 7.5}, {}),
        ({"sub": ["alice"]}, {}),
        ({"exp": 1}, {}),
        ({"exp": None}, {}),
        ({"iat": 4_000_000_000}, {}),
        ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, {}),
        ({"at_hash": 7}, {}),
        ({}, {"typ": "at+jwt"}),
        ({}, {"alg": "none"}),
        ({}, {"alg": "HS256"}),
        ({}, {"kid": "unknown"}),
    ],
)
async def test_an_invalid_id_token_signs_no_person_in(
    upstream: Upstream, claims: dict[str, Any], header: dict[str, Any]
) -> None:
    """OpenID Connect Core §3.1.3.7 and §3.1.3.8."""
    upstream.id_token, upstream.id_token_header = claims, header
    async with deploy_proxy(upstream) as server:
        assert error_of(await attempt(server, upstream)) == "server_error"
        await nobody_is_in(server, upstream)
        await told(server)
        assert len(upstream.revoked) == 1


@pytest.mark.parametrize(
    ("claims", "header"),
    [
        ({"aud": ["the-proxy"]}, {}),
        ({"aud": ["the-proxy", "another"], "azp": "the-proxy"}, {}),
        ({"aud": ["another", "the-proxy"]}, {}),
        ({"at_hash": None}, {}),
        ({"at_hash": "", "azp": "", "auth_time": None}, {}),
        ({"sub": 7}, {}),
        ({}, {"typ": None}),
    ],
)
async def test_an_id_token_may_differ_where_the_standard_says_so(
    upstream: Upstream, claims: dict[str, Any], header: dict[str, Any]
) -> None:
    upstream.id_token, upstream.id_token_header = claims, header
    async with deploy_proxy(upstream) as server:
        assert "code" in answer_of((await attempt(server, upstream)).header("location") or "")


@rows("algorithm", ["ES256", "ES384", "RS512", "PS256", "EdDSA"])
async def test_at_hash_goes_by_the_algorithm(algorithm: str) -> None:
    """OpenID Connect Core §3.1.3.6: the hash of the signature's algorithm, its left half."""
    with Upstream(clock=FrozenClock(), algorithms=(algorithm,)) as upstream:
        async with deploy_proxy(upstream) as server:
            assert "code" in answer_of((await attempt(server, upstream)).header("location") or "")
            upstream.id_token = {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}
            assert error_of(await attempt(server, upstream)) == "server_error"


async def test_without_an_id_token_no_person_is_signed_in(upstream: Upstream) -> None:
    async with deploy_proxy(upstream) as server:
        document = json.dumps({"access_token": "a", "token_type": "Bearer"}).encode()
        upstream.answer("/token", document)
        assert error_of(await attempt(server, upstream)) == "server_error"


@pytest.mark.case("P15", "P17")
@pytest.mark.parametrize("answer", [{"active": False}, {"active": True, "client_id": "c"}])
async def test_an_access_token_without_a_subject_signs_no_person_in(
    upstream: Upstream, answer: dict[str, Any]
) -> None:
    async with deploy_proxy(upstream, "oauth") as server:
        upstream.answer("/introspect", json.dumps(answer).encode())
        assert error_of(await attempt(server, upstream)) == "server_error"
        await nobody_is_in(server, upstream)


@pytest.mark.case("P17")
@pytest.mark.parametrize(
    ("audience", "told"), [("api", None), ("another api", "server_error"), (None, "server_error")]
)
async def test_an_access_token_for_another_audience_signs_no_person_in(
    upstream: Upstream, audience: str | None, told: str | None
) -> None:
    """Several services share an application at the provider; its audience is a setting of ours."""
    upstream.access_claims = {"aud": audience}
    verifier = JWTVerifier(issuer=upstream.issuer, audience="api", clock=upstream.clock)
    async with deploy_proxy(upstream, "oauth", token_verifier=verifier) as server:
        response = await attempt(server, upstream)
        if told is not None:
            assert error_of(response) == told
            await nobody_is_in(server, upstream)
        else:
            assert "code" in answer_of(response.header("location") or "")


_JSON, _HTML = {"content-type": "application/json"}, {"content-type": "text/html"}


@pytest.mark.case("P14")
@pytest.mark.rule("PX-09")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "body", "headers", "told"),
    [
        (200, b"x" * 2**20, _JSON, "temporarily_unavailable"),
        (200, b"<html>Welcome</html>", _HTML, "server_error"),
        (302, b"", {"location": "http://169.254.169.254/"}, "temporarily_unavailable"),
        (500, b"<html>Oops</html>", _HTML, "temporarily_unavailable"),
        (503, b"", {}, "temporarily_unavailable"),
        (429, b"", {"retry-after": "7"}, "temporarily_unavailable"),
        (401, b'{"error":"invalid_client"}', _JSON, "server_error"),
        (400, b'{"error":"invalid_grant"}', _JSON, "server_error"),
        (200, b'{"error":"bad_verification_code"}', _JSON, "server_error"),
        (400, b'{"error":"<script>"}', _JSON, "server_error"),
        (400, b"[]", _JSON, "server_error"),
        (200, b"{}", _JSON, "server_error"),
        (200, b'{"access_token":"","token_type":"bearer"}', _JSON, "server_error"),
        (200, b'{"access_token":7,"token_type":"bearer"}', _JSON, "server_error"),
        (200, b'{"access_token":"a b","token_type":"bearer"}', _JSON, "server_error"),
        (200, b'{"access_token":"a","token_type":"DPoP"}', _JSON, "server_error"),
        (200, b'{"access_token":"' + b"a" * 20_000 + b'"}', _JSON, "server_error"),
    ],
)
async def test_a_token_endpoint_that_answers_otherwise(
    upstream: Upstream, kind: str, status: int, body: bytes, headers: dict[str, str], told: str
) -> None:
    upstream.answer("/token", body, status=status, headers=headers)
    async with deploy_proxy(upstream, kind) as server:
        assert error_of(await attempt(server, upstream)) == told
        await nobody_is_in(server, upstream)


@pytest.mark.slow
@pytest.mark.case("P14")
async def test_a_token_endpoint_that_is_slow(upstream: Upstream) -> None:
    """Five seconds at most."""
    upstream.delay("/token", 20)
    async with deploy_proxy(upstream) as server:
        began = time.monotonic()
        assert error_of(await attempt(server, upstream)) == "temporarily_unavailable"
        assert time.monotonic() - began < 15


@pytest.mark.parametrize("path", ["/token", "/introspect"])
async def test_an_identity_provider_that_is_down_is_no_verdict_on_a_person(
    upstream: Upstream, path: str
) -> None:
    upstream.fail(path)
    async with deploy_proxy(upstream, "oauth") as server:
        assert error_of(await attempt(server, upstream)) == "temporarily_unavailable"


async def test_without_metadata_no_browser_is_redirected(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """And once it is there, people can sign in, without a restart."""
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
        upstream.fail(path, times=1)
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        url = (await browser.submit(page, action="approve")).url
        assert answer_of(url)["error"] == "temporarily_unavailable"
        assert caplog.text.count("metadata") >= 1
        server.clock.advance(2)
        assert "code" in answer_of((await attempt(server, upstream)).header("location") or "")


async def test_the_first_people_come_at_the_same_time(upstream: Upstream) -> None:
    """One looks for the metadata, and the others wait for it."""
    upstream.delay("/.well-known/openid-configuration", 0.2)
    async with deploy_proxy(upstream) as server:
        client = await server.register()
        urls = await asyncio.gather(*(depart(server.browser(), client) for _ in range(5)))
        assert all(url.startswith(upstream.issuer) for url in urls)
        assert upstream.hits["/.well-known/openid-configuration"] == 1


async def test_metadata_that_was_good_once_stays_in_use(upstream: Upstream) -> None:
    async with deploy_proxy(upstream) as server:
        await tokens_for(upstream, await server.register())
        upstream.fail("/.well-known/oauth-authorization-server")
        upstream.fail("/.well-known/openid-configuration")
        server.clock.advance(7200)
        await tokens_for(upstream, await server.register())


@pytest.mark.case("P20")
@pytest.mark.parametrize(
    "members",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": None},
        {"token_endpoint": "http://idp.example/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": 7},
    ],
)
async def test_metadata_that_is_not_right_is_not_used(
    upstream: Upstream, members: dict[str, Any]
) -> None:
    """RFC 8414 §3.3."""
    upstream.metadata_more = members
    async with deploy_proxy(upstream) as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        assert (
            answer_of((await browser.submit(page, action="approve")).url)["error"]
            == "temporarily_unavailable"
        )


async def test_a_config_url_leads_to_the_metadata_of_its_own_issuer(upstream: Upstream) -> None:
    """Several issuers may share the metadata when each of them is named."""
    url = f"{upstream.issuer}/.well-known/openid-configuration"
    async with deploy_proxy(upstream, issuer=None, config_url=url) as server:
        await tokens_for(upstream, await server.register())
    upstream.metadata_more = {"issuer": "https://login.example/{tenant}"}
    async with deploy_proxy(upstream, issuer=None, config_url=url) as server:
        client, browser = await server.register(), server.browser()
        page = await browser.open(client.authorization_url())
        assert (
            answer_of((await browser.submit(page, action="approve")).url)["error"]
            == "temporarily_unavailable"
        )
    tenants = ["https://login.example/a", "https://login.example/b"]
    async with deploy_proxy(upstream, issuer=tenants, config_url=url) as server:
        for tenant, answer in ((tenants[1], "code"), ("https://login.example/c", "error")):
            upstream.id_token = {"iss": tenant}
            response = await attempt(server, upstream, iss=None)
            assert answer in answer_of(response.header("location") or "")


@pytest.mark.parametrize(
    ("metadata", "rules", "in_header"),
    [
        ({}, {}, True),
        (
            {"token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_post"]},
            {},
            False,
        ),
        (
            {
                "token_endpoint_auth_methods_supported": [
                    "client_secret_post",
                    "client_secret_basic",
                ]
            },
            {},
            False,
        ),
        ({"token_endpoint_auth_methods_supported": "client_secret_post"}, {}, True),
        ({}, {"client_auth_method": "client_secret_post"}, False),
    ],
)
async def test_the_secret_goes_where_the_provider_wants_it(
    upstream: Upstream, metadata: dict[str, Any], rules: dict[str, Any], in_header: bool
) -> None:
    """RFC 6749 §2.3.1: in the header, unless the metadata or the settings say otherwise; never in
    both places.
    """
    seen: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        data = read_head(connection)
        while b"code_verifier" not in data:
            data += connection.recv(65536)
        seen.append(data)
        connection.sendall(
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
        )

    with HostileServer(behave) as endpoint:
        upstream.metadata_more = {**metadata, "token_endpoint": f"{endpoint.url}/token"}
        more = UpstreamRules(**rules, token_parameters={"audience": "api"})
        async with deploy_proxy(upstream, upstream=more) as server:
            assert error_of(await attempt(server, upstream)) == "server_error"
    (data,) = seen
    head, _, body = data.partition(b"\r\n\r\n")
    assert (b"authorization: basic " in head.lower()) == in_header
    assert (b"client_secret=" in body) == (not in_header)
    assert b"audience=api" in body


@pytest.mark.rule("PX-15")
async def test_a_refused_secret_is_in_the_log_with_the_ways_to_send_it(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.answer("/token", b'{"error":"invalid_client"}', status=400)
    async with deploy_proxy(upstream) as server:
        await attempt(server, upstream)
    (said,) = [each for each in caplog.messages if "refuses the proxy" in each]
    assert "HTTP 400, invalid_client: check client_id and client_secret" in said
    assert "client_auth_method='client_secret_post'" in said


@pytest.mark.rule("PX-15")
@pytest.mark.parametrize(
    ("status", "said"), [(500, "answers with HTTP 500"), (429, "answers with HTTP 429")]
)
async def test_a_provider_that_answers_with_an_error_is_not_called_silent(
    upstream: Upstream, caplog: pytest.LogCaptureFixture, status: int, said: str
) -> None:
    upstream.answer("/token", b"", status=status)
    async with deploy_proxy(upstream) as server:
        await attempt(server, upstream)
    assert f"The identity provider {said}" in caplog.messages


@pytest.mark.case("P09")
async def test_what_was_said_in_the_log_holds_no_secret(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="asgi_mcp_auth")
    async with deploy_proxy(upstream) as server:
        upstream.fail("/revoke")
        await attempt(server, upstream)
        upstream.answer("/token", b'{"access_token":"very secret","id_token":"secret too"}')
        await attempt(server, upstream)
        upstream.answer("/token", b"very secret", status=500)
        await attempt(server, upstream)
    secrets = [
        *upstream.access,
        *upstream._sessions,
        "the secret of the proxy",
        "very secret",
        "secret too",
    ]
    assert not [secret for secret in secrets if secret in caplog.text]


async def test_what_a_stranger_can_cause_is_no_warning(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Anyone who gets as far as the redirect can open the callback with any parameters."""
    caplog.set_level(logging.WARNING, logger="asgi_mcp_auth")
    async with deploy_proxy(upstream) as server:
        for answer in (
            {"error": "x"},
            {"iss": "https://evil.example"},
            {"code": None},
            {"code": "made-up"},
        ):
            assert error_of(await attempt(server, upstream, **answer)) == "server_error"
        assert caplog.records == []
        upstream.fail("/token", status=401)
        for _ in range(3):
            await attempt(server, upstream, code="made-up")
        assert len(caplog.records) == 1


async def test_a_person_with_oversized_claims_cannot_sign_in(upstream: Upstream) -> None:
    """A token goes with every request: 4 KiB of claims are the most."""
    upstream.people["alice"] = {"groups": [f"group-{number:040}" for number in range(200)]}
    async with deploy_proxy(upstream, upstream=UpstreamRules(claims=["groups"])) as server:
        assert error_of(await attempt(server, upstream)) == "server_error"
        await nobody_is_in(server, upstream)
        await told(server)
        assert len(upstream.revoked) == 1
