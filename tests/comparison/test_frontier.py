"""The frontier: what dominates what, and what may be read between its points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpupilot_agent.evaluation import Design
from gpupilot_agent.frontier import Frontier, cost_at, pareto


def test_pareto_keeps_what_nothing_beats() -> None:
    attainment = np.array([0.90, 0.99, 0.95, 0.99, 0.999])
    cost = np.array([1.0, 4.0, 5.0, 3.0, 6.0])
    assert pareto(attainment, cost).tolist() == [0, 3, 4]


def test_cost_between_two_settings_is_linear_in_the_logarithm_of_lateness() -> None:
    attainment, cost = np.array([0.9, 0.999]), np.array([2.0, 4.0])
    assert cost_at(attainment, cost, (0.99, 0.9, 0.998999)) == pytest.approx(
        [3.0, 2.0, 4.0], rel=1e-3
    )


@pytest.mark.parametrize("level", [0.5, 0.89, 0.9991, 0.99999])
def test_nothing_is_read_beyond_what_was_measured(level: float) -> None:
    assert np.isnan(cost_at(np.array([0.9, 0.999]), np.array([2.0, 4.0]), (level,))).all()


@settings(deadline=None)  # the first call compiles
@given(
    st.lists(st.tuples(st.floats(0.5, 0.9999), st.floats(0.1, 100.0)), min_size=2, max_size=12),
    st.floats(0.5, 0.9999),
    st.floats(0.5, 0.9999),
)
def test_more_attainment_never_costs_less(
    points: list[tuple[float, float]], a: float, b: float
) -> None:
    attainment, cost = (np.array(column) for column in zip(*points, strict=True))
    low, high = cost_at(attainment, cost, (min(a, b), max(a, b)))
    if np.isfinite(low) and np.isfinite(high):
        assert low <= high + 1e-9
    for value in (low, high):
        assert np.isnan(value) or cost.min() - 1e-9 <= value <= cost.max() + 1e-9


@given(
    st.lists(st.tuples(st.integers(80, 100), st.integers(1, 9)), min_size=1, max_size=9),
    st.integers(80, 99),
)
def test_reading_agrees_with_interpolation_along_the_front(
    points: list[tuple[int, int]], level: int
) -> None:
    attainment, cost = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    attainment /= 100.0
    front = pareto(attainment, cost)
    miss = np.log10(np.maximum(1.0 - attainment[front], 1e-7))[::-1]
    wanted = np.log10(max(1.0 - level / 100.0, 1e-7))
    expected = np.interp(wanted, miss, cost[front][::-1], left=np.nan, right=np.nan)
    assert cost_at(attainment, cost, (level / 100.0,)) == pytest.approx([expected], nan_ok=True)


def test_frontier_cost_has_an_interval_and_pairs_with_itself() -> None:
    random = np.random.default_rng(0)
    requests = np.full((3, 1, 20), 1000.0)
    level = np.array([900.0, 980.0, 999.0])[:, None, None]
    in_time = np.minimum(level + random.normal(0.0, 1.0, size=(1, 1, 20)), 1000.0)
    cost = np.array([2.0, 3.0, 5.0])[:, None, None] + random.normal(0.0, 0.1, size=(1, 1, 20))
    design = Design(windows=(1, 1, 1, 1), seeds=5)
    frontier = Frontier.of(in_time, requests, cost, design)
    found = frontier.estimate(0.99)
    assert found.mean is not None
    assert found.ci95 is not None
    assert 3.0 < found.mean < 5.0
    assert found.ci95[0] < found.mean < found.ci95[1]
    again = Frontier.of(in_time, requests, cost, design)
    assert np.array_equal(frontier.samples(0.99), again.samples(0.99))


def test_levels_may_differ_by_resample_and_are_kept_within_what_was_measured() -> None:
    requests = np.full((2, 1, 4), 100.0)
    in_time = np.stack([np.full((1, 4), 90.0), np.array([[98.0, 99.0, 99.0, 100.0]])])
    cost = np.array([1.0, 2.0])[:, None, None] * np.ones((1, 1, 4))
    frontier = Frontier.of(in_time, requests, cost, Design(windows=(4,), seeds=1))
    best = frontier.attainment[:, 1]
    assert np.allclose(frontier.samples(best), 4 * 2.0)
    beyond = np.full_like(best, 1.0)
    assert np.array_equal(frontier.within(beyond), best)


def test_two_frontiers_meet_at_the_nearest_attainment_that_both_have() -> None:
    def of(*points: tuple[float, float]) -> Frontier:
        attainment, cost = (np.array([column] * 3) for column in zip(*points, strict=True))
        return Frontier(attainment=attainment, cost=cost)

    low, high = of((0.9, 1.0), (0.95, 2.0)), of((0.94, 3.0), (0.999, 4.0))
    assert np.allclose(low.common(high, 0.99), 0.95)
    assert np.allclose(low.common(high, 0.8), 0.94)
    assert np.isfinite(high.samples(low.common(high, 0.99))).all()
    assert np.isnan(low.common(of((0.96, 1.0)), 0.95)).all()


def of_draws(*settings: tuple[list[float], float]) -> Frontier:
    """Return a frontier from the attainment of each draw and the cost of each setting."""
    attainment = np.array([shares for shares, _ in settings]).T
    return Frontier(attainment=attainment, cost=np.array([[c for _, c in settings]] * 4))


def test_a_pair_is_read_at_the_level_and_where_a_draw_misses_it_at_the_nearest() -> None:
    ours = of_draws(([0.9, 0.9, 0.9, 0.9], 1.0), ([0.999, 0.999, 0.98, 0.999], 2.0))
    other = of_draws(([0.9, 0.9, 0.9, 0.995], 2.0), ([0.999, 0.999, 0.999, 0.999], 4.0))
    a, b = ours.paired(other, 0.99)
    assert a[0] == pytest.approx(1.5)
    assert b[0] == pytest.approx(3.0)
    assert a[2] == pytest.approx(2.0), "this draw of ours ends at 98 %"
    assert b[3] == pytest.approx(2.0), "this draw of the other begins at 99.5 %"


def test_a_pair_has_no_number_at_a_level_that_one_of_them_misses_as_measured() -> None:
    ours = of_draws(([0.9] * 4, 1.0), ([0.98, 0.999, 0.999, 0.999], 2.0))
    other = of_draws(([0.9] * 4, 1.0), ([0.999] * 4, 2.0))
    assert np.isnan(np.concatenate(ours.paired(other, 0.99))).all()


def test_one_run_tells_a_cost_but_no_interval() -> None:
    requests = np.full((2, 1, 1), 100.0)
    in_time = np.array([90.0, 99.9])[:, None, None]
    cost = np.array([1.0, 2.0])[:, None, None]
    design = Design(windows=(1,), seeds=1)
    found = Frontier.of(in_time, requests, cost, design).estimate(0.95)
    assert found.mean is not None
    assert found.ci95 is None


def test_no_cost_is_read_between_a_setting_that_collapsed_and_one_that_is_never_late() -> None:
    """As measured of the HPA on a smooth day: 99.1 % late, 0.003 % late, 0 % late."""
    late, cost = np.array([0.9913, 3e-5, 0.0]), np.array([14.2, 78.6, 166.0])
    in_time = (1e6 * (1.0 - late)).reshape(3, 1, 1)
    design = Design(windows=(1,), seeds=1)
    whole = Frontier.of(in_time, np.full((3, 1, 1), 1e6), cost.reshape(3, 1, 1), design)
    asked = np.array([0.9947])
    assert whole.samples(asked)[0] < 50.0
    usable = whole.reaching(0.9)
    assert usable.samples(usable.within(asked))[0] == pytest.approx(78.6)
    assert whole.reaching(1.1) is whole
