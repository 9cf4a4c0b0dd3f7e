"""The kernel's state and the few things done to it from outside: slots, settings, time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving import samples as rows
from gpupilot_envs.serving.chance import ServiceDistribution, noise_table
from gpupilot_envs.serving.cluster import BALANCINGS, WHOLE_MILLI, Balancing, Cluster
from gpupilot_envs.serving.gpus import Endpoints, endpoints_of
from gpupilot_envs.serving.kernel import kick, kill, run_until
from gpupilot_envs.serving.ledger import LATENCY_EDGES_S
from gpupilot_envs.serving.scrape import Scrape
from gpupilot_envs.serving.speed import contention, curve_s
from gpupilot_envs.serving.state import (
    BATCH_MAX,
    BOUNDS_MAX,
    INSTANCES_MAX,
    PREFERRED_MAX,
    SERVICE,
    TALLY,
    blank_pods,
    rehoused,
)

RING_CAPACITY = 8192
"""Requests a pod's ring holds at first; twice a block, and doubled whenever one is full."""

SLOTS = 8
"""Pods there is room for at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where and as whom a pod runs.

    Attributes:
        opened_s: When it starts to answer.
        series: Number of the pod, from 1, never used again.
        domain: Whose executions contend with its own: a GPU, or ``None`` for its own only.
        power_ratio: What it draws over idle while computing, relative to a whole GPU.
        slowdown: Execution time relative to the profile's curve.
        noise_key: Key of its execution noise.
    """

    opened_s: float
    series: int
    domain: int | None
    power_ratio: float
    slowdown: float
    noise_key: int


def service_record(
    profile: ServiceProfile,
    *,
    bounds_s: NDArray[np.float64],
    balancing: Balancing,
    balance_key: int,
    distribution: ServiceDistribution,
    always_woken: bool = False,
) -> NDArray[np.void]:
    """Return what the kernels read of the profile, one ``SERVICE`` record in an array.

    Raises:
        InputInvalid: The histogram has too many buckets.
    """
    count = len(bounds_s)
    if count >= BOUNDS_MAX:
        raise InputInvalid("buckets_s", f"{count} bounds", f"at most {BOUNDS_MAX - 1} bounds")
    curve = curve_s(profile, BATCH_MAX)
    service = np.zeros(1, dtype=SERVICE)
    service["overhead_s"] = profile.overhead_ms / 1000.0
    service["timeout_s"] = profile.timeout_ms / 1000.0 if profile.timeout_ms else np.inf
    service["max_queue"] = profile.max_queue
    service["always_woken"] = always_woken
    service["balancing"] = BALANCINGS.index(balancing)
    service["balance_key"] = balance_key
    service["bounds"] = count + 1
    service["bounds_s"] = np.inf
    service["bounds_s"][0, :count] = bounds_s
    lower_s = np.concatenate([[0.0], LATENCY_EDGES_S[1:-1]])
    service["bound_of_bucket"] = np.searchsorted(bounds_s, lower_s)
    service["contention"] = contention(profile)
    service["curve_s"] = curve
    service["noise"] = noise_table(profile.noise_cv, distribution)
    return service


class Engine:
    """Owns the arrays; everything between two control events happens in one compiled call."""

    def __init__(
        self,
        profile: ServiceProfile,
        *,
        service: NDArray[np.void],
        cluster: Cluster,
        scrape: Scrape,
    ) -> None:
        """Start with no pods at time 0."""
        self._profile = profile
        self._service = service
        self.pods = blank_pods(SLOTS)
        self._ring = np.empty((SLOTS, RING_CAPACITY), dtype=np.float64)
        self.tally = np.zeros(1, dtype=TALLY)
        self.samples = rows.blank_samples(
            interval_s=scrape.interval_s,
            slots=SLOTS,
            buckets=int(service["bounds"][0]),
            idle_w=profile.gpu.power_w.idle,
            busy_w=profile.gpu.power_w.busy,
        )
        self._gpus = cluster.gpus
        # While all instances are busy Triton's batcher thread sweeps out expired requests
        # twice a second; that matters to later ones only where the queue is bounded.
        self._sweeps = profile.timeout_ms > 0 and profile.max_queue > 0
        self._free = list(range(SLOTS))
        self._active: set[int] = set()
        self._endpoints = self._grouped(())

    def run(self, arrivals_s: NDArray[np.float64], begin: int, until_s: float) -> int:
        """Let time pass to ``until_s``; return the first arrival not served."""
        while True:
            begin = run_until(
                self.pods,
                self._ring,
                self._endpoints,
                arrivals_s,
                begin,
                until_s,
                self._service[0],
                self.tally[0],
                self.samples,
            )
            if begin >= len(arrivals_s) or arrivals_s[begin] >= until_s:
                return begin
            self._ring = rehoused(self._ring, self.pods)

    def open_slot(self, seat: Seat, allocation: Allocation) -> int:
        """Seat a pod that starts to answer; returns its slot."""
        if not self._free:
            self._widen()
        slot = min(self._free)
        self._free.remove(slot)
        self._active.add(slot)
        pods = self.pods
        pods["series"][slot] = seat.series
        pods["domain"][slot] = self._gpus + slot if seat.domain is None else seat.domain
        pods["share_ratio"][slot] = seat.power_ratio
        pods["slowdown"][slot] = seat.slowdown
        pods["noise_key"][slot] = seat.noise_key
        pods["noise_drawn"][slot] = 0
        pods["lanes"][slot] = 0
        self.reset_counters(slot)
        self.configure(slot, allocation, now_s=seat.opened_s)
        return slot

    def close_slot(self, slot: int) -> None:
        """Free the slot of a pod that holds nothing any more."""
        self.pods["series"][slot] = 0
        self._active.discard(slot)
        self._free.append(slot)

    def reset_counters(self, slot: int) -> None:
        """Let the pod's cumulative metrics start from zero, as after a container start."""
        names = ("queue_s", "compute_s", "executed_requests", "executions", "busy_s")
        self.pods["counted"][slot] = [self.pods[name][slot] for name in names]

    def configure(self, slot: int, allocation: Allocation, *, now_s: float) -> None:
        """Put instances and batching of the allocation into effect in one pod."""
        batching = self._profile.batching
        batch_max = allocation.batch_max if batching.enabled else 1
        delay_s = allocation.queue_delay_us / 1e6 if batching.enabled else 0.0
        preferred = [b for b in batching.preferred if b <= batch_max][:PREFERRED_MAX]
        preferred = preferred if batching.enabled and preferred else [batch_max]
        pods = self.pods
        pods["batch_max"][slot] = batch_max
        pods["delay_s"][slot] = delay_s
        pods["greedy"][slot] = delay_s == 0.0 and preferred == [batch_max] and not self._sweeps
        pods["preferred_count"][slot] = len(preferred)
        pods["preferred"][slot, : len(preferred)] = preferred
        pods["instances"][slot] = min(allocation.instances_per_replica, INSTANCES_MAX)
        pods["lanes"][slot] = max(pods["lanes"][slot], pods["instances"][slot])
        active = self._endpoints.active
        kick(pods, self._ring, active, slot, now_s, self._service[0], self.tally[0])

    def set_speed(self, slot: int, slowdown: float, power_ratio: float) -> None:
        """Change the speed of executions that start from now on, and what they draw."""
        self.pods["slowdown"][slot] = slowdown
        self.pods["share_ratio"][slot] = power_ratio

    def set_endpoints(self, ready: tuple[int, ...], pending: int) -> None:
        """Say which slots take requests, oldest first, and how many pods do not yet."""
        self._endpoints = self._grouped(ready)
        self.samples.meter[rows.READY_PODS] = len(ready)
        self.samples.meter[rows.UNREADY_PODS] = pending

    def set_held(self, held_milli: int, now_s: float) -> None:
        """Say what share of GPUs all pods hold together from now on."""
        meter = self.samples.meter
        meter[rows.GPU_S] = rows.gpu_seconds(meter, now_s)
        meter[rows.SINCE_S] = now_s
        meter[rows.HELD] = held_milli / WHOLE_MILLI

    def set_scrape_mode(self, mode: int) -> None:
        """Say what scrapes yield from now on."""
        self.samples.clock[rows.MODE] = mode

    def kill(self, slot: int, now_s: float) -> int:
        """Lose what a pod holds; return how many requests."""
        return kill(self.pods, slot, now_s, self.tally[0])

    def holds(self, slot: int) -> int:
        """Return how many requests a pod holds."""
        pod = self.pods[slot]
        return int(pod["admitted"] - pod["head"] + pod["executing_requests"])

    def gpu_seconds(self, now_s: float) -> float:
        """Return the GPU seconds held so far."""
        return rows.gpu_seconds(self.samples.meter, now_s)

    def energy_j(self, now_s: float) -> float:
        """Return the joules drawn so far."""
        return rows.energy_j(self.pods, self.samples.meter, now_s)

    def _grouped(self, ready: tuple[int, ...]) -> Endpoints:
        active = sorted(self._active, key=lambda slot: (int(self.pods["domain"][slot]), slot))
        return endpoints_of(ready, np.array(active, dtype=np.int64), self.pods["domain"])

    def _widen(self) -> None:
        slots = len(self.pods)
        self.pods = np.concatenate([self.pods, blank_pods(slots)])
        self._ring = np.concatenate([self._ring, np.empty_like(self._ring)])
        self.samples = rows.widened(self.samples, 2 * slots)
        self._free.extend(range(slots, 2 * slots))
