"""Fetches caused by strangers connect to public addresses only."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from asgi_mcp_auth import ConfigurationError
from asgi_mcp_auth._http import FetchFailed, PublicFetcher, Response, Unreachable, resolve
from asgi_mcp_auth._urls import is_public_address, is_public_web_url
from tests.support.rows import rows
from tests.support.tls import Authority, DocumentHost, endless, hang

pytestmark = pytest.mark.rule("AS-63")

DEADLINE, PATIENCE = 0.3, 5.0


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


async def fetch(
    url: str,
    authority: Authority | None = None,
    *,
    addresses: Sequence[str] | None = None,
    **settings: Any,
) -> Response:
    """Fetch as a server in development does; ``addresses`` stand for what the name server says."""
    max_bytes = settings.pop("max_bytes", 5 * 1024)
    if addresses is not None:
        settings["resolve"] = lambda host, port: list(addresses)
    usual = {
        "timeout_seconds": 10,
        "allow_loopback": True,
        "ca_file": None if authority is None else authority.ca_file,
    }
    return await PublicFetcher(**{**usual, **settings}).fetch(url, max_bytes=max_bytes)


PRIVATE = {
    # IPv4
    "0.0.0.0": "this network",
    "0.1.2.3": "this network",
    "10.0.0.1": "private",
    "10.255.255.255": "private",
    "100.64.0.1": "carrier-grade NAT",
    "100.127.255.255": "carrier-grade NAT",
    "100.100.100.200": "metadata of a cloud",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "metadata of a cloud",
    "169.254.0.1": "link-local",
    "169.254.169.254": "metadata of a cloud",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.1": "protocol assignments",
    "192.0.0.8": "protocol assignments",
    "192.0.0.170": "protocol assignments",
    "192.0.2.1": "TEST-NET-1",
    "192.88.99.1": "6to4 relay",
    "192.168.0.1": "private",
    "198.18.0.1": "benchmarking",
    "198.19.255.255": "benchmarking",
    "198.51.100.1": "TEST-NET-2",
    "203.0.113.1": "TEST-NET-3",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    # IPv6
    "::": "unspecified",
    "::1": "loopback",
    "::7f00:1": "IPv4-compatible loopback",
    "::a00:1": "IPv4-compatible private",
    "::ffff:127.0.0.1": "IPv4-mapped loopback",
    "::ffff:10.0.0.1": "IPv4-mapped private",
    "::ffff:8.8.8.8": "IPv4-mapped, in disguise all the same",
    "::ffff:0:127.0.0.1": "IPv4-translated",
    "64:ff9b::7f00:1": "NAT64 of loopback",
    "64:ff9b::808:808": "NAT64",
    "64:ff9b:1::1": "local NAT64",
    "100::1": "discard",
    "2001::1": "Teredo",
    "2001:0:7f00:1::": "Teredo",
    "2001:10::1": "ORCHID",
    "2001:20::1": "ORCHIDv2",
    "2001:db8::1": "documentation",
    "2002:7f00:1::": "6to4 of loopback",
    "2002:a00:1::1": "6to4 of a private address",
    "3fff::1": "documentation",
    "4000::1": "not assigned",
    "5f00::1": "segment routing",
    "fc00::1": "unique local",
    "fd00:ec2::254": "metadata of a cloud",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local with a zone",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
    # no addresses
    "": "nothing",
    "localhost": "a name",
    "127.1": "half an address",
    "0x7f000001": "a number",
    "2130706433": "a number",
    "1.1.1.1.": "a dot too many",
}
PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.15.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "2606:4700::1111",
    "2a00::1",
)


@pytest.mark.case("Z102")
@rows("address", PRIVATE)
def test_an_address_that_is_not_of_the_public_internet(address: str) -> None:
    assert not is_public_address(address)


@rows("address", PUBLIC)
def test_an_address_of_the_public_internet(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.case("Z101")
@rows(
    "url",
    [
        "https://127.0.0.1/x",
        "https://127.0.0.1./x",
        "https://127.1/x",
        "https://127.0.1/x",
        "https://0x7f000001/x",
        "https://0x7f.0.0.1/x",
        "https://0177.0.0.1/x",
        "https://2130706433/x",
        "https://0/x",
        "https://0.0.0.0/x",
        "https://10.1/x",
        "https://8.8.8.8.0x8/x",
        "https://[::1]/x",
        "https://[::]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://[::ffff:8.8.8.8]/x",
        "https://[fe80::1%25eth0]/x",
        "https://localhost/x",
        "https://localhost./x",
        "https://LOCALHOST/x",
        "https://app.localhost/x",
        "https://app.localhost./x",
        "https://user@example.com/x",
        "https://example.com:99999/x",
        "https:///x",
        "https://",
        "ftp://example.com/x",
        "//example.com/x",
        "https://exämple.com/x",
        "https://example.com/\n",
        "https://127。0。0。1/x",  # full stops of another kind, which some parsers take
        5,
        None,
    ],
    ids=repr,
)
def test_a_url_that_needs_no_name_server_to_be_refused(url: Any) -> None:
    assert not is_public_web_url(url)


@rows(
    "url",
    [
        "https://example.com",
        "http://example.com:8080/a?b=c",
        "https://1.1.1.1/x",
        "https://[2606:4700::1111]:8443/x",
        "https://1.example.com/x",
        "https://example.com.:443/x",
        "https://0x7f.example.com/x",
        "https://intranet/x",
    ],
)
def test_a_url_whose_host_may_be_public(url: str) -> None:
    assert is_public_web_url(url)


@pytest.mark.case("Z102")
@pytest.mark.asyncio
@pytest.mark.parametrize("address", [each for each in PRIVATE if "." in each or ":" in each])
async def test_no_packet_goes_to_a_host_whose_address_is_not_public(
    address: str, authority: Authority
) -> None:
    with DocumentHost(authority) as host:
        with pytest.raises(FetchFailed, match="its host has an address that is not public"):
            await fetch(
                host.url(host="app.example.com"),
                authority,
                addresses=[address],
                allow_loopback=False,
            )
        assert host.connections == 0


@pytest.mark.case("Z103")
@pytest.mark.asyncio
@pytest.mark.parametrize(
    "addresses",
    [
        ["93.184.216.34", "127.0.0.1"],
        ["127.0.0.1", "93.184.216.34"],
        ["2606:4700::1111", "::ffff:127.0.0.1"],
    ],
    ids=str,
)
async def test_one_address_that_is_not_public_is_enough(
    addresses: list[str], authority: Authority
) -> None:
    with DocumentHost(authority) as host:
        with pytest.raises(FetchFailed, match="not public"):
            await fetch(
                host.url(host="app.example.com"),
                authority,
                addresses=addresses,
                allow_loopback=False,
            )
        assert host.connections == 0


@pytest.mark.asyncio
async def test_in_development_loopback_is_fine_and_other_private_addresses_are_not(
    authority: Authority,
) -> None:
    with DocumentHost(authority) as host:
        host.serve("/client.json", {})
        assert (await fetch(host.url(), authority)).status == 200
        for addresses in (["10.0.0.1"], ["127.0.0.1", "169.254.169.254"]):
            with pytest.raises(FetchFailed, match="not public"):
                await fetch(host.url(host="app.example.com"), authority, addresses=addresses)
        assert host.connections == 1


@pytest.mark.case("Z103")
@pytest.mark.asyncio
async def test_the_name_is_resolved_once_and_the_connection_goes_where_it_led(
    authority: Authority,
) -> None:
    """DNS rebinding: the second answer, which a library that resolves again would take, is never
    asked for.
    """
    answers = [["127.0.0.2"], ["127.0.0.3"]]
    asked: list[tuple[str, int]] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return answers[len(asked) - 1]

    with (
        DocumentHost(authority, address="127.0.0.2") as checked,
        DocumentHost(authority, address="127.0.0.3", port=checked.port) as other,
    ):
        checked.serve("/client.json?a=b", {})
        other.serve("/client.json?a=b", {})
        url = checked.url("/client.json?a=b", host="app.example.com")
        assert (await fetch(url, authority, resolve=rebinding)).body == b"{}"
        assert asked == [("app.example.com", checked.port)]
        assert (checked.connections, other.connections) == (1, 0)


@pytest.mark.case("Z103")
@pytest.mark.asyncio
async def test_the_host_hears_its_own_name_and_has_to_prove_it(authority: Authority) -> None:
    """The URL has the address in it by then; TLS and Host have the name."""
    with DocumentHost(authority, address="127.0.0.4") as host:
        host.serve("/client.json", {})
        url = host.url(host="app.example.com")
        await fetch(url, authority, addresses=["127.0.0.4"])
        (seen,) = host.seen
        assert seen.server_name == "app.example.com"
        assert seen.head.startswith(b"get /client.json http/1.1\r\n")
        assert f"\r\nhost: app.example.com:{host.port}\r\n".encode() in seen.head
        assert b"\r\naccept: application/json\r\n" in seen.head
        assert b"\r\naccept-encoding: identity\r\n" in seen.head
        assert b"cookie" not in seen.head
        assert b"authorization" not in seen.head
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await fetch(host.url(host="other.example.com"), authority, addresses=["127.0.0.4"])


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_an_address_in_the_url_is_its_own_name(host: str, authority: Authority) -> None:
    if host == "[::1]" and not has_ipv6():
        pytest.skip("needs IPv6 on the loopback interface")
    with DocumentHost(authority, address=host.strip("[]")) as listening:
        listening.serve("/client.json", {})
        assert (await fetch(listening.url(host=host), authority)).body == b"{}"


@pytest.mark.asyncio
async def test_an_address_that_does_not_answer_is_followed_by_the_next_one(
    authority: Authority,
) -> None:
    with DocumentHost(authority, address="127.0.0.6") as host:
        host.serve("/client.json", {})
        url = host.url(host="app.example.com")
        assert (
            await fetch(url, authority, addresses=["::1", "127.0.0.5", "127.0.0.6"])
        ).body == b"{}"
        with pytest.raises(Unreachable, match="ConnectError"):
            await fetch(url, authority, addresses=["::1", "127.0.0.5"])


CERTIFICATES: dict[str, dict[str, Any]] = {
    "self-signed": {"self_signed": True},
    "expired": {"expired": True},
    "of another host": {"names": ("other.example.com",)},
    "of another address": {"names": ("127.0.0.9",)},
    "of a wildcard that is too wide": {"names": ("*",)},
}


@pytest.mark.case("Z114")
@pytest.mark.asyncio
@pytest.mark.parametrize("case", CERTIFICATES)
async def test_a_certificate_that_proves_nothing_is_refused(
    case: str, authority: Authority
) -> None:
    with DocumentHost(authority, context=authority.context(**CERTIFICATES[case])) as host:
        host.serve("/client.json", {})
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await fetch(host.url(), authority)
        assert host.requests == []


@pytest.mark.case("Z114", "K24")
@pytest.mark.asyncio
async def test_the_environment_has_no_say(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its proxies nor its certificate authorities count for what a stranger named."""
    with DocumentHost(authority) as proxy, DocumentHost(authority) as host:
        host.serve("/client.json", {})
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{proxy.port}")
        assert (await fetch(host.url(), authority)).body == b"{}"
        monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
        monkeypatch.setenv("SSL_CERT_DIR", str(Path(authority.ca_file).parent))
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await fetch(host.url())
        assert proxy.connections == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "url", ["https://localhost:99999/x", "https://[::1/x", "https://" + "a" * 64 + ".invalid/x"]
)
async def test_a_url_that_is_none_is_a_failed_fetch(url: str) -> None:
    with pytest.raises(FetchFailed):
        await fetch(url)


@pytest.mark.asyncio
async def test_a_name_without_an_address_is_unreachable() -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    with pytest.raises(Unreachable, match="not known"):
        await fetch("https://app.example.com/x", resolve=unknown)


def test_the_usual_way_to_addresses_is_that_of_the_system() -> None:
    assert set(resolve("localhost", 443)) <= {"127.0.0.1", "::1"}
    assert resolve("127.0.0.1", 443) == ["127.0.0.1"]


@pytest.mark.case("Z104")
@pytest.mark.asyncio
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int, authority: Authority) -> None:
    with DocumentHost(authority) as other, DocumentHost(authority) as host:
        for location in (
            "/client.json",
            other.url(),
            f"http://127.0.0.1:{other.port}/",
            "https://169.254.169.254/",
        ):
            host.serve("/client.json", b"", status=status, location=location)
            with pytest.raises(FetchFailed, match=f"HTTP {status} is a redirect"):
                await fetch(host.url(), authority)
        assert (len(host.requests), other.connections) == (4, 0)


@pytest.mark.case("Z105")
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("size", "fine"), [(5 * 1024, True), (5 * 1024 + 1, False), (10**6, False)]
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_has_at_most_so_many_bytes(
    size: int, fine: bool, chunked: bool, authority: Authority
) -> None:
    body = b"x" * size
    with DocumentHost(authority) as host:
        if chunked:
            framed = b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
            host.serve("/client.json", framed, content_length="", transfer_encoding="chunked")
        else:
            host.serve("/client.json", body)
        if fine:
            assert (await fetch(host.url(), authority)).body == body
        else:
            with pytest.raises(FetchFailed, match="larger than 5120 bytes"):
                await fetch(host.url(), authority)


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "chunks without end": endless(CHUNKED, b"1000\r\n" + b"x" * 0x1000 + b"\r\n"),
    "a body without an end": endless(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b"x" * 0x1000
    ),
    "a length that is a lie": endless(
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"x" * 0x1000
    ),
    "compressed": endless(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", b"\x1f\x8b\x08" + b"\0" * 0x1000
    ),
    "headers without end": endless(b"HTTP/1.1 200 OK\r\n", b"x: " + b"y" * 0x1000 + b"\r\n"),
}


@pytest.mark.case("Z105")
@pytest.mark.asyncio
@pytest.mark.parametrize("case", FLOODS)
async def test_a_flood_is_cut_off_and_costs_no_memory(case: str, authority: Authority) -> None:
    with DocumentHost(authority) as host:
        host.serve("/warm", {})
        await fetch(host.url("/warm"), authority)
        host.behave("/client.json", FLOODS[case])
        fetcher = PublicFetcher(timeout_seconds=10, allow_loopback=True, ca_file=authority.ca_file)
        tracemalloc.start()
        try:
            response = await fetcher.fetch(host.url(), max_bytes=5 * 1024)
        except FetchFailed:
            pass
        else:
            assert (case, response.body) == ("a length that is a lie", b"x" * 10)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # TLS, the HTTP library and the other end included, which sends as fast as it can
        assert peak < 2 * 2**20


SLOW = {
    "no answer": hang(),
    "headers, drop by drop": endless(b"HTTP/1.1 200 OK\r\n", b"x", 0.01),
    "a body, drop by drop": endless(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"x", 0.01),
    "chunks, drop by drop": endless(CHUNKED, b"1\r\nx\r\n", 0.01),
    "nothing after the headers": hang(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    "informational answers": endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.001),
}


@pytest.mark.case("Z106")
@pytest.mark.asyncio
@pytest.mark.parametrize(
    "case", [*SLOW, "a stalled handshake", "a name server that does not answer"]
)
async def test_one_deadline_bounds_everything(case: str, authority: Authority) -> None:
    released = threading.Event()

    def never(host: str, port: int) -> list[str]:
        released.wait(10)
        return ["127.0.0.1"]

    with DocumentHost(authority, stall=case == "a stalled handshake") as host:
        host.behave("/client.json", SLOW.get(case, hang()))
        settings = {"resolve": never} if case == "a name server that does not answer" else {}
        began = time.monotonic()
        with pytest.raises(Unreachable, match=r"no complete answer within 0\.3 s"):
            await fetch(host.url(), authority, timeout_seconds=DEADLINE, **settings)
        assert DEADLINE * 0.9 < time.monotonic() - began < PATIENCE
        released.set()


@pytest.mark.asyncio
async def test_name_servers_that_do_not_answer_hold_no_thread_of_the_event_loop(
    authority: Authority,
) -> None:
    """It has a handful of threads, for everything that the application does in threads."""
    released = threading.Event()

    def never(host: str, port: int) -> list[str]:
        released.wait(10)
        return []

    fetcher = PublicFetcher(timeout_seconds=10, max_fetches=8, resolve=never)
    fetches = [
        asyncio.create_task(fetcher.fetch(f"https://{n}.example/x", max_bytes=10)) for n in range(8)
    ]
    await asyncio.sleep(0.05)
    for _ in range(20):
        async with asyncio.timeout(PATIENCE):
            await asyncio.to_thread(time.monotonic)
    for each in fetches:
        each.cancel()
    await asyncio.wait(fetches)
    released.set()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"]
)
async def test_a_ca_file_that_cannot_be_read_is_found_at_construction(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^the CA file .*ca\.pem.* cannot be read"):
        PublicFetcher(timeout_seconds=1, ca_file=str(path))
