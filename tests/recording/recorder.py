"""The recording as it is written: scenes of exchanges, each with its sentence."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from asgi_mcp_auth.testing import FrozenClock

from .driver import Pairs, Request, Response, send
from .exempt import without_sentences
from .randomness import Randomness
from .reports import Reports

NOW = 1_800_000_000.0

Fields = Mapping[str, str] | Sequence[tuple[str, str]]


class Recorder:
    """Writes down what goes in and what comes out."""

    def __init__(self, randomness: Randomness, reports: Reports) -> None:
        self.reports = reports
        self.sentences: list[str] = []
        self._randomness = randomness
        self._blocks: list[str] = []
        self._scene = ""
        self._steps = 0
        self._port: re.Pattern[str] | None = None

    def scene(self, title: str) -> None:
        """Begin a scene; what it draws at random does not depend on other scenes."""
        self._scene = title
        self._steps = 0
        self._blocks.append(f"{'=' * 100}\n{title}\n{'=' * 100}\n")
        self.step()

    def step(self) -> None:
        """Begin the random values of the next exchange."""
        self._steps += 1
        self._randomness.begin(f"{self._scene}/{self._steps}")

    def hide_port(self, port: int) -> None:
        """Write ``PORT`` for a port on this machine that is another one each time."""
        self._port = re.compile(rf"((?:localhost|127\.0\.0\.1)(?::|%3A)){port}\b")

    def remark(self, sentence: str) -> None:
        """Write down what was reported without a request, when the operator's code did
        something.
        """
        self.sentences.append(f"{self._scene}: {sentence}")
        self._write([f"# {sentence}", *_prefixed("~ ", self.reports.take())])

    def note(self, sentence: str, request: Request, response: Response) -> None:
        """Write one exchange down."""
        self.sentences.append(f"{self._scene}: {sentence}")
        shown = without_sentences(response)
        status = shown.outcome or str(shown.status)
        lines = [
            f"# {sentence}",
            *_prefixed(
                "> ", _shortened([f"{request.method} {request.target}", *_fields(request.headers)])
            ),
            *_prefixed("> | ", _shortened([_text(request.body)] if request.body else [])),
            *_prefixed("< ", [status, *_fields(shown.headers)]),
            *_prefixed("< | ", _text(shown.body).splitlines()),
            *_prefixed("~ ", self.reports.take()),
        ]
        self._write(lines)

    def _write(self, lines: list[str]) -> None:
        text = "\n".join(lines) + "\n"
        self._blocks.append(text if self._port is None else self._port.sub(r"\1PORT", text))

    def text(self) -> str:
        """Return the whole recording."""
        return "\n".join(self._blocks)


class Place:
    """An app at a URL. Calling it sends a request and, where there is a sentence, writes it
    down.
    """

    def __init__(self, recorder: Recorder, app: Any, base_url: str, clock: FrozenClock) -> None:
        self.base_url = base_url
        self.clock = clock
        self.behind = app.app
        self._recorder = recorder
        self._app = app

    async def __call__(
        self,
        sentence: str | None,
        method: str,
        target: str,
        *,
        headers: Fields = (),
        form: Fields | None = None,
        document: Any = None,
        body: bytes = b"",
        bearer: str | None = None,
        basic: tuple[str, str] | None = None,
        **scope: Any,
    ) -> Response:
        """Send one request.

        Args:
            sentence: what it is an example of; ``None`` for a step that another scene records.
            method: of HTTP, or ``WEBSOCKET`` for a handshake.
            target: path and query, or a URL of this place.
            headers: besides ``Host``, which is there unless given.
            form: becomes the body, with its content type.
            document: the same, as JSON.
            body: the body as it is.
            bearer: an access token.
            basic: a client's id and secret.
            scope: members of the ASGI scope to replace.
        """
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        if not any(name.lower() == "host" for name, _ in pairs):
            pairs.insert(0, ("Host", urlsplit(self.base_url).netloc))
        if basic is not None:
            pairs.append(
                ("Authorization", "Basic " + base64.b64encode(":".join(basic).encode()).decode())
            )
        if bearer is not None:
            pairs.append(("Authorization", f"Bearer {bearer}"))
        if form is not None:
            pairs.append(("Content-Type", "application/x-www-form-urlencoded"))
            body = urlencode(form).encode()
        if document is not None:
            pairs.append(("Content-Type", "application/json"))
            body = json.dumps(document).encode()
        request = Request(method, _target(target, self.base_url), pairs, body)
        self._recorder.step()
        response = await send(self._app, request, is_websocket=method == "WEBSOCKET", scope=scope)
        if sentence is None:
            self._recorder.reports.take()
        else:
            self._recorder.note(sentence, request, response)
        return response


def _target(url: str, base_url: str) -> str:
    if not url.startswith("http"):
        return url
    parts = urlsplit(url)
    assert url.startswith(f"{parts.scheme}://{urlsplit(base_url).netloc}/"), url
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _fields(headers: Pairs) -> list[str]:
    return [f"{name}: {value}" for name, value in headers]


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body.hex(" ")


def _shortened(lines: Sequence[str]) -> list[str]:
    # Of requests only: the script says what is in them.
    return [
        line if len(line) <= 4096 else f"{line[:60]}… ({len(line)} characters)" for line in lines
    ]


def _prefixed(mark: str, lines: Sequence[str]) -> list[str]:
    return [mark + line for line in lines]
