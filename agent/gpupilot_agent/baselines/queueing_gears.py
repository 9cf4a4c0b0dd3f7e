"""The queueing controller with all actuators: forecast, margin and backlog, then gear and replicas.

What must be carried is found as :mod:`.queueing_model` finds it, in requests per second; the
planner of :mod:`gpupilot_envs.gear_plan` then chooses the GPU share or CPU limit, instances and
batching that would have carried the last minutes at the least cost, a change's own cost included,
and the replicas in that gear. On a service without a menu it is the queueing controller, to the
last digit. Defaults are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isnan
from typing import Any

from gpupilot_agent.baselines.queueing_model import QueueingModel, read_rows
from gpupilot_agent.policies import Proposal, View
from gpupilot_envs.gear_plan import plan_gear, replicas_in


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueingGears(QueueingModel):
    """Gear and replicas from a rate forecast.

    Attributes:
        lasting_s: Seconds of readings over which the cost of every gear is compared.
        payback_s: Seconds within which a change of gear must have paid for itself.
    """

    name: str = "queueing-gears"
    beta: float = 0.2
    conformal: bool = True
    lasting_s: float = 900.0
    payback_s: float = 900.0

    def act(self, view: View, memory: Any) -> Proposal:
        """Ask for the cheapest gear, and in it for what the queueing controller would."""
        menu, running = view.menu, view.gear
        if menu is None or running is None or len(menu) == 1:
            return QueueingModel.act(self, view, memory)
        rows = read_rows(view.history)
        need, held, forecast_rps, margin = self.needs(view, rows)
        able_rps, table = view.capacity.slo_rps, menu.rows()
        gear = plan_gear(
            table,
            len(menu),
            running,
            view.current.replicas,
            rows,
            0,
            len(rows),
            need * able_rps,
            held * able_rps,
            view.profile.cold_start_s.mean,
            self.lasting_s,
            self.payback_s,
            view.limits.replicas_min,
            view.limits.replicas_max,
        )
        replicas = replicas_in(
            table[gear], table[running], view.current.replicas, need * able_rps, held * able_rps
        )
        ask = replace(menu.gears[gear].allocated(replicas), memory_bytes=view.current.memory_bytes)
        if isnan(need):
            return Proposal(ask=ask, why="no rate yet")
        why = f"gear {gear + 1} of {len(menu)} for {forecast_rps:.6g} + {margin:.3g} rps"
        return Proposal(ask=ask, why=why)
