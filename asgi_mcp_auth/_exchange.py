"""One HTTP request and its response, within bounds."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from urllib.parse import urljoin, urlsplit

from ._encodings import parse_content_encoding, unpack
from ._urls import ORIGIN, URL_CHARACTERS, origin_of

if TYPE_CHECKING:
    import httpx


MAX_ORIGIN_CHARS = 300  # a host has 253 at most (RFC 1035 §2.3.4)


class FetchFailed(Exception):
    """There was no usable response; the message gives the reason. It never leaves the package."""

    #: Whether there was no response at all.
    is_silence: ClassVar[bool] = False


class Unreachable(FetchFailed):
    """The server is not responding, or not in time, so the content is unknown."""

    is_silence = True


class ErrorAnswer(Unreachable):
    """The server answers with an error of its own, such as HTTP 500, so the content is unknown."""

    is_silence = False


class Unusable(FetchFailed):
    """The server says itself that there is no such document, or serves one that cannot be used."""


class Response(NamedTuple):
    """A complete response. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Response({self.status})"


class Request(NamedTuple):
    """What to ask for, and what to bear; as for ``HTTPFetcher.fetch``."""

    url: str
    max_bytes: int
    headers: Mapping[str, str] | None = None
    form: Mapping[str, str] | None = None
    max_redirects: int = 0
    setting: str = ""
    codings: Collection[str] = ()

    def __repr__(self) -> str:
        return f"Request({self.url!r})"


async def exchange(
    client: httpx.AsyncClient, asked: Request, *, sni_hostname: str | None = None
) -> Response:
    """Send a request, follow the redirects that may be followed, and return the response.

    Args:
        client: sends it.
        asked: the request.
        sni_hostname: the name in the certificate, if the URL has an address.

    Raises:
        FetchFailed: another redirect, or a body that is too large or cannot be unpacked.
        httpx.HTTPError: no response.
    """
    url = asked.url
    for followed in range(asked.max_redirects + 1):
        response = await _send(client, url, asked, sni_hostname)
        try:
            if not response.is_redirect or response.status_code == 304:
                return await _read(response, asked)
            url = _redirect_target(response, asked, followed)
        finally:
            await response.aclose()
    raise AssertionError  # _redirect_target has raised


async def _send(
    client: httpx.AsyncClient, url: str, asked: Request, sni_hostname: str | None
) -> httpx.Response:
    sent = {"accept": "application/json", "accept-encoding": "identity", **(asked.headers or {})}
    handshakes: list[Any] = []

    async def trace(event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            handshakes.append(info["return_value"])
        elif event == "connection.start_tls.complete":
            handshakes.clear()

    method = "GET" if asked.form is None else "POST"
    extensions: dict[str, Any] = {"trace": trace}
    if sni_hostname is not None:
        # The name in the certificate, because the URL has an address.
        extensions["sni_hostname"] = sni_hostname
    request = client.build_request(
        method, url, headers=sent, data=asked.form, extensions=extensions
    )
    try:
        return await client.send(request, stream=True, follow_redirects=False)
    except asyncio.CancelledError:
        # httpcore does not close a connection whose TLS handshake is cancelled: an issuer that
        # stalls would use up our sockets, one for each attempt.
        for stream in handshakes:
            await stream.aclose()
        raise


async def _read(response: httpx.Response, asked: Request) -> Response:
    coding = parse_content_encoding(response.headers.get("content-encoding", ""))
    if coding and coding not in asked.codings:
        raise FetchFailed(
            f"the body is compressed ({coding[:40]!r}), although identity was requested"
            + (": only gzip and deflate are read" if asked.codings else "")
        )
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > asked.max_bytes:
            break
    content = bytes(body)
    if coding and len(content) <= asked.max_bytes:
        try:
            content = unpack(content, coding, max_bytes=asked.max_bytes)
        except zlib.error as error:
            raise FetchFailed(str(error)) from None
    if len(content) > asked.max_bytes:
        raise FetchFailed(f"the body is larger than {asked.max_bytes} bytes")
    return Response(response.status_code, dict(response.headers), content)


def _redirect_target(response: httpx.Response, asked: Request, followed: int) -> str:
    """Return where a redirect leads, within the origin.

    Raises:
        FetchFailed: it leads elsewhere, there were too many, or none is followed here.
    """
    kind = f"HTTP {response.status_code} is a redirect"
    remedy = f"set {asked.setting} to" if asked.setting else "configure"
    target: str = urljoin(str(response.request.url), response.headers.get("location", ""))
    try:
        origin = origin_of(target)
    except ValueError:  # an invalid port or IPv6 address
        origin = ""
    has_host = len(origin) <= MAX_ORIGIN_CHARS and ORIGIN.fullmatch(origin)
    if "location" not in response.headers or not has_host or origin.endswith("://"):
        raise FetchFailed(f"{kind}, but to no http(s) URL: {remedy} the final URL")
    is_plain = URL_CHARACTERS.fullmatch(target) and "@" not in urlsplit(target).netloc
    if not asked.max_redirects or origin != origin_of(asked.url) or not is_plain:
        why = "which is not followed"
    elif followed == asked.max_redirects:
        why = f"which is one more than {followed}"
    else:
        return target
    raise FetchFailed(f"{kind} to {origin}, {why}: {remedy} the final URL")
