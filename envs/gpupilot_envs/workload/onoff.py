"""On and off near zero: bouts of traffic between long silences, for scale-to-zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gpupilot_envs.workload.noise import bin_means, dwell_changes, generator, unit_mean
from gpupilot_envs.workload.trace import RateTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class OnOffParams:
    """Bouts and silences.

    The defaults are the fit to ``azure_llm_2023_code_10s`` (``fitted.yaml``), code completion.

    Attributes:
        on_s: Mean length of a bout in seconds.
        off_s: Mean length of a silence in seconds.
        dwell_shape: Gamma shape of both lengths: 1 is exponential, less is heavier-tailed.
        level_sigma: Standard deviation of the logarithm of a bout's rate.
        off_level: Rate in a silence, relative to the median rate of a bout.
    """

    family: Literal["onoff"] = "onoff"
    on_s: float = 26.15
    off_s: float = 59.75
    dwell_shape: float = 1.383
    level_sigma: float = 0.5191
    off_level: float = 0.00284


def onoff(params: OnOffParams, *, duration_s: float, bin_s: float, seed: int) -> RateTrace:
    """Return a trace of mean 1 request/s, or all 0 when no bout falls into it.

    A pure function of its arguments.
    """
    random = generator(seed)
    bins = max(1, round(duration_s / bin_s))
    mean_s = np.array([params.off_s, params.on_s])
    mean = 2.0 * bins * bin_s / mean_s.sum()
    count = int(mean + 10.0 * np.sqrt(mean / params.dwell_shape) + 30)
    starts_on = random.random() < params.on_s / mean_s.sum()
    states = np.asarray((np.arange(count) + starts_on) % 2, dtype=np.int64)
    changes_s = dwell_changes(random, mean_s, states, params.dwell_shape)
    bouts = np.exp(params.level_sigma * random.standard_normal(count))
    levels = np.where(states == 1, bouts, params.off_level)
    rates = bin_means(changes_s, levels, bins=bins, bin_s=bin_s)
    return RateTrace(name=f"onoff-{seed}", family=params.family, bin_s=bin_s, rps=unit_mean(rates))
