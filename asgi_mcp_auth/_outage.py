"""Outages of a dependency: one log line when it fails and one when it recovers."""

from __future__ import annotations

import math
import time

from .types import Clock


class Outage:
    """Tells the first failure of an outage from those that follow, however many requests fail.

    Args:
        each_reason: whether another reason is news, too.
        pause_seconds: minimum time between two reports. A failure in between begins no outage.
        clock: for the pause.
    """

    __slots__ = ("_clock", "_each_reason", "_pause_seconds", "_reported_at", "reason")

    def __init__(
        self, *, each_reason: bool = False, pause_seconds: float = 0, clock: Clock = time
    ) -> None:
        self.reason: str | None = None  # of the last failure, ``None`` while all is well
        self._each_reason = each_reason
        self._pause_seconds = pause_seconds
        self._reported_at = -math.inf
        self._clock = clock

    def failed(self, reason: str) -> bool:
        """Note a failure; return whether to report it."""
        is_news = self.reason is None or (self._each_reason and reason != self.reason)
        if is_news:
            now = self._clock.monotonic()
            if now < self._reported_at + self._pause_seconds:
                return False
            self._reported_at = now
        self.reason = reason
        return is_news

    def recovered(self) -> bool:
        """Note that the dependency works; return whether to report the end of an outage."""
        had_failed = self.reason is not None
        self.reason = None
        return had_failed
