"""How clients prove who they are, and the endpoints for them beside /token."""

from __future__ import annotations

import base64
import json
from typing import Any

from asgi_mcp_auth.server import Registration

from ..deployments import (
    ISSUER,
    SECRET,
    SERVICE,
    VERIFIER,
    WEB_REDIRECT_URI,
    authorization_url,
    deployment,
    register,
    sign_in,
)
from ..recorder import NOW, Place, Recorder
from ..signing import challenge_of, public_jwk, sign, sign_symmetric, unsigned

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SIGNER = {
    "client_id": "signer",
    "token_endpoint_auth_method": "private_key_jwt",
    "jwks": {"keys": [public_jwk("client")]},
    "redirect_uris": [WEB_REDIRECT_URI],
    "grant_types": ["authorization_code", "client_credentials"],
}
FORM = {"grant_type": "client_credentials"}


async def secrets(recorder: Recorder) -> None:
    """Secrets in the header and in the form."""
    clients = [
        SERVICE,
        {**SERVICE, "client_id": "poster", "token_endpoint_auth_method": "client_secret_post"},
    ]
    async with deployment(recorder, registration=Registration(clients=clients)) as (place, _):
        await place("In the header", "POST", "/token", form=FORM, basic=SECRET)
        await place("A wrong secret", "POST", "/token", form=FORM, basic=("service", "wrong"))
        await place("An empty secret", "POST", "/token", form=FORM, basic=("service", ""))
        await place("An unknown client", "POST", "/token", form=FORM, basic=("unknown", SECRET[1]))
        await place(
            "In the form, where the header was agreed",
            "POST",
            "/token",
            form={**FORM, **_posted("service")},
        )
        await place("In the form, as agreed", "POST", "/token", form={**FORM, **_posted("poster")})
        await place(
            "In the header, where the form was agreed",
            "POST",
            "/token",
            form=FORM,
            basic=("poster", SECRET[1]),
        )
        await place("In both", "POST", "/token", form={**FORM, **_posted("service")}, basic=SECRET)
        await place("No secret at all", "POST", "/token", form={**FORM, "client_id": "service"})
        await place("No client at all", "POST", "/token", form=FORM)
        await place(
            "Two names for the client",
            "POST",
            "/token",
            form={**FORM, "client_id": "poster"},
            basic=SECRET,
        )
        await place(
            "One name twice", "POST", "/token", form={**FORM, "client_id": "service"}, basic=SECRET
        )
        await place(
            "An unknown public client", "POST", "/token", form={**FORM, "client_id": "unknown"}
        )
        for sentence, value in (
            ("Another scheme", "Digest abc"),
            ("Basic without a colon", "Basic " + base64.b64encode(b"service").decode()),
            ("Basic that is no base64", "Basic ***"),
            ("Basic that is not UTF-8", "Basic " + base64.b64encode(b"\xff:\xff").decode()),
            ("Basic without anything", "Basic"),
        ):
            await place(sentence, "POST", "/token", form=FORM, headers={"Authorization": value})
        encoded = ("service", SECRET[1].replace("-", "%2D"))
        await place(
            "A secret that was form-encoded first", "POST", "/token", form=FORM, basic=encoded
        )
        twice = [("Authorization", "Basic YTpi"), ("Authorization", "Basic YTpi")]
        await place("Two Authorization headers", "POST", "/token", form=FORM, headers=twice)


def _posted(client_id: str) -> dict[str, str]:
    return {"client_id": client_id, "client_secret": SECRET[1]}


async def assertions(recorder: Recorder) -> None:
    """Assertions that a client signs."""
    async with deployment(recorder, registration=Registration(clients=[SIGNER])) as (place, _):
        good = _claims("1")
        await _assert(place, "An assertion for the issuer", sign("client", good, typ="JWT"))
        await _assert(place, "The same again", sign("client", good, typ="JWT"))
        await _assert(
            place,
            "For the token endpoint",
            sign("client", _claims("2", aud=f"{ISSUER}/token"), typ="JWT"),
        )
        cases: dict[str, str] = {
            "For another server": sign(
                "client", _claims("3", aud="https://other.example"), typ="JWT"
            ),
            "For two servers": sign(
                "client", _claims("4", aud=[ISSUER, "https://other.example"]), typ="JWT"
            ),
            "Expired": sign("client", _claims("5", exp=int(NOW)), typ="JWT"),
            "Good for too long": sign("client", _claims("6", exp=int(NOW) + 301), typ="JWT"),
            "Without an id": sign("client", _claims(None), typ="JWT"),
            "Without an expiry": sign("client", _claims("7", exp=None), typ="JWT"),
            "By another key": sign("stranger", _claims("8"), typ="JWT", kid="client"),
            "By an unknown key": sign("stranger", _claims("9"), typ="JWT"),
            "About another client": sign("client", _claims("10", sub="service"), typ="JWT"),
            "Of another issuer": sign("client", _claims("11", iss="service"), typ="JWT"),
            "An access token": sign("client", _claims("12")),
            "Signed with a secret": sign_symmetric("secret", _claims("13"), typ="JWT"),
            "Not signed": unsigned(_claims("14")),
            "No JWT": "assertion",
        }
        for sentence, assertion in cases.items():
            await _assert(place, sentence, assertion)
        fresh = sign("client", _claims("15"), typ="JWT")
        await _assert(place, "Of another type", fresh, client_assertion_type="urn:other")
        await _assert(place, "With a secret besides", fresh, client_secret="secret")
        await _assert(place, "With the client's name", fresh, client_id="signer")
        await _assert(
            place,
            "With another client's name",
            sign("client", _claims("16"), typ="JWT"),
            client_id="service",
        )


def _claims(jti: str | None, **more: Any) -> dict[str, Any]:
    now = int(NOW)
    return {
        "iss": "signer",
        "sub": "signer",
        "aud": ISSUER,
        "jti": jti,
        "iat": now,
        "exp": now + 60,
        **more,
    }


async def _assert(place: Place, sentence: str, assertion: str, **more: str) -> None:
    form = {**FORM, "client_assertion": assertion, "client_assertion_type": ASSERTION_TYPE, **more}
    await place(sentence, "POST", "/token", form=form)


async def revocation(recorder: Recorder) -> None:
    """Giving tokens back."""
    async with deployment(recorder, registration=Registration(clients=[SERVICE])) as (place, _):
        client, other = await register(place), await register(place)
        tokens = await sign_in(place, client)
        mine, theirs = {"client_id": client["client_id"]}, {"client_id": other["client_id"]}
        access, refresh = tokens["access_token"], tokens["refresh_token"]
        await place(
            "Another client's token: nothing happens",
            "POST",
            "/revoke",
            form={**theirs, "token": refresh},
        )
        await place(
            "The operator's client: nothing happens",
            "POST",
            "/revoke",
            form={"token": refresh},
            basic=SECRET,
        )
        await place("The token still opens the resource", "POST", "/mcp", bearer=access)
        await place("An unknown token", "POST", "/revoke", form={**mine, "token": "unknown"})
        await place("No token", "POST", "/revoke", form=mine)
        await place("No client", "POST", "/revoke", form={"token": access})
        hinted = {**mine, "token": refresh, "token_type_hint": "access_token"}
        await place(
            "A refresh token ends the grant, whatever the hint", "POST", "/revoke", form=hinted
        )
        await place("Its access token opens nothing any more", "POST", "/mcp", bearer=access)
        await place("Once more", "POST", "/revoke", form=hinted)
        tokens = await sign_in(place, client)
        await place(
            "An access token ends the grant",
            "POST",
            "/revoke",
            form={**mine, "token": tokens["access_token"]},
        )
        form = {**mine, "grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        await place("Its refresh token is worth nothing", "POST", "/token", form=form)
        await place(
            "A page of any origin",
            "POST",
            "/revoke",
            form=hinted,
            headers={"Origin": "https://page.example"},
        )


async def introspection(recorder: Recorder) -> None:
    """Asking what a token is good for."""
    async with deployment(recorder, registration=Registration(clients=[SERVICE])) as (place, _):
        confidential = await register(place, token_endpoint_auth_method="client_secret_basic")
        credentials = (confidential["client_id"], confidential["client_secret"])
        client = await register(place)
        tokens = await sign_in(place, client, scope="mcp:read mcp:write")
        access, refresh = tokens["access_token"], tokens["refresh_token"]
        await place("An access token", "POST", "/introspect", form={"token": access}, basic=SECRET)
        await place("A refresh token", "POST", "/introspect", form={"token": refresh}, basic=SECRET)
        hinted = {"token": refresh, "token_type_hint": "access_token"}
        await place("With a wrong hint", "POST", "/introspect", form=hinted, basic=SECRET)
        await place(
            "An unknown token", "POST", "/introspect", form={"token": "unknown"}, basic=SECRET
        )
        await place("No token", "POST", "/introspect", form={"a": "b"}, basic=SECRET)
        await place(
            "A wrong secret",
            "POST",
            "/introspect",
            form={"token": access},
            basic=("service", "wrong"),
        )
        await place("No client", "POST", "/introspect", form={"token": access})
        public = {"client_id": client["client_id"], "token": access}
        await place("A public client", "POST", "/introspect", form=public)
        await place(
            "Another client's token",
            "POST",
            "/introspect",
            form={"token": access},
            basic=credentials,
        )
        place.clock.advance(3600)
        await place(
            "An access token that has expired",
            "POST",
            "/introspect",
            form={"token": access},
            basic=SECRET,
        )
        forged = sign("stranger", {"iss": ISSUER, "sub": "alice"})
        await place(
            "A token of another maker", "POST", "/introspect", form={"token": forged}, basic=SECRET
        )


async def pushed(recorder: Recorder) -> None:
    """Pushed authorization requests."""
    async with deployment(recorder, registration=Registration(clients=[SERVICE])) as (place, _):
        client, other = await register(place), await register(place)
        form = dict(
            pair.split("=") for pair in authorization_url(client).partition("?")[2].split("&")
        )
        form |= {"redirect_uri": client["redirect_uris"][0], "scope": "mcp:read"}
        answer = await place("A request is pushed", "POST", "/par", form=form)
        uri = json.loads(answer.body)["request_uri"]
        by_other = f"/authorize?client_id={other['client_id']}&request_uri={uri}"
        await place("Another client names it", "GET", by_other)
        named = f"/authorize?client_id={client['client_id']}&request_uri={uri}"
        await place("Its client names it", "GET", named)
        await place("Once more", "GET", named)
        await place(
            "It names a request URI itself", "POST", "/par", form={**form, "request_uri": uri}
        )
        await place(
            "A redirect URI that is not registered",
            "POST",
            "/par",
            form={**form, "redirect_uri": "x"},
        )
        await place("An unknown scope", "POST", "/par", form={**form, "scope": "unknown"})
        await place("No code challenge", "POST", "/par", form={**form, "code_challenge": ""})
        await place(
            "A client that proves nothing", "POST", "/par", form={**form, "client_id": "service"}
        )
        await place("A confidential client", "POST", "/par", form=_service_request(), basic=SECRET)
        answer = await place(None, "POST", "/par", form=form)
        place.clock.advance(60)
        request_uri = json.loads(answer.body)["request_uri"]
        late = f"/authorize?client_id={client['client_id']}&request_uri={request_uri}"
        await place("A request that was pushed too long ago", "GET", late)


def _service_request() -> dict[str, str]:
    challenge = challenge_of(VERIFIER)
    return {"response_type": "code", "code_challenge": challenge, "code_challenge_method": "S256"}


SCENES = {
    "Clients have secrets": secrets,
    "Clients sign assertions": assertions,
    "Tokens are given back": revocation,
    "Tokens are asked about": introspection,
    "Authorization requests are pushed": pushed,
}
