"""Flash crowds: sudden peaks that rise in minutes and decay exponentially, on a daily pattern."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.workload.diurnal import DiurnalParams, noise, pattern
from gpupilot_envs.workload.noise import generator, unit_mean
from gpupilot_envs.workload.trace import DAY_S, RateTrace

Floats = NDArray[np.float64]

_MEMORY = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashParams:
    """Flash events as a Poisson process on a base pattern.

    The defaults of the events are the fit to ``mscloud_mongo_app_04`` (``fitted.yaml``).

    Attributes:
        base: The traffic between the events.
        events_per_day: Mean number of events in 86,400 s.
        height: Median of an event's extra rate at its peak, relative to the base at that time.
        height_sigma: Standard deviation of the logarithm of the height.
        rise_s: Seconds from the start of an event to its peak, a straight line.
        decay_s: Seconds in which the extra rate falls to 1/e.
    """

    family: Literal["flash"] = "flash"
    base: DiurnalParams = field(default_factory=DiurnalParams)
    events_per_day: float = 6.273
    height: float = 1.079
    height_sigma: float = 0.5938
    rise_s: float = 289.0
    decay_s: float = 106.1


def flash(params: FlashParams, *, duration_s: float, bin_s: float, seed: int) -> RateTrace:
    """Return a trace of mean 1 request/s; a pure function of its arguments."""
    bins = max(1, round(duration_s / bin_s))
    base = pattern(params.base, bins=bins, bin_s=bin_s)
    rates = base * (1.0 + _extra(params, bins, bin_s, seed))
    rates *= noise(params.base, bins=bins, bin_s=bin_s, seed=seed + 1)
    return RateTrace(name=f"flash-{seed}", family=params.family, bin_s=bin_s, rps=unit_mean(rates))


def _extra(params: FlashParams, bins: int, bin_s: float, seed: int) -> Floats:
    """Return the extra rate of all events, relative to the base; events before 0 still decay."""
    random = generator(seed)
    lead_s = params.rise_s + _MEMORY * params.decay_s
    span_s = bins * bin_s + lead_s
    count = random.poisson(params.events_per_day * span_s / DAY_S)
    starts_s = random.uniform(0.0, span_s, count) - lead_s
    heights = params.height * np.exp(params.height_sigma * random.standard_normal(count))
    extra = np.zeros(bins)
    for start_s, height in zip(starts_s.tolist(), heights.tolist(), strict=True):
        first = max(0, int(np.ceil(start_s / bin_s - 0.5)))
        last = min(bins, int((start_s + lead_s) / bin_s) + 1)
        after_s = (np.arange(first, last) + 0.5) * bin_s - start_s
        fall = np.exp(-np.maximum(after_s - params.rise_s, 0.0) / params.decay_s)
        extra[first:last] += height * np.minimum(after_s / params.rise_s, 1.0) * fall
    return extra
