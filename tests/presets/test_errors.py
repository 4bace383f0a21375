"""Presets with wrong parameters: each error names the setting and says what to write instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asgi_mcp_auth import ANY_AUDIENCE, ConfigurationError, OIDCProxy, presets
from asgi_mcp_auth.claims import ClaimRules
from tests.support.rows import rows

ROOT = Path(__file__).parents[2]
TENANT, OTHER = "72f988bf-86f1-41af-91ab-2d7cd011db47", "fa15d692-e9c7-4460-a743-29f2956fd429"
API = "11111111-2222-4333-8444-555555555555"
CREDENTIALS = {
    "client_id": "the-proxy",
    "client_secret": "s",
    "base_url": "https://mcp.example.com",
}


@rows(
    ("name", "message"),
    [
        ("keyclock", "did you mean 'keycloak'"),
        ("Auth0", "did you mean 'auth0'"),
        ("azure", "[Tt]he presets are auth0, authentik"),
        (None, "[Tt]he presets are auth0, authentik"),
        (["github"], "[Tt]he presets are auth0, authentik"),
    ],
)
def test_an_unknown_name_gets_the_list(name: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        presets.verifier(name)


def test_a_missing_parameter_is_named_and_explained() -> None:
    message = r"preset 'keycloak' needs realm: the realm. Write realm='staff'"
    with pytest.raises(ConfigurationError, match=message):
        presets.verifier("keycloak", server="https://sso.example.com")


@rows(
    "host",
    [
        "https://example.auth0.com",
        "example.auth0.com/",
        "example.auth0.com/@evil.example",
        "user@example.auth0.com",
        "example.auth0.com:8443",
        "example.auth0.com#",
        "example.auth0.com?x",
        "Example.auth0.com",
        "exa mple.auth0.com",
        "example.auth0.com\n",
        "example..auth0.com",
        ".auth0.com",
        "example.auth0.com.",
        "-a.auth0.com",
        "a_b.auth0.com",
        "auth0",
        "127.0.0.1",
        "[::1]",
        "0x7f.1",
        "{domain}",
        "ex%61mple.auth0.com",
        "bücher.example",
        "a" * 64 + ".example",
        "a." * 127 + "example",
        "",
    ],
)
def test_a_host_is_a_host_and_nothing_else(host: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"domain=.* must be a host name in lower case, like 'example\.eu"
    ):
        presets.verifier("auth0", domain=host)


@rows(
    "realm",
    ["", ".", "..", "a/b", "a b", "a?b", "a#b", "a%2fb", "a\\b", "ä", "{server}", "a" * 129],
)
def test_a_path_segment_is_one(realm: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"realm=.* must be letters, digits and \._~- only"
    ):
        presets.verifier("keycloak", server="https://sso.example.com", realm=realm)


@rows("label", ["acme.evil", "acme/", "-acme", "acme-", "Acme", "a" * 64, "", "acme@"])
def test_a_label_is_one(label: str) -> None:
    with pytest.raises(ConfigurationError, match="must be one part of a host name"):
        presets.verifier("onelogin", subdomain=label)


@rows(
    ("server", "message"),
    [
        ("http://sso.example.com", "not encrypted"),
        ("sso.example.com", "not an absolute"),
        ("https://a@sso.example.com", "user name"),
        ("https://sso.example.com/?x", "query"),
        ("https://sso.example.com/../x", "dot segment"),
        ("https://sso example.com", "characters"),
    ],
)
def test_a_server_of_your_own_is_a_url(server: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        presets.verifier("keycloak", server=server, realm="staff")
    assert "preset 'keycloak': server" in str(caught.value)


def test_a_slash_at_the_end_of_a_server_does_not_matter() -> None:
    verifier = presets.verifier("keycloak", server="https://sso.example.com/auth/", realm="staff")
    assert verifier.issuers == ("https://sso.example.com/auth/realms/staff",)


def test_but_an_issuer_is_taken_to_the_last_slash() -> None:
    verifier = presets.verifier("ory", issuer="https://ory.example.com/", audience="notes")
    assert verifier.issuers == ("https://ory.example.com/",)


@rows("value", [5, True, b"staff", ["staff"], {}])
def test_a_parameter_is_a_str(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"realm=.* must be a str: the realm"):
        presets.verifier("keycloak", server="https://sso.example.com", realm=value)


@rows(
    ("mode", "settings"),
    [
        ("verifier", {}),
        ("remote", {"base_url": "https://mcp.example.com"}),
        ("proxy", CREDENTIALS),
    ],
)
@rows("setting", ["tenant", "issuer", "jwks_uri", "token_verifier"])
def test_a_setting_that_is_unknown_or_follows_from_the_preset(
    mode: str, settings: dict[str, Any], setting: str
) -> None:
    with pytest.raises(
        ConfigurationError,
        match=rf"no parameter '{setting}': its own are domain. You can also give settings of",
    ):
        getattr(presets, mode)("auth0", domain="example.eu.auth0.com", **settings, **{setting: "x"})


def test_a_preset_without_parameters_says_so() -> None:
    with pytest.raises(ConfigurationError, match="its own are none"):
        presets.proxy("google", **CREDENTIALS, domain="example.com")


def test_introspection_needs_an_account_of_the_server() -> None:
    with pytest.raises(
        ConfigurationError, match="client_id='…' and client_secret='…' of your server"
    ):
        presets.verifier("propelauth", server="https://auth.example.com")


def test_only_any_audience_fits_a_profile() -> None:
    with pytest.raises(
        ConfigurationError, match="GitHub's tokens do not say which server they are for"
    ):
        presets.verifier("github", audience="https://mcp.example.com")


def test_a_name_that_the_provider_makes_up_has_to_be_told() -> None:
    with pytest.raises(
        ConfigurationError, match="needs audience=…: aud is the client id of the OAuth2 provider"
    ):
        presets.verifier("authentik", server="https://authentik.example.com", application="mcp")


def test_the_rules_for_claims_have_to_be_rules() -> None:
    with pytest.raises(ConfigurationError, match=r"claims='x' must be a ClaimRules"):
        presets.verifier("auth0", domain="example.eu.auth0.com", claims="x")
    with pytest.raises(ConfigurationError, match=r"upstream='x' must be a UpstreamRules"):
        presets.proxy("google", **CREDENTIALS, upstream="x")


# ----------------------------------------------------------------------------------------- Entra ID


@rows("tenant", ["common", "organizations", "consumers", [TENANT, "common"]])
def test_entra_a_tenant_open_to_every_account_is_refused(tenant: Any) -> None:
    for mode, settings in (("verifier", {"api": API}), ("proxy", CREDENTIALS)):
        with pytest.raises(ConfigurationError, match="would admit every Microsoft account"):
            getattr(presets, mode)("entra", tenant=tenant, **settings)


@rows("tenant", ["contoso.onmicrosoft.com", TENANT.upper(), f"{TENANT}/", [], [TENANT, TENANT]])
def test_entra_a_tenant_is_its_id(tenant: Any) -> None:
    with pytest.raises(ConfigurationError, match="tenant="):
        presets.verifier("entra", tenant=tenant, api=API)


def test_entra_needs_to_know_the_api_or_the_audience() -> None:
    with pytest.raises(
        ConfigurationError, match="needs api='…' or audience=…: aud is the client id of the API"
    ):
        presets.verifier("entra", tenant=TENANT)


def test_entra_knows_two_versions() -> None:
    with pytest.raises(ConfigurationError, match=r"version='3' must be one of '1\.0', '2\.0'"):
        presets.verifier("entra", tenant=TENANT, api=API, version="3")
    with pytest.raises(ConfigurationError, match=r"version='1\.0' takes one tenant"):
        presets.verifier("entra", tenant=[TENANT, OTHER], api=API, version="1.0")


def test_entra_several_tenants_are_several_issuers() -> None:
    issuers = tuple(f"https://login.microsoftonline.com/{each}/v2.0" for each in (TENANT, OTHER))
    assert presets.verifier("entra", tenant=[TENANT, OTHER], api=API).issuers == issuers
    assert isinstance(
        presets.proxy("entra", tenant=[TENANT, OTHER], **CREDENTIALS, store="memory://"), OIDCProxy
    )


# ----------------------------------------------------------------------------------------- the rest


def test_what_the_user_says_of_claims_wins() -> None:
    rules = ClaimRules(client_id_claim="azp", scope_claim="permissions")
    verifier: Any = presets.verifier(
        "clerk", domain="clerk.example.com", audience=ANY_AUDIENCE, claims=rules
    )
    assert verifier._checks.rules == rules


def test_the_presets_are_loaded_when_they_are_asked_for() -> None:
    probe = (
        "import sys, asgi_mcp_auth as a; print('asgi_mcp_auth.presets' in"
        " sys.modules);a.presets.verifier('auth0', domain='example.eu.auth0.com');"
        " print('asgi_mcp_auth.server' in sys.modules);from asgi_mcp_auth import presets;"
        " presets.proxy; print('asgi_mcp_auth.server' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", probe], capture_output=True, text=True, cwd=ROOT
    )
    assert (result.stdout.split(), result.stderr) == (["False", "False", "True"], "")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        presets.nothing  # noqa: B018  # that is the test
