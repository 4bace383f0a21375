"""Grants: the access that a person, or a client for itself, gives a client. Lists the grant types.

To add one, write a module with a ``GRANT`` and add its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from . import authorization_code, client_credentials, refresh_token
from .grant_type import GrantType

GRANT_TYPES: Final[Sequence[GrantType]] = (
    authorization_code.GRANT,
    refresh_token.GRANT,
    client_credentials.GRANT,
)
