"""Verifies opaque tokens at their issuer's introspection endpoint (RFC 7662)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from ._credentials import SecretMethod, advice, client_authentication
from ._http import FetchFailed, Response
from ._json import parse_json_object
from ._settings import check_kind, check_names, check_url
from .claims import ClaimChecks, ClaimRules
from .errors import InvalidToken
from .lookups import LookupVerifier
from .tokens import VerifiedToken
from .types import Clock

if TYPE_CHECKING:
    import httpx

ClientAuthMethod: TypeAlias = SecretMethod | Literal["bearer"]

_SUBJECT_MEMBERS = ("sub", "username")  # Django OAuth Toolkit has no sub
# Some endpoints call every kind of token active, and name the kind in a member of their own.
_OTHER_USES = frozenset(("refresh", "refresh_token", "id", "id_token"))


class IntrospectionTokenVerifier(LookupVerifier):
    """Verifies tokens at the issuer's introspection endpoint, and caches the result for a short
    time.

    Args:
        introspection_url: the endpoint.
        client_id: this server's client id there; not used with ``bearer``.
        client_secret: its secret there, or with ``bearer`` the access token for the endpoint.
        client_auth_method: how it authenticates there. Where the endpoint does not decode what
            ``client_secret_basic`` form-encodes, ``client_secret_post`` or
            ``client_secret_basic_raw``; where it wants the id in the form as well,
            ``client_secret_basic_with_id``.
        audience: accepted ``aud``; ``None`` is bound to the resource URL by the provider or
            middleware, ``ANY_AUDIENCE`` switches the check off (many servers send no ``aud``).
        issuer: accepted ``iss``, and the default for responses without one. If there are several,
            the response must name one. If there are none, the default is ``introspection_url``. In
            a ``MultiAuth``, JWTs of these issuers come here as well.
        required_scopes: scopes that every request needs; the middleware checks them.
        base_url: public URL of this server, if used without a ``RemoteAuthProvider``.
        cache_ttl_seconds: how long a positive result is cached, at most until ``exp``. A revoked
            token works until then. 0 looks a token up for every request.
        subject_claim: the member that identifies the user and never changes, or a dotted path to it
            (``user.id``); text or a whole number. By default ``sub``, or else ``username``.
        claims: how to read scopes, client and the rest.
        http_client: an ``httpx.AsyncClient`` to use; it is never closed.
        clock: for tests.

    Raises:
        ConfigurationError: a setting is missing or wrong.

    RFC 7662 §2 and §4.
    """

    label = "Introspection"

    def __init__(
        self,
        *,
        introspection_url: str,
        client_id: str | None = None,
        client_secret: str,
        client_auth_method: ClientAuthMethod = "client_secret_basic",
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        required_scopes: Sequence[str] | None = None,
        base_url: str | None = None,
        cache_ttl_seconds: float = 60,
        subject_claim: str | None = None,
        claims: ClaimRules | None = None,
        http_client: httpx.AsyncClient | None = None,
        clock: Clock = time,
    ) -> None:
        super().__init__(
            check_url("introspection_url", introspection_url, query=True),
            issuer=issuer,
            required_scopes=required_scopes,
            base_url=base_url,
            cache_ttl_seconds=cache_ttl_seconds,
            http_client=http_client,
            clock=clock,
        )
        check_kind("claims", claims, ClaimRules)
        self._headers, self._form = client_authentication(
            client_auth_method, client_id, client_secret
        )
        self._advice = advice(client_auth_method, client_id, client_secret)
        self._checks = ClaimChecks(
            issuers=self.issuers,
            audience=audience,
            leeway_seconds=0,
            rules=claims or ClaimRules(),
            subject_claims=_SUBJECT_MEMBERS
            if subject_claim is None
            else check_names("subject_claim", [subject_claim]),
        )

    def bind_audience(self, resource: str | None) -> None:
        """Accept tokens for ``resource``, unless ``audience`` was given."""
        self._checks.bind_audience(resource)

    def build_request(self, token: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return the request of our client at the issuer (RFC 7662 §2.1)."""
        return self._headers, {"token": token, "token_type_hint": "access_token", **self._form}

    def parse_response(self, response: Response, now: float) -> VerifiedToken:
        """Return the token's facts from the issuer's response (RFC 7662 §2.2)."""
        if response.status in (400, 401, 403):
            raise FetchFailed(f"HTTP {response.status}: {self._advice}")
        if response.status != 200:
            raise FetchFailed(f"HTTP {response.status}")
        answer = parse_json_object(response.body)
        if answer.get("active") is not True:  # only the boolean counts
            raise InvalidToken("inactive")
        kind = answer.get("token_type")
        if type(kind) is str and kind.lower() not in ("", "bearer", "access_token"):
            raise InvalidToken("bound" if kind == "DPoP" else "type")
        use = answer.get("token_use")
        if type(use) is str and use.lower() in _OTHER_USES:
            raise InvalidToken("type")
        body = self.set_issuer(answer, response.body)
        if answer.get("exp") == 0:
            del answer["exp"]  # "never", as some servers write it: they have just said active
        return self._checks.read(answer, body, now)
