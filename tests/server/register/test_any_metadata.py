"""Arbitrary metadata is refused, or comes back valid and stable."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from asgi_mcp_auth._urls import check_redirect_uri, is_public_web_url, redirect_uri_matches
from asgi_mcp_auth.errors import InvalidClientMetadata, InvalidRedirectURI
from asgi_mcp_auth.server.clients.metadata import (
    _CHECKS,
    AUTH_METHODS,
    MetadataPolicy,
    check_client_metadata,
)
from asgi_mcp_auth.server.grants import authorization_code, refresh_token
from tests.support.authorization_server import SCOPES, WEB_REDIRECT_URI
from tests.support.gate import signing_key

INTERACTIVE = (authorization_code.GRANT, refresh_token.GRANT)
POLICY = MetadataPolicy(
    scopes=frozenset(SCOPES), grant_types=INTERACTIVE, redirect_schemes=frozenset(("cursor",))
)
STRICT = MetadataPolicy(scopes=frozenset(SCOPES), grant_types=INTERACTIVE, strict=True)
KEY_SET = {"keys": [signing_key().public_jwk()]}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.sampled_from(
    [*_CHECKS, "redirect_uris", "client_id", "client_secret", "client_name#de"]
) | st.text(max_size=8)
urls = st.sampled_from(
    [WEB_REDIRECT_URI, "http://127.0.0.1/", "cursor://x/y", "https://h.example", "javascript:1"]
)
likely = st.fixed_dictionaries(
    {"redirect_uris": st.lists(urls, min_size=1, max_size=3)},
    optional={
        "grant_types": st.lists(
            st.sampled_from(["authorization_code", "refresh_token", "implicit", "x"]), max_size=3
        ),
        "response_types": st.lists(st.sampled_from(["code", "token"]), max_size=2),
        "token_endpoint_auth_method": st.sampled_from([*AUTH_METHODS, "x"]),
        "jwks": st.sampled_from([KEY_SET, {"keys": []}]),
        "scope": st.lists(st.sampled_from([*SCOPES, "offline_access", "x", ""]), max_size=4).map(
            " ".join
        ),
        "application_type": st.sampled_from(["native", "web", "x"]),
        "client_uri": urls,
        "client_name": st.text(max_size=8),
    },
)
documents = st.builds(lambda a, b: a | b, likely, st.dictionaries(names, json_values, max_size=3))


@given(documents)
def test_metadata_is_refused_or_becomes_metadata_that_stays_what_it_is(
    document: dict[str, Any],
) -> None:
    metadata, refusal = None, ""
    try:
        metadata = check_client_metadata(document, POLICY)
    except (InvalidClientMetadata, InvalidRedirectURI) as error:
        refusal = str(error)
    if metadata is None:
        assert refusal.isascii()
        assert not set(refusal) & set('"\\')  # RFC 6749 §5.2
        return
    assert check_client_metadata(metadata, POLICY) == metadata
    assert (
        check_client_metadata(metadata, STRICT if "cursor" not in str(metadata) else POLICY)
        == metadata
    )
    assert None not in metadata.values()
    assert {"redirect_uris", "grant_types", "response_types", "token_endpoint_auth_method"} <= set(
        metadata
    )
    assert "authorization_code" in metadata["grant_types"]
    assert all(
        redirect_uri_matches(uri, metadata["redirect_uris"]) for uri in metadata["redirect_uris"]
    )
    assert all(
        is_public_web_url(value)
        for name, value in metadata.items()
        if name.partition("#")[0].endswith("_uri")
    )
    assert set(metadata.get("scope", "").split()) <= {*SCOPES, "offline_access"}


@given(
    st.text()
    | st.builds(
        "{}{}".format,
        st.sampled_from(["https://", "http://", "cursor:", "http://localhost"]),
        st.text(),
    )
)
def test_a_redirect_uri_is_refused_or_comes_back_as_it_was(uri: str) -> None:
    try:
        accepted = check_redirect_uri(uri, {"cursor"})
    except InvalidRedirectURI:
        return
    assert accepted == uri
    assert uri.isascii()
    assert uri.isprintable()
    assert not set(uri) & set(' "\\#<>')
    assert uri.startswith(
        ("https://", "http://127.0.0.1", "http://[::1]", "http://localhost", "cursor:")
    )
