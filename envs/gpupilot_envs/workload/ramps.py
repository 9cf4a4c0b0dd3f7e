"""Slow ramps: the rate drifts in straight lines from one level to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gpupilot_envs.workload.noise import generator, lognormal_ar1, unit_mean
from gpupilot_envs.workload.trace import RateTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class RampsParams:
    """Turning points of a slowly drifting rate.

    The defaults are the fit to ``servegen_m_large`` (``fitted.yaml``), language-model serving.

    Attributes:
        leg_s: Mean time from one turning point to the next in seconds (gamma, cv 0.5).
        level_sigma: Standard deviation of the logarithm of the turning points; they lie above
            and below the median in turn.
        noise_sigma: Standard deviation of the logarithm of the noise.
        noise_tau_s: Correlation time of the noise in seconds.
    """

    family: Literal["ramps"] = "ramps"
    leg_s: float = 4442.0
    level_sigma: float = 0.5375
    noise_sigma: float = 0.1799
    noise_tau_s: float = 5306.0


def ramps(params: RampsParams, *, duration_s: float, bin_s: float, seed: int) -> RateTrace:
    """Return a trace of mean 1 request/s; a pure function of its arguments."""
    random = generator(seed)
    bins = max(1, round(duration_s / bin_s))
    mean_legs = duration_s / params.leg_s
    legs = int(mean_legs + 6.0 * np.sqrt(mean_legs) + 12)
    turns_s = np.cumsum(random.gamma(4.0, params.leg_s / 4.0, legs)) - params.leg_s
    side = np.where((np.arange(legs) + random.integers(2)) % 2, 1.0, -1.0)
    levels = np.exp(params.level_sigma * side * np.abs(random.standard_normal(legs)))
    rates = np.interp((np.arange(bins) + 0.5) * bin_s, turns_s, levels)
    rates *= lognormal_ar1(random, bins, bin_s, sigma=params.noise_sigma, tau_s=params.noise_tau_s)
    return RateTrace(name=f"ramps-{seed}", family=params.family, bin_s=bin_s, rps=unit_mean(rates))
