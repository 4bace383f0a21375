"""Bounded HTTP fetches: one deadline, bounded bytes. The only importer of httpx.

One class is for URLs that the operator configured, the other for URLs from strangers.
"""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async

from ._encodings import CODINGS
from ._environment import check_environment, variable_name
from ._exchange import (
    ErrorAnswer,
    FetchFailed,
    Request,
    Response,
    Unreachable,
    Unusable,
    exchange,
)
from ._places import Place, Places
from ._urls import is_loopback_host, is_public_address
from .errors import ConfigurationError

if TYPE_CHECKING:
    import httpx

MAX_FETCHES = 32
MAX_FETCHES_EACH = 4  # for one network
OPERATOR_THREADS = 8  # not available to strangers
USUAL_SECONDS = 1.0
MAX_REDIRECTS = 3  # of a document
MAX_TOLD_CHARS = 300
_NEVER_BY_PROXY = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

__all__ = [
    "ErrorAnswer",
    "FetchFailed",
    "HTTPFetcher",
    "PublicFetcher",
    "Response",
    "Unreachable",
    "Unusable",
    "cache_seconds",
    "resolve",
]


def cache_seconds(
    headers: Mapping[str, str], *, usual: float, minimum: float, maximum: float
) -> float:
    """Return how long a response may be cached (RFC 9111).

    Args:
        headers: of the response.
        usual: lifetime of a response without cache directives.
        minimum: lower bound of any other lifetime.
        maximum: its upper bound.
    """
    cache_control = headers.get("cache-control", "")
    max_age = re.search(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,10})\b", cache_control, re.IGNORECASE)
    if max_age is None and not re.search(r"\bno-(?:store|cache)\b", cache_control, re.IGNORECASE):
        return usual
    return min(max(int(max_age[1]) if max_age else 0, minimum), maximum)


class HTTPFetcher:
    """Fetches small documents from URLs that the operator configured.

    Between ``open`` and ``aclose``, connections are pooled on each event loop that called ``open``.
    Elsewhere, every fetch has a client of its own, because a pooled connection dies with its loop.

    Args:
        timeout_seconds: for a whole fetch; httpx's timeouts are per operation, so that a slow drip
            never ends.
        client: a client of the user's, which is never closed.

    Raises:
        ConfigurationError: the client is not asynchronous.
    """

    def __init__(self, *, timeout_seconds: float, client: httpx.AsyncClient | None = None) -> None:
        if client is not None and not hasattr(client, "aclose"):
            raise ConfigurationError(f"http_client={client!r} must be an httpx.AsyncClient")
        self.timeout_seconds = timeout_seconds
        self._given = client
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            WeakKeyDictionary()
        )

    async def open(self) -> None:
        """Open a connection pool on the running event loop.

        Raises:
            ConfigurationError: a variable of the environment cannot be used.
        """
        if self._given is None and asyncio.get_running_loop() not in self._pools:
            self._pools[asyncio.get_running_loop()] = await _new_client()

    async def aclose(self) -> None:
        """Close the pool of the running event loop."""
        pooled = self._pools.pop(asyncio.get_running_loop(), None)
        if pooled is not None:
            await pooled.aclose()

    async def fetch(
        self,
        url: str,
        *,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        max_redirects: int = 0,
        setting: str = "",
    ) -> Response:
        """GET ``url``, or POST ``form`` to it.

        A compressed body is unpacked, and a byte order mark is removed (RFC 8259 §8.1).

        Args:
            url: the URL.
            max_bytes: the maximum length of the body, packed and unpacked.
            headers: of the request.
            form: what to post.
            max_redirects: how many redirects within the origin of ``url`` to follow.
            setting: where the operator can write another URL, for messages.

        Raises:
            Unreachable: no complete response in time.
            FetchFailed: another redirect, or a body that is too large or cannot be unpacked.
        """
        asked = Request(url, max_bytes, headers, form, max_redirects, setting, CODINGS)
        try:
            return await self._exchange(asked)
        except ConfigurationError as error:  # it stops the start where there is a lifespan
            raise Unreachable(str(error)) from None

    async def _exchange(self, asked: Request) -> Response:
        if self._given is None:
            await _load()
        import httpx

        try:
            async with asyncio.timeout(self.timeout_seconds):
                client = self._given or self._pools.get(asyncio.get_running_loop())
                if client is not None:
                    response = await exchange(client, asked)
                else:
                    async with await _new_client() as client:
                        response = await exchange(client, asked)
        except TimeoutError:
            raise Unreachable(f"no complete answer within {self.timeout_seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, RuntimeError) as error:
            # UnicodeError: an invalid international host name. RuntimeError: the user's client is
            # closed, or bound to another event loop.
            raise Unreachable(_told(error)) from error
        return response._replace(body=response.body.removeprefix(_BYTE_ORDER_MARK))


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, the preferred one first.

    Raises:
        OSError: the host has none.
        UnicodeError: the host name is invalid.
    """
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class PublicFetcher:
    """Fetches small documents from https URLs of strangers, only from the public internet.

    Against server-side request forgery, the host is resolved once, all its addresses must be
    public, and the connection goes to an address that was checked. Proxy settings and certificate
    files of the environment are ignored. Behind ``proxy``, it is the proxy that resolves the host,
    and that must not connect to private addresses.

    Args:
        timeout_seconds: for a whole fetch, including name resolution, and for the wait before it.
        allow_loopback: whether to allow this machine as well, for development.
        max_fetches: how many fetches strangers may cause at the same time.
        max_fetches_each: how many of them one network may cause.
        ca_file: a PEM file of certificate authorities to trust instead of the public ones.
        proxy: the URL of an HTTP proxy to connect through.
        resolve: resolves a host name.

    Raises:
        ConfigurationError: ``ca_file`` cannot be read.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float,
        allow_loopback: bool = False,
        ca_file: str | None = None,
        max_fetches: int = MAX_FETCHES,
        max_fetches_each: int = MAX_FETCHES_EACH,
        proxy: str | None = None,
        resolve: Callable[[str, int], Sequence[str]] = resolve,
    ) -> None:
        self._places = Places(
            max_fetches,
            each=max_fetches_each,
            wait_seconds=timeout_seconds,
            usual_seconds=USUAL_SECONDS,
        )
        self._timeout_seconds = timeout_seconds
        self._allow_loopback = allow_loopback
        self._ca_file = ca_file
        self._proxy = proxy
        self._resolve = resolve
        # Threads of its own: a name server that never answers blocks one for half a minute, which
        # cannot be interrupted.
        self._resolvers = ThreadPoolExecutor(max_fetches + OPERATOR_THREADS, "resolver")
        if ca_file is not None:
            try:
                ssl.create_default_context(cafile=ca_file)
            except OSError as error:  # SSLError is one
                raise ConfigurationError(
                    f"the CA file {ca_file!r} cannot be read: {error}"
                ) from None

    async def enter(self, network: str) -> Place:
        """Wait for a place for a stranger's fetch and return it; ``fetch`` releases it.

        Raises:
            TooManyRequests: the network has used up its share.
            ServerUnavailable: no place becomes free in time.
        """
        return await self._places.enter(network)

    async def open(self) -> None:
        """Do nothing: connections are not pooled, because each address is checked for its fetch."""

    async def aclose(self) -> None:
        """Do nothing."""

    async def fetch(self, url: str, *, max_bytes: int, place: Place | None = None) -> Response:
        """GET ``url``.

        Args:
            url: the URL.
            max_bytes: the maximum length of the body.
            place: released when the fetch and its name resolution have ended; ``None`` for a fetch
                of the operator.

        Raises:
            Unreachable: no complete response in time.
            FetchFailed: the URL is not https, an address of its host is not public, or as for
                ``HTTPFetcher``.
        """
        resolving: list[Future[Sequence[str]]] = []
        try:
            return await self._fetch(url, max_bytes, resolving)
        finally:
            if place is not None:
                for each in resolving:
                    each.add_done_callback(place.leave)  # runs at once if it has ended
                if not resolving:
                    place.leave()

    async def _fetch(
        self, url: str, max_bytes: int, resolving: list[Future[Sequence[str]]]
    ) -> Response:
        context = await sync_to_async(_ssl_context, thread_sensitive=False)(
            # A proxy may have a certificate authority of its own (SSL_CERT_FILE).
            self._ca_file,
            trust_env=self._proxy is not None,
        )
        import httpx

        try:
            async with asyncio.timeout(self._timeout_seconds):
                parts = urlsplit(url)
                host = parts.hostname or ""
                port = parts.port or 443
                if parts.scheme != "https" or not host:
                    raise FetchFailed("it is not an https URL")
                addresses: list[str] = []
                if self._proxy is None:
                    resolving.append(self._resolvers.submit(self._resolve, host, port))
                    addresses = self._checked(await asyncio.wrap_future(resolving[0]))
                async with httpx.AsyncClient(
                    verify=context,
                    timeout=None,  # noqa: S113  # bounded above
                    trust_env=False,
                    proxy=self._proxy,
                ) as client:
                    if self._proxy is not None:
                        return await exchange(client, Request(url, max_bytes))
                    while True:
                        address = addresses.pop(0)
                        place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
                        target = parts._replace(netloc=place).geturl()
                        try:
                            return await exchange(
                                client,
                                Request(target, max_bytes, {"host": parts.netloc}),
                                sni_hostname=host,
                            )
                        except httpx.ConnectError:
                            if not addresses:
                                raise
        except TimeoutError:
            raise Unreachable(f"no complete answer within {self._timeout_seconds:g} s") from None
        except (httpx.TransportError, OSError) as error:
            raise Unreachable(_told(error)) from error
        except (httpx.InvalidURL, ValueError) as error:
            # ValueError: a port out of range, or an invalid international host name.
            raise FetchFailed(_told(error)) from error

    def _checked(self, addresses: Sequence[str]) -> list[str]:
        for address in addresses:
            if not is_public_address(address) and not (
                self._allow_loopback and is_loopback_host(address)
            ):
                raise FetchFailed("its host has an address that is not public")
        return [*addresses]


def _told(error: BaseException) -> str:
    """Return an error for messages: it may quote a header of any length."""
    return f"{type(error).__name__}: {error}"[:MAX_TOLD_CHARS]


async def _new_client() -> httpx.AsyncClient:
    context = await _load()
    import httpx

    try:
        return httpx.AsyncClient(
            verify=context,
            timeout=None,  # noqa: S113  # bounded in fetch()
            mounts=dict.fromkeys(_NEVER_BY_PROXY),
        )
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigurationError(
            f"the environment variable {variable_name('no')} cannot be used ({error}): write hosts,"
            " separated by commas"
        ) from None


async def _load() -> ssl.SSLContext:
    # Importing httpx and loading the CA bundle take a third of a second, too long for the event
    # loop.
    return await sync_to_async(_checked_ssl_context, thread_sensitive=False)()


def _checked_ssl_context() -> ssl.SSLContext:
    check_environment()
    return _ssl_context()


@functools.cache
def _ssl_context(ca_file: str | None = None, *, trust_env: bool = True) -> ssl.SSLContext:
    import anyio
    import httpx

    # Load anyio's asyncio backend, which httpx would otherwise do during the first request. In a
    # new context, because the caller's may claim that an event loop runs in this thread.
    Context().run(anyio.run, anyio.sleep, 0)
    if ca_file is not None:
        return ssl.create_default_context(cafile=ca_file)
    return httpx.create_ssl_context(trust_env=trust_env)
