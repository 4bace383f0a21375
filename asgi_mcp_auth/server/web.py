"""The requests that endpoints get and the responses that they return.

A request is read within bounds; a response is a value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple
from urllib.parse import urlencode

from .._asgi import HeaderList, read_body
from .._json import decode_form, parse_json_object
from .._places import network_of
from ..errors import BodyTooLarge, InvalidClientMetadata, MalformedRequest
from ..metadata import format_document
from ..types import JSONObject, Receive, Scope

MAX_FORM_BYTES = 16 * 1024  # as much as a query
MAX_DOCUMENT_BYTES = 8 * 1024  # anyone can have a registration kept for a day
MAX_QUERY_BYTES = 16 * 1024
MAX_PARAMETERS = 64
BODY_SECONDS = 10.0

_FORM = b"application/x-www-form-urlencoded"
_JSON = b"application/json"

REPEATABLE = frozenset(("resource",))

# Marks, in ``EndpointRequest.source``, requests that pages of other sites made a network's browsers
# send.
BY_PAGES: Final = " by web pages"


class Parameters:
    """The parameters of a query or a form. One without a value counts as absent (RFC 6749 §3.1).

    Args:
        pairs: names and values in the order of the request.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def get(self, name: str) -> str | None:
        """Return the value of ``name``, ``None`` if it is absent.

        Raises:
            MalformedRequest: it is repeated.
        """
        values = self._values.get(name, ())
        if len(values) > 1:
            # The name comes from our code, so it is safe to repeat.
            raise MalformedRequest(f"The parameter {name} is repeated")
        return (values[0] or None) if values else None

    def all(self, name: str) -> list[str]:
        """Return every value of ``name``."""
        return [value for value in self._values.get(name, ()) if value]

    def check_single(self, repeatable: Collection[str] = REPEATABLE) -> None:
        """Check that no parameter is repeated, except those that may be.

        Raises:
            MalformedRequest: one is.
        """
        if any(len(values) > 1 for name, values in self._values.items() if name not in repeatable):
            raise MalformedRequest("A parameter is repeated")

    def encode(self) -> str:
        """Return all parameters as a query."""
        return urlencode(
            [(name, value) for name, values in self._values.items() for value in values]
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)


class Response(NamedTuple):
    """A whole response."""

    status: int
    headers: HeaderList
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Response({self.status})"

    def with_headers(self, *headers: tuple[bytes, bytes]) -> Response:
        """Return the same response with more headers."""
        return self._replace(headers=[*self.headers, *headers])


class EndpointRequest:
    """One request to an endpoint.

    Args:
        endpoint: the endpoint's name.
        scope: the ASGI scope.
        receive: reads the body.
        max_form_bytes: the size limit of a form.

    Attributes:
        parameters: of the form for POST, of the query otherwise; empty until ``read_parameters``.
        client_id: the client that sent it, for the audit record; ``None`` until it has proved that.
        cookies: the ``Set-Cookie`` headers to send with the response.
    """

    def __init__(
        self, endpoint: str, scope: Scope, receive: Receive, *, max_form_bytes: int = MAX_FORM_BYTES
    ) -> None:
        self.endpoint = endpoint
        self.scope = scope
        self.method: str = scope["method"]
        self.parameters = Parameters()
        self.client_id: str | None = None
        self.cookies: list[tuple[bytes, bytes]] = []
        self._receive = receive
        self._max_form_bytes = max_form_bytes
        self._cookie_header: str | None = None
        self._headers: dict[bytes, bytes | None] | None = None  # None: the header is repeated
        self._source: str | None = None

    @property
    def address(self) -> str:
        """The address of the peer, as the ASGI server reports it; it has to know about proxies."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    @property
    def source(self) -> str:
        """The party that limits count the request for: the address, or, for requests that pages of
        other sites made browsers send, the network with a mark.

        Any page can make its visitors' browsers send requests, by the thousand. A navigation is
        none of these, because it ends the page, but a prefetch (``Sec-Purpose``) is. If a browser
        sends no Fetch Metadata, an ``Origin`` counts instead.

        Raises:
            MalformedRequest: a header is repeated.
        """
        if self._source is None:
            site = self.header(b"sec-fetch-site")
            if site is None:
                is_own = self.header(b"origin") is None
            else:
                opens = (
                    self.header(b"sec-fetch-mode") == b"navigate"
                    and self.header(b"sec-fetch-dest") == b"document"
                )
                is_own = (opens and self.header(b"sec-purpose") is None) or site in (
                    b"none",
                    b"same-origin",
                )
            self._source = self.address if is_own else network_of(self.address) + BY_PAGES
        return self._source

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a header, ``None`` if it is absent.

        Raises:
            MalformedRequest: it is repeated.
        """
        if self._headers is None:
            self._headers = {}
            for key, value in self.scope["headers"]:
                self._headers[key] = None if key in self._headers else value
        found = self._headers.get(name, b"")
        if found is None:
            raise MalformedRequest("A header is repeated")
        return found if found or name in self._headers else None

    def cookie(self, name: str) -> str | None:
        """Return the value of a cookie that the browser sent, ``None`` if there is none."""
        # Other applications on the same host set cookies in any form, so only "; " and "=" count
        # (RFC 6265 §4.2.1); ours need no quotes. The header is searched rather than parsed, because
        # it can hold tens of thousands of cookies.
        pieces = self._cookies_sent().split(f"{name}=")
        values = [value for before, value in pairwise(pieces) if before.rstrip(" \t").endswith(";")]
        return values[-1].partition(";")[0].rstrip(" \t") if values else None

    def cookies_with_prefix(self, prefix: str) -> list[tuple[str, str]]:
        """Return the names and values of the cookies whose names begin with ``prefix``, in the
        order of the request.
        """
        pieces = self._cookies_sent().split(prefix)
        pairs = [
            after.partition(";")[0].rstrip(" \t").partition("=")
            for before, after in pairwise(pieces)
            if before.rstrip(" \t").endswith(";")
        ]
        return [(prefix + name, value) for name, _, value in pairs]

    def _cookies_sent(self) -> str:
        if self._cookie_header is None:
            sent = [value for key, value in self.scope["headers"] if key == b"cookie"]
            self._cookie_header = b";".join((b"", *sent)).decode("latin-1")
        return self._cookie_header

    def set_cookie(self, cookie: str) -> None:
        """Send a ``Set-Cookie`` header with the response; errors that end the request drop it."""
        self.cookies.append((b"set-cookie", cookie.encode("ascii")))

    async def read_parameters(self) -> None:
        """Read the form of a POST, or the query of any other request.

        Raises:
            BodyTooLarge: it is larger than any honest one.
            MalformedRequest: it is not a form, not UTF-8, or has too many parameters.
        """
        if self.method == "POST":
            self._check_type(_FORM)
            data = await self._body(self._max_form_bytes)
        else:
            data = self.scope.get("query_string", b"")
            if len(data) > MAX_QUERY_BYTES:
                raise BodyTooLarge
        self.parameters = Parameters(_parse_pairs(data))

    async def read_document(self) -> JSONObject:
        """Read the body as a JSON object and return it.

        Raises:
            BodyTooLarge: it is larger than any honest one.
            InvalidClientMetadata: it is not a JSON object.
        """
        self._check_type(_JSON)
        body = await self._body(MAX_DOCUMENT_BYTES)
        try:
            return parse_json_object(body, max_bytes=MAX_DOCUMENT_BYTES)
        except ValueError:
            raise InvalidClientMetadata(
                "The body must be a JSON object, with each member once"
            ) from None

    def query(self, name: str) -> str | None:
        """Return a parameter of the query of any request, ``None`` unless it is there once."""
        data: bytes = self.scope.get("query_string", b"")
        try:
            pairs = _parse_pairs(data[:MAX_QUERY_BYTES])
        except MalformedRequest:
            return None
        values = [value for key, value in pairs if key == name and value]
        return values[0] if len(values) == 1 else None

    def _check_type(self, expected: bytes) -> None:
        kind = (self.header(b"content-type") or b"").partition(b";")[0].strip().lower()
        if kind != expected:
            raise MalformedRequest(f"The content type must be {expected.decode()}")
        if (self.header(b"content-encoding") or b"identity").lower() != b"identity":
            raise MalformedRequest("The body must not be compressed")

    async def _body(self, max_bytes: int) -> bytes:
        length = self.header(b"content-length") or b"0"
        if not length.isdigit() or len(length) > 9 or int(length) > max_bytes:
            raise BodyTooLarge
        return await read_body(self._receive, max_bytes=max_bytes, timeout_seconds=BODY_SECONDS)


def _parse_pairs(data: bytes) -> list[tuple[str, str]]:
    fields = data.split(b"&", MAX_PARAMETERS)
    pairs = (field.partition(b"=") for field in fields if field)
    try:
        if len(fields) <= MAX_PARAMETERS:
            return [(decode_form(name), decode_form(value)) for name, _, value in pairs]
    except ValueError:
        pass
    raise MalformedRequest("The parameters cannot be read")


NO_STORE: HeaderList = ((b"cache-control", b"no-store"), (b"pragma", b"no-cache"))


def json_response(document: JSONObject, status: int = 200, headers: HeaderList = ()) -> Response:
    """Return a response for a client: JSON that is not cached (RFC 6749 §5.1)."""
    sent = [(b"content-type", b"application/json"), *NO_STORE, *headers]
    return Response(status, sent, format_document(document))


def redirect(url: str) -> Response:
    """Return a response that sends a browser on with GET, whatever its method was (RFC 9700
    §4.12).
    """
    headers = [(b"location", url.encode("ascii")), *NO_STORE, (b"referrer-policy", b"no-referrer")]
    return Response(303, headers)
