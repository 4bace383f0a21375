"""The token endpoint: codes, refresh tokens, clients that act for themselves."""

from __future__ import annotations

import json
from typing import Any

from asgi_mcp_auth import store_from_url
from asgi_mcp_auth.server import Lifetimes, Registration
from asgi_mcp_auth.testing import FrozenClock

from ..browser import Browser
from ..deployments import (
    LOOPBACK_REDIRECT_URI,
    SECRET,
    SERVICE,
    STORE_KEY,
    VERIFIER,
    answer_of,
    authorization_url,
    code_for,
    deployment,
    redeem,
    register,
    sign_in,
)
from ..recorder import NOW, Place, Recorder
from ..signing import challenge_of, private_pem

ROBOT = {
    **SERVICE,
    "client_id": "robot",
    "grant_types": ["client_credentials"],
    "scope": "mcp:read",
}


async def codes(recorder: Recorder) -> None:
    """Redeeming a code."""
    async with deployment(recorder) as (place, _):
        client, other = await register(place), await register(place)
        code = await code_for(place, client, scope="mcp:read mcp:write")
        await redeem(place, client, code, "With another verifier", code_verifier="v" * 43)
        await redeem(place, client, code, "With an empty verifier", code_verifier="")
        await redeem(place, other, code, "By another client")
        await redeem(
            place,
            client,
            code,
            "With another redirect URI",
            redirect_uri="http://127.0.0.1:1/callback",
        )
        await redeem(place, client, code, "For another resource", resource="https://other.example/")
        await redeem(place, client, "unknown", "An unknown code")
        await redeem(place, client, "", "No code")
        tokens = await redeem(
            place, client, code, "Redeemed at last", redirect_uri=LOOPBACK_REDIRECT_URI
        )
        await place(
            "The access token opens the resource", "POST", "/mcp", bearer=tokens["access_token"]
        )
        await redeem(place, client, code, "Again within the leeway: the grant goes on")
        await place(
            "The access token still opens it", "POST", "/mcp", bearer=tokens["access_token"]
        )
        place.clock.advance(3)
        await redeem(place, client, code, "A replay ends the grant")
        await place(
            "The access token opens nothing any more", "POST", "/mcp", bearer=tokens["access_token"]
        )
        code = await code_for(place, client)
        place.clock.advance(60)
        await redeem(place, client, code, "A code that has expired")
        code = await code_for(place, client, resource="http://localhost:8000/mcp")
        await redeem(place, client, code, "With the resource", resource="http://localhost:8000/mcp")


async def refreshing(recorder: Recorder) -> None:
    """Refresh tokens rotate, and a replay ends everything."""
    async with deployment(recorder) as (place, _):
        client, other = await register(place), await register(place)
        tokens = await sign_in(place, client, scope="mcp:read mcp:write")
        first = tokens["refresh_token"]
        second = (await _refresh(place, client, first, "A refresh token gives a new one"))[
            "refresh_token"
        ]
        await _refresh(place, client, first, "Again within the leeway: the same successor")
        await _refresh(place, other, second, "Of another client")
        await _refresh(
            place,
            client,
            second,
            "With more scopes than were granted",
            scope="mcp:read offline_access",
        )
        narrowed = await _refresh(place, client, second, "With fewer scopes", scope="mcp:read")
        third = narrowed["refresh_token"]
        fourth = (await _refresh(place, client, third, "All scopes again"))["refresh_token"]
        await _refresh(place, client, "unknown", "An unknown refresh token")
        await _refresh(place, client, "", "No refresh token")
        await _refresh(
            place, client, fourth, "For another resource", resource="https://other.example/"
        )
        place.clock.advance(11)
        fifth = await _refresh(place, client, fourth, "The grant goes on")
        place.clock.advance(301)
        await _refresh(place, client, fourth, "A replay after the leeway ends the grant")
        await _refresh(place, client, fifth["refresh_token"], "So the current one is worth nothing")
        await place("Nor is the access token", "POST", "/mcp", bearer=fifth["access_token"])


async def endings(recorder: Recorder) -> None:
    """How long grants and tokens last."""
    lifetimes = Lifetimes(
        refresh_token_seconds=7200, refresh_idle_seconds=3600, access_token_seconds=600
    )
    async with deployment(recorder, lifetimes=lifetimes, mcp_path="/mcp") as (place, _):
        client = await register(place)
        tokens = await sign_in(place, client)
        place.clock.advance(599)
        await place(
            "An access token in its last second", "POST", "/mcp", bearer=tokens["access_token"]
        )
        place.clock.advance(1)
        await place(
            "An access token that has expired", "POST", "/mcp", bearer=tokens["access_token"]
        )
        place.clock.advance(2400)
        tokens = await _refresh(
            place, client, tokens["refresh_token"], "Before it idles for too long"
        )
        place.clock.advance(3600)
        await _refresh(
            place, client, tokens["refresh_token"], "A refresh token that idled for too long"
        )
        tokens = await sign_in(place, client)
        for _ in range(2):
            place.clock.advance(3500)
            tokens = await _refresh(place, client, tokens["refresh_token"], None)
        last = tokens["refresh_token"]
        place.clock.advance(190)
        tokens = await _refresh(place, client, last, "Near its end, access tokens get shorter")
        place.clock.advance(10)
        await _refresh(
            place, client, tokens["refresh_token"], "Refreshing does not extend the grant"
        )


async def themselves(recorder: Recorder) -> None:
    """Clients that act for themselves, and requests for what a client may not have."""
    registration = Registration(clients=[SERVICE, ROBOT])
    options = {"scope_hierarchy": {"mcp:write": ["mcp:read"]}, "rotate_confidential": False}
    async with deployment(recorder, registration=registration, options=options) as (place, _):
        robot = ("robot", SECRET[1])
        usual = {"grant_type": "client_credentials"}
        answer = await place(
            "The required scopes by default", "POST", "/token", form=usual, basic=SECRET
        )
        token = json.loads(answer.body)["access_token"]
        await place("The token opens the resource", "POST", "/mcp", bearer=token)
        await place(
            "With scopes", "POST", "/token", form={**usual, "scope": "mcp:write"}, basic=SECRET
        )
        await place(
            "More than the operator allows",
            "POST",
            "/token",
            form={**usual, "scope": "mcp:write"},
            basic=robot,
        )
        await place(
            "An unknown scope", "POST", "/token", form={**usual, "scope": "other"}, basic=SECRET
        )
        await place(
            "Another resource",
            "POST",
            "/token",
            form={**usual, "resource": "https://other.example"},
            basic=SECRET,
        )
        for grant_type in ("password", "authorization_code", "refresh_token", ""):
            form = {"grant_type": grant_type, "code": "a", "refresh_token": "a"}
            await place(
                f"A robot with grant_type={grant_type}", "POST", "/token", form=form, basic=robot
            )
        public = await register(place)
        form = {**usual, "client_id": public["client_id"]}
        await place("A public client cannot act for itself", "POST", "/token", form=form)
        code = await _service_code(place)
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}
        answer = await place(
            "A confidential client redeems a code", "POST", "/token", form=form, basic=SECRET
        )
        form = {
            "grant_type": "refresh_token",
            "refresh_token": json.loads(answer.body)["refresh_token"],
        }
        await place(
            "Its refresh token does not rotate here", "POST", "/token", form=form, basic=SECRET
        )
        place.clock.advance(100)
        await place("So it is good again", "POST", "/token", form=form, basic=SECRET)


async def disabled(recorder: Recorder) -> None:
    """A grant type that is switched off, a client without refresh tokens, a key of another kind."""
    options = {"disabled": ["client_credentials"], "signing_keys": [private_pem("server")]}
    registration = Registration(clients=[SERVICE | {"grant_types": ["authorization_code"]}])
    async with deployment(recorder, options=options, registration=registration) as (place, _):
        form = {"grant_type": "client_credentials"}
        await place("A grant type that is switched off", "POST", "/token", form=form, basic=SECRET)
        form = {
            "grant_type": "authorization_code",
            "code": await _service_code(place),
            "code_verifier": VERIFIER,
        }
        answer = await place(
            "A token that is signed with RS256", "POST", "/token", form=form, basic=SECRET
        )
        await place(
            "It opens the resource", "POST", "/mcp", bearer=json.loads(answer.body)["access_token"]
        )


async def operator(recorder: Recorder) -> None:
    """Grants that the operator, or a deleted registration, ends."""
    answers = {"alice": ["mcp:read"], "bob": ["mcp:read"]}
    options = {"grant_scopes": lambda person, client, scopes: answers[person.subject]}
    async with deployment(recorder, options=options) as (place, provider):
        client = await register(place)
        tokens = await sign_in(place, client)
        answers["alice"] = []
        token = tokens["refresh_token"]
        await _refresh(place, client, token, "The person may grant nothing any more")
        await _refresh(place, client, token, "So the grant has ended")
        tokens = await sign_in(place, client, "bob")
        await provider.admin.revoke_person("bob")
        recorder.remark("The operator ends the grants of a person")
        await place("The access token opens nothing", "POST", "/mcp", bearer=tokens["access_token"])
        await sign_in(place, client, "bob")
        uri, token = client["registration_client_uri"], client["registration_access_token"]
        await place("The client deletes its registration", "DELETE", uri, bearer=token)
        await provider.admin.create_client({"redirect_uris": [LOOPBACK_REDIRECT_URI]})
        recorder.remark("The operator creates a client")


async def other_resource(recorder: Recorder) -> None:
    """Two resources with one issuer and one store, and keys that are kept there."""
    clock = FrozenClock(NOW)
    store = store_from_url("memory:", encryption_keys=[STORE_KEY], clock=clock)
    shared: dict[str, Any] = {"store": store, "clock": clock}
    async with (
        deployment(recorder, **shared) as (first, _),
        deployment(recorder, mcp_path="/other", **shared) as (second, _),
    ):
        client = await register(first)
        code = await code_for(first, client)
        await redeem(second, client, code, "A code for another resource")
        tokens = await redeem(first, client, code)
        await _refresh(second, client, tokens["refresh_token"], "A refresh token for another")
        access = tokens["access_token"]
        await second("An access token for another", "POST", "/other", bearer=access)
    async with deployment(recorder, options={"signing_keys": []}) as (_, provider):
        await provider.admin.rotate_keys()
        recorder.remark("The operator rotates the keys")


async def _service_code(place: Place) -> str:
    browser = Browser(place)
    await browser.open(None, authorization_url(SERVICE, code_challenge=challenge_of(VERIFIER)))
    await browser.follow(None)
    await browser.submit(None, username="alice")
    await browser.follow(None)
    await browser.submit(None, action="approve")
    return answer_of(browser.page)["code"]


async def _refresh(
    place: Place, client: dict[str, Any], token: str, sentence: str | None, **form: str
) -> dict[str, Any]:
    usual = {
        "grant_type": "refresh_token",
        "client_id": client["client_id"],
        "refresh_token": token,
    }
    response = await place(sentence, "POST", "/token", form={**usual, **form})
    document: dict[str, Any] = json.loads(response.body)
    return document


SCENES = {
    "Codes are redeemed": codes,
    "Refresh tokens rotate": refreshing,
    "Tokens and grants end": endings,
    "Clients act for themselves": themselves,
    "The operator ends grants": operator,
    "Two resources and one store": other_resource,
    "A server without client_credentials, with RS256": disabled,
}
