"""The one loop: who is asked when, what is applied, and what is scored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from gpupilot_agent.policies import Proposal, View
from gpupilot_agent.rollout import ROW_S, Run, decide, late, rollout
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.guardrail import GuardrailMemory
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.reasons import Reason
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.serving.ledger import LATENCY_BUCKETS, Ledger
from gpupilot_envs.signals import History, Signals

CAPACITY = Capacity(slo_rps=10.0, saturation_rps=12.0, idle_latency_s=0.02)


@dataclass
class CountingWorld:
    """Ten requests a second, one in ten late, one GPU a replica; notes what it is told."""

    now_s: float = 0.0
    allocation: Allocation = field(default_factory=lambda: Allocation(replicas=2))
    applied: list[Allocation] = field(default_factory=list)
    gpu_seconds: float = 0.0
    silent: bool = False

    @property
    def replicas_ready(self) -> int:
        return self.allocation.replicas

    def advance(self, until_s: float) -> None:
        assert until_s >= self.now_s
        self.gpu_seconds += (until_s - self.now_s) * self.allocation.replicas
        self.now_s = until_s

    def read(self, window_s: float) -> Signals:
        known = Signals(
            at_s=self.now_s, window_s=window_s, age_s=0.0, rate_rps=10.0, replicas_ready=2
        )
        return Signals(at_s=self.now_s, window_s=window_s) if self.silent else known

    def apply(self, allocation: Allocation) -> None:
        self.applied.append(allocation)
        self.allocation = allocation

    def ledger(self) -> Ledger:
        requests = round(10.0 * self.now_s)
        zero = dict.fromkeys(Ledger.__dataclass_fields__, 0)
        known = {
            "at_s": self.now_s,
            "requests": requests,
            "answered": requests,
            "in_time": round(9.0 * self.now_s),
            "gpu_seconds": self.gpu_seconds,
            "latency_counts": np.zeros(LATENCY_BUCKETS, dtype=np.int64),
        }
        return Ledger(**{**zero, **known})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Scripted:
    """Asks for the entries of a list one after the other, then for the last."""

    replicas: tuple[int, ...]
    period_s: float = 15.0
    window_s: float = 30.0
    name: str = "scripted"

    def act(self, view: View, memory: Any) -> Proposal:
        step = 0 if memory is None else memory
        wanted = self.replicas[min(step, len(self.replicas) - 1)]
        return Proposal(
            ask=replace(view.current, replicas=wanted), why=f"step {step}", memory=step + 1
        )


def drive(policy: Scripted, world: CountingWorld, *, warm_up_s: float = 0.0) -> Run:
    return rollout(
        policy,
        world,
        limits=Limits(replicas_max=6, warm_up_s=0.0),
        targets=Targets(latency_s=0.1),
        profile=ServiceProfile(name="any", batch_latency_ms=((1.0, 10.0),)),
        capacity=CAPACITY,
        duration_s=120.0,
        warm_up_s=warm_up_s,
    )


def test_policy_is_asked_once_a_period_and_only_changes_are_applied() -> None:
    world = CountingWorld()
    run = drive(Scripted((2, 3, 3, 5)), world)
    assert [decision.at_s for decision in run.decisions] == [15.0 * k for k in range(1, 9)]
    assert [allocation.replicas for allocation in world.applied] == [3, 5]
    assert [d.why for d in run.decisions[:3]] == ["step 0", "step 1", "step 2"]


@pytest.mark.parametrize("period_s", [2.0, 7.0, 15.0, 60.0])
def test_every_period_is_scored_over_the_same_seconds(period_s: float) -> None:
    run = drive(Scripted((2,), period_s=period_s), CountingWorld(), warm_up_s=40.0)
    assert run.scored_s == 80.0
    assert run.scored.at_s == 80.0
    assert run.scored.requests == 800
    assert run.scored.gpu_seconds == 160.0


@pytest.mark.parametrize("period_s", [2.0, 7.0, 15.0])
def test_timeline_has_the_same_rows_for_every_period_and_adds_up(period_s: float) -> None:
    world = CountingWorld()
    run = drive(Scripted((2, 4), period_s=period_s), world)
    assert run.timeline["t_s"].tolist() == [ROW_S * k for k in range(1, 9)]
    assert run.timeline["requests"].sum() == 1200
    assert run.timeline["late"].sum() == 120
    assert run.timeline["gpu_seconds"].sum() == pytest.approx(world.gpu_seconds)
    assert run.timeline["replicas_granted"][-1] == 4


def test_guardrail_stands_between_ask_and_world() -> None:
    world = CountingWorld()
    run = drive(Scripted((40,)), world)
    first = run.decisions[0]
    assert (first.ask.replicas, first.granted.replicas, first.held) == (40, 6, True)
    assert Reason.TOO_MANY_REPLICAS in first.reasons
    assert world.allocation.replicas == 6


def test_missing_signals_hold_what_runs() -> None:
    world = CountingWorld(silent=True)
    run = drive(Scripted((5,)), world)
    assert world.applied == []
    assert all(Reason.SIGNALS_MISSING in decision.reasons for decision in run.decisions)


def test_decide_is_pure() -> None:
    reading = Signals(at_s=15.0, window_s=30.0, age_s=0.0, rate_rps=10.0)
    view = View(
        now_s=15.0,
        history=History().push(reading),
        current=Allocation(replicas=2),
        limits=Limits(),
        targets=Targets(latency_s=0.1),
        profile=ServiceProfile(name="any", batch_latency_ms=((1.0, 10.0),)),
        capacity=CAPACITY,
    )
    memory = GuardrailMemory()
    first = decide(Scripted((4,)), view, None, memory)
    again = decide(Scripted((4,)), view, None, memory)
    assert first == again
    assert memory == GuardrailMemory()
    assert first.decision.granted.replicas == 4


def test_late_counts_every_kind_of_miss() -> None:
    ledger = replace(
        CountingWorld(now_s=10.0).ledger(), answered=90, in_time=80, rejected=3, timed_out=2,
        failed=5,
    )  # fmt: skip
    assert late(ledger) == 20


def test_warm_up_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="warm_up_s"):
        drive(Scripted((2,)), CountingWorld(), warm_up_s=120.0)
