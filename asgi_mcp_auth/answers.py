"""Changes the answers of an MCP server: lists that hide something, and refusals inside tools.

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

# Two line endings. One that may go on in the next chunk counts: a blank line more means nothing.
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_LINE_END = re.compile(r"\r\n|\n|\r")


class ChangedAnswer:
    """A ``send`` that passes the answers in a response on, after ``change``.

    Args:
        send: of the request.
        change: called with each JSON-RPC answer.
        is_refusal: whether the first answer becomes another response: then nothing is sent, and
            ``is_refused`` is set. Without it, an answer that cannot be read is an error.
        begun: the start of a response that has begun; only a stream can still be changed then.
    """

    def __init__(
        self,
        send: Send,
        change: Change,
        *,
        is_refusal: Callable[[JSONObject], bool] | None = None,
        begun: Message | None = None,
    ) -> None:
        self._send = send
        self._change = change
        self._is_refusal = is_refusal
        self._start: Message = begun or {}
        self._buffer = bytearray()
        self.has_begun = begun is not None
        self.is_refused = False
        self._is_stream = _is_stream(self._start)
        self._is_passed = self.has_begun and (not self._is_stream or _is_compressed(self._start))

    async def __call__(self, message: Message) -> None:
        """Send a message of the app, or keep it until its answer is complete."""
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._is_passed or message["type"] != "http.response.body":
            await self._send(message)
        elif not self.is_refused:
            await (self._stream(message) if self._is_stream else self._whole(message))

    async def _begin(self, start: Message) -> None:
        self._start = start
        self._is_stream = _is_stream(start)
        self._is_passed = not 200 <= start["status"] < 300
        if not self._is_passed and _is_compressed(start):
            if self._is_refusal is None:
                raise ConfigurationError(
                    "the app compresses answers although it was not asked to, so lists cannot be"
                    " filtered: compress outside of MCPAuthMiddleware"
                )
            self._is_passed = True
        if self._is_passed or (self._is_stream and self._is_refusal is None):
            await self._send_start()

    async def _send_start(self) -> None:
        if not self.has_begun:
            self.has_begun = True
            await self._send(self._start)

    async def _whole(self, message: Message) -> None:
        self._buffer += message.get("body", b"")
        if message.get("more_body", False):
            return
        before = bytes(self._buffer)
        body = self._changed(before)
        if self.is_refused:
            return
        if body != before:
            self._start = {**self._start, "headers": _with_length(self._start, len(body))}
        await self._send_start()
        await self._send({**message, "body": body})

    async def _stream(self, message: Message) -> None:
        # An event may end in the middle of an ending that has arrived in part.
        searched = max(0, len(self._buffer) - 3)
        self._buffer += message.get("body", b"")
        events: list[bytes] = []
        position = 0
        for end in _EVENT_END.finditer(self._buffer, searched):
            events.append(bytes(self._buffer[position : end.end()]))
            position = end.end()
        del self._buffer[:position]
        if not message.get("more_body", False):
            events.append(bytes(self._buffer))
        elif not events:
            return
        body = b"".join(change_event(event, self._changed) for event in events)
        if not self.is_refused:
            await self._send_start()
            await self._send({**message, "body": body})

    def _changed(self, data: bytes) -> bytes:
        answer = {} if self._is_refusal is None else _answer_in(data)
        if answer and self._is_refusal is not None:
            self.is_refused = not self.has_begun and self._is_refusal(answer)
            self._is_refusal = None
        return data if self.is_refused else change_json(data, self._change)


def change_event(event: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return an event of a stream after ``change`` of its data: the same bytes if it is the same.

    WHATWG HTML §9.2.6.
    """
    if b"data:" not in event:
        return event
    lines = _LINE_END.split(event.decode("utf-8-sig", "replace"))
    data = "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))
    before = data.encode()
    changed = change(before)
    if changed == before:
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
    return json.dumps(value, separators=(",", ":")).encode()


def _answer_in(data: bytes) -> JSONObject:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if is_object(value) else {}


def _with_length(start: Message, length: int) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response with another length."""
    headers = [each for each in start.get("headers", ()) if each[0].lower() != b"content-length"]
    return [*headers, (b"content-length", b"%d" % length)]


def _is_stream(start: Message) -> bool:
    return _header(start, b"content-type").startswith(b"text/event-stream")


def _is_compressed(start: Message) -> bool:
    return _header(start, b"content-encoding") not in (b"", b"identity")


def _header(start: Message, name: bytes) -> bytes:
    headers: HeaderList = start.get("headers", ())
    return next((value.lower() for key, value in headers if key.lower() == name), b"")


# The things in lists, and the members that name them.
LISTS: Mapping[str, tuple[str, str]] = {
    "tools": ("tool", "name"),
    "prompts": ("prompt", "name"),
    "resources": ("resource", "uri"),
    "resourceTemplates": ("resource", "uriTemplate"),
}


def list_filter(
    is_visible: Callable[[str, str], bool], schemes_of: Callable[[str], Any] | None
) -> Change:
    """Return a change that filters the lists in an answer.

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


def is_refusal(answer: JSONObject) -> bool:
    """Return whether a JSON-RPC answer is an error, or the result of a tool that has failed."""
    if "jsonrpc" not in answer:
        return False
    return "error" in answer or _has_failed(answer.get("result"))


def _has_failed(result: object) -> TypeGuard[JSONObject]:
    return is_object(result) and result.get("isError") is True


def challenge_in_result(challenge: bytes) -> Change:
    """Return a change that puts a challenge into the result of a tool that has failed.

    SEP-1489 of MCP; https://developers.openai.com/apps-sdk/build/auth.
    """

    def change(answer: JSONObject) -> bool:
        result = answer.get("result")
        if not _has_failed(result):
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
