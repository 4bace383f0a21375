"""Judges the messages of an MCP server before it gets them.

The app gets exactly the bytes that were judged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, NoReturn, TypeAlias

from ._asgi import read_body
from ._places import Places, network_of
from .answers import ChangedAnswer, list_filter
from .errors import (
    BodyTooLarge,
    InsufficientScope,
    InvalidMessage,
    MalformedRequest,
    ServerUnavailable,
    TooManyRequests,
)
from .operations import (
    MESSAGE_KEY,
    MCPMessage,
    Operation,
    UnreadableMessage,
    check_headers,
    parse_message,
)
from .policy import AccessPolicy
from .rules import fold_path
from .tokens import AccessToken
from .types import JSONObject, Message, Receive, Scope, Send

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
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
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        challenge: ChallengeForm = "http",
    ) -> None:
        self.policy = policy
        self.paths = tuple(paths)
        self._folded = tuple(f"{fold_path(path)}/" for path in paths)
        self._length = 2 * max(map(len, self._folded))
        self._max_bytes = max_message_bytes
        self._challenge = challenge
        # What callers without a token can make the server hold: 32 messages that are on their way.
        self._strangers = Places(32, each=4, wait_seconds=5, usual_seconds=1)

    def covers(self, path: str) -> bool:
        """Return whether a decoded path may lead to the endpoint, in any spelling."""
        return path in self.paths or f"{fold_path(path[: self._length])}/".startswith(self._folded)

    async def judge(
        self, scope: Scope, receive: Receive, access: AccessToken | None, required: Sequence[str]
    ) -> Receive:
        """Return what the app receives: the body that was judged, then the rest.

        Args:
            scope: a copy of the request's own; the message is put into it.
            receive: of the request.
            access: the caller's token, if there is one.
            required: scopes needed for everything that is not public.

        Raises:
            RequestError: the message is refused, or cannot be judged.

        MCP 2026-07-28, Streamable HTTP, and Authorization, Scope Challenge Handling.
        """
        method = scope.get("method", "")
        if method == "POST":
            mirrored = self._check(scope["headers"])
            body = await self._read(scope, receive, access)
            try:
                message = parse_message(body)
                if mirrored:
                    check_headers(mirrored, message)
            except UnreadableMessage as error:
                raise InvalidMessage(str(error), code=error.code, id=error.id) from None
            receive = _again({"type": "http.request", "body": body, "more_body": False}, receive)
        elif method in _BARE:
            message = MCPMessage(None, (Operation(method, None, "", {}),))
        else:  # a WebSocket, or a method that the transport does not have
            raise InvalidMessage("Messages are sent by POST", status=405)
        scope[MESSAGE_KEY] = message
        decision = await self.policy.decide(message, access, required)
        if decision.status != 200:
            raise InsufficientScope(*decision.scopes)  # without a token, it is answered as a 401
        return receive

    def _check(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return the headers that mirror the body.

        Raises:
            InvalidMessage: another header says that the body is too long, or not plain UTF-8.
        """
        mirrored: list[tuple[bytes, bytes]] = []
        for name, value in headers:
            if name not in _HEADERS:
                continue
            if name == b"content-length":
                if not value.isdigit() or len(value) > 12 or int(value) > self._max_bytes:
                    self._refuse_size()
            elif name == b"content-type":
                if b"=" in value and not _is_utf8(value):
                    raise InvalidMessage("The body must be in UTF-8", status=415)
            elif name == b"content-encoding":
                if value.strip().lower() != b"identity":
                    raise InvalidMessage("The body must not be compressed", status=415)
            else:
                mirrored.append((name, value))
        return mirrored

    def refuses_in_result(self, scope: Scope) -> bool:
        """Return whether the refusal of this message goes into the result of its tool."""
        message = scope.get(MESSAGE_KEY)
        if message is None or len(message.operations) != 1 or self._challenge == "http":
            return False
        form = self._challenge if isinstance(self._challenge, str) else self._challenge(scope)
        return form == "result" and message.operations[0].method == "tools/call"

    def filter_lists(
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

    async def _read(self, scope: Scope, receive: Receive, access: AccessToken | None) -> bytes:
        """Return the body of a request.

        Raises:
            RequestError: it is too long, or too slow.
        """
        first = await receive()
        if first["type"] == "http.request" and not first.get("more_body", False):
            body: bytes = first.get("body", b"")
            if len(body) > self._max_bytes:
                self._refuse_size()
            return body
        place = None
        try:
            if access is None:
                place = await self._strangers.enter(network_of(_address(scope)))
            return await read_body(
                _again(first, receive), max_bytes=self._max_bytes, timeout_seconds=BODY_SECONDS
            )
        except TooManyRequests:
            raise ServerUnavailable from None
        except BodyTooLarge:
            self._refuse_size()
        except MalformedRequest as error:
            raise InvalidMessage(str(error), status=408) from None
        finally:
            if place is not None:
                place.leave()

    def _refuse_size(self) -> NoReturn:
        raise InvalidMessage(f"The body is longer than {self._max_bytes} bytes", status=413)


def _address(scope: Scope) -> str:
    return (scope.get("client") or ("",))[0]


def _is_utf8(content_type: bytes) -> bool:
    _, found, charset = content_type.lower().partition(b"charset=")
    return not found or charset.partition(b";")[0].strip(b' "') in (b"utf-8", b"utf8", b"us-ascii")


def _again(first: Message, receive: Receive) -> Receive:
    """Return a ``receive`` that gives ``first`` before everything else."""
    messages = [first]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again
