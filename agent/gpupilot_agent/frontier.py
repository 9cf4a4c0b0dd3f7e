"""Cost against attainment: the best of many settings, and the cost read from it at one level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.evaluation import RESAMPLES, Estimate, interval_of, resampled

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


def cost_at(attainment: Floats, cost: Floats, levels: Sequence[float]) -> Floats:
    """Return the cost at each attainment level, NaN outside what was measured.

    Between two neighbours on the Pareto front the cost is linear in the logarithm of the share
    of late requests: halving it costs about the same wherever one starts. Monotone, and never
    extrapolated.

    Args:
        attainment: Share of requests in time per setting, 0 to 1.
        cost: GPU-hours per setting.
        levels: The attainments wanted, 0 to 1.
    """
    front = pareto(attainment, cost)
    if len(front) == 0:
        return np.full(len(levels), np.nan)
    miss = np.log10(np.maximum(1.0 - attainment[front], _LEAST_MISS))[::-1]
    wanted = np.log10(np.maximum(1.0 - np.asarray(levels), _LEAST_MISS))
    read = np.interp(wanted, miss, cost[front][::-1], left=np.nan, right=np.nan)
    return np.asarray(read, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """What a policy costs at some attainment levels, read from its measured settings.

    Attributes:
        costs: Cost at each level, NaN outside what was measured, shape ``(levels,)``.
        replicates: The same on every resampled set of runs, shape ``(levels, RESAMPLES)``. Two
            frontiers over the same traces and seeds use the same draws, so that they pair.
    """

    costs: Floats
    replicates: Floats

    @classmethod
    def of(
        cls, in_time: Floats, requests: Floats, cost: Floats, levels: Sequence[float]
    ) -> Frontier:
        """Read a frontier.

        Args:
            in_time: Requests in time, shape ``(settings, traces, seeds)``.
            requests: All requests, same shape.
            cost: GPU-hours, same shape.
            levels: The attainments wanted.
        """
        overall = in_time.sum(axis=(1, 2)) / requests.sum(axis=(1, 2))
        return cls(
            costs=cost_at(overall, cost.mean(axis=(1, 2)), levels),
            replicates=_replicates(in_time, requests, cost, levels),
        )

    def estimate(self, at: int) -> Estimate:
        """Return the cost at the level of index ``at`` with its interval."""
        value = float(self.costs[at])
        if not np.isfinite(value):
            return Estimate(mean=None, ci95=None)
        return Estimate(mean=value, ci95=interval_of(self.replicates[at]))


def _replicates(in_time: Floats, requests: Floats, cost: Floats, levels: Sequence[float]) -> Floats:
    runs = in_time[0].size
    if runs == 1:
        # one run alone tells no spread
        return np.full((len(levels), RESAMPLES), np.nan)
    columns = tuple(np.concatenate([in_time, requests, cost]))
    total = np.stack([column.sum(axis=-1) for column in resampled(columns)])
    hits, arrivals, spent = np.split(total / runs, 3)
    # a draw without a single request has no attainment
    shares = np.divide(hits, arrivals, out=np.full_like(hits, np.nan), where=arrivals > 0)
    rows = zip(shares.T, spent.T, strict=True)
    return np.stack([cost_at(attainment, costs, levels) for attainment, costs in rows], axis=1)
