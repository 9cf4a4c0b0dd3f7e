"""The cumulative truth about a service: what happened, not what Prometheus shows of it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

BUCKETS_PER_OCTAVE = 64
"""Linear sub-buckets of each power of two: the widest is 1/64 of its lower edge."""

OCTAVE_FIRST = -16
"""The first octave starts at ``2**-16`` s (15 microseconds)."""

OCTAVE_END = 12
"""The last octave ends at ``2**12`` s (68 minutes)."""

LATENCY_EDGES_S: NDArray[np.float64] = np.array(
    [
        2.0**octave * (1.0 + step / BUCKETS_PER_OCTAVE)
        for octave in range(OCTAVE_FIRST, OCTAVE_END)
        for step in range(BUCKETS_PER_OCTAVE)
    ]
    + [2.0**OCTAVE_END]
)
"""Seconds; count ``k`` covers ``[edge k, edge k + 1)``, the outer two also what lies beyond."""

LATENCY_BUCKETS = len(LATENCY_EDGES_S) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Everything counted since the start of a world; ``later - earlier`` is an interval.

    A request is counted when it arrives, and again when its fate is known; the difference
    is in flight. Latencies, queue and compute times are those of answered requests.

    Attributes:
        at_s: Time of the count; of a difference, its length.
        requests: Requests that arrived.
        answered: Requests answered correctly, in time or late.
        in_time: Requests answered within the latency target.
        rejected: Requests refused because a queue was full.
        timed_out: Requests that outlived the queue timeout.
        failed: Requests lost to a crash, a forced termination or to no pod being ready.
        gpu_seconds: Integral of the GPU share held by pods, from binding to release.
        cpu_seconds: Integral of the CPU limits of pods in cores, from binding to release.
        energy_j: Energy drawn by the shares held.
        co2_g: Emissions of that energy at the grid's intensity of the hour.
        queue_s_sum: Time between arrival and start of execution, summed over requests.
        compute_s_sum: Execution time of its batch, summed over requests.
        latency_s_sum: Latency, overhead included, summed over requests.
        executions: Batch executions finished.
        executed_requests: Requests in those executions.
        busy_s: Time with at least one execution running, summed over pods.
        latency_counts: Answered requests by latency over ``LATENCY_EDGES_S``, int64.
        replica_changes: Times the number of replicas asked for was changed.
        pod_starts: Pods that were given a GPU.
        pod_restarts: Containers restarted by a crash and pods replaced by a rolling change.
    """

    at_s: float
    requests: int
    answered: int
    in_time: int
    rejected: int
    timed_out: int
    failed: int
    gpu_seconds: float
    cpu_seconds: float
    energy_j: float
    co2_g: float
    queue_s_sum: float
    compute_s_sum: float
    latency_s_sum: float
    executions: int
    executed_requests: int
    busy_s: float
    latency_counts: NDArray[np.int64]
    replica_changes: int
    pod_starts: int
    pod_restarts: int

    def __sub__(self, earlier: Ledger) -> Ledger:
        """Return what happened between ``earlier`` and this count."""
        names = [field.name for field in fields(self)]
        return Ledger(**{name: getattr(self, name) - getattr(earlier, name) for name in names})

    @property
    def in_flight(self) -> int:
        """Requests whose fate is not known; of a difference, how many more than before."""
        return self.requests - self.answered - self.rejected - self.timed_out - self.failed

    @property
    def attainment_ratio(self) -> float | None:
        """Share of requests answered within the target, 0 to 1; ``None`` without requests.

        Of an interval, answers that leave it are set against requests that enter it, so a
        backlog counts as missed until it is answered in time.
        """
        return min(self.in_time / self.requests, 1.0) if self.requests else None

    @property
    def latency_mean_s(self) -> float | None:
        """Mean latency of answered requests; ``None`` when none was answered."""
        return self.latency_s_sum / self.answered if self.answered else None

    def latency_quantile_s(self, q: float) -> float | None:
        """Return the latency that the share ``q`` of answered requests stays under.

        Interpolated within a bucket at most 1.6 % wide; ``None`` when none was answered.

        Args:
            q: Share, 0 to 1.
        """
        cumulative = np.cumsum(self.latency_counts)
        if cumulative[-1] == 0:
            return None
        rank = q * cumulative[-1]
        bucket = min(int(np.searchsorted(cumulative, rank)), LATENCY_BUCKETS - 1)
        below = cumulative[bucket] - self.latency_counts[bucket]
        within = (rank - below) / max(int(self.latency_counts[bucket]), 1)
        low, high = LATENCY_EDGES_S[bucket], LATENCY_EDGES_S[bucket + 1]
        return float(low + (high - low) * within)
