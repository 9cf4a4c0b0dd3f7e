"""The families of generated traffic behind one function: parameters in, a rate trace out."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.workload.diurnal import DiurnalParams, diurnal
from gpupilot_envs.workload.flash import FlashParams, flash
from gpupilot_envs.workload.onoff import OnOffParams, onoff
from gpupilot_envs.workload.ramps import RampsParams, ramps
from gpupilot_envs.workload.regimes import RegimesParams, regimes
from gpupilot_envs.workload.replay import ReplayParams, replay
from gpupilot_envs.workload.trace import RateTrace

Params = Annotated[
    DiurnalParams | FlashParams | RegimesParams | RampsParams | OnOffParams | ReplayParams,
    Field(discriminator="family"),
]
"""Parameters of any family; ``params.family`` names it."""

FAMILIES: tuple[str, ...] = ("diurnal", "flash", "regimes", "ramps", "onoff", "replay")
"""Names of all families."""


def generate(params: Params, *, duration_s: float, bin_s: float, seed: int) -> RateTrace:
    """Return a trace of the family that ``params`` belongs to, mean 1 request/s.

    A pure function of its arguments. On/off traffic without a bout in it is all 0.

    Args:
        params: Parameters of one family.
        duration_s: Length in seconds; rounded to whole bins, at least one.
        bin_s: Length of a bin in seconds.
        seed: Seed, 0 or more.

    Raises:
        InputInvalid: A length is not above 0, or the seed is negative.
    """
    for name, value in (("duration_s", duration_s), ("bin_s", bin_s)):
        if not 0.0 < value < float("inf"):
            raise InputInvalid(name, value, "a finite number of seconds above 0")
    if seed < 0:
        raise InputInvalid("seed", seed, "an integer of 0 or more")
    match params:
        case DiurnalParams():
            return diurnal(params, duration_s=duration_s, bin_s=bin_s, seed=seed)
        case FlashParams():
            return flash(params, duration_s=duration_s, bin_s=bin_s, seed=seed)
        case RegimesParams():
            return regimes(params, duration_s=duration_s, bin_s=bin_s, seed=seed)
        case RampsParams():
            return ramps(params, duration_s=duration_s, bin_s=bin_s, seed=seed)
        case OnOffParams():
            return onoff(params, duration_s=duration_s, bin_s=bin_s, seed=seed)
        case ReplayParams():
            return replay(params, duration_s=duration_s, bin_s=bin_s, seed=seed)
