"""An HTTP proxy on a loopback socket that knows where hosts really are.

with ConnectProxy({"app.example.com": host.port}) as proxy:
    PublicFetcher(proxy=proxy.url, …)
    assert proxy.targets == ["app.example.com:443"]
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Mapping

from tests.support.sockets import HostileServer, read_head


class ConnectProxy(HostileServer):
    """Tunnels to the loopback ports of the hosts that it knows, and answers 403 for all others.

    Args:
        hosts: the ports of hosts, by name.

    Attributes:
        targets: what it was asked to connect to, in order.
        heads: the requests in full.
    """

    def __init__(self, hosts: Mapping[str, int]) -> None:
        super().__init__(self._tunnel)
        self._hosts = hosts
        self.targets: list[str] = []
        self.heads: list[bytes] = []

    def _tunnel(self, client: socket.socket) -> None:
        head = read_head(client)
        self.heads.append(head)
        asked = re.match(rb"CONNECT ([^ ]+):(\d+) HTTP/1.1\r\n", head)
        assert asked is not None, head
        host = asked[1].decode()
        self.targets.append(f"{host}:{asked[2].decode()}")
        if host not in self._hosts:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", self._hosts[host]), 10) as upstream:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(upstream, client), daemon=True)
            back.start()
            _pass_on(client, upstream)
            back.join(10)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
