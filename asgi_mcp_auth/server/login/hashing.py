"""Hashes and checks passwords: scrypt from the standard library (RFC 7914).

Pure, and slow on purpose.
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
# The hash of no password: checked for unknown accounts, so that they take as long as known ones.
DUMMY_HASH = (
    f"scrypt$ln={_LOG_N},r={_R},p={_P}${_encoded(bytes(_SALT_BYTES))}${_encoded(bytes(_KEY_BYTES))}"
)
HASH_COMMAND = (
    "python -c 'import getpass; from asgi_mcp_auth.server import hash_password; "
    "print(hash_password(getpass.getpass()))'"
)


def hash_password(password: str) -> str:
    """Return the hash to store for a password, ``scrypt$…``.

    Takes at least a fifth of a second of one core.
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    key = _scrypt(password, salt, _LOG_N, _R, _P)
    return f"scrypt$ln={_LOG_N},r={_R},p={_P}${_encoded(salt)}${_encoded(key)}"


def check_password(password: str, stored: str, *, work: int = 0) -> bool:
    """Return whether ``stored`` is a hash of this password.

    Args:
        password: the submitted password.
        stored: a result of ``hash_password``.
        work: the least work to do, in the unit of ``work_of``, even if ``stored`` is cheaper.

    Raises:
        ConfigurationError: ``stored`` is not a result of ``hash_password``.
    """
    salt, key, log_n, r, p = parse_hash(stored)
    is_right = hmac.compare_digest(_scrypt(password, salt, log_n, r, p), key)
    for cost in padding(work - work_of(stored)):
        _scrypt(password, salt, *cost)
    return is_right


def work_of(stored: str) -> int:
    """Return the work of checking a password against ``stored``: scrypt's N · r · p.

    Raises:
        ConfigurationError: ``stored`` is not a result of ``hash_password``.
    """
    _, _, log_n, r, p = parse_hash(stored)
    return r * p << log_n


def padding(work: int) -> list[tuple[int, int, int]]:
    """Return costs (log N, r, p) that add up to this much work, within a few microseconds."""
    costs: list[tuple[int, int, int]] = []
    for log_n in range(_LOG_N, 0, -1):
        while work >= _R << log_n:
            p = min(_MAX_P, work // (_R << log_n))
            costs.append((log_n, _R, p))
            work -= _R * p << log_n
    return costs


def dummy_hash_like(stored: str) -> str:
    """Return a hash of no password that takes as much work to check as ``stored``."""
    cost = stored.split("$")[:2]
    salt_and_key = DUMMY_HASH.split("$")[2:]
    return "$".join((*cost, *salt_and_key))


def parse_hash(stored: str) -> tuple[bytes, bytes, int, int, int]:
    """Return salt, key and cost (log N, r, p) of a result of ``hash_password``.

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
        "a stored password of PasswordLogin is not a result of hash_password(): make a new one"
        f" with {HASH_COMMAND}"
    )


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    # Without maxmem, OpenSSL refuses to use more than 32 MiB.
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=1 << log_n,
        r=r,
        p=p,
        maxmem=_MAX_BYTES,
        dklen=_KEY_BYTES,
    )
