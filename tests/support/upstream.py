"""An identity provider for the tests of the proxy, as a person and a script see it; its back
channel is a real socket.

with Upstream() as upstream:
    callback = upstream.approve(url_that_the_browser_was_sent_to)
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from asgi_mcp_auth.testing import Answer, Issuer
from tests.support.authorization_server import challenge_of

SECONDS = 30  # longer than anything here takes
_HASHES = {"256": "sha256", "384": "sha384", "512": "sha512", "DSA": "sha512"}

CLIENT_ID = "the-proxy"
CLIENT_SECRET = "the secret of the proxy, with : and %"


class Upstream(Issuer):
    """Signs people in, with OpenID Connect or plain OAuth; refresh tokens rotate, and a used one
    ends everything.

    Attributes:
        requests: the forms that the token endpoint got.
        people: what is said of whom beside the subject.
        expires_in: of access tokens; ``None`` leaves it out.
        refreshes: whether there are refresh tokens.
        refreshes_id_tokens: whether refreshed tokens come with a new ID token.
        id_token: members to put in place of the usual ones in ID tokens; ``None`` leaves one out.
        access_claims: of access tokens, which are JWTs then.
        revoked: what was given back.
        reused: refresh tokens that came twice.
    """

    def __init__(self, **settings: Any) -> None:
        # An RSA key takes longer to make than most tests take.
        super().__init__(**{"algorithms": ("ES256",), **settings})
        self.requests: list[dict[str, str]] = []
        self.people: dict[str, dict[str, Any]] = {}
        self.expires_in: int | None = 3600
        self.refreshes = True
        self.refreshes_id_tokens = True
        self.id_token: dict[str, Any] = {}
        self.id_token_header: dict[str, Any] = {}
        self.refreshed_subject: str | None = None
        self.revoked: list[str] = []
        self.reused: list[str] = []
        self.metadata_more: dict[str, Any] = {}
        self.access_claims: dict[str, Any] | None = None
        self._codes: dict[str, dict[str, str]] = {}
        self._sessions: dict[str, dict[str, str]] = {}  # by refresh token
        self._used: set[str] = set()
        self.access: dict[str, str] = {}  # access token → subject
        self._held, self._first = "/token", False
        self._arrived, self._released = threading.Event(), threading.Event()
        self._released.set()

    def metadata(self) -> dict[str, Any]:
        """Return the metadata document."""
        return {
            **super().metadata(),
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "revocation_endpoint": f"{self.issuer}/revoke",
            **self.metadata_more,
        }

    def approve(self, url: str, user: str = "alice", **answer: str | None) -> str:
        """Sign in and consent, as the person whose browser was sent to ``url``; return where it is
        sent back to.

        Args:
            url: the authorization request.
            user: who signs in.
            answer: parameters to put in place of the usual ones; ``None`` leaves one out.
        """
        assert url.startswith(f"{self.issuer}/authorize?"), url
        asked = self.asked(url)
        code = secrets.token_urlsafe(16)
        self._codes[code] = {**asked, "user": user}
        usual = {"code": code, "state": asked["state"], "iss": self.issuer}
        sent = {name: value for name, value in {**usual, **answer}.items() if value is not None}
        return f"{asked['redirect_uri']}?{urlencode(sent)}"

    def refuse(self, url: str, error: str = "access_denied", **more: str) -> str:
        """Say no; return where the browser is sent back to."""
        return self.approve(url, code=None, error=error, **more)

    @staticmethod
    def asked(url: str) -> dict[str, str]:
        """Return the parameters of an authorization request, each of which must be there once."""
        found = parse_qs(urlsplit(url).query, keep_blank_values=True)
        assert all(len(values) == 1 for values in found.values()), found
        return {name: values[0] for name, values in found.items()}

    def end(self, user: str) -> None:
        """Sign a person out for good: their refresh tokens are worth nothing any more."""
        for token, session in [*self._sessions.items()]:
            if session["user"] == user:
                del self._sessions[token]

    @contextmanager
    def holding(self, path: str = "/token", *, first: bool = False) -> Iterator[threading.Event]:
        """Let requests for ``path`` hang for a while, or the first one only; yield an event that
        the first one sets.
        """
        self._held, self._first = path, first
        self._arrived.clear()
        self._released.clear()
        try:
            yield self._arrived
        finally:
            self._released.set()

    def respond(self, path: str, form: Mapping[str, str]) -> Answer:
        """Return the answer to one request."""
        if path == "/token":
            self.requests.append(dict(form))
        if path == self._held and not (self._first and self._arrived.is_set()):
            self._arrived.set()
            self._released.wait(SECONDS)
        answer = super().respond(path, form)
        if answer.status != 404:
            return answer
        with self._lock:
            if path == "/token":
                return self._token(form)
            if path == "/userinfo":
                user = self.access.get(form.get("client_secret", ""))
                return _json(
                    {"sub": user, **self.people.get(user, {})}
                    if user
                    else {"error": "invalid_token"},
                    200,
                )
            if path == "/revoke":
                self.revoked.append(form["token"])
                self._sessions.pop(form["token"], None)
                return _json({})
        return answer

    def _token(self, form: Mapping[str, str]) -> Answer:
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return _json({"error": "invalid_client"}, 401)
        if form["grant_type"] == "refresh_token":
            token = form["refresh_token"]
            if token in self._used:
                self.reused.append(token)
            session = self._sessions.pop(token, None)
            self._used.add(token)
            return (
                _json({"error": "invalid_grant"}, 400)
                if session is None
                else self._issue(session, anew=False)
            )
        session = self._codes.pop(form["code"], None)
        if session is None or session["redirect_uri"] != form["redirect_uri"]:
            return _json({"error": "invalid_grant"}, 400)
        if challenge_of(form["code_verifier"]) != session["code_challenge"]:
            return _json({"error": "invalid_grant"}, 400)
        return self._issue(session, anew=True)

    def _issue(self, session: dict[str, str], *, anew: bool) -> Answer:
        access, refresh, user = (
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(24),
            session["user"],
        )
        if not anew and self.refreshed_subject is not None:
            user = self.refreshed_subject
        if self.access_claims is not None:
            access = self.mint(sub=user, **self.access_claims)
        self.access[access] = user
        self._opaque[access] = {
            **self._usual_claims(),
            "sub": user,
            "token_type": "Bearer",
            **self.people.get(user, {}),
        }
        document: dict[str, Any] = {"access_token": access, "token_type": "bearer"}
        if self.expires_in is not None:
            document["expires_in"] = self.expires_in
            self._opaque[access]["exp"] = self._usual_claims()["iat"] + self.expires_in
        if self.refreshes:
            self._sessions[refresh] = session
            document["refresh_token"] = refresh
        if "openid" in session.get("scope", "").split() and (anew or self.refreshes_id_tokens):
            document["id_token"] = self.mint(
                header={"typ": "JWT", **self.id_token_header},
                **self._id_claims(session, user, access),
            )
        return _json(document)

    def _id_claims(self, session: dict[str, str], user: str, access: str) -> dict[str, Any]:
        digest = hashlib.new(_HASHES[self.algorithms[0][2:]], access.encode()).digest()
        return {
            "sub": user,
            "aud": CLIENT_ID,
            "client_id": None,
            "nonce": session.get("nonce"),
            "at_hash": base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode(),
            **self.people.get(user, {}),
            **self.id_token,
        }


def _json(document: Mapping[str, Any], status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode(), {"content-type": "application/json"}, 1)
