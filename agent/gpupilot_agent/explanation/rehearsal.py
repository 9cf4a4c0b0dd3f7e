"""A world that repeats what was done up to a moment, and from then on does what it is told."""

from __future__ import annotations

from collections.abc import Sequence

from gpupilot_agent.explanation.moment import Grant
from gpupilot_agent.rollout import ScoredWorld
from gpupilot_agent.wrapped import WrappedWorld
from gpupilot_envs.allocation import Allocation


class Rehearsal(WrappedWorld):
    """Stands between a policy and a world: before the moment the policy only watches.

    So at the moment the world holds the queues and starting pods that the recorded allocations
    leave behind, and the policy the history and memory it would have had in shadow.
    """

    def __init__(self, world: ScoredWorld, script: Sequence[Grant], *, until_s: float) -> None:
        """Rehearse ``script`` in ``world``.

        Args:
            world: The world, at time 0.
            script: What was granted when, on the world's clock, ascending.
            until_s: The moment; from then on :meth:`apply` reaches the world.
        """
        super().__init__(world)
        self._script = list(script)
        self._until_s = until_s

    def advance(self, until_s: float) -> None:
        """Let time pass, applying on the way what the script holds."""
        while self._script and self._script[0][0] <= until_s:
            at_s, allocation = self._script.pop(0)
            self._world.advance(at_s)
            self._world.apply(allocation)
        self._world.advance(until_s)

    def apply(self, allocation: Allocation) -> None:
        """Tell the service what to run with; before the moment this is not heard."""
        if self._world.now_s >= self._until_s:
            self._world.apply(allocation)
