"""Settings that are possible and probably a mistake: accepted, with one WARNING."""

from __future__ import annotations

import logging

import pytest

from asgi_mcp_auth import JWTVerifier, RemoteAuthProvider

ISSUER = "https://idp.example.com"


def provider(
    issuer: str = ISSUER, server: str = ISSUER, base_url: str = "https://mcp.example.com"
) -> RemoteAuthProvider:
    """Return a provider of these settings."""
    return RemoteAuthProvider(JWTVerifier(issuer=issuer), [server], base_url)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said at WARNING or above."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_base_url_that_holds_the_path_already_is_noticed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider(base_url="https://mcp.example.com/mcp").set_mcp_path("/mcp")
    assert len(warnings(caplog)) == 1
    assert "the resource is https://mcp.example.com/mcp/mcp" in warnings(caplog)[0]


@pytest.mark.parametrize("server", [ISSUER + "/", "https://IDP.example.com"])
def test_an_authorization_server_spelled_unlike_the_issuer_is_noticed(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 8414 §3.3: clients compare the two exactly, too."""
    provider(server=server)
    assert warnings(caplog) == [
        f"authorization_servers has {server!r}, the verifier {ISSUER!r}: they must be equal,"
        " including the slash at the end"
    ]


@pytest.mark.parametrize("server", [ISSUER, "https://login.example.org"])
def test_equal_and_wholly_different_issuers_are_nothing_to_warn_of(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Some providers put another name into tokens than into their metadata."""
    provider(server=server).set_mcp_path("/mcp")
    assert warnings(caplog) == []


def test_the_resource_is_named_once_it_is_known(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    guard = provider()
    guard.set_mcp_path("/mcp")
    guard.set_mcp_path("/mcp")
    assert [record.getMessage() for record in caplog.records] == [
        "Tokens need the audience https://mcp.example.com/mcp, unless audience= is set"
    ]
