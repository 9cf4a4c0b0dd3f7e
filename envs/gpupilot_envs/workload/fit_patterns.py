"""Fits of what repeats: the daily and weekly pattern with its noise, and replayed days."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

from gpupilot_envs.workload.diurnal import FAST_S, DiurnalParams, pattern
from gpupilot_envs.workload.replay import ReplayParams
from gpupilot_envs.workload.series import Series, correlated_part, logarithm
from gpupilot_envs.workload.trace import DAY_S

Floats = NDArray[np.float64]

_SLOTS = 24
_TRIM = 0.1
_FAST_SEEN_S = 300.0
_FAST_MOST = 0.5
_REPLAY_SLOT_S = 300.0
_REPLAY_BLOCK_S = 3600.0


def fit_diurnal(series: Series) -> DiurnalParams:
    """Fit day, week and noise; the day needs two whole days, the week fourteen, else flat.

    Each hour's share is a trimmed mean over days of its rate over the day's mean. What the
    pattern leaves of the logarithm is split into a slow and a white part; the noise of counting
    requests is taken from the white one, because arrivals bring their own.
    """
    shaped = DiurnalParams(
        day_shape=_day_shape(series, _SLOTS), week_shape=_week_shape(series), slow_sigma=0.0
    )
    return with_noise(shaped, series, series.known)


def with_noise(params: DiurnalParams, series: Series, used: NDArray[np.bool_]) -> DiurnalParams:
    """Return the pattern of ``params`` with the noise that the ``used`` bins show around it.

    Bins longer than five minutes average fast noise out: there all noise counts as slow.
    """
    slow, tau_s, white = correlated_part(residual(series, params)[used], series.bin_s)
    white = max(white - series.count_variance, 0.0)
    if series.bin_s > _FAST_SEEN_S:
        slow, tau_s, white = slow + white, max(tau_s, series.bin_s), 0.0
    per_minute = white * max(series.bin_s / FAST_S, 1.0)
    return replace(
        params,
        slow_sigma=float(np.sqrt(slow)),
        slow_tau_s=tau_s,
        fast_sigma=min(float(np.sqrt(per_minute)), _FAST_MOST),
    )


def residual(series: Series, params: DiurnalParams) -> Floats:
    """Return the logarithm of the rates over the pattern, shape ``(bins,)``."""
    by_pattern = pattern(params, bins=len(series.rates), bin_s=series.bin_s)
    return logarithm(series.rates / np.maximum(by_pattern, 1e-3))


def fit_replay(series: Series) -> ReplayParams | None:
    """Keep the daily shape and every day's residuals; ``None`` below two whole days."""
    slots = int(DAY_S / max(series.bin_s, _REPLAY_SLOT_S))
    if series.days < 2 or slots < 1:
        return None
    shape = np.maximum(np.array(_day_shape(series, slots)), 1e-3)
    days = _by_slot(series, slots)
    days = days[days.mean(axis=1) > 0]
    levels = days.mean(axis=1, keepdims=True)
    block = max(1, round(_REPLAY_BLOCK_S * slots / DAY_S))
    return ReplayParams(
        day_shape=tuple(shape.tolist()),
        day_levels=tuple((levels[:, 0] / levels.mean()).tolist()),
        residuals=tuple(tuple(day) for day in (days / levels / shape).tolist()),
        block_slots=block,
    )


def _by_slot(series: Series, slots: int) -> Floats:
    """Return the mean rate by whole day and slot, shape ``(days, slots)``."""
    days = series.days
    per_day = DAY_S / series.bin_s
    at = (np.arange(len(series.rates)) + 0.5) / per_day
    inside = at < days
    index = (at[inside] * slots).astype(np.int64)
    counts = np.bincount(index, minlength=days * slots)
    sums = np.bincount(index, weights=series.rates[inside], minlength=days * slots)
    # a slot shorter than a bin may hold no bin's middle: take its neighbour
    means = sums / np.maximum(counts, 1)
    filled = np.flatnonzero(counts)
    means = np.interp(np.arange(days * slots), filled, means[filled])
    return np.asarray(means.reshape(days, slots), dtype=np.float64)


def _day_shape(series: Series, slots: int) -> tuple[float, ...]:
    slots = min(slots, int(DAY_S / series.bin_s))
    if series.days < 2 or slots < 2:
        return (1.0,)
    days = _by_slot(series, slots)
    means = days.mean(axis=1, keepdims=True)
    shares = (days / np.where(means > 0, means, 1.0))[means[:, 0] > 0]
    shape = np.asarray(trim_mean(shares, _TRIM, axis=0))
    return tuple((shape / shape.mean()).tolist())


def _week_shape(series: Series) -> tuple[float, ...]:
    if series.days < 14:
        return (1.0,) * 7
    means = _by_slot(series, 1)[:, 0]
    by_day = np.array([trim_mean(means[day::7], _TRIM) for day in range(7)])
    by_day = np.maximum(by_day, 1e-3)
    return tuple((by_day / by_day.mean()).tolist())
