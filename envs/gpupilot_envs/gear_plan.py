"""Which gear, and how many replicas in it: the classical planner, compiled and pure.

It asks what each gear would have cost over the last minutes: every reading's rate, plus the
margin that the controller wants now, divided by what a replica carries, rounded up, times what a
replica is billed. Integer replicas, quiet spells and peaks so enter as they really are, and the
average of some minutes does not flap as the cost of one moment would. A change of gear must pay
for itself: the new pods of another share are billed while they start beside the old ones, and that
is to come back within ``payback_s`` seconds. Instances, batching and CPU limits change in the
running server, so the gear that carries more at the same price is simply taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.gear_guard import translated

Floats = NDArray[np.float64]

_AT, _RATE = 0, 3
_SLO, _SHARE, _COST = 0, 3, 8
"""Columns of ``History.matrix()`` and of ``gears.GEAR_FIELDS``; literals, as code is cached."""

_ROUNDING = 1e-9
_FLAT = 1e-6
"""Milli-shares below which two costs count as equal."""


@compiled
def lasting_cost(
    rows: Floats,
    start: int,
    count: int,
    gear: Floats,
    margin_rps: float,
    lasting_s: float,
    replicas_min: int,
    replicas_max: int,
) -> float:
    """Return what a gear would have cost over the last ``lasting_s``, in thousandths.

    The mean over the readings; infinite where ``replicas_max`` could not carry one of them; NaN
    without any rate.

    Args:
        rows: Readings as a ring, shape ``(capacity, len(SIGNAL_FIELDS))``.
        start: Row of the oldest reading.
        count: Readings in the ring.
        gear: A row of ``gears.GEAR_FIELDS``.
        margin_rps: Added to every rate.
        lasting_s: How far to look back.
        replicas_min: Fewest replicas.
        replicas_max: Most replicas.
    """
    size, total, found = rows.shape[0], 0.0, 0
    newest_s = rows[(start + count - 1) % size, _AT] if count > 0 else 0.0
    for i in range(count - 1, -1, -1):
        row = (start + i) % size
        if rows[row, _AT] < newest_s - lasting_s:
            break
        rate = rows[row, _RATE]
        if np.isnan(rate):
            continue
        replicas = np.ceil((rate + margin_rps) / gear[_SLO] - _ROUNDING)
        if replicas > replicas_max:
            return np.inf
        total += max(replicas, replicas_min) * gear[_COST]
        found += 1
    return total / found if found > 0 else np.nan


@compiled
def replicas_in(
    gear: Floats, running: Floats, current: int, need_rps: float, held_rps: float
) -> int:
    """Return the replicas a gear needs: up to ``need_rps`` at once, down only to ``held_rps``.

    What runs counts as the replicas of this gear that carry as much. NaN needs keep it.

    Args:
        gear: A row of ``gears.GEAR_FIELDS``.
        running: The gear that runs.
        current: Replicas the service was last told to run.
        need_rps: What must be carried now.
        held_rps: The largest need over the time it is held on the way down.
    """
    as_new = translated(current, running, gear)
    if np.isnan(need_rps) or np.isnan(held_rps):
        return as_new
    least = int(np.ceil(need_rps / gear[_SLO] - _ROUNDING))
    most = max(least, int(np.ceil(held_rps / gear[_SLO] - _ROUNDING)))
    return max(least, min(as_new, most))


@compiled
def change_price(
    gear: Floats, running: Floats, replicas: int, cold_start_s: float, payback_s: float
) -> float:
    """Return what changing to a gear costs, in thousandths over ``payback_s`` seconds.

    New pods are billed while they start beside the old ones; without new pods nothing is.
    """
    if gear[_SHARE] == running[_SHARE]:
        return 0.0
    price: float = replicas * gear[_COST] * cold_start_s / max(payback_s, 1.0)
    return price


@compiled
def plan_gear(
    menu: Floats,
    gears: int,
    running: int,
    current: int,
    rows: Floats,
    start: int,
    count: int,
    need_rps: float,
    held_rps: float,
    cold_start_s: float,
    lasting_s: float,
    payback_s: float,
    replicas_min: int,
    replicas_max: int,
) -> int:
    """Return the gear that carries the service at the least cost, changes included.

    Args:
        menu: ``Menu.rows()``.
        gears: Gears on it.
        running: Gear that runs.
        current: Replicas the service was last told to run.
        rows: Readings as a ring, shape ``(capacity, len(SIGNAL_FIELDS))``.
        start: Row of the oldest reading.
        count: Readings in the ring.
        need_rps: What must be carried now; NaN keeps the gear.
        held_rps: The largest need over the time it is held on the way down.
        cold_start_s: Time to a ready pod.
        lasting_s: How far back the cost of each gear is looked at.
        payback_s: Time within which a change must have paid for itself.
        replicas_min: Fewest replicas.
        replicas_max: Most replicas.
    """
    if gears <= 1 or np.isnan(need_rps) or count == 0:
        return running
    rate = rows[(start + count - 1) % rows.shape[0], _RATE]
    margin_rps = max(need_rps - (0.0 if np.isnan(rate) else rate), 0.0)
    best, best_cost, best_slo = running, np.inf, 0.0
    for g in range(gears):
        gear = menu[g]
        cost = lasting_cost(
            rows, start, count, gear, margin_rps, lasting_s, replicas_min, replicas_max
        )
        if g != running and cost < np.inf:
            pods = replicas_in(gear, menu[running], current, need_rps, held_rps)
            cost += change_price(gear, menu[running], pods, cold_start_s, payback_s)
        if cost < best_cost - _FLAT or (abs(cost - best_cost) <= _FLAT and gear[_SLO] > best_slo):
            best, best_cost, best_slo = g, cost, gear[_SLO]
    return best
