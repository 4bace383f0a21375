"""Audit events: one log record and one call of the hook per outcome, INFO at most, no secret."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, get_args

import pytest

from asgi_mcp_auth import PasswordLogin
from asgi_mcp_auth.server import AuditEvent, RateLimits, Registration
from asgi_mcp_auth.server.audit import AuditAction
from tests.support.authorization_server import (
    CONFIDENTIAL,
    REDIRECT_URI,
    ClientOf,
    Server,
    basic,
    deploy,
)
from tests.support.passwords import cheap

pytestmark = pytest.mark.asyncio

ADDRESS = "192.0.2.7"
PASSWORDS = {"alice": cheap("correct horse")}


class Scene:
    """A server, a client and a browser whose requests come from ``ADDRESS``."""

    def __init__(self, server: Server, client: ClientOf) -> None:
        self.server = server
        self.client = client
        self.browser = server.browser()

    async def login_page(self) -> Any:
        return await self.browser.open(self.client.authorization_url())

    async def consent_page(self) -> Any:
        return await self.browser.submit(
            await self.login_page(), username="alice", password="correct horse"
        )

    async def tokens(self) -> dict[str, Any]:
        page = await self.browser.submit(await self.consent_page(), action="approve")
        code = page.url.partition("code=")[2].partition("&")[0]
        tokens: dict[str, Any] = (await self.client.redeem(code)).json()
        return tokens

    async def own_tokens(self) -> None:
        headers = basic("service", CONFIDENTIAL["client_secret"])
        assert (
            await self.server.token(headers=headers, grant_type="client_credentials")
        ).status == 200

    async def registration(self, method: str, document: Any = None) -> None:
        information = self.client.information
        target = information["registration_client_uri"].removeprefix("http://localhost:8000")
        token = information["registration_access_token"]
        response = await self.server.call(method, target, document=document, bearer=token)
        assert response.status < 300

    async def changed(self) -> None:
        information = self.client.information
        document = {
            "client_id": self.client.client_id,
            "redirect_uris": information["redirect_uris"],
        }
        await self.registration("PUT", {**document, "token_endpoint_auth_method": "none"})


Step = Callable[[Scene], Awaitable[Any]]
ACTIONS: dict[AuditAction, tuple[Step, Step | None, dict[str, Any]]] = {
    # what happens, what happens before, and what the event says
    "client_registered": (
        lambda scene: scene.server.call(
            "POST", "/register", document={"redirect_uris": [REDIRECT_URI]}
        ),
        None,
        {"endpoint": "register", "client_id": ...},
    ),
    "client_changed": (
        lambda scene: scene.changed(),
        None,
        {"endpoint": "register", "client_id": ...},
    ),
    "client_deleted": (
        lambda scene: scene.registration("DELETE"),
        None,
        {"endpoint": "register", "client_id": ...},
    ),
    "signed_in": (
        lambda scene: scene.consent_page(),
        None,
        {"endpoint": "login", "subject": "alice"},
    ),
    "sign_in_failed": (
        lambda scene: wrong_password(scene),
        None,
        {"endpoint": "login", "subject": "alice", "reason": "credentials"},
    ),
    "signed_out": (
        lambda scene: sign_out(scene),
        lambda scene: scene.consent_page(),
        {"endpoint": "logout", "subject": "alice"},
    ),
    "approved": (
        lambda scene: approve(scene, "approve"),
        lambda scene: scene.consent_page(),
        {"endpoint": "consent", "subject": "alice", "client_id": ..., "scopes": ("mcp:read",)},
    ),
    "denied": (
        lambda scene: approve(scene, "deny"),
        lambda scene: scene.consent_page(),
        {"endpoint": "consent", "subject": "alice", "client_id": ...},
    ),
    "token_issued": (
        lambda scene: scene.own_tokens(),
        None,
        {
            "endpoint": "token",
            "client_id": "service",
            "subject": "service",
            "grant_id": ...,
            "scopes": ("mcp:read",),
        },
    ),
    "token_refreshed": (
        lambda scene: refresh(scene),
        lambda scene: remember(scene),
        {
            "endpoint": "token",
            "client_id": ...,
            "subject": "alice",
            "grant_id": ...,
            "scopes": ("mcp:read",),
        },
    ),
    "grant_revoked": (
        lambda scene: scene.server.provider.admin.revoke_person("alice"),
        lambda scene: remember(scene),
        {
            "client_id": ...,
            "subject": "alice",
            "grant_id": ...,
            "reason": "by_operator",
            "address": None,
        },
    ),
    "key_created": (
        lambda scene: scene.server.provider.admin.rotate_keys(),
        None,
        {"key_id": ..., "address": None},
    ),
    "refused": (
        lambda scene: scene.server.token(grant_type="authorization_code"),
        None,
        {"endpoint": "token", "error": "invalid_client", "reason": "no_credentials"},
    ),
}


async def wrong_password(scene: Scene) -> None:
    page = await scene.browser.submit(await scene.login_page(), username="alice", password="wrong")
    assert page.response.status == 401


async def approve(scene: Scene, action: str) -> None:
    page = await scene.browser.open(scene.client.authorization_url())
    await scene.browser.submit(page, action=action)


async def sign_out(scene: Scene) -> None:
    page = await scene.browser.open("http://localhost:8000/applications")
    number = next(n for n, (action, _) in enumerate(page.forms) if action.endswith("/logout"))
    assert (await scene.browser.submit(page, number=number)).response.status == 200


async def remember(scene: Scene) -> None:
    scene.client.information["refresh_token"] = (await scene.tokens())["refresh_token"]


async def refresh(scene: Scene) -> None:
    assert (await scene.client.refresh(scene.client.information["refresh_token"])).status == 200


async def test_every_action_is_here() -> None:
    assert list(ACTIONS) == list(get_args(AuditAction))


@pytest.mark.parametrize("action", ACTIONS)
async def test_an_outcome_is_one_event_and_one_record_that_say_the_same(
    action: AuditAction, caplog: pytest.LogCaptureFixture
) -> None:
    step, before, expected = ACTIONS[action]
    registration = Registration(clients=[CONFIDENTIAL])
    async with deploy(login=PasswordLogin(PASSWORDS), registration=registration) as server:
        scene = Scene(server, await server.register())
        if before is not None:
            await before(scene)
        server.events.clear()
        caplog.clear()
        caplog.set_level(logging.DEBUG, "asgi_mcp_auth.server")
        await step(scene)
        (event,) = [each for each in server.events if each.action == action]
        records = [each for each in caplog.records if each.name == "asgi_mcp_auth.server.audit"]
        assert len(records) == len(server.events)
        (record,) = [each for each in records if vars(each)["action"] == action]
        assert {name: getattr(record, name) for name in asdict(event)} == asdict(event) | {
            "scopes": event.scopes
        }
        assert record.levelno == logging.INFO
        assert record.getMessage().split(" ")[0] == action
        known = {
            name: value
            for name, value in asdict(event).items()
            if value is not None and name != "action"
        }
        expected = {"address": "127.0.0.1", **expected}
        assert set(known) == {name for name, value in expected.items() if value is not None}
        for name, value in expected.items():
            assert value is ... or getattr(event, name) == value, name
        assert (
            known.get("client_id") in (None, "service", scene.client.client_id)
            or action == "client_registered"
        )


REFUSALS: dict[str, tuple[str, dict[str, Any], str, str, str]] = {
    "no such client": ("GET /authorize", {}, "authorize", "invalid_request", "unknown_client"),
    "a wrong secret": (
        "POST /token",
        {"headers": basic("service", "wrong"), "form": {"grant_type": "client_credentials"}},
        "token",
        "invalid_client",
        "secret",
    ),
    "a client nobody knows": (
        "POST /token",
        {"form": {"client_id": "x"}},
        "token",
        "invalid_client",
        "unknown_client",
    ),
    "a wrong method": ("GET /token", {}, "token", "invalid_request", "method"),
    "a large body": (
        "POST /token",
        {"headers": {"Content-Length": "1000000"}, "form": {}},
        "token",
        "invalid_request",
        "body_size",
    ),
    "no registration": (
        "POST /register",
        {"document": []},
        "register",
        "invalid_client_metadata",
        "client_metadata",
    ),
    "no redirect URI": (
        "POST /register",
        {"document": {}},
        "register",
        "invalid_redirect_uri",
        "redirect_uri",
    ),
    "nobody's registration": (
        "GET /register",
        {},
        "register",
        "invalid_token",
        "registration_token",
    ),
    "no transaction": ("GET /login?transaction=x", {}, "login", "invalid_request", "expired_form"),
    "a form from elsewhere": (
        "POST /consent",
        {"headers": {"Origin": "https://evil.example"}, "form": {}},
        "consent",
        "access_denied",
        "cross_site",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_says_where_and_why(case: str, caplog: pytest.LogCaptureFixture) -> None:
    request_line, sent, endpoint, error, reason = REFUSALS[case]
    method, target = request_line.split()
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        server.events.clear()
        with caplog.at_level(logging.DEBUG):
            await server.call(method, target, client=(ADDRESS, 1), **sent)
        (event,) = server.events
        assert event == AuditEvent(
            action="refused", endpoint=endpoint, address=ADDRESS, error=error, reason=reason
        )
        (record,) = [
            each for each in caplog.records if each.name.startswith("asgi_mcp_auth.server")
        ]
        assert (
            record.getMessage()
            == f"refused endpoint={endpoint!r} error={error!r} reason={reason!r}"
        )


async def test_a_client_that_proved_who_it_is_is_named_in_its_refusals() -> None:
    async with deploy(registration=Registration(clients=[CONFIDENTIAL])) as server:
        server.events.clear()
        headers = basic("service", CONFIDENTIAL["client_secret"])
        await server.token(headers=headers, grant_type="client_credentials", scope="admin")
        (event,) = server.events
        assert (event.client_id, event.error, event.reason) == (
            "service",
            "invalid_scope",
            "invalid_scope",
        )


async def test_a_limit_that_was_reached_is_reported_with_the_address() -> None:
    async with deploy(rate_limits=RateLimits(token=1)) as server:
        for _ in range(2):
            await server.call("POST", "/token", form={}, client=(ADDRESS, 1))
        assert (server.events[-1].reason, server.events[-1].address) == ("rate_limit", ADDRESS)


async def test_what_strangers_cause_is_info_at_most(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever they send, wherever they send it."""
    caplog.set_level(logging.DEBUG)
    async with deploy(
        rate_limits=RateLimits(token=5), registration=Registration(clients=[CONFIDENTIAL])
    ) as server:
        nasty = "\r\n<script>%00\udcff' OR 1=1 --"
        for path in (
            "authorize",
            "login",
            "consent",
            "applications",
            "logout",
            "token",
            "revoke",
            "introspect",
            "par",
        ):
            for method in ("GET", "POST", "PUT"):
                for name in (
                    "client_id",
                    "transaction",
                    "token",
                    "code",
                    "state",
                    "redirect_uri",
                    "request_uri",
                ):
                    value = nasty.encode("utf-8", "surrogatepass").decode("latin-1")
                    form = {name: value, "grant_type": value} if method == "POST" else None
                    await server.call(method, f"/{path}?{name}=%0d%0a%ff", form=form)
        await server.call(
            "POST",
            "/register",
            document={"client_name": "\r\nINFO forged", "redirect_uris": ["x\r\ny"]},
        )
        await server.call("POST", "/mcp", bearer="x.y.z")
    ours = [each for each in caplog.records if each.name.startswith("asgi_mcp_auth")]
    assert len(ours) > 100
    assert max(each.levelno for each in ours) == logging.INFO
    assert not [each for each in ours if set(each.getMessage()) & set("\r\n")]


async def test_a_hook_is_called_at_once_and_in_order() -> None:
    async with deploy() as server:
        await (await server.register()).sign_in()
        assert [event.action for event in server.events] == [
            "key_created",
            "client_registered",
            "signed_in",
            "approved",
            "token_issued",
        ]


async def test_without_a_hook_the_records_remain(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "asgi_mcp_auth.server.audit"):
        async with deploy(options={"on_event": None}) as server:
            await server.register()
    assert [vars(each)["action"] for each in caplog.records] == ["key_created", "client_registered"]
