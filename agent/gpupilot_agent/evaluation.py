"""How certain a number is: bootstrap intervals over traces, windows, seeds and trainings.

What was measured forms cells: windows of traces under seeds of arrivals. Cells of one trace share
its traffic, cells of one window even its requests per minute, so that the resampling has levels:
traces first, windows within them, seeds within those (Davison and Hinkley, *Bootstrap Methods*,
1997, section 3.8); treating cells as independent would claim too much certainty. A learned policy
was trained several times from other seeds; those are resampled beside the traffic, because every
training met all of it. All policies share one set of draws, so that a difference between two of
them is a paired one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]

RESAMPLES = 2000
CONFIDENCE = 0.95
_FINITE_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A statistic and its 95 % interval.

    Attributes:
        mean: The statistic on all runs, or ``None`` where no run has a value.
        ci95: Lower and upper bound, or ``None`` where one run alone says nothing of the spread.
    """

    mean: float | None
    ci95: Interval | None

    @classmethod
    def of(cls, samples: Floats) -> Estimate:
        """Return the estimate that :meth:`Design.samples` stand for."""
        value = float(samples[0])
        if not np.isfinite(value):
            return cls(mean=None, ci95=None)
        return cls(mean=value, ci95=interval_of(samples[1:]))


Total = Callable[[Floats], Floats]
"""Sums a column of shape ``(trainings, cells)``: once as it was measured, then per resample."""

Statistic = Callable[..., Floats]
"""A number from a :data:`Total` and columns; cells without a value are NaN and must not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Which cells depend on each other.

    A column has shape ``(trainings, cells)`` or ``(1, cells)``; cells are ordered by trace, window
    and seed.

    Attributes:
        windows: Windows of each trace.
        seeds: Seeds under which every window was met.
        trainings: How often the learned policy was trained; 1 when none was.
    """

    windows: tuple[int, ...]
    seeds: int
    trainings: int = 1

    @property
    def cells(self) -> int:
        """Length of a column."""
        return sum(self.windows) * self.seeds

    def samples(self, statistic: Statistic, *columns: Floats, seed: int = 0) -> Floats:
        """Return a statistic as measured, then on every resample, shape ``(1 + RESAMPLES,)``.

        Args:
            statistic: What to compute, for example :func:`mean` or :func:`ratio`.
            columns: Its arguments, each of shape ``(trainings or 1, cells)``.
            seed: Of the resampling; the same design and seed always give the same draws.
        """
        return statistic(self.total(seed), *columns)

    def total(self, seed: int = 0) -> Total:
        """Return the sum over cells, mean over trainings, as measured and on every resample."""
        cells, trainings = _draws(self, seed)

        def of(column: Floats) -> Floats:
            sums = np.asarray(cells @ column.T)
            if column.shape[0] == 1:
                return np.asarray(sums[:, 0], dtype=np.float64)
            return np.asarray((sums * trainings).sum(axis=1), dtype=np.float64)

        return of


def mean(total: Total, values: Floats) -> Floats:
    """Return the mean over cells, NaN where none has a value."""
    known = np.isfinite(values)
    return _divide(total(np.where(known, values, 0.0)), total(known.astype(np.float64)))


def ratio(total: Total, numerator: Floats, denominator: Floats) -> Floats:
    """Return total over total, so that long or busy runs weigh what they are."""
    known = np.isfinite(numerator) & np.isfinite(denominator)
    above = total(np.where(known, numerator, 0.0))
    return _divide(above, total(np.where(known, denominator, 0.0)))


def mean_difference(total: Total, a: Floats, b: Floats) -> Floats:
    """Return the mean of ``a - b`` over cells that have both."""
    return mean(total, a - b)


def ratio_difference(
    total: Total, a_above: Floats, a_below: Floats, b_above: Floats, b_below: Floats
) -> Floats:
    """Return the difference of two totals over totals."""
    return ratio(total, a_above, a_below) - ratio(total, b_above, b_below)


def relative_difference(total: Total, a: Floats, b: Floats) -> Floats:
    """Return ``total(a) / total(b) - 1``: -0.1 says that ``a`` needs 10 % less than ``b``."""
    return ratio(total, a, b) - 1.0


def estimate(statistic: Statistic, *columns: Floats, design: Design, seed: int = 0) -> Estimate:
    """Return a statistic of runs with its interval, see :meth:`Design.samples`."""
    return Estimate.of(design.samples(statistic, *columns, seed=seed))


def interval_of(replicates: Floats) -> Interval | None:
    """Return the percentile interval, or ``None`` where too many replicates have no value."""
    known = replicates[np.isfinite(replicates)]
    if len(known) < _FINITE_SHARE * len(replicates):
        return None
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


@lru_cache(maxsize=64)
def _draws(design: Design, seed: int) -> tuple[Floats, Floats]:
    """Return how often each cell and each share of each training counts; first row: as measured.

    A single run tells no spread: its resamples are NaN.
    """
    trainings = design.trainings
    if design.cells * trainings == 1:
        one = np.full((1 + RESAMPLES, 1), np.nan)
        one[0] = 1.0
        return one, one
    random = np.random.default_rng(seed)
    cells = np.vstack([np.ones((1, design.cells)), _cell_counts(design, random)])
    drawn = random.multinomial(trainings, np.full(trainings, 1.0 / trainings), size=RESAMPLES)
    return cells, np.vstack([np.ones((1, trainings)), drawn]) / trainings


def _cell_counts(design: Design, random: np.random.Generator) -> Floats:
    """Return how often each cell is drawn, traces first, then windows, then seeds."""
    count = len(design.windows)
    often = random.multinomial(count, np.full(count, 1.0 / count), size=RESAMPLES)
    parts = []
    for trace, windows in enumerate(design.windows):
        of_window = random.multinomial(often[:, trace] * windows, np.full(windows, 1.0 / windows))
        shares = np.full(design.seeds, 1.0 / design.seeds)
        of_seed = random.multinomial(of_window * design.seeds, shares)
        parts.append(of_seed.reshape(RESAMPLES, -1))
    return np.asarray(np.concatenate(parts, axis=1), dtype=np.float64)


def _divide(above: Floats, below: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(below == 0, np.nan, above / below), dtype=np.float64)


def gap_closed(cost: float, baseline: float, oracle: float) -> float | None:
    """Return the share of the way from a baseline's cost to the oracle's that is gone.

    1 at the oracle, 0 at the baseline, negative beyond it; ``None`` where the two coincide.
    """
    return None if baseline == oracle else (baseline - cost) / (baseline - oracle)


STEP_RATIO = 1.5
STEP_BEFORE_S = 300.0
STEP_AFTER_S = 60.0
RECOVERED_S = 60.0
RECOVERY_LIMIT_S = 900.0


def recovery_s(timeline: dict[str, Floats], attainment_ratio: float) -> float | None:
    """Return the mean time to be back on target after the arrival rate stepped up.

    A step: the rate over the next 60 s is at least 1.5 times that over the last 300 s, once in
    900 s. Recovered: the start of the first 60 s in which the attainment meets the target;
    900 s where that does not come. ``None`` without a step.

    Args:
        timeline: Rows of equal length with ``requests``, ``late`` and ``interval_s``.
        attainment_ratio: The target, 0 to 1.
    """
    requests, late = timeline["requests"], timeline["late"]
    row_s = float(timeline["interval_s"][0]) if len(requests) else 1.0
    on_target = _window_sum(late, RECOVERED_S, row_s) <= (1.0 - attainment_ratio) * _window_sum(
        requests, RECOVERED_S, row_s
    )
    limit = round(RECOVERY_LIMIT_S / row_s)
    waits = [_first(on_target[step : step + limit], limit) for step in steps(requests, row_s)]
    return float(np.mean(waits) * row_s) if waits else None


def steps(requests: Floats, row_s: float) -> list[int]:
    """Return the rows at which the arrival rate steps up, see :func:`recovery_s`."""
    before, after = round(STEP_BEFORE_S / row_s), round(STEP_AFTER_S / row_s)
    growth = _growth(requests, before, after)
    found: list[int] = []
    row = before
    while row < len(growth):
        if growth[row] < STEP_RATIO:
            row += 1
            continue
        # the window ahead sees a step before it comes: take the row where it is largest
        step = row + int(np.argmax(growth[row : row + after]))
        found.append(step)
        row = step + round(RECOVERY_LIMIT_S / row_s)
    return found


def _growth(requests: Floats, before: int, after: int) -> Floats:
    """Return mean requests of the rows ahead over those behind, 0 where either is incomplete."""
    total = np.concatenate([[0.0], np.cumsum(requests)])
    rows = np.arange(before, len(requests) - after + 1)
    growth = np.zeros(len(requests))
    was = (total[rows] - total[rows - before]) / before
    will = (total[rows + after] - total[rows]) / after
    growth[rows] = np.divide(will, was, out=np.zeros(len(rows)), where=was > 0.0)
    return growth


def _window_sum(values: Floats, window_s: float, row_s: float) -> Floats:
    """Return the sum over the window that starts at each row, shorter at the end."""
    rows = max(1, round(window_s / row_s))
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.minimum(np.arange(len(values)) + rows, len(values))
    return np.asarray(total[ends] - total[: len(values)], dtype=np.float64)


def _first(flags: NDArray[np.bool_], otherwise: int) -> int:
    return int(np.argmax(flags)) if flags.any() else otherwise
