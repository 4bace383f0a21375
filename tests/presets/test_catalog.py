"""Every preset, used in each way it supports, makes objects from its example parameters."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from asgi_mcp_auth import (
    ANY_AUDIENCE,
    ConfigurationError,
    IntrospectionTokenVerifier,
    JWTVerifier,
    OAuthProxy,
    OIDCProxy,
    RemoteAuthProvider,
    TokenVerifier,
    UserinfoTokenVerifier,
    presets,
)
from asgi_mcp_auth.discovery import metadata_urls
from asgi_mcp_auth.presets.model import OIDC, Introspected, JWTs, Preset, Profiles
from asgi_mcp_auth.presets.resolver import resolve
from tests.support.rows import rows

BASE_URL = "https://mcp.example.com"
NAMES = tuple(presets.CATALOG)
ANNOUNCED = """
    auth0 authentik clerk cognito descope discord entra github gitlab google huggingface keycloak
    kinde linkedin logto
    oci okta onelogin ory pingone propelauth scalekit slack stytch supabase workos zitadel
"""
INTROSPECTION = {"client_id": "rs", "client_secret": "rs-secret"}

# Where the providers' own documentation says that the metadata of the examples are. The rules have
# to lead there.
METADATA = {
    "auth0": "https://example.eu.auth0.com/.well-known/openid-configuration",
    "authentik": "https://authentik.example.com/application/o/mcp/.well-known/openid-configuration",
    "clerk": "https://verb-noun-00.clerk.accounts.dev/.well-known/oauth-authorization-server",
    "entra": (
        "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0/.well-known/openid-configuration"
    ),
    "huggingface": "https://huggingface.co/.well-known/openid-configuration",
    "kinde": "https://example.kinde.com/.well-known/openid-configuration",
    "logto": "https://example.logto.app/oidc/.well-known/openid-configuration",
    "okta": "https://example.okta.com/oauth2/aus1a2b/.well-known/openid-configuration",
    "onelogin": "https://example.onelogin.com/oidc/2/.well-known/openid-configuration",
    "ory": "https://slug.projects.oryapis.com/.well-known/openid-configuration",
    "pingone": (
        "https://auth.pingone.eu/11111111-2222-4333-8444-555555555555/as/.well-known/openid-configuration"
    ),
    "stytch": "https://noun-verb-1234.customers.stytch.dev/.well-known/oauth-authorization-server",
    "supabase": (
        "https://abcdefghijklmnopqrst.supabase.co/.well-known/oauth-authorization-server/auth/v1"
    ),
    "workos": "https://example.authkit.app/.well-known/oauth-authorization-server",
}


def examples(preset: Preset) -> dict[str, str]:
    return {name: parameter.example for name, parameter in preset.parameters.items()}


def audience_for(preset: Preset) -> str | None:
    """Return what has to be said of the audience, if anything."""
    if isinstance(preset.tokens, Profiles):
        return ANY_AUDIENCE
    assert preset.tokens is not None
    audience = preset.tokens.audience
    if audience.kind == "none":
        return ANY_AUDIENCE
    return (
        "the-name"
        if audience.kind == "shared" or (audience.kind == "named" and audience.value is None)
        else None
    )


def more_for(preset: Preset) -> dict[str, str]:
    return INTROSPECTION if isinstance(preset.tokens, Introspected) else {}


def verifier_for(name: str) -> TokenVerifier:
    preset = presets.CATALOG[name]
    settings: dict[str, Any] = {**examples(preset), **more_for(preset)}
    return presets.verifier(name, audience=audience_for(preset), **settings)


def texts_in(part: Any) -> Iterator[str]:
    """Yield every string in nested dataclasses, mappings and tuples."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, tuple):
        for each in part:
            yield from texts_in(each)
    elif isinstance(part, dict):
        yield from texts_in(tuple(part.values()))
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            yield from texts_in(getattr(part, field.name))


def test_the_announced_providers_are_there_in_order() -> None:
    assert list(NAMES) == ANNOUNCED.split()


@rows("name", NAMES)
def test_a_preset_is_complete(name: str) -> None:
    preset = presets.CATALOG[name]
    assert urlsplit(preset.source).scheme == "https"
    assert preset.steps
    assert all(step.endswith(".") and step[0].isupper() for step in preset.steps)
    assert all(
        each.meaning[0].islower() and not each.meaning.endswith(".")
        for each in preset.parameters.values()
    )
    assert preset.checked in ("documentation", "memory")  # "run" needs a test that runs it
    assert preset.login is not None or preset.registration is not None


@rows("name", NAMES)
def test_every_template_is_filled_in_and_every_parameter_used(name: str) -> None:
    preset = presets.CATALOG[name]
    found, rest = resolve(name, examples(preset))
    assert rest == {}
    for text in texts_in((found.tokens, found.login, found.registration)):
        assert "{" not in text
        if re.match(r"\w+://", text):
            assert urlsplit(text).scheme == "https", text
    used = set(
        re.findall(
            r"\{(\w+)\}", " ".join(texts_in((preset.tokens, preset.login, preset.registration)))
        )
    )
    assert used | ({"version"} if name == "entra" else set()) == set(preset.parameters)


@rows("name", METADATA)
def test_the_metadata_is_looked_for_where_the_documentation_has_it(name: str) -> None:
    found, _ = resolve(name, examples(presets.CATALOG[name]))
    issuers = {*getattr(found.tokens, "issuers", ()), *getattr(found.login, "issuers", ())}
    assert METADATA[name] in [url for issuer in issuers for url in metadata_urls(issuer)]


@rows("name", NAMES)
def test_verifier_verifies_or_says_what_is_missing(name: str) -> None:
    preset = presets.CATALOG[name]
    if preset.tokens is None:
        with pytest.raises(ConfigurationError, match=rf"write presets\.proxy\('{name}', …\)"):
            presets.verifier(name, audience=ANY_AUDIENCE, **examples(preset))
        return
    verifier = verifier_for(name)
    kinds = {
        JWTs: JWTVerifier,
        Introspected: IntrospectionTokenVerifier,
        Profiles: UserinfoTokenVerifier,
    }
    assert type(verifier) is kinds[type(preset.tokens)]
    found, _ = resolve(name, examples(preset))
    if isinstance(found.tokens, JWTs):
        assert verifier.issuers == found.tokens.issuers
    RemoteAuthProvider(verifier, ["https://idp.example"], BASE_URL).set_mcp_path("/mcp")


@rows("name", NAMES)
def test_remote_sends_clients_to_where_they_can_register(name: str) -> None:
    preset = presets.CATALOG[name]
    audience = None if preset.tokens is None else audience_for(preset)
    settings: dict[str, Any] = {
        **examples(preset),
        **more_for(preset),
        "base_url": BASE_URL,
        "audience": audience,
    }
    if preset.registration is None:
        with pytest.raises(
            ConfigurationError,
            match=rf"cannot register themselves at .*: write presets\.proxy\('{name}', …\)",
        ):
            presets.remote(name, **settings)
        return
    provider = presets.remote(name, resource_name="Notes", **settings)
    found, _ = resolve(name, examples(preset))
    assert found.registration is not None
    assert provider.authorization_servers == [found.registration.issuer]
    assert provider.resource_name == "Notes"
    assert {route.path for route in provider.get_routes("/mcp")} >= {
        "/.well-known/oauth-protected-resource/mcp"
    }


@rows("name", NAMES)
def test_proxy_signs_people_in_there(name: str) -> None:
    preset = presets.CATALOG[name]
    settings: dict[str, Any] = {**examples(preset), "base_url": BASE_URL, "store": "memory://"}
    credentials = {"client_id": "the-proxy", "client_secret": "its-secret"}
    if preset.login is None:
        with pytest.raises(ConfigurationError, match=rf"write presets\.remote\('{name}', …\)"):
            presets.proxy(name, **credentials, **settings)
        return
    proxy = presets.proxy(name, **credentials, required_scopes=["notes:read"], **settings)
    assert type(proxy) is (OIDCProxy if isinstance(preset.login, OIDC) else OAuthProxy)
    assert proxy.required_scopes == ["notes:read"]


@rows("name", [name for name in NAMES if isinstance(presets.CATALOG[name].login, OIDC)])
def test_openid_is_asked_for(name: str) -> None:
    login = presets.CATALOG[name].login
    assert login is not None
    assert "openid" in login.scopes


@rows("name", NAMES)
def test_tokens_without_an_audience_need_an_explicit_setting(name: str) -> None:
    preset = presets.CATALOG[name]
    if preset.tokens is None or audience_for(preset) != ANY_AUDIENCE:
        return
    with pytest.raises(
        ConfigurationError,
        match=r"do not say which server they are for: .*audience=ANY_AUDIENCE",
    ):
        presets.verifier(name, **examples(preset))
    if isinstance(preset.tokens, JWTs):  # an ID token has an audience, but it would not be checked
        assert preset.tokens.client_id_claim == "client_id"
