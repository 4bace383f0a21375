"""The proxy as a client of the identity provider.

Exchanges codes and refresh tokens for tokens (RFC 6749 §4.1.3 and §6), revokes tokens, and asks the
userinfo endpoint.
"""

from __future__ import annotations

import logging
import re
from typing import Any, NamedTuple

from .._http import FetchFailed, HTTPFetcher, Response
from .._json import parse_json_object
from .._outage import Outage
from ..errors import ConfigurationError, InvalidGrant, ServerUnavailable, SignInFailed
from ..headers import MAX_TOKEN_BYTES
from ..introspection import client_authentication
from ..types import JSONObject
from .options import UpstreamAuthMethod, UpstreamRules
from .upstream import Endpoints, FindEndpoints

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
MAX_ANSWER_BYTES = 64 * 1024
MAX_RETRY_AFTER_SECONDS = 60
MAX_DIGITS = 11

# Error codes for an invalid code or refresh token; not all providers use the standard one.
_INVALID_GRANT = frozenset(
    ("invalid_grant", "bad_verification_code", "bad_refresh_token", "invalid_refresh_token")
)
# A revocation with one of these may succeed later; any other status below 500 is final.
_RETRYABLE = frozenset((401, 403, 408, 429))
_ERROR_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TOKEN = re.compile(r"[\x21-\x7e]+")


class TokenAnswer(NamedTuple):
    """A successful answer of the token endpoint.

    Attributes:
        access_token: for the provider's APIs.
        refresh_token: for the next refresh, if there is one.
        expires_in: lifetime of the access token in seconds; ``None`` if it does not expire.
        id_token: identifies the user (OpenID Connect).
    """

    access_token: str
    refresh_token: str | None = None
    expires_in: int | None = None
    id_token: str | None = None

    def __repr__(self) -> str:
        return f"TokenAnswer(expires_in={self.expires_in!r})"


class UpstreamClient:
    """Talks to the identity provider.

    Every method but ``revoke`` raises ``ServerUnavailable`` while the provider is not responding,
    and ``SignInFailed`` if its answer is unusable.

    Args:
        endpoints: returns the provider's endpoints.
        client_id: client id of the proxy at the provider.
        client_secret: its secret, ``None`` for a public client.
        rules: how to authenticate, and additional parameters.
        prefix: of the names of these two settings, for error messages.

    Raises:
        ConfigurationError: no client id, or a secret that contradicts ``client_auth_method``.
    """

    def __init__(
        self,
        endpoints: FindEndpoints,
        client_id: str,
        client_secret: str | None,
        rules: UpstreamRules,
        prefix: str,
    ) -> None:
        if not isinstance(client_id, str) or not client_id.isprintable() or not client_id:
            raise ConfigurationError(
                f"{prefix}client_id must be the client id that the identity provider gave you"
            )
        if client_secret is None and rules.client_auth_method not in (None, "none"):
            raise ConfigurationError(
                f"{prefix}client_secret is missing: {rules.client_auth_method} needs it"
            )
        if client_secret is not None and rules.client_auth_method == "none":
            raise ConfigurationError(
                f"client_auth_method='none' sends no secret: leave {prefix}client_secret out"
            )
        if client_secret is not None and (
            not isinstance(client_secret, str)
            or not client_secret.isprintable()
            or not client_secret
        ):
            raise ConfigurationError(
                f"{prefix}client_secret must be the secret that the identity provider gave you"
            )
        self.client_id = client_id
        self.endpoints = endpoints
        self.fetcher = HTTPFetcher(timeout_seconds=TIMEOUT_SECONDS, client=rules.http_client)
        self._secret = client_secret
        self._rules = rules
        # Each problem is reported once: anyone can cause requests, with made-up codes.
        self._outage = Outage(each_reason=True)
        self._revocation_outage = Outage(each_reason=True)

    async def exchange(self, code: str, verifier: str, redirect_uri: str) -> TokenAnswer:
        """Return the tokens for a code.

        Raises:
            InvalidGrant: the provider rejects the code.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        return await self._tokens(form)

    async def refresh(self, refresh_token: str) -> TokenAnswer:
        """Return new tokens.

        Raises:
            InvalidGrant: the provider has ended the sign-in.
        """
        return await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def revoke(self, refresh_token: str | None, access_token: str) -> bool:
        """Revoke tokens, if the provider supports that (RFC 7009 §2.1).

        Never raises.

        Returns:
            Whether nothing is left to do, for example because the provider rejects the request.
        """
        try:
            endpoints = await self.endpoints()
            if endpoints.revocation is None:
                return True
            form = {"token": access_token, "token_type_hint": "access_token"}
            if refresh_token:
                form = {"token": refresh_token, "token_type_hint": "refresh_token"}
            response = await self._post(endpoints, endpoints.revocation, form)
            problem = f"HTTP {response.status}" if response.status >= 400 else None
            is_final = response.status < 500 and response.status not in _RETRYABLE
        except (FetchFailed, ServerUnavailable) as error:
            problem, is_final = str(error), False
        if problem is None:
            self._revocation_outage.recovered()
        elif self._revocation_outage.failed(problem):
            logger.warning("The identity provider did not revoke a token: %s", problem)
        return is_final

    async def userinfo(self, access_token: str) -> JSONObject:
        """Return the user's claims from the userinfo endpoint (OpenID Connect Core §5.3)."""
        endpoints = await self.endpoints()
        if endpoints.userinfo is None:
            self._report("has no userinfo endpoint, which userinfo=True needs")
            raise SignInFailed
        headers = {"authorization": f"Bearer {access_token}"}
        try:
            response = await self.fetcher.fetch(
                endpoints.userinfo, max_bytes=MAX_ANSWER_BYTES, headers=headers
            )
        except FetchFailed as error:
            raise self._unavailable(str(error)) from None
        return self._read(response)

    async def _tokens(self, form: dict[str, str]) -> TokenAnswer:
        endpoints = await self.endpoints()
        try:
            response = await self._post(
                endpoints, endpoints.token, {**self._rules.token_parameters, **form}
            )
        except FetchFailed as error:
            raise self._unavailable(str(error)) from None
        document = self._read(response)
        try:
            return _read_answer(document)
        except FetchFailed as error:
            self._report(f"sent an unusable response: {error}")
            raise SignInFailed from None

    async def _post(self, endpoints: Endpoints, url: str, form: dict[str, str]) -> Response:
        headers, fields = self._authentication(endpoints)
        return await self.fetcher.fetch(
            url, max_bytes=MAX_ANSWER_BYTES, headers=headers, form={**form, **fields}
        )

    def _authentication(self, endpoints: Endpoints) -> tuple[dict[str, str], dict[str, str]]:
        if self._secret is None:
            return {}, {"client_id": self.client_id}
        method: UpstreamAuthMethod = (
            self._rules.client_auth_method or endpoints.auth_method or "client_secret_basic"
        )
        return client_authentication(method, self.client_id, self._secret)

    def _read(self, response: Response) -> JSONObject:
        """Return the document of a successful answer.

        The status alone does not decide: some providers send errors with a 200.
        """
        if response.status >= 500 or response.status == 429:
            raise self._unavailable(
                f"HTTP {response.status}", response.headers.get("retry-after", "")
            )
        try:
            document = parse_json_object(response.body)
        except ValueError as error:
            self._report(f"sent an unusable response: HTTP {response.status}, {error}")
            raise SignInFailed from None
        code = document.get("error")
        if response.status == 200 and code is None:
            if self._outage.recovered():
                logger.info("The identity provider has recovered")
            return document
        # Not a standard error code of the token endpoint; our own server sends it too.
        if code == "temporarily_unavailable":
            raise self._unavailable(
                f"HTTP {response.status}, {code}", response.headers.get("retry-after", "")
            )
        if isinstance(code, str) and code in _INVALID_GRANT:
            raise InvalidGrant(reason="sign_in_ended")
        is_code = isinstance(code, str) and _ERROR_CODE.fullmatch(code)
        shown = code if is_code else "no error code"
        self._report(f"refuses the proxy: HTTP {response.status}, {shown}")
        raise SignInFailed

    def _report(self, problem: str) -> None:
        if self._outage.failed(problem):
            logger.warning("The identity provider %s", problem)

    def _unavailable(self, why: str, retry_after: str = "") -> ServerUnavailable:
        self._report(f"is not responding: {why}")
        seconds = 1
        if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 9:
            seconds = int(retry_after)
        return ServerUnavailable(min(seconds, MAX_RETRY_AFTER_SECONDS))


def _read_answer(document: JSONObject) -> TokenAnswer:
    kind, expires_in = document.get("token_type", "Bearer"), _number(document.get("expires_in"))
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise FetchFailed("the token_type is not Bearer")
    access_token = _token(document, "access_token")
    if access_token is None:
        raise FetchFailed("the access_token is missing")
    return TokenAnswer(
        access_token,
        _token(document, "refresh_token"),
        expires_in,
        _token(document, "id_token"),
    )


def _number(seconds: Any) -> int | None:
    if (
        isinstance(seconds, str)
        and seconds.isascii()
        and seconds.isdigit()
        and len(seconds) < MAX_DIGITS
    ):
        return int(seconds)  # a string, against RFC 6749 §5.1, but common
    if seconds is None:
        return None
    if (
        isinstance(seconds, int | float)
        and not isinstance(seconds, bool)
        and 0 <= seconds < 10**MAX_DIGITS
    ):
        return int(seconds)
    raise FetchFailed("expires_in is not a number of seconds")


def _token(document: JSONObject, name: str) -> str | None:
    value = document.get(name)
    if value in (None, ""):
        return None
    if not isinstance(value, str) or len(value) > MAX_TOKEN_BYTES or not _TOKEN.fullmatch(value):
        raise FetchFailed(f"the {name} is not a valid token")
    return value
