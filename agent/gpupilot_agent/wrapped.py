"""A world round another one, which does what that one does until a subclass says otherwise."""

from __future__ import annotations

from gpupilot_agent.rollout import ScoredWorld
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.serving.ledger import Ledger
from gpupilot_envs.signals import Signals


class WrappedWorld:
    """Passes everything on to the world inside it."""

    def __init__(self, world: ScoredWorld) -> None:
        """Wrap ``world``."""
        self._world = world

    @property
    def now_s(self) -> float:
        """Current time in seconds."""
        return self._world.now_s

    @property
    def allocation(self) -> Allocation:
        """What the service was last told to run with."""
        return self._world.allocation

    @property
    def replicas_ready(self) -> int:
        """Pods that answer requests now."""
        return self._world.replicas_ready

    def ledger(self) -> Ledger:
        """Return the cumulative truth since the world began."""
        return self._world.ledger()

    def apply(self, allocation: Allocation) -> None:
        """Tell the service to run with ``allocation`` from now on."""
        self._world.apply(allocation)

    def advance(self, until_s: float) -> None:
        """Let time pass."""
        self._world.advance(until_s)

    def read(self, window_s: float) -> Signals:
        """Return what the metrics source answers now."""
        return self._world.read(window_s)
