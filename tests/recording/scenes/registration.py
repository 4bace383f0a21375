"""How clients become known: RFC 7591, and what they may do with their registration, RFC 7592."""

from __future__ import annotations

import json
from typing import Any

from asgi_mcp_auth.server import Registration

from ..deployments import LOOPBACK_REDIRECT_URI, SERVICE, WEB_REDIRECT_URI, deployment, register
from ..recorder import Recorder
from ..signing import public_jwk

TOKEN = "an-initial-access-token-of-more-than-32-characters"
ACCEPTED: dict[str, dict[str, Any]] = {
    "A public client on loopback": {},
    "A confidential client": {
        "redirect_uris": [WEB_REDIRECT_URI],
        "token_endpoint_auth_method": "client_secret_basic",
    },
    "A client that leaves the method out": {"token_endpoint_auth_method": None},
    "A client that posts its secret": {"token_endpoint_auth_method": "client_secret_post"},
    "A client with keys of its own": {
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": {"keys": [public_jwk("client")]},
    },
    "A client with much to say": {
        "client_uri": "https://app.example/",
        "logo_uri": "https://app.example/logo.png",
        "tos_uri": "https://app.example/tos",
        "policy_uri": "https://app.example/policy",
        "contacts": ["admin@app.example"],
        "software_id": "test",
        "software_version": "1.0",
        "application_type": "native",
        "client_name#de": "Testprogramm",
        "scope": "mcp:read unknown offline_access",
        "grant_types": ["authorization_code", "refresh_token", "unknown"],
        "response_types": ["code"],
        "unknown_member": True,
    },
    "Members without a value are as if left out": {"client_uri": None, "logo_uri": "", "scope": ""},
    "Refused: a client that would act for itself": {
        "redirect_uris": None,
        "grant_types": ["client_credentials"],
        "token_endpoint_auth_method": "client_secret_basic",
    },
}
REFUSED: dict[str, dict[str, Any]] = {
    "No redirect URI": {"redirect_uris": None},
    "An http redirect URI of another host": {"redirect_uris": ["http://app.example/callback"]},
    "A redirect URI with a fragment": {"redirect_uris": ["https://app.example/callback#here"]},
    "A redirect URI with an unknown scheme": {"redirect_uris": ["cursor://callback"]},
    "Only response types that do not exist here": {"response_types": ["code id_token"]},
    "An unknown method": {"token_endpoint_auth_method": "tls_client_auth"},
    "private_key_jwt without keys": {"token_endpoint_auth_method": "private_key_jwt"},
    "jwks and jwks_uri at once": {
        "jwks": {"keys": [public_jwk("client")]},
        "jwks_uri": "https://app.example/jwks",
    },
    "A key set without a key": {"jwks": {"keys": []}},
    "The implicit grant": {"grant_types": ["implicit"]},
    "Only a refresh token": {"grant_types": ["refresh_token"]},
    "A response type that is not code": {"response_types": ["token"]},
    "A public client that acts for itself": {"grant_types": ["client_credentials"]},
    "Tokens bound to a key": {"dpop_bound_access_tokens": True},
}
BORNE: dict[str, dict[str, Any]] = {
    "A web application on loopback": {"application_type": "web"},
    "A name that is no string": {"client_name": 7},
    "A private client_uri": {"client_uri": "http://127.0.0.1/"},
    "Some redirect URIs that cannot be registered": {
        "redirect_uris": ["editor://callback", "https://app.example/callback"]
    },
    "Grant types and response types that do not exist here": {
        "grant_types": ["authorization_code", "implicit"],
        "response_types": ["code", "id_token"],
    },
}


async def create(recorder: Recorder) -> None:
    """Registrations that are accepted, and those that are not."""
    async with deployment(recorder) as (place, _):
        for sentence, metadata in ACCEPTED.items():
            await register(place, sentence, **metadata)
        for sentence, metadata in REFUSED.items():
            await register(place, f"Refused: {sentence}", **metadata)
        for sentence, metadata in BORNE.items():
            await register(place, sentence, **metadata)
        await place(
            "The body is no JSON",
            "POST",
            "/register",
            headers={"Content-Type": "application/json"},
            body=b"{",
        )
        await place("The body is a list", "POST", "/register", document=[])
        await place("The body is a form", "POST", "/register", form={"client_name": "a"})
        await place(
            "The body is too large", "POST", "/register", document={"client_name": "a" * 9000}
        )
        repeated = b'{"client_name": "a", "client_name": "b"}'
        await place(
            "A member is repeated",
            "POST",
            "/register",
            headers={"Content-Type": "application/json"},
            body=repeated,
        )
        await place(
            "A preflight of a page",
            "OPTIONS",
            "/register",
            headers={"Origin": "https://page.example", "Access-Control-Request-Method": "POST"},
        )
        await place("OPTIONS without a preflight", "OPTIONS", "/register")


async def manage(recorder: Recorder) -> None:
    """Read, replace and delete a registration."""
    async with deployment(recorder) as (place, _):
        first = await register(place, token_endpoint_auth_method="client_secret_basic")
        token, uri = first["registration_access_token"], first["registration_client_uri"]
        await place("A client reads its registration", "GET", uri, bearer=token)
        await place("Without a token", "GET", uri)
        await place("With another token", "GET", uri, bearer="another-token")
        await place(
            "With two words for a token", "GET", uri, headers={"Authorization": "Bearer a b"}
        )
        await place("Of an unknown client", "GET", "/register?client_id=unknown", bearer=token)
        await place(
            "Of a client of the operator", "GET", "/register?client_id=service", bearer=token
        )
        await place("Without a client", "GET", "/register", bearer=token)
        update = {
            "client_id": first["client_id"],
            "redirect_uris": [WEB_REDIRECT_URI],
            "client_name": "New name",
        }
        for sentence, document in {
            "It replaces its metadata": update,
            "It sends its secret along": {**update, "client_secret": first["client_secret"]},
            "It cannot choose a secret": {**update, "client_secret": "mine"},
            "It cannot leave its id out": {"redirect_uris": [WEB_REDIRECT_URI]},
            "It cannot choose its token": {**update, "registration_access_token": "a"},
            "It cannot have another redirect URI": {**update, "redirect_uris": ["x"]},
            "It becomes public": {**update, "token_endpoint_auth_method": "none"},
            "It becomes confidential again and gets a secret": update,
        }.items():
            await place(sentence, "PUT", uri, bearer=token, document=document)
        await place("PATCH is not allowed", "PATCH", uri, bearer=token)
        await place("It deletes its registration", "DELETE", uri, bearer=token)
        await place("It deletes it twice", "DELETE", uri, bearer=token)


async def closed(recorder: Recorder) -> None:
    """Registration with a token, an approval, or none at all."""
    welcome = Registration(
        clients=[SERVICE],
        initial_access_token=TOKEN,
        approve=lambda metadata: metadata.get("client_name") == "Test client",
        metadata_documents=False,
        management=False,
    )
    document = {"redirect_uris": [LOOPBACK_REDIRECT_URI], "client_name": "Test client"}
    async with deployment(recorder, registration=welcome) as (place, _):
        await place("Without the initial access token", "POST", "/register", document=document)
        await place("With a wrong one", "POST", "/register", document=document, bearer="wrong")
        await place(
            "With the right one, without management",
            "POST",
            "/register",
            document=document,
            bearer=TOKEN,
        )
        await place(
            "A client that the operator does not want",
            "POST",
            "/register",
            document={**document, "client_name": "Another"},
            bearer=TOKEN,
        )
        await place(
            "Reading is not allowed without management",
            "GET",
            "/register?client_id=service",
            bearer=TOKEN,
        )


async def expired(recorder: Recorder) -> None:
    """A registration without a sign-in ends."""
    async with deployment(recorder, registration=Registration(unused_seconds=60)) as (place, _):
        client = await register(place)
        uri, token = client["registration_client_uri"], client["registration_access_token"]
        place.clock.advance(59)
        await place("A registration in its last second", "GET", uri, bearer=token)
        place.clock.advance(2)
        answer = await place("A registration that has ended", "GET", uri, bearer=token)
        assert json.loads(answer.body)["error"] == "invalid_token"


SCENES = {
    "Registrations": create,
    "A registration is managed": manage,
    "Registration is closed": closed,
    "A registration ends": expired,
}
