"""The Origin header: only origins that someone allowed pass, whole, and in any case (RFC 6454
§4).
"""

from __future__ import annotations

import ipaddress
import re

from asgi_mcp_auth import MCPAuthMiddleware, RemoteAuthProvider, StaticTokenVerifier
from fuzz.inprocess import App, request

DICTIONARY: tuple[bytes, ...] = (
    *(
        b"http://",
        b"https://",
        b"localhost",
        b".localhost",
        b"127.0.0.1",
        b"127.1.2.3",
        b"[::1]",
        b"null",
        b":8080",
    ),
    *(
        b"@",
        b"#",
        b"?",
        b"/",
        b"\\",
        b"\t",
        b" ",
        b"\r\n",
        b"%00",
        b"mcp.example.com",
        b".evil.example",
        b"LOCALHOST",
    ),
    *(
        b"\xe2\x80\xa4",
        b"0x7f.1",
        b"2130706433",
        b"[::ffff:127.0.0.1]",
        b"[::1%25lo]",
        b"file://",
        b":0",
        b":99999",
    ),
)
OWN = b"https://mcp.example.com"
LISTED = b"https://app.example.com:8443"

# A page of this machine, as a browser writes it or nearly: nothing may come before the host or
# after the port.
_LOOPBACK = re.compile(
    rb"https?://(?:(?i:localhost)|[^/?#@\s:*\[\]]*\.(?i:localhost)|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[(?P<ip>[0-9a-f:.]+)\])(?::\d+)?"
)


def _is_loopback(data: bytes) -> bool:
    match = _LOOPBACK.fullmatch(data)
    if match is None or match["ip"] is None:
        return match is not None
    try:
        number = int(ipaddress.IPv6Address(match["ip"].decode()))
    except ValueError:
        return False
    return number == 1 or number >> 24 == 0xFFFF_7F  # ::1, or 127.0.0.0/8 mapped


def _protect(app: App, **options: object) -> MCPAuthMiddleware:
    verifier = StaticTokenVerifier({"good": {"client_id": "me"}})
    provider = RemoteAuthProvider(
        verifier, authorization_servers=["https://idp.example.com"], base_url=OWN.decode()
    )
    return MCPAuthMiddleware(app, provider, mcp_path="/mcp", **options)  # type: ignore[arg-type]


_app = App()
_default = _protect(_app)
_listing = _protect(_app, allowed_origins=[LISTED.decode()])
_open = _protect(_app, allowed_origins="*")
_AUTHORIZATION = (b"authorization", b"Bearer good")
_PREFLIGHT = (
    (b"access-control-request-method", b"POST"),
    (b"access-control-request-headers", b"authorization"),
)


def seeds() -> list[bytes]:
    """Return origins, allowed and nearly so."""
    return [
        *(
            OWN,
            LISTED,
            b"null",
            b"",
            b"http://localhost",
            b"http://localhost:3000",
            b"https://a.localhost",
            b"http://127.0.0.1:8080",
        ),
        *(
            b"http://[::1]:5173",
            b"http://localhost.evil.example",
            b"http://evil.example",
            b"http://user@localhost",
        ),
        *(
            b"http://localhost/",
            b"http://localhost?",
            b"HTTP://localhost",
            b"https://mcp.example.com:443",
            b"http://127.0.0.1.evil.example",
        ),
        *(
            b"file://localhost",
            b"https://mcp.example.com.evil.example",
            b" http://localhost",
            b"http://[::ffff:127.0.0.1]",
        ),
    ]


def check(data: bytes) -> None:
    """Send a request and a preflight from the page to each of three configurations."""
    for app, allowed in (
        (_default, data.lower() == OWN or _is_loopback(data.lower())),
        (_listing, data.lower() in (OWN, LISTED)),
        (_open, True),
    ):
        before = _app.calls
        answer = request(app, [(b"origin", data), _AUTHORIZATION])
        passed = _app.calls > before
        # An allowed loopback page that is refused is a nuisance (a port of 70000), one let in
        # wrongly is a hole.
        assert allowed or not passed, f"{data!r} was let in"
        assert answer.status == (200 if passed else 403), (answer.status, data)
        preflight = request(app, [(b"origin", data), *_PREFLIGHT], method="OPTIONS")
        assert preflight.status == (204 if passed else 403)
        assert _app.calls == before + passed, "a preflight reached the app"
        for each in (answer, preflight):
            granted = each.all(b"access-control-allow-origin")
            assert granted == ([b"*" if app is _open else data] if passed else []), granted
            assert not each.all(b"access-control-allow-credentials")
