"""Hash passwords so that checking them takes no time: the cost is the subject of few tests."""

from __future__ import annotations

import base64
import functools
import hashlib


@functools.cache
def cheap(password: str, log_n: int = 4, p: int = 1) -> str:
    """Return a hash in the form of ``hash_password``, of any cost."""
    key = hashlib.scrypt(
        password.encode(), salt=b"salt", n=1 << log_n, r=8, p=p, dklen=32, maxmem=1 << 28
    )
    salt, shown = (base64.b64encode(each).decode() for each in (b"salt", key))
    return f"scrypt$ln={log_n},r=8,p={p}${salt}${shown}"
