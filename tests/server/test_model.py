"""A state machine does anything in any order to two servers on one store, by the rules.

The rules are in tests/support/rules_of_tokens.py, written from the RFCs and this server's
documentation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from asgi_mcp_auth.server import Lifetimes, Registration
from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Response
from tests.support.authorization_server import (
    CONFIDENTIAL,
    ClientOf,
    Server,
    basic,
    deploy,
    memory_store,
)
from tests.support.rules_of_tokens import BAD_CLIENT, OK, SCOPES, Access, Code, Refresh, Rules

pytestmark = [pytest.mark.case("Z126"), pytest.mark.slow]

T = TypeVar("T")

USERS = ("alice", "bob")
scopes = st.sets(st.sampled_from(sorted(SCOPES)), min_size=1).map(frozenset)
short, long = (
    (1, 1, 2, 3, 8, 10, 11),
    (57, 59, 60, 61, 299, 300, 301, 539, 600, 601, 3539, 3600, 3601, 86_400, 14 * 86_400),
)
pauses = st.sampled_from([*short, *short, *long])
seldom = st.sampled_from([False] * 4 + [True])
GUARD = basic("service", CONFIDENTIAL["client_secret"])


class Machine(RuleBasedStateMachine):
    clients = Bundle("clients")
    codes = Bundle("codes")
    refresh_tokens = Bundle("refresh_tokens")
    thieves = st.none() | st.none() | st.none() | st.none() | clients

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.clock = FrozenClock()
        self.store = memory_store(self.clock)
        self.rules = Rules(int(self.clock.time()), {"service"})
        self.names: dict[str, ClientOf] = {}
        self.seen: list[tuple[str, Access]] = []
        self.issued: list[tuple[str, Refresh]] = []
        self.workers = [self.run(self.stack.enter_async_context(self.deploy())) for _ in range(2)]

    def deploy(self) -> Any:
        lifetimes = Lifetimes(revocation_lag_seconds=0)
        # When registrations end is another matter: tests/server/register.
        registration = Registration(
            clients=[CONFIDENTIAL], unused_seconds=10**9, client_seconds=10**9
        )
        return deploy(
            store=self.store, clock=self.clock, lifetimes=lifetimes, registration=registration
        )

    def run(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self.runner.run(wait())

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()

    def at(self, client: str, worker: int) -> ClientOf:
        """Return a client as it talks to one of the workers."""
        if client == "service":
            return self.workers[worker].known(CONFIDENTIAL)
        known = self.names[client]
        return ClientOf(self.workers[worker], known.information, known.verifier)

    def expect(self, response: Response, verdict: str) -> bool:
        """Compare an answer with what the rules say; return whether it is a good one."""
        said = OK if response.status == 200 else response.json()["error"]
        assert said == verdict, f"{said} instead of {verdict}"
        assert response.status == {OK: 200, BAD_CLIENT: 401}.get(verdict, 400)
        return verdict == OK

    def note(self, response: Response, refresh: Refresh, asked: frozenset[str]) -> Any:
        """Remember the tokens of an answer; return them for the bundle of refresh tokens."""
        tokens = response.json()
        assert set(tokens["scope"].split()) == asked
        access = self.rules.access(refresh.grant)
        assert tokens["expires_in"] == access.ends - self.rules.now
        self.seen.append((tokens["access_token"], access))
        if not any(token == tokens["refresh_token"] for token, _ in self.issued):
            self.issued.append((tokens["refresh_token"], refresh))
        return tokens["refresh_token"], refresh

    # -------------------------------------------------------------------------------------- clients

    @initialize(target=clients)
    def begin(self) -> str:
        return self.register(0)

    @precondition(lambda self: len(self.names) < 4)
    @rule(target=clients, worker=st.integers(0, 1))
    def register(self, worker: int) -> str:
        client = self.run(self.workers[worker].register())
        self.names[client.client_id] = client
        self.rules.clients.add(client.client_id)
        return client.client_id

    @rule(client=clients, worker=st.integers(0, 1), by_itself=st.booleans(), sure=seldom)
    def delete(self, client: str, worker: int, by_itself: bool, sure: bool) -> None:
        server, known = self.workers[worker], self.names[client]
        if not sure:
            return
        if by_itself:
            token = known.information["registration_access_token"]
            response = self.run(
                server.call("DELETE", f"/register?client_id={client}", bearer=token)
            )
            assert response.status == (204 if client in self.rules.clients else 401)
        else:
            self.run(server.provider.admin.delete_client(client))
        self.rules.delete(client)

    # ---------------------------------------------------------------------------------------- codes

    @rule(
        target=codes,
        client=clients,
        user=st.sampled_from(USERS),
        scopes=scopes,
        worker=st.integers(0, 1),
    )
    def authorize(self, client: str, user: str, scopes: frozenset[str], worker: int) -> Any:
        if client not in self.rules.clients:
            return multiple()
        code = self.run(self.at(client, worker).code(user, scope=" ".join(sorted(scopes))))
        return code, self.rules.authorize(client, user, scopes)

    @rule(
        target=refresh_tokens,
        client=clients,
        user=st.sampled_from(USERS),
        scopes=scopes,
        worker=st.integers(0, 1),
    )
    def sign_in(self, client: str, user: str, scopes: frozenset[str], worker: int) -> Any:
        if client not in self.rules.clients:
            return multiple()
        return self.redeem(self.authorize(client, user, scopes, worker), None, True, 1 - worker)

    @rule(
        target=refresh_tokens,
        pair=codes,
        thief=thieves,
        proven=seldom.map(lambda wrong: not wrong),
        worker=st.integers(0, 1),
    )
    def redeem(self, pair: tuple[str, Code], thief: str | None, proven: bool, worker: int) -> Any:
        code, known = pair
        by = thief or known.client
        client = self.at(by, worker)
        verifier = self.names[known.client].verifier if proven else "w" * 43
        response = self.run(client.redeem(code, code_verifier=verifier))
        if not self.expect(response, self.rules.redeem(known, by, proven)):
            return multiple()
        assert known.grant is not None
        return self.note(response, Refresh(known.grant, 0), known.scopes)

    @rule(target=refresh_tokens, pair=codes, contenders=st.integers(2, 5))
    def redeem_at_once(self, pair: tuple[str, Code], contenders: int) -> Any:
        code, known = pair

        async def race() -> list[Response]:
            each = [self.at(known.client, number % 2).redeem(code) for number in range(contenders)]
            return list(await asyncio.gather(*each))

        answers = self.run(race())
        verdicts = [self.rules.redeem(known, known.client, True) for _ in answers]
        for answer, verdict in zip(
            sorted(answers, key=lambda each: each.status),
            sorted(verdicts, key=OK.__ne__),
            strict=True,
        ):
            self.expect(answer, verdict)
        good = [answer for answer in answers if answer.status == 200]
        if not good:
            return multiple()
        assert known.grant is not None
        return self.note(good[0], Refresh(known.grant, 0), known.scopes)

    # -------------------------------------------------------------------------------------- refresh

    @rule(
        target=refresh_tokens,
        pair=refresh_tokens,
        thief=thieves,
        asked=st.none() | scopes | st.just(frozenset(("mcp:read", "unknown"))),
        worker=st.integers(0, 1),
        contenders=st.sampled_from([1, 1, 1, 4]),
    )
    def refresh(
        self,
        pair: tuple[str, Refresh],
        thief: str | None,
        asked: frozenset[str] | None,
        worker: int,
        contenders: int,
    ) -> Any:
        token, known = pair
        by = thief or known.grant.client
        scope = None if asked is None else " ".join(sorted(asked))

        async def race() -> list[Response]:
            each = [
                self.at(by, (worker + number) % 2).refresh(token, scope=scope)
                for number in range(contenders)
            ]
            return list(await asyncio.gather(*each))

        answers = self.run(race())
        verdicts = [self.rules.refresh(known, by, asked) for _ in answers]
        for answer, verdict in zip(answers, verdicts, strict=True):
            self.expect(answer, verdict)
        if verdicts[0] != OK:
            return multiple()
        (successor,) = {answer.json()["refresh_token"] for answer in answers}
        assert successor != token
        refreshed = Refresh(known.grant, known.generation + 1)
        for answer in answers:
            self.note(answer, refreshed, known.grant.scopes if asked is None else asked & SCOPES)
        return successor, refreshed

    # ---------------------------------------------------------------------------- acting for itself

    @rule(scopes=scopes, worker=st.integers(0, 1))
    def act(self, scopes: frozenset[str], worker: int) -> None:
        response = self.run(
            self.at("service", worker).token(
                grant_type="client_credentials", scope=" ".join(sorted(scopes))
            )
        )
        assert self.expect(response, OK)
        assert "refresh_token" not in response.json()
        self.seen.append(
            (response.json()["access_token"], self.rules.access(self.rules.act("service", scopes)))
        )

    # ----------------------------------------------------------------------------------- revocation

    @rule(data=st.data(), thief=thieves, worker=st.integers(0, 1))
    def revoke(self, data: Any, thief: str | None, worker: int) -> None:
        if not self.seen:
            return
        token, known = data.draw(st.sampled_from([*self.seen, *self.issued]))
        by = thief or known.grant.client
        client = self.at(by, worker)
        form = {"token": token, "client_id": by}
        headers = GUARD if by == "service" else {}
        self.expect(
            self.run(client.server.call("POST", "/revoke", form=form, headers=headers)),
            self.rules.revoke(known, by),
        )

    @rule(
        user=st.sampled_from(USERS),
        client=st.none() | clients,
        worker=st.integers(0, 1),
        sure=seldom,
    )
    def revoke_by_operator(self, user: str, client: str | None, worker: int, sure: bool) -> None:
        admin = self.workers[worker].provider.admin
        if not sure:
            return
        self.run(admin.revoke_person(user) if client is None else admin.revoke_client(user, client))
        self.rules.end(user=user, client=client)

    # ----------------------------------------------------------------------------------------- time

    @rule(seconds=pauses)
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.rules.now += seconds

    @rule(worker=st.integers(0, 1))
    def restart(self, worker: int) -> None:
        """A worker is replaced by a new one, which remembers nothing but what is in the store."""
        self.workers[worker] = self.run(self.stack.enter_async_context(self.deploy()))

    @rule(worker=st.integers(0, 1))
    def sweep(self, worker: int) -> None:
        self.run(self.workers[worker].provider.admin.sweep())

    # ----------------------------------------------------------------------------------- invariants

    @invariant()
    def access_tokens_are_alive_as_long_as_the_rules_say(self) -> None:
        for number, (token, known) in enumerate(self.seen):
            server: Server = self.workers[number % 2]
            response = self.run(server.call("POST", "/mcp", bearer=token))
            assert (response.status != 401) is self.rules.is_alive(known)

    @invariant()
    def each_grant_has_at_most_one_refresh_token_that_is_good(self) -> None:
        for number, (token, known) in enumerate(self.issued):
            server: Server = self.workers[number % 2]
            response = self.run(
                server.call("POST", "/introspect", headers=GUARD, form={"token": token})
            )
            assert response.json()["active"] is self.rules.is_current(known)
        current = [known.grant for _, known in self.issued if self.rules.is_current(known)]
        assert len(current) == len(set(current))

    @invariant()
    def a_used_code_never_works(self) -> None:
        assert all(code.grant is None or code.used is not None for code in self.rules.codes)


Machine.TestCase.settings = settings(
    max_examples=max(50, settings.default.max_examples // 20),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestTheServerDoesWhatTheRulesSay = Machine.TestCase
