"""Every wrong setting is a ConfigurationError that names it and its correction."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import AnyHttpUrl

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    AuthError,
    ClaimRules,
    ConfigurationError,
    IntrospectionTokenVerifier,
    JWKSOptions,
    JWTVerifier,
    MCPAuthMiddleware,
    MultiAuth,
    RemoteAuthProvider,
    RequireScopes,
    Rule,
    StaticTokenVerifier,
    Tool,
)
from asgi_mcp_auth._settings import check_url
from tests.support.asgi import Spy
from tests.support.gate import AUDIENCE, BASE_URL, ISSUER, signing_key
from tests.support.rows import rows

SECRET = "0123456789abcdef0123456789abcdef"
JWK = signing_key().public_jwk()
NOT_NUMBERS: list[Any] = ["60", True, float("nan"), float("inf"), -1, None, [1], 10**400]


def pem(key: Any, *, private: bool = False) -> str:
    """The PEM of a key of ``cryptography``."""
    if private:
        return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    return str(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    )


P256 = ec.generate_private_key(ec.SECP256R1())


def jwt(**settings: Any) -> JWTVerifier:
    return JWTVerifier(**{"public_key": JWK, "issuer": ISSUER, "audience": AUDIENCE, **settings})


def introspection(**settings: Any) -> IntrospectionTokenVerifier:
    usual = {
        "introspection_url": f"{ISSUER}/introspect",
        "client_id": "rs",
        "client_secret": "secret",
    }
    return IntrospectionTokenVerifier(**{**usual, "audience": AUDIENCE, **settings})


def static(**settings: Any) -> StaticTokenVerifier:
    return StaticTokenVerifier(**{"tokens": {"dev-token": {"client_id": "me"}}, **settings})


def remote(**settings: Any) -> RemoteAuthProvider:
    usual = {"token_verifier": jwt(), "authorization_servers": [ISSUER], "base_url": BASE_URL}
    return RemoteAuthProvider(**{**usual, **settings})


def multi(**settings: Any) -> MultiAuth:
    return MultiAuth(**{"verifiers": [jwt()], **settings})


def middleware(**settings: Any) -> MCPAuthMiddleware:
    return MCPAuthMiddleware(**{"app": Spy(), "provider": remote(), **settings})


def options(**settings: Any) -> JWKSOptions:
    return JWKSOptions(**settings)


def rules(**settings: Any) -> ClaimRules:
    return ClaimRules(**settings)


def rule(path: Any = "/admin", **settings: Any) -> Rule:
    return Rule(path, **settings)


Maker = Callable[..., Any]
MAKERS: list[Maker] = [jwt, introspection, static, remote, multi, middleware, options, rules, rule]


@rows("make", MAKERS, ids=lambda make: make.__name__)
def test_what_the_cases_below_change_is_itself_correct(make: Maker) -> None:
    make()


BASE_URLS: list[tuple[Any, str]] = [
    ("http://mcp.example.com", "is not encrypted: write https://"),
    ("http://127.0.0.1.example.com", "is not encrypted"),
    ("http://localhost.example.com", "is not encrypted"),
    ("http://10.0.0.1", "is not encrypted"),
    ("http://0.0.0.0", "is not encrypted"),
    ("mcp.example.com", "write it in full, like 'https://"),
    ("//mcp.example.com", "write it in full"),
    ("/mcp", "write it in full"),
    ("", "write it in full"),
    ("https://", "write it in full"),
    ("https:///mcp", "write it in full"),
    ("ftp://mcp.example.com", "write it in full"),
    ("file:///etc", "write it in full"),
    ("https://mcp.example.com:0", "write it in full"),
    ("https://mcp.example.com:65536", "is not a URL"),
    ("https://mcp.example.com:port", "is not a URL"),
    ("https://[::1", "is not a URL"),
    ("https://mcp.example.com#top", "has a fragment: remove"),
    ("https://mcp.example.com#", "has a fragment: remove"),
    ("https://mcp.example.com?a=1", "has a query: remove"),
    ("https://mcp.example.com/a?", "has a query: remove"),
    ("https://user@mcp.example.com", "has a user name in it: remove"),
    ("https://user:password@mcp.example.com", "has a user name in it: remove"),
    ("https://mcp.example.com/a/../b", "has a dot segment"),
    ("https://mcp.example.com/./", "has a dot segment"),
    ("https://mcp .example.com", "a host cannot have"),
    ("https://münchen.example", "like 'xn--mnchen-3ya.example'"),
    ("https://mcp.example.com/a b", "percent-encode"),
    ("https://mcp.example.com/ä", "percent-encode"),
    ('https://mcp.example.com/"', "percent-encode"),
    ("https://mcp.example.com/\\", "percent-encode"),
    ("https://mcp.example.com\n", "percent-encode|write it in full"),
    (" https://mcp.example.com", "percent-encode|write it in full"),
    (b"https://mcp.example.com", "must be a str, not bytes"),
    (AnyHttpUrl("https://mcp.example.com"), r"must be a str, not \w+: write"),
    (5, "must be a str, not int"),
    (["https://mcp.example.com"], "must be a str, not list"),
]


@rows(("url", "advice"), BASE_URLS, ids=lambda value: repr(value)[:50])
@rows(
    ("make", "setting"),
    [
        (jwt, "base_url"),
        (introspection, "base_url"),
        (static, "base_url"),
        (remote, "base_url"),
        (remote, "resource_base_url"),
        (multi, "base_url"),
        (multi, "resource_base_url"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_url_of_ours_is_absolute_https_plain_and_a_str(
    make: Maker, setting: str, url: Any, advice: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{setting}\b[\s\S]*({advice})"):
        make(**{setting: url})


@rows(
    "url",
    [
        "http://localhost",
        "http://localhost:8000",
        "http://127.0.0.1:1",
        "http://[::1]:8000",
        "http://app.localhost",
    ],
)
def test_http_is_for_loopback(url: str) -> None:
    assert remote(base_url=url).base_url == url


@rows(("url", "advice"), BASE_URLS, ids=lambda value: repr(value)[:50])
@rows(
    ("make", "setting", "around"),
    [
        (jwt, "jwks_uri", lambda url: {"jwks_uri": url, "public_key": None}),
        (introspection, "introspection_url", lambda url: {"introspection_url": url}),
        (remote, "authorization_servers", lambda url: {"authorization_servers": [url]}),
    ],
    ids=["jwks_uri", "introspection_url", "authorization_servers"],
)
def test_a_url_of_another_party_is_checked_too(
    make: Maker, setting: str, around: Callable[[Any], dict[str, Any]], url: Any, advice: str
) -> None:
    if "query" in advice and setting != "authorization_servers":
        make(**around(url))  # those two may have one
        return
    with pytest.raises(ConfigurationError, match=rf"^{setting}\b[\s\S]*({advice})"):
        make(**around(url))


SECONDS: list[tuple[Maker, str]] = [
    (jwt, "leeway_seconds"),
    (introspection, "cache_ttl_seconds"),
    *(
        (options, f"{name}_seconds")
        for name in ("ttl", "min_ttl", "max_ttl", "cooldown", "stale", "timeout")
    ),
]


@rows("value", NOT_NUMBERS, ids=lambda value: repr(value)[:12])
@rows(("make", "setting"), SECONDS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_number_of_seconds_is_a_number_and_not_negative(
    make: Maker, setting: str, value: Any
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{setting}=.* must be a number of seconds"):
        make(**{setting: value})


@rows("value", [0, "60", True, float("nan"), float("inf"), -1])
def test_a_longest_lifetime_is_a_number_and_not_nothing(value: Any) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^max_lifetime_seconds=.* must be a number of seconds of at least 1",
    ):
        rules(max_lifetime_seconds=value)


@rows(
    ("settings", "bounds"),
    [
        ({"min_ttl_seconds": 0.5}, "^min_ttl_seconds=0.5 .* at least 1"),
        ({"min_ttl_seconds": 100_000}, "^max_ttl_seconds=86400 .* at least 100000"),
        ({"ttl_seconds": 59}, "^ttl_seconds=59 .* between 60 and 86400"),
        ({"ttl_seconds": 86_401}, "^ttl_seconds=86401 .* between 60 and 86400"),
        ({"cooldown_seconds": 0}, "^cooldown_seconds=0 .* between 0.1 and 300"),
        ({"cooldown_seconds": 301}, "^cooldown_seconds=301 .* between 0.1 and 300"),
        ({"timeout_seconds": 0}, "^timeout_seconds=0 .* between 0.1 and 60"),
        ({"timeout_seconds": 61}, "^timeout_seconds=61 .* between 0.1 and 60"),
    ],
    ids=str,
)
def test_the_lifetimes_of_a_key_set_fit_together(settings: dict[str, Any], bounds: str) -> None:
    with pytest.raises(ConfigurationError, match=bounds):
        options(**settings)


def test_the_longest_introspection_cache_is_an_hour() -> None:
    introspection(cache_ttl_seconds=3600)
    with pytest.raises(ConfigurationError, match=r"^cache_ttl_seconds=3601 .* between 0 and 3600"):
        introspection(cache_ttl_seconds=3601)


@rows("value", [-1, 1.5, "10", None, True, float("nan")], ids=repr)
def test_a_cache_size_is_a_whole_number(value: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^token_cache_size=.* must be a whole number, 0 or more"
    ):
        jwt(token_cache_size=value)


@rows(
    "scopes",
    [
        "mcp:read",
        "a b",
        ["a b"],
        ["a", "b c"],
        [""],
        ['"a"'],
        ["a\\b"],
        ["ä"],
        ["a\n"],
        [5],
        [None],
        [["a"]],
        5,
        True,
        b"a",
    ],
    ids=repr,
)
@rows(
    ("make", "setting"),
    [
        (jwt, "required_scopes"),
        (introspection, "required_scopes"),
        (static, "required_scopes"),
        (multi, "required_scopes"),
        (middleware, "required_scopes"),
        (remote, "scopes_supported"),
        (remote, "challenge_scopes"),
        (rule, "scopes"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_scopes_are_a_list_of_words(make: Maker, setting: str, scopes: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"{setting}\b.*(must be a list of scopes|is not one scope)"
    ):
        make(**{setting: scopes})


@pytest.mark.parametrize("scopes", ["admin", ["a b"], 5], ids=repr)
def test_the_scopes_of_a_sub_app_are_a_list_of_words(scopes: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^scopes"):
        RequireScopes(Spy(), scopes)


@pytest.mark.parametrize("scopes", ["admin", ["a b"], 5], ids=repr)
def test_the_scopes_of_a_static_token_are_a_list_of_words(scopes: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^tokens: scopes"):
        static(tokens={"dev-token": {"client_id": "me", "scopes": scopes}})


@rows(
    "issuer",
    [
        5,
        True,
        b"https://idp.example.com",
        [],
        (),
        "",
        [""],
        [5],
        [None],
        [ISSUER, ISSUER],
        {},
        "a\nb",
        ["a", "\0"],
    ],
    ids=repr,
)
@rows("make", [jwt, introspection], ids=["jwt", "introspection"])
def test_an_issuer_is_a_string_or_a_list_of_different_ones(make: Maker, issuer: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^issuer="):
        make(issuer=issuer)


@rows(
    "issuer",
    [
        "http://idp.example.com",
        "https://idp.example.com#x",
        "https://idp.example.com?x",
        [ISSUER, "http://evil.example"],
    ],
)
@rows("make", [jwt, introspection], ids=["jwt", "introspection"])
def test_an_issuer_that_is_a_url_is_https_without_query_and_fragment(
    make: Maker, issuer: Any
) -> None:
    with pytest.raises(ConfigurationError, match=r"^issuer="):
        make(issuer=issuer)


@rows("make", [jwt, introspection, JWTVerifier], ids=["jwt", "introspection", "discovery"])
def test_the_url_of_a_metadata_document_is_no_issuer(make: Maker) -> None:
    for name in ("oauth-authorization-server", "openid-configuration"):
        with pytest.raises(ConfigurationError, match="write the issuer that it names, probably 'h"):
            make(issuer=f"https://idp.example.com/realms/a/.well-known/{name}")


def test_an_issuer_need_not_be_a_url_where_nothing_is_fetched_from_it() -> None:
    assert jwt(issuer="accounts.example.com").issuers == ("accounts.example.com",)


def test_an_issuer_must_be_a_url_where_its_keys_are_discovered() -> None:
    for issuer in ("accounts.example.com", "idp", ["https://idp.example.com", "idp"]):
        with pytest.raises(ConfigurationError, match=r"^issuer="):
            JWTVerifier(issuer=issuer, audience=AUDIENCE)


@rows(
    "audience",
    [
        5,
        True,
        b"x",
        [],
        (),
        "",
        [""],
        [5],
        {},
        [AUDIENCE, AUDIENCE],
        "*",
        "https://*",
        [ANY_AUDIENCE, AUDIENCE],
        "a\nb",
    ],
    ids=repr,
)
@rows("make", [jwt, introspection], ids=["jwt", "introspection"])
def test_an_audience_is_a_string_or_a_list_of_different_ones_without_wildcards(
    make: Maker, audience: Any
) -> None:
    with pytest.raises(ConfigurationError, match=r"^audience="):
        make(audience=audience)


@pytest.mark.parametrize("make", [jwt, introspection], ids=["jwt", "introspection"])
def test_a_middleware_without_an_audience_says_the_three_ways_to_name_one(make: Maker) -> None:
    with pytest.raises(ConfigurationError, match=r"base_url.*audience='…'.*audience=ANY_AUDIENCE"):
        MCPAuthMiddleware(Spy(), make(audience=None))
    MCPAuthMiddleware(Spy(), make(audience=None, base_url=BASE_URL))
    MCPAuthMiddleware(Spy(), make(audience=ANY_AUDIENCE))
    MCPAuthMiddleware(Spy(), remote(token_verifier=make(audience=None)))


@rows(
    "algorithm",
    [
        "HS257",
        "none",
        "rs256",
        "",
        [],
        (),
        5,
        True,
        None.__class__,
        b"RS256",
        ["RS256", "RS256"],
        ["RS256", 5],
        [None],
    ],
    ids=repr,
)
def test_an_algorithm_is_one_of_the_known_names(algorithm: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^algorithm="):
        jwt(algorithm=algorithm)


@pytest.mark.parametrize("algorithm", [["HS256", "RS256"], ("EdDSA", "HS512")])
def test_shared_secrets_and_public_keys_are_not_mixed(algorithm: Any) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^algorithm=.*mixes HS\* with asymmetric ones: create two verifiers",
    ):
        jwt(algorithm=algorithm)


@pytest.mark.parametrize(
    "where", [{"jwks_uri": f"{ISSUER}/jwks"}, {}], ids=["jwks_uri", "discovery"]
)
def test_a_shared_secret_is_never_fetched(where: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"^an HS\* algorithm needs .*write public_key="):
        jwt(public_key=None, algorithm="HS256", **where)


def test_keys_come_from_one_place() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^public_key and jwks_uri are both set: remove one"
    ):
        jwt(jwks_uri=f"{ISSUER}/jwks")
    with pytest.raises(
        ConfigurationError,
        match="has no keys: write issuer='https://…', or jwks_uri, or public_key",
    ):
        JWTVerifier(audience=AUDIENCE)


DSA = dsa.generate_private_key(1024)  # noqa: S505  # it signs nothing, and long ones take seconds


@pytest.mark.parametrize(
    ("public_key", "why"),
    [
        (pem(P256, private=True), "it is a private key"),
        ({**JWK, "d": "AAAA"}, "it is private"),
        ({"kty": "oct", "k": "AAAA"}, "symmetric"),
        (SECRET, "it is not a PEM"),
        ("", "it is not a PEM"),
        (b"", "it is not a PEM"),
        ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB", "it is not a PEM"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "it is not a PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "it is not a PEM"),
        (pem(x25519.X25519PrivateKey.generate()), "matches none"),
        pytest.param(
            pem(ec.generate_private_key(ec.BrainpoolP256R1())), "matches none", id="Brainpool"
        ),
        pytest.param(pem(DSA), "matches none", id="DSA"),
        (json.dumps(JWK), "it is not a PEM"),
        (f"{ISSUER}/jwks", "it is not a PEM"),
        (5, "not an object"),
        (True, "not an object"),
        ((), "not an object"),
        ({}, "kty"),
        ([], "matches none"),
        ([None], "not an object"),
        ([JWK, {}], "kty"),
        ({"keys": []}, "matches none"),
        ({"keys": [{}]}, "kty"),
        ({"keys": 5}, "kty"),
        ({"keys": None}, "kty"),
        ({**JWK, "use": "enc"}, "its use is not sig"),
        ({**JWK, "alg": "ES512"}, "matches none"),
        pytest.param(lambda: JWK, "not an object", id="function"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_public_key_is_a_pem_or_a_jwk_that_can_verify(public_key: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^public_key.*{why}"):
        jwt(public_key=public_key)


def test_a_pem_of_a_kind_that_the_library_does_not_know_is_a_configuration_error() -> None:
    # SubjectPublicKeyInfo with the object identifier 1.2.643.2.2.19 (GOST R 34.10-2001) and nothing
    # in it.
    body = "MBEwCgYGKoUDAgITBQADAwAEAA=="
    with pytest.raises(ConfigurationError, match=r"^public_key"):
        jwt(public_key=f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")


def test_a_key_that_no_allowed_algorithm_can_use_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match=r"^public_key matches none of: RS256"):
        jwt(public_key=pem(P256), algorithm="RS256")


@rows(
    ("secret", "why"),
    [
        ("x" * 31, "at least 32 bytes"),
        (b"x" * 31, "at least 32 bytes"),
        ("", "at least 32 bytes"),
        ([SECRET, "short"], "at least 32 bytes"),
        (pem(P256), "it is a public key or certificate"),
        (pem(P256, private=True), "it is a public key or certificate|private"),
        (5, "not an object"),
        (JWK, "matches none"),
        ({"kty": "oct", "k": "A" * 43}, "symmetric"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_shared_secret_is_long_and_no_public_key(secret: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^public_key.*({why})"):
        jwt(public_key=secret, algorithm="HS256")
    jwt(public_key=[SECRET, SECRET[::-1]], algorithm=["HS256", "HS512"])


@rows("value", [{"require_at_jwt": True}, 5, "x"], ids=repr)
@rows(
    ("make", "setting", "kind"),
    [
        (jwt, "claims", "ClaimRules"),
        (introspection, "claims", "ClaimRules"),
        (jwt, "jwks", "JWKSOptions"),
        (jwt, "clock", "Clock"),
        (introspection, "clock", "Clock"),
        (static, "clock", "Clock"),
    ],
)
def test_option_objects_and_clocks_are_what_they_should_be(
    make: Maker, setting: str, kind: str, value: Any
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{setting}=.* must be a {kind}"):
        make(**{setting: value})


@rows(
    ("settings", "why"),
    [
        ({"require_at_jwt": "yes"}, "^require_at_jwt='yes' must be a bool"),
        ({"require_at_jwt": 1}, "^require_at_jwt=1 must be a bool"),
        ({"scope_claim": ""}, "^scope_claim="),
        ({"scope_claim": 5}, "^scope_claim="),
        ({"scope_claim": ["a", "b"]}, "^scope_claim=.*one claim"),
        ({"scope_claim": ["a"]}, "^scope_claim=.*one claim"),
        ({"client_id_claim": ""}, "^client_id_claim="),
        ({"client_id_claim": ["a", "b"]}, "^client_id_claim=.*one claim"),
        ({"map_scopes": "roles"}, "^map_scopes must be a function"),
        ({"map_scopes": {"admin": ["a"]}}, "^map_scopes must be a function"),
        ({"scope_hierarchy": ["a"]}, "^scope_hierarchy=.* must be a Mapping"),
        ({"scope_hierarchy": {"a": "b"}}, "^scope_hierarchy='b' must be a list of scopes"),
        (
            {"scope_hierarchy": {"a": ["b c"]}},
            "^scope_hierarchy has 'b c', which is not one scope",
        ),
        (
            {"scope_hierarchy": {"a b": ["c"]}},
            "^scope_hierarchy has 'a b', which is not one scope",
        ),
        ({"scope_hierarchy": {5: ["c"]}}, "^scope_hierarchy has 5, which is not one scope"),
        ({"scope_hierarchy": {"a": None}}, "^scope_hierarchy=None must be a list of scopes"),
    ],
    ids=str,
)
def test_claim_rules_are_of_the_right_kind(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        rules(**settings)


@pytest.mark.parametrize("client", [httpx.Client, 5, "http://proxy"], ids=repr)
def test_an_http_client_is_an_asynchronous_one(client: Any) -> None:
    with httpx.Client() as synchronous:
        given = synchronous if client is httpx.Client else client
        with pytest.raises(
            ConfigurationError, match=r"^http_client=.* must be an httpx\.AsyncClient"
        ):
            introspection(http_client=given)
        with pytest.raises(
            ConfigurationError, match=r"^http_client=.* must be an httpx\.AsyncClient"
        ):
            jwt(public_key=None, jwks=JWKSOptions(http_client=given))


@rows(
    ("settings", "why"),
    [
        ({"client_secret": ""}, "^client_secret must be a non-empty string"),
        ({"client_secret": None}, "^client_secret must be a non-empty string"),
        ({"client_secret": b"secret"}, "^client_secret must be a non-empty string"),
        ({"client_secret": "a\nb"}, "^client_secret must be a non-empty string"),
        ({"client_id": None}, "^client_id is required, unless client_auth_method='bearer'"),
        ({"client_id": ""}, "^client_id is required"),
        ({"client_id": 5}, "^client_id is required"),
        (
            {"client_auth_method": "private_key_jwt"},
            "^client_auth_method='private_key_jwt' must be 'client_secret_basic'",
        ),
        ({"client_auth_method": None}, "^client_auth_method=None must be"),
        (
            {"client_auth_method": "bearer", "client_secret": "a b"},
            "^client_secret is sent as a Bearer token",
        ),
        (
            {"client_auth_method": "bearer", "client_secret": "é"},
            "^client_secret is sent as a Bearer token",
        ),
        ({"client_auth_method": "bearer", "client_secret": ""}, "^client_secret must be"),
        ({"introspection_url": None}, "^introspection_url must be given"),
    ],
    ids=str,
)
def test_an_introspection_endpoint_is_asked_by_a_client_it_knows(
    settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        introspection(**settings)


@rows(
    ("tokens", "why"),
    [
        (None, "must be a dict"),
        ([], "must be a dict"),
        ({}, "must be a dict"),
        ("dev-token", "must be a dict"),
        ({"dev-token": None}, "must be a dict"),
        ({"dev-token": "me"}, "must be a dict"),
        ({"dev-token": {}}, "needs a client_id"),
        ({"dev-token": {"client_id": ""}}, "needs a client_id"),
        ({"dev-token": {"client_id": 5}}, "needs a client_id"),
        ({"": {"client_id": "me"}}, "a token is visible ASCII"),
        ({5: {"client_id": "me"}}, "a token is visible ASCII"),
        ({"dev token": {"client_id": "me"}}, "a token is visible ASCII"),
        ({"dév": {"client_id": "me"}}, "a token is visible ASCII"),
        ({"\ud800": {"client_id": "me"}}, "a token is visible ASCII"),
        ({"a,b": {"client_id": "me"}}, "a token is visible ASCII"),
        ({"d" * 65_537: {"client_id": "me"}}, "a token is visible ASCII"),
        ({"dev-token": {"client_id": "me", "subject": 5}}, "subject=5 must be a string"),
        ({"dev-token": {"client_id": "me", "sub": 5}}, "subject=5 must be a string"),
        (
            {"dev-token": {"client_id": "me", "expires_at": "soon"}},
            "expires_at='soon' must be epoch seconds",
        ),
        (
            {"dev-token": {"client_id": "me", "expires_at": 1.5}},
            "expires_at=1.5 must be epoch seconds",
        ),
        (
            {"dev-token": {"client_id": "me", "expires_at": True}},
            "expires_at=True must be epoch seconds",
        ),
        ({"dev-token": {"client_id": "me", "roles": {"a"}}}, "facts must be JSON"),
        ({"dev-token": {"client_id": "me", "name": "\ud800"}}, "facts must be JSON"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_static_tokens_are_a_dict_of_dicts(tokens: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^tokens.*{why}"):
        static(tokens=tokens)


@rows(
    ("settings", "why"),
    [
        (
            {"token_verifier": None},
            "^token_verifier=None must be a TokenVerifier, such as JWTVerifier",
        ),
        ({"token_verifier": JWTVerifier}, "^token_verifier=.* must be a TokenVerifier"),
        ({"token_verifier": "jwt"}, "^token_verifier='jwt' must be a TokenVerifier"),
        ({"base_url": None}, "^base_url must be given: write it in full"),
        (
            {"authorization_servers": ISSUER},
            "^authorization_servers must be a list of at least one issuer, like",
        ),
        ({"authorization_servers": []}, "^authorization_servers must be a list of at least one"),
        ({"authorization_servers": None}, "^authorization_servers must be a list"),
        ({"authorization_servers": 5}, "^authorization_servers must be a list"),
        ({"authorization_servers": AnyHttpUrl(ISSUER)}, "^authorization_servers must be a list"),
        ({"authorization_servers": [ISSUER, ISSUER]}, "^authorization_servers=.* has a duplicate"),
        ({"authorization_servers": [None]}, "^authorization_servers must be given"),
        ({"resource_name": 5}, "^resource_name=5 must be a str"),
        ({"resource_documentation": 5}, "^resource_documentation=5 must be a str"),
    ],
    ids=str,
)
def test_a_remote_provider_has_a_verifier_a_base_url_and_somewhere_to_send_people(
    settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        remote(**settings)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"verifiers": []}, "^MultiAuth needs a server or verifiers"),
        ({"verifiers": None}, "^MultiAuth needs a server or verifiers"),
        ({"verifiers": 5}, "^MultiAuth needs a server or verifiers"),
        ({"verifiers": "jwt"}, "^MultiAuth needs a server or verifiers"),
        ({"verifiers": [5]}, "^MultiAuth needs a server or verifiers"),
        ({"verifiers": [JWTVerifier]}, "^MultiAuth needs a server or verifiers"),
        ({"server": 5}, "^MultiAuth needs a server or verifiers"),
        pytest.param(
            {"verifiers": [jwt(), jwt()]},
            "^two sources of MultiAuth are for the tokens of 'https://idp.example.com': keep",
            id="two verifiers",
        ),
        pytest.param(
            {"server": remote(), "verifiers": [jwt()]},
            "^two sources of MultiAuth are for the tokens of",
            id="server and verifier",
        ),
    ],
    ids=str,
)
def test_several_sources_are_providers_for_different_issuers(
    settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        multi(**settings)


@rows(
    ("settings", "why"),
    [
        ({"app": None}, "^app=None must be an ASGI app"),
        ({"provider": None}, "^provider=None must be an AuthProvider, such as RemoteAuthProvider"),
        ({"provider": "jwt"}, "^provider='jwt' must be an AuthProvider"),
        (
            {"mcp_path": "mcp"},
            "^mcp_path='mcp' must be a path that begins with a slash, like '/mcp'",
        ),
        ({"mcp_path": ""}, "^mcp_path='' must be a path"),
        ({"mcp_path": 5}, "^mcp_path=5 must be a path"),
        ({"mcp_path": "//mcp"}, "^mcp_path='//mcp' must be a plain path"),
        ({"mcp_path": "/a/../mcp"}, "^mcp_path=.* must be a plain path"),
        ({"mcp_path": "/mcp?x"}, "^mcp_path=.* must be a plain path"),
        ({"mcp_path": "/mcp#x"}, "^mcp_path=.* must be a plain path"),
        ({"mcp_path": "/%6dcp"}, "^mcp_path=.* must be a plain path"),
        ({"mcp_path": "/m cp"}, "^mcp_path=.* must be a plain path"),
        ({"mcp_path": '/"'}, "^mcp_path=.* must be a plain path"),
        ({"mcp_path": "/\x7f"}, "^mcp_path=.* must be a plain path"),
        (
            {"public_paths": "/health"},
            r"^public_paths='/health' must be a list: write \['/health'\]",
        ),
        ({"public_paths": 5}, "^public_paths=5 must be a list"),
        (
            {"public_paths": ["health"]},
            "^public_paths='health' must be a path that begins with a slash",
        ),
        ({"public_paths": [""]}, "^public_paths='' must be a path"),
        ({"public_paths": [5]}, "^public_paths=5 must be a path"),
        ({"public_paths": ["/"]}, "would open every path"),
        ({"public_paths": ["/health", "/health"]}, "twice: keep one"),
        ({"public_paths": ["/a", "/a/"]}, "twice: keep one"),
        ({"public_paths": ["/a"], "rules": [Rule("/a", scopes=["x"])]}, "twice: keep one"),
        ({"rules": Rule("/a")}, "^rules=.* must be a list"),
        ({"rules": ["/a"]}, "^rules has '/a': write Rule"),
        ({"rules": {"/a": ["x"]}}, "^rules has '/a': write Rule"),
        (
            {"allowed_origins": "https://app.example"},
            r"^allowed_origins=.* must be a list or '\*': write",
        ),
        ({"allowed_origins": 5}, "^allowed_origins=5 must be a list"),
        (
            {"allowed_origins": ["https://app.example/"]},
            "^allowed_origins has .*: write each one out like",
        ),
        ({"allowed_origins": ["*"]}, "^allowed_origins has .*: write each one out like"),
        ({"allowed_origins": ["app.example"]}, "^allowed_origins has .*: write each one out like"),
        ({"allowed_origins": [5]}, "^allowed_origins has .*: write each one out like"),
        ({"on_event": "print"}, "^on_event='print' must be a function"),
    ],
    ids=str,
)
def test_a_middleware_has_an_app_a_provider_and_plain_paths(
    settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        middleware(**settings)


@rows(
    ("path", "settings", "why"),
    [
        ("admin", {}, "^Rule path='admin' must be a path that begins with a slash"),
        (5, {}, "^Rule path=5 must be a path"),
        ("/a/../b", {}, "^Rule path=.* must be a plain path"),
        (
            "/a",
            {"public": True, "scopes": ["x"]},
            "is public and requires scopes: leave out one of the two",
        ),
        ("/", {"public": True}, "would open every path"),
    ],
)
def test_a_rule_has_a_plain_path_and_is_either_public_or_not(
    path: Any, settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        rule(path, **settings)


def test_one_provider_protects_one_path() -> None:
    provider = remote(token_verifier=jwt(audience=None))
    middleware(provider=provider, mcp_path="/mcp")
    with pytest.raises(
        ConfigurationError, match=r"^mcp_path='/other', but this provider already protects '/mcp'"
    ):
        middleware(provider=provider, mcp_path="/other")
    middleware(provider=provider, mcp_path="/mcp")
    middleware(provider=provider)
    root = remote(token_verifier=jwt(audience=None))
    middleware(provider=root, mcp_path="/")
    with pytest.raises(
        ConfigurationError, match=r"^mcp_path='/mcp', but this provider already protects '/'"
    ):
        middleware(provider=root, mcp_path="/mcp")


@rows("settings", [{"rules": [Tool("x")]}, {"rules": ["/a"]}, {"public_paths": [5]}])
def test_a_wrong_rule_leaves_the_provider_as_it_was(settings: dict[str, Any]) -> None:
    provider = remote(token_verifier=jwt(audience=None))
    with pytest.raises(ConfigurationError):
        middleware(provider=provider, mcp_path=None, **settings)
    middleware(provider=provider, mcp_path="/mcp")


def test_a_configuration_error_is_a_value_error_and_an_auth_error() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(ConfigurationError, AuthError)


def test_no_secret_is_in_the_message_of_a_configuration_error() -> None:
    for make in (
        lambda: introspection(client_secret="hunter2\n"),
        lambda: introspection(client_secret="hunter2 é", client_auth_method="bearer"),
        lambda: jwt(public_key="hunter2", algorithm="HS256"),
        lambda: jwt(public_key=pem(P256, private=True).replace("MIG", "hunter2")),
        lambda: static(tokens={"hunter2": {}}),
        lambda: static(tokens={"hunter2 é": {"client_id": "me"}}),
    ):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "example"),
    [
        ("base_url", "https://mcp.example.com"),
        ("issuer", "https://idp.example.com"),
        ("jwks_uri", "https://idp.example.com/jwks.json"),
        ("introspection_url", "https://idp.example.com/introspect"),
        ("upstream_token_endpoint", "https://idp.example.com/token"),
    ],
)
def test_the_example_in_a_message_is_one_for_that_setting(setting: str, example: str) -> None:
    for value in (None, "/relative", "https://[::1"):
        with pytest.raises(ConfigurationError, match=f"{setting}.*like '{example}'"):
            check_url(setting, value)
