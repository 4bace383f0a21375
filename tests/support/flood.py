"""A flood of everything that a stranger can send to an authorization server, from one address or
from many.

``python flood.py PORT ADDRESSES NUMBER SECONDS``: one of its processes. It gets ready, says so,
waits for a line, floods, and prints what was answered, as JSON. It talks to 127.0.0.1 only, and
stops by itself.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric import ec

HOST = "mcp.example.com"
IN_FLIGHT = 2  # requests of each kind, of one process
PER_CONNECTION = 8  # requests, before the next address connects
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
REDIRECT_URI = "http://127.0.0.1:9999/callback"

Headers = Mapping[str, str]


class Answer(NamedTuple):
    """What came back; the names of headers in lower case, of several with one name the last."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """HTTP/1.1 from an address of this machine to a port of this machine; opened when it is needed.

    Args:
        port: the server's.
        address: of 127.0.0.0/8.
    """

    def __init__(self, port: int, address: str) -> None:
        self._port = port
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(
        self, method: str, target: str, headers: Headers | None = None, body: bytes = b""
    ) -> Answer:
        """Send one request and return its answer; status 0 when the server hung up."""
        head = {"Host": HOST, "Content-Length": str(len(body)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return await self.send_bytes(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + body)

    async def send_bytes(self, data: bytes) -> Answer:
        """Send what is to be a request."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(
                    "127.0.0.1", self._port, local_addr=(self._address, 0), limit=1 << 20
                )
            reader, writer = self._streams
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in lines if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            if headers.get("connection") == "close":
                self.close()
            return Answer(int(first.split(" ")[1]), headers, body)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return Answer(0, {}, b"")

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def send_form(
        self, target: str, form: Mapping[str, str], headers: Headers | None = None
    ) -> Answer:
        """POST a form."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self.send(
            "POST", target, {**kind, **(headers or {})}, urlencode(form).encode()
        )

    async def send_document(self, target: str, document: object) -> Answer:
        """POST JSON."""
        return await self.send(
            "POST", target, {"Content-Type": "application/json"}, json.dumps(document).encode()
        )


def hidden_field(page: bytes, name: str) -> str:
    """Return the value of a hidden field of one of our pages."""
    return page.partition(f'name="{name}" value="'.encode())[2].partition(b'"')[0].decode()


def authorization_query(client_id: str, **more: str) -> str:
    """Return the query of an authorization request."""
    usual = {
        "client_id": client_id,
        "redirect_uri": REDIRECT_URI,
        "response_type": "code",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "scope": "notes:read",
        "state": "0123456789abcdef",
    }
    return urlencode({**usual, **more})


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _jwt(header: Mapping[str, Any], claims: Mapping[str, Any], signature_bytes: int) -> str:
    parts = (
        json.dumps(header).encode(),
        json.dumps(claims).encode(),
        secrets.token_bytes(signature_bytes),
    )
    return ".".join(map(_encoded, parts))


def _public_jwk() -> dict[str, str]:
    numbers = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
    x, y = (_encoded(each.to_bytes(48, "big")) for each in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-384", "x": x, "y": y}


class Flood:
    """One process of the flood.

    Args:
        port: of the server.
        addresses: where it comes from.
    """

    def __init__(self, port: int, addresses: Sequence[str]) -> None:
        self._port = port
        self._addresses = addresses
        self._ends_at = 0.0
        self._next = 0
        self.answers: Counter[str] = Counter()
        self._key_id = ""
        self._client_id = "nobody"
        self._client_keys: dict[str, str] = {}  # client id: what its assertions name as their key
        self._login: tuple[dict[str, str], dict[str, str]] | None = None
        self._kinds: Mapping[str, Callable[[Connection], Any]] = {
            "forged": self._forged,
            "register": self._register,
            "authorize": self._authorize,
            "par": self._par,
            "login": self._guess,
            "assertion": self._assertion,
            "garbage": self._garbage,
            "document": self._document,
        }

    async def run(self, seconds: float) -> None:
        """Flood for some time."""
        self._ends_at = time.monotonic() + seconds
        await asyncio.gather(
            *(self._send_all(name) for name in self._kinds for _ in range(IN_FLIGHT))
        )

    def _connection(self) -> Connection:
        self._next += 1
        return Connection(self._port, self._addresses[self._next % len(self._addresses)])

    async def _send_all(self, name: str) -> None:
        while time.monotonic() < self._ends_at:
            connection = self._connection()
            for _ in range(PER_CONNECTION):
                answer: Answer = await self._kinds[name](connection)
                self.answers[f"{name} {answer.status}"] += 1
            connection.close()

    async def prepare(self, address: str) -> None:
        """Get what an attacker gets first, from an address that has its share yet: a key's id,
        clients, a page.
        """
        connection = Connection(self._port, address)
        keys = json.loads((await connection.send("GET", "/.well-known/jwks.json")).body)
        self._key_id = keys["keys"][0]["kid"]
        document = {"redirect_uris": [REDIRECT_URI], "token_endpoint_auth_method": "none"}
        self._client_id = json.loads((await connection.send_document("/register", document)).body)[
            "client_id"
        ]
        for _ in range(4):
            # As many keys to try as a server takes: without names, or with them.
            nameless = [_public_jwk() for _ in range(40)]
            named = [{**key, "kid": str(number)} for number, key in enumerate(nameless[:8])]
            for keys, key_id in ((nameless, ""), (named, "7"), (named[:1], "0")):
                document = {
                    "redirect_uris": [REDIRECT_URI],
                    "token_endpoint_auth_method": "private_key_jwt",
                }
                answer = await connection.send_document(
                    "/register", {**document, "jwks": {"keys": keys}}
                )
                if answer.status == 201:
                    self._client_keys[json.loads(answer.body)["client_id"]] = key_id
                    break
        answer = await connection.send("GET", f"/authorize?{authorization_query(self._client_id)}")
        cookie = answer.headers["set-cookie"].partition(";")[0]
        page = await connection.send(
            "GET", "/" + answer.headers["location"].split("/", 3)[3], {"Cookie": cookie}
        )
        fields = {name: hidden_field(page.body, name) for name in ("transaction", "csrf")}
        self._login = {"Cookie": cookie}, fields
        connection.close()

    async def _forged(self, connection: Connection) -> Answer:
        header = {"alg": "ES256", "kid": self._key_id, "typ": "at+jwt"}
        token = _jwt(header, {"iss": f"https://{HOST}", "jti": secrets.token_hex(8)}, 64)
        return await connection.send("POST", "/mcp", {"Authorization": f"Bearer {token}"})

    async def _register(self, connection: Connection) -> Answer:
        uris = [f"https://{secrets.token_hex(8)}.example/{'x' * 1900}" for _ in range(3)]
        return await connection.send_document(
            "/register", {"client_name": "e\u0301" * 250, "redirect_uris": uris}
        )

    async def _authorize(self, connection: Connection) -> Answer:
        query = authorization_query(self._client_id, state="s" * random.choice((3900, 14_000)))
        return await connection.send("GET", f"/authorize?{query}")

    async def _par(self, connection: Connection) -> Answer:
        query = authorization_query(self._client_id, state="s" * random.choice((3900, 14_000)))
        return await connection.send(
            "POST", "/par", {"Content-Type": "application/x-www-form-urlencoded"}, query.encode()
        )

    async def _guess(self, connection: Connection) -> Answer:
        assert self._login is not None
        headers, fields = self._login
        return await connection.send_form(
            "/login", {**fields, "username": secrets.token_hex(4), "password": "x"}, headers
        )

    async def _assertion(self, connection: Connection) -> Answer:
        made_up = [secrets.token_hex(16), f"https://{secrets.token_hex(8)}.invalid/client.json"]
        client_id = random.choice([*self._client_keys, *made_up])
        key_id = self._client_keys.get(client_id, "")
        header = {"alg": "ES384", **({"kid": key_id} if key_id else {})}
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": f"https://{HOST}",
            "jti": secrets.token_hex(8),
        }
        assertion = _jwt(header, {**claims, "exp": int(time.time()) + 60}, 96)
        form = {
            "grant_type": "authorization_code",
            "code": "x",
            "client_assertion_type": ASSERTION_TYPE,
        }
        return await connection.send_form("/token", {**form, "client_assertion": assertion})

    async def _garbage(self, connection: Connection) -> Answer:
        kind = random.randrange(5)
        if kind == 0:
            return await connection.send(
                "POST", "/mcp", {"Authorization": f"Bearer {secrets.token_hex(7000)}"}
            )
        if kind == 1:
            return await connection.send(
                "POST", "/register", {"Content-Type": "application/json"}, b"[" * 8000
            )
        if kind == 2:
            return await connection.send_form("/token", {f"p{number}": "%" for number in range(60)})
        if kind == 3:
            return await connection.send("GET", "/applications", {"Cookie": "a=b; " * 2000})
        return await connection.send_bytes(
            b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: nonsense\r\n\r\n"
        )

    async def _document(self, connection: Connection) -> Answer:
        client_id = f"https://{secrets.token_hex(8)}.invalid/client.json"
        return await connection.send("GET", f"/authorize?{authorization_query(client_id)}")


def main() -> None:
    """Run one process."""
    port, addresses, number, seconds = (int(each) for each in sys.argv[1:])
    mine = [f"127.{1 + number}.{each // 250}.{1 + each % 250}" for each in range(addresses)]
    flood = Flood(port, mine)
    asyncio.run(flood.prepare(f"127.202.{os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    asyncio.run(flood.run(seconds))
    sys.stdout.write(json.dumps(flood.answers))


if __name__ == "__main__":
    main()
