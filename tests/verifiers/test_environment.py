"""Variables of the environment: a wrong one stops the start, and is named."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest

from asgi_mcp_auth import (
    ConfigurationError,
    JWTVerifier,
    ServerUnavailable,
)
from asgi_mcp_auth._http import HTTPFetcher
from asgi_mcp_auth.testing import Issuer
from tests.support.sockets import HostileServer, answering

pytestmark = pytest.mark.asyncio

HAS_SOCKS = importlib.util.find_spec("socksio") is not None
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


WRONG = (
    ("HTTP_PROXY", "http://"),
    ("HTTPS_PROXY", "ftp://proxy.example:3128"),
    ("https_proxy", "http://proxy.example:port"),
    ("HTTPS_PROXY", "http://user:hunter2@proxy.example:99999"),
    ("ALL_PROXY", "socks4://proxy.example:1080"),
    ("all_proxy", "http://[::1"),
    ("NO_PROXY", "idp.example,http://[::1"),
    ("SSL_CERT_FILE", "/nowhere/ca.pem"),
    ("SSL_CERT_FILE", __file__),
    ("SSL_CERT_DIR", "/nowhere"),
    ("SSL_CERT_DIR", __file__),
)


@pytest.mark.rule("RS-80")
@pytest.mark.parametrize(("name", "value"), WRONG)
async def test_a_variable_that_cannot_be_used_stops_the_start_and_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, value)
    verifier = JWTVerifier(issuer="http://127.0.0.1:1", audience="us")
    with pytest.raises(ConfigurationError, match=f"environment variable {name}") as refused:
        await verifier.start()
    assert "hunter2" not in str(refused.value)
    token = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJodHRwOi8vMTI3LjAuMC4xOjEifQ.AAAA"
    for _ in range(2):
        with pytest.raises(ServerUnavailable):
            await verifier.verify(token)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"environment variable {name}" in record.getMessage()


@pytest.mark.rule("RS-80")
@pytest.mark.skipif(HAS_SOCKS, reason="socksio is installed")
async def test_a_socks_proxy_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example:1080")
    with pytest.raises(ConfigurationError, match=r"ALL_PROXY .*httpx\[socks\]"):
        await HTTPFetcher(timeout_seconds=5).open()


@pytest.mark.rule("RS-80")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PROXY", "proxy.example:3128"),
        ("HTTPS_PROXY", "http://user:password@proxy.example"),
        ("ALL_PROXY", ""),
        ("NO_PROXY", "*"),
        ("NO_PROXY", "localhost,.example.com,10.0.0.0/8,::1, ,idp.example:8443"),
        ("SSL_CERT_FILE", ""),
        ("SSL_CERT_DIR", str(Path(__file__).parent)),
    ],
)
async def test_a_variable_that_can_be_used_does_not(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    fetcher = HTTPFetcher(timeout_seconds=5)
    await fetcher.open()
    await fetcher.aclose()


@pytest.mark.rule("RS-80")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_issuer_on_loopback_is_asked_without_a_proxy(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HostileServer(answering(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")) as proxy:
        for name in VARIABLES[:3]:
            monkeypatch.setenv(name, proxy.url)
        with Issuer(algorithms=["ES256"]) as idp:
            url = idp.jwks_uri.replace("127.0.0.1", host)
            response = await HTTPFetcher(timeout_seconds=5).fetch(url, max_bytes=9999)
        assert (response.status, proxy.connections) == (200, 0)
