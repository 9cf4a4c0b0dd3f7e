"""The guardrail on gears: which change of limits, instances or batching may be carried out now.

A gear is taken or refused whole. It is refused

1. while signals are missing or stale: what runs is kept;
2. within the cooldown of any actuator it would move: share (new pods), CPU limit (in place),
   instances and batching (in the running server);
3. when its share is out of its bounds;
4. when both generations of pods together would exceed the GPU budget while one replaces the other.

Then the rules on replicas apply in the gear that was granted, what runs being expressed as the
replicas of that gear that carry as much. So four quarters that become one whole are no
scale-down, and the consolidation check asks what the *new* gear can carry. Where a gear is
refused, the replicas asked for are translated back the same way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.guardrail_rules import restrain_replicas
from gpupilot_envs.reasons import Reason

Floats = NDArray[np.float64]

_SATURATION, _SHARE, _CPU, _INSTANCES, _BATCH, _DELAY = 1, 3, 4, 5, 6, 7
"""Columns of ``gears.GEAR_FIELDS``; literals, because compiled code is cached."""

_COOLING = Reason.GEAR_COOLING_DOWN.bit
_OUT_OF_RANGE = Reason.SHARE_OUT_OF_RANGE.bit
_SURGE = Reason.SURGE_OVER_BUDGET.bit

ACTUATOR_MEMORY = 3
"""Columns of :func:`fresh_actuator_rows`: last change of share, of CPU limit, of batching."""


def fresh_actuator_rows(services: int) -> Floats:
    """Return when each actuator of each service was last moved: never."""
    return np.full((services, ACTUATOR_MEMORY), -np.inf)


@compiled
def moved(asked: Floats, running: Floats, actuator: int) -> bool:
    """Whether two gears differ in the share (0), the CPU limit (1), or instances or batching (2).

    Args:
        asked: A row of ``gears.GEAR_FIELDS``.
        running: Another.
        actuator: Column of the actuators' memory.
    """
    if actuator == 0:
        return bool(asked[_SHARE] != running[_SHARE])
    if actuator == 1:
        return bool(asked[_CPU] != running[_CPU])
    same = asked[_INSTANCES] == running[_INSTANCES] and asked[_BATCH] == running[_BATCH]
    return not (same and asked[_DELAY] == running[_DELAY])


@compiled
def same_gear(asked: Floats, running: Floats) -> bool:
    """Whether two rows of ``gears.GEAR_FIELDS`` are one setting."""
    return not (moved(asked, running, 0) or moved(asked, running, 1) or moved(asked, running, 2))


@compiled
def translated(replicas: int, before: Floats, after: Floats) -> int:
    """Return the replicas of one gear that carry at least what ``replicas`` of another do.

    The same number where it is not known what a gear carries (NaN).
    """
    ratio = before[_SATURATION] / after[_SATURATION]
    if not (ratio > 0.0 and ratio < np.inf):
        return replicas
    return int(np.ceil(replicas * ratio - 1e-9))


@compiled
def remember_gear(memory: Floats, running: Floats, granted: Floats, now_s: float) -> None:
    """Note in place which actuators a granted gear moves."""
    for actuator in range(ACTUATOR_MEMORY):
        if moved(granted, running, actuator):
            memory[actuator] = now_s


@compiled
def gear_refusal(
    asked: Floats, running: Floats, limits: Floats, memory: Floats, now_s: float
) -> int:
    """Return the bits of what forbids the gear asked for, budget apart; 0 when nothing does."""
    bits = 0
    for actuator in range(ACTUATOR_MEMORY):
        if moved(asked, running, actuator) and now_s - memory[actuator] < limits[9 + actuator]:
            bits |= _COOLING
    if moved(asked, running, 0) and not limits[12] <= asked[_SHARE] <= limits[13]:
        bits |= _OUT_OF_RANGE
    return bits


@compiled
def restrain_gear(
    asked: Floats,
    running: Floats,
    ask: int,
    current: int,
    limits: Floats,
    memory: Floats,
    actuators: Floats,
    now_s: float,
    age_s: float,
    history_s: float,
    rate_rps: float,
) -> tuple[bool, int, int, int]:
    """Return whether the gear is granted, replicas, the current ones in its terms, and the bits.

    With the gear that runs this is :func:`gpupilot_envs.guardrail_rules.restrain_replicas`.

    Args:
        asked: Gear asked for, a row of ``gears.GEAR_FIELDS``; NaN where unknown.
        running: Gear that runs.
        ask: Replicas asked for, in the gear asked for.
        current: Replicas the service was last told to run with.
        limits: One row of ``guardrail.limits_row``.
        memory: One row of ``guardrail.fresh_memory_rows``.
        actuators: One row of :func:`fresh_actuator_rows`.
        now_s: Time of the decision.
        age_s: Age of the newest sample; NaN when there is no reading.
        history_s: Span of the history so far.
        rate_rps: Present request rate; NaN when it was not answered.
    """
    bits = 0
    if not same_gear(asked, running):
        blind = np.isnan(age_s) or np.isnan(rate_rps) or age_s > limits[6]
        bits = 0 if blind else gear_refusal(asked, running, limits, actuators, now_s)
        if not blind and bits == 0:
            as_new = translated(current, running, asked)
            granted, bits = restrain_replicas(
                ask,
                as_new,
                limits,
                memory,
                now_s,
                age_s,
                history_s,
                rate_rps,
                asked[_SATURATION],
                int(asked[_SHARE]),
            )
            surge = moved(asked, running, 0)
            both_milli = granted * asked[_SHARE] + current * running[_SHARE]
            if not surge or both_milli <= limits[8]:
                return True, granted, as_new, bits
            bits = _SURGE
        ask = translated(ask, asked, running)
    granted, more = restrain_replicas(
        ask,
        current,
        limits,
        memory,
        now_s,
        age_s,
        history_s,
        rate_rps,
        running[_SATURATION],
        int(running[_SHARE]),
    )
    return False, granted, current, bits | more
