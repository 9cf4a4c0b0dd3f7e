"""Knative's pod autoscaler: a stable and a panic window over concurrency or request rate.

Sources: knative/serving ``pkg/autoscaler/scaling/autoscaler.go`` (``Scale``, read after 1.23),
``pkg/autoscaler/aggregation/bucketing.go``, ``pkg/reconciler/autoscaling/kpa/scaler.go``,
``config/core/configmaps/autoscaler.yaml``; https://knative.dev/docs/serving/autoscaling/.
Constants: tick 2 s, stable window 60 s, panic window 10 % of it, panic threshold 200 %, rates at
most x1000 up and /2 down per tick, target utilisation 70 %, scale-down delay 0, activation scale
1, scale-to-zero grace 30 s.

The defaults for the hard limit (100 concurrent requests, 200 rps a pod) suit no GPU service, so
the limit is the service's own: for concurrency what one replica executes at once (batch size
times instances, KServe's advice for ``containerConcurrency``), for rps what it carries within the
objective. What does not apply here: the activator and burst capacity, last-pod retention, a
revision that is unreachable. A reading over one tick stands for two of the 1 s buckets; ticks
without data are left out of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor, isnan, nan
from typing import Any, Literal

from gpupilot_agent.baselines.proposing import concurrency_slots, propose
from gpupilot_agent.policies import Proposal, View


@dataclass(frozen=True, slots=True, kw_only=True)
class KpaMemory:
    """What the decider keeps between ticks.

    Attributes:
        panic_at_s: When panic was entered or last extended; ``None`` while stable.
        most_in_panic: Most pods asked for since; the floor of a panic.
        asked: Recent answers with their times, kept for the scale-down delay.
        idle_since_s: Since when nothing is needed; ``None`` while something is.
    """

    panic_at_s: float | None = None
    most_in_panic: int = 0
    asked: tuple[tuple[float, int], ...] = ()
    idle_since_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kpa:
    """The Knative pod autoscaler.

    Attributes:
        metric: ``concurrency`` or ``rps``.
        target_ratio: Target utilisation of the hard limit.
        stable_window_s: Stable window.
        panic_window_ratio: Panic window as a share of it.
        panic_threshold: Panic when the panic window wants this many times the ready pods.
        up_rate_max: Most pods per tick as a multiple of the ready ones.
        down_rate_max: Fewest pods per tick as a fraction 1 / x of the ready ones.
        down_delay_s: Seconds over which the largest answer is kept.
        activation_scale: Fewest pods once anything is needed.
        grace_s: Seconds of idleness before the last pod goes (minimum 0 only).
    """

    name: str = "kpa"
    metric: Literal["concurrency", "rps"] = "concurrency"
    target_ratio: float = 0.7
    stable_window_s: float = 60.0
    panic_window_ratio: float = 0.1
    panic_threshold: float = 2.0
    up_rate_max: float = 1000.0
    down_rate_max: float = 2.0
    down_delay_s: float = 0.0
    activation_scale: int = 1
    grace_s: float = 30.0
    period_s: float = 2.0
    window_s: float = 2.0

    def act(self, view: View, memory: Any) -> Proposal:
        """Run one tick of ``Scale``."""
        latest = view.history.latest
        ready = None if latest is None else latest.replicas_ready
        if ready is None:
            return propose(view, view.current.replicas, "no pod count", memory)
        kept = memory if memory is not None else _restarted(view.now_s, ready)
        stable = self._mean(view, self.stable_window_s)
        panic = self._mean(view, max(1.0, self.stable_window_s * self.panic_window_ratio))
        if isnan(stable) or isnan(panic):
            return propose(view, view.current.replicas, "no data", kept)
        want_stable, want_panic = self._wants(view, stable, panic, max(1, ready))
        over = ceil(panic / self._target(view)) / max(1, ready) >= self.panic_threshold
        kept = self._mood(kept, view.now_s, over)
        want = want_stable
        if kept.panic_at_s is not None:
            most = max(want_stable, want_panic, kept.most_in_panic)
            kept, want = replace(kept, most_in_panic=most), most
        kept, want = self._delayed(kept, view.now_s, want)
        kept, want = self._awake(view, kept, want)
        mode = "stable" if kept.panic_at_s is None else "panic"
        return propose(view, want, f"{mode}: {stable:.6g} over 60 s, {panic:.6g} now", kept)

    def _target(self, view: View) -> float:
        per_pod = view.capacity.slo_rps if self.metric == "rps" else concurrency_slots(view)
        return self.target_ratio * per_pod

    def _mean(self, view: View, over_s: float) -> float:
        field = "rate_rps" if self.metric == "rps" else "inflight_requests"
        total, count = 0.0, 0
        for reading in reversed(view.history.readings):
            if reading.at_s <= view.now_s - over_s:
                break
            value = getattr(reading, field)
            if value is not None:
                total, count = total + value, count + 1
        return total / count if count else nan

    def _wants(self, view: View, stable: float, panic: float, ready: int) -> tuple[int, int]:
        most = ceil(self.up_rate_max * ready)
        least = floor(ready / self.down_rate_max)
        wants = []
        for observed in (stable, panic):
            raw = ceil(observed / self._target(view))
            want = min(max(raw, least), most)
            wakes = self.activation_scale > 1 and raw > 0
            wants.append(max(want, self.activation_scale) if wakes else want)
        return wants[0], wants[1]

    def _mood(self, kept: KpaMemory, now_s: float, over: bool) -> KpaMemory:
        if over:
            return replace(kept, panic_at_s=now_s)
        if kept.panic_at_s is not None and kept.panic_at_s + self.stable_window_s < now_s:
            return replace(kept, panic_at_s=None, most_in_panic=0)
        return kept

    def _delayed(self, kept: KpaMemory, now_s: float, want: int) -> tuple[KpaMemory, int]:
        if self.down_delay_s <= 0.0:
            return kept, want
        recent = tuple(one for one in kept.asked if one[0] > now_s - self.down_delay_s)
        asked = (*recent, (now_s, want))
        return replace(kept, asked=asked), max(count for _, count in asked)

    def _awake(self, view: View, kept: KpaMemory, want: int) -> tuple[KpaMemory, int]:
        if want > 0:
            return replace(kept, idle_since_s=None), max(want, view.limits.replicas_min)
        since_s = view.now_s if kept.idle_since_s is None else kept.idle_since_s
        sleeps = view.current.replicas == 0 or view.now_s - since_s >= self.grace_s
        least = view.limits.replicas_min if sleeps else max(1, view.limits.replicas_min)
        return replace(kept, idle_since_s=since_s), least


def _restarted(now_s: float, ready: int) -> KpaMemory:
    """Return the memory of a decider that just began: in panic when more than one pod is ready."""
    if ready > 1:
        return KpaMemory(panic_at_s=now_s, most_in_panic=ready)
    return KpaMemory(most_in_panic=ready)
