"""A provider of opaque tokens that answers each with a profile: GitHub's shape, on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, bytes, Mapping[str, str]]


class ProfileServer:
    """Profiles by token, at one path. Attributes are knobs and counters.

    Attributes:
        profiles: token → profile; another token gets a 401.
        answer: given to every caller instead, while it is set: status, body, headers.
        requests: the headers of each request, names in lower case.
    """

    def __init__(self, port: int, path: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.path = path
        self.userinfo_url = self.url + path
        self.profiles: dict[str, Mapping[str, Any]] = {}
        self.answer: Answer | None = None
        self.requests: list[dict[str, str]] = []

    def respond(self, path: str, headers: dict[str, str]) -> Answer:
        """Return the answer to one request; called on the server's threads."""
        self.requests.append(headers)
        if self.answer is not None:
            return self.answer
        if path != self.path:
            return 404, b"{}", {}
        profile = self.profiles.get(headers.get("authorization", "").removeprefix("Bearer "))
        if profile is None:
            return 401, b'{"message":"Bad credentials"}', {}
        return 200, json.dumps(profile).encode(), {}


@contextmanager
def serving_profiles(path: str = "/user") -> Iterator[ProfileServer]:
    """Serve profiles at ``path`` on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body, headers = profiles.respond(
                self.path, {name.lower(): self.headers[name] for name in self.headers}
            )
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        profiles = ProfileServer(server.server_port, path)
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        try:
            yield profiles
        finally:
            server.shutdown()
