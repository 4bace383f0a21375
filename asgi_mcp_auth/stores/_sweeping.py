"""Which expired records may be removed: those that are over by a clock that has not jumped of
late.
"""

from __future__ import annotations

import math

from ..types import Clock

JUMP_SECONDS = 30.0
"""How far the wall clock may move against the monotonic one, between two sweeps, and still be believed. What expired no
longer ago stays."""

SETTLED_SECONDS = 3600.0
"""How long nothing is removed after a jump: somebody may set the clock right."""


class Horizon:
    """Follows the clock. A record that only seems to have expired is back when the clock is, if it
    was not removed.

    A clock that is wrong from the start cannot be told from a right one.

    Args:
        clock: the wall clock is watched by the monotonic one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = clock.time() - clock.monotonic()
        self._settled_at = -math.inf

    def now(self) -> float:
        """Return the epoch second up to which expired records may be removed; minus infinity while
        none may.
        """
        wall, monotonic = self._clock.time(), self._clock.monotonic()
        if wall - monotonic > self._ahead + JUMP_SECONDS:
            self._settled_at = monotonic + SETTLED_SECONDS
        self._ahead = wall - monotonic
        return wall - JUMP_SECONDS if monotonic >= self._settled_at else -math.inf
