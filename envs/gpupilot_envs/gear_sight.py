"""Gears on the decision path: what each would cost, which may be had now, and which is asked for.

What is worked out when a reading comes in serves the observation, the mask and the decision that
follows. A service without a menu passes by, so that nothing is spent on it and nothing changes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.following import Known, Ring
from gpupilot_envs.gear_guard import gear_refusal, same_gear
from gpupilot_envs.gear_plan import (
    LASTING_S,
    PAYBACK_S,
    change_price,
    lasting_costs,
    margin_over,
    plan_gear,
    replicas_in,
)

Floats = NDArray[np.float64]

_SLO = 0
_CHOICE, _POSITION, _LARGER, _SMALLER, _SAVING, _REPAID, _SINCE = range(7)
"""Places in ``observation.GEAR_SEEN``; literals, as code is cached."""

_REPLICAS_MIN, _REPLICAS_MAX = 0, 1
_RING_AT = int(Ring.AT)
_RING_RATE = int(Ring.RATE)
_NEWEST = int(Known.NEWEST)
_COUNT = int(Known.COUNT)
_OTHERS = 4.0
_OCTAVES = 4.0
_QUARTER_HOUR_S = 900.0


@compiled
def weigh_gears(
    menu: Floats,
    gears: int,
    running: int,
    ring: Floats,
    known: Floats,
    need: float,
    limits: Floats,
    costs: Floats,
) -> None:
    """Fill what each gear would have cost lately; NaN where there is nothing to choose.

    Args:
        menu: ``Menu.rows()``.
        gears: Gears on it.
        running: Gear that runs.
        ring: See :mod:`gpupilot_envs.following` for this and the next.
        known: Plain numbers.
        need: Replicas needed now in the gear that runs, not rounded.
        limits: One row of ``guardrail.limits_row``.
        costs: Receives the costs, shape ``(GEARS_MAX,)``.
    """
    if gears <= 1 or known[_COUNT] == 0.0:
        costs[:] = np.nan
        return
    newest = int(known[_NEWEST])
    margin_rps = margin_over(need * menu[running, _SLO], ring[_RING_RATE, newest])
    lasting_costs(
        menu,
        gears,
        ring[_RING_AT],
        ring[_RING_RATE],
        newest,
        int(known[_COUNT]),
        margin_rps,
        LASTING_S,
        int(limits[_REPLICAS_MIN]),
        int(limits[_REPLICAS_MAX]),
        costs,
    )


@compiled
def see_gears(
    menu: Floats,
    gears: int,
    running: int,
    current: int,
    costs: Floats,
    need: float,
    ask: float,
    cold_start_s: float,
    limits: Floats,
    actuators: Floats,
    now_s: float,
    out: Floats,
) -> bool:
    """Fill ``observation.GEAR_SEEN``; return whether a cheaper gear may be changed to now.

    Args:
        menu: ``Menu.rows()``.
        gears: Gears on it.
        running: Gear that runs.
        current: Replicas the service was last told to run.
        costs: :func:`weigh_gears`.
        need: Replicas needed now in the gear that runs, not rounded.
        ask: Replicas the classical controller would ask for in it.
        cold_start_s: Time to a ready pod.
        limits: One row of ``guardrail.limits_row``.
        actuators: When each actuator was last moved.
        now_s: Time of the reading.
        out: Receives the fields, shape ``(len(GEAR_SEEN),)``.
    """
    out[:] = 0.0
    out[_SINCE] = min((now_s - actuators.max()) / _QUARTER_HOUR_S, 1.0)
    if gears <= 1:
        return False
    here = menu[running]
    cheapest, free = running, 0
    for g in range(gears):
        if same_gear(menu[g], here):
            continue
        if gear_refusal(menu[g], here, limits, actuators, now_s) == 0:
            free += 1
            if costs[g] < costs[cheapest]:
                cheapest = g
    out[_CHOICE] = free / _OTHERS
    out[_POSITION] = running / (gears - 1.0)
    out[_LARGER] = math.log2(menu[gears - 1, _SLO] / here[_SLO]) / _OCTAVES
    out[_SMALLER] = math.log2(here[_SLO] / menu[0, _SLO]) / _OCTAVES
    if cheapest == running or np.isnan(need):
        return False
    out[_SAVING] = 1.0 - costs[cheapest] / costs[running] if costs[running] < np.inf else 1.0
    slo_rps = here[_SLO]
    pods = replicas_in(menu[cheapest], here, current, need * slo_rps, ask * slo_rps)
    price = change_price(menu[cheapest], here, pods, cold_start_s, PAYBACK_S)
    saved = costs[running] - costs[cheapest]
    out[_REPAID] = saved / price if price > 0.0 else np.inf
    return True


@compiled
def ask_for_gear(
    menu: Floats,
    gears: int,
    running: int,
    current: int,
    costs: Floats,
    need: float,
    wanted: int,
    cold_start_s: float,
    patience: float,
) -> tuple[int, int]:
    """Return the gear to ask for, and the replicas in it that carry what was wanted.

    Args:
        menu: ``Menu.rows()``.
        gears: Gears on it; with one, or none, the replicas stay as wanted.
        running: Gear that runs.
        current: Replicas the service was last told to run.
        costs: :func:`weigh_gears`.
        need: Replicas needed now in the gear that runs, not rounded; NaN keeps the gear.
        wanted: Replicas wanted in the gear that runs.
        cold_start_s: Time to a ready pod.
        patience: Factor on the planner's repayment time; 0 keeps the gear.
    """
    if gears <= 1:
        return running, wanted
    slo_rps = menu[running, _SLO]
    wanted_rps = wanted * slo_rps
    gear = plan_gear(
        menu,
        gears,
        running,
        current,
        costs,
        need * slo_rps,
        wanted_rps,
        cold_start_s,
        patience * PAYBACK_S,
    )
    if gear == running:
        return running, wanted
    return gear, replicas_in(menu[gear], menu[running], current, wanted_rps, wanted_rps)
