"""Values that several presets share."""

from __future__ import annotations

from typing import Final

from ..model import Audience

OFFLINE_SCOPES: Final = ("openid", "profile", "email", "offline_access")
API_AUDIENCE: Final = Audience(
    "resource", "aud is the identifier of the API that you register; it can be the resource URL"
)
