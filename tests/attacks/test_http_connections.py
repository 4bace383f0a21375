"""Malformed and hostile requests, as bytes sent to a real server."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_mcp_auth import (
    AccessToken,
    JWKSOptions,
    JWTVerifier,
    RemoteAuthProvider,
    Rule,
    TokenVerifier,
)
from asgi_mcp_auth.testing import Issuer
from tests.support.asgi import serve
from tests.support.protection import (
    BASE_URL,
    METADATA_PATH,
    METADATA_URL,
    RESOURCE,
    Guard,
    parse_challenge,
    protect,
)
from tests.support.sockets import connect, read_response, request

AUTHORIZED = b"Authorization: Bearer alice-token\r\n"


class Served:
    """A guard behind a real server."""

    def __init__(self, guard: Guard, base_url: str) -> None:
        self.guard = guard
        self.base_url = base_url

    def ask(
        self, line: bytes, *headers: bytes, body: bytes = b"", host: bytes = b"Host: h\r\n"
    ) -> tuple[int, dict[str, str], bytes]:
        return request(
            self.base_url, line + b" HTTP/1.1\r\n" + host + b"".join(headers) + b"\r\n" + body
        )

    def assert_usable(self) -> None:
        """Check that the server still admits a good request, and only that."""
        self.guard.spy.scopes.clear()
        assert self.ask(b"GET /mcp", AUTHORIZED)[0] == 200
        assert self.guard.spy.scope["access_token"].subject == "alice"
        self.guard.spy.scopes.clear()
        self.guard.events.clear()
        assert self.ask(b"GET /mcp")[0] == 401
        assert self.guard.reasons == ["missing_token"]
        self.guard.events.clear()


@pytest.fixture(scope="module", params=["uvicorn-h11", "uvicorn-httptools"])
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    guard = protect(
        public_paths=["/open/", "/health"], rules=[Rule("/admin", scopes=["mcp:admin"])]
    )
    with serve(guard.app, request.param) as base_url:
        yield Served(guard, base_url)


@pytest.fixture
def served(server: Served) -> Iterator[Served]:
    server.guard.spy.scopes.clear()
    server.guard.events.clear()
    yield server
    server.assert_usable()


@pytest.mark.case("W02")
@pytest.mark.parametrize(
    "second", [b"Authorization: Bearer bad\r\n", b"Authorization: Basic YTpi\r\n", AUTHORIZED]
)
def test_two_authorization_headers_are_400(served: Served, second: bytes) -> None:
    for headers in ((AUTHORIZED, second), (second, AUTHORIZED)):
        status, answer, _ = served.ask(b"POST /mcp", *headers, b"Content-Length: 0\r\n")
        assert (status, parse_challenge(answer["www-authenticate"])["error"]) == (
            400,
            "invalid_request",
        )
    assert served.guard.reasons == ["several_authorizations"] * 2
    assert served.guard.spy.scopes == []


@pytest.mark.case("W07")
@pytest.mark.parametrize("byte", [0x00, 0x0B, 0x0C, 0x1B, 0x7F, 0x80, 0xA0, 0xE9, 0xFF])
def test_odd_bytes_in_the_token_are_refused_by_the_server_or_by_us(
    served: Served, byte: int
) -> None:
    status, _, _ = served.ask(b"GET /mcp", b"Authorization: Bearer alice%ctoken\r\n" % byte)
    assert status in (400, 401)
    assert served.guard.spy.scopes == []


@pytest.mark.case("W07")
@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n ", b"\n\t"])
def test_line_breaks_in_the_token_never_get_in(served: Served, end: bytes) -> None:
    served.ask(b"GET /mcp", b"Authorization: Bearer nobody%balice-token\r\n" % end)
    served.ask(b"GET /mcp", b"Authorization: Bearer nobody%bX-Other: alice-token\r\n" % end)
    assert served.guard.spy.scopes == []


@pytest.mark.case("W08")
@pytest.mark.parametrize("size", [64 * 1024 + 1, 1024 * 1024])
def test_a_huge_token_is_refused_in_bounded_time(served: Served, size: int) -> None:
    began = time.monotonic()
    try:
        status, _, _ = served.ask(b"GET /mcp", b"Authorization: Bearer " + b"a" * size + b"\r\n")
    except ConnectionError:
        status = 0  # the server hung up while we were still sending
    assert status in (0, 400, 401, 431)
    assert served.guard.reasons in ([], ["too_long"])
    assert time.monotonic() - began < 10


@pytest.mark.case("W08")
@pytest.mark.parametrize("count", [200, 10_000])
def test_many_headers_are_refused_in_bounded_time(served: Served, count: int) -> None:
    began = time.monotonic()
    try:
        status, _, _ = served.ask(
            b"GET /mcp", *(b"X-%d: y\r\n" % number for number in range(count))
        )
    except ConnectionError:
        status = 0
    assert status in (0, 400, 401, 431)
    assert served.guard.spy.scopes == []
    assert time.monotonic() - began < 10


@pytest.mark.case("W11", "W12", "W13", "W14", "W15")
@pytest.mark.parametrize(
    "target",
    [
        *(b"//mcp", b"///mcp", b"/./mcp", b"/x/../mcp", b"/mcp/..;/", b"/mcp/."),
        *(
            b"/%2fmcp",
            b"/mcp%2f",
            b"/%6dcp",
            b"/mcp%00",
            b"/mcp%20",
            b"/mcp%ff",
            b"\\mcp",
            b"/mcp\\",
        ),
        *(
            b"/MCP",
            b"/Mcp",
            b"/mcp/",
            b"/mcp;params",
            b"/mcp?",
            b"/mcp#",
            b"/mcp#/open/",
            b"/mcp?/open/",
        ),
        *(b"/.well-known/../mcp", METADATA_PATH.encode() + b"/%2e%2e/mcp"),
        *(
            b"http://h/mcp",
            b"http://evil.example/mcp",
            b"h:443",
            b"*",
            b"open/",
            b"?",
            b"#",
            b"http://h",
        ),
        *(
            b"/open/../mcp",
            b"/open/%2e%2e/mcp",
            b"/open/..%2fmcp",
            b"//open/",
            b"/open//x",
            b"/health/",
            b"/healthz",
        ),
        *(
            b"/open/%252e%252e/mcp",
            b"/open/..%5cmcp",
            b"/open/\\..\\mcp",
            b"/open/;/../mcp",
            b"/mcp/open/",
        ),
    ],
)
def test_no_request_target_gets_in_without_a_token(served: Served, target: bytes) -> None:
    for method in (b"GET", b"POST", b"OPTIONS"):
        status, headers, _ = served.ask(method + b" " + target, b"Content-Length: 0\r\n")
        assert 400 <= status < 500 or status == 0
        assert "evil" not in headers.get("www-authenticate", "")
    assert served.guard.spy.scopes == []


@pytest.mark.case("W12")
def test_the_path_that_opens_the_gate_is_the_path_that_the_app_sees(served: Served) -> None:
    for target, expected in ((b"/open/x", "/open/x"), (b"/open/caf%c3%a9", "/open/café")):
        assert served.ask(b"GET " + target)[0] == 200
        assert served.guard.spy.scopes.pop()["path"] == expected
    assert served.ask(b"GET /o%70en/x")[0] == 401  # another page for routers that do not decode


@pytest.mark.case("W15")
@pytest.mark.parametrize("target", [b"CONNECT h:443", b"OPTIONS *", b"GET *"])
def test_targets_that_are_no_paths_do_not_get_in(served: Served, target: bytes) -> None:
    status, _, _ = served.ask(target)
    assert status == 0 or 400 <= status < 500
    assert served.guard.spy.scopes == []


@pytest.mark.case("W18", "W19")
@pytest.mark.parametrize(
    "host",
    [
        b"Host: evil.example\r\n",
        b"Host: evil.example/?\r\n",
        b"Host: h\r\nHost: evil.example\r\n",
        b"Host: evil.example:99999\r\n",
        b"Host: evil.example\r\nX-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n",
        b"",
    ],
)
def test_no_answer_names_a_host_of_the_request(served: Served, host: bytes) -> None:
    status, headers, body = served.ask(b"GET /mcp", host=host)
    assert status in (400, 401)
    assert "evil" not in f"{headers}{body!r}"
    if status == 401:
        assert parse_challenge(headers["www-authenticate"])["resource_metadata"] == METADATA_URL
        _, _, document = served.ask(b"GET " + METADATA_PATH.encode(), host=host)
        assert json.loads(document)["resource"] == RESOURCE


@pytest.mark.case("W20")
def test_head_is_401_and_the_connection_goes_on(served: Served) -> None:
    with connect(served.base_url) as connection:
        for _ in range(2):
            connection.sendall(b"HEAD /mcp HTTP/1.1\r\nHost: h\r\n\r\n")
            assert read_response(connection, head=True)[0] == 401
        connection.sendall(b"GET /mcp HTTP/1.1\r\nHost: h\r\n" + AUTHORIZED + b"\r\n")
        assert read_response(connection)[::2] == (200, b"hello")


@pytest.mark.case("W23")
@pytest.mark.parametrize(
    "method", [b"PUT", b"PATCH", b"DELETE", b"TRACE", b"PROPFIND", b"FOO", b"post", b"get"]
)
def test_no_method_gets_in(served: Served, method: bytes) -> None:
    status, _, _ = served.ask(
        method + b" /mcp", b"X-HTTP-Method-Override: OPTIONS\r\nContent-Length: 0\r\n"
    )
    assert status in (400, 401, 405)
    assert served.guard.spy.scopes == []


@pytest.mark.case("W28")
def test_a_rejected_body_of_a_mebibyte_does_not_spoil_the_next_request(served: Served) -> None:
    body = b"x" * 1024 * 1024
    with connect(served.base_url) as connection:
        connection.sendall(
            b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        sender = threading.Thread(target=send_quietly, args=(connection, body))
        sender.start()
        assert read_response(connection)[0] == 401
        sender.join(10)
        try:
            connection.sendall(b"GET /mcp HTTP/1.1\r\nHost: h\r\n" + AUTHORIZED + b"\r\n")
            status, _, text = read_response(connection)
        except ConnectionError:
            status, text = 0, b""
    # answered, or closed: never taken for something else
    assert (status, text) in ((200, b"hello"), (0, b""))
    assert len(served.guard.spy.scopes) == (status == 200)


def send_quietly(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:
        return


@pytest.mark.case("W28")
def test_a_body_that_holds_a_request_is_not_taken_for_one(served: Served) -> None:
    smuggled = b"GET /mcp HTTP/1.1\r\nHost: h\r\n" + AUTHORIZED + b"\r\n"
    with connect(served.base_url) as connection:
        connection.sendall(
            b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
            + smuggled
        )
        assert read_response(connection)[0] == 401
        connection.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            assert connection.recv(1) == b""
    assert served.guard.spy.scopes == []


@pytest.mark.case("W29")
def test_expect_100_continue_with_a_bad_token_is_401_without_the_body(served: Served) -> None:
    with connect(served.base_url) as connection:
        connection.sendall(
            b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n"
            b"Authorization: Bearer bad\r\n\r\n"
        )
        assert read_response(connection)[0] == 401  # and not 100
    assert served.guard.reasons == ["unknown_token"]


@pytest.mark.case("W30")
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"),
        (b"Transfer-Encoding: chunked\r\n", b"5;" + b"x" * 64 * 1024 + b"\r\nhello\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"fffffffffffffffff\r\n"),
        (b"Content-Length: -1\r\n", b""),
        (b"Content-Length: 1e3\r\n", b""),
    ],
)
def test_ambiguous_framing_admits_no_request(served: Served, headers: bytes, body: bytes) -> None:
    for credentials in (b"", b"Authorization: Bearer bad\r\n"):
        try:
            status, _, _ = served.ask(b"POST /mcp", headers, credentials, body=body)
        except ConnectionError:
            status = 0
        assert status in (0, 400, 401, 501)
    assert served.guard.spy.scopes == []


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.case("W31")
@pytest.mark.parametrize("kind", ["uvicorn-h11", "uvicorn-httptools"])
def test_clients_that_leave_during_a_fetch_of_keys_cause_no_error(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Issuer(algorithms=["ES256"]) as idp:
        idp.fail()
        verifier = JWTVerifier(issuer=idp.issuer, jwks=JWKSOptions(cooldown_seconds=0.1))
        guard = protect(provider=RemoteAuthProvider(verifier, [idp.issuer], BASE_URL))
        authorization = f"Authorization: Bearer {idp.mint(aud=RESOURCE)}\r\n".encode()
        line = b"GET /mcp HTTP/1.1\r\nHost: h\r\n" + authorization + b"\r\n"
        with serve(guard.app, kind) as base_url:
            time.sleep(0.2)  # the cooldown of the failed warm-up
            idp.reset()
            idp.delay("/jwks", 0.3)
            leaving = [connect(base_url) for _ in range(5)]
            staying = connect(base_url)
            for connection in leaving:
                connection.sendall(line)
            staying.sendall(line)
            time.sleep(0.1)
            for connection in leaving:
                connection.close()
            assert read_response(staying)[::2] == (200, b"hello")
            staying.close()
            assert request(base_url, line)[0] == 200
        assert idp.hits["/jwks"] == 2
    assert errors(caplog) == []


class Broken(TokenVerifier):
    """A verifier with a bug."""

    async def verify_token(self, token: str) -> AccessToken | None:
        raise RuntimeError("no database")


@pytest.mark.case("W41")
@pytest.mark.parametrize("kind", ["uvicorn-h11", "uvicorn-httptools"])
def test_a_verifier_with_a_bug_is_a_500_that_says_nothing(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    guard = protect(provider=RemoteAuthProvider(Broken(), ["https://idp.example.com"], BASE_URL))
    with serve(guard.app, kind) as base_url:
        line = b"GET /mcp HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer a-secret-token\r\n\r\n"
        status, _, body = request(base_url, line)
        assert (status, b"database" in body, b"Traceback" in body) == (500, False, False)
        assert request(base_url, b"GET /mcp HTTP/1.1\r\nHost: h\r\n\r\n")[0] == 401
    assert guard.spy.scopes == []
    logged: list[Any] = [record for record in caplog.records if record.exc_info]
    assert len(logged) == 1
    assert "a-secret-token" not in caplog.text
