"""Messages of MCP: whatever a server may read in a body has been judged, for every caller.

The input is the headers ``Mcp-Method`` and ``Mcp-Name``, a line each, and then the body. Servers
read bodies in several ways: they take the first or the last of two members, guess the encoding, and
overlook what follows. What any of them would do must be allowed to the caller; what all of them
read alike must not be refused.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from asgi_mcp_auth import (
    AccessPolicy,
    AccessToken,
    InvalidMessage,
    Method,
    Prompt,
    Resource,
    Tool,
)
from asgi_mcp_auth.operations import MCPMessage, check_headers, parse_message
from fuzz.inprocess import finish

DICTIONARY: tuple[bytes, ...] = (
    *(b'"method":', b'"params":', b'"name":', b'"uri":', b'"ref":', b'"type":', b'"arguments":'),
    *(b'"tools/call"', b'"tools/list"', b'"resources/read"', b'"prompts/get"', b'"ping"'),
    *(b'"completion/complete"', b'"ref/prompt"', b'"ref/resource"', b'"subscriptions/listen"'),
    *(b'"search"', b'"delete_all"', b'"delete_draft"', b'"move"', b'"folder":', b'"greet"'),
    *(b'"notes://private/1"', b'"notes://public/1"', b'"notifications":', b'"result":'),
    *(b'"resourceSubscriptions":', b'"id":', b"null", b"[", b"]", b"{", b"}", b",", b":", b'"'),
    *(b"\\u0000", b"\\u0061", b"\\ud800", b"\\/", b"\xef\xbb\xbf", b"\n", b"\t", b" ", b"NaN"),
    *(b"%2f", b"%2e", b"/../", b"NOTES://", b"/./", b"\\\\", b"=?base64?", b"?=", b"c2VhcmNo"),
    *(b"tools/call", b"search", b"1e999", b"9" * 30, b"[" * 200, b"\xff\xfe", b"\xc0\x80"),
)

# ------------------------------------------------------------------------------------------- policy


def _folder(arguments: Mapping[str, Any], token: AccessToken) -> list[str]:
    return ["folders"] if arguments.get("folder") == "secret" else []


_RULES = [
    Tool("search", public=True),
    Tool("delete_*", scopes=["write"]),
    Tool("delete_draft", scopes=["drafts"]),
    Resource("notes://private/{id}", scopes=["private"]),
    Resource("notes://public/{id}", public=True),
    Prompt("*", scopes=["prompts"]),
    Method("tools/list", public=True),
    Method("logging/*", scopes=["logs"]),
]
# With a function, arguments decide as well.
_POLICIES = [
    AccessPolicy(rules, required_scopes=["read"])
    for rules in (_RULES, [*_RULES, Tool("move", scopes=_folder)])
]
_EVERY = ("read", "write", "drafts", "folders", "private", "prompts", "logs")
_CALLERS: tuple[AccessToken | None, ...] = (
    None,
    *(
        AccessToken(token="t", client_id="c", scopes=scopes)
        for scopes in (
            [],
            ["read"],
            ["write"],
            *(["read", each] for each in _EVERY),
            [*_EVERY],
        )
    ),
)
_MIRRORED = {"tools/call", "prompts/get", "resources/read"}
_HANDSHAKE = {"initialize", "notifications/initialized", "server/discover", "ping"}


class Act(NamedTuple):
    """What a server does: the method, the kind of thing, its name, and its arguments."""

    method: str
    kind: str
    name: str
    arguments: Any


def needs(act: Act, arguments_decide: bool) -> set[str] | None:
    """Return the scopes that an act needs, ``None`` for none at all: the same rules once more."""
    if act.kind == "tool":
        if act.name == "search":
            return None
        if act.name == "delete_draft":
            return {"read", "drafts"}
        if act.name.startswith("delete_"):
            return {"read", "write"}
        arguments = act.arguments if isinstance(act.arguments, dict) else {}
        is_secret = act.name == "move" and arguments.get("folder") == "secret"
        return {"read", "folders"} if arguments_decide and is_secret else {"read"}
    if act.kind == "prompt":
        return {"read", "prompts"}
    if act.kind == "resource":
        if re.fullmatch(r"notes://public/[^/?#%]+", act.name):
            return None
        return {"read", "private"} if _leads_to_private(act.name) else {"read"}
    if act.method == "tools/list" or act.method in _HANDSHAKE:
        return None
    return {"read", "logs"} if act.method.startswith("logging/") else {"read"}


def _leads_to_private(uri: str) -> bool:
    """Return whether a server that normalises a URI may find a private note there."""
    spellings = (uri.casefold(), unquote(uri).casefold())
    return any(re.match(r"notes://private/[^/?#]", each) for each in spellings)


# ----------------------------------------------------------------------------------------- readings

_NAMES = {
    "tools/call": ("tool", "name"),
    "prompts/get": ("prompt", "name"),
    "resources/read": ("resource", "uri"),
    "resources/subscribe": ("resource", "uri"),
    "resources/unsubscribe": ("resource", "uri"),
}


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


def readings(body: bytes) -> Iterator[Any]:
    """Yield what servers make of a body: the last or the first of two members, in the encoding that
    it seems to have, and without what follows the first value.
    """
    for hook in (dict, _first_wins):
        decoder = json.JSONDecoder(object_pairs_hook=hook)
        for text in _texts(body):
            try:
                yield decoder.raw_decode(text.lstrip(" \t\r\n\ufeff"))[0]
            except (ValueError, RecursionError):
                continue


def _texts(body: bytes) -> set[str]:
    guessed = json.detect_encoding(body)
    return {body.decode(each, "replace") for each in ("utf-8", "latin-1", guessed)}


def acts(value: Any) -> Iterator[Act]:
    """Yield what a server does for a message or a batch."""
    if isinstance(value, list):
        for each in value:
            yield from acts(each)
        return
    if not isinstance(value, dict) or not isinstance(value.get("method"), str):
        return
    method, params = value["method"], value.get("params")
    if not isinstance(params, dict):
        params = {}
    arguments = params.get("arguments")
    if method in _NAMES:
        kind, member = _NAMES[method]
        if isinstance(params.get(member), str):
            yield Act(method, kind, params[member], arguments)
    elif method == "completion/complete":
        ref = params.get("ref")
        if isinstance(ref, dict):
            for type_, kind, member in (
                ("ref/prompt", "prompt", "name"),
                ("ref/resource", "resource", "uri"),
            ):
                if ref.get("type") == type_ and isinstance(ref.get(member), str):
                    yield Act(method, kind, ref[member], None)
    else:
        yield Act(method, "", "", None)
        wanted = params.get("notifications")
        if method == "subscriptions/listen" and isinstance(wanted, dict):
            uris = wanted.get("resourceSubscriptions")
            for uri in uris if isinstance(uris, list) else []:
                if isinstance(uri, str):
                    yield Act(method, "resource", uri, None)


def is_plain(body: bytes) -> bool:
    """Return whether every server reads the same message in a body, and knows what it asks for."""
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict) or "result" in value or "error" in value:
        return False
    if not isinstance(value.get("method"), str) or not value["method"]:
        return False
    if not isinstance(value.get("params", {}), dict):
        return False
    return value["method"] != "subscriptions/listen" and any(True for _ in acts(value))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def _refuse(text: str) -> Any:
    raise ValueError(text)


# -------------------------------------------------------------------------------------------- check


def seeds() -> list[bytes]:
    """Return messages of every kind, with and without headers, and bodies that are read in several
    ways.
    """
    return [b"%s\n%s\n%s" % (method, name, body) for method, name, body in _seeds()]


def _seeds() -> Iterator[tuple[bytes, bytes, bytes]]:
    call, plain = b"tools/call", _message("tools/call", name="search", arguments={"q": "x"})
    for name in ("search", "delete_all", "delete_draft", "delete_draft ", "se\u0430rch", "other"):
        yield b"", b"", _message("tools/call", name=name)
    for folder in ("secret", "open", None):
        yield b"", b"", _message("tools/call", name="move", arguments={"folder": folder})
    for uri in (
        "notes://private/1",
        "NOTES://private/1/",
        "notes://%70rivate/1",
        "notes://public/1",
        "notes://public/../private/1",
        "notes://public/%2e%2e/private/1",
        "notes:\\\\private\\1",
    ):
        for method in ("resources/read", "resources/subscribe"):
            yield b"", b"", _message(method, uri=uri)
        yield b"", b"", _message("completion/complete", ref={"type": "ref/resource", "uri": uri})
    yield b"", b"", _message("completion/complete", ref={"type": "ref/prompt", "name": "greet"})
    yield b"prompts/get", b"greet", _message("prompts/get", name="greet")
    wanted = {"resourceSubscriptions": ["notes://private/1", "notes://public/1"]}
    yield b"subscriptions/listen", b"", _message("subscriptions/listen", notifications=wanted)
    for method in ("tools/list", "ping", "logging/setLevel", "initialize", "unknown"):
        yield method.encode(), b"", _message(method)
    yield b"", b"", b"[%s,%s]" % (plain, _message("tools/call", name="delete_all"))
    yield b"", b"", b'{"jsonrpc":"2.0","id":1,"result":{}}'
    # Headers that agree, and some that do not.
    yield call, b"search", plain
    yield call, b"=?base64?c2VhcmNo?=", plain
    yield call, b"delete_all", plain
    yield b"tools/list", b"search", plain
    # Twice, on the way and off it.
    yield b"", b"", plain.replace(b'"name"', b'"name":"delete_all","name"')
    yield b"", b"", plain.replace(b'"method"', b'"method":"ping","method"')
    yield b"", b"", plain.replace(b'"params"', b'"params":{"name":"delete_all"},"params"')
    yield b"", b"", plain.replace(b'"q"', b'"q":1,"q"')
    move = _message("tools/call", name="move", arguments={"folder": "open"})
    yield b"", b"", move.replace(b'"folder"', b'"folder":"secret","folder"')
    yield b"", b"", plain.replace(b'"name"', b'"n\\u0061me"')
    # Other encodings, and more than one value.
    yield b"", b"", b"\xef\xbb\xbf" + plain
    yield b"", b"", plain.decode().encode("utf-16")
    yield b"", b"", plain + _message("tools/call", name="delete_all")
    yield b"", b"", plain.replace(b"search", b"se\\ud800arch")
    yield b"", b"", plain.replace(b'"x"', b"[" * 300 + b"]" * 300)


def _message(method: str, **params: Any) -> bytes:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return json.dumps(message, separators=(",", ":")).encode()


def check(data: bytes) -> None:
    """Judge a message by each policy for each caller, and compare with what servers may do."""
    method, _, rest = data.partition(b"\n")
    name, _, body = rest.partition(b"\n")
    for policy in _POLICIES:
        try:
            message = parse_message(body, arguments_decide=policy.has_functions)
        except InvalidMessage as error:
            str(error).encode("ascii")
            assert not is_plain(body), (body, error)  # noqa: PT017  # a fuzz target, not a test
            continue
        done = [act for value in readings(body) for act in acts(value)]
        for access in _CALLERS:
            _check_decision(policy, message, access, done, body)
        _check_headers(method, name, message, done)


def _check_decision(
    policy: AccessPolicy,
    message: MCPMessage,
    access: AccessToken | None,
    done: list[Act],
    body: bytes,
) -> None:
    decision = finish(policy.decide(message, access))
    assert decision.status in ((200, 401) if access is None else (200, 403))
    if decision.status != 200:
        return
    held = None if access is None else {*access.scopes}
    for act in done:
        wanted = needs(act, policy.has_functions)
        allowed = wanted is None or (held is not None and wanted <= held)
        assert allowed, f"{act} was let in with {held} in {body!r}"


def _check_headers(method: bytes, name: bytes, message: MCPMessage, done: list[Act]) -> None:
    fields = [(b"mcp-method", method), (b"mcp-name", name)]
    try:
        check_headers([each for each in fields if each[1]], message)
    except InvalidMessage:
        return
    for act in done:
        assert not method or method.strip(b" \t") == act.method.encode(), (method, act)
        if name and act.method in _MIRRORED:
            assert _decoded(name) == act.name, (name, act)


def _decoded(header: bytes) -> str | None:
    text = header.strip(b" \t")
    match = re.fullmatch(rb"=\?base64\?(.*)\?=", text, re.DOTALL)
    try:
        return (binascii.a2b_base64(match[1]) if match else text).decode()
    except ValueError:
        return None
