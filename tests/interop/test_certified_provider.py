"""Our verifiers against a certified identity provider, from rotation to outages."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from asgi_mcp_auth import (
    ClaimRules,
    IntrospectionTokenVerifier,
    InvalidToken,
    JWKSOptions,
    JWTVerifier,
    MCPAuthMiddleware,
    MultiAuth,
    RemoteAuthProvider,
    ServerUnavailable,
)
from asgi_mcp_auth.testing import FrozenClock
from tests.interop.identity_provider import IdentityProvider
from tests.interop.protection import BASE_URL, RESOURCE, bearer
from tests.support.asgi import Spy, call

pytestmark = pytest.mark.asyncio

OPAQUE = f"{BASE_URL}/opaque"
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
DISCOVERY = "/.well-known/oauth-authorization-server"
OPENID_DISCOVERY = "/.well-known/openid-configuration"
INTROSPECTION = "/token/introspection"


def introspecting(
    idp: IdentityProvider, audience: str | None = OPAQUE, **settings: object
) -> IntrospectionTokenVerifier:
    client_id, client_secret = idp.introspection_client
    return IntrospectionTokenVerifier(
        **{
            "introspection_url": idp.introspection_url,
            "client_id": client_id,
            "client_secret": client_secret,
            "audience": audience,
            **settings,
        }
    )


# ------------------------------------------------------------------------------------ signed tokens


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_each_algorithm_is_accepted_with_only_the_issuer_configured(
    idp: IdentityProvider, algorithm: str
) -> None:
    resource = f"{BASE_URL}/{algorithm}"
    verifier = JWTVerifier(issuer=idp.issuer, audience=resource)
    token = await verifier.verify(idp.token(resource, "mcp:read mcp:write", user="bob"))
    assert (token.subject, token.client_id, token.scopes) == (
        "bob",
        "test-app",
        ["mcp:read", "mcp:write"],
    )
    assert (token.resource, token.claims["iss"]) == (resource, idp.issuer)
    assert (idp.hits[DISCOVERY], idp.hits["/jwks"]) == (1, 1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_tokens_of_the_other_algorithms_are_refused_where_one_is_named(
    idp: IdentityProvider, algorithm: str
) -> None:
    verifier = JWTVerifier(issuer=idp.issuer, audience=RESOURCE, algorithm=algorithm)
    for other in sorted({*ALGORITHMS} - {algorithm}):
        with pytest.raises(InvalidToken) as refused:
            await verifier.verify(idp.token(f"{BASE_URL}/{other}"))
        assert refused.value.reason == "algorithm"
    assert "/jwks" not in idp.hits


async def test_its_tokens_are_marked_as_access_tokens_so_the_strict_profile_takes_them(
    idp: IdentityProvider,
) -> None:
    verifier = JWTVerifier(
        issuer=idp.issuer, audience=RESOURCE, claims=ClaimRules(require_at_jwt=True)
    )
    assert (await verifier.verify(idp.token(RESOURCE))).subject == "alice"


@pytest.mark.rule("RS-27")
async def test_a_token_for_another_resource_is_refused(idp: IdentityProvider) -> None:
    verifier = JWTVerifier(issuer=idp.issuer, audience=RESOURCE)
    with pytest.raises(InvalidToken) as refused:
        await verifier.verify(idp.token(f"{RESOURCE}-other"))
    assert refused.value.reason == "audience"


@pytest.mark.case("V33")
async def test_an_id_token_is_no_access_token(idp: IdentityProvider) -> None:
    verifier = JWTVerifier(issuer=idp.issuer, audience=RESOURCE)
    id_token = idp.tokens(RESOURCE, scope="openid mcp:read")["id_token"]
    with pytest.raises(InvalidToken) as refused:
        await verifier.verify(id_token)
    assert refused.value.reason == "audience"


async def test_a_provider_with_an_openid_document_only_is_discovered_too(
    idp: IdentityProvider,
) -> None:
    idp.fail(DISCOVERY, status=404)
    verifier = JWTVerifier(issuer=idp.issuer, audience=RESOURCE)
    assert (await verifier.verify(idp.token(RESOURCE))).subject == "alice"
    assert (idp.hits[DISCOVERY], idp.hits[OPENID_DISCOVERY], idp.hits["/jwks"]) == (1, 1, 1)


async def test_an_issuer_that_spells_itself_differently_is_not_believed(
    idp: IdentityProvider,
) -> None:
    verifier = JWTVerifier(issuer=f"{idp.issuer}/", audience=RESOURCE)
    with pytest.raises(ServerUnavailable):
        await verifier.verify(idp.token(RESOURCE))
    assert "/jwks" not in idp.hits


async def test_every_answer_of_the_middleware_with_its_tokens(idp: IdentityProvider) -> None:
    verifier = JWTVerifier(issuer=idp.issuer, required_scopes=["mcp:read"])
    app = Spy()
    protected = MCPAuthMiddleware(
        app, RemoteAuthProvider(verifier, [idp.issuer], BASE_URL), mcp_path="/mcp"
    )
    answers = {
        "valid": await call(protected, "POST", "/mcp", bearer(idp.token(RESOURCE))),
        "scope": await call(protected, "POST", "/mcp", bearer(idp.token(RESOURCE, "mcp:write"))),
        "audience": await call(protected, "POST", "/mcp", bearer(idp.token(f"{BASE_URL}/other"))),
        "opaque": await call(protected, "POST", "/mcp", bearer(idp.token(OPAQUE))),
        "none": await call(protected, "POST", "/mcp"),
    }
    assert {name: answer.status for name, answer in answers.items()} == {
        "valid": 200,
        "scope": 403,
        "audience": 401,
        "opaque": 401,
        "none": 401,
    }
    assert app.scope["access_token"].subject == "alice"
    assert 'error="insufficient_scope"' in (answers["scope"].header("www-authenticate") or "")


# ----------------------------------------------------------------------------------------- rotation


@pytest.mark.case("K01")
@pytest.mark.rule("RS-30")
async def test_a_token_signed_with_a_new_key_is_accepted_at_once(idp: IdentityProvider) -> None:
    clock = FrozenClock(time.time())
    verifier = JWTVerifier(
        issuer=idp.issuer, audience=RESOURCE, clock=clock, jwks=JWKSOptions(cooldown_seconds=5)
    )
    old = idp.token(RESOURCE)
    await verifier.verify(old)
    idp.rotate()
    new = idp.token(RESOURCE)
    assert (await verifier.verify(new)).subject == "alice"
    assert (await verifier.verify(old)).subject == "alice", "the old keys are still published"
    assert idp.hits["/jwks"] == 2


@pytest.mark.case("K02")
async def test_tokens_of_a_withdrawn_key_are_refused_once_the_new_keys_are_here(
    idp: IdentityProvider,
) -> None:
    clock = FrozenClock(time.time())
    verifier = JWTVerifier(issuer=idp.issuer, audience=RESOURCE, clock=clock)
    old = idp.token(RESOURCE)
    await verifier.verify(old)
    idp.rotate(drop=True)
    clock.advance(5)
    await verifier.verify(idp.token(RESOURCE))
    with pytest.raises(InvalidToken) as refused:
        await verifier.verify(old)
    assert refused.value.reason == "unknown_key"
    assert idp.hits["/jwks"] == 3


async def test_a_burst_of_tokens_signed_with_a_new_key_costs_one_fetch(
    idp: IdentityProvider,
) -> None:
    clock = FrozenClock(time.time())
    verifier = JWTVerifier(issuer=idp.issuer, audience=RESOURCE, clock=clock)
    await verifier.verify(idp.token(RESOURCE))
    idp.rotate()
    tokens = [idp.token(RESOURCE) for _ in range(5)]
    clock.advance(5)
    idp.delay("/jwks", 0.1)
    accepted = await asyncio.gather(*(verifier.verify(token) for token in tokens * 10))
    assert len(accepted) == 50
    assert idp.hits["/jwks"] == 2


# ----------------------------------------------------------------------------- outages and slowness


@pytest.mark.case("K09", "W42")
async def test_a_provider_that_is_down_at_the_start_is_503_and_forgiven_when_it_is_back(
    idp: IdentityProvider,
) -> None:
    clock = FrozenClock(time.time())
    verifier = JWTVerifier(issuer=idp.issuer, clock=clock)
    protected = MCPAuthMiddleware(
        Spy(), RemoteAuthProvider(verifier, [idp.issuer], BASE_URL), mcp_path="/mcp"
    )
    headers = bearer(idp.token(RESOURCE))
    idp.fail("/jwks")
    down = [await call(protected, "POST", "/mcp", headers) for _ in range(3)]
    assert [answer.status for answer in down] == [503, 503, 503]
    assert [answer.header("retry-after") for answer in down] == ["1", "1", "1"]
    assert idp.hits["/jwks"] == 1, "failures count for the cooldown"
    idp.reset()
    clock.advance(1)
    assert (await call(protected, "POST", "/mcp", headers)).status == 200


@pytest.mark.parametrize(
    "paths", [[DISCOVERY, OPENID_DISCOVERY], ["/jwks"]], ids=["discovery", "keys"]
)
async def test_one_failed_start_is_over_within_a_second_and_a_half(
    idp: IdentityProvider, paths: list[str]
) -> None:
    verifier = JWTVerifier(issuer=idp.issuer, audience=RESOURCE)
    token = idp.token(RESOURCE)
    for path in paths:
        idp.fail(path, times=1)
    with pytest.raises(ServerUnavailable) as unavailable:
        await verifier.verify(token)
    assert 1 <= unavailable.value.retry_after_seconds <= 1.5
    await asyncio.sleep(unavailable.value.retry_after_seconds)
    assert (await verifier.verify(token)).subject == "alice"


@pytest.mark.case("K07")
async def test_old_keys_serve_through_an_outage_until_they_are_too_old_to_trust(
    idp: IdentityProvider,
) -> None:
    clock = FrozenClock(time.time())
    options = JWKSOptions(ttl_seconds=60, stale_seconds=60)
    verifier = JWTVerifier(issuer=idp.issuer, audience=RESOURCE, clock=clock, jwks=options)
    first, second = idp.token(RESOURCE), idp.token(RESOURCE)
    await verifier.verify(first)
    idp.fail("/jwks")
    clock.advance(61)
    assert (await verifier.verify(first)).subject == "alice", "a token seen before"
    assert (await verifier.verify(second)).subject == "alice", "and one never seen"
    assert idp.hits["/jwks"] == 2
    clock.advance(60)
    for token in (first, second):
        with pytest.raises(ServerUnavailable):
            await verifier.verify(token)


async def test_a_token_with_an_unknown_key_is_not_judged_while_the_keys_cannot_be_had(
    idp: IdentityProvider,
) -> None:
    clock = FrozenClock(time.time())
    verifier = JWTVerifier(issuer=idp.issuer, audience=RESOURCE, clock=clock)
    await verifier.verify(idp.token(RESOURCE))
    idp.rotate()
    token = idp.token(RESOURCE)
    idp.fail("/jwks")
    clock.advance(5)
    with pytest.raises(ServerUnavailable):
        await verifier.verify(token)


@pytest.mark.case("K05")
async def test_a_hundred_first_requests_wait_together_for_one_slow_answer(
    idp: IdentityProvider,
) -> None:
    verifier = JWTVerifier(issuer=idp.issuer, audience=RESOURCE)
    token = idp.token(RESOURCE)
    idp.delay("/jwks", 0.2)
    accepted = await asyncio.gather(*(verifier.verify(token) for _ in range(100)))
    assert len(accepted) == 100
    assert (idp.hits[DISCOVERY], idp.hits["/jwks"]) == (1, 1)


async def test_a_provider_slower_than_the_timeout_counts_as_down(idp: IdentityProvider) -> None:
    verifier = JWTVerifier(
        issuer=idp.issuer, audience=RESOURCE, jwks=JWKSOptions(timeout_seconds=0.2)
    )
    token = idp.token(RESOURCE)
    idp.delay("/jwks", 20)
    started = time.monotonic()
    with pytest.raises(ServerUnavailable):
        await verifier.verify(token)
    assert time.monotonic() - started < 10


async def test_no_request_waits_for_keys_that_are_only_due_for_renewal(
    idp: IdentityProvider,
) -> None:
    clock = FrozenClock(time.time())
    verifier = JWTVerifier(
        issuer=idp.issuer, audience=RESOURCE, clock=clock, jwks=JWKSOptions(ttl_seconds=60)
    )
    first, second = idp.token(RESOURCE), idp.token(RESOURCE)
    async with verifier:
        await verifier.verify(first)
        idp.delay("/jwks", 20)
        clock.advance(50)
        started = time.monotonic()
        await verifier.verify(first)
        await verifier.verify(second)
        assert time.monotonic() - started < 10


# ------------------------------------------------------------------------------------ opaque tokens


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_an_opaque_token_is_looked_up_once_and_then_remembered(
    idp: IdentityProvider, method: str
) -> None:
    verifier = introspecting(idp, client_auth_method=method)
    opaque = idp.token(OPAQUE, "mcp:read mcp:write", user="bob")
    for _ in range(3):
        token = await verifier.verify(opaque)
        assert (token.subject, token.client_id, token.scopes) == (
            "bob",
            "test-app",
            ["mcp:read", "mcp:write"],
        )
        assert token.resource == OPAQUE
    assert idp.hits[INTROSPECTION] == 1


async def test_an_opaque_token_for_another_resource_is_refused(idp: IdentityProvider) -> None:
    with pytest.raises(InvalidToken) as refused:
        await introspecting(idp, audience=RESOURCE).verify(idp.token(OPAQUE))
    assert refused.value.reason == "audience"


async def test_an_opaque_token_is_refused_as_soon_as_its_remembered_answer_has_aged(
    idp: IdentityProvider,
) -> None:
    clock = FrozenClock(time.time())
    verifier = introspecting(idp, clock=clock, cache_ttl_seconds=30)
    opaque = idp.token(OPAQUE)
    await verifier.verify(opaque)
    idp.revoke(opaque)
    clock.advance(31)
    with pytest.raises(InvalidToken) as refused:
        await verifier.verify(opaque)
    assert refused.value.reason == "inactive"
    assert idp.hits[INTROSPECTION] == 2


async def test_a_token_that_the_provider_never_issued_is_inactive(idp: IdentityProvider) -> None:
    with pytest.raises(InvalidToken) as refused:
        await introspecting(idp).verify("never-issued")
    assert refused.value.reason == "inactive"


async def test_introspection_that_fails_or_dawdles_is_503_not_401(idp: IdentityProvider) -> None:
    opaque = idp.token(OPAQUE)
    idp.fail(INTROSPECTION)
    provider = RemoteAuthProvider(introspecting(idp, audience=None), [idp.issuer], BASE_URL)
    protected = MCPAuthMiddleware(Spy(), provider, mcp_path="/opaque")
    answer = await call(protected, "POST", "/opaque", bearer(opaque))
    assert answer.status == 503
    assert answer.header("retry-after")
    idp.reset()
    idp.delay(INTROSPECTION, 2)
    async with httpx.AsyncClient(timeout=0.2) as impatient:
        with pytest.raises(ServerUnavailable):
            await introspecting(idp, http_client=impatient).verify(opaque)


async def test_a_wrong_secret_of_ours_is_our_outage_and_not_the_fault_of_the_token(
    idp: IdentityProvider,
) -> None:
    with pytest.raises(ServerUnavailable):
        await introspecting(idp, client_secret="not-the-secret-0123456789").verify(
            idp.token(OPAQUE)
        )


async def test_signed_and_opaque_tokens_of_one_provider_each_go_to_their_verifier(
    idp: IdentityProvider,
) -> None:
    both = MultiAuth(
        verifiers=[JWTVerifier(issuer=idp.issuer, audience=RESOURCE), introspecting(idp)]
    )
    signed = await both.verify_token(idp.token(RESOURCE))
    assert signed is not None
    assert signed.resource == RESOURCE
    assert INTROSPECTION not in idp.hits
    opaque = await both.verify_token(idp.token(OPAQUE, user="bob"))
    assert opaque is not None
    assert opaque.subject == "bob"
    assert (idp.hits[INTROSPECTION], idp.hits["/jwks"]) == (1, 1)
