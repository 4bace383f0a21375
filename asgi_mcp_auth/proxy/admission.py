"""Decides who may use the service, and as whom, from the claims of the identity provider."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .._json import is_array
from ..errors import AccessDenied, ConfigurationError, InvalidGrant, SignInFailed
from ..server.login import LoginRefusal
from ..server.options import ask_hook
from ..server.parties import MAX_SUBJECT_CHARS, Person, check_person
from ..server.records import hash_of
from .domains import ascii_domain
from .options import UpstreamIdentity, UpstreamRules

# INFO at most: anyone can cause these lines by signing in.
logger = logging.getLogger(__name__)

_GOOGLE = frozenset(("https://accounts.google.com", "accounts.google.com"))
_NOT_ALLOWED = "Your account is not allowed to use this service."
_NAMES = ("name", "preferred_username", "email", "login")


class Admission:
    """Applies the rules for users, at the sign-in and again at each refresh of a grant.

    Args:
        rules: who may use the service.
    """

    def __init__(self, rules: UpstreamRules) -> None:
        self._rules = rules

    async def admit(self, identity: UpstreamIdentity) -> Person | LoginRefusal:
        """Return who a user is here, or why they may not use the service.

        Raises:
            AccessDenied: the ``person`` hook refuses them, and wants the client to know.
            SignInFailed: tokens cannot hold what the hook says of them.
            ServerUnavailable: the hook has failed.
        """
        outcome = await self._decide(identity)
        if isinstance(outcome, LoginRefusal):
            return outcome
        try:
            return check_person(outcome)
        except ConfigurationError as error:  # about this user only: too many groups, for example
            logger.info("A user cannot sign in: %s", error)
            raise SignInFailed from None

    async def readmit(self, identity: UpstreamIdentity, known: Person) -> Person:
        """Return who a user is now, by the provider's last claims and the present settings.

        Args:
            identity: the last claims.
            known: the person of their grant.

        Raises:
            InvalidGrant: they may no longer use the service, or would be another person.
            ServerUnavailable: the hook has failed.
        """
        try:
            outcome = await self._decide(identity)
        except AccessDenied as error:
            outcome = LoginRefusal(str(error))
        if isinstance(outcome, LoginRefusal):
            logger.info("A user may no longer use this service: the sign-in ends")
            raise InvalidGrant(reason="not_allowed")
        try:
            person = check_person(outcome)
        except ConfigurationError as error:
            logger.info("A user cannot stay signed in: %s", error)
            raise InvalidGrant(reason="not_allowed") from None
        if person.subject != known.subject:
            logger.warning("A signed-in user would get another subject now: the sign-in ends")
            raise InvalidGrant(reason="sign_in_ended")
        return replace(person, reference=known.reference)

    async def _decide(self, identity: UpstreamIdentity) -> Person | LoginRefusal:
        refusal = find_refusal(identity, self._rules)
        if refusal is not None:
            return self._refuse(refusal)
        if self._rules.person is None:
            return _default_person(identity, self._rules)
        person: object = await ask_hook("person", self._rules.person, identity)
        return person if isinstance(person, Person) else self._refuse(_NOT_ALLOWED)

    def _refuse(self, text: str) -> LoginRefusal:
        contact = self._rules.contact
        return LoginRefusal(text if contact is None else f"{text} {contact}")


def find_refusal(identity: UpstreamIdentity, rules: UpstreamRules) -> str | None:
    """Return why this user may not use the service, in words for them; ``None`` if they may."""
    claims = identity.claims
    if rules.allowed_domains and not _domains_of(identity) & {
        ascii_domain(each) for each in rules.allowed_domains
    }:
        return (
            "Only people with a verified email address at certain organizations may use this"
            " service."
        )
    for name, accepted in rules.allowed_claims.items():
        is_denied = name == "email" and claims.get("email_verified") in (False, "false")
        if is_denied or not _values(claims.get(name)) & set(accepted):
            return _NOT_ALLOWED
    return None


def _domains_of(identity: UpstreamIdentity) -> set[str]:
    claims, found = identity.claims, set[str | None]()
    # ``hd``: Google's claim for the organization; other providers do not have it.
    if identity.issuer in _GOOGLE and isinstance(claims.get("hd"), str):
        found.add(ascii_domain(claims["hd"]))
    # An address that the provider has not verified may be anyone's.
    address = claims.get("email")
    if (
        isinstance(address, str)
        and claims.get("email_verified") in (True, "true")
        and address.count("@") == 1
    ):
        found.add(ascii_domain(address.rpartition("@")[2]))
    return {each for each in found if each is not None}


def _values(value: Any) -> set[str]:
    entries: Sequence[Any] = value if is_array(value) else (value,)
    return {each for each in entries if isinstance(each, str)}


def _default_person(identity: UpstreamIdentity, rules: UpstreamRules) -> Person:
    # Neither an email address nor a name: both change hands (OpenID Connect Core §5.7).
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
