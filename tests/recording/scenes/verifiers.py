"""Where tokens come from: keys that are fetched, introspection, profiles, several sources."""

from __future__ import annotations

from contextlib import AsyncExitStack

import httpx

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    ClaimRules,
    IntrospectionTokenVerifier,
    JWKSOptions,
    MultiAuth,
    RemoteAuthProvider,
    StaticTokenVerifier,
    TokenVerifier,
    UserinfoTokenVerifier,
)
from asgi_mcp_auth.testing import FrozenClock

from ..deployments import protect
from ..recorder import NOW, Recorder
from ..signing import public_jwk, sign
from ..upstream import IDP, Upstream, issued
from .resource import BASE_URL, jwt, resource


class Refusing(TokenVerifier):
    """A verifier of the operator's own."""

    async def verify_token(self, token: str) -> None:
        """Accept no token."""


async def fetched_keys(recorder: Recorder) -> None:
    """Keys that are fetched from the issuer."""
    clock = FrozenClock(NOW)
    upstream = Upstream(clock, recorder.reports)
    options = JWKSOptions(http_client=upstream.client())
    upstream.answers["/jwks"] = 503
    async with resource(recorder, jwt(clock, public_key=None, jwks=options), clock) as place:
        await place(
            "The key set cannot be had", "POST", "/mcp", bearer=sign("issuer", issued(clock))
        )
        clock.advance(60)
        upstream.answers["/jwks"] = {"keys": [public_jwk("issuer")]}
        await place("A minute later it can", "POST", "/mcp", bearer=sign("issuer", issued(clock)))
        clock.advance(10)
        upstream.answers["/jwks"] = {"keys": [public_jwk("issuer"), public_jwk("stranger")]}
        await place("A new key is fetched", "POST", "/mcp", bearer=sign("stranger", issued(clock)))
        clock.advance(10)
        await place(
            "An unknown key is looked for", "POST", "/mcp", bearer=sign("client", issued(clock))
        )


async def opaque(recorder: Recorder) -> None:
    """Tokens that only the issuer can read."""
    clock = FrozenClock(NOW)
    upstream = Upstream(clock, recorder.reports)
    verifier = IntrospectionTokenVerifier(
        introspection_url=f"{IDP}/introspect",
        client_id="rs",
        client_secret="rs-secret",
        issuer=IDP,
        required_scopes=["mcp:read"],
        http_client=upstream.client(),
        clock=clock,
    )
    upstream.known = {
        "good": issued(clock, exp=int(NOW) + 30),
        "narrow": issued(clock, scope="other"),
        "elsewhere": issued(clock, aud="https://other.example"),
        "foreign": issued(clock, iss="https://other.example"),
        "old": issued(clock, exp=int(NOW)),
        "bound": issued(clock, token_type="DPoP"),
        "refresh": issued(clock, token_use="refresh"),
    }
    async with resource(recorder, verifier, clock) as place:
        for token in (*upstream.known, "unknown"):
            await place(f"The token {token!r}", "POST", "/mcp", bearer=token)
        await place("The good one again, from memory", "POST", "/mcp", bearer="good")
        clock.advance(30)
        await place("The good one has expired", "POST", "/mcp", bearer="good")
        upstream.answers["/introspect"] = 503
        await place("The issuer is down", "POST", "/mcp", bearer="new")
        upstream.answers["/introspect"] = 401
        await place("The issuer does not know us", "POST", "/mcp", bearer="newer")
        upstream.answers["/introspect"] = httpx.ReadTimeout("slow")
        await place("The issuer is slow", "POST", "/mcp", bearer="newest")


async def other_verifiers(recorder: Recorder) -> None:
    """Static tokens, profiles, several sources, and verifiers without metadata."""
    clock = FrozenClock(NOW)
    static = StaticTokenVerifier(
        {
            "dev": {"client_id": "dev", "subject": "alice", "scopes": ["mcp:read"]},
            "narrow": {"client_id": "dev", "scopes": []},
            "old": {"client_id": "dev", "scopes": ["mcp:read"], "expires_at": int(NOW)},
        },
        required_scopes=["mcp:read"],
        clock=clock,
    )
    async with resource(recorder, static, clock) as place:
        for token in ("dev", "narrow", "old", "unknown"):
            await place(f"The static token {token!r}", "POST", "/mcp", bearer=token)
    async with resource(recorder, Refusing(), clock) as place:
        await place("A verifier that says nothing but no", "POST", "/mcp", bearer="a")
    both = {"keys": [public_jwk("issuer"), public_jwk("stranger")]}
    async with resource(recorder, jwt(clock, public_key=both), clock) as place:
        unnamed = sign("issuer", issued(clock), kid=None)
        await place("A token that does not say which key", "POST", "/mcp", bearer=unnamed)
    bare = protect(recorder, jwt(clock, audience=ANY_AUDIENCE), clock)
    await bare("Without metadata there is a realm", "POST", "/mcp")
    await bare("Without metadata, a bad token", "POST", "/mcp", bearer="bad")
    await bare(
        "Any audience",
        "POST",
        "/mcp",
        bearer=sign("issuer", issued(clock, aud="https://other.example")),
    )
    strict = ClaimRules(
        require_at_jwt=True, max_lifetime_seconds=60, scope_hierarchy={"admin": ["mcp:read"]}
    )
    async with resource(recorder, jwt(clock, claims=strict, leeway_seconds=30), clock) as place:
        await place(
            "A token that lives too long", "POST", "/mcp", bearer=sign("issuer", issued(clock))
        )
        short = issued(clock, exp=int(NOW) + 60, scope="admin")
        await place("A scope that implies another", "POST", "/mcp", bearer=sign("issuer", short))
        await place(
            "A token of another type", "POST", "/mcp", bearer=sign("issuer", short, typ="JWT")
        )
        late = issued(clock, iat=int(NOW) - 60, exp=int(NOW) - 29)
        await place("A token within the leeway", "POST", "/mcp", bearer=sign("issuer", late))


async def several(recorder: Recorder) -> None:
    """Several sources of tokens at once."""
    clock = FrozenClock(NOW)
    upstream = Upstream(clock, recorder.reports)
    upstream.known["profile"] = {"sub": "bob"}
    server = RemoteAuthProvider(jwt(clock, required_scopes=[]), [IDP], BASE_URL)
    sources = [
        StaticTokenVerifier({"dev": {"client_id": "dev"}}, clock=clock),
        UserinfoTokenVerifier(
            userinfo_url=f"{IDP}/userinfo",
            audience=ANY_AUDIENCE,
            http_client=upstream.client(),
            clock=clock,
        ),
    ]
    provider = MultiAuth(server=server, verifiers=sources)
    place = protect(recorder, provider, clock)
    async with AsyncExitStack() as stack:
        for source in sources:  # not the server, which would look at its issuer over the network
            await stack.enter_async_context(source)
        await place(
            "A JWT goes to the server", "POST", "/mcp", bearer=sign("issuer", issued(clock))
        )
        await place("A static token", "POST", "/mcp", bearer="dev")
        await place("A token whose profile is known", "POST", "/mcp", bearer="profile")
        await place("An unknown token is asked about everywhere", "POST", "/mcp", bearer="unknown")
        await place(
            "A JWT of another issuer",
            "POST",
            "/mcp",
            bearer=sign("issuer", issued(clock, iss="https://o.example")),
        )
        await place("No token", "POST", "/mcp")
        upstream.answers["/userinfo"] = 503
        await place("One source is down", "POST", "/mcp", bearer="newer")
        await place(
            "The metadata is the server's", "GET", "/.well-known/oauth-protected-resource/mcp"
        )


SCENES = {
    "Keys that are fetched": fetched_keys,
    "Tokens that only the issuer can read": opaque,
    "Other verifiers": other_verifiers,
    "Several sources of tokens": several,
}
