"""Whose signature counts: the provider's public keys and the client secret, each for its own
algorithms; and what the userinfo endpoint signs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_mcp_auth.errors import ConfigurationError, SignInFailed
from asgi_mcp_auth.proxy import UpstreamRules
from asgi_mcp_auth.proxy.answers import TokenAnswer
from asgi_mcp_auth.proxy.client import UpstreamClient
from asgi_mcp_auth.proxy.identity import IDTokenIdentifier
from asgi_mcp_auth.proxy.upstream import Endpoints
from tests.support.proxy import attempt_error, deploy_proxy, tokens_for
from tests.support.upstream import CLIENT_ID, CLIENT_SECRET, Upstream

pytestmark = pytest.mark.asyncio

NONCE = "the nonce"
HASHES = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed_by_secret(token: str, secret: bytes, algorithm: str, **header: Any) -> str:
    """The same claims, signed with a secret."""
    head = encoded(json.dumps({"alg": algorithm, **header}).encode())
    text = f"{head}.{token.split('.')[1]}"
    digest = hmac.new(secret, text.encode(), HASHES[algorithm]).digest()
    return f"{text}.{encoded(digest)}"


def identifier(
    upstream: Upstream,
    secret: str | None = CLIENT_SECRET,
    *,
    listed: Any = (),
    id_token_algorithms: Any = (),
    **rules: Any,
) -> IDTokenIdentifier:
    endpoints = Endpoints(
        authorization=f"{upstream.issuer}/authorize",
        token=f"{upstream.issuer}/token",
        userinfo=f"{upstream.issuer}/userinfo",
        jwks_uri=upstream.jwks_uri,
        issuers=(upstream.issuer,),
        signing_algorithms=tuple(listed),
    )

    async def find() -> Endpoints:
        return endpoints

    settings = UpstreamRules(**rules)
    client = UpstreamClient(find, CLIENT_ID, secret, settings, "")
    return IDTokenIdentifier(client, settings, upstream.clock, id_token_algorithms)


def id_token(upstream: Upstream, **claims: Any) -> str:
    usual = {"sub": "alice", "aud": CLIENT_ID, "client_id": None, "nonce": NONCE}
    return upstream.mint(header={"typ": "JWT"}, **{**usual, **claims})


async def refused(
    identifies: Callable[[], Awaitable[Any]], caplog: pytest.LogCaptureFixture
) -> str:
    """What the log says about a sign-in that has to fail."""
    caplog.clear()
    with pytest.raises(SignInFailed):
        await identifies()
    (message,) = caplog.messages
    return message.removeprefix("A sign-in at the identity provider failed: ")


LONG = "x" * 48


@pytest.mark.rule("PX-16")
@pytest.mark.parametrize(
    ("algorithm", "secret", "settings"),
    [
        ("HS256", CLIENT_SECRET, {"listed": ["HS256"]}),
        ("HS256", "x" * 32, {"listed": ["RS256", "HS256"]}),
        ("HS256", "é" * 16, {"listed": ["HS256"]}),
        ("HS384", "x" * 48, {"listed": ["HS256", "HS384"]}),
        ("HS512", "x" * 64, {"listed": ["HS512"]}),
        ("HS256", CLIENT_SECRET, {"id_token_algorithms": ["HS256"]}),
        ("HS256", CLIENT_SECRET, {"id_token_algorithms": ["ES256", "HS256"]}),
    ],
)
async def test_an_id_token_may_be_signed_with_the_client_secret(
    upstream: Upstream, algorithm: str, secret: str, settings: dict[str, Any]
) -> None:
    """OpenID Connect Core §3.1.3.7 step 8 and §10.1; RFC 7518 §3.2. No key set is fetched."""
    checks = identifier(upstream, secret, **settings)
    for header in ({}, {"typ": "JWT"}, {"kid": "whatever"}):
        token = signed_by_secret(id_token(upstream), secret.encode(), algorithm, **header)
        assert (await checks.identify(TokenAnswer("a", id_token=token), NONCE)).subject == "alice"
    assert upstream.hits["/jwks"] == 0


@pytest.mark.rule("PX-16")
@pytest.mark.parametrize(
    ("algorithm", "secret", "settings", "said"),
    [
        ("HS256", CLIENT_SECRET, {}, "OIDCProxy(id_token_algorithms=['HS256'])"),
        ("HS256", CLIENT_SECRET, {"listed": ["ES256"]}, "the metadata does not list that"),
        ("HS384", LONG, {"listed": ["HS256"]}, "OIDCProxy(id_token_algorithms=['HS384'])"),
        ("HS256", LONG, {"listed": ["HS256"], "id_token_algorithms": ["ES256"]}, "does not list"),
        ("HS256", "x" * 31, {"listed": ["HS256"]}, "it is too short; HS256 needs at least 32"),
        ("HS384", "x" * 47, {"listed": ["HS384"]}, "it is too short; HS384 needs at least 48"),
        ("HS512", "x" * 63, {"listed": ["HS512"]}, "it is too short; HS512 needs at least 64"),
        ("HS256", None, {"listed": ["HS256"]}, "there is none; HS256 needs 32 bytes"),
        (
            "HS256",
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDJ",
            {"listed": ["HS256"]},
            "it is a public key or certificate",
        ),
    ],
)
async def test_the_client_secret_signs_only_where_it_may(
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
    algorithm: str,
    secret: str | None,
    settings: dict[str, Any],
    said: str,
) -> None:
    checks = identifier(upstream, secret, **settings)
    token = signed_by_secret(id_token(upstream), (secret or "x" * 32).encode(), algorithm)
    answer = TokenAnswer("a", id_token=token)
    assert said in await refused(lambda: checks.identify(answer, NONCE), caplog)


@pytest.mark.rule("PX-16")
async def test_public_keys_are_no_secrets_and_the_secret_is_no_public_key(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 8725 §2.1, where the provider uses both kinds."""
    checks = identifier(upstream, listed=["ES256", "HS256"])
    plain = id_token(upstream)
    jwk = upstream.public_jwk()
    der = hashlib.sha256(b"any").digest()
    forged = [
        signed_by_secret(plain, secret, "HS256", kid=jwk["kid"])
        for secret in (json.dumps(jwk).encode(), jwk["x"].encode(), der, b"x" * 32, b"")
    ]
    header, payload, signature = plain.split(".")
    for alg in ("HS256", "none", "None", "hs256", "ES256K"):
        changed = encoded(json.dumps({"alg": alg, "kid": jwk["kid"]}).encode())
        forged += [f"{changed}.{payload}.{signature}", f"{changed}.{payload}."]
    for token in forged:
        answer = TokenAnswer("a", id_token=token)
        said = await refused(lambda answer=answer: checks.identify(answer, NONCE), caplog)
        assert said.startswith("the ID token is invalid (")
    good = TokenAnswer("a", id_token=f"{header}.{payload}.{signature}")
    assert (await checks.identify(good, NONCE)).subject == "alice"


@pytest.mark.rule("PX-16")
@pytest.mark.parametrize(
    ("secret", "names"), [(None, ["HS256"]), ("x" * 31, ["HS256"]), (LONG, ["HS256", "HS512"])]
)
async def test_a_setting_that_the_secret_cannot_serve_is_an_error_at_once(
    upstream: Upstream, secret: str | None, names: list[str]
) -> None:
    with pytest.raises(ConfigurationError, match="id_token_algorithms"):
        identifier(upstream, secret, id_token_algorithms=names)
    with pytest.raises(ConfigurationError, match="id_token_algorithms"):
        identifier(upstream, id_token_algorithms=["none"])


@pytest.mark.rule("PX-16")
async def test_the_metadata_says_that_the_secret_signs(upstream: Upstream) -> None:
    """Then there need not be any keys."""
    mint = upstream.mint

    def signed(**settings: Any) -> str:
        return signed_by_secret(mint(**settings), CLIENT_SECRET.encode(), "HS256")

    async with deploy_proxy(upstream) as server:
        upstream.mint = signed  # type: ignore[method-assign]
        assert await attempt_error(server, upstream) == "server_error"
    upstream.metadata_more = {"id_token_signing_alg_values_supported": ["HS256"], "jwks_uri": None}
    async with deploy_proxy(upstream) as server:
        upstream.id_token = {"at_hash": None}
        await tokens_for(upstream, await server.register())


@pytest.mark.rule("PX-17")
@pytest.mark.parametrize(
    ("headers", "header", "claims"),
    [
        ({"content-type": "application/jwt"}, {}, {}),
        ({"content-type": "Application/JWT; charset=utf-8"}, {"typ": "jwt"}, {}),
        ({"content-type": "application/json"}, {"typ": "application/jwt"}, {}),
        ({}, {}, {"aud": ["another", CLIENT_ID], "exp": None}),
        ({}, {}, {"azp": CLIENT_ID}),
        ({}, {}, {"azp": ""}),
    ],
)
async def test_a_signed_answer_about_a_person_is_verified_as_an_id_token_is(
    upstream: Upstream, headers: dict[str, str], header: dict[str, Any], claims: dict[str, Any]
) -> None:
    """OpenID Connect Core §5.3.2; it need not expire."""
    checks = identifier(upstream, userinfo=True)
    token = upstream.mint(
        header={"typ": None, **header},
        **{"sub": "alice", "aud": CLIENT_ID, "client_id": None, "email": "a@example.com", **claims},
    )
    for body in (token, f"\n{token}\n"):
        upstream.answer("/userinfo", body.encode(), headers=headers)
        identity = await checks.identify(TokenAnswer("a", id_token=id_token(upstream)), NONCE)
        assert identity.claims["email"] == "a@example.com"


@pytest.mark.rule("PX-17")
@pytest.mark.parametrize(
    ("header", "claims", "said"),
    [
        ({}, {"sub": "mallory"}, "the userinfo endpoint answered for another user (sub)"),
        ({}, {"sub": None}, "is invalid (client_id)"),
        ({}, {"iss": "https://evil.example"}, "is invalid (issuer)"),
        ({}, {"iss": None}, "is invalid (missing_iss)"),
        ({}, {"aud": "another"}, "is invalid (audience)"),
        ({}, {"aud": None}, "is invalid (missing_aud)"),
        ({}, {"azp": "another"}, "was issued to another client (azp)"),
        ({}, {"exp": 1}, "is invalid (expired)"),
        ({"alg": "none"}, {}, "is invalid (algorithm)"),
        ({"alg": "HS256"}, {}, "the metadata does not list that"),
        ({"kid": "unknown"}, {}, "is invalid (unknown_key)"),
        ({"typ": "at+jwt"}, {}, "is invalid (type)"),
    ],
)
async def test_a_signed_answer_that_is_not_right_signs_no_person_in(
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
    header: dict[str, Any],
    claims: dict[str, Any],
    said: str,
) -> None:
    checks = identifier(upstream, userinfo=True)
    answer = TokenAnswer("a", id_token=id_token(upstream))
    usual = {"sub": "alice", "aud": CLIENT_ID, "client_id": None}
    token = upstream.mint(header={"typ": "JWT", **header}, **{**usual, **claims})
    upstream.answer("/userinfo", token.encode(), headers={"content-type": "application/jwt"})
    assert said in await refused(lambda: checks.identify(answer, NONCE), caplog)


@pytest.mark.rule("PX-17")
async def test_a_changed_unsigned_or_encrypted_answer_is_refused(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    checks = identifier(upstream, userinfo=True)
    answer = TokenAnswer("a", id_token=id_token(upstream))
    good = id_token(upstream)
    none = encoded(b'{"alg":"none"}')
    for body, said in (
        (f"{good[:-8]}AAAAAAAA", "the answer of the userinfo endpoint is invalid (signature)"),
        (f"{none}.{good.split('.')[1]}.", "the answer of the userinfo endpoint is invalid (alg"),
        ("a.b.c.d.e", "the answer of the userinfo endpoint is encrypted, which is not supported"),
        ("a.b.c", "the answer of the userinfo endpoint is invalid (malformed)"),
    ):
        upstream.answer("/userinfo", body.encode(), headers={"content-type": "application/jwt"})
        assert said in await refused(lambda: checks.identify(answer, NONCE), caplog)
    encrypted = TokenAnswer("a", id_token="a.b.c.d.e")
    said = await refused(lambda: checks.identify(encrypted, NONCE), caplog)
    assert said.startswith("the ID token is encrypted, which is not supported")


@pytest.mark.rule("PX-19")
@pytest.mark.parametrize("header", [{"kid": None}, {"kid": "new"}, {}])
async def test_a_key_that_is_not_known_now_says_nothing_of_a_refreshed_token(
    upstream: Upstream, header: dict[str, Any]
) -> None:
    """Without a kid, two published keys may be meant; ADR 0020 says how long this is waited for."""
    checks = identifier(upstream)
    upstream.rotate()
    with Upstream(clock=upstream.clock) as other:
        named = {"kid": upstream.public_jwk()["kid"], "typ": "JWT", **header}
        token = other.mint(header=named, iss=upstream.issuer, sub="alice", aud=CLIENT_ID)
        with pytest.raises(SignInFailed) as caught:
            await checks.identify_refreshed(TokenAnswer("a", id_token=token), None)
    assert caught.value.reason == "unknown_signer"


@pytest.mark.rule("PX-16")
async def test_an_id_token_without_a_usable_expiry_signs_no_person_in(upstream: Upstream) -> None:
    """A signed answer of the userinfo endpoint may do without."""
    checks = identifier(upstream, listed=["HS256"])
    payload = id_token(upstream).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(f"{payload}=="))
    del claims["exp"]
    for more in ({}, {"exp": None}, {"exp": ""}, {"exp": 0}, {"exp": "4000000000"}):
        changed = encoded(json.dumps({**claims, **more}).encode())
        token = signed_by_secret(f".{changed}.", CLIENT_SECRET.encode(), "HS256")
        with pytest.raises(SignInFailed):
            await checks.identify(TokenAnswer("a", id_token=token), NONCE)
