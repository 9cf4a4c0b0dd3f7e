"""Intervals against known answers, and the corner cases that break bootstraps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gpupilot_agent.evaluation import (
    Design,
    Estimate,
    Statistic,
    estimate,
    gap_closed,
    interval_of,
    mean,
    mean_difference,
    ratio,
    recovery_s,
    relative_difference,
    steps,
)
from gpupilot_agent.evaluation import Floats as Array


def over(statistic: Statistic, *columns: Array, seed: int = 0) -> Estimate:
    """Return the estimate of columns of shape ``(traces, seeds)``, one window each."""
    traces, seeds = columns[0].shape
    design = Design(windows=(1,) * traces, seeds=seeds)
    return estimate(
        statistic, *(column.reshape(1, -1) for column in columns), design=design, seed=seed
    )


def test_interval_of_a_mean_is_close_to_the_t_interval() -> None:
    values = np.random.default_rng(1).normal(10.0, 2.0, size=(1, 40))
    found = over(mean, values)
    known = stats.t.interval(0.95, 39, loc=values.mean(), scale=stats.sem(values[0]))
    assert found.mean == pytest.approx(values.mean())
    assert found.ci95 == pytest.approx(known, rel=0.02)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """95 % intervals of a mean of 12 normal seeds; the bootstrap is known to cover a bit less."""
    random = np.random.default_rng(2)
    hits = 0
    for trial in range(150):
        interval = over(mean, random.normal(5.0, 1.0, size=(1, 12)), seed=trial).ci95
        assert interval is not None
        hits += interval[0] <= 5.0 <= interval[1]
    assert 0.86 <= hits / 150 <= 0.99


def test_traces_that_differ_widen_the_interval_beyond_pooled_seeds() -> None:
    """Ten seeds of one trace are not ten traces: two levels see that, pooling does not."""
    random = np.random.default_rng(3)
    values = np.array([1.0, 5.0, 9.0, 13.0])[:, None] + random.normal(0.0, 0.1, size=(4, 10))
    clustered = over(mean, values).ci95
    pooled = over(mean, values.reshape(1, -1)).ci95
    assert clustered is not None
    assert pooled is not None
    assert clustered[1] - clustered[0] > 1.5 * (pooled[1] - pooled[0])


def test_one_run_has_no_interval_and_equal_runs_have_a_point() -> None:
    assert over(mean, np.array([[3.0]])) == Estimate(mean=3.0, ci95=None)
    assert over(mean, np.full((1, 5), 3.0)) == Estimate(mean=3.0, ci95=(3.0, 3.0))
    assert over(mean, np.full((3, 5), 3.0)) == Estimate(mean=3.0, ci95=(3.0, 3.0))


def test_missing_runs_do_not_count() -> None:
    values = np.array([[1.0, 3.0, np.nan, 2.0]])
    assert over(mean, values).mean == 2.0
    assert over(mean, np.full((2, 3), np.nan)) == Estimate(mean=None, ci95=None)


def test_ratio_weighs_runs_by_their_size() -> None:
    above, below = np.array([[1.0, 90.0]]), np.array([[10.0, 100.0]])
    assert over(ratio, above, below).mean == pytest.approx(91.0 / 110.0)


def test_paired_difference_of_a_policy_with_itself_is_exactly_zero() -> None:
    values = np.random.default_rng(4).gamma(2.0, size=(3, 6))
    assert over(mean_difference, values, values) == Estimate(mean=0.0, ci95=(0.0, 0.0))
    assert over(relative_difference, values, values) == Estimate(mean=0.0, ci95=(0.0, 0.0))


def test_pairing_removes_what_both_share() -> None:
    """A constant advantage hidden under large common noise is found exactly."""
    noise = np.random.default_rng(5).normal(100.0, 30.0, size=(1, 10))
    found = over(mean_difference, noise - 1.0, noise)
    assert found.mean == pytest.approx(-1.0)
    assert found.ci95 == pytest.approx((-1.0, -1.0))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12), st.integers(0, 5))
def test_interval_lies_within_the_values_and_repeats(values: list[float], seed: int) -> None:
    runs = np.array([values])
    first = over(mean, runs, seed=seed)
    assert first == over(mean, runs, seed=seed)
    assert first.ci95 is not None
    low, high = first.ci95
    assert min(values) - 1e-6 <= low <= high <= max(values) + 1e-6


def test_windows_that_differ_widen_the_interval_beyond_pooled_seeds() -> None:
    """Seeds of one window share its traffic, so ten of them are not ten windows."""
    random = np.random.default_rng(7)
    values = np.array([1.0, 5.0, 9.0, 13.0])[:, None] + random.normal(0.0, 0.1, size=(4, 10))
    column = values.reshape(1, -1)
    clustered = estimate(mean, column, design=Design(windows=(4,), seeds=10)).ci95
    pooled = estimate(mean, column, design=Design(windows=(1,), seeds=40)).ci95
    assert clustered is not None
    assert pooled is not None
    assert clustered[1] - clustered[0] > 1.5 * (pooled[1] - pooled[0])


def test_trainings_are_resampled_whole_beside_the_traffic() -> None:
    """Five trainings that differ by a constant: no amount of traffic makes that certain."""
    trained = np.arange(5.0)[:, None] + np.zeros((5, 200))
    found = estimate(mean, trained, design=Design(windows=(1,) * 100, seeds=2, trainings=5))
    assert found.mean == 2.0
    assert found.ci95 is not None
    low, high = found.ci95
    spread = stats.sem(np.arange(5.0), ddof=0)
    assert (high - low) == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_untrained_policies_pair_with_every_training() -> None:
    """The traffic's noise is common to all: only the trainings' spread is left."""
    noise = np.random.default_rng(8).normal(100.0, 30.0, size=(1, 40))
    advantage = np.array([1.0, 2.0, 3.0])[:, None]
    design = Design(windows=(1,) * 10, seeds=4, trainings=3)
    found = estimate(mean_difference, noise - advantage, noise, design=design)
    assert found.mean == pytest.approx(-2.0)
    assert found.ci95 == pytest.approx((-3.0, -1.0))


def test_interval_needs_most_replicates() -> None:
    assert interval_of(np.array([1.0, 2.0, np.nan, np.nan])) is None
    low, high = interval_of(np.arange(1001.0)) or (0.0, 0.0)
    assert (low, high) == pytest.approx((25.0, 975.0))


def test_gap_closed() -> None:
    assert gap_closed(9.0, 10.0, 5.0) == pytest.approx(0.2)
    assert gap_closed(5.0, 10.0, 5.0) == 1.0
    assert gap_closed(5.0, 5.0, 5.0) is None


def stepped(bad_rows: int, rows: int = 120) -> dict[str, Array]:
    """Return rows of 15 s whose rate doubles at row 40 and whose requests are then late."""
    requests = np.where(np.arange(rows) < 40, 100.0, 200.0)
    late = np.zeros(rows)
    late[40 : 40 + bad_rows] = 50.0
    return {"requests": requests, "late": late, "interval_s": np.full(rows, 15.0)}


def test_recovery_is_the_time_until_the_target_holds_again() -> None:
    assert steps(stepped(0)["requests"], 15.0) == [40]
    assert recovery_s(stepped(0), 0.99) == 0.0
    assert recovery_s(stepped(8), 0.99) == 8 * 15.0


def test_recovery_without_a_step_is_unknown_and_without_an_end_is_the_limit() -> None:
    flat = {"requests": np.full(80, 9.0), "late": np.zeros(80), "interval_s": np.full(80, 15.0)}
    assert recovery_s(flat, 0.99) is None
    assert recovery_s(stepped(80), 0.99) == 900.0
