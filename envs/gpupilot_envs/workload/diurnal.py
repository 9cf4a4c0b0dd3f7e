"""Days and weeks: a daily shape times a factor by day of the week times correlated noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.workload.noise import generator, lognormal_ar1, unit_mean
from gpupilot_envs.workload.trace import DAY_S, RateTrace

Floats = NDArray[np.float64]

FAST_S = 60.0
"""Seconds over which the fast noise is independent."""

# share of a day on either side of midnight in which one day's factor becomes the next one's
_NIGHT = 1.0 / 32.0

# fmt: off
_DAY_SHAPE = (
    0.9709, 1.304, 1.102, 0.6771, 0.7665, 1.084, 1.306, 1.966, 2.123, 1.31, 1.218, 1.317,
    1.139, 1.062, 0.886, 0.7667, 0.6476, 0.5848, 0.6997, 0.7588, 0.5743, 0.4605, 0.5641, 0.7142,
)
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class DiurnalParams:
    """Daily and weekly pattern with two-scale noise.

    The defaults are the fit to ``mscloud_mongo_app_01`` (``fitted.yaml``): the database behind a
    production service, one-minute bins, eleven days; the week flat, for want of a second one.

    Attributes:
        day_shape: Relative rate in equal slots of a day from midnight, mean 1; straight lines
            between the middles of the slots.
        week_shape: Relative rate of each day of the week from the trace's first day, mean 1; one
            goes over into the next in the hour and a half around midnight.
        slow_sigma: Standard deviation of the slow noise's logarithm.
        slow_tau_s: Correlation time of the slow noise in seconds.
        fast_sigma: Standard deviation of the logarithm of the noise that is independent from
            minute to minute.
        day_s: Length of a day in seconds; less squeezes the day into a shorter run.
        start_s: Time since midnight of the first day at which the trace starts, in seconds
            of a day of ``day_s``.
    """

    family: Literal["diurnal"] = "diurnal"
    day_shape: tuple[float, ...] = _DAY_SHAPE
    week_shape: tuple[float, ...] = (1.0,) * 7
    slow_sigma: float = 0.1767
    slow_tau_s: float = 10_710.0
    fast_sigma: float = 0.01276
    day_s: float = DAY_S
    start_s: float = 0.0


def diurnal(params: DiurnalParams, *, duration_s: float, bin_s: float, seed: int) -> RateTrace:
    """Return a trace of mean 1 request/s; a pure function of its arguments."""
    bins = max(1, round(duration_s / bin_s))
    rates = pattern(params, bins=bins, bin_s=bin_s) * noise(
        params, bins=bins, bin_s=bin_s, seed=seed
    )
    return RateTrace(
        name=f"diurnal-{seed}", family=params.family, bin_s=bin_s, rps=unit_mean(rates)
    )


def pattern(params: DiurnalParams, *, bins: int, bin_s: float) -> Floats:
    """Return the daily times the weekly pattern at the middle of each bin, without noise."""
    at_days = ((np.arange(bins) + 0.5) * bin_s + params.start_s) / params.day_s
    slots = len(params.day_shape)
    middles = (np.arange(slots) + 0.5) / slots
    by_hour = np.interp(at_days % 1.0, middles, np.array(params.day_shape), period=1.0)
    days = len(params.week_shape)
    corners = (np.arange(days)[:, None] + (_NIGHT, 1.0 - _NIGHT)).ravel()
    by_day = np.interp(at_days % days, corners, np.repeat(params.week_shape, 2), period=days)
    return np.asarray(by_hour * by_day, dtype=np.float64)


def noise(params: DiurnalParams, *, bins: int, bin_s: float, seed: int) -> Floats:
    """Return the slow times the fast noise of each bin, mean 1."""
    random = generator(seed)
    slow = lognormal_ar1(random, bins, bin_s, sigma=params.slow_sigma, tau_s=params.slow_tau_s)
    # fast noise lives on minutes: finer bins share one value, coarser bins average theirs out
    held = max(1, round(FAST_S / bin_s))
    sigma = params.fast_sigma * min(1.0, (FAST_S / bin_s) ** 0.5)
    minutes = lognormal_ar1(random, -(-bins // held), FAST_S, sigma=sigma, tau_s=0.0)
    return slow * np.repeat(minutes, held)[:bins]
