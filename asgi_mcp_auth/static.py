"""Accepts a fixed list of tokens, for development."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ._cache import token_digest
from ._settings import check_kind, check_scopes
from .auth import RefusingVerifier
from .errors import ConfigurationError, InvalidToken
from .headers import MAX_TOKEN_BYTES, is_bearer_token
from .metadata import format_document
from .tokens import AccessToken, VerifiedToken, access_token
from .types import Clock


class StaticTokenVerifier(RefusingVerifier):
    """Accepts a fixed list of tokens.

    For development and tests only: the tokens are in the source code and never change.

    Args:
        tokens: facts by token: ``client_id`` (required), ``scopes``, ``expires_at``, ``subject`` or
            ``sub``, any claims.
        required_scopes: scopes that every request needs.
        base_url: public URL of this server.
        clock: for tests.

    Raises:
        ConfigurationError: a token without a client_id, or with invalid facts.
    """

    def __init__(
        self,
        tokens: Mapping[str, Mapping[str, Any]],
        required_scopes: Sequence[str] | None = None,
        base_url: str | None = None,
        clock: Clock = time,
    ) -> None:
        super().__init__(base_url, required_scopes)
        check_kind("clock", clock, Clock)
        if not isinstance(tokens, Mapping) or not tokens:
            raise ConfigurationError(
                "tokens must be a dict, like {'dev-token': {'client_id': 'me', 'scopes': ['a']}}"
            )
        self._clock = clock
        self._bound = self.base_url
        self._tokens = [_static_token(token, facts) for token, facts in tokens.items()]

    def bind_audience(self, resource: str | None) -> None:
        """Make ``resource`` the audience of every token."""
        self._bound = resource

    async def verify(self, token: str) -> AccessToken:
        """Return the access that ``token`` grants.

        Raises:
            InvalidToken: the token is not in the list, or has expired.
        """
        digest = token_digest(token)
        found = None
        for known, verified in self._tokens:  # all of them: the time must not depend on the token
            if hmac.compare_digest(known, digest):
                found = verified
        if found is None:
            raise InvalidToken("unknown_token")
        if found.expires_at is not None and self._clock.time() >= found.expires_at:
            raise InvalidToken("expired")
        return access_token(token, found._replace(resource=self._bound))


def _static_token(token: object, members: Any) -> tuple[bytes, VerifiedToken]:
    if not isinstance(token, str) or not is_bearer_token(token) or len(token) > MAX_TOKEN_BYTES:
        raise ConfigurationError(
            "tokens: a token is visible ASCII without quotes, commas and spaces, of at most 64 KiB"
        )
    if not hasattr(members, "keys"):
        raise ConfigurationError(
            f"tokens: {members!r} must be a dict, like {{'client_id': 'me', 'scopes': ['a']}}"
        )
    facts: dict[str, Any] = dict(members)
    client_id = facts.get("client_id")
    subject = facts.get("subject", facts.get("sub"))
    if not isinstance(client_id, str) or not client_id:
        raise ConfigurationError(
            "tokens: every token needs a client_id, like {'dev-token': {'client_id': 'me'}}"
        )
    if subject is not None and not isinstance(subject, str):
        raise ConfigurationError(f"tokens: subject={subject!r} must be a string")
    expires_at = facts.get("expires_at")
    if expires_at is not None and type(expires_at) is not int:
        raise ConfigurationError(
            f"tokens: expires_at={expires_at!r} must be epoch seconds, a whole number"
        )
    scopes = check_scopes("tokens: scopes", facts.get("scopes", ()))
    try:
        claims = format_document(facts)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"tokens: a token's facts must be JSON: {error}") from None
    verified = VerifiedToken(client_id, scopes, expires_at, None, subject, claims)
    return token_digest(token), verified
