"""When a service is looked at again."""

from __future__ import annotations

import pytest

from gpupilot_operator.loops import Ticker
from gpupilot_operator.pacing import FIRST_S, MOST_S, Pacing


def test_what_is_wanted_is_due_once() -> None:
    pacing = Pacing[str]()
    pacing.want(["a", "b", "a"])
    assert sorted(pacing.due(0.0)) == ["a", "b"]
    assert pacing.due(0.0) == []


def test_what_is_too_much_for_one_look_is_due_at_the_next() -> None:
    pacing = Pacing[int]()
    pacing.want(range(25))
    looks = [pacing.due(0.0, 10) for _ in range(4)]
    assert [len(each) for each in looks] == [10, 10, 5, 0]
    assert sorted(key for look in looks for key in look) == list(range(25))


def test_what_does_not_settle_waits_longer_and_longer_and_is_never_forgotten() -> None:
    pacing, now_s, waits = Pacing[str](), 0.0, []
    for _ in range(10):
        pacing.unsettled("a", now_s)
        begun_s = now_s
        while not pacing.due(now_s):
            now_s += 0.1
        waits.append(now_s - begun_s)
    assert waits[0] == pytest.approx(FIRST_S, abs=0.11)
    assert waits[3] == pytest.approx(8 * FIRST_S, abs=0.11)
    assert waits[-1] == pytest.approx(MOST_S, abs=0.11)


def test_what_settled_is_forgiven() -> None:
    pacing = Pacing[str]()
    for _ in range(8):
        pacing.unsettled("a", 0.0)
    pacing.settled("a")
    pacing.want(["a"])
    assert pacing.due(0.0) == ["a"]


def test_an_event_does_not_shorten_the_wait_of_what_fails() -> None:
    pacing = Pacing[str]()
    for _ in range(8):
        pacing.unsettled("a", 0.0)
    pacing.want(["a"])
    assert pacing.due(1.0) == []


class Beats:
    """What a ticker did, and whether it may."""

    def __init__(self) -> None:
        self.leads = False
        self.now_s = 0.0
        self.ticks: list[float] = []
        self.changes: list[bool] = []
        self.ticker = Ticker(
            lambda: self.leads,
            15.0,
            tick=lambda: self.ticks.append(self.now_s),
            changed=self.changes.append,
        )

    def until(self, end_s: float) -> None:
        while self.now_s < end_s:
            self.now_s += 0.25
            self.ticker.look(self.now_s)


def test_a_follower_decides_nothing() -> None:
    beats = Beats()
    beats.until(60.0)
    assert (beats.ticks, beats.changes) == ([], [])


def test_a_leader_decides_at_once_and_then_at_its_pace() -> None:
    beats = Beats()
    beats.until(7.0)
    beats.leads = True
    beats.until(45.0)
    assert beats.ticks == [7.25, 22.25, 37.25]
    beats.leads = False
    beats.until(60.0)
    beats.leads = True
    beats.until(61.0)
    assert beats.changes == [True, False, True]
    assert beats.ticks[3:] == [60.25]


def test_a_tick_that_took_too_long_is_not_made_up_for() -> None:
    beats = Beats()
    beats.leads = True
    beats.until(1.0)
    beats.now_s = 50.0
    beats.until(61.0)
    assert beats.ticks == [0.25, 50.25, 60.25]
