"""Paths and rules: no way of writing a path opens what its normal form keeps closed."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote_to_bytes

from asgi_mcp_auth import MCPAuthMiddleware, RemoteAuthProvider, Rule, StaticTokenVerifier
from fuzz.inprocess import App, request

DICTIONARY: tuple[bytes, ...] = (
    *(
        b"/",
        b"..",
        b"/..",
        b"/../",
        b"/./",
        b"//",
        b"%2f",
        b"%2F",
        b"%2e",
        b"%2e%2e",
        b"%5c",
        b"\\",
        b"%25",
        b"%252e",
    ),
    *(
        b"/health",
        b"/docs/",
        b"/docs",
        b"/open",
        b"/open/closed",
        b"/admin",
        b"/admin/",
        b"/mcp",
        b";",
        b";x=1",
        b"%00",
    ),
    *(
        b"%09",
        b"%0a",
        b"\t",
        b"?",
        b"#",
        b"%3f",
        b"%c0%af",
        b"\xef\xbc\x8f",
        b"%e2%80%ae",
        b"/.well-known/",
        b"/api",
    ),
)
PUBLIC_EXACT = {"/health", "/open"}
PUBLIC_PREFIXES = ("/docs/", "/open/")
CLOSED = ("/open/closed", "/admin", "/docs/internal")

_app = App()
_protected = MCPAuthMiddleware(
    _app,
    RemoteAuthProvider(
        StaticTokenVerifier({"plain": {"client_id": "me"}}),
        authorization_servers=["https://idp.example.com"],
        base_url="https://mcp.example.com",
    ),
    mcp_path="/mcp",
    public_paths=["/health", "/docs/"],
    rules=[
        Rule("/open", public=True),
        Rule("/open/closed", scopes=["closed"]),
        Rule("/admin", scopes=["admin"]),
        Rule("/docs/internal", scopes=["internal"]),
    ],
)


def seeds() -> list[bytes]:
    """Return inputs: a byte for how the server builds the scope, then the path of the request
    line.
    """
    paths = [
        *(
            b"/health",
            b"/health/",
            b"/docs/",
            b"/docs",
            b"/docs/a/b",
            b"/docs/../admin",
            b"/docs/%2e%2e/admin",
            b"/docs/..%2fadmin",
        ),
        *(
            b"/open",
            b"/open/x",
            b"/open/closed",
            b"/open/closed/y",
            b"/open//closed",
            b"/open/./closed",
            b"/open/%63losed",
            b"/admin",
        ),
        *(
            b"/docs/..;/admin",
            b"/docs/..%5cadmin",
            b"/docs/%252e%252e/admin",
            b"/docs/.%09./admin",
            b"/mcp",
            b"//admin",
            b"*",
            b"",
        ),
        *(
            b"/docs/internal",
            b"/docs/Internal",
            b"/docs/internal%00",
            b"/docs/caf%c3%a9",
            b"/api/docs/x",
            b"/api/admin",
        ),
        *(
            b"/apix/docs/x",
            b"/docs/x/api/admin",
            b"/api/docs/api/admin",
            b"/docs/INTERNAL",
            b"/open/closed/",
            b"/open/Clo%c5%bfed",
            b"/he%61lth",
            b"/API/docs/x",
        ),
    ]
    return [bytes([kind]) + path for kind in range(4) for path in paths]


def check(data: bytes) -> None:
    """Ask for the path without a token, then with one that has no scopes."""
    kind, raw = (data[0] if data else 0) % 4, data[1:]
    path = unquote_to_bytes(raw).decode("utf-8", "replace")
    members = {"path": path, "raw_path": raw, "root_path": ""}
    if kind == 1:
        members["raw_path"] = None  # optional in ASGI
    if kind >= 2:
        members["root_path"] = "/api"
    if kind == 3:  # as uvicorn and mounts have it
        members |= {"path": f"/api{path}", "raw_path": b"/api" + raw}
    before = _app.calls
    anonymous = request(_protected, [], **members)
    entered = _app.calls > before
    before = _app.calls
    named = request(_protected, [(b"authorization", b"Bearer plain")], **members)
    entered_by_name = _app.calls > before
    for answer, was_let_in in ((anonymous, entered), (named, entered_by_name)):
        assert was_let_in == (answer.status == 200 and not answer.all(b"content-type")), answer
        assert answer.status in (200, 401, 403, 404), answer
    assert entered_by_name >= entered
    for below in _cut(members["path"], members["root_path"]):
        for normal in _readings(below):
            if entered:
                assert _is_public(normal), f"{members} is public, but may be read as {normal!r}"
            if entered_by_name:
                closed = [
                    each for each in CLOSED if re.match(f"{each}(/|$)", normal, re.IGNORECASE)
                ]
                assert not closed, f"{members} asks for no scope, but may be read as {normal!r}"
    if entered and members["raw_path"] is not None:  # routers that never decode
        written = members["raw_path"].decode("latin-1")
        assert all(map(_is_public, _cut(written, members["root_path"]))), (
            f"{members} is public, but not as it came"
        )


def _is_public(path: str) -> bool:
    return path in PUBLIC_EXACT or path.startswith(PUBLIC_PREFIXES) or path + "/" in PUBLIC_PREFIXES


def _cut(path: str, root_path: str) -> set[str]:
    """Return what frameworks leave of a path when they take root_path off, in one layer or in
    two.
    """
    if not root_path:
        return {path}
    first = path.split(root_path, 1)[-1] or "/"
    if path == root_path or path.startswith(root_path + "/"):
        return {first, first.split(root_path, 1)[-1] or "/"}
    return {path, first, path.removeprefix(root_path)}


def _readings(path: str) -> set[str]:
    """Return the paths that a lenient app, server or proxy behind may take this one for."""
    readings = {path}
    for _ in range(3):  # decoded again by someone who does not know that it has been done
        path = unquote_to_bytes(path).decode("utf-8", "replace")
        plain = re.sub(
            r"[\t\r\n]", "", path
        )  # a URL parser drops these (WHATWG URL, "remove all ASCII tab or newline")
        for text in (
            path,
            plain,
            plain.partition("\0")[0],
            plain.partition("?")[0].partition("#")[0],
        ):
            for variant in (text, re.sub(r";[^/]*", "", text)):
                readings.add(
                    posixpath.normpath("/" + variant.replace("\\", "/").lstrip("/"))
                    if variant
                    else "/"
                )
    return {reading for reading in readings if reading != "*"}
