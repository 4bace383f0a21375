"""Collects what operators are told: log records and events, without their sentences."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import Any

_USUAL = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))


class Reports(logging.Handler):
    """The log records of the package since the last ``take``, and the events of its two hooks."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the level and the fields; a record without fields is only a sentence."""
        fields = {name: value for name, value in vars(record).items() if name not in _USUAL}
        self._lines.append(f"log {record.levelname} {_format(fields)}")

    def on_event(self, event: Any) -> None:
        """Keep an event as the hook gets it."""
        self._lines.append(f"event {_format(dataclasses.asdict(event))}")

    def note(self, what: str, fields: dict[str, Any]) -> None:
        """Keep something else that operators can see: a request to an identity provider."""
        self._lines.append(f"{what} {json.dumps(fields, ensure_ascii=False)}")

    def take(self) -> list[str]:
        """Return the lines and forget them; one that says the same as its neighbour is joined to
        it.
        """
        lines, self._lines = self._lines, []
        joined: list[str] = []
        for line in lines:
            if joined and line == f"event {joined[-1].removeprefix('log INFO ')}":
                joined[-1] = f"log INFO and {line}"
            else:
                joined.append(line)
        return joined


def _format(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, default=list) if fields else "(a sentence)"


def listen() -> Reports:
    """Begin to collect what the package logs."""
    reports = Reports()
    logger = logging.getLogger("asgi_mcp_auth")
    logger.setLevel(logging.INFO)
    logger.addHandler(reports)
    logger.propagate = False
    return reports
