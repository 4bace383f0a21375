"""The cookies of an authorization server: their names, attributes and values."""

from __future__ import annotations

import re

from ..records import hash_of
from ..web import EndpointRequest

# The form of ``new_secret()``; any other value was not set here.
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


class Cookies:
    """Names and sets the cookies of one server.

    On https they are ``__Host-`` cookies; on an http loopback URL, some clients drop Secure
    cookies. The names contain the server's tag, because cookies do not distinguish ports nor, with
    that prefix, paths.

    Args:
        issuer: the server's URL.
        tag: distinguishes the server from others, even at the same URL.
    """

    def __init__(self, issuer: str, tag: str) -> None:
        is_secure = issuer.startswith("https:")
        prefix, short_tag = "__Host-" if is_secure else "", tag[:8]
        self.session = f"{prefix}mcp_session_{short_tag}"
        self._browser = f"{prefix}mcp_browser_{short_tag}_"
        self.stale = f"{prefix}mcp_stale_{short_tag}"
        self._login = f"{prefix}mcp_login_{short_tag}_"
        self._attributes = "; Path=/; HttpOnly; SameSite=Lax"
        if is_secure:
            self._attributes += "; Secure"

    def browser(self, secret_hash: str) -> str:
        """Return the name of the cookie whose secret has this hash. A browser may have several:
        requests that leave it at once, before it has one, get one each.
        """
        return self._browser + secret_hash[:8]

    def browser_secrets(self, request: EndpointRequest) -> list[str]:
        """Return the secrets in the cookies ``browser`` that a request carries, the oldest first
        (RFC 6265 §5.4).
        """
        found = request.cookies_with_prefix(self._browser)
        return [
            value
            for name, value in found
            if _SECRET.fullmatch(value) and name == self.browser(hash_of(value))
        ]

    def login(self, transaction_id: str) -> str:
        """Return the name of the login step's cookie; each transaction has its own."""
        return self._login + hash_of(transaction_id)[:8]

    def set(self, request: EndpointRequest, name: str, value: str, seconds: float) -> None:
        """Set a cookie with the response to ``request``; with 0 seconds, remove it."""
        request.set_cookie(f"{name}={value}; Max-Age={int(seconds)}{self._attributes}")


def secret_in(request: EndpointRequest, name: str) -> str | None:
    """Return the secret in a cookie, ``None`` if it holds none."""
    value = request.cookie(name)
    return value if value is not None and _SECRET.fullmatch(value) else None
