"""Replayed days: recorded levels and daily shape with blocks of residuals in a new order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.workload.noise import generator, unit_mean
from gpupilot_envs.workload.rebinning import rebin_rates
from gpupilot_envs.workload.trace import DAY_S, RateTrace

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayParams:
    """Recorded days, taken apart into level, shape and residuals.

    The days' levels come back in their recorded order from a random first day, so that weeks
    and growth stay. The residuals are drawn anew: moving-block bootstrap (Kuensch, Annals of
    Statistics 17, 1989); whole blocks keep the correlation within them, and a block is drawn
    from the same time of another day, so that what is special about an hour stays in it.

    Attributes:
        day_shape: Relative rate in equal slots of a day, mean 1, shape ``(slots,)``.
        day_levels: Mean rate of each recorded day, mean 1, shape ``(days,)``.
        residuals: Recorded rate over level and shape by day and slot, 0 or more, shape
            ``(days, slots)``.
        block_slots: Slots that are kept together, 1 to ``slots``.
        day_s: Length of a day in seconds; less squeezes it.
    """

    family: Literal["replay"] = "replay"
    day_shape: tuple[float, ...]
    day_levels: tuple[float, ...]
    residuals: tuple[tuple[float, ...], ...]
    block_slots: int = 12
    day_s: float = DAY_S


def replay(params: ReplayParams, *, duration_s: float, bin_s: float, seed: int) -> RateTrace:
    """Return a trace of mean 1 request/s; a pure function of its arguments."""
    random = generator(seed)
    slots = len(params.day_shape)
    slot_s = params.day_s / slots
    days = int(np.ceil(duration_s / params.day_s - 1e-9))
    first = int(random.integers(len(params.day_levels)))
    drawn = np.concatenate([_day(params, random, first + day) for day in range(max(1, days))])
    bins = max(1, round(duration_s / bin_s))
    # a little more than asked keeps the last bin whole whatever the rounding
    ample = np.resize(drawn, len(drawn) + int(bin_s / slot_s) + 2)
    rates = rebin_rates(ample, slot_s, bin_s, "step")[:bins]
    return RateTrace(name=f"replay-{seed}", family=params.family, bin_s=bin_s, rps=unit_mean(rates))


def _day(params: ReplayParams, random: np.random.Generator, day: int) -> Floats:
    shape = np.array(params.day_shape)
    residuals = np.array(params.residuals)
    blocks = -(-len(shape) // params.block_slots)
    days = random.integers(0, len(residuals), size=blocks)
    by_slot = np.repeat(days, params.block_slots)[: len(shape)]
    level = params.day_levels[day % len(params.day_levels)]
    return np.asarray(level * shape * residuals[by_slot, np.arange(len(shape))], dtype=np.float64)
