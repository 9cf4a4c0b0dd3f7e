"""KEDA with a Prometheus trigger on the request rate.

Sources: kedacore/keda ``pkg/scalers/prometheus_scaler.go``, ``pkg/fallback/fallback.go``,
``pkg/scaling/executor/scale_scaledobjects.go``, ``apis/keda/v1alpha1/scaledobject_types.go``
(read after 2.20); https://keda.sh/docs/latest/reference/scaledobject-spec/.
Constants: pollingInterval 30 s, cooldownPeriod 300 s, activation threshold 0; 1 to N is an HPA
on an External metric with an AverageValue target and no behavior. The threshold itself has no
default: 80 % of what one replica carries. The fallback's numbers, failureThreshold 3 and 6
replicas, are those of the documentation's example.

As it ships, an empty result, NaN or Inf of the query is 0 (``ignoreNullValues: true``): a series
that vanished looks like no traffic and scales in. A source that answers nothing at all is an
error: the HPA holds, and after more than ``failure_threshold`` errors in a row the fallback, if
there is one, speaks. What does not apply here: several triggers, scaling modifiers, pausing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from gpupilot_agent.baselines.hpa_behavior import (
    DOWNSCALE_STABILIZATION_S,
    HpaMemory,
    begin_sync,
    without_behavior,
)
from gpupilot_agent.baselines.hpa_metrics import external_average_replicas, milli
from gpupilot_agent.baselines.proposing import pods, propose
from gpupilot_agent.policies import Proposal, View
from gpupilot_envs.signals import SIGNAL_FIELDS, Signals

_OF_PROMETHEUS = tuple(
    name
    for name in SIGNAL_FIELDS
    if name not in ("at_s", "window_s", "age_s", "replicas_ready", "replicas_pending")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KedaMemory:
    """What KEDA and its HPA keep between ticks.

    Attributes:
        hpa: Memory of the HPA.
        failures: Errors of the query in a row.
        polled_at_s: Last time activity was looked at.
        active: Whether the trigger was active then.
        active_at_s: Last time it was.
    """

    hpa: HpaMemory | None = None
    failures: int = 0
    polled_at_s: float = float("-inf")
    active: bool = False
    active_at_s: float = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keda:
    """A ScaledObject with one Prometheus trigger.

    Attributes:
        target_ratio: Threshold as a share of what one replica carries within the objective.
        activation_rps: ``activationThreshold``; the trigger is active above it.
        cooldown_s: Seconds without activity before the last replica goes (minimum 0 only).
        polling_s: Seconds between looks at activity.
        stabilization_s: Downscale stabilization of the HPA.
        fallback: Whether the ScaledObject declares a fallback.
        failure_threshold: Errors in a row that must be exceeded before it speaks.
        fallback_replicas: What it asks for.
    """

    name: str = "keda"
    target_ratio: float = 0.8
    activation_rps: float = 0.0
    cooldown_s: float = 300.0
    polling_s: float = 30.0
    stabilization_s: float = DOWNSCALE_STABILIZATION_S
    fallback: bool = False
    failure_threshold: int = 3
    fallback_replicas: int = 6
    period_s: float = 15.0
    window_s: float = 60.0

    def act(self, view: View, memory: Any) -> Proposal:
        """Run the operator's activation loop, then the HPA's sync."""
        kept = memory if memory is not None else KedaMemory(active_at_s=view.now_s)
        rate = query(view.history.latest)
        kept = replace(kept, failures=kept.failures + 1 if rate is None else 0)
        kept = self._polled(view, kept, rate)
        if view.current.replicas == 0:
            first = max(1, view.limits.replicas_min) if kept.active else 0
            return propose(view, first, "activated" if kept.active else "idle", kept)
        if self._may_sleep(view, kept, rate):
            return propose(view, 0, f"idle for {self.cooldown_s:g} s", kept)
        return self._sync(view, kept, rate)

    def _polled(self, view: View, kept: KedaMemory, rate: float | None) -> KedaMemory:
        if view.now_s - kept.polled_at_s < self.polling_s:
            return kept
        active = rate is not None and rate > self.activation_rps
        active_at_s = view.now_s if active else kept.active_at_s
        return replace(kept, polled_at_s=view.now_s, active=active, active_at_s=active_at_s)

    def _may_sleep(self, view: View, kept: KedaMemory, rate: float | None) -> bool:
        idle_s = view.now_s - kept.active_at_s
        return view.limits.replicas_min == 0 and rate is not None and idle_s >= self.cooldown_s

    def _sync(self, view: View, kept: KedaMemory, rate: float | None) -> Proposal:
        current = view.current.replicas
        synced = begin_sync(kept.hpa, view.now_s, current)
        target_milli = max(1, milli(self.target_ratio * view.capacity.slo_rps))
        usage_milli = milli(rate) if rate is not None else self._fallback_milli(kept, target_milli)
        if usage_milli is None:
            why = f"TriggerError: {kept.failures} in a row"
            return propose(view, current, why, replace(kept, hpa=synced))
        running = sum(pods(view))
        desired = external_average_replicas(usage_milli, running=running, target_milli=target_milli)
        bounds = (max(1, view.limits.replicas_min), view.limits.replicas_max)
        outcome = without_behavior(synced, view.now_s, desired, bounds, self.stabilization_s)
        why = f"{outcome.reason}: recommended {desired}"
        return propose(view, outcome.replicas, why, replace(kept, hpa=outcome.memory))

    def _fallback_milli(self, kept: KedaMemory, target_milli: int) -> int | None:
        if not self.fallback or kept.failures <= self.failure_threshold:
            return None
        return target_milli * self.fallback_replicas


def query(latest: Signals | None) -> float | None:
    """Return what the Prometheus scaler makes of a reading: ``None`` is an error of the source.

    Anything answered beside the rate means that the source is up and the rate's series is empty.
    """
    if latest is None:
        return None
    if latest.rate_rps is not None:
        return latest.rate_rps if isfinite(latest.rate_rps) else 0.0
    answered = any(getattr(latest, name) is not None for name in _OF_PROMETHEUS)
    return 0.0 if answered else None
