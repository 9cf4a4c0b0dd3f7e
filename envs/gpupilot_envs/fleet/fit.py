"""Fitting a fleet table to the event level: one replica, measured over load and burstiness.

Every point is a run of the event-level world with the same seed, so neighbouring points share
their arrivals and execution noise (common random numbers) and differ by load alone. A short run
shows where a point lies; where attainment is about to break, or the queue is slow to forget, a
long run replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.fleet.assemble import SteadyStates, assemble
from gpupilot_envs.fleet.table import LOAD_STEP, PLANT, SLACKS, FleetTable, Steady
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.capacity import Capacity, capacity
from gpupilot_envs.serving.cluster import Cluster
from gpupilot_envs.serving.ledger import LATENCY_EDGES_S, Ledger
from gpupilot_envs.serving.measure import allocation_of, measure
from gpupilot_envs.serving.scrape import Scrape
from gpupilot_envs.serving.speed import dynamic_ratio, share_held_milli
from gpupilot_envs.workload.arrivals import SteadyArrivals

Floats = NDArray[np.float64]

BURST_NODES: Floats = np.array([1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0])
"""Gap variations measured."""

LOAD_NODES: Floats = LOAD_STEP * np.array(
    [2.0, 8.0, 16.0, 24.0, 32.0, 40.0, 46.0, 52.0, 56.0, 60.0, 64.0, 67.0, 70.0, 73.0, 76.0, 78.0]
)
"""Loads measured; the last is the highest that counts as having a steady state."""

OVERLOAD_NODES: Floats = np.array([1.0, 1.05, 1.1, 1.2, 1.35, 1.5])
"""Loads measured beyond, where the service loses requests and so has a steady overload."""

SHORT_RUN = 120_000
LONG_RUN = 1_200_000
"""Requests of a run."""

DELICATE = (0.45, 0.9985)
"""In-time shares between which a long run is worth its time."""

SLOW_LOAD = 0.9
"""Load from which on a queue forgets so slowly that a long run is needed."""


def fit(
    profile: ServiceProfile,
    targets: Targets,
    *,
    allocation: Allocation | None = None,
    seed: int = 0,
    effort: float = 1.0,
) -> FleetTable:
    """Measure a service at the event level and return its table.

    Args:
        profile: The service.
        targets: The objective the in-time share is counted against.
        allocation: Limits of each replica; the profile's own by default.
        seed: Of arrivals and execution noise.
        effort: Factor on the length of every run; 1 takes some seconds on one core.

    Raises:
        SloInfeasible: No batch size meets the target even when idle.
    """
    able = capacity(profile, targets, allocation, seed)
    running = allocation or allocation_of(profile)
    plant = plant_of(profile, targets, running, able)
    trial = _Trial(profile, targets, running, seed, effort)
    full = trial.full(able.saturation_rps)
    plant["full_batch"] = full.executed_requests / max(full.executions, 1)
    plant["full_compute_s"] = full.compute_s_sum / max(full.answered, 1)
    loads = np.concatenate([LOAD_NODES, OVERLOAD_NODES if plant["loses"] else []])
    states = np.empty((len(BURST_NODES), len(loads), len(Steady)))
    slack = np.empty((len(BURST_NODES), len(loads), SLACKS))
    for b, cv in enumerate(BURST_NODES):
        for j, load in enumerate(loads):
            ledger = trial.steady(float(load), float(cv), able.saturation_rps)
            states[b, j] = _state(ledger, able, profile.timeout_ms / 1000.0)
            slack[b, j] = _slack(ledger, targets.latency_s)
    return assemble(
        profile.name,
        plant,
        SteadyStates(bursts=BURST_NODES, loads=loads, states=states, slack=slack),
    )


def plant_of(
    profile: ServiceProfile, targets: Targets, allocation: Allocation, able: Capacity
) -> NDArray[np.void]:
    """Return the constants of a service, a :data:`PLANT` record of shape ``()``."""
    cluster = Cluster()
    plant = np.zeros((), dtype=PLANT)
    plant["saturation_rps"] = able.saturation_rps
    plant["slo_rps"] = able.slo_rps
    plant["idle_latency_s"] = able.idle_latency_s
    plant["target_s"] = targets.latency_s
    plant["attainment_ratio"] = targets.attainment_ratio
    plant["cold_start_mean_s"] = profile.cold_start_s.mean
    plant["cold_start_cv"] = profile.cold_start_s.cv
    plant["scheduling_s"] = cluster.scheduling_s
    plant["drain_s"] = cluster.drain_s
    pod_milli = share_held_milli(profile, allocation)
    billed_milli = allocation.cpu_milli if profile.device == "cpu" else pod_milli
    power_w = profile.gpu.power_w
    idle_w = power_w.idle * pod_milli / billed_milli
    dynamic_w = (power_w.busy - power_w.idle) * dynamic_ratio(profile, allocation)
    plant["gpu_share"] = billed_milli / 1000.0
    plant["pod_share"] = pod_milli / 1000.0
    plant["idle_w"] = idle_w
    plant["busy_w"] = idle_w + dynamic_w * 1000.0 / billed_milli
    plant["latency_shown_max_s"] = Scrape().bounds_s(targets.latency_s)[-1]
    plant["steady_load_max"] = LOAD_NODES[-1]
    plant["loses"] = profile.timeout_ms > 0 or profile.max_queue > 0
    return plant


@dataclass(frozen=True, slots=True)
class _Trial:
    """One replica under test."""

    profile: ServiceProfile
    targets: Targets
    allocation: Allocation
    seed: int
    effort: float

    def steady(self, load: float, cv: float, saturation_rps: float) -> Ledger:
        """Return a run at one load, long where that is worth its time."""
        short = self._run(load * saturation_rps, cv, SHORT_RUN)
        delicate = DELICATE[0] < short.in_time / _known(short) < DELICATE[1]
        if not delicate and load < SLOW_LOAD:
            return short
        return self._run(load * saturation_rps, cv, LONG_RUN)

    def full(self, saturation_rps: float) -> Ledger:
        """Return a run in which the queue is never empty."""
        return self._run(2.0 * saturation_rps, 1.0, SHORT_RUN)

    def _run(self, rate_rps: float, cv: float, requests: float) -> Ledger:
        duration_s = requests * self.effort / rate_rps
        return measure(
            self.profile,
            replicas=1,
            arrivals=SteadyArrivals(rate_rps, cv=cv, seed=self.seed),
            duration_s=duration_s,
            targets=self.targets,
            seed=self.seed,
            warm_up_s=0.05 * duration_s,
            allocation=self.allocation,
        )


def _known(ledger: Ledger) -> int:
    """Return the requests whose fate is known, at least 1."""
    return max(ledger.answered + ledger.rejected + ledger.timed_out, 1)


def _state(ledger: Ledger, able: Capacity, timeout_s: float) -> Floats:
    out = np.zeros(len(Steady))
    answered = max(ledger.answered, 1)
    known = _known(ledger)
    waited_s = ledger.queue_s_sum + ledger.timed_out * timeout_s
    out[Steady.BACKLOG_S] = waited_s / ledger.at_s / able.saturation_rps
    out[Steady.IN_TIME] = ledger.in_time / known
    out[Steady.ERRORS] = (ledger.rejected + ledger.timed_out) / known
    for column, q in ((Steady.LOG_P50, 0.5), (Steady.LOG_P95, 0.95), (Steady.LOG_P99, 0.99)):
        latency_s = ledger.latency_quantile_s(q)
        out[column] = np.log(latency_s) if latency_s else np.log(able.idle_latency_s)
    out[Steady.QUEUE_S] = ledger.queue_s_sum / answered
    out[Steady.COMPUTE_S] = ledger.compute_s_sum / answered
    out[Steady.BATCH] = ledger.executed_requests / max(ledger.executions, 1)
    out[Steady.BUSY] = ledger.busy_s / ledger.at_s
    return out


def _slack(ledger: Ledger, target_s: float) -> Floats:
    """Return the share of requests answered within the target less x, at ``SLACKS`` nodes."""
    cumulative = np.concatenate([[0.0], np.cumsum(ledger.latency_counts)])
    left_s = target_s - np.linspace(0.0, target_s, SLACKS)
    answers: Floats = np.interp(left_s, LATENCY_EDGES_S, cumulative)
    return answers / _known(ledger)
