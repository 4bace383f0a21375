"""The protected resource: challenges for every reason, rules, origins, WebSockets, mounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgi_mcp_auth import (
    InsufficientScope,
    InvalidToken,
    JWTVerifier,
    RemoteAuthProvider,
    Rule,
    ServerUnavailable,
)
from asgi_mcp_auth.testing import FrozenClock

from ..deployments import protect
from ..recorder import NOW, Place, Recorder
from ..signing import public_jwk, sign, sign_symmetric, unsigned
from ..upstream import IDP, issued

BASE_URL = "https://mcp.example"


@asynccontextmanager
async def resource(
    recorder: Recorder, verifier: Any, clock: FrozenClock, **settings: Any
) -> AsyncIterator[Place]:
    """Protect an app with tokens of another issuer."""
    provider = RemoteAuthProvider(
        verifier, [IDP], BASE_URL, scopes_supported=["mcp:read", "mcp:write"]
    )
    place = protect(recorder, provider, clock, **settings)
    async with verifier:  # the provider would look at its issuer over the network
        recorder.reports.take()
        yield place
    recorder.reports.take()


def jwt(clock: FrozenClock, **settings: Any) -> JWTVerifier:
    """Return a verifier for the tokens of the identity provider."""
    usual: dict[str, Any] = {
        "public_key": {"keys": [public_jwk("issuer")]},
        "issuer": IDP,
        "algorithm": ["RS256"],
        "required_scopes": ["mcp:read"],
        "clock": clock,
    }
    return JWTVerifier(**{**usual, **settings})


def _tokens(clock: FrozenClock) -> dict[str, str]:
    """Return a token for every reason why one is refused."""
    now, good = int(NOW), issued(clock)
    claims: dict[str, dict[str, Any]] = {
        "Expired this second": {"exp": now},
        "Without exp": {"exp": None},
        "With exp that is no number": {"exp": "soon"},
        "Not valid yet": {"nbf": now + 61},
        "With nbf that is no number": {"nbf": "now"},
        "Issued in the future": {"iat": now + 61},
        "With iat that is no number": {"iat": []},
        "Of another issuer": {"iss": "https://other.example"},
        "Without an issuer": {"iss": None},
        "For another resource": {"aud": "https://other.example/mcp"},
        "Without an audience": {"aud": None},
        "With an id that is no string": {"jti": 7},
        "Without a client": {"client_id": None, "sub": None},
        "Bound to a key": {"cnf": {"jkt": "a"}},
        "With a subject that is no string": {"sub": 7},
        "With too few scopes": {"scope": "mcp:write"},
        "With scopes that are no string": {"scope": 7},
        "Without scopes": {"scope": None},
    }
    headers: dict[str, dict[str, Any]] = {
        "Signed with another algorithm by its header": {"alg": "ES256"},
        "With an extension": {"crit": ["b64"], "b64": False},
        "With a key in its header": {"jwk": public_jwk("stranger")},
        "Of another type": {"typ": "logout+jwt"},
        "With a key id that is no string": {"kid": 7},
        "With an unknown key id": {"kid": "other"},
    }
    return {
        **{sentence: sign("issuer", {**good, **members}) for sentence, members in claims.items()},
        **{sentence: sign("issuer", good, **members) for sentence, members in headers.items()},
        "With a payload that is a list": sign("issuer", [good]),
        "Signed by a stranger": sign("stranger", good, kid="issuer"),
        "Signed with a secret": sign_symmetric("secret", good),
        "Not signed": unsigned(good),
        "An ID token": sign("issuer", {**good, "nonce": "a", "at_hash": "b"}, typ="JWT"),
        "No JWT": "opaque",
        "Longer than any token": "a" * 16_385,
        "With a made-up payload": ".".join(["eyJhbGciOiJSUzI1NiJ9", "e30x", "AAAA"]),
    }


async def refusals(recorder: Recorder) -> None:
    """Tokens that open the resource, and those that do not."""
    clock = FrozenClock(NOW)
    async with resource(recorder, jwt(clock), clock) as place:
        good = sign("issuer", issued(clock))
        await place("A good token", "POST", "/mcp", bearer=good)
        await place("The same again", "POST", "/mcp", bearer=good)
        several = sign(
            "issuer",
            issued(clock, aud=["https://other.example", f"{BASE_URL}/mcp"], scope="mcp:read b"),
        )
        await place("A token for several resources", "GET", "/mcp", bearer=several)
        await place(
            "A token with its type in another spelling",
            "GET",
            "/mcp",
            bearer=sign("issuer", issued(clock), typ="JWT"),
        )
        await place(
            "A token without a type", "GET", "/mcp", bearer=sign("issuer", issued(clock), typ=None)
        )
        await place(
            "Scopes in a list",
            "GET",
            "/mcp",
            bearer=sign("issuer", issued(clock, scope=None, scp=["mcp:read"])),
        )
        for sentence, token in _tokens(clock).items():
            await place(sentence, "POST", "/mcp", bearer=token)
        clock.advance(300)
        await place("The good token has expired meanwhile", "POST", "/mcp", bearer=good)


async def credentials(recorder: Recorder) -> None:
    """How the token is sent."""
    clock = FrozenClock(NOW)
    async with resource(recorder, jwt(clock), clock, forward_authorization=False) as place:
        good = sign("issuer", issued(clock))
        await place("No Authorization header", "POST", "/mcp")
        for sentence, value in {
            "Another scheme": "Basic YTpi",
            "Bearer without a token": "Bearer",
            "Bearer and a space": "Bearer ",
            "Two words": f"Bearer {good} x",
            "A comma": f"Bearer {good},",
            "A quoted token": f'Bearer "{good}"',
            "A tab": f"Bearer\t{good}",
            "Another scheme that begins alike": f"BearerX {good}",
            "bearer in small letters": f"bearer {good}",
            "Several spaces": f"Bearer   {good}",
            "An empty header": "",
        }.items():
            await place(sentence, "POST", "/mcp", headers={"Authorization": value})
        twice = [("Authorization", f"Bearer {good}")] * 2
        await place("Two headers", "POST", "/mcp", headers=twice)
        await place("In the query", "POST", f"/mcp?access_token={good}")
        await place("In header and query", "POST", f"/mcp?access_token={good}", bearer=good)
        await place("A query without a token", "POST", "/mcp?a=b", bearer=good)
        await place("HEAD", "HEAD", "/mcp")
        await place("OPTIONS", "OPTIONS", "/mcp")


async def rules(recorder: Recorder) -> None:
    """Paths with rules of their own."""
    clock = FrozenClock(NOW)
    settings = {
        "public_paths": ["/health", "/static/"],
        "rules": [Rule("/admin", scopes=["admin"]), Rule("/open", public=True)],
        "required_scopes": ["mcp:use"],
    }
    async with resource(recorder, jwt(clock), clock, **settings) as place:
        token = sign("issuer", issued(clock, scope="mcp:read mcp:use"))
        admin = sign("issuer", issued(clock, scope="mcp:read mcp:use admin"))
        for path in (
            "/health",
            "/health/",
            "/static/a.css",
            "/static",
            "/open",
            "/open/below",
            "/HEALTH",
            "/other",
        ):
            await place(f"GET {path} without a token", "GET", path)
        for path in (
            "/static/../mcp",
            "/static/%2e%2e/mcp",
            "/static//a",
            "/static/a%2fb",
            "/static/a;b",
            "/st%61tic/a",
        ):
            await place(f"GET {path}, which can be read two ways", "GET", path)
        await place("A public path with a bad token", "GET", "/health", bearer="bad")
        for path in ("/admin", "/admin/users", "/Admin", "/administrator", "/admin/", "//admin"):
            await place(f"GET {path} with a token that lacks admin", "GET", path, bearer=token)
        await place("/admin with admin", "GET", "/admin", bearer=admin)
        await place("//admin with admin", "GET", "//admin", bearer=admin)
        await place(
            "The resource without mcp:use", "POST", "/mcp", bearer=sign("issuer", issued(clock))
        )
        place.behind.error = InsufficientScope("notes:write")
        await place("A handler asks for more", "POST", "/mcp", bearer=token)
        await place("A public handler asks for more", "GET", "/open")
        place.behind.error = InvalidToken("revoked")
        await place("A handler finds that the token has ended", "POST", "/mcp", bearer=token)
        place.behind.error = ServerUnavailable(7)
        await place("A handler finds that something is down", "POST", "/mcp", bearer=token)


async def origins(recorder: Recorder) -> None:
    """Pages that call from a browser."""
    clock = FrozenClock(NOW)
    for allowed in (None, ["https://page.example"], "*"):
        async with resource(recorder, jwt(clock), clock, allowed_origins=allowed) as place:
            token = sign("issuer", issued(clock))
            for origin in (
                BASE_URL,
                "http://localhost:6274",
                "https://page.example",
                "https://evil.example",
                "null",
            ):
                page = {"Origin": origin}
                name = f"{origin} where allowed_origins={allowed}"
                await place(f"A page of {name}", "POST", "/mcp", headers=page, bearer=token)
                asked = {**page, "Access-Control-Request-Method": "POST"}
                await place(f"A preflight of {name}", "OPTIONS", "/mcp", headers=asked)
            await place(
                f"Without a token where allowed_origins={allowed}",
                "POST",
                "/mcp",
                headers={"Origin": BASE_URL},
            )


async def connections(recorder: Recorder) -> None:
    """WebSockets and mounts."""
    clock = FrozenClock(NOW)
    async with resource(recorder, jwt(clock), clock, public_paths=["/health"]) as place:
        token = sign("issuer", issued(clock))
        page = {"Origin": "https://evil.example"}
        await place("A WebSocket without a token", "WEBSOCKET", "/ws")
        await place("A server that cannot deny with an answer", "WEBSOCKET", "/ws", extensions={})
        await place("A WebSocket with a token", "WEBSOCKET", "/ws", bearer=token)
        await place("A WebSocket with a bad token", "WEBSOCKET", "/ws", bearer="bad")
        await place("A WebSocket of another page", "WEBSOCKET", "/ws", bearer=token, headers=page)
        await place("A public WebSocket", "WEBSOCKET", "/health")
        mounted: dict[str, Any] = {"root_path": "/api"}
        await place("Mounted, without a token", "POST", "/api/mcp", **mounted)
        await place("Mounted, with a token", "POST", "/api/mcp", bearer=token, **mounted)
        await place("Mounted, a public path", "GET", "/api/health", **mounted)
        await place("Mounted, a path without the prefix", "GET", "/health", **mounted)
        await place(
            "Mounted, a prefix with a slash at its end", "GET", "/api/health", root_path="/api/"
        )
        await place("Mounted, a prefix twice", "GET", "/api/api/health", **mounted)
        await place(
            "Mounted, the metadata",
            "GET",
            "/api/.well-known/oauth-protected-resource/mcp",
            **mounted,
        )


SCENES = {
    "Tokens at the resource": refusals,
    "Credentials at the resource": credentials,
    "Rules": rules,
    "Pages of other origins": origins,
    "WebSockets and mounts": connections,
}
