"""The learned policy at the controls: a bundle behind the :class:`Policy` port, without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.policies import Evidence, Proposal, View
from gpupilot_envs.actions import AXES, advise, decode, knobs_row, remember
from gpupilot_envs.observation import (
    BUDGET_FIELDS,
    FIELDS,
    HISTORY_ROWS,
    PERIOD_S,
    account,
    encode,
    service_row,
)
from gpupilot_envs.queueing import Knobs


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedMemory:
    """What the policy carries from one decision to the next.

    Attributes:
        budget: Decaying counts of requests and late requests, shape ``(2,)``.
        before: Previous action in -1..1, shape ``(3,)``.
    """

    budget: NDArray[np.float64]
    before: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedPolicy:
    """Moves the margin, hold and rounding of the queueing controller as its network says.

    Attributes:
        bundle: The trained network and the controller it moves.
        margin: Added to the controller's margin ``z`` in standard deviations: the one knob that
            trades cost for attainment, so that a frontier can be drawn; 0 as trained.
        name: Short name as it stands in tables.
    """

    bundle: Bundle
    margin: float = 0.0
    name: str = "ppo"

    @property
    def period_s(self) -> float:
        """Seconds between decisions: the interval the network was trained with."""
        return PERIOD_S

    @property
    def window_s(self) -> float:
        """Length of the metric window: one decision interval."""
        return PERIOD_S

    def act(self, view: View, memory: Any) -> Proposal:
        """Return the network's most likely action as an allocation to ask for."""
        if not view.history.readings:
            return Proposal(ask=view.current, why="no reading yet", memory=memory)
        rows = view.history.matrix()[-HISTORY_ROWS:]
        carried = _carry(memory, rows)
        knobs = knobs_row(knobs_of(self.bundle, view, self.margin))
        observation = observe(view, rows, knobs, carried)
        action = self.bundle.act(observation[None, :])[0]
        running = view.current.replicas
        replicas = decode(action, rows, 0, len(rows), view.capacity.slo_rps, knobs, running)
        before = np.empty(len(AXES))
        remember(action, before)
        return Proposal(
            ask=replace(view.current, replicas=int(replicas)),
            why=_why(action),
            memory=LearnedMemory(budget=carried.budget, before=before),
            evidence=Evidence(
                observation=tuple(observation.tolist()),
                logits=tuple(self.bundle.logits(observation[None, :])[0].tolist()),
                action=tuple(action.tolist()),
            ),
        )


def knobs_of(bundle: Bundle, view: View, margin: float) -> Knobs:
    """Return the classical controller of the bundle as it applies to this service."""
    base = bundle.controller
    moved = replace(base, z=max(base.z + margin, 0.0))
    return moved.knobs(view.profile.cold_start_s.mean)


def observe(
    view: View, rows: NDArray[np.float64], knobs: NDArray[np.float64], carried: LearnedMemory
) -> NDArray[np.float32]:
    """Return the observation of one service, float32, shape ``(len(FIELDS),)``."""
    count, running = len(rows), view.current.replicas
    service = service_row(
        view.profile, view.capacity, view.targets, view.limits, view.current.gpu_share_milli
    )
    advice, out = np.empty(3), np.empty(len(FIELDS), dtype=np.float32)
    advise(rows, 0, count, service[0], knobs, running, advice)
    encode(
        rows,
        count - 1,
        count,
        service,
        float(running),
        advice,
        carried.budget,
        carried.before,
        out,
    )
    return out


def _carry(memory: Any, rows: NDArray[np.float64]) -> LearnedMemory:
    """Return the memory with the newest reading counted; after a restart, with all of them."""
    if isinstance(memory, LearnedMemory):
        budget, before, fresh = memory.budget.copy(), memory.before, rows[-1:]
    else:
        budget, before, fresh = np.zeros(len(BUDGET_FIELDS)), np.zeros(len(AXES)), rows
    for row in fresh:
        account(row, budget)
    return LearnedMemory(budget=budget, before=before)


def _why(action: NDArray[np.int64]) -> str:
    moves = [
        f"{axis.name} {axis.values[index]:+g}"
        for axis, index in zip(AXES, action.tolist(), strict=True)
        if index != axis.neutral
    ]
    return "classical controller, " + (", ".join(moves) if moves else "unchanged")
