"""The outlook is set up as it was, and says what would have come of doing otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from gpupilot_agent.comparison.contenders import contenders
from gpupilot_agent.explanation.moment import Moment
from gpupilot_agent.explanation.outlook import (
    Alternative,
    Outlook,
    as_granted,
    deciding,
    fixed,
    outlook,
)
from gpupilot_agent.explanation.rehearsal import Rehearsal
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.serving.ledger import LATENCY_BUCKETS, Ledger
from gpupilot_envs.signals import Signals


@dataclass
class Clockwork:
    """A world that notes what it is told and when."""

    now_s: float = 0.0
    allocation: Allocation = field(default_factory=lambda: Allocation(replicas=2))
    replicas_ready: int = 2
    told: list[tuple[float, int]] = field(default_factory=list)

    def advance(self, until_s: float) -> None:
        assert until_s >= self.now_s
        self.now_s = until_s

    def read(self, window_s: float) -> Signals:
        return Signals(at_s=self.now_s, window_s=window_s)

    def apply(self, allocation: Allocation) -> None:
        self.allocation = allocation
        self.told.append((self.now_s, allocation.replicas))

    def ledger(self) -> Ledger:
        zero = dict.fromkeys(Ledger.__dataclass_fields__, 0)
        counts = np.zeros(LATENCY_BUCKETS, dtype=np.int64)
        return Ledger(**(zero | {"latency_counts": counts}))  # type: ignore[arg-type]


def test_before_the_moment_the_script_is_played_and_the_policy_not_heard() -> None:
    world = Clockwork()
    script = [(20.0, Allocation(replicas=3)), (40.0, Allocation(replicas=5))]
    rehearsal = Rehearsal(world, script, until_s=60.0)
    for until_s in (15.0, 30.0, 45.0, 60.0):
        rehearsal.advance(until_s)
        rehearsal.apply(Allocation(replicas=9))
    assert world.told == [(20.0, 3), (40.0, 5), (60.0, 9)]
    assert rehearsal.now_s == 60.0


def held(moment: Moment, count: int) -> Alternative:
    return fixed(f"hold {count}", replace(moment.running, replicas=count))


def counts(moment: Moment) -> list[Alternative]:
    return [held(moment, count) for count in (2, 4, 6)]


def looked(moment: Moment, found: list[Alternative], **options: object) -> Outlook:
    return outlook(moment, found, ahead_s=300.0, **({"seeds": 3} | options))  # type: ignore[arg-type]


def test_more_replicas_are_in_time_more_often_and_cost_more(step: Moment) -> None:
    found = looked(step, counts(step))
    two, four, six = found.outcomes
    assert found.future == "recorded"
    for fewer, more in ((two, four), (four, six)):
        assert (fewer.attainment_ratio.mean or 0.0) <= (more.attainment_ratio.mean or 0.0)
        assert (fewer.gpu_hours.mean or 0.0) < (more.gpu_hours.mean or 0.0)
    assert (two.attainment_ratio.mean or 0.0) < 0.5
    assert (four.attainment_ratio.mean or 0.0) > 0.8
    assert four.gain.mean == pytest.approx(
        (four.attainment_ratio.mean or 0.0) - (two.attainment_ratio.mean or 0.0), abs=0.02
    )
    assert two.replicas == 2.0
    assert two.gpu_hours.mean == pytest.approx(2 * 300.0 / 3600.0)


def test_a_replica_already_starting_is_up_sooner(step: Moment) -> None:
    """The state at the moment is the recorded one: a grant before it is under way."""
    four = replace(step.running, replicas=4)
    under_way = replace(step, grants=(*step.grants, (595.0, four)), running=four)
    alone, ahead = (looked(m, [held(m, 4)]).outcomes[0] for m in (step, under_way))
    assert (alone.late.mean or 0.0) > (ahead.late.mean or 0.0)


def test_the_same_question_gets_the_same_answer(step: Moment) -> None:
    assert looked(step, counts(step)) == looked(step, counts(step))


def test_a_policy_takes_over_with_the_history_it_would_have_had(step: Moment) -> None:
    queueing = contenders("queueing", asked=0.95, mean_replicas=2.0, tuned=None, bundles=())[0]
    found = looked(step, [deciding("queueing", queueing, step), held(step, 2)])
    assert found.first.at_s == step.lead_s
    assert found.first.ask.replicas >= 2
    own, hold = found.outcomes
    assert (own.attainment_ratio.mean or 0.0) > (hold.attainment_ratio.mean or 0.0)


def test_what_was_granted_later_is_played_again(step: Moment) -> None:
    grown = replace(step, grants=(*step.grants, (660.0, replace(step.running, replicas=5))))
    found = looked(grown, [as_granted("as granted", grown)])
    assert found.outcomes[0].replicas == pytest.approx((60.0 * 2 + 240.0 * 5) / 300.0, rel=0.05)


def test_at_the_end_of_a_run_the_rates_are_a_forecast(step: Moment) -> None:
    last = replace(step, at_s=step.end_s)
    found = looked(last, counts(step), seeds=5)
    low, middle, high = found.rate_rps
    slo_rps = step.scene.capacity().slo_rps
    assert found.future == "forecast"
    assert found.ahead_s == 300.0
    assert 3.6 * slo_rps <= low <= middle <= high
    assert high > low


def test_asked_to_forget_the_future_it_does(step: Moment) -> None:
    known, guessed = (looked(step, counts(step), forecast=f) for f in (False, True))
    assert (known.future, guessed.future) == ("recorded", "forecast")
    assert guessed.rate_rps[2] < known.rate_rps[1]


def test_it_looks_no_further_than_what_was_recorded(step: Moment) -> None:
    assert looked(replace(step, at_s=step.end_s - 120.0), counts(step)).ahead_s == 120.0


def test_one_run_has_no_interval(step: Moment) -> None:
    assert looked(step, counts(step), seeds=1).outcomes[0].gpu_hours.ci95 is None
