"""The smoothed clairvoyant: knows the mean rate of every minute to come, and nothing finer.

A bound on what any forecast of the rate could win: arrival noise within a minute stays unknown to
it, as to everyone. It ignores no physics (it plays through the same world, cold starts and
guardrail as the others), so it is a reference, not a proof: a controller that guesses the noise
could beat it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.baselines.proposing import propose
from gpupilot_agent.policies import Proposal, View
from gpupilot_envs.queueing import ROUNDING
from gpupilot_envs.workload.trace import RateTrace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clairvoyant:
    """Replicas for the largest true 60 s mean rate until a pod started now is ready.

    Attributes:
        rates_rps: True mean rate of each second round it, see :func:`smoothed_rates`.
        z: Margin in standard deviations of one second's Poisson count.
        drain_s: Seconds within which an observed backlog must be gone.
        start_s: World time at which the trace begins.
    """

    rates_rps: NDArray[np.float64] = field(repr=False)
    z: float = 1.0
    drain_s: float = 15.0
    start_s: float = 0.0
    name: str = "clairvoyant"
    period_s: float = 15.0
    window_s: float = 15.0

    def act(self, view: View, memory: Any) -> Proposal:  # noqa: ARG002
        """Ask for what carries the coming rate, its margin and the backlog."""
        horizon_s = view.profile.cold_start_s.mean + self.period_s
        first = int(view.now_s - self.start_s)
        coming = self.rates_rps[max(first, 0) : max(first, 0) + ceil(horizon_s) + 1]
        rate_rps = float(coming.max()) if len(coming) else float(self.rates_rps[-1])
        latest = view.history.latest
        pending = 0.0 if latest is None else latest.pending_requests or 0.0
        wanted_rps = rate_rps + self.z * sqrt(rate_rps) + pending / self.drain_s
        replicas = ceil(wanted_rps / view.capacity.slo_rps - ROUNDING)
        return propose(view, max(1, replicas), f"{rate_rps:.6g} rps to come")


def smoothed_rates(trace: RateTrace, over_s: int = 60) -> NDArray[np.float64]:
    """Return the centred mean rate over ``over_s`` seconds at each second of the trace."""
    edges = np.concatenate([[0.0], np.cumsum(trace.bridged().rps * trace.bin_s)])
    at_s = np.arange(int(trace.duration_s) + 1, dtype=np.float64)
    low = np.maximum(at_s - over_s / 2, 0.0)
    high = np.minimum(at_s + over_s / 2, trace.duration_s)
    times = np.arange(len(edges)) * trace.bin_s
    served = np.interp(high, times, edges) - np.interp(low, times, edges)
    return np.asarray(served / np.maximum(high - low, 1e-9), dtype=np.float64)
