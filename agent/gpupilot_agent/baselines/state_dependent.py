"""A single server whose rate depends on how many requests it holds: M/M/1/K with mu(n).

Source of the model: llm-inferno/queue-analysis ``pkg/analyzer/queueanalyzer.go`` and
``pkg/queue/mm1modelstatedependent.go``, the analyser inside llm-d's workload-variant-autoscaler
v0.0.x; birth-death balance as in any text on queues (Kleinrock, *Queueing Systems*, vol. 1,
section 3.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled

EPSILON = 0.001
"""Rates are searched in ``EPSILON mu(1)`` to ``(1 - EPSILON) mu(B)``."""

QUEUE_PER_BATCH = 10
"""Queue length allowed per slot of the batch."""


@compiled
def solve(rates: NDArray[np.float64], arrival_rps: float, places: int) -> tuple[float, float]:
    """Return (throughput in rps, mean time in the system in seconds) in the steady state.

    Args:
        rates: Service rate mu(n) in rps with n = 1, 2, ... requests, shape ``(B,)``.
        arrival_rps: Poisson arrival rate, more than 0.
        places: Most requests in the system; further arrivals are lost.
    """
    share, total, weighted = 1.0, 1.0, 0.0
    for n in range(1, places + 1):
        share *= arrival_rps / rates[min(n, len(rates)) - 1]
        total += share
        weighted += n * share
        if total > 1e200:
            share, total, weighted = share / total, 1.0, weighted / total
    throughput = arrival_rps * (1.0 - share / total)
    return throughput, weighted / total / throughput


@compiled
def largest_rate(rates: NDArray[np.float64], target_s: float) -> float:
    """Return the throughput at the largest arrival rate whose mean time stays within the target.

    0 when even the smallest rate misses it. Bisection, as upstream.
    """
    batch = len(rates)
    places = batch + QUEUE_PER_BATCH * batch
    low, high = EPSILON * rates[0], (1.0 - EPSILON) * rates[batch - 1]
    if solve(rates, low, places)[1] > target_s:
        return 0.0
    if solve(rates, high, places)[1] <= target_s:
        return solve(rates, high, places)[0]
    for _ in range(60):
        middle = 0.5 * (low + high)
        if solve(rates, middle, places)[1] <= target_s:
            low = middle
        else:
            high = middle
    return solve(rates, low, places)[0]


def batch_rates(
    curve_s: NDArray[np.float64], batch_max: int, instances: int
) -> NDArray[np.float64]:
    """Return mu(n) = n / T(n) with T(n) = a + b n fitted to the batch curve by least squares.

    Several instances share the requests evenly and do not contend, shape
    ``(batch_max * instances,)``, requests per second.
    """
    sizes = np.arange(1, batch_max + 1, dtype=np.float64)
    times = np.asarray(curve_s[1 : batch_max + 1], dtype=np.float64)
    slope, base = np.polyfit(sizes, times, 1) if batch_max > 1 else (0.0, times[0])
    held = np.arange(1, batch_max * instances + 1, dtype=np.float64)
    per_instance = np.ceil(held / instances)
    return np.asarray(held / np.maximum(base + slope * per_instance, 1e-9), dtype=np.float64)
