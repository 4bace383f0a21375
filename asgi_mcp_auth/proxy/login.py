"""The login step of a proxy: people sign in at an identity provider, after they have consented
here.

MCP 2026-07-28, Security Best Practices, Confused Deputy Problem.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import NoReturn

from .._json import encode_base64url
from .._urls import with_parameters
from ..errors import (
    AccessDenied,
    ConfigurationError,
    ExpiredForm,
    InvalidGrant,
    ServerUnavailable,
    SignInFailed,
    SignInUnavailable,
)
from ..server.login import Login, LoginAttempt, LoginHost, LoginRedirect, LoginRefusal
from ..server.options import ask_hook
from ..server.parties import MAX_SUBJECT_CHARS, Person, check_person
from ..server.records import hash_of, new_secret
from ..types import JSONObject
from .client import TokenAnswer, UpstreamClient
from .identity import Identifier, find_objection
from .options import UpstreamIdentity, UpstreamRules
from .returns import RETURNS, Returns
from .tokens import TOKENS, UpstreamTokens
from .upstream import Endpoints

# INFO at most: strangers can cause every one of these, by what they open the callback with.
logger = logging.getLogger(__name__)

STATES = "upstream_state"
STATE_SECONDS = 600.0
# from the sign-in until a code for it is redeemed, on top of the transaction and the code
MARGIN_SECONDS = 60.0
MAX_CODE_CHARS = 4096

_ERROR_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NAMES = ("name", "preferred_username", "email", "login")


class UpstreamLogin(Login):
    """Sends people to the identity provider, and finds out who came back.

    Args:
        client: the proxy, as the provider's client.
        identifier: tells who signed in.
        rules: what to ask for, and who may come in.
        scopes: to ask for.
        provider_host: of the provider, for people.
        callback_path: where people come back.
        with_nonce: whether the answer brings an ID token.
    """

    every_time = True
    consent_first = True
    kinds = (TOKENS, RETURNS)

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
        self._with_nonce = with_nonce
        self._host: LoginHost | None = None
        self._tokens: UpstreamTokens | None = None
        self._returns: Returns | None = None

    def bind(self, host: LoginHost) -> None:
        """Get to know the server."""
        self._host = host
        # The userinfo endpoint is asked at the sign-in; afterwards only the ID token speaks.
        adds_up = self._rules.userinfo
        self._returns = Returns(host.store, host.clock, self._client)
        self._tokens = UpstreamTokens(
            host.store, host.clock, self._client, self._identifier, self._returns, adds_up=adds_up
        )

    async def start(self) -> None:
        """Pool connections."""
        await self._client.fetcher.open()
        await self._identifier.start()
        with suppress(ServerUnavailable):
            await self.sweep()

    async def stop(self) -> None:
        """Close the pool, once what is under way has ended."""
        await self._kept().settle()
        await self._back().settle()
        await self._identifier.stop()
        await self._client.fetcher.aclose()

    async def find_transaction(self, parameters: Mapping[str, str]) -> str | None:
        """Return the transaction that the state belongs to."""
        record = await self._bound().store.get(STATES, hash_of(parameters.get("state", "")))
        return None if record is None else json.loads(record.value)["transaction"]

    async def sign_in(self, attempt: LoginAttempt) -> Person | LoginRedirect | LoginRefusal:
        """Send the person to the provider, or find out who came back from there.

        Raises:
            ExpiredForm: the answer was used before, came too late, or another sign-in has begun
                since.
            AccessDenied: they, or the provider, said no.
            SignInUnavailable: the provider does not answer.
            SignInFailed: it answers what nobody can use.
        """
        try:
            endpoints = await self._client.endpoints()
        except ServerUnavailable:
            raise SignInUnavailable from None
        if "state" not in attempt.parameters:
            return await self._depart(attempt, endpoints)
        sent = await self._take_state(attempt)
        code = self._read_answer(attempt.parameters, endpoints)
        return await self._arrive(code, sent)

    async def _depart(self, attempt: LoginAttempt, endpoints: Endpoints) -> LoginRedirect:
        host, state, cookie, verifier = self._bound(), new_secret(), new_secret(), new_secret()
        sent: JSONObject = {
            "transaction": attempt.transaction,
            "cookie": hash_of(cookie),
            "verifier": verifier,
            "nonce": new_secret() if self._with_nonce else None,
        }
        ttl = min(STATE_SECONDS, host.lifetimes.transaction_seconds)
        value = json.dumps(sent).encode()
        host.limits.keep(attempt.address, value, ttl)
        await host.store.put(STATES, hash_of(state), value, ttl=ttl)
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
        if sent["nonce"] is not None:
            parameters["nonce"] = sent["nonce"]
        if attempt.anew:
            parameters["prompt"] = self._rules.anew_prompt
        return LoginRedirect(with_parameters(endpoints.authorization, parameters), cookie=cookie)

    async def _take_state(self, attempt: LoginAttempt) -> JSONObject:
        store, key = self._bound().store, hash_of(attempt.parameters["state"])
        record = await store.get(STATES, key)
        cookie = hash_of(attempt.cookie or "").encode()
        # Looked at before it is used up: an answer that came to the wrong page leaves the right one
        # working.
        if record is None or not hmac.compare_digest(
            cookie, json.loads(record.value)["cookie"].encode()
        ):
            raise ExpiredForm
        data = await store.take(STATES, key)
        if data is None:
            raise ExpiredForm
        sent: JSONObject = json.loads(data)
        if not hmac.compare_digest(sent["transaction"], attempt.transaction):
            raise ExpiredForm
        return sent

    def _read_answer(self, parameters: Mapping[str, str], endpoints: Endpoints) -> str:
        issuer, error, code = parameters.get("iss"), parameters.get("error"), parameters.get("code")
        # RFC 9207 §2.4, against answers of another provider that somebody mixes in.
        if (
            endpoints.issuers
            and (issuer is not None or endpoints.states_issuer)
            and issuer not in endpoints.issuers
        ):
            logger.info(
                "The answer to a sign-in is not from the identity provider that was asked (iss)"
            )
            raise SignInFailed
        if error is not None:
            _raise_error(error)
        if not code or len(code) > MAX_CODE_CHARS:
            logger.info(
                "The identity provider's answer to a sign-in has neither a code nor an error"
            )
            raise SignInFailed
        return code

    async def _arrive(self, code: str, sent: JSONObject) -> Person | LoginRefusal:
        asked_at = self._bound().clock.time()
        try:
            answer = await self._client.exchange(code, sent["verifier"], self._redirect_uri())
        except ServerUnavailable:
            raise SignInUnavailable from None
        except InvalidGrant:
            logger.info("The identity provider does not know the code of a sign-in")
            raise SignInFailed from None
        is_in = False
        try:
            outcome = await self._welcome(answer, sent["nonce"] or "", asked_at)
            is_in = isinstance(outcome, Person)
        finally:
            if not is_in:  # nobody will use them
                key = hash_of(answer.access_token)
                await self._back().give_back(key, answer.access_token, answer.refresh_token)
        return outcome

    async def _welcome(
        self, answer: TokenAnswer, nonce: str, asked_at: float
    ) -> Person | LoginRefusal:
        """Find out who has come back, and whether they may come in; keep what they need."""
        try:
            identity = await self._identifier.identify(answer, nonce)
            person = None if identity is None else await self._admit(identity)
        except ServerUnavailable:
            raise SignInUnavailable from None
        if identity is None or not isinstance(person, Person):
            return self._refusal(person)
        try:
            check_person(person)
        except ConfigurationError as error:  # of this one person: too many groups, for example
            logger.info("Somebody cannot sign in: %s", error)
            raise SignInFailed from None
        lifetimes = self._bound().lifetimes
        seconds = lifetimes.transaction_seconds + lifetimes.code_seconds + MARGIN_SECONDS
        kept = answer if self._rules.keep_tokens else TokenAnswer("")
        return replace(person, reference=await self._kept().keep(identity, kept, asked_at, seconds))

    async def _admit(self, identity: UpstreamIdentity) -> Person | str | None:
        objection = find_objection(identity, self._rules)
        if objection is not None:
            return objection
        if self._rules.person is None:
            return _usual_person(identity, self._rules)
        person: Person | None = await ask_hook("person", self._rules.person, identity)
        return person

    async def _judge(self, identity: UpstreamIdentity, known: Person) -> Person:
        """Decide anew about somebody who is in, by what the provider said last and the settings of
        today.
        """
        try:
            person = await self._admit(identity)
        except AccessDenied as error:
            person = str(error)
        if not isinstance(person, Person):
            logger.info("Somebody may not come in any more: the sign-in ends")
            raise InvalidGrant(reason="not_allowed")
        try:
            check_person(person)
        except ConfigurationError as error:
            logger.info("Somebody cannot stay signed in: %s", error)
            raise InvalidGrant(reason="not_allowed") from None
        if person.subject != known.subject:
            logger.warning(
                "Somebody who is signed in would be another person now: the sign-in ends"
            )
            raise InvalidGrant(reason="sign_in_ended")
        return replace(person, reference=known.reference)

    def _refusal(self, objection: str | Person | None) -> LoginRefusal:
        text = objection if isinstance(objection, str) else "Your account may not use this service."
        return LoginRefusal(
            text if self._rules.contact is None else f"{text} {self._rules.contact}"
        )

    async def renew(self, person: Person, seconds: float) -> Person | None:
        """Check that the provider's tokens are still good and the person may still come in, and
        keep both.

        Raises:
            InvalidGrant: the provider has ended the sign-in, or they may not.
            ServerUnavailable: it does not answer, or nobody knows.
        """
        if person.reference is None:
            return None
        return await self._kept().extend(
            person.reference, seconds, lambda identity: self._judge(identity, person)
        )

    async def ended(self, person: Person) -> None:
        """Forget the provider's tokens, and have them given back to it; nobody waits for that."""
        if person.reference is None:
            return
        with suppress(ServerUnavailable):  # they go when their time is over
            await self._kept().end(person.reference)

    async def sweep(self) -> None:
        """Give back to the provider what nobody uses, and what it could not be told before."""
        await self._back().catch_up()

    async def live_token(self, person: Person) -> str | None:
        """Return an access token of the provider for somebody who has signed in, ``None`` where
        none is kept.

        Raises:
            InvalidGrant: the provider has ended the sign-in, or what it says now keeps them out.
            ServerUnavailable: it does not answer, or nobody knows.
        """
        if person.reference is None:
            return None
        return (
            await self._kept().live(
                person.reference, lambda identity: self._judge(identity, person)
            )
            or None
        )

    def _redirect_uri(self) -> str:
        return self._bound().base_url + self.callback_path

    def _bound(self) -> LoginHost:
        if self._host is None:
            raise ConfigurationError("this login step belongs to no server yet")
        return self._host

    def _kept(self) -> UpstreamTokens:
        if self._tokens is None:
            raise ConfigurationError("this login step belongs to no server yet")
        return self._tokens

    def _back(self) -> Returns:
        if self._returns is None:
            raise ConfigurationError("this login step belongs to no server yet")
        return self._returns


def _raise_error(error: str) -> NoReturn:
    if error == "access_denied":
        raise AccessDenied("The person, or the identity provider, said no")
    if error == "temporarily_unavailable":
        raise SignInUnavailable
    told = error if _ERROR_CODE.fullmatch(error) else "one that is no error code"
    logger.info("The identity provider answers a sign-in with an error: %s", told)
    raise SignInFailed


def _usual_person(identity: UpstreamIdentity, rules: UpstreamRules) -> Person:
    # Neither an e-mail address nor a name: both change hands (OpenID Connect Core §5.7).
    subject = f"{identity.issuer}|{identity.subject}"
    if len(subject) > MAX_SUBJECT_CHARS or not subject.isprintable():
        subject = f"{identity.issuer}|{hash_of(identity.subject)}"
    texts = (identity.claims.get(name) for name in _NAMES)
    name = next(
        (text for text in texts if isinstance(text, str) and text.isprintable() and text), None
    )
    claims = {each: identity.claims[each] for each in rules.claims if each in identity.claims}
    return Person(
        subject=subject, name=None if name is None else name[:MAX_SUBJECT_CHARS], claims=claims
    )
