"""Makes random values repeatable, for the whole process: for ``python -m tests.recording`` only.

It has to run before the package is imported. AES-GCM nonces become repeatable too, which is why
this must never happen in a process that keeps anything.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter


class Randomness:
    """Takes the place of ``secrets.token_bytes``, on which ``token_hex`` and ``token_urlsafe``
    build.

    Values depend on the exchange, on their length and on how many of that length came before in the
    same exchange. So a write more or less to the encrypted store, with its 12 bytes, moves nothing
    else, and an exchange that is inserted moves only what follows in its own scene.
    """

    def __init__(self) -> None:
        self._label = "start"
        self._drawn: Counter[int] = Counter()

    def begin(self, label: str) -> None:
        """Start the values that belong to ``label``."""
        self._label = label
        self._drawn.clear()

    def token_bytes(self, nbytes: int | None = None) -> bytes:
        """Return the next value of this length."""
        size = 32 if nbytes is None else nbytes
        self._drawn[size] += 1
        seed = f"{self._label}/{size}/{self._drawn[size]}".encode()
        return hashlib.shake_256(seed).digest(size)


def make_repeatable() -> Randomness:
    """Replace the source of random tokens of this process."""
    randomness = Randomness()
    secrets.token_bytes = randomness.token_bytes
    return randomness
