"""The queueing controller with all actuators: forecast, margin and backlog, then gear and replicas.

What must be carried is found as :mod:`.queueing_model` finds it; the planner of
:mod:`gpupilot_envs.gear_plan` then chooses the GPU share or CPU limit, instances and batching that
would have carried the last minutes at the least cost, a change's own cost included. On a service
without a menu it is the queueing controller, to the last digit. Defaults are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gpupilot_agent.baselines.queueing_model import QueueingModel, read_rows
from gpupilot_agent.gearing import gear_clause, in_gear
from gpupilot_agent.policies import Proposal, View
from gpupilot_envs.gear_plan import LASTING_S, PAYBACK_S


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
    period_s: float = 5.0
    window_s: float = 5.0
    lasting_s: float = LASTING_S
    payback_s: float = PAYBACK_S

    def act(self, view: View, memory: Any) -> Proposal:
        """Ask for the cheapest gear, and in it for what the queueing controller would."""
        plain = QueueingModel.act(self, view, memory)
        rows = read_rows(view.history)
        need, _, _, _ = self.needs(view, rows)
        ask = in_gear(
            view,
            rows,
            need,
            plain.ask.replicas,
            lasting_s=self.lasting_s,
            payback_s=self.payback_s,
        )
        return replace(plain, ask=ask, why=plain.why + gear_clause(view, ask))
