"""Arbitrary requests to the pages get an answer below 500 without injected headers."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.authorization_server import BASE_URL, Browser, Server, deploy

PATHS = st.sampled_from(["/authorize", "/login", "/consent", "/applications", "/logout", "/par"])
METHODS = st.sampled_from(["GET", "POST", "HEAD", "PUT", "BREW"])
NAMES = st.sampled_from(
    [
        "client_id",
        "redirect_uri",
        "response_type",
        "scope",
        "state",
        "code_challenge",
        "code_challenge_method",
        "resource",
        "prompt",
        "max_age",
        "login_hint",
        "request",
        "request_uri",
        "response_mode",
        "transaction",
        "csrf",
        "action",
        "username",
        "password",
        "handover",
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            "code",
            "S256",
            "none",
            "login",
            "approve",
            "deny",
            "switch",
            "mcp:read",
            "offline_access",
            "0",
        ]
    ),
    st.sampled_from(
        ["THE CLIENT", "THE TRANSACTION", "THE TOKEN", "http://127.0.0.1:8123/callback", "a" * 43]
    ),
    st.text(max_size=30),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "Cookie",
            "Origin",
            "Sec-Fetch-Site",
            "Content-Type",
            "Content-Length",
            "Authorization",
            "Host",
        ]
    ),
    st.one_of(
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40),
        st.sampled_from(
            [
                "application/x-www-form-urlencoded",
                "same-origin",
                "none",
                "null",
                BASE_URL,
                "localhost",
            ]
        ),
    ),
    max_size=3,
)


@pytest.mark.slow
@given(
    path=PATHS,
    method=METHODS,
    pairs=st.lists(st.tuples(NAMES, VALUES), max_size=12),
    headers=HEADERS,
)
def test_parameters_and_headers_of_all_kinds(
    path: str, method: str, pairs: list[tuple[str, str]], headers: dict[str, str]
) -> None:
    asyncio.run(_send(path, method, pairs, headers))


@pytest.mark.slow
@given(path=PATHS, method=METHODS, data=st.binary(max_size=200))
def test_bytes_of_all_kinds(path: str, method: str, data: bytes) -> None:
    asyncio.run(_send(path, method, data, {"Content-Type": "application/x-www-form-urlencoded"}))


async def _send(path: str, method: str, sent: Any, headers: dict[str, str]) -> None:
    async with deploy() as server:
        browser, client = server.browser(), await server.register()
        page = await browser.sign_in(
            await browser.open(client.authorization_url()), username="alice"
        )
        if not isinstance(sent, bytes):
            known = {
                "THE CLIENT": client.client_id,
                "THE TRANSACTION": page.hidden["transaction"],
                "THE TOKEN": page.hidden["csrf"],
            }
            sent = [(name, known.get(value, value)) for name, value in sent]
        await _check(server, browser, path, method, sent, headers)


async def _check(
    server: Server, browser: Browser, path: str, method: str, sent: Any, headers: dict[str, str]
) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    usual = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded", **headers}
    body = sent if isinstance(sent, bytes) else urlencode(sent).encode()
    if method == "POST":
        response = await server.call(method, path, headers=usual, body=body)
    else:
        response = await server.call(method, path, headers=usual, query_string=body)
    assert response.status < 500
    for name, value in response.headers:  # that they cannot split the response, ``call`` checks
        assert name not in ("access-control-allow-origin",)
        if name == "location":
            ours = (BASE_URL, "http://127.0.0.1:8123/callback")
            assert value.startswith(ours)
