"""When Python looks for garbage and gives memory back: between two ticks, as no decision may wait.

A tick makes tens of thousands of objects that live as long as it does, at which Python, left to
itself, looks through everything the store holds, several times in a tick.
"""

from __future__ import annotations

import gc

from gpupilot_operator import heap

OFTEN_S = 10.0
SELDOM_S = 300.0
"""Everything is looked through this often: nearly all garbage is young."""
_YOUNG = 1
_BY_ITSELF = (200_000, 20, 100)
"""Python itself looks at so many new objects: more than a tick makes, unless it takes long."""


class Resting:
    """Looks for garbage where it is called."""

    def __init__(self) -> None:
        """Begin: Python seldom looks by itself from now on."""
        self._before = gc.get_threshold()
        gc.set_threshold(*_BY_ITSELF)
        self._often_s = self._seldom_s = 0.0

    def rest(self, now_s: float) -> None:
        """Look for garbage if it is time.

        Args:
            now_s: Seconds of a clock that never goes back.
        """
        if now_s < self._often_s:
            return
        self._often_s = now_s + OFTEN_S
        if now_s < self._seldom_s:
            gc.collect(_YOUNG)
            return
        self._seldom_s = now_s + SELDOM_S
        gc.collect()
        heap.give_back()

    def end(self) -> None:
        """Let Python look by itself again, as it did before."""
        gc.set_threshold(*self._before)
