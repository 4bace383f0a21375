"""The tests' upstream providers, each without a proxy in front."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.proxy.upstreams.certified import CertifiedUpstream, certified_upstream
from tests.proxy.upstreams.faults import FAULTS, Fault
from tests.proxy.upstreams.github import GitHubShaped, github_upstream
from tests.proxy.upstreams.glewlwyd import glewlwyd_upstream
from tests.proxy.upstreams.upstream import Upstream, answer_at, ask, bearer
from tests.support.authorization_server import challenge_of

pytestmark = pytest.mark.asyncio

CALLBACK = "http://localhost:8000/auth/callback"
VERIFIER = "v" * 43
PKCE = {"code_challenge": challenge_of(VERIFIER), "code_challenge_method": "S256"}


@pytest_asyncio.fixture
async def certified() -> AsyncIterator[CertifiedUpstream]:
    async with certified_upstream(callback=CALLBACK) as upstream:
        yield upstream


@pytest_asyncio.fixture
async def github() -> AsyncIterator[GitHubShaped]:
    async with github_upstream(callback=CALLBACK, expires_in=300) as upstream:
        yield upstream


def browser() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=10, trust_env=False)


async def redeem(upstream: Upstream, callback_url: str) -> dict[str, Any]:
    return await token(
        upstream,
        grant_type="authorization_code",
        code=answer_at(callback_url)["code"],
        redirect_uri=upstream.callback,
        code_verifier=VERIFIER,
    )


async def token(upstream: Upstream, **form: str) -> dict[str, Any]:
    credentials = (upstream.client_id, upstream.client_secret)
    response = await ask(
        upstream.token_endpoint, data=form, auth=credentials, headers={"Accept": "application/json"}
    )
    found: dict[str, Any] = response.json()
    return found


async def whose(upstream: Upstream, access_token: str) -> httpx.Response:
    return await ask(upstream.userinfo_endpoint, "GET", headers=bearer(access_token))


# ---------------------------------------------------------------------------------------- certified


async def signed_in(
    upstream: Upstream, http: httpx.AsyncClient, user: str = "alice", **more: Any
) -> dict[str, Any]:
    scope = "openid email groups" if upstream.name == "certified" else "read:user"
    url = upstream.authorization_url(scope=scope, **PKCE, **more)
    return await redeem(upstream, await upstream.sign_in(http, url, user))


async def test_a_person_signs_in_at_the_certified_upstream_and_its_tokens_rotate(
    certified: CertifiedUpstream,
) -> None:
    async with browser() as http:
        tokens = await signed_in(certified, http, nonce="a-nonce")
    assert (await whose(certified, tokens["access_token"])).json()["email"] == "alice@example.com"
    successor = await token(
        certified, grant_type="refresh_token", refresh_token=tokens["refresh_token"]
    )
    assert successor["refresh_token"] != tokens["refresh_token"]
    assert [each.client_auth for each in await certified.requests()] == ["client_secret_basic"] * 2
    assert await certified.reused() == set()
    # Used twice, and everything is over.
    again = await token(
        certified, grant_type="refresh_token", refresh_token=tokens["refresh_token"]
    )
    assert again["error"] == "invalid_grant"
    assert (await whose(certified, successor["access_token"])).status_code == 401
    assert len(await certified.reused()) == 1


async def test_the_certified_upstream_names_itself_wants_pkce_and_has_no_registration(
    certified: CertifiedUpstream,
) -> None:
    known = (await ask(f"{certified.issuer}/.well-known/openid-configuration", "GET")).json()
    assert "registration_endpoint" not in known
    assert known["authorization_response_iss_parameter_supported"] is True
    assert (known["token_endpoint"], known["userinfo_endpoint"]) == (
        certified.token_endpoint,
        certified.userinfo_endpoint,
    )
    assert known["revocation_endpoint"] == certified.revocation_endpoint
    async with browser() as http:
        answer = answer_at(
            await certified.sign_in(http, certified.authorization_url(scope="openid"))
        )
        assert (answer["error"], answer["iss"]) == ("invalid_request", certified.issuer)


@pytest.mark.parametrize("decision", ["deny", "deny later"])
async def test_a_person_says_no_at_the_certified_upstream(
    certified: CertifiedUpstream, decision: str
) -> None:
    async with browser() as http:
        url = certified.authorization_url(scope="openid", **PKCE)
        answer = answer_at(await certified.sign_in(http, url, decision=decision))
        assert (answer["error"], answer["state"]) == ("access_denied", "a-state")


async def test_who_has_approved_at_the_certified_upstream_is_not_asked_again(
    certified: CertifiedUpstream,
) -> None:
    async with browser() as http:
        await signed_in(certified, http, "bob")
        response = await http.get(certified.authorization_url(scope="openid email groups", **PKCE))
        assert "code" in answer_at(response.headers["location"])


async def test_the_certified_upstream_fails_when_it_shall(certified: CertifiedUpstream) -> None:
    async with browser() as http:
        tokens = await signed_in(certified, http)
    await certified.fail_one_refresh_in(2)
    statuses = []
    for _ in range(6):
        answer = await token(
            certified, grant_type="refresh_token", refresh_token=tokens["refresh_token"]
        )
        tokens = answer if "access_token" in answer else tokens
        statuses.append((await certified.requests())[-1].status)
    assert statuses == [200, 503] * 3
    assert await certified.reused() == set()
    await certified.reset()
    await certified.fail("/token", 429, times=1, headers={"Retry-After": "7"})
    assert (await token(certified, grant_type="refresh_token", refresh_token="r"))[
        "error"
    ] == "injected"
    await certified.refuse(error="server_error", iss="https://other.example.com")
    async with browser() as http:
        answer = answer_at(await certified.sign_in(http, certified.authorization_url()))
    assert answer == {
        "error": "server_error",
        "state": "a-state",
        "iss": "https://other.example.com",
    }


async def test_the_certified_upstream_is_down_and_up_again_and_remembers(
    certified: CertifiedUpstream,
) -> None:
    async with browser() as http:
        tokens = await signed_in(certified, http)
    await certified.down()
    with pytest.raises(httpx.ConnectError):
        await whose(certified, tokens["access_token"])
    await certified.up()
    assert (await whose(certified, tokens["access_token"])).status_code == 200
    await certified.revoke_user("bob")
    assert (await whose(certified, tokens["access_token"])).status_code == 200
    await certified.revoke_user("alice")
    assert (await whose(certified, tokens["access_token"])).status_code == 401
    again = await token(
        certified, grant_type="refresh_token", refresh_token=tokens["refresh_token"]
    )
    assert again["error"] == "invalid_grant"


async def test_what_the_certified_upstream_issues_may_last_a_second() -> None:
    async with (
        certified_upstream(callback=CALLBACK, access_seconds=1) as upstream,
        browser() as http,
    ):
        tokens = await signed_in(upstream, http)
        assert tokens["expires_in"] == 1
        time.sleep(2.1)  # noqa: ASYNC251  # nothing else is going on
        assert (await whose(upstream, tokens["access_token"])).status_code == 401


# ------------------------------------------------------------------------------------ GitHub-shaped


async def test_a_person_signs_in_at_the_github_shaped_upstream_and_its_tokens_rotate(
    github: GitHubShaped,
) -> None:
    async with browser() as http:
        tokens = await signed_in(github, http)
    assert (await whose(github, tokens["access_token"])).json()["id"] == 1001
    successor = await token(
        github, grant_type="refresh_token", refresh_token=tokens["refresh_token"]
    )
    assert (await whose(github, tokens["access_token"])).status_code == 401
    assert (await whose(github, successor["access_token"])).json()["login"] == "alice"
    again = await token(github, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert again["error"] == "bad_refresh_token"
    assert len(await github.reused()) == 1


async def test_the_github_shaped_upstream_answers_forms_and_errors_with_200(
    github: GitHubShaped,
) -> None:
    form = {"code": "unknown", "client_id": github.client_id, "client_secret": github.client_secret}
    response = await ask(github.token_endpoint, data=form)
    assert (response.status_code, "error=bad_verification_code" in response.text) == (200, True)
    assert (await github.requests())[0].client_auth == "client_secret_post"


async def test_the_github_shaped_upstream_checks_the_code_verifier_that_was_promised(
    github: GitHubShaped,
) -> None:
    async with browser() as http:
        url = github.authorization_url(**{**PKCE, "code_challenge": challenge_of("w" * 43)})
        assert (await redeem(github, await github.sign_in(http, url)))[
            "error"
        ] == "bad_verification_code"


async def test_a_person_says_no_at_the_github_shaped_upstream(github: GitHubShaped) -> None:
    async with browser() as http:
        answer = answer_at(await github.sign_in(http, github.authorization_url(), decision="deny"))
        assert (answer["error"], answer["state"]) == ("access_denied", "a-state")


@pytest.mark.parametrize("fault", sorted({*FAULTS} - {"silence", "drip"}))
async def test_the_github_shaped_upstream_misbehaves_as_told_and_then_no_more(
    github: GitHubShaped, fault: str
) -> None:
    known: Mapping[str, Fault] = FAULTS
    github.fault("user", fault, times=1)
    answer = await whose(github, "whatever")
    assert (answer.status_code, answer.content) == (known[fault].status, known[fault].body)
    assert (await whose(github, "whatever")).status_code == 401


@pytest.mark.parametrize("fault", ["silence", "drip"])
async def test_the_github_shaped_upstream_lets_others_wait(
    github: GitHubShaped, fault: str
) -> None:
    github.fault("token", fault, times=1)
    with pytest.raises(httpx.ReadTimeout):
        async with httpx.AsyncClient(timeout=0.2, trust_env=False) as http:
            await http.post(github.token_endpoint)


async def test_tokens_of_the_github_shaped_upstream_end_when_they_are_revoked(
    github: GitHubShaped,
) -> None:
    async with browser() as http:
        tokens = [await signed_in(github, http, "bob") for _ in range(2)]
    client = (github.client_id, github.client_secret)
    assert (
        await ask(
            github.revocation_endpoint, data={"token": tokens[0]["refresh_token"]}, auth=client
        )
    ).is_success
    assert [(await whose(github, each["access_token"])).status_code for each in tokens] == [
        401,
        200,
    ]
    await github.down()
    await github.up()
    assert github.live_tokens() == [tokens[1]["access_token"]]
    await github.revoke_user("bob")
    assert github.live_tokens() == []


# ----------------------------------------------------------------------------------------- glewlwyd


async def test_a_person_signs_in_at_glewlwyd_and_its_tokens_rotate() -> None:
    async with glewlwyd_upstream(callback=CALLBACK) as upstream, browser() as http:
        known = (await ask(f"{upstream.issuer}/.well-known/openid-configuration", "GET")).json()
        assert (known["issuer"], known["token_endpoint"]) == (
            upstream.issuer,
            upstream.token_endpoint,
        )
        assert known["revocation_endpoint"] == upstream.revocation_endpoint
        assert "registration_endpoint" not in known
        url = upstream.authorization_url(scope="openid notes", nonce="a-nonce", **PKCE)
        back = await upstream.sign_in(http, url)
        assert answer_at(back)["iss"] == upstream.issuer
        tokens = await redeem(upstream, back)
        assert (await whose(upstream, tokens["access_token"])).json()[
            "email"
        ] == "alice@example.com"
        await upstream.down()
        await upstream.up()
        form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        successor = await token(upstream, **form)
        assert successor["refresh_token"] != tokens["refresh_token"]
        again = await ask(
            upstream.token_endpoint, data=form, auth=(upstream.client_id, upstream.client_secret)
        )
        assert again.status_code == 400
        form = {"token": successor["access_token"]}
        revoked = await ask(
            upstream.revocation_endpoint,
            data=form,
            auth=(upstream.client_id, upstream.client_secret),
        )
        assert revoked.is_success
        assert (await whose(upstream, successor["access_token"])).status_code == 401
