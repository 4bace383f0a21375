"""Decides which expired records may be removed: none for a while after the clock has jumped."""

from __future__ import annotations

import math

from ..types import Clock

JUMP_SECONDS = 30.0
"""How far the wall clock may drift from the monotonic one between two sweeps without being
distrusted. Records that expired more recently than this stay."""

SETTLED_SECONDS = 3600.0
"""How long nothing is removed after a jump: the clock may be corrected."""


class Horizon:
    """Watches the wall clock by the monotonic one.

    A record that seems to have expired because of a wrong clock is valid again once the clock is
    corrected, provided that it was not removed. A clock that was wrong from the start goes
    unnoticed.

    Args:
        clock: provides both.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = clock.time() - clock.monotonic()
        self._settled_at = -math.inf

    def now(self) -> float:
        """Return the time in epoch seconds up to which expired records may be removed.

        Minus infinity means that none may be.
        """
        wall = self._clock.time()
        monotonic = self._clock.monotonic()
        if wall - monotonic > self._ahead + JUMP_SECONDS:
            self._settled_at = monotonic + SETTLED_SECONDS
        self._ahead = wall - monotonic
        return wall - JUMP_SECONDS if monotonic >= self._settled_at else -math.inf
