"""The port every decider stands behind, learned or not, and the one path a decision takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.gears import Menu
from gpupilot_envs.guardrail import GuardrailMemory
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.signals import History


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything a policy may know when it decides.

    Attributes:
        now_s: Time of the decision.
        history: Readings so far, newest last; one per decision, over the policy's window.
        current: What the service was last told to run with.
        limits: The envelope the answer will be restrained to.
        targets: The service-level objective.
        profile: What the service costs to run.
        capacity: Requests per second one replica carries within the objective as it runs.
        menu: The gears it may run in; ``None`` where only replicas may change.
        guard: What the guardrail remembers, so that nothing is asked for that it would refuse.
    """

    now_s: float
    history: History
    current: Allocation
    limits: Limits
    targets: Targets
    profile: ServiceProfile
    capacity: Capacity
    menu: Menu | None = None
    guard: GuardrailMemory = field(default_factory=GuardrailMemory)

    @property
    def gear(self) -> int | None:
        """Gear that runs, as an index into the menu; ``None`` where it is on none."""
        return None if self.menu is None else self.menu.index_of(self.current)

    def capacity_of(self, allocation: Allocation) -> Capacity:
        """Return what a replica of ``allocation`` carries; as what runs where it is on no menu."""
        index = None if self.menu is None else self.menu.index_of(allocation)
        if self.menu is None or index is None:
            return self.capacity
        return self.menu.gears[index].capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a learned policy decided on and what it preferred: enough to explain it later.

    Plain numbers, so that two logs compare equal and a file holds them as they are.

    Attributes:
        observation: What the network saw, in the order of ``observation.FIELDS``.
        logits: Its answer, the logits of every axis of the action table one after the other;
            minus infinity where a value could not be chosen.
        action: Index taken on every axis.
        price: Of a late request, in GPU time per request; ``None`` where it has none.
    """

    observation: tuple[float, ...]
    logits: tuple[float, ...]
    action: tuple[int, ...]
    price: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a policy asks for, why, and what it must remember.

    Attributes:
        ask: The allocation proposed, before the guardrail.
        why: One clause in the words of the algorithm, for the decision log.
        memory: State the policy wants back at its next decision; never mutated in place.
        evidence: Of a learned policy: what it decided on, for the decision log.
        instead: What the classical controller asks for, where the policy does not know what it
            sees; the guardrail takes it in place of ``ask``.
    """

    ask: Allocation
    why: str
    memory: Any = None
    evidence: Evidence | None = None
    instead: Allocation | None = None


class Policy(Protocol):
    """Proposes an allocation from what was observed: a pure function of view and memory."""

    @property
    def name(self) -> str:
        """Short name as it stands in tables."""
        ...

    @property
    def period_s(self) -> float:
        """Seconds between decisions."""
        ...

    @property
    def window_s(self) -> float:
        """Length of the metric window each reading should cover."""
        ...

    def act(self, view: View, memory: Any) -> Proposal:
        """Return the proposal for this view; ``memory`` is ``None`` at the first decision."""
        ...


def fresh_history(policy: Policy) -> History:
    """Return an empty history as deep as ``policy`` asks for by ``history_rows``, if it does."""
    depth: int = getattr(policy, "history_rows", History().capacity)
    return History(capacity=depth)
