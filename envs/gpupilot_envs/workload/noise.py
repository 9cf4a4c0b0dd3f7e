"""Multiplicative noise of mean 1 and piecewise constant levels, on a grid of bins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled

Floats = NDArray[np.float64]


def generator(seed: int) -> np.random.Generator:
    """Return the one kind of random generator that traffic is drawn from."""
    return np.random.Generator(np.random.PCG64DXSM(seed))


def lognormal_ar1(
    random: np.random.Generator, bins: int, bin_s: float, *, sigma: float, tau_s: float
) -> Floats:
    """Return stationary noise of mean 1 whose logarithm is an AR(1) process.

    Args:
        random: Source of the variates.
        bins: Number of values.
        bin_s: Seconds between values.
        sigma: Standard deviation of the logarithm.
        tau_s: Correlation time of the logarithm in seconds; 0 is white noise.

    Returns:
        Factors, shape ``(bins,)``.
    """
    if sigma == 0.0:
        return np.ones(bins)
    logarithm = random.standard_normal(bins)
    if tau_s > 0.0:
        _correlate(logarithm, float(np.exp(-bin_s / tau_s)))
    return np.exp(sigma * logarithm - sigma**2 / 2)


def bin_means(changes_s: Floats, levels: Floats, *, bins: int, bin_s: float) -> Floats:
    """Return the exact mean of a step function in each bin, shape ``(bins,)``.

    Args:
        changes_s: Times at which each level starts, ascending, the first at or before 0.
        levels: Level from each time on, the last for ever, shape of ``changes_s``.
        bins: Number of bins.
        bin_s: Length of a bin in seconds.
    """
    end_s = max(bins * bin_s, float(changes_s[-1])) + bin_s
    corners_s = np.append(changes_s, end_s)
    area = np.concatenate(([0.0], np.cumsum(np.diff(corners_s) * levels)))
    edges_s = np.arange(bins + 1) * bin_s
    means = np.diff(np.interp(edges_s, corners_s, area)) / bin_s
    # the difference of two areas leaves rounding errors where the level is 0
    return np.where(means > 1e-12 * (1.0 + levels.max()), means, 0.0)


def dwell_changes(
    random: np.random.Generator, mean_s: Floats, states: NDArray[np.int64], shape: float
) -> Floats:
    """Return the start of each dwell: gamma times of the states' means, the first at 0.

    The first dwell is entered at a random point of its length, as an observer would.
    """
    dwell_s = random.gamma(shape, mean_s[states] / shape)
    dwell_s[0] *= random.random()
    return np.concatenate(([0.0], np.cumsum(dwell_s[:-1])))


def unit_mean(rates: Floats) -> Floats:
    """Return the rates over their mean; all zeros stay."""
    mean = float(rates.mean())
    return rates / mean if mean > 0 else rates


@compiled
def _correlate(values: Floats, keep: float) -> None:
    """Turn white unit normals into a stationary AR(1) process of unit variance, in place."""
    renew = np.sqrt(1.0 - keep * keep)
    for i in range(1, len(values)):
        values[i] = keep * values[i - 1] + renew * values[i]
