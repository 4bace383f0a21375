"""Makes and parses refresh tokens: ``rt_``, the grant id, a generation, and a MAC over both. Pure.

Tokens are not stored: every worker can make the same one again, and rejects garbage without asking
the store.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence

from ..._json import encode_base64url
from ...errors import InvalidGrant

_TOKEN = re.compile(r"rt_([A-Za-z0-9_-]{22})\.(0|[1-9][0-9]{0,8})\.([A-Za-z0-9_-]{43})")


class RefreshTokens:
    """Makes and parses refresh tokens.

    Args:
        keys: the first one signs; all of them are accepted.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def make(self, grant_id: str, generation: int) -> str:
        """Return the refresh token of a generation, always the same one."""
        return f"rt_{grant_id}.{generation}.{_mac(self._keys[0], grant_id, generation)}"

    def parse(self, token: str) -> tuple[str, int]:
        """Return the grant id and the generation of a token.

        Raises:
            InvalidGrant: this server did not make the token.
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
