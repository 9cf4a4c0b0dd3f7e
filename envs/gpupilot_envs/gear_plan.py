"""Which gear, and how many replicas in it: the classical planner, compiled and pure.

It asks what each gear would have cost over the last minutes: every reading's rate, plus the
margin that the controller wants now, divided by what a replica carries, rounded up, times what a
replica is billed. Integer replicas, quiet spells and peaks so enter as they really are, and the
average of some minutes does not flap as the cost of one moment would. A change of gear must pay
for itself: the new pods of another share are billed while they start beside the old ones, and that
is to come back within ``payback_s`` seconds. A learned policy may make that time longer or
shorter. Instances, batching and CPU limits change in the running server, so the gear that carries
more at the same price is simply taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.gear_guard import translated

Floats = NDArray[np.float64]

_SLO, _SHARE, _COST = 0, 3, 8
"""Columns of ``gears.GEAR_FIELDS``; literals, as code is cached."""

LASTING_S = 900.0
"""Seconds of readings over which the cost of every gear is compared."""

PAYBACK_S = 300.0
"""Seconds within which a change of gear must have paid for itself."""

_ROUNDING = 1e-9
_FLAT = 1e-6
"""Milli-shares below which two costs count as equal."""


@compiled
def lasting_costs(
    menu: Floats,
    gears: int,
    times_s: Floats,
    rates: Floats,
    newest: int,
    count: int,
    margin_rps: float,
    lasting_s: float,
    replicas_min: int,
    replicas_max: int,
    costs: Floats,
) -> None:
    """Fill what each gear would have cost over the last ``lasting_s``, in thousandths.

    The mean over the readings; infinite where ``replicas_max`` could not carry one of them; NaN
    without any rate.

    Args:
        menu: ``Menu.rows()``.
        gears: Gears on it.
        times_s: Times of the readings as a ring, seconds.
        rates: Their rates, requests/s, NaN where missing.
        newest: Place of the newest reading.
        count: Readings in the ring.
        margin_rps: Added to every rate.
        lasting_s: How far to look back.
        replicas_min: Fewest replicas.
        replicas_max: Most replicas.
        costs: Receives the costs, shape ``(len(menu),)``; NaN beyond the menu.
    """
    costs[:] = np.nan
    found, row = 0, newest
    oldest_s = times_s[newest] - lasting_s if count > 0 else 0.0
    for _ in range(count):
        if times_s[row] < oldest_s:
            break
        rate = rates[row]
        row = row - 1 if row > 0 else len(times_s) - 1
        if np.isnan(rate):
            continue
        for g in range(gears):
            replicas = np.ceil((rate + margin_rps) / menu[g, _SLO] - _ROUNDING)
            fits = replicas <= replicas_max
            billed = max(replicas, replicas_min) * menu[g, _COST] if fits else np.inf
            costs[g] = billed if found == 0 else costs[g] + billed
        found += 1
    for g in range(gears):
        costs[g] /= max(found, 1)


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
    costs: Floats,
    need_rps: float,
    held_rps: float,
    cold_start_s: float,
    payback_s: float,
) -> int:
    """Return the gear that carries the service at the least cost, changes included.

    Args:
        menu: ``Menu.rows()``.
        gears: Gears on it.
        running: Gear that runs.
        current: Replicas the service was last told to run.
        costs: :func:`lasting_costs` of the gears.
        need_rps: What must be carried now; NaN keeps the gear.
        held_rps: The largest need over the time it is held on the way down.
        cold_start_s: Time to a ready pod.
        payback_s: Time within which a change must have paid for itself; 0 keeps the gear.
    """
    if gears <= 1 or np.isnan(need_rps) or payback_s <= 0.0:
        return running
    best, best_cost, best_slo = running, np.inf, 0.0
    for g in range(gears):
        gear, cost = menu[g], costs[g]
        if g != running and cost < np.inf:
            pods = replicas_in(gear, menu[running], current, need_rps, held_rps)
            cost += change_price(gear, menu[running], pods, cold_start_s, payback_s)
        if cost < best_cost - _FLAT or (abs(cost - best_cost) <= _FLAT and gear[_SLO] > best_slo):
            best, best_cost, best_slo = g, cost, gear[_SLO]
    return best


@inlined
def margin_over(need_rps: float, rate_rps: float) -> float:
    """Return what is needed beyond the newest rate, requests/s, 0 or more; NaN without a need."""
    return max(need_rps - (0.0 if np.isnan(rate_rps) else rate_rps), 0.0)
