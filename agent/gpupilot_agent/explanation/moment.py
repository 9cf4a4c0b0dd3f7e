"""One moment of a run: what was decided, what ran before it, and the traffic around it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.comparison.scene import Scene
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.trace import RateTrace

Grant = tuple[float, Allocation]
"""Time on the run's clock, and what the service was told to run with from then on."""

LEAD_MAX_S = 600.0
"""Seconds rehearsed before the moment: as far back as the slowest reading looks."""

AHEAD_MIN_S = 60.0
"""Shorter stretches say nothing: a pod would not even be up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A decision in its surroundings, whatever it was read from.

    Attributes:
        at_s: When it was taken, on the run's clock.
        scene: Service, objective and envelope.
        traffic: Rates of the whole run; its bins begin at ``start_s``.
        start_s: Start of the traffic on the run's clock.
        grants: What ran from when, ascending, the first at ``start_s`` or before.
        running: What ran when it was taken.
        granted: What ran from then on.
    """

    at_s: float
    scene: Scene
    traffic: RateTrace
    start_s: float
    grants: tuple[Grant, ...]
    running: Allocation
    granted: Allocation

    @property
    def end_s(self) -> float:
        """End of the known traffic on the run's clock."""
        return self.start_s + self.traffic.duration_s

    @property
    def lead_s(self) -> float:
        """Seconds before the moment that can be rehearsed: whole minutes where there are any.

        Raises:
            InputInvalid: Nothing is known from before the moment.
        """
        known_s = min(self.at_s - self.start_s, LEAD_MAX_S)
        if known_s <= 0.0:
            raise InputInvalid("--at", self.at_s, f"a time after {self.start_s:g} s, with a past")
        return known_s - known_s % 60.0 or known_s

    def in_force(self, at_s: float) -> Allocation:
        """Return what ran just before ``at_s``."""
        times = [granted_s for granted_s, _ in self.grants]
        return self.grants[max(bisect_right(times, at_s - 1e-6) - 1, 0)][1]

    def between(self, from_s: float, until_s: float) -> tuple[Grant, ...]:
        """Return the grants after ``from_s`` and before ``until_s``."""
        return tuple(grant for grant in self.grants if from_s <= grant[0] < until_s)

    def rates(self, from_s: float, until_s: float) -> NDArray[np.float64]:
        """Return mean rates in bins of the traffic's length that begin at ``from_s``.

        Requests per second, shape ``(bins,)``; expected counts are kept where the bins do not
        coincide with the traffic's own. Gaps are bridged; beyond the known traffic it is 0.
        """
        trace = self.traffic.bridged()
        edges = np.arange(len(trace.rps) + 1) * trace.bin_s + self.start_s
        counts = np.concatenate([[0.0], np.cumsum(trace.rps * trace.bin_s)])
        bins = max(round((until_s - from_s) / trace.bin_s), 1)
        wanted = from_s + np.arange(bins + 1) * trace.bin_s
        # differences of the running count may fall below 0 by rounding
        rates = np.diff(np.interp(wanted, edges, counts)) / trace.bin_s
        return np.asarray(np.maximum(rates, 0.0), dtype=np.float64)
