"""Policies that observe nothing: a constant number of replicas, or a plan by the clock."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from gpupilot_agent.baselines.proposing import propose
from gpupilot_agent.policies import Proposal, View
from gpupilot_envs.workload.trace import RateTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticReplicas:
    """The same number of replicas whatever happens.

    Attributes:
        replicas: How many.
    """

    replicas: int = 4
    name: str = "static"
    period_s: float = 15.0
    window_s: float = 15.0

    def act(self, view: View, memory: Any) -> Proposal:  # noqa: ARG002
        """Ask for the constant."""
        return propose(view, self.replicas, f"static {self.replicas}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticPeak:
    """Replicas for the busiest minute of the traffic, known beforehand: what caution pays.

    Attributes:
        peak_rps: Highest mean rate over 60 s.
        headroom_ratio: Capacity bought over the peak, 1 for none.
    """

    peak_rps: float
    headroom_ratio: float = 1.0
    name: str = "static-peak"
    period_s: float = 15.0
    window_s: float = 15.0

    def act(self, view: View, memory: Any) -> Proposal:  # noqa: ARG002
        """Ask for what carries the peak within the objective."""
        wanted = ceil(self.peak_rps * self.headroom_ratio / view.capacity.slo_rps)
        return propose(view, max(1, wanted), f"peak {self.peak_rps:.6g} rps")


def peak_rps(trace: RateTrace, over_s: float = 60.0) -> float:
    """Return the highest mean rate of any ``over_s`` seconds of the trace, requests per second."""
    bins = max(1, min(round(over_s / trace.bin_s), len(trace.rps)))
    rates = np.where(trace.masked, 0.0, trace.rps)
    sums = np.concatenate([[0.0], np.cumsum(rates)])
    return float((sums[bins:] - sums[:-bins]).max() / bins)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledPolicy:
    """Plays a plan of replicas against the clock, such as the hindsight oracle's.

    Attributes:
        plan: Replicas asked for in each interval; the last entry holds for ever after.
        interval_s: Length of an interval.
        start_s: World time at which the plan begins.
    """

    plan: tuple[int, ...]
    interval_s: float = 15.0
    start_s: float = 0.0
    name: str = "oracle"
    window_s: float = 15.0

    @property
    def period_s(self) -> float:
        """One decision an interval."""
        return self.interval_s

    def act(self, view: View, memory: Any) -> Proposal:  # noqa: ARG002
        """Ask for the entry of the interval that begins now."""
        index = round((view.now_s - self.start_s) / self.interval_s)
        entry = min(max(index, 0), len(self.plan) - 1)
        return propose(view, self.plan[entry], f"plan entry {entry}")
