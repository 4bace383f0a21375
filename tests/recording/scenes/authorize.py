"""Authorization requests: which are refused where, and which go on to a page."""

from __future__ import annotations

from typing import Any

from asgi_mcp_auth import DevLogin
from asgi_mcp_auth.server import Registration

from ..browser import Browser
from ..deployments import (
    LOCAL,
    SERVICE,
    WEB_REDIRECT_URI,
    authorization_url,
    code_for,
    deployment,
    register,
)
from ..recorder import Place, Recorder

# Told on a page: there is nowhere to redirect to.
ON_A_PAGE: dict[str, dict[str, str | None]] = {
    "An unknown client": {"client_id": "unknown"},
    "No client": {"client_id": None},
    "A redirect URI that is not registered": {"redirect_uri": "https://evil.example/"},
    "A redirect URI with another path": {"redirect_uri": "http://127.0.0.1:8123/other"},
    "A request URI that was not pushed": {
        "request_uri": "urn:ietf:params:oauth:request_uri:unknown"
    },
}
# Told the client at its redirect URI.
REDIRECTED: dict[str, dict[str, str | None]] = {
    "No response type": {"response_type": None},
    "The implicit response type": {"response_type": "token"},
    "No code challenge": {"code_challenge": None},
    "A plain code challenge": {"code_challenge_method": "plain"},
    "No code challenge method": {"code_challenge_method": None},
    "A code challenge of another length": {"code_challenge": "short"},
    "A response mode that is not query": {"response_mode": "fragment"},
    "An unknown scope": {"scope": "mcp:read unknown"},
    "A scope with a quote": {"scope": 'mcp:read "'},
    "Another resource": {"resource": "https://other.example/mcp"},
    "The resource with a slash at its end": {"resource": "http://localhost:8000/mcp/"},
    "A request object": {"request": "eyJhbGciOiJub25lIn0.e30."},
    "A request URI of another place": {"request_uri": "https://app.example/request"},
    "prompt=none without a session": {"prompt": "none"},
    "prompt=none beside another": {"prompt": "none login"},
    "max_age that is no number": {"max_age": "soon"},
    "max_age with too many digits": {"max_age": "1234567890"},
    "A state that is too long": {"state": "s" * 4097},
    "No state": {"response_type": None, "state": None},
}
GOES_ON: dict[str, dict[str, str | None]] = {
    "The usual request": {},
    "Loopback with another port": {"redirect_uri": "http://127.0.0.1:9999/callback"},
    "The only redirect URI is left out": {"redirect_uri": None},
    "With the resource": {"resource": "http://localhost:8000/mcp"},
    "With scopes": {"scope": "mcp:read mcp:write offline_access"},
    "With an unknown parameter": {"ui_locales": "de"},
    "With an empty parameter": {"login_hint": ""},
}


async def requests(recorder: Recorder) -> None:
    """Authorization requests of a client that a person has just installed."""
    async with deployment(recorder) as (place, _):
        client = await register(place)
        for sentence, parameters in ON_A_PAGE.items():
            await place(sentence, "GET", authorization_url(client, **parameters))
        for sentence, parameters in REDIRECTED.items():
            await place(sentence, "GET", authorization_url(client, **parameters))
        for sentence, parameters in GOES_ON.items():
            await place(sentence, "GET", authorization_url(client, **parameters))
        url = authorization_url(client)
        await _repeated(place, url)
        query = url.partition("?")[2]
        form_type = {"Content-Type": "application/x-www-form-urlencoded"}
        await place(
            "The request as a form goes on as GET",
            "POST",
            "/authorize",
            headers=form_type,
            body=query.encode(),
        )
        await place(
            "A form that is too long for a URL",
            "POST",
            "/authorize",
            headers=form_type,
            body=b"state=" + b"(" * 6000,
        )
        await place("A query that is too long", "GET", f"{url}&more={'m' * 17000}")
        await place("PUT is not allowed", "PUT", url)
        await place("HEAD is not allowed", "HEAD", url)
        await place(
            "A page of this machine under another name",
            "GET",
            url,
            headers={"Host": "evil.example"},
        )
        await place("A WebSocket", "WEBSOCKET", url)


async def _repeated(place: Place, url: str) -> None:
    for name in ("client_id", "redirect_uri", "state", "scope", "request_uri", "unknown"):
        await place(f"{name} is repeated", "GET", f"{url}&{name}=a&{name}=a")
    await place("A parameter that is not UTF-8", "GET", f"{url}&login_hint=%ff")
    await place("Too many parameters", "GET", url + "&a=a" * 64)


async def strangers(recorder: Recorder) -> None:
    """Errors of a client on the web: a link instead of a redirect until a person has approved
    it.
    """
    async with deployment(recorder) as (place, _):
        client = await register(place, redirect_uris=[WEB_REDIRECT_URI, f"{WEB_REDIRECT_URI}/2"])
        await place(
            "An error gives a page with a link", "GET", authorization_url(client, scope="unknown")
        )
        await place(
            "No redirect URI out of two", "GET", authorization_url(client, redirect_uri=None)
        )
        await place(
            "prompt=none gives the same page", "GET", authorization_url(client, prompt="none")
        )
        browser = Browser(place)
        await code_for(place, client, browser=browser)
        await browser.open(
            "After an approval it is a redirect", authorization_url(client, scope="unknown")
        )
        url = authorization_url(client, prompt="none")
        await browser.open("prompt=none from elsewhere needs consent again", url)
        same_origin = {"Sec-Fetch-Site": "same-origin"}
        await browser.open("prompt=none from our own page gets a code", url, headers=same_origin)
        wider = authorization_url(client, prompt="none", scope="mcp:read mcp:write")
        await browser.open("prompt=none for more scopes", wider, headers=same_origin)
        again = authorization_url(client, prompt="login")
        await browser.open("prompt=login shows the sign-in page", again, headers=same_origin)
        consent = authorization_url(client, prompt="consent")
        await browser.open("prompt=consent shows the consent page", consent, headers=same_origin)
        account = authorization_url(client, prompt="select_account unknown")
        await browser.open(
            "prompt=select_account shows the sign-in page", account, headers=same_origin
        )
        now = authorization_url(client, max_age="0")
        await browser.open("max_age=0 shows the sign-in page", now, headers=same_origin)
        place.clock.advance(100)
        old = authorization_url(client, max_age="99")
        await browser.open("A session that is older than max_age", old, headers=same_origin)
        young = authorization_url(client, max_age="100")
        await browser.open("A session that is as old as max_age", young, headers=same_origin)
        place.clock.advance(3600)
        idle = authorization_url(client)
        await browser.open("A session that was not used for an hour", idle, headers=same_origin)


async def policies(recorder: Recorder) -> None:
    """Clients of the operator, pushed requests, and hooks."""
    cases: dict[str, Any] = {
        "clients": [
            SERVICE,
            {
                **SERVICE,
                "client_id": "robot",
                "grant_types": ["client_credentials"],
                "redirect_uris": [],
            },
            {**SERVICE, "client_id": "narrow", "scope": "mcp:read"},
            {**SERVICE, "client_id": "pushing", "require_pushed_authorization_requests": True},
        ]
    }
    async with deployment(recorder, registration=Registration(**cases)) as (place, _):
        await place(
            "An error of the operator's client", "GET", authorization_url(SERVICE, scope="unknown")
        )
        robot = {"client_id": "robot", "redirect_uris": [WEB_REDIRECT_URI]}
        await place("A client that has no redirect URI", "GET", authorization_url(robot))
        narrow = authorization_url({**SERVICE, "client_id": "narrow"}, scope="mcp:write")
        await place("A scope that the operator does not allow this client", "GET", narrow)
        pushing = authorization_url({**SERVICE, "client_id": "pushing"})
        await place("A client that has to push its requests", "GET", pushing)
    async with deployment(recorder, options={"require_pushed_requests": True}) as (place, _):
        client = await register(place)
        await place("A server that wants pushed requests", "GET", authorization_url(client))


async def elsewhere(recorder: Recorder) -> None:
    """A server for development, asked from another machine."""
    async with deployment(recorder, login=DevLogin()) as (place, _):
        client = await register(place, token_endpoint_auth_method="none")
        await place("A page from another machine", "GET", "/authorize?client_id=a")
        await place("A client from another machine", "POST", "/token", form={"client_id": "a"})
        await place("Registration from another machine", "POST", "/register", document={})
        await place("A server that does not say where from", "GET", "/applications", client=None)
        await place("From this machine", "GET", "/authorize?client_id=a", **LOCAL)
        assert "error" in client


SCENES = {
    "Authorization requests": requests,
    "Authorization requests of clients on the web": strangers,
    "Authorization requests and the operator": policies,
    "A server for development": elsewhere,
}
