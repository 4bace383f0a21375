"""Names for the shapes that cross module borders: ASGI, JSON and the clock. No behaviour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

# Starlette's spelling of ASGI: asgiref's TypedDicts are refused where frameworks call us.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
# Any, because an app annotated with Litestar's or asgiref's narrower types is an ASGI app too.
ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
JSONObject: TypeAlias = dict[str, Any]


@runtime_checkable
class Clock(Protocol):
    """Two clocks in one seam; the standard library's ``time`` module is one."""

    def time(self) -> float:
        """Return epoch seconds: what ``exp``, ``nbf`` and ``iat`` are compared with."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards: what cache lifetimes are measured with."""
        ...
