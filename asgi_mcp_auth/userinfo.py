"""UserinfoTokenVerifier: opaque tokens, verified by fetching the profile that they open (OpenID
Connect Core §5.3).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._http import FetchFailed, Response
from ._json import parse_json_object
from ._settings import check_kind, check_names, check_url
from .claims import ANY_AUDIENCE
from .errors import ConfigurationError, InvalidToken
from .lookups import LookupVerifier
from .tokens import VerifiedToken
from .types import Clock

if TYPE_CHECKING:
    import httpx

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class UserinfoTokenVerifier(LookupVerifier):
    """Verifies tokens by fetching a profile with them, and remembers the answer for a short time.

    For providers whose tokens only they can read, and that introspect none. A profile says whose
    token it is. It does not say for whom it was made, which scopes it has or when it ends: an
    application that somebody has signed in to could use that person's token here. Within an
    ``OAuthProxy``, which gets its tokens from the provider itself, this does not matter. Everywhere
    else ``audience=ANY_AUDIENCE`` has to say that it is meant.

    Args:
        userinfo_url: where the profile is.
        subject_claim: the member of the profile that names the person and never changes; a string
            or a whole number.
        audience: ``ANY_AUDIENCE``, or ``None`` within a proxy.
        issuer: whose tokens these are: what the claims say as ``iss``, ``userinfo_url`` by default.
            In a ``MultiAuth``, JWTs of this issuer come here as well.
        required_scopes: what a proxy asks the provider for.
        base_url: public URL of this server, if used without a ``RemoteAuthProvider``.
        cache_ttl_seconds: how long a profile is used; a revoked token works so much longer. 0 asks
            every time.
        headers: sent along, such as an API version.
        http_client: an ``httpx.AsyncClient`` to use; it is never closed.
        clock: for tests.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """

    asked = "Profiles"
    names_audience = False

    def __init__(
        self,
        *,
        userinfo_url: str,
        subject_claim: str = "sub",
        audience: str | None = None,
        issuer: str | None = None,
        required_scopes: Sequence[str] | None = None,
        base_url: str | None = None,
        cache_ttl_seconds: float = 60,
        headers: Mapping[str, str] | None = None,
        http_client: httpx.AsyncClient | None = None,
        clock: Clock = time,
    ) -> None:
        super().__init__(
            check_url("userinfo_url", userinfo_url, query=True),
            issuer=issuer,
            required_scopes=required_scopes,
            base_url=base_url,
            cache_ttl_seconds=cache_ttl_seconds,
            http_client=http_client,
            clock=clock,
        )
        (self._subject_claim,) = check_names("subject_claim", [subject_claim])
        if audience not in (None, ANY_AUDIENCE):
            raise ConfigurationError(
                f"audience={audience!r}: a profile does not say for whom a token was made, so only"
                " ANY_AUDIENCE is possible, and any token of the provider is accepted then"
            )
        if len(self.issuers) > 1:
            raise ConfigurationError(
                f"issuer={issuer!r} must be one URL: a profile does not say which of them it is"
                " from"
            )
        self._any_audience = audience is not None
        self._headers = _check_headers(headers)

    def bind_audience(self, resource: str | None) -> None:
        """Check that these tokens may be taken as they are; a proxy, which gets them itself, does
        not ask.

        Raises:
            ConfigurationError: ``audience=ANY_AUDIENCE`` is missing, or scopes are required.
        """
        if not self._any_audience:
            raise ConfigurationError(
                f"tokens verified at {self.url} have no audience: one that was made for another"
                " application would open this server. Put an OAuthProxy around the verifier, or"
                " write audience=ANY_AUDIENCE"
            )
        if self.required_scopes:
            raise ConfigurationError(
                f"required_scopes={self.required_scopes!r}: a profile does not say which scopes a"
                " token has, so every request would be refused. Leave them out, or put an"
                " OAuthProxy around the verifier"
            )

    def question(self, token: str) -> tuple[dict[str, str], None]:
        """Ask as the token's owner."""
        return {**self._headers, "authorization": f"Bearer {token}"}, None

    def judge(self, response: Response, now: float) -> VerifiedToken:
        """Find out whose profile it is."""
        if _refuses_token(response):
            raise InvalidToken("inactive")
        if response.status != 200:
            raise FetchFailed(f"HTTP {response.status}")
        profile = parse_json_object(response.body)
        subject: Any = profile.get(self._subject_claim)
        if type(subject) is int:
            subject = str(subject)
        if type(subject) is not str or not subject or not subject.isprintable():
            raise FetchFailed(
                f"it has no {self._subject_claim} that names somebody: check subject_claim"
            )
        claims_json = self.name_issuer(profile, response.body)
        return VerifiedToken(subject, (), None, None, subject, claims_json)


def _refuses_token(response: Response) -> bool:
    """Return whether the provider says that the token is no good, rather than that we ask too often
    (GitHub: 403).
    """
    if response.status == 403:
        return (
            "retry-after" not in response.headers
            and response.headers.get("x-ratelimit-remaining") != "0"
        )
    return response.status == 401


def _check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    check_kind("headers", headers, Mapping)
    checked: dict[str, str] = {}
    for name, value in (headers or {}).items():
        if (
            not isinstance(name, str)
            or not _HEADER_NAME.fullmatch(name)
            or name.lower() == "authorization"
        ):
            raise ConfigurationError(
                f"headers has {name!r}: it must be the name of a header, and not Authorization"
            )
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ConfigurationError(
                f"headers has {name}={value!r}: its value must be a string in ASCII"
            )
        checked[name.lower()] = value
    return checked
