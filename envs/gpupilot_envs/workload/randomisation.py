"""Domain randomisation: traffic of a family with every parameter drawn from a broad range.

The ranges contain what was fitted to the development traces of 10 requests/s and more
(``fitted.yaml``; tested) with a margin, so that an unseen service lies inside them. All but
``weekend`` are drawn log-uniformly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.diurnal import DiurnalParams
from gpupilot_envs.workload.flash import FlashParams
from gpupilot_envs.workload.generators import Params, generate
from gpupilot_envs.workload.model import fitted
from gpupilot_envs.workload.noise import generator
from gpupilot_envs.workload.onoff import OnOffParams
from gpupilot_envs.workload.ramps import RampsParams
from gpupilot_envs.workload.regimes import RegimesParams
from gpupilot_envs.workload.trace import DAY_S, RateTrace

TRAINING_FAMILIES: tuple[str, ...] = ("diurnal", "regimes", "ramps", "onoff")
"""Families that policies may be trained, tuned and selected on."""

HELD_OUT_FAMILIES: tuple[str, ...] = ("flash",)
"""Families that only tests use: no policy meets a flash crowd before it is scored on one."""

TRAINING_SHAPES: tuple[str, ...] = (
    "mscloud_ecommerce_api",
    "mscloud_mongo_app_01",
    "mscloud_mongo_app_02",
    "mscloud_mongo_app_03",
    "mscloud_mongo_app_04",
    "nasa_http_199507",
)
"""Traces whose fitted daily shape training traffic may take."""

HELD_OUT_SHAPES: tuple[str, ...] = (
    "servegen_m_large",
    "servegen_m_small_d1_7",
    "twitter_stream_202108_wk1_2",
    "worldcup98_0519_0620",
)
"""Traces whose fitted daily shape only tests use."""

RANGES: dict[str, tuple[float, float]] = {
    "swing": (0.05, 1.0),
    "weekend": (0.4, 1.3),
    "slow_sigma": (0.03, 0.7),
    "slow_tau_s": (600.0, 100_000.0),
    "fast_sigma": (0.005, 0.15),
    "events_per_day": (0.4, 40.0),
    "height": (0.4, 5.0),
    "height_sigma": (0.2, 0.8),
    "rise_s": (5.0, 2000.0),
    "decay_s": (60.0, 3600.0),
    "jump": (1.3, 6.0),
    "dwell_s": (60.0, 60_000.0),
    "noise_sigma": (0.01, 0.5),
    "noise_tau_s": (30.0, 20_000.0),
    "leg_s": (900.0, 50_000.0),
    "level_sigma": (0.1, 1.0),
    "on_s": (20.0, 7200.0),
    "off_s": (30.0, 14_400.0),
    "dwell_shape": (0.3, 2.0),
    "off_level": (0.001, 0.2),
}
"""Lowest and highest value of each randomised parameter; ``swing`` is the standard deviation of
the daily shape's logarithm, ``weekend`` the rate of the two weekend days relative to the others,
``jump`` the ratio of two regimes' rates."""


def random_traffic(
    seed: int,
    *,
    duration_s: float,
    bin_s: float,
    families: Sequence[str] = TRAINING_FAMILIES,
    shapes: Sequence[str] = TRAINING_SHAPES,
    day_s: float = DAY_S,
) -> RateTrace:
    """Return a trace of mean 1 request/s of a random family with random parameters.

    Args:
        seed: Decides family, parameters and trace.
        duration_s: Length in seconds.
        bin_s: Length of a bin in seconds.
        families: Families to draw from with equal chance.
        shapes: Traces whose fitted daily shapes may be used.
        day_s: Length of a day in seconds; the trace starts at a random time of the week.

    Raises:
        InputInvalid: A family is unknown or cannot be drawn at random, or a length is wrong.
    """
    random = generator(seed)
    family = families[int(random.integers(len(families)))]
    params = random_params(family, random, shapes=shapes, day_s=day_s)
    return generate(params, duration_s=duration_s, bin_s=bin_s, seed=int(random.integers(2**62)))


def random_params(
    family: str,
    random: np.random.Generator,
    *,
    shapes: Sequence[str] = TRAINING_SHAPES,
    day_s: float = DAY_S,
) -> Params:
    """Return parameters of ``family`` drawn from :data:`RANGES`.

    In a squeezed day (``day_s`` below 86,400) slow changes take at most a quarter of it and at
    least three flash events are expected in it; everything faster keeps its real speed.

    Raises:
        InputInvalid: The family is unknown or needs recorded days (``replay``).
    """
    match family:
        case "diurnal":
            return _diurnal(random, shapes, day_s)
        case "flash":
            return _flash(random, shapes, day_s)
        case "regimes":
            return _regimes(random, day_s)
        case "ramps":
            return _ramps(random, day_s)
        case "onoff":
            return _onoff(random)
        case _:
            raise InputInvalid("family", family, "diurnal, flash, regimes, ramps or onoff")


def _within(random: np.random.Generator, name: str, *, at_most: float = np.inf) -> float:
    low, high = RANGES[name]
    high = max(min(high, at_most), low)
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _diurnal(random: np.random.Generator, shapes: Sequence[str], day_s: float) -> DiurnalParams:
    weekend = random.uniform(*RANGES["weekend"])
    week = np.array([1.0] * 5 + [weekend] * 2)
    return DiurnalParams(
        day_shape=_day_shape(random, shapes),
        week_shape=tuple((week / week.mean()).tolist()),
        slow_sigma=_within(random, "slow_sigma"),
        slow_tau_s=_within(random, "slow_tau_s", at_most=day_s / 4),
        fast_sigma=_within(random, "fast_sigma"),
        day_s=day_s,
        start_s=float(random.uniform(0.0, 7.0 * day_s)),
    )


def _day_shape(random: np.random.Generator, shapes: Sequence[str]) -> tuple[float, ...]:
    """Draw a real daily shape or harmonics, half and half, and a new swing."""
    if shapes and random.random() < 0.5:
        known = fitted()[shapes[int(random.integers(len(shapes)))]].diurnal
        logarithm = np.log(np.array(known.day_shape))
        logarithm *= random.uniform(0.7, 1.6)
    else:
        logarithm = _harmonics(random)
        logarithm *= _within(random, "swing") / logarithm.std()
    shape = np.exp(logarithm)
    return tuple((shape / shape.mean()).tolist())


def _harmonics(random: np.random.Generator) -> NDArray[np.float64]:
    """Draw three harmonics, each with half the amplitude of the one before."""
    at = (np.arange(48) + 0.5) / 48
    logarithm = np.zeros(48)
    for harmonic in (1, 2, 3):
        phase = random.uniform(0.0, 2.0 * np.pi)
        logarithm += 2.0**-harmonic * np.cos(2.0 * np.pi * harmonic * at + phase)
    return logarithm


def _flash(random: np.random.Generator, shapes: Sequence[str], day_s: float) -> FlashParams:
    return FlashParams(
        base=_diurnal(random, shapes, day_s),
        events_per_day=max(_within(random, "events_per_day"), 3.0 * DAY_S / day_s),
        height=_within(random, "height"),
        height_sigma=_within(random, "height_sigma"),
        rise_s=_within(random, "rise_s", at_most=day_s / 24),
        decay_s=_within(random, "decay_s", at_most=day_s / 8),
    )


def _regimes(random: np.random.Generator, day_s: float) -> RegimesParams:
    kinds = int(random.integers(2, 5))
    levels = np.cumprod([1.0, *(_within(random, "jump") ** (1 / (kinds - 1)),) * (kinds - 1)])
    return RegimesParams(
        levels=tuple(levels.tolist()),
        dwell_s=tuple(_within(random, "dwell_s", at_most=day_s / 4) for _ in range(kinds)),
        noise_sigma=_within(random, "noise_sigma"),
        noise_tau_s=_within(random, "noise_tau_s"),
    )


def _ramps(random: np.random.Generator, day_s: float) -> RampsParams:
    return RampsParams(
        leg_s=_within(random, "leg_s", at_most=day_s / 4),
        level_sigma=_within(random, "level_sigma"),
        noise_sigma=_within(random, "noise_sigma"),
        noise_tau_s=_within(random, "noise_tau_s"),
    )


def _onoff(random: np.random.Generator) -> OnOffParams:
    silent = random.random() < 0.5
    return OnOffParams(
        on_s=_within(random, "on_s"),
        off_s=_within(random, "off_s"),
        dwell_shape=_within(random, "dwell_shape"),
        level_sigma=_within(random, "level_sigma"),
        off_level=0.0 if silent else _within(random, "off_level"),
    )
