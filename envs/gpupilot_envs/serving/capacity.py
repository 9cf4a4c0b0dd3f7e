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

ROUGH_REQUESTS = 25_000
ROUGH_HALVINGS = 7
"""The same for a first look at many settings: some 2 % of the rate in a tenth of the time."""


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
    trial = _Trial(profile, targets, allocation, seed, REQUESTS)
    idle_latency_s, idle_attainment = trial.lone()
    if idle_attainment < targets.attainment_ratio:
        raise SloInfeasible(
            "targets.latency_s",
            targets.latency_s,
            f"more seconds: a lone request takes {idle_latency_s:.4g} on average, and only "
            f"{idle_attainment:.2%} of them are in time",
        )
    saturation_rps = trial.saturation()
    return Capacity(
        slo_rps=trial.largest_rate(saturation_rps, HALVINGS),
        saturation_rps=saturation_rps,
        idle_latency_s=idle_latency_s,
    )


@lru_cache(maxsize=4096)
def rough_slo_rps(
    profile: ServiceProfile, targets: Targets, allocation: Allocation, seed: int = 0
) -> float:
    """Return about what :func:`capacity` finds for ``slo_rps``; 0 where the target is missed."""
    trial = _Trial(profile, targets, allocation, seed, ROUGH_REQUESTS)
    if trial.lone()[1] < targets.attainment_ratio:
        return 0.0
    return trial.largest_rate(trial.saturation(), ROUGH_HALVINGS)


class _Trial:
    """One replica under test."""

    def __init__(
        self,
        profile: ServiceProfile,
        targets: Targets,
        allocation: Allocation | None,
        seed: int,
        requests: int,
    ) -> None:
        self._requests = requests
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
        duration_s = self._requests / offered_rps
        arrivals = SteadyArrivals(offered_rps, seed=self._seed)
        ledger = self._run(arrivals, duration_s, warm_up_s=0.1 * duration_s)
        return ledger.answered / duration_s

    def largest_rate(self, saturation_rps: float, halvings: int) -> float:
        """Return the largest rate that meets the targets, by bisection."""
        low_rps, high_rps = 0.0, saturation_rps
        for _ in range(halvings):
            middle_rps = 0.5 * (low_rps + high_rps)
            met = self.attainment(middle_rps) >= self._targets.attainment_ratio
            low_rps, high_rps = (middle_rps, high_rps) if met else (low_rps, middle_rps)
        return low_rps

    def attainment(self, rate_rps: float) -> float:
        """Return the attainment at a Poisson rate."""
        duration_s = self._requests / rate_rps
        arrivals = SteadyArrivals(rate_rps, seed=self._seed)
        ledger = self._run(arrivals, duration_s, warm_up_s=0.05 * duration_s)
        return ledger.attainment_ratio or 0.0
