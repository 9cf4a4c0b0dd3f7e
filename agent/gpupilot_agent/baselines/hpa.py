"""The Kubernetes HorizontalPodAutoscaler v2, on GPU utilisation or on rate per replica.

Sources: kubernetes/kubernetes ``pkg/controller/podautoscaler/{replica_calculator,horizontal}.go``
and ``pkg/controller/podautoscaler/config/v1alpha1/defaults.go`` (read at v1.33 to v1.35);
https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/.
Constants: sync 15 s, tolerance 0.1, downscale stabilization 300 s, target 80 % (the default for
CPU; there is none for GPUs).

Both metrics are Pods metrics with an AverageValue target, as an adapter on Prometheus serves
them; GPU utilisation cannot be a Resource metric. What does not apply here: the CPU
initialisation period and readiness delay (only for CPU); several metrics at once; scale to zero
(an alpha gate). All ready pods report the mean; pods that do not answer yet count as Pending.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gpupilot_agent.baselines.hpa_behavior import (
    DOWNSCALE_STABILIZATION_S,
    Behavior,
    HpaMemory,
    begin_sync,
    with_behavior,
    without_behavior,
)
from gpupilot_agent.baselines.hpa_metrics import TOLERANCE, milli, pods_metric_replicas
from gpupilot_agent.baselines.proposing import pods, propose
from gpupilot_agent.policies import Proposal, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Hpa:
    """HPA v2 on one metric.

    Attributes:
        metric: ``gpu`` for busy share of the GPU, ``rate`` for requests per second and replica.
        target_ratio: Target as a share of the whole GPU, or of what one replica carries.
        stabilization_s: Window of the largest recommendation on the way down.
        tolerance: Half-width of the band round the target in which nothing changes.
        behavior: Whether ``spec.behavior`` is given (with its defaults) instead of nil.
        up_window_s: ``scaleUp.stabilizationWindowSeconds``, only with a behavior.
    """

    name: str = "hpa"
    metric: Literal["gpu", "rate"] = "gpu"
    target_ratio: float = 0.8
    stabilization_s: float = DOWNSCALE_STABILIZATION_S
    tolerance: float = TOLERANCE
    behavior: bool = False
    up_window_s: float = 0.0
    period_s: float = 15.0
    window_s: float = 30.0

    def act(self, view: View, memory: Any) -> Proposal:
        """Run one sync: metrics, then stabilization and rates."""
        current = view.current.replicas
        least, most = view.limits.replicas_min, view.limits.replicas_max
        synced = begin_sync(memory, view.now_s, current)
        if current == 0 and least != 0:
            return propose(view, 0, "ScalingDisabled", synced)
        if not least <= current <= most:
            return propose(view, min(max(current, least), most), "outside the bounds", synced)
        desired = self._recommend(view)
        if desired is None:
            return propose(view, current, "FailedGetPodsMetric", synced)
        return self._normalize(view, synced, desired)

    def _recommend(self, view: View) -> int | None:
        usage = self._usage_of_all(view)
        ready, pending = pods(view)
        if usage is None or ready == 0:
            return None
        target = self.target_ratio * (1.0 if self.metric == "gpu" else view.capacity.slo_rps)
        return pods_metric_replicas(
            _evenly(milli(usage), ready),
            unready=pending,
            missing=0,
            current=view.current.replicas,
            target_milli=max(1, milli(target)),
            tolerance=self.tolerance,
        )

    def _usage_of_all(self, view: View) -> float | None:
        latest = view.history.latest
        if latest is None or self.metric == "rate":
            return None if latest is None else latest.rate_rps
        busy = latest.gpu_busy_ratio
        return None if busy is None else busy * pods(view)[0]

    def _normalize(self, view: View, synced: HpaMemory, desired: int) -> Proposal:
        bounds = (view.limits.replicas_min, view.limits.replicas_max)
        if self.behavior:
            rules = Behavior(up_window_s=self.up_window_s, down_window_s=self.stabilization_s)
            outcome = with_behavior(synced, view.now_s, desired, bounds, rules)
        else:
            outcome = without_behavior(synced, view.now_s, desired, bounds, self.stabilization_s)
        why = f"{outcome.reason}: recommended {desired}"
        return propose(view, outcome.replicas, why, outcome.memory)


def _evenly(total_milli: int, count: int) -> list[int]:
    """Split a total over pods so that it is neither more nor less than what was read."""
    share, rest = divmod(total_milli, count)
    return [share + 1] * rest + [share] * (count - rest)
