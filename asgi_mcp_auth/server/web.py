"""What an endpoint gets and gives: a request that is read within bounds, an answer as a value."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple
from urllib.parse import urlencode

from .._asgi import HeaderList, read_body
from .._json import decode_form, parse_json_object
from .._places import network_of
from ..errors import BodyTooLarge, InvalidClientMetadata, MalformedRequest
from ..metadata import format_document
from ..types import JSONObject, Receive, Scope
from .browser.records import Session, Transaction
from .parties import Client

MAX_FORM_BYTES = 16 * 1024  # as much as a query
MAX_DOCUMENT_BYTES = 8 * 1024  # a registration is kept for a day, whoever sent it
MAX_QUERY_BYTES = 16 * 1024
MAX_PARAMETERS = 64
BODY_SECONDS = 10.0

_FORM = b"application/x-www-form-urlencoded"
_JSON = b"application/json"

REPEATABLE = frozenset(("resource",))

# Follows the network in ``Request.source`` for requests that pages of other sites make its browsers
# send.
BY_PAGES: Final = " by web pages"


class Parameters:
    """The parameters of a query or a form. One without a value counts as absent (RFC 6749 §3.1).

    Args:
        pairs: names and values as they came.
    """

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def get(self, name: str) -> str | None:
        """Return the only value of ``name``.

        Raises:
            MalformedRequest: there are several.
        """
        values = self._values.get(name, ())
        if len(values) > 1:
            # name is one that we asked for
            raise MalformedRequest(f"The parameter {name} is repeated")
        return (values[0] or None) if values else None

    def all(self, name: str) -> list[str]:
        """Return every value of ``name``."""
        return [value for value in self._values.get(name, ()) if value]

    def check_single(self) -> None:
        """Check that no parameter is repeated but those that may be.

        Raises:
            MalformedRequest: one is.
        """
        if any(len(values) > 1 for name, values in self._values.items() if name not in REPEATABLE):
            raise MalformedRequest("A parameter is repeated")

    def encode(self) -> str:
        """Return all of them as a query."""
        return urlencode(
            [(name, value) for name, values in self._values.items() for value in values]
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)


class Answer(NamedTuple):
    """A whole response."""

    status: int
    headers: HeaderList
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Answer({self.status})"

    def with_headers(self, *headers: tuple[bytes, bytes]) -> Answer:
        """Return the same answer with more headers."""
        return self._replace(headers=[*self.headers, *headers])


class Request:
    """One request to an endpoint, and what the endpoint's checks have found out about it.

    Attributes:
        parameters: of the form for POST, of the query otherwise; set by ``read_parameters``.
        document: the JSON body; set by ``read_document``.
        client: who authenticated; set by ``authenticate_client``.
        session: who is signed in in this browser, with the session's cookie; set by
            ``load_session``.
        transaction: what this page belongs to, with its id; set by ``load_transaction``.
    """

    parameters: Parameters
    document: JSONObject
    client: Client

    def __init__(
        self, endpoint: str, scope: Scope, receive: Receive, *, max_form_bytes: int = MAX_FORM_BYTES
    ) -> None:
        self.endpoint = endpoint
        self.scope = scope
        self.method: str = scope["method"]
        self.session: Session | None = None
        self.session_id: str | None = None
        self.transaction: Transaction | None = None
        self.transaction_id = ""
        self._receive = receive
        self._max_form_bytes = max_form_bytes
        self._cookies: str | None = None
        self._headers: dict[bytes, bytes | None] | None = None  # None: it is repeated
        self._source: str | None = None

    @property
    def address(self) -> str:
        """Where the request comes from, as the ASGI server says; proxies are its business."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    @property
    def source(self) -> str:
        """Whom limits count it for: the network it comes from; what pages of other sites have its
        browsers send, apart.

        Any page can have its visitors' browsers send requests, by the thousand. What opens a page
        itself is none of these, because that ends the page; what a page has fetched in advance
        (``Sec-Purpose``) is. Where a browser sends no Fetch Metadata, an ``Origin`` has to do.

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
        """Return the value of a header, ``None`` when it is not there.

        Raises:
            MalformedRequest: it is there more than once.
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
        """Return the value of a cookie."""
        # Other applications on the same host have cookies too, in whatever form: only "; " and "="
        # count (RFC 6265 §4.2.1). Ours need no quotes. Searched, not taken apart: a header can hold
        # tens of thousands.
        if self._cookies is None:
            sent = [value for key, value in self.scope["headers"] if key == b"cookie"]
            self._cookies = b";".join((b"", *sent)).decode("latin-1")
        pieces = self._cookies.split(f"{name}=")
        values = [value for before, value in pairwise(pieces) if before.rstrip(" \t").endswith(";")]
        return values[-1].partition(";")[0].rstrip(" \t") if values else None

    async def read_parameters(self) -> None:
        """Read the form of a POST, or the query of anything else.

        Raises:
            BodyTooLarge: it is larger than any honest one.
            MalformedRequest: it is no form, or not UTF-8, or has too many parameters.
        """
        if self.method == "POST":
            self._check_type(_FORM)
            data = await self._body(self._max_form_bytes)
        else:
            data = self.scope.get("query_string", b"")
            if len(data) > MAX_QUERY_BYTES:
                raise BodyTooLarge
        self.parameters = Parameters(_parse_pairs(data))

    async def read_document(self) -> None:
        """Read a JSON object.

        Raises:
            BodyTooLarge: it is larger than any honest one.
            InvalidClientMetadata: it is no JSON object.
        """
        self._check_type(_JSON)
        try:
            self.document = parse_json_object(
                await self._body(MAX_DOCUMENT_BYTES), max_bytes=MAX_DOCUMENT_BYTES
            )
        except ValueError:
            raise InvalidClientMetadata(
                "The body must be a JSON object, with each member once"
            ) from None

    def query(self, name: str) -> str | None:
        """Return a parameter of the query, also beside a body."""
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


def json_answer(document: JSONObject, status: int = 200, headers: HeaderList = ()) -> Answer:
    """Return an answer for a client: JSON that nobody keeps (RFC 6749 §5.1)."""
    sent = [(b"content-type", b"application/json"), *NO_STORE, *headers]
    return Answer(status, sent, format_document(document))


def redirect(url: str, headers: HeaderList = ()) -> Answer:
    """Return an answer that sends a browser on with GET, whatever it came with (RFC 9700 §4.12)."""
    return Answer(
        303,
        [
            (b"location", url.encode("ascii")),
            *NO_STORE,
            (b"referrer-policy", b"no-referrer"),
            *headers,
        ],
    )
