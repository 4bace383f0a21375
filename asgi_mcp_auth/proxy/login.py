"""The login step of a proxy: sends users to the identity provider and identifies them."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final, NoReturn

from .._json import encode_base64url
from .._urls import with_parameters
from ..errors import (
    AccessDenied,
    ExpiredForm,
    InvalidGrant,
    ServerUnavailable,
    SignInFailed,
    SignInUnavailable,
    UpstreamFails,
)
from ..server.login import Login, LoginAttempt, LoginHost, LoginRedirect, LoginRefusal
from ..server.parties import Person
from ..server.records import Stored, hash_of, new_secret
from ..server.table import Kind, Table
from .admission import Admission
from .answers import TokenAnswer, plain_code
from .client import UpstreamClient
from .identity import Identifier
from .kept import TOKENS
from .options import UpstreamRules
from .returns import RETURNS, Returns
from .tokens import UpstreamTokens
from .upstream import Endpoints

# INFO at most: anyone can cause these lines by opening the callback URL.
logger = logging.getLogger(__name__)

STATE_SECONDS = 600.0
# From the sign-in until its code is redeemed, on top of the lifetimes of transaction and code.
MARGIN_SECONDS = 60.0

# Errors of a session at the provider that cannot be used (OpenID Connect Core §3.1.2.6).
_FORCE_LOGIN = frozenset(("login_required", "interaction_required"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSignIn(Stored):
    """A user who has been sent to the identity provider.

    Attributes:
        transaction: to which they return.
        cookie: hash of the cookie that identifies their browser.
        verifier: the PKCE verifier.
        nonce: for the ID token, ``None`` if none is expected.
    """

    transaction: str = field(repr=False)
    cookie: str = field(repr=False)
    verifier: str = field(repr=False)
    nonce: str | None = field(repr=False)


STATES: Final = Kind(
    "upstream_state",
    PendingSignIn,
    key="SHA-256 of the state parameter",
    lifetime="`transaction_seconds`, ten minutes at most",
)


class UpstreamLogin(Login):
    """Signs users in at the identity provider.

    Args:
        client: the proxy, as the provider's client.
        identifier: finds out who has signed in.
        rules: what to ask for, and who may use the service.
        scopes: to ask for.
        provider_host: shown on the consent page.
        callback_path: where users return.
        with_nonce: whether the provider answers with an ID token.
    """

    skips_session = True
    consent_before_login = True
    kinds = (TOKENS.name, RETURNS.name)

    # Made by bind(), which the server calls while it is constructed.
    _host: LoginHost
    _tokens: UpstreamTokens
    _returns: Returns
    _states: Table[PendingSignIn]

    def __init__(
        self,
        client: UpstreamClient,
        identifier: Identifier,
        rules: UpstreamRules,
        scopes: Sequence[str],
        *,
        provider_host: str,
        callback_path: str,
        with_nonce: bool,
    ) -> None:
        self.callback_path = callback_path
        self.provider_host = provider_host
        self.provider_scopes = tuple(scopes)
        self._client = client
        self._identifier = identifier
        self._rules = rules
        self._admission = Admission(rules)
        self._with_nonce = with_nonce

    def bind(self, host: LoginHost) -> None:
        """Use the server's store and clock."""
        self._host = host
        self._state_seconds = min(STATE_SECONDS, host.lifetimes.transaction_seconds)
        self._states = Table(host.store, STATES, lambda _: self._state_seconds)
        self._returns = Returns(host.store, host.clock, self._client)
        self._tokens = UpstreamTokens(
            host.store,
            host.clock,
            self._client,
            self._identifier,
            self._returns,
            # The userinfo endpoint is asked at the sign-in only, not at a refresh.
            merges_claims=self._rules.userinfo,
        )

    async def start(self) -> None:
        """Open the connection pool."""
        await self._client.fetcher.open()
        await self._identifier.start()
        with suppress(ServerUnavailable):
            await self.sweep()

    async def stop(self) -> None:
        """Finish what is under way, and close the pool."""
        await self._tokens.settle()
        await self._returns.settle()
        await self._identifier.stop()
        await self._client.fetcher.aclose()

    async def find_transaction(self, parameters: Mapping[str, str]) -> str | None:
        """Return the transaction that the state belongs to."""
        if not parameters.get("state"):
            shown = _shown(parameters.get("error"))
            logger.info("The answer to a sign-in has no state, so it belongs to none%s", shown)
        pending = await self._states.get(hash_of(parameters.get("state", "")))
        return None if pending is None else pending.transaction

    async def sign_in(self, attempt: LoginAttempt) -> Person | LoginRedirect | LoginRefusal:
        """Send the user to the provider, or identify them when they return.

        Raises:
            ExpiredForm: the answer was used before, came too late, or belongs to an older sign-in.
            AccessDenied: the user or the provider has refused.
            SignInUnavailable: the provider is not responding.
            SignInFailed: its answer is unusable.
        """
        try:
            endpoints = await self._client.endpoints()
        except ServerUnavailable as error:
            raise _unavailable(error) from None
        if "state" not in attempt.parameters:
            return await self._start(attempt, endpoints)
        pending = await self._take_state(attempt)
        code = _read_answer(attempt.parameters, endpoints)
        return await self._finish(code, pending)

    async def _start(self, attempt: LoginAttempt, endpoints: Endpoints) -> LoginRedirect:
        state, cookie, verifier = new_secret(), new_secret(), new_secret()
        pending = PendingSignIn(
            transaction=attempt.transaction,
            cookie=hash_of(cookie),
            verifier=verifier,
            nonce=new_secret() if self._with_nonce else None,
        )
        self._host.limits.keep(attempt.address, pending.dump(), self._state_seconds)
        await self._states.put(hash_of(state), pending)
        parameters = {
            **self._rules.authorize_parameters,
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self._redirect_uri(),
            "state": state,
            "code_challenge": encode_base64url(sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        if self.provider_scopes:
            parameters["scope"] = " ".join(self.provider_scopes)
        if pending.nonce is not None:
            parameters["nonce"] = pending.nonce
        if attempt.force_login:
            parameters["prompt"] = self._rules.reauth_prompt
        return LoginRedirect(with_parameters(endpoints.authorization, parameters), cookie=cookie)

    async def _take_state(self, attempt: LoginAttempt) -> PendingSignIn:
        key = hash_of(attempt.parameters["state"])
        pending = await self._states.get(key)
        cookie = hash_of(attempt.cookie or "").encode()
        # Checked before it is used up: an answer in another browser must not end this sign-in.
        if pending is None or not hmac.compare_digest(cookie, pending.cookie.encode()):
            raise ExpiredForm
        pending = await self._states.take(key)
        if pending is None or not hmac.compare_digest(pending.transaction, attempt.transaction):
            raise ExpiredForm
        return pending

    async def _finish(self, code: str, pending: PendingSignIn) -> Person | LoginRefusal:
        asked_at = self._host.clock.time()
        try:
            answer = await self._client.exchange(code, pending.verifier, self._redirect_uri())
        except ServerUnavailable as error:
            raise _unavailable(error) from None
        except InvalidGrant:
            logger.info("The identity provider rejected the code of a sign-in")
            raise SignInFailed(force_login=True) from None
        is_signed_in = False
        try:
            outcome = await self._identify(answer, pending.nonce or "", asked_at)
            is_signed_in = isinstance(outcome, Person)
        finally:
            if not is_signed_in:  # then nothing will use the tokens
                key = hash_of(answer.access_token)
                await self._returns.give_back(key, answer.access_token, answer.refresh_token)
        return outcome

    async def _identify(
        self, answer: TokenAnswer, nonce: str, asked_at: float
    ) -> Person | LoginRefusal:
        """Find out who has returned and whether they are admitted; keep their tokens."""
        try:
            identity = await self._identifier.identify(answer, nonce)
            outcome = await self._admission.admit(identity)
        except ServerUnavailable as error:
            raise _unavailable(error) from None
        if isinstance(outcome, LoginRefusal):
            return outcome
        lifetimes = self._host.lifetimes
        seconds = lifetimes.transaction_seconds + lifetimes.code_seconds + MARGIN_SECONDS
        kept = answer if self._rules.keep_tokens else TokenAnswer("")
        reference = await self._tokens.keep(identity, kept, asked_at, seconds)
        return replace(outcome, reference=reference)

    async def reauthorize(self, person: Person, seconds: float) -> Person | None:
        """Check that the sign-in at the provider lasts and the user is still admitted.

        Raises:
            InvalidGrant: the provider has ended the sign-in, or they are no longer admitted.
            ServerUnavailable: the provider or the store is not responding.
        """
        if person.reference is None:
            return None
        return await self._tokens.extend(
            person.reference, seconds, lambda identity: self._admission.readmit(identity, person)
        )

    async def on_grant_ended(self, person: Person) -> None:
        """Delete the provider's tokens, and have them revoked in the background."""
        if person.reference is None:
            return
        with suppress(ServerUnavailable):  # they expire
            await self._tokens.end(person.reference)

    async def sweep(self) -> None:
        """Revoke tokens of abandoned sign-ins, and those that could not be revoked before."""
        await self._returns.revoke_due()

    async def fresh_access_token(self, person: Person) -> str | None:
        """Return an access token of the provider for a signed-in user, ``None`` if none is kept.

        Raises:
            InvalidGrant: the provider has ended the sign-in, or they are no longer admitted.
            ServerUnavailable: the provider or the store is not responding.
        """
        if person.reference is None:
            return None
        token = await self._tokens.fresh_access_token(
            person.reference, lambda identity: self._admission.readmit(identity, person)
        )
        return token or None

    def _redirect_uri(self) -> str:
        return self._host.base_url + self.callback_path


def _read_answer(parameters: Mapping[str, str], endpoints: Endpoints) -> str:
    """Return the code of an authorization response.

    Raises:
        AccessDenied: the user or the provider has refused.
        SignInUnavailable: the provider asks to try again.
        SignInFailed: it is of another provider, or has no code.
    """
    issuer, error, code = parameters.get("iss"), parameters.get("error"), parameters.get("code")
    # RFC 9207 §2.4, against mix-up with answers of another provider.
    is_stated = issuer is not None or endpoints.states_issuer
    if endpoints.issuers and is_stated and issuer not in endpoints.issuers:
        shown = _shown(error)
        if issuer is None:
            logger.info("The answer to a sign-in does not name its provider (iss)%s", shown)
        else:
            logger.info(
                "The answer to a sign-in comes from another identity provider (iss)%s", shown
            )
        raise SignInFailed
    if error is not None:
        _raise_error(error)
    if not code:
        logger.info("The identity provider's answer to a sign-in has neither a code nor an error")
        raise SignInFailed
    return code


def _raise_error(error: str) -> NoReturn:
    if error == "access_denied":
        raise AccessDenied("The user or the identity provider has refused the sign-in")
    if error == "temporarily_unavailable":
        raise _unavailable(UpstreamFails())
    shown = plain_code(error) or "an invalid error code"
    logger.info("The identity provider answered a sign-in with an error: %s", shown)
    raise SignInFailed(force_login=error in _FORCE_LOGIN)


def _shown(error: str | None) -> str:
    """Return an error for the end of a log line; only a plain code says anything."""
    code = plain_code(error)
    return "" if code is None else f": {code}"


def _unavailable(error: ServerUnavailable) -> SignInUnavailable:
    if isinstance(error, UpstreamFails):
        return SignInUnavailable("The identity provider answers with an error at the moment")
    return SignInUnavailable()
