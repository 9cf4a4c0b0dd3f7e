"""NVIDIA Dynamo's planner, ported to one stage: a forecast floor under a loop of single steps.

Sources: ai-dynamo/dynamo ``components/src/dynamo/planner/core/{throughput,load}_scaling.py`` (read
at 0c6da1ec), ``config/defaults.py`` (1ca60155), ``docs/design-docs/planner-design.md``.
Constants: throughput loop 180 s, load loop 5 s, down sensitivity 80 %, at least 1 endpoint.

The throughput loop forecasts the next interval's requests and sets a floor of
``ceil(rate / engine rate)``; the engine rate is what one replica carries within the objective.
The load loop adds one replica when the estimated latency of every engine exceeds the objective
and removes one when ``load x N / (N - 1)`` would still stay below 80 % of it, otherwise it says
``scale_down_refused_consolidation``. While pods start it only observes.

What does not apply here: prefill and decode, tokens and KV cache, the regression of latency on
them (the profile's batch curve stands in: full batches ahead, then one's own), ARIMA (the
default predictor; the Kalman predictor that the planner ships beside it is used, and needs no
library), per-worker metrics (every engine is the mean engine), the GPU budget (the guardrail's).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor, isfinite
from typing import Any

from gpupilot_agent.baselines.kalman import LocalTrend
from gpupilot_agent.baselines.proposing import pods, propose
from gpupilot_agent.policies import Proposal, View


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamoMemory:
    """What the planner keeps between ticks.

    Attributes:
        forecast_at_s: When the throughput loop runs next.
        rates_rps: Rates read since it ran last.
        trend: The predictor; ``None`` before the first traffic (idle zeros are skipped).
        floor: Fewest replicas by the forecast.
    """

    forecast_at_s: float
    rates_rps: tuple[float, ...] = ()
    trend: LocalTrend | None = None
    floor: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamo:
    """Dynamo's planner for one kind of engine.

    Attributes:
        forecast_s: Interval of the throughput loop.
        down_sensitivity: Share of the objective that the survivors must stay below.
        target_ratio: Objective of the load loop as a share of the latency target.
        engine_ratio: Engine rate as a share of what one replica carries.
    """

    name: str = "dynamo"
    forecast_s: float = 180.0
    down_sensitivity: float = 0.8
    target_ratio: float = 1.0
    engine_ratio: float = 1.0
    period_s: float = 5.0
    window_s: float = 5.0

    def act(self, view: View, memory: Any) -> Proposal:
        """Run the throughput loop when due, then the load loop."""
        kept = memory or DynamoMemory(forecast_at_s=view.now_s + self.forecast_s)
        kept = self._throughput(view, self._counted(view, kept))
        wanted, why = self._load(view)
        if wanted is None:
            return propose(view, view.current.replicas, why, kept)
        if wanted < kept.floor:
            capped = wanted < view.current.replicas
            why = "scale_down_capped_by_throughput" if capped else "throughput floor"
        return propose(view, max(wanted, kept.floor), why, kept)

    def _counted(self, view: View, kept: DynamoMemory) -> DynamoMemory:
        latest = view.history.latest
        rate = None if latest is None else latest.rate_rps
        # The planner reads a missing or non-finite observation as no load.
        value = rate if rate is not None and isfinite(rate) else 0.0
        return replace(kept, rates_rps=(*kept.rates_rps, value))

    def _throughput(self, view: View, kept: DynamoMemory) -> DynamoMemory:
        if view.now_s < kept.forecast_at_s:
            return kept
        requests = sum(kept.rates_rps) / len(kept.rates_rps) * self.forecast_s
        trend = kept.trend
        if trend is not None:
            trend = trend.observe(requests)
        elif requests > 0.0:
            trend = LocalTrend.begin(requests)
        expected_rps = max(0.0, trend.level) / self.forecast_s if trend is not None else 0.0
        least = max(1, ceil(expected_rps / (self.engine_ratio * view.capacity.slo_rps)))
        return DynamoMemory(
            forecast_at_s=kept.forecast_at_s + self.forecast_s, trend=trend, floor=least
        )

    def _load(self, view: View) -> tuple[int | None, str]:
        latest, current = view.history.latest, view.current.replicas
        ready, pending = pods(view)
        if pending > 0 or ready != current:
            return None, "scaling_in_progress"
        inflight = None if latest is None else latest.inflight_requests
        if inflight is None or not isfinite(inflight) or ready == 0:
            return None, "no_fpm_data"
        limit_s = self.target_ratio * view.targets.latency_s
        if engine_latency_s(view, inflight / ready) > limit_s:
            return current + 1, "scale_up"
        if current <= 1:
            return current, "no_change"
        if engine_latency_s(view, inflight / (ready - 1)) >= self.down_sensitivity * limit_s:
            return current, "scale_down_refused_consolidation"
        return current - 1, "scale_down"


def engine_latency_s(view: View, load: float) -> float:
    """Return the latency a new request meets on an engine that holds ``load`` others.

    Whole batches ahead of it are executed first, one after another on each instance; then its
    own, with what is left of the others.
    """
    curve = view.profile.batch_latency_s()
    batch = min(view.current.batch_max, len(curve) - 1)
    ahead = floor(load / batch)
    own = min(batch, max(1, ceil(load - ahead * batch + 1.0)))
    waits = ahead / view.current.instances_per_replica
    return float(waits * curve[batch] + curve[own] + view.profile.overhead_ms / 1000.0)
