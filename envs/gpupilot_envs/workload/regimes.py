"""Regime switching: the rate jumps between levels and stays on each for a random time (MMPP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.workload.noise import (
    bin_means,
    dwell_changes,
    generator,
    lognormal_ar1,
    unit_mean,
)
from gpupilot_envs.workload.trace import RateTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimesParams:
    """Levels and dwell times of a Markov-modulated rate.

    The defaults are the fit to ``twitter_stream_202108_wk1_2`` (``fitted.yaml``): a steady feed
    that ten minutes of backlog triple every two hours.

    Attributes:
        levels: Relative rate of each regime, 2 or more regimes.
        dwell_s: Mean time in each regime in seconds, exponential; shape of ``levels``. The next
            regime is any other with equal chance.
        noise_sigma: Standard deviation of the logarithm of the noise within a regime.
        noise_tau_s: Correlation time of that noise in seconds.
    """

    family: Literal["regimes"] = "regimes"
    levels: tuple[float, ...] = (0.8526, 2.781)
    dwell_s: tuple[float, ...] = (7608.0, 633.3)
    noise_sigma: float = 0.2104
    noise_tau_s: float = 9193.0


def regimes(params: RegimesParams, *, duration_s: float, bin_s: float, seed: int) -> RateTrace:
    """Return a trace of mean 1 request/s; a pure function of its arguments."""
    random = generator(seed)
    bins = max(1, round(duration_s / bin_s))
    states = _states(params, random, bins * bin_s)
    changes_s = dwell_changes(random, np.array(params.dwell_s), states, 1.0)
    rates = bin_means(changes_s, np.array(params.levels)[states], bins=bins, bin_s=bin_s)
    rates *= lognormal_ar1(random, bins, bin_s, sigma=params.noise_sigma, tau_s=params.noise_tau_s)
    return RateTrace(
        name=f"regimes-{seed}", family=params.family, bin_s=bin_s, rps=unit_mean(rates)
    )


def _states(
    params: RegimesParams, random: np.random.Generator, duration_s: float
) -> NDArray[np.int64]:
    """Return a chain of regimes long enough for the duration; the first by its share of time."""
    dwell_s = np.array(params.dwell_s)
    kinds = len(dwell_s)
    mean = duration_s / dwell_s.mean()
    count = int(mean + 10.0 * np.sqrt(mean) + 30)
    first = random.choice(kinds, p=dwell_s / dwell_s.sum())
    hops = random.integers(1, kinds, size=count)
    return np.asarray((first + np.concatenate(([0], np.cumsum(hops)))) % kinds, dtype=np.int64)
