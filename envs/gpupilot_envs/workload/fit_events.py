"""Fits of what changes: regimes, flash events, ramps, bouts and silences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter, uniform_filter1d

from gpupilot_envs.workload.diurnal import DiurnalParams, pattern
from gpupilot_envs.workload.fit_patterns import with_noise
from gpupilot_envs.workload.flash import FlashParams
from gpupilot_envs.workload.onoff import OnOffParams
from gpupilot_envs.workload.ramps import RampsParams
from gpupilot_envs.workload.regimes import RegimesParams
from gpupilot_envs.workload.series import Series, logarithm, noise_of
from gpupilot_envs.workload.trace import DAY_S

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_EVENTS_LEAST = 3
_BASELINE_S = 4 * 3600.0
_SIGHT_LEAST = 0.25
_EVENT_LEAST = 0.4
_HYSTERESIS = 0.2
_SILENT = 0.1
_USUAL = 1.0 - 1e-9
"""The mean of the rates is 1, but for rounding: that of a constant rate can come out above it."""


def fit_regimes(series: Series) -> RegimesParams | None:
    """Fit two regimes: two means of the log rate, told apart with hysteresis.

    Returns ``None`` when the rate does not stay three times on each side.
    """
    values = logarithm(median_filter(series.rates, size=3, mode="nearest"))
    low, high = _two_means(values)
    states = _hysteresis(values, low, high)
    runs = [_inner_runs(states, state) for state in (0, 1)]
    if high <= low or min(len(run) for run in runs) < _EVENTS_LEAST:
        return None
    raw = logarithm(series.rates)
    means = np.array([raw[states == state].mean() for state in (0, 1)])
    noise_sigma, noise_tau_s = noise_of(raw - means[states], series)
    levels = np.exp(means)
    share = float(states.mean())
    levels /= levels[0] * (1 - share) + levels[1] * share
    return RegimesParams(
        levels=tuple(levels.tolist()),
        dwell_s=tuple(float(run.mean()) * series.bin_s for run in runs),
        noise_sigma=noise_sigma,
        noise_tau_s=noise_tau_s,
    )


def fit_flash(series: Series, base: DiurnalParams) -> FlashParams | None:
    """Fit peaks above a four-hour running median of the rate over its daily pattern.

    Returns ``None`` below three events that rise by 40 %.
    """
    if series.bin_s > _BASELINE_S / 8:
        return None
    usual = pattern(base, bins=len(series.rates), bin_s=series.bin_s)
    ratio = series.rates / np.maximum(usual, 1e-3)
    width = int(_BASELINE_S / series.bin_s) | 1
    baseline = np.maximum(median_filter(ratio, size=width, mode="nearest"), 0.02)
    excess = ratio / baseline - 1.0
    spread = 1.4826 * float(np.median(np.abs(excess - np.median(excess))))
    events = _events(excess, max(_SIGHT_LEAST, 3.0 * spread), max(_EVENT_LEAST, 5.0 * spread))
    if len(events) < _EVENTS_LEAST:
        return None
    heights, rises, decays = np.array(events).T
    calm = series.known & (excess < max(_SIGHT_LEAST, 3.0 * spread))
    return FlashParams(
        base=with_noise(base, series, calm),
        events_per_day=len(events) / (series.known.sum() * series.bin_s / DAY_S),
        height=float(np.median(heights)),
        height_sigma=float(np.log(heights).std()),
        rise_s=float(np.median(rises)) * series.bin_s,
        decay_s=float(np.median(decays)) * series.bin_s,
    )


def fit_ramps(series: Series) -> RampsParams | None:
    """Fit turning points: extremes that differ by a standard deviation of the smooth log rate.

    Returns ``None`` below three legs.
    """
    raw = logarithm(series.rates)
    width = max(1, int(900.0 / series.bin_s)) | 1
    smooth = uniform_filter1d(raw, size=width, mode="nearest")
    turns = _turning_points(smooth, 0.6 * float(smooth.std()))
    if len(turns) < _EVENTS_LEAST + 1:
        return None
    levels = smooth[turns]
    legs = np.arange(turns[0], turns[-1] + 1)
    line = np.log(np.interp(legs, turns, np.exp(levels)))
    noise_sigma, noise_tau_s = noise_of(raw[legs] - line, series)
    return RampsParams(
        leg_s=float(np.diff(turns).mean()) * series.bin_s,
        level_sigma=float(np.sqrt(np.mean((levels - np.median(levels)) ** 2))),
        noise_sigma=noise_sigma,
        noise_tau_s=noise_tau_s,
    )


def fit_onoff(series: Series) -> OnOffParams | None:
    """Fit bouts and silences: silence is a rate below a tenth of the usual one above the mean.

    Returns ``None`` below three bouts and three silences.
    """
    busy = series.rates[series.rates >= _USUAL]
    on = (series.rates > _SILENT * float(np.median(busy))).astype(np.int64)
    bouts, silences = _inner_runs(on, 1), _inner_runs(on, 0)
    if min(len(bouts), len(silences)) < _EVENTS_LEAST:
        return None
    levels = _run_means(series.rates, on)
    # a bout lights up every bin it touches: it looks a bin longer, a silence a bin shorter
    on_s = max(float(bouts.mean()) - 1.0, 0.5) * series.bin_s
    off_s = (float(silences.mean()) + 1.0) * series.bin_s
    variation = 0.5 * (_cv(bouts) + _cv(silences))
    return OnOffParams(
        on_s=on_s,
        off_s=off_s,
        dwell_shape=float(np.clip(variation**-2, 0.2, 4.0)) if variation > 0 else 4.0,
        level_sigma=float(np.log(levels).std()),
        off_level=float(series.rates[on == 0].mean() / np.median(levels)),
    )


def _two_means(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, (0.1, 0.9)).tolist()
    for _ in range(50):
        above = values > 0.5 * (low + high)
        if above.all() or not above.any():
            break
        low, high = float(values[~above].mean()), float(values[above].mean())
    return low, high


def _hysteresis(values: Floats, low: float, high: float) -> Ints:
    """Return 0 or 1 by bin; a state changes only beyond the middle by a fifth of the distance."""
    middle, reach = 0.5 * (low + high), _HYSTERESIS * (high - low)
    marks = np.where(values > middle + reach, 1, np.where(values < middle - reach, 0, -1))
    marks[0] = int(values[0] > middle)
    last = np.maximum.accumulate(np.where(marks >= 0, np.arange(len(marks)), 0))
    return np.asarray(marks[last], dtype=np.int64)


def _runs(states: Ints) -> tuple[Ints, Ints]:
    """Return the first index of every run and the end of the last, and the runs' states."""
    starts = np.concatenate(([0], np.flatnonzero(np.diff(states)) + 1, [len(states)]))
    return starts, states[starts[:-1]]


def _inner_runs(states: Ints, state: int) -> Ints:
    """Return the lengths of the runs of ``state``; the first and last of all are cut off."""
    starts, kinds = _runs(states)
    lengths = np.diff(starts)[1:-1]
    return np.asarray(lengths[kinds[1:-1] == state], dtype=np.int64)


def _run_means(rates: Floats, states: Ints) -> Floats:
    starts, kinds = _runs(states)
    means = np.add.reduceat(rates, starts[:-1]) / np.diff(starts)
    return np.asarray(means[kinds == 1], dtype=np.float64)


def _cv(lengths: Ints) -> float:
    return float(lengths.std() / lengths.mean())


def _events(excess: Floats, enter: float, least: float) -> list[tuple[float, float, float]]:
    """Return height, bins to the peak and bins to 1/e of every event above ``least``."""
    starts, kinds = _runs((excess > enter).astype(np.int64))
    found = []
    for first, end, above in zip(
        starts[:-1].tolist(), starts[1:].tolist(), kinds.tolist(), strict=True
    ):
        peak = first + int(np.argmax(excess[first:end]))
        if above and excess[peak] > least:
            height = float(excess[peak])
            found.append((height, _rise(excess, peak, height), _decay(excess, peak, height)))
    return found


def _rise(excess: Floats, peak: int, height: float) -> float:
    """Bins of a straight rise: twice the way from half height to the peak."""
    before = excess[max(0, peak - 720) : peak + 1][::-1]
    below = before < height / 2.0
    if not below.any():
        return float(len(before))
    at = int(np.argmax(below))
    high, low = float(before[at - 1]), float(before[at])
    return max(2.0 * (at - 1 + (high - height / 2.0) / (high - low)), 0.5)


def _decay(excess: Floats, peak: int, height: float) -> float:
    after = excess[peak : peak + 720]
    below = after < height / np.e
    if not below.any():
        return float(len(after))
    at = int(np.argmax(below))
    high, low = float(after[at - 1]), float(after[at])
    return at - 1 + (high - height / np.e) / (high - low)


def _turning_points(values: Floats, least: float) -> Ints:
    """Return the indices of extremes in turn, each at least ``least`` from the one before."""
    turns: list[int] = []
    low = high = 0
    side = 0
    for at, value in enumerate(values.tolist()):
        low = at if value < values[low] else low
        high = at if value > values[high] else high
        if side >= 0 and values[high] - value > least:
            turns.append(high)
            side, low = -1, at
        elif side <= 0 and value - values[low] > least:
            turns.append(low)
            side, high = 1, at
    return np.array(turns, dtype=np.int64)
