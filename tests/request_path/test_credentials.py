"""Where a token may come from, and which resource it must be for."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    ConfigurationError,
    IntrospectionTokenVerifier,
    JWTVerifier,
    MultiAuth,
    RemoteAuthProvider,
)
from asgi_mcp_auth.testing import INTROSPECTION_CLIENT, FrozenClock, Issuer
from tests.support.asgi import call
from tests.support.protection import ALICE, BASE_URL, RESOURCE, make_provider, protect
from tests.support.rows import rows

pytestmark = pytest.mark.asyncio


@pytest.mark.rule("RS-25")
async def test_a_session_is_no_authentication() -> None:
    guard = protect()
    guard.assert_entered(await call(guard.app, "POST", "/mcp", {**ALICE, "Mcp-Session-Id": "s"}))
    response = await call(guard.app, "POST", "/mcp", {"Mcp-Session-Id": "s"})
    guard.assert_refused(response, 401, "missing_token")


@pytest.mark.rule("RS-26")
@pytest.mark.parametrize(
    "target", ["/mcp?access_token=alice-token", "/mcp?a=b&access_token=alice-token"]
)
async def test_a_token_in_the_query_is_not_read(target: str) -> None:
    guard = protect()
    guard.assert_refused(await call(guard.app, "POST", target), 401, "missing_token")


@pytest.mark.rule("RS-26")
async def test_a_token_in_a_form_body_or_a_cookie_is_not_read() -> None:
    guard = protect()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    response = await call(guard.app, "POST", "/mcp", form, body=b"access_token=alice-token")
    guard.assert_refused(response, 401, "missing_token")
    response = await call(guard.app, "POST", "/mcp", {"Cookie": "access_token=alice-token"})
    guard.assert_refused(response, 401, "missing_token")


@pytest.mark.rule("RS-27")
@rows(
    ("audience", "reason"),
    [
        (RESOURCE, None),
        ([RESOURCE, "https://other.example"], None),
        ("https://mcp.example.com/mcp-other", "audience"),
        ("https://mcp.example.com/mcp/", None),
        ("https://mcp.example.com/mcp//", "audience"),
        ("https://mcp.example.com", "audience"),
        ("https://MCP.example.com/mcp", "audience"),
        ([], "missing_aud"),
        (None, "missing_aud"),
    ],
)
async def test_only_tokens_for_this_resource_are_accepted(
    audience: Any, reason: str | None
) -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        guard = protect(
            provider=RemoteAuthProvider(JWTVerifier(issuer=idp.issuer), [idp.issuer], BASE_URL)
        )
        headers = {"Authorization": f"Bearer {idp.mint(aud=audience)}"}
        response = await call(guard.app, "POST", "/mcp", headers)
        if reason is None:
            assert guard.spy.scope["access_token"].resource == RESOURCE
            guard.assert_entered(response)
        else:
            guard.assert_refused(response, 401, reason)


@pytest.mark.rule("RS-27")
async def test_both_spellings_of_the_resource_are_accepted() -> None:
    """A JavaScript client sends ``new URL(resource).href``; the token carries what the client asked
    for.
    """
    with Issuer(algorithms=["ES256"]) as idp:
        verifier = JWTVerifier(public_key=idp.public_jwk(), issuer=idp.issuer)
        guard = protect(
            provider=RemoteAuthProvider(verifier, [idp.issuer], "https://MCP.example.com:443"),
            mcp_path=None,
        )
        for audience in ("https://MCP.example.com:443", "https://mcp.example.com/"):
            headers = {"Authorization": f"Bearer {idp.mint(aud=audience)}"}
            guard.assert_entered(await call(guard.app, "POST", "/mcp", headers))
        headers = {"Authorization": f"Bearer {idp.mint(aud='https://mcp.example.com')}"}
        guard.assert_refused(await call(guard.app, "POST", "/mcp", headers), 401, "audience")


@pytest.mark.rule("RS-27")
async def test_any_audience_has_to_be_written_out() -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        with pytest.raises(ConfigurationError, match="audience"):
            protect(provider=JWTVerifier(issuer=idp.issuer))
        guard = protect(provider=JWTVerifier(issuer=idp.issuer, audience=ANY_AUDIENCE))
        headers = {"Authorization": f"Bearer {idp.mint()}"}
        guard.assert_entered(await call(guard.app, "POST", "/mcp", headers))


async def test_one_provider_cannot_protect_two_resources() -> None:
    provider = make_provider()
    protect(provider=provider, mcp_path="/a")
    with pytest.raises(ConfigurationError, match="already protects '/a'"):
        protect(provider=provider, mcp_path="/b")
    guard = protect(provider=provider, mcp_path=None)
    response = await call(guard.app, "GET", "/.well-known/oauth-protected-resource/a")
    assert response.json()["resource"] == f"{BASE_URL}/a"


def introspecting(idp: Issuer, **settings: Any) -> IntrospectionTokenVerifier:
    client_id, client_secret = INTROSPECTION_CLIENT
    return IntrospectionTokenVerifier(
        introspection_url=idp.introspection_url,
        client_id=client_id,
        client_secret=client_secret,
        **settings,
    )


@pytest.mark.rule("RS-31")
async def test_an_opaque_token_is_introspected_and_its_audience_checked() -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        guard = protect(provider=RemoteAuthProvider(introspecting(idp), [idp.issuer], BASE_URL))
        for claims, reason in [
            ({"aud": RESOURCE}, None),
            ({"aud": "https://x.example"}, "audience"),
            ({}, "missing_aud"),
        ]:
            headers = {"Authorization": f"Bearer {idp.mint_opaque(**claims)}"}
            response = await call(guard.app, "POST", "/mcp", headers)
            if reason is None:
                guard.assert_entered(response)
            else:
                guard.assert_refused(response, 401, reason)
        response = await call(guard.app, "POST", "/mcp", {"Authorization": "Bearer unknown"})
        guard.assert_refused(response, 401, "inactive")


@pytest.mark.rule("RS-24", "RS-31")
async def test_an_introspection_outage_is_503_with_retry_after() -> None:
    clock = FrozenClock()
    with Issuer(algorithms=["ES256"], clock=clock) as idp:
        guard = protect(
            provider=RemoteAuthProvider(introspecting(idp, clock=clock), [idp.issuer], BASE_URL)
        )
        idp.fail("/introspect")
        headers = {"Authorization": f"Bearer {idp.mint_opaque(aud=RESOURCE)}"}
        response = await call(guard.app, "POST", "/mcp", headers)
        guard.assert_refused(response, 503, "unavailable")
        idp.reset()
        clock.advance(int(response.header("retry-after") or 0))
        guard.assert_entered(await call(guard.app, "POST", "/mcp", headers))


@pytest.mark.rule("RS-32")
async def test_a_bound_token_sent_as_bearer_is_refused() -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        jwt = JWTVerifier(issuer=idp.issuer)
        provider = RemoteAuthProvider(
            MultiAuth(verifiers=[jwt, introspecting(idp)]), [idp.issuer], BASE_URL
        )
        guard = protect(provider=provider)
        for token in (
            idp.mint(aud=RESOURCE, cnf={"jkt": "x"}),
            idp.mint(aud=RESOURCE, cnf={"x5t#S256": "x"}),
            idp.mint_opaque(aud=RESOURCE, cnf={"jkt": "x"}),
        ):
            response = await call(guard.app, "POST", "/mcp", {"Authorization": f"Bearer {token}"})
            guard.assert_refused(response, 401, "bound")


@pytest.mark.rule("RS-36")
@pytest.mark.parametrize(
    "base_url", ["http://mcp.example.com", "http://127.0.0.1.evil.example", "ftp://mcp.example.com"]
)
async def test_urls_are_https_but_for_loopback(base_url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        make_provider(base_url)


@pytest.mark.rule("RS-37")
async def test_a_token_never_shows_in_a_log_an_event_or_a_response(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard = protect(required_scopes=["mcp:admin"])
    secrets = ["alice-token", "bob-token", "nobody-knows-this", "broken,token"]
    answers: list[str] = []
    with caplog.at_level(logging.DEBUG):
        for secret in secrets:
            for target in ("/mcp", f"/mcp?access_token={secret}"):
                response = await call(
                    guard.app, "POST", target, {"Authorization": f"Bearer {secret}"}
                )
                answers.append(f"{response.headers} {response.body!r}")
    records = [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    assert len(guard.events) == 8
    assert len(records) >= 8
    for text in (*answers, *records, *map(repr, guard.events)):
        assert not [secret for secret in secrets if secret in text]
