"""The recorder changes nothing about the world and misses nothing of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from gpupilot_agent.recorder import Recorder
from gpupilot_agent.rollout import Decision
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.reasons import Reason
from gpupilot_envs.serving.ledger import LATENCY_BUCKETS, Ledger
from gpupilot_envs.signals import Signals


@dataclass
class Clockwork:
    """A world that only tells the time; its rate is the second it is read at."""

    now_s: float = 0.0
    allocation: Allocation = field(default_factory=lambda: Allocation(replicas=2))
    replicas_ready: int = 2
    stops: list[float] = field(default_factory=list)

    def advance(self, until_s: float) -> None:
        assert until_s >= self.now_s
        self.now_s = until_s
        self.stops.append(until_s)

    def read(self, window_s: float) -> Signals:
        return Signals(at_s=self.now_s, window_s=window_s, rate_rps=self.now_s)

    def apply(self, allocation: Allocation) -> None:
        self.allocation = allocation

    def ledger(self) -> Ledger:
        zero = dict.fromkeys(Ledger.__dataclass_fields__, 0)
        counts = np.zeros(LATENCY_BUCKETS, dtype=np.int64)
        return Ledger(**(zero | {"latency_counts": counts}))  # type: ignore[arg-type]


def decision(at_s: float) -> Decision:
    ask = Allocation(replicas=3)
    reasons = (Reason.DESIRED_WITHIN_RANGE,)
    return Decision(at_s=at_s, ask=ask, granted=ask, held=False, reasons=reasons, why="")


def test_rows_lie_on_the_grid_however_the_world_is_driven() -> None:
    recorder = Recorder(Clockwork(), every_s=10.0)
    for until_s in (3.0, 10.0, 31.0, 40.0):
        recorder.advance(until_s)
    rows = recorder.recording("shop").readings
    assert [(row.at_s, row.window_s) for row in rows] == [(at, 10.0) for at in (10, 20, 30, 40)]


def test_the_world_arrives_where_it_was_sent() -> None:
    world = Clockwork()
    recorder = Recorder(world, every_s=10.0)
    recorder.advance(25.0)
    assert world.now_s == recorder.now_s == 25.0
    assert world.stops == [10.0, 20.0, 25.0]


def test_each_row_carries_what_ran_then() -> None:
    recorder = Recorder(Clockwork(), every_s=10.0)
    recorder.advance(10.0)
    recorder.apply(replace(recorder.allocation, replicas=5))
    recorder.advance(20.0)
    assert [shape.replicas for shape in recorder.recording("shop").allocations] == [2, 5]


def test_a_decision_is_kept_with_what_its_policy_saw_not_with_the_grid() -> None:
    recorder = Recorder(Clockwork(), every_s=10.0)
    recorder.advance(15.0)
    recorder.read(60.0)
    recorder.apply(Allocation(replicas=3))
    (entry,) = recorder.log("shop", "hpa", (decision(15.0),)).entries
    assert (entry.seen.at_s, entry.seen.window_s) == (15.0, 60.0)
    assert entry.running.replicas == 2


def test_progress_is_told_row_by_row() -> None:
    told: list[float] = []
    Recorder(Clockwork(), every_s=10.0, on_progress=told.append).advance(35.0)
    assert told == [10.0, 20.0, 30.0]


def test_nothing_recorded_is_an_empty_recording() -> None:
    recorder = Recorder(Clockwork(), every_s=10.0)
    assert recorder.recording("shop").readings == ()
    assert recorder.log("shop", "hpa", ()).entries == ()


@pytest.mark.parametrize("every_s", [0.1, 1.0, 15.0])
def test_no_row_is_lost_to_rounding(every_s: float) -> None:
    recorder = Recorder(Clockwork(), every_s=every_s)
    for step in range(1, 101):
        recorder.advance(step * every_s)
    assert len(recorder.recording("shop").readings) == 100
