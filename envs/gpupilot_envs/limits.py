"""The envelope around every policy, and the objective the user stated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds, rates and cooldowns that hold for every policy, learned or not.

    Attributes:
        replicas_min: Fewest replicas, 0 or more.
        replicas_max: Most replicas.
        step_up_max: Most replicas added by one decision.
        step_down_max: Most replicas removed by one decision.
        cooldown_up_s: Seconds after any change before replicas may be added.
        cooldown_down_s: Seconds after any change before replicas may be removed.
        stale_after_s: Age in seconds beyond which a reading counts as stale and holds.
        warm_up_s: Seconds of history needed before replicas may be removed.
        flaps_per_hour_max: Most reversals of direction per hour; beyond it scale-down is held.
        gpu_budget_milli: Most GPU shares, in thousandths, that all replicas may hold together.
        cooldown_share_s: Seconds after a change of the GPU share before the next one.
        cooldown_cpu_s: Seconds after a change of the CPU limit before the next one.
        cooldown_batching_s: Seconds after a change of instances or batching before the next one.
        gpu_share_min_milli: Least GPU share of a replica that may be changed to, in thousandths.
        gpu_share_max_milli: Largest such share.
    """

    replicas_min: int = 1
    replicas_max: int = 32
    step_up_max: int = 32
    step_down_max: int = 32
    cooldown_up_s: float = 0.0
    cooldown_down_s: float = 0.0
    stale_after_s: float = 60.0
    warm_up_s: float = 60.0
    flaps_per_hour_max: int = 60
    gpu_budget_milli: int = 64_000
    cooldown_share_s: float = 300.0
    cooldown_cpu_s: float = 0.0
    cooldown_batching_s: float = 60.0
    gpu_share_min_milli: int = 1
    gpu_share_max_milli: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The service-level objective: a share of requests answered within a time.

    Attributes:
        latency_s: Latency target in seconds; a request is in time when it takes at most this long.
        attainment_ratio: Share of all requests that must be in time, 0 to 1.
    """

    latency_s: float
    attainment_ratio: float = 0.99
