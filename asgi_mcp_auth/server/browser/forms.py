"""Forms: whether a page or a form comes from this server itself (CSRF, DNS rebinding)."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

from ..._json import encode_base64url
from ..._urls import is_loopback_host, origin_of
from ...errors import ForbiddenForm
from ..records import hash_of
from .requests import PageRequest

_OWN_SITES = (None, b"same-origin", b"none")


class Forms:
    """Makes and checks the tokens of forms, and checks which page sent one.

    Args:
        issuer: the server's URL.
        keys: the first one makes tokens, all of them are accepted.
    """

    def __init__(self, issuer: str, keys: Sequence[bytes]) -> None:
        # "null": our pages send no referrer, and browsers then hide the origin of a form as well.
        self._own_origins = (None, b"null", origin_of(issuer).encode())
        self._is_local = is_loopback_host(urlsplit(issuer).hostname)
        self._keys = keys

    def token(self, endpoint: str, *parts: str) -> str:
        """Return the token that a form carries, to show that this server made it as it was sent.

        Args:
            endpoint: where the form goes.
            parts: the values that it is bound to. One of them is a secret of this browser: the id
                of a transaction or of a session.
        """
        return _token(self._keys[0], endpoint, parts)

    def check_token(self, request: PageRequest, *parts: str) -> None:
        """Check the token of a form.

        Raises:
            ForbiddenForm: it is not the one that ``token`` returns.
        """
        sent = (request.parameters.get("csrf") or "").encode("utf-8", "surrogatepass")
        expected = (_token(key, request.endpoint, parts).encode() for key in self._keys)
        if not any(hmac.compare_digest(sent, each) for each in expected):
            raise ForbiddenForm

    def secret_of(self, transaction_id: str) -> str:
        """Return a secret of the transaction that cannot be derived from its id."""
        return _token(self._keys[0], "secret", (transaction_id,))

    def check_host(self, request: PageRequest) -> None:
        """Check that a page of a server on loopback was opened under a name of this machine.

        Under any other name (DNS rebinding), the page would belong to an attacker's site, whose
        scripts could sign in and consent.

        Raises:
            ForbiddenForm: it was not.
        """
        host = request.header(b"host")
        if self._is_local and host is not None and not is_loopback_host(_host_name(host)):
            raise ForbiddenForm("This page was opened under another address", reason="host")

    def check_same_site(self, request: PageRequest) -> None:
        """Check that no page of another site sent the form, as far as the browser reveals it.

        Raises:
            ForbiddenForm: one did.
        """
        is_own = (
            request.header(b"sec-fetch-site") in _OWN_SITES
            and request.header(b"origin") in self._own_origins
        )
        if not is_own:
            raise ForbiddenForm(reason="cross_site")


def _token(key: bytes, endpoint: str, parts: Sequence[str]) -> str:
    # Each part is hashed to a fixed length, so that no part can run over into the next one.
    message = "".join(map(hash_of, (endpoint, *parts)))
    return encode_base64url(hmac.digest(key, message.encode(), "sha256"))


def _host_name(host: bytes) -> str | None:
    try:
        return urlsplit(f"//{host.decode('ascii')}").hostname
    except ValueError:
        return None
