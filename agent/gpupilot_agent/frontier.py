"""Cost against attainment: the best of many settings, and the cost read from it at one level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.evaluation import Design, Estimate
from gpupilot_envs.compiled import compiled

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
    return np.array([_read(attainment, cost, float(level)) for level in levels])


@compiled
def _read(attainment: Floats, cost: Floats, level: float) -> float:
    """Return the cost at one level, between its two neighbours on the Pareto front."""
    misses = np.log10(np.maximum(1.0 - attainment, _LEAST_MISS))
    wanted = np.log10(max(1.0 - level, _LEAST_MISS))
    above, above_miss = np.inf, np.inf
    for index in range(len(cost)):
        cheaper = cost[index] < above or (cost[index] == above and misses[index] < above_miss)
        if misses[index] <= wanted and cheaper:
            above, above_miss = cost[index], misses[index]
    if above_miss == wanted:
        return float(above)
    below, below_miss = np.nan, np.inf
    for index in range(len(cost)):
        better = misses[index] < below_miss or (misses[index] == below_miss and cost[index] < below)
        if cost[index] < above and misses[index] > wanted and better:
            below, below_miss = cost[index], misses[index]
    if not (np.isfinite(above) and np.isfinite(below)):
        return np.nan
    return float(below + (below_miss - wanted) / (below_miss - above_miss) * (above - below))


@compiled
def _read_each(attainment: Floats, cost: Floats, levels: Floats) -> Floats:
    read = np.empty(len(levels))
    for index in range(len(levels)):
        read[index] = _read(attainment[index], cost[index], levels[index])
    return read


@compiled
def _best_each(attainment: Floats, cost: Floats, budget: Floats) -> Floats:
    """Return the attainment bought, between neighbours on the front as in :func:`_read`."""
    bought = np.empty(len(budget))
    for row in range(len(budget)):
        low_cost, low_miss = np.nan, np.inf
        for index in range(cost.shape[1]):
            miss = np.log10(max(1.0 - attainment[row, index], _LEAST_MISS))
            if cost[row, index] <= budget[row] and miss < low_miss:
                low_cost, low_miss = cost[row, index], miss
        best = low_miss
        for index in range(cost.shape[1]):
            miss = np.log10(max(1.0 - attainment[row, index], _LEAST_MISS))
            if cost[row, index] > budget[row] and miss < low_miss:
                share = (budget[row] - low_cost) / (cost[row, index] - low_cost)
                best = min(best, low_miss + share * (miss - low_miss))
        bought[row] = 1.0 - 10.0**best if np.isfinite(low_miss) else np.nan
    return bought


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """What a policy's measured settings attain and cost, as measured and on every resample.

    Two frontiers over the same design are drawn alike, so that they pair.

    Attributes:
        attainment: Share of requests in time, shape ``(1 + RESAMPLES, settings)``.
        cost: GPU-hours per run, same shape.
    """

    attainment: Floats
    cost: Floats

    @classmethod
    def of(cls, in_time: Floats, requests: Floats, cost: Floats, design: Design) -> Frontier:
        """Draw a frontier.

        Args:
            in_time: Requests in time, shape ``(settings, trainings or 1, cells)``.
            requests: All requests, same shape.
            cost: GPU-hours, same shape.
            design: Which cells depend on each other.
        """
        total = design.total()
        hits, arrivals, spent = (
            np.stack([total(setting) for setting in columns], axis=1)
            for columns in (in_time, requests, cost)
        )
        # a draw without a single request has no attainment
        shares = np.divide(hits, arrivals, out=np.full_like(hits, np.nan), where=arrivals > 0)
        runs = len(design.windows) * design.seeds
        return cls(attainment=shares, cost=spent / runs)

    def samples(self, level: float | Floats) -> Floats:
        """Return the cost at a level, NaN outside what was measured, as measured and resampled.

        Args:
            level: Attainment, 0 to 1; one for all or one per resample.
        """
        levels = np.broadcast_to(np.asarray(level, dtype=np.float64), len(self.cost))
        return _read_each(self.attainment, self.cost, np.ascontiguousarray(levels))

    def reaching(self, least: float) -> Frontier:
        """Return it without settings that attain less than ``least``; as it is where none do."""
        kept = self.attainment[0] >= least
        if not kept.any():
            return self
        return Frontier(attainment=self.attainment[:, kept], cost=self.cost[:, kept])

    def ends(self) -> tuple[Floats, Floats]:
        """Return what was measured: the attainment of the cheapest setting and of the best."""
        cheapest = np.argmin(self.cost, axis=1)[:, None]
        low = np.take_along_axis(self.attainment, cheapest, axis=1)[:, 0]
        return low, self.attainment.max(axis=1)

    def within(self, level: Floats) -> Floats:
        """Return the levels moved to what was measured: from the cheapest setting to the best."""
        return np.clip(level, *self.ends())

    def common(self, other: Frontier, level: float) -> Floats:
        """Return the attainment nearest to ``level`` that both have, NaN where there is none."""
        (low, high), (other_low, other_high) = self.ends(), other.ends()
        low, high = np.maximum(low, other_low), np.minimum(high, other_high)
        return np.where(low <= high, np.clip(level, low, high), np.nan)

    def paired(self, other: Frontier, level: float) -> tuple[Floats, Floats]:
        """Return what both cost at a level, NaN throughout where one was not measured there.

        A resample in which one of them misses the level is read at the nearest that both have.
        """
        equal = self.common(other, level)
        if equal[0] != level:
            equal = np.full_like(equal, np.nan)
        return self.samples(equal), other.samples(equal)

    def best_within(self, budget: Floats) -> Floats:
        """Return the attainment that a cost buys, NaN where even the cheapest setting costs more.

        Args:
            budget: GPU-hours per run, shape ``(1 + RESAMPLES,)``.
        """
        return _best_each(self.attainment, self.cost, budget)

    def estimate(self, level: float) -> Estimate:
        """Return the cost at a level with its interval."""
        return Estimate.of(self.samples(level))
