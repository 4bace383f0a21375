"""A process that holds one contestant and nothing else, and is idle unless it is asked to measure.

``Worker`` is the asking side. The groups keep one worker for each contestant and ask them in turn,
round by round, so that whatever slows the machine down meets all of them alike.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

CHUNK = 100  # so many requests of the one kind, then of the other
STATUS = {
    "warm": 200,
    "unread": 200,
    "fresh": 200,
    "missing": 401,
    "opaque": 401,
    "scrambled": 401,
    "forged": 401,
}


class Worker:
    """One contestant in a process of its own.

    Args:
        contestant: its name.
        fixture: what it needs besides.
        program: what runs in the process; it answers each line of JSON with a line of JSON.
    """

    def __init__(self, contestant: str, fixture: Path, program: str = __file__) -> None:
        self._process = subprocess.Popen(
            [sys.executable, program, contestant, str(fixture)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # where a refusal's log lines go; writing them is part of the cost
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate()

    def measure(
        self, task: str, *, algorithm: str = "RS256", log: bool = False
    ) -> tuple[float, float]:
        """Return the nanoseconds of CPU time that one piece of the baseline and one of the task
        take.
        """
        baseline, measured = self.ask(task=task, algorithm=algorithm, log=log)
        return baseline, measured

    def ask(self, **command: Any) -> list[float]:
        """Return what the process answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer: list[float] = json.loads(self._process.stdout.readline())
        return answer


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def time_requests(
    app: Callable[..., Awaitable[None]], scopes: Sequence[dict[str, Any]], status: int
) -> int:
    """Return the nanoseconds of CPU time that the app takes to answer all of them, each with
    ``status``.
    """
    wrong = 0

    # Nothing is kept, because what is kept is what the garbage collector looks at again and again.
    async def send(message: dict[str, Any]) -> None:
        nonlocal wrong
        wrong += message.get("status", status) != status

    started = time.thread_time_ns()
    for scope in scopes:
        await app(scope, _receive, send)
    elapsed = time.thread_time_ns() - started
    assert not wrong, f"{wrong} answers were not {status}"
    return elapsed


async def _time_verification(verify: Callable[[str], Awaitable[Any]], tokens: Sequence[str]) -> int:
    started = time.thread_time_ns()
    for token in tokens:
        if not await verify(token):
            raise AssertionError("a valid token was refused")
    return time.thread_time_ns() - started


def _time_signatures(
    check: Callable[[bytes, bytes], None], pairs: Sequence[tuple[bytes, bytes]]
) -> int:
    started = time.thread_time_ns()
    for signature, message in pairs:
        check(signature, message)
    return time.thread_time_ns() - started


def _raw_check(jwks: Mapping[str, Any], algorithm: str) -> Callable[[bytes, bytes], None]:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    jwk = next(key for key in jwks["keys"] if key["alg"] == algorithm)

    def member(name: str) -> bytes:
        return base64.urlsafe_b64decode(jwk[name] + "==")

    def number(name: str) -> int:
        return int.from_bytes(member(name), "big")

    if algorithm == "RS256":
        rsa_key = rsa.RSAPublicNumbers(number("e"), number("n")).public_key()
        pkcs1, sha256 = padding.PKCS1v15(), SHA256()
        return lambda signature, message: rsa_key.verify(signature, message, pkcs1, sha256)
    if algorithm == "ES256":
        ec_key = ec.EllipticCurvePublicNumbers(
            number("x"), number("y"), ec.SECP256R1()
        ).public_key()
        ecdsa = ec.ECDSA(SHA256())
        return lambda signature, message: ec_key.verify(signature, message, ecdsa)
    return ed25519.Ed25519PublicKey.from_public_bytes(member("x")).verify


def _split(token: str, algorithm: str) -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    message, _, encoded = token.rpartition(".")
    signature = base64.urlsafe_b64decode(encoded + "==")
    if algorithm == "ES256":
        signature = encode_dss_signature(
            *(int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        )
    return signature, message.encode()


async def _measure_verification(
    build: Callable[..., Any], fixture: Mapping[str, Any], algorithm: str
) -> list[float]:
    from workload import application

    first, *tokens = fixture["tokens"][algorithm]
    verify = build(application, fixture["issuer"], fixture["jwks_uri"], algorithm).verify
    check = _raw_check(fixture["jwks"], algorithm)
    pairs = [_split(token, algorithm) for token in tokens]
    await verify(first)  # brings the key set, so that none of the others has to
    baseline = measured = 0
    for start in range(0, len(tokens), CHUNK):
        baseline += _time_signatures(check, pairs[start : start + CHUNK])
        measured += await _time_verification(verify, tokens[start : start + CHUNK])
    return [baseline / len(tokens), measured / len(tokens)]


async def _measure_requests(
    build: Callable[..., Any], fixture: Mapping[str, Any], task: str
) -> list[float]:
    from workload import application, incurious, request

    first, *tokens = fixture["tokens"]["RS256"]
    bare = incurious if task == "unread" else application
    app = build(bare, fixture["issuer"], fixture["jwks_uri"], "RS256").app
    if task in ("warm", "unread"):
        tokens = [first] * len(tokens)
    elif task != "fresh":
        tokens = [None] * len(tokens) if task == "missing" else fixture[task]
    # brings the key set and makes the token a known one
    await time_requests(app, [request(first)], 200)
    baseline = measured = 0
    for start in range(0, len(tokens), CHUNK):
        scopes = [request(token) for token in tokens[start : start + CHUNK]]
        baseline += await time_requests(bare, scopes, 200)
        measured += await time_requests(app, scopes, STATUS[task])
    return [baseline / len(tokens), measured / len(tokens)]


def _serve(contestant: str, fixture: Mapping[str, Any]) -> None:
    from stacks import STACKS

    for line in sys.stdin:
        command = json.loads(line)
        logging.disable(logging.NOTSET if command["log"] else logging.CRITICAL)
        if command["task"] == "verify":
            answer = asyncio.run(
                _measure_verification(STACKS[contestant], fixture, command["algorithm"])
            )
        else:
            answer = asyncio.run(_measure_requests(STACKS[contestant], fixture, command["task"]))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
