"""Redirect URIs of well-known clients that have a private-use scheme, with their sources. Pure.

Each is compared as a whole, so that it allows no other URI of its scheme. Left out on purpose:
clients whose URI differs from server to server, and those for which no source was found. Claude,
ChatGPT, VS Code, Windsurf and most command lines come back over https or loopback, which need no
table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_RAYCAST = "https://developers.raycast.com/utilities/oauth"
_VS_CODE = "microsoft/vscode, extensions/github-authentication: its own sign-in, never seen for MCP"
_WARP = "warpdotdev/warp, app/src/ai/mcp/templatable_manager/oauth.rs"

KNOWN_REDIRECT_URIS: Final[Mapping[str, str]] = {
    # Cursor
    "cursor://anysphere.cursor-mcp/oauth/callback": "https://github.com/laravel/mcp/issues/173",
    # Raycast
    "com.raycast:/oauth?package_name=Extension": _RAYCAST,
    "raycast://oauth?package_name=Extension": _RAYCAST,
    # VS Code and its Insiders
    "vscode://vscode.github-authentication/did-authenticate": _VS_CODE,
    "vscode-insiders://vscode.github-authentication/did-authenticate": _VS_CODE,
    # Warp and its preview
    "warp://mcp/oauth2callback": _WARP,
    "warppreview://mcp/oauth2callback": _WARP,
}
