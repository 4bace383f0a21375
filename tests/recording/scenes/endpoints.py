"""What every endpoint for clients refuses, and how often it may be asked."""

from __future__ import annotations

from typing import Any

from asgi_mcp_auth.server import RateLimits, Registration

from ..browser import Browser
from ..deployments import (
    ISSUER,
    SECRET,
    SERVICE,
    authorization_url,
    code_for,
    deployment,
    redeem,
    register,
)
from ..recorder import Recorder
from ..signing import private_pem, sign

FORM = {"grant_type": "client_credentials"}
FORM_TYPE = {"Content-Type": "application/x-www-form-urlencoded"}


async def wrong_requests(recorder: Recorder) -> None:
    """What every endpoint for clients refuses in the same way."""
    async with deployment(recorder, registration=Registration(clients=[SERVICE])) as (place, _):
        for path in ("/token", "/revoke", "/introspect", "/par"):
            await place(f"GET {path}", "GET", path)
            await place(f"OPTIONS {path}", "OPTIONS", path)
            asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
            await place(f"A preflight of {path}", "OPTIONS", path, headers=asked)
            await place(f"JSON for {path}", "POST", path, document={})
            await place(f"No content type for {path}", "POST", path)
            zipped = {**FORM_TYPE, "Content-Encoding": "gzip"}
            await place(f"A compressed form for {path}", "POST", path, headers=zipped, body=b"a=b")
            repeated = [("client_id", "service"), ("client_id", "service")]
            await place(f"A repeated parameter for {path}", "POST", path, form=repeated)
            await place(
                f"A form that is not UTF-8 for {path}",
                "POST",
                path,
                headers=FORM_TYPE,
                body=b"a=%ff",
            )
            await place(f"Too many parameters for {path}", "POST", path, form=[("a", "b")] * 65)
            length = {**FORM_TYPE, "Content-Length": "70000"}
            await place(f"A length that is too much for {path}", "POST", path, headers=length)
            await place(f"Too large a form for {path}", "POST", path, form={"a": "b" * 70_000})
            await place(f"A WebSocket to {path}", "WEBSOCKET", path)
        padded = {**FORM_TYPE, "Content-Type": "Application/X-WWW-Form-Urlencoded; charset=utf-8"}
        await place(
            "A content type with a parameter", "POST", "/token", headers=padded, body=b"client_id=a"
        )


async def limits(recorder: Recorder) -> None:
    """Limits of each network."""
    rates = RateLimits(register=3, authorize=3, token=3, passwords=1, unfinished_bytes=2**14)
    registration = Registration(clients=[SERVICE])
    async with deployment(recorder, rate_limits=rates, registration=registration) as (place, _):
        elsewhere: dict[str, Any] = {"client": ("198.51.100.9", 4000)}
        for number in range(1, 5):
            await place(f"/authorize, {number} of 3", "GET", "/authorize?client_id=unknown")
        await place(
            "/authorize from another network", "GET", "/authorize?client_id=unknown", **elsewhere
        )
        await place("The pages share it", "GET", "/applications")
        for number in range(1, 5):
            await place(f"/token, {number} of 3", "POST", "/token", form=FORM, basic=SECRET)
        await place(
            "/introspect shares it", "POST", "/introspect", form={"token": "a"}, basic=SECRET
        )
        for number in range(1, 5):
            await place(
                f"A wrong secret, {number} of 3",
                "POST",
                "/token",
                form=FORM,
                basic=("service", "no"),
            )
        for number in range(1, 5):
            await register(place, f"/register, {number} of 3")
        place.clock.advance(60)
        await place("A minute later", "POST", "/token", form=FORM, basic=SECRET)
        client = await register(place)
        large = authorization_url(client, state="s" * 2500)
        await place("A sign-in that begins", "GET", large)
        await place("One too many that begin and do not end", "GET", large)


async def keys_change(recorder: Recorder) -> None:
    """Tokens of this server that it does not take."""
    options = {"signing_keys": [private_pem("server_ed25519"), private_pem("server_p256")]}
    async with deployment(recorder, options=options) as (place, _):
        client = await register(place)
        tokens = await redeem(place, client, await code_for(place, client, browser=Browser(place)))
        header, claims, signature = tokens["access_token"].split(".")
        await place(
            "A token with another signature",
            "POST",
            "/mcp",
            bearer=f"{header}.{claims}.{'AAAA'}{signature[4:]}",
        )
        await place(
            "A token of another issuer",
            "POST",
            "/mcp",
            bearer=sign("stranger", {"iss": "https://other.example"}),
        )
        await place(
            "A token with an unknown key", "POST", "/mcp", bearer=sign("stranger", {"iss": ISSUER})
        )
        await place(
            "A refresh token as an access token", "POST", "/mcp", bearer=tokens["refresh_token"]
        )


SCENES = {
    "Wrong requests of clients": wrong_requests,
    "Limits": limits,
    "Tokens that the server does not take": keys_change,
}
