"""What is due when: control events in order of time, ties in order of entry."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

Action = Callable[[float], None]


class Agenda:
    """A queue of actions; each is called once with the time it was due."""

    def __init__(self) -> None:
        """Start empty."""
        self._due: list[tuple[float, int, Action]] = []
        self._entries = count()

    def add(self, at_s: float, action: Action) -> None:
        """Enter an action for time ``at_s``."""
        heapq.heappush(self._due, (at_s, next(self._entries), action))

    @property
    def next_s(self) -> float:
        """When the next action is due; infinite when none is."""
        return self._due[0][0] if self._due else float("inf")

    def run_due(self, now_s: float) -> None:
        """Call every action due by ``now_s``, also those that these enter."""
        while self.next_s <= now_s:
            at_s, _, action = heapq.heappop(self._due)
            action(at_s)
