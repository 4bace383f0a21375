"""Passwords as they are kept: scrypt from the standard library (RFC 7914). Pure, and slow on
purpose.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets

from ...errors import ConfigurationError


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


HASH = re.compile(
    r"scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})\$([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+)"
)
_LOG_N, _R, _P = 15, 8, 3  # OWASP Password Storage Cheat Sheet: 32 MiB, three passes
_SALT_BYTES, _KEY_BYTES = 16, 32
_MAX_BYTES, _MAX_P = 1 << 28, 99
# Nobody's password: to compare with where there is nobody.
NOBODY = (
    f"scrypt$ln={_LOG_N},r={_R},p={_P}${_encoded(bytes(_SALT_BYTES))}${_encoded(bytes(_KEY_BYTES))}"
)
HASH_COMMAND = (
    "python -c 'import getpass; from asgi_mcp_auth.server import hash_password; "
    "print(hash_password(getpass.getpass()))'"
)


def hash_password(password: str) -> str:
    """Return what to keep instead of a password, ``scrypt$…``; it takes a fifth of a second or more
    of a whole core.
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    key = _scrypt(password, salt, _LOG_N, _R, _P)
    return f"scrypt$ln={_LOG_N},r={_R},p={_P}${_encoded(salt)}${_encoded(key)}"


def check_password(password: str, stored: str, *, work: int = 0) -> bool:
    """Return whether ``stored`` was made of this password.

    Args:
        password: to be checked.
        stored: what ``hash_password`` returned.
        work: do at least so much, as ``work_of`` counts it, however cheap ``stored`` is.

    Raises:
        ConfigurationError: ``stored`` is not what ``hash_password`` returns.
    """
    salt, key, log_n, r, p = parse_hash(stored)
    good = hmac.compare_digest(_scrypt(password, salt, log_n, r, p), key)
    for cost in padding(work - work_of(stored)):
        _scrypt(password, salt, *cost)
    return good


def work_of(stored: str) -> int:
    """Return how much work it is to check a password against ``stored``: scrypt's N · r · p.

    Raises:
        ConfigurationError: ``stored`` is not what ``hash_password`` returns.
    """
    _, _, log_n, r, p = parse_hash(stored)
    return r * p << log_n


def padding(work: int) -> list[tuple[int, int, int]]:
    """Return costs (log N, r, p) that are so much work together, but for the last few
    microseconds.
    """
    costs: list[tuple[int, int, int]] = []
    for log_n in range(_LOG_N, 0, -1):
        while work >= _R << log_n:
            p = min(_MAX_P, work // (_R << log_n))
            costs.append((log_n, _R, p))
            work -= _R * p << log_n
    return costs


def nobody_like(stored: str) -> str:
    """Return a hash that is nobody's password, and as much work to check as ``stored``."""
    return "$".join((*stored.split("$")[:2], *NOBODY.split("$")[2:]))


def parse_hash(stored: str) -> tuple[bytes, bytes, int, int, int]:
    """Return salt, key and cost of what ``hash_password`` returned.

    Raises:
        ConfigurationError: it is something else.
    """
    match = HASH.fullmatch(stored)
    if match is not None:
        log_n, r, p = (int(text) for text in match.groups()[:3])
        try:
            salt, key = (base64.b64decode(text, validate=True) for text in match.groups()[3:])
        except ValueError:  # binascii.Error is one
            salt = key = b""
        if salt and key and min(log_n, r, p) > 0 and 128 * r * (2**log_n + p) < _MAX_BYTES:
            return salt, key, log_n, r, p
    raise ConfigurationError(
        "a stored password of PasswordLogin is not what hash_password() returns: make it again"
        f" with {HASH_COMMAND}"
    )


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    # OpenSSL wants to be told how much memory it may take.
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=1 << log_n,
        r=r,
        p=p,
        maxmem=_MAX_BYTES,
        dklen=_KEY_BYTES,
    )
