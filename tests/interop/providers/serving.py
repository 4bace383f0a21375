"""How the Python programs here listen, say what they have made, and stop."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def listen(app: Any) -> tuple[WSGIServer, str]:
    """Return a server for a WSGI app on a free port, and its origin."""
    server = make_server("127.0.0.1", 0, app, handler_class=_Quiet)
    return server, f"http://127.0.0.1:{server.server_port}"


def serve(server: WSGIServer, known: dict[str, Any]) -> None:
    """Print what is known as a line of JSON, and serve until stdin is closed."""
    sys.stdout.write(f"{json.dumps(known)}\n")
    sys.stdout.flush()
    threading.Thread(target=_stop_with_stdin, daemon=True).start()
    server.serve_forever()


def _stop_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)
