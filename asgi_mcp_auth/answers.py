"""Changes what an MCP server answers: lists without what is hidden, and refusals from inside tools.

Nothing is held back but a list that has to be filtered, and the beginning of an answer that may
still become a refusal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeGuard

from ._asgi import HeaderList
from ._json import is_array, is_object
from .errors import ConfigurationError
from .types import JSONObject, Message, Send

#: Changes a JSON-RPC answer in place, and returns whether it has.
Change: TypeAlias = Callable[[JSONObject], bool]

_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END = re.compile(r"\r\n|\n|\r")


class ChangedAnswer:
    """A ``send`` that passes the answers in a response on, after ``change``.

    Args:
        send: of the request.
        change: called with each JSON-RPC answer.
        has_begun: whether the response has begun; only a stream can still be changed then.
    """

    def __init__(self, send: Send, change: Change, *, has_begun: bool = False) -> None:
        self._send = send
        self._change = change
        self.has_begun = has_begun
        self._start: Message | None = {} if has_begun else None
        self._buffer = b""
        self._is_stream = has_begun

    async def __call__(self, message: Message) -> None:
        """Send a message of the app, or keep it until its answer is complete."""
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            if _header(headers, b"content-encoding") not in (b"", b"identity"):
                raise ConfigurationError(
                    "the app compresses answers although it was not asked to, so lists cannot be"
                    " filtered: compress outside of MCPAuthMiddleware"
                )
            self._is_stream = _header(headers, b"content-type").startswith(b"text/event-stream")
            sent = [each for each in headers if each[0].lower() != b"content-length"]
            self._start = {**message, "headers": sent}
            if self._is_stream:
                self.has_begun = True
                await self._send(self._start)
        elif message["type"] != "http.response.body" or self._start is None:
            await self._send(message)
        elif self._is_stream:
            await self._stream(message)
        else:
            await self._whole(message, self._start)

    async def _whole(self, message: Message, start: Message) -> None:
        self._buffer += message.get("body", b"")
        if message.get("more_body", False):
            return
        body, self._buffer = change_json(self._buffer, self._change), b""
        length = (b"content-length", b"%d" % len(body))
        self.has_begun = True
        await self._send({**start, "headers": [*start["headers"], length]})
        await self._send({**message, "body": body})

    async def _stream(self, message: Message) -> None:
        self._buffer += message.get("body", b"")
        events: list[bytes] = []
        position = 0
        for end in _EVENT_END.finditer(self._buffer):
            events.append(change_event(self._buffer[position : end.end()], self._change))
            position = end.end()
        self._buffer = self._buffer[position:]
        if not message.get("more_body", False):
            events.append(change_event(self._buffer, self._change))
            self._buffer = b""
        elif not events:
            return
        await self._send({**message, "body": b"".join(events)})


def change_event(event: bytes, change: Change) -> bytes:
    """Return an event of a stream after ``change``: the same bytes if nothing has changed.

    WHATWG HTML §9.2.6.
    """
    if b"data:" not in event:
        return event
    lines = _LINE_END.split(event.decode("utf-8", "replace"))
    data = "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))
    changed = change_json(data.encode(), change)
    if changed == data.encode():
        return event
    others = [line for line in lines if line and not line.startswith("data:")]
    return "".join(f"{line}\n" for line in (*others, f"data: {changed.decode()}", "")).encode()


def change_json(data: bytes, change: Change) -> bytes:
    """Return JSON after ``change``: the same bytes if nothing has changed, or if it is not JSON."""
    try:
        value = json.loads(data)
    except ValueError:
        return data
    # First all answers, then the question whether one of them has changed.
    changed = [change(each) for each in (value if is_array(value) else [value]) if is_object(each)]
    if not any(changed):
        return data
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _header(headers: HeaderList, name: bytes) -> bytes:
    return next((value.lower() for key, value in headers if key.lower() == name), b"")


# What lists hold, and what names the things in them.
LISTS: Mapping[str, tuple[str, str]] = {
    "tools": ("tool", "name"),
    "prompts": ("prompt", "name"),
    "resources": ("resource", "uri"),
    "resourceTemplates": ("resource", "uriTemplate"),
}


def list_filter(
    is_visible: Callable[[str, str], bool], schemes_of: Callable[[str], Any] | None
) -> Change:
    """Return what filters the lists in an answer.

    Args:
        is_visible: gets the subject and the name of a thing in a list.
        schemes_of: returns the security schemes of a tool, where tools have to name them.
    """

    def change(answer: JSONObject) -> bool:
        result = answer.get("result")
        changed = False
        if not is_object(result):
            return False
        for member, (subject, name) in LISTS.items():
            things = result.get(member)
            if not is_array(things):
                continue
            kept = [each for each in things if _is_kept(each, subject, name, is_visible)]
            changed = changed or len(kept) != len(things)
            result[member] = kept
            if member == "tools" and schemes_of is not None:
                changed = changed or bool(kept)
                for tool in kept:
                    _add_schemes(tool, schemes_of(tool["name"]))
        return changed

    return change


def _is_kept(thing: Any, subject: str, name: str, is_visible: Callable[[str, str], bool]) -> bool:
    """Return whether a thing stays in its list: whatever has no name cannot be asked about."""
    named = thing.get(name) if is_object(thing) else None
    return isinstance(named, str) and is_visible(subject, named)


def _add_schemes(tool: JSONObject, schemes: Any) -> None:
    meta = tool.setdefault("_meta", {})
    if is_object(meta):
        meta.setdefault("securitySchemes", schemes)
    tool.setdefault("securitySchemes", schemes)


class RevocableAnswer:
    """A ``send`` that keeps an answer until it is known not to be the refusal of a tool.

    MCP libraries turn every exception of a tool into a result, which clients take for a success of
    HTTP.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._kept: list[Message] = []
        self._body = b""
        self.has_begun = False
        #: Whether the answer is a refusal, of which nothing has been sent.
        self.is_refused = False

    async def __call__(self, message: Message) -> None:
        """Send a message of the app, or keep it."""
        if self.is_refused:
            return
        if not self.has_begun:
            self._kept.append(message)
            self._body += message.get("body", b"")
            if message["type"] == "http.response.start" or not self._is_complete(message):
                return
            data = b"\n".join(map(_data_of, _EVENT_END.split(self._body)))
            if _is_error(self._body) or _is_error(data):
                self.is_refused = True
                return
            self.has_begun = True
            for kept in self._kept:
                await self._send(kept)
            return
        await self._send(message)

    def _is_complete(self, message: Message) -> bool:
        return not message.get("more_body", False) or b"data:" in self._body


def _data_of(event: bytes) -> bytes:
    return b"\n".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))


def _is_error(data: bytes) -> bool:
    try:
        answer = json.loads(data)
    except ValueError:
        return False
    if not is_object(answer) or "jsonrpc" not in answer:
        return False
    return "error" in answer or is_error_result(answer.get("result"))


def is_error_result(result: object) -> TypeGuard[JSONObject]:
    """Return whether the result of a tool says that it has failed."""
    return is_object(result) and result.get("isError") is True


def challenge_in_result(challenge: bytes) -> Change:
    """Return what puts a challenge into the result of a tool that has failed.

    SEP-1489 of MCP, which ChatGPT reads.
    """

    def change(answer: JSONObject) -> bool:
        result = answer.get("result")
        if not is_error_result(result):
            return False
        meta = result.setdefault("_meta", {})
        if is_object(meta):
            meta["mcp/www_authenticate"] = [challenge.decode("ascii")]
        return True

    return change


def format_refusal(id: object, text: str, challenge: bytes) -> bytes:
    """Return the failed result of a tool, with a challenge in it."""
    answer: JSONObject = {
        "jsonrpc": "2.0",
        "id": id,
        "result": {"content": [{"type": "text", "text": text}], "isError": True},
    }
    challenge_in_result(challenge)(answer)
    return json.dumps(answer).encode()
