"""Outages of a store's engine, and the words for them."""

from __future__ import annotations

import logging

from .._outage import Outage
from ..errors import ConfigurationError, ServerUnavailable

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
"""For each call of a store, whatever the engine."""


class EngineOutage:
    """Logs the beginning and the end of an engine's outages.

    Args:
        engine: its name in the log.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._outage = Outage()

    def failed(self, error: BaseException) -> ServerUnavailable:
        """Note a failure; return the error to raise."""
        # Our own messages are whole: they say what to write.
        reason = str(error) if isinstance(error, ConfigurationError) else describe(error)
        if self._outage.failed(reason):
            logger.warning(
                "%s is unavailable: %s. Requests that need it get 503 until it is back",
                self._engine,
                reason,
            )
        return ServerUnavailable()

    def recovered(self) -> None:
        """Note that the engine works."""
        if self._outage.recovered():
            logger.warning("%s is back", self._engine)


def describe(error: BaseException) -> str:
    """Return the type of an error and its first line; the other lines may quote data."""
    line = str(error).partition("\n")[0][:200].rstrip(".")
    text = line or f"no answer within {TIMEOUT_SECONDS:g} s"
    printable = "".join(each if each.isprintable() else "?" for each in text)
    return f"{type(error).__name__}: {printable}"
