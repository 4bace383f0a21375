"""One bounded fetch: a hostile or broken server can make it fail, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import ipaddress
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from asgi_mcp_auth._http import FetchFailed, HTTPFetcher, Response
from asgi_mcp_auth.errors import ConfigurationError
from tests.support.rows import rows
from tests.support.sockets import HostileServer, answering, read_head

pytestmark = pytest.mark.asyncio

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "1"\r\n\r\n{}'
# Far more than a fetch needs and far less than a drip takes: a deadline that is missing shows, a
# slow machine does not.
DEADLINE, PATIENCE = 0.3, 5.0


async def fetch(
    url: str, *, max_bytes: int = 1000, timeout_seconds: float = 10, **settings: Any
) -> Response:
    return await HTTPFetcher(timeout_seconds=timeout_seconds).fetch(
        url, max_bytes=max_bytes, **settings
    )


async def test_an_answer_comes_back_whole_with_lower_case_header_names() -> None:
    with HostileServer(answering(OK)) as server:
        response = await fetch(server.url)
    assert (response.status, response.headers["etag"], response.body) == (200, '"1"', b"{}")


async def test_a_get_asks_for_uncompressed_json() -> None:
    seen: list[bytes] = []

    def behave(connection: Any) -> None:
        seen.append(read_head(connection).lower())
        connection.sendall(OK)

    with HostileServer(behave) as server:
        await fetch(f"{server.url}/jwks?tenant=1", headers={"if-none-match": '"1"'})
    assert seen[0].startswith(b"get /jwks?tenant=1 http/1.1\r\n")
    assert b"\r\naccept: application/json\r\n" in seen[0]
    assert b"\r\naccept-encoding: identity\r\n" in seen[0]
    assert b'\r\nif-none-match: "1"\r\n' in seen[0]


async def test_a_form_is_posted() -> None:
    seen: list[bytes] = []

    def behave(connection: Any) -> None:
        data = read_head(connection)
        while not data.endswith(b"token=a%2Bb&x=1"):
            data += connection.recv(100)
        seen.append(data)
        connection.sendall(OK)

    with HostileServer(behave) as server:
        await fetch(server.url, form={"token": "a+b", "x": "1"})
    assert seen[0].startswith(b"POST / HTTP/1.1\r\n")
    assert b"application/x-www-form-urlencoded" in seen[0]


def redirecting(location: str, status: int = 302) -> Callable[[Any], None]:
    return answering(
        f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    )


@rows("status", [301, 302, 303, 307, 308, 300])
@rows(
    ("target", "where"),
    [
        ("/elsewhere", "{own}"),
        ("{other}/jwks", "{other}"),
        ("http://169.254.169.254/", "http://169.254.169.254"),
        ("file:///etc/passwd", "but to no http(s) URL"),
    ],
)
async def test_a_redirect_is_not_followed_where_tokens_go(
    status: int, target: str, where: str
) -> None:
    with HostileServer(answering(OK)) as other:
        location = target.format(other=other.url)
        with HostileServer(redirecting(location, status)) as server:
            with pytest.raises(FetchFailed, match=f"HTTP {status} is a redirect") as failed:
                await fetch(server.url, setting="introspection_url")
            assert (server.connections, other.connections) == (1, 0)
        assert where.format(own=server.url, other=other.url) in str(failed.value)
        assert "set introspection_url to the final URL" in str(failed.value)


class Maze:
    """A server whose paths ``/1``, ``/2`` … lead on, and whose path ``/end`` has the document."""

    def __init__(self, *locations: str, status: int = 302) -> None:
        self.locations = locations
        self.status = status
        self.asked: list[str] = []
        self.server = HostileServer(self._behave)

    def _behave(self, connection: Any) -> None:
        path = read_head(connection).split(b" ")[1].decode()
        self.asked.append(path)
        if path == "/end":
            connection.sendall(OK)
            return
        location = self.locations[int(path[1:]) % len(self.locations)]
        redirecting_to = location.format(own=self.server.url, port=self.server.url[-5:])
        connection.sendall(
            f"HTTP/1.1 {self.status} Found\r\nLocation: {redirecting_to}\r\nContent-Length: 0"
            "\r\nConnection: close\r\n\r\n".encode()
        )


@pytest.mark.rule("RS-78")
@rows("status", [301, 302, 303, 307, 308])
@rows("target", ["/end", "end", "{own}/end", "../end", "/end#part", "./end"])
async def test_a_document_may_have_moved_within_its_origin(status: int, target: str) -> None:
    maze = Maze(target, status=status)
    with maze.server as server:
        response = await fetch(f"{server.url}/0", max_redirects=3)
    assert (response.body, maze.asked) == (b"{}", ["/0", "/end"])


@pytest.mark.rule("RS-78")
@rows(
    ("target", "told"),
    [
        ("https://127.0.0.1:{port}/end", "to https://127.0.0.1:{port}, which is not followed"),
        ("http://127.0.0.1:1/end", "to http://127.0.0.1:1, which is not followed"),
        ("http://localhost:{port}/end", "to http://localhost:{port}, which"),
        ("//evil.example/end?secret", "to http://evil.example, which is not followed"),
        ("http://user:password@127.0.0.1:{port}/end", "to {own}, which is not followed"),
        ("{own}@evil.example/end", "to http://evil.example, which is not followed"),
        ("{own}.evil.example/end", "Error: Invalid"),
        ("/\\evil.example/end", "to {own}, which is not followed"),
        ("ftp://127.0.0.1:{port}/end", "to ftp://127.0.0.1:{port}, which is not followed"),
        ("file:///etc/passwd", "to no http(s) URL"),
        # What a terminal that shows the log might obey, or would fill it.
        ("http://a\x9b31m.example/", "Invalid IDNA hostname"),
        ("http://\u202emoc.example/", "Invalid IDNA hostname"),
        (f"http://{'a' * 30_000}.example/", "to no http(s) URL"),
        (f"http://{'ä' * 10_000}.example/", "Invalid"),
        # httpx refuses these.
        ("javascript:alert(1)", "InvalidURL"),
        ("http://[::1/end", "Invalid"),
        ("http://127.0.0.1:99999/end", ""),
    ],
)
async def test_a_redirect_out_of_the_origin_is_never_followed(target: str, told: str) -> None:
    maze = Maze(target)
    with maze.server as server:
        with pytest.raises(FetchFailed) as failed:
            await fetch(f"{server.url}/0", max_redirects=3, setting="jwks_uri")
        own = {"own": server.url, "port": server.url[-5:]}
    assert maze.asked == ["/0"]
    assert told.format(**own) in str(failed.value)
    assert "secret" not in str(failed.value)
    assert "password" not in str(failed.value)
    assert str(failed.value).isprintable()
    assert len(str(failed.value)) < 500


@pytest.mark.rule("RS-78")
@pytest.mark.parametrize(
    ("locations", "hops"),
    [(("/1", "/2", "/end"), 3), (("/1", "/2", "/3", "/end"), None), (("/0",), None)],
    ids=["three", "four", "a loop"],
)
async def test_three_redirects_are_followed_and_no_more(
    locations: tuple[str, ...], hops: int | None
) -> None:
    maze = Maze(*locations)
    with maze.server as server:
        if hops is not None:
            assert (await fetch(f"{server.url}/0", max_redirects=3)).body == b"{}"
        else:
            with pytest.raises(FetchFailed, match="one more than 3: configure the final URL"):
                await fetch(f"{server.url}/0", max_redirects=3)
    assert len(maze.asked) == 4


async def test_a_redirect_that_says_not_where_is_a_failed_fetch() -> None:
    answer = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"
    with HostileServer(answering(answer)) as server:
        with pytest.raises(FetchFailed, match=r"to no http\(s\) URL"):
            await fetch(server.url, max_redirects=3)
        assert server.connections == 1


async def test_304_is_an_answer_and_no_redirect() -> None:
    with HostileServer(answering(b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n')) as server:
        response = await fetch(server.url)
    assert (response.status, response.body) == (304, b"")


@rows("size", [999, 1000, 1001])
@rows("chunked", [False, True])
async def test_a_body_may_be_as_large_as_the_limit(size: int, chunked: bool) -> None:
    body = b"x" * size
    if chunked:
        answer = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
        )
    else:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body
    with HostileServer(answering(answer)) as server:
        if size <= 1000:
            assert (await fetch(server.url)).body == body
        else:
            with pytest.raises(FetchFailed, match="larger than 1000 bytes"):
                await fetch(server.url)


def endless(head: bytes, piece: bytes, pause: float = 0) -> tuple[Callable[[Any], None], list[int]]:
    """Return a behaviour that never stops sending, and a list whose item counts the bytes."""
    sent = [0]

    def behave(connection: Any) -> None:
        read_head(connection)
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            sent[0] += len(piece)
            time.sleep(pause)

    return behave, sent


async def test_an_endless_body_is_cut_off_at_the_limit_and_costs_no_memory() -> None:
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    behave, sent = endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk)
    await fetch_ok()  # what is imported and cached once is not this fetch's
    tracemalloc.start()
    with HostileServer(behave) as server:
        with pytest.raises(FetchFailed, match="larger than 262144 bytes"):
            await fetch(server.url, max_bytes=256 * 1024)
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 1024 * 1024
    assert sent[0] < 32 * 1024 * 1024  # sockets buffer a few


async def fetch_ok() -> None:
    with HostileServer(answering(OK)) as server:
        assert (await fetch(server.url)).status == 200


@rows("encoding", ["br", "zstd", "BR", "gzip, gzip", "gzip, br", "x" * 99])
async def test_an_encoding_that_is_not_known_is_refused_unread(encoding: str) -> None:
    behave, _ = endless(f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\n\r\n".encode(), b"x")
    with (
        HostileServer(behave) as server,
        pytest.raises(FetchFailed, match=r"compressed .* only gzip and deflate are read") as failed,
    ):
        await fetch(server.url)
    assert encoding.lower()[:40] in str(failed.value)


def deflated(data: bytes, window_bits: int) -> bytes:
    packer = zlib.compressobj(wbits=window_bits)
    return packer.compress(data) + packer.flush()


def compressed(encoding: str, packed: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(packed)}"
    return f"{head}\r\n\r\n".encode() + packed


DOCUMENT = b'{"keys": ' + b"[]" * 400 + b"}"
PACKED: dict[str, tuple[str, bytes]] = {
    "gzip": ("gzip", gzip.compress(DOCUMENT)),
    "capitals": ("GZIP", gzip.compress(DOCUMENT)),
    "its old name": ("x-gzip", gzip.compress(DOCUMENT)),
    "beside identity": ("gzip, identity", gzip.compress(DOCUMENT)),
    "two members": ("gzip", gzip.compress(DOCUMENT[:7]) + gzip.compress(DOCUMENT[7:])),
    "padding": ("gzip", gzip.compress(DOCUMENT) + b"\0" * 9),
    "deflate": ("deflate", zlib.compress(DOCUMENT)),
    "deflate without its header": ("deflate", deflated(DOCUMENT, -15)),
}


@pytest.mark.rule("RS-77")
@rows("case", PACKED)
async def test_a_compressed_body_is_read_although_identity_was_asked(case: str) -> None:
    """RFC 9110 §12.5.3."""
    with HostileServer(answering(compressed(*PACKED[case]))) as server:
        assert (await fetch(server.url)).body == DOCUMENT


@rows(
    ("encoding", "packed", "told"),
    [
        ("gzip", b"{}", "not gzip"),
        ("deflate", b"\x07{}", "not deflate"),
        ("gzip", gzip.compress(DOCUMENT)[:-9], "cut short"),
        ("gzip", gzip.compress(DOCUMENT) + b"{}", "not gzip"),
        ("gzip", gzip.compress(DOCUMENT)[:-5] + b"12345", "not gzip"),
        ("deflate", zlib.compress(DOCUMENT)[:9], "cut short"),
    ],
    ids=["plain", "plain as deflate", "short", "trailing data", "wrong checksum", "short deflate"],
)
async def test_a_body_that_is_not_compressed_as_it_says_is_a_failed_fetch(
    encoding: str, packed: bytes, told: str
) -> None:
    with (
        HostileServer(answering(compressed(encoding, packed))) as server,
        pytest.raises(FetchFailed, match=told),
    ):
        await fetch(server.url)


@rows("members", [63, 64, 50_000])
async def test_a_body_has_no_more_members_than_are_quickly_unpacked(members: int) -> None:
    """RFC 1952 §2.2. What is left is copied after each, which takes seconds for a body full of
    them.
    """
    body = gzip.compress(b"") * members + gzip.compress(DOCUMENT)
    with HostileServer(answering(compressed("gzip", body))) as server:
        if members < 64:
            assert (await fetch(server.url, max_bytes=2**20)).body == DOCUMENT
        else:
            with pytest.raises(FetchFailed, match="more than 64 members"):
                await fetch(server.url, max_bytes=2**20)


@rows("size", [999, 1000, 1001, 10_000_000])
@rows("encoding", ["gzip", "deflate"])
async def test_the_bound_holds_for_the_unpacked_body(encoding: str, size: int) -> None:
    packed = deflated(b" " * size, 31 if encoding == "gzip" else 15)
    with HostileServer(answering(compressed(encoding, packed))) as server:
        if size <= 1000:
            assert len((await fetch(server.url)).body) == size
        else:
            with pytest.raises(FetchFailed, match="larger than 1000 bytes"):
                await fetch(server.url)


async def test_a_byte_order_mark_is_passed_over() -> None:
    """RFC 8259 §8.1."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\xef\xbb\xbf{}"
    with HostileServer(answering(answer)) as server:
        assert (await fetch(server.url)).body == b"{}"


@pytest.mark.parametrize("encoding", ["identity", "IDENTITY"])
async def test_an_identity_encoding_is_none(encoding: str) -> None:
    answer = (
        f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    )
    with HostileServer(answering(answer)) as server:
        assert (await fetch(server.url)).body == b"{}"


SLOW: dict[str, tuple[bytes, bytes, float]] = {
    "no answer": (b"", b"", 0.01),
    "dripping headers": (b"HTTP/1.1 200 OK\r\n", b"x", 0.01),
    "hang after the headers": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"", 0.01),
    "dripping body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x", 0.01),
    "dripping chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n",
        0.01,
    ),
    "informational answers": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.0001),
}


def hang(connection: Any, head: bytes, server: HostileServer) -> None:
    read_head(connection)
    connection.sendall(head)
    server.stopping.wait()


@rows("case", SLOW)
async def test_one_deadline_bounds_the_whole_fetch(case: str) -> None:
    head, piece, pause = SLOW[case]
    await fetch_ok()
    behave, _ = endless(head, piece, pause)
    with HostileServer(
        behave if piece else lambda connection: hang(connection, head, server)
    ) as server:
        began = time.monotonic()
        with pytest.raises(FetchFailed, match=r"no complete answer within 0.3 s"):
            await fetch(server.url, timeout_seconds=DEADLINE, max_bytes=10**9)
        assert DEADLINE * 0.9 < time.monotonic() - began < PATIENCE


async def test_the_deadline_bounds_a_tls_handshake_that_stalls_and_leaves_no_socket_behind() -> (
    None
):
    hung_up = threading.Event()

    def stall(connection: Any) -> None:
        while connection.recv(4096):
            pass
        hung_up.set()

    with HostileServer(stall) as server:
        began = time.monotonic()
        with pytest.raises(FetchFailed, match="no complete answer"):
            await fetch(server.url.replace("http", "https"), timeout_seconds=DEADLINE)
        assert time.monotonic() - began < PATIENCE
        assert await asyncio.to_thread(hung_up.wait, 5)


async def test_other_work_goes_on_while_a_server_floods() -> None:
    behave, _ = endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
    ticks = 0
    with HostileServer(behave) as server:
        task = asyncio.create_task(fetch(server.url, timeout_seconds=2))
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        with pytest.raises(FetchFailed):
            await task
    assert ticks >= 5


BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a header that is none": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "a body cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
    "a chunk that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "huge headers": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
}


@rows("case", BROKEN)
async def test_a_broken_answer_is_a_failed_fetch(case: str) -> None:
    with (
        HostileServer(answering(BROKEN[case])) as server,
        pytest.raises(FetchFailed, match="Error"),
    ):
        await fetch(server.url)


async def test_a_server_that_is_not_there_is_a_failed_fetch() -> None:
    with HostileServer(answering(OK)) as server:
        url = server.url
    with pytest.raises(FetchFailed, match="ConnectError"):
        await fetch(url)


@pytest.mark.parametrize(
    "url", ["https://xn--/", "https://" + "a" * 64 + ".invalid/", "http://[::1"]
)
async def test_a_url_that_cannot_be_reached_is_a_failed_fetch(url: str) -> None:
    with pytest.raises(FetchFailed):
        await fetch(url)


async def test_a_server_without_tls_at_an_https_url_is_a_failed_fetch() -> None:
    answer = HostileServer(lambda connection: connection.sendall(OK))
    with answer as server, pytest.raises(FetchFailed, match="ConnectError"):
        await fetch(server.url.replace("http", "https"))


def self_signed(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    file = directory / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_an_untrusted_certificate_is_refused_unless_the_users_client_accepts_it(
    tmp_path: Path,
) -> None:
    context = self_signed(tmp_path)

    def behave(connection: Any) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            answering(OK)(secured)

    with HostileServer(behave) as server:
        url = server.url.replace("http", "https")
        with pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"):
            await fetch(url)
        trusting = ssl.create_default_context(cafile=tmp_path / "server.pem")
        async with httpx.AsyncClient(verify=trusting) as client:
            response = await HTTPFetcher(timeout_seconds=10, client=client).fetch(url, max_bytes=10)
            assert response.body == b"{}"


def keeping_alive(connection: Any) -> None:
    while True:
        read_head(connection)
        connection.sendall(OK)


@contextlib.asynccontextmanager
async def opened(fetcher: HTTPFetcher) -> AsyncIterator[HTTPFetcher]:
    await fetcher.open()
    try:
        yield fetcher
    finally:
        await fetcher.aclose()


async def test_between_open_and_close_connections_are_pooled_and_outside_they_are_not() -> None:
    fetcher = HTTPFetcher(timeout_seconds=10)
    with HostileServer(keeping_alive) as server:
        for expected in (1, 2):
            await fetcher.fetch(server.url, max_bytes=10)
            assert server.connections == expected
        async with opened(fetcher):
            await fetcher.open()  # twice is once
            for _ in range(3):
                await fetcher.fetch(server.url, max_bytes=10)
            assert server.connections == 3
        await fetcher.fetch(server.url, max_bytes=10)
        assert server.connections == 4
        await fetcher.aclose()  # twice is once


async def test_a_pool_is_not_used_on_another_event_loop() -> None:
    fetcher = HTTPFetcher(timeout_seconds=10)
    with HostileServer(keeping_alive) as server:
        async with opened(fetcher):
            await fetcher.fetch(server.url, max_bytes=10)

            def elsewhere() -> int:
                return asyncio.run(fetcher.fetch(server.url, max_bytes=10)).status

            assert await asyncio.to_thread(elsewhere) == 200
            assert server.connections == 2
            await fetcher.fetch(server.url, max_bytes=10)
            assert server.connections == 2


async def test_closing_on_another_event_loop_lets_go_of_the_pool() -> None:
    fetcher = HTTPFetcher(timeout_seconds=10)

    def elsewhere() -> None:
        asyncio.run(fetcher.open())

    await asyncio.to_thread(elsewhere)
    await fetcher.aclose()
    with HostileServer(keeping_alive) as server:
        async with opened(fetcher):
            for _ in range(2):
                await fetcher.fetch(server.url, max_bytes=10)
            assert server.connections == 1


async def test_a_users_client_is_used_and_never_closed() -> None:
    seen: list[bytes] = []

    def behave(connection: Any) -> None:
        while True:
            seen.append(read_head(connection))
            connection.sendall(OK)

    with HostileServer(behave) as server:
        async with httpx.AsyncClient(headers={"x-tenant": "mine"}, follow_redirects=True) as client:
            fetcher = HTTPFetcher(timeout_seconds=10, client=client)
            async with opened(fetcher):
                await fetcher.fetch(server.url, max_bytes=10)
            assert not client.is_closed
            await fetcher.fetch(server.url, max_bytes=10)
            assert server.connections == 1
    assert [b"x-tenant: mine" in head for head in seen] == [True, True]


async def test_a_users_client_that_follows_redirects_does_not_do_so_here() -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"
    async with httpx.AsyncClient(follow_redirects=True) as client:
        with (
            HostileServer(answering(answer)) as server,
            pytest.raises(FetchFailed, match="is a redirect"),
        ):
            await HTTPFetcher(timeout_seconds=10, client=client).fetch(server.url, max_bytes=10)


async def test_a_users_client_that_is_closed_is_a_failed_fetch() -> None:
    client = httpx.AsyncClient()
    await client.aclose()
    with pytest.raises(FetchFailed, match="closed"):
        await HTTPFetcher(timeout_seconds=10, client=client).fetch(
            "http://127.0.0.1:9", max_bytes=10
        )


async def test_a_synchronous_client_is_refused_at_construction() -> None:
    with (
        httpx.Client() as client,
        pytest.raises(ConfigurationError, match=r"http_client.*AsyncClient"),
    ):
        HTTPFetcher(timeout_seconds=10, client=client)  # type: ignore[arg-type]


async def test_a_cancelled_fetch_hangs_up() -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def behave(connection: Any) -> None:
        read_head(connection)
        loop.call_soon_threadsafe(asked.set)
        assert connection.recv(1) == b""
        loop.call_soon_threadsafe(hung_up.set)

    with HostileServer(behave) as server:
        async with opened(HTTPFetcher(timeout_seconds=30)) as fetcher:
            task = asyncio.create_task(fetcher.fetch(server.url, max_bytes=10))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(5):
                await hung_up.wait()


async def test_the_proxy_that_the_environment_names_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where an operator has to go through a proxy, the URLs that the operator configured do,
    too.
    """
    seen: list[bytes] = []

    def behave(connection: Any) -> None:
        seen.append(read_head(connection))
        connection.sendall(OK)

    with HostileServer(behave) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert (await fetch("http://idp.invalid/jwks")).body == b"{}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert (await fetch(f"{proxy.url}/direct")).body == b"{}"
    assert [line.split(b"\r\n")[0] for line in seen] == [
        b"GET http://idp.invalid/jwks HTTP/1.1",
        b"GET /direct HTTP/1.1",
    ]
