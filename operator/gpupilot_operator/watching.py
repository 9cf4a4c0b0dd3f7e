"""How watches fare: when those that failed begin anew, and when a probe is to say so."""

from __future__ import annotations

import time
from collections.abc import Callable

from gpupilot_operator.health import Health

NAME = "watch"
FIRST_S, MOST_S = 1.0, 30.0
"""Until watches that failed begin anew: twice as long each time, up to so long."""
SETTLED_S = 30.0
"""Watches that have lasted so long are back: a request that is refused has failed by then."""
AWAY_MOST_S = 180.0
"""Watches that are not back within this time: a new process is tried."""


class Watching:
    """Counts failures, and tells the probes while watches are not back."""

    def __init__(self, health: Health, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with watches that never failed.

        Args:
            health: Told of watches that are away.
            clock: Seconds that never go back.
        """
        self._health = health
        self._clock = clock
        self._failures = 0
        self._began_s = clock()

    def begins(self) -> None:
        """Note that watches begin, or begin anew."""
        self._began_s = self._clock()

    def lasts(self) -> None:
        """Note that they go on; long enough, and what failed before is forgiven."""
        if self._failures and self._clock() - self._began_s >= SETTLED_S:
            self._failures = 0
            self._health.release(NAME)

    def failed(self) -> float:
        """Note that they ended, and return the seconds after which they are to begin anew."""
        if self._failures == 0:
            self._health.expect(NAME, within_s=AWAY_MOST_S)
        self._failures += 1
        return min(FIRST_S * 2.0 ** (self._failures - 1), MOST_S)
