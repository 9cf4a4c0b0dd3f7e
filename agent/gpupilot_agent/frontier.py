"""Cost against attainment: the best of many settings, and the cost read from it at one level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.evaluation import Estimate, interval_of, resampled

Floats = NDArray[np.float64]

_LEAST_MISS = 1e-7


def pareto(attainment: Floats, cost: Floats) -> NDArray[np.int64]:
    """Return the indices of points no other point beats in both, by ascending attainment.

    Args:
        attainment: Share of requests in time per setting, 0 to 1.
        cost: GPU-hours per setting.
    """
    order = np.lexsort((-attainment, cost))
    best = -np.inf
    kept = []
    for index in order:
        if attainment[index] > best:
            kept.append(int(index))
            best = attainment[index]
    return np.array(kept, dtype=np.int64)


def cost_at(attainment: Floats, cost: Floats, level: float) -> float:
    """Return the cost at an attainment level, NaN outside what was measured.

    Between two neighbours on the Pareto front the cost is linear in the logarithm of the share
    of late requests: halving it costs about the same wherever one starts. Monotone, and never
    extrapolated.

    Args:
        attainment: Share of requests in time per setting, 0 to 1.
        cost: GPU-hours per setting.
        level: The attainment wanted, 0 to 1.
    """
    front = pareto(attainment, cost)
    miss = np.log10(np.maximum(1.0 - attainment[front], _LEAST_MISS))
    wanted = np.log10(max(1.0 - level, _LEAST_MISS))
    if len(front) == 0 or not miss[-1] <= wanted <= miss[0]:
        return float("nan")
    return float(np.interp(wanted, miss[::-1], cost[front][::-1]))


def frontier_cost(in_time: Floats, requests: Floats, cost: Floats, level: float) -> Estimate:
    """Return the cost at a level read from measured settings, with its interval.

    Args:
        in_time: Requests in time, shape ``(settings, traces, seeds)``.
        requests: All requests, same shape.
        cost: GPU-hours, same shape.
        level: The attainment wanted.
    """
    value = _cost(in_time, requests, cost, level)
    if not np.isfinite(value):
        return Estimate(mean=None, ci95=None)
    if in_time[0].size == 1:
        return Estimate(mean=value, ci95=None)
    return Estimate(
        mean=value, ci95=interval_of(frontier_replicates(in_time, requests, cost, level))
    )


def frontier_replicates(in_time: Floats, requests: Floats, cost: Floats, level: float) -> Floats:
    """Return the cost at a level on every resampled set of runs, shape ``(RESAMPLES,)``.

    Two frontiers resampled with the same traces and seeds use the same draws, so that their
    replicates pair.
    """
    columns = tuple(np.concatenate([in_time, requests, cost]))
    total = np.stack([column.sum(axis=-1) for column in resampled(columns)])
    hits, arrivals, spent = np.split(total / in_time[0].size, 3)
    rows = zip((hits / arrivals).T, spent.T, strict=True)
    return np.array([cost_at(attainment, costs, level) for attainment, costs in rows])


def _cost(in_time: Floats, requests: Floats, cost: Floats, level: float) -> float:
    attainment = in_time.sum(axis=(1, 2)) / requests.sum(axis=(1, 2))
    return cost_at(attainment, cost.mean(axis=(1, 2)), level)
