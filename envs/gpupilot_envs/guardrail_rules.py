"""The guardrail's rules on replicas, compiled: on scalars and two rows of plain numbers.

The rules, in the order they are applied:

1. signals missing or stale: what runs is kept, whatever was asked;
2. shrinking waits for a warm history, for the flap budget and for its cooldown, growing only
   for its cooldown;
3. shrinking stops where the remaining replicas would carry more than ``saturation_rps`` each
   (the check "load x N / (N - 1)" of NVIDIA Dynamo's and llm-d's planners);
4. no decision moves further than one step;
5. the bounds, then the GPU budget, hold at all times, even over rules 1 to 4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.limits import Limits
from gpupilot_envs.reasons import Reason

FLAP_PERIOD_S = 3600.0
"""The flap budget counts reversals over a sliding hour."""

_MISSING = Reason.SIGNALS_MISSING.bit
_STALE = Reason.SIGNALS_STALE.bit
_WARMING = Reason.WARMING_UP.bit
_FLAPPED = Reason.FLAP_BUDGET_SPENT.bit
_COOLING = Reason.COOLING_DOWN.bit
_REFUSED = Reason.CONSOLIDATION_REFUSED.bit
_STEPPED = Reason.STEP_LIMITED.bit
_TOO_FEW = Reason.TOO_FEW_REPLICAS.bit
_TOO_MANY = Reason.TOO_MANY_REPLICAS.bit
_BUDGET = Reason.BUDGET_REACHED.bit

LIMIT_FIELDS = (
    "replicas_min",
    "replicas_max",
    "step_up_max",
    "step_down_max",
    "cooldown_up_s",
    "cooldown_down_s",
    "stale_after_s",
    "warm_up_s",
    "gpu_budget_milli",
    "cooldown_share_s",
    "cooldown_cpu_s",
    "cooldown_batching_s",
    "gpu_share_min_milli",
    "gpu_share_max_milli",
)
"""Columns of :func:`limits_row`."""

CHANGED_AT, DIRECTION, OLDEST, REVERSALS = 0, 1, 2, 3


def limits_row(limits: Limits) -> NDArray[np.float64]:
    """Return the limits as the compiled rule reads them, shape ``(len(LIMIT_FIELDS),)``."""
    return np.array([getattr(limits, name) for name in LIMIT_FIELDS], dtype=np.float64)


def fresh_memory_rows(services: int, flaps_per_hour_max: int) -> NDArray[np.float64]:
    """Return what the guardrail remembers of services that never changed, one row each.

    Columns: time of the last change, its direction (-1, 0, +1), slot of the oldest reversal,
    then the times of the last ``flaps_per_hour_max`` reversals as a ring.
    """
    rows = np.full((services, REVERSALS + flaps_per_hour_max), -np.inf)
    rows[:, DIRECTION] = 0.0
    rows[:, OLDEST] = 0.0
    return rows


@compiled
def flap_budget_spent(memory: NDArray[np.float64], now_s: float) -> bool:
    """Whether the last hour saw as many reversals as the row has slots for."""
    slots = memory.shape[0] - REVERSALS
    return slots == 0 or bool(now_s - memory[REVERSALS + int(memory[OLDEST])] < FLAP_PERIOD_S)


@compiled
def remember_change(memory: NDArray[np.float64], before: int, after: int, now_s: float) -> None:
    """Note in place that the service went from ``before`` to ``after`` replicas."""
    if before == after:
        return
    direction = 1.0 if after > before else -1.0
    slots = memory.shape[0] - REVERSALS
    if memory[DIRECTION] == -direction and slots > 0:
        oldest = int(memory[OLDEST])
        memory[REVERSALS + oldest] = now_s
        memory[OLDEST] = float((oldest + 1) % slots)
    memory[CHANGED_AT] = now_s
    memory[DIRECTION] = direction


@compiled
def restrain_replicas(
    ask: int,
    current: int,
    limits: NDArray[np.float64],
    memory: NDArray[np.float64],
    now_s: float,
    age_s: float,
    history_s: float,
    rate_rps: float,
    saturation_rps: float,
    gpu_share_milli: int,
) -> tuple[int, int]:
    """Return the replicas granted and the bits of the reasons; changes nothing.

    Args:
        ask: Replicas asked for.
        current: Replicas the service was last told to run with.
        limits: One row of :func:`limits_row`.
        memory: One row of :func:`fresh_memory_rows`.
        now_s: Time of the decision.
        age_s: Age of the newest sample; NaN when there is no reading.
        history_s: Span of the history so far.
        rate_rps: Present request rate; NaN when it was not answered.
        saturation_rps: Most requests per second one replica carries; NaN skips rule 3.
        gpu_share_milli: GPU share of each replica in thousandths.
    """
    granted, bits = ask, 0
    if np.isnan(age_s) or np.isnan(rate_rps):
        granted, bits = current, bits | _MISSING
    elif age_s > limits[6]:
        granted, bits = current, bits | _STALE
    since_change_s = now_s - memory[CHANGED_AT]
    if granted > current and since_change_s < limits[4]:
        granted, bits = current, bits | _COOLING
    if granted < current and history_s < limits[7]:
        granted, bits = current, bits | _WARMING
    if granted < current and flap_budget_spent(memory, now_s):
        granted, bits = current, bits | _FLAPPED
    if granted < current and since_change_s < limits[5]:
        granted, bits = current, bits | _COOLING
    if granted < current and saturation_rps > 0.0 and rate_rps > granted * saturation_rps:
        carrying = np.ceil(rate_rps / saturation_rps)
        granted = current if carrying >= current else int(carrying)
        bits |= _REFUSED
    if granted > current + limits[2]:
        granted, bits = current + int(limits[2]), bits | _STEPPED
    if granted < current - limits[3]:
        granted, bits = current - int(limits[3]), bits | _STEPPED
    if granted < limits[0]:
        granted, bits = int(limits[0]), bits | _TOO_FEW
    if granted > limits[1]:
        granted, bits = int(limits[1]), bits | _TOO_MANY
    if granted * gpu_share_milli > limits[8]:
        granted, bits = int(limits[8]) // gpu_share_milli, bits | _BUDGET
    return granted, bits
