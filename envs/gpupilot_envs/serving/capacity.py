"""What one replica carries within the objective, found by simulation and remembered."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import SloInfeasible
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.ledger import Ledger
from gpupilot_envs.serving.measure import allocation_of, measure
from gpupilot_envs.serving.speed import curve_s, slowdown
from gpupilot_envs.workload.arrivals import ArrivalStream, ExactArrivals, SteadyArrivals

REQUESTS = 200_000
"""Poisson requests per trial: the standard error of an attainment of 0.99 is near 0.001."""

LONE_REQUESTS = 1_000
HALVINGS = 14
"""Bisection steps: the rate is found to 1 in 16,000 of the saturation rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What one replica of a service can do.

    Attributes:
        slo_rps: Largest Poisson rate in requests/s at which the targets are still met.
        saturation_rps: Requests/s answered when the queue is never empty.
        idle_latency_s: Mean latency of a lone request.
    """

    slo_rps: float
    saturation_rps: float
    idle_latency_s: float


@lru_cache(maxsize=1024)
def capacity(
    profile: ServiceProfile,
    targets: Targets,
    allocation: Allocation | None = None,
    seed: int = 0,
) -> Capacity:
    """Measure one replica alone on its GPU; the same arguments give the same answer.

    Args:
        profile: What the service costs to run.
        targets: The objective.
        allocation: Limits and batching other than the profile's; its replicas are ignored.
        seed: Of arrivals and execution noise.

    Raises:
        SloInfeasible: Even lone requests miss the target too often.
    """
    trial = _Trial(profile, targets, allocation, seed)
    idle_latency_s, idle_attainment = trial.lone()
    if idle_attainment < targets.attainment_ratio:
        raise SloInfeasible(
            "targets.latency_s",
            targets.latency_s,
            f"more seconds: a lone request takes {idle_latency_s:.4g} on average, and only "
            f"{idle_attainment:.2%} of them are in time",
        )
    saturation_rps = trial.saturation()
    low_rps, high_rps = 0.0, saturation_rps
    for _ in range(HALVINGS):
        middle_rps = 0.5 * (low_rps + high_rps)
        met = trial.attainment(middle_rps) >= targets.attainment_ratio
        low_rps, high_rps = (middle_rps, high_rps) if met else (low_rps, middle_rps)
    return Capacity(slo_rps=low_rps, saturation_rps=saturation_rps, idle_latency_s=idle_latency_s)


class _Trial:
    """One replica under test."""

    def __init__(
        self,
        profile: ServiceProfile,
        targets: Targets,
        allocation: Allocation | None,
        seed: int,
    ) -> None:
        self._profile = profile
        self._targets = targets
        self._allocation = allocation or allocation_of(profile)
        self._seed = seed
        batch_max = self._allocation.batch_max if profile.batching.enabled else 1
        curve = curve_s(profile, batch_max)[1:] * slowdown(profile, self._allocation)
        self._first_s = float(curve[0])
        self._best_rps = float((np.arange(1, batch_max + 1) / curve).max())

    def _run(self, arrivals: ArrivalStream, duration_s: float, warm_up_s: float = 0.0) -> Ledger:
        return measure(
            self._profile,
            replicas=1,
            arrivals=arrivals,
            duration_s=duration_s,
            targets=self._targets,
            seed=self._seed,
            warm_up_s=warm_up_s,
            allocation=self._allocation,
        )

    def lone(self) -> tuple[float, float]:
        """Return mean latency and attainment of requests that never meet."""
        delay_s = self._allocation.queue_delay_us / 1e6
        apart_s = 50.0 * (self._first_s + delay_s)
        times = np.arange(LONE_REQUESTS, dtype=np.float64) * apart_s
        ledger = self._run(ExactArrivals(times), LONE_REQUESTS * apart_s)
        return ledger.latency_mean_s or 0.0, ledger.attainment_ratio or 0.0

    def saturation(self) -> float:
        """Return the answers per second while requests arrive faster than can be served."""
        offered_rps = 1.5 * self._allocation.instances_per_replica * self._best_rps
        duration_s = REQUESTS / offered_rps
        arrivals = SteadyArrivals(offered_rps, seed=self._seed)
        ledger = self._run(arrivals, duration_s, warm_up_s=0.1 * duration_s)
        return ledger.answered / duration_s

    def attainment(self, rate_rps: float) -> float:
        """Return the attainment at a Poisson rate."""
        duration_s = REQUESTS / rate_rps
        arrivals = SteadyArrivals(rate_rps, seed=self._seed)
        ledger = self._run(arrivals, duration_s, warm_up_s=0.05 * duration_s)
        return ledger.attainment_ratio or 0.0
