"""How bursty arrivals are within a bin: the index of dispersion and the gaps' cv it implies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.workload.gaps import CV_MAX

Floats = NDArray[np.float64]

_WINDOWS_PER_SEGMENT = 32
_SEGMENTS_LEAST = 4


def index_of_dispersion(t_s: Floats, window_s: float) -> float | None:
    """Return variance over mean of the counts in windows of ``window_s``.

    The variance comes from differences of adjacent windows (half their mean square), so that a
    rate that drifts slowly does not count as burstiness, and the median over segments of 32
    windows keeps one flash from deciding. 1 for Poisson; tends to ``cv ** 2`` for renewal gaps.

    Args:
        t_s: Arrival times, ascending seconds.
        window_s: Length of a window, long against a gap and short against changes of the rate.

    Returns:
        The index, or ``None`` when the arrivals span less than four segments.
    """
    bins = int((t_s[-1] - t_s[0]) / window_s) if len(t_s) else 0
    segments = bins // _WINDOWS_PER_SEGMENT
    if segments < _SEGMENTS_LEAST:
        return None
    used = segments * _WINDOWS_PER_SEGMENT
    at = ((t_s - t_s[0]) / window_s).astype(np.int64)
    counts = np.bincount(at[at < used], minlength=used).reshape(segments, -1)
    return _median_index(counts.astype(np.float64))


def arrivals_cv(t_s: Floats, *, requests_per_window: float = 40.0) -> float | None:
    """Return the coefficient of variation of gamma gaps that arrivals show, 0 to 10.

    Args:
        t_s: Arrival times, ascending seconds.
        requests_per_window: Mean count of a window; it must be well above ``cv ** 2``.

    Returns:
        The coefficient, or ``None`` when there are too few arrivals to tell (under about 5,000
        with the default window).
    """
    if len(t_s) < 2 or t_s[-1] <= t_s[0]:
        return None
    window_s = requests_per_window * float(t_s[-1] - t_s[0]) / len(t_s)
    index = index_of_dispersion(t_s, window_s)
    return None if index is None else min(float(np.sqrt(index)), CV_MAX)


def _median_index(counts: Floats) -> float | None:
    means = counts.mean(axis=1)
    steps = np.diff(counts, axis=1)
    busy = means > 0
    if not busy.any():
        return None
    variances = 0.5 * np.mean(steps[busy] ** 2, axis=1)
    return float(np.median(variances / means[busy]))
