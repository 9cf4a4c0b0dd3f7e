"""From the replicas a controller wants to a gear and the replicas in it: the same for every policy.

A controller, learned or not, says what must be carried, in replicas of the gear that runs. Which
gear carries it at the least cost is the planner's choice (:mod:`gpupilot_envs.gear_plan`), so that
a policy that was trained on replicas alone can drive a service with every actuator.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.policies import View
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.gear_plan import (
    LASTING_S,
    PAYBACK_S,
    lasting_costs,
    margin_over,
    plan_gear,
    replicas_in,
)
from gpupilot_envs.gears import GEARS_MAX, Menu
from gpupilot_envs.signals import SIGNAL_INDEX

_AT = SIGNAL_INDEX["at_s"]
_RATE = SIGNAL_INDEX["rate_rps"]


def in_gear(
    view: View,
    rows: NDArray[np.float64],
    need: float,
    wanted: int,
    *,
    lasting_s: float = LASTING_S,
    payback_s: float = PAYBACK_S,
) -> Allocation:
    """Return what to ask for: the cheapest gear, and replicas that carry what was wanted.

    In the gear that runs, or without a menu, that is exactly the number wanted.

    Args:
        view: What the policy sees.
        rows: Readings, oldest first, the columns of ``History.matrix()`` up to the rate at least.
        need: Replicas needed now, not rounded; NaN keeps the gear.
        wanted: Replicas the policy wants.
        lasting_s: Seconds of readings over which the cost of every gear is compared.
        payback_s: Seconds within which a change of gear must have paid for itself.
    """
    running = view.gear
    if view.menu is None or running is None:
        return replace(view.current, replicas=wanted)
    able_rps, table = view.capacity.slo_rps, view.menu.rows()
    wanted_rps = wanted * able_rps
    costs = np.full(GEARS_MAX, np.nan)
    if len(rows):
        lasting_costs(
            table,
            len(view.menu),
            rows[:, _AT],
            rows[:, _RATE],
            len(rows) - 1,
            len(rows),
            margin_over(need * able_rps, rows[-1, _RATE]),
            lasting_s,
            view.limits.replicas_min,
            view.limits.replicas_max,
            costs,
        )
    gear = plan_gear(
        table,
        len(view.menu),
        running,
        view.current.replicas,
        costs,
        need * able_rps,
        wanted_rps,
        view.profile.cold_start_s.mean,
        payback_s,
    )
    if gear == running:
        return replace(view.current, replicas=wanted)
    replicas = replicas_in(
        table[gear], table[running], view.current.replicas, wanted_rps, wanted_rps
    )
    return allocated(view, view.menu, gear, int(replicas))


def allocated(view: View, menu: Menu, gear: int, replicas: int) -> Allocation:
    """Return so many replicas in a gear of the menu; memory stays as it is."""
    return replace(menu.gears[gear].allocated(replicas), memory_bytes=view.current.memory_bytes)


def gear_clause(view: View, ask: Allocation) -> str:
    """Return how an ask says which gear it is in; empty without a menu."""
    index = None if view.menu is None else view.menu.index_of(ask)
    if view.menu is None or index is None or len(view.menu) == 1:
        return ""
    return f", gear {index + 1} of {len(view.menu)}"
