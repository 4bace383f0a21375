"""Verifies opaque tokens by fetching a user profile with them (OpenID Connect Core §5.3)."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ._http import FetchFailed, Response
from ._json import parse_json_object
from ._settings import check_kind, check_names, check_url
from .claims import ANY_AUDIENCE, member_at, name_of
from .errors import ConfigurationError, InvalidToken
from .lookups import LookupVerifier
from .tokens import VerifiedToken
from .types import Clock

if TYPE_CHECKING:
    import httpx

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class UserinfoTokenVerifier(LookupVerifier):
    """Verifies tokens by fetching a profile with them, and caches the result for a short time.

    For providers with opaque tokens and no introspection endpoint. A profile names the token's
    user, but neither its audience nor its scopes nor its expiry: any application that a user has
    signed in to could use that user's token here. Within an ``OAuthProxy``, which gets its tokens
    from the provider itself, this does not matter. Everywhere else it must be accepted with
    ``audience=ANY_AUDIENCE``.

    Args:
        userinfo_url: the profile endpoint.
        subject_claim: the member of the profile that identifies the user and never changes, or a
            dotted path to it (``data.id``); text or a whole number.
        audience: ``ANY_AUDIENCE``, or ``None`` within a proxy.
        issuer: the issuer of the tokens, which becomes ``iss``; ``userinfo_url`` by default. In a
            ``MultiAuth``, JWTs of this issuer come here as well.
        required_scopes: the scopes that a proxy requests from the provider.
        base_url: public URL of this server, if used without a ``RemoteAuthProvider``.
        cache_ttl_seconds: how long a profile is cached. A revoked token works until then. 0 fetches
            a profile for every request.
        headers: additional request headers, such as an API version.
        http_client: an ``httpx.AsyncClient`` to use; it is never closed.
        clock: for tests.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """

    label = "Profiles"
    has_audience = False

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
                f"audience={audience!r}: a profile does not name a token's audience, so only"
                " ANY_AUDIENCE is possible, which accepts any token of the provider"
            )
        if len(self.issuers) > 1:
            raise ConfigurationError(
                f"issuer={issuer!r} must be one URL: a profile does not name its issuer"
            )
        self._any_audience = audience is not None
        self._headers = _check_headers(headers)

    def bind_audience(self, resource: str | None) -> None:
        """Check that tokens without an audience are accepted. A proxy does not call this.

        Raises:
            ConfigurationError: ``audience=ANY_AUDIENCE`` is missing, or scopes are required.
        """
        if not self._any_audience:
            raise ConfigurationError(
                f"tokens verified at {self.url} have no audience: a token issued to another"
                " application would be accepted here. Put an OAuthProxy around the verifier, or"
                " write audience=ANY_AUDIENCE"
            )
        if self.required_scopes:
            raise ConfigurationError(
                f"required_scopes={self.required_scopes!r}: a profile does not name a token's"
                " scopes, so every request would be refused. Leave them out, or put an OAuthProxy"
                " around the verifier"
            )

    def build_request(self, token: str) -> tuple[dict[str, str], None]:
        """Return a request with the token itself."""
        return {**self._headers, "authorization": f"Bearer {token}"}, None

    def parse_response(self, response: Response, now: float) -> VerifiedToken:
        """Return the subject that the profile names."""
        if _refuses_token(response):
            raise InvalidToken("inactive")
        if response.status != 200:
            raise FetchFailed(f"HTTP {response.status}")
        if response.body.lstrip().startswith(b"ey"):  # the base64url of a brace
            raise FetchFailed(
                "the profile is a JWT, which needs the issuer's keys: have it answer this client"
                " with JSON, or use an OIDCProxy with UpstreamRules(userinfo=True)"
            )
        profile = parse_json_object(response.body)
        subject = name_of(member_at(profile, self._subject_claim))
        if subject is None:
            raise FetchFailed(
                f"the profile has no usable {self._subject_claim}: check subject_claim"
            )
        claims_json = self.set_issuer(profile, response.body)
        return VerifiedToken(subject, (), None, None, subject, claims_json)


def _refuses_token(response: Response) -> bool:
    """Return whether the provider refuses the token, and not our request rate.

    GitHub answers both with 403.
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
                f"headers has {name!r}: use the name of a header, other than Authorization"
            )
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ConfigurationError(
                f"headers has {name}={value!r}: its value must be an ASCII string"
            )
        checked[name.lower()] = value
    return checked
