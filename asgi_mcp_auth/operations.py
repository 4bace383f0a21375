"""Reads the operations that an MCP message asks for, such as the call of a tool. Pure.

The members that decide are read once and strictly: a message that two JSON parsers could read
differently is refused. Everything else in it is left to the app.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]  # not in typeshed
from typing import Any, Literal, NamedTuple, TypeAlias, TypeGuard, cast

from ._json import is_array, is_object
from .errors import InvalidMessage
from .types import JSONObject

Subject: TypeAlias = Literal["tool", "resource", "prompt"]

MESSAGE_KEY = "asgi_mcp_auth.message"
#: Whether a refusal goes into the result of the tool.
RESULT_KEY = "asgi_mcp_auth.in_result"

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
HEADER_MISMATCH = -32020


class Operation(NamedTuple):
    """One thing that a message asks for.

    Attributes:
        method: the JSON-RPC method; empty for an answer to a request of the server.
        subject: the kind of thing that ``name`` is; ``None`` if the method concerns no single one.
        name: the name of the tool or prompt, or the URI of the resource.
        params: the parameters of the message.
    """

    method: str
    subject: Subject | None
    name: str
    params: Mapping[str, Any]


class MCPMessage(NamedTuple):
    """A JSON-RPC message, or a batch of them (MCP 2025-03-26).

    Attributes:
        id: of the request; ``None`` for a notification, an answer or a batch.
        operations: everything that it asks for.
    """

    id: object
    operations: tuple[Operation, ...]


# Which parameter names the thing. The headers of MCP 2026-07-28 mirror the first three.
_NAMED: dict[str, tuple[Subject, str]] = {
    "tools/call": ("tool", "name"),
    "prompts/get": ("prompt", "name"),
    "resources/read": ("resource", "uri"),
    "resources/subscribe": ("resource", "uri"),
    "resources/unsubscribe": ("resource", "uri"),
}
_MIRRORED = frozenset({"tools/call", "prompts/get", "resources/read"})
# Completing an argument of a thing: the kind of a reference, and the member that names it.
_REFERENCES: dict[object, tuple[Subject, str]] = {
    "ref/prompt": ("prompt", "name"),
    "ref/resource": ("resource", "uri"),
}
# The objects on the way to a decision, whose members must be unique.
_Way: TypeAlias = "Mapping[str, _Way]"
_WAY: _Way = {"params": {"ref": {}, "notifications": {}}}


def parse_message(body: bytes, *, arguments_decide: bool = False) -> MCPMessage:
    """Return the operations in the body of a request.

    Args:
        body: as it was received.
        arguments_decide: whether a decision depends on more than names: then no member of any
            object may be there twice.

    Raises:
        InvalidMessage: it is not one JSON-RPC message or batch in UTF-8, or a member on the way
            to a decision is there twice or has the wrong type.

    JSON-RPC 2.0; MCP 2026-07-28, Base Protocol; RFC 8259.
    """
    value = _parse(body, _scan_unique if arguments_decide else _message)
    if is_object(value):
        return MCPMessage(value.get("id") if "method" in value else None, _operations_of(value))
    if not is_array(value) or not value or not all(map(is_object, value)):
        raise InvalidMessage("The body must be a JSON-RPC message")
    return MCPMessage(None, tuple(each for member in value for each in _operations_of(member)))


def _operations_of(message: JSONObject) -> tuple[Operation, ...]:
    """Return the operations of a single parsed message: mostly one.

    Raises:
        InvalidMessage: as for ``parse_message``.
    """
    method, params = message.get("method", ""), message.get("params")
    if not _is_text(method) or ("method" in message and not method):
        raise InvalidMessage("method must be a string")
    if bool(method) is ("result" in message or "error" in message):
        raise InvalidMessage("A message has a method, a result or an error", id=message.get("id"))
    if not is_object(params):
        if params is not None:
            raise InvalidMessage("params must be an object", id=message.get("id"))
        params = {}
    named = _NAMED.get(method)
    if named is not None:
        subject, member = named
        return (Operation(method, subject, _name(message, params, member), params),)
    if method == "completion/complete":
        return (_completion(message, params),)
    operation = Operation(method, None, "", params)
    if method == "subscriptions/listen":
        uris = _subscriptions(message, params)
        return (operation, *(Operation(method, "resource", uri, params) for uri in uris))
    return (operation,)


def check_headers(headers: Iterable[tuple[bytes, bytes]], message: MCPMessage) -> None:
    """Check that ``Mcp-Method`` and ``Mcp-Name``, where they are sent, agree with the body.

    Raises:
        InvalidMessage: they do not.

    MCP 2026-07-28, Streamable HTTP, Server Validation.
    """
    operations = message.operations
    for name, value in headers:
        if name == b"mcp-method":
            said = value.strip(b" \t")
            if any(each.method.encode("utf-8", "replace") != said for each in operations):
                raise _mismatch("Mcp-Method", message)
        elif name == b"mcp-name":
            named = _decode_header(value)
            if any(each.method in _MIRRORED and each.name != named for each in operations):
                raise _mismatch("Mcp-Name", message)


def _is_text(value: object) -> TypeGuard[str]:
    """Return whether a parsed value is a string without lone surrogates, which parsers read
    differently.
    """
    if type(value) is not str:
        return False
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return False
    return True


def _mismatch(header: str, message: MCPMessage) -> InvalidMessage:
    return InvalidMessage(
        f"Header mismatch: {header} differs from the body", code=HEADER_MISMATCH, id=message.id
    )


def _decode_header(value: bytes) -> str | None:
    """Return the value of a header that may be in Base64; ``None`` if it cannot be read.

    MCP 2026-07-28, Streamable HTTP, Value Encoding.
    """
    text = value.strip(b" \t")
    try:
        if text.startswith(b"=?base64?") and text.endswith(b"?="):
            return base64.b64decode(text[9:-2], validate=True).decode("utf-8")
        return text.decode("ascii")
    except ValueError:
        return None


def _name(message: JSONObject, params: JSONObject, member: str) -> str:
    name = params.get(member)
    if not _is_text(name):
        raise InvalidMessage(f"params.{member} must be a string", id=message.get("id"))
    return name


def _completion(message: JSONObject, params: JSONObject) -> Operation:
    ref = params.get("ref")
    if not is_object(ref):
        raise InvalidMessage("params.ref must be an object", id=message.get("id"))
    kind = ref.get("type")
    named = _REFERENCES.get(kind) if isinstance(kind, str) else None
    if named is None:
        raise InvalidMessage("params.ref.type is unknown", id=message.get("id"))
    subject, member = named
    return Operation("completion/complete", subject, _name(message, ref, member), params)


def _subscriptions(message: JSONObject, params: JSONObject) -> list[str]:
    notifications = params.get("notifications")
    uris = notifications.get("resourceSubscriptions") if is_object(notifications) else None
    if uris is None:
        return []
    if not is_array(uris) or not all(map(_is_text, uris)):
        raise InvalidMessage("resourceSubscriptions must be strings", id=message.get("id"))
    return uris


class _Malformed(Exception):
    """The text is not JSON, or has more than one value or meaning."""


def _constant(text: str) -> Any:
    raise _Malformed(text)


def _unique(pairs: list[tuple[str, Any]]) -> JSONObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Twice
    return members


class _Twice(Exception):
    """A member is there twice, but perhaps not on the way to a decision."""


_Scan: TypeAlias = Callable[[str, int], tuple[Any, int]]
_decoder: Any = json.JSONDecoder(parse_constant=_constant)
_scan: _Scan = _decoder.scan_once
_unique_decoder: Any = json.JSONDecoder(parse_constant=_constant, object_pairs_hook=_unique)
_scan_unique: _Scan = _unique_decoder.scan_once
# Up to here, looking at every object costs less than reading the way member by member.
_FEW_OBJECTS = 16
_FEW_BYTES = 16 * 1024
_BLANK = " \t\n\r"
_skip = re.compile(f"[{_BLANK}]*").match


def _parse(body: bytes, read: _Scan) -> Any:
    try:
        # Without a BOM, and never UTF-16: json.loads would guess.
        text = body.decode("utf-8")
        value: Any
        index = _next(text, 0)
        if text[index] == "{":
            value, index = read(text, index)
        elif text[index] == "[":
            value, index = _batch(text, index, read)
        else:
            raise _Malformed("neither an object nor an array")
        if index != len(text) and _next(text, index) != len(text):
            raise _Malformed("more than one value")
    # The scanner raises StopIteration where there is no value.
    except (_Malformed, _Twice, ValueError, IndexError, StopIteration, RecursionError):
        raise InvalidMessage(
            "The body must be one JSON value in UTF-8, without members that are there twice",
            code=PARSE_ERROR,
        ) from None
    return value


def _message(text: str, index: int) -> tuple[JSONObject, int]:
    if len(text) < _FEW_BYTES and text.count("{") < _FEW_OBJECTS:
        try:
            return _scan_unique(text, index)
        except _Twice:
            pass  # perhaps in the arguments of a tool
    return _members(text, index, _WAY)


def _members(text: str, index: int, way: _Way) -> tuple[JSONObject, int]:
    """Return the object at ``index``, and the index after it.

    Values off the way are read by the standard library, at its speed.
    """
    members: JSONObject = {}
    index = _next(text, index + 1)
    if text[index] == "}":
        return members, index + 1
    while True:
        if text[index] != '"':
            raise _Malformed("no member")
        name, index = cast("tuple[str, int]", scanstring(text, index + 1, True))
        if text[index] != ":":
            index = _next(text, index)
            if text[index] != ":":
                raise _Malformed("no colon")
        index = _next(text, index + 1)
        if name in members:
            raise _Malformed("a member is there twice")
        further = way.get(name)
        if further is not None and text[index] == "{":
            members[name], index = _members(text, index, further)
        else:
            members[name], index = _scan(text, index)
        index = _next(text, index)
        if text[index] == "}":
            return members, index + 1
        if text[index] != ",":
            raise _Malformed("no comma")
        index = _next(text, index + 1)


def _batch(text: str, index: int, read: _Scan) -> tuple[list[Any], int]:
    try:
        return _scan_unique(text, index)
    except _Twice:
        pass  # perhaps in the arguments of a tool
    values: list[Any] = []
    index = _next(text, index + 1)
    while text[index] == "{":
        value, index = read(text, index)
        values.append(value)
        index = _next(text, index)
        if text[index] == "]":
            return values, index + 1
        if text[index] != ",":
            raise _Malformed("no comma")
        index = _next(text, index + 1)
    raise _Malformed("a batch holds messages")


def _next(text: str, index: int) -> int:
    """Return the index of the next character that is not blank."""
    if index < len(text) and text[index] not in _BLANK:
        return index
    end: int = _skip(text, index).end()  # type: ignore[union-attr]  # always matches
    return end
