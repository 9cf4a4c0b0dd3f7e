"""How certain a number is: bootstrap intervals over traces and seeds, paired where they pair.

Runs form a matrix of traces by seeds. Within one trace the seeds are resampled (bias-corrected
and accelerated, Efron 1987, by SciPy). Over several traces the resampling has two levels, traces
first and seeds within them (Davison and Hinkley, *Bootstrap Methods*, 1997, section 3.8): seeds
of one trace share its traffic, and treating them as independent would claim too much certainty.
Common random numbers make every difference between two policies a paired one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

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


Statistic = Callable[..., Floats]
"""A number from runs: columns of shape ``(..., runs)`` in, one number per leading index out.

Runs without a value are NaN in a column and must not count.
"""


def mean(values: Floats) -> Floats:
    """Return the mean over the last axis, NaN where no run has a value."""
    known = np.isfinite(values)
    return _divide(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return total over total, so that long or busy runs weigh what they are."""
    known = np.isfinite(numerator) & np.isfinite(denominator)
    above = np.where(known, numerator, 0.0).sum(axis=-1)
    return _divide(above, np.where(known, denominator, 0.0).sum(axis=-1))


def mean_difference(a: Floats, b: Floats) -> Floats:
    """Return the mean of ``a - b`` over runs that have both."""
    return mean(a - b)


def ratio_difference(a_above: Floats, a_below: Floats, b_above: Floats, b_below: Floats) -> Floats:
    """Return the difference of two totals over totals."""
    return ratio(a_above, a_below) - ratio(b_above, b_below)


def relative_difference(a: Floats, b: Floats) -> Floats:
    """Return ``total(a) / total(b) - 1``: -0.1 says that ``a`` needs 10 % less than ``b``."""
    return ratio(a, b) - 1.0


def estimate(statistic: Statistic, *columns: Floats, seed: int = 0) -> Estimate:
    """Return a statistic of runs with its interval.

    Args:
        statistic: What to compute, for example :func:`mean` or :func:`ratio`.
        columns: Its arguments, each of shape ``(traces, seeds)``; NaN where a run has no value.
        seed: Of the resampling; the same runs always give the same interval.
    """
    value = float(statistic(*(column.reshape(-1) for column in columns)))
    if not np.isfinite(value):
        return Estimate(mean=None, ci95=None)
    if len(columns[0]) == 1:
        interval = _over_seeds(statistic, [column[0] for column in columns], seed)
    else:
        interval = _over_traces(statistic, columns, seed)
    return Estimate(mean=value, ci95=interval)


def resampled(columns: tuple[Floats, ...], seed: int = 0) -> tuple[Floats, ...]:
    """Return every column resampled alike, shape ``(RESAMPLES, runs)``, traces first, then seeds.

    With one trace only its seeds are resampled.
    """
    traces, seeds = columns[0].shape
    random = np.random.default_rng(seed)
    which = random.integers(traces, size=(RESAMPLES, traces, 1))
    runs = random.integers(seeds, size=(RESAMPLES, traces, seeds))
    return tuple(column[which, runs].reshape(RESAMPLES, -1) for column in columns)


def interval_of(replicates: Floats) -> Interval | None:
    """Return the percentile interval, or ``None`` where too many replicates have no value."""
    known = replicates[np.isfinite(replicates)]
    if len(known) < _FINITE_SHARE * len(replicates):
        return None
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _over_traces(statistic: Statistic, columns: tuple[Floats, ...], seed: int) -> Interval | None:
    return interval_of(statistic(*resampled(columns, seed)))


def _over_seeds(statistic: Statistic, columns: list[Floats], seed: int) -> Interval | None:
    known = np.isfinite(np.stack(columns)).all(axis=0)
    runs = [column[known] for column in columns]
    if len(runs[0]) < 2:
        return None
    if all(np.ptp(column) == 0.0 for column in runs):
        value = float(statistic(*runs))
        return value, value
    return _scipy(statistic, runs, seed, "BCa") or _scipy(statistic, runs, seed, "percentile")


def _scipy(statistic: Statistic, runs: list[Floats], seed: int, method: str) -> Interval | None:
    def over_last(*columns: Floats, axis: int = -1) -> Floats:
        return statistic(*(np.moveaxis(np.asarray(column), axis, -1) for column in columns))

    with warnings.catch_warnings():
        # an acceleration of 0/0 is told by NaN bounds, which the caller turns to percentiles
        warnings.simplefilter("ignore", category=stats.DegenerateDataWarning)
        warnings.simplefilter("ignore", category=RuntimeWarning)
        result = stats.bootstrap(
            runs,
            over_last,
            n_resamples=RESAMPLES,
            paired=True,
            vectorized=True,
            confidence_level=CONFIDENCE,
            method=method,
            rng=np.random.default_rng(seed),
        )
    low, high = (float(bound) for bound in result.confidence_interval)
    return (low, high) if np.isfinite(low) and np.isfinite(high) else None


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
