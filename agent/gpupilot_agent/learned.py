"""The learned policy at the controls: a bundle behind the :class:`Policy` port, without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.bundle import Answer, Bundle
from gpupilot_agent.gearing import allocated, gear_clause
from gpupilot_agent.policies import Evidence, Proposal, View
from gpupilot_envs.actions import (
    AXES,
    CHOICES,
    NEUTRAL,
    decode,
    knobs_row,
    patience,
    remember,
)
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.deciding import observe_one
from gpupilot_envs.doubt import doubt
from gpupilot_envs.following import HISTORY_ROWS, PERIOD_S, follow, fresh_rows
from gpupilot_envs.gear_sight import ask_for_gear
from gpupilot_envs.gears import GEAR_FIELDS, GEARS_MAX
from gpupilot_envs.guardrail import limits_row
from gpupilot_envs.observation import ADVICE_FIELDS, FIELDS, GEAR_SEEN
from gpupilot_envs.queueing import Knobs
from gpupilot_envs.service_row import service_row

Floats = NDArray[np.float64]

_CLASSICAL = np.array(NEUTRAL, dtype=np.int64)
_NEED = ADVICE_FIELDS.index("need")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedMemory:
    """What the policy carries from one decision to the next; copied, never written.

    Attributes:
        ring: Readings of the last quarter of an hour, see :mod:`gpupilot_envs.following`.
        ordered: Forecast errors in the ring, ascending.
        known: Plain numbers: level, trend, peaks, budget and the like.
        before: Previous action in -1..1, one per axis.
        doubts: Decisions left to the classical controller, see :mod:`gpupilot_envs.doubt`.
    """

    ring: Floats
    ordered: Floats
    known: Floats
    before: Floats
    doubts: int = 0

    @classmethod
    def fresh(cls) -> LearnedMemory:
        """Return the memory of a service of which nothing is known."""
        ring, ordered, known = fresh_rows(1)
        return cls(ring=ring[0], ordered=ordered[0], known=known[0], before=np.zeros(len(AXES)))

    def copied(self) -> LearnedMemory:
        """Return a memory that may be written."""
        return LearnedMemory(
            ring=self.ring.copy(),
            ordered=self.ordered.copy(),
            known=self.known.copy(),
            before=self.before.copy(),
            doubts=self.doubts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The gears of a service as the kernels read them.

    Attributes:
        rows: ``Menu.rows()``; NaN without a menu.
        count: Gears on it; 1 without a menu, or in a setting that is not on it.
        running: Gear that runs, 0 there.
    """

    rows: Floats
    count: int
    running: int

    @classmethod
    def of(cls, view: View) -> Choice:
        """Return what a view offers."""
        if view.menu is None or view.gear is None:
            return cls(rows=_NO_GEARS, count=1, running=0)
        return cls(rows=view.menu.rows(), count=len(view.menu), running=view.gear)


_NO_GEARS = np.full((GEARS_MAX, len(GEAR_FIELDS)), np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the policy makes of one view before its network speaks.

    Attributes:
        observation: See :data:`gpupilot_envs.observation.FIELDS`, float32.
        mask: Which values of the action can be chosen, bool, shape ``(CHOICES,)``.
        advice: What the classical controller makes of it.
        knobs: The classical controller as it applies to this service.
        memory: With the newest reading taken in.
        gears: What there is to choose among.
        costs: What each gear would have cost, see :mod:`gpupilot_envs.gear_sight`.
    """

    observation: NDArray[np.float32]
    mask: NDArray[np.bool_]
    advice: Floats
    knobs: Floats
    memory: LearnedMemory
    gears: Choice
    costs: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedPolicy:
    """Moves margin, hold, rounding and memory of the queueing controller as its network says.

    Attributes:
        bundle: The trained network and the controller it moves.
        price_scale: Factor on the price of a late request that the bundle found for the
            objective: the one knob that trades cost for attainment; 1 as trained.
        name: Short name as it stands in tables.
    """

    bundle: Bundle
    price_scale: float = 1.0
    name: str = "ppo"

    @property
    def period_s(self) -> float:
        """Seconds between decisions: the interval the network was trained with."""
        return PERIOD_S

    @property
    def window_s(self) -> float:
        """Length of the metric window: one decision interval."""
        return PERIOD_S

    @property
    def history_rows(self) -> int:
        """Readings it wants to see again after a restart."""
        return HISTORY_ROWS

    def act(self, view: View, memory: Any) -> Proposal:
        """Return the network's most likely action as an allocation to ask for."""
        if not view.history.readings:
            return Proposal(ask=view.current, why="no reading yet", memory=memory)
        seen = self.see(view, memory)
        answer = self.bundle.answer(seen.observation[None, :], seen.mask[None, :])
        doubts = doubt(seen.memory.doubts, bool(answer.strange[0]))
        action = answer.actions[0]
        taken = action if doubts == 0 else _CLASSICAL
        asked = _decoded(action, view, seen)
        memory = replace(seen.memory.copied(), doubts=doubts)
        remember(taken, memory.before)
        return Proposal(
            ask=asked,
            why=(moved(action) if doubts == 0 else self._strange(seen, answer))
            + gear_clause(view, asked),
            memory=memory,
            evidence=Evidence(
                observation=tuple(seen.observation.tolist()),
                # minus infinity where a value cannot be chosen
                logits=tuple(np.where(seen.mask, answer.logits[0], -np.inf).tolist()),
                action=tuple(action.tolist()),
                price=self.price(view),
            ),
            instead=None if doubts == 0 else _decoded(_CLASSICAL, view, seen),
        )

    def _strange(self, seen: Seen, answer: Answer) -> str:
        """Return why the classical controller decides."""
        familiar = self.bundle.familiar
        if familiar is None or not answer.strange[0]:
            return "classical controller, until a minute after what it was not trained on"
        found = familiar.why(seen.observation, float(answer.spreads[0]))
        return f"classical controller, because {found}"

    def see(self, view: View, memory: Any) -> Seen:
        """Return the observation of a view with at least one reading; changes nothing."""
        price = self.price(view)
        knobs = knobs_row(knobs_of(self.bundle, view, price))
        carried = _carried(memory, view, knobs)
        service = service_row(
            view.profile,
            view.capacity,
            view.targets,
            view.limits,
            view.current.gpu_share_milli,
            price,
        )
        gears, costs = Choice.of(view), np.empty(GEARS_MAX)
        advice, mask = np.empty(len(ADVICE_FIELDS)), np.empty(CHOICES, dtype=np.bool_)
        observation = np.empty(len(FIELDS), dtype=np.float32)
        observe_one(
            view.history.readings[-1].row(),
            carried.ring,
            carried.ordered,
            carried.known,
            service,
            knobs,
            view.current.replicas,
            carried.before,
            gears.rows,
            gears.count,
            gears.running,
            limits_row(view.limits),
            view.guard.actuators(),
            advice,
            costs,
            mask,
            np.empty(len(GEAR_SEEN)),
            observation,
        )
        return Seen(
            observation=observation,
            mask=mask,
            advice=advice,
            knobs=knobs,
            memory=carried,
            gears=gears,
            costs=costs,
        )

    def price(self, view: View) -> float:
        """Return the price of a late request at the service's objective."""
        return self.price_scale * self.bundle.price(view.targets.attainment_ratio)


def _decoded(action: NDArray[np.int64], view: View, seen: Seen) -> Allocation:
    """Return what an action asks for."""
    known = seen.memory
    replicas = decode(
        action,
        known.ring,
        known.ordered,
        known.known,
        view.capacity.slo_rps,
        seen.knobs,
        view.current.replicas,
    )
    gears = seen.gears
    gear, replicas = ask_for_gear(
        gears.rows,
        gears.count,
        gears.running,
        view.current.replicas,
        seen.costs,
        seen.advice[_NEED],
        int(replicas),
        view.profile.cold_start_s.mean,
        patience(action),
    )
    if view.menu is None or gear == gears.running:
        return replace(view.current, replicas=int(replicas))
    return allocated(view, view.menu, gear, int(replicas))


def knobs_of(bundle: Bundle, view: View, price: float) -> Knobs:
    """Return the classical controller of the bundle as it applies to this service."""
    return bundle.controller.knobs(view.profile.cold_start_s.mean, price)


def _carried(memory: Any, view: View, knobs: Floats) -> LearnedMemory:
    """Return a memory to write that knows all readings but the newest."""
    if isinstance(memory, LearnedMemory):
        return memory.copied()
    carried = LearnedMemory.fresh()
    _, _, horizon_s, alpha, beta, drain_s, *_ = knobs.tolist()
    for reading in view.history.readings[:-1]:
        follow(
            reading.row(),
            alpha,
            beta,
            horizon_s,
            drain_s,
            carried.ring,
            carried.ordered,
            carried.known,
        )
    return carried


def moved(action: NDArray[np.int64]) -> str:
    """Return in a clause what an action makes of the classical controller."""
    moves = [
        f"{axis.name} {axis.values[index]:+g}"
        for axis, index in zip(AXES, action.tolist(), strict=True)
        if index != axis.neutral
    ]
    return "classical controller, " + (", ".join(moves) if moves else "unchanged")
