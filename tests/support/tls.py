"""A certificate authority, and https hosts on loopback sockets that are as good or as bad as a test
wants.

with Authority() as authority, DocumentHost(authority) as host:
    host.serve("/client.json", {"client_id": host.url("/client.json"), …})
    PublicFetcher(ca_file=authority.ca_file, allow_loopback=True).fetch(host.url("/client.json"))
    assert host.requests == ["/client.json"]
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.sockets import read_head

NAMES = ("localhost", "app.example.com", "127.0.0.1", "::1")
DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority of a test's own; a context manager, because its files go away with
    it.

    Attributes:
        ca_file: its certificate, as a client takes it.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="asgi-mcp-auth-")
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test authority")])
        usages = x509.KeyUsage(
            key_cert_sign=True,
            crl_sign=True,
            **dict.fromkeys(
                (
                    "digital_signature",
                    "content_commitment",
                    "key_encipherment",
                    "data_encipherment",
                    "key_agreement",
                    "encipher_only",
                    "decipher_only",
                ),
                False,
            ),
        )
        certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usages, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        path = Path(self._folder.name) / "ca.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.ca_file = str(path)

    def __enter__(self) -> Authority:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    @cached_property
    def good(self) -> ssl.SSLContext:
        """What a host needs that is who it says, for any of ``NAMES``."""
        return self.context()

    def context(
        self, names: Sequence[str] = NAMES, *, expired: bool = False, self_signed: bool = False
    ) -> ssl.SSLContext:
        """Return what a host needs to serve TLS.

        Args:
            names: names and addresses in its certificate.
            expired: whether the certificate's time is over.
            self_signed: whether no authority has signed it.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        alternatives = x509.SubjectAlternativeName([_general_name(each) for each in names])
        issuer, issuer_key = (subject, key) if self_signed else (self._name, self._key)
        certificate = (
            _builder(subject, issuer, key.public_key(), ended=expired)
            .add_extension(alternatives, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
                critical=False,
            )
            .sign(issuer_key, hashes.SHA256())
        )
        path = Path(self._folder.name) / "server.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Any, *, ended: bool = False
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * DAY)
        .not_valid_after(now - DAY if ended else now + DAY)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Seen(NamedTuple):
    """What a host was asked.

    Attributes:
        path: of the request.
        head: line and headers, in lower case.
        server_name: what the client named in the TLS handshake, ``None`` for an address.
    """

    path: str
    head: bytes
    server_name: str | None


Behaviour = Callable[[ssl.SSLSocket], None]


class DocumentHost:
    """An https host on a loopback address; a context manager.

    Args:
        authority: vouches for it.
        address: where it listens.
        port: on which port; any one by default.
        context: another certificate than the good one.
        stall: whether it leaves the TLS handshake unanswered.

    Attributes:
        seen: what it was asked, in order.
        connections: how many there were, also those that asked nothing.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        context: ssl.SSLContext | None = None,
        stall: bool = False,
    ) -> None:
        self._context = context or authority.good
        self._stall = stall
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, port), family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.address = address
        self.seen: list[Seen] = []
        self.connections = 0
        self.stopping = threading.Event()
        self._answers: dict[str, Behaviour] = {}
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> DocumentHost:
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

    @property
    def requests(self) -> list[str]:
        """The paths that were asked for, in order."""
        return [each.path for each in self.seen]

    def url(self, path: str = "/client.json", *, host: str = "localhost") -> str:
        """Return the URL of a path."""
        return f"https://{host}:{self.port}{path}"

    def serve(self, path: str, document: Any, *, status: int = 200, **headers: str) -> None:
        """Answer ``path`` with a document, or with bytes as they are; underscores in header names
        are hyphens.
        """
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        names = {
            "content_type": "application/json",
            "content_length": str(len(body)),
            "connection": "close",
            **headers,
        }
        lines = "".join(
            f"{name.replace('_', '-')}: {value}\r\n" for name, value in names.items() if value
        )
        answer = f"HTTP/1.1 {status} x\r\n{lines}\r\n".encode("latin-1") + body
        self.behave(path, lambda connection: connection.sendall(answer))

    def behave(self, path: str, behaviour: Behaviour) -> None:
        """Answer requests for ``path`` in another way."""
        self._answers[path] = behaviour

    def serve_client(
        self, path: str = "/client.json", *, host: str = "localhost", **members: Any
    ) -> str:
        """Answer ``path`` with a client metadata document and return its URL; ``None`` leaves a
        member out.
        """
        url = self.url(path, host=host)
        headers: Mapping[str, str] = members.pop("headers", {})
        usual = {
            "client_id": url,
            "client_name": "Document client",
            "redirect_uris": ["http://127.0.0.1/callback"],
        }
        document = {
            name: value for name, value in {**usual, **members}.items() if value is not None
        }
        self.serve(path, document, **headers)
        return url

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
            if self._stall:
                self.stopping.wait(10)
                return
            names: list[str | None] = []
            context = self._context
            context.sni_callback = lambda _, name, __: names.append(name)
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    head = read_head(secured)
                    path = head.split(b" ")[1].decode("latin-1")
                    self.seen.append(Seen(path, head.lower(), names[0] if names else None))
                    self._answers.get(path, _not_found)(secured)
            except OSError:
                return


def _not_found(connection: ssl.SSLSocket) -> None:
    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def endless(head: bytes, piece: bytes, pause: float = 0) -> Behaviour:
    """Return a behaviour that goes on sending until the client hangs up."""

    def behave(connection: ssl.SSLSocket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            threading.Event().wait(pause)

    return behave


def hang(head: bytes = b"") -> Behaviour:
    """Return a behaviour that sends ``head`` and then waits until the client hangs up."""

    def behave(connection: ssl.SSLSocket) -> None:
        connection.sendall(head)
        while connection.recv(4096):
            pass

    return behave
