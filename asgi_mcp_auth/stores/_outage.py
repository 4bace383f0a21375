"""One log line when an engine stops answering and one when it answers again, however many requests
notice.
"""

from __future__ import annotations

import logging

from ..errors import ServerUnavailable

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
"""For one whole verb, whatever the engine: the server behind it has to answer somebody."""


class Outage:
    """Whether an engine answers.

    Args:
        what: names the engine in the log.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._down = False

    def failed(self, error: BaseException) -> ServerUnavailable:
        """Return what to raise."""
        if not self._down:
            self._down = True
            logger.warning(
                "%s does not answer: %s. Requests that need it get 503", self._what, describe(error)
            )
        return ServerUnavailable()

    def succeeded(self) -> None:
        """Note that the engine answers."""
        if self._down:
            self._down = False
            logger.warning("%s answers again", self._what)


def describe(error: BaseException) -> str:
    """Return the first line of an error, with its type; what comes below may quote data."""
    text = (
        str(error).partition("\n")[0][:200].rstrip(".") or f"no answer within {TIMEOUT_SECONDS:g} s"
    )
    return (
        f"{type(error).__name__}: {''.join(each if each.isprintable() else '?' for each in text)}"
    )
