"""The port every world stands behind: simulated, replayed or live.

A policy never learns which one it drives: there is no ``if live`` anywhere.
"""

from __future__ import annotations

from typing import Protocol

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.signals import Signals


class World(Protocol):
    """A service that runs, can be read and can be told to run with another allocation."""

    @property
    def now_s(self) -> float:
        """Current time in seconds."""
        ...

    @property
    def allocation(self) -> Allocation:
        """What the service was last told to run with."""
        ...

    def advance(self, until_s: float) -> None:
        """Let time pass until ``until_s``, not before ``now_s``."""
        ...

    def read(self, window_s: float) -> Signals:
        """Return what the metrics source answers now for a window of ``window_s`` seconds."""
        ...

    def apply(self, allocation: Allocation) -> None:
        """Tell the service to run with ``allocation`` from now on."""
        ...
