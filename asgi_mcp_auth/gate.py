"""Judges the messages of an MCP server before it gets them.

The app gets exactly the bytes that were judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, NoReturn, TypeAlias

from ._settings import check_count
from .answers import ChangedAnswer, list_filter
from .errors import (
    ClientLeft,
    ConfigurationError,
    InsufficientScope,
    InvalidMessage,
    MissingToken,
)
from .mounting import resource_paths
from .operations import (
    MESSAGE_KEY,
    RESULT_KEY,
    MCPMessage,
    Operation,
    check_headers,
    parse_message,
)
from .policy import AccessPolicy, MessageRule
from .rules import fold_path
from .tokens import AccessToken
from .types import JSONObject, Message, Receive, Scope, Send

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_ANONYMOUS_BYTES = 64 * 1024  # what strangers can make the server hold and read, each
BODY_SECONDS = 60.0
ChallengeForm: TypeAlias = "Literal['http', 'result'] | Callable[[Scope], str]"
# What may bring a list; the stream of a GET repeats answers that a client has missed.
_LISTING = frozenset(
    {"tools/list", "prompts/list", "resources/list", "resources/templates/list", "GET"}
)
_HEADERS = frozenset(
    {b"content-length", b"content-type", b"content-encoding", b"mcp-method", b"mcp-name"}
)
# The methods of the transport that carry no message.
_BARE = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


class MessageGate:
    """Judges the requests to one MCP endpoint.

    Args:
        policy: decides.
        paths: of the endpoint; everything below is taken for it, too.
        max_message_bytes: of one message; a longer one is refused with a 413.
        challenge: where tools are refused: by ``"http"``, in the ``"result"``, or a function of the
            ASGI scope that returns one of the two.
    """

    def __init__(
        self,
        policy: AccessPolicy,
        paths: Collection[str],
        *,
        max_message_bytes: int,
        challenge: ChallengeForm,
    ) -> None:
        self.policy = policy
        self.paths = tuple(paths)
        self._folded = tuple(f"{fold_path(path)}/" for path in paths)
        self._length = 2 * max(map(len, self._folded))
        self._max_bytes = max_message_bytes
        self._challenge = challenge
        self._max_anonymous_bytes = min(max_message_bytes, MAX_ANONYMOUS_BYTES)

    def covers(self, path: str) -> bool:
        """Return whether a decoded path may lead to the endpoint, in any spelling."""
        return path in self.paths or f"{fold_path(path[: self._length])}/".startswith(self._folded)

    async def judge(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        access: AccessToken | None,
        required: Sequence[str],
    ) -> tuple[Receive, Send]:
        """Return what the app gets: the body that was judged and then the rest, and a ``send`` that
        filters lists.

        Args:
            scope: a copy of the request's own; the message is put into it.
            receive: of the request.
            send: of the request.
            access: the caller's token, if there is one.
            required: scopes needed for everything that is not public.

        Raises:
            RequestError: the message is refused, or cannot be judged.
            ClientLeft: the client has disconnected.

        MCP 2026-07-28, Streamable HTTP, and Authorization, Scope Challenge Handling.
        """
        method = scope.get("method", "")
        if method == "POST":
            max_bytes = self._max_bytes if access is not None else self._max_anonymous_bytes
            mirrored = self._check(scope["headers"], max_bytes)
            body = await self._read(receive, max_bytes)
            message = parse_message(body, arguments_decide=self.policy.has_functions)
            if mirrored:
                check_headers(mirrored, message)
            receive = _again({"type": "http.request", "body": body, "more_body": False}, receive)
        elif method in _BARE:
            message = MCPMessage(None, (Operation(method, None, "", {}),))
        else:  # a WebSocket, or a method that the transport does not have
            raise InvalidMessage("Messages are sent by POST", status=405)
        scope[MESSAGE_KEY] = message
        if self._challenge != "http" and self._in_result(scope, message):
            scope[RESULT_KEY] = True
        decision = await self.policy.decide(message, access, required)
        if decision.status == 401 and not decision.rules and _asks_for_stream(scope):
            # Right after the handshake. At a 401, clients would sign their person in now and not
            # when something needs it; at a 405, they go on without a stream.
            raise InvalidMessage("Without a token there is no stream", status=405)
        if decision.status != 200:
            raise InsufficientScope(*decision.scopes)  # without a token, it is answered as a 401
        return receive, self._filter_lists(scope, send, access, required)

    def _check(
        self, headers: Iterable[tuple[bytes, bytes]], max_bytes: int
    ) -> list[tuple[bytes, bytes]]:
        """Return the headers that mirror the body.

        Raises:
            RequestError: another header says that the body is too long, or not plain UTF-8.
        """
        mirrored: list[tuple[bytes, bytes]] = []
        for name, value in headers:
            if name not in _HEADERS:
                continue
            if name == b"content-length":
                if not value.isdigit() or len(value) > 12 or int(value) > max_bytes:
                    self._refuse_size(max_bytes)
            elif name == b"content-type":
                if b"=" in value and not _is_utf8(value):
                    raise InvalidMessage("The body must be in UTF-8", status=415)
            elif name == b"content-encoding":
                if value.strip().lower() != b"identity":
                    raise InvalidMessage("The body must not be compressed", status=415)
            else:
                mirrored.append((name, value))
        return mirrored

    def _in_result(self, scope: Scope, message: MCPMessage) -> bool:
        """Return whether the refusal of this message goes into the result of its tool."""
        form = self._challenge if isinstance(self._challenge, str) else self._challenge(scope)
        _check_form("what challenge returns", form)
        operations = message.operations
        return form == "result" and len(operations) == 1 and operations[0].method == "tools/call"

    def _filter_lists(
        self, scope: Scope, send: Send, access: AccessToken | None, required: Sequence[str]
    ) -> Send:
        """Return the ``send`` for the app: lists leave out what the caller may not use.

        With challenges in results, tools also say whether they need a token.
        """
        message: MCPMessage = scope[MESSAGE_KEY]
        names = self._challenge != "http"
        if not (names or self.policy.has_hidden) or not any(
            each.method in _LISTING for each in message.operations
        ):
            return send

        def is_visible(subject: Any, name: str) -> bool:
            return self.policy.is_visible(subject, name, access, required)

        def schemes_of(tool: str) -> list[JSONObject]:
            return self.policy.security_schemes(tool, required)

        # An answer that is compressed could not be read.
        scope["headers"] = [each for each in scope["headers"] if each[0] != b"accept-encoding"]
        return ChangedAnswer(send, list_filter(is_visible, schemes_of if names else None))

    async def _read(self, receive: Receive, max_bytes: int) -> bytes:
        """Return the body of a request.

        Raises:
            RequestError: it is too long, or too slow.
            ClientLeft: it has not arrived.
        """
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) > max_bytes:
                self._refuse_size(max_bytes)
            return body
        parts = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while message["type"] == "http.request":
                    parts += message.get("body", b"")
                    if len(parts) > max_bytes:
                        self._refuse_size(max_bytes)
                    if not message.get("more_body", False):
                        return bytes(parts)
                    message = await receive()
        except TimeoutError:
            raise InvalidMessage("The body did not arrive in time", status=408) from None
        raise ClientLeft

    def _refuse_size(self, max_bytes: int) -> NoReturn:
        """Raise what a body over the limit gets: with a token, there is a higher one."""
        if max_bytes < self._max_bytes:
            raise MissingToken
        raise InvalidMessage(f"The body is longer than {max_bytes} bytes", status=413)


def make_gate(
    rules: Sequence[MessageRule],
    base_url: str | None,
    mcp_path: str | None,
    max_message_bytes: int,
    challenge: ChallengeForm,
) -> MessageGate | None:
    """Return the gate of a middleware, or ``None`` if no message needs to be read.

    Args:
        rules: for messages.
        base_url: see ``MCPAuthMiddleware``.
        mcp_path: see ``MCPAuthMiddleware``.
        max_message_bytes: see ``MessageGate``.
        challenge: see ``MessageGate``.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    check_count("max_message_bytes", max_message_bytes)
    if not callable(challenge):
        _check_form("challenge", challenge)
    if not rules and challenge == "http":
        return None
    if mcp_path is None:
        given = f"rules has {rules[0]!r}" if rules else f"challenge is {challenge!r}"
        raise ConfigurationError(
            f"{given}, but there is no mcp_path: write mcp_path='/mcp', the path of your MCP server"
        )
    # Without a path, every path may lead to the resource.
    path = mcp_path.rstrip("/")
    paths = resource_paths(base_url, path) if path else {""}
    return MessageGate(
        AccessPolicy(rules), paths, max_message_bytes=max_message_bytes, challenge=challenge
    )


def _check_form(setting: str, form: object) -> None:
    if form not in ("http", "result"):
        raise ConfigurationError(f"{setting}={form!r} must be 'http' or 'result'")


def _asks_for_stream(scope: Scope) -> bool:
    return scope.get("method") == "GET" and any(
        name == b"accept" and b"text/event-stream" in value for name, value in scope["headers"]
    )


def _is_utf8(content_type: bytes) -> bool:
    _, found, charset = content_type.lower().partition(b"charset=")
    return not found or charset.partition(b";")[0].strip(b' "') in (b"utf-8", b"utf8", b"us-ascii")


def _again(first: Message, receive: Receive) -> Receive:
    """Return a ``receive`` that gives ``first`` before everything else."""
    messages = [first]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again
