"""Raw bytes on loopback sockets: clients that send what no library would, servers that answer as
none should.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from urllib.parse import urlsplit


def connect(base_url: str) -> socket.socket:
    """Return a connection to the server at ``base_url``."""
    parts = urlsplit(base_url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), timeout=10)


def read_response(
    connection: socket.socket, *, head: bool = False
) -> tuple[int, dict[str, str], bytes]:
    """Read one HTTP/1.1 response with its whole body; ``(0, {}, b"")`` when the server hung up."""
    stream = connection.makefile("rb", buffering=0)
    line = stream.readline()
    if not line:
        return 0, {}, b""
    status = int(line.split(b" ")[1])
    headers: dict[str, str] = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if head or status in (204, 304):
        return status, headers, b""
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(stream.readline(), 16):
            body += _exactly(stream, size)
            stream.readline()
        stream.readline()
    else:
        body = _exactly(stream, int(headers.get("content-length", 0)))
    return status, headers, body


def _exactly(stream: socket.SocketIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data


def request(base_url: str, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send ``data`` on a new connection and return the first response."""
    with connect(base_url) as connection:
        connection.sendall(data)
        return read_response(connection, head=data.startswith(b"HEAD "))


class HostileServer:
    """A server that does to each connection whatever ``behave`` does; use it as a context manager.

    Args:
        behave: gets the connected socket on a thread of its own. An ``OSError`` in it, the client's
            hanging up above all, ends it quietly.

    Attributes:
        url: ``http://127.0.0.1:PORT``.
        connections: how many there were.
        stopping: set when the test is over, for behaviours that last.
    """

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self.stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> HostileServer:
        self._acceptor.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._acceptor, *self._threads):
            thread.join(10)
            assert not thread.is_alive(), "a behaviour did not end"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection:
            try:
                self._behave(connection)
            except OSError:
                return


def read_head(connection: socket.socket) -> bytes:
    """Return a request's line and headers."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ConnectionResetError
        data += more
    return data


def answering(response: bytes) -> Callable[[socket.socket], None]:
    """Return a behaviour that reads one request, sends just ``response`` and hangs up."""

    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(response)

    return behave
