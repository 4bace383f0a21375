"""Hash passwords so that checking them takes no time: the cost is the subject of few tests."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from asgi_mcp_auth import PasswordLogin


@functools.cache
def cheap(password: str, log_n: int = 4, p: int = 1) -> str:
    """Return a hash in the form of ``hash_password``, of any cost."""
    key = hashlib.scrypt(
        password.encode(), salt=b"salt", n=1 << log_n, r=8, p=p, dklen=32, maxmem=1 << 28
    )
    salt, shown = (base64.b64encode(each).decode() for each in (b"salt", key))
    return f"scrypt$ln={log_n},r=8,p={p}${salt}${shown}"


def looking_up(
    users: Callable[[str], str | Awaitable[str | None] | None], **settings: Any
) -> PasswordLogin:
    """Return a login step with a look-up, which has seen cheap hashes only so far.

    Of its own it takes every hash for one of today's until it has seen it.
    """
    login = PasswordLogin(users, **settings)
    login._hardest = cheap("")
    return login
