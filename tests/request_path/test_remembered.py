"""Remembered tokens are not verified again, except by verifiers without a cache."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from asgi_mcp_auth import (
    AccessToken,
    AuthProvider,
    InvalidToken,
    JWTVerifier,
    MCPAuthMiddleware,
    RemoteAuthProvider,
)
from asgi_mcp_auth.headers import MAX_TOKEN_BYTES
from asgi_mcp_auth.testing import FrozenClock, Issuer
from tests.support.asgi import Spy, call

pytestmark = pytest.mark.asyncio
BASE_URL = "https://mcp.example.com"
RESOURCE = f"{BASE_URL}/mcp"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer(algorithms=("Ed25519",)) as idp:
        yield idp


def protected(provider: AuthProvider, app: Spy | None = None) -> MCPAuthMiddleware:
    return MCPAuthMiddleware(app or Spy(), provider, mcp_path="/mcp")


async def status(app: MCPAuthMiddleware, token: str, path: str = "/mcp") -> int:
    return (await call(app, "POST", path, {"Authorization": f"Bearer {token}"})).status


def cached(verifier: AuthProvider, token: str) -> AccessToken | None:
    cache = verifier.token_cache()
    assert cache is not None
    return cache(token.encode())


def remote(verifier: AuthProvider) -> RemoteAuthProvider:
    return RemoteAuthProvider(verifier, ["https://idp.example.com"], BASE_URL)


class Blocklist(JWTVerifier):
    """What people write: our verdict, then their own."""

    blocked: frozenset[str] = frozenset()

    async def verify_token(self, token: str) -> AccessToken | None:
        access = await super().verify_token(token)
        return None if access is None or access.subject in self.blocked else access


class BlocklistMixin:
    """The same as a mix-in, which is no provider itself."""

    blocked: frozenset[str] = frozenset()

    async def verify_token(self, token: str) -> AccessToken | None:
        access = await super().verify_token(token)  # type: ignore[misc]
        return None if access is None or access.subject in self.blocked else access


class Mixed(BlocklistMixin, JWTVerifier):
    """Our verdict, then the mix-in's."""


class Heir(Blocklist):
    """Inherits a verdict of its parent's own."""


class Reasoned(JWTVerifier):
    """The same in the method that raises the reasons of refusals."""

    blocked: frozenset[str] = frozenset()

    async def verify(self, token: str) -> AccessToken:
        access = await super().verify(token)
        if access.subject in self.blocked:
            raise InvalidToken("rejected")
        return access


class Narrowed(JWTVerifier):
    """Takes a scope away from a token, in place."""

    async def verify_token(self, token: str) -> AccessToken | None:
        access = await super().verify_token(token)
        if access is not None and "admin" in access.scopes:
            access.scopes.remove("admin")
        return access


async def test_a_token_seen_before_is_let_in_without_another_look_until_it_expires(
    issuer: Issuer,
) -> None:
    clock, app = FrozenClock(), Spy()
    verifier = JWTVerifier(public_key=issuer.public_jwk(), issuer=issuer.issuer, clock=clock)
    guarded = protected(remote(verifier), app)
    exp = int(clock.time()) + 10
    token = issuer.mint(aud=RESOURCE, iat=None, exp=exp)
    assert cached(verifier, token) is None
    assert [await status(guarded, token), await status(guarded, token)] == [200, 200]
    first, second = (scope["access_token"] for scope in app.scopes)
    assert first == second == cached(verifier, token)
    assert first is not second
    assert first.scopes is not second.scopes
    clock.advance(10)
    assert cached(verifier, token) is None
    assert await status(guarded, token) == 401


@pytest.mark.parametrize("kind", [Blocklist, Mixed, Heir, Reasoned])
async def test_a_verifier_with_a_verdict_of_its_own_is_asked_every_time(
    issuer: Issuer, kind: type[Any]
) -> None:
    verifier = kind(public_key=issuer.public_jwk(), issuer=issuer.issuer)
    token = issuer.mint(aud=RESOURCE)
    assert verifier.token_cache() is None
    assert remote(verifier).token_cache() is None
    for guarded in (protected(remote(verifier)), protected(remote(verifier))):
        verifier.blocked = frozenset()
        assert await status(guarded, token) == 200
        verifier.blocked = frozenset(("alice",))
        assert await status(guarded, token) == 401


async def test_a_provider_with_a_verdict_of_its_own_is_asked_every_time(issuer: Issuer) -> None:
    class Closed(RemoteAuthProvider):
        opened = True

        async def verify_token(self, token: str) -> AccessToken | None:
            return await super().verify_token(token) if self.opened else None

    verifier = JWTVerifier(public_key=issuer.public_jwk(), issuer=issuer.issuer)
    provider = Closed(verifier, ["https://idp.example.com"], BASE_URL)
    guarded, token = protected(provider), issuer.mint(aud=RESOURCE)
    assert [await status(guarded, token), await status(guarded, token)] == [200, 200]
    provider.opened = False
    assert await status(guarded, token) == 401


async def test_a_replaced_verifier_has_no_say_any_more(issuer: Issuer) -> None:
    provider = remote(JWTVerifier(public_key=issuer.public_jwk(), issuer=issuer.issuer))
    guarded, token = protected(provider), issuer.mint(aud=RESOURCE)
    assert [await status(guarded, token), await status(guarded, token)] == [200, 200]
    provider.token_verifier = JWTVerifier(
        public_key=issuer.public_jwk(), issuer="https://other.example", audience=RESOURCE
    )
    assert await status(guarded, token) == 401


async def test_scopes_that_a_verifier_takes_away_are_gone(issuer: Issuer) -> None:
    verifier = Narrowed(
        public_key=issuer.public_jwk(), issuer=issuer.issuer, required_scopes=["admin"]
    )
    guarded, token = protected(remote(verifier)), issuer.mint(aud=RESOURCE, scope="admin read")
    assert [await status(guarded, token), await status(guarded, token)] == [403, 403]


async def test_a_token_in_the_query_as_well_is_one_too_many_also_for_a_token_seen_before(
    issuer: Issuer,
) -> None:
    guarded = protected(remote(JWTVerifier(public_key=issuer.public_jwk(), issuer=issuer.issuer)))
    token = issuer.mint(aud=RESOURCE)
    assert await status(guarded, token) == 200
    assert await status(guarded, token, "/mcp?access_token=x") == 400
    assert await status(guarded, token, "/mcp?page=2") == 200


@pytest.mark.case("V79")
async def test_a_token_longer_than_any_is_not_even_looked_up(issuer: Issuer) -> None:
    """No hash, and no copy, of megabytes that a stranger sends."""

    class Watching(RemoteAuthProvider):
        looked_up: ClassVar[list[int]] = []

        def token_cache(self) -> Callable[[bytes], AccessToken | None]:
            cache = super().token_cache()
            assert cache is not None

            def watched(token: bytes) -> AccessToken | None:
                self.looked_up.append(len(token))
                return cache(token)

            return watched

    verifier = JWTVerifier(public_key=issuer.public_jwk(), issuer=issuer.issuer)
    guarded = protected(Watching(verifier, ["https://idp.example.com"], BASE_URL))
    for length, expected in ((MAX_TOKEN_BYTES, 401), (MAX_TOKEN_BYTES + 1, 431), (1 << 20, 431)):
        assert await status(guarded, "a" * length) == expected
    assert Watching.looked_up == [MAX_TOKEN_BYTES]


async def test_a_refusal_leaves_no_reference_cycle_behind(issuer: Issuer) -> None:
    """A cycle through a traceback waits for the garbage collector, thousands of them in a flood."""
    guarded = protected(remote(JWTVerifier(public_key=issuer.public_jwk(), issuer=issuer.issuer)))
    tokens = [
        "garbage",
        issuer.mint(aud=RESOURCE, exp=1),
        issuer.mint(aud="https://other.example.com"),
        'a"b',
    ]

    async def flood(rounds: int) -> None:
        for _ in range(rounds):
            for token in tokens:
                assert await status(guarded, token) in (400, 401)
            assert (await call(guarded, "POST", "/mcp")).status == 401

    await flood(3)
    gc.collect()
    gc.disable()
    try:
        await flood(50)
        found = gc.collect()
    finally:
        gc.enable()
    assert found < 50
