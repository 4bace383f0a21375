"""Refresh tokens: ``rt_``, the grant, its generation, and a MAC over both. Pure.

Nothing is kept of a token, so every worker can make the same one again, and garbage is refused
without a look at the store.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence

from ..._json import encode_base64url
from ...errors import InvalidGrant

_TOKEN = re.compile(r"rt_([A-Za-z0-9_-]{22})\.(0|[1-9][0-9]{0,8})\.([A-Za-z0-9_-]{43})")


class RefreshTokens:
    """Makes and reads refresh tokens.

    Args:
        keys: the first one signs, all of them are accepted.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def make(self, grant_id: str, generation: int) -> str:
        """Return the refresh token of a generation, the same one each time."""
        return f"rt_{grant_id}.{generation}.{_mac(self._keys[0], grant_id, generation)}"

    def parse(self, token: str) -> tuple[str, int]:
        """Return grant and generation.

        Raises:
            InvalidGrant: the token was not made here.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise InvalidGrant(reason="unknown_refresh_token")
        grant_id, generation, mac = match[1], int(match[2]), match[3]
        if not any(hmac.compare_digest(mac, _mac(key, grant_id, generation)) for key in self._keys):
            raise InvalidGrant(reason="unknown_refresh_token")
        return grant_id, generation


def _mac(key: bytes, grant_id: str, generation: int) -> str:
    return encode_base64url(hmac.digest(key, f"{grant_id}.{generation}".encode(), "sha256"))
