"""llm-d's workload-variant-autoscaler: queueing-model sizing, carried out by an HPA.

Sources: llm-d/llm-d-workload-variant-autoscaler v0.0.x ``pkg/core/allocation.go`` and its
analyser (see ``state_dependent``), its documentation on HPA integration (read at v0.5.1).
Constants: optimisation loop 60 s on 60 s rates; HPA on ``wva_desired_replicas`` as an External
AverageValue metric of 1 with 240 s of stabilization both ways.

Sizing: ``replicas = max(min, ceil(rate / rate*))`` where ``rate*`` is the throughput of one
replica at the largest Poisson rate whose *mean* latency meets the target; the tail is not looked
at (upstream declares a margin of ``-ln 0.05`` for a 95th percentile and does not use it). Port:
one stage, ``T(n) = a + b n`` of the profile's batch curve instead of prefill and decode. What
does not apply here: variants of different accelerators and cost, the saturation engine that is
the default since v0.5, scale to zero by retention.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np

from gpupilot_agent.baselines.hpa_behavior import Behavior, HpaMemory, begin_sync, with_behavior
from gpupilot_agent.baselines.hpa_metrics import external_average_replicas, milli
from gpupilot_agent.baselines.proposing import pods, propose
from gpupilot_agent.baselines.state_dependent import batch_rates, largest_rate
from gpupilot_agent.policies import Proposal, View


@dataclass(frozen=True, slots=True, kw_only=True)
class WvaMemory:
    """What the controller and its HPA keep: last sizing, its time, the HPA's memory."""

    hpa: HpaMemory
    desired: int
    sized_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wva:
    """Queueing-model sizing under an HPA.

    Attributes:
        latency_margin: The target is divided by this before the mean is compared with it.
        sizing_s: Interval of the optimisation loop.
        up_window_s: Stabilization of the HPA on the way up.
        down_window_s: Stabilization of the HPA on the way down.
    """

    name: str = "wva"
    latency_margin: float = 1.0
    sizing_s: float = 60.0
    up_window_s: float = 240.0
    down_window_s: float = 240.0
    period_s: float = 15.0
    window_s: float = 60.0

    def act(self, view: View, memory: Any) -> Proposal:
        """Size when due, then run one sync of the HPA on the size."""
        current = view.current.replicas
        synced = begin_sync(None if memory is None else memory.hpa, view.now_s, current)
        kept = WvaMemory(
            hpa=synced,
            desired=current if memory is None else memory.desired,
            sized_at_s=float("-inf") if memory is None else memory.sized_at_s,
        )
        if view.now_s - kept.sized_at_s >= self.sizing_s:
            kept = self._size(view, kept)
        recommended = external_average_replicas(
            milli(kept.desired), running=sum(pods(view)), target_milli=1000
        )
        bounds = (view.limits.replicas_min, view.limits.replicas_max)
        rules = Behavior(up_window_s=self.up_window_s, down_window_s=self.down_window_s)
        outcome = with_behavior(synced, view.now_s, recommended, bounds, rules)
        why = f"{outcome.reason}: sized {kept.desired}"
        return propose(view, outcome.replicas, why, replace(kept, hpa=outcome.memory))

    def _size(self, view: View, kept: WvaMemory) -> WvaMemory:
        latest = view.history.latest
        per_replica = self._per_replica_rps(view)
        if latest is None or latest.rate_rps is None or per_replica <= 0.0:
            return kept
        wanted = max(view.limits.replicas_min, ceil(latest.rate_rps / per_replica))
        return replace(kept, desired=wanted, sized_at_s=view.now_s)

    def _per_replica_rps(self, view: View) -> float:
        target_s = view.targets.latency_s - view.profile.overhead_ms / 1000.0
        return _largest_rate(
            tuple(view.profile.batch_latency_s().tolist()),
            view.current.batch_max,
            view.current.instances_per_replica,
            target_s / self.latency_margin,
        )


@lru_cache(maxsize=256)
def _largest_rate(
    curve_s: tuple[float, ...], batch_max: int, instances: int, target_s: float
) -> float:
    batch = min(batch_max, len(curve_s) - 1)
    return float(largest_rate(batch_rates(np.array(curve_s), batch, instances), target_s))
