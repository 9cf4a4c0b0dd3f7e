"""The one loop that lets a policy drive a world, and the one path every decision takes.

Baselines, learned policies, bounds, the gate and the operator's tick all decide through
:func:`decide`; simulator, replay and live differ only in the world behind the port.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.policies import Evidence, Policy, View, fresh_history
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.gears import Menu
from gpupilot_envs.guardrail import GuardrailMemory, restrain
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.reasons import Reason
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.serving.ledger import Ledger
from gpupilot_envs.signals import History
from gpupilot_envs.world import World

ROW_S = 15.0
"""Length of one row of a timeline in seconds, the same for every policy whatever its period."""

TIMELINE_COLUMNS: tuple[str, ...] = (
    "t_s",
    "interval_s",
    "requests",
    "late",
    "gpu_seconds",
    "replicas_asked",
    "replicas_granted",
    "replicas_ready",
)
"""Columns of :attr:`Run.timeline`.

``t_s`` end of the row, ``interval_s`` its length, ``requests`` that arrived, ``late`` answers out
of time, rejections, time-outs and failures that became known, ``gpu_seconds`` held; replicas last
asked for by the policy, last granted by the guardrail, and ready, at the end of the row.
"""


class ScoredWorld(World, Protocol):
    """A world that also keeps the truth, as only a simulation can."""

    @property
    def replicas_ready(self) -> int:
        """Pods that answer requests now."""
        ...

    def ledger(self) -> Ledger:
        """Return the cumulative truth since the world began."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one tick asked, what it was granted, and why.

    Attributes:
        at_s: Time of the decision.
        ask: What the policy proposed.
        granted: What the guardrail let through.
        held: Whether the guardrail changed the proposal.
        reasons: The limits that held it, in the order they applied.
        why: The policy's own clause.
        evidence: Of a learned policy: what it decided on.
    """

    at_s: float
    ask: Allocation
    granted: Allocation
    held: bool
    reasons: tuple[Reason, ...]
    why: str
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision and the two memories the next one needs."""

    decision: Decision
    memory: Any
    guard_memory: GuardrailMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One policy on one world, scored after the warm-up.

    Attributes:
        policy: Name of the policy.
        scored: Difference of the ledger between the end of the warm-up and the end.
        scored_s: Length of the scored part in seconds.
        timeline: One array per name in :data:`TIMELINE_COLUMNS`, warm-up included.
        decisions: Every decision, oldest first.
    """

    policy: str
    scored: Ledger
    scored_s: float
    timeline: dict[str, NDArray[np.float64]]
    decisions: tuple[Decision, ...]


def decide(policy: Policy, view: View, memory: Any, guard_memory: GuardrailMemory) -> Decided:
    """Return what ``policy`` may do in this ``view``: propose, then restrain.

    Pure: the same arguments give the same answer, in a simulation, in shadow and live.
    """
    view = replace(view, guard=guard_memory)
    proposal = policy.act(view, memory)
    verdict = restrain(
        proposal.ask,
        view.current,
        view.history,
        view.limits,
        view.now_s,
        guard_memory,
        view.capacity.saturation_rps,
        view.capacity_of(proposal.instead or proposal.ask).saturation_rps,
        instead=proposal.instead,
    )
    decision = Decision(
        at_s=view.now_s,
        ask=proposal.ask,
        granted=verdict.allocation,
        held=verdict.held,
        reasons=verdict.reasons,
        why=proposal.why,
        evidence=proposal.evidence,
    )
    return Decided(decision=decision, memory=proposal.memory, guard_memory=verdict.memory)


def rollout(
    policy: Policy,
    world: ScoredWorld,
    *,
    limits: Limits,
    targets: Targets,
    profile: ServiceProfile,
    capacity: Capacity,
    duration_s: float,
    warm_up_s: float = 0.0,
    menu: Menu | None = None,
) -> Run:
    """Let ``policy`` drive ``world`` for ``duration_s`` and score what follows the warm-up.

    Every policy gets the same: a reading over its window each period, a history as deep as it
    asks for, the same guardrail. The scored part is the same interval for every period because the
    world stops exactly at the end of the warm-up and of every row.

    Args:
        policy: Who proposes.
        world: Where; driven from its current time.
        limits: The envelope of the guardrail.
        targets: The service-level objective.
        profile: What the service costs to run.
        capacity: What one replica carries within the objective.
        menu: Gears the policy may change to; ``None`` leaves it the replicas.
        duration_s: Seconds to drive, warm-up included.
        warm_up_s: Seconds cut from the front of the score, less than ``duration_s``.

    Raises:
        ValueError: ``warm_up_s`` leaves nothing to score.
    """
    if not 0.0 <= warm_up_s < duration_s:
        raise ValueError(f"warm_up_s must lie in [0, {duration_s}), not {warm_up_s}")
    seat = _Seat(policy, limits, targets, profile, capacity, menu)
    recorder = _Recorder(world)
    start_s = world.now_s
    warm = world.ledger()
    for stop_s in _stops(duration_s, warm_up_s, policy.period_s):
        world.advance(start_s + stop_s)
        if stop_s == warm_up_s:
            warm = world.ledger()
        if _on_grid(stop_s, policy.period_s):
            seat.tick(world)
        if _on_grid(stop_s, ROW_S) or stop_s == duration_s:
            recorder.row(world, seat.asked)
    return Run(
        policy=policy.name,
        scored=world.ledger() - warm,
        scored_s=duration_s - warm_up_s,
        timeline=recorder.timeline(),
        decisions=tuple(seat.decisions),
    )


def _stops(duration_s: float, warm_up_s: float, period_s: float) -> NDArray[np.float64]:
    """Return the ascending times at which something happens, ``duration_s`` last."""
    ticks = np.arange(1, int(duration_s / period_s) + 1) * period_s
    rows = np.arange(1, int(duration_s / ROW_S) + 1) * ROW_S
    stops = np.unique(np.concatenate([ticks, rows, [warm_up_s, duration_s]]))
    return np.asarray(stops[(stops > 0.0) & (stops <= duration_s)], dtype=np.float64)


def _on_grid(at_s: float, step_s: float) -> bool:
    """Whether ``at_s`` is exactly a product of ``step_s`` as :func:`_stops` forms it."""
    return bool(round(at_s / step_s) * step_s == at_s)


@dataclass(slots=True)
class _Seat:
    """A policy at the controls: the state that passes from one decision to the next."""

    policy: Policy
    limits: Limits
    targets: Targets
    profile: ServiceProfile
    capacity: Capacity
    menu: Menu | None
    history: History = field(init=False)
    memory: Any = None
    guard_memory: GuardrailMemory = field(default_factory=GuardrailMemory)
    decisions: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.history = fresh_history(self.policy)

    @property
    def asked(self) -> Allocation | None:
        return self.decisions[-1].ask if self.decisions else None

    def tick(self, world: World) -> None:
        """Read, decide, and apply where the decision differs from what runs."""
        self.history = self.history.push(world.read(self.policy.window_s))
        view = View(
            now_s=world.now_s,
            history=self.history,
            current=world.allocation,
            limits=self.limits,
            targets=self.targets,
            profile=self.profile,
            capacity=self._able(world),
            menu=self.menu,
        )
        decided = decide(self.policy, view, self.memory, self.guard_memory)
        self.memory, self.guard_memory = decided.memory, decided.guard_memory
        self.decisions.append(decided.decision)
        if decided.decision.granted != world.allocation:
            world.apply(decided.decision.granted)

    def _able(self, world: World) -> Capacity:
        """Return what one replica carries as it runs now."""
        running = None if self.menu is None else self.menu.index_of(world.allocation)
        if self.menu is None or running is None:
            return self.capacity
        return self.menu.gears[running].capacity


class _Recorder:
    """Collects the timeline row by row from differences of the ledger."""

    def __init__(self, world: ScoredWorld) -> None:
        self._rows: list[tuple[float, ...]] = []
        self._seen = world.ledger()
        self._at_s = world.now_s

    def row(self, world: ScoredWorld, asked: Allocation | None) -> None:
        ledger = world.ledger()
        fresh = ledger - self._seen
        granted = world.allocation.replicas
        self._rows.append(
            (
                world.now_s,
                world.now_s - self._at_s,
                float(fresh.requests),
                float(late(fresh)),
                fresh.gpu_seconds,
                float(granted if asked is None else asked.replicas),
                float(granted),
                float(world.replicas_ready),
            )
        )
        self._seen, self._at_s = ledger, world.now_s

    def timeline(self) -> dict[str, NDArray[np.float64]]:
        columns = np.array(self._rows, dtype=np.float64).T
        return dict(zip(TIMELINE_COLUMNS, columns, strict=True))


def late(ledger: Ledger) -> int:
    """Return requests known to have missed the target: late, rejected, timed out or failed."""
    missed = ledger.rejected + ledger.timed_out + ledger.failed
    return ledger.answered - ledger.in_time + missed
