"""Requests and answers of an upstream that is written here, and what can be wrong with the
answers.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from tests.support.asgi import Receive, Scope, Send

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    """What a path answers instead of what it should.

    Attributes:
        status: of the answer.
        headers: of the answer.
        body: of the answer.
        drip_seconds: between two of its bytes.
        silent: never answer at all.
        after: do what was asked first, and only then answer so.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    drip_seconds: float = 0.0
    silent: bool = False
    after: bool = False


GOOD = (
    b'{"access_token": "gho_a-trap", "token_type": "bearer", "id": 1, "sub": "1", "login": "trap"}'
)

FAULTS: Mapping[str, Fault] = {
    "mebibyte": Fault(
        headers={"content-type": "application/json"}, body=b'{"filler": "' + b"a" * _MIB + b'"}'
    ),
    "html": Fault(
        headers={"content-type": "text/html"},
        body=b"<!doctype html><title>Sorry</title><h1>Sorry</h1>",
    ),
    "drip": Fault(headers={"content-type": "application/json"}, body=GOOD, drip_seconds=0.5),
    "silence": Fault(silent=True),
    "redirect": Fault(302, {"location": "/trap"}),
    "content type": Fault(headers={"content-type": "text/html"}, body=GOOD),
    "no json": Fault(headers={"content-type": "application/json"}, body=b'{"access_token": '),
    "not an object": Fault(headers={"content-type": "application/json"}, body=b'["access_token"]'),
    "empty": Fault(headers={"content-type": "application/json"}),
    "500": Fault(500, {"content-type": "text/html"}, b"<h1>Unicorn!</h1>"),
    "503": Fault(503, {"content-type": "text/html"}, b"<h1>Unicorn!</h1>"),
    "429": Fault(
        429, {"content-type": "application/json", "retry-after": "7"}, b'{"message": "slow down"}'
    ),
    "html in the code": Fault(
        headers={"content-type": "application/json"},
        body=(
            b'{"error": "<script>alert(1)</script>", "error_description": "<img src=x'
            b' onerror=alert(1)>"}'
        ),
    ),
}
"""By name, for ``@pytest.mark.parametrize("fault", FAULTS)``.

``redirect`` leads to a trap; see ``trapped``.
"""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @classmethod
    async def read(cls, scope: Scope, receive: Receive) -> Request:
        """Read a request to its end."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {
            name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        return cls(scope["method"], scope["path"], query, headers, body)

    @property
    def form(self) -> dict[str, str]:
        """The fields of a form that was sent."""
        if "x-www-form-urlencoded" not in self.headers.get("content-type", ""):
            return {}
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def session(self) -> str:
        """The browser's session cookie."""
        pairs = [each.strip().partition("=") for each in self.headers.get("cookie", "").split(";")]
        return {name: value for name, _, value in pairs}.get("user_session", "")

    def client(self) -> tuple[str, str, str]:
        """Return the client's id, its secret and how they were sent."""
        scheme, _, credentials = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            client_id, _, secret = base64.b64decode(credentials).decode().partition(":")
            return client_id, secret, "client_secret_basic"
        form = self.form
        auth = "client_secret_post" if "client_secret" in form else "none"
        return form.get("client_id", ""), form.get("client_secret", ""), auth


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, whole."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"
    headers: tuple[tuple[str, str], ...] = ()

    async def send(self, send: Send) -> None:
        """Send it."""
        pairs = (
            ("content-type", self.content_type),
            ("content-length", str(len(self.body))),
            *self.headers,
        )
        await _start(send, self.status, pairs)
        await send({"type": "http.response.body", "body": self.body})


async def _start(send: Send, status: int, pairs: Iterable[tuple[str, str]]) -> None:
    headers = [(name.encode(), value.encode()) for name, value in pairs]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def misbehave(fault: Fault, send: Send) -> None:
    """Answer as the fault says."""
    if fault.silent:
        await asyncio.sleep(30)
    body = fault.body
    await _start(send, fault.status, [*fault.headers.items(), ("content-length", str(len(body)))])
    for position in range(len(body) if fault.drip_seconds else 0):
        await send(
            {"type": "http.response.body", "body": body[position : position + 1], "more_body": True}
        )
        await asyncio.sleep(fault.drip_seconds)
    await send({"type": "http.response.body", "body": b"" if fault.drip_seconds else body})
