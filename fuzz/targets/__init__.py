"""One module per parser. Each has ``seeds()``, ``DICTIONARY`` and ``check(data)``, which raises on
a finding.

No module here imports atheris: the test suite runs ``check`` on the seeds and on a few mutations of
    them.
"""

from __future__ import annotations

NAMES = (
    *("token", "authorization", "jwks", "pem", "json_text", "base64url", "origin", "paths"),
    *(
        "form",
        "client_auth",
        "refresh_token",
        "registration",
        "client_document",
        "redirect_uri",
        "cookies",
        "pages",
        "mcp_message",
    ),
)
