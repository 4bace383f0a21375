"""The proxy as a client of the identity provider.

Exchanges codes and refresh tokens for tokens (RFC 6749 §4.1.3 and §6), revokes tokens, and asks the
userinfo endpoint.
"""

from __future__ import annotations

import logging
import re

from .._credentials import advice, client_authentication, usual_method
from .._http import FetchFailed, HTTPFetcher, Response
from .._json import parse_json_object
from .._outage import Outage
from ..errors import (
    ConfigurationError,
    InvalidGrant,
    ServerUnavailable,
    SignInFailed,
    UpstreamFails,
)
from ..types import JSONObject
from .answers import Refusal, TokenAnswer, read_answer, read_refusal
from .options import UpstreamRules
from .upstream import Endpoints, FindEndpoints

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
MAX_ANSWER_BYTES = 256 * 1024  # three tokens
MAX_RETRY_AFTER_SECONDS = 60

# Signed (three parts) or encrypted (five); anything else begins with a brace.
_JWT = re.compile(rb"[\w-]+(?:\.[\w-]*){2,4}")
_BUSY = frozenset((408, 425, 429))
# A revocation with one of these may succeed later; any other status below 500 is final.
_RETRYABLE = frozenset((401, 403, 408, 429))


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
        if client_secret is not None and rules.client_auth_method is not None:
            client_authentication(rules.client_auth_method, client_id, client_secret)
        self.client_id = client_id
        self.endpoints = endpoints
        self.fetcher = HTTPFetcher(timeout_seconds=TIMEOUT_SECONDS, client=rules.http_client)
        self.client_secret = client_secret
        self._rules = rules
        # Each problem is reported once: anyone can cause requests, with made-up codes.
        self._outage = Outage(each_reason=True)
        # Whether codes are refused in words that can also mean a single refresh token.
        self._is_barred = False
        self._revocation_outage = Outage(each_reason=True)

    async def exchange(self, code: str, verifier: str, redirect_uri: str) -> TokenAnswer:
        """Return the tokens for a code.

        Raises:
            InvalidGrant: the provider rejects the code; the person may have to sign in again there.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        answer = await self._tokens(form)
        if isinstance(answer, TokenAnswer):
            self._is_barred = False
            return answer
        if answer.matter in ("grant", "sign_in"):
            raise InvalidGrant(reason="sign_in_ended")
        self._is_barred = answer.matter == "either"
        raise self._refused(answer)

    async def refresh(self, refresh_token: str) -> TokenAnswer:
        """Return new tokens.

        Raises:
            InvalidGrant: the provider has ended the sign-in.
            SignInFailed: with the reason ``sign_in_ended``, it says so in other words, which count
                once the access token has expired.
        """
        answer = await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})
        if isinstance(answer, TokenAnswer):
            self._is_barred = False
            return answer
        # What is refused to new sign-ins as well is no verdict on this one.
        if answer.matter in ("client", "proxy") or (answer.matter == "either" and self._is_barred):
            raise self._refused(answer)
        # INFO: people cause this line by what they do at the provider.
        shown = answer.shown
        logger.info("The identity provider does not refresh the tokens of a sign-in: %s", shown)
        if answer.matter == "grant":
            raise InvalidGrant(reason="sign_in_ended")
        raise SignInFailed(reason="sign_in_ended")

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

    async def userinfo(self, access_token: str) -> JSONObject | str:
        """Return the user's claims from the userinfo endpoint, or a JWT with them.

        OpenID Connect Core §5.3.
        """
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
            raise self._unreachable(error) from None
        token = response.body.strip()
        # By its form: the media type may have a charset, or be that of another format.
        if response.status == 200 and _JWT.fullmatch(token):
            return token.decode("ascii")
        document = self._read(response)
        if isinstance(document, Refusal):
            raise self._refused(document)
        return document

    async def _tokens(self, form: dict[str, str]) -> TokenAnswer | Refusal:
        endpoints = await self.endpoints()
        try:
            response = await self._post(
                endpoints, endpoints.token, {**self._rules.token_parameters, **form}
            )
        except FetchFailed as error:
            raise self._unreachable(error) from None
        document = self._read(response)
        if isinstance(document, Refusal):
            if document.matter != "client" or self.client_secret is None:
                return document
            hint = advice(self._method(endpoints), self.client_id, self.client_secret)
            return document._replace(shown=f"{document.shown}: {hint}")
        try:
            return read_answer(document)
        except FetchFailed as error:
            self._report(f"sent an unusable response: {error}")
            raise SignInFailed from None

    async def _post(self, endpoints: Endpoints, url: str, form: dict[str, str]) -> Response:
        headers, fields = self._authentication(endpoints)
        return await self.fetcher.fetch(
            url, max_bytes=MAX_ANSWER_BYTES, headers=headers, form={**form, **fields}
        )

    def _authentication(self, endpoints: Endpoints) -> tuple[dict[str, str], dict[str, str]]:
        if self.client_secret is None:
            return {}, {"client_id": self.client_id}
        return client_authentication(self._method(endpoints), self.client_id, self.client_secret)

    def _method(self, endpoints: Endpoints) -> str:
        if self.client_secret is None:
            return "none"
        return self._rules.client_auth_method or usual_method(
            endpoints.auth_methods, self.client_id, self.client_secret
        )

    def _read(self, response: Response) -> JSONObject | Refusal:
        """Return the document of a successful answer, or why there is none."""
        retry_after = response.headers.get("retry-after", "")
        if response.status >= 500 or response.status in _BUSY:
            raise self._fails(f"HTTP {response.status}", retry_after)
        try:
            document = parse_json_object(response.body)
        except ValueError as error:
            self._report(f"sent an unusable response: HTTP {response.status}, {error}")
            raise SignInFailed from None
        refusal = read_refusal(response.status, document)
        if refusal is None:
            if self._outage.recovered():
                logger.info("The identity provider has recovered")
            return document
        if refusal.matter == "passing":
            raise self._fails(refusal.shown, retry_after)
        return refusal

    def _refused(self, refusal: Refusal) -> SignInFailed:
        """Report a refusal that the operator has to look at."""
        self._report(f"refuses the proxy: {refusal.shown}")
        return SignInFailed()

    def _report(self, problem: str) -> None:
        if self._outage.failed(problem):
            logger.warning("The identity provider %s", problem)

    def _unreachable(self, error: FetchFailed) -> ServerUnavailable:
        if not error.is_silence:
            self._report(f"sent an unusable response: {error}")
            return UpstreamFails()
        self._report(f"is not responding: {error}")
        return ServerUnavailable()

    def _fails(self, problem: str, retry_after: str) -> UpstreamFails:
        self._report(f"answers with {problem}")
        seconds = 1
        if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 9:
            seconds = int(retry_after)
        return UpstreamFails(min(seconds, MAX_RETRY_AFTER_SECONDS))
