"""A rate trace made ready for fitting: minutes or longer, mean 1, gaps bridged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from gpupilot_envs.errors import TraceInvalid
from gpupilot_envs.workload.trace import DAY_S, RateTrace

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

BIN_S = 60.0
"""Finer traces are fitted at this bin length: below it counts say more of the arrivals' noise."""

_BINS_LEAST = 120
_FLOOR = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What the fits work on.

    Attributes:
        bin_s: Length of a bin in seconds.
        rates: Rates over their mean, masked bins bridged, shape ``(bins,)``.
        known: Bins with data, shape ``(bins,)``.
        mean_rps: The mean that the rates were divided by.
    """

    bin_s: float
    rates: Floats
    known: Flags
    mean_rps: float

    @property
    def days(self) -> int:
        """Whole days."""
        return int(len(self.rates) * self.bin_s / DAY_S * (1 + 1e-9))

    @property
    def count_variance(self) -> float:
        """Variance that counting requests adds to the logarithm of a rate: 1 over the count."""
        expected = np.maximum(self.rates, 0.1) * self.mean_rps * self.bin_s
        return float(np.minimum(1.0 / np.maximum(expected, 1.0), 1.0)[self.known].mean())


def prepare(trace: RateTrace) -> Series:
    """Return the series of a trace.

    Raises:
        TraceInvalid: The trace has no traffic or too few bins to fit anything to.
    """
    if trace.mean_rps <= 0.0:
        raise TraceInvalid(f"{trace.name}: rps", "no traffic", "a trace with a positive mean rate")
    coarse = trace
    if trace.bin_s < BIN_S and trace.duration_s / BIN_S >= _BINS_LEAST:
        coarse = trace.rebinned(BIN_S)
    if len(coarse.rps) < _BINS_LEAST:
        raise TraceInvalid(
            f"{trace.name}: bins", len(coarse.rps), f"{_BINS_LEAST} or more bins to fit"
        )
    mean = coarse.mean_rps
    if mean <= 0.0:
        raise TraceInvalid(f"{trace.name}: masked", "all traffic", "traffic outside the gaps")
    rates = coarse.bridged().rps / mean
    return Series(bin_s=coarse.bin_s, rates=rates, known=~coarse.masked, mean_rps=mean)


def logarithm(rates: Floats) -> Floats:
    """Return the logarithm of rates of mean 1, with a floor under silence."""
    return np.asarray(np.log(np.maximum(rates, _FLOOR)), dtype=np.float64)


def autocovariance(values: Floats, lags: NDArray[np.int64]) -> Floats:
    """Return the autocovariance at each lag, shape of ``lags``, by the power spectrum."""
    size = len(values)
    padded = next_fast_len(2 * size, real=True)
    power = np.abs(rfft(values - values.mean(), padded)) ** 2
    return np.asarray(irfft(power, padded)[lags] / size, dtype=np.float64)


def correlated_part(values: Floats, bin_s: float) -> tuple[float, float, float]:
    """Split a series into a slow and a white part, by where the autocovariance falls to 1/e.

    Returns:
        Variance of the slow part, its correlation time in seconds, variance of the white part.
    """
    longest = max(3, len(values) // 4)
    lags = np.unique(np.geomspace(1, longest, 60).astype(np.int64))
    covariance = autocovariance(values, lags)
    total = float(values.var())
    if covariance[0] <= 0.05 * total:
        return 0.0, 0.0, total
    below = covariance < covariance[0] / np.e
    if not below.any():
        tau_s = float(lags[-1]) * bin_s
    else:
        at = int(np.argmax(below))
        level = np.interp(
            -covariance[0] / np.e, -covariance[at - 1 : at + 1], lags[at - 1 : at + 1]
        )
        tau_s = max(float(level) - 1.0, 0.25) * bin_s
    slow = min(float(covariance[0] * np.exp(bin_s / tau_s)), total)
    return slow, tau_s, total - slow


def noise_of(values: Floats, series: Series) -> tuple[float, float]:
    """Return sigma and correlation time in seconds of a residual, counting noise taken away.

    A residual that is mostly white at the series' bins gets a correlation time of a third of a
    bin, so that finer generated bins do not turn it into faster noise.
    """
    slow, tau_s, white = correlated_part(values, series.bin_s)
    variance = max(slow + white - series.count_variance, 0.0)
    shortest_s = series.bin_s / 3.0
    return float(np.sqrt(variance)), max(tau_s, shortest_s) if slow > white else shortest_s
