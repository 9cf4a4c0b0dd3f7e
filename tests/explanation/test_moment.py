"""Which moment is meant, what ran then, what was worst, and what traffic was around it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpupilot_agent.explanation.forecast import futures
from gpupilot_agent.explanation.intervals import Intervals
from gpupilot_agent.explanation.moment import Moment
from gpupilot_agent.explanation.when import clock, seconds
from gpupilot_envs.errors import InputInvalid


def intervals(*late: float, start_s: float = 0.0) -> Intervals:
    count = len(late)
    return Intervals(
        ends_s=start_s + 15.0 * np.arange(1.0, count + 1.0, dtype=np.float64),
        length_s=15.0,
        requests=np.full(count, 100.0),
        late=np.array(late),
        gpu_s=np.full(count, 30.0),
    )


@pytest.mark.parametrize(
    ("at", "found"),
    [("45", 45.0), ("1e1", 10.0), ("00:12:30", 750.0), ("12:30", 750.0), ("1:00:00.5", 3600.5)],
)
def test_a_moment_is_seconds_or_a_clock(at: str, found: float) -> None:
    assert seconds(at, intervals(0.0, 0.0)) == found


def test_the_worst_and_the_last_moment() -> None:
    run = intervals(0.0, 3.0, np.nan, 9.0, 1.0)
    assert seconds("worst", run) == 45.0
    assert seconds("last", run) == 75.0


@pytest.mark.parametrize(
    "at", ["", "soon", "nan", "inf", "12:75", "1:2:3:4", "-1:00", "2026-01-31T12:00:00"]
)
def test_anything_else_is_refused_with_what_is_allowed(at: str) -> None:
    with pytest.raises(InputInvalid, match="worst or last"):
        seconds(at, intervals(1.0))


@pytest.mark.parametrize("late", [(0.0, 0.0), (np.nan, np.nan)])
def test_where_nothing_was_late_there_is_no_worst_moment(late: tuple[float, float]) -> None:
    with pytest.raises(InputInvalid, match="no request of this run"):
        seconds("worst", intervals(*late))


@given(st.integers(0, 10**6))
def test_a_clock_is_read_as_it_was_written(at_s: int) -> None:
    run = intervals(0.0)
    assert seconds(clock(float(at_s), run), run) == at_s


def test_on_unix_time_a_clock_counts_from_the_start() -> None:
    run = intervals(0.0, 1.0, start_s=1.7e9)
    assert seconds("00:00:15", run) == 1.7e9 + 15.0
    assert clock(1.7e9 + 15.0, run) == "2023-11-14T22:13:35.000+00:00"
    assert seconds("2023-11-14T23:13:35+01:00", run) == 1.7e9 + 15.0


@given(st.integers(0, 10**9))
def test_a_time_of_the_day_is_read_as_it_was_written(milliseconds: int) -> None:
    run, at_s = intervals(0.0, start_s=1.7e9), 1.7e9 + milliseconds / 1000.0
    assert abs(seconds(clock(at_s, run), run) - at_s) < 0.001


def test_a_stretch_ends_at_a_gap() -> None:
    run = replace(intervals(0.0, 1.0, 2.0, 3.0), ends_s=np.array([15.0, 30.0, 300.0, 315.0]))
    assert run.around(20.0).end_s == 30.0
    assert run.around(290.0).start_s == 285.0
    with pytest.raises(InputInvalid, match="from 0 to 315 s that was recorded"):
        run.around(100.0)


def test_the_truth_counts_what_is_known() -> None:
    share, gpu_hours = intervals(0.0, 10.0, np.nan, 50.0).truth(15.0, 60.0)
    assert share == pytest.approx(1.0 - 60.0 / 200.0)
    assert gpu_hours == pytest.approx(3 * 30.0 / 3600.0)
    assert intervals(np.nan).truth(0.0, 15.0)[0] is None


@given(st.floats(0.0, 500.0), st.integers(1, 60))
def test_requests_are_kept_however_the_bins_fall(step: Moment, from_s: float, bins: int) -> None:
    until_s = min(from_s + 15.0 * bins, step.end_s)
    bins = round((until_s - from_s) / 15.0)
    rates = step.rates(from_s, from_s + 15.0 * bins)
    at_s = np.linspace(from_s, from_s + 15.0 * bins, 20_001)
    own = step.traffic.rps[np.minimum((at_s[:-1] / 15.0).astype(int), 119)]
    assert rates.sum() * 15.0 == pytest.approx(own.mean() * 15.0 * bins, rel=1e-3)


def test_what_ran_is_what_was_granted_before(step: Moment) -> None:
    three = replace(step.running, replicas=3)
    moved = replace(step, grants=(*step.grants, (300.0, three)))
    assert moved.in_force(300.0) == step.running
    assert moved.in_force(300.1) == three
    assert moved.between(0.0, 300.0) == step.grants
    assert moved.between(300.0, 600.0) == ((300.0, three),)


@pytest.mark.parametrize(("at_s", "lead_s"), [(1200.0, 600.0), (130.0, 120.0), (45.0, 45.0)])
def test_as_much_is_rehearsed_as_is_known(step: Moment, at_s: float, lead_s: float) -> None:
    assert replace(step, at_s=at_s).lead_s == lead_s


def test_a_moment_without_a_past_is_refused(step: Moment) -> None:
    with pytest.raises(InputInvalid, match="with a past"):
        _ = replace(step, at_s=0.0).lead_s


def test_futures_are_earlier_changes_from_the_present_rate() -> None:
    past = np.concatenate([np.full(20, 10.0), np.full(20, 30.0)])
    found = futures(past, bin_s=15.0, bins=10, draws=8)
    assert found.shape == (8, 10)
    assert found.min() == 30.0
    assert found.max() == 50.0


def test_without_a_past_the_present_rate_is_held() -> None:
    found = futures(np.array([10.0, 20.0]), bin_s=60.0, bins=5, draws=3)
    assert np.array_equal(found, np.full((3, 5), 20.0))


@given(st.lists(st.floats(0.0, 1e4), min_size=1, max_size=200), st.integers(1, 40))
def test_a_future_is_never_negative(past: list[float], bins: int) -> None:
    found = futures(np.array(past), bin_s=15.0, bins=bins, draws=5)
    assert found.shape == (5, bins)
    assert (found >= 0.0).all()
