"""The proxy as a client of the identity provider: codes and refresh tokens for tokens (RFC 6749
§4.1.3 and §6).
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

# What providers say of a code or refresh token that is no good; not all of them use the standard's
# word.
_NO_GRANT = frozenset(
    ("invalid_grant", "bad_verification_code", "bad_refresh_token", "invalid_refresh_token")
)
# may be another answer later; what else is below 500 is the last word
_AGAIN = frozenset((401, 403, 408, 429))
_ERROR_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TOKEN = re.compile(r"[\x21-\x7e]+")


class TokenAnswer(NamedTuple):
    """What the token endpoint gave.

    Attributes:
        access_token: for the provider's APIs.
        refresh_token: for the next one, if there is one.
        expires_in: seconds; ``None`` where the access token does not expire.
        id_token: who signed in.
    """

    access_token: str
    refresh_token: str | None = None
    expires_in: int | None = None
    id_token: str | None = None

    def __repr__(self) -> str:
        return f"TokenAnswer(expires_in={self.expires_in!r})"


class UpstreamClient:
    """Talks to the identity provider.

    Every method raises ``ServerUnavailable`` when the provider does not answer, and
    ``SignInFailed`` when it answers what nobody can use.

    Args:
        endpoints: finds out where it is.
        client_id: who the proxy is there.
        client_secret: its secret, ``None`` for a public client.
        rules: how to ask.
        setting: what stands before the names of these two settings.

    Raises:
        ConfigurationError: no client id, or a secret that contradicts ``client_auth_method``.
    """

    def __init__(
        self,
        endpoints: FindEndpoints,
        client_id: str,
        client_secret: str | None,
        rules: UpstreamRules,
        setting: str,
    ) -> None:
        if not isinstance(client_id, str) or not client_id.isprintable() or not client_id:
            raise ConfigurationError(
                f"{setting}client_id must be the client id that the identity provider gave you"
            )
        if client_secret is None and rules.client_auth_method not in (None, "none"):
            raise ConfigurationError(
                f"{setting}client_secret is missing: {rules.client_auth_method} needs it"
            )
        if client_secret is not None and rules.client_auth_method == "none":
            raise ConfigurationError(
                f"client_auth_method='none' sends no secret: leave {setting}client_secret out"
            )
        if client_secret is not None and (
            not isinstance(client_secret, str)
            or not client_secret.isprintable()
            or not client_secret
        ):
            raise ConfigurationError(
                f"{setting}client_secret must be the secret that the identity provider gave you"
            )
        self.client_id = client_id
        self.endpoints = endpoints
        self.fetcher = HTTPFetcher(timeout_seconds=TIMEOUT_SECONDS, client=rules.http_client)
        self._secret = client_secret
        self._rules = rules
        # Reported once each: strangers can have us ask, with codes that they made up.
        self._outage = Outage(each_reason=True)
        self._revocation_outage = Outage(each_reason=True)

    async def exchange(self, code: str, verifier: str, redirect_uri: str) -> TokenAnswer:
        """Return the tokens for a code.

        Raises:
            InvalidGrant: the provider does not know the code.
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
            InvalidGrant: the provider has ended what the refresh token stood for.
        """
        return await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def revoke(self, refresh_token: str | None, access_token: str) -> bool:
        """Give the tokens back, if the provider takes any (RFC 7009 §2.1); return whether it has
        been told.

        Never raises.
        """
        try:
            endpoints = await self.endpoints()
            if endpoints.revocation is None:
                return True
            hint, token = (
                ("refresh_token", refresh_token)
                if refresh_token
                else ("access_token", access_token)
            )
            response = await self._post(
                endpoints, endpoints.revocation, {"token": token, "token_type_hint": hint}
            )
            trouble = f"HTTP {response.status}" if response.status >= 400 else None
            is_told = response.status < 500 and response.status not in _AGAIN
        except (FetchFailed, ServerUnavailable) as error:
            trouble, is_told = str(error), False
        if trouble is None:
            self._revocation_outage.recovered()
        elif self._revocation_outage.failed(trouble):
            logger.warning("The identity provider did not revoke a token: %s", trouble)
        return is_told

    async def userinfo(self, access_token: str) -> JSONObject:
        """Return what the userinfo endpoint says of the person (OpenID Connect Core §5.3)."""
        endpoints = await self.endpoints()
        if endpoints.userinfo is None:
            self._tell("has no userinfo endpoint, and userinfo=True wants it")
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
            self._tell(f"answers what cannot be used: {error}")
            raise SignInFailed from None

    async def _post(self, endpoints: Endpoints, url: str, form: dict[str, str]) -> Response:
        headers, fields = self._authentication(endpoints)
        return await self.fetcher.fetch(
            url, max_bytes=MAX_ANSWER_BYTES, headers=headers, form={**form, **fields}
        )

    def _authentication(self, endpoints: Endpoints) -> tuple[dict[str, str], dict[str, str]]:
        usual: UpstreamAuthMethod = endpoints.auth_method or "client_secret_basic"
        if self._secret is None:
            return {}, {"client_id": self.client_id}
        return client_authentication(
            self._rules.client_auth_method or usual, self.client_id, self._secret
        )

    def _read(self, response: Response) -> JSONObject:
        """Return the document of an answer, whatever its status: some providers say what is wrong
        with a 200.
        """
        if response.status >= 500 or response.status == 429:
            raise self._unavailable(
                f"HTTP {response.status}", response.headers.get("retry-after", "")
            )
        try:
            document = parse_json_object(response.body)
        except ValueError as error:
            self._tell(f"answers what cannot be read: HTTP {response.status}, {error}")
            raise SignInFailed from None
        code = document.get("error")
        if response.status == 200 and code is None:
            if self._outage.recovered():
                logger.info("The identity provider has recovered")
            return document
        # no word of the standard for this endpoint, and ours as well
        if code == "temporarily_unavailable":
            raise self._unavailable(
                f"HTTP {response.status}, {code}", response.headers.get("retry-after", "")
            )
        if isinstance(code, str) and code in _NO_GRANT:
            raise InvalidGrant(reason="sign_in_ended")
        told = code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else "no known error"
        self._tell(f"refuses the proxy: HTTP {response.status}, {told}")
        raise SignInFailed

    def _tell(self, what: str) -> None:
        if self._outage.failed(what):
            logger.warning("The identity provider %s", what)

    def _unavailable(self, why: str, retry_after: str = "") -> ServerUnavailable:
        self._tell(f"does not answer: {why}")
        seconds = (
            int(retry_after)
            if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 9
            else 1
        )
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
        return int(seconds)  # not what the standard says, and common
    if seconds is None:
        return None
    if (
        isinstance(seconds, int | float)
        and not isinstance(seconds, bool)
        and 0 <= seconds < 10**MAX_DIGITS
    ):
        return int(seconds)
    raise FetchFailed("expires_in is no number of seconds")


def _token(document: JSONObject, name: str) -> str | None:
    value = document.get(name)
    if value in (None, ""):
        return None
    if not isinstance(value, str) or len(value) > MAX_TOKEN_BYTES or not _TOKEN.fullmatch(value):
        raise FetchFailed(f"the {name} is no token")
    return value
