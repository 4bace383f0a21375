"""For users' own tests: a real token issuer on a loopback socket, and a frozen clock.

No mocks: verifiers use its key set, metadata and introspection endpoint over HTTP.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote_plus, urlsplit

from ._jose import SigningKey, sign_jwt
from ._json import decode_base64url
from ._urls import WELL_KNOWN_OPENID, WELL_KNOWN_SERVER
from .types import Clock

__all__ = ["INTROSPECTION_CLIENT", "FrozenClock", "Issuer", "sign_jwt"]

INTROSPECTION_CLIENT = ("rs", "rs-secret-0123456789abcdef")
"""The id and secret that the introspection endpoint knows."""


class FrozenClock:
    """A clock that moves only on command. Pass it to a verifier and to an ``Issuer``.

    Args:
        at: its time, in epoch seconds.
    """

    def __init__(self, at: float = 1_800_000_000.0) -> None:
        self._time = at
        self._monotonic = 1_000.0

    def time(self) -> float:
        """Return epoch seconds."""
        return self._time

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Advance both clocks."""
        self._time += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Change the wall clock only, as an administrator or a time server does."""
        self._time += seconds


class Answer(NamedTuple):
    """One HTTP response, and how many times to send it."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    times: float


class Issuer:
    """A token issuer with key set, discovery and introspection that mints tokens, and fails on
    command.

    Use it as a context manager. Its paths are ``/jwks`` and ``/introspect``, below ``issuer``, and
    the metadata paths of RFC 8414 and OpenID.

    Args:
        algorithms: each gets a key; the first one signs by default.
        path: path of the issuer URL, ``/tenant`` for example.
        clock: for ``iat`` and ``exp``.
    """

    def __init__(
        self, *, algorithms: Sequence[str] = ("RS256",), path: str = "", clock: Clock = time
    ) -> None:
        self.algorithms = tuple(algorithms)
        self.clock = clock
        self.hits: Counter[str] = Counter()
        self._opaque: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._server = _Server(self)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}{path}"
        # An issuer may end in a slash; RFC 8414 §3.1 drops it.
        self.path = path.removesuffix("/")
        self.jwks_uri = f"http://127.0.0.1:{self._server.server_port}{self.path}/jwks"
        self.introspection_url = (
            f"http://127.0.0.1:{self._server.server_port}{self.path}/introspect"
        )
        self.keys: dict[str, SigningKey] = {}
        self.jwks: dict[str, Any] = {"keys": []}
        self.jwks_headers: dict[str, str] = {}
        self._answers: dict[str, Answer] = {}
        self.delays: dict[str, float] = {}
        self.rotate()

    def __enter__(self) -> Issuer:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def mint(
        self,
        *,
        algorithm: str | None = None,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """Return a signed JWT.

        Args:
            algorithm: selects the key; defaults to the first one.
            header: members that replace the default ``alg``, ``kid`` and ``typ``; ``None`` omits
                one.
            claims: members that replace the default ``iss``, ``sub``, ``client_id``, ``iat``,
                ``exp`` (in 300 s) and ``jti``; ``None`` omits one. There is no default ``aud`` or
                ``scope``.
        """
        key = self.keys[algorithm or self.algorithms[0]]
        members = {"alg": key.algorithm, "kid": key.key_id, "typ": "at+jwt", **(header or {})}
        payload = {
            **self._usual_claims(),
            "iss": self.issuer,
            "jti": secrets.token_urlsafe(12),
            **claims,
        }
        return sign_jwt(key, _without_none(members), _without_none(payload))

    def mint_opaque(self, **claims: Any) -> str:
        """Return an opaque token for the introspection endpoint; claims as in ``mint``."""
        token = secrets.token_urlsafe(24)
        self._opaque[token] = _without_none(
            {"iss": self.issuer, **self._usual_claims(), "token_type": "Bearer", **claims}
        )
        return token

    def revoke(self, token: str) -> None:
        """Make an opaque token inactive."""
        self._opaque.pop(token, None)

    def public_jwk(self, algorithm: str | None = None) -> dict[str, str]:
        """Return the public key for ``algorithm`` as a JWK."""
        return self.keys[algorithm or self.algorithms[0]].public_jwk()

    def rotate(self, *, drop: bool = False) -> None:
        """Sign with new keys from now on. The old ones stay published unless ``drop`` is set."""
        old: list[Any] = [] if drop else self.jwks["keys"]
        self.keys = {name: SigningKey(name, secrets.token_urlsafe(8)) for name in self.algorithms}
        self.jwks = {"keys": [*(key.public_jwk() for key in self.keys.values()), *old]}

    def answer(
        self,
        path: str,
        body: bytes = b"",
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        times: float = float("inf"),
    ) -> None:
        """Send this response to the next ``times`` requests for ``path``."""
        self._answers[path] = Answer(
            status, body, headers or {"content-type": "application/json"}, times
        )

    def fail(self, path: str = "/jwks", *, status: int = 503, times: float = float("inf")) -> None:
        """Respond to requests for ``path`` with an error."""
        self.answer(path, b'{"error":"injected"}', status=status, times=times)

    def delay(self, path: str, seconds: float) -> None:
        """Delay responses for ``path`` by ``seconds``."""
        self.delays[path] = seconds

    def reset(self) -> None:
        """Stop failing and delaying. Keys, tokens and counters stay."""
        self._answers.clear()
        self.delays.clear()
        self.jwks_headers = {}

    def _usual_claims(self) -> dict[str, Any]:
        now = int(self.clock.time())
        return {"sub": "alice", "client_id": "test-client", "iat": now, "exp": now + 300}

    def respond(self, path: str, form: Mapping[str, str]) -> Answer:
        """Return the response to one request; called on the server's threads."""
        with self._lock:
            self.hits[path] += 1
            prepared = self._answers.get(path)
            if prepared is not None and prepared.times > 0:
                self._answers[path] = prepared._replace(times=prepared.times - 1)
                return prepared
        if path == "/jwks":
            return _json_answer(self.jwks, self.jwks_headers)
        if path == "/introspect":
            known = self._opaque.get(form.get("token", ""))
            if (form.get("client_id"), form.get("client_secret")) != INTROSPECTION_CLIENT:
                return _json_answer({"error": "invalid_client"}, status=401)
            if known is None or known.get("exp", float("inf")) <= self.clock.time():
                return _json_answer({"active": False})
            return _json_answer({"active": True, **known})
        if path in (
            WELL_KNOWN_SERVER + self.path,
            WELL_KNOWN_OPENID + self.path,
            WELL_KNOWN_OPENID,
        ):
            return _json_answer(self.metadata())
        return _json_answer({"error": "not_found"}, status=404)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata document (RFC 8414)."""
        return {
            "issuer": self.issuer,
            "jwks_uri": self.jwks_uri,
            "introspection_endpoint": self.introspection_url,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "client_id_metadata_document_supported": True,
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, issuer: Issuer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.issuer = issuer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: tests include clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self._credentials())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        self._answer(
            {name: values[0] for name, values in parse_qs(body).items()} | self._credentials()
        )

    def _credentials(self) -> dict[str, str]:
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            client_id, _, secret = (
                decode_base64url(value.rstrip("=").translate(str.maketrans("+/", "-_")).encode())
                .decode()
                .partition(":")
            )
            return {"client_id": unquote_plus(client_id), "client_secret": unquote_plus(secret)}
        if scheme == "Bearer":
            return {"client_id": INTROSPECTION_CLIENT[0], "client_secret": value}
        return {}

    def _answer(self, form: Mapping[str, str]) -> None:
        server: Any = self.server
        issuer: Issuer = server.issuer
        path = urlsplit(self.path).path
        if not path.startswith("/.well-known/"):
            path = path.removeprefix(issuer.path)
        time.sleep(issuer.delays.get(path, 0))
        answer = issuer.respond(path, form)
        self.send_response(answer.status)
        for name, value in {"content-length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def _json_answer(
    document: Mapping[str, Any], headers: Mapping[str, str] | None = None, *, status: int = 200
) -> Answer:
    return Answer(
        status,
        json.dumps(document).encode(),
        {"content-type": "application/json", **(headers or {})},
        1,
    )


def _without_none(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
