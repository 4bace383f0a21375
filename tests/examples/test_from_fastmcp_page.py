"""docs/from-fastmcp.md: its code runs, and its tables have FastMCP's parameters and ours."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from fastmcp.server.auth import JWTVerifier, RemoteAuthProvider
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from fastmcp.server.auth.oidc_proxy import OIDCProxy

import asgi_mcp_auth.proxy
import asgi_mcp_auth.server
from tests.examples.at_the_provider import AtTheProvider
from tests.examples.pages import ROOT, serving_page
from tests.examples.test_reference import rows, section
from tests.interop.clients import python_sdk
from tests.support.upstream import CLIENT_SECRET, Upstream

PAGE = "docs/from-fastmcp.md"  # as it is named in the list of pages: "docs/from-fastmcp.md"
THEIRS = {"OAuthProxy": OAuthProxy, "OIDCProxy": OIDCProxy, "JWTVerifier": JWTVerifier}
THEIRS |= {"RemoteAuthProvider": RemoteAuthProvider}


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def ours(name: str) -> Any:
    places = (asgi_mcp_auth, asgi_mcp_auth.server, asgi_mcp_auth.proxy)
    return next(getattr(place, name) for place in places if hasattr(place, name))


def parameters(of: Any) -> set[str]:
    """Return the names of a class's parameters; a proxy takes those of an authorization server,
    too.
    """
    found = set(inspect.signature(of).parameters)
    return (
        found | parameters(asgi_mcp_auth.OAuthProvider) - {"login"}
        if "settings" in found
        else found
    )


def table(name: str) -> list[list[str]]:
    return rows(section(PAGE, name))


@pytest.mark.parametrize("name", THEIRS)
def test_each_parameter_of_fastmcp_is_in_the_table(name: str) -> None:
    checked_against = re.search(r"checked against FastMCP (\d+\.\d+)", (ROOT / PAGE).read_text())
    assert checked_against is not None
    if not version("fastmcp").startswith(checked_against[1]):
        pytest.skip(f"the page is about FastMCP {checked_against[1]}")
    told = [each for row in table(name) for each in names(row[0])]
    told += (
        [each for row in table("OAuthProxy") for each in names(row[0])]
        if name == "OIDCProxy"
        else []
    )
    missing = set(inspect.signature(THEIRS[name]).parameters) - set(told)
    assert missing == set()


@pytest.mark.parametrize("name", THEIRS)
def test_what_is_said_to_be_the_same_is_a_parameter_of_ours(name: str) -> None:
    same = {each for row in table(name) if row[1].startswith("the same") for each in names(row[0])}
    assert same <= parameters(ours(name))


@pytest.mark.parametrize("name", THEIRS)
def test_what_takes_its_place_exists(name: str) -> None:
    for _, cell in table(name):
        for option in re.findall(r"`(?:\w+=)?([A-Z]\w+\(.*?\))`", cell):
            kind, parameter = re.fullmatch(r"(\w+)\((\w+)=.*\)", option, re.DOTALL).groups()  # type: ignore[union-attr]
            assert parameter in inspect.signature(ours(kind)).parameters, option
        for setting in re.findall(r"`(\w+)=[A-Z]", cell):
            assert setting in parameters(ours(name)), setting


@pytest.mark.asyncio
async def test_a_fastmcp_server_with_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIENT_SECRET", CLIENT_SECRET)
    with Upstream() as upstream:
        upstream.people = {"alice": {"email": "alice@example.com"}}
        with serving_page(PAGE, upstream.issuer) as base:
            async with python_sdk(f"{base}/mcp", AtTheProvider(upstream)) as client:
                assert (
                    await client.call("whoami") == "alice@example.com has a token of the provider"
                )
