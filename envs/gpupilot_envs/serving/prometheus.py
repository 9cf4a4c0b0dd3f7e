"""What Prometheus answers: ``increase``, ``rate`` and ``histogram_quantile``, to the rule.

The rules are those of ``promql/functions.go`` (``extrapolatedRate``, without start
timestamps) and ``promql/quantile.go`` (``BucketQuantile``) of prometheus/prometheus, 3.x:
a range ``[w]`` at time ``t`` selects samples in ``(t - w, t]``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled

LOOKBACK_S = 300.0
"""How far back an instant query finds a sample (``defaultLookbackDelta``)."""

SMALL_DELTA = 1e-12
"""Relative difference of bucket counts that is rounding (``smallDeltaTolerance``)."""


@compiled
def increase(
    times_s: NDArray[np.float64], values: NDArray[np.float64], start_s: float, end_s: float
) -> float:
    """Return the extrapolated increase of a counter over ``(start_s, end_s]``.

    Args:
        times_s: Times of the samples in the range, ascending, shape ``(n,)``.
        values: Counter values, shape ``(n,)``; a fall is a reset.
        start_s: Start of the range, exclusive.
        end_s: End of the range.

    Returns:
        NaN with fewer than two samples: Prometheus answers nothing then.
    """
    count = len(times_s)
    if count < 2:
        return np.nan
    grown = values[count - 1] - values[0]
    for k in range(1, count):
        if values[k] < values[k - 1]:
            grown += values[k - 1]
    sampled_s = times_s[count - 1] - times_s[0]
    spacing_s = sampled_s / (count - 1)
    to_start_s = times_s[0] - start_s
    if to_start_s >= 1.1 * spacing_s:
        to_start_s = 0.5 * spacing_s
    if grown > 0.0 and values[0] >= 0.0:
        to_start_s = min(to_start_s, sampled_s * (values[0] / grown))
    to_end_s = end_s - times_s[count - 1]
    if to_end_s >= 1.1 * spacing_s:
        to_end_s = 0.5 * spacing_s
    return float(grown * ((sampled_s + to_start_s + to_end_s) / sampled_s))


@compiled
def rate(
    times_s: NDArray[np.float64], values: NDArray[np.float64], start_s: float, end_s: float
) -> float:
    """Return the per-second increase of a counter over the range; see :func:`increase`."""
    return increase(times_s, values, start_s, end_s) / (end_s - start_s)


@compiled
def nearly_equal(a: float, b: float, tolerance: float) -> bool:
    """Return whether two counts differ by rounding only (``util/almost``)."""
    if a == b:
        return True
    if a == 0.0 or b == 0.0:
        return False
    return bool(abs(a - b) / (abs(a) + abs(b)) < tolerance)


@compiled
def monotonic(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cumulative bucket counts with decreases and rounding differences removed."""
    out = np.empty(len(counts))
    previous = counts[0]
    for k in range(len(counts)):
        out[k] = counts[k]
        if out[k] < previous or nearly_equal(previous, out[k], SMALL_DELTA):
            out[k] = previous
        else:
            previous = out[k]
    return out


@compiled
def histogram_quantile(
    q: float, bounds: NDArray[np.float64], cumulative: NDArray[np.float64]
) -> float:
    """Return the ``q`` quantile of a classic histogram, linear within a bucket.

    Args:
        q: Quantile, 0 to 1.
        bounds: Upper bounds, ascending, shape ``(n,)``, without the +Inf bucket.
        cumulative: Counts up to each bound and, last, in total; shape ``(n + 1,)``.

    Returns:
        NaN without observations; the highest finite bound when the quantile falls into the
        +Inf bucket.
    """
    if np.isnan(q) or len(bounds) == 0:
        return np.nan
    if q < 0.0:
        return -np.inf
    if q > 1.0:
        return np.inf
    counts = monotonic(cumulative)
    last = len(counts) - 1
    if not counts[last] > 0.0:
        return np.nan
    rank = q * counts[last]
    bucket = 0
    while bucket < last and counts[bucket] < rank:
        bucket += 1
    if bucket == last:
        return float(bounds[last - 1])
    if bucket == 0:
        return float(bounds[0] if bounds[0] <= 0.0 else bounds[0] * (rank / counts[0]))
    below = counts[bucket - 1]
    width = bounds[bucket] - bounds[bucket - 1]
    return float(bounds[bucket - 1] + width * ((rank - below) / (counts[bucket] - below)))
