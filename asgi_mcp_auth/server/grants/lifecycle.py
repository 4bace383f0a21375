"""Codes, grants and refresh tokens: what is good once, what is good again, and what ends
everything.

Every step is one swap or add of one record, so of any number of contenders, in any number of
processes, one wins.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from ...errors import InvalidGrant, ServerUnavailable
from ...stores import Record, Store, scan_all
from ...types import Clock
from ..audit import Audit, AuditEvent
from ..login import Login
from ..options import Lifetimes
from ..parties import Client, Person, check_person
from ..records import hash_of, new_secret
from ..tokens.refresh import RefreshTokens
from .codes import find_mismatch, grant_of_code
from .ledger import MARGIN_SECONDS, USED_CODE_SECONDS, Ledger
from .records import AuthorizationRequest, Code, Grant
from .scopes import Scopes

CODES = "code"
ATTEMPTS = 10  # one is enough when nobody else uses the same code or token, two when somebody does


class Granted(NamedTuple):
    """A grant, and what its client gets now."""

    grant_id: str
    grant: Grant
    scopes: list[str]
    refresh_token: str | None

    def __repr__(self) -> str:
        return f"Granted({self.grant_id!r}, {self.grant!r})"


class Grants:
    """Makes, uses and ends grants.

    Args:
        store: keeps them.
        clock: decides what has expired.
        lifetimes: how long.
        scopes: the scope policy.
        audit: is told of what ends.
        keys: of the refresh tokens.
        login: knows whether a sign-in still counts.
        rotate_confidential: whether confidential clients' refresh tokens rotate too.

    Attributes:
        ledger: keeps the grants.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        lifetimes: Lifetimes,
        scopes: Scopes,
        audit: Audit,
        keys: Sequence[bytes],
        login: Login,
        *,
        rotate_confidential: bool,
    ) -> None:
        self._store = store
        self._clock = clock
        self._lifetimes = lifetimes
        self._scopes = scopes
        self._audit = audit
        self._refresh_tokens = RefreshTokens(keys)
        self._login = login
        self._rotate_confidential = rotate_confidential
        self._resource = ""
        self.ledger = Ledger(store, clock, lifetimes)

    def bind_resource(self, resource: str) -> None:
        """Grant access to this resource; a store may also hold the grants for others."""
        self._resource = resource

    # ---------------------------------------------------------------------------------------- codes

    async def issue_code(
        self,
        request: AuthorizationRequest,
        person: Person,
        scopes: list[str],
        signed_in_at: int,
        *,
        code: str | None = None,
    ) -> str | None:
        """Return a new authorization code (RFC 6749 §4.1.2).

        Args:
            request: what was asked for.
            person: who granted it.
            scopes: what was granted.
            signed_in_at: epoch seconds of their sign-in.
            code: a secret that becomes the code. Where it is one already, for the same, it is
                returned again until it is used; then, and for anything else, the answer is
                ``None``.
        """
        record = Code(
            client_id=request.client_id,
            redirect_uri=request.redirect_uri,
            code_challenge=request.code_challenge,
            resource=self._resource,
            person=person,
            scopes=scopes,
            signed_in_at=signed_in_at,
            expires_at=int(self._clock.time() + self._lifetimes.code_seconds),
        )
        code = code or new_secret()
        key = hash_of(code)
        if await self._store.add(
            CODES, key, record.dump(), ttl=USED_CODE_SECONDS, group=person.subject
        ):
            return code
        known = await self._store.get(CODES, key)
        before = None if known is None else Code.load(known.value)
        if before is None or before != replace(
            record, expires_at=before.expires_at, signed_in_at=before.signed_in_at
        ):
            return None
        return code

    async def redeem(
        self, code: str, client: Client, redirect_uri: str | None, verifier: str | None
    ) -> Granted:
        """Use a code, once; everything is checked before it counts as used.

        Raises:
            InvalidGrant: it is unknown, expired, used, was issued for something else, or the client
                may have nothing of what was granted any more. A replay ends its grant.

        RFC 6749 §4.1.3; RFC 7636 §4.6; RFC 9700 §2.1.1 and §4.5.
        """
        key, began = hash_of(code), self._clock.time()
        grant_id = grant_of_code(key)
        for _ in range(ATTEMPTS):
            record = await self._store.get(CODES, key)
            if record is None:
                raise InvalidGrant(reason="unknown_code")
            known, now = Code.load(record.value), self._clock.time()
            mismatch = find_mismatch(known, self._resource, client, redirect_uri, verifier)
            if known.used_at is not None:
                honest = mismatch is None and _is_recent(
                    known.used_at, began, self._lifetimes.code_leeway_seconds
                )
                raise await self._replayed(key, known, honest=honest)
            if mismatch is not None:
                raise InvalidGrant(reason=mismatch)
            if now >= known.expires_at:
                raise InvalidGrant(reason="code_expired")
            scopes = self._scopes.narrowed(None, known.scopes, client)
            refreshable = "refresh_token" in client.grant_types
            grant = self._grant_of(known, refreshable=refreshable)
            grant = await self._renewed(grant)
            used = replace(known, used_at=now)
            if await self._store.swap(CODES, key, record, used.dump(), ttl=USED_CODE_SECONDS):
                return await self._begin(grant_id, grant, scopes, refreshable=refreshable)
        raise ServerUnavailable

    async def _begin(
        self, grant_id: str, grant: Grant, scopes: list[str], *, refreshable: bool
    ) -> Granted:
        if not await self.ledger.add(grant_id, grant):
            # by a replay, or by the person, between these two steps
            raise InvalidGrant(reason="grant_revoked")
        return Granted(
            grant_id,
            grant,
            scopes,
            self._refresh_tokens.make(grant_id, grant.generation) if refreshable else None,
        )

    async def _replayed(self, key: str, code: Code, *, honest: bool) -> InvalidGrant:
        # two requests of one client at once, or its HTTP library tried again: it just loses
        if honest:
            return InvalidGrant(reason="code_used")
        grant = await self._end(grant_of_code(key), "code_replayed", (key, code))
        if grant is not None:
            await self._login.on_grant_ended(code.person)
        return InvalidGrant(reason="code_replayed")

    def _grant_of(self, code: Code, *, refreshable: bool) -> Grant:
        now, lifetimes = int(self._clock.time()), self._lifetimes
        seconds = lifetimes.refresh_token_seconds if refreshable else lifetimes.access_token_seconds
        return Grant(
            client_id=code.client_id,
            resource=code.resource,
            person=code.person,
            scopes=code.scopes,
            created_at=now,
            expires_at=now + int(seconds),
            signed_in_at=code.signed_in_at,
        )

    # --------------------------------------------------------------------------------------- grants

    async def for_client(self, client: Client, scopes: list[str]) -> Granted:
        """Let a client act for itself (RFC 6749 §4.4); no refresh token."""
        now, grant_id = int(self._clock.time()), new_secret()[:22]
        seconds = int(self._lifetimes.access_token_seconds)
        grant = Grant(
            client_id=client.client_id,
            resource=self._resource,
            person=None,
            scopes=scopes,
            created_at=now,
            expires_at=now + seconds,
        )
        await self.ledger.add(grant_id, grant)
        return Granted(grant_id, grant, scopes, None)

    async def refresh(self, token: str, client: Client, scope: str | None) -> Granted:
        """Use a refresh token. The one before the last gives the same successor again for a few
        seconds.

        Raises:
            InvalidGrant: it is no refresh token of this client, its grant has ended, or the client
                may have nothing of it any more. A replay ends the grant.
            InvalidScope: more was asked for than was granted.

        RFC 6749 §6; RFC 9700 §4.14.2.
        """
        grant_id, generation = self._refresh_tokens.parse(token)
        began, leeway = self._clock.time(), self._lifetimes.refresh_leeway_seconds
        for _ in range(ATTEMPTS):
            record, grant = await self._read(grant_id)
            if grant.client_id != client.client_id:
                raise InvalidGrant(reason="refresh_client")
            if grant.resource != self._resource:
                raise InvalidGrant(reason="other_resource")
            is_current, recent = (
                generation == grant.generation,
                _is_recent(grant.rotated_at, began, leeway),
            )
            if not is_current and not (recent and generation == grant.generation - 1):
                await self.revoke(grant_id, "refresh_replayed")
                raise InvalidGrant(reason="refresh_replayed")
            scopes, known = self._scopes.narrowed(scope, grant.scopes, client), grant
            try:
                grant = await self._renewed(known)
                if grant.person is not None:
                    scopes = await self._scopes.still_grantable(
                        grant.person, client, grant.scopes, scopes
                    )
            except InvalidGrant as error:
                await self.revoke(grant_id, error.reason)
                raise
            rotates = client.is_public or self._rotate_confidential
            # What does not rotate is written so that it does not idle.
            if is_current and (rotates or not recent or grant != known):
                grant = replace(
                    grant, generation=generation + rotates, rotated_at=self._clock.time()
                )
                if not await self.ledger.swap(grant_id, record, grant):
                    continue  # somebody else was faster: look again
            return Granted(
                grant_id, grant, scopes, self._refresh_tokens.make(grant_id, grant.generation)
            )
        raise ServerUnavailable

    async def _renewed(self, grant: Grant) -> Grant:
        """Return a grant with what the login step says now of the person."""
        if grant.person is None:
            return grant
        person = await self._login.reauthorize(grant.person, self.ledger.ttl(grant))
        if person is None:
            return grant
        if check_person(person).subject != grant.person.subject:  # whose the grant is never changes
            raise InvalidGrant(reason="sign_in_ended")
        return replace(grant, person=person)

    async def find(self, grant_id: str) -> Grant | None:
        """Return a grant for our resource some token of which may be good."""
        found = await self.ledger.get(grant_id)
        grant = None if found is None or self.ledger.has_ended(grant_id, found[1]) else found[1]
        return (
            None
            if grant is None or grant.resource != self._resource or self.ledger.is_over(grant)
            else grant
        )

    async def belongs_to(self, grant_id: str, client: Client) -> bool:
        """Return whether the store holds such a grant of this client, for our resource.

        This process may know that it has ended, and not have been able to write that down: then
        that has to be tried again.
        """
        found = await self.ledger.get(grant_id)
        return found is not None and (found[1].client_id, found[1].resource) == (
            client.client_id,
            self._resource,
        )

    def grant_of_refresh_token(self, token: str) -> str | None:
        """Return the grant that a refresh token belongs to, whether or not it is still good;
        ``None`` for no such.
        """
        try:
            return self._refresh_tokens.parse(token)[0]
        except InvalidGrant:
            return None

    async def find_by_refresh_token(self, token: str) -> tuple[Grant, int] | None:
        """Return the grant of the refresh token that is good now, and when that ends in epoch
        seconds.
        """
        try:
            grant_id, generation = self._refresh_tokens.parse(token)
            grant = (await self._read(grant_id))[1]
        except InvalidGrant:
            return None
        good = generation == grant.generation and grant.resource == self._resource
        return (grant, int(self.ledger.refresh_ends_at(grant))) if good else None

    async def scan(
        self, *, subject: str | None = None, client_id: str | None = None
    ) -> AsyncIterator[tuple[str, Grant]]:
        """Yield the grants that have not ended, of one person or of all, of one client or of
        all.
        """
        async for grant_id, grant in self.ledger.scan(subject=subject):
            if client_id in (None, grant.client_id):
                yield grant_id, grant

    async def revoke(self, grant_id: str, reason: str) -> bool:
        """End a grant and all its tokens; return whether it had not ended before.

        Args:
            grant_id: which one. In this process it counts as ended from now on, whatever the store
                says.
            reason: for the audit record.
        """
        grant = await self._end(grant_id, reason)
        if grant is not None and grant.person is not None:
            await self._login.on_grant_ended(grant.person)
        return grant is not None

    async def revoke_all(
        self, reason: str, *, subject: str | None = None, client_id: str | None = None
    ) -> int:
        """End the grants of a person, of a client, or of a client to a person; return how many had
        not ended before.

        Codes that nobody has redeemed yet become worthless.
        """
        number, over = 0, list[Grant]()
        try:
            async for grant_id, _ in self.scan(subject=subject, client_id=client_id):
                grant = await self._end(grant_id, reason)
                if grant is not None:
                    number += 1
                    over.append(grant)
            # Only now: the grant of a code that is being used may have been too young to be seen.
            async for key, record in scan_all(self._store, CODES, group=subject):
                code = Code.load(record.value)
                if client_id in (None, code.client_id):
                    grant = await self._end(grant_of_code(key), reason, (key, code))
                    over += () if grant is None else (grant,)
        finally:
            # When all have ended: none waits for what follows the end of another.
            for grant in over:
                if grant.person is not None:
                    await self._login.on_grant_ended(grant.person)
        return number

    async def _end(
        self, grant_id: str, reason: str, of: tuple[str, Code] | None = None
    ) -> Grant | None:
        """End a grant and return it, ``None`` when there is none that has not ended.

        Args:
            grant_id: which one.
            reason: for the audit record.
            of: the code that begins it, and its key. Where there is no grant yet, there will be
                none.
        """
        self.ledger.mark_dead(grant_id)
        found = await self.ledger.get(grant_id)
        grant = (
            found[1]
            if found is not None
            else None
            if of is None
            else self._grant_of(of[1], refreshable=False)
        )
        if grant is None or grant.revoked is not None:
            return None
        try:
            await self.ledger.end(grant_id, grant, reason)
        except ServerUnavailable:
            # What is full takes nothing more, and lets go all the same.
            if of is not None:
                await self._store.delete(CODES, of[0])
            await self.ledger.forget(grant_id)
        event = AuditEvent(
            action="grant_revoked",
            client_id=grant.client_id,
            subject=grant.subject,
            grant_id=grant_id,
            reason=reason,
        )
        self._audit.report(event)
        return grant

    # -------------------------------------------------------------------------------------- records

    async def _read(self, grant_id: str) -> tuple[Record, Grant]:
        found = await self.ledger.get(grant_id)
        if found is None:
            raise InvalidGrant(reason="unknown_refresh_token")
        if self.ledger.has_ended(grant_id, found[1]):
            raise InvalidGrant(reason="grant_revoked")
        if self._clock.time() >= self.ledger.refresh_ends_at(found[1]):
            raise InvalidGrant(reason="refresh_expired")
        return found


def _is_recent(since: float, began: float, leeway: float) -> bool:
    # A request that was here before the one that won may have waited for the store, or for us.
    return -MARGIN_SECONDS <= began - since <= leeway
