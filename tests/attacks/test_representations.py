"""Secrets stay out of ``repr``: of log lines, tracebacks with locals, debuggers."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from typing import Any

import pytest

import asgi_mcp_auth
from asgi_mcp_auth import (
    IntrospectionTokenVerifier,
    OAuthProvider,
    OIDCProxy,
    StaticTokenVerifier,
    errors,
)
from asgi_mcp_auth.errors import AuthError
from asgi_mcp_auth.server import DevLogin, PasswordLogin, Registration, ServerOptions
from asgi_mcp_auth.stores import store_from_url
from asgi_mcp_auth.stores.encrypted import EncryptedStore
from asgi_mcp_auth.stores.memory import MemoryStore
from tests.support.authorization_server import KEY
from tests.support.rows import rows

pytestmark = pytest.mark.rule("RS-37")

MARK = "hush-hush-hush-hush-hush-hush-hush-hush"

SECRET = re.compile(
    r"token$|secret|^code|cookie|^keys?$|^signing_keys$|proof|verifier|nonce|state$|hidden|password|assertion|^value$|"
    r"^values$|^body$|^headers$|parameters$|claims$|reference|_hash$|^browser$|^clients$|^transaction$|^result$|^link$"
)
"""Fields that hold a secret, a value made of one, or a value for the person or the client alone."""

HARMLESS = {
    "VerifyingKey.verify": "a function",
    "_Header.is_access_token": "yes or no",
    "TimedKey.key": "a SigningKey, which has no representation of its own",
    "UpstreamRules.claims": "the names of claims",
    "UpstreamRules.allowed_claims": "what the operator wants claims to be",
    "Endpoints.token": "a URL",
    "RateLimits.token": "a number",
    "RateLimits.passwords": "a number",
    "Lifetimes.code_seconds": "a number",
    "Lifetimes.code_leeway_seconds": "a number",
    "Client.secret_expires_at": "a time",
    "OAuth.authorize_parameters": "part of the catalog",
    "OIDC.authorize_parameters": "part of the catalog",
    "Preset.parameters": "the names of settings",
    "Audience.value": "part of the catalog",
    "Resolved.values": "tenants and regions; secrets are no parameters",
    "Profiles.headers": "part of the catalog",
    "Fetched.value": "a public document",
    "InvalidMessage.code": "a number",
    "Kind.key": "words for the documentation",
    "Lease.state": "refreshing or failed",
    "_Waiter.state": "waiting or not",
    "MiddlewareEntry.kwargs": "the provider",
    "Answer.headers": "of testing: headers of a test's own issuer",
    "JWKSOptions.keys": "a number",
    "JWKSState.keys": "a number",
    "ConsentPage.provider_scopes": "names of scopes",
}


def classes() -> list[type]:
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(asgi_mcp_auth.__path__, "asgi_mcp_auth."):
        if module.name.endswith(("__main__", ".testing", ".page_values")):
            continue
        for each in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(each) and each.__module__ == module.name:
                found[f"{module.name}.{each.__qualname__}"] = each
    return list(found.values())


def fields_of(kind: type) -> list[str]:
    if dataclasses.is_dataclass(kind):
        return [each.name for each in dataclasses.fields(kind)]
    return list(getattr(kind, "_fields", ()))


def filled(kind: type) -> Any:
    """An instance in each field of which stands its name with a mark, however it is checked
    otherwise.
    """
    names = fields_of(kind)
    if not dataclasses.is_dataclass(kind):
        make: Any = kind
        return make(*(f"{MARK} {name}" for name in names))
    instance = object.__new__(kind)
    for name in names:
        object.__setattr__(instance, name, f"{MARK} {name}")
    return instance


VALUES = [each for each in classes() if fields_of(each) and not inspect.isabstract(each)]


def test_there_are_values_to_look_at() -> None:
    assert {
        "KeptTokens",
        "TokenAnswer",
        "Credentials",
        "Registration",
        "LoginAttempt",
        "Record",
        "Response",
    } <= {each.__name__ for each in VALUES}


@rows("kind", VALUES, ids=lambda each: f"{each.__module__[14:]}.{each.__name__}")
def test_no_value_shows_a_field_that_holds_a_secret(kind: type) -> None:
    value = filled(kind)
    for name in fields_of(kind):
        if SECRET.search(name) and f"{kind.__name__}.{name}" not in HARMLESS:
            for shown in (repr(value), str(value), f"{value}", repr([value]), f"{value!s:>3}"):
                assert f"{MARK} {name}" not in shown, f"{kind.__name__} shows {name}"


def test_every_exception_shows_its_message_and_nothing_that_it_was_raised_about() -> None:
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, AuthError) and "__init__" in vars(kind):
            arguments = inspect.signature(kind).parameters
            secrets = [each for each in arguments if SECRET.search(each)]
            assert {f"{name}.{each}" for each in secrets} <= HARMLESS.keys(), f"{name} has a secret"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{MARK}@127.0.0.1:1/0",
        f"redis://{MARK}:{MARK}@h/0?prefix=a",
        f"postgresql://u:{MARK}@127.0.0.1:1/db",
    ],
)
def test_a_store_does_not_show_the_password_of_its_url_nor_its_keys(url: str) -> None:
    store = store_from_url(url, encryption_keys=[KEY])
    for each in (store, store.inner, store.scoped_to("https://a.example")):
        assert MARK not in repr(each)
        assert KEY not in repr(each)


def test_the_objects_that_users_make_show_none_of_their_settings() -> None:
    secret = "s" + MARK
    client = {"client_id": "c", "client_secret": secret, "redirect_uris": ["https://a.example/cb"]}
    registration = Registration(
        clients=[client], initial_access_token=secret, metadata_documents=False
    )
    store = EncryptedStore(MemoryStore(), [KEY])
    made: list[object] = [
        registration,
        store,
        OAuthProvider(
            base_url="http://localhost", login=DevLogin(), store=store, registration=registration
        ),
        OIDCProxy(
            issuer="https://idp.example",
            client_id="c",
            client_secret=secret,
            base_url="http://localhost",
            store=EncryptedStore(MemoryStore(), [KEY]),
        ),
        PasswordLogin({"alice": secret}),
        IntrospectionTokenVerifier(
            introspection_url="https://idp.example/i",
            client_id="c",
            client_secret=secret,
            base_url="https://a.example",
        ),
        StaticTokenVerifier({secret: {"client_id": "c", "scopes": []}}),
    ]
    made += [getattr(each, "_parts").settings for each in made if hasattr(each, "_parts")]  # noqa: B009 (not all have it)
    for each in made:
        assert secret not in repr(each)
        assert KEY not in repr(each)


def test_private_keys_do_not_show_in_the_options() -> None:
    pem = f"-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----"
    assert MARK not in repr(ServerOptions(signing_keys=[pem]))
