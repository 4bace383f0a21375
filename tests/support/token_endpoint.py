"""What tests of the token endpoint and its neighbours share: a server on each engine, and how
answers have to look.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgi_mcp_auth.testing import FrozenClock
from tests.support.asgi import Response
from tests.support.authorization_server import Server, deploy
from tests.support.engines import fresh

# RFC 6749 §5.2: what an error_description may consist of.
_DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+")


@asynccontextmanager
async def deploy_on(engine: str, **settings: Any) -> AsyncIterator[Server]:
    """Run an authorization server on one of ``ENGINES``, as ``deploy`` does."""
    clock = settings.pop("clock", None) or FrozenClock()
    with fresh(engine) as place:
        async with deploy(store=place.store(clock=clock), clock=clock, **settings) as server:
            yield server


async def is_alive(server: Server, access_token: str) -> bool:
    """Return whether the app admits this token; if not, with 401."""
    response = await server.call("POST", "/mcp", bearer=access_token)
    assert response.status in (200, 401), response.body
    return response.status == 200


def assert_not_kept(response: Response) -> None:
    """Check that the answer is not cached (RFC 6749 §5.1), and open to pages of any origin, without
    cookies.
    """
    assert response.header("cache-control") == "no-store"
    assert response.header("pragma") == "no-cache"
    assert response.header("access-control-allow-credentials") is None
    assert response.all("set-cookie") == []


def assert_refused(response: Response, error: str, status: int = 400) -> None:
    """Check that an answer is this error, in its form (RFC 6749 §5.2)."""
    assert (response.status, response.json().get("error")) == (status, error), response.body
    assert set(response.json()) == {"error", "error_description"}
    assert _DESCRIPTION.fullmatch(response.json()["error_description"])
    assert response.header("content-type") == "application/json"
    assert_not_kept(response)


def tokens_of(response: Response) -> dict[str, Any]:
    """Return the members of a token response, which must have the form of RFC 6749 §5.1."""
    assert response.status == 200, response.body
    assert response.header("content-type") == "application/json"
    assert_not_kept(response)
    document: dict[str, Any] = response.json()
    assert {"access_token", "token_type", "expires_in", "scope"} <= set(document)
    assert set(document) <= {"access_token", "token_type", "expires_in", "scope", "refresh_token"}
    assert document["token_type"] == "Bearer"
    assert type(document["expires_in"]) is int
    return document


class Calls:
    """Counts calls of some built-in functions on this thread while it is entered."""

    def __init__(self, *names: str) -> None:
        self.counts = dict.fromkeys(names, 0)

    def __enter__(self) -> dict[str, int]:
        sys.setprofile(self._note)
        return self.counts

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: object, event: str, argument: Any) -> None:
        if event == "c_call" and argument.__name__ in self.counts:
            self.counts[argument.__name__] += 1
