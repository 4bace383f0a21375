"""What codes, grants and tokens have to do, said again in a hundred lines: from the RFCs, not from
the code.

RFC 6749 §4.1, §4.4 and §6; RFC 7009; RFC 7636; RFC 9700 §4.14; and how long this server says that
things live. Each method says what the server has to answer, and remembers what follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CODE, CODE_AGAIN, CODE_SHOWS = 60, 2, 600
ACCESS, IDLE, LONGEST, RETRY = 3600, 14 * 86_400, 30 * 86_400, 300
SCOPES = frozenset(("mcp:read", "mcp:write"))
OK, BAD_CLIENT, BAD_GRANT, BAD_SCOPE = "ok", "invalid_client", "invalid_grant", "invalid_scope"


@dataclass(eq=False)
class Grant:
    client: str
    user: str
    scopes: frozenset[str]
    began: int
    ends: int
    used: int
    refreshable: bool
    generation: int = 0
    ended: bool = False


@dataclass(eq=False)
class Code:
    client: str
    user: str
    scopes: frozenset[str]
    issued: int
    used: int | None = None
    void: bool = False
    grant: Grant | None = None


@dataclass(eq=False)
class Refresh:
    grant: Grant
    generation: int


@dataclass(eq=False)
class Access:
    grant: Grant
    ends: int


@dataclass
class Rules:
    now: int
    clients: set[str] = field(default_factory=set[str])
    codes: list[Code] = field(default_factory=list[Code])
    grants: list[Grant] = field(default_factory=list[Grant])

    def authorize(self, client: str, user: str, scopes: frozenset[str]) -> Code:
        self.codes.append(Code(client, user, scopes, self.now))
        return self.codes[-1]

    def redeem(self, code: Code, by: str, proven: bool) -> str:
        if by not in self.clients:
            return BAD_CLIENT
        fits = by == code.client and proven
        if code.used is not None:
            at_once = fits and self.now - code.used <= CODE_AGAIN
            if not at_once and self.now - code.used < CODE_SHOWS and code.grant is not None:
                code.grant.ended = True
            return BAD_GRANT
        if not fits or self.now - code.issued >= CODE:
            return BAD_GRANT
        code.used = self.now
        if code.void:
            return BAD_GRANT
        code.grant = self._begin(code.client, code.user, code.scopes, refreshable=True)
        return OK

    def act(self, client: str, scopes: frozenset[str]) -> Grant:
        return self._begin(client, client, scopes, refreshable=False)

    def refresh(self, token: Refresh, by: str, scopes: frozenset[str] | None) -> str:
        grant = token.grant
        if by not in self.clients:
            return BAD_CLIENT
        if grant.ended or self.now >= min(grant.ends, grant.used + IDLE) or by != grant.client:
            return BAD_GRANT
        is_current = token.generation == grant.generation
        if not is_current and (
            token.generation < grant.generation - 1 or self.now - grant.used > RETRY
        ):
            grant.ended = True
            return BAD_GRANT
        if scopes is not None:
            known = scopes & SCOPES  # others are left out
            if not known or not known <= grant.scopes:
                return BAD_SCOPE
        if is_current:
            grant.generation, grant.used = grant.generation + 1, self.now
        return OK

    def revoke(self, token: Refresh | Access, by: str) -> str:
        if by not in self.clients:
            return BAD_CLIENT
        known = self.is_alive(token) if isinstance(token, Access) else self.now < token.grant.ends
        if known and by == token.grant.client:
            token.grant.ended = True
        return OK

    def end(self, *, client: str | None = None, user: str | None = None) -> None:
        for each in (*self.codes, *self.grants):
            if client in (None, each.client) and user in (None, each.user):
                if isinstance(each, Grant):
                    each.ended = True
                else:
                    each.void = True

    def delete(self, client: str) -> None:
        self.clients.discard(client)
        self.end(client=client)

    def is_alive(self, token: Access) -> bool:
        return not token.grant.ended and self.now < token.ends

    def is_current(self, token: Refresh) -> bool:
        grant = token.grant
        in_time = self.now < min(grant.ends, grant.used + IDLE)
        return not grant.ended and in_time and token.generation == grant.generation

    def access(self, grant: Grant) -> Access:
        return Access(grant, min(self.now + ACCESS, grant.ends))

    def _begin(self, client: str, user: str, scopes: frozenset[str], *, refreshable: bool) -> Grant:
        ends = self.now + (LONGEST if refreshable else ACCESS)
        self.grants.append(Grant(client, user, scopes, self.now, ends, self.now, refreshable))
        return self.grants[-1]
