"""The control loop over plain data, run for a while, for tests of what comes of it."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from gpupilot_envs.allocation import Allocation
from gpupilot_operator.control import tick
from gpupilot_operator.facts import Facts
from gpupilot_operator.memory import State
from gpupilot_operator.plan import Plan
from gpupilot_operator.report import TickReport

START_S = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()
ENOUGH = 700.0
"""Requests/s that two pods of the test's profile cannot carry, and eight can."""


def settled(town: Any, state: State) -> None:
    """Have everything measured that the services need."""
    for seen in town.services():
        state.sizes.of(seen)
        state.sizes.wait()
        state.sizes.of(seen)
    state.sizes.wait()


def run(town: Any, state: State, seconds: float, since_s: float = START_S) -> list[TickReport]:
    """Tick every five seconds."""
    settled(town, state)
    return [tick(town.ports, state, since_s + 5.0 * n) for n in range(int(seconds // 5))]


def only(report: TickReport) -> Facts:
    """Return what was found out of the one service there is."""
    (service,) = report.services
    return service.facts


def after(running: Allocation, plan: Plan) -> Allocation:
    """Return what runs after a plan was carried out."""
    changes: dict[str, int] = {}
    if plan.replicas is not None:
        changes["replicas"] = plan.replicas
    if plan.share_milli is not None:
        changes["gpu_share_milli"] = plan.share_milli
    if plan.resize is not None:
        changes |= asdict(plan.resize)
    if plan.batching is not None:
        said = asdict(plan.batching)
        changes |= {"instances_per_replica": said.pop("instances"), **said}
    return replace(running, **changes)
