"""How much generated traffic looks like the trace it was fitted to: one score for every family."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from gpupilot_envs.workload.generators import Params, generate
from gpupilot_envs.workload.model import Goodness
from gpupilot_envs.workload.noise import generator
from gpupilot_envs.workload.series import Series, autocovariance, logarithm

Floats = NDArray[np.float64]

_SEEDS = (11, 12, 13)
_STEP_S = 300.0
_SPREAD_LEAST = 0.01
_LAGS_S = (300.0, 900.0, 3600.0, 4 * 3600.0, 12 * 3600.0, 24 * 3600.0)


def goodness(series: Series, params: Params) -> Goodness:
    """Return the distances of three generated traces of the same length, averaged.

    Generated requests are counted before they are compared, as those of the trace were.
    """
    parts = np.array([_distances(series, _generated(series, params, seed)) for seed in _SEEDS])
    rates_w1, steps_ks, memory_rmse = parts.mean(axis=0).tolist()
    return Goodness(rates_w1=rates_w1, steps_ks=steps_ks, memory_rmse=memory_rmse)


def _generated(series: Series, params: Params, seed: int) -> Floats:
    duration_s = len(series.rates) * series.bin_s
    trace = generate(params, duration_s=duration_s, bin_s=series.bin_s, seed=seed)
    per_bin = series.mean_rps * series.bin_s
    counts = generator(seed).poisson(trace.rps * per_bin)
    return np.asarray(counts / per_bin, dtype=np.float64)


def _distances(series: Series, rates: Floats) -> tuple[float, float, float]:
    real, drawn = series.rates[series.known], rates[series.known]
    lag = max(1, round(_STEP_S / series.bin_s))
    steps = _kolmogorov_smirnov(_steps(real, lag), _steps(drawn, lag))
    memory = _memory(real, series.bin_s) - _memory(drawn, series.bin_s)
    return (
        float(wasserstein_distance(real, drawn)) / max(_spread(real), _SPREAD_LEAST),
        steps,
        float(np.sqrt(np.mean(memory**2))) if len(memory) else 0.0,
    )


def _kolmogorov_smirnov(a: Floats, b: Floats) -> float:
    """Return the statistic alone; scipy's p-value would cost ten times as much."""
    a, b = np.sort(a), np.sort(b)
    both = np.concatenate((a, b))
    below_a = np.searchsorted(a, both, side="right") / len(a)
    below_b = np.searchsorted(b, both, side="right") / len(b)
    return float(np.max(np.abs(below_a - below_b)))


def _spread(rates: Floats) -> float:
    return float(np.mean(np.abs(rates - rates.mean())))


def _steps(rates: Floats, lag: int) -> Floats:
    values = logarithm(rates)
    return np.asarray(values[lag:] - values[:-lag], dtype=np.float64)


def _memory(rates: Floats, bin_s: float) -> Floats:
    values = logarithm(rates)
    lags = np.unique([max(1, round(lag_s / bin_s)) for lag_s in _LAGS_S])
    lags = lags[lags <= len(values) // 3]
    variance = float(values.var())
    return autocovariance(values, lags) / variance if variance > 0 else np.ones(len(lags))
